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
        MAX_MEMBERS, NewChat, OutboxRecord, OwnState, OwnUpdate, READDING_PAUSE, Refusal, Update,
    },
    store::{ChatStore, MemoryStore, PostgresStore, SCHEMA, StoreError},
};
use contracts::{
    ChatId, UserId,
    api::{Draft, FOUNDED_MEMBERS, HistoryAccess, OwnChatState, Visibility},
    event::{ChatKind, EntryKind, MembershipRecord, OwnStateRecord, Role, SendRecord},
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
const FEW: Limits = Limits { max_memberships: 100, max_chats_per_user: 5 };

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

suite![
    memory_with_few, postgres_with_few, super::FEW;
    a_user_creates_a_limited_number_of_chats,
    memberships_are_limited_for_each_hand_and_for_all,
];

suite![
    memory, postgres, super::Limits::default();
    a_direct_chat_is_one_chat_for_either_member,
    a_group_is_seen_by_its_members_only,
    chats_come_newest_first_in_pages,
    a_change_and_its_records_are_one,
    a_refused_change_leaves_nothing,
    what_a_group_is_called_is_kept_and_published,
    a_deleted_group_is_in_no_list,
    in_a_channel_the_role_decides_who_writes,
    a_plain_member_of_a_slow_group_waits,
    how_a_member_has_a_chat_is_their_own_and_goes_with_them,
    a_user_has_a_draft_in_some_chats_and_it_goes_with_them,
    where_the_history_of_a_member_begins_is_decided_when_they_are_added,
    a_change_that_is_repeated_changes_nothing,
    a_group_is_created_once_for_a_key,
    an_owner_hands_over_and_the_last_one_leaves_an_empty_chat,
    a_direct_chat_that_was_left_is_opened_again,
    a_departure_counts_for_a_day,
    acquaintances_share_a_chat,
    a_full_group_is_founded_in_one_step_and_takes_no_one_else,
    changes_at_once_happen_one_after_the_other,
    a_deleted_account_leaves_groups_and_direct_chats,
    a_block_closes_the_direct_chat_of_a_pair_until_the_last_one_is_lifted,
    a_pair_with_a_block_opens_no_direct_chat,
    blocks_are_listed_in_pages_and_limited,
    what_is_published_of_a_direct_chat_agrees_with_blocks_that_are_made_at_once,
];

mod joining;
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

async fn a_direct_chat_is_one_chat_for_either_member(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let first = store.create(&direct(ann, bob)).await.expect("a chat");
    assert!(first.fresh);
    assert_eq!((first.chat.role, first.chat.member_count), (Role::Member, 2));
    let again = store.create(&direct(bob, ann)).await.expect("the same chat");
    assert_eq!((again.fresh, again.chat), (false, first.chat.clone()));
    assert_eq!(topics(&store).await, [Topic::ChatEvents; 2], "published once");
    let other = store.create(&direct(ann, new_user())).await.expect("another chat");
    assert_ne!(other.chat.chat_id, first.chat.chat_id);
}

async fn a_group_is_seen_by_its_members_only(store: Store) {
    let (ann, bob, eve) = (new_user(), new_user(), new_user());
    let new = group(ann, &[bob]);
    let created = store.create(&new).await.expect("a chat").chat;
    assert_eq!((created.title.as_deref(), created.role), (Some("Crew"), Role::Owner));
    assert_eq!(created.created_at, at(0));
    let seen = store.chat(new.chat_id, bob).await.expect("a read").expect("bob is in it");
    assert_eq!((seen.role, seen.member_count), (Role::Member, 2));
    assert_eq!(store.chat(new.chat_id, eve).await.expect("a read"), None);
    assert_eq!(store.chat(ChatId::generate(), ann).await.expect("a read"), None);
    assert_eq!(store.member(new.chat_id, eve).await.expect("a read"), None);
    let owner = store.member(new.chat_id, ann).await.expect("a read").expect("ann is in it");
    assert_eq!((owner.role, owner.reads_from), (Role::Owner, None));
    assert!(store.members(ChatId::generate(), None, None, usize::MAX).await.expect("a read").is_empty());
    let pending = store.pending(10).await.expect("the outbox");
    assert_eq!(pending, new.records());
    assert_eq!(store.pending(1).await.expect("the outbox"), pending[..1]);
}

async fn chats_come_newest_first_in_pages(store: Store) {
    let ann = new_user();
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(store.create(&group(ann, &[])).await.expect("a chat").chat.chat_id);
        store.create(&group(new_user(), &[])).await.expect("a chat of another user");
    }
    made.sort();
    made.reverse();
    let page = async |before| {
        let chats = store.chats(ann, before, 2).await.expect("a page");
        chats.into_iter().map(|chat| chat.chat_id).collect::<Vec<_>>()
    };
    assert_eq!(page(None).await, made[..2]);
    assert_eq!(page(Some(made[1])).await, made[2..4]);
    assert_eq!(page(Some(made[3])).await, made[4..]);
    assert!(page(Some(made[4])).await.is_empty());
}

async fn a_change_and_its_records_are_one(store: Store) {
    let (ann, bob, cid) = (new_user(), new_user(), new_user());
    let new = group(ann, &[bob]);
    let chat_id = store.create(&new).await.expect("a chat").chat.chat_id;
    change(&store, chat_id, ann, put(cid, Role::Member)).await;
    change(&store, chat_id, ann, put(bob, Role::Admin)).await;
    change(&store, chat_id, ann, put(bob, Role::Admin)).await;
    change(&store, chat_id, bob, Command::Remove { user_id: cid }).await;
    assert_eq!(roles(&store, chat_id).await, [(ann, Role::Owner), (bob, Role::Admin)]);
    let chat = store.chat(chat_id, ann).await.expect("a read").expect("ann is in it");
    assert_eq!(chat.member_count, 2);
    let (events, send) = (Topic::ChatEvents, Topic::MessageSend);
    assert_eq!(topics(&store).await, [events, events, events, send, events, send, events, events, send]);
    let pending = store.pending(10).await.expect("the outbox");
    assert_eq!(pending[7].payload, None, "behind a removal is a tombstone");
    assert!(pending[8].payload.as_deref().is_some_and(|entry| entry.contains("member_removed")));
}

async fn where_the_history_of_a_member_begins_is_decided_when_they_are_added(store: Store) {
    let [ann, ben, cid, dora] = [(); 4].map(|()| new_user());
    let chat_id = store.create(&group(ann, &[ben])).await.expect("a chat").chat.chat_id;
    change(&store, chat_id, ann, put(cid, Role::Member)).await;
    let entries = async || {
        let pending = store.pending(100).await.expect("the outbox").into_iter();
        let entries = pending.filter(|record| record.topic == Topic::MessageSend);
        let entries = entries.map(|record| record.payload.expect("an entry"));
        entries.map(|entry| serde_json::from_str(&entry).expect("json")).collect::<Vec<SendRecord>>()
    };
    let reads_from = async |user| {
        let member = store.member(chat_id, user).await.expect("a read").expect("a member");
        let listed = store.members(chat_id, None, None, usize::MAX).await.expect("members");
        assert!(listed.contains(&member), "a list has the same");
        member.reads_from
    };
    let named = |entry: &SendRecord| Some(EntryId { sender: entry.sender, key: entry.key });
    let first = named(&entries().await[0]);
    assert_eq!((reads_from(cid).await, reads_from(ben).await), (first, None));

    let history = HistoryAccess::All;
    change(&store, chat_id, ann, update(Update { history: Some(history), ..Update::default() })).await;
    assert_eq!(store.chat(chat_id, ben).await.expect("a read").expect("a chat").history, history);
    change(&store, chat_id, ann, put(dora, Role::Member)).await;
    // A change of role, or of the rule, moves no beginning.
    change(&store, chat_id, ann, put(cid, Role::Admin)).await;
    assert_eq!((reads_from(dora).await, reads_from(cid).await), (None, first));
    change(
        &store,
        chat_id,
        ann,
        update(Update { history: Some(HistoryAccess::FromEntry), ..Update::default() }),
    )
    .await;
    change(&store, chat_id, ann, Command::Remove { user_id: dora }).await;
    change(&store, chat_id, cid, put(dora, Role::Member)).await;
    let last = entries().await.pop().expect("an entry");
    assert_eq!((reads_from(dora).await, last.sender), (named(&last), cid));
}

