//! A model's configuration in the words of the model configuration extension.

use landfall_graph::{DimSpec, TensorSpec};
use landfall_predict::{Catalog, Servable, VersionPolicy};
use landfall_protocol::inference::{
    DataType, ModelConfig, ModelDynamicBatching, ModelInput, ModelInstanceGroup, ModelOutput,
    ModelQueuePolicy, ModelResponseCache, ModelTransactionPolicy, ModelVersionPolicy,
    model_config::SchedulingChoice, model_instance_group, model_version_policy,
};
use landfall_tensor::DType;
use serde_json::{Value, json};

/// Extents as the protocol writes them: -1 for a free axis; the batch axis is included.
pub fn metadata_shape(spec: &TensorSpec) -> Vec<i64> {
    let dims = spec.dims.as_deref().unwrap_or(&[]);
    dims.iter()
        .map(|dim| match dim {
            DimSpec::Known(extent) => i64::try_from(*extent).unwrap_or(i64::MAX),
            DimSpec::Symbol(_) => -1,
        })
        .collect()
}

fn data_type(dtype: DType) -> DataType {
    match dtype {
        DType::Bool => DataType::TypeBool,
        DType::U8 => DataType::TypeUint8,
        DType::U16 => DataType::TypeUint16,
        DType::U32 => DataType::TypeUint32,
        DType::U64 => DataType::TypeUint64,
        DType::I8 => DataType::TypeInt8,
        DType::I16 => DataType::TypeInt16,
        DType::I32 => DataType::TypeInt32,
        DType::I64 => DataType::TypeInt64,
        DType::F16 => DataType::TypeFp16,
        DType::F32 => DataType::TypeFp32,
        DType::F64 => DataType::TypeFp64,
        DType::BF16 => DataType::TypeBf16,
        DType::String | DType::Bytes => DataType::TypeString,
        _ => DataType::TypeInvalid,
    }
}

fn version_policy(policy: &VersionPolicy) -> model_version_policy::PolicyChoice {
    use model_version_policy::{All, Latest, PolicyChoice, Specific};
    match policy {
        VersionPolicy::Latest(count) => {
            let num_versions = u32::try_from(*count).unwrap_or(u32::MAX);
            PolicyChoice::Latest(Latest { num_versions })
        }
        VersionPolicy::All => PolicyChoice::All(All {}),
        VersionPolicy::Specific(versions) => {
            let number = |&version: &u64| i64::try_from(version).unwrap_or(i64::MAX);
            PolicyChoice::Specific(Specific { versions: versions.iter().map(number).collect() })
        }
    }
}

/// The configuration of a version in service. With batching, the batch axis is left out of `dims`.
pub fn config_message(catalog: &Catalog, servable: &Servable) -> ModelConfig {
    let config = servable.config();
    let batching = servable.is_batching();
    let max_rows = config.max_request_rows.unwrap_or(config.max_batch_rows);
    let dims = |spec: &TensorSpec| metadata_shape(spec)[usize::from(batching)..].to_vec();
    let signature = servable.signature();
    let settings = catalog.settings(servable.name()).unwrap_or_default();
    ModelConfig {
        name: servable.name().to_string(),
        platform: servable.platform().to_owned(),
        backend: "landfall".to_owned(),
        version_policy: Some(ModelVersionPolicy {
            policy_choice: Some(version_policy(&settings.versions)),
        }),
        max_batch_size: if batching { i32::try_from(max_rows).unwrap_or(i32::MAX) } else { 0 },
        input: signature
            .inputs
            .iter()
            .map(|spec| ModelInput {
                name: spec.name.clone(),
                data_type: data_type(spec.dtype).into(),
                dims: dims(spec),
            })
            .collect(),
        output: signature
            .outputs
            .iter()
            .map(|spec| ModelOutput {
                name: spec.name.clone(),
                data_type: data_type(spec.dtype).into(),
                dims: dims(spec),
            })
            .collect(),
        instance_group: vec![ModelInstanceGroup {
            name: format!("{}_0", servable.name()),
            count: i32::try_from(config.instances).unwrap_or(i32::MAX),
            kind: model_instance_group::Kind::Cpu.into(),
        }],
        scheduling_choice: batching
            .then(|| SchedulingChoice::DynamicBatching(batching_of(servable))),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
        response_cache: Some(ModelResponseCache { enable: false }),
        ..ModelConfig::default()
    }
}

fn batching_of(servable: &Servable) -> ModelDynamicBatching {
    let config = servable.config();
    let micros = |d: std::time::Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    ModelDynamicBatching {
        preferred_batch_size: vec![],
        max_queue_delay_microseconds: micros(config.max_delay),
        preserve_ordering: false,
        priority_levels: config.priority_levels.into(),
        default_priority_level: config.default_priority.into(),
        default_queue_policy: Some(ModelQueuePolicy {
            default_timeout_microseconds: config.timeout.map_or(0, micros),
            allow_timeout_override: true,
            max_queue_size: u32::try_from(config.max_queue_requests).unwrap_or(u32::MAX),
            ..ModelQueuePolicy::default()
        }),
    }
}

fn policy_json(config: &ModelConfig) -> Value {
    use model_version_policy::PolicyChoice;
    match config.version_policy.as_ref().and_then(|policy| policy.policy_choice.as_ref()) {
        Some(PolicyChoice::Latest(latest)) => {
            json!({"latest": {"num_versions": latest.num_versions}})
        }
        Some(PolicyChoice::All(_)) => json!({"all": {}}),
        Some(PolicyChoice::Specific(specific)) => {
            json!({"specific": {"versions": specific.versions}})
        }
        None => json!({}),
    }
}

/// The same as JSON, with the field names of the message.
pub fn config_json(config: &ModelConfig) -> Value {
    let type_name = |value: i32| DataType::try_from(value).unwrap_or_default().as_str_name();
    let mut json = json!({
        "name": config.name,
        "platform": config.platform,
        "backend": config.backend,
        "version_policy": policy_json(config),
        "max_batch_size": config.max_batch_size,
        "input": config.input.iter().map(|i| json!({
            "name": i.name, "data_type": type_name(i.data_type), "dims": i.dims,
        })).collect::<Vec<_>>(),
        "output": config.output.iter().map(|o| json!({
            "name": o.name, "data_type": type_name(o.data_type), "dims": o.dims,
        })).collect::<Vec<_>>(),
        "instance_group": config.instance_group.iter().map(|g| json!({
            "name": g.name, "kind": "KIND_CPU", "count": g.count,
        })).collect::<Vec<_>>(),
        "model_transaction_policy": {"decoupled": false},
        "response_cache": {"enable": false},
    });
    if let Some(SchedulingChoice::DynamicBatching(batching)) = &config.scheduling_choice {
        let policy = batching.default_queue_policy.unwrap_or_default();
        json["dynamic_batching"] = json!({
            "preferred_batch_size": batching.preferred_batch_size,
            "max_queue_delay_microseconds": batching.max_queue_delay_microseconds,
            "priority_levels": batching.priority_levels,
            "default_priority_level": batching.default_priority_level,
            "default_queue_policy": {
                "default_timeout_microseconds": policy.default_timeout_microseconds,
                "allow_timeout_override": policy.allow_timeout_override,
                "max_queue_size": policy.max_queue_size,
            },
        });
    }
    json
}
