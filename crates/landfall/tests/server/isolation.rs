//! What one request or one model does to its neighbours: nothing.

use std::sync::Arc;

use landfall_predict::{VersionChoice, VersionState};

use crate::client::{get, post};
use crate::harness::{Folder, row, serve, until};
use crate::process::Served;

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

/// Its result is as large as the caller asks for.
const SPREAD: &str = r#"graph "spread" {
  input %x: f32[1]
  input %shape: i64[1]
  %y: f32[n] = Expand(%x, %shape)
  output %y
}"#;

#[tokio::test(flavor = "multi_thread")]
async fn no_request_or_setting_takes_all_memory() {
    let folder = Folder::new();
    folder.put_graph("spread", SPREAD, &[]);
    folder.settings("spread", "max_reply_bytes: 1000");
    let path = folder.path().to_owned();
    let served = tokio::task::spawn_blocking(move || Served::start("true", &path)).await.unwrap();
    let address = served.http;
    let ask = |count: u64| async move {
        let body = format!(
            r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1],"data":[1]}},
                {{"name":"shape","datatype":"INT64","shape":[1],"data":[{count}]}}]}}"#
        );
        post(address, "/v2/models/spread/infer", body).await
    };
    for count in [1 << 40, 1 << 62] {
        let error = ask(count).await.error(500);
        assert!(error.contains("node 'y' (Expand): needs at least"), "{error}");
    }
    assert!(ask(300).await.error(400).contains("the most allowed is 1000 (max_reply_bytes)"));
    assert_eq!(ask(3).await.json()["outputs"][0]["data"].as_array().unwrap().len(), 3);
    folder.put_graph("rows", "graph \"rows\" { input %x: f32[N,3] %y = Neg(%x) output %y }", &[]);
    folder.settings("rows", "warm_up: [{rows: 1000000000000}]");
    until(|| async { served.log().contains("exceeds the limit") }).await;
    assert_eq!(ask(3).await.status, 200);
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
