//! What the commands do, a handler for each.
//!
//! A handler checks the arguments, and answers immediately or returns what the answer waits for. It knows no socket.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use contracts::{
    ChatId, ErrorCode, SessionId, UserId, rpc,
    wire::{
        Activity, Command, Connect, Empty, HISTORY_PAGE_BYTES, History, HistoryPage, ListPage,
        MAX_CURSOR_BYTES, MAX_SYNC_ENTRIES, Mark, Message, Outcome, Pins, Replies, Sync, SyncPage, Typing,
    },
};
use kit::{
    auth::Claims,
    error::{InvalidField, ServiceError as _},
    page::{HISTORY, LIST, SYNC, Span},
};
use tokio::time::timeout;
use tonic::Code;

use crate::{
    domain::{
        answer::Refusal,
        send_queue::Reserved,
        session::{Identity, TokenRefusal, VerifiedToken},
    },
    error::GatewayError,
    registry::Connection,
    state::GatewayState,
};

use super::{
    refusals::{beyond, failed},
    sends,
    step::{Pending, Step, refused},
};

/// Runs a command of a connected client.
pub(super) fn run(
    gateway: &Arc<GatewayState>,
    connection: &Arc<Connection>,
    caller: Identity,
    command: Command,
) -> Step {
    let is_query = matches!(
        command,
        Command::History(_)
            | Command::Pins(_)
            | Command::Replies(_)
            | Command::Sync(_)
            | Command::Read(_)
            | Command::Delivered(_)
            // Its source is read.
            | Command::Forward(_)
    );
    if is_query && let Err(exceeded) = gateway.rates.take_query(caller.user, Instant::now()) {
        let refusal = beyond(gateway, exceeded);
        return match command {
            Command::Forward(forward) => sends::held(connection, (forward.chat, forward.key), refusal),
            _ => refused(refusal),
        };
    }
    match command {
        Command::Connect(_) => {
            refused(Refusal::new(ErrorCode::InvalidArgument, "this connection is connected already"))
        }
        Command::Send(command) => sends::send(gateway, connection, caller, command.into()),
        Command::Edit(command) => sends::send(gateway, connection, caller, command.into()),
        Command::Delete(command) => sends::send(gateway, connection, caller, command.into()),
        Command::DeleteRange(command) => sends::send(gateway, connection, caller, command.into()),
        Command::Forward(command) => sends::forward(gateway, connection, caller, command),
        Command::React(command) => sends::send(gateway, connection, caller, command.into()),
        Command::Pin(command) => sends::send(gateway, connection, caller, command.into()),
        Command::History(query) => history(gateway, caller, query),
        Command::Pins(query) => pins(gateway, caller, query),
        Command::Replies(query) => replies(gateway, caller, query),
        Command::Sync(query) => {
            let syncing = gateway.metrics.syncing();
            sync(gateway, connection, caller, query).timed(syncing)
        }
        Command::Read(Mark { chat, seq }) => mark(gateway, caller, chat, (seq, 0)),
        Command::Delivered(Mark { chat, seq }) => mark(gateway, caller, chat, (0, seq)),
        Command::Refresh(refresh) => {
            let gateway = gateway.clone();
            let token = async move { Step::Refreshed(verified(&gateway, &refresh.token).await) };
            Step::Undecided(Box::pin(token))
        }
        Command::Pong(Empty {}) => Step::Nothing,
        Command::Watch(watch) => match gateway.presence.watch(connection, caller.user, watch) {
            Ok(answer) => Step::Pending(Pending::Query(Box::pin(answer))),
            Err(refusal) => refused(refusal),
        },
        Command::Activity(Activity { state }) => {
            gateway.presence.activity(connection, caller.user, state);
            Step::Nothing
        }
        Command::Typing(Typing { chat }) => {
            gateway.presence.typing(chat, caller.user);
            Step::Nothing
        }
    }
}

/// Runs the first command.
pub(super) fn connect(gateway: &Arc<GatewayState>, connect: Connect) -> Step {
    let gateway = gateway.clone();
    let token = async move {
        let token = verified(&gateway, &connect.token).await;
        if let Ok(token) = &token {
            // Pushes come from `connected` on.
            gateway.membership.prepare(token.user).await;
        }
        Step::Connected(connect.device, token)
    };
    Step::Undecided(Box::pin(token))
}

