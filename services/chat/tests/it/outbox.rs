//! The outbox on real PostgreSQL and real Kafka.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use chat::{
    domain::{Command, Founding, Limits, NewChat, OwnUpdate, READDING_PAUSE},
    events::{self, OutboxMetrics, Publisher},
    store::{ChatStore as _, PostgresStore, Published, PublishedPlace, SCHEMA},
};
use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ChatId, UserId,
    api::{HistoryAccess, Visibility},
    event::{EntryKind, MembershipRecord, Role, SendRecord},
};
use kit::{
    catalog::Topic,
    config::{KafkaArgs, TrustArgs},
    log::Log,
    metrics::Metrics,
    testing::{TestDatabase, stack},
};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{Consumer as _, StreamConsumer},
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{at, crew, database, new_user};

/// Longer than anything here takes on a busy machine, short enough to wait for.
const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;

fn kafka_args() -> KafkaArgs {
    KafkaArgs {
        kafka_bootstrap_servers: stack("KAFKA_BOOTSTRAP"),
        kafka_security_protocol: "sasl_plaintext".to_owned(),
        trust: TrustArgs::default(),
        kafka_username: stack("KAFKA_ADMIN_USERNAME"),
        kafka_password: stack("KAFKA_ADMIN_PASSWORD").into(),
        schema_ids: Vec::new(),
    }
}

/// A tenant with a database and, once they are created, topics of its own.
struct Tenant {
    name: String,
    database: TestDatabase,
    store: PostgresStore,
    pool: sqlx::PgPool,
    admin: AdminClient<DefaultClientContext>,
    changes: AtomicI64,
}

impl Tenant {
    async fn without_topics() -> Self {
        let (database, pool) = database().await;
        let name = format!("test{}", uuid::Uuid::now_v7().simple());
        let admin = kit::kafka::producer_config(&kafka_args()).create().expect("an admin client");
        let changes = AtomicI64::default();
        Self {
            name,
            database,
            store: PostgresStore::new(pool.clone(), Limits::default()),
            pool,
            admin,
            changes,
        }
    }

    async fn start() -> Self {
        let tenant = Self::without_topics().await;
        tenant.create_topics().await;
        tenant
    }

    fn topics(&self) -> [String; 2] {
        [Topic::ChatEvents, Topic::MessageSend].map(|name| name.of(&self.name))
    }

    async fn create_topics(&self) {
        let topics = self.topics();
        let new = topics.each_ref().map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)));
        let outcomes = self.admin.create_topics(&new, &AdminOptions::new()).await.expect("Kafka answers");
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    }

    /// Ends the test: databases go by themselves, topics do not.
    async fn end(self) {
        let topics = self.topics();
        let names = topics.each_ref().map(String::as_str);
        drop(self.admin.delete_topics(&names, &AdminOptions::new()).await);
    }

    fn publish(&self) -> Publishing {
        self.publish_after(Duration::ZERO)
    }

    fn publish_after(&self, handover: Duration) -> Publishing {
        let (shutdown, metrics) = (CancellationToken::new(), Metrics::default());
        let publisher = Publisher {
            database: SCHEMA.connect_options(&self.database.args()),
            pool: self.pool.clone(),
            log: Log::kafka(kafka_args()),
            tenant: self.name.clone(),
            handover,
            metrics: metrics.register(kit::catalog::Service::Chat, "test", OutboxMetrics::register),
        };
        let task = tokio::spawn(events::publish(publisher, shutdown.clone()));
        Publishing { shutdown, metrics, task }
    }

    async fn group(&self, founder: UserId) -> ChatId {
        let history = HistoryAccess::FromEntry;
        let founding = Founding::Group {
            is_channel: false,
            title: crew(),
            history,
            visibility: Visibility::Private,
            others: BTreeSet::new(),
        };
        let new = NewChat { chat_id: ChatId::generate(), founder, founding, key: None, created_at: at(0) };
        self.store.create(&new).await.expect("a chat").chat.chat_id
    }

    /// Makes a change, so long after the one before that no departure counts any more.
    async fn change(&self, chat: ChatId, actor: UserId, command: Command) {
        let at = at(self.changes.fetch_add(1, Relaxed) * READDING_PAUSE.num_seconds());
        self.store.change(chat, actor, command, at).await.expect("the change is allowed");
    }

    /// Returns a page of what was published.
    async fn listed(&self, from: Option<PublishedPlace>, limit: usize) -> Published {
        self.store.published(from, limit).await.expect("a page")
    }

    /// Makes everything that was published so much older, or younger.
    async fn age_published(&self, seconds: i32) {
        sqlx::query("UPDATE published SET published_at = published_at - $1 * INTERVAL '1 second'")
            .bind(seconds)
            .execute(&self.pool)
            .await
            .expect("time passes");
    }

    async fn backlog(&self) -> usize {
        self.store.pending(10_000).await.expect("the outbox").len()
    }

    async fn until_empty(&self) {
        until("the outbox is empty", async || self.backlog().await == 0).await;
    }

    /// Reads both topics from the start until it was enough, in the order of each partition.
    async fn read(&self, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let consumer: StreamConsumer =
            kit::kafka::consumer_config(&kafka_args(), "unused").create().expect("a consumer");
        let mut all = TopicPartitionList::new();
        for topic in self.topics() {
            for partition in 0..PARTITIONS {
                all.add_partition_offset(&topic, partition, Offset::Beginning).expect("a partition");
            }
        }
        consumer.assign(&all).expect("partitions can be assigned");
        let mut seen = Vec::new();
        while !enough(&seen) {
            let record = timeout(PATIENCE, consumer.recv()).await;
            let record = record.unwrap_or_else(|_| panic!("only {} records: {seen:?}", seen.len()));
            let record = record.expect("a record");
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
            seen.push(Seen {
                topic: Topic::parse(&record.topic()[self.name.len() + 1..]).expect("a topic of ours"),
                key: text(record.key().expect("a key")),
                payload: record.payload().map(text),
            });
        }
        seen
    }
}

