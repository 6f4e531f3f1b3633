//! How many chats and memberships there may be.

use super::*;

suite![
    memory_with_few, postgres_with_few, super::FEW;
    a_user_creates_a_limited_number_of_chats,
    memberships_are_limited_for_each_hand_and_for_all,
];

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
