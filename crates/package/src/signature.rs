//! The JSON form of a signature: `{"name": "x", "datatype": "f32", "shape": ["batch", 4]}`.
//!
//! Datatypes have the short names of the graph's text form, because the protocol's `BYTES` does not
//! tell text from byte strings. A free axis is its name, an anonymous one `"?"`, an unknown rank
//! `null`.

use landfall_graph::{DimSpec, Signature, TensorSpec};
use landfall_tensor::DType;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An element type under its short name, such as `f32` or `string`. The protocol's (`FP32`) is read
/// too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatatypeName(pub DType);

impl Serialize for DatatypeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl<'de> Deserialize<'de> for DatatypeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<DatatypeName, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = DType::from_name(&name).or_else(|| DType::from_protocol_name(&name));
        found.map(DatatypeName).ok_or_else(|| {
            let known: Vec<&str> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
            serde::de::Error::custom(format!(
                "unknown datatype '{name}', expected one of {}",
                known.join(", ")
            ))
        })
    }
}

/// The extent of one axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DimRecord {
    /// Fixed.
    Known(usize),
    /// Free, under its name; `?` if it has none.
    Symbol(String),
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpecRecord {
    /// The name callers use.
    pub name: String,
    /// Element type.
    pub datatype: DatatypeName,
    /// Axes, outermost first; `null` if even the rank is unknown.
    pub shape: Option<Vec<DimRecord>>,
}

/// What goes into a model and what comes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureRecord {
    /// Inputs, in the model's order.
    pub inputs: Vec<TensorSpecRecord>,
    /// Outputs, in the model's order.
    pub outputs: Vec<TensorSpecRecord>,
}

impl From<&TensorSpec> for TensorSpecRecord {
    fn from(spec: &TensorSpec) -> TensorSpecRecord {
        let dim = |dim: &DimSpec| match dim {
            DimSpec::Known(extent) => DimRecord::Known(*extent),
            DimSpec::Symbol(name) if name.is_empty() => DimRecord::Symbol("?".to_owned()),
            DimSpec::Symbol(name) => DimRecord::Symbol(name.clone()),
        };
        TensorSpecRecord {
            name: spec.name.clone(),
            datatype: DatatypeName(spec.dtype),
            shape: spec.dims.as_ref().map(|dims| dims.iter().map(dim).collect()),
        }
    }
}

impl From<&TensorSpecRecord> for TensorSpec {
    fn from(record: &TensorSpecRecord) -> TensorSpec {
        let dim = |dim: &DimRecord| match dim {
            DimRecord::Known(extent) => DimSpec::Known(*extent),
            DimRecord::Symbol(name) if name == "?" => DimSpec::Symbol(String::new()),
            DimRecord::Symbol(name) => DimSpec::Symbol(name.clone()),
        };
        TensorSpec {
            name: record.name.clone(),
            dtype: record.datatype.0,
            dims: record.shape.as_ref().map(|dims| dims.iter().map(dim).collect()),
        }
    }
}

impl From<&Signature> for SignatureRecord {
    fn from(signature: &Signature) -> SignatureRecord {
        SignatureRecord {
            inputs: signature.inputs.iter().map(Into::into).collect(),
            outputs: signature.outputs.iter().map(Into::into).collect(),
        }
    }
}

impl From<&SignatureRecord> for Signature {
    fn from(record: &SignatureRecord) -> Signature {
        Signature {
            inputs: record.inputs.iter().map(Into::into).collect(),
            outputs: record.outputs.iter().map(Into::into).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_round_trip_as_readable_json() {
        let spec = TensorSpec {
            name: "x:0".into(),
            dtype: DType::F32,
            dims: Some(vec![
                DimSpec::Symbol("batch".into()),
                DimSpec::Symbol(String::new()),
                DimSpec::Known(4),
            ]),
        };
        let json = serde_json::to_string(&TensorSpecRecord::from(&spec)).unwrap();
        assert_eq!(json, r#"{"name":"x:0","datatype":"f32","shape":["batch","?",4]}"#);
        let back: TensorSpecRecord = serde_json::from_str(&json).unwrap();
        assert_eq!(TensorSpec::from(&back), spec);
    }

    #[test]
    fn an_unknown_datatype_is_named() {
        let of = |datatype: &str| {
            let json = format!(r#"{{"name":"x","datatype":"{datatype}","shape":null}}"#);
            serde_json::from_str::<TensorSpecRecord>(&json)
        };
        assert_eq!(of("FP32").unwrap().datatype, DatatypeName(DType::F32));
        let error = of("float").unwrap_err().to_string();
        assert!(error.starts_with("unknown datatype 'float', expected one of f32, f64"), "{error}");
    }
}
