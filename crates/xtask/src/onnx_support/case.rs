//! A conformance case on disk, in the format of `tests/conformance/dump_cases.py`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// What `case.json` says.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// `node`, `simple`, `pytorch-converted`, `pytorch-operator` or `light`.
    pub(crate) kind: String,
    /// Domain of the operator that the case is about; `model` for a whole model.
    pub(crate) domain: String,
    pub(crate) operator: String,
    /// The version of that domain's operator set.
    pub(crate) opset: i64,
    /// Whether the operator is written out as its function body.
    pub(crate) expanded: bool,
    /// Whether all inputs and outputs are plain tensors of f32, i64, i32, bool, u8 or i8.
    pub(crate) core: bool,
    /// Why values cannot be compared, where they are random.
    pub(crate) random: Option<String>,
    pub(crate) rtol: f64,
    pub(crate) atol: f64,
    pub(crate) inputs: Vec<Stored>,
    pub(crate) outputs: Vec<Stored>,
    #[serde(skip)]
    pub(crate) folder: PathBuf,
}

/// One input or output of a case.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// TensorProto files: one for a tensor, one for each element of a sequence.
    pub(crate) files: Vec<String>,
}

/// How a value is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Tensor,
    Sequence,
    Absent,
}

#[derive(Debug, Deserialize)]
struct Index {
    onnx: String,
    cases: Vec<String>,
}

impl Case {
    /// Bytes of the model.
    pub(crate) fn model(&self) -> Result<Vec<u8>> {
        self.read("model.onnx")
    }

    /// Bytes of one of the case's files.
    pub(crate) fn read(&self, file: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(file);
        std::fs::read(&path).with_context(|| path.display().to_string())
    }
}

/// All cases of a folder whose name contains `filter`, in the order of its index.
pub(crate) fn read_all(folder: &Path, filter: Option<&str>) -> Result<Vec<Case>> {
    let names = index(folder)?.cases;
    let chosen = names.iter().filter(|name| filter.is_none_or(|filter| name.contains(filter)));
    chosen.map(|name| read(folder.join(name))).collect()
}

/// Version of the `onnx` package that the cases come from.
pub(crate) fn onnx_version(folder: &Path) -> Result<String> {
    Ok(index(folder)?.onnx)
}

fn index(folder: &Path) -> Result<Index> {
    let path = folder.join("index.json");
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_slice(&text)?)
}

fn read(folder: PathBuf) -> Result<Case> {
    let path = folder.join("case.json");
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let case: Case = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    Ok(Case { folder, ..case })
}
