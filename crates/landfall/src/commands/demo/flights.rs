//! The flights that this binary carries, as requests. `examples/flights` makes model and sample.

use std::io::Cursor;

use anyhow::{Context, Result, bail};
use landfall_tensor::{DType, Tensor};
use serde_json::{Value, json};

use crate::npz;

/// The model, as ONNX.
pub(super) const MODEL: &[u8] =
    include_bytes!("../../../../../examples/flights/models/flights/1/model.onnx");
const SAMPLE: &[u8] = include_bytes!("../../../../../examples/flights/demo.npz");
/// The column that the model predicts.
const LABEL: &str = "late";

/// Flights in the order of departure, with what became of them.
pub(super) struct Flights {
    columns: Vec<(String, Tensor)>,
    late: Vec<bool>,
}

impl Flights {
    /// The flights of the binary.
    pub(super) fn embedded() -> Result<Flights> {
        let mut columns = npz::read_from(Cursor::new(SAMPLE)).context("the embedded flights")?;
        let label = columns.iter().position(|(name, _)| name == LABEL);
        let (_, label) = columns.remove(label.context("the embedded flights have no label")?);
        let late = label.as_slice::<i8>()?.iter().map(|&late| late != 0).collect();
        Ok(Flights { columns, late })
    }

    /// Number of flights.
    pub(super) fn len(&self) -> usize {
        self.late.len()
    }

    /// Whether each flight arrived late.
    pub(super) fn late(&self) -> &[bool] {
        &self.late
    }

    /// The body of an Open Inference Protocol request about one flight.
    pub(super) fn request(&self, flight: usize) -> Result<String> {
        let input = |(name, column): &(String, Tensor)| {
            let element = element(column, flight).with_context(|| format!("column '{name}'"))?;
            Ok(json!({
                "name": name,
                "datatype": column.dtype().protocol_name(),
                "shape": [1, 1],
                "data": [element],
            }))
        };
        let inputs = self.columns.iter().map(input).collect::<Result<Vec<Value>>>()?;
        Ok(json!({"inputs": inputs, "outputs": [{"name": "late_probability"}]}).to_string())
    }
}

fn element(column: &Tensor, index: usize) -> Result<Value> {
    Ok(match column.dtype() {
        // JSON has no NaN; the protocol's readers take the word.
        DType::F32 => match column.as_slice::<f32>()?[index] {
            value if value.is_nan() => json!("NaN"),
            value => json!(value),
        },
        DType::I64 => json!(column.as_slice::<i64>()?[index]),
        DType::String => json!(column.strings()?[index]),
        other => bail!("type {other} is not expected"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_flights_are_requests() {
        let flights = Flights::embedded().unwrap();
        assert_eq!(flights.len(), 5999);
        let late = flights.late().iter().filter(|&&late| late).count();
        assert!((1200..1800).contains(&late), "{late}");
        let request: Value = serde_json::from_str(&flights.request(17).unwrap()).unwrap();
        let inputs = request["inputs"].as_array().unwrap();
        assert_eq!(inputs.len(), 30);
        assert!(inputs.iter().any(|i| i["name"] == "carrier" && i["datatype"] == "BYTES"));
    }
}
