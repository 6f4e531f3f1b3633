//! `posthouse trace`: sends a message, and shows where its time goes: what a client sees of it, and the spans of its trace.
//!
//! No client can have a message traced: which are is decided where they come in, by the ratio of the cell, and what a client says of a trace becomes a
//! link. So each message names a span of a trace of ours, and the one that was recorded is found by its link to it.

mod road;
mod spans;
mod waterfall;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use contracts::ChatId;
use posthouse_client::Messenger;
use serde::Serialize;
use tokio::time::sleep;
use url::Url;

use self::{
    road::{Road, Sent, Step},
    spans::{Row, Span, Store},
    waterfall::Bar,
};
use crate::{
    args::TraceArgs,
    failure::{Exit, Failure},
    output::{self, Output},
    sides::PATIENCE,
    tenants,
};

/// Spans are in the store so long after they ended, at most: processes and collectors gather them.
const SETTLED_WITHIN: Duration = Duration::from_secs(6);
/// How often the store is asked meanwhile.
const POLL: Duration = Duration::from_millis(500);
/// A trace is complete when nothing came for so many polls.
const QUIET_POLLS: u32 = 4;
/// The clocks of this machine and of the store differ by less.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize)]
struct Report {
    url: Url,
    chat: ChatId,
    sender: String,
    /// Messages that were sent; the steps are those of the one with the trace, or of the last.
    sent: usize,
    steps: Vec<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<Trace>,
}

#[derive(Debug, Serialize)]
struct Trace {
    trace_id: String,
    /// Spans that the store has, of which not all may be shown.
    count: usize,
    spans: Vec<Row>,
}

pub(crate) async fn run(args: TraceArgs, output: Output) -> Result<(), Failure> {
    let url = match (args.url, &args.tenant) {
        (Some(url), _) => url,
        (None, Some(name)) => tenants::address_of(args.namespace.as_deref(), name).await?,
        (None, None) => unreachable!("the command line has one of them"),
    };
    let messenger = Messenger::new(&url)?;
    let mut store = args.traces.map(|base| Store::new(&messenger, base)).transpose()?;
    let mut failed = None;
    let checked = match &store {
        Some(store) => store.check().await,
        None => Ok(()),
    };
    if let Err(failure) = checked {
        output::note("the trace store does not answer: the message is followed without it");
        (store, failed) = (None, Some(failure));
    }

    let account = args.user.as_deref().zip(args.to.as_deref());
    let mut road = match account {
        Some((user, to)) => Road::of_user(&messenger, user, to).await?,
        None => Road::of_two(&messenger).await?,
    };
    let (began, trace) = (Instant::now(), draw_trace());
    let attempts = if store.is_some() { args.attempts } else { 1 };
    let mut sent: Vec<Sent> = Vec::new();
    let mut found = None;
    'rounds: for until in rounds(attempts) {
        while sent.len() < until as usize {
            match road.send(trace).await {
                Ok(message) => sent.push(message),
                Err(failure) => {
                    failed.get_or_insert(failure);
                    break 'rounds;
                }
            }
            if sent.last().and_then(Sent::missing).is_some() {
                break 'rounds;
            }
        }
        let Some(store) = &store else { continue };
        match find(store, trace, &sent, began).await {
            Ok(None) => {}
            Ok(Some(trace)) => {
                found = Some(trace);
                break;
            }
            Err(failure) => {
                failed.get_or_insert(failure);
                break;
            }
        }
    }
    if account.is_some() {
        // The session is of no use any more. One that cannot be ended now ends by itself.
        drop(road.identity.sign_out().await);
    }

    let (span, trace) = found.map(|(span, spans)| (span, traced(&spans))).unzip();
    let Some(shown) = sent.iter().rfind(|sent| span.is_none_or(|span| sent.span == span)) else {
        return failed.map_or(Ok(()), Err);
    };
    if let Some(what) = shown.missing() {
        let next = "`posthouse status -A` shows what its tenant waits for; see the logs of its message pods";
        let what = format!("the message was not {what} within {} s", PATIENCE.as_secs());
        failed.get_or_insert(Failure::new(Exit::Fault, what, next));
    } else if store.is_some() && trace.is_none() {
        failed.get_or_insert(unrecorded(sent.len()));
    }
    let report = Report {
        url,
        chat: road.chat,
        sender: road.identity.username().to_owned(),
        sent: sent.len(),
        steps: shown.steps.clone(),
        trace,
    };
    match output {
        Output::Json => output::document(&report),
        Output::Text => output::line(text(&report)),
    }
    failed.map_or(Ok(()), Err)
}

/// Returns how many messages are sent before the store is asked, each time. The first finds a trace where all are recorded.
fn rounds(most: u32) -> impl Iterator<Item = u32> {
    [1, 11].into_iter().filter(move |&until| until < most).chain([most])
}

