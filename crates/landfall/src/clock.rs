//! The machine's clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use landfall_predict::Clock;

/// Monotonic time since this value was made.
#[derive(Debug, Clone, Copy)]
pub struct MachineClock(Instant);

impl MachineClock {
    /// A clock that starts at zero now.
    pub fn start() -> MachineClock {
        MachineClock(Instant::now())
    }
}

impl Clock for MachineClock {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Milliseconds since the Unix epoch; 0 if the machine's clock stands before it.
pub fn epoch_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
