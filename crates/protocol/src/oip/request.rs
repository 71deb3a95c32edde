//! Inference requests over HTTP: JSON, JSON followed by binary tensors, or one bare binary tensor.

use landfall_graph::{DimSpec, Dims, Signature};
use landfall_tensor::{DType, MAX_RANK, Shape, Tensor};

use crate::DecodeError;
use crate::json::{Array, Reader};
use crate::oip::{InferRequest, OutputRequest, Parameter, decode_raw, no_shared_memory};

/// The most inputs or outputs a request may name.
const MAX_TENSORS: usize = 1024;

type Result<T> = std::result::Result<T, DecodeError>;

/// Decodes a request whose JSON part is `json` and whose binary tensors, in the order of the inputs
/// that announce them, are `binary`. The signature only tells byte strings from text.
pub fn decode_json(json: &[u8], binary: &[u8], signature: &Signature) -> Result<InferRequest> {
    let mut request = InferRequest::default();
    let mut binary = binary;
    let mut has_inputs = false;
    let mut reader = Reader::new(json)?;
    reader.object(|r, key| {
        match key {
            "id" => request.id = r.string()?.into_owned(),
            "parameters" => parameters(r, |name, value| request.parameters.set(name, &value))?,
            "inputs" => {
                has_inputs = true;
                r.array(|r| {
                    let input = read_input(r, signature, &mut binary)?;
                    push_input(&mut request.inputs, input)
                })?;
            }
            "outputs" => r.array(|r| {
                let output = read_output(r)?;
                push_output(&mut request.outputs, output)
            })?,
            _ => r.skip()?,
        }
        Ok(())
    })?;
    reader.end()?;
    if !has_inputs {
        return Err(DecodeError::request("the request has no 'inputs'"));
    }
    if !binary.is_empty() {
        return Err(DecodeError::request(format!(
            "{} bytes are left after the binary data of all inputs",
            binary.len()
        )));
    }
    Ok(request)
}

/// Decodes a request that is nothing but the bytes of the model's one input. A leading free axis is
/// taken as a batch of 1; one other free axis takes its extent from the number of bytes.
pub fn decode_raw_body(body: &[u8], signature: &Signature) -> Result<InferRequest> {
    let [spec] = signature.inputs.as_slice() else {
        return Err(DecodeError::request(format!(
            "a raw binary request needs a model with one input, this one has {}",
            signature.inputs.len()
        )));
    };
    let fail = |problem: String| DecodeError::input(&spec.name, problem);
    let dims = spec.dims.as_deref().unwrap_or(&[]);
    let mut shape: Vec<usize> = Vec::with_capacity(dims.len());
    let mut free = None;
    for (axis, dim) in dims.iter().enumerate() {
        match dim {
            DimSpec::Known(extent) => shape.push(*extent),
            DimSpec::Symbol(_) if axis == 0 && dims.len() > 1 => shape.push(1),
            DimSpec::Symbol(_) if free.is_none() => {
                free = Some(axis);
                shape.push(1);
            }
            DimSpec::Symbol(_) => {
                let dims = Dims(dims);
                return Err(fail(format!("shape {dims} has too many free axes for a raw request")));
            }
        }
    }
    if let Some(axis) = free {
        let size = spec.dtype.size();
        let row = Shape::from(shape.as_slice()).elements().saturating_mul(size);
        shape[axis] = body.len().checked_div(row).unwrap_or(1);
    }
    let shape = Shape::from(shape);
    let tensor = match spec.dtype {
        DType::String | DType::Bytes => decode_raw(spec.dtype, shape, body),
        dtype => {
            let expected = shape.elements().saturating_mul(dtype.size());
            if expected != body.len() {
                return Err(fail(format!(
                    "the raw binary request has {} bytes, expected {expected} for {} {shape}",
                    body.len(),
                    dtype.protocol_name()
                )));
            }
            decode_raw(dtype, shape, body)
        }
    };
    let mut request = InferRequest::default();
    request.parameters.binary_output = true;
    request.inputs.push((spec.name.clone(), tensor.map_err(fail)?));
    Ok(request)
}

pub(super) fn push_input(
    inputs: &mut Vec<(String, Tensor)>,
    input: (String, Tensor),
) -> Result<()> {
    if inputs.iter().any(|(name, _)| *name == input.0) {
        return Err(DecodeError::input(&input.0, "occurs twice in the request"));
    }
    if inputs.len() == MAX_TENSORS {
        return Err(DecodeError::request(format!("more than {MAX_TENSORS} inputs")));
    }
    inputs.push(input);
    Ok(())
}

