//! Every older operator brought to the newest operator set.
mod draft;

pub(crate) use draft::{Draft, Refusal};

/// The newest operator-set version known of each domain.
pub(crate) const NEWEST: [(&str, i64); 3] =
    [("ai.onnx", 28), ("ai.onnx.ml", 5), ("com.microsoft", 1)];

/// Brings a node to the newest operator set.
pub(crate) fn apply(_draft: &mut Draft<'_>) -> Result<(), Refusal> {
    Ok(())
}
