//! The program itself, as a process under limits of the operating system.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_landfall");

/// A file of the repository.
pub(crate) fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(path)
}

/// `landfall serve`, killed when dropped.
pub(crate) struct Served {
    child: Child,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Served {
    /// Serves `target` to somebody who closes standard error at once.
    pub(crate) fn deaf(target: &Path) -> Served {
        Served::launch("true", target, "ready", false)
    }

    /// Serves `target`, which does not get ready.
    pub(crate) fn unready(target: &Path) -> Served {
        Served::launch("true", target, "admin", true)
    }

    /// Serves `target` after a line of shell that sets limits.
    pub(crate) fn start(limits: &str, target: &Path) -> Served {
        Served::launch(limits, target, "ready", true)
    }

    /// Waits for the line that begins with `last`.
    fn launch(limits: &str, target: &Path, last: &str, listens: bool) -> Served {
        let script = format!(
            "{limits}; exec \"$0\" serve \"$1\" --http 127.0.0.1:0 --grpc 127.0.0.1:0 \
             --admin 127.0.0.1:0 --poll-seconds 0.1"
        );
        let mut child = Command::new("sh")
            .args(["-c", &script, BINARY])
            .arg(target)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().filter(|_| listens);
        let log = stderr.map(collect).unwrap_or_default();
        let mut addresses = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some((_, address)) = line.rsplit_once([' ', '/']) {
                addresses.extend(address.parse::<SocketAddr>());
            }
            // Closes the pipe while the server still has lines to say.
            if line.trim_start().starts_with(last) {
                break;
            }
        }
        let found = log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let &[http, grpc, _admin, ..] = addresses.as_slice() else {
            panic!("it did not get ready: {addresses:?} {found}")
        };
        Served { child, http, grpc, log }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The log, which outlives the process.
    pub(crate) fn log_handle(&self) -> Arc<Mutex<String>> {
        Arc::clone(&self.log)
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(stderr: std::process::ChildStderr) -> Arc<Mutex<String>> {
    let log = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&log);
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut log = into.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&line);
            log.push('\n');
        }
    });
    log
}

/// Runs the program under limits to its end.
pub(crate) fn run(limits: &str, arguments: &[&std::ffi::OsStr]) -> std::process::Output {
    let script = format!("{limits}; exec \"$0\" \"$@\"");
    Command::new("sh").args(["-c", &script, BINARY]).args(arguments).output().unwrap()
}
