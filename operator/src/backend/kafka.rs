//! Kafka for one tenant: topics, a SCRAM user, prefixed ACLs, client quotas.
//!
//! The protocol is spoken by `kafka-protocol` over one small connection type: no Rust admin client has SCRAM, ACL and
//! quota calls together. In KRaft every broker forwards writes to the controller, so any bootstrap address serves.
//!
//! Owner marker: topics and users hold no free text, so the marker is the name of an ACL that grants nothing of
//! use (Describe on an unused transactional id). It is written first and deleted last.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use catalog::{Retention, Topic};
use secrecy::SecretString;

use super::{
    change::ChangeKind,
    marker::Marker,
    ownership::{Former, Owner, Ownership},
};
use crate::tenant::Tenant;

mod admin;
mod calls;
mod scram;
mod wire;

pub use admin::KafkaAdmin;

/// What a tenant should have in Kafka.
#[derive(Clone, Debug)]
pub struct KafkaDesired {
    /// SCRAM user; topics and groups that start with `<tenant>.` are the tenant's.
    pub tenant: String,
    pub owner: Owner,
    pub password: SecretString,
    pub topics: Vec<TopicDesired>,
    /// Client quotas by Kafka's key, `producer_byte_rate` for example. An empty map means no limit.
    pub quotas: BTreeMap<String, f64>,
    /// Topic ids seen before, by topic: a topic named here that is absent was lost, not missing.
    pub recorded_topic_ids: BTreeMap<String, String>,
}

impl KafkaDesired {
    pub(super) fn of(tenant: &Tenant, password: &SecretString) -> Self {
        let quotas = &tenant.quotas;
        // Kafka keeps quotas as doubles; every whole number up to 2^53 is exact in one.
        let named = [
            ("producer_byte_rate", quotas.producer_bytes_per_second.map(|bytes| bytes as f64)),
            ("consumer_byte_rate", quotas.consumer_bytes_per_second.map(|bytes| bytes as f64)),
            ("request_percentage", quotas.request_percentage.map(f64::from)),
        ];
        Self {
            tenant: tenant.id.kafka_user().to_string(),
            owner: Owner::of(tenant),
            password: password.clone(),
            topics: Topic::ALL.iter().map(|topic| TopicDesired::of(tenant, *topic)).collect(),
            quotas: named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect(),
            recorded_topic_ids: if tenant.accepts_loss.contains(&catalog::Backend::Kafka) {
                BTreeMap::new()
            } else {
                tenant.recorded_topic_ids.clone()
            },
        }
    }
}

impl KafkaDesired {
    /// Returns what to report of topics that were seen before and are gone.
    fn lost_topics(&self, observed: &KafkaObserved) -> impl Iterator<Item = KafkaChange> {
        let names = self.topics.iter().map(|topic| &topic.name);
        let lost = names.filter(|name| {
            self.recorded_topic_ids.contains_key(*name) && !observed.topics.contains_key(*name)
        });
        lost.map(|topic| KafkaChange::TopicLost { topic: topic.clone() })
    }
}

/// How many copies a record needs before it is acked.
const MIN_INSYNC: &str = "min.insync.replicas";
/// Whether a copy that lacks acked records may become the leader.
const UNCLEAN_ELECTION: &str = "unclean.leader.election.enable";

/// Reports whether an override guards acked records at least as well as what is declared, or as Kafka's default where nothing
/// is. An administrator who set it is never overruled towards less.
fn is_as_safe(key: &str, found: &str, declared: Option<&str>) -> bool {
    let copies = |text: &str| text.parse::<i32>().ok();
    match key {
        MIN_INSYNC => declared.is_none_or(|declared| copies(found) >= copies(declared)),
        UNCLEAN_ELECTION => found == "false",
        _ => false,
    }
}

/// One topic. `partitions` is fixed at creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDesired {
    pub name: String,
    pub partitions: i32,
    pub replication: i16,
    /// Overrides of the broker's defaults. An override that is not named here is taken away again, unless it makes records safer.
    pub configs: BTreeMap<String, String>,
}