async fn what_a_group_is_called_is_kept_and_published(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let chat_id = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
    let said = |title: &str, topic: &str| {
        let title = Some(Title::parse("title", title).expect("a title"));
        let topic = Some(text::Topic::parse("topic", topic).expect("a topic"));
        update(Update { title, topic, ..Update::default() })
    };
    let seen = async || {
        let chat = store.chat(chat_id, bob).await.expect("a read").expect("bob is in it");
        let listed = store.chats(bob, None, 10).await.expect("a page");
        assert_eq!(listed, std::slice::from_ref(&chat), "a list has the same");
        (chat.title.expect("a title"), chat.topic)
    };
    assert_eq!(seen().await, ("Crew".to_owned(), None));
    for _ in 0..2 {
        change(&store, chat_id, ann, said("Board games", "on Fridays")).await;
        assert_eq!(seen().await, ("Board games".to_owned(), Some("on Fridays".to_owned())));
    }
    change(&store, chat_id, ann, said("Board games", "")).await;
    assert_eq!(seen().await, ("Board games".to_owned(), None));
    assert_eq!(refusal(&store, chat_id, bob, said("Mine", "")).await, Refusal::RoleTooLow(Role::Member));
    let pending = store.pending(100).await.expect("the outbox").into_iter();
    let entries = pending.filter(|record| record.topic == Topic::MessageSend);
    let entries: Vec<SendRecord> = entries
        .map(|record| serde_json::from_str(&record.payload.expect("an entry")).expect("json"))
        .collect();
    let said: Vec<_> = entries.iter().map(|entry| (entry.kind, entry.body.as_str())).collect();
    let (title, topic) = (EntryKind::TitleChanged, EntryKind::TopicChanged);
    assert_eq!(said, [(title, "Board games"), (topic, "on Fridays"), (topic, "")]);
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

async fn how_a_member_has_a_chat_is_their_own_and_goes_with_them(store: Store) {
    let (ann, bob, eve) = (new_user(), new_user(), new_user());
    let chat_id = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
    let own = async |user| store.chat(chat_id, user).await.expect("a read").expect("a member").own;
    assert_eq!(own(bob).await, OwnState::default());
    let update =
        OwnUpdate { muted_until: Some(Some(at(5))), is_archived: Some(true), ..OwnUpdate::default() };
    let first = OwnState {
        version: 1,
        changed_at: Some(at(1)),
        muted_until: Some(at(5)),
        is_archived: true,
        ..OwnState::default()
    };
    for _ in 0..2 {
        let updated = store.update_own(chat_id, bob, &update, at(1)).await.expect("an update");
        assert_eq!((updated, own(bob).await), (Some(first.clone()), first.clone()));
    }
    assert_eq!(own_states(&store).await, [(bob, first.clone().into())], "once");
    assert_eq!(store.chats(bob, None, 10).await.expect("a page")[0].own, own(bob).await);
    let listed = store.membership(chat_id, bob).await.expect("a read").expect("bob is in it");
    assert_eq!(listed.chat.own, first);
    assert_eq!(own(ann).await, OwnState::default());
    let favourite = OwnUpdate { is_favourite: Some(true), muted_until: Some(None), ..OwnUpdate::default() };
    // At the same time: none is lost.
    let unarchived = OwnUpdate { is_archived: Some(false), ..OwnUpdate::default() };
    let (archive, favourite) = tokio::join!(
        store.update_own(chat_id, bob, &unarchived, at(2)),
        store.update_own(chat_id, bob, &favourite, at(2))
    );
    assert!(archive.is_ok() && favourite.is_ok());
    let both = OwnState { version: 3, changed_at: Some(at(2)), is_favourite: true, ..OwnState::default() };
    assert_eq!(own(bob).await, both);
    let said = own_states(&store).await;
    assert!(said.iter().all(|(user, _)| *user == bob), "no other user learns of it");
    assert_eq!(said.iter().map(|(_, own)| own.version).collect::<Vec<_>>(), [1, 2, 3]);
    for (chat_id, user) in [(chat_id, eve), (ChatId::generate(), bob)] {
        assert_eq!(store.update_own(chat_id, user, &update, at(3)).await.expect("an answer"), None);
    }

    change(&store, chat_id, ann, put(bob, Role::Admin)).await;
    assert_eq!(own(bob).await, both, "a role changes nothing of it");
    change(&store, chat_id, ann, Command::Remove { user_id: bob }).await;
    let later = at(10) + READDING_PAUSE;
    store.change(chat_id, ann, put(bob, Role::Member), later).await.expect("bob is added again");
    assert_eq!(own(bob).await, OwnState { version: later.timestamp_millis(), ..OwnState::default() });
}

async fn a_user_has_a_draft_in_some_chats_and_it_goes_with_them(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let mut chats = Vec::new();
    for _ in 0..=MAX_DRAFTS {
        chats.push(store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id);
    }
    let set = |body: &str| {
        let draft = (!body.is_empty()).then_some(Draft { body: body.to_owned(), reply_to: Some(7) });
        OwnUpdate { draft: Some(draft), ..OwnUpdate::default() }
    };
    let draft = async |chat, user| store.chat(chat, user).await.expect("a read").expect("a member").own.draft;
    let (last, others) = chats.split_last().expect("chats");
    for chat in others {
        store.update_own(*chat, bob, &set("I wi"), at(1)).await.expect("an update").expect("a member");
    }
    let refusal = refused(store.update_own(*last, bob, &set("I wi"), at(2)).await);
    assert_eq!(refusal, Refusal::TooManyDrafts);
    assert_eq!(draft(*last, bob).await, None);
    // Those that are there change, and one that is removed makes room.
    store.update_own(others[0], bob, &set("I will"), at(3)).await.expect("an update");
    let expected = Some(Draft { body: "I will".to_owned(), reply_to: Some(7) });
    assert_eq!((draft(others[0], bob).await, draft(others[0], ann).await), (expected, None));
    let removed = store.update_own(others[1], bob, &set(""), at(4)).await.expect("an update");
    assert_eq!(removed.expect("a member").draft, None);
    store.update_own(*last, bob, &set("so"), at(5)).await.expect("an update");
    store.update_own(chats[2], ann, &set("ann's"), at(5)).await.expect("each user has drafts of their own");

    change(&store, others[0], bob, Command::Leave).await;
    let later = at(10) + READDING_PAUSE;
    store.change(others[0], ann, put(bob, Role::Member), later).await.expect("bob is added again");
    assert_eq!(draft(others[0], bob).await, None);
    store.update_own(others[1], bob, &set("it left room"), later).await.expect("an update");
}

async fn in_a_channel_the_role_decides_who_writes(store: Store) {
    let (ann, bob, cid) = (new_user(), new_user(), new_user());
    let (title, history) = (crew(), HistoryAccess::All);
    let founding = Founding::Group {
        is_channel: true,
        title,
        history,
        visibility: Visibility::Private,
        others: BTreeSet::from([bob]),
    };
    let new = NewChat { founding, ..group(ann, &[]) };
    let chat = store.create(&new).await.expect("a channel").chat;
    assert_eq!((chat.kind, chat.title.as_deref()), (ChatKind::Channel, Some("Crew")));
    let chat_id = chat.chat_id;
    let accesses = async || sends(&store, &[ann, bob, cid].map(|user| (chat_id, user))).await;
    use Access::{None, ReadAndReact, ReadAndSend};
    assert_eq!(accesses().await, [ReadAndSend, ReadAndReact, None]);
    change(&store, chat_id, ann, put(bob, Role::Admin)).await;
    change(&store, chat_id, bob, put(cid, Role::Member)).await;
    assert_eq!(accesses().await, [ReadAndSend, ReadAndSend, ReadAndReact]);
    change(&store, chat_id, ann, put(bob, Role::Member)).await;
    assert_eq!(accesses().await, [ReadAndSend, ReadAndReact, ReadAndReact]);
    let pending = store.pending(100).await.expect("the outbox").into_iter();
    let memberships = pending.filter(|record| record.topic == Topic::ChatEvents);
    let memberships: Vec<MembershipRecord> = memberships
        .map(|record| serde_json::from_str(&record.payload.expect("a membership")).expect("json"))
        .collect();
    let kind = Some(ChatKind::Channel);
    assert!(memberships.len() == 5 && memberships.iter().all(|record| record.kind == kind));
    assert!(memberships.iter().zip(1..).all(|(record, version)| record.version == version));
}

async fn a_deleted_group_is_in_no_list(store: Store) {
    let owner = new_user();
    let others: Vec<_> = (0..FOUNDED_MEMBERS).map(|_| new_user()).collect();
    let new = keyed("5f0c", group(owner, &others));
    let chat_id = store.create(&new).await.expect("a chat").chat.chat_id;
    let kept = store.create(&group(owner, &others[..1])).await.expect("a chat").chat.chat_id;
    assert_eq!(refusal(&store, chat_id, others[0], Command::Delete).await, Refusal::RoleTooLow(Role::Member));
    assert_eq!(store.empty(chat_id, at(10)).await.expect("no step"), None, "no one deletes it");
    change(&store, chat_id, owner, Command::Delete).await;
    assert_eq!(store.begun_deletions(10).await.expect("a read"), [chat_id]);
    assert!(store.empty(chat_id, at(10)).await.expect("a step").is_some());
    let left = roles(&store, chat_id).await;
    assert_eq!(left.len(), 1000 - DELETED_AT_ONCE);
    assert!(left.contains(&(owner, Role::Owner)), "until the last step there is an owner");
    // The process is killed: the next one finishes it.
    assert_eq!(
        refusal(&store, chat_id, owner, put(new_user(), Role::Member)).await,
        Refusal::NotAMember(chat_id)
    );
    deletions::finish(&*store).await.expect("the deletion is finished");
    for _ in 0..2 {
        change(&store, chat_id, owner, Command::Delete).await;
        assert_eq!(store.empty(chat_id, at(10)).await.expect("no step"), None);
        assert!(store.begun_deletions(10).await.expect("a read").is_empty());
        assert!(store.members(chat_id, None, None, usize::MAX).await.expect("members").is_empty());
    }
    for user in [owner, others[0]] {
        assert_eq!(store.chat(chat_id, user).await.expect("a read"), None);
        let listed = store.chats(user, None, 10).await.expect("a page");
        assert_eq!(listed.iter().map(|chat| chat.chat_id).collect::<Vec<_>>(), [kept]);
    }
    assert_eq!(sends(&store, &[(chat_id, owner)]).await, [Access::None]);
    let pending = store.pending(5000).await.expect("the outbox");
    let removals = pending.iter().filter(|record| record.topic == Topic::MessageSend);
    let removals: Vec<SendRecord> = removals
        .map(|record| serde_json::from_str(record.payload.as_deref().expect("an entry")).expect("json"))
        .collect();
    assert!(removals.iter().all(|entry| entry.subject_only && entry.kind == EntryKind::MemberRemoved));
    assert_eq!(
        (removals.len(), removals[999].subject),
        (1000, Some(owner)),
        "each removal once, the owner's last"
    );
    // The group is not created again by its key, and makes room for another one.
    let again = store.create(&new).await;
    assert!(matches!(again, Err(StoreError::Refused(Refusal::NotAMember(_)))), "{again:?}");
}

async fn a_refused_change_leaves_nothing(store: Store) {
    let (ann, bob, eve) = (new_user(), new_user(), new_user());
    let new = group(ann, &[bob]);
    let chat_id = store.create(&new).await.expect("a chat").chat.chat_id;
    let before = (roles(&store, chat_id).await, topics(&store).await);
    let refused = async |actor, command| refusal(&store, chat_id, actor, command).await;
    assert_eq!(refused(bob, put(eve, Role::Member)).await, Refusal::RoleTooLow(Role::Member));
    assert_eq!(refused(eve, put(bob, Role::Member)).await, Refusal::NotAMember(chat_id));
    assert_eq!(refused(eve, Command::Remove { user_id: bob }).await, Refusal::NotAMember(chat_id));
    let unknown = ChatId::generate();
    let put_eve = put(eve, Role::Member);
    assert_eq!(refusal(&store, unknown, ann, put_eve).await, Refusal::NotAMember(unknown));
    let pair = store.create(&direct(bob, eve)).await.expect("a chat").chat.chat_id;
    let remove = Command::Remove { user_id: bob };
    assert_eq!(refusal(&store, pair, eve, remove).await, Refusal::DirectIsFixed);
    let events = [before.1, vec![Topic::ChatEvents; 2]].concat();
    assert_eq!((roles(&store, chat_id).await, topics(&store).await), (before.0, events));
}

async fn a_change_that_is_repeated_changes_nothing(store: Store) {
    let (ann, bob, cid) = (new_user(), new_user(), new_user());
    let chat_id = store.create(&group(ann, &[bob, cid])).await.expect("a chat").chat.chat_id;
    change(&store, chat_id, ann, put(bob, Role::Admin)).await;
    change(&store, chat_id, ann, Command::Remove { user_id: cid }).await;
    change(&store, chat_id, bob, Command::Leave).await;
    let before = (roles(&store, chat_id).await, topics(&store).await);
    for (actor, command) in [
        (ann, put(ann, Role::Owner)),
        (ann, Command::Remove { user_id: cid }),
        (ann, Command::Remove { user_id: new_user() }),
        (bob, Command::Leave),
        (bob, Command::Remove { user_id: bob }),
    ] {
        change(&store, chat_id, actor, command).await;
    }
    change(&store, ChatId::generate(), ann, Command::Leave).await;
    assert_eq!((roles(&store, chat_id).await, topics(&store).await), before);
}

async fn a_group_is_created_once_for_a_key(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let first = store.create(&keyed("5f0c", group(ann, &[bob]))).await.expect("a chat");
    assert!(first.fresh);
    let published = topics(&store).await;
    let again = store.create(&keyed("5f0c", group(ann, &[bob]))).await.expect("the same chat");
    assert_eq!((again.fresh, &again.chat), (false, &first.chat));
    assert_eq!(topics(&store).await, published, "published once");

    let reused = store.create(&keyed("5f0c", group(ann, &[]))).await;
    assert!(matches!(reused, Err(StoreError::Refused(Refusal::KeyReused))), "{reused:?}");
    for other in [keyed("5f0d", group(ann, &[bob])), keyed("5f0c", group(bob, &[ann])), group(ann, &[bob])] {
        assert!(store.create(&other).await.expect("another chat").fresh);
    }
    // A direct chat has its pair for a key, whatever else is sent.
    let pair = store.create(&keyed("5f0c", direct(ann, bob))).await.expect("a chat");
    let again = store.create(&keyed("5f0e", direct(bob, ann))).await.expect("the same chat");
    assert_eq!((again.fresh, again.chat.chat_id), (false, pair.chat.chat_id));

    change(&store, first.chat.chat_id, ann, Command::Leave).await;
    let left = store.create(&keyed("5f0c", group(ann, &[bob]))).await;
    assert!(matches!(left, Err(StoreError::Refused(Refusal::NotAMember(_)))), "{left:?}");
}

async fn an_owner_hands_over_and_the_last_one_leaves_an_empty_chat(store: Store) {
    let (ann, bob, cid) = (new_user(), new_user(), new_user());
    let chat_id = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
    change(&store, chat_id, ann, put(cid, Role::Admin)).await;
    change(&store, chat_id, ann, put(bob, Role::Owner)).await;
    change(&store, chat_id, bob, Command::Leave).await;
    // Both are admins; ann has been there longer.
    assert_eq!(roles(&store, chat_id).await, [(ann, Role::Owner), (cid, Role::Admin)]);
    change(&store, chat_id, ann, Command::Leave).await;
    change(&store, chat_id, cid, Command::Remove { user_id: cid }).await;
    assert!(roles(&store, chat_id).await.is_empty());
}

async fn a_direct_chat_that_was_left_is_opened_again(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let chat_id = store.create(&direct(ann, bob)).await.expect("a chat").chat.chat_id;
    let newcomers = async |new| store.newcomers(&new).await.expect("a read").into_iter().collect::<Vec<_>>();
    assert_eq!(newcomers(direct(ann, new_user())).await.len(), 1);
    assert!(newcomers(direct(ann, bob)).await.is_empty());
    change(&store, chat_id, bob, Command::Leave).await;
    assert!(store.chats(bob, None, 10).await.expect("a page").is_empty());
    let seats = [(chat_id, ann), (chat_id, bob)];
    assert_eq!(sends(&store, &seats).await, [Access::Read, Access::None]);
    assert_eq!(newcomers(direct(ann, bob)).await, [bob]);
    assert!(newcomers(direct(bob, ann)).await.is_empty(), "ann is still in it");

    let again = |founder, other, seconds| NewChat { created_at: at(seconds), ..direct(founder, other) };
    let refused = store.create(&again(ann, bob, 20)).await;
    assert!(
        matches!(refused, Err(StoreError::Refused(Refusal::Unwanted(user))) if user == bob),
        "{refused:?}"
    );
    assert_eq!(
        store.members(chat_id, None, None, usize::MAX).await.expect("members").len(),
        1,
        "nothing was changed"
    );

    let back = store.create(&again(bob, ann, 20)).await.expect("the same chat");
    assert_eq!((back.fresh, back.chat.chat_id, back.chat.member_count), (false, chat_id, 2));
    assert!(!store.is_published(back.publication).await.expect("a read"), "the return is to be published");
    assert_eq!(sends(&store, &seats).await, [Access::ReadAndSend; 2]);
    let (events, send) = (Topic::ChatEvents, Topic::MessageSend);
    assert_eq!(topics(&store).await, [events, events, events, events, send, events, send]);

    // A day after one of them has left, the other may.
    store.change(chat_id, bob, Command::Leave, at(30)).await.expect("a leave");
    let day = READDING_PAUSE.num_seconds();
    assert!(store.create(&again(ann, bob, 29 + day)).await.is_err());
    assert_eq!(store.create(&again(ann, bob, 30 + day)).await.expect("the same chat").chat.member_count, 2);
}

async fn a_departure_counts_for_a_day(store: Store) {
    let [ann, bob, cid, dora] = [(); 4].map(|()| new_user());
    let chat_id = store.create(&group(ann, &[bob, cid, dora])).await.expect("a chat").chat.chat_id;
    change(&store, chat_id, ann, put(bob, Role::Admin)).await;
    let day = READDING_PAUSE.num_seconds();
    let attempt = async |actor, user, seconds| match store
        .change(chat_id, actor, put(user, Role::Member), at(seconds))
        .await
    {
        Ok(_) => true,
        Err(StoreError::Refused(Refusal::Unwanted(unwanted))) if unwanted == user => false,
        Err(other) => panic!("{other:?}"),
    };
    let remove = async |actor, user_id, seconds| {
        store.change(chat_id, actor, Command::Remove { user_id }, at(seconds)).await.expect("a removal");
    };
    // By the hand that removed, not; by another, at once.
    remove(ann, cid, 20).await;
    assert!(!attempt(ann, cid, 21).await);
    assert!(attempt(bob, cid, 22).await);
    // Each hand counts for itself.
    remove(bob, cid, 23).await;
    assert!(!attempt(ann, cid, 24).await);
    assert!(!attempt(bob, cid, 24).await);
    assert!(attempt(ann, cid, 20 + day).await);
    // Who left comes by no hand.
    store.change(chat_id, dora, Command::Leave, at(40)).await.expect("a leave");
    for actor in [ann, bob] {
        assert!(!attempt(actor, dora, 39 + day).await);
    }
    assert!(attempt(ann, dora, 40 + day).await);
}

async fn acquaintances_share_a_chat(store: Store) {
    let [ann, bob, cid, dora, eve] = [(); 5].map(|()| new_user());
    store.create(&group(ann, &[bob, cid])).await.expect("a chat");
    store.create(&direct(dora, ann)).await.expect("a chat");
    let left = store.create(&direct(eve, ann)).await.expect("a chat").chat.chat_id;
    change(&store, left, eve, Command::Leave).await;
    let met = async |user, others: &[UserId]| store.acquaintances(user, others).await.expect("a read");
    assert_eq!(met(ann, &[bob, dora, eve, new_user()]).await, BTreeSet::from([bob, dora]));
    assert_eq!(met(bob, &[cid, dora]).await, BTreeSet::from([cid]));
    assert!(met(ann, &[]).await.is_empty());
}

async fn a_full_group_is_founded_in_one_step_and_takes_no_one_else(store: Store) {
    let ann = new_user();
    let others: Vec<_> = (0..FOUNDED_MEMBERS).map(|_| new_user()).collect();
    let chat = store.create(&group(ann, &others)).await.expect("a chat").chat;
    assert_eq!(chat.member_count, 1000);
    assert_eq!(topics(&store).await.len(), 1000);
    let mut all: BTreeSet<_> = others.into_iter().chain([ann]).collect();
    while all.len() < MAX_MEMBERS {
        let more: BTreeSet<_> = (0..500).map(|_| new_user()).collect();
        let added = store.add(chat.chat_id, ann, &more, at(5)).await.expect("there is room");
        assert!(added.unwanted.is_empty());
        all.extend(more);
    }
    let seen = store.chat(chat.chat_id, ann).await.expect("a read").expect("ann is in it");
    assert_eq!(seen.member_count, 10_000);
    let bob = new_user();
    assert_eq!(refusal(&store, chat.chat_id, ann, put(bob, Role::Member)).await, Refusal::Full);
    let refused = store.add(chat.chat_id, ann, &BTreeSet::from([bob]), at(5)).await;
    assert!(matches!(refused, Err(StoreError::Refused(Refusal::Full))), "{refused:?}");
    // Those who are there are read in windows, by id.
    let mut listed = Vec::new();
    while listed.len() < all.len() {
        let after = listed.last().copied();
        let window = store.members(chat.chat_id, None, after, 3000).await.expect("a window");
        assert!(!window.is_empty());
        listed.extend(window.into_iter().map(|member| member.user_id));
    }
    assert!(listed.iter().eq(all.iter()));
    let owners = store.members(chat.chat_id, Some(Role::Owner), None, 10).await.expect("a window");
    assert_eq!(owners.iter().map(|of| of.user_id).collect::<Vec<_>>(), [ann]);
}

async fn a_deleted_account_leaves_groups_and_direct_chats(store: Store) {
    let (ann, bob, cid) = (new_user(), new_user(), new_user());
    let crew = store.create(&group(ann, &[bob, cid])).await.expect("a chat").chat.chat_id;
    change(&store, crew, ann, put(cid, Role::Admin)).await;
    let pair = store.create(&direct(ann, bob)).await.expect("a chat").chat.chat_id;
    let accesses = async || {
        let seats = [(crew, ann), (crew, bob), (pair, ann), (pair, bob), (ChatId::generate(), bob)];
        sends(&store, &seats).await
    };
    use Access::{None, Read, ReadAndSend};
    assert_eq!(accesses().await, [ReadAndSend, ReadAndSend, ReadAndSend, ReadAndSend, None]);

    let before = topics(&store).await.len();
    for chat_id in [crew, pair] {
        store.depart(chat_id, ann, at(20)).await.expect("the account is deleted");
    }
    // Of each the record, the tombstone and the entry, and of the new owner the record and the entry.
    assert_eq!(topics(&store).await.len(), before + 8);
    for chat_id in [crew, pair, ChatId::generate()] {
        store.depart(chat_id, ann, at(30)).await.expect("nothing changes");
    }
    assert_eq!(topics(&store).await.len(), before + 8);
    let mut left = [(bob, Role::Member), (cid, Role::Owner)];
    left.sort_unstable();
    assert_eq!(roles(&store, crew).await, left);
    assert_eq!(roles(&store, pair).await, [(bob, Role::Member)]);
    assert_eq!(accesses().await, [None, ReadAndSend, None, Read, None]);
    assert!(store.chats(ann, Option::None, 10).await.expect("a list").is_empty());
    assert_eq!(store.chats(bob, Option::None, 10).await.expect("a list").len(), 2, "the other one keeps it");

    assert_eq!(store.deletions_position().await.expect("a read"), Option::None);
    for position in ["first", "second"] {
        store.set_deletions_position(position).await.expect("a write");
        assert_eq!(store.deletions_position().await.expect("a read").as_deref(), Some(position));
    }
}

async fn changes_at_once_happen_one_after_the_other(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let chat_id = store.create(&group(ann, &[])).await.expect("a chat").chat.chat_id;
    let adds = (0..16).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { change(&store, chat_id, ann, put(new_user(), Role::Member)).await })
    });
    let pairs = (0..8).map(|n| {
        let store = store.clone();
        let new = if n % 2 == 0 { direct(ann, bob) } else { direct(bob, ann) };
        tokio::spawn(async move { store.create(&new).await.expect("a chat").chat.chat_id })
    });
    let retries = (0..8).map(|_| {
        let (store, new) = (store.clone(), keyed("retry", group(bob, &[ann])));
        tokio::spawn(async move { store.create(&new).await.expect("a chat").chat.chat_id })
    });
    let (adds, pairs): (Vec<_>, Vec<_>) = (adds.collect(), pairs.collect());
    let retries: Vec<_> = retries.collect();
    for add in adds {
        add.await.expect("no panic");
    }
    let mut same = BTreeSet::new();
    for pair in pairs {
        same.insert(pair.await.expect("no panic"));
    }
    assert_eq!(same.len(), 1, "one direct chat of the two");
    let mut same = BTreeSet::new();
    for retry in retries {
        same.insert(retry.await.expect("no panic"));
    }
    assert_eq!(same.len(), 1, "one group of the key");
    let chat = store.chat(chat_id, ann).await.expect("a read").expect("ann is in it");
    assert_eq!(chat.member_count, 17);
    // Every record has the next number, in the order of the outbox, and the number of members of its moment.
    let said: Vec<_> = places(&store, chat_id).await.iter().map(|of| (of.version, of.members)).collect();
    assert_eq!(said, (1..18).map(|n| (i64::from(n), n)).collect::<Vec<_>>());
    let listed = store.membership(chat_id, ann).await.expect("a read").expect("ann is in it");
    assert_eq!(listed.version, 17);
}

