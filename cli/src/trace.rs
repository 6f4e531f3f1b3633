//! `posthouse trace`: sends a message, and shows where its time goes: what a client sees of it, and the spans of its trace.
//!
//! No client can have a message traced: which are is decided where they come in, by the ratio of the cell, and what a client says of a trace becomes a
//! link. So each message names a span of a trace of ours, and the one that was recorded is found by its link to it.

mod spans;
mod waterfall;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey,
    api::Problem,
    wire::{self, ClientFrame, Command, Outcome, ServerFrame},
};
use posthouse_client::{ClientError, Identity, Messenger};
use serde::Serialize;
use tokio::time::{sleep, timeout};
use url::Url;

use self::{
    spans::{Row, Span, Store},
    waterfall::Bar,
};
use crate::{
    args::TraceArgs,
    failure::{Exit, Failure},
    lookup,
    output::{self, Output},
    password,
    sides::{self, PATIENCE, Side},
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
/// A message is held back for its rate so often before it is given up, and each time for so long at most.
const MAX_WAITS: u32 = 10;
const MAX_WAIT: Duration = Duration::from_secs(30);
/// What messages say.
const BODY: &str = "posthouse trace";

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

/// What a client sees of its message.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Step {
    step: &'static str,
    what: String,
    /// From the call; none for what was not seen.
    after_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Trace {
    trace_id: String,
    /// Spans that the store has, of which not all may be shown.
    count: usize,
    spans: Vec<Row>,
}

/// A message that was sent.
struct Sent {
    /// The span of ours that it named.
    span: u64,
    steps: Vec<Step>,
}

/// Why a message was not taken.
enum Miss {
    /// It may be sent later.
    Later(Duration),
    Failed(Failure),
}

impl From<Failure> for Miss {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Who sends, and who sees it.
struct Road {
    identity: Identity,
    /// The device that sends. It has no connection, so both sides see its messages.
    device: DeviceId,
    chat: ChatId,
    sides: [Side; 2],
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
        "the cell of the tenant decides how many are: `spec.observability.traces` of its MessengerCell names a collector and the `ratio`, 0.01 \
         unless it is set, 1 for all. Raise it (pods are replaced), or send more with --attempts; docs/runbook.md has more, \"Traces that do not come\"",
    )
}

impl Road {
    /// A road between two new users.
    async fn of_two(messenger: &Messenger) -> Result<Self, Failure> {
        let ([first, second], chat) = sides::two_users(messenger).await?;
        let sides = [Side::open(&first, chat, 0).await?, Side::open(&second, chat, 0).await?];
        Ok(Self { identity: first, device: DeviceId::generate(), chat, sides })
    }

    /// A road from a user to their own other connections, in a chat that they have.
    async fn of_user(messenger: &Messenger, user: &str, to: &str) -> Result<Self, Failure> {
        let password = password::read(user)?;
        let identity = Identity::sign_in(messenger, user, &password).await?;
        let token = identity.token().await?;
        let chat = find_chat(messenger, &token, to).await?;
        let head = lookup::head(messenger, &token, chat).await?;
        let sides = [Side::open(&identity, chat, head).await?, Side::open(&identity, chat, head).await?];
        Ok(Self { identity, device: DeviceId::generate(), chat, sides })
    }

    /// Sends a message, and waits until it was seen.
    async fn send(&mut self, trace: u128) -> Result<Sent, Failure> {
        for _ in 0..MAX_WAITS {
            match self.attempt(trace).await {
                Ok(sent) => return Ok(sent),
                Err(Miss::Later(wait)) => sleep(wait.min(MAX_WAIT)).await,
                Err(Miss::Failed(failure)) => return Err(failure),
            }
        }
        let next = "send fewer with --attempts, or when the user and the tenant send less";
        Err(Failure::new(Exit::Refused, "the messenger takes no more messages at this rate", next))
    }

    async fn attempt(&mut self, trace: u128) -> Result<Sent, Miss> {
        let (span, key) = (draw_span(), MessageKey::generate());
        // A message of the tool calls no user.
        let message = wire::Send { silent: true, ..wire::Send::text(self.chat, key, BODY) };
        let frame = ClientFrame { id: Some(1_u32.into()), command: Command::Send(message) };
        let token = self.identity.token().await.map_err(Failure::from)?;
        let [near, far] = &mut self.sides;
        let far_name = if far.user == near.user {
            format!("another connection of {}", far.name)
        } else {
            far.name.clone()
        };
        let began = Instant::now();
        let (accepted, stored, delivered) = tokio::try_join!(
            within(began, post(&self.identity, self.device, &token, &frame, header(trace, span))),
            within(began, shown(near, key)),
            within(began, shown(far, key)),
        )?;
        let step = |step, what: String, seen: Option<Duration>| {
            let after_ms = seen.map(|after| after.as_secs_f64() * 1_000.0);
            Step { step, what, after_ms }
        };
        let accepted = step("accepted", "the log has it".to_owned(), accepted.map(|(after, ())| after));
        let seq = stored.map(|(_, seq)| format!(" as {seq}")).unwrap_or_default();
        let stored = step("stored", format!("the chat has it{seq}"), stored.map(|(after, _)| after));
        let delivered = step("delivered", format!("{far_name} has it"), delivered.map(|(after, _)| after));
        Ok(Sent { span, steps: vec![accepted, stored, delivered] })
    }
}

impl Sent {
    /// Returns the first step that was not seen.
    fn missing(&self) -> Option<&'static str> {
        self.steps.iter().find(|step| step.after_ms.is_none()).map(|step| step.step)
    }
}