/// A record as a consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Seen {
    topic: Topic,
    key: String,
    payload: Option<String>,
}

/// A publisher at work.
struct Publishing {
    shutdown: CancellationToken,
    metrics: Metrics,
    task: JoinHandle<()>,
}

impl Publishing {
    async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task).await.expect("it stops in time").expect("it does not panic");
    }

    fn metric(&self, name: &str) -> i64 {
        let text = self.metrics.encode();
        let line = text.lines().find(|line| line.starts_with(&format!("posthouse_chat_outbox_{name}{{")));
        let value = line.and_then(|line| line.rsplit(' ').next()).expect("the metric is there");
        value.parse().expect("a number")
    }
}

/// Waits until a condition holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("gave up waiting until {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_reaches_both_topics_and_leaves_the_outbox() {
    let tenant = Tenant::start().await;
    let publishing = tenant.publish();
    let (ann, bob) = (new_user(), new_user());
    let chat = tenant.group(ann).await;
    tenant.change(chat, ann, Command::Put { user_id: bob, role: Role::Member }).await;
    tenant.change(chat, ann, Command::Put { user_id: bob, role: Role::Admin }).await;
    tenant.change(chat, ann, Command::Remove { user_id: bob }).await;
    let seen = tenant.read(|seen| seen.len() == 8).await;
    tenant.until_empty().await;

    let of_bob = MembershipRecord::key(chat, bob);
    let bobs: Vec<_> = seen.iter().filter(|record| record.key == of_bob).collect();
    let roles: Vec<_> = bobs
        .iter()
        .map(|record| record.payload.as_deref().map(|text| serde_json::from_str(text).expect("json")))
        .map(|record: Option<MembershipRecord>| record.map(|record| record.role))
        .collect();
    let expected = [Some(Some(Role::Member)), Some(Some(Role::Admin)), Some(None), None];
    assert_eq!(roles, expected, "in order, a tombstone last");
    let entries: Vec<SendRecord> = seen
        .iter()
        .filter(|record| record.topic == Topic::MessageSend)
        .map(|record| {
            assert_eq!(record.key, chat.to_string());
            serde_json::from_str(record.payload.as_deref().expect("an entry")).expect("json")
        })
        .collect();
    let kinds: Vec<_> = entries.iter().map(|entry| (entry.kind, entry.subject, entry.sender)).collect();
    let kinds_of_bob = [EntryKind::MemberAdded, EntryKind::RoleChanged, EntryKind::MemberRemoved];
    assert_eq!(kinds, kinds_of_bob.map(|kind| (kind, Some(bob), ann)));
    assert_ne!(entries[0].key, entries[1].key);
    assert_eq!(publishing.metric("published_total"), 8);
    publishing.stop().await;
    tenant.end().await;
}

