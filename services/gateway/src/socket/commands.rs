//! What the commands do, a handler for each.
//!
//! A handler checks the arguments, and answers immediately or returns what the answer waits for. It knows no socket.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey, UserId,
    event::{EntryKind, SendRecord, VERSION},
    rpc,
    wire::{
        Command, Connect, Empty, HISTORY_PAGE_BYTES, History, HistoryPage, MAX_BODY_BYTES, Message, Outcome,
        Send,
    },
};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Join, OptionFuture, join},
};
use kit::{
    error::ServiceError as _,
    log::{Delivery, Undelivered},
    page::{HISTORY, PageSize},
};
use tokio::time::timeout;
use tonic::Code;

use crate::{
    domain::{
        answer::{Answer, Refusal},
        session::{Identity, Lane, TokenRefusal, VerifiedToken},
    },
    error::GatewayError,
    membership::{Checked, Checking, members::Audience},
    registry::Connection,
    state::GatewayState,
};

/// How a command goes on.
pub(super) enum Step {
    /// It is over and has no answer.
    Nothing,
    Answer(Answer),
    /// `connect` is over: the session decides.
    Connected(DeviceId, Result<VerifiedToken, TokenRefusal>),
    /// `refresh` is over: the session decides.
    Refreshed(Result<VerifiedToken, TokenRefusal>),
    /// The next step is not known yet. No further command is read, so that the order of commands is the order of their
    /// effects.
    Undecided(BoxFuture<'static, Step>),
    /// The answer comes later; further commands are read meanwhile.
    Pending(Pending),
}

/// An answer that comes later.
pub(super) enum Pending {
    /// Not boxed like the others: this is the way of every message.
    Send(Sending),
    Query(BoxFuture<'static, Answer>),
}

/// A message in the producer's queue. It is accepted when the log has it and its sender was in the chat.
pub(super) struct Sending {
    gateway: Arc<GatewayState>,
    connection: Arc<Connection>,
    chat: ChatId,
    sender: UserId,
    key: MessageKey,
    since: Instant,
    outcome: Join<Delivery, OptionFuture<Checking>>,
}

impl Pending {
    pub(super) const fn lane(&self) -> Lane {
        match self {
            Self::Send(_) => Lane::Sends,
            Self::Query(_) => Lane::Queries,
        }
    }
}

impl Future for Pending {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match self.get_mut() {
            Self::Send(sending) => {
                sending.outcome.poll_unpin(cx).map(|(delivered, checked)| sending.answer(delivered, checked))
            }
            Self::Query(answer) => answer.poll_unpin(cx),
        }
    }
}

/// Runs a command of a connected client.
pub(super) fn run(
    gateway: &Arc<GatewayState>,
    connection: &Arc<Connection>,
    caller: Identity,
    command: Command,
) -> Step {
    match command {
        Command::Connect(_) => {
            refused(Refusal::new(ErrorCode::InvalidArgument, "this connection is connected already"))
        }
        Command::Send(command) => send(gateway, connection, caller, command),
        Command::History(query) => history(gateway, caller, query),
        Command::Refresh(refresh) => {
            let gateway = gateway.clone();
            let token = async move { Step::Refreshed(verified(&gateway, &refresh.token).await) };
            Step::Undecided(Box::pin(token))
        }
        Command::Pong(Empty {}) => Step::Nothing,
    }
}

/// Runs the first command.
pub(super) fn connect(gateway: &Arc<GatewayState>, connect: Connect) -> Step {
    let gateway = gateway.clone();
    let token = async move { Step::Connected(connect.device, verified(&gateway, &connect.token).await) };
    Step::Undecided(Box::pin(token))
}

#[expect(clippy::disallowed_methods, reason = "an edge: the time that is left to a token")]
async fn verified(gateway: &GatewayState, token: &str) -> Result<VerifiedToken, TokenRefusal> {
    // The check may wait for the realm's keys, behind others that wait for them.
    let claims = timeout(gateway.limits.check_within, gateway.verifier.verify(token)).await;
    let claims =
        claims.map_err(|_| ErrorCode::Unavailable).and_then(|claims| claims.map_err(|error| error.code()));
    let claims = claims.map_err(TokenRefusal::Unverified)?;
    if gateway.ended.has(claims.user_id, &claims.session) {
        return Err(TokenRefusal::SessionEnded);
    }
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    Ok(VerifiedToken {
        user: claims.user_id,
        session: claims.session,
        expires_in_seconds: claims.expires_at.saturating_sub(now),
    })
}

/// Produces what a member sends. Who is not known to be one is checked before, everyone else meanwhile: what comes behind
/// the removal of its sender is refused by the log.
fn send(gateway: &Arc<GatewayState>, connection: &Arc<Connection>, caller: Identity, send: Send) -> Step {
    if let Err(refusal) = check_body(&send.body) {
        return refused(refusal);
    }
    // Before the look-up: one of a chat that the caller is not in costs as much as a message.
    if let Err(wait) = gateway.rates.take_user(caller.user, Instant::now()) {
        return refused(Refusal::rate_limited("you send too much; wait before you send more", wait));
    }
    if let Some((audience, checking)) = gateway.membership.likely_audience(send.chat, caller.user) {
        return produce(gateway, connection, caller, send, audience, Some(checking));
    }
    let (gateway, connection) = (gateway.clone(), connection.clone());
    Step::Undecided(Box::pin(async move {
        match gateway.membership.audience(send.chat, caller.user).await {
            Ok(audience) => {
                gateway.outages.chat.worked("querying the chat service");
                produce(&gateway, &connection, caller, send, audience, None)
            }
            Err(error) => refused(failed(&gateway, &error)),
        }
    }))
}

fn check_body(body: &str) -> Result<(), Refusal> {
    match body.len() {
        0 => Err(Refusal::new(ErrorCode::InvalidArgument, "a message has a body")),
        1..=MAX_BODY_BYTES => Ok(()),
        _ => Err(Refusal::new(ErrorCode::TooLarge, format!("a body has at most {MAX_BODY_BYTES} bytes"))),
    }
}

fn produce(
    gateway: &Arc<GatewayState>,
    connection: &Arc<Connection>,
    caller: Identity,
    send: Send,
    audience: Audience,
    checking: Option<Checking>,
) -> Step {
    let Send { chat, key, body } = send;
    let since = Instant::now();
    if let Err(wait) = gateway.rates.take_chat(chat, since) {
        return refused(Refusal::rate_limited(
            "too much is sent to this chat; wait before you send more",
            wait,
        ));
    }
    let record = SendRecord {
        v: VERSION,
        chat,
        sender: caller.user,
        device: caller.device,
        key,
        kind: EntryKind::Text,
        body,
        subject: None,
        audience,
    };
    // Noted first: what it comes to may be here before the next line.
    connection.sending(key, since);
    match gateway.log.enqueue(&record) {
        Ok(delivery) => Step::Pending(Pending::Send(Sending {
            gateway: gateway.clone(),
            connection: connection.clone(),
            chat,
            sender: caller.user,
            key,
            since,
            outcome: join(delivery, checking.into()),
        })),
        Err(source) => {
            connection.settled(key);
            refused(failed(gateway, &GatewayError::Produce { chat, source }))
        }
    }
}

impl Sending {
    fn answer(&self, delivered: Result<(), Undelivered>, checked: Option<Checked>) -> Answer {
        let Self { gateway, chat, .. } = self;
        gateway.metrics.produce_seconds.observe(self.since.elapsed().as_secs_f64());
        let outcome = match delivered {
            Err(Undelivered { error: source, .. }) => Err(GatewayError::Produce { chat: *chat, source }),
            Ok(()) => {
                gateway.outages.log.worked("the log of sends");
                match checked {
                    Some(checked) => gateway
                        .membership
                        .conclude(*chat, self.sender, checked)
                        .inspect(|()| gateway.outages.chat.worked("querying the chat service")),
                    None => Ok(()),
                }
            }
        };
        outcome.map(|()| Outcome::Accepted(Empty {})).map_err(|error| {
            self.connection.settled(self.key);
            failed(gateway, &error)
        })
    }
}

fn history(gateway: &Arc<GatewayState>, caller: Identity, query: History) -> Step {
    let size = match page_size(&query) {
        Ok(size) => size,
        Err(refusal) => return refused(refusal),
    };
    // Before the page is queried: the room for it, which its frame takes over in the send queue.
    let Some(room) = gateway.metrics.queued_bytes.reserve(HISTORY_PAGE_BYTES) else {
        return refused(Refusal::new(ErrorCode::RateLimited, "too many histories are read; try again"));
    };
    let gateway = gateway.clone();
    Step::Pending(Pending::Query(Box::pin(async move {
        let _room = room;
        let page = page(&gateway, caller, query.chat, query.after, size).await;
        let page = page.map_err(|error| failed(&gateway, &error))?;
        gateway.outages.history.worked("querying the message service");
        Ok(Outcome::History(page))
    })))
}

fn page_size(query: &History) -> Result<PageSize, Refusal> {
    if query.after < 0 {
        return Err(Refusal::new(ErrorCode::InvalidArgument, "after is 0 or more"));
    }
    let size = HISTORY.of(query.limit.map(i64::from));
    size.map_err(|invalid| Refusal::new(invalid.code(), invalid.to_string()))
}

async fn page(
    gateway: &GatewayState,
    caller: Identity,
    chat: ChatId,
    after_seq: i64,
    size: PageSize,
) -> Result<HistoryPage, GatewayError> {
    let limit = size.items() as i32;
    let (chat_id, user_id) = (chat.to_string(), caller.user.to_string());
    let request = rpc::HistoryRequest { chat_id, user_id, known_from_seq: None, after_seq, limit };
    let response = match gateway.history.clone().history(request.clone()).await {
        Ok(response) => response,
        Err(status) if status.code() == Code::PermissionDenied => {
            return Err(GatewayError::NotAMember { chat });
        }
        // It may be the chat service that does not answer.
        Err(status) => match gateway.membership.known_beginning(chat, caller.user) {
            Some(from_seq) if status.code() == Code::Unavailable => {
                let request = rpc::HistoryRequest { known_from_seq: Some(from_seq), ..request };
                let response = gateway.history.clone().history(request).await;
                response.map_err(|status| GatewayError::History { chat, source: Arc::new(status) })?
            }
            Some(_) | None => return Err(GatewayError::History { chat, source: Arc::new(status) }),
        },
    };
    let rpc::HistoryResponse { messages, head_seq, from_seq } = response.into_inner();
    let messages: Result<Vec<_>, _> = messages.into_iter().map(Message::try_from).collect();
    let messages = messages.map_err(|source| GatewayError::Entry { chat, source })?;
    // Before the entry of a new member is stored, their history begins behind the head, and the seq is not the last word.
    if from_seq <= head_seq {
        gateway.membership.note_beginning(chat, caller.user, from_seq);
    }
    Ok(HistoryPage { chat, messages, head_seq, from_seq })
}

fn refused(refusal: Refusal) -> Step {
    Step::Answer(Err(refusal))
}

/// Notes a failure and returns what the client reads about it; the cause stays in the log.
fn failed(gateway: &GatewayState, error: &GatewayError) -> Refusal {
    let outages = &gateway.outages;
    match error {
        GatewayError::NotAMember { .. } | GatewayError::NoRecipient { .. } => {}
        GatewayError::Membership { .. } => outages.chat.failed("querying the chat service", error),
        GatewayError::History { .. } | GatewayError::Entry { .. } => {
            outages.history.failed("querying the message service", error);
        }
        GatewayError::Produce { .. } => outages.log.failed("the log of sends", error),
    }
    Refusal::new(error.code(), detail_of(error))
}

const fn detail_of(error: &GatewayError) -> &'static str {
    match error {
        GatewayError::NotAMember { .. } => "you are not in this chat, or there is no such chat",
        GatewayError::NoRecipient { .. } => {
            "the other user of this direct chat has left; read it, and send elsewhere"
        }
        GatewayError::Membership { .. } | GatewayError::History { .. } | GatewayError::Produce { .. } => {
            "something needed for this is down; repeat it with the same key"
        }
        GatewayError::Entry { .. } => "internal error",
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_body_has_a_size() {
        let check = |body: &str, expected| {
            assert_eq!(check_body(body).map_err(|refusal| refusal.code), expected);
        };
        check("", Err(ErrorCode::InvalidArgument));
        check("x", Ok(()));
        check(&"x".repeat(MAX_BODY_BYTES), Ok(()));
        check(&"x".repeat(MAX_BODY_BYTES + 1), Err(ErrorCode::TooLarge));
    }

    #[test]
    fn a_page_of_history_has_a_default_size_and_bounds() {
        let check = |after, limit, expected| {
            let query = History { chat: ChatId(Uuid::from_u128(12)), after, limit };
            assert_eq!(page_size(&query).map(PageSize::items).map_err(|refusal| refusal.code), expected);
        };
        check(0, None, Ok(100));
        check(0, Some(7), Ok(7));
        check(0, Some(500), Ok(500));
        for limit in [0, 501, u32::MAX] {
            check(0, Some(limit), Err(ErrorCode::InvalidArgument));
        }
        check(-1, None, Err(ErrorCode::InvalidArgument));
    }
}
