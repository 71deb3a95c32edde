//! The operator's listener.

use landfall::admin::example_request;

use crate::client::{get, post, send};
use crate::harness::serve;

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_its_data() {
    let server = serve(&[("identity", "identity"), ("bad", "broken")]).await;
    let page = get(server.admin(), "/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").is_some());
    assert!(String::from_utf8(page.body).unwrap().contains("/admin/status"));
    let status = get(server.admin(), "/admin/status").await.json();
    assert_eq!(status["ready"], true);
    assert_eq!(status["models"][0]["state"], "UNAVAILABLE");
    assert_eq!(status["models"][1]["statistics"]["requests"], 0);
    assert_eq!(get(server.http(), "/admin/status").await.status, 404);
    assert_eq!(get(server.http(), "/").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_cannot_use_the_operators_browser() {
    let server = serve(&[("identity", "identity")]).await;
    let headers = [("Origin", "https://other.example")];
    let path = "/v2/repository/models/identity/unload";
    assert_eq!(send(server.admin(), "POST", path, &headers, b"").await.status, 403);
    assert_eq!(get(server.http(), "/v2/models/identity/ready").await.status, 200);
}

/// The words that a shell makes of a line that calls curl.
fn words(line: &str) -> Vec<String> {
    let script = format!("curl() {{ printf '%s\\n' \"$@\"; }}; {line}");
    let done = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_to_try_works_for_every_name() {
    let names = ["identity", "od d", "a?b#c%", "it's", "$HOME;`x`&", "\u{e9}"];
    let server = serve(&names.map(|name| (name, "identity"))).await;
    let servables = server.running.server.catalog.servables();
    assert_eq!(servables.len(), names.len());
    for servable in servables {
        let line = example_request(&servable, server.http());
        let words = words(&line);
        let [_, url, _, body] = words.as_slice() else { panic!("{line}: {words:?}") };
        let path = url.strip_prefix(&format!("http://{}", server.http())).unwrap();
        let reply = post(server.http(), path, body).await;
        assert_eq!(reply.status, 200, "{line}");
        assert_eq!(reply.json()["model_name"], **servable.name(), "{line}");
    }
}