/// Returns what each of these users may do in the chat.
async fn sends(store: &Store, seats: &[(ChatId, UserId)]) -> Vec<Access> {
    store.rights(seats).await.expect("a read").into_iter().map(|rights| rights.access).collect()
}

async fn a_plain_member_of_a_slow_group_waits(store: Store) {
    let [ann, bob, cid] = [(); 3].map(|()| new_user());
    let chat_id = store.create(&group(ann, &[bob, cid])).await.expect("a chat").chat.chat_id;
    change(&store, chat_id, ann, put(bob, Role::Admin)).await;
    let waits = async || {
        let seats = [ann, bob, cid, new_user()].map(|user| (chat_id, user));
        let rights = store.rights(&seats).await.expect("a read");
        rights.into_iter().map(|rights| rights.slow_mode_seconds).collect::<Vec<_>>()
    };
    assert_eq!(waits().await, [0; 4]);
    let published = topics(&store).await.len();
    let avatar = Some("f-7_A".to_owned());
    let slow = Update { slow_mode_seconds: Some(30), avatar: avatar.clone(), ..Update::default() };
    for _ in 0..2 {
        change(&store, chat_id, bob, update(slow.clone())).await;
        assert_eq!(waits().await, [0, 0, 30, 0]);
        let chat = store.chat(chat_id, cid).await.expect("a read").expect("cid is in it");
        assert_eq!((chat.slow_mode_seconds, chat.avatar), (30, avatar.clone()));
    }
    assert_eq!(refusal(&store, chat_id, cid, update(slow)).await, Refusal::RoleTooLow(Role::Member));
    let ttl = Update { message_ttl_seconds: Some(60), ..Update::default() };
    change(&store, chat_id, bob, update(ttl)).await;
    assert_eq!(
        store.chat(chat_id, cid).await.expect("a read").expect("cid is in it").message_ttl_seconds,
        60
    );
    let over = Update { slow_mode_seconds: Some(0), avatar: Some(String::new()), ..Update::default() };
    change(&store, chat_id, ann, update(over)).await;
    assert_eq!(waits().await, [0; 4]);
    assert_eq!(store.chat(chat_id, cid).await.expect("a read").expect("cid is in it").avatar, None);
    let (slow, avatar) = (EntryKind::SlowModeChanged, EntryKind::AvatarChanged);
    let entries = store.pending(1000).await.expect("a list").into_iter().skip(published);
    let entries = entries.map(|record| {
        let entry: SendRecord = serde_json::from_str(&record.payload.expect("an entry")).expect("json");
        (entry.kind, entry.body)
    });
    let said: Vec<_> = entries.collect();
    let ttl = EntryKind::TtlChanged;
    let expected = [(slow, "30"), (avatar, "f-7_A"), (ttl, "60"), (slow, "0"), (avatar, "")];
    assert_eq!(said, expected.map(|(kind, body)| (kind, body.to_owned())));
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> Refusal {
    match outcome {
        Err(StoreError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

async fn accesses(store: &Store, chat_id: ChatId, users: [UserId; 2]) -> Vec<Access> {
    sends(store, &users.map(|user| (chat_id, user))).await
}

async fn a_block_closes_the_direct_chat_of_a_pair_until_the_last_one_is_lifted(store: Store) {
    let [ann, bob, cid] = [(); 3].map(|()| new_user());
    let pair = store.create(&direct(ann, bob)).await.expect("a chat").chat.chat_id;
    let other = store.create(&direct(ann, cid)).await.expect("a chat").chat.chat_id;
    let crew = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
    let published = async || {
        let mut records = places(&store, pair).await;
        assert!(records.iter().zip(1..).all(|(of, version)| of.version == version), "{records:?}");
        records.drain(..2);
        records.chunks_mut(2).for_each(|of| of.sort_by_key(|of| of.user));
        records.into_iter().map(|of| (of.user, of.role.is_some())).collect::<Vec<_>>()
    };
    let of_pair = |is_there: bool| [ann.min(bob), ann.max(bob)].map(|user| (user, is_there));
    let is_closed = async || {
        let listed = store.memberships(ann, &[]).await.expect("a list").into_iter();
        let mut closed = listed.filter(|of| of.is_closed).map(|of| of.chat.chat_id).collect::<Vec<_>>();
        assert!(closed.pop().is_none_or(|closed| closed == pair) && closed.is_empty());
        store.membership(pair, bob).await.expect("a read").expect("bob is in it").is_closed
    };
    assert!(!is_closed().await);
    let publication = store.block(bob, ann, at(1)).await.expect("a block").expect("they have a chat");
    assert!(!store.is_published(publication).await.expect("a read"));
    // The other direction, and a repetition, change nothing that others know.
    for (user, blocked) in [(ann, bob), (bob, ann)] {
        store.block(user, blocked, at(2)).await.expect("a block").expect("they have a chat");
        assert_eq!(published().await, of_pair(false));
        assert!(is_closed().await);
    }
    assert_eq!(accesses(&store, pair, [ann, bob]).await, [Access::Read; 2]);
    assert_eq!(accesses(&store, other, [ann, cid]).await, [Access::ReadAndSend; 2]);
    assert_eq!(accesses(&store, crew, [ann, bob]).await, [Access::ReadAndSend; 2]);
    let chat = store.create(&direct(ann, bob)).await.expect("what is there is returned");
    assert_eq!((chat.fresh, chat.chat.chat_id, chat.chat.member_count), (false, pair, 2));

    assert_eq!(store.blocked(ann, &[bob, cid]).await.expect("a read"), BTreeSet::from([bob]));
    assert_eq!(store.blocked(cid, &[ann, bob]).await.expect("a read"), BTreeSet::new());
    let own = store.blocks(bob, None, 10).await.expect("a list");
    assert_eq!(own, [Block { user_id: ann, blocked_at: at(1) }], "the first time counts");

    store.unblock(bob, ann, at(3)).await.expect("lifted").expect("they have a chat");
    store.unblock(bob, ann, at(3)).await.expect("lifted").expect("they have a chat");
    assert_eq!(accesses(&store, pair, [ann, bob]).await, [Access::Read; 2], "the other one stands");
    assert_eq!(published().await.len(), 2);
    store.unblock(ann, bob, at(4)).await.expect("lifted").expect("they have a chat");
    assert_eq!(accesses(&store, pair, [ann, bob]).await, [Access::ReadAndSend; 2]);
    assert_eq!(published().await[2..], of_pair(true));
    assert!(!is_closed().await);
    assert_eq!(store.unblock(bob, cid, at(4)).await.expect("nothing to lift"), None);
}

async fn a_pair_with_a_block_opens_no_direct_chat(store: Store) {
    let [ann, bob] = [(); 2].map(|()| new_user());
    assert_eq!(store.block(ann, bob, at(0)).await.expect("a block"), None, "they have no chat");
    for (founder, other) in [(ann, bob), (bob, ann)] {
        assert_eq!(refused(store.create(&direct(founder, other)).await), Refusal::Unwanted(other));
    }
    store.unblock(ann, bob, at(0)).await.expect("lifted");
    let pair = store.create(&direct(bob, ann)).await.expect("a chat").chat.chat_id;
    store.block(ann, bob, at(0)).await.expect("a block");
    change(&store, pair, bob, Command::Leave).await;
    assert_eq!(refused(store.create(&direct(bob, ann)).await), Refusal::Unwanted(ann));
    store.unblock(ann, bob, at(20)).await.expect("lifted");
    assert!(!store.create(&direct(bob, ann)).await.expect("the same chat").fresh);
    assert_eq!(accesses(&store, pair, [ann, bob]).await, [Access::ReadAndSend; 2]);
}

async fn blocks_are_listed_in_pages_and_limited(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let mut others: Vec<_> = (0..MAX_BLOCKS).map(|_| new_user()).collect();
    for other in &others {
        store.block(ann, *other, at(0)).await.expect("a block");
    }
    assert_eq!(refused(store.block(ann, bob, at(0)).await), Refusal::TooManyBlocks);
    store.block(ann, others[0], at(0)).await.expect("what is there is not refused");
    store.block(bob, ann, at(0)).await.expect("blocks of others do not count");
    others.sort();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.blocks(ann, after, 300).await.expect("a page");
        let Some(last) = page.last() else { break };
        after = Some(last.user_id);
        seen.extend(page.into_iter().map(|block| block.user_id));
    }
    assert_eq!(seen, others);
    assert_eq!(store.blocks_of_any(ann, 5000).await.expect("a list").len(), MAX_BLOCKS + 1);
    store.unblock(ann, others[7], at(0)).await.expect("lifted");
    store.block(ann, bob, at(0)).await.expect("there is room again");
}

async fn what_is_published_of_a_direct_chat_agrees_with_blocks_that_are_made_at_once(store: Store) {
    for _ in 0..20 {
        let (ann, bob) = (new_user(), new_user());
        let tasks = [0, 1, 2, 3].map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                let (user, other) = if n % 2 == 0 { (ann, bob) } else { (bob, ann) };
                match n {
                    0 | 1 => drop(store.create(&direct(user, other)).await),
                    2 => drop(store.block(user, other, at(0)).await.expect("a block")),
                    _ => {
                        store.block(user, other, at(0)).await.expect("a block");
                        store.unblock(user, other, at(0)).await.expect("lifted");
                    }
                }
            })
        });
        for task in tasks {
            task.await.expect("no panic");
        }
        let mut published = BTreeMap::new();
        for record in store.pending(5000).await.expect("the outbox") {
            if [ann, bob].iter().any(|user| record.key.ends_with(&user.to_string())) {
                published.insert(record.key, record.payload.is_some());
            }
        }
        // Whichever was first: ann blocks bob, and no gateway has either in a chat with the other.
        assert!(published.values().all(|is_there| !is_there), "{published:?}");
    }
}

