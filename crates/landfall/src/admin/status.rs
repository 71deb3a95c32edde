//! What the status page shows, as JSON.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use landfall_predict::{BUCKETS_S, HistogramSnapshot, VersionStatus};
use serde_json::{Value, json};

use crate::clock::epoch_ms;
use crate::http::json_reply;
use crate::serving::{SERVER_VERSION, Server};

pub(super) async fn status(State(server): State<Arc<Server>>) -> Response {
    let servables = server.catalog.servables();
    let now = epoch_ms();
    let model = |status: VersionStatus| {
        let found = servables
            .iter()
            .find(|s| **s.name() == *status.model && Some(s.version()) == status.version);
        let statistics = found.map(|servable| {
            let s = servable.statistics(now);
            json!({
                "requests": s.success.count,
                "failed": s.fail.count,
                "rows": s.inference_count,
                "runs": s.execution_count,
                "queued": s.queued_requests,
                "p50_ms": quantile_ms(&s.total_seconds, 0.5),
                "p99_ms": quantile_ms(&s.total_seconds, 0.99),
            })
        });
        json!({
            "model": status.model,
            "version": status.version,
            "state": status.state.name(),
            "reason": status.reason,
            "statistics": statistics,
        })
    };
    let models: Vec<Value> = server.catalog.index().into_iter().map(model).collect();
    json_reply(&json!({
        "server": SERVER_VERSION, "ready": server.health.is_ready(), "models": models,
    }))
}

/// The upper bound in milliseconds of the bucket that holds a quantile; `None` if there is no
/// observation, or the quantile lies above all bounds.
fn quantile_ms(histogram: &HistogramSnapshot, quantile: f64) -> Option<f64> {
    let rank = (histogram.count as f64 * quantile).ceil() as u64;
    let bucket = histogram.cumulative.iter().position(|&count| count >= rank.max(1))?;
    BUCKETS_S.get(bucket).map(|bound| bound * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let histogram = HistogramSnapshot { cumulative: vec![0, 9, 10], count: 11, sum_s: 0.0 };
        assert_eq!(quantile_ms(&histogram, 0.5), Some(25e-3));
        assert_eq!(quantile_ms(&histogram, 0.9), Some(50e-3));
        assert_eq!(quantile_ms(&histogram, 1.0), None);
        assert_eq!(quantile_ms(&HistogramSnapshot::default(), 0.5), None);
    }
}
