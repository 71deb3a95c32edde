//! `manifest.json`: everything about a package except its bytes.

use std::collections::BTreeMap;
use std::fmt;

use landfall_graph::Signature;
use landfall_tensor::Precision;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::PackageError;
use crate::signature::{DatatypeName, SignatureRecord};
use crate::steps::{PostStep, PreStep};

/// The format that this version writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes that a manifest may have.
pub(crate) const MAX_MANIFEST_BYTES: usize = 64 << 20;

/// What `manifest.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format's version; see [`FORMAT_VERSION`].
    pub format: u32,
    /// What the model's author declares.
    pub model: ModelConfig,
    /// Where the model comes from.
    pub provenance: Provenance,
    /// Inputs and outputs of the graph itself, inside the steps.
    pub signature: SignatureRecord,
    /// The graph's constants: number `n` of this list is constant `n` of `graph.txt`.
    pub constants: Vec<TensorRecord>,
    /// Constants in the layouts that kernels read, under keys that the runtime chooses. Opaque
    /// here; a runtime that does not know a key packs the plain constant itself.
    pub packed: BTreeMap<String, TensorRecord>,
    /// Inputs with the outputs expected of them, at the signature that callers see.
    pub golden: Vec<GoldenRecord>,
    /// What was measured to be fastest, for each processor, number of threads and precision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tuning: Vec<TuningRecord>,
    /// Every entry of the archive but the manifest.
    pub entries: BTreeMap<String, EntryRecord>,
}

/// What the author of a model declares about it: the content of `manifest.yaml`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// The name under which the model is served unless the server says otherwise.
    pub name: String,
    /// For people.
    pub description: String,
    /// What happens to requests before the graph.
    pub preprocess: Vec<PreStep>,
    /// What happens to results after the graph.
    pub postprocess: Vec<PostStep>,
    /// How to serve the model unless the server says otherwise.
    pub serving: ServingDefaults,
    /// What is known about the training data; free form.
    pub data: BTreeMap<String, serde_json::Value>,
    /// Quality as measured by the author, such as `{"auc": 0.71}`.
    pub metrics: BTreeMap<String, f64>,
    /// How far outputs of golden cases may be off; measured when packaging unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Tolerance>,
}

/// How to serve a model, in the words of the server's configuration; what is absent is the server's
/// to decide, and what the server's configuration says wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServingDefaults {
    /// Most rows that requests are joined to in one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_batch_rows: Option<usize>,
    /// Longest wait for more rows, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_delay_us: Option<u64>,
    /// Most rows of one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_request_rows: Option<usize>,
    /// Most rows waiting; more are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queue_rows: Option<usize>,
    /// Longest time that a request waits, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Threads that one run uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// The precision of matrix products and convolutions: what packed weights are made for and
    /// golden outputs come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<PrecisionName>,
}

/// A precision under its name, such as `bf16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrecisionName(pub Precision);

impl Serialize for PrecisionName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl<'de> Deserialize<'de> for PrecisionName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PrecisionName, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map(PrecisionName).map_err(serde::de::Error::custom)
    }
}

/// The fastest ways found to run the steps of a model on one kind of processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuningRecord {
    /// The processor that was measured. Opaque here: the runtime's words, compared as a whole.
    pub cpu: String,
    /// Precision of matrix products and convolutions.
    pub precision: PrecisionName,
    /// By the runtime's description of a step for any number of rows, the algorithm that it takes;
    /// steps that are absent are left to the runtime's cost model.
    pub algorithms: BTreeMap<String, String>,
    /// By the threads of a run, and then by the runtime's description of a step, the threads that
    /// the step uses at most.
    pub threads: BTreeMap<usize, BTreeMap<String, usize>>,
}

impl TuningRecord {
    /// What it holds for: the processor and the precision.
    pub fn key(&self) -> (&str, Precision) {
        (&self.cpu, self.precision.0)
    }
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The program that wrote the package and its version.
    pub tool: String,
    /// The file that was packaged.
    pub source: Option<Source>,
}

/// The file that was packaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// File name, without its folder.
    pub file: String,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 digest of its bytes.
    pub blake3: Digest,
}

impl Source {
    /// Describes a file by its name and content.
    pub fn of(file: impl Into<String>, content: &[u8]) -> Source {
        let blake3 = Digest(blake3::hash(content));
        Source { file: file.into(), bytes: content.len() as u64, blake3 }
    }
}

/// A tensor in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorRecord {
    /// Name of the entry that holds the elements.
    pub entry: String,
    /// Element type.
    pub datatype: DatatypeName,
    /// Extent of every axis.
    pub shape: Vec<usize>,
}

/// A tensor in the archive and the input or output that it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedTensorRecord {
    /// The input's or output's name.
    pub name: String,
    /// The tensor.
    pub tensor: TensorRecord,
}

/// A golden case: inputs with the outputs expected of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenRecord {
    /// What callers send.
    pub inputs: Vec<NamedTensorRecord>,
    /// What they must get.
    pub outputs: Vec<NamedTensorRecord>,
    /// How far an output may be off.
    pub tolerance: Tolerance,
}

/// How far a float may be from the one expected:
/// `|found - expected| <= absolute + relative * |expected|`. All else must be equal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tolerance {
    /// In the output's own unit.
    pub absolute: f64,
    /// As a fraction of the expected value.
    pub relative: f64,
}

impl Default for Tolerance {
    fn default() -> Tolerance {
        Tolerance { absolute: 1e-5, relative: 1e-4 }
    }
}

/// Size and digest of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryRecord {
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 digest.
    pub blake3: Digest,
}

/// A BLAKE3 digest; 64 hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub blake3::Hash);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        blake3::Hash::from_hex(&text)
            .map(Digest)
            .map_err(|_| serde::de::Error::custom("a digest is 64 hexadecimal digits"))
    }
}

/// Only the field that tells which format the rest is in.
#[derive(Deserialize)]
struct FormatOnly {
    format: u64,
}

impl Manifest {
    /// Reads a manifest. The format is checked first, so that a newer package is reported as newer
    /// rather than as having unknown fields.
    pub fn from_json(json: &[u8]) -> Result<Manifest, PackageError> {
        if json.len() > MAX_MANIFEST_BYTES {
            let message = format!("{} bytes, at most {MAX_MANIFEST_BYTES} are read", json.len());
            return Err(PackageError::Manifest(message));
        }
        let invalid = |e: serde_json::Error| PackageError::Manifest(e.to_string());
        let format = serde_json::from_slice::<FormatOnly>(json).map_err(invalid)?.format;
        if format != u64::from(FORMAT_VERSION) {
            return Err(PackageError::Format { found: format, supported: FORMAT_VERSION });
        }
        serde_json::from_slice(json).map_err(invalid)
    }

    /// The text of `manifest.json`. Fails if a number in it is not finite.
    pub fn to_json(&self) -> Result<Vec<u8>, PackageError> {
        let invalid = |e: serde_json::Error| PackageError::Manifest(e.to_string());
        let mut json = serde_json::to_vec_pretty(self).map_err(invalid)?;
        json.push(b'\n');
        if Manifest::from_json(&json)? != *self {
            let message = "a value does not survive JSON; numbers must be finite";
            return Err(PackageError::Manifest(message.to_owned()));
        }
        Ok(json)
    }

    /// What was measured on that processor in that precision, if anything was.
    pub fn tuning(&self, key: (&str, Precision)) -> Option<&TuningRecord> {
        self.tuning.iter().find(|record| record.key() == key)
    }

    /// Inputs and outputs of the graph itself.
    pub fn signature(&self) -> Signature {
        (&self.signature).into()
    }
}
