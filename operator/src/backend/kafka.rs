//! Kafka for one tenant: topics, a SCRAM user, prefixed ACLs, client quotas.
//!
//! The protocol is spoken by `kafka-protocol` over one small connection type: no Rust admin client has SCRAM, ACL and
//! quota calls together. In KRaft every broker forwards writes to the controller, so any bootstrap address serves.
//!
//! Owner marker: topics and users hold no free text, so the marker is the name of an ACL that grants nothing of
//! use (Describe on an unused transactional id). It is written first and deleted last.

use std::collections::{BTreeMap, BTreeSet};

use catalog::{Retention, Topic};
use secrecy::SecretString;

use super::ownership::{Owner, Ownership};
use crate::tenant::Tenant;

mod acl;
mod admin;
mod calls;
mod change;
mod scram;
mod settle;
mod wire;

pub use acl::Acl;
pub use admin::KafkaAdmin;
pub use change::KafkaChange;

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
    /// Topics that were lost are created again.
    pub accepts_loss: bool,
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
            topics: tenant.topics().map(|topic| TopicDesired::of(tenant, topic)).collect(),
            quotas: named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect(),
            recorded_topic_ids: tenant.recorded_topic_ids.clone(),
            accepts_loss: tenant.accepts_loss.contains(&catalog::Backend::Kafka),
        }
    }

    /// Returns the topics that are not there and were once: they were seen, or a former owner had them.
    fn lost_topics<'a>(
        &'a self,
        ownership: &'a Ownership,
        found: &'a BTreeMap<String, TopicObserved>,
    ) -> impl Iterator<Item = &'a TopicDesired> {
        let had = |topic: &TopicDesired| {
            !topic.is_optional
                && (self.recorded_topic_ids.contains_key(&topic.name)
                    || (ownership.is_inherited() && topic.outlives_a_process))
        };
        let topics = if self.accepts_loss { &[][..] } else { &self.topics };
        topics.iter().filter(move |topic| had(topic) && !found.contains_key(&topic.name))
    }
}

/// How many copies a record needs before it is acked.
const MIN_INSYNC: &str = "min.insync.replicas";
/// Whether a copy that lacks acked records may become the leader.
const UNCLEAN_ELECTION: &str = "unclean.leader.election.enable";

/// One topic. `partitions` is fixed at creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDesired {
    pub name: String,
    pub partitions: i32,
    pub replication: i16,
    /// Its records matter for longer than the processes of the tenant run: a tenant that comes back misses them.
    pub outlives_a_process: bool,
    /// The tenant may have requested it no more for a while, or had it removed then: nothing is lost with it.
    pub is_optional: bool,
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
            Retention::Seconds(seconds) => {
                let retention_ms = seconds * 1000;
                configs.insert("cleanup.policy".to_owned(), "delete".to_owned());
                configs.insert("retention.ms".to_owned(), retention_ms.to_string());
                // A segment is deleted whole, once its newest record is old. By default it takes records for a week.
                configs.insert("segment.ms".to_owned(), (retention_ms / 2).to_string());
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
            outlives_a_process: !matches!(topic.retention, Retention::Seconds(_)),
            is_optional: topic.is_optional,
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
