//! The way of a message, from the device that sends it to those that show it, and what a client sees of it.

use std::time::{Duration, Instant};

use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey,
    api::Problem,
    wire::{self, ClientFrame, Command, Outcome, ServerFrame},
};
use posthouse_client::{ClientError, Identity, Messenger};
use serde::Serialize;
use tokio::time::{sleep, timeout};
use url::Url;

use crate::{
    failure::{Exit, Failure},
    lookup, password,
    sides::{self, PATIENCE, Side},
};

/// A message is held back for its rate so often before it is given up, and each time for so long at most.
const MAX_WAITS: u32 = 10;
const MAX_WAIT: Duration = Duration::from_secs(30);
/// What messages say.
pub(super) const BODY: &str = "posthouse trace";

/// What a client sees of its message.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Step {
    pub(super) step: &'static str,
    pub(super) what: String,
    /// From the call; none for what was not seen.
    pub(super) after_ms: Option<f64>,
}

/// A message that was sent.
pub(super) struct Sent {
    /// The span of ours that it named.
    pub(super) span: u64,
    pub(super) steps: Vec<Step>,
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
pub(super) struct Road {
    pub(super) identity: Identity,
    /// The device that sends. It has no connection, so both sides see its messages.
    device: DeviceId,
    pub(super) chat: ChatId,
    sides: [Side; 2],
}

impl Road {
    /// A road between two new users.
    pub(super) async fn of_two(messenger: &Messenger) -> Result<Self, Failure> {
        let ([first, second], chat) = sides::two_users(messenger).await?;
        let sides = [Side::open(&first, chat, 0).await?, Side::open(&second, chat, 0).await?];
        Ok(Self { identity: first, device: DeviceId::generate(), chat, sides })
    }

    /// A road from a user to their own other connections, in a chat that they have.
    pub(super) async fn of_user(messenger: &Messenger, user: &str, to: &str) -> Result<Self, Failure> {
        let password = password::read(user)?;
        let identity = Identity::sign_in(messenger, user, &password).await?;
        let token = identity.token().await?;
        let chat = find_chat(messenger, &token, to).await?;
        let head = lookup::head(messenger, &token, chat).await?;
        let sides = [Side::open(&identity, chat, head).await?, Side::open(&identity, chat, head).await?];
        Ok(Self { identity, device: DeviceId::generate(), chat, sides })
    }

    /// Sends a message, and waits until it was seen.
    pub(super) async fn send(&mut self, trace: u128) -> Result<Sent, Failure> {
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
    pub(super) fn missing(&self) -> Option<&'static str> {
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
            let (url, retry_after_seconds) = (base.to_string(), None);
            let error = ClientError::Refused { action: ACTION, url, status, retry_after_seconds, problem };
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

/// Returns the header of a request that belongs to a span of ours, which is recorded nowhere.
fn header(trace: u128, span: u64) -> String {
    format!("00-{trace:032x}-{span:016x}-00")
}

/// No id is zero.
#[expect(clippy::disallowed_methods, reason = "an edge: what a span of ours is called")]
fn draw_span() -> u64 {
    rand::random::<u64>() | 1
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
    fn a_header_has_the_form_of_trace_context() {
        assert_eq!(header(1, 2), "00-00000000000000000000000000000001-0000000000000002-00");
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
