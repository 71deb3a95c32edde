//! `landfall demo`: a real example end to end, on what this binary carries.

mod flights;
mod quality;
mod replay;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use super::Failure;
use super::arguments::seconds;
use super::output::print;
use crate::admin::example_request;
use crate::config::{ModelFile, ServeConfig, SingleModel, address};
use crate::loading::EmbeddedModel;
use crate::logs::{self, LogFormat, LogLevel};
use crate::serving::{Phase, Running, start};
use flights::Flights;
use quality::Quality;
use replay::{Pace, Replayed};

const EXAMPLES: &str = "\
Examples:
  landfall demo
      serves a model of late arrivals, replays flights of 2013 against it, prints how good it was
  landfall demo --keep-serving --http 127.0.0.1:8000
      and goes on serving, to be tried with curl";

/// Connections that the traffic comes over.
const CONNECTIONS: usize = 4;
/// Requests a second that `--rate` may ask for.
const MAX_RATE: f64 = 1e5;

/// Serve a real model and replay real traffic, with nothing to set up.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DemoArguments {
    /// The example
    #[arg(value_enum, default_value_t = Example::Flights)]
    name: Example,
    /// Requests a second
    #[arg(long, value_name = "N", default_value_t = 1000.0)]
    rate: f64,
    /// How long to send requests
    #[arg(long, value_name = "S", default_value = "6", value_parser = seconds)]
    seconds: Duration,
    /// Go on serving afterwards, until interrupted
    #[arg(long)]
    keep_serving: bool,
    /// Where HTTP listens [default: a free port of this machine]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    http: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Example {
    /// Will this flight from New York arrive 15 minutes late? 2013, LightGBM
    Flights,
}

pub(super) fn run(arguments: &DemoArguments) -> Result<(), Failure> {
    logs::start(LogFormat::Text, LogLevel::Warn);
    let Example::Flights = arguments.name;
    let pace = pace(arguments).map_err(Failure::Input)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start threads").map_err(Failure::No)?;
    runtime.block_on(demonstrate(arguments, pace)).map_err(Failure::No)
}

fn pace(arguments: &DemoArguments) -> Result<Pace> {
    let DemoArguments { rate, seconds, .. } = *arguments;
    ensure!(rate > 0.0 && rate <= MAX_RATE, "--rate: expected up to {MAX_RATE}, found {rate}");
    let interval = Duration::from_secs_f64(1.0 / rate);
    Ok(Pace { interval, duration: seconds, connections: CONNECTIONS })
}

async fn demonstrate(arguments: &DemoArguments, pace: Pace) -> Result<()> {
    let flights = Flights::embedded()?;
    let running = start_server(arguments).await?;
    print(&format!(
        "Serving the flights model at http://{}\nReplaying {} flights of November and December \
         2013, one a request, over {} connections\n",
        running.http,
        flights.len().min(pace.requests()),
        pace.connections
    ))?;
    let replayed = replay::run(running.http, &flights, pace).await?;
    print(&report(&flights, &replayed))?;
    if arguments.keep_serving {
        if let Some(servable) = running.server.catalog.servables().first() {
            let example = example_request(servable, running.http);
            print(&format!("\nStill serving; try\n  {example}\n"))?;
        }
        print("Press Ctrl-C to stop.\n")?;
        tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")?;
    }
    running.stop(Duration::ZERO).await?;
    Ok(())
}

async fn start_server(arguments: &DemoArguments) -> Result<Running> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let single = SingleModel {
        name: "flights".to_owned(),
        version: 1,
        path: PathBuf::from("flights.onnx"),
        settings: ModelFile::default(),
    };
    let config = ServeConfig {
        http: arguments.http.unwrap_or(any),
        grpc: any,
        admin: any,
        models: vec![single],
        poll: Duration::ZERO,
        ..ServeConfig::default()
    };
    let running = start(&config, Arc::new(EmbeddedModel { bytes: flights::MODEL })).await?;
    let mut phase = running.server.health.watch();
    let ready = phase.wait_for(|phase| *phase != Phase::Starting).await;
    ready.context("the server stopped before it was ready")?;
    ensure!(!running.server.catalog.servables().is_empty(), "the model did not load");
    Ok(running)
}

fn report(flights: &Flights, replayed: &Replayed) -> String {
    let labels = &flights.late()[..replayed.probabilities.len()];
    let quality = Quality::of(labels, &replayed.probabilities);
    let latency = &replayed.latency;
    let (count, seconds) = (replayed.probabilities.len(), replayed.elapsed.as_secs_f64());
    format!(
        "\n  requests     {count} in {seconds:.2} s ({:.0} a second)\n  \
         latency      p50 {:.3} ms, p90 {:.3}, p99 {:.3} (client's side, over HTTP)\n\n  \
         late         {:.1}% of these flights arrived 15 minutes late or more\n  \
         AUC          {:.3} (0.5 is guessing)\n  \
         log-loss     {:.3} (always answering {:.3}, the base rate: {:.3})\n",
        count as f64 / seconds.max(f64::MIN_POSITIVE),
        latency.p50,
        latency.p90,
        latency.p99,
        quality.base_rate * 100.0,
        quality.auc,
        quality.log_loss,
        quality.base_rate,
        quality.base_log_loss,
    )
}
