//! Inference requests and replies as gRPC messages.

use bytes::Bytes;
use landfall_graph::Signature;
use landfall_tensor::{DType, Shape, Tensor};

use crate::inference::infer_parameter::ParameterChoice;
use crate::inference::model_infer_request::InferInputTensor;
use crate::inference::model_infer_response::InferOutputTensor;
use crate::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
};
use crate::oip::request::{datatype, push_input, push_output, shape};
use crate::oip::{
    InferRequest, OutputRequest, Parameter, decode_raw, encode_raw, no_shared_memory, raw_length,
};
use crate::{DecodeError, MAX_TEXTS, too_many_texts};

type Result<T> = std::result::Result<T, DecodeError>;

/// Decodes a request. The signature only tells byte strings from text.
pub fn decode_grpc(message: ModelInferRequest, signature: &Signature) -> Result<InferRequest> {
    let mut request = InferRequest { id: message.id, ..InferRequest::default() };
    for (name, value) in &message.parameters {
        request.parameters.set(name, &parameter(value)).map_err(DecodeError::request)?;
    }
    let raw = &message.raw_input_contents;
    if !raw.is_empty() && raw.len() != message.inputs.len() {
        return Err(DecodeError::request(format!(
            "raw_input_contents has {} entries, expected one for each of the {} inputs",
            raw.len(),
            message.inputs.len()
        )));
    }
    for (i, input) in message.inputs.into_iter().enumerate() {
        let tensor = decode_input(&input, raw.get(i), signature)?;
        push_input(&mut request.inputs, (input.name, tensor))?;
    }
    for wanted in message.outputs {
        let mut output = OutputRequest { name: wanted.name, ..OutputRequest::default() };
        for (name, value) in &wanted.parameters {
            output.set(name, &parameter(value)).map_err(|problem| {
                DecodeError::request(format!("output '{}': {problem}", output.name))
            })?;
        }
        push_output(&mut request.outputs, output)?;
    }
    Ok(request)
}

/// Encodes outputs, always as raw contents.
pub fn encode_grpc(
    id: String,
    model_name: &str,
    model_version: u64,
    outputs: &[(String, Tensor)],
) -> ModelInferResponse {
    let mut response = ModelInferResponse {
        model_name: model_name.to_owned(),
        model_version: model_version.to_string(),
        id,
        outputs: Vec::with_capacity(outputs.len()),
        raw_output_contents: Vec::with_capacity(outputs.len()),
        ..ModelInferResponse::default()
    };
    for (name, tensor) in outputs {
        response.outputs.push(InferOutputTensor {
            name: name.clone(),
            datatype: tensor.dtype().protocol_name().to_owned(),
            shape: tensor.shape().iter().map(|&extent| extent as i64).collect(),
            ..InferOutputTensor::default()
        });
        response.raw_output_contents.push(raw(tensor));
    }
    response
}

fn raw(tensor: &Tensor) -> Bytes {
    match tensor.buffer() {
        Some(buffer) => Bytes::from_owner(Memory(buffer.clone())),
        None => {
            let mut out = Vec::with_capacity(raw_length(tensor));
            encode_raw(&mut out, tensor);
            out.into()
        }
    }
}

struct Memory(landfall_tensor::Buffer);

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn parameter(value: &InferParameter) -> Parameter {
    match &value.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => Parameter::Bool(*value),
        Some(ParameterChoice::Int64Param(value)) => {
            u64::try_from(*value).map_or(Parameter::Other, Parameter::Unsigned)
        }
        Some(ParameterChoice::Uint64Param(value)) => Parameter::Unsigned(*value),
        Some(ParameterChoice::StringParam(value)) => Parameter::Text(value.clone()),
        Some(ParameterChoice::DoubleParam(_)) | None => Parameter::Other,
    }
}

