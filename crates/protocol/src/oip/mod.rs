//! Open Inference Protocol v2, with binary tensors and the parameters of its extensions.

mod classification;
mod grpc;
mod raw;
mod request;
mod response;

use std::time::Duration;

use landfall_tensor::Tensor;

pub use classification::classify;
pub use grpc::{decode_grpc, encode_grpc};
pub use raw::{decode_raw, encode_raw, raw_length};
pub use request::{decode_json, decode_raw_body};
pub use response::{Encoded, encode_json};

/// One decoded inference request.
#[derive(Debug, Clone, Default)]
pub struct InferRequest {
    /// The caller's id; comes back in the reply. Empty if none.
    pub id: String,
    /// What the caller asks of the whole request.
    pub parameters: Parameters,
    /// Tensors by name, in the order sent; no name occurs twice.
    pub inputs: Vec<(String, Tensor)>,
    /// Outputs wanted, in order; empty for all. No name occurs twice.
    pub outputs: Vec<OutputRequest>,
}

/// The request parameters that have a meaning here; others are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// 1 is the most urgent; 0 means the model's default.
    pub priority: u32,
    /// The longest the request may wait.
    pub timeout: Option<Duration>,
    /// Whether outputs that do not say otherwise come back in binary (HTTP only).
    pub binary_output: bool,
}

/// One output wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputRequest {
    /// Its name.
    pub name: String,
    /// Whether it comes back in binary; `None` leaves it to the whole request (HTTP only).
    pub binary: Option<bool>,
    /// How many of the highest values to return as `value:index` text instead of the tensor.
    pub classification: Option<usize>,
}

/// A parameter's value, whatever the transport.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parameter {
    Bool(bool),
    Unsigned(u64),
    Text(String),
    Other,
}

impl Parameters {
    /// Takes note of one parameter. The error says what is wrong with its value.
    fn set(&mut self, name: &str, value: &Parameter) -> Result<(), String> {
        match (name, value) {
            ("priority", Parameter::Unsigned(level)) => {
                self.priority = u32::try_from(*level)
                    .map_err(|_| format!("parameter 'priority' is too large: {level}"))?;
            }
            ("timeout", Parameter::Unsigned(0)) => self.timeout = None,
            ("timeout", Parameter::Unsigned(micros)) => {
                self.timeout = Some(Duration::from_micros(*micros));
            }
            ("priority" | "timeout", _) => {
                return Err(format!("parameter '{name}' must be a non-negative integer"));
            }
            ("binary_data_output", Parameter::Bool(binary)) => self.binary_output = *binary,
            ("binary_data_output", _) => {
                return Err("parameter 'binary_data_output' must be true or false".to_owned());
            }
            ("sequence_id", Parameter::Unsigned(0)) => {}
            ("sequence_id", Parameter::Text(id)) if id.is_empty() => {}
            ("sequence_id", _) => {
                return Err("parameter 'sequence_id': this server has no sequence models".into());
            }
            _ => {}
        }
        Ok(())
    }
}

impl OutputRequest {
    fn set(&mut self, name: &str, value: &Parameter) -> Result<(), String> {
        match (name, value) {
            ("binary_data", Parameter::Bool(binary)) => self.binary = Some(*binary),
            ("binary_data", _) => {
                return Err("parameter 'binary_data' must be true or false".to_owned());
            }
            ("classification", Parameter::Unsigned(0)) => self.classification = None,
            ("classification", Parameter::Unsigned(count)) => {
                self.classification = Some(usize::try_from(*count).unwrap_or(usize::MAX));
            }
            ("classification", _) => {
                return Err("parameter 'classification' must be a positive integer".to_owned());
            }
            (name, _) => no_shared_memory(name)?,
        }
        Ok(())
    }
}

fn no_shared_memory(name: &str) -> Result<(), String> {
    match name {
        "shared_memory_region" => {
            Err("shared memory is not supported: send the tensor in the request".to_owned())
        }
        _ => Ok(()),
    }
}
