//! Why a change is refused.

use std::time::Duration;

use contracts::{ChatId, UserId, api::MAX_SCHEDULED, event::Role, wire::MAX_ROLE_MENTIONS};

use super::{MAX_BLOCKS, MAX_DRAFTS, MAX_INVITES, MAX_MEMBERS, MAX_REQUESTS};

/// Why a member may not change a chat so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("you are not a member of chat {0}, or there is no such chat")]
    NotAMember(ChatId),
    #[error("a direct chat has its two users and no roles; each of them may leave it")]
    DirectIsFixed,
    /// The same for every reason, so that none of them is known to others.
    #[error("user {0} cannot be added by you now")]
    Unwanted(UserId),
    #[error("this needs a higher role than {}", .0.as_str())]
    RoleTooLow(Role),
    #[error("an owner gives the role away by making another member the owner, or by leaving")]
    OwnerStays,
    #[error("the chat has {MAX_MEMBERS} members, which is the most: remove one first")]
    Full,
    #[error(
        "you have created {0} chats that have members, which is the most: remove the members of groups that are not needed and \
         leave them, or let an administrator raise limits.chatsPerUser"
    )]
    TooManyChats(u32),
    #[error("you have created {most} chats in 24 hours, which is the most: wait")]
    TooManyChatsLately { most: u32, wait: Duration },
    #[error(
        "you have added as many members to chats as one user may at present: remove members from groups that are not needed, or \
         let an administrator raise limits.memberships"
    )]
    TooManyAdded,
    #[error(
        "the chats of this messenger have as many members as they may: leave chats that are not needed, or let an administrator \
         raise limits.memberships"
    )]
    TenantFull,
    #[error("this idempotency-key was used before for another group")]
    KeyReused,
    /// The same for a link that never was, is expired, used up or revoked, and one that is not for the caller.
    #[error("there is no such invite link, or it is not good any more: ask for another one")]
    NoSuchInvite,
    #[error("user {0} does not ask to join this chat")]
    NoSuchRequest(UserId),
    #[error("you were removed from this chat in the last 24 hours: ask an owner or admin to add you")]
    RemovedLately,
    #[error("the chat has {MAX_INVITES} invite links, which is the most: revoke one that is not needed")]
    TooManyInvites,
    #[error(
        "{MAX_REQUESTS} users ask to join this chat, which is the most: try again when its admins have decided on some"
    )]
    TooManyRequests,
    #[error("this idempotency-key was used before for another invite link")]
    InviteKeyReused,
    #[error(
        "the invite link that was made with this idempotency-key is revoked: make another one with another key"
    )]
    InviteRevoked,
    #[error("you have drafts in {MAX_DRAFTS} chats, which is the most: send or remove one first")]
    TooManyDrafts,
    #[error("you have {MAX_SCHEDULED} scheduled messages, which is the most: send or cancel one first")]
    TooManyScheduled,
    #[error("send_at_ms: must be later than now")]
    TimeIsPast,
    #[error("send_at_ms: must be at most 366 days ahead")]
    TooFarAhead,
    #[error("this key was used before for another scheduled message: change that one, or choose another key")]
    ScheduledKeyReused,
    #[error("you may not write in this chat: as a plain member of a channel, or nobody would receive it")]
    MayNotWrite,
    #[error("more than {MAX_ROLE_MENTIONS} members have these roles: mention some of them by name, or all")]
    TooManyCalled,
    #[error("a member of this chat waits between two messages: wait")]
    SlowMode { wait: Duration },
    #[error("scheduled messages are sent so fast and no faster: wait")]
    TooManySent { wait: Duration },
    #[error("you block {MAX_BLOCKS} users, which is the most: lift a block that is not needed")]
    TooManyBlocks,
}
