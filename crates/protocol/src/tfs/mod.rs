//! TensorFlow Serving's REST form of a prediction.
//!
//! By row: `{"instances": [...]}`, every instance a value of the one input or an object of all
//! inputs, answered by `{"predictions": [...]}`. By column: `{"inputs": ...}`, a whole tensor or an
//! object of them, answered by `{"outputs": ...}`. Byte strings are `{"b64": "..."}`, as is text
//! of outputs whose names end in `_bytes`. Shapes are those of the nesting, datatypes those of the
//! model.
//!
//! Beside it the table forms of the same content: data frames as MLflow sends them, and CSV.

mod frame;
mod request;
mod response;

pub use frame::{csv_to_frame, decode_frame, is_frame};
pub use request::{Layout, PredictRequest, decode};
pub use response::encode;
