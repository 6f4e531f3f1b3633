//! New chats.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use contracts::{
    ChatId, UserId,
    api::{CreateChatRequest, FOUNDED_MEMBERS, HistoryAccess, Visibility},
    event::{ChatKind, Role},
};
use kit::{error::InvalidField, idempotency::IdempotencyKey, text::Title};
use sha2::{Digest as _, Sha256};

use super::{Member, OutboxRecord, joining::search_key, record::Places};

/// A chat about to be created: its rules hold.
#[derive(Clone, Debug)]
pub struct NewChat {
    pub chat_id: ChatId,
    pub founder: UserId,
    pub founding: Founding,
    /// A group that its founder creates again with the same key is the same group. A direct chat needs none: the pair is
    /// its key.
    pub key: Option<IdempotencyKey>,
    pub created_at: DateTime<Utc>,
}

/// What a new chat is created from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Founding {
    /// Both are plain members: there is nothing to administer.
    Direct { other: UserId },
    /// The founder owns it, the others are plain members.
    Group {
        is_channel: bool,
        title: Title,
        history: HistoryAccess,
        visibility: Visibility,
        others: BTreeSet<UserId>,
    },
}

/// Why a new chat is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChat {
    #[error("members: a direct chat is with exactly one other user")]
    DirectMembers,
    #[error("a direct chat is with another user, not with oneself")]
    DirectWithOneself,
    #[error("title: a direct chat has none")]
    DirectTitle,
    #[error("history: a direct chat has no such rule")]
    DirectHistory,
    #[error("visibility: a direct chat is always private")]
    DirectVisibility,
    #[error(transparent)]
    GroupTitle(#[from] InvalidField),
    #[error("members: a group or channel begins with at most {FOUNDED_MEMBERS} beside the caller")]
    TooManyMembers,
}

impl Founding {
    /// Reads a request of `founder`. Repeated members count once, and so does the founder.
    pub fn parse(founder: UserId, request: CreateChatRequest) -> Result<Self, InvalidChat> {
        let mut others: BTreeSet<_> = request.members.into_iter().collect();
        let named_founder = others.remove(&founder);
        match request.kind {
            ChatKind::Direct => {
                if request.title.is_some() {
                    return Err(InvalidChat::DirectTitle);
                }
                if request.history.is_some() {
                    return Err(InvalidChat::DirectHistory);
                }
                if request.visibility.is_some() {
                    return Err(InvalidChat::DirectVisibility);
                }
                match others.pop_first() {
                    Some(other) if others.is_empty() => Ok(Self::Direct { other }),
                    None if named_founder => Err(InvalidChat::DirectWithOneself),
                    _ => Err(InvalidChat::DirectMembers),
                }
            }
            kind @ (ChatKind::Group | ChatKind::Channel) => {
                let is_channel = kind == ChatKind::Channel;
                let title = Title::parse("title", &request.title.unwrap_or_default())?;
                if others.len() > FOUNDED_MEMBERS {
                    return Err(InvalidChat::TooManyMembers);
                }
                // What was said in a channel is for those who come later too.
                let default = if is_channel { HistoryAccess::All } else { HistoryAccess::default() };
                let history = request.history.unwrap_or(default);
                let visibility = request.visibility.unwrap_or_default();
                Ok(Self::Group { is_channel, title, history, visibility, others })
            }
        }
    }
}

impl Founding {
    /// Returns the members beside the founder.
    pub fn others(&self) -> BTreeSet<UserId> {
        match self {
            Self::Direct { other } => BTreeSet::from([*other]),
            Self::Group { others, .. } => others.clone(),
        }
    }
}

impl NewChat {
    /// Returns what the chat is.
    pub fn kind(&self) -> ChatKind {
        match self.founding {
            Founding::Direct { .. } => ChatKind::Direct,
            Founding::Group { is_channel: true, .. } => ChatKind::Channel,
            Founding::Group { .. } => ChatKind::Group,
        }
    }

    /// Returns the title of a group.
    pub fn title(&self) -> Option<&str> {
        match &self.founding {
            Founding::Direct { .. } => None,
            Founding::Group { title, .. } => Some(title.as_str()),
        }
    }

    /// Returns what members who are added later read.
    pub fn history(&self) -> HistoryAccess {
        match self.founding {
            Founding::Direct { .. } => HistoryAccess::default(),
            Founding::Group { history, .. } => history,
        }
    }

    /// Returns who finds it and joins it.
    pub fn visibility(&self) -> Visibility {
        match self.founding {
            Founding::Direct { .. } => Visibility::Private,
            Founding::Group { visibility, .. } => visibility,
        }
    }

    /// Returns what searches compare; `None` of a chat that is not found.
    pub fn search_key(&self) -> Option<String> {
        let title = self.title().filter(|_| self.visibility() == Visibility::Public);
        title.map(|title| search_key(title, None))
    }

    /// Returns the two members of a direct chat in ascending order.
    pub fn pair(&self) -> Option<(UserId, UserId)> {
        match self.founding {
            Founding::Direct { other } => Some((self.founder.min(other), self.founder.max(other))),
            Founding::Group { .. } => None,
        }
    }

    /// Returns the key of a group.
    pub fn group_key(&self) -> Option<&IdempotencyKey> {
        match self.founding {
            Founding::Direct { .. } => None,
            Founding::Group { .. } => self.key.as_ref(),
        }
    }

    /// Returns the SHA-256 of what the chat is created from: the same key with another digest is another group.
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.title().unwrap_or_default());
        // No title has a control character, so that none ends like the id of a member.
        digest.update([0]);
        for member in self.members() {
            digest.update(member.user_id.0.as_bytes());
        }
        match self.history() {
            // As in the digests of groups that were created before there was a choice.
            HistoryAccess::FromEntry => {}
            HistoryAccess::All => digest.update([1]),
        }
        if self.kind() == ChatKind::Channel {
            digest.update([2]);
        }
        if self.visibility() == Visibility::Public {
            digest.update([3]);
        }
        digest.finalize().into()
    }

    /// Returns the members that the chat starts with, the founder first.
    pub fn members(&self) -> Vec<Member> {
        let (joined_at, added_by) = (self.created_at, Some(self.founder));
        let member = |user_id, role| Member { user_id, role, joined_at, reads_from: None, added_by };
        match &self.founding {
            Founding::Direct { other } => {
                vec![member(self.founder, Role::Member), member(*other, Role::Member)]
            }
            Founding::Group { others, .. } => std::iter::once(member(self.founder, Role::Owner))
                .chain(others.iter().map(|user| member(*user, Role::Member)))
                .collect(),
        }
    }

    /// Returns what is published: every membership, and no entry in the chat itself.
    ///
    /// The founding members are the chat's state before its first entry, so seq 1 is the first message, and
    /// founding a group of a thousand does not push a thousand entries to a thousand users.
    pub fn records(&self) -> Vec<OutboxRecord> {
        let members = self.members();
        let mut places = Places { chat: self.chat_id, kind: self.kind(), version: 0 };
        let count = members.len();
        // The founder comes last: a reader of the founder's membership has most likely read those of the others.
        members.iter().rev().flat_map(|member| places.of_member(member, count)).collect()
    }
}