fn unrecorded(sent: usize) -> Failure {
    let messages =
        if sent == 1 { "the message was not".to_owned() } else { format!("none of the {sent} messages was") };
    Failure::new(
        Exit::Fault,
        format!("{messages} traced, or its trace did not come to the store"),
        "`spec.observability.traces` of the tenant's MessengerCell names a collector and the `ratio`, 0.01 unless it is set, 1 for all; that of the \
         tenant takes its place. Raise it (pods are replaced), or send more with --attempts; docs/runbook.md has more, \"Traces that do not come\"",
    )
}

/// Waits until the trace of one of these messages is complete in the store. Returns the span of ours that it links, and its own.
async fn find(
    store: &Store,
    trace: u128,
    sent: &[Sent],
    began: Instant,
) -> Result<Option<(u64, Vec<Span>)>, Failure> {
    let spans: HashSet<u64> = sent.iter().map(|sent| sent.span).collect();
    let asked_at = Instant::now();
    let (span, mut of) = loop {
        if let Some(found) = store.linking(trace, &spans, began.elapsed() + CLOCK_SKEW).await? {
            break found;
        }
        if asked_at.elapsed() >= SETTLED_WITHIN {
            return Ok(None);
        }
        sleep(POLL).await;
    };
    let Some(id) = spans::trace_id(&of).map(str::to_owned) else { return Ok(None) };
    let (found_at, mut quiet) = (Instant::now(), 0);
    while quiet < QUIET_POLLS && found_at.elapsed() < SETTLED_WITHIN {
        sleep(POLL).await;
        let now = store.trace(&id).await?;
        if now.len() > of.len() {
            (of, quiet) = (now, 0);
        } else {
            quiet += 1;
        }
    }
    Ok(Some((span, of)))
}

fn traced(spans: &[Span]) -> Trace {
    Trace {
        trace_id: spans::trace_id(spans).unwrap_or_default().to_owned(),
        count: spans.len(),
        spans: spans::rows(spans),
    }
}

/// No id is zero.
#[expect(clippy::disallowed_methods, reason = "an edge: what our trace is called")]
fn draw_trace() -> u128 {
    rand::random::<u128>() | 1
}

fn text(report: &Report) -> String {
    let Report { url, chat, sender, sent, steps, trace } = report;
    let of = if *sent == 1 { "one message".to_owned() } else { format!("one of {sent} messages") };
    let bars = steps.iter().map(|step| Bar {
        label: format!("{}: {}", step.step, step.what),
        from_ms: 0.0,
        ms: step.after_ms,
    });
    let client = waterfall::drawn(&bars.collect::<Vec<_>>());
    let mut text = format!("{url}\n{of} of {sender} in chat {chat}, from the call\n{client}");
    if let Some(Trace { trace_id, count, spans }) = trace {
        let bars = spans.iter().map(|row| Bar {
            label: format!(
                "{}{}: {}{}",
                "  ".repeat(row.depth.min(20)),
                row.service,
                row.name,
                if row.is_failed { " (failed)" } else { "" }
            ),
            from_ms: row.from_ms,
            ms: Some(row.ms),
        });
        let drawn = waterfall::drawn(&bars.collect::<Vec<_>>());
        let more = count.saturating_sub(spans.len());
        let more = if more > 0 { format!(", {more} of which are not shown") } else { String::new() };
        text = format!("{text}\n\ntrace {trace_id} with {count} spans{more}, from its beginning\n{drawn}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{road::BODY, *};

    #[test]
    fn rounds_end_at_the_number_of_attempts() {
        let check = |most: u32, expected: &[u32]| {
            assert_eq!(rounds(most).collect::<Vec<_>>(), expected);
        };
        check(1, &[1]);
        check(2, &[1, 2]);
        check(11, &[1, 11]);
        check(100, &[1, 11, 100]);
    }

    #[test]
    fn a_report_has_both_waterfalls_and_no_text_of_the_message() {
        let step = |step, after_ms| Step { step, what: "it is there".to_owned(), after_ms };
        let row = |depth, name: &str| Row {
            depth,
            service: "gateway".to_owned(),
            name: name.to_owned(),
            from_ms: 0.0,
            ms: 2.0,
            is_failed: depth == 1,
        };
        let report = Report {
            url: "http://acme.localhost:8000".parse().expect("a URL"),
            chat: ChatId(uuid::Uuid::from_u128(7)),
            sender: "ann".to_owned(),
            sent: 11,
            steps: vec![step("accepted", Some(3.0)), step("stored", Some(6.0)), step("delivered", None)],
            trace: Some(Trace {
                trace_id: "11".to_owned(),
                count: 3,
                spans: vec![row(0, "post /commands"), row(1, "append")],
            }),
        };
        let text = text(&report);
        for part in [
            "one of 11 messages of ann",
            "accepted: it is there",
            "trace 11 with 3 spans, 1 of which are not shown",
            "gateway: post /commands",
            "  gateway: append (failed)",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains(BODY), "{text}");
    }

    #[test]
    fn what_cannot_be_traced_says_how_it_can() {
        let failure = unrecorded(100).to_string();
        assert!(failure.contains("none of the 100 messages"), "{failure}");
        assert!(failure.contains("spec.observability.traces") && failure.contains("ratio"), "{failure}");
    }
}