fn decode_input(
    input: &InferInputTensor,
    raw: Option<&Bytes>,
    signature: &Signature,
) -> Result<Tensor> {
    let fail = |problem: String| DecodeError::input(&input.name, problem);
    for name in input.parameters.keys() {
        no_shared_memory(name).map_err(fail)?;
    }
    let dtype = datatype(&input.name, &input.datatype, signature)?;
    let shape = shape(&input.name, input.shape.iter().copied())?;
    match (raw, &input.contents) {
        (Some(_), Some(_)) => {
            Err(fail("has contents, which cannot be used with raw_input_contents".to_owned()))
        }
        (Some(raw), None) => decode_raw(dtype, shape, raw).map_err(fail),
        (None, Some(contents)) => decode_contents(dtype, shape, contents).map_err(fail),
        (None, None) => {
            let empty = InferTensorContents::default();
            decode_contents(dtype, shape, &empty).map_err(fail)
        }
    }
}

fn decode_contents(
    dtype: DType,
    shape: Shape,
    contents: &InferTensorContents,
) -> std::result::Result<Tensor, String> {
    let c = contents;
    if c.bytes_contents.len() > MAX_TEXTS {
        return Err(too_many_texts());
    }
    check_field(dtype, c)?;
    match dtype {
        DType::Bool => Tensor::from_bools(shape, &c.bool_contents),
        DType::I8 => Tensor::from_slice(shape, &narrow::<_, i8>(dtype, &c.int_contents)?),
        DType::I16 => Tensor::from_slice(shape, &narrow::<_, i16>(dtype, &c.int_contents)?),
        DType::I32 => Tensor::from_slice(shape, &c.int_contents),
        DType::I64 => Tensor::from_slice(shape, &c.int64_contents),
        DType::U8 => Tensor::from_slice(shape, &narrow::<_, u8>(dtype, &c.uint_contents)?),
        DType::U16 => Tensor::from_slice(shape, &narrow::<_, u16>(dtype, &c.uint_contents)?),
        DType::U32 => Tensor::from_slice(shape, &c.uint_contents),
        DType::U64 => Tensor::from_slice(shape, &c.uint64_contents),
        DType::F32 => Tensor::from_slice(shape, &c.fp32_contents),
        DType::F64 => Tensor::from_slice(shape, &c.fp64_contents),
        DType::String => {
            let texts = c.bytes_contents.iter().map(|b| String::from_utf8(b.to_vec()));
            let texts: std::result::Result<Vec<_>, _> = texts.collect();
            let texts = texts.map_err(|_| "an element is not UTF-8 text".to_owned())?;
            Tensor::from_strings(shape, texts)
        }
        DType::Bytes => {
            let blobs = c.bytes_contents.iter().map(|b| landfall_tensor::Buffer::copy_of(b));
            Tensor::from_blobs(shape, blobs.collect())
        }
        other => {
            let name = other.protocol_name();
            return Err(format!("datatype {name} can only be sent in raw_input_contents"));
        }
    }
    .map_err(|e| e.to_string())
}

/// Elements in the field of another datatype are not overlooked.
fn check_field(dtype: DType, c: &InferTensorContents) -> std::result::Result<(), String> {
    let expected = match dtype {
        DType::Bool => "bool_contents",
        DType::I8 | DType::I16 | DType::I32 => "int_contents",
        DType::I64 => "int64_contents",
        DType::U8 | DType::U16 | DType::U32 => "uint_contents",
        DType::U64 => "uint64_contents",
        DType::F32 => "fp32_contents",
        DType::F64 => "fp64_contents",
        DType::String | DType::Bytes => "bytes_contents",
        _ => return Ok(()),
    };
    let filled = [
        ("bool_contents", !c.bool_contents.is_empty()),
        ("int_contents", !c.int_contents.is_empty()),
        ("int64_contents", !c.int64_contents.is_empty()),
        ("uint_contents", !c.uint_contents.is_empty()),
        ("uint64_contents", !c.uint64_contents.is_empty()),
        ("fp32_contents", !c.fp32_contents.is_empty()),
        ("fp64_contents", !c.fp64_contents.is_empty()),
        ("bytes_contents", !c.bytes_contents.is_empty()),
    ];
    match filled.iter().find(|(name, is_filled)| *is_filled && *name != expected) {
        Some((found, _)) => {
            let name = dtype.protocol_name();
            Err(format!("has elements in {found}; expected those of {name} in {expected}"))
        }
        None => Ok(()),
    }
}

