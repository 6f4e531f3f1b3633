//! What is published.

use contracts::{
    ChatId, UserId,
    event::{self, ChatKind, MembershipRecord, OwnStateRecord, RestrictionRecord},
};
use kit::catalog::Topic;

use super::{Member, OwnState};

/// A record that is not yet published to the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRecord {
    pub topic: Topic,
    pub key: String,
    /// `None` is a tombstone.
    pub payload: Option<String>,
}

/// Numbers what is published of the places that users have in a chat.
pub(super) struct Places {
    pub(super) chat: ChatId,
    pub(super) kind: ChatKind,
    /// The number of the newest record.
    pub(super) version: i64,
}

impl Places {
    /// Returns the record of a member of a chat that has so many.
    pub(super) fn of_member(&mut self, member: &Member, count: usize) -> Vec<OutboxRecord> {
        let record = self.next(member.user_id, count);
        let from_entry = member.reads_from.is_some();
        vec![published(&MembershipRecord { role: Some(member.role), from_entry, ..record })]
    }

    /// Returns the record of a user who receives nothing there any more, and the tombstone behind it.
    pub(super) fn without(&mut self, user: UserId, count: usize) -> Vec<OutboxRecord> {
        let record = published(&self.next(user, count));
        let tombstone = OutboxRecord { payload: None, ..record.clone() };
        vec![record, tombstone]
    }

    fn next(&mut self, user: UserId, count: usize) -> MembershipRecord {
        self.version += 1;
        MembershipRecord {
            v: event::VERSION,
            chat: self.chat,
            user,
            role: None,
            kind: Some(self.kind),
            version: self.version,
            members: u32::try_from(count).expect("members are bounded"),
            from_entry: false,
        }
    }
}

/// Returns what is published of how a user has a chat, and the tombstone behind it: the log keeps nothing of it.
pub fn own_state(chat: ChatId, user: UserId, own: &OwnState) -> [OutboxRecord; 2] {
    let record = OwnStateRecord { v: event::VERSION, chat, user, own: own.clone().into() };
    let payload = Some(serde_json::to_string(&record).expect("a record is plain data"));
    let record = OutboxRecord { topic: Topic::ChatEvents, key: OwnStateRecord::key(chat, user), payload };
    let tombstone = OutboxRecord { payload: None, ..record.clone() };
    [record, tombstone]
}

/// Returns what is published when it changes what moderators let a user write, in a chat or everywhere, and the tombstone behind it.
pub fn restriction(chat: Option<ChatId>, user: UserId) -> [OutboxRecord; 2] {
    let record = RestrictionRecord::of(chat, user);
    let payload = Some(serde_json::to_string(&record).expect("a record is plain data"));
    let record = OutboxRecord { topic: Topic::ChatEvents, key: RestrictionRecord::key(chat, user), payload };
    let tombstone = OutboxRecord { payload: None, ..record.clone() };
    [record, tombstone]
}

fn published(record: &MembershipRecord) -> OutboxRecord {
    OutboxRecord {
        topic: Topic::ChatEvents,
        key: MembershipRecord::key(record.chat, record.user),
        payload: Some(serde_json::to_string(record).expect("a record is plain data")),
    }
}
