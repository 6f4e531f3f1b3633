//! The schema registry for one tenant: a subject for each of its topics, with the schema of the topic's records.
//!
//! Only the operator calls the registry. Services get the ids of the schemas as an argument and put them into the records, so a
//! registry that is away concerns no record. A reader elsewhere finds the schema by the id.
//!
//! A subject is called `<topic>-value`, as the serializers of Confluent and Apicurio call it. Every tenant has the same schemas, and a
//! registry that gives ids by content gives all of them one id: whose a subject is, its name says.
//!
//! A registry is asked to refuse what earlier readers could not read ([`COMPATIBILITY`]). That is one half of what `make lint` checks,
//! and the half that a registry judges as this repository does: with the other one it refuses each field more, because a record of
//! before might have had something else under its name.
//!
//! Owner marker: a subject has no room for one. So it is a schema of its own, the latest of the subject `posthouse-owners.<tenant>`:
//! no topic is called so, for no tenant id has a dash. It is written before any other subject, and removed after all.
//!
//! Nothing here is data: what is gone is registered again, though it may get another id.

use std::{collections::BTreeMap, fmt};

use catalog::Topic;
use crds::{Reason, TenantId};
use serde_json::{Value, json};

use super::{
    change::ChangeKind,
    contract::BackendFacts,
    ownership::{Former, Owner, Ownership},
};
use crate::tenant::Tenant;

mod admin;
mod client;

pub use admin::RegistryAdmin;

/// What a registry checks before it takes another schema of a subject: that readers by each earlier one read its records.
pub const COMPATIBILITY: &str = "FORWARD_TRANSITIVE";
/// The draft of every schema here. Registries tell by it what a text is.
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// What a tenant should have in the registry.
#[derive(Clone, Debug)]
pub struct RegistryDesired {
    /// The tenant id, with which every subject begins.
    pub tenant: String,
    pub owner: Owner,
    /// The topics with a subject, in the order of the catalog.
    pub topics: Vec<Topic>,
}

impl RegistryDesired {
    pub(super) fn of(tenant: &Tenant) -> Self {
        Self { tenant: tenant.id.to_string(), owner: Owner::of(tenant), topics: tenant.topics().collect() }
    }
}

/// Returns the subject of a topic.
pub fn subject(tenant: &str, topic: Topic) -> String {
    format!("{}-value", topic.of(tenant))
}

/// Returns the subject that says whose those of a tenant are.
pub fn owner_subject(tenant: &str) -> String {
    format!("posthouse-owners.{tenant}")
}

/// Returns the schema whose title is an owner marker. `number` differs in each one: a text that was registered before would not become
/// the latest one again.
fn owner_schema(marker: &str, number: i32) -> String {
    json!({"$schema": DRAFT, "title": marker, "$comment": number.to_string()}).to_string()
}

/// Returns the owner marker that a schema has, or an empty one for a schema of others.
fn marker_of(schema: &str) -> String {
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    schema["title"].as_str().unwrap_or_default().to_owned()
}

/// What a tenant has in the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryObserved {
    pub ownership: Ownership,
    /// The subjects of the topics it should have, as far as they exist.
    pub subjects: BTreeMap<Topic, SubjectObserved>,
    /// What begins every subject.
    tenant: String,
}

/// One subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectObserved {
    pub latest: Version,
    /// The version with the schema that services write by.
    pub ours: Option<Version>,
    pub compatibility_matches: bool,
}

/// One version of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub number: i32,
    /// Id of the schema.
    pub id: i32,
}

impl RegistryObserved {
    /// Returns the id of the schema of each topic's records, by the name of the topic.
    fn schema_ids(&self) -> BTreeMap<String, i32> {
        let ids = self.subjects.iter().filter_map(|(topic, found)| Some((topic, found.ours?.id)));
        ids.map(|(topic, id)| (topic.of(&self.tenant), id)).collect()
    }