async fn verified(gateway: &GatewayState, token: &str) -> Result<VerifiedToken, TokenRefusal> {
    // The check may wait for the realm's keys, behind others that wait for them.
    let claims = timeout(gateway.limits.check_within, gateway.verifier.verify(token)).await;
    let claims =
        claims.map_err(|_| ErrorCode::Unavailable).and_then(|claims| claims.map_err(|error| error.code()));
    let Claims { user_id, session, expires_at, .. } = claims.map_err(TokenRefusal::Unverified)?;
    vouched(gateway, user_id, session, expires_at)
}

/// Returns what a good token gives, unless its session has ended. `expires_at` is in seconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "an edge: the time that is left to a token")]
pub(crate) fn vouched(
    gateway: &GatewayState,
    user: UserId,
    session: SessionId,
    expires_at: i64,
) -> Result<VerifiedToken, TokenRefusal> {
    if gateway.ended.has(user, &session) {
        return Err(TokenRefusal::SessionEnded);
    }
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    Ok(VerifiedToken { user, session, expires_in_seconds: expires_at.saturating_sub(now) })
}

fn history(gateway: &Arc<GatewayState>, caller: Identity, query: History) -> Step {
    let request = match page_request(caller, &query) {
        Ok(request) => request,
        Err(invalid) => return refused(Refusal::new(invalid.code(), invalid.to_string())),
    };
    let room = match room_for_page(gateway) {
        Ok(room) => room,
        Err(refusal) => return refused(refusal),
    };
    let gateway = gateway.clone();
    Step::Pending(Pending::Query(Box::pin(async move {
        let _room = room;
        let page = page(&gateway, caller, query.chat, request).await;
        let page = page.map_err(|error| failed(&gateway, &error))?;
        gateway.outages.history.worked("querying the message service");
        Ok(Outcome::History(page))
    })))
}

/// Lists what is pinned in a chat.
fn pins(gateway: &Arc<GatewayState>, caller: Identity, query: Pins) -> Step {
    let Pins { chat, before, limit } = query;
    let limit = match LIST.of(limit.map(i64::from)) {
        Ok(size) => size.items() as i32,
        Err(invalid) => return refused(Refusal::new(invalid.code(), invalid.to_string())),
    };
    if before.is_some_and(|before| before < 1) {
        let invalid = InvalidField { field: "before", problem: "must be 1 or more".to_owned() };
        return refused(Refusal::new(invalid.code(), invalid.to_string()));
    }
    let request = rpc::PinsRequest {
        chat_id: chat.to_string(),
        user_id: caller.user.to_string(),
        before_seq: before,
        limit,
    };
    let client = gateway.history.clone();
    listed(gateway, (chat, 0), async move { { client }.pins(request).await })
}

/// Lists the replies to a message.
fn replies(gateway: &Arc<GatewayState>, caller: Identity, query: Replies) -> Step {
    let Replies { chat, seq, after, limit } = query;
    let limit = match LIST.of(limit.map(i64::from)) {
        Ok(size) => size.items() as i32,
        Err(invalid) => return refused(Refusal::new(invalid.code(), invalid.to_string())),
    };
    for (field, number, least) in [("seq", seq, 1), ("after", after.unwrap_or(0), 0)] {
        if number < least {
            let invalid = InvalidField { field, problem: format!("must be {least} or more") };
            return refused(Refusal::new(invalid.code(), invalid.to_string()));
        }
    }
    let request = rpc::RepliesRequest {
        chat_id: chat.to_string(),
        user_id: caller.user.to_string(),
        seq,
        after_seq: after.unwrap_or(0),
        limit,
    };
    let client = gateway.history.clone();
    listed(gateway, (chat, seq), async move { { client }.replies(request).await })
}