pub(super) fn push_output(outputs: &mut Vec<OutputRequest>, output: OutputRequest) -> Result<()> {
    if outputs.iter().any(|o| o.name == output.name) {
        let name = &output.name;
        return Err(DecodeError::request(format!("output '{name}' is requested twice")));
    }
    if outputs.len() == MAX_TENSORS {
        return Err(DecodeError::request(format!("more than {MAX_TENSORS} outputs")));
    }
    outputs.push(output);
    Ok(())
}

/// The element type of an input from its protocol name.
pub(super) fn datatype(input: &str, name: &str, signature: &Signature) -> Result<DType> {
    let dtype = DType::from_protocol_name(name).ok_or_else(|| {
        DecodeError::input(
            input,
            format!(
                "unknown datatype '{name}'; expected BOOL, UINT8, UINT16, UINT32, UINT64, INT8, \
                 INT16, INT32, INT64, FP16, FP32, FP64, BF16 or BYTES"
            ),
        )
    })?;
    let takes_bytes =
        || signature.inputs.iter().any(|spec| spec.name == input && spec.dtype == DType::Bytes);
    Ok(if dtype == DType::String && takes_bytes() { DType::Bytes } else { dtype })
}

/// A shape from extents that may be negative or too many.
pub(super) fn shape(input: &str, dims: impl Iterator<Item = i64>) -> Result<Shape> {
    let mut shape = Shape::default();
    for dim in dims {
        let extent = usize::try_from(dim).map_err(|_| {
            DecodeError::input(input, format!("shape has the extent {dim}; expected 0 or more"))
        })?;
        if shape.rank() == MAX_RANK {
            let problem = format!("shape has more than {MAX_RANK} axes");
            return Err(DecodeError::input(input, problem));
        }
        shape.push(extent);
    }
    Ok(shape)
}

#[derive(Default)]
struct InputFields {
    name: Option<String>,
    datatype: Option<String>,
    shape: Option<Vec<i64>>,
    binary_size: Option<u64>,
    /// Where the data stands, if it came before the name and datatype.
    data_at: Option<usize>,
    data: Option<Array>,
}

fn read_input(
    reader: &mut Reader<'_>,
    signature: &Signature,
    binary: &mut &[u8],
) -> Result<(String, Tensor)> {
    let mut fields = InputFields::default();
    reader.object(|r, key| {
        match key {
            "name" => fields.name = Some(r.string()?.into_owned()),
            "datatype" => fields.datatype = Some(r.string()?.into_owned()),
            "shape" => fields.shape = Some(read_extents(r)?),
            "parameters" => parameters(r, |name, value| match (name, value) {
                ("binary_data_size", Parameter::Unsigned(size)) => {
                    fields.binary_size = Some(size);
                    Ok(())
                }
                ("binary_data_size", _) => {
                    Err("parameter 'binary_data_size' must be a non-negative integer".to_owned())
                }
                (name, _) => no_shared_memory(name),
            })?,
            "data" => match (&fields.name, &fields.datatype) {
                (Some(name), Some(text)) => {
                    let dtype = datatype(name, text, signature)?;
                    fields.data = Some(read_data(r, name, dtype)?);
                }
                _ => {
                    fields.data_at = Some(r.offset());
                    r.skip()?;
                }
            },
            _ => r.skip()?,
        }
        Ok(())
    })?;
    let name = fields.name.take();
    let name = name.ok_or_else(|| DecodeError::request("an input has no 'name'"))?;
    let missing = |field: &str| DecodeError::input(&name, format!("has no '{field}'"));
    let text = fields.datatype.take().ok_or_else(|| missing("datatype"))?;
    let extents = fields.shape.take().ok_or_else(|| missing("shape"))?;
    let dtype = datatype(&name, &text, signature)?;
    let shape = shape(&name, extents.into_iter())?;
    if let Some(offset) = fields.data_at {
        let mut reader = reader.clone();
        reader.seek(offset);
        fields.data = Some(read_data(&mut reader, &name, dtype)?);
    }
    let tensor = tensor(&name, dtype, shape, fields, binary)?;
    Ok((name, tensor))
}

fn tensor(
    name: &str,
    dtype: DType,
    shape: Shape,
    fields: InputFields,
    binary: &mut &[u8],
) -> Result<Tensor> {
    let fail = |problem: String| DecodeError::input(name, problem);
    match (fields.binary_size, fields.data) {
        (None, Some(data)) => data.with_shape(shape).map_err(|e| fail(e.to_string())),
        (Some(size), None) => {
            let split = usize::try_from(size).ok().and_then(|size| binary.split_at_checked(size));
            let Some((bytes, rest)) = split else {
                let left = binary.len();
                return Err(fail(format!(
                    "binary_data_size is {size}, but {left} bytes are left after the JSON, whose \
                     length the header Inference-Header-Content-Length gives"
                )));
            };
            *binary = rest;
            decode_raw(dtype, shape, bytes).map_err(fail)
        }
        (Some(_), Some(_)) => Err(fail("has both 'data' and 'binary_data_size'".to_owned())),
        (None, None) => Err(fail("has neither 'data' nor 'binary_data_size'".to_owned())),
    }
}