impl TopicDesired {
    fn of(tenant: &Tenant, topic: Topic) -> Self {
        let mut configs = BTreeMap::new();
        match topic.retention {
            Retention::Age => {
                let retention_ms = tenant.retention.as_secs() * 1000;
                configs.insert("cleanup.policy".to_owned(), "delete".to_owned());
                configs.insert("retention.ms".to_owned(), retention_ms.to_string());
            }
            Retention::Compaction => {
                configs.insert("cleanup.policy".to_owned(), "compact".to_owned());
            }
        }
        if let Some(copies) = tenant.cell.kafka_min_insync {
            configs.insert(MIN_INSYNC.to_owned(), copies.to_string());
            configs.insert(UNCLEAN_ELECTION.to_owned(), "false".to_owned());
        }
        if topic.log_append_time {
            configs.insert("message.timestamp.type".to_owned(), "LogAppendTime".to_owned());
        }
        Self {
            name: tenant.id.topic(topic.name).to_string(),
            partitions: tenant.partitions,
            replication: tenant.cell.kafka_replication,
            configs,
        }
    }
}

/// What a tenant has in Kafka.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KafkaObserved {
    pub ownership: Ownership,
    pub user: UserObserved,
    pub topics: BTreeMap<String, TopicObserved>,
    pub acls: BTreeSet<Acl>,
    pub quotas: BTreeMap<String, f64>,
}

