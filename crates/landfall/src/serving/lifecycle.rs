//! Starting and stopping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use landfall_predict::Catalog;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::MachineClock;
use crate::config::ServeConfig;
use crate::http::Audience;
use crate::loading::OpenModel;
use crate::metrics::Metrics;
use crate::repository::{Repository, Watcher};
use crate::serving::{Health, Listeners, Server, serve_connections};
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
        limits: config.limits,
        repository_control: config.repository_control,
    });
    let (stop, stopped) = watch::channel(false);
    let tasks = serve(&server, listeners, stopped);
    let loaded = Arc::clone(&server);
    let watcher = Watcher::start(repository, config.poll, move || loaded.health.set_ready())?;
    Ok(Running {
        server,
        http: addresses.0,
        grpc: addresses.1,
        admin: addresses.2,
        stop,
        tasks,
        watcher,
        drain_limit: config.drain_limit,
    })
}

fn serve(
    server: &Arc<Server>,
    listeners: Listeners,
    stopped: watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let public = http::handler(http::routes(server, Audience::Public), Arc::clone(server));
    let operator = http::handler(admin::routes(server), Arc::clone(server));
    let limits = server.limits;
    tasks.spawn(serve_connections(listeners.http, limits, stopped.clone(), move |request| {
        public.clone().handle(request)
    }));
    tasks.spawn(serve_connections(listeners.admin, limits, stopped.clone(), move |request| {
        operator.clone().handle(request)
    }));
    tasks.spawn(grpc::serve(listeners.grpc, Arc::clone(server), stopped));
    tasks
}

impl Running {
    /// Stops: readiness turns false, then after `delay` the listeners close, then requests in
    /// flight are waited for. Returns whether all of them ended in time.
    pub async fn stop(mut self, delay: Duration) -> bool {
        self.server.health.set_draining();
        self.watcher.stop();
        tokio::time::sleep(delay).await;
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let connections_ended = tokio::time::timeout(self.drain_limit, ended).await.is_ok();
        self.tasks.abort_all();
        let (catalog, limit) = (Arc::clone(&self.server.catalog), self.drain_limit);
        let drained = tokio::task::spawn_blocking(move || {
            catalog.close();
            catalog.drain(limit)
        });
        connections_ended && drained.await.unwrap_or(false)
    }
}
