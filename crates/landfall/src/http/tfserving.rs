//! TensorFlow Serving's REST form: status, metadata and `:predict`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use landfall_graph::{DimSpec, TensorSpec};
use landfall_predict::{Servable, VersionState, VersionStatus};
use landfall_protocol::oip::InferRequest;
use landfall_protocol::tfs::{self, PredictRequest};
use landfall_tensor::DType;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::body::{read_body, work_over};
use super::path::Path;
use super::reply::{JSON, Problem, compressed_reply, json_reply, method_not_allowed};
use crate::serving::{Choice, Server, infer as run};

const VERBS: [&str; 3] = ["predict", "classify", "regress"];

/// A model, perhaps with a version or label. In requests to predict the last part ends in a verb.
#[derive(Debug, Deserialize)]
pub(super) struct TfPath {
    model: String,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    label: Option<String>,
}

impl TfPath {
    fn choice(&self) -> Result<Choice, Problem> {
        if let Some(label) = &self.label {
            return Ok(Choice::Label(label.clone()));
        }
        Ok(Choice::of_version(self.version.as_deref().unwrap_or_default())?)
    }

    fn is_model_alone(&self) -> bool {
        self.version.is_none() && self.label.is_none()
    }

    /// Whether the last part ends in what only a request to predict ends in.
    fn ends_in_verb(&self) -> bool {
        let last = self.label.as_ref().or(self.version.as_ref()).unwrap_or(&self.model);
        last.rsplit_once(':').is_some_and(|(_, verb)| VERBS.contains(&verb))
    }

    /// Cuts the verb off the last part.
    fn split_verb(&mut self) -> Option<String> {
        let last = self.label.as_mut().or(self.version.as_mut()).unwrap_or(&mut self.model);
        let (name, verb) = last.rsplit_once(':')?;
        let verb = verb.to_owned();
        *last = name.to_owned();
        Some(verb)
    }
}

pub(super) async fn list(State(server): State<Arc<Server>>) -> Response {
    let mut names: Vec<String> = server.catalog.index().into_iter().map(|s| s.model).collect();
    names.dedup();
    json_reply(&json!({"models": names}))
}

pub(super) async fn status(
    State(server): State<Arc<Server>>,
    Path(path): Path<TfPath>,
    method: Method,
    uri: Uri,
) -> Result<Response, Problem> {
    let is_model = path.is_model_alone() && server.catalog.statuses(&path.model).is_some();
    if path.ends_in_verb() && !is_model {
        let mut response = method_not_allowed(method, uri).await.into_response();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return Ok(response);
    }
    let wanted = match path.choice()? {
        Choice::Default => None,
        Choice::Version(version) => Some(version),
        choice => Some(server.catalog.lookup(&path.model, choice.as_ref())?.version()),
    };
    let statuses = server.catalog.statuses(&path.model).unwrap_or_default();
    let entries: Vec<Value> = statuses
        .iter()
        .filter(|status| wanted.is_none() || status.version == wanted)
        .map(|status| {
            let state = match status.state {
                VersionState::Ready => "AVAILABLE",
                VersionState::Loading => "LOADING",
                VersionState::Unloading => "UNLOADING",
                VersionState::Unavailable => "END",
            };
            let code = if status.reason.is_empty() { "OK" } else { "UNKNOWN" };
            json!({
                "version": status.version.map_or(String::new(), |v| v.to_string()),
                "state": state,
                "status": {"error_code": code, "error_message": status.reason},
            })
        })
        .collect();
    if entries.is_empty() {
        let message = nothing_found(&path.model, wanted, &statuses);
        return Err(Problem::new(StatusCode::NOT_FOUND, message));
    }
    let ready = !server.catalog.ready_versions(&path.model).is_empty();
    Ok(json_reply(&json!({
        "model_version_status": entries, "name": path.model, "ready": ready,
    })))
}

