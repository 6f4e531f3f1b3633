//! What is recorded of requests to servers of others, and what is sent to them.

use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use traces::{Server, Span, SpanKind, sent, testing::Kept, within};

/// Refuses one request after the other, and returns the text of all.
async fn refuse(listener: TcpListener, requests: usize) -> String {
    let mut text = String::new();
    for _ in 0..requests {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut request).await.expect("a request"), 0, "it is cut short");
        }
        let answer = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.expect("a client that waits");
        text += &String::from_utf8(request).expect("text");
    }
    text
}

#[tokio::test]
async fn a_request_to_others_is_a_span_without_its_address_and_they_are_told_of_no_trace() {
    let (kept, traces) = Kept::start("test");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let others = tokio::spawn(refuse(listener, 2));
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ask = || {
        let url = format!("http://{address}/users/annabel?token=a-secret");
        sent(Server::Keycloak, "find an account", client.get(url).send())
    };

    let root = Span::root("request", SpanKind::Server);
    let trace = root.parent().expect("everything is traced").trace;
    within(root.parent(), async {
        assert_eq!(ask().await.expect("an answer").status(), 404);
    })
    .await;
    assert_eq!(ask().await.expect("an answer").status(), 404, "of what is not traced");
    let told = others.await.expect("no panic");
    within(root.parent(), async {
        // The port is closed.
        ask().await.expect_err("no answer");
    })
    .await;
    drop(root);

    assert!(told.contains("annabel") && !told.to_lowercase().contains("traceparent"), "{told}");
    let mut registry = Registry::with_prefix("posthouse");
    traces.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a String cannot fail");
    for (outcome, count) in [("refused", 2), ("failed", 1)] {
        let labels = format!(r#"{{backend="keycloak",outcome="{outcome}"}}"#);
        let line = format!("posthouse_backend_request_seconds_count{labels} {count}\n");
        assert!(text.contains(&line), "{line}: {text}");
    }
    assert!(text.contains(&format!(r#"# {{trace_id="{trace}"}}"#)), "{text}");

    let spans = kept.end(traces).await;
    let [refused, failed, root] = &spans[..] else { panic!("{spans:#?}") };
    for span in [refused, failed] {
        assert_eq!(span.name, "keycloak find an account");
        assert_eq!(span.parent_span_id, root.span_context.span_id());
        assert_eq!(span.span_kind, SpanKind::Client);
    }
    let status = refused.attributes.iter().find(|one| one.key.as_str() == "http.response.status_code");
    assert_eq!(status.map(|status| status.value.to_string()).as_deref(), Some("404"));
    assert!(format!("{:?}", failed.status).contains("connect"), "{failed:?}");
    for secret in ["annabel", "a-secret", &address.to_string()] {
        let recorded = format!("{spans:?}{text}");
        assert!(!recorded.contains(secret), "{secret}: {recorded}");
    }
}
