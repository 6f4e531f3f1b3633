//! What leads from what a tenant has in Kafka to what it should have.

use std::{collections::BTreeSet, fmt};

use super::{
    Acl, KafkaDesired, KafkaObserved, MIN_INSYNC, TopicDesired, TopicObserved, UNCLEAN_ELECTION,
    UserObserved, acl::tenant_acls,
};
use crate::backend::{
    change::ChangeKind,
    ownership::{Former, Ownership},
};

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
pub(super) fn plan(desired: &KafkaDesired, observed: &KafkaObserved) -> Vec<KafkaChange> {
    let user = || desired.tenant.clone();
    let is_lost: BTreeSet<_> =
        desired.lost_topics(&observed.ownership, &observed.topics).map(|topic| &topic.name).collect();
    let lost = is_lost.iter().map(|topic| KafkaChange::TopicLost { topic: (*topic).clone() });
    let lost: Vec<_> = lost.collect();
    if observed.ownership != Ownership::Ours && !lost.is_empty() {
        // Nothing of the tenant is here, so this is another cluster: nothing is created in it. And what a former owner left is not
        // taken over in part, or the next pass would not know that something is missing.
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
            None if is_lost.contains(&topic.name) => {}
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{
        super::acl::{PREFIXED, READ, TOPIC},
        *,
    };
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
                outlives_a_process: true,
                is_optional: false,
                configs: BTreeMap::from([("retention.ms".into(), "604800000".into())]),
            }],
            quotas: BTreeMap::from([("producer_byte_rate".into(), 1_000_000.0)]),
            recorded_topic_ids: BTreeMap::new(),
            accepts_loss: false,
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
        check(
            |desired, observed| {
                desired.recorded_topic_ids = observed.topic_ids();
                desired.topics[0].is_optional = true;
                observed.topics.clear();
            },
            &[("create topic acme.message.send (6 partitions)", ChangeKind::Create)],
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
    fn what_a_former_owner_left_in_part_is_taken_over_when_the_loss_is_accepted() {
        let create = "create topic acme.message.send (6 partitions)";
        for (ownership, line, kind) in inherited("user and topics acme") {
            let is_itself = matches!(kind, ChangeKind::Record);
            let lose = |accepts_loss, desired: &mut KafkaDesired, observed: &mut KafkaObserved| {
                desired.accepts_loss = accepts_loss;
                observed.ownership = ownership.clone();
                observed.topics.clear();
            };
            let taken = [(line.as_str(), kind), (create, ChangeKind::Create)];
            let lost = [("topic acme.message.send is missing but held data", ChangeKind::Blocked)];
            check(|desired, observed| lose(true, desired, observed), &taken);
            check(|desired, observed| lose(false, desired, observed), if is_itself { &taken } else { &lost });
            // What such a topic held was of use to processes that are gone.
            check(
                |desired, observed| {
                    lose(false, desired, observed);
                    desired.topics[0].outlives_a_process = false;
                },
                &taken,
            );
        }
    }

    #[test]
    fn no_change_shows_the_password() {
        let changes = plan(&desired(), &KafkaObserved::default());
        assert!(!format!("{changes:?}{:?}", desired()).contains("secret-word"));
    }
}
