//! One suite for every store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use chat::{
    deletions,
    domain::{
        Access, Block, Command, DELETED_AT_ONCE, EntryId, Founding, Limits, MAX_BLOCKS, MAX_DRAFTS,
        MAX_MEMBERS, NamedChat, NewChat, OutboxRecord, OwnState, OwnUpdate, READDING_PAUSE, Refusal,
        Restriction, Seat, Update,
    },
    store::{ChatStore, MemoryStore, PostgresStore, SCHEMA, StoreError},
};
use contracts::{
    ChatId, UserId,
    api::{Draft, FOUNDED_MEMBERS, HistoryAccess, OwnChatState, Visibility},
    event::{ChatKind, EntryKind, MembershipRecord, OwnStateRecord, RestrictionRecord, Role, SendRecord},
};
use kit::{
    catalog::Topic,
    idempotency::IdempotencyKey,
    postgres::Schema,
    testing::TestDatabase,
    text::{self, Title},
};
use sqlx::postgres::PgPoolOptions;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{at, crew, database, new_user};

type Store = Arc<dyn ChatStore>;

/// What a tenant without many users has room for.
const FEW: Limits = Limits { max_memberships: 100, max_chats_per_user: 5, ..Limits::DEFAULT };

macro_rules! suite {
    ($memory:ident, $postgres:ident, $limits:expr; $($story:ident),* $(,)?) => {
        mod $memory {
            $(
                #[tokio::test]
                async fn $story() {
                    super::$story(std::sync::Arc::new(super::MemoryStore::new($limits))).await;
                }
            )*
        }
        mod $postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $story() {
                    let (_database, pool) = super::database().await;
                    super::$story(std::sync::Arc::new(super::PostgresStore::new(pool, $limits))).await;
                }
            )*
        }
    };
}

mod blocks;
mod changes;
mod departures;
mod founding;
mod joining;
mod limits;
mod own;
mod reading;
mod rights;
mod scheduled;

fn group(founder: UserId, others: &[UserId]) -> NewChat {
    let history = HistoryAccess::FromEntry;
    let others = others.iter().copied().collect();
    let founding = Founding::Group {
        is_channel: false,
        title: crew(),
        history,
        visibility: Visibility::Private,
        others,
    };
    NewChat { chat_id: ChatId::generate(), founder, founding, key: None, created_at: at(0) }
}

fn direct(founder: UserId, other: UserId) -> NewChat {
    let founding = Founding::Direct { other };
    NewChat { chat_id: ChatId::generate(), founder, founding, key: None, created_at: at(0) }
}

fn keyed(key: &str, new: NewChat) -> NewChat {
    NewChat { key: IdempotencyKey::parse(key), ..new }
}

fn put(user_id: UserId, role: Role) -> Command {
    Command::Put { user_id, role }
}

fn update(update: Update) -> Command {
    Command::Update(update)
}

async fn change(store: &Store, chat_id: ChatId, actor: UserId, command: Command) {
    store.change(chat_id, actor, command, at(10)).await.expect("the change is allowed");
}

async fn refusal(store: &Store, chat_id: ChatId, actor: UserId, command: Command) -> Refusal {
    match store.change(chat_id, actor, command.clone(), at(10)).await {
        Err(StoreError::Refused(refusal)) => refusal,
        other => panic!("{command:?} was not refused: {other:?}"),
    }
}

async fn roles(store: &Store, chat_id: ChatId) -> Vec<(UserId, Role)> {
    let members = store.members(chat_id, None, None, usize::MAX).await.expect("members");
    members.into_iter().map(|member| (member.user_id, member.role)).collect()
}

async fn topics(store: &Store) -> Vec<Topic> {
    store.pending(5000).await.expect("the outbox").into_iter().map(|record| record.topic).collect()
}

/// Returns the records of the memberships of a chat, in the order of the outbox.
async fn places(store: &Store, chat_id: ChatId) -> Vec<MembershipRecord> {
    let records = store.pending(5000).await.expect("the outbox").into_iter();
    let records = records.filter(|record| record.key.starts_with(&format!("{chat_id}/")));
    let payloads = records.filter_map(|record| record.payload);
    payloads.map(|payload| serde_json::from_str(&payload).expect("json")).collect()
}

/// Returns what was published of how users have a chat; behind each there is a tombstone.
async fn own_states(store: &Store) -> Vec<(UserId, OwnChatState)> {
    let pending = store.pending(1000).await.expect("a list");
    let is_own = |record: &&OutboxRecord| OwnStateRecord::parse_key(record.key.as_bytes()).is_some();
    let own: Vec<_> = pending.iter().filter(is_own).collect();
    let said = own.chunks(2).map(|pair| {
        assert_eq!(*pair[1], OutboxRecord { payload: None, ..pair[0].clone() });
        let record: OwnStateRecord =
            serde_json::from_str(pair[0].payload.as_deref().expect("a state")).expect("json");
        assert_eq!(pair[0].key, OwnStateRecord::key(record.chat, record.user));
        (record.user, record.own)
    });
    said.collect()
}

/// Returns what each of these users may do in the chat.
async fn sends(store: &Store, seats: &[(ChatId, UserId)]) -> Vec<Access> {
    store.rights(seats).await.expect("a read").into_iter().map(|rights| rights.access).collect()
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> Refusal {
    match outcome {
        Err(StoreError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}
