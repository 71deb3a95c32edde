//! The report on standard output, with the keys of `landfall bench --json`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What was measured of one model.
pub(crate) struct Measured {
    pub(crate) batch: usize,
    pub(crate) threads: usize,
    pub(crate) load: Duration,
    pub(crate) times: Vec<Duration>,
}

/// The report as one JSON object.
pub(crate) fn json(model: &Path, measured: Measured) -> Result<Value> {
    let mut times_ms: Vec<f64> =
        measured.times.iter().map(|time| 1e3 * time.as_secs_f64()).collect();
    times_ms.sort_by(f64::total_cmp);
    let p50 = percentile(&times_ms, 0.5);
    Ok(json!({
        "model": model.display().to_string(),
        "batch": measured.batch,
        "threads": measured.threads,
        "precision": "f32",
        "iterations": times_ms.len(),
        "load_ms": 1e3 * measured.load.as_secs_f64(),
        "latency_ms": {
            "p50": p50,
            "p90": percentile(&times_ms, 0.9),
            "p99": percentile(&times_ms, 0.99),
            "min": times_ms[0],
        },
        "throughput_per_s": measured.batch as f64 / p50 * 1e3,
        "peak_rss_bytes": peak_rss_bytes()?,
    }))
}

/// The value that `fraction` of the sorted, non-empty values do not exceed, interpolated linearly.
fn percentile(sorted: &[f64], fraction: f64) -> f64 {
    let position = fraction * (sorted.len() - 1) as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    let weight = position - below as f64;
    sorted[below] * (1.0 - weight) + sorted[above] * weight
}

/// The most memory that this process has had at one time.
fn peak_rss_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading own memory use")?;
    let kibibytes: Option<u64> = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse().ok());
    Ok(1024 * kibibytes.context("no VmHWM in /proc/self/status")?)
}
