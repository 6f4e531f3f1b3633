use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use operator::backend::Credentials;
use operator::backend::kafka::{Acl, KafkaAdmin, KafkaChange, KafkaDesired, TopicDesired, plan};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{FutureProducer, FutureRecord};
use secrecy::ExposeSecret;

use super::{
    admin_account, assert_reason, env, lines, operator_account, owner, password, story, stranger, tenant_id,
    timed,
};

pub fn admin(credentials: Credentials) -> KafkaAdmin {
    KafkaAdmin::new(env("KAFKA_BOOTSTRAP"), credentials)
}

pub fn desired() -> KafkaDesired {
    let tenant = tenant_id();
    let week = ("retention.ms".to_owned(), "604800000".to_owned());
    let stamped = ("message.timestamp.type".to_owned(), "LogAppendTime".to_owned());
    let compact = ("cleanup.policy".to_owned(), "compact".to_owned());
    let topic = |name: &str, partitions, configs: &[(String, String)]| {
        let configs = configs.iter().cloned().collect();
        TopicDesired { name: format!("{tenant}.{name}"), partitions, replication: 1, configs }
    };
    KafkaDesired {
        topics: vec![
            topic("message.send", 6, &[week.clone(), stamped]),
            topic("message.delivered", 6, &[week]),
            topic("chat.events", 1, &[compact]),
        ],
        tenant,
        owner: owner(),
        password: password(),
        quotas: BTreeMap::from([
            ("producer_byte_rate".to_owned(), 5_000_000.0),
            ("consumer_byte_rate".to_owned(), 20_000_000.0),
        ]),
        recorded_topic_ids: BTreeMap::new(),
    }
}

pub async fn converge(admin: &KafkaAdmin, desired: &KafkaDesired) -> Vec<String> {
    let changes = plan(desired, &admin.observe(desired).await.unwrap());
    for result in admin.apply_all(desired, &changes).await {
        result.unwrap();
    }
    lines(&changes)
}

fn client(user: &str, password: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", env("KAFKA_BOOTSTRAP"))
        .set("security.protocol", "sasl_plaintext")
        .set("sasl.mechanism", "SCRAM-SHA-512")
        .set("sasl.username", user)
        .set("sasl.password", password)
        .set("message.timeout.ms", "5000");
    config
}

fn client_of(desired: &KafkaDesired) -> ClientConfig {
    client(&desired.tenant, desired.password.expose_secret())
}

async fn produce(client: &ClientConfig, topic: &str) -> Result<(), RDKafkaErrorCode> {
    let producer: FutureProducer = client.create().unwrap();
    let record = FutureRecord::to(topic).key("k").payload("v");
    let sent = producer.send(record, Duration::from_secs(5)).await;
    sent.map(|_| ()).map_err(|(error, _)| error.rdkafka_error_code().unwrap())
}

