//! Prediction requests by row or by column.

use landfall_graph::{Signature, TensorSpec};
use landfall_tensor::Tensor;

use crate::DecodeError;
use crate::json::{Array, ArrayError, Reader};

type Result<T> = std::result::Result<T, DecodeError>;

/// The form of a request, which its reply has too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A list of instances.
    Row,
    /// Whole tensors.
    Column,
}

/// One decoded request.
#[derive(Debug, Clone)]
pub struct PredictRequest {
    /// Its form.
    pub layout: Layout,
    /// Tensors by name.
    pub inputs: Vec<(String, Tensor)>,
}

/// Decodes a request for a model of that signature.
pub fn decode(json: &[u8], signature: &Signature) -> Result<PredictRequest> {
    let mut request: Option<PredictRequest> = None;
    let mut reader = Reader::new(json)?;
    reader.object(|r, key| {
        let layout = match key {
            "instances" => Layout::Row,
            "inputs" => Layout::Column,
            "signature_name" => return signature_name(r),
            _ => return r.skip(),
        };
        if request.is_some() {
            return Err(DecodeError::request("the request has both 'instances' and 'inputs'"));
        }
        let inputs = match layout {
            Layout::Row => rows(r, signature)?,
            Layout::Column => columns(r, signature)?,
        };
        request = Some(PredictRequest { layout, inputs });
        Ok(())
    })?;
    reader.end()?;
    request.ok_or_else(|| DecodeError::request("the request has neither 'instances' nor 'inputs'"))
}

fn signature_name(reader: &mut Reader<'_>) -> Result<()> {
    match &*reader.string()? {
        "" | "serving_default" => Ok(()),
        other => Err(DecodeError::request(format!(
            "unknown signature '{other}'; the model has 'serving_default' only"
        ))),
    }
}

fn the_one_input(signature: &Signature) -> Result<&TensorSpec> {
    match signature.inputs.as_slice() {
        [spec] => Ok(spec),
        all => {
            let names: Vec<_> = all.iter().map(|spec| spec.name.as_str()).collect();
            Err(DecodeError::request(format!(
                "the model has {} inputs: name them ({})",
                names.len(),
                names.join(", ")
            )))
        }
    }
}

fn is_named(reader: &mut Reader<'_>, signature: &Signature) -> Result<bool> {
    if reader.peek() != Some(b'{') {
        return Ok(false);
    }
    // One byte string has the form of an object too.
    let mut is_base64 = true;
    reader.clone().object(|r, key| {
        is_base64 &= key == "b64" && r.peek() == Some(b'"');
        r.skip()
    })?;
    let has_input = signature.inputs.iter().any(|spec| spec.name == "b64");
    Ok(!is_base64 || has_input)
}

fn columns(reader: &mut Reader<'_>, signature: &Signature) -> Result<Vec<(String, Tensor)>> {
    let mut inputs = Vec::new();
    if !is_named(reader, signature)? {
        let spec = the_one_input(signature)?;
        let mut array = new_array(spec)?;
        read(reader, spec, &mut array)?;
        let tensor = array.with_own_shape().map_err(|e| in_input(spec, e))?;
        inputs.push((spec.name.clone(), tensor));
        return Ok(inputs);
    }
    reader.object(|r, key| {
        let spec = find(key, signature)?;
        let mut array = new_array(spec)?;
        read(r, spec, &mut array)?;
        let tensor = array.with_own_shape().map_err(|e| in_input(spec, e))?;
        inputs.push((spec.name.clone(), tensor));
        Ok(())
    })?;
    Ok(inputs)
}

fn rows(reader: &mut Reader<'_>, signature: &Signature) -> Result<Vec<(String, Tensor)>> {
    let mut columns: Vec<(&TensorSpec, Array, usize)> = Vec::new();
    let mut count = 0;
    reader.array(|r| {
        if is_named(r, signature)? {
            r.object(|r, key| push_row(r, find(key, signature)?, count, &mut columns))?;
        } else {
            push_row(r, the_one_input(signature)?, count, &mut columns)?;
        }
        count += 1;
        Ok(())
    })?;
    if count == 0 {
        return Err(DecodeError::request("'instances' is empty"));
    }
    let mut inputs = Vec::with_capacity(columns.len());
    for (spec, array, rows) in columns {
        if rows != count {
            return Err(DecodeError::input(
                &spec.name,
                format!("is in {rows} instances of {count}; expected in all"),
            ));
        }
        let tensor = array.with_rows(rows).map_err(|e| in_input(spec, e))?;
        inputs.push((spec.name.clone(), tensor));
    }
    Ok(inputs)
}