/// Checks of a batch of sends look each pair up by the primary key, however many blocks there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_are_found_without_a_scan() {
    let (database, _) = database().await;
    // One connection: a session reports what itself has read.
    let pool =
        PgPoolOptions::new().max_connections(1).connect_lazy_with(SCHEMA.connect_options(&database.args()));
    for fill in [
        "INSERT INTO blocks (blocker_id, blocked_id, blocked_at)
         SELECT gen_random_uuid(), gen_random_uuid(), now() FROM generate_series(1, 50000)",
        "INSERT INTO chats (chat_id, kind, low_user_id, high_user_id, member_count, created_at)
         SELECT gen_random_uuid(), 'direct', least(a, b), greatest(a, b), 2, now()
         FROM (SELECT gen_random_uuid() AS a, gen_random_uuid() AS b FROM generate_series(1, 5000)) AS pairs",
        "INSERT INTO members (chat_id, user_id, role, joined_at)
         SELECT chat_id, unnest(ARRAY[low_user_id, high_user_id]), 'member', now() FROM chats",
        "ANALYZE blocks, chats, members",
    ] {
        sqlx::query(fill).execute(&pool).await.expect("rows");
    }
    let store: Store = Arc::new(PostgresStore::new(pool.clone(), Limits::default()));
    let seats: Vec<(Uuid, Uuid)> = sqlx::query_as("SELECT chat_id, user_id FROM members LIMIT 500")
        .fetch_all(&pool)
        .await
        .expect("seats");
    let seats: Vec<_> = seats.into_iter().map(|(chat, user)| (ChatId(chat), UserId(user))).collect();
    let scanned = async || {
        sqlx::query("SELECT pg_stat_force_next_flush()").execute(&pool).await.expect("a flush");
        sqlx::query_scalar::<_, i64>("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'blocks'")
            .fetch_one(&pool)
            .await
            .expect("a count")
    };
    let before = scanned().await;
    assert_eq!(sends(&store, &seats).await, vec![Access::ReadAndSend; 500]);
    let users: Vec<_> = seats.iter().map(|(_, user)| *user).collect();
    assert!(store.blocked(users[0], &users).await.expect("a read").is_empty());
    assert!(store.blocks_of_any(users[0], 100).await.expect("a read").is_empty());
    assert_eq!(scanned().await, before);
    sqlx::query("SELECT count(*) FROM blocks").execute(&pool).await.expect("a scan");
    assert!(scanned().await > before, "a scan is counted");
}

