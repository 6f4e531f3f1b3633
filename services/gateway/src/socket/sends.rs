//! What members add to a chat's log: messages, and what changes them.

use std::{sync::Arc, time::Instant};

use contracts::{
    ChatId, MessageKey, UserId,
    event::{EntryKind, SendRecord, VERSION},
    rpc,
    wire::Message,
};
use futures_util::future::join;
use kit::error::ServiceError as _;
use tonic::Code;

use super::{
    refusals::{beyond, failed},
    sending::Sending,
    step::{Pending, Step, refused},
};
use crate::{
    domain::{
        answer::Refusal,
        draft::{Blocker, Draft},
        session::Identity,
    },
    error::GatewayError,
    membership::Checking,
    registry::Connection,
    state::GatewayState,
};

/// Produces what a member sends. Who is not known to be one is checked before, everyone else meanwhile: what comes behind
/// the removal of its sender is refused by the log.
pub(super) fn send(
    gateway: &Arc<GatewayState>,
    connection: &Arc<Connection>,
    caller: Identity,
    draft: Draft,
) -> Step {
    if let Err(refusal) = draft.check() {
        return refused(refusal);
    }
    let now = Instant::now();
    if let Some((code, wait)) = connection.is_behind(draft.chat, draft.key, now) {
        let detail = "it comes behind a message of this chat that was refused; repeat that one first";
        return refused(Refusal::new(code, detail).after(wait));
    }
    // Before the look-up: one of a chat that the caller is not in costs as much as a message.
    if let Err(exceeded) = gateway.rates.take_user(caller.user, draft.body.len(), now) {
        return held(connection, (draft.chat, draft.key), beyond(gateway, exceeded));
    }
    if draft.target_seq.is_none()
        && let Some(checking) = gateway.membership.begin_check(draft.chat, caller.user)
    {
        let reviewed = Reviewed { draft, moderates: false, checking: Some(checking) };
        return produce(gateway, connection, caller, reviewed);
    }
    let (gateway, connection) = (gateway.clone(), connection.clone());
    let (chat, key) = (draft.chat, draft.key);
    Step::Undecided(Box::pin(async move {
        match review(&gateway, caller.user, draft).await {
            Ok(reviewed) => produce(&gateway, &connection, caller, reviewed),
            Err(error) => held(&connection, (chat, key), failed(&gateway, &error)),
        }
    }))
}

/// Refuses a send. When the client will repeat it, what comes behind it in the chat waits for that.
fn held(connection: &Connection, send: (ChatId, MessageKey), refusal: Refusal) -> Step {
    if let Some(wait) = refusal.repeated_after() {
        connection.hold_back(send, refusal.code, wait, Instant::now());
    }
    refused(refusal)
}

/// An entry that may be produced.
struct Reviewed {
    draft: Draft,
    /// Whether the sender may delete what others wrote, and does.
    moderates: bool,
    /// The check of the sender, when it is not concluded.
    checking: Option<Checking>,
}

/// Checks the sender, and the message that the entry speaks of.
async fn review(gateway: &GatewayState, sender: UserId, draft: Draft) -> Result<Reviewed, GatewayError> {
    let chat = draft.chat;
    let checked = gateway.membership.check(chat, sender, draft.kind).await;
    if let Err(error) = checked {
        let stays_refused = !error.code().is_temporary();
        if stays_refused && is_repeated(gateway, sender, &draft).await {
            // It is stored, and the sender is not to believe otherwise: the log answers with its seq.
            return Ok(Reviewed { draft, moderates: false, checking: None });
        }
        return Err(error);
    }
    gateway.outages.chat.worked("querying the chat service");
    let moderates = match draft.target_seq {
        Some(seq) => review_target(gateway, sender, &draft, seq).await?,
        None => false,
    };
    Ok(Reviewed { draft, moderates, checking: None })
}

/// Returns whether the entry changes what another user wrote, as its sender may.
async fn review_target(
    gateway: &GatewayState,
    sender: UserId,
    draft: &Draft,
    seq: i64,
) -> Result<bool, GatewayError> {
    let chat = draft.chat;
    let (target, is_repeated) = target(gateway, draft, sender, seq).await?;
    match draft.blocker(sender, &target) {
        None => Ok(false),
        // The log answers it as it did before, whatever became of the message since.
        Some(_) if is_repeated => Ok(false),
        Some(Blocker::NoTarget) => Err(GatewayError::NoTarget { chat, seq }),
        Some(Blocker::NoChange) => Err(GatewayError::NoChange { chat, seq, kind: draft.kind }),
        Some(Blocker::TooManyChanges) => Err(GatewayError::TooManyChanges { chat, seq, kind: draft.kind }),
        Some(Blocker::NotTheirs) => {
            if draft.may_moderate() && gateway.membership.moderates(chat, sender).await? {
                Ok(true)
            } else {
                Err(GatewayError::NotTheirs { chat, seq })
            }
        }
    }
}

/// Returns whether an entry is known to be stored.
async fn is_repeated(gateway: &GatewayState, sender: UserId, draft: &Draft) -> bool {
    let request = rpc::EntryRequest {
        chat_id: draft.chat.to_string(),
        user_id: sender.to_string(),
        seq: 0,
        key: draft.key.to_string(),
    };
    let response = gateway.history.clone().entry(request).await;
    response.is_ok_and(|response| response.into_inner().is_key_known)
}

/// Reads the message that an entry speaks of, as the chat's members do. Returns also whether the entry itself is stored already.
async fn target(
    gateway: &GatewayState,
    draft: &Draft,
    sender: UserId,
    seq: i64,
) -> Result<(Message, bool), GatewayError> {
    let chat = draft.chat;
    let request = rpc::EntryRequest {
        chat_id: chat.to_string(),
        user_id: sender.to_string(),
        seq,
        key: draft.key.to_string(),
    };
    let response = gateway.history.clone().entry(request).await.map_err(|status| match status.code() {
        Code::PermissionDenied => GatewayError::NotAMember { chat },
        Code::NotFound => GatewayError::NoTarget { chat, seq },
        _ => GatewayError::History { chat, source: Arc::new(status) },
    })?;
    gateway.outages.history.worked("querying the message service");
    let rpc::EntryResponse { message, is_key_known } = response.into_inner();
    let message = message.ok_or(GatewayError::NoTarget { chat, seq })?;
    Ok((message.try_into().map_err(|source| GatewayError::Entry { chat, source })?, is_key_known))
}

fn produce(
    gateway: &Arc<GatewayState>,
    connection: &Arc<Connection>,
    caller: Identity,
    reviewed: Reviewed,
) -> Step {
    let Reviewed { draft, moderates, checking } = reviewed;
    let Draft { chat, key, kind, body, target_seq, mentions, mentions_all } = draft;
    let since = Instant::now();
    let is_text = kind == EntryKind::Text;
    if is_text && let Err(error) = gateway.membership.take_turn(chat, caller.user, key) {
        return refused(failed(gateway, &error));
    }
    let give_back = || {
        if is_text {
            gateway.membership.slow_mode.give_back(chat, caller.user, key);
        }
    };
    if let Err(exceeded) = gateway.rates.take_chat(chat, body.len(), since) {
        give_back();
        return held(connection, (chat, key), beyond(gateway, exceeded));
    }
    let record = SendRecord {
        v: VERSION,
        chat,
        sender: caller.user,
        device: caller.device,
        key,
        kind,
        body,
        subject: None,
        target_seq,
        mentions,
        mentions_all,
        moderates,
        subject_only: false,
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
            give_back();
            held(connection, (chat, key), failed(gateway, &GatewayError::Produce { chat, source }))
        }
    }
}
