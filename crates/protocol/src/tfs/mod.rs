//! TensorFlow Serving's REST form of a prediction.
//!
//! By row: `{"instances": [...]}`, every instance a value of the one input or an object of all
//! inputs, answered by `{"predictions": [...]}`. By column: `{"inputs": ...}`, a whole tensor or an
//! object of them, answered by `{"outputs": ...}`. Byte strings are `{"b64": "..."}`. Shapes are
//! those of the nesting, datatypes those of the model.

mod request;
mod response;

pub use request::{Layout, PredictRequest, decode};
pub use response::encode;