/// Answers with a list of messages, once it is read. `seq` is the message that it is about.
fn listed(
    gateway: &Arc<GatewayState>,
    (chat, seq): (ChatId, i64),
    response: impl Future<Output = Result<tonic::Response<rpc::ListResponse>, tonic::Status>> + Send + 'static,
) -> Step {
    let room = match room_for_page(gateway) {
        Ok(room) => room,
        Err(refusal) => return refused(refusal),
    };
    let gateway = gateway.clone();
    Step::Pending(Pending::Query(Box::pin(async move {
        let _room = room;
        let list = async {
            let response = response.await.map_err(|status| match status.code() {
                Code::PermissionDenied => GatewayError::NotAMember { chat },
                Code::NotFound => GatewayError::NoEntry { chat, seq },
                _ => GatewayError::History { chat, source: Arc::new(status) },
            })?;
            let rpc::ListResponse { messages, more } = response.into_inner();
            let messages: Result<Vec<_>, _> = messages.into_iter().map(Message::try_from).collect();
            let messages = messages.map_err(|source| GatewayError::Entry { chat, source })?;
            Ok(ListPage { chat, messages, more })
        };
        let list = list.await.map_err(|error| failed(&gateway, &error))?;
        gateway.outages.history.worked("querying the message service");
        Ok(Outcome::Listed(list))
    })))
}

fn sync(gateway: &Arc<GatewayState>, connection: &Arc<Connection>, caller: Identity, query: Sync) -> Step {
    let request = match sync_request(caller, query) {
        Ok(request) => request,
        Err(invalid) => return refused(Refusal::new(invalid.code(), invalid.to_string())),
    };
    let room = match room_for_page(gateway) {
        Ok(room) => room,
        Err(refusal) => return refused(refusal),
    };
    let (gateway, connection) = (gateway.clone(), connection.clone());
    Step::Pending(Pending::Query(Box::pin(async move {
        let _room = room;
        // What is announced behind the page has to be pushed.
        if !gateway.membership.is_ready(caller.user).await {
            let detail = "which chats you are in is not known at the moment; try again";
            return Err(Refusal::new(ErrorCode::Unavailable, detail));
        }
        let answer = match gateway.history.clone().sync(request).await {
            Ok(response) => {
                let mut response = response.into_inner();
                let places = std::mem::take(&mut response.places);
                let page = SyncPage::try_from(response).map_err(|source| GatewayError::SyncPage { source });
                page.map(|page| (page, places))
            }
            Err(status) if status.code() == Code::FailedPrecondition => Err(GatewayError::CursorExpired),
            Err(status) => Err(GatewayError::Sync { source: Arc::new(status) }),
        };
        let (page, places) = answer.map_err(|error| failed(&gateway, &error))?;
        gateway.outages.history.worked("querying the message service");
        if !page.more {
            let heads: HashMap<ChatId, i64> = page.chats.iter().map(|of| (of.chat, of.head_seq)).collect();
            let has = |chat| heads.get(&chat).copied();
            let members = &gateway.membership.members;
            gateway.positions.complete(members, &connection, caller.user, &places, has);
        }
        Ok(Outcome::Synced(page))
    })))
}

fn sync_request(caller: Identity, query: Sync) -> Result<rpc::SyncRequest, InvalidField> {
    let Sync { cursor, limit, entries } = query;
    let cursor = cursor.unwrap_or_default();
    if cursor.len() > MAX_CURSOR_BYTES {
        let problem = format!("has at most {MAX_CURSOR_BYTES} bytes");
        return Err(InvalidField { field: "cursor", problem });
    }
    let entries = entries.unwrap_or(1);
    if entries > MAX_SYNC_ENTRIES {
        let problem = format!("must be 0 to {MAX_SYNC_ENTRIES}");
        return Err(InvalidField { field: "entries", problem });
    }
    Ok(rpc::SyncRequest {
        user_id: caller.user.to_string(),
        cursor,
        limit: SYNC.of(limit.map(i64::from))?.items() as i32,
        entries: entries as i32,
    })
}

