//! The steps after the graph.

use serde::{Deserialize, Serialize};

use super::Rename;

/// A step after the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostStep {
    /// Scores to probabilities that sum to 1.
    Softmax(Softmax),
    /// `1 / (1 + exp(-x))`.
    Sigmoid(Sigmoid),
    /// The index of the largest score.
    Argmax(ArgMax),
    /// The largest scores, their indices and their labels.
    TopK(TopK),
    /// Indices to labels.
    Labels(Labels),
    /// Whether a score reaches a value.
    Threshold(Threshold),
    /// Token vectors to one vector a row.
    MeanPool(MeanPool),
    /// Vectors to length 1.
    L2Normalize(L2Normalize),
    /// Another name for a value.
    Rename(Rename),
    /// Drops all other values.
    Keep(Keep),
}

/// Scores to probabilities along the innermost axis, in `f32`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Softmax {
    /// The value to take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The value to write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// `1 / (1 + exp(-x))` of every element, in `f32`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sigmoid {
    /// The value to take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The value to write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// The index of the largest element along the innermost axis, the first of equals, as `i64`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArgMax {
    /// The value to take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The value to write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// The `k` largest elements along the innermost axis, largest first, the first of equals first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopK {
    /// How many; all if the axis is shorter.
    pub k: usize,
    /// Asset that names the classes, as of [`Labels`]; adds the output `labels`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// The value to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Name of the elements found.
    #[serde(default = "scores_name")]
    pub scores: String,
    /// Name of their positions.
    #[serde(default = "indices_name")]
    pub indices: String,
    /// Name of their labels.
    #[serde(default = "labels_name")]
    pub names: String,
}

fn scores_name() -> String {
    "scores".to_owned()
}

fn indices_name() -> String {
    "indices".to_owned()
}

fn labels_name() -> String {
    "labels".to_owned()
}

/// Indices of `i64` or `i32` to labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// Asset: a label a line, or with a name that ends in `.json` an array of them; the first is
    /// that of index 0.
    pub asset: String,
    /// The value to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The value to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// Whether each `f32` element is at least `value`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// The least that counts.
    pub value: f64,
    /// The value to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The value to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// Token vectors `[batch, sequence, hidden]` to their mean `[batch, hidden]` over the tokens whose
/// mask is not 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeanPool {
    /// The graph's input that masks padding.
    #[serde(default = "mask_name")]
    pub mask: String,
    /// The value to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The value to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

fn mask_name() -> String {
    "attention_mask".to_owned()
}

/// Vectors along the innermost axis to Euclidean length 1; a vector shorter than 1e-12 is divided
/// by that instead.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct L2Normalize {
    /// The value to take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The value to write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// The values to keep, in the order that callers get them; all others are dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Names of values.
    pub outputs: Vec<String>,
}

impl PostStep {
    /// The step's key where it is declared.
    pub fn name(&self) -> &'static str {
        match self {
            PostStep::Softmax(_) => "softmax",
            PostStep::Sigmoid(_) => "sigmoid",
            PostStep::Argmax(_) => "argmax",
            PostStep::TopK(_) => "top_k",
            PostStep::Labels(_) => "labels",
            PostStep::Threshold(_) => "threshold",
            PostStep::MeanPool(_) => "mean_pool",
            PostStep::L2Normalize(_) => "l2_normalize",
            PostStep::Rename(_) => "rename",
            PostStep::Keep(_) => "keep",
        }
    }

    /// The asset that the step reads.
    pub fn asset(&self) -> Option<&str> {
        match self {
            PostStep::TopK(step) => step.labels.as_deref(),
            PostStep::Labels(step) => Some(&step.asset),
            _ => None,
        }
    }

    /// The declared `input` and `output` of a step that takes and writes one value.
    pub(super) fn ports(&self) -> (Option<&str>, Option<&str>) {
        match self {
            PostStep::Softmax(s) => (s.input.as_deref(), s.output.as_deref()),
            PostStep::Sigmoid(s) => (s.input.as_deref(), s.output.as_deref()),
            PostStep::Argmax(s) => (s.input.as_deref(), s.output.as_deref()),
            PostStep::TopK(s) => (s.input.as_deref(), None),
            PostStep::Labels(s) => (s.input.as_deref(), s.output.as_deref()),
            PostStep::Threshold(s) => (s.input.as_deref(), s.output.as_deref()),
            PostStep::MeanPool(s) => (s.input.as_deref(), s.output.as_deref()),
            PostStep::L2Normalize(s) => (s.input.as_deref(), s.output.as_deref()),
            PostStep::Rename(s) => (Some(&s.from), Some(&s.to)),
            PostStep::Keep(_) => (None, None),
        }
    }
}
