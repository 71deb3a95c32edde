//! Threads that serve sockets, each with a runtime and connections of its own.
//!
//! A work-stealing runtime wakes a second thread whenever a connection's task wakes itself, which
//! hyper does several times a request: two system calls and a migration for work of microseconds.
//! Here a connection stays on the thread it was given to, and a self-wake is one more turn of a
//! loop. The price: a long computation holds up its thread's other connections, so whatever may
//! take long (large bodies, declared steps, runs of a model) happens on other threads.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// How often a worker's timer goes off. A timer set for later than the next one costs no system
/// call, and nearly all are: deadlines of requests that end long before.
const TICK: Duration = Duration::from_secs(1);

/// The threads. Dropping them ends their connections.
pub struct Workers {
    handles: Vec<Handle>,
    next: AtomicUsize,
    _stop: watch::Sender<()>,
}

impl Workers {
    /// Starts `count` threads, one for each core if it is 0.
    pub(super) fn start(count: usize) -> io::Result<Workers> {
        let count = if count == 0 { crate::machine::cores() } else { count };
        let (stop, stopped) = watch::channel(());
        let mut handles = Vec::with_capacity(count);
        for index in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let stopped = stopped.clone();
            let name = format!("landfall-io-{index}");
            std::thread::Builder::new().name(name).spawn(move || {
                runtime.block_on(until_dropped(stopped));
                runtime.shutdown_background();
            })?;
        }
        Ok(Workers { handles, next: AtomicUsize::new(0), _stop: stop })
    }

    /// Serves a connection on the thread whose turn it is.
    pub(super) fn spawn<F>(
        &self,
        stream: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.handles.len();
        // The stream is known to the runtime that accepted it: it changes over to the worker's.
        let stream = stream.into_std();
        self.handles[index].spawn(async move {
            match stream.and_then(TcpStream::from_std) {
                Ok(stream) => serve(stream).await,
                Err(error) => tracing::warn!(%error, "cannot serve a connection"),
            }
        });
    }
}

async fn until_dropped(mut stopped: watch::Receiver<()>) {
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.changed() => return,
        }
    }
}