fn nothing_found(model: &str, wanted: Option<u64>, statuses: &[VersionStatus]) -> String {
    let versions: Vec<String> =
        statuses.iter().filter_map(|status| Some(status.version?.to_string())).collect();
    match wanted {
        Some(version) if !versions.is_empty() => {
            let versions = versions.join(", ");
            format!("model '{model}' has no version {version}; it has {versions}")
        }
        _ => format!("no versions of model '{model}' found"),
    }
}

pub(super) async fn metadata(
    State(server): State<Arc<Server>>,
    Path(path): Path<TfPath>,
) -> Result<Response, Problem> {
    let servable = server.catalog.lookup(&path.model, path.choice()?.as_ref())?;
    let signature = servable.signature();
    let tensors = |specs: &[TensorSpec]| -> Map<String, Value> {
        specs.iter().map(|spec| (spec.name.clone(), tensor_info(spec))).collect()
    };
    Ok(json_reply(&json!({
        "model_spec": {
            "name": path.model, "signature_name": "", "version": servable.version().to_string(),
        },
        "metadata": {"signature_def": {"signature_def": {"serving_default": {
            "inputs": tensors(&signature.inputs),
            "outputs": tensors(&signature.outputs),
            "method_name": "tensorflow/serving/predict",
        }}}},
    })))
}

fn tensor_info(spec: &TensorSpec) -> Value {
    let dim = |dim: &DimSpec| match dim {
        DimSpec::Known(extent) => json!({"size": extent.to_string(), "name": ""}),
        DimSpec::Symbol(name) => json!({"size": "-1", "name": name}),
    };
    let dims: Vec<Value> = spec.dims.iter().flatten().map(dim).collect();
    json!({
        "name": spec.name,
        "dtype": tensorflow_type(spec.dtype),
        "tensor_shape": {"dim": dims, "unknown_rank": spec.dims.is_none()},
    })
}

fn tensorflow_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "DT_FLOAT",
        DType::F64 => "DT_DOUBLE",
        DType::F16 => "DT_HALF",
        DType::BF16 => "DT_BFLOAT16",
        DType::I8 => "DT_INT8",
        DType::U8 => "DT_UINT8",
        DType::I16 => "DT_INT16",
        DType::U16 => "DT_UINT16",
        DType::I32 => "DT_INT32",
        DType::U32 => "DT_UINT32",
        DType::I64 => "DT_INT64",
        DType::U64 => "DT_UINT64",
        DType::Bool => "DT_BOOL",
        DType::String | DType::Bytes => "DT_STRING",
        _ => "DT_INVALID",
    }
}

pub(super) async fn predict(
    State(server): State<Arc<Server>>,
    Path(mut path): Path<TfPath>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    match path.split_verb().as_deref() {
        Some("predict") => {}
        Some(verb @ ("classify" | "regress")) => {
            let message = format!("'{verb}' needs TensorFlow examples; use ':predict'");
            return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, message));
        }
        _ => return Err(Problem::bad_request("expected a path that ends in ':predict'")),
    }
    let choice = path.choice()?;
    let servable = server.catalog.lookup(&path.model, choice.as_ref())?;
    let (parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body, &server.limits).await?;
    let given = (body, Arc::clone(&servable));
    let decoded = work_over(given.0.len(), given, |(body, servable)| {
        tfs::decode(&body, servable.signature())
    })
    .await?;
    predict_decoded(&server, &path.model, &choice, servable, &parts.headers, decoded).await
}

/// Predicts and answers in the request's form.
pub(super) async fn predict_decoded(
    server: &Arc<Server>,
    model: &str,
    choice: &Choice,
    servable: Arc<Servable>,
    headers: &HeaderMap,
    decoded: PredictRequest,
) -> Result<Response, Problem> {
    let request = InferRequest { inputs: decoded.inputs, ..InferRequest::default() };
    let outcome = run(&server.catalog, model, choice, servable, request, None).await?;
    let outputs = outcome.reply.outputs;
    let size: usize = outputs.iter().map(|(_, tensor)| tensor.elements() * 4).sum();
    let layout = decoded.layout;
    let encoded = work_over(size, outputs, move |outputs| tfs::encode(layout, &outputs)).await?;
    Ok(compressed_reply(headers, server.limits.compress_min_bytes, JSON, encoded).await)
}
