//! Work that SIGINT, SIGTERM and SIGHUP end without leaving half of it behind.

use anyhow::{Context, Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::files;

/// Does some work on a thread of its own. On a signal all unfinished files are removed and the work
/// is left to end with the process, which has to return from `main` then: a run of the model cannot
/// be stopped half way, and may take long.
pub(super) fn interruptible<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let ended = watched(work).context("cannot start threads").map_err(Failure::No)?;
    ended.unwrap_or_else(|signal| {
        let complete = files::abandon();
        let complete: Vec<String> = complete.iter().map(|p| p.display().to_string()).collect();
        let error = match complete.as_slice() {
            [] => anyhow!("interrupted; nothing written"),
            some => anyhow!("interrupted; complete are {}", some.join(", ")),
        };
        Err(Failure::Signal(error, signal))
    })
}

/// What the work returned, or the signal that came before.
fn watched<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> std::io::Result<Result<Result<T, Failure>, SignalKind>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = match is_ignored(SignalKind::hangup()) {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let (sender, done) = tokio::sync::oneshot::channel();
        let worker = move || drop(sender.send(work()));
        std::thread::Builder::new().name("command".to_owned()).spawn(worker)?;
        Ok(tokio::select! {
            done = done => Ok(done.unwrap_or_else(|_| {
                Err(Failure::No(anyhow!("the command panicked: a bug in Landfall")))
            })),
            _ = interrupt.recv() => Err(SignalKind::interrupt()),
            _ = terminate.recv() => Err(SignalKind::terminate()),
            _ = hung_up => Err(SignalKind::hangup()),
        })
    })
}

/// Whether the process was started with a signal ignored, as `nohup` does: to listen would undo it.
fn is_ignored(signal: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    ignored & (1 << (signal.as_raw_value() - 1)) != 0
}
