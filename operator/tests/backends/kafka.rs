use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crds::{Reason, TenantId};
use operator::backend::kafka::{Acl, KafkaAdmin, KafkaChange, KafkaDesired, TopicDesired};
use operator::backend::{Backend, Claim, Credentials, Marker, Owner};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{FutureProducer, FutureRecord};
use secrecy::{ExposeSecret, SecretString};

use super::conformance::{Fixture, suite};
use super::{
    admin_account, assert_reason, converge, env, eventually, lines, operator_account, owner, password, story,
    tenant_id, timed,
};

fn admin(credentials: Credentials) -> KafkaAdmin {
    Kafka::connect(&Kafka::address(), credentials)
}

pub fn desired() -> KafkaDesired {
    Kafka::desired(&tenant_id(), owner(), password())
}

pub fn claim(desired: &KafkaDesired) -> Claim {
    Claim { name: desired.tenant.clone(), owner: desired.owner.clone() }
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
    offset_of_produced(client, topic).await.map(|_| ())
}

/// Records of one key, so of one partition.
async fn offset_of_produced(client: &ClientConfig, topic: &str) -> Result<i64, RDKafkaErrorCode> {
    let producer: FutureProducer = client.create().unwrap();
    let record = FutureRecord::to(topic).key("k").payload("v");
    let sent = producer.send(record, Duration::from_secs(5)).await;
    sent.map(|delivery| delivery.offset).map_err(|(error, _)| error.rdkafka_error_code().unwrap())
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
        // A poll also ends without a record, when the group rebalances.
        let polls =
            std::iter::from_fn(|| (Instant::now() < deadline).then(|| consumer.poll(Duration::from_secs(1))));
        let answer = polls.flatten().next().expect("neither a record nor an error within 20 s");
        answer.map(|_| ()).map_err(|error| error.rdkafka_error_code().unwrap())
    };
    tokio::task::spawn_blocking(poll).await.unwrap()
}

pub struct Kafka;

impl Fixture for Kafka {
    type Backend = KafkaAdmin;

    fn address() -> String {
        env("KAFKA_BOOTSTRAP")
    }

    fn account() -> Credentials {
        operator_account("KAFKA")
    }

    fn connect(address: &str, account: Credentials) -> KafkaAdmin {
        KafkaAdmin::new(address, None, account)
    }

    fn desired(id: &TenantId, owner: Owner, password: SecretString) -> KafkaDesired {
        let tenant = KafkaAdmin::name(id);
        let week = ("retention.ms".to_owned(), "604800000".to_owned());
        let stamped = ("message.timestamp.type".to_owned(), "LogAppendTime".to_owned());
        let compact = ("cleanup.policy".to_owned(), "compact".to_owned());
        let topic = |name: &str, partitions, configs: &[(String, String)]| {
            let configs = configs.iter().cloned().collect();
            TopicDesired {
                name: format!("{tenant}.{name}"),
                partitions,
                replication: 1,
                outlives_a_process: true,
                is_optional: false,
                configs,
            }
        };
        KafkaDesired {
            topics: vec![
                topic("message.send", 6, &[week.clone(), stamped]),
                topic("message.delivered", 6, &[week]),
                topic("chat.events", 1, &[compact]),
            ],
            tenant,
            owner,
            password,
            quotas: BTreeMap::from([
                ("producer_byte_rate".to_owned(), 5_000_000.0),
                ("consumer_byte_rate".to_owned(), 20_000_000.0),
            ]),
            recorded_topic_ids: BTreeMap::new(),
            accepts_loss: false,
        }
    }

    async fn use_account(desired: &KafkaDesired) -> Result<i64, String> {
        let produced =
            offset_of_produced(&client_of(desired), &format!("{}.message.send", desired.tenant)).await;
        produced.map(|offset| offset + 1).map_err(|code| code.to_string())
    }

    /// The operator's own calls, with another state.
    async fn edit(desired: &KafkaDesired) -> Vec<String> {
        let mut edited = desired.clone();
        edited.topics[0].configs.insert("retention.ms".to_owned(), "1000".to_owned());
        edited.quotas.insert("producer_byte_rate".to_owned(), 10.0);
        converge(&admin(Self::account()), &edited).await;
        let KafkaDesired { tenant, .. } = desired;
        vec![
            format!("set retention.ms of {tenant}.message.send: 1000 -> 604800000"),
            format!("set producer_byte_rate of user {tenant}: 10 -> 5000000"),
        ]
    }

