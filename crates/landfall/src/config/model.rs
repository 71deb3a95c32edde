//! `model.yaml`: how the versions of one model are served.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use landfall_graph::{DimSpec, Signature};
use landfall_package::steps::{PostStep, PreStep};
use landfall_package::{PrecisionName, ServingDefaults};
use landfall_predict::{
    Batching, ModelSettings, PaddedInput, PaddedOutput, Padding, Request, ServingConfig,
    VersionPolicy,
};
use landfall_tensor::{Precision, Shape, Tensor};
use serde::Deserialize;

use super::MAX_THREADS;
use super::file::{ConfigError, read_yaml};
use crate::machine::default_run_memory;
use crate::sample;

/// The file as written. Every field is optional; unknown ones are errors.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    versions: Option<Versions>,
    #[serde(default)]
    labels: BTreeMap<String, u64>,
    batching: Option<BatchingName>,
    max_batch_rows: Option<usize>,
    max_delay_us: Option<u64>,
    max_request_rows: Option<usize>,
    max_queue_requests: Option<usize>,
    max_queue_rows: Option<usize>,
    timeout_ms: Option<u64>,
    instances: Option<usize>,
    threads: Option<usize>,
    pub(crate) precision: Option<PrecisionName>,
    priority_levels: Option<u32>,
    default_priority: Option<u32>,
    inline_limit_us: Option<u64>,
    run_memory_bytes: Option<usize>,
    max_reply_bytes: Option<usize>,
    padding: Option<PaddingFile>,
    #[serde(default)]
    warm_up: Vec<WarmUp>,
    /// Steps of a bare `.onnx` file; a package brings its own.
    #[serde(default)]
    pub(crate) preprocess: Vec<PreStep>,
    #[serde(default)]
    pub(crate) postprocess: Vec<PostStep>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Versions {
    All,
    Latest(usize),
    Specific(Vec<u64>),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum BatchingName {
    Auto,
    Required,
    Off,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct PaddingFile {
    inputs: Vec<PaddedInputFile>,
    #[serde(default)]
    outputs: Vec<PaddedOutputFile>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct PaddedInputFile {
    input: String,
    axis: usize,
    #[serde(default)]
    value: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct PaddedOutputFile {
    output: String,
    axis: usize,
    like: String,
}

/// A request of zeros (and empty text) that is run before a version becomes ready.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUp {
    /// Extent of free leading axes.
    #[serde(default = "one")]
    rows: usize,
    /// Extents of other free axes by name; 1 for those not named.
    #[serde(default)]
    dims: BTreeMap<String, usize>,
}

fn one() -> usize {
    1
}

/// Reads a `model.yaml`; the defaults if there is none.
pub fn read_model_file(path: &Path) -> Result<ModelFile, ConfigError> {
    if path.exists() { read_yaml(path) } else { Ok(ModelFile::default()) }
}

impl ModelFile {
    /// The defaults, but for the threads of a run.
    pub fn with_threads(threads: usize) -> ModelFile {
        ModelFile { threads: Some(threads), ..ModelFile::default() }
    }

    /// The same with a precision that wins over the file's, if one is given.
    pub fn with_precision(&self, precision: Option<Precision>) -> ModelFile {
        let precision = precision.map(PrecisionName).or(self.precision);
        ModelFile { precision, ..self.clone() }
    }

    /// Working memory that one run may use.
    pub fn run_memory_bytes(&self) -> usize {
        self.run_memory_bytes.unwrap_or_else(default_run_memory)
    }

    /// Which versions to serve, under which labels.
    pub fn settings(&self) -> ModelSettings {
        ModelSettings {
            versions: match &self.versions {
                None => VersionPolicy::Latest(1),
                Some(Versions::All) => VersionPolicy::All,
                Some(Versions::Latest(count)) => VersionPolicy::Latest(*count),
                Some(Versions::Specific(versions)) => VersionPolicy::Specific(versions.clone()),
            },
            labels: self.labels.clone(),
        }
    }

    /// How to serve a version that declares nothing itself, without its warm-up, which needs the
    /// signature.
    pub fn serving(&self) -> Result<ServingConfig, String> {
        self.serving_over(&ServingDefaults::default())
    }

    /// How to serve a version: what this file says, then what the version declares.
    pub fn serving_over(&self, declared: &ServingDefaults) -> Result<ServingConfig, String> {
        self.check_versions()?;
        let mut config = ServingConfig::from(declared);
        let at_least_one = |field: &str, value: Option<usize>, target: &mut usize| match value {
            Some(0) => Err(format!("{field}: expected 1 or more, found 0")),
            Some(value) => {
                *target = value;
                Ok(())
            }
            None => Ok(()),
        };
        at_least_one("max_batch_rows", self.max_batch_rows, &mut config.max_batch_rows)?;
        at_least_one(
            "max_queue_requests",
            self.max_queue_requests,
            &mut config.max_queue_requests,
        )?;
        at_least_one("max_queue_rows", self.max_queue_rows, &mut config.max_queue_rows)?;
        at_least_one("instances", self.instances, &mut config.instances)?;
        config.max_request_rows = self.max_request_rows.or(config.max_request_rows);
        at_least_one("max_reply_bytes", self.max_reply_bytes, &mut config.max_reply_bytes)?;
        if self.run_memory_bytes == Some(0) {
            return Err("run_memory_bytes: expected 1 or more, found 0".to_owned());
        }
        if self.max_request_rows == Some(0) {
            return Err("max_request_rows: expected 1 or more, found 0".to_owned());
        }
        if self.priority_levels == Some(0) {
            return Err("priority_levels: expected 1 or more, found 0".to_owned());
        }
        for (field, value) in [("instances", self.instances), ("threads", self.threads)] {
            if let Some(value) = value.filter(|&value| value > MAX_THREADS) {
                return Err(format!("{field}: expected at most {MAX_THREADS}, found {value}"));
            }
        }
        config.batching = match self.batching {
            None | Some(BatchingName::Auto) => Batching::Auto,
            Some(BatchingName::Required) => Batching::Required,
            Some(BatchingName::Off) => Batching::Off,
        };
        config.max_delay = self.max_delay_us.map_or(config.max_delay, Duration::from_micros);
        config.inline_limit =
            self.inline_limit_us.map_or(config.inline_limit, Duration::from_micros);
        config.timeout = self.timeout_ms.map(Duration::from_millis).or(config.timeout);
        config.threads = self.threads.unwrap_or(config.threads);
        config.priority_levels = self.priority_levels.unwrap_or(config.priority_levels);
        config.default_priority =
            self.default_priority.unwrap_or(config.default_priority.min(config.priority_levels));
        if config.default_priority == 0 || config.default_priority > config.priority_levels {
            return Err(format!(
                "default_priority: expected 1 to {}, found {}",
                config.priority_levels, config.default_priority
            ));
        }
        config.padding = self.padding.as_ref().map(PaddingFile::padding);
        Ok(config)
    }

    /// A policy that can never serve anything is a mistake.
    fn check_versions(&self) -> Result<(), String> {
        match &self.versions {
            Some(Versions::Latest(0)) => {
                Err("versions: latest: expected 1 or more, found 0".to_owned())
            }
            Some(Versions::Specific(versions)) if versions.is_empty() || versions.contains(&0) => {
                Err("versions: specific: expected one or more positive numbers".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The declared warm-up requests for a model of that signature.
    pub fn warm_up(&self, signature: &Signature) -> Result<Vec<Request>, String> {
        let limit = self.run_memory_bytes();
        let request = |warm_up: &WarmUp| warm_up.request(signature, limit);
        self.warm_up
            .iter()
            .map(request)
            .map(|made| made.map_err(|e| format!("warm_up: {e}")))
            .collect()
    }
}

impl PaddingFile {
    fn padding(&self) -> Padding {
        let input = |p: &PaddedInputFile| PaddedInput {
            input: p.input.clone(),
            axis: p.axis,
            value: p.value,
        };
        let output = |p: &PaddedOutputFile| PaddedOutput {
            output: p.output.clone(),
            axis: p.axis,
            like: p.like.clone(),
        };
        Padding {
            inputs: self.inputs.iter().map(input).collect(),
            outputs: self.outputs.iter().map(output).collect(),
        }
    }
}

impl WarmUp {
    fn request(&self, signature: &Signature, limit: usize) -> Result<Request, String> {
        if self.rows == 0 {
            return Err("rows: expected 1 or more, found 0".to_owned());
        }
        sample::check_names(self.dims.keys(), signature).map_err(|e| format!("dims: {e}"))?;
        let mut request = Request::default();
        for spec in &signature.inputs {
            let dims = spec.dims.as_deref().unwrap_or(&[]);
            let extent = |(axis, dim): (usize, &DimSpec)| match dim {
                DimSpec::Known(extent) => *extent,
                DimSpec::Symbol(_) if axis == 0 => self.rows,
                DimSpec::Symbol(name) => self.dims.get(name).copied().unwrap_or(1),
            };
            let shape: Shape = dims.iter().enumerate().map(extent).collect();
            sample::check_size(spec, &shape, limit).map_err(|e| e.to_string())?;
            let zeros = Tensor::zeros(spec.dtype, shape)
                .map_err(|e| format!("input '{}': {e}", spec.name))?;
            request.inputs.push((spec.name.clone(), zeros));
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use landfall_graph::TensorSpec;
    use landfall_tensor::DType;

    use super::*;

    fn parse(text: &str) -> ModelFile {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn version_policies_have_three_forms() {
        assert_eq!(parse("{}").settings().versions, VersionPolicy::Latest(1));
        assert_eq!(parse("versions: all").settings().versions, VersionPolicy::All);
        assert_eq!(parse("versions: {latest: 2}").settings().versions, VersionPolicy::Latest(2));
        let specific = parse("versions: {specific: [1, 3]}\nlabels: {stable: 1}").settings();
        assert_eq!(specific.versions, VersionPolicy::Specific(vec![1, 3]));
        assert_eq!(specific.labels["stable"], 1);
    }

    #[test]
    fn what_the_file_says_wins_over_what_a_version_declares() {
        let declared = ServingDefaults {
            max_batch_rows: Some(8),
            max_queue_rows: Some(9),
            timeout_ms: Some(250),
            ..ServingDefaults::default()
        };
        let default = ServingConfig::default().max_batch_rows;
        let config = parse(&format!("max_batch_rows: {default}")).serving_over(&declared).unwrap();
        assert_eq!((config.max_batch_rows, config.max_queue_rows), (default, 9));
        assert_eq!(config.timeout, Some(Duration::from_millis(250)));
    }

    #[test]
    fn impossible_values_are_refused() {
        for text in [
            "instances: 0",
            "instances: 1025",
            "threads: 100000",
            "max_batch_rows: 0",
            "max_request_rows: 0",
            "run_memory_bytes: 0",
            "max_reply_bytes: 0",
            "priority_levels: 0",
            "default_priority: 9",
            "versions: {latest: 0}",
            "versions: {specific: []}",
            "versions: {specific: [0]}",
        ] {
            assert!(parse(text).serving().is_err(), "{text}");
        }
        for text in ["instancs: 1", "precision: auto", "precision: fp16"] {
            assert!(serde_saphyr::from_str::<ModelFile>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn warm_up_fills_free_axes() {
        let symbol = |name: &str| DimSpec::Symbol(name.into());
        let dims = Some(vec![symbol("batch"), symbol("length"), DimSpec::Known(3)]);
        let spec = TensorSpec { name: "x".into(), dtype: DType::F32, dims };
        let signature = Signature { inputs: vec![spec], outputs: vec![] };
        let requests = |text: &str| parse(text).warm_up(&signature);
        let made = requests("warm_up: [{rows: 2, dims: {length: 5}}]").unwrap();
        assert_eq!(made[0].inputs[0].1.shape().to_vec(), [2, 5, 3]);
        for (text, expected) in [
            ("warm_up: [{rows: 0}]", "warm_up: rows: expected 1 or more, found 0"),
            (
                "warm_up: [{dims: {lenght: 5}}]",
                "warm_up: dims: no input has a free axis 'lenght'; free are batch, length",
            ),
            (
                "{warm_up: [{rows: 100}], run_memory_bytes: 1000}",
                "warm_up: input 'x' of shape [100,1,3] exceeds the limit of 1000 bytes",
            ),
        ] {
            let error = requests(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