/// Returns what came, and when, or nothing when it did not come in time.
async fn within<T>(
    began: Instant,
    what: impl Future<Output = Result<T, Miss>>,
) -> Result<Option<(Duration, T)>, Miss> {
    match timeout(PATIENCE, what).await {
        Ok(came) => came.map(|came| Some((began.elapsed(), came))),
        Err(_) => Ok(None),
    }
}

/// Waits until a side is shown a message. Returns its seq.
async fn shown(side: &mut Side, key: MessageKey) -> Result<i64, Miss> {
    let next = "`posthouse status -A` shows whether the gateway is ready";
    side.sees_key(key).await.map_err(|why| Failure::new(Exit::Unreachable, why, next).into())
}

/// Sends a message by a request of its own, the one way in which a client names a trace.
async fn post(
    identity: &Identity,
    device: DeviceId,
    token: &str,
    frame: &ClientFrame,
    traceparent: String,
) -> Result<(), Miss> {
    let messenger = identity.messenger();
    let call = messenger
        .http()
        .post(messenger.url("/commands"))
        .query(&[("device", device.to_string())])
        .bearer_auth(token)
        .header("traceparent", traceparent)
        .json(frame);
    let lost = |source| {
        Failure::from(ClientError::Transport { action: ACTION, url: messenger.base().to_string(), source })
    };
    let response = call.send().await.map_err(|error| lost(error.without_url()))?;
    let status = response.status().as_u16();
    let wait = response.headers().get("retry-after").and_then(|wait| wait.to_str().ok()?.parse().ok());
    let body = response.bytes().await.map_err(|error| lost(error.without_url()))?;
    judged(messenger.base(), status, wait.map(Duration::from_secs), &body)
}

const ACTION: &str = "send a message";

/// Returns what the answer to a message says of it.
fn judged(base: &Url, status: u16, wait: Option<Duration>, body: &[u8]) -> Result<(), Miss> {
    let frame: ServerFrame = serde_json::from_slice(body).unwrap_or_default();
    match (frame.result, frame.error) {
        (Some(Outcome::Accepted(_)), _) => Ok(()),
        (_, Some(error)) if error.code == ErrorCode::RateLimited => {
            let wait =
                error.retry_after_ms.map_or(Duration::from_secs(1), |ms| Duration::from_millis(ms.into()));
            Err(Miss::Later(wait))
        }
        (_, Some(error)) => {
            let exit = if error.temporary { Exit::Unreachable } else { Exit::Refused };
            let what = format!("the messenger refused the message: {}: {}", error.code, error.detail);
            Err(Failure::new(exit, what, "").into())
        }
        (_, None) if status == 429 => Err(Miss::Later(wait.unwrap_or(Duration::from_secs(1)))),
        (_, None) => {
            let problem = serde_json::from_slice::<Problem>(body).ok();
            let error = ClientError::Refused { action: ACTION, url: base.to_string(), status, problem };
            Err(Failure::from(error).into())
        }
    }
}