/// Whoever sends waits for no list and for no change, however many there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "a figure for the reader of the test's output")]
async fn senders_are_checked_while_all_else_waits() {
    let (database, pool) = database().await;
    let checks = SCHEMA.pool_of(&database.args(), 2);
    let store: Store = Arc::new(PostgresStore::new(pool.clone(), Limits::default()).checking_with(checks));
    let (ann, bob) = (new_user(), new_user());
    let mut seats = Vec::new();
    for _ in 0..50 {
        let chat = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
        seats.extend([(chat, ann), (chat, bob)]);
    }
    let check = async || {
        let since = Instant::now();
        assert_eq!(sends(&store, &seats).await, vec![Access::ReadAndSend; seats.len()]);
        since.elapsed()
    };
    check().await;
    // Nothing else gets a session.
    let mut taken = Vec::new();
    for _ in 0..pool.options().get_max_connections() {
        taken.push(pool.acquire().await.expect("a session"));
    }
    check().await;
    drop(taken);
    // Many lists at once, again and again until the checks are done.
    let done = CancellationToken::new();
    let lists: Vec<_> = (0..200)
        .map(|_| {
            let (store, done) = (store.clone(), done.clone());
            tokio::spawn(async move {
                while !done.is_cancelled() {
                    // It may wait for a session for too long.
                    drop(store.memberships(ann, &[]).await);
                }
            })
        })
        .collect();
    let mut took = Vec::new();
    for _ in 0..100 {
        took.push(check().await);
    }
    done.cancel();
    for list in lists {
        list.await.expect("no panic");
    }
    took.sort();
    println!("100 checks beside 200 lists: median {:?}, at most {:?}", took[50], took[99]);
    assert!(took[99] < Duration::from_secs(1), "a gateway waits no longer: {took:?}");
}