fn push_row<'s>(
    reader: &mut Reader<'_>,
    spec: &'s TensorSpec,
    row: usize,
    columns: &mut Vec<(&'s TensorSpec, Array, usize)>,
) -> Result<()> {
    let at = match columns.iter().position(|(found, ..)| found.name == spec.name) {
        Some(at) => at,
        None => {
            columns.push((spec, new_array(spec)?, 0));
            columns.len() - 1
        }
    };
    let (_, array, rows) = &mut columns[at];
    *rows += 1;
    read(reader, spec, array).map_err(|error| match error {
        DecodeError::Input { input, problem } => {
            DecodeError::Input { input, problem: format!("instance {row}: {problem}") }
        }
        other => other,
    })
}

pub(super) fn find<'s>(name: &str, signature: &'s Signature) -> Result<&'s TensorSpec> {
    signature.inputs.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let names: Vec<_> = signature.inputs.iter().map(|spec| spec.name.as_str()).collect();
        let names = names.join(", ");
        DecodeError::request(format!("unknown input '{name}'; the model has {names}"))
    })
}

fn new_array(spec: &TensorSpec) -> Result<Array> {
    Array::new(spec.dtype).map_err(|e| in_input(spec, e))
}

fn read(reader: &mut Reader<'_>, spec: &TensorSpec, array: &mut Array) -> Result<()> {
    array.read(reader).map_err(|e| in_input(spec, e))
}

pub(super) fn in_input(spec: &TensorSpec, error: ArrayError) -> DecodeError {
    error.of_input(&spec.name)
}

#[cfg(test)]
mod tests {
    use landfall_tensor::DType;

    use super::*;

    fn spec(name: &str, dtype: DType) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, dims: None }
    }

    fn one() -> Signature {
        Signature { inputs: vec![spec("x", DType::F32)], outputs: vec![] }
    }

    fn two() -> Signature {
        Signature {
            inputs: vec![spec("n", DType::I64), spec("image_bytes", DType::Bytes)],
            outputs: vec![],
        }
    }

    #[test]
    fn rows_become_a_batch() {
        let request = decode(br#"{"instances":[[1,2],[3,4],[5,6]]}"#, &one()).unwrap();
        assert_eq!(request.layout, Layout::Row);
        assert_eq!(request.inputs[0].1.shape().to_vec(), [3, 2]);
        let text = br#"{"instances":[{"n":1,"image_bytes":{"b64":"AQI="}},
            {"image_bytes":{"b64":""},"n":2}]}"#;
        let request = decode(text, &two()).unwrap();
        assert_eq!(request.inputs[0].1.as_slice::<i64>().unwrap(), &[1, 2]);
        assert_eq!(&*request.inputs[1].1.view().blobs().unwrap()[0], &[1, 2]);
    }

    #[test]
    fn columns_are_whole_tensors() {
        let request = decode(br#"{"inputs":[[1,2]],"signature_name":"serving_default"}"#, &one());
        let request = request.unwrap();
        assert_eq!(request.layout, Layout::Column);
        assert_eq!(request.inputs[0].1.shape().to_vec(), [1, 2]);
        let request = decode(br#"{"inputs":{"x":[[1],[2]]}}"#, &one()).unwrap();
        assert_eq!(request.inputs[0].1.shape().to_vec(), [2, 1]);
    }

    #[test]
    fn wrong_requests_say_what_is_wrong() {
        let cases: [(&str, &Signature, &str); 9] = [
            (r#"{"instances":[1],"inputs":[1]}"#, &one(), "both 'instances' and 'inputs'"),
            ("{}", &one(), "neither 'instances' nor 'inputs'"),
            (r#"{"instances":[]}"#, &one(), "'instances' is empty"),
            (r#"{"instances":[[1],[1,2]]}"#, &one(), "input 'x': instance 1: data is ragged"),
            (r#"{"instances":[{"y":1}]}"#, &one(), "unknown input 'y'; the model has x"),
            (r#"{"instances":[1]}"#, &two(), "the model has 2 inputs: name them (n, image_bytes)"),
            (r#"{"instances":[{"n":1},{"n":1,"image_bytes":"a"}]}"#, &two(), "in 1 instances of 2"),
            (r#"{"inputs":{"n":1.5}}"#, &two(), "input 'n': expected an integer"),
            (r#"{"instances":[1],"signature_name":"s"}"#, &one(), "unknown signature 's'"),
        ];
        for (text, signature, expected) in cases {
            let found = decode(text.as_bytes(), signature).unwrap_err().to_string();
            assert!(found.contains(expected), "{text}: {found}");
        }
    }
}
