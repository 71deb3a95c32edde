//! What a package declares about its serving, as a configuration to start from.

use std::time::Duration;

use landfall_package::ServingDefaults;

use crate::ServingConfig;

impl From<&ServingDefaults> for ServingConfig {
    /// The default configuration with what the package declares in its place. Bounds of 0 rows
    /// count as 1.
    fn from(declared: &ServingDefaults) -> ServingConfig {
        let base = ServingConfig::default();
        let rows = |declared: Option<usize>, base: usize| declared.map_or(base, |n| n.max(1));
        ServingConfig {
            max_batch_rows: rows(declared.max_batch_rows, base.max_batch_rows),
            max_delay: declared.max_delay_us.map_or(base.max_delay, Duration::from_micros),
            max_request_rows: declared.max_request_rows.map(|n| n.max(1)),
            max_queue_rows: rows(declared.max_queue_rows, base.max_queue_rows),
            timeout: declared.timeout_ms.map(Duration::from_millis).or(base.timeout),
            threads: declared.threads.unwrap_or(base.threads),
            ..base
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_replaces_the_default() {
        let declared = ServingDefaults {
            max_batch_rows: Some(0),
            timeout_ms: Some(250),
            ..ServingDefaults::default()
        };
        let config = ServingConfig::from(&declared);
        assert_eq!(config.max_batch_rows, 1);
        assert_eq!(config.timeout, Some(Duration::from_millis(250)));
        assert_eq!(config.max_queue_rows, ServingConfig::default().max_queue_rows);
    }
}
