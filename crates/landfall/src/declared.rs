//! What is declared about a model beside its file: steps and serving defaults, in the manifest that
//! `landfall package` would put into a package, or in the `model.yaml` of a repository folder.
//!
//! A `manifest.yaml` belongs only to a file named `model.onnx`: in a folder of many models, it
//! would have to say which one it means.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use landfall_graph::Signature;
use landfall_package::steps::{PostStep, PreStep};
use landfall_package::{ModelConfig, ServingDefaults, Tolerance};
use landfall_predict::pipeline::{Limits, Pipeline};

use crate::config::{MAX_THREADS, read_model_file};
use crate::engine::AssetFolder;

/// Bytes that a manifest may have.
const MAX_MANIFEST_BYTES: u64 = 16 << 20;

/// What belongs to a bare model file.
#[derive(Default)]
pub struct Declared {
    /// Pre- and post-processing, if there is any.
    pub steps: Option<Arc<Pipeline>>,
    /// How to serve the model unless the server says otherwise.
    pub serving: ServingDefaults,
}

/// The manifest that belongs to a model file, if there is one.
pub fn manifest_beside(model: &Path) -> Option<PathBuf> {
    let manifest = model.with_file_name("manifest.yaml");
    let is_bare = model.file_name().is_some_and(|name| name == "model.onnx");
    (is_bare && manifest.is_file()).then_some(manifest)
}

/// Reads a manifest and checks what its form does not say.
pub fn read_manifest(path: &Path) -> Result<ModelConfig> {
    let read = || -> Result<ModelConfig> {
        let bytes = std::fs::metadata(path)?.len();
        ensure!(bytes <= MAX_MANIFEST_BYTES, "{bytes} bytes, at most {MAX_MANIFEST_BYTES}");
        let declared: ModelConfig = serde_saphyr::from_str(&std::fs::read_to_string(path)?)?;
        check(&declared)?;
        Ok(declared)
    };
    read().with_context(|| path.display().to_string())
}

fn check(declared: &ModelConfig) -> Result<()> {
    let name = &declared.name;
    ensure!(
        !name.contains(['/', '\\']) && !name.chars().any(char::is_control) && name != "..",
        "name: expected one without '/' and '\\', such as 'flights', found {name:?}"
    );
    let threads = declared.serving.threads.unwrap_or(1);
    ensure!(
        (1..=MAX_THREADS).contains(&threads),
        "serving: threads: expected 1 to {MAX_THREADS}, found {threads}"
    );
    let Tolerance { absolute, relative } = declared.tolerance.unwrap_or_default();
    for (field, value) in [("absolute", absolute), ("relative", relative)] {
        ensure!(
            value >= 0.0 && value.is_finite(),
            "tolerance: {field}: expected a number from 0, found {value}"
        );
    }
    Ok(())
}

/// What is declared about a bare model of that signature. Files that steps name are found beside
/// the file that declares the steps.
pub fn beside(model: &Path, signature: &Signature) -> Result<Declared> {
    let mut declared = Declared::default();
    let settings = settings_beside(model);
    if let Some(file) = &settings {
        let config = read_model_file(file)?;
        declared.steps = steps(file, &config.preprocess, &config.postprocess, signature)?;
        declared.serving.precision = config.precision;
    }
    let Some(manifest) = manifest_beside(model) else { return Ok(declared) };
    let config = read_manifest(&manifest)?;
    let precision = declared.serving.precision.or(config.serving.precision);
    declared.serving = ServingDefaults { precision, ..config.serving };
    if let Some(steps) = steps(&manifest, &config.preprocess, &config.postprocess, signature)? {
        ensure!(
            declared.steps.is_none(),
            "{}: {} declares steps too: leave them to one of the two files",
            manifest.display(),
            settings.unwrap_or_default().display()
        );
        declared.steps = Some(steps);
    }
    Ok(declared)
}

/// The `model.yaml` in the model's folder, or in the one above a version folder.
fn settings_beside(model: &Path) -> Option<PathBuf> {
    let beside = model.parent().unwrap_or(Path::new(""));
    let is_version = beside
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.parse::<u64>().is_ok());
    let above = beside.parent().filter(|_| is_version);
    let declared = [Some(beside), above].into_iter().flatten().map(|f| f.join("model.yaml"));
    declared.into_iter().find(|file| file.exists())
}

fn steps(
    file: &Path,
    pre: &[PreStep],
    post: &[PostStep],
    signature: &Signature,
) -> Result<Option<Arc<Pipeline>>> {
    let folder = AssetFolder::new(file.parent().unwrap_or(Path::new("")));
    let asset = |name: &str| folder.read(name).map_err(|error| format!("{error:#}"));
    let pipeline = Pipeline::compile(pre, post, asset, signature, Limits::default());
    let pipeline = pipeline.with_context(|| file.display().to_string())?;
    Ok((!pipeline.is_identity()).then(|| Arc::new(pipeline)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_model_has_a_manifest() {
        let folder = std::env::temp_dir().join(format!("landfall-beside-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(manifest_beside(&folder.join("model.onnx")), None);
        let manifest = folder.join("manifest.yaml");
        std::fs::write(&manifest, "").unwrap();
        assert_eq!(manifest_beside(&folder.join("model.onnx")), Some(manifest));
        assert_eq!(manifest_beside(&folder.join("other.onnx")), None);
        assert_eq!(manifest_beside(&folder.join("model.landfall")), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
