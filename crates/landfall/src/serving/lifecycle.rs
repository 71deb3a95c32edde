//! Starting and stopping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use landfall_predict::{Catalog, VersionState};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::workers::Workers;
use crate::clock::{MachineClock, epoch_ms};
use crate::config::ServeConfig;
use crate::http::Audience;
use crate::loading::OpenModel;
use crate::metrics::Metrics;
use crate::repository::{Repository, Watcher};
use crate::serving::{Health, Listeners, Protocol, RequestIds, Server, serve_connections};
use crate::{admin, grpc, http};

/// A server that is running.
pub struct Running {
    /// What its handlers share.
    pub server: Arc<Server>,
    /// Where HTTP listens, with the port the system chose if 0 was asked for.
    pub http: SocketAddr,
    /// Where gRPC listens.
    pub grpc: SocketAddr,
    /// Where the admin pages are.
    pub admin: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    /// Serve the connections; dropped, they end.
    _workers: Arc<Workers>,
    watcher: Watcher,
    drain_limit: Duration,
}

/// Binds the sockets and starts to serve; models load in the background.
pub async fn start(config: &ServeConfig, opener: Arc<dyn OpenModel>) -> anyhow::Result<Running> {
    let listeners = Listeners::bind(config.http, config.grpc, config.admin).await?;
    let addresses =
        (listeners.http.local_addr()?, listeners.grpc.local_addr()?, listeners.admin.local_addr()?);
    let catalog = Arc::new(Catalog::new(Arc::new(MachineClock::start())));
    let repository = Arc::new(Repository::new(Arc::clone(&catalog), opener, config));
    let server = Arc::new(Server {
        catalog,
        repository: Arc::clone(&repository),
        health: Health::default(),
        metrics: Metrics::default(),
        request_ids: RequestIds::new(epoch_ms(), std::process::id()),
        limits: config.limits,
        repository_control: config.repository_control,
    });
    let (stop, stopped) = watch::channel(false);
    let workers = Arc::new(Workers::start(config.workers)?);
    let tasks = serve(&server, listeners, &workers, stopped);
    let loaded = Arc::clone(&server);
    let watcher = Watcher::start(repository, config.poll, move || loaded.look())?;
    Ok(Running {
        server,
        http: addresses.0,
        grpc: addresses.1,
        admin: addresses.2,
        stop,
        tasks,
        _workers: workers,
        watcher,
        drain_limit: config.drain_limit,
    })
}

fn serve(
    server: &Arc<Server>,
    listeners: Listeners,
    workers: &Arc<Workers>,
    stopped: watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let public = http::handler(http::routes(server, Audience::Public), Arc::clone(server));
    let operator = http::handler(admin::routes(server), Arc::clone(server));
    let calls = grpc::handler(Arc::clone(server));
    let (limits, http, grpc) = (server.limits, Protocol::Http, Protocol::Grpc);
    let shared = || (Arc::clone(workers), stopped.clone());
    let (pool, stop) = shared();
    tasks.spawn(serve_connections(listeners.http, http, limits, pool, stop, move |request| {
        public.clone().handle(request)
    }));
    let (pool, stop) = shared();
    tasks.spawn(serve_connections(listeners.admin, http, limits, pool, stop, move |request| {
        operator.clone().handle(request)
    }));
    let (pool, stop) = shared();
    tasks.spawn(serve_connections(listeners.grpc, grpc, limits, pool, stop, move |request| {
        calls.clone().handle(request)
    }));
    tasks
}

/// What was still unfinished when the time to stop had passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stopped with work unfinished: {}", .0.join(", "))]
pub struct Abandoned(pub Vec<String>);

impl Running {
    /// Stops: readiness turns false, then after `delay` the listeners close, then requests in
    /// flight are waited for, at most for the drain limit. The error says what was abandoned.
    ///
    /// Models that are being loaded are not waited for.
    pub async fn stop(mut self, delay: Duration) -> Result<(), Abandoned> {
        self.server.health.set_draining();
        self.watcher.stop();
        tokio::time::sleep(delay).await;
        self.server.health.set_stopping();
        self.stop.send_replace(true);
        let loading = self.loading();
        if !loading.is_empty() {
            tracing::warn!(models = loading.join(", "), "stopping without waiting for loads");
        }
        let (server, limit) = (Arc::clone(&self.server), self.drain_limit);
        let ended = async {
            while self.tasks.join_next().await.is_some() {}
            let drain = move || {
                server.catalog.close();
                server.catalog.drain(limit)
            };
            // An error is a panic: nothing is left to wait for.
            drop(tokio::task::spawn_blocking(drain).await);
        };
        let ended = tokio::time::timeout(limit, ended).await;
        self.server.catalog.close();
        self.tasks.abort_all();
        ended.map_err(|_| Abandoned(self.unfinished()))
    }

    /// Versions being loaded.
    fn loading(&self) -> Vec<String> {
        let statuses = self.server.catalog.index().into_iter();
        let loading = statuses.filter(|status| status.state == VersionState::Loading);
        loading.map(|s| format!("{}:{}", s.model, s.version.unwrap_or_default())).collect()
    }

    fn unfinished(&self) -> Vec<String> {
        let mut unfinished = Vec::new();
        if !self.tasks.is_empty() {
            unfinished.push(format!("connections on {} listeners", self.tasks.len()));
        }
        for servable in self.server.catalog.servables() {
            let s = servable.statistics(0);
            if s.queued_requests + s.running > 0 {
                let (name, version) = (servable.name(), servable.version());
                let (waiting, running) = (s.queued_requests, s.running);
                unfinished.push(format!(
                    "model '{name}' version {version} ({running} runs, {waiting} requests waiting)"
                ));
            }
        }
        unfinished.extend(self.loading().iter().map(|version| format!("load of {version}")));
        unfinished
    }
}
