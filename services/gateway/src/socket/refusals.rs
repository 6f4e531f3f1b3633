//! What a client reads of a failure.

use kit::error::ServiceError as _;

use crate::{domain::answer::Refusal, error::GatewayError, state::GatewayState};

/// Notes a failure and returns what the client reads about it; the cause stays in the log.
pub(super) fn failed(gateway: &GatewayState, error: &GatewayError) -> Refusal {
    let outages = &gateway.outages;
    match error {
        GatewayError::NotAMember { .. }
        | GatewayError::NoRecipient { .. }
        | GatewayError::ReadsOnly { .. }
        | GatewayError::NoTarget { .. }
        | GatewayError::NotTheirs { .. }
        | GatewayError::NoChange { .. }
        | GatewayError::TooManyChanges { .. }
        | GatewayError::NoEntry { .. }
        | GatewayError::CursorExpired => {}
        GatewayError::Membership { .. } => outages.chat.failed("querying the chat service", error),
        GatewayError::History { .. }
        | GatewayError::Entry { .. }
        | GatewayError::Sync { .. }
        | GatewayError::SyncPage { .. } => {
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
            "this direct chat takes no messages: the other user has left, or one of you has blocked the other"
        }
        GatewayError::ReadsOnly { .. } => {
            "only the owner and the admins of this channel write here; you may react"
        }
        GatewayError::NoTarget { .. } => "there is no such message, or it is deleted",
        GatewayError::NotTheirs { .. } => {
            "another user wrote this message; owners and admins of a group may delete it"
        }
        GatewayError::NoChange { .. } => "your reactions to this message are so already",
        GatewayError::TooManyChanges { .. } => {
            "this message has as many edits, or different reactions, as it may have"
        }
        GatewayError::NoEntry { .. } => "this chat has no such entry, or you do not read it",
        GatewayError::CursorExpired => {
            "this cursor is too old, or not one of yours: sync without a cursor, and forget the chats it does not return"
        }
        GatewayError::Membership { .. }
        | GatewayError::History { .. }
        | GatewayError::Sync { .. }
        | GatewayError::Produce { .. } => "something needed for this is down; repeat it with the same key",
        GatewayError::Entry { .. } | GatewayError::SyncPage { .. } => "internal error",
    }
}
