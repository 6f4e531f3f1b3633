//! What is recorded of a message on its way through all services, in traces and in metrics, and what is not.

use std::time::Duration;

use e2e::users::TestUser;
use kit::traces::{
    HEADER, SpanKind,
    testing::{Kept, SpanData},
};

use super::dev::Dev;

const BODY: &str = "what ann wrote is in no trace";
/// A trace that a client says it belongs to.
const STRANGE_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// The value of an attribute, as a text.
fn attribute(span: &SpanData, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key)?;
    Some(found.value.to_string())
}

/// Returns the one span of a name below another one.
fn below<'a>(spans: &'a [SpanData], parent: &SpanData, name: &str) -> &'a SpanData {
    let is_below = |span: &&SpanData| {
        span.span_context.trace_id() == parent.span_context.trace_id()
            && span.parent_span_id == parent.span_context.span_id()
            && span.name == name
    };
    let found: Vec<_> = spans.iter().filter(is_below).collect();
    let [span] = found[..] else { panic!("{} of {name} below {parent:?}: {spans:#?}", found.len()) };
    span
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_one_trace_from_its_frame_to_the_sockets_and_tells_of_nobody() -> anyhow::Result<()> {
    let (kept, tracing) = Kept::start("compact");
    let dev = Dev::start().await?;
    let (ann, ben, chat) = TestUser::two(&dev.messenger).await?;
    let online = ann.online(&[chat]).await;
    let seq = online.send(chat, BODY).await?;
    anyhow::ensure!(ben.history(chat).await?.iter().any(|message| message.seq == seq), "it is not stored");
    let claim = format!("00-{STRANGE_TRACE}-b7ad6b7169203331-01");
    let strange = reqwest::Client::new().get(dev.url.join("/docs")?).header(HEADER, claim).send().await?;
    anyhow::ensure!(strange.status().is_success(), "{}", strange.status());

    let mut secrets = vec![BODY.to_owned(), chat.to_string()];
    for user in [&ann, &ben] {
        let token = user.token().await?;
        let signature = token.rsplit('.').next().unwrap_or_default().to_owned();
        secrets.extend([
            user.id().to_string(),
            user.password.clone(),
            user.identity.username().to_owned(),
            signature,
        ]);
    }
    let metrics = reqwest::get(dev.management.join("/metrics")?).await?.error_for_status()?.text().await?;
    dev.end().await?;
    let spans = kept.end(tracing).await;

    let is_send =
        |span: &&SpanData| span.name == "frame" && attribute(span, "command").as_deref() == Some("send");
    let frame = spans.iter().find(is_send).expect("the frame of the message");
    let append = below(&spans, frame, "append");
    let apply = below(&spans, append, "apply");
    let mut ended = apply.start_time;
    for step in ["look_up", "write", "announce"] {
        let step = below(&spans, apply, step);
        assert!(step.start_time >= ended && step.end_time <= apply.end_time, "one after another: {step:?}");
        ended = step.end_time;
    }
    let deliver = below(&spans, apply, "deliver");
    assert!(deliver.end_time.duration_since(frame.start_time)? < Duration::from_secs(60), "{deliver:?}");
    let is_linked = |batch: &&SpanData| {
        let mut links = batch.links.iter();
        batch.name == "batch"
            && links.any(|link| link.span_context.span_id() == append.span_context.span_id())
    };
    assert!(spans.iter().any(|span| is_linked(&span)), "the batch says what was in it: {spans:#?}");

    let called = spans.iter().filter(|span| span.span_kind == SpanKind::Client);
    let pairs: Vec<_> = called.map(|call| below(&spans, call, &call.name)).collect();
    assert!(pairs.iter().any(|answer| answer.name.contains("ChatService/")), "{pairs:#?}");
    assert!(pairs.iter().all(|answer| answer.span_kind == SpanKind::Server), "{pairs:#?}");
    let route = spans.iter().find(|span| span.name == "GET /api/messages/{chat}").expect("the history");
    assert_eq!(attribute(route, "http.response.status_code").as_deref(), Some("200"));

    let docs = spans.iter().find(|span| span.name == "GET /docs").expect("the request of the stranger");
    assert_ne!(docs.span_context.trace_id().to_string(), STRANGE_TRACE, "it begins a trace of our own");
    let linked: Vec<_> = docs.links.iter().map(|link| link.span_context.trace_id().to_string()).collect();
    assert_eq!(linked, [STRANGE_TRACE]);

    // The latencies of the message lead to its trace.
    let exemplar = format!("# {{trace_id=\"{}\"}}", frame.span_context.trace_id());
    for latency in ["posthouse_gateway_produce_seconds", "posthouse_message_log_to_announced_seconds"] {
        let leads = |line: &str| line.starts_with(&format!("{latency}_bucket")) && line.contains(&exemplar);
        assert!(metrics.lines().any(leads), "{latency}: {metrics}");
    }
    let is_sign_in = |line: &str| {
        line.starts_with("posthouse_auth_sign_in_seconds_count")
            && line.contains(r#"way="password",outcome="answered""#)
    };
    assert!(metrics.lines().any(is_sign_in), "{metrics}");

    let recorded = format!("{spans:?}{metrics}");
    for secret in secrets {
        assert!(!recorded.contains(&secret), "{secret} is in a span or a metric");
    }
    Ok(())
}
