//! A chat as it is changed.

use std::{borrow::Cow, collections::BTreeSet};

use chrono::{DateTime, Utc};
use contracts::{
    ChatId, DeviceId, MessageKey, UserId,
    api::{HistoryAccess, Visibility},
    event::{ChatKind, EntryKind, Role, SendRecord},
};
use kit::catalog::Topic;
use uuid::Uuid;

use super::{Change, EntryId, Member, OutboxRecord, READDING_PAUSE, joining::search_key, record::Places};

/// Whom of a chat a change concerns. No change reads all members: there are up to [`super::MAX_MEMBERS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concern {
    pub users: BTreeSet<UserId>,
    /// Whether an owner may leave.
    pub heir: bool,
}

/// What a change needs to know of a chat, read under the lock of the chat.
#[derive(Clone, Debug)]
pub struct Excerpt {
    pub chat_id: ChatId,
    pub kind: ChatKind,
    /// Groups only.
    pub title: Option<String>,
    pub topic: Option<String>,
    /// What members who are added read.
    pub history: HistoryAccess,
    pub visibility: Visibility,
    pub slow_mode_seconds: u32,
    pub message_ttl_seconds: u32,
    pub avatar: Option<String>,
    /// How many records of memberships were written, which is the number of the newest.
    pub version: i64,
    /// Who has begun to delete the group. From then on it loses its members, and nothing else changes.
    pub deleted_by: Option<UserId>,
    pub member_count: usize,
    /// Those whom the change concerns, and the heir.
    pub members: Vec<Member>,
    /// Who becomes the owner when the owner leaves, if the change concerns that: the admin, or else the member, who has been there
    /// longest.
    pub heir: Option<UserId>,
    /// Those of the last [`READDING_PAUSE`], of the users whom the change concerns.
    pub departures: Vec<Departure>,
}

/// A user is out of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    pub user_id: UserId,
    /// The user themselves when they left.
    pub by: UserId,
    pub at: DateTime<Utc>,
}

impl Concern {
    /// Returns that of a change which concerns these users, and no others.
    pub fn of(users: impl IntoIterator<Item = UserId>) -> Self {
        Self { users: users.into_iter().collect(), heir: false }
    }
}

impl Departure {
    /// Returns whether it does not count any more.
    pub fn is_past(&self, now: DateTime<Utc>) -> bool {
        self.at <= now - READDING_PAUSE
    }
}

impl Excerpt {
    /// Returns the role of a user; `None` for a user who is not in the chat.
    pub fn role(&self, user_id: UserId) -> Option<Role> {
        self.member(user_id).map(|member| member.role)
    }

    /// Returns a member; `None` for a user who is not in the chat.
    pub fn member(&self, user_id: UserId) -> Option<&Member> {
        self.members.iter().find(|member| member.user_id == user_id)
    }

    /// Returns what searches compare; `None` of a chat that is not found.
    pub fn search_key(&self) -> Option<String> {
        let title = self.title.as_deref().filter(|_| self.visibility == Visibility::Public);
        title.map(|title| search_key(title, self.topic.as_deref()))
    }

    /// Returns whether the user departed lately in a way for which `actor` does not add them. Users come back by themselves
    /// at any time.
    pub(super) fn is_barred(&self, user_id: UserId, actor: UserId) -> bool {
        let is_by = |by| by == user_id || by == actor;
        user_id != actor && self.departures.iter().any(|of| of.user_id == user_id && is_by(of.by))
    }