async fn a_user_creates_a_limited_number_of_chats(store: Store) {
    let [ann, bob, cid] = [(); 3].map(|()| new_user());
    let most = FEW.max_chats_per_user;
    store.create(&direct(ann, bob)).await.expect("a chat");
    let keyed_group = keyed("5f0c", group(ann, &[cid]));
    let kept = store.create(&keyed_group).await.expect("a chat").chat.chat_id;
    let mut made = Vec::new();
    for _ in 2..most {
        made.push(store.create(&group(ann, &[])).await.expect("a chat").chat.chat_id);
    }
    for new in [group(ann, &[]), direct(ann, new_user()), keyed("5f0d", group(ann, &[]))] {
        assert_eq!(refused(store.create(&new).await), Refusal::TooManyChats(most));
    }
    // What is there already is no new chat.
    assert!(!store.create(&direct(ann, bob)).await.expect("the chat of the pair").fresh);
    let again = NewChat { chat_id: ChatId::generate(), ..keyed_group };
    assert_eq!(store.create(&again).await.expect("the group of the key").chat.chat_id, kept);
    // Chats of others do not count, even for their members and owners.
    let theirs = store.create(&group(bob, &[ann])).await.expect("a chat of another founder").chat.chat_id;
    change(&store, theirs, bob, put(ann, Role::Owner)).await;

    // A group that the founder has left still has members, an empty one has not.
    change(&store, kept, ann, Command::Leave).await;
    assert_eq!(refused(store.create(&group(ann, &[])).await), Refusal::TooManyChats(most));
    change(&store, made[0], ann, Command::Leave).await;
    let wait = Duration::from_secs(24 * 3600 - 20);
    let soon = NewChat { created_at: at(20), ..group(ann, &[]) };
    assert_eq!(refused(store.create(&soon).await), Refusal::TooManyChatsLately { most, wait });
    let later = NewChat { created_at: at(24 * 3600), ..group(ann, &[]) };
    assert!(store.create(&later).await.expect("a chat a day later").fresh);
    let next = NewChat { created_at: at(24 * 3600), ..group(ann, &[]) };
    assert_eq!(refused(store.create(&next).await), Refusal::TooManyChats(most));
}

