//! Log lines on standard error, as text or JSON.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line, for collectors.
    Json,
}

/// The least important lines to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogLevel {
    /// Faults only.
    Error,
    /// And what may become one.
    Warn,
    /// And models coming and going.
    #[default]
    Info,
    /// And every request.
    Debug,
    /// And everything else, the libraries' lines too.
    Trace,
}

/// Of this project's crates, whose names begin with it.
const OWN: &str = "landfall";

/// Starts to write log lines of this process. Later calls change nothing.
pub fn start(format: LogFormat, level: LogLevel) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // They would be printed to the same place, which panics if nobody reads it any more.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(targets(level));
    // An error means that lines are being written already.
    let _ = match format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
}

/// What the libraries below say of their frames and buffers would bury the requests.
fn targets(level: LogLevel) -> Targets {
    let (own, others) = match level {
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::INFO),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::TRACE),
    };
    Targets::new().with_target(OWN, own).with_default(others)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn libraries_are_heard_at_trace_alone() {
        let debug = targets(LogLevel::Debug);
        assert!(debug.would_enable("landfall::http::service", &Level::DEBUG));
        assert!(debug.would_enable("landfall_predict", &Level::DEBUG));
        assert!(!debug.would_enable("landfall", &Level::TRACE));
        assert!(!debug.would_enable("h2::codec", &Level::DEBUG));
        assert!(debug.would_enable("h2::codec", &Level::INFO));
        assert!(targets(LogLevel::Trace).would_enable("h2::codec", &Level::TRACE));
        assert!(!targets(LogLevel::Warn).would_enable("landfall", &Level::INFO));
    }
}