/// Joins a group and polls until the first record or error.
async fn consume(client: &ClientConfig, group: &str, topic: &str) -> Result<(), RDKafkaErrorCode> {
    let mut client = client.clone();
    client.set("group.id", group).set("auto.offset.reset", "earliest");
    let topic = topic.to_owned();
    let poll = move || {
        let consumer: BaseConsumer = client.create().unwrap();
        consumer.subscribe(&[&topic]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        // A poll also ends without an answer, when the group rebalances.
        let polls =
            std::iter::from_fn(|| (Instant::now() < deadline).then(|| consumer.poll(Duration::from_secs(1))));
        let answer = polls.flatten().next().expect("neither a record nor an error within 20 s");
        answer.map(|_| ()).map_err(|error| error.rdkafka_error_code().unwrap())
    };
    tokio::task::spawn_blocking(poll).await.unwrap()
}

#[tokio::test]
async fn tenant_is_made_kept_repaired_and_removed() {
    let (admin, mut desired) = (admin(operator_account("KAFKA")), desired());
    let tenant = desired.tenant.clone();
    let claim = desired.claim();
    let body = async {
        let made = timed("kafka create", converge(&admin, &desired)).await;
        assert_eq!(made.len(), 1 + 1 + 3 + 5 + 2, "{made:#?}");
        assert_eq!(made[0], format!("mark {tenant}. as owned"));
        let observed = timed("kafka observe", admin.observe(&desired)).await.unwrap();
        assert_eq!(lines(&plan(&desired, &observed)), [""; 0]);
        assert_eq!(observed.topic_ids().len(), 3);
        desired.recorded_topic_ids = observed.topic_ids();

        // The tenant's own road works: write, read in an own group.
        let send = format!("{tenant}.message.send");
        assert_eq!(produce(&client_of(&desired), &send).await, Ok(()));
        assert_eq!(consume(&client_of(&desired), &format!("{tenant}.message"), &send).await, Ok(()));

        // Somebody edits by hand: the same calls, with a state they like better.
        let mut edited = desired.clone();
        edited.topics[0].configs = BTreeMap::from([
            ("retention.ms".to_owned(), "1000".to_owned()),
            ("max.message.bytes".to_owned(), "2000000".to_owned()),
        ]);
        edited.quotas = BTreeMap::from([("producer_byte_rate".to_owned(), 10.0)]);
        converge(&admin, &edited).await;
        assert_eq!(
            timed("kafka repair", converge(&admin, &desired)).await,
            [
                format!("set message.timestamp.type of {send}: default -> LogAppendTime"),
                format!("set retention.ms of {send}: 1000 -> 604800000"),
                format!("set max.message.bytes of {send}: 2000000 -> default"),
                format!("set consumer_byte_rate of user {tenant}: none -> 20000000"),
                format!("set producer_byte_rate of user {tenant}: 10 -> 5000000"),
            ]
        );
        assert_eq!(converge(&admin, &desired).await, [""; 0]);

        // Another password set by another operator process: found by a login, once the memo is gone.
        edited = desired.clone();
        edited.password = password();
        let other = super::kafka::admin(operator_account("KAFKA"));
        assert_eq!(converge(&other, &edited).await, [format!("set the password of user {tenant}")]);
        assert_eq!(
            converge(&admin, &desired).await,
            [""; 0],
            "a password that worked is believed for a while"
        );
        admin.distrust_password(&tenant);
        assert_eq!(converge(&admin, &desired).await, [format!("set the password of user {tenant}")]);

        // A partition count never changes in place.
        edited = desired.clone();
        edited.topics[0].partitions = 12;
        let changes = plan(&edited, &admin.observe(&edited).await.unwrap());
        assert_eq!(changes.len(), 1);
        assert_reason(admin.apply(&edited, &changes[0]).await, "BackendRefused");
        assert_eq!(admin.observe(&desired).await.unwrap().topics[&send].partitions, 6);

        // A topic deleted by hand is not made anew behind anybody's back.
        let by_hand: AdminClient<_> = client_of_admin().create().unwrap();
        by_hand.delete_topics(&[&send], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
        let observed = admin.observe(&desired).await.unwrap();
        let changes = plan(&desired, &observed);
        assert_eq!(lines(&changes), [format!("topic {send} was there before and is gone")]);
        assert_reason(admin.apply(&desired, &changes[0]).await, "DataLoss");
        desired.recorded_topic_ids.remove(&send);
        assert_eq!(converge(&admin, &desired).await, [format!("create topic {send} (6 partitions)")]);

        let removed = timed("kafka remove", admin.remove(&claim)).await.unwrap();
        assert!(removed.contains(&format!("user {tenant}")), "{removed:#?}");
        assert!(removed.contains(&format!("topic {send}")), "{removed:#?}");
        assert!(removed.contains(&format!("group {tenant}.message")), "{removed:#?}");
        assert_eq!(timed("kafka remove twice", admin.remove(&claim)).await.unwrap(), [""; 0]);
        desired.recorded_topic_ids.clear();
        let left = admin.observe(&desired).await.unwrap();
        assert_eq!(left, Default::default());
    };
    story(body, async { _ = admin.remove(&claim).await }).await;
}

fn client_of_admin() -> ClientConfig {
    let account = admin_account("KAFKA");
    client(&account.username, account.password.expose_secret())
}

#[tokio::test]
async fn one_tenant_gets_nothing_of_another() {
    let (admin, a, b) = (admin(operator_account("KAFKA")), desired(), desired());
    let body = async {
        converge(&admin, &a).await;
        converge(&admin, &b).await;
        let (send, own) = (format!("{}.message.send", a.tenant), format!("{}.message.send", b.tenant));
        assert_eq!(produce(&client_of(&a), &send).await, Ok(()));
        let intruder = client_of(&b);
        assert_eq!(produce(&intruder, &own).await, Ok(()));
        assert_eq!(produce(&intruder, &send).await, Err(RDKafkaErrorCode::TopicAuthorizationFailed));
        // An absent topic answers alike: no probing for names.
        let absent = format!("{}.nothing", a.tenant);
        assert_eq!(produce(&intruder, &absent).await, Err(RDKafkaErrorCode::TopicAuthorizationFailed));
        let own_group = format!("{}.x", b.tenant);
        let answer = consume(&intruder, &own_group, &send).await;
        assert_eq!(answer, Err(RDKafkaErrorCode::TopicAuthorizationFailed));
        let answer = consume(&intruder, &format!("{}.x", a.tenant), &own).await;
        assert_eq!(answer, Err(RDKafkaErrorCode::GroupAuthorizationFailed));
        // A tenant is no administrator of Kafka.
        let own_admin =
            super::kafka::admin(Credentials { username: b.tenant.clone(), password: b.password.clone() });
        assert_reason(own_admin.observe(&b).await, "BackendRefused");
    };
    let clean_up = async {
        _ = admin.remove(&a.claim()).await;
        _ = admin.remove(&b.claim()).await;
    };
    story(body, clean_up).await;
}

#[tokio::test]
async fn a_foreign_tenant_is_reported_and_left_alone() {
    let (admin, first) = (admin(operator_account("KAFKA")), desired());
    let body = async {
        converge(&admin, &first).await;
        let second = KafkaDesired { owner: owner(), ..first.clone() };
        assert_reason(admin.observe(&second).await, "ResourceConflict");
        assert_reason(admin.remove(&second.claim()).await, "ResourceConflict");
        assert_eq!(converge(&admin, &first).await, [""; 0]);
    };
    story(body, async { _ = admin.remove(&first.claim()).await }).await;
}

#[tokio::test]
async fn a_retained_tenant_is_locked_and_taken_over_by_its_next_owner_in_its_namespace_only() {
    let (admin, first) = (admin(operator_account("KAFKA")), desired());
    let next = KafkaDesired { owner: owner(), password: password(), ..first.clone() };
    let thief = KafkaDesired { owner: stranger(), ..next.clone() };
    let body = async {
        converge(&admin, &first).await;
        let send = format!("{}.message.send", first.tenant);
        // A release that was cut short has written the new marker and left the old one.
        let acl = Acl::marker(&first.owner.released());
        admin.apply(&first, &KafkaChange::Grant { acl, user: first.tenant.clone() }).await.unwrap();
        admin.release(&first.claim()).await.unwrap();
        assert_eq!(produce(&client_of(&first), &send).await, Err(RDKafkaErrorCode::TopicAuthorizationFailed));
        assert_reason(admin.observe(&thief).await, "ResourceConflict");
        let changes = converge(&admin, &next).await;
        assert_eq!(changes[0], format!("take over the retained {}.", first.tenant));
        assert_eq!(converge(&admin, &next).await, [""; 0]);
        assert_reason(admin.observe(&first).await, "ResourceConflict");
        assert_eq!(produce(&client_of(&next), &send).await, Ok(()));
    };
    let clean_up = async {
        _ = admin.remove(&next.claim()).await;
        _ = admin.remove(&first.claim()).await;
    };
    story(body, clean_up).await;
}

#[tokio::test]
async fn wrong_password_and_dead_port_are_told_apart() {
    let wrong = Credentials::new(operator_account("KAFKA").username, "wrong");
    assert_reason(admin(wrong).observe(&desired()).await, "CredentialsRejected");
    let started = Instant::now();
    let host = env("KAFKA_BOOTSTRAP").split(':').next().unwrap().to_owned();
    let dead = KafkaAdmin::new(format!("{host}:1"), operator_account("KAFKA"));
    assert_reason(dead.observe(&desired()).await, "BackendUnavailable");
    assert!(started.elapsed() < Duration::from_secs(4));
}