fn read_data(reader: &mut Reader<'_>, name: &str, dtype: DType) -> Result<Array> {
    let mut array = Array::new(dtype).map_err(|e| e.of_input(name))?;
    array.read(reader).map_err(|e| e.of_input(name))?;
    Ok(array)
}

fn read_extents(reader: &mut Reader<'_>) -> Result<Vec<i64>> {
    let mut extents = Vec::new();
    reader.array(|r| {
        let text = r.number()?;
        let extent =
            text.parse().map_err(|_| wrong(r, &format!("{text} is not an extent of a shape")))?;
        if extents.len() == MAX_RANK {
            return Err(wrong(r, &format!("a shape has more than {MAX_RANK} axes")));
        }
        extents.push(extent);
        Ok(())
    })?;
    Ok(extents)
}

fn read_output(reader: &mut Reader<'_>) -> Result<OutputRequest> {
    let mut output = OutputRequest::default();
    reader.object(|r, key| {
        match key {
            "name" => output.name = r.string()?.into_owned(),
            "parameters" => parameters(r, |name, value| output.set(name, &value))?,
            _ => r.skip()?,
        }
        Ok(())
    })?;
    if output.name.is_empty() {
        return Err(DecodeError::request("an output has no 'name'"));
    }
    Ok(output)
}

/// What is JSON, and yet wrong.
fn wrong(reader: &Reader<'_>, problem: &str) -> DecodeError {
    DecodeError::request(format!("{problem} (byte {} of the JSON)", reader.offset()))
}

