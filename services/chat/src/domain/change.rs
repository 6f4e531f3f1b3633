//! What members request, and the steps that it takes.

use std::borrow::Cow;

use contracts::{
    UserId,
    api::{
        HistoryAccess, MAX_SLOW_MODE_SECONDS, MAX_TTL_SECONDS, MIN_TTL_SECONDS, UpdateChatRequest, Visibility,
    },
    event::{EntryKind, Role},
};
use kit::{
    error::InvalidField,
    text::{self, Title},
};

use super::{Concern, Excerpt};

/// Longest id of a picture.
const MAX_AVATAR_CHARS: usize = 128;

/// A change that a member requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Adds a user, or changes the role of a member.
    Put {
        user_id: UserId,
        role: Role,
    },
    /// Removes a member; of oneself it is the same as leaving.
    Remove {
        user_id: UserId,
    },
    Leave,
    Update(Update),
    /// Begins to delete a group: [`super::empty`] does the rest.
    Delete,
}

impl Command {
    /// Returns whom the command of `actor` concerns.
    pub fn concern(&self, actor: UserId) -> Concern {
        let of = |user_id| Concern::of([actor, user_id]);
        match *self {
            Self::Put { user_id, .. } => of(user_id),
            Self::Remove { user_id } => Concern { heir: user_id == actor, ..of(user_id) },
            Self::Leave => Concern { heir: true, ..of(actor) },
            Self::Update(_) | Self::Delete => of(actor),
        }
    }
}

/// What a group is to be from now on; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    pub title: Option<Title>,
    /// An empty one removes it.
    pub topic: Option<text::Topic>,
    /// What members who are added read.
    pub history: Option<HistoryAccess>,
    /// The owner alone changes it.
    pub visibility: Option<Visibility>,
    pub slow_mode_seconds: Option<u32>,
    pub message_ttl_seconds: Option<u32>,
    /// An empty one removes it.
    pub avatar: Option<String>,
}

impl Update {
    /// Reads a request.
    pub fn parse(request: &UpdateChatRequest) -> Result<Self, InvalidField> {
        let title = request.title.as_deref().map(|title| Title::parse("title", title));
        let topic = request.topic.as_deref().map(|topic| text::Topic::parse("topic", topic));
        if request.slow_mode_seconds.is_some_and(|seconds| seconds > MAX_SLOW_MODE_SECONDS) {
            let problem = format!("must be 0 to {MAX_SLOW_MODE_SECONDS}");
            return Err(InvalidField { field: "slow_mode_seconds", problem });
        }
        let is_ttl = |seconds| seconds == 0 || (MIN_TTL_SECONDS..=MAX_TTL_SECONDS).contains(&seconds);
        if request.message_ttl_seconds.is_some_and(|seconds| !is_ttl(seconds)) {
            let problem = format!("must be 0, or {MIN_TTL_SECONDS} to {MAX_TTL_SECONDS}");
            return Err(InvalidField { field: "message_ttl_seconds", problem });
        }
        if request.avatar.as_deref().is_some_and(|avatar| !is_avatar(avatar)) {
            let problem = format!("must be at most {MAX_AVATAR_CHARS} of A-Z a-z 0-9 _ -");
            return Err(InvalidField { field: "avatar", problem });
        }
        Ok(Self {
            title: title.transpose()?,
            topic: topic.transpose()?,
            history: request.history,
            visibility: request.visibility,
            slow_mode_seconds: request.slow_mode_seconds,
            message_ttl_seconds: request.message_ttl_seconds,
            avatar: request.avatar.clone(),
        })
    }

    /// Returns whether it is about nothing but how long texts stay, which both users of a direct chat decide.
    pub(super) fn is_of_ttl(&self) -> bool {
        *self == Self { message_ttl_seconds: self.message_ttl_seconds, ..Self::default() }
    }

