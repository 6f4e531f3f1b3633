//! How users join a chat by themselves.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ChatId, InviteId, UserId,
    api::{CreateInviteRequest, MAX_INVITE_SECONDS, MAX_INVITE_USES, Visibility},
    event::{ChatKind, Role},
};
use kit::{error::InvalidField, idempotency::IdempotencyKey};
use sha2::{Digest as _, Sha256};

use super::{Change, Excerpt, MAX_MEMBERS, Refusal};

/// Most invite links of a chat that are good. They are listed at once.
pub const MAX_INVITES: usize = 100;
/// Most users who ask to join a chat at a time.
pub const MAX_REQUESTS: usize = 1000;

/// A link that lets no one else in is kept for so long after it was made: for who has used it, and because a request with its key makes no
/// other one.
pub const LINK_KEPT: TimeDelta = TimeDelta::hours(24);

const CODE_BYTES: usize = 16;

/// What an invite link carries. A user who has it may join: it is neither kept nor logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(String);

/// What is kept of a code: its SHA-256. A code has more randomness than can be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CodeHash(pub [u8; 32]);

/// A link about to be made.
#[derive(Clone, Debug)]
pub struct NewInvite {
    pub invite: Invite,
    pub code_hash: CodeHash,
    /// A link that its maker makes again with the same key is the same link, with another code.
    pub key: Option<IdempotencyKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    pub invite_id: InviteId,
    pub chat_id: ChatId,
    pub made_by: UserId,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub max_uses: Option<u32>,
    pub uses: u32,
    pub needs_approval: bool,
}

/// Where a link leads, as a user sees it who has its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    pub invite: Invite,
    pub title: String,
    pub member_count: i64,
    /// Whether the user is in the chat.
    pub is_member: bool,
}

/// A public chat, as users see it who are not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicChat {
    pub chat_id: ChatId,
    pub kind: ChatKind,
    pub title: String,
    pub topic: Option<String>,
    pub member_count: i64,
}

/// A user asks to join a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    pub chat_id: ChatId,
    pub user_id: UserId,
    pub requested_at: DateTime<Utc>,
}

/// How a user comes into a chat by themselves.
#[derive(Clone, Copy, Debug)]
pub enum Entrance<'a> {
    Public,
    Invite {
        invite: &'a Invite,
        /// Whether it is good, and there is no block between the user and its maker.
        is_good: bool,
        /// Whether the user asks to join already.
        has_requested: bool,
    },
}

/// What becomes of a user who comes by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The user is in the chat already.
    Present,
    Joined(Change),
    /// An owner or admin decides.
    Requested,
}

impl Code {
    /// Returns the code of these random bytes.
    pub fn of(bytes: [u8; CODE_BYTES]) -> Self {
        Self(BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a code from a link; `None` for what cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == CODE_BYTES).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns what it is looked up by. The time of a lookup by hash says nothing of codes that are near.
    pub fn hash(&self) -> CodeHash {
        CodeHash(Sha256::digest(&self.0).into())
    }
}

impl Invite {
    /// Reads a request.
    pub fn parse(
        (invite_id, chat_id): (InviteId, ChatId),
        made_by: UserId,
        request: &CreateInviteRequest,
        now: DateTime<Utc>,
    ) -> Result<Self, InvalidField> {
        let within = |field, value: Option<u32>, most: u32| match value {
            Some(value) if !(1..=most).contains(&value) => {
                Err(InvalidField { field, problem: format!("must be 1 to {most}") })
            }
            value => Ok(value),
        };
        let expires_in = within("expires_in_seconds", request.expires_in_seconds, MAX_INVITE_SECONDS)?;
        Ok(Self {
            invite_id,
            chat_id,
            made_by,
            created_at: now,
            expires_at: expires_in.map(|seconds| now + TimeDelta::seconds(seconds.into())),
            max_uses: within("max_uses", request.max_uses, MAX_INVITE_USES)?,
            uses: 0,
            needs_approval: request.needs_approval.unwrap_or_default(),
        })
    }

    /// Returns whether it still lets someone in, as far as time and number go.
    pub fn is_good(&self, now: DateTime<Utc>) -> bool {
        self.is_good_for(false, now)
    }