/// Moves the watermarks of the caller: what is read, and what is received.
fn mark(
    gateway: &Arc<GatewayState>,
    caller: Identity,
    chat: ChatId,
    (read_seq, delivered_seq): (i64, i64),
) -> Step {
    let seq = read_seq.max(delivered_seq);
    if seq < 1 {
        let invalid = InvalidField { field: "seq", problem: "must be 1 or more".to_owned() };
        return refused(Refusal::new(invalid.code(), invalid.to_string()));
    }
    let request = rpc::MarkRequest {
        chat_id: chat.to_string(),
        user_id: caller.user.to_string(),
        read_seq,
        delivered_seq,
    };
    let gateway = gateway.clone();
    Step::Pending(Pending::Query(Box::pin(async move {
        let marked = gateway.history.clone().mark(request).await.map_err(|status| match status.code() {
            Code::PermissionDenied => GatewayError::NotAMember { chat },
            Code::NotFound => GatewayError::NoEntry { chat, seq },
            _ => GatewayError::History { chat, source: Arc::new(status) },
        });
        let marked = marked.map_err(|error| failed(&gateway, &error))?;
        gateway.outages.history.worked("querying the message service");
        Ok(Outcome::Marked(marked.into_inner().into()))
    })))
}

/// Returns the room for a page, before it is queried; its frame takes it over in the send queue.
fn room_for_page(gateway: &GatewayState) -> Result<Reserved, Refusal> {
    let room = gateway.metrics.queued_bytes.reserve(HISTORY_PAGE_BYTES);
    room.ok_or_else(|| Refusal::new(ErrorCode::RateLimited, "too many histories are read; try again"))
}

fn page_request(caller: Identity, query: &History) -> Result<rpc::HistoryRequest, InvalidField> {
    let History { chat, after, before, around, from_ms, limit } = *query;
    let (after_seq, before_seq, around_seq, from_ms) = match Span::of(after, before, around, from_ms)? {
        Span::After(seq) => (seq, None, None, None),
        Span::Before(seq) => (0, Some(seq), None, None),
        Span::Around(seq) => (0, None, Some(seq), None),
        Span::Since(ms) => (0, None, None, Some(ms)),
    };
    Ok(rpc::HistoryRequest {
        chat_id: chat.to_string(),
        user_id: caller.user.to_string(),
        known_from_seq: None,
        after_seq,
        before_seq,
        around_seq,
        from_ms,
        limit: HISTORY.of(limit.map(i64::from))?.items() as i32,
    })
}

async fn page(
    gateway: &GatewayState,
    caller: Identity,
    chat: ChatId,
    request: rpc::HistoryRequest,
) -> Result<HistoryPage, GatewayError> {
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

#[cfg(test)]
mod tests {
    use contracts::DeviceId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_page_of_history_has_a_default_size_and_bounds() {
        let user = UserId(Uuid::from_u128(1));
        let caller = Identity { user, device: DeviceId(Uuid::from_u128(2)) };
        type Page = (i64, Option<i64>, Option<i64>, i32);
        let check = |query: History, expected: Result<Page, &'static str>| {
            let request = page_request(caller, &query).map_err(|invalid| invalid.field);
            let request = request.map(|of| (of.after_seq, of.before_seq, of.around_seq, of.limit));
            assert_eq!(request, expected, "{query:?}");
        };
        let after = |seq, limit| History::after(ChatId(Uuid::from_u128(12)), seq, limit);
        check(after(0, None), Ok((0, None, None, 100)));
        check(after(3, Some(7)), Ok((3, None, None, 7)));
        check(History { after: None, before: Some(9), ..after(0, Some(500)) }, Ok((0, Some(9), None, 500)));
        check(History { after: None, around: Some(9), ..after(0, None) }, Ok((0, None, Some(9), 100)));
        check(History { after: None, ..after(0, None) }, Ok((0, None, None, 100)));
        for limit in [0, 501, u32::MAX] {
            check(after(0, Some(limit)), Err("limit"));
        }
        check(after(-1, None), Err("after"));
        let since = History { after: None, from_ms: Some(5), ..after(0, None) };
        assert_eq!(
            page_request(caller, &since).map(|of| (of.after_seq, of.from_ms)).ok(),
            Some((0, Some(5)))
        );
        check(History { before: Some(9), ..after(0, None) }, Ok((0, Some(9), None, 100)));
    }
}
