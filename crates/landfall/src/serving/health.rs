//! Whether the server is starting, ready or draining.

use tokio::sync::watch;

/// Where the server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Listening, with models still loading for the first time.
    Starting,
    /// Looked at all models; one that the configuration names is not in service.
    Waiting,
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

    /// All models were looked at; whether all that must be in service are. Once ready, the server
    /// stays so until it drains.
    pub fn set_looked(&self, is_complete: bool) {
        let next = if is_complete { Phase::Ready } else { Phase::Waiting };
        self.0.send_if_modified(|phase| {
            let changes = matches!(*phase, Phase::Starting | Phase::Waiting) && *phase != next;
            if changes {
                *phase = next;
            }
            changes
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
        health.set_looked(false);
        assert!(!health.is_ready());
        health.set_looked(true);
        health.set_looked(false);
        assert!(health.is_ready());
        health.set_draining();
        health.set_looked(true);
        assert!(!health.is_ready());
    }
}
