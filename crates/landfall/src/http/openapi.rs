//! The OpenAPI document of the public listener.

use axum::response::Response;

use super::reply::{JSON, bytes_reply};

const DOCUMENT: &str = include_str!("openapi.json");

pub(super) async fn document() -> Response {
    bytes_reply(JSON, DOCUMENT.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_json() {
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(document["info"]["version"], crate::serving::SERVER_VERSION);
        assert!(document["paths"].as_object().unwrap().len() > 20);
    }
}
