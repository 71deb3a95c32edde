//! From a model file to something that can serve: the only place that knows engine and formats.
//!
//! # Model files are read, not mapped
//!
//! A mapped file costs nothing to open, but whoever runs `cp new.onnx served.onnx` truncates it
//! under the server: at best requests are answered with weights of two models, at worst the next
//! one ends the process with SIGBUS. Locks and leases are advisory or need privileges, a private
//! mapping shares the truncation, a handler of SIGBUS cannot give the bytes back, and a private
//! copy on disk is a copy all the same. So serving reads every file once, into memory of its own.
//!
//! The price: 100 MB from the page cache took 0.13 to 0.27 s to read on a busy machine of two
//! cores, against 0.02 s to map and touch, on a thread that answers no requests; and memory that
//! processes do not share. Who keeps large packages where nothing is ever overwritten maps them
//! with `map_files: true` (`--map-files`). Other commands map: they end before anybody replaces a
//! file.

use std::path::Path;
use std::sync::Arc;

use landfall_predict::{Executable, LoadedModel, Steps};
use landfall_tensor::{FileAccess, Precision};

use crate::config::ModelFile;
use crate::engine::{self, EngineOptions, Opened};
use crate::machine;

/// Opens model files.
pub trait OpenModel: Send + Sync {
    /// Opens one file for serving as `settings` say and, where they do not, as the model declares.
    /// The error names the file, what is wrong with it and what to do.
    fn open(
        &self,
        path: &Path,
        files: FileAccess,
        settings: &ModelFile,
    ) -> Result<LoadedModel, String>;
}

/// Opens `.onnx` and `.landfall` files with the engine of this binary.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelFiles;

impl OpenModel for ModelFiles {
    fn open(
        &self,
        path: &Path,
        files: FileAccess,
        settings: &ModelFile,
    ) -> Result<LoadedModel, String> {
        let config = settings.serving()?;
        // Instances run side by side, so they share the cores.
        let threads = match config.threads {
            0 => machine::cores() / config.instances.max(1),
            threads => threads,
        };
        let opened = EngineOptions::from_environment(threads.max(1)).and_then(|options| {
            let prefer_declared_threads = config.threads == 0;
            let run_memory_bytes = settings.run_memory_bytes();
            let precision = settings.precision.map(|name| name.0);
            let options = EngineOptions {
                precision,
                prefer_declared_threads,
                files,
                run_memory_bytes,
                ..options
            };
            engine::open(path, &options)
        });
        loaded(opened.map_err(|error| format!("{error:#}"))?, settings)
    }
}

/// Opens with a precision that wins over every model's settings, if one is given.
pub struct WithPrecision {
    /// What opens.
    pub opener: Arc<dyn OpenModel>,
    /// The precision.
    pub precision: Option<Precision>,
}

impl OpenModel for WithPrecision {
    fn open(
        &self,
        path: &Path,
        files: FileAccess,
        settings: &ModelFile,
    ) -> Result<LoadedModel, String> {
        self.opener.open(path, files, &settings.with_precision(self.precision))
    }
}

/// Opens the ONNX model that this binary carries, whatever file is asked for.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedModel {
    /// The model.
    pub bytes: &'static [u8],
}

impl OpenModel for EmbeddedModel {
    fn open(
        &self,
        path: &Path,
        _files: FileAccess,
        settings: &ModelFile,
    ) -> Result<LoadedModel, String> {
        let threads = settings.serving()?.threads;
        let options = EngineOptions::from_environment(threads.max(1));
        let opened = options.and_then(|options| engine::open_embedded(path, self.bytes, &options));
        loaded(opened.map_err(|error| format!("{error:#}"))?, settings)
    }
}

fn loaded(opened: Opened, settings: &ModelFile) -> Result<LoadedModel, String> {
    let mut config = settings.serving_over(&opened.serving)?;
    if config.padding.is_none() {
        config.padding = opened.steps.as_ref().and_then(|steps| steps.padding());
    }
    let executable: Arc<dyn Executable> = opened.model;
    let steps = opened.steps.map(|steps| -> Arc<dyn Steps> { steps });
    Ok(LoadedModel { executable, steps, config, platform: opened.platform.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        for name in ["absent.onnx", "absent.landfall", "absent.txt"] {
            let settings = ModelFile::default();
            let opened = ModelFiles.open(Path::new(name), FileAccess::Copied, &settings);
            let error = opened.err().unwrap();
            assert!(error.contains(name), "{error}");
        }
    }
}