    /// Returns what it changes of a chat.
    pub(super) fn changes(&self, excerpt: &Excerpt) -> Vec<Change> {
        let title = self.title.as_ref().map(|title| title.as_str().to_owned());
        let title = title.filter(|title| excerpt.title.as_ref() != Some(title));
        let topic = self.topic.as_ref().map(|topic| Some(topic.as_str()).filter(|topic| !topic.is_empty()));
        let topic = topic.filter(|topic| excerpt.topic.as_deref() != *topic);
        let history = self.history.filter(|history| *history != excerpt.history);
        let visibility = self.visibility.filter(|visibility| *visibility != excerpt.visibility);
        let slow_mode = self.slow_mode_seconds.filter(|seconds| *seconds != excerpt.slow_mode_seconds);
        let ttl = self.message_ttl_seconds.filter(|seconds| *seconds != excerpt.message_ttl_seconds);
        let avatar = self.avatar.as_ref().map(|avatar| Some(avatar.clone()).filter(|of| !of.is_empty()));
        let avatar = avatar.filter(|avatar| *avatar != excerpt.avatar);
        let changes = [
            title.map(|title| Change::TitleSet { title }),
            topic.map(|topic| Change::TopicSet { topic: topic.map(str::to_owned) }),
            history.map(|history| Change::HistorySet { history }),
            visibility.map(|visibility| Change::VisibilitySet { visibility }),
            slow_mode.map(|seconds| Change::SlowModeSet { seconds }),
            ttl.map(|seconds| Change::TtlSet { seconds }),
            avatar.map(|avatar| Change::AvatarSet { avatar }),
        ];
        changes.into_iter().flatten().collect()
    }
}

/// Returns whether it names a picture, or none.
fn is_avatar(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    text.len() <= MAX_AVATAR_CHARS && text.bytes().all(is_part)
}

/// One step of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Added {
        user_id: UserId,
        role: Role,
    },
    RoleSet {
        user_id: UserId,
        role: Role,
    },
    Removed {
        user_id: UserId,
    },
    TitleSet {
        title: String,
    },
    TopicSet {
        topic: Option<String>,
    },
    HistorySet {
        history: HistoryAccess,
    },
    VisibilitySet {
        visibility: Visibility,
    },
    SlowModeSet {
        seconds: u32,
    },
    TtlSet {
        seconds: u32,
    },
    AvatarSet {
        avatar: Option<String>,
    },
    /// A user who has asked becomes a plain member.
    Admitted {
        user_id: UserId,
    },
    DeletionBegun,
}

impl Change {
    /// Returns the kind, the subject and the body of its entry in the chat's log. The chat has so many members after it.
    pub(super) fn entry(&self, member_count: usize) -> Option<(EntryKind, Option<UserId>, Cow<'_, str>)> {
        match self {
            Self::Added { user_id, .. } | Self::Admitted { user_id } => {
                Some((EntryKind::MemberAdded, Some(*user_id), member_count.to_string().into()))
            }
            Self::Removed { user_id } => {
                Some((EntryKind::MemberRemoved, Some(*user_id), member_count.to_string().into()))
            }
            Self::RoleSet { user_id, role } => {
                Some((EntryKind::RoleChanged, Some(*user_id), role.as_str().into()))
            }
            Self::TitleSet { title } => Some((EntryKind::TitleChanged, None, title.into())),
            Self::TopicSet { topic } => {
                Some((EntryKind::TopicChanged, None, topic.as_deref().unwrap_or_default().into()))
            }
            Self::AvatarSet { avatar } => {
                Some((EntryKind::AvatarChanged, None, avatar.as_deref().unwrap_or_default().into()))
            }
            Self::SlowModeSet { seconds } => {
                Some((EntryKind::SlowModeChanged, None, seconds.to_string().into()))
            }
            Self::TtlSet { seconds } => Some((EntryKind::TtlChanged, None, seconds.to_string().into())),
            // It concerns those who are added, and they see it then.
            Self::HistorySet { .. } => None,
            // It concerns those who are not in the chat.
            Self::VisibilitySet { .. } => None,
            // Each member learns of their own removal.
            Self::DeletionBegun => None,
        }
    }
}

/// Returns how many members the changes of `actor` add, and for whom they count: an addition for the one who adds, an admission for the
/// user who asked. `None` when they add none.
pub fn additions(actor: UserId, changes: &[Change]) -> Option<(UserId, usize)> {
    let hands = changes.iter().filter_map(|change| match change {
        Change::Added { .. } => Some(actor),
        Change::Admitted { user_id } => Some(*user_id),
        _ => None,
    });
    // No command does both.
    hands.fold(None, |counted, hand| Some((hand, counted.map_or(1, |(_, count)| count + 1))))
}
