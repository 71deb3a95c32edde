//! What one request or one model does to its neighbours: nothing.

use std::sync::Arc;

use landfall_predict::{VersionChoice, VersionState};

use crate::client::{get, post};
use crate::harness::{row, serve, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_poisonous_request_fails_alone() {
    let server = serve(&[("poison", "poison")]).await;
    let address = server.http();
    let ask = |first: f32| {
        let body = row([first, 1.0, 2.0, 3.0]);
        tokio::spawn(async move { post(address, "/v2/models/poison/infer", body).await })
    };
    let asked: Vec<_> = (0..12).map(|i| (i, ask(if i == 5 { -1.0 } else { i as f32 }))).collect();
    for (i, reply) in asked {
        let reply = reply.await.unwrap();
        if i == 5 {
            assert!(reply.error(500).contains("node 'Sqrt_0': -1 is negative"));
        } else {
            assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
            assert_eq!(reply.json()["outputs"][0]["data"][0], f64::from(i));
        }
    }
    let statistics = get(address, "/v2/models/poison/stats").await.json();
    let model = &statistics["model_stats"][0];
    assert_eq!(model["inference_count"], 11);
    assert_eq!(model["inference_stats"]["success"]["count"], 11);
    assert_eq!(model["inference_stats"]["fail"]["count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_breaks_its_signature_is_found_out() {
    let server = serve(&[("misshapen", "misshapen"), ("identity", "identity")]).await;
    let address = server.http();
    for _ in 0..2 {
        let reply = post(address, "/v2/models/misshapen/infer", row([0.0; 4])).await;
        assert_eq!(
            reply.error(500),
            "model 'misshapen' version 1: the model's output 'y' has shape [1,5], \
             expected [batch,4]"
        );
        assert_eq!(post(address, "/v2/models/identity/infer", row([0.0; 4])).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_answers_while_another_loads() {
    let server = serve(&[("a", "identity")]).await;
    let address = server.http();
    let catalog = Arc::clone(&server.running.server.catalog);
    server.folder.put("b", "1", "loading 1500 identity");
    let loading = || {
        let statuses = catalog.statuses("b").unwrap_or_default();
        statuses.iter().any(|status| status.state == VersionState::Loading)
    };
    until(|| async { loading() }).await;
    for _ in 0..50 {
        assert_eq!(post(address, "/v2/models/a/infer", row([0.0; 4])).await.status, 200);
    }
    let early = post(address, "/v2/models/b/infer", row([0.0; 4])).await;
    assert!(early.error(503).contains("is loading"));
    assert!(loading(), "the requests to 'a' did not wait for 'b'");
    until(|| async { catalog.lookup("b", VersionChoice::Default).is_ok() }).await;
}
