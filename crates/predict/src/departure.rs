//! Learning when something shared is finally freed.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::lock::lock;

/// Kept inside a value; its drop is the report.
#[derive(Default)]
pub(crate) struct Gone(Departure);

/// Waits for the report.
#[derive(Clone, Default)]
pub(crate) struct Departure(Arc<(Mutex<bool>, Condvar)>);

impl Gone {
    pub(crate) fn departure(&self) -> Departure {
        self.0.clone()
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        let (gone, change) = &*self.0.0;
        *lock(gone) = true;
        change.notify_all();
    }
}

impl Departure {
    /// Whether it is freed.
    pub(crate) fn is_over(&self) -> bool {
        *lock(&self.0.0)
    }

    /// Waits until it is freed; false if `limit` passed first.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let (gone, change) = &*self.0;
        let waited = change.wait_timeout_while(lock(gone), limit, |gone| !*gone);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}
