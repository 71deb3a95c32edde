//! Errors as gRPC statuses.

use landfall_predict::{ErrorKind, PredictError};
use landfall_protocol::DecodeError;
use tonic::{Code, Status};

pub(super) fn of_prediction(error: PredictError) -> Status {
    let code = match error.kind {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Cancelled => Code::Cancelled,
        _ => Code::Internal,
    };
    Status::new(code, error.message)
}

pub(super) fn of_decoding(error: DecodeError) -> Status {
    Status::invalid_argument(error.to_string())
}
