//! Whether the server is starting, ready or draining.

use tokio::sync::watch;

/// Where the server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Listening, with models still loading for the first time.
    Starting,
    /// Taking requests.
    Ready,
    /// Finishing what it has; load balancers should look elsewhere.
    Draining,
    /// The listeners are closed: what goes on without end is ended.
    Stopping,
}

/// The server's phase, which can be watched.
#[derive(Debug)]
pub struct Health(watch::Sender<Phase>);

impl Default for Health {
    fn default() -> Health {
        Health(watch::channel(Phase::Starting).0)
    }
}

impl Health {
    /// Whether new requests are welcome.
    pub fn is_ready(&self) -> bool {
        *self.0.borrow() == Phase::Ready
    }

    /// Models were loaded for the first time. Does not end draining.
    pub fn set_ready(&self) {
        self.0.send_if_modified(|phase| {
            let starting = *phase == Phase::Starting;
            if starting {
                *phase = Phase::Ready;
            }
            starting
        });
    }

    /// The server is about to stop.
    pub fn set_draining(&self) {
        self.0.send_replace(Phase::Draining);
    }

    /// The listeners are closed.
    pub fn set_stopping(&self) {
        self.0.send_replace(Phase::Stopping);
    }

    /// Sees every later change.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draining_is_final() {
        let health = Health::default();
        assert!(!health.is_ready());
        health.set_ready();
        assert!(health.is_ready());
        health.set_draining();
        health.set_ready();
        assert!(!health.is_ready());
    }
}
