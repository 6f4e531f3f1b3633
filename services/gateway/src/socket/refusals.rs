//! What a client reads of a failure.

use std::borrow::Cow;

use contracts::{
    ErrorCode,
    event::EntryKind,
    wire::{MAX_EDITS, MAX_PINS, MAX_REACTIONS, MAX_ROLE_MENTIONS},
};
use kit::error::ServiceError as _;

use crate::{
    domain::{answer::Refusal, rates::Exceeded},
    error::GatewayError,
    state::GatewayState,
};

/// Counts what is beyond a limit, and returns what the client reads about it.
pub(super) fn beyond(gateway: &GatewayState, exceeded: Exceeded) -> Refusal {
    gateway.metrics.count_limited(exceeded.limit);
    Refusal::rate_limited(exceeded.detail(), exceeded.wait)
}

/// Notes a failure and returns what the client reads about it; the cause stays in the log.
pub(super) fn failed(gateway: &GatewayState, error: &GatewayError) -> Refusal {
    let outages = &gateway.outages;
    match error {
        GatewayError::SlowMode { wait, .. } => {
            let detail = "this chat is in slow mode; wait before you send another message";
            return Refusal::new(ErrorCode::SlowMode, detail).after(*wait);
        }
        GatewayError::NotAMember { .. }
        | GatewayError::NoRecipient { .. }
        | GatewayError::Restricted { .. }
        | GatewayError::ReadsOnly { .. }
        | GatewayError::NoTarget { .. }
        | GatewayError::NotTheirs { .. }
        | GatewayError::NoChange { .. }
        | GatewayError::TooManyChanges { .. }
        | GatewayError::TooManyPins { .. }
        | GatewayError::TooManyCalled { .. }
        | GatewayError::NoEntry { .. }
        | GatewayError::NoSource { .. }
        | GatewayError::NoSuchFile { .. }
        | GatewayError::NoMedia { .. }
        | GatewayError::CursorExpired => {}
        GatewayError::Membership { .. } => outages.chat.failed("querying the chat service", error),
        GatewayError::History { .. }
        | GatewayError::Entry { .. }
        | GatewayError::Sync { .. }
        | GatewayError::SyncPage { .. } => {
            outages.history.failed("querying the message service", error);
        }
        GatewayError::Media { .. } | GatewayError::File { .. } => {
            outages.media.failed("querying the media service", error);
        }
        GatewayError::Produce { .. } => outages.log.failed("the log of sends", error),
    }
    Refusal::new(error.code(), detail_of(error))
}

fn detail_of(error: &GatewayError) -> Cow<'static, str> {
    let detail = match error {
        GatewayError::NotAMember { .. } => "you are not in this chat, or there is no such chat",
        GatewayError::NoRecipient { .. } => {
            "this direct chat takes no messages: the other user has left, or one of you has blocked the other"
        }
        GatewayError::Restricted { .. } => {
            "moderators let you write nothing in this chat, for a time or for good: GET /api/moderation/own says why"
        }
        GatewayError::ReadsOnly { .. } => {
            "only the owner and the admins of this channel write here; you may react"
        }
        GatewayError::NoTarget { .. } => "there is no such message, or it is deleted",
        GatewayError::NotTheirs { .. } => {
            "another user wrote this message; owners and admins of a group may delete it"
        }
        GatewayError::NoChange { kind, .. } => match kind {
            EntryKind::Reaction => "you react so to this message already",
            EntryKind::ReactionRemoved => "you do not react so to this message",
            EntryKind::Pin => "this message is pinned already",
            EntryKind::Unpin => "this message is not pinned",
            EntryKind::Text
            | EntryKind::Edit
            | EntryKind::Delete
            | EntryKind::DeleteRange
            | EntryKind::MemberAdded
            | EntryKind::MemberRemoved
            | EntryKind::RoleChanged
            | EntryKind::TitleChanged
            | EntryKind::TopicChanged
            | EntryKind::AvatarChanged
            | EntryKind::SlowModeChanged
            | EntryKind::TtlChanged => "this message is so already",
        },
        GatewayError::TooManyChanges { kind: EntryKind::Reaction, .. } => {
            return format!(
                "this message has {MAX_REACTIONS} different reactions, as many as it may have: use one of them"
            )
            .into();
        }
        GatewayError::TooManyChanges { .. } => {
            return format!("this message has {MAX_EDITS} edits, as many as it may have: send another one")
                .into();
        }
        GatewayError::TooManyPins { .. } => {
            return format!(
                "this chat has {MAX_PINS} pinned messages, as many as it may have: unpin one of them first"
            )
            .into();
        }
        GatewayError::TooManyCalled { .. } => {
            return format!(
                "more than {MAX_ROLE_MENTIONS} members have these roles: mention some of them by name, or all"
            )
            .into();
        }
        GatewayError::NoSource { .. } => {
            "there is no such message to forward: you do not read it, it is deleted, or it is no text"
        }
        GatewayError::NoSuchFile { .. } => {
            "a file of attachments is not one that you uploaded for this chat, or it is not ready: upload and complete it first"
        }
        GatewayError::NoMedia { .. } => "this messenger takes no files: send the message without attachments",
        GatewayError::NoEntry { .. } => "this chat has no such entry, or you do not read it",
        GatewayError::CursorExpired => {
            "this cursor is too old, or not one of yours: sync without a cursor, and forget the chats it does not return"
        }
        GatewayError::Membership { .. }
        | GatewayError::History { .. }
        | GatewayError::Media { .. }
        | GatewayError::Sync { .. }
        | GatewayError::Produce { .. } => "something needed for this is down; repeat it with the same key",
        GatewayError::SlowMode { .. } => "this chat is in slow mode",
        GatewayError::Entry { .. } | GatewayError::SyncPage { .. } | GatewayError::File { .. } => {
            "internal error"
        }
    };
    detail.into()
}

#[cfg(test)]
mod tests {
    use contracts::ChatId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_refused_change_says_what_is_so_already_and_which_limit_is_reached() {
        let (chat, seq) = (ChatId(Uuid::from_u128(1)), 1);
        for (kind, detail) in [
            (EntryKind::Reaction, "you react so to this message already"),
            (EntryKind::ReactionRemoved, "you do not react so to this message"),
            (EntryKind::Pin, "this message is pinned already"),
            (EntryKind::Unpin, "this message is not pinned"),
        ] {
            assert_eq!(detail_of(&GatewayError::NoChange { chat, seq, kind }), detail);
        }
        for (kind, limit) in [(EntryKind::Edit, "100 edits"), (EntryKind::Reaction, "20 different reactions")]
        {
            let detail = detail_of(&GatewayError::TooManyChanges { chat, seq, kind });
            assert!(detail.contains(limit), "{detail}");
        }
    }
}
