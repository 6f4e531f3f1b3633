//! Users who leave, or are removed, one by one or with their group or account.

use super::*;

suite![
    memory, postgres, super::Limits::default();
    a_deleted_group_is_in_no_list,
    a_departure_counts_for_a_day,
    a_deleted_account_leaves_groups_and_direct_chats,
];

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

    assert_eq!(store.deletions_position().get().await.expect("a read"), Option::None);
    for position in ["first", "second"] {
        store.deletions_position().set(position).await.expect("a write");
        assert_eq!(store.deletions_position().get().await.expect("a read").as_deref(), Some(position));
    }
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