    /// Returns likewise whether it lets a user in. Each user takes one use, however often they leave and come again.
    pub fn is_good_for(&self, has_used: bool, now: DateTime<Utc>) -> bool {
        let has_room = has_used || self.max_uses.is_none_or(|most| self.uses < most);
        has_room && self.expires_at.is_none_or(|at| at > now)
    }

    /// Returns whether nothing is left to remember of a link: it lets no one in, and no retry of the request for it comes any more.
    pub fn is_past(&self, is_revoked: bool, now: DateTime<Utc>) -> bool {
        (is_revoked || !self.is_good(now)) && self.created_at <= now - LINK_KEPT
    }

    /// Returns whether it is made from the same request as another one.
    pub fn is_alike(&self, other: &Self) -> bool {
        let lasts = |of: &Self| of.expires_at.map(|at| at - of.created_at);
        (lasts(self), self.max_uses, self.needs_approval)
            == (lasts(other), other.max_uses, other.needs_approval)
    }
}

/// Returns what searches compare of a public chat.
pub(super) fn search_key(title: &str, topic: Option<&str>) -> String {
    kit::text::search_key(&format!("{title}\n{}", topic.unwrap_or_default()))
}

/// Decides whether a user manages who comes into a chat: its owner and admins do.
pub fn manage(excerpt: &Excerpt, actor: UserId) -> Result<(), Refusal> {
    match (excerpt.kind, excerpt.role(actor).filter(|_| excerpt.deleted_by.is_none())) {
        (_, None) => Err(Refusal::NotAMember(excerpt.chat_id)),
        (ChatKind::Direct, Some(_)) => Err(Refusal::DirectIsFixed),
        (ChatKind::Group | ChatKind::Channel, Some(Role::Member)) => Err(Refusal::RoleTooLow(Role::Member)),
        (ChatKind::Group | ChatKind::Channel, Some(Role::Owner | Role::Admin)) => Ok(()),
    }
}

/// Decides what becomes of a user who comes by themselves. It concerns the user, and the maker of a link.
///
/// A user who was removed does not come back by themselves within [`super::READDING_PAUSE`]: an owner or admin adds them, or says yes to
/// their request.
pub fn join(excerpt: &Excerpt, user_id: UserId, entrance: Entrance<'_>) -> Result<Admission, Refusal> {
    let is_open = excerpt.kind != ChatKind::Direct && excerpt.deleted_by.is_none();
    match entrance {
        Entrance::Public if is_open && excerpt.visibility == Visibility::Public => {}
        Entrance::Public if excerpt.role(user_id).is_some() => {}
        Entrance::Public => return Err(Refusal::NotAMember(excerpt.chat_id)),
        Entrance::Invite { invite, is_good, has_requested } => {
            // Who came by it before may repeat the request, whether it is good for others or not.
            let is_known = excerpt.role(user_id).is_some() || (has_requested && invite.needs_approval);
            let is_makers = matches!(excerpt.role(invite.made_by), Some(Role::Owner | Role::Admin));
            if !is_open || !is_makers || !(is_good || is_known) {
                return Err(Refusal::NoSuchInvite);
            }
        }
    }
    if excerpt.role(user_id).is_some() {
        return Ok(Admission::Present);
    }
    if matches!(entrance, Entrance::Invite { invite, .. } if invite.needs_approval) {
        return Ok(Admission::Requested);
    }
    // The last one counts: who was let in again after a removal, and left, comes back as everyone who left.
    let departures = excerpt.departures.iter().filter(|of| of.user_id == user_id);
    if departures.max_by_key(|of| of.at).is_some_and(|of| of.by != user_id) {
        return Err(Refusal::RemovedLately);
    }
    if excerpt.member_count >= MAX_MEMBERS {
        return Err(Refusal::Full);
    }
    Ok(Admission::Joined(Change::Added { user_id, role: Role::Member }))
}

/// Decides what it changes when `actor` says yes to a user who asks to join. Empty: the user is in the chat.
pub fn approve(
    excerpt: &Excerpt,
    actor: UserId,
    user_id: UserId,
    has_requested: bool,
) -> Result<Vec<Change>, Refusal> {
    manage(excerpt, actor)?;
    if excerpt.role(user_id).is_some() {
        return Ok(Vec::new());
    }
    if !has_requested {
        return Err(Refusal::NoSuchRequest(user_id));
    }
    if excerpt.member_count >= MAX_MEMBERS {
        return Err(Refusal::Full);
    }
    Ok(vec![Change::Admitted { user_id }])
}
