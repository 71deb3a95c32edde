//! Model statistics in the words of the statistics extension.

use landfall_predict::{DurationCount, Servable};
use landfall_protocol::inference::{
    InferBatchStatistics, InferStatistics, ModelStatistics, StatisticDuration,
};
use serde_json::{Value, json};

use crate::clock::epoch_ms;

/// One message per servable.
pub fn statistics_messages<'s>(
    servables: impl IntoIterator<Item = &'s Servable>,
) -> Vec<ModelStatistics> {
    let now = epoch_ms();
    servables.into_iter().map(|servable| message(servable, now)).collect()
}

fn duration(count: DurationCount) -> Option<StatisticDuration> {
    Some(StatisticDuration { count: count.count, ns: count.ns })
}

fn message(servable: &Servable, now_ms: u64) -> ModelStatistics {
    let s = servable.statistics(now_ms);
    ModelStatistics {
        name: s.name,
        version: s.version.to_string(),
        last_inference: s.last_inference_ms,
        inference_count: s.inference_count,
        execution_count: s.execution_count,
        inference_stats: Some(InferStatistics {
            success: duration(s.success),
            fail: duration(s.fail),
            queue: duration(s.queue),
            compute_input: duration(s.compute_input),
            compute_infer: duration(s.compute_infer),
            compute_output: duration(s.compute_output),
            cache_hit: duration(s.cache_hit),
            cache_miss: duration(s.cache_miss),
        }),
        batch_stats: s
            .batch_stats
            .iter()
            .map(|batch| InferBatchStatistics {
                batch_size: batch.batch_size,
                compute_input: duration(batch.compute_input),
                compute_infer: duration(batch.compute_infer),
                compute_output: duration(batch.compute_output),
            })
            .collect(),
        ..ModelStatistics::default()
    }
}

/// The same as JSON.
pub fn statistics_json(messages: &[ModelStatistics]) -> Value {
    let duration = |d: &Option<StatisticDuration>| {
        let d = d.unwrap_or_default();
        json!({"count": d.count, "ns": d.ns})
    };
    let model = |s: &ModelStatistics| {
        let stats = s.inference_stats.unwrap_or_default();
        json!({
            "name": s.name,
            "version": s.version,
            "last_inference": s.last_inference,
            "inference_count": s.inference_count,
            "execution_count": s.execution_count,
            "inference_stats": {
                "success": duration(&stats.success),
                "fail": duration(&stats.fail),
                "queue": duration(&stats.queue),
                "compute_input": duration(&stats.compute_input),
                "compute_infer": duration(&stats.compute_infer),
                "compute_output": duration(&stats.compute_output),
                "cache_hit": duration(&stats.cache_hit),
                "cache_miss": duration(&stats.cache_miss),
            },
            "response_stats": {},
            "batch_stats": s.batch_stats.iter().map(|b| json!({
                "batch_size": b.batch_size,
                "compute_input": duration(&b.compute_input),
                "compute_infer": duration(&b.compute_infer),
                "compute_output": duration(&b.compute_output),
            })).collect::<Vec<_>>(),
            "memory_usage": [],
        })
    };
    json!({"model_stats": messages.iter().map(model).collect::<Vec<_>>()})
}
