//! The operator's listener.

use crate::client::{get, send};
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
