//! What scrapers read.

use std::sync::Arc;

use crate::client::{get, post};
use crate::harness::{Folder, row, serve, serve_folder, until};

async fn metrics(address: std::net::SocketAddr) -> String {
    String::from_utf8(get(address, "/metrics").await.body).unwrap()
}

/// The value of the one sample with this name and these labels.
fn value(metrics: &str, sample: &str) -> f64 {
    let found: Vec<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')).collect();
    let [value] = found.as_slice() else { panic!("{sample}: {found:?} in\n{metrics}") };
    value.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_counter_is_there_from_the_start() {
    let server = serve(&[("identity", "identity")]).await;
    let metrics = metrics(server.http()).await;
    for (protocol, method, code) in [
        ("http", "infer", "200"),
        ("http", "infer", "499"),
        ("http", "predict", "503"),
        ("http", "invocations", "413"),
        ("http", "repository", "other"),
        ("grpc", "infer", "0"),
        ("grpc", "infer", "14"),
        ("grpc", "stream_infer", "4"),
    ] {
        let labels = format!("protocol=\"{protocol}\",method=\"{method}\",code=\"{code}\"");
        assert_eq!(value(&metrics, &format!("landfall_requests_total{{{labels}}}")), 0.0);
    }
    let labels = "protocol=\"grpc\",method=\"infer\"";
    assert_eq!(value(&metrics, &format!("landfall_request_seconds_count{{{labels}}}")), 0.0);
    for outcome in ["success", "fail", "queue_full", "expired", "cancelled"] {
        let labels = format!("model=\"identity\",version=\"1\",outcome=\"{outcome}\"");
        assert_eq!(value(&metrics, &format!("landfall_model_requests_total{{{labels}}}")), 0.0);
    }
    // Every sample has a type, declared once and before it.
    let mut declared = Vec::new();
    for line in metrics.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap();
            assert!(!declared.contains(&name), "{name} is declared twice");
            declared.push(name);
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end).filter(|name| declared.contains(name)));
            assert!(declared.contains(&family.unwrap_or(name)), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gauges_follow_the_queue_and_buckets_add_up() {
    let folder = Folder::new();
    folder.put("slow", "1", "slow 400");
    folder.settings("slow", "batching: off\n");
    let server = serve_folder(folder, |_| ()).await;
    let address = server.http();
    let state = Arc::clone(&server.running.server);
    let asked: Vec<_> = (0..3)
        .map(|_| {
            let body = row([0.0; 4]);
            tokio::spawn(async move { post(address, "/v2/models/slow/infer", body).await })
        })
        .collect();
    until(|| async {
        let s = state.catalog.servables()[0].statistics(0);
        (s.running, s.queued_requests) == (1, 2)
    })
    .await;
    let during = metrics(address).await;
    let model = "{model=\"slow\",version=\"1\"}";
    assert_eq!(value(&during, &format!("landfall_queued_requests{model}")), 2.0);
    assert_eq!(value(&during, &format!("landfall_queued_rows{model}")), 2.0);
    assert_eq!(value(&during, &format!("landfall_running{model}")), 1.0);
    for reply in asked {
        assert_eq!(reply.await.unwrap().status, 200);
    }
    let after = metrics(address).await;
    for gauge in ["landfall_queued_requests", "landfall_queued_rows", "landfall_running"] {
        assert_eq!(value(&after, &format!("{gauge}{model}")), 0.0, "{gauge}");
    }
    let stage = "model=\"slow\",version=\"1\",stage=\"total\"";
    let bucket = |bound: &str| {
        value(&after, &format!("landfall_inference_seconds_bucket{{{stage},le=\"{bound}\"}}"))
    };
    let bounds = ["0.00001", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60", "+Inf"];
    let counts = bounds.map(bucket);
    assert!(counts.is_sorted(), "{counts:?}");
    assert_eq!((counts[2], counts[10]), (0.0, 3.0), "each takes at least 0.4 s");
    let of = |end: &str| value(&after, &format!("landfall_inference_seconds_{end}{{{stage}}}"));
    assert_eq!(of("count"), 3.0);
    assert!(of("sum") >= 3.0 * 0.4, "each takes at least 0.4 s: {}", of("sum"));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_cannot_break_a_line() {
    let name = "a\"} 1\nevil{x=\"\\";
    let server = serve(&[(name, "identity")]).await;
    let metrics = metrics(server.http()).await;
    assert!(!metrics.lines().any(|line| line.starts_with("evil")), "{metrics}");
    let escaped = "model=\"a\\\"} 1\\nevil{x=\\\"\\\\\",version=\"1\"";
    assert_eq!(value(&metrics, &format!("landfall_model_ready{{{escaped}}}")), 1.0);
}