impl KafkaObserved {
    /// Returns the id of each topic that exists: it changes when a topic is recreated, so it is the topic's generation.
    pub fn topic_ids(&self) -> BTreeMap<String, String> {
        self.topics.iter().map(|(name, topic)| (name.clone(), topic.id.clone())).collect()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserObserved {
    #[default]
    Absent,
    /// Has another password, or no SCRAM-SHA-512 credential.
    OtherPassword,
    /// Could log in with the desired password, now or not long ago.
    Verified,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicObserved {
    pub id: String,
    pub partitions: i32,
    /// Copies of the partition that has the fewest.
    pub replication: i32,
    pub configs: BTreeMap<String, String>,
}

impl TopicObserved {
    /// Returns the value that this topic can have of an override: one that was created with fewer copies than the cell declares
    /// today could take no record otherwise.
    fn within_reach(&self, key: &str, declared: &str) -> String {
        let most = (self.replication - 1).max(1);
        match declared.parse::<i32>() {
            Ok(copies) if key == MIN_INSYNC && copies > most => most.to_string(),
            _ => declared.to_owned(),
        }
    }
}

/// An ACL of the tenant's user, in the protocol's codes so that none is lost in translation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    pub resource_type: i8,
    pub resource: String,
    pub pattern_type: i8,
    pub operation: i8,
    pub permission: i8,
    pub host: String,
}

const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const TRANSACTIONAL_ID: i8 = 5;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const READ: i8 = 3;
const WRITE: i8 = 4;
const DESCRIBE: i8 = 8;
const ALLOW: i8 = 3;
const MARKER: &str = "posthouse-owner:";

impl Acl {
    fn allow(resource_type: i8, resource: String, pattern_type: i8, operation: i8) -> Self {
        Self { resource_type, resource, pattern_type, operation, permission: ALLOW, host: "*".into() }
    }

    /// Returns the ACL that stands for an owner and grants nothing of use.
    pub fn marker(marker: &Marker) -> Self {
        Self::allow(TRANSACTIONAL_ID, format!("{MARKER}{marker}"), LITERAL, DESCRIBE)
    }

    /// Returns the text of the marker when this ACL is one.
    fn owner(&self) -> Option<&str> {
        if self.resource_type == TRANSACTIONAL_ID { self.resource.strip_prefix(MARKER) } else { None }
    }
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let permission = if self.permission == ALLOW { "allow" } else { "deny" };
        let star = if self.pattern_type == PREFIXED { "*" } else { "" };
        write!(f, "{permission} {} on ", operation_name(self.operation))?;
        write!(f, "{} {}{star}", resource_name(self.resource_type), self.resource)?;
        if self.host == "*" { Ok(()) } else { write!(f, " from {}", self.host) }
    }
}

fn operation_name(code: i8) -> String {
    let name = match code {
        2 => "All",
        READ => "Read",
        WRITE => "Write",
        5 => "Create",
        6 => "Delete",
        7 => "Alter",
        DESCRIBE => "Describe",
        9 => "ClusterAction",
        10 => "DescribeConfigs",
        11 => "AlterConfigs",
        12 => "IdempotentWrite",
        other => return format!("operation {other}"),
    };
    name.to_owned()
}

fn resource_name(code: i8) -> String {
    let name = match code {
        TOPIC => "topic",
        GROUP => "group",
        4 => "cluster",
        TRANSACTIONAL_ID => "transactional id",
        other => return format!("resource {other}"),
    };
    name.to_owned()
}

/// Returns the ACLs a tenant's user has: read and write on its own topics, membership in its own groups, nothing else.
/// The prefix ends with a dot, or `acme` would own the topics of `acme2`.
pub fn tenant_acls(tenant: &str) -> BTreeSet<Acl> {
    let prefix = format!("{tenant}.");
    [(TOPIC, READ), (TOPIC, WRITE), (TOPIC, DESCRIBE), (GROUP, READ), (GROUP, DESCRIBE)]
        .map(|(resource_type, operation)| Acl::allow(resource_type, prefix.clone(), PREFIXED, operation))
        .into()
}

/// One difference between what a tenant has in Kafka and what it should have.
#[derive(Clone, Debug, PartialEq)]
pub enum KafkaChange {
    TakeOwnership {
        tenant: String,
        from: Option<Former>,
    },
    CreateUser {
        user: String,
    },
    SetPassword {
        user: String,
    },
    CreateTopic(TopicDesired),
    SetTopicConfig {
        topic: String,
        key: String,
        from: Option<String>,
        to: String,
    },
    UnsetTopicConfig {
        topic: String,
        key: String,
        from: String,
    },
    Grant {
        acl: Acl,
        user: String,
    },
    Revoke {
        acl: Acl,
        user: String,
    },
    SetQuota {
        user: String,
        key: String,
        from: Option<f64>,
        to: f64,
    },
    UnsetQuota {
        user: String,
        key: String,
        from: f64,
    },
    /// Another partition count would send a chat's records elsewhere: never changed in place.
    PartitionsDiffer {
        topic: String,
        has: i32,
        wants: i32,
    },
    /// A topic that was seen before is gone, with its messages.
    TopicLost {
        topic: String,
    },
}

impl KafkaChange {
    /// Returns why this change is in the plan: what is missing is created, what differs is repaired.
    pub fn kind(&self) -> ChangeKind {
        match self {
            Self::TakeOwnership { from: Some(from), .. } => from.kind(),
            Self::TakeOwnership { from: None, .. } | Self::CreateUser { .. } | Self::CreateTopic(_) => {
                ChangeKind::Create
            }
            Self::Grant { .. } => ChangeKind::Create,
            Self::SetQuota { from, .. } if from.is_none() => ChangeKind::Create,
            Self::SetPassword { .. }
            | Self::SetTopicConfig { .. }
            | Self::UnsetTopicConfig { .. }
            | Self::Revoke { .. }
            | Self::SetQuota { .. }
            | Self::UnsetQuota { .. } => ChangeKind::Repair,
            Self::PartitionsDiffer { .. } | Self::TopicLost { .. } => ChangeKind::Blocked,
        }
    }
}

impl fmt::Display for KafkaChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakeOwnership { tenant, from: None } => write!(f, "mark {tenant}. as owned"),
            Self::TakeOwnership { tenant, from: Some(from) } => {
                f.write_str(&from.takeover(&format!("user and topics {tenant}")))
            }
            Self::CreateUser { user } => write!(f, "create user {user}"),
            Self::SetPassword { user } => write!(f, "set the password of user {user}"),
            Self::CreateTopic(topic) => {
                write!(f, "create topic {} ({} partitions)", topic.name, topic.partitions)
            }
            Self::SetTopicConfig { topic, key, from, to } => {
                write!(f, "set {key} of {topic}: {} -> {to}", from.as_deref().unwrap_or("default"))
            }
            Self::UnsetTopicConfig { topic, key, from } => {
                write!(f, "set {key} of {topic}: {from} -> default")
            }
            Self::Grant { acl, user } => write!(f, "{acl} for user {user}"),
            Self::Revoke { acl, user } => write!(f, "revoke from user {user}: {acl}"),
            Self::SetQuota { user, key, from: None, to } => {
                write!(f, "set {key} of user {user}: none -> {to}")
            }
            Self::SetQuota { user, key, from: Some(from), to } => {
                write!(f, "set {key} of user {user}: {from} -> {to}")
            }
            Self::UnsetQuota { user, key, from } => write!(f, "set {key} of user {user}: {from} -> none"),
            Self::PartitionsDiffer { topic, has, wants } => write!(
                f,
                "topic {topic} has {has} partitions, {wants} are declared: the count never changes in place"
            ),
            Self::TopicLost { topic } => write!(f, "topic {topic} is missing but held data"),
        }
    }
}

