//! `POST /v1/embeddings`, in the form of the OpenAI API, for models that take text.
//!
//! A model fits if it has one text input with one free axis and a floating-point output with axes
//! `(texts, features)`. The reply has `usage` if a declared step makes the tokens, which are then
//! counted as the model sees them: truncated, and with those that the tokenizer adds.
//!
//! `dimensions` is taken only where it is the length of the model's vectors. The API shortens them
//! and scales them to length 1 again; but only vectors of models trained for it can be shortened,
//! and of no model here is that known.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine;
use http::StatusCode;
use landfall_graph::{DimSpec, Signature, TensorSpec};
use landfall_protocol::json::{write_string, write_tensor_flat};
use landfall_protocol::oip::{InferRequest, OutputRequest};
use landfall_tensor::{DType, Shape, Tensor};
use serde::Deserialize;
use serde_json::Value;

use super::body::{read_body, work_over};
use super::reply::{JSON, Problem, compressed_reply};
use crate::serving::{Choice, Server, infer};

#[derive(Debug, Deserialize)]
struct EmbeddingRequest {
    input: Value,
    model: String,
    dimensions: Option<Value>,
    #[serde(default)]
    encoding_format: EncodingFormat,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EncodingFormat {
    #[default]
    Float,
    Base64,
}

pub(super) async fn embed(
    State(server): State<Arc<Server>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body, &server.limits).await?;
    let wanted: EmbeddingRequest =
        serde_json::from_slice(&body).map_err(|e| Problem::bad_request(e.to_string()))?;
    let choice = Choice::Default;
    let servable = server.catalog.lookup(&wanted.model, choice.as_ref())?;
    let (input, output) = text_to_vector(servable.signature()).ok_or_else(|| {
        let message = format!("model '{}' does not turn text into vectors", wanted.model);
        Problem::bad_request(message)
    })?;
    check_dimensions(wanted.dimensions.as_ref(), output)?;
    let texts = texts(wanted.input)?;
    let mut shape = Shape::from([texts.len()]);
    if input.dims.as_ref().is_some_and(|dims| dims.len() == 2) {
        shape.push(1);
    }
    let tensor =
        Tensor::from_strings(shape, texts).map_err(|e| Problem::bad_request(e.to_string()))?;
    let request = InferRequest {
        inputs: vec![(input.name.clone(), tensor)],
        outputs: vec![OutputRequest { name: output.name.clone(), ..OutputRequest::default() }],
        ..InferRequest::default()
    };
    let outcome = infer(&server.catalog, &wanted.model, &choice, servable, request, None).await?;
    let Some((_, vectors)) = outcome.reply.outputs.into_iter().next() else {
        return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the model gave no output"));
    };
    let tokens = outcome.reply.tokens;
    let (model, format) = (wanted.model, wanted.encoding_format);
    let size = vectors.elements() * 4;
    let body =
        work_over(size, vectors, move |vectors| encode(&vectors, &model, format, tokens)).await?;
    Ok(compressed_reply(&parts.headers, server.limits.compress_min_bytes, JSON, body).await)
}

fn texts(input: Value) -> Result<Vec<String>, Problem> {
    const TOKENS: &str = "'input' has token ids, which are not supported: send text";
    const WRONG: &str = "'input': expected a string or a list of strings";
    let of_item = |item: Value| match item {
        Value::String(text) => Ok(text),
        Value::Number(_) | Value::Array(_) => Err(Problem::bad_request(TOKENS)),
        _ => Err(Problem::bad_request(WRONG)),
    };
    match input {
        Value::String(text) => Ok(vec![text]),
        Value::Array(items) if items.is_empty() => Err(Problem::bad_request("'input' is empty")),
        Value::Array(items) => items.into_iter().map(of_item).collect(),
        _ => Err(Problem::bad_request(WRONG)),
    }
}

fn check_dimensions(wanted: Option<&Value>, output: &TensorSpec) -> Result<(), Problem> {
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_null()) else { return Ok(()) };
    match output.dims.as_deref() {
        Some([_, DimSpec::Known(features)]) if wanted.as_u64() == Some(*features as u64) => Ok(()),
        Some([_, DimSpec::Known(features)]) => Err(Problem::bad_request(format!(
            "'dimensions': the model's vectors have {features} and cannot be shortened, found \
             {wanted}"
        ))),
        _ => Err(Problem::bad_request("'dimensions' is not supported for this model")),
    }
}

fn text_to_vector(signature: &Signature) -> Option<(&TensorSpec, &TensorSpec)> {
    let rank = |spec: &TensorSpec| spec.dims.as_ref().map(Vec::len);
    let [input] = signature.inputs.as_slice() else { return None };
    if input.dtype != DType::String || !matches!(rank(input), Some(1 | 2)) {
        return None;
    }
    let output = signature.outputs.iter().find(|o| o.dtype == DType::F32 && rank(o) == Some(2))?;
    Some((input, output))
}

/// `vectors` has axes `(texts, features)`.
fn encode(
    vectors: &Tensor,
    model: &str,
    format: EncodingFormat,
    tokens: Option<usize>,
) -> Result<Vec<u8>, Problem> {
    let fail = || Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the output is not a matrix");
    let (&[_, features], Some(buffer)) = (&**vectors.shape(), vectors.buffer()) else {
        return Err(fail());
    };
    let mut body = b"{\"object\":\"list\",\"model\":".to_vec();
    write_string(&mut body, model);
    body.extend_from_slice(b",\"data\":[");
    let row_bytes = features * DType::F32.size();
    for text in 0..vectors.shape()[0] {
        let separator = if text > 0 { "," } else { "" };
        let head = format!("{separator}{{\"object\":\"embedding\",\"index\":{text},\"embedding\":");
        body.extend_from_slice(head.as_bytes());
        let row = buffer.slice(text * row_bytes..(text + 1) * row_bytes).ok_or_else(fail)?;
        match format {
            EncodingFormat::Float => {
                let row = Tensor::from_buffer(DType::F32, Shape::from([features]), row);
                write_tensor_flat(&mut body, &row.map_err(|_| fail())?);
            }
            EncodingFormat::Base64 => {
                write_string(&mut body, &base64::engine::general_purpose::STANDARD.encode(&*row));
            }
        }
        body.push(b'}');
    }
    body.push(b']');
    if let Some(tokens) = tokens {
        let usage = format!(",\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}");
        body.extend_from_slice(usage.as_bytes());
    }
    body.push(b'}');
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_numbers_or_base64() {
        let vectors = Tensor::from_slice(Shape::from([2, 1]), &[1.5f32, -2.0]).unwrap();
        let json = |format| -> serde_json::Value {
            serde_json::from_slice(&encode(&vectors, "m", format, Some(7)).unwrap()).unwrap()
        };
        let floats = json(EncodingFormat::Float);
        assert_eq!(floats["data"][1]["embedding"][0], -2.0);
        assert_eq!(floats["data"][1]["index"], 1);
        assert_eq!(json(EncodingFormat::Base64)["data"][0]["embedding"], "AADAPw==");
        assert_eq!(floats["usage"], serde_json::json!({"prompt_tokens": 7, "total_tokens": 7}));
        let unknown = encode(&vectors, "m", EncodingFormat::Float, None).unwrap();
        assert!(unknown.ends_with(b"}]}"), "what is not known is not told");
        assert!(encode(&Tensor::scalar(1f32), "m", EncodingFormat::Float, None).is_err());
    }
}