    /// Makes the changes and returns what is published of them.
    ///
    /// What members see of a change is also an entry in the chat's own log, so that it reaches all devices, and "nothing after
    /// the removal" has a meaning there. When a group is deleted, each member receives their own removal and no other: all of
    /// them together would be fifty million for ten thousand members.
    pub fn apply(
        &mut self,
        actor: UserId,
        changes: &[Change],
        at: DateTime<Utc>,
        mut next_key: impl FnMut() -> MessageKey,
    ) -> Vec<OutboxRecord> {
        let mut records = Vec::new();
        for change in changes {
            let key = next_key();
            self.make(actor, change, at, key);
            let mut places = self.places();
            match *change {
                Change::Added { user_id, .. }
                | Change::Admitted { user_id }
                | Change::RoleSet { user_id, .. } => {
                    let member = self.member(user_id).expect("decide() names members only");
                    records.extend(places.of_member(member, self.member_count));
                }
                Change::Removed { user_id } => records.extend(places.without(user_id, self.member_count)),
                Change::TitleSet { .. }
                | Change::TopicSet { .. }
                | Change::HistorySet { .. }
                | Change::VisibilitySet { .. }
                | Change::SlowModeSet { .. }
                | Change::TtlSet { .. }
                | Change::AvatarSet { .. }
                | Change::DeletionBegun => {}
            }
            self.version = places.version;
            records.extend(change.entry(self.member_count).map(|entry| self.entry(actor, entry, key)));
        }
        records
    }

    /// Makes a change whose entry has this key.
    fn make(&mut self, actor: UserId, change: &Change, at: DateTime<Utc>, key: MessageKey) {
        match *change {
            Change::Added { user_id, role } => {
                self.seat((user_id, role), actor, at, EntryId { sender: actor, key })
            }
            Change::Admitted { user_id } => {
                self.seat((user_id, Role::Member), user_id, at, EntryId { sender: actor, key });
            }
            Change::RoleSet { user_id, role } => {
                let member = self.members.iter_mut().find(|member| member.user_id == user_id);
                member.expect("decide() names members only").role = role;
            }
            Change::Removed { user_id } => {
                self.members.retain(|member| member.user_id != user_id);
                self.member_count -= 1;
                self.departures.push(Departure { user_id, by: actor, at });
            }
            Change::TitleSet { ref title } => self.title = Some(title.clone()),
            Change::TopicSet { ref topic } => self.topic.clone_from(topic),
            Change::HistorySet { history } => self.history = history,
            Change::VisibilitySet { visibility } => self.visibility = visibility,
            Change::SlowModeSet { seconds } => self.slow_mode_seconds = seconds,
            Change::TtlSet { seconds } => self.message_ttl_seconds = seconds,
            Change::AvatarSet { ref avatar } => self.avatar.clone_from(avatar),
            Change::DeletionBegun => self.deleted_by = Some(actor),
        }
    }

    /// Adds a member, whom an entry tells of.
    fn seat(&mut self, (user_id, role): (UserId, Role), added_by: UserId, at: DateTime<Utc>, entry: EntryId) {
        let reads_from = match self.history {
            HistoryAccess::FromEntry => Some(entry),
            HistoryAccess::All => None,
        };
        self.members.push(Member { user_id, role, joined_at: at, reads_from, added_by: Some(added_by) });
        self.member_count += 1;
    }

    /// Returns what is published of a direct chat when the first block between its two users is made, and when the last one is
    /// lifted. Meanwhile no gateway has its members in `chat.events`, and so none delivers anything there, also while this
    /// service does not answer. The chat's own log says nothing: it would name the block to the blocked user.
    pub fn standing(&mut self, is_blocked: bool) -> Vec<OutboxRecord> {
        let mut places = self.places();
        let records = self.members.iter().flat_map(|member| match is_blocked {
            true => places.without(member.user_id, self.member_count),
            false => places.of_member(member, self.member_count),
        });
        let records = records.collect();
        self.version = places.version;
        records
    }

    fn places(&self) -> Places {
        Places { chat: self.chat_id, kind: self.kind, version: self.version }
    }

    fn entry(
        &self,
        actor: UserId,
        (kind, subject, body): (EntryKind, Option<UserId>, Cow<'_, str>),
        key: MessageKey,
    ) -> OutboxRecord {
        let record = SendRecord {
            body: body.into_owned(),
            subject,
            subject_only: self.deleted_by.is_some(),
            ..SendRecord::new(self.chat_id, actor, DeviceId(Uuid::nil()), key, kind)
        };
        OutboxRecord {
            topic: Topic::MessageSend,
            key: self.chat_id.to_string(),
            payload: Some(serde_json::to_string(&record).expect("a record is plain data")),
        }
    }
}
