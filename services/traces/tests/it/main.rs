//! A process traces once, so each of these stories has one of its own: `cargo nextest` sees to that.

mod requests;

use serde_json::Value;
use traces::{
    Span, SpanKind, Steps, current,
    testing::{Kept, Lines, SpanData},
    within,
};
use tracing_subscriber::{layer::SubscriberExt as _, registry};

#[tracing::instrument(name = "test.store.read", skip_all, fields(user = user))]
async fn read(user: &str) {
    tokio::task::yield_now().await;
    tracing::info!("reading");
}

#[tokio::test]
async fn what_belongs_to_a_request_is_one_trace_that_names_nobody_and_is_found_from_its_log_lines() {
    let (kept, traces) = Kept::start("test");
    let lines = Lines::default();
    let _logged = tracing::subscriber::set_default(registry().with(Steps).with(lines.layer()));

    tracing::info!("outside");
    read("bob").await;
    let mut root = Span::root("request", SpanKind::Server);
    root.set("command", "send");
    let parent = root.parent();
    within(parent, async {
        tracing::info!(text = "two\nlines, \"quotes\" and a }", "inside");
        read("annabel").await;
        tracing::info!("inside again");
    })
    .await;
    assert_eq!(current(), None, "it is over in this thread");
    root.fail("unavailable");
    drop(root);
    let spans = kept.end(traces).await;

    let [step, root] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!((&*step.name, &*root.name), ("test.store.read", "request"));
    assert_eq!(step.parent_span_id, root.span_context.span_id());
    assert_eq!(step.span_context.trace_id(), root.span_context.trace_id());
    assert!(step.start_time >= root.start_time && step.end_time <= root.end_time);
    assert!(!format!("{spans:?}").contains("annabel"), "{spans:#?}");

    let named = |line: &Value| {
        let id = |name: &str| line.get(name).and_then(Value::as_str).map(str::to_owned);
        id("trace_id").zip(id("span_id"))
    };
    let of = |span: &SpanData| {
        let context = &span.span_context;
        Some((context.trace_id().to_string(), context.span_id().to_string()))
    };
    for (message, expected) in [
        ("outside", vec![None]),
        ("inside", vec![of(root)]),
        ("reading", vec![None, of(step)]),
        ("inside again", vec![of(root)]),
    ] {
        let found: Vec<_> = lines.of(message).iter().map(named).collect();
        assert_eq!(found, expected, "{message}");
    }
    assert_eq!(lines.of("inside")[0]["text"], "two\nlines, \"quotes\" and a }");
}
