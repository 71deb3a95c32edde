//! `landfall serve`: the prediction service.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use clap::builder::BoolishValueParser;
use landfall_predict::VersionStatus;
use landfall_tensor::Precision;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::arguments::{positive, precision, seconds, workers};
use crate::admin::example_request;
use crate::config::{ModelFile, ServeConfig, SingleModel, address, read_serve_file};
use crate::engine::FileKind;
use crate::loading::{OpenModel, WithPrecision};
use crate::logs::{self, LogFormat, LogLevel};
use crate::serving::{Phase, RepositoryControl, Running, start};

const EXAMPLES: &str = "\
Examples:
  landfall serve flights.onnx
      one model, named after the file, version 1
  landfall serve models/
      every models/NAME/VERSION/model.onnx (or model.landfall), following changes of the folder
  landfall serve server.yaml --http 127.0.0.1:9000
      a configuration file, with one setting replaced

A single model that cannot be loaded ends the command with 2. A folder's server is ready once
every model in it was tried, one with a configuration file once every model that the file names is
in service; the log says what keeps it from that.

A manifest.yaml beside a model.onnx gives it steps, as in a package (for other commands too); see
landfall package --help.

SIGTERM makes readiness false, finishes the requests in flight and ends with 0.";

/// Serve models over HTTP and gRPC.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServeArguments {
    /// A model file, a model repository folder, or a YAML configuration
    #[arg(env = "LANDFALL_TARGET", default_value = "models")]
    target: PathBuf,
    /// Where HTTP listens [default: 0.0.0.0:8000]
    #[arg(long, value_name = "ADDR", value_parser = address, env = "LANDFALL_HTTP")]
    http: Option<SocketAddr>,
    /// Where gRPC listens [default: 0.0.0.0:8001]
    #[arg(long, value_name = "ADDR", value_parser = address, env = "LANDFALL_GRPC")]
    grpc: Option<SocketAddr>,
    /// Where the status page, the metrics and model control listen [default: 127.0.0.1:8002]
    #[arg(long, value_name = "ADDR", value_parser = address, env = "LANDFALL_ADMIN")]
    admin: Option<SocketAddr>,
    /// Let the public listeners load and unload models too
    #[arg(
        long,
        value_parser = BoolishValueParser::new(),
        env = "LANDFALL_ALLOW_REPOSITORY_CONTROL"
    )]
    allow_repository_control: bool,
    /// Seconds between looks at the repository folder; 0 to look only once [default: 2]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, env = "LANDFALL_POLL_SECONDS")]
    poll_seconds: Option<Duration>,
    /// Map model files rather than read them: loads faster and shares memory, but a file that is
    /// overwritten in place can end the server
    #[arg(long, value_parser = BoolishValueParser::new(), env = "LANDFALL_MAP_FILES")]
    map_files: bool,
    /// The largest request in bytes, compressed and decompressed alike [default: 67108864]
    #[arg(
        long,
        value_name = "BYTES",
        value_parser = positive,
        env = "LANDFALL_MAX_BODY_BYTES"
    )]
    max_body_bytes: Option<usize>,
    /// Precision of matrix products and convolutions of every model: f32 or bf16 [default: what
    /// each model's settings or author declare, or f32]
    #[arg(long, value_name = "NAME", value_parser = precision, env = "LANDFALL_PRECISION")]
    precision: Option<Precision>,
    /// Threads that serve sockets [default: one per core]
    #[arg(long, value_name = "N", value_parser = workers, env = "LANDFALL_WORKERS")]
    workers: Option<usize>,
    /// The form of log lines
    #[arg(long, value_enum, default_value_t, env = "LANDFALL_LOG_FORMAT")]
    log_format: LogFormat,
    /// The least important log lines to write
    #[arg(long, value_enum, default_value_t, env = "LANDFALL_LOG_LEVEL")]
    log_level: LogLevel,
}

pub(super) fn run(arguments: ServeArguments, opener: Arc<dyn OpenModel>) -> Result<(), Failure> {
    let begun = Instant::now();
    logs::start(arguments.log_format, arguments.log_level);
    let config = configure(&arguments).map_err(Failure::Input)?;
    let is_model = FileKind::of(&arguments.target).is_ok() && !arguments.target.is_dir();
    let opener = Arc::new(WithPrecision { opener, precision: arguments.precision });
    serve(&config, opener, begun, is_model)
}

