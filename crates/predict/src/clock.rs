//! Monotonic time as an argument.

use std::time::Duration;

/// A monotonic clock. The binary supplies the machine's, tests a manual one.
pub trait Clock: Send + Sync {
    /// Nanoseconds since some fixed moment; never runs backwards.
    fn now_ns(&self) -> u64;
}

/// `duration` in whole nanoseconds, saturating at about 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The time from `start_ns` to `end_ns`; zero if that lies backwards.
pub(crate) fn between(start_ns: u64, end_ns: u64) -> Duration {
    Duration::from_nanos(end_ns.saturating_sub(start_ns))
}