/// Returns what leads from `observed` to `desired`, in the order to apply it. Empty means steady.
fn plan(desired: &KafkaDesired, observed: &KafkaObserved) -> Vec<KafkaChange> {
    let user = || desired.tenant.clone();
    let lost: Vec<_> = desired.lost_topics(observed).collect();
    if observed.ownership == Ownership::Absent && !lost.is_empty() {
        // Nothing of the tenant is here, so this is another cluster: nothing is created in it.
        return lost;
    }
    let mut changes = Vec::new();
    if observed.ownership != Ownership::Ours {
        let from = observed.ownership.former().cloned();
        changes.push(KafkaChange::TakeOwnership { tenant: user(), from });
    }
    let acls = tenant_acls(&desired.tenant);
    for acl in observed.acls.difference(&acls) {
        changes.push(KafkaChange::Revoke { acl: acl.clone(), user: user() });
    }
    match observed.user {
        UserObserved::Verified => {}
        UserObserved::OtherPassword => changes.push(KafkaChange::SetPassword { user: user() }),
        UserObserved::Absent => changes.push(KafkaChange::CreateUser { user: user() }),
    }
    let mut blocked = lost;
    for topic in &desired.topics {
        match observed.topics.get(&topic.name) {
            Some(found) => plan_topic(topic, found, &mut changes, &mut blocked),
            None if desired.recorded_topic_ids.contains_key(&topic.name) => {}
            None => changes.push(KafkaChange::CreateTopic(topic.clone())),
        }
    }
    for acl in acls.difference(&observed.acls) {
        changes.push(KafkaChange::Grant { acl: acl.clone(), user: user() });
    }
    for (key, to) in &desired.quotas {
        let from = observed.quotas.get(key).copied();
        if from != Some(*to) {
            changes.push(KafkaChange::SetQuota { user: user(), key: key.clone(), from, to: *to });
        }
    }
    for (key, from) in &observed.quotas {
        if !desired.quotas.contains_key(key) {
            changes.push(KafkaChange::UnsetQuota { user: user(), key: key.clone(), from: *from });
        }
    }
    changes.append(&mut blocked);
    changes
}