async fn find_chat(messenger: &Messenger, token: &str, to: &str) -> Result<ChatId, Failure> {
    let Some(username) = to.strip_prefix('@') else {
        let chat = to.parse::<ChatId>().map_err(|_| {
            Failure::new(Exit::Refused, format!("--to: {to} is not a chat"), "give @name or the id of a chat")
        })?;
        return Ok(messenger.chat(token, chat).await?.chat_id);
    };
    Ok(lookup::direct_chat(messenger, token, username).await?.chat_id)
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

/// Returns the header of a request that belongs to a span of ours, which is recorded nowhere.
fn header(trace: u128, span: u64) -> String {
    format!("00-{trace:032x}-{span:016x}-00")
}

/// No id is zero.
#[expect(clippy::disallowed_methods, reason = "an edge: what our trace is called")]
fn draw_trace() -> u128 {
    rand::random::<u128>() | 1
}

#[expect(clippy::disallowed_methods, reason = "an edge: what a span of ours is called")]
fn draw_span() -> u64 {
    rand::random::<u64>() | 1
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
    use serde_json::json;

    use super::*;

    fn base() -> Url {
        "http://acme.localhost:8000".parse().expect("a URL")
    }

    fn said(status: u16, body: &serde_json::Value) -> String {
        match judged(&base(), status, Some(Duration::from_secs(3)), body.to_string().as_bytes()) {
            Ok(()) => "accepted".to_owned(),
            Err(Miss::Later(wait)) => format!("after {} ms", wait.as_millis()),
            Err(Miss::Failed(failure)) => failure.to_string(),
        }
    }

    #[test]
    fn the_answer_says_what_became_of_a_message() {
        let error = |code: &str, retry: Option<u32>| {
            let mut error = json!({ "code": code, "detail": "why", "temporary": code == "rate_limited" });
            if let Some(retry) = retry {
                error["retry_after_ms"] = retry.into();
            }
            json!({ "id": 1, "error": error })
        };
        assert_eq!(said(200, &json!({ "id": 1, "result": { "accepted": {} } })), "accepted");
        assert_eq!(said(429, &error("rate_limited", Some(250))), "after 250 ms");
        assert_eq!(said(429, &json!({ "no": "frame" })), "after 3000 ms");
        let refused = said(403, &error("not_a_member", None));
        assert!(refused.contains("refused the message: not_a_member: why"), "{refused}");
        // It waits for its turn in the chat, which takes as long as an administrator wants.
        let slow = said(429, &error("slow_mode", Some(3_600_000)));
        assert!(slow.contains("slow_mode"), "{slow}");
        let gone = said(404, &json!("not found"));
        assert!(gone.contains("failed to send a message") && gone.contains("404"), "{gone}");
    }

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
    fn a_header_has_the_form_of_trace_context() {
        assert_eq!(header(1, 2), "00-00000000000000000000000000000001-0000000000000002-00");
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
            url: base(),
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

    #[test]
    fn the_first_step_that_is_missing_is_named() {
        let of = |steps: [Option<f64>; 2]| {
            let steps = ["accepted", "stored"].into_iter().zip(steps);
            let steps = steps.map(|(step, after_ms)| Step { step, what: String::new(), after_ms }).collect();
            Sent { span: 1, steps }.missing()
        };
        assert_eq!(of([Some(1.0), Some(2.0)]), None);
        assert_eq!(of([Some(1.0), None]), Some("stored"));
        assert_eq!(of([None, None]), Some("accepted"));
    }
}