fn records(page: &Published) -> Vec<(UserId, i64, Option<Role>)> {
    let read = |(key, payload): &(String, String)| {
        let record: MembershipRecord = serde_json::from_str(payload).expect("json");
        assert_eq!(*key, MembershipRecord::key(record.chat, record.user));
        (record.user, record.version, record.role)
    };
    page.records.iter().map(read).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_published_of_memberships_is_listed_for_a_while() {
    let tenant = Tenant::start().await;
    let (ann, bob) = (new_user(), new_user());
    assert_eq!(tenant.listed(None, 10).await, Published::default(), "an empty list has no place");
    let publishing = tenant.publish();
    let chat = tenant.group(ann).await;
    tenant.until_empty().await;
    let begun = tenant.listed(None, 10).await;
    assert_eq!((begun.records.len(), begun.follows, begun.more), (0, false, false), "who begins loads");
    assert!(begun.place.is_some(), "where the list ends, young as it is");
    tenant.change(chat, ann, Command::Put { user_id: bob, role: Role::Member }).await;
    tenant.change(chat, ann, Command::Put { user_id: bob, role: Role::Admin }).await;
    tenant.change(chat, ann, Command::Remove { user_id: bob }).await;
    let own = OwnUpdate { is_archived: Some(true), ..OwnUpdate::default() };
    tenant.store.update_own(chat, ann, &own, at(1)).await.expect("it is archived").expect("a member");
    tenant.until_empty().await;
    let nothing = Published { follows: true, place: begun.place, ..Published::default() };
    assert_eq!(tenant.listed(begun.place, 10).await, nothing, "the log comes first");

    tenant.age_published(10).await;
    let aged = |place: Option<PublishedPlace>| {
        let place = place.expect("a place");
        Some(PublishedPlace { at: place.at.map(|at| at - TimeDelta::seconds(10)), ..place })
    };
    let begun = aged(begun.place);
    let all = tenant.listed(begun, 10).await;
    assert_eq!(records(&all), [(bob, 2, Some(Role::Member)), (bob, 3, Some(Role::Admin)), (bob, 4, None)]);
    assert_eq!((all.follows, all.more), (true, false));
    let first = tenant.listed(begun, 2).await;
    assert_eq!((&first.records[..], first.follows, first.more), (&all.records[..2], true, true));
    let second = tenant.listed(first.place, 2).await;
    assert_eq!(second, Published { records: all.records[2..].to_vec(), more: false, ..all.clone() });
    assert_eq!(tenant.listed(all.place, 10).await, Published { records: Vec::new(), ..all.clone() });
    // A gateway of before names no time.
    let older = begun.map(|place| PublishedPlace { at: None, ..place });
    assert_eq!(tenant.listed(older, 10).await, all);

    // Another database has the same ids, or none that is so high.
    let end = Published { follows: false, records: Vec::new(), ..all.clone() };
    let place = all.place.expect("a place");
    for other in [
        PublishedPlace { at: place.at.map(|at| at + TimeDelta::microseconds(1)), ..place },
        PublishedPlace { id: place.id + 1_000, ..place },
    ] {
        assert_eq!(tenant.listed(Some(other), 10).await, end, "{other:?}");
    }
    publishing.stop().await;
    tenant.end().await;
}

/// A record counts as young only as long as its own time says so, and the list is read in one order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_hides_no_record() {
    let tenant = Tenant::start().await;
    let publishing = tenant.publish();
    let (ann, bob) = (new_user(), new_user());
    let chat = tenant.group(ann).await;
    tenant.until_empty().await;
    let begun = tenant.listed(None, 10).await.place;
    tenant.change(chat, ann, Command::Put { user_id: bob, role: Role::Member }).await;
    tenant.until_empty().await;
    tenant.change(chat, ann, Command::Remove { user_id: bob }).await;
    tenant.until_empty().await;
    let set = async |version: i64, seconds: i64| {
        let set = "UPDATE published SET published_at = now() + $2 * INTERVAL '1 second'
                   WHERE (payload::JSONB->>'version')::BIGINT = $1";
        sqlx::query(set).bind(version).bind(seconds).execute(&tenant.pool).await.expect("a time");
    };
    // The removal was published when the clock was back, and is older by it than the addition before.
    set(2, 0).await;
    set(3, -60).await;
    assert_eq!(records(&tenant.listed(begun, 10).await), [], "it would be read past the addition");
    // When the clock was back by an hour, what is in the future waits for no hour.
    set(2, 3_600).await;
    assert_eq!(records(&tenant.listed(begun, 10).await), [(bob, 2, Some(Role::Member)), (bob, 3, None)]);
    publishing.stop().await;
    tenant.end().await;
}

