//! Stopping: readiness first, then the requests in flight, then the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::client::{get, post};
use crate::harness::{row, serve, until};

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_finish_and_readiness_turns_false_first() {
    let server = serve(&[("slow", "slow 400")]).await;
    let address = server.http();
    let _idle = TcpStream::connect(address).await.unwrap();
    let state = Arc::clone(&server.running.server);
    let asked =
        tokio::spawn(async move { post(address, "/v2/models/slow/infer", row([1.0; 4])).await });
    until(|| async { state.catalog.servables()[0].statistics(0).running == 1 }).await;
    let stopped = tokio::spawn(server.running.stop(Duration::from_millis(200)));
    until(|| async { !state.health.is_ready() }).await;
    assert_eq!(get(address, "/v2/health/ready").await.status, 503);
    assert_eq!(get(address, "/v2/health/live").await.status, 200);
    assert_eq!(get(address, "/ping").await.status, 503);
    assert_eq!(asked.await.unwrap().status, 200);
    assert!(stopped.await.unwrap(), "everything ended in time");
    assert!(TcpStream::connect(address).await.is_err());
}
