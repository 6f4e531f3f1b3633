//! What the commands do, a handler for each.
//!
//! A handler checks the arguments, and answers immediately or returns what the answer waits for. It knows no socket.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use contracts::{
    ChatId, ErrorCode, rpc,
    wire::{Command, Connect, Empty, HISTORY_PAGE_BYTES, History, HistoryPage, Message, Outcome},
};
use kit::{
    error::ServiceError as _,
    page::{HISTORY, PageSize},
};
use tokio::time::timeout;
use tonic::Code;

use crate::{
    domain::{
        answer::Refusal,
        session::{Identity, TokenRefusal, VerifiedToken},
    },
    error::GatewayError,
    registry::Connection,
    state::GatewayState,
};

use super::{
    refusals::failed,
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
    match command {
        Command::Connect(_) => {
            refused(Refusal::new(ErrorCode::InvalidArgument, "this connection is connected already"))
        }
        Command::Send(command) => sends::send(gateway, connection, caller, command.into()),
        Command::Edit(command) => sends::send(gateway, connection, caller, command.into()),
        Command::Delete(command) => sends::send(gateway, connection, caller, command.into()),
        Command::React(command) => sends::send(gateway, connection, caller, command.into()),
        Command::Pin(command) => sends::send(gateway, connection, caller, command.into()),
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

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
