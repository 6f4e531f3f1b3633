//! The upgrade's conditions, and what a client developer reads.

use contracts::Encoding;
use gateway::Limits;

use crate::stand::{get, get_with, with_stand};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_has_conditions() {
    with_stand(Limits::default(), async |stand| {
        let addr = stand.gateway.http;
        let [json, cbor] = Encoding::ALL.map(Encoding::subprotocol);
        let query = async |change: (&'static str, &str), expected: &str, code: &str| {
            let mut headers = vec![
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-protocol", json),
            ];
            headers.retain(|(name, _)| *name != change.0);
            if !change.1.is_empty() {
                headers.push(change);
            }
            if expected != "101" {
                headers.retain(|(name, value)| *name != "connection" || *value != "Upgrade");
                headers
                    .push(("connection", if change.0 == "connection" { "close" } else { "Upgrade, close" }));
            }
            let answer = get_with(addr, "/ws", &headers).await.expect("an answer");
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{change:?}: {answer}");
            assert!(answer.contains(code), "{change:?}: {answer}");
        };
        let same = format!("http://{addr}");
        query(("origin", ""), "101", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=").await;
        query(("origin", &same), "101", json).await;
        query(("origin", "https://127.0.0.1:1"), "101", json).await;
        for origin in ["https://evil.test", "null", "capacitor://localhost", "http://beta.localhost"] {
            query(("origin", origin), "403", "permission_denied").await;
        }
        query(("sec-websocket-protocol", "chat"), "400", "invalid_argument").await;
        query(("sec-websocket-protocol", ""), "400", "invalid_argument").await;
        query(("sec-websocket-protocol", "Posthouse.V1.JSON"), "400", "invalid_argument").await;
        query(("sec-websocket-protocol", "Posthouse.V1.CBOR"), "400", "invalid_argument").await;
        // The first that is spoken, in the order of the client.
        query(("sec-websocket-protocol", "chat, posthouse.v1.json"), "101", json).await;
        query(("sec-websocket-protocol", "posthouse.v1.cbor"), "101", cbor).await;
        query(
            ("sec-websocket-protocol", "posthouse.v2.cbor, posthouse.v1.cbor,posthouse.v1.json"),
            "101",
            cbor,
        )
        .await;
        query(("sec-websocket-protocol", "posthouse.v1.json, posthouse.v1.cbor"), "101", json).await;
        for stomp in ["v12.stomp", "v11.stomp", "v10.stomp"] {
            query(("sec-websocket-protocol", &format!("{stomp}, {json}")), "101", stomp).await;
        }
        query(("sec-websocket-protocol", "v13.stomp"), "400", "invalid_argument").await;
        query(("sec-websocket-version", "8"), "426", "sec-websocket-version: 13").await;
        query(("sec-websocket-key", ""), "400", "malformed").await;
        query(("sec-websocket-key", "x"), "400", "malformed").await;
        query(("upgrade", "h2c"), "400", "malformed").await;
        query(("connection", ""), "400", "malformed").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documentation_is_served() {
    with_stand(Limits::default(), async |stand| {
        let pages = [
            ("/docs", "text/html", "/docs/message"),
            ("/docs/", "text/html", "/docs/message"),
            ("/docs/gateway/protocol", "text/html", "asyncapi.json"),
            ("/docs/gateway/asyncapi.json", "application/json", "\"asyncapi\": \"3.0.0\""),
            ("/docs/gateway/openapi.json", "application/json", "/ws"),
        ];
        for (path, kind, text) in pages {
            let answer = get(stand.gateway.http, path).await.expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
            let head = answer.split("\r\n\r\n").next().expect("a head").to_ascii_lowercase();
            assert!(head.contains(&format!("x-posthouse-tenant: {}", stand.tenant)), "{path}: {head}");
            assert!(head.contains(kind), "{path}: {head}");
            assert!(answer.contains(text), "{path}");
        }
    })
    .await;
}
