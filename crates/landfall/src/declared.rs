//! The `manifest.yaml` beside a `model.onnx`: what `landfall package` would put into a package is
//! served just as well from the folder, so that a model and its steps can be tried before they are
//! packaged.
//!
//! Only a file of that very name has one: in a folder of many models, a manifest would have to
//! say which one it means.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use landfall_package::ModelConfig;
use landfall_predict::pipeline::{Limits, Pipeline};

use crate::engine::{AssetFolder, Opened};

/// Bytes that a manifest may have.
const MAX_BYTES: u64 = 16 << 20;

/// The manifest that belongs to a model file, if there is one.
pub fn manifest_beside(model: &Path) -> Option<PathBuf> {
    let manifest = model.with_file_name("manifest.yaml");
    let is_bare = model.file_name().is_some_and(|name| name == "model.onnx");
    (is_bare && manifest.is_file()).then_some(manifest)
}

/// Gives an opened `model.onnx` the steps and serving defaults of the manifest beside it. Files
/// that steps name are found beside the manifest. Anything else is left as it is.
pub fn with_manifest(model: &Path, opened: Opened) -> Result<Opened> {
    match manifest_beside(model) {
        Some(manifest) => {
            applied(&manifest, opened).with_context(|| manifest.display().to_string())
        }
        None => Ok(opened),
    }
}

fn applied(manifest: &Path, mut opened: Opened) -> Result<Opened> {
    let declared = read(manifest)?;
    opened.serving = declared.serving;
    if declared.preprocess.is_empty() && declared.postprocess.is_empty() {
        return Ok(opened);
    }
    ensure!(
        opened.steps.is_none(),
        "model.yaml declares steps too: leave them to one of the two files"
    );
    let folder = AssetFolder::new(manifest.parent().unwrap_or(Path::new("")));
    let pipeline = Pipeline::compile(
        &declared.preprocess,
        &declared.postprocess,
        |name| folder.read(name).map_err(|error| format!("{error:#}")),
        opened.model.signature(),
        Limits::default(),
    )?;
    opened.steps = (!pipeline.is_identity()).then(|| Arc::new(pipeline));
    Ok(opened)
}

fn read(manifest: &Path) -> Result<ModelConfig> {
    let bytes = std::fs::metadata(manifest)?.len();
    ensure!(bytes <= MAX_BYTES, "{bytes} bytes, at most {MAX_BYTES}");
    Ok(serde_saphyr::from_str(&std::fs::read_to_string(manifest)?)?)
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
