//! A process traces once, so its story is one test.

use std::{
    io,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use traces::{
    Correlated, Span, SpanKind, Steps, current,
    testing::{Kept, SpanData},
    within,
};
use tracing_subscriber::{
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    registry,
};

/// What was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Returns the lines with this message.
    fn of(&self, message: &str) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text");
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
        lines.filter(|line| line["message"] == message).collect()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tracing::instrument(name = "test.store.read", skip_all, fields(user = user))]
async fn read(user: &str) {
    tokio::task::yield_now().await;
    tracing::info!("reading");
}

#[tokio::test]
async fn what_belongs_to_a_request_is_one_trace_that_names_nobody_and_is_found_from_its_log_lines() {
    let (kept, traces) = Kept::start("test");
    let lines = Lines::default();
    let json = fmt::layer().json().flatten_event(true).with_current_span(false);
    let json = json.with_writer(lines.clone()).map_event_format(Correlated);
    let _logged = tracing::subscriber::set_default(registry().with(Steps).with(json));

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