async fn memberships_are_limited_for_each_hand_and_for_all(store: Store) {
    // 100 in all, of which one hand may have added an eighth of what is left.
    let [ann, bob, cid] = [(); 3].map(|()| new_user());
    let others: Vec<_> = (0..20).map(|_| new_user()).collect();
    let crew = store.create(&group(ann, &others[..9])).await.expect("10, of 90 that are left").chat.chat_id;
    let refusal_of = async |actor, user| refusal(&store, crew, actor, put(user, Role::Member)).await;
    change(&store, crew, ann, put(others[9], Role::Member)).await;
    assert_eq!(refusal_of(ann, others[10]).await, Refusal::TooManyAdded);
    assert_eq!(refused(store.create(&direct(ann, bob)).await), Refusal::TooManyAdded);
    assert_eq!(roles(&store, crew).await.len(), 11, "a refused change leaves nothing");
    // A role adds no one, and who is in the group is in it.
    change(&store, crew, ann, put(others[0], Role::Admin)).await;
    change(&store, crew, ann, put(others[0], Role::Admin)).await;
    // Another hand has its own share, in the same group too. It is not what others added them to that counts.
    change(&store, crew, others[0], put(others[10], Role::Member)).await;
    // Whom a hand has added and who is gone does not count.
    change(&store, crew, ann, Command::Remove { user_id: others[1] }).await;
    change(&store, crew, others[2], Command::Leave).await;
    change(&store, crew, ann, put(others[11], Role::Member)).await;

    // Direct chats of others: the room gets smaller, and so does the share of each.
    let mut pairs = Vec::new();
    for _ in 0..40 {
        let (one, other) = (new_user(), new_user());
        match store.create(&direct(one, other)).await {
            Ok(created) => pairs.push((created.chat.chat_id, one, other)),
            Err(StoreError::Refused(Refusal::TooManyAdded | Refusal::TenantFull)) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    let taken = 11 + 2 * pairs.len();
    assert_eq!(taken, 83, "two memberships are an eighth of the 17 that are left, and not of 15");
    assert_eq!(refusal_of(ann, others[12]).await, Refusal::TooManyAdded);
    // Each of two who are back in their direct chat is there by their own hand.
    let (pair, one, other) = pairs[0];
    change(&store, pair, other, Command::Leave).await;
    let back = NewChat { created_at: at(20), ..direct(other, one) };
    assert!(!store.create(&back).await.expect("the same chat").fresh);
    // Groups of one until there is an eighth of nothing.
    let mut alone = 0;
    while let Ok(created) = store.create(&group(new_user(), &[])).await {
        assert!(created.fresh);
        alone += 1;
    }
    assert_eq!(taken + alone, 92);
    assert_eq!(refused(store.create(&group(cid, &[])).await), Refusal::TooManyAdded);
    assert_eq!(refused(store.create(&group(cid, &others)).await), Refusal::TenantFull);
    assert!(!store.create(&back).await.expect("the same chat").fresh, "what is there is not refused");
    // A departure makes room for another user.
    store.depart(crew, ann, at(30)).await.expect("a deleted account");
    store.create(&group(cid, &[])).await.expect("a chat");
}

/// Counts that a trigger keeps are those of the rows, whatever made or removed them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_of_memberships_are_those_of_the_rows() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool.clone(), Limits::default()));
    let users: Vec<_> = (0..40).map(|_| new_user()).collect();
    let founders = users.chunks(10).map(|chunk| {
        let (store, chunk, users) = (store.clone(), chunk.to_vec(), users.clone());
        tokio::spawn(async move {
            for founder in chunk {
                let others: Vec<_> = users.iter().copied().filter(|user| *user != founder).collect();
                let chat_id = store.create(&group(founder, &others)).await.expect("a chat").chat.chat_id;
                let new = new_user();
                change(&store, chat_id, founder, put(new, Role::Admin)).await;
                change(&store, chat_id, new, put(new_user(), Role::Member)).await;
                change(&store, chat_id, founder, Command::Leave).await;
            }
        })
    });
    for founder in founders.collect::<Vec<_>>() {
        founder.await.expect("no panic");
    }
    sqlx::query("DELETE FROM members WHERE user_id = $1")
        .bind(users[0].0)
        .execute(&pool)
        .await
        .expect("rows");
    let differing: Vec<(Uuid, i64, i64)> = sqlx::query_as(
        "SELECT hand, coalesce(counted, 0)::BIGINT, coalesce(there, 0)::BIGINT
         FROM (SELECT added_by_user_id AS hand, sum(memberships) AS counted FROM membership_counts GROUP BY 1) AS counts
         FULL JOIN (SELECT added_by_user_id AS hand, count(*) AS there FROM members GROUP BY 1
                    UNION ALL SELECT $1, count(*) FROM members) AS rows USING (hand)
         WHERE counted IS DISTINCT FROM there AND coalesce(counted, 0) + coalesce(there, 0) > 0",
    )
    .bind(Uuid::nil())
    .fetch_all(&pool)
    .await
    .expect("counts");
    assert_eq!(differing, []);
    let all: i64 =
        sqlx::query_scalar("SELECT count(*) FROM members").fetch_one(&pool).await.expect("a count");
    assert_eq!(all, 40 * 41 - 39);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_before_the_counts_are_counted_for_the_tenant() {
    let database = TestDatabase::create().await;
    let counting = SCHEMA.migrations.iter().position(|(name, _)| name.ends_with("count_memberships"));
    let before = Schema { migrations: &SCHEMA.migrations[..counting.expect("the migration")], ..SCHEMA };
    before.migrate(&database.args()).await.expect("the migrations of before");
    let pool = SCHEMA.pool(&database.args());
    let add = async |members: i32| {
        // As a process of the version before does, which runs during an update.
        let sql = "WITH new AS (INSERT INTO chats (chat_id, kind, title, member_count, created_at)
                                VALUES (gen_random_uuid(), 'group', 'Crew', $1, now()) RETURNING chat_id)
                   INSERT INTO members (chat_id, user_id, role, joined_at)
                   SELECT chat_id, gen_random_uuid(), 'member', now() FROM new, generate_series(1, $1)";
        sqlx::query(sql).bind(members).execute(&pool).await.expect("a chat");
    };
    for members in [40, 30, 20] {
        add(members).await;
    }
    SCHEMA.migrate(&database.args()).await.expect("the migrations");
    let store: Store = Arc::new(PostgresStore::new(pool.clone(), FEW));
    let ann = new_user();
    store.create(&group(ann, &[])).await.expect("91 of 100");
    add(9).await;
    assert_eq!(refused(store.create(&group(new_user(), &[])).await), Refusal::TenantFull);
    sqlx::query("DELETE FROM members WHERE user_id <> $1").bind(ann.0).execute(&pool).await.expect("rows");
    store.create(&group(ann, &[])).await.expect("2 of 100");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn departures_of_other_days_are_not_kept() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool.clone(), Limits::default()));
    let (ann, day) = (new_user(), READDING_PAUSE.num_seconds());
    let depart = async |seconds| {
        let chat_id = store.create(&group(ann, &[])).await.expect("a chat").chat.chat_id;
        store.change(chat_id, ann, Command::Leave, at(seconds)).await.expect("a leave");
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM departures")
            .fetch_one(&pool)
            .await
            .expect("a count")
    };
    // No chat has a second departure.
    for (seconds, kept) in [(0, 1), (10, 2), (day - 1, 3), (day, 3), (day + 10, 3), (3 * day, 1)] {
        assert_eq!(depart(seconds).await, kept, "after {seconds} s");
    }
}