fn parameters(
    reader: &mut Reader<'_>,
    mut set: impl FnMut(&str, Parameter) -> std::result::Result<(), String>,
) -> Result<()> {
    reader.object(|r, key| {
        let value = match r.peek() {
            Some(b't' | b'f') => Parameter::Bool(r.boolean()?),
            Some(b'"') => Parameter::Text(r.string()?.into_owned()),
            Some(b'-' | b'0'..=b'9') => {
                r.number()?.parse().map_or(Parameter::Other, Parameter::Unsigned)
            }
            _ => {
                r.skip()?;
                Parameter::Other
            }
        };
        set(key, value).map_err(|problem| wrong(r, &problem))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use landfall_graph::TensorSpec;

    use super::*;

    fn signature(dtype: DType, dims: Vec<DimSpec>) -> Signature {
        let spec = TensorSpec { name: "x".into(), dtype, dims: Some(dims) };
        Signature { inputs: vec![spec], outputs: vec![] }
    }

    fn decode(json: &str, binary: &[u8]) -> Result<InferRequest> {
        decode_json(json.as_bytes(), binary, &signature(DType::F32, vec![DimSpec::Known(2)]))
    }

    fn problem(json: &str, binary: &[u8]) -> String {
        decode(json, binary).unwrap_err().to_string()
    }

    #[test]
    fn fields_may_come_in_any_order() {
        let text = r#"{"inputs":[{"data":[1,2],"datatype":"FP32","shape":[2],"name":"x"}],
            "outputs":[{"name":"y","parameters":{"binary_data":true,"classification":3}}],
            "id":"7","extra":[{"a":null}],
            "parameters":{"priority":1,"timeout":1500,"custom":{"a":1}}}"#;
        let request = decode(text, &[]).unwrap();
        assert_eq!(request.id, "7");
        assert_eq!(request.parameters.priority, 1);
        assert_eq!(request.parameters.timeout, Some(Duration::from_micros(1500)));
        assert_eq!(request.inputs[0].1.as_slice::<f32>().unwrap(), &[1.0, 2.0]);
        assert_eq!(request.outputs[0].binary, Some(true));
        assert_eq!(request.outputs[0].classification, Some(3));
    }

    #[test]
    fn binary_tensors_follow_in_order() {
        let text = r#"{"inputs":[
            {"name":"a","shape":[1],"datatype":"INT8","parameters":{"binary_data_size":1}},
            {"name":"b","shape":[1],"datatype":"INT8","data":[5]},
            {"name":"c","shape":[2],"datatype":"UINT16","parameters":{"binary_data_size":4}}]}"#;
        let request = decode(text, &[255, 1, 0, 0, 1]).unwrap();
        assert_eq!(request.inputs[0].1.item::<i8>().unwrap(), -1);
        assert_eq!(request.inputs[2].1.as_slice::<u16>().unwrap(), &[1, 256]);
        assert_eq!(problem(text, &[0; 6]), "1 bytes are left after the binary data of all inputs");
        assert_eq!(
            problem(text, &[0; 2]),
            "input 'c': binary_data_size is 4, but 1 bytes are left after the JSON, whose length \
             the header Inference-Header-Content-Length gives"
        );
    }

    #[test]
    fn wrong_requests_say_what_is_wrong() {
        let input = |fields: &str| format!(r#"{{"inputs":[{{"name":"x",{fields}}}]}}"#);
        let cases = [
            ("{".to_owned(), "malformed JSON at byte 1"),
            ("[]".to_owned(), "expected an object"),
            ("{}".to_owned(), "the request has no 'inputs'"),
            (input(r#""shape":[2],"datatype":"FP32""#), "neither 'data' nor"),
            (input(r#""shape":[2],"data":[1,2]"#), "input 'x': has no 'datatype'"),
            (input(r#""shape":[2],"datatype":"FP8","data":[1]"#), "unknown datatype 'FP8'"),
            (input(r#""shape":[-1],"datatype":"FP32","data":[1]"#), "shape has the extent -1"),
            (input(r#""shape":[3],"datatype":"FP32","data":[1]"#), "needs 3 elements, got 1"),
            (
                input(r#""shape":[1],"datatype":"FP32","data":["a"]"#),
                "input 'x': expected a number, found the string \"a\"",
            ),
            (
                input(r#""shape":[1],"datatype":"FP32","parameters":{"shared_memory_region":"r"}"#),
                "shared memory is not supported",
            ),
        ];
        for (text, expected) in cases {
            let found = problem(&text, &[]);
            assert!(found.contains(expected), "{text}: {found}");
        }
        let twice = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1]},
            {"name":"x","shape":[1],"datatype":"INT8","data":[1]}]}"#;
        assert_eq!(problem(twice, &[]), "input 'x': occurs twice in the request");
        let outputs = r#"{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}"#;
        assert_eq!(problem(outputs, &[]), "output 'y' is requested twice");
    }

    #[test]
    fn json_is_not_called_malformed_for_what_it_says() {
        let request =
            |parameters: &str| format!(r#"{{"inputs":[],"parameters":{{{parameters}}}}}"#);
        let output = |parameters: &str| {
            format!(r#"{{"inputs":[],"outputs":[{{"name":"y","parameters":{{{parameters}}}}}]}}"#)
        };
        let cases = [
            (request(r#""priority":-1"#), "parameter 'priority' must be a non-negative integer"),
            (request(r#""priority":5000000000"#), "parameter 'priority' is too large"),
            (request(r#""timeout":"1s""#), "parameter 'timeout' must be a non-negative integer"),
            (request(r#""sequence_id":7"#), "parameter 'sequence_id': this server has no"),
            (request(r#""binary_data_output":1"#), "'binary_data_output' must be true or false"),
            (output(r#""shared_memory_region":"r""#), "shared memory is not supported"),
            (output(r#""classification":-1"#), "'classification' must be a positive integer"),
            (r#"{"inputs":[{"shape":[1.5]}]}"#.to_owned(), "1.5 is not an extent of a shape"),
            (r#"{"inputs":[{}]}"#.to_owned(), "an input has no 'name'"),
            (r#"{"inputs":[],"outputs":[{}]}"#.to_owned(), "an output has no 'name'"),
        ];
        for (text, expected) in cases {
            let found = problem(&text, &[]);
            assert!(found.contains(expected) && !found.contains("malformed"), "{text}: {found}");
        }
    }

    #[test]
    fn raw_bodies_take_their_shape_from_the_signature() {
        let free = || DimSpec::Symbol("n".into());
        let shape = |dims: Vec<DimSpec>, bytes: usize| {
            let request = decode_raw_body(&vec![0; bytes], &signature(DType::F32, dims))?;
            Ok::<_, DecodeError>(request.inputs[0].1.shape().to_vec())
        };
        assert_eq!(shape(vec![free(), DimSpec::Known(2)], 8).unwrap(), [1, 2]);
        assert_eq!(shape(vec![free(), free()], 12).unwrap(), [1, 3]);
        assert_eq!(shape(vec![free()], 12).unwrap(), [3]);
        assert!(shape(vec![free(), DimSpec::Known(0), free()], 12).is_err());
        let error = shape(vec![free(), DimSpec::Known(2)], 0).unwrap_err().to_string();
        assert!(error.contains("has 0 bytes, expected 8"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let signature = signature(DType::F32, vec![DimSpec::Known(2)]);
            let _ = decode_json(&bytes, &[], &signature);
            let _ = decode_raw_body(&bytes, &signature);
        }
    }
}
