//! What runs and the process took.

use std::time::Duration;

use serde::Serialize;

/// Milliseconds of one run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(in crate::commands) struct Latency {
    pub(in crate::commands) p50: f64,
    pub(in crate::commands) p90: f64,
    pub(in crate::commands) p99: f64,
    pub(in crate::commands) min: f64,
}

impl Latency {
    /// The percentiles of some times; zeros if there are none.
    pub(in crate::commands) fn of(times: Vec<Duration>) -> Latency {
        let mut times_ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        times_ms.sort_by(f64::total_cmp);
        let at = |fraction| percentile(&times_ms, fraction);
        Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), min: at(0.0) }
    }
}

/// The value that `fraction` of the sorted values do not exceed, interpolated linearly: method 7 of
/// Hyndman and Fan, "Sample Quantiles in Statistical Packages", which NumPy uses too.
fn percentile(sorted: &[f64], fraction: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let position = fraction * last as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    let weight = position - below as f64;
    sorted[below] * (1.0 - weight) + sorted[above.min(last)] * weight
}

/// The most memory that this process has had at one time, if the system tells.
pub(super) fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate() {
        let times = [4, 1, 3, 2, 5].map(Duration::from_millis).to_vec();
        let latency = Latency::of(times);
        assert_eq!((latency.min, latency.p50), (1.0, 3.0));
        assert!((latency.p90 - 4.6).abs() < 1e-9 && (latency.p99 - 4.96).abs() < 1e-9);
        assert_eq!(Latency::of(vec![]).p50, 0.0);
    }
}