    /// Returns what services write by and what the registry says is the latest schema, where these are not the same. A registry
    /// makes no earlier version the latest one again, so nothing can be done about it here.
    fn mismatch(&self) -> Option<(Reason, String)> {
        let of_subject = |(topic, found): (&Topic, &SubjectObserved)| {
            let (ours, latest) = (found.ours?, found.latest);
            let subject = subject(&self.tenant, *topic);
            (ours != latest).then(|| {
                format!(
                    "services write by version {} of subject {subject} (schema {}), and its latest is version {} (schema {})",
                    ours.number, ours.id, latest.number, latest.id
                )
            })
        };
        let lines: Vec<_> = self.subjects.iter().filter_map(of_subject).collect();
        let step = "update the operator to the release that registered it, or delete the later versions";
        (!lines.is_empty()).then(|| (Reason::SchemaMismatch, format!("{}; {step}", lines.join("; "))))
    }

    fn facts(&self) -> BackendFacts {
        BackendFacts {
            is_inherited: self.ownership.is_inherited(),
            schema_ids: self.schema_ids(),
            problem: self.mismatch(),
            ..BackendFacts::default()
        }
    }
}

/// One difference between what a tenant has in the registry and what it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryChange {
    TakeOver {
        tenant: String,
        from: Former,
    },
    /// `after` is the latest version that the subject has.
    Register {
        topic: Topic,
        subject: String,
        after: Option<i32>,
    },
    SetCompatibility {
        subject: String,
    },
}

impl RegistryChange {
    /// Returns why this change is in the plan. Another schema comes with another release, and by no edit.
    pub fn kind(&self) -> ChangeKind {
        match self {
            Self::TakeOver { from, .. } => from.kind(),
            Self::Register { after: None, .. } => ChangeKind::Create,
            Self::Register { after: Some(_), .. } => ChangeKind::Record,
            Self::SetCompatibility { .. } => ChangeKind::Repair,
        }
    }
}

impl fmt::Display for RegistryChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakeOver { tenant, from } => f.write_str(&from.takeover(&format!("subjects {tenant}.*"))),
            Self::Register { subject, after: None, .. } => {
                write!(f, "register the schema of subject {subject}")
            }
            Self::Register { subject, after: Some(latest), .. } => {
                write!(f, "register another schema of subject {subject} after version {latest}")
            }
            Self::SetCompatibility { subject } => {
                write!(f, "set compatibility {COMPATIBILITY} of subject {subject}")
            }
        }
    }
}

/// Returns what leads from `observed` to `desired`. Compatibility comes before a schema that it is to check. Empty means steady.
fn plan(desired: &RegistryDesired, observed: &RegistryObserved) -> Vec<RegistryChange> {
    let tenant = desired.tenant.clone();
    let from = observed.ownership.former().cloned();
    let mut changes: Vec<_> =
        from.map(|from| RegistryChange::TakeOver { tenant, from }).into_iter().collect();
    for topic in desired.topics.iter().copied() {
        let subject = subject(&desired.tenant, topic);
        let Some(found) = observed.subjects.get(&topic) else {
            changes.push(RegistryChange::Register { topic, subject, after: None });
            continue;
        };
        if !found.compatibility_matches {
            changes.push(RegistryChange::SetCompatibility { subject: subject.clone() });
        }
        if found.ours.is_none() {
            let after = Some(found.latest.number);
            changes.push(RegistryChange::Register { topic, subject, after });
        }
    }
    changes
}

/// Returns the subjects that a tenant may have, in the order of the catalog.
fn subjects(tenant: &str) -> impl Iterator<Item = (Topic, String)> {
    Topic::ALL.iter().map(move |topic| (*topic, subject(tenant, *topic)))
}

