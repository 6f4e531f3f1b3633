//! Who may send, as gateways ask.

use chrono::{DateTime, TimeDelta, Utc};

use super::*;

suite![
    memory, postgres, super::Limits::default();
    in_a_channel_the_role_decides_who_writes,
    a_plain_member_of_a_slow_group_waits,
    a_restricted_user_reads_and_writes_nothing,
];

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

/// A sender waits for no list and for no change, however many there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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
    println!("100 checks beside 200 lists: median {:?}, at most {:?}", took[50], took[took.len() - 1]);
}

async fn a_restricted_user_reads_and_writes_nothing(store: Store) {
    use Access::{None as Outside, ReadAndSend, Restricted};
    let (ann, bob) = (new_user(), new_user());
    let one = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
    let two = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
    let accesses = async || sends(&store, &[(one, bob), (two, bob), (one, ann)]).await;
    let (later, before) = (Utc::now() + TimeDelta::hours(1), Utc::now() - TimeDelta::hours(1));
    let (later, before) = (Some(later), Some(before));
    let restrict = async |chat: Option<ChatId>, until: Option<DateTime<Utc>>| {
        let before = store.pending(1000).await.expect("the outbox").len();
        let restriction = until.map(|until| Restriction { chat_id: chat, until, is_ban: chat.is_none() });
        store.restrict(bob, chat, restriction).await.expect("a change");
        // Gateways check bob first from then on.
        let pending = store.pending(1000).await.expect("the outbox");
        let [record, tombstone] = &pending[before..] else { panic!("{pending:?}") };
        assert_eq!(RestrictionRecord::parse_key(record.key.as_bytes()), Some((chat, bob)));
        assert_eq!(*tombstone, OutboxRecord { payload: None, ..record.clone() });
        // It is repeated until the answer comes, and is so already.
        store.restrict(bob, chat, restriction).await.expect("no change");
        assert_eq!(store.pending(1000).await.expect("the outbox"), pending);
        let listed = store.restrictions(bob).await.expect("a read");
        let found = listed.iter().find(|restriction| restriction.chat_id == chat);
        let holds = until.is_some_and(|until| until > Utc::now());
        assert_eq!(found.map(|found| found.is_ban), holds.then_some(chat.is_none()), "{listed:?}");
        assert!(store.restrictions(ann).await.expect("a read").is_empty());
    };
    assert_eq!(accesses().await, [ReadAndSend; 3]);
    restrict(Some(one), later).await;
    assert_eq!(accesses().await, [Restricted, ReadAndSend, ReadAndSend]);
    restrict(Some(one), before).await;
    assert_eq!(accesses().await, [ReadAndSend; 3], "its time is over");
    restrict(None, later).await;
    assert_eq!(accesses().await, [Restricted, Restricted, ReadAndSend]);
    restrict(None, None).await;
    assert_eq!(accesses().await, [ReadAndSend; 3]);
    restrict(Some(one), later).await;
    store.depart(one, bob, Utc::now()).await.expect("a change");
    assert_eq!(accesses().await, [Outside, ReadAndSend, ReadAndSend]);
    assert_eq!(store.restrictions(bob).await.expect("a read").len(), 1, "who is brought back writes nothing");
    store.forget_restrictions(bob).await.expect("a change");
    assert!(store.restrictions(bob).await.expect("a read").is_empty());
}

/// The mutes of a rule end by themselves, and nothing else is said of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restrictions_that_have_ended_are_forgotten() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool.clone(), Limits::default()));
    sqlx::query(
        "INSERT INTO restrictions (user_id, chat_id, restricted_until)
         SELECT gen_random_uuid(), gen_random_uuid(), now() - INTERVAL '2 days' FROM generate_series(1, 30)",
    )
    .execute(&pool)
    .await
    .expect("restrictions");
    let mute = async |hours: i64| {
        let (chat_id, until) = (Some(ChatId::generate()), Utc::now() + TimeDelta::hours(hours));
        let restriction = Restriction { chat_id, until, is_ban: false };
        store.restrict(new_user(), chat_id, Some(restriction)).await.expect("a change");
    };
    mute(-1).await;
    mute(1).await;
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM restrictions").fetch_one(&pool).await.expect("a count");
    assert_eq!(left, 2, "what ended lately is left, and what holds");
}