/// Serves until a signal comes, or if there is but one model, until that fails to load.
fn serve(
    config: &ServeConfig,
    opener: Arc<dyn OpenModel>,
    begun: Instant,
    is_model: bool,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start threads")
        .map_err(Failure::No)?;
    let drained = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let running = start(config, opener).await?;
        let failed = async {
            match announce(&running, begun, is_model).await {
                // Never ends first: it goes on to wait for a signal.
                Ok(()) => std::future::pending().await,
                Err(error) => error,
            }
        };
        // A person at a terminal has no load balancer to wait for.
        let delay = tokio::select! {
            _ = terminate.recv() => config.drain_delay,
            _ = interrupt.recv() => Duration::ZERO,
            error = failed => return Err(error),
        };
        tracing::info!("stopping: finishing the requests in flight");
        let drained = tokio::select! {
            drained = running.stop(delay) => drained.map_err(anyhow::Error::from),
            _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted with requests unfinished")),
        };
        anyhow::Ok(drained)
    });
    // Loading and unfinished runs cannot be interrupted; they end with the process.
    runtime.shutdown_background();
    drained.map_err(Failure::Input)?.map_err(Failure::No)
}

fn configure(arguments: &ServeArguments) -> anyhow::Result<ServeConfig> {
    let mut config = target_config(&arguments.target)?;
    config.http = arguments.http.unwrap_or(config.http);
    config.grpc = arguments.grpc.unwrap_or(config.grpc);
    config.admin = arguments.admin.unwrap_or(config.admin);
    config.poll = arguments.poll_seconds.unwrap_or(config.poll);
    config.workers = arguments.workers.unwrap_or(config.workers);
    let max_body_bytes = &mut config.limits.max_body_bytes;
    *max_body_bytes = arguments.max_body_bytes.unwrap_or(*max_body_bytes);
    config.map_files |= arguments.map_files;
    if arguments.allow_repository_control {
        config.repository_control = RepositoryControl::Public;
    }
    Ok(config)
}

fn target_config(target: &Path) -> anyhow::Result<ServeConfig> {
    let extension = target.extension().and_then(|extension| extension.to_str());
    if target.is_dir() {
        return Ok(ServeConfig { repository: Some(target.to_owned()), ..ServeConfig::default() });
    }
    anyhow::ensure!(
        target.exists(),
        "{}: no such file or folder; expected a model, a model repository folder or a YAML file",
        target.display()
    );
    match extension {
        Some("yaml" | "yml") => Ok(read_serve_file(target)?),
        Some("onnx" | "landfall") => {
            let stem = target.file_stem().and_then(|stem| stem.to_str()).unwrap_or("model");
            let single = SingleModel {
                name: stem.to_owned(),
                version: 1,
                path: target.to_owned(),
                settings: ModelFile::default(),
            };
            Ok(ServeConfig { models: vec![single], ..ServeConfig::default() })
        }
        _ => anyhow::bail!(
            "{}: expected a file that ends in .onnx, .landfall or .yaml, or a folder",
            target.display()
        ),
    }
}

/// Prints a line, or not if nobody reads any more: that is no reason to stop serving.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints where the server listens, and once models are loaded a line to try. Fails if the one
/// model that there is cannot be served.
async fn announce(running: &Running, begun: Instant, is_model: bool) -> anyhow::Result<()> {
    let mut phase = running.server.health.watch();
    say(format_args!("landfall {}", crate::serving::SERVER_VERSION));
    say(format_args!("  HTTP   http://{}", reachable(running.http)));
    say(format_args!("  gRPC   {}", reachable(running.grpc)));
    say(format_args!("  admin  http://{}", reachable(running.admin)));
    let looked = phase.wait_for(|phase| *phase != Phase::Starting).await.map(|phase| *phase);
    if looked.is_ok_and(|phase| phase == Phase::Waiting) {
        let missing = running.server.repository.missing();
        anyhow::ensure!(!is_model, "{}", missing.join("; "));
        missing.iter().for_each(|reason| say(format_args!("  not ready: {reason}")));
    }
    if phase.wait_for(|phase| *phase == Phase::Ready).await.is_err() {
        return Ok(());
    }
    let servables = running.server.catalog.servables();
    let seconds = begun.elapsed().as_secs_f64();
    say(format_args!("  ready  {} model versions in {seconds:.3} s", servables.len()));
    let statuses = running.server.catalog.index().into_iter();
    for VersionStatus { model, reason, .. } in statuses.filter(|status| !status.reason.is_empty()) {
        say(format_args!("  failed {model}: {reason}"));
    }
    if let Some(servable) = servables.first() {
        say(format_args!("  try    {}", example_request(servable, reachable(running.http))));
    }
    Ok(())
}

/// An address that a client on this machine can use.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    address
}
