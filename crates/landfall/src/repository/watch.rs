//! The thread that keeps the catalog in line with the repository.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::repository::Repository;

/// Time to the next look while some version's files still change.
const EARLY_LOOK: Duration = Duration::from_millis(200);
/// Files that never stand still do not keep the server from its other models.
const MAX_EARLY_LOOKS: u32 = 25;

/// Looks at the repository again and again; stops when dropped.
pub struct Watcher {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts with a first look and goes on every `poll` (never, if that is zero). Calls `looked`
    /// after every look that found nothing that still changes.
    pub fn start(
        repository: Arc<Repository>,
        poll: Duration,
        looked: impl Fn() + Send + 'static,
    ) -> std::io::Result<Watcher> {
        let (stop, stopped) = sync_channel::<()>(0);
        let thread =
            std::thread::Builder::new().name("repository".to_owned()).spawn(move || {
                let mut early_looks = 0;
                loop {
                    let settling = look(&repository) && early_looks < MAX_EARLY_LOOKS;
                    early_looks = if settling { early_looks + 1 } else { 0 };
                    if !settling {
                        looked();
                    }
                    if poll.is_zero() && !settling {
                        break;
                    }
                    let wait = if settling { EARLY_LOOK } else { poll };
                    match stopped.recv_timeout(wait) {
                        Err(RecvTimeoutError::Timeout) => {}
                        Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
            })?;
        Ok(Watcher { stop: Some(stop), thread: Some(thread) })
    }

    /// Stops looking. A look in progress, which may be loading a model, is not waited for.
    pub fn stop(&mut self) {
        self.stop.take();
        self.thread.take();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.take();
    }
}

fn look(repository: &Repository) -> bool {
    // The repository has logged what kept it from looking.
    repository.reconcile().unwrap_or(false)
}