/// Returns how the registry calls a tenant's part: what its subjects begin with.
fn name(id: &TenantId) -> String {
    id.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::ownership::testing::{inherited, owner},
        rendered::testing::example,
    };

    fn desired() -> RegistryDesired {
        let topics = vec![Topic::MessageSend, Topic::ChatEvents];
        RegistryDesired { tenant: "acme".to_owned(), owner: owner(), topics }
    }

    fn version(number: i32) -> Version {
        Version { number, id: 10 + number }
    }

    fn found() -> SubjectObserved {
        SubjectObserved { latest: version(1), ours: Some(version(1)), compatibility_matches: true }
    }

    fn observed() -> RegistryObserved {
        RegistryObserved {
            ownership: Ownership::Ours,
            subjects: [(Topic::MessageSend, found()), (Topic::ChatEvents, found())].into(),
            tenant: "acme".to_owned(),
        }
    }

    fn check(edit: impl FnOnce(&mut RegistryObserved), expected: &[&str]) {
        let mut observed = observed();
        edit(&mut observed);
        let changes: Vec<_> = plan(&desired(), &observed).iter().map(ToString::to_string).collect();
        assert_eq!(changes, expected);
    }

    fn edited(observed: &mut RegistryObserved) -> &mut SubjectObserved {
        observed.subjects.get_mut(&Topic::ChatEvents).expect("it is there")
    }

    #[test]
    fn what_is_missing_is_registered_and_what_is_there_stays() {
        check(|_| {}, &[]);
        check(
            |observed| *observed = RegistryObserved::default(),
            &[
                "register the schema of subject acme.message.send-value",
                "register the schema of subject acme.chat.events-value",
            ],
        );
        let unknown = |observed: &mut RegistryObserved| edited(observed).ours = None;
        check(unknown, &["register another schema of subject acme.chat.events-value after version 1"]);
    }

    #[test]
    fn compatibility_is_set_before_what_it_is_to_check() {
        check(
            |observed| {
                edited(observed).compatibility_matches = false;
                edited(observed).ours = None;
            },
            &[
                "set compatibility FORWARD_TRANSITIVE of subject acme.chat.events-value",
                "register another schema of subject acme.chat.events-value after version 1",
            ],
        );
    }

    #[test]
    fn what_a_former_owner_left_is_taken_over() {
        for (ownership, line, kind) in inherited("subjects acme.*") {
            check(|observed| observed.ownership = ownership.clone(), &[&line]);
            let observed = RegistryObserved { ownership, ..observed() };
            assert_eq!(plan(&desired(), &observed)[0].kind(), kind);
        }
    }

    #[test]
    fn another_schema_is_no_repair_of_an_edit() {
        let of = |after| {
            RegistryChange::Register { topic: Topic::ChatEvents, subject: "s".to_owned(), after }.kind()
        };
        assert_eq!((of(None), of(Some(1))), (ChangeKind::Create, ChangeKind::Record));
    }

    #[test]
    fn a_later_schema_of_others_is_reported_with_subject_and_versions_and_changes_nothing() {
        let mut observed = observed();
        assert_eq!(observed.mismatch(), None);
        edited(&mut observed).latest = version(2);
        check(|observed| edited(observed).latest = version(2), &[]);
        let (reason, message) = observed.facts().problem.expect("it is reported");
        assert_eq!(reason, Reason::SchemaMismatch);
        assert_eq!(
            message,
            "services write by version 1 of subject acme.chat.events-value (schema 11), and its latest is version 2 (schema 12); \
             update the operator to the release that registered it, or delete the later versions"
        );
        let ids = observed.facts().schema_ids;
        assert_eq!(ids["acme.chat.events"], 11, "services go on writing by theirs");
    }

    #[test]
    fn a_topic_on_request_has_a_subject_on_request() {
        for (topics, expected) in [(json!([]), false), (json!(["presence.changes"]), true)] {
            let tenant = example("acme.yaml", |resource| {
                let kafka = json!({"optionalTopics": topics});
                resource.spec.kafka = Some(serde_json::from_value(kafka).expect("topics"));
            });
            let topics = RegistryDesired::of(&tenant).topics;
            assert_eq!(topics.contains(&Topic::PresenceChanges), expected);
        }
    }

    #[test]
    fn a_marker_reads_back_whatever_its_number() {
        let (one, other) = (owner_schema("uid-1:acme/acme", 1), owner_schema("uid-1:acme/acme", 2));
        assert_ne!(one, other);
        assert_eq!(
            (marker_of(&one), marker_of(&other)),
            ("uid-1:acme/acme".into(), "uid-1:acme/acme".into())
        );
        for foreign in ["", "{}", "[]", "{\"title\": 7}"] {
            assert_eq!(marker_of(foreign), "");
        }
    }

    #[test]
    fn the_subject_of_an_owner_is_no_topics() {
        assert!("posthouse-owners".parse::<TenantId>().is_err());
        assert_eq!(subject("acme", Topic::MessageSend), "acme.message.send-value");
        assert_eq!(owner_subject("acme"), "posthouse-owners.acme");
    }
}