fn narrow<W: Copy + std::fmt::Display, N: TryFrom<W>>(
    dtype: DType,
    wide: &[W],
) -> std::result::Result<Vec<N>, String> {
    let narrow = |&value: &W| {
        let problem = |_| format!("{value} is out of the range of {}", dtype.protocol_name());
        N::try_from(value).map_err(problem)
    };
    wide.iter().map(narrow).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(
        datatype: &str,
        shape: Vec<i64>,
        contents: InferTensorContents,
    ) -> ModelInferRequest {
        let input = InferInputTensor {
            name: "x".into(),
            datatype: datatype.into(),
            shape,
            contents: Some(contents),
            ..InferInputTensor::default()
        };
        ModelInferRequest { inputs: vec![input], ..ModelInferRequest::default() }
    }

    fn problem(message: ModelInferRequest) -> String {
        decode_grpc(message, &Signature::default()).unwrap_err().to_string()
    }

    #[test]
    fn typed_contents_are_range_checked() {
        let ints = |values: Vec<i32>| InferTensorContents {
            int_contents: values,
            ..InferTensorContents::default()
        };
        let good =
            decode_grpc(message("INT8", vec![2], ints(vec![-128, 127])), &Signature::default());
        assert_eq!(good.unwrap().inputs[0].1.as_slice::<i8>().unwrap(), &[-128, 127]);
        let wide = problem(message("INT8", vec![1], ints(vec![128])));
        assert_eq!(wide, "input 'x': 128 is out of the range of INT8");
        let short = problem(message("INT32", vec![2], ints(vec![1])));
        assert_eq!(short, "input 'x': shape [2] needs 2 elements, got 1");
        let other = problem(message("FP32", vec![1], ints(vec![1])));
        let expected = "has elements in int_contents; expected those of FP32 in fp32_contents";
        assert_eq!(other, format!("input 'x': {expected}"));
        let half = problem(message("FP16", vec![1], ints(vec![1])));
        assert!(half.contains("can only be sent in raw_input_contents"), "{half}");
        let negative = problem(message("INT32", vec![-2], ints(vec![1])));
        assert!(negative.contains("extent -2"), "{negative}");
    }

    #[test]
    fn raw_contents_exclude_typed_ones() {
        let mut both = message("FP32", vec![1], InferTensorContents::default());
        both.raw_input_contents = vec![Bytes::from_static(&[0, 0, 128, 63])];
        assert!(problem(both.clone()).contains("cannot be used with raw_input_contents"));
        both.inputs[0].contents = None;
        let request = decode_grpc(both.clone(), &Signature::default()).unwrap();
        assert_eq!(request.inputs[0].1.item::<f32>().unwrap(), 1.0);
        both.raw_input_contents.push(Bytes::new());
        assert!(problem(both).contains("2 entries, expected one for each of the 1 inputs"));
    }

    #[test]
    fn replies_share_the_tensors_memory() {
        let tensor = Tensor::from_slice(Shape::from([2]), &[1.0f32, 2.0]).unwrap();
        let outputs = vec![("y".to_owned(), tensor.clone())];
        let response = encode_grpc("7".into(), "m", 2, &outputs);
        assert_eq!(response.model_version, "2");
        assert_eq!(response.raw_output_contents[0].as_ptr(), tensor.bytes().unwrap().as_ptr());
    }
}