    async fn create_foreign(name: &str) {
        let by_hand: AdminClient<_> = client_of_admin().create().unwrap();
        let topic = format!("{name}.message.send");
        let topic = NewTopic::new(&topic, 2, TopicReplication::Fixed(1));
        by_hand.create_topics([&topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
        eventually("every broker knows the topic", async || {
            Self::foreign(name).await.contains("2 partitions")
        })
        .await;
    }

    async fn foreign(name: &str) -> String {
        let topic = format!("{name}.message.send");
        let consumer: BaseConsumer = client_of_admin().create().unwrap();
        let fetch = move || {
            let metadata = consumer.fetch_metadata(Some(&topic), Duration::from_secs(5)).unwrap();
            format!("{topic} has {} partitions", metadata.topics()[0].partitions().len())
        };
        tokio::task::spawn_blocking(fetch).await.unwrap()
    }

    async fn mark(admin: &KafkaAdmin, desired: &KafkaDesired, from: &Marker, to: &str) {
        let user = || desired.tenant.clone();
        let old = Acl::marker(from);
        let new = Acl { resource: old.resource.replace(&from.to_string(), to), ..old.clone() };
        admin.apply(desired, &KafkaChange::Grant { acl: new, user: user() }).await.unwrap();
        admin.apply(desired, &KafkaChange::Revoke { acl: old, user: user() }).await.unwrap();
    }

    async fn remove_foreign(name: &str) {
        let by_hand: AdminClient<_> = client_of_admin().create().unwrap();
        _ = by_hand.delete_topics(&[&format!("{name}.message.send")], &AdminOptions::new()).await;
    }

    /// The new marker is written, the old one not yet removed.
    async fn begin_release(admin: &KafkaAdmin, desired: &KafkaDesired) {
        let (acl, user) = (Acl::marker(&desired.owner.released()), desired.tenant.clone());
        admin.apply(desired, &KafkaChange::Grant { acl, user }).await.unwrap();
    }
}

suite!(Kafka);

#[tokio::test]
async fn a_name_under_the_prefix_is_a_conflict_before_rights_are_granted() {
    let (admin, desired, other) = (admin(operator_account("KAFKA")), desired(), desired());
    let (user, claim) = (desired.tenant.clone(), claim(&desired));
    let by_hand: AdminClient<_> = client_of_admin().create().unwrap();
    let topic = format!("{user}.orders");
    let right = Acl {
        resource_type: 2,
        resource: format!("{user}.orders"),
        pattern_type: 3,
        operation: 3,
        permission: 3,
        host: "*".into(),
    };
    let body = async {
        // A group: another client reads from a topic of its own.
        converge(&admin, &other).await;
        let send = format!("{}.message.send", other.tenant);
        assert_eq!(produce(&client_of_admin(), &send).await, Ok(()));
        assert_eq!(consume(&client_of_admin(), &format!("{user}.reports"), &send).await, Ok(()));
        let conflicts = async |expected: &str| {
            let message = assert_reason(admin.observe(&desired).await, Reason::ResourceConflict);
            assert_eq!(message, format!("Kafka {expected}"));
            assert_reason(admin.ownership(&claim).await, Reason::ResourceConflict);
        };
        conflicts(&format!(
            "group {user}.reports exists and has no owner marker: not created by this operator"
        ))
        .await;

        // A right of another account.
        let grant = KafkaChange::Grant { acl: right.clone(), user: other.tenant.clone() };
        admin.apply(&other, &grant).await.unwrap();
        conflicts(&format!("right `{right}` exists and belongs to User:{}", other.tenant)).await;
        converge(&admin, &other).await;

        // A topic, which makes it all a conflict before anything else does.
        let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
        by_hand.create_topics([&new], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
        let expected = format!("topic {topic} exists and has no owner marker: not created by this operator");
        eventually("the topic is a conflict", async || {
            admin.observe(&desired).await.is_err_and(|error| error.to_string().ends_with(&expected))
        })
        .await;
        assert_eq!(admin.remove(&claim).await.unwrap(), [""; 0]);

        // What comes later is not the tenant's either, and stays when the tenant is removed.
        by_hand.delete_topics(&[&topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
        eventually("the group is empty and goes", async || {
            let group = format!("{user}.reports");
            by_hand.delete_groups(&[&group], &AdminOptions::new()).await.unwrap()[0].is_ok()
        })
        .await;
        eventually("nothing is in the way", async || admin.observe(&desired).await.is_ok()).await;
        converge(&admin, &desired).await;
        by_hand.create_topics([&new], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
        assert_eq!(converge(&admin, &desired).await, [""; 0]);
        let removed = admin.remove(&claim).await.unwrap();
        assert!(!removed.contains(&format!("topic {topic}")), "{removed:#?}");
        conflicts(&expected).await;
    };
    let clean_up = async {
        _ = by_hand.delete_topics(&[&topic], &AdminOptions::new()).await;
        _ = by_hand.delete_groups(&[&format!("{user}.reports")], &AdminOptions::new()).await;
        _ = admin.remove(&claim).await;
        _ = admin.remove(&super::kafka::claim(&other)).await;
    };
    story(body, clean_up).await;
}

#[tokio::test]
async fn tenant_is_made_kept_repaired_and_removed() {
    let (admin, mut desired) = (admin(operator_account("KAFKA")), desired());
    let tenant = desired.tenant.clone();
    let claim = claim(&desired);
    let body = async {
        let made = timed("kafka create", converge(&admin, &desired)).await;
        assert_eq!(made.len(), 1 + 1 + 3 + 5 + 2, "{made:#?}");
        assert_eq!(made[0], format!("mark {tenant}. as owned"));
        let observed = timed("kafka observe", admin.observe(&desired)).await.unwrap();
        assert_eq!(lines(KafkaAdmin::plan(&desired, &observed)), [""; 0]);
        assert_eq!(observed.topic_ids().len(), 3);
        desired.recorded_topic_ids = observed.topic_ids();

        // The tenant's own path works: write, read in an own group.
        let send = format!("{tenant}.message.send");
        assert_eq!(produce(&client_of(&desired), &send).await, Ok(()));
        assert_eq!(consume(&client_of(&desired), &format!("{tenant}.message"), &send).await, Ok(()));

        // A manual edit: the same calls, with another state.
        let mut edited = desired.clone();
        edited.topics[0].configs = BTreeMap::from([
            ("retention.ms".to_owned(), "1000".to_owned()),
            ("max.message.bytes".to_owned(), "2000000".to_owned()),
            // An administrator who makes records safer is not overruled.
            ("min.insync.replicas".to_owned(), "1".to_owned()),
            ("unclean.leader.election.enable".to_owned(), "false".to_owned()),
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
        let kept = &admin.observe(&desired).await.unwrap().topics[&send];
        assert_eq!((kept.replication, kept.configs["min.insync.replicas"].as_str()), (1, "1"));

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
        let changes = KafkaAdmin::plan(&edited, &admin.observe(&edited).await.unwrap());
        assert_eq!(changes.len(), 1);
        assert_reason(admin.apply(&edited, &changes[0]).await, Reason::BackendRefused);
        assert_eq!(admin.observe(&desired).await.unwrap().topics[&send].partitions, 6);

        // A topic deleted by hand is not recreated silently.
        let by_hand: AdminClient<_> = client_of_admin().create().unwrap();
        by_hand.delete_topics(&[&send], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
        let observed = admin.observe(&desired).await.unwrap();
        let changes = KafkaAdmin::plan(&desired, &observed);
        assert_eq!(lines(&changes), [format!("topic {send} is missing but held data")]);
        assert_reason(admin.apply(&desired, &changes[0]).await, Reason::DataLoss);
        desired.accepts_loss = true;
        assert_eq!(converge(&admin, &desired).await, [format!("create topic {send} (6 partitions)")]);

        // Neither is one that is lost while its tenant is retained: there is no record of it then.
        admin.release(&claim).await.unwrap();
        by_hand.delete_topics(&[&send], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
        (desired.accepts_loss, desired.recorded_topic_ids) = (false, BTreeMap::new());
        let gone = async || {
            let changes = KafkaAdmin::plan(&desired, &admin.observe(&desired).await.unwrap());
            lines(&changes) == [format!("topic {send} is missing but held data")]
        };
        eventually("the loss is noticed, and nothing is taken over", gone).await;
        desired.accepts_loss = true;
        let taken = converge(&admin, &desired).await;
        assert!(taken[0].starts_with("take over the retained"), "{taken:#?}");
        assert!(taken.contains(&format!("create topic {send} (6 partitions)")), "{taken:#?}");

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
        // An absent topic returns the same: no probing for names.
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
        assert_reason(own_admin.observe(&b).await, Reason::BackendRefused);
    };
    let clean_up = async {
        _ = admin.remove(&claim(&a)).await;
        _ = admin.remove(&claim(&b)).await;
    };
    story(body, clean_up).await;
}
