//! From a model file to something that can serve: the only place that knows engine and formats.

use std::path::Path;

use landfall_predict::{LoadedModel, ServingConfig};

/// Opens model files.
pub trait OpenModel: Send + Sync {
    /// Opens one file for serving as `config` says. The error names the file, what is wrong with it
    /// and what to do.
    fn open(&self, path: &Path, config: ServingConfig) -> Result<LoadedModel, String>;
}

/// Opens `.onnx` and `.landfall` files with the engine of this binary.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelFiles;

impl OpenModel for ModelFiles {
    fn open(&self, path: &Path, _config: ServingConfig) -> Result<LoadedModel, String> {
        Err(format!("{}: this build has no engine", path.display()))
    }
}
