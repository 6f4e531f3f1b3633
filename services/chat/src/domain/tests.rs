use std::{collections::BTreeSet, time::Duration};

use contracts::{
    DeviceId,
    api::{CreateChatRequest, FOUNDED_MEMBERS, UpdateChatRequest},
    event::{EntryKind, MembershipRecord, SendRecord},
};
use kit::{catalog::Topic, text::Title};
use uuid::Uuid;

use super::{
    limits::{CreatedChats, Memberships, lately},
    *,
};

const OWNER: u128 = 1;
const ADMIN: u128 = 2;
const OLD: u128 = 3;
const NEW: u128 = 4;
const STRANGER: u128 = 9;

fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("a moment")
}

/// Returns a group with all its members, who joined in this order.
fn excerpt(members: &[(u128, Role)]) -> Excerpt {
    let others = members.iter().filter(|(_, role)| *role != Role::Owner);
    let heir = others.min_by_key(|(_, role)| *role).map(|(n, _)| user(*n));
    let member_count = members.len();
    let members = members.iter().zip(0..);
    Excerpt {
        chat_id: ChatId(Uuid::from_u128(100)),
        kind: ChatKind::Group,
        title: Some("Crew".to_owned()),
        topic: None,
        history: HistoryAccess::FromEntry,
        visibility: Visibility::Private,
        slow_mode_seconds: 0,
        message_ttl_seconds: 0,
        avatar: None,
        version: 20,
        deleted_by: None,
        member_count,
        heir,
        departures: Vec::new(),
        members: members
            .map(|((n, role), joined)| Member {
                user_id: user(*n),
                role: *role,
                joined_at: at(joined),
                reads_from: None,
                added_by: None,
            })
            .collect(),
    }
}

fn group() -> Excerpt {
    excerpt(&[(OWNER, Role::Owner), (OLD, Role::Member), (ADMIN, Role::Admin), (NEW, Role::Member)])
}

fn update(update: Update) -> Command {
    Command::Update(update)
}

fn entry(record: &OutboxRecord) -> SendRecord {
    serde_json::from_str(record.payload.as_deref().expect("an entry")).expect("json")
}

fn place(record: &OutboxRecord) -> MembershipRecord {
    assert_eq!(record.topic, Topic::ChatEvents);
    let place: MembershipRecord =
        serde_json::from_str(record.payload.as_deref().expect("a membership")).expect("json");
    assert_eq!(record.key, MembershipRecord::key(place.chat, place.user));
    place
}

fn put(n: u128, role: Role) -> Command {
    Command::Put { user_id: user(n), role }
}

fn remove(n: u128) -> Command {
    Command::Remove { user_id: user(n) }
}

fn added(n: u128, role: Role) -> Change {
    Change::Added { user_id: user(n), role }
}

fn role_set(n: u128, role: Role) -> Change {
    Change::RoleSet { user_id: user(n), role }
}

fn removed(n: u128) -> Change {
    Change::Removed { user_id: user(n) }
}

#[track_caller]
fn check(actor: u128, command: Command, expected: Result<&[Change], Refusal>) {
    let decided = decide(&group(), user(actor), &command);
    assert_eq!(decided.as_deref().map_err(|refusal| *refusal), expected, "{actor} requested {command:?}");
}

mod founding;
mod records;
mod rules;
