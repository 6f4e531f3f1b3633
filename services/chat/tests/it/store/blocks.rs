//! Users who block one another.

use super::*;

suite![
    memory, postgres, super::Limits::default();
    a_block_closes_the_direct_chat_of_a_pair_until_the_last_one_is_lifted,
    a_pair_with_a_block_opens_no_direct_chat,
    blocks_are_listed_in_pages_and_limited,
    what_is_published_of_a_direct_chat_agrees_with_blocks_that_are_made_at_once,
];

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