fn plan_topic(
    topic: &TopicDesired,
    found: &TopicObserved,
    changes: &mut Vec<KafkaChange>,
    blocked: &mut Vec<KafkaChange>,
) {
    let name = || topic.name.clone();
    for (key, declared) in &topic.configs {
        let (from, to) = (found.configs.get(key), found.within_reach(key, declared));
        if from != Some(&to) && !from.is_some_and(|from| is_as_safe(key, from, Some(&to))) {
            let from = from.cloned();
            changes.push(KafkaChange::SetTopicConfig { topic: name(), key: key.clone(), from, to });
        }
    }
    for (key, from) in &found.configs {
        // Set by Kafka's own tools while they move replicas.
        let is_throttle = key.ends_with(".replication.throttled.replicas");
        if !topic.configs.contains_key(key) && !is_throttle && !is_as_safe(key, from, None) {
            let (key, from) = (key.clone(), from.clone());
            changes.push(KafkaChange::UnsetTopicConfig { topic: name(), key, from });
        }
    }
    if found.partitions != topic.partitions {
        let (has, wants) = (found.partitions, topic.partitions);
        blocked.push(KafkaChange::PartitionsDiffer { topic: name(), has, wants });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ownership::testing::{inherited, owner};

    fn desired() -> KafkaDesired {
        KafkaDesired {
            tenant: "acme".into(),
            owner: owner(),
            password: "secret-word".into(),
            topics: vec![TopicDesired {
                name: "acme.message.send".into(),
                partitions: 6,
                replication: 1,
                configs: BTreeMap::from([("retention.ms".into(), "604800000".into())]),
            }],
            quotas: BTreeMap::from([("producer_byte_rate".into(), 1_000_000.0)]),
            recorded_topic_ids: BTreeMap::new(),
        }
    }

    fn steady() -> KafkaObserved {
        let configs = BTreeMap::from([("retention.ms".into(), "604800000".into())]);
        let topic = TopicObserved { id: "id-1".into(), partitions: 6, replication: 3, configs };
        KafkaObserved {
            ownership: Ownership::Ours,
            user: UserObserved::Verified,
            topics: BTreeMap::from([("acme.message.send".into(), topic)]),
            acls: tenant_acls("acme"),
            quotas: desired().quotas,
        }
    }

    fn check(edit: impl FnOnce(&mut KafkaDesired, &mut KafkaObserved), expected: &[(&str, ChangeKind)]) {
        let (mut desired, mut observed) = (desired(), steady());
        edit(&mut desired, &mut observed);
        let changes = plan(&desired, &observed);
        let found: Vec<_> = changes.iter().map(|change| (change.to_string(), change.kind())).collect();
        let expected: Vec<_> = expected.iter().map(|(text, kind)| ((*text).to_owned(), *kind)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_steady_tenant_needs_nothing() {
        check(|_, _| {}, &[]);
    }

    #[test]
    fn a_new_tenant_gets_everything_with_the_marker_first() {
        use ChangeKind::Create;
        check(
            |_, observed| *observed = KafkaObserved::default(),
            &[
                ("mark acme. as owned", Create),
                ("create user acme", Create),
                ("create topic acme.message.send (6 partitions)", Create),
                ("allow Read on topic acme.* for user acme", Create),
                ("allow Write on topic acme.* for user acme", Create),
                ("allow Describe on topic acme.* for user acme", Create),
                ("allow Read on group acme.* for user acme", Create),
                ("allow Describe on group acme.* for user acme", Create),
                ("set producer_byte_rate of user acme: none -> 1000000", Create),
            ],
        );
    }

    #[test]
    fn hand_edits_are_named_one_by_one() {
        use ChangeKind::Repair;
        check(
            |_, observed| {
                let topic = observed.topics.get_mut("acme.message.send").unwrap();
                topic.configs = BTreeMap::from([
                    ("retention.ms".into(), "1000".into()),
                    ("max.message.bytes".into(), "9".into()),
                    ("leader.replication.throttled.replicas".into(), "*".into()),
                ]);
            },
            &[
                ("set retention.ms of acme.message.send: 1000 -> 604800000", Repair),
                ("set max.message.bytes of acme.message.send: 9 -> default", Repair),
            ],
        );
        check(
            |_, observed| {
                observed.user = UserObserved::OtherPassword;
                observed.quotas =
                    BTreeMap::from([("request_percentage".into(), 1.0), ("producer_byte_rate".into(), 5.0)]);
                observed.acls.insert(Acl::allow(TOPIC, "other.".into(), PREFIXED, READ));
            },
            &[
                ("revoke from user acme: allow Read on topic other.*", Repair),
                ("set the password of user acme", Repair),
                ("set producer_byte_rate of user acme: 5 -> 1000000", Repair),
                ("set request_percentage of user acme: 1 -> none", Repair),
            ],
        );
    }

    #[test]
    fn copies_of_a_record_are_declared_from_two_up() {
        for (replication, declared, expected) in [
            (1, None, None),
            (2, None, Some("1")),
            (3, None, Some("2")),
            (3, Some(3), Some("3")),
            (1, Some(1), Some("1")),
        ] {
            let mut tenant = crate::rendered::testing::example("acme.yaml", |_| {});
            tenant.cell = crate::rendered::testing::cell(|cell| {
                cell.spec.kafka.replication_factor = Some(replication);
                cell.spec.kafka.min_insync_replicas = declared;
            });
            for topic in KafkaDesired::of(&tenant, &"secret-word".into()).topics {
                assert_eq!(topic.configs.get(MIN_INSYNC).map(String::as_str), expected, "{replication}");
                assert_eq!(
                    topic.configs.get(UNCLEAN_ELECTION).map(String::as_str),
                    expected.map(|_| "false")
                );
            }
        }
    }

    #[test]
    fn an_override_is_never_repaired_towards_less_safety() {
        use ChangeKind::Repair;
        let with = |declared: &[(&str, &str)],
                    found: &[(&str, &str)],
                    replication,
                    expected: &[(&str, ChangeKind)]| {
            let owned = |pairs: &[(&str, &str)]| {
                pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
            };
            check(
                |desired, observed| {
                    desired.topics[0].configs.extend(owned(declared));
                    let topic = observed.topics.get_mut("acme.message.send").unwrap();
                    topic.configs.extend(owned(found));
                    topic.replication = replication;
                },
                expected,
            );
        };
        with(&[], &[(MIN_INSYNC, "2"), (UNCLEAN_ELECTION, "false")], 3, &[]);
        with(&[(MIN_INSYNC, "2")], &[(MIN_INSYNC, "3")], 3, &[]);
        with(
            &[(MIN_INSYNC, "2"), (UNCLEAN_ELECTION, "false")],
            &[(MIN_INSYNC, "1"), (UNCLEAN_ELECTION, "true")],
            3,
            &[
                ("set min.insync.replicas of acme.message.send: 1 -> 2", Repair),
                ("set unclean.leader.election.enable of acme.message.send: true -> false", Repair),
            ],
        );
        with(
            &[],
            &[(UNCLEAN_ELECTION, "true")],
            3,
            &[("set unclean.leader.election.enable of acme.message.send: true -> default", Repair)],
        );
        // It was created with fewer copies: more can never be in sync.
        with(&[(MIN_INSYNC, "2")], &[(MIN_INSYNC, "1")], 1, &[]);
        with(
            &[(MIN_INSYNC, "2")],
            &[],
            1,
            &[("set min.insync.replicas of acme.message.send: default -> 1", Repair)],
        );
    }

    #[test]
    fn what_would_lose_messages_is_blocked() {
        check(
            |desired, _| desired.topics[0].partitions = 12,
            &[(
                "topic acme.message.send has 6 partitions, 12 are declared: the count never changes in place",
                ChangeKind::Blocked,
            )],
        );
        check(
            |desired, observed| {
                desired.recorded_topic_ids = observed.topic_ids();
                observed.topics.clear();
            },
            &[("topic acme.message.send is missing but held data", ChangeKind::Blocked)],
        );
        // In a cluster that has nothing of the tenant.
        check(
            |desired, observed| {
                desired.recorded_topic_ids = observed.topic_ids();
                *observed = KafkaObserved::default();
            },
            &[("topic acme.message.send is missing but held data", ChangeKind::Blocked)],
        );
    }

    #[test]
    fn what_a_former_owner_left_is_taken_over() {
        for (ownership, line, kind) in inherited("user and topics acme") {
            check(|_, observed| observed.ownership = ownership, &[(&line, kind)]);
        }
    }

    #[test]
    fn no_change_shows_the_password() {
        let changes = plan(&desired(), &KafkaObserved::default());
        assert!(!format!("{changes:?}{:?}", desired()).contains("secret-word"));
    }

    #[test]
    fn only_a_marker_names_an_owner() {
        assert_eq!(Acl::marker(&owner().marker()).owner(), Some("uid-1:acme/acme"));
        assert_eq!(Acl::allow(TOPIC, "posthouse-owner:x".into(), LITERAL, READ).owner(), None);
    }
}