/// It is forgotten while records are published, and what fails of that holds none of them up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_published_long_ago_is_forgotten_but_for_the_newest() {
    let tenant = Tenant::start().await;
    let (ann, bob) = (new_user(), new_user());
    let publishing = tenant.publish();
    let chat = tenant.group(ann).await;
    tenant.change(chat, ann, Command::Put { user_id: bob, role: Role::Member }).await;
    tenant.until_empty().await;
    publishing.stop().await;
    tenant.age_published(3_600).await;
    let listed: Vec<(i64, DateTime<Utc>)> =
        sqlx::query_as("SELECT published_id, published_at FROM published ORDER BY published_id")
            .fetch_all(&tenant.pool)
            .await
            .expect("a list");
    let [oldest, newest] = listed[..] else { panic!("{listed:?}") };
    let place = |(id, at)| Some(PublishedPlace { id, at: Some(at) });
    for statement in [
        "CREATE FUNCTION refuse() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN RAISE 'out of space'; END $$",
        "CREATE TRIGGER refuse BEFORE DELETE ON published FOR EACH STATEMENT EXECUTE FUNCTION refuse()",
    ] {
        sqlx::query(statement).execute(&tenant.pool).await.expect("a broken table");
    }
    let publishing = tenant.publish();
    until("forgetting fails", async || publishing.metric("forget_failures_total") > 0).await;
    tenant.change(chat, ann, Command::Remove { user_id: bob }).await;
    tenant.until_empty().await;
    assert_eq!((publishing.metric("leader"), publishing.metric("failures_total")), (1, 0), "nothing waited");
    assert!(tenant.listed(place(oldest), 10).await.follows);

    sqlx::query("DROP TRIGGER refuse ON published").execute(&tenant.pool).await.expect("it is mended");
    until("it is forgotten", async || !tenant.listed(place(oldest), 10).await.follows).await;
    // Who has read so far has missed nothing, however long ago that was.
    let listed = tenant.listed(place(newest), 10).await;
    assert!(listed.follows, "{listed:?}");
    publishing.stop().await;
    tenant.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_wake_up_channel_ends_no_term() {
    let tenant = Tenant::start().await;
    let publishing = tenant.publish();
    let ann = new_user();
    tenant.group(ann).await;
    tenant.until_empty().await;
    let kill = async || -> i64 {
        sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND query LIKE 'LISTEN %'",
        )
        .fetch_one(&tenant.pool)
        .await
        .expect("one's own sessions can be ended")
    };
    until("the listener is there", async || kill().await > 0).await;
    tenant.group(ann).await;
    tenant.until_empty().await;
    until("it is there again", async || kill().await > 0).await;
    assert_eq!((publishing.metric("leader"), publishing.metric("failures_total")), (1, 0));
    publishing.stop().await;
    tenant.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_kafka_refuses_chats_go_on_and_the_outbox_waits() {
    let tenant = Tenant::without_topics().await;
    let publishing = tenant.publish();
    let (ann, bob) = (new_user(), new_user());
    let chat = tenant.group(ann).await;
    tenant.change(chat, ann, Command::Put { user_id: bob, role: Role::Member }).await;
    until("a send has failed", async || publishing.metric("failures_total") > 0).await;
    let bob = tenant.store.member(chat, bob).await.expect("a read");
    assert_eq!(bob.map(|bob| bob.role), Some(Role::Member));
    until("the backlog is reported", async || publishing.metric("backlog") == 3).await;
    tenant.create_topics().await;
    tenant.until_empty().await;
    until("no backlog is reported", async || publishing.metric("backlog") == 0).await;
    let mut keys: HashMap<_, usize> = HashMap::new();
    for record in tenant.read(|seen| seen.len() == 3).await {
        *keys.entry(record).or_default() += 1;
    }
    assert_eq!(keys.len(), 3, "each record once: {keys:?}");
    publishing.stop().await;
    tenant.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_told_without_reading_all_of_it() {
    let (_database, pool) = database().await;
    let waiting = async || {
        let waiting: (i64, Option<f64>) =
            sqlx::query_as(events::WAITING).fetch_one(&pool).await.expect("a read");
        waiting
    };
    assert_eq!(waiting().await, (0, None));
    sqlx::query(
        "INSERT INTO outbox (topic, record_key, payload, created_at)
         SELECT 'chat.events', 'key', 'payload', now() - INTERVAL '90 seconds' FROM generate_series(1, 20000)",
    )
    .execute(&pool)
    .await
    .expect("records");
    sqlx::query("ANALYZE outbox").execute(&pool).await.expect("statistics");
    let (backlog, oldest) = waiting().await;
    assert_eq!((backlog, oldest.is_some_and(|seconds| (90.0..120.0).contains(&seconds))), (20_000, true));
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN {}", events::WAITING));
    let plan: Vec<String> = sqlx::query_scalar(explain).fetch_all(&pool).await.expect("a plan");
    let plan = plan.join("\n");
    assert!(plan.contains("outbox_pkey") && !plan.contains("Seq Scan on outbox"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_publishers_leads_and_the_other_takes_over() {
    let tenant = Tenant::start().await;
    let (first, second) = (tenant.publish(), tenant.publish());
    let (ann, bob) = (new_user(), new_user());
    let chat = tenant.group(ann).await;
    tenant.until_empty().await;
    let leads = |publishing: &Publishing| publishing.metric("leader") == 1;
    assert!(leads(&first) ^ leads(&second), "one leads");
    let (leader, heir) = if leads(&first) { (first, second) } else { (second, first) };
    // The leader vanishes the hard way: its task ends in the middle of whatever it does.
    let toggle = async |times: usize| {
        for _ in 0..times {
            tenant.change(chat, ann, Command::Put { user_id: bob, role: Role::Member }).await;
            tenant.change(chat, ann, Command::Remove { user_id: bob }).await;
        }
    };
    toggle(20).await;
    leader.task.abort();
    toggle(20).await;
    tenant.change(chat, ann, Command::Put { user_id: bob, role: Role::Admin }).await;
    until("the other leads", async || leads(&heir)).await;
    tenant.until_empty().await;

    // Repeats are allowed, gaps are not, and what is last stays last.
    let entries = |seen: &[Seen]| {
        let entries = seen.iter().filter(|record| record.topic == Topic::MessageSend);
        entries.collect::<HashSet<_>>().len()
    };
    let bobs_role = |seen: &[Seen]| {
        let last = seen.iter().rfind(|record| record.key == MembershipRecord::key(chat, bob));
        let record = last.and_then(|record| record.payload.as_deref());
        record.map(|text| serde_json::from_str::<MembershipRecord>(text).expect("json").role)
    };
    tenant.read(|seen| entries(seen) == 81 && bobs_role(seen) == Some(Some(Role::Admin))).await;
    heir.stop().await;
    tenant.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_database_connection_ends_the_term_and_a_new_one_begins() {
    let tenant = Tenant::start().await;
    let publishing = tenant.publish();
    let ann = new_user();
    tenant.group(ann).await;
    tenant.until_empty().await;
    let killed: i64 = sqlx::query_scalar(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .fetch_one(&tenant.pool)
    .await
    .expect("one's own sessions can be ended");
    assert!(killed >= 1, "the leader");
    // Sessions of the pool died as well; its next use finds that out.
    until("the pool has recovered", async || tenant.store.pending(1).await.is_ok()).await;
    tenant.group(ann).await;
    tenant.until_empty().await;
    publishing.stop().await;
    tenant.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_ends_when_its_records_are_in_the_log() {
    let tenant = Tenant::start().await;
    let (ann, bob) = (new_user(), new_user());
    let chat = tenant.group(ann).await;
    let change = async |command| tenant.store.change(chat, ann, command, at(1)).await.expect("allowed");
    let is_published = async |publication| tenant.store.is_published(publication).await.expect("an answer");
    let added = change(Command::Put { user_id: bob, role: Role::Member }).await;
    let removed = change(Command::Remove { user_id: bob }).await;
    let again = change(Command::Remove { user_id: bob }).await;
    for publication in [added, removed, again] {
        assert!(!is_published(publication).await, "{publication:?}");
    }
    let publishing = tenant.publish();
    until("the repeated removal is published", async || is_published(again).await).await;
    for publication in [added, removed] {
        assert!(is_published(publication).await, "{publication:?}");
    }
    assert!(is_published(change(Command::Remove { user_id: bob }).await).await, "nothing is left to publish");
    publishing.stop().await;
    tenant.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_waits_only_for_one_that_was_cut_off() {
    let tenant = Tenant::start().await;
    let ann = new_user();
    // The first leader knows of no one before it, and the test does not wait.
    let first = tenant.publish();
    tenant.group(ann).await;
    tenant.until_empty().await;
    first.stop().await;
    // Longer than the test has patience.
    let second = tenant.publish_after(2 * PATIENCE);
    tenant.group(ann).await;
    tenant.until_empty().await;
    second.task.abort();
    let (since, handover) = (Instant::now(), Duration::from_secs(3));
    let third = tenant.publish_after(handover);
    tenant.group(ann).await;
    tenant.until_empty().await;
    assert!(since.elapsed() >= handover, "the leader before may still have had a record under way");
    third.stop().await;
    tenant.end().await;
}
