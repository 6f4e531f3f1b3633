//! Pure: what happened to each part becomes conditions.

use std::collections::BTreeMap;

use crds::{ConditionType, Endpoints, KafkaStatus, Reason, Status, StoreStatus, TenantStatus};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use crate::{tenant::Tenant, text::cut};

/// The API server takes no more in a condition's message.
const MAX_MESSAGE: usize = 1024;

/// How one part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub status: Status,
    pub reason: Reason,
    /// The state, and when it is not as it should be, the next step.
    pub message: String,
    /// How long this may take: it decides when to look again.
    pub urgency: Urgency,
}

/// When to look at a part again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// It is as it should be.
    Steady,
    /// An administrator has to do something first.
    ActionRequired,
    /// Something is not there and may come back: retried with exponential backoff.
    Retry,
    /// It is under way: looked at again soon.
    Waiting,
}

impl Outcome {
    pub fn good(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: Status::True, reason, message: message.into(), urgency: Urgency::Steady }
    }

    pub fn waiting(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: Status::False, reason, message: message.into(), urgency: Urgency::Waiting }
    }

    pub fn retry(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: Status::False, reason, message: message.into(), urgency: Urgency::Retry }
    }

    pub fn action_required(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: Status::False, reason, message: message.into(), urgency: Urgency::ActionRequired }
    }

    pub fn is_good(&self) -> bool {
        self.status == Status::True
    }
}

/// How all parts are. A part that is not in it keeps the condition it had.
pub(crate) type Outcomes = BTreeMap<ConditionType, Outcome>;

/// Returns the summary of all parts: the first one that does not hold, in display order.
pub(crate) fn summary(outcomes: &Outcomes) -> Outcome {
    let broken = |urgent: bool| {
        ConditionType::parts().filter_map(move |part| {
            let outcome = outcomes.get(&part)?;
            let is_consequence = outcome.reason == Reason::DependencyNotReady;
            (!outcome.is_good() && is_consequence != urgent).then_some((part, outcome))
        })
    };
    // What only waits for another part adds nothing.
    let Some((part, first)) = broken(true).chain(broken(false)).next() else {
        return Outcome::good(Reason::AllReady, "every part is ready");
    };
    let others = ConditionType::parts()
        .filter(|other| *other != part && outcomes.get(other).is_some_and(|outcome| !outcome.is_good()))
        .map(ConditionType::as_str)
        .collect::<Vec<_>>();
    let mut message = format!("{part}: {}", first.message);
    if !others.is_empty() {
        message.push_str(&format!(" (also not ready: {})", others.join(", ")));
    }
    let urgency = outcomes.values().map(|outcome| outcome.urgency).max().unwrap_or(Urgency::Steady);
    Outcome { status: Status::False, reason: first.reason, message, urgency }
}

/// Leaves out the conditions of other controllers, and sorts ours in display order: the server keeps its own.
pub(crate) fn retain_own(conditions: &mut Vec<Condition>) {
    let rank = |condition: &Condition| ConditionType::all().position(|part| part.as_str() == condition.type_);
    conditions.retain(|condition| rank(condition).is_some());
    conditions.sort_by_key(rank);
}

/// Leaves out the conditions of parts that are not had any more.
pub(crate) fn retain_parts(conditions: &mut Vec<Condition>, is_had: impl Fn(ConditionType) -> bool) {
    let gone = ConditionType::all().filter(|part| !is_had(*part)).map(ConditionType::as_str);
    let gone: Vec<_> = gone.collect();
    conditions.retain(|condition| !gone.contains(&condition.type_.as_str()));
}

/// Returns the conditions in display order. The time of a condition moves only with its status.
pub(crate) fn conditions(
    previous: &[Condition],
    outcomes: &Outcomes,
    ready: &Outcome,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let all = ConditionType::all().map(|part| match part {
        ConditionType::Ready => (part, Some(ready)),
        part => (part, outcomes.get(&part)),
    });
    all.filter_map(|(part, outcome)| {
        let before = previous.iter().find(|condition| condition.type_ == part.as_str());
        match outcome {
            Some(outcome) => Some(condition(part, outcome, before, generation, now)),
            None => before.cloned(),
        }
    })
    .collect()
}

fn condition(
    part: ConditionType,
    outcome: &Outcome,
    before: Option<&Condition>,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let since = before
        .filter(|before| before.status == outcome.status.as_str())
        .map_or(Time(now), |before| before.last_transition_time.clone());
    Condition {
        type_: part.to_string(),
        status: outcome.status.as_str().to_owned(),
        reason: outcome.reason.to_string(),
        message: cut(&outcome.message, MAX_MESSAGE),
        observed_generation: generation,
        last_transition_time: since,
    }
}

/// Returns the status of a tenant beside its conditions. `topics` are the ids of its topics, `generations` what holds its data in
/// each backend.
pub(crate) fn facts(
    tenant: &Tenant,
    topics: BTreeMap<String, String>,
    generations: &BTreeMap<catalog::Backend, String>,
) -> TenantStatus {
    let routed = &tenant.hosts.routed;
    let endpoints = routed.first().map(|host| {
        let web = tenant.origin(host);
        let ws = web.replacen("http", "ws", 1);
        Endpoints { ws: format!("{ws}/ws"), docs: format!("{web}/docs"), issuer: tenant.issuer(), web }
    });
    TenantStatus {
        observed_generation: None,
        cell: Some(tenant.cell.name.clone()),
        hosts: Some(routed.iter().map(ToString::to_string).collect()),
        endpoints,
        kafka: (!topics.is_empty()).then_some(KafkaStatus { topics }),
        generations: generations.iter().map(|(backend, id)| (backend.to_string(), id.clone())).collect(),
        schema_ids: BTreeMap::new(),
        objectives: Vec::new(),
        usage: None,
        wake: None,
        store: Some(StoreStatus { keyspace: Some(tenant.id.keyspace().to_string()) }),
        conditions: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use catalog::Backend;

    use super::*;

    fn outcomes(parts: &[(ConditionType, Outcome)]) -> Outcomes {
        parts.iter().cloned().collect()
    }

    #[test]
    fn conditions_of_others_are_no_part_of_ours() {
        let ready = Outcome::good(Reason::AllReady, "");
        let placed = outcomes(&[(ConditionType::Placed, Outcome::good(Reason::Assigned, ""))]);
        let ours = conditions(&[], &placed, &ready, Some(1), Timestamp::UNIX_EPOCH);
        let mut found: Vec<_> = ours.iter().rev().cloned().collect();
        found.insert(1, Condition { type_: "BackedUp".to_owned(), ..ours[0].clone() });
        retain_own(&mut found);
        assert_eq!(found, ours);
    }

    #[test]
    fn a_part_that_a_tenant_has_no_more_leaves_no_condition() {
        let good = || Outcome::good(Reason::InSync, "");
        let (kafka, s3) = (ConditionType::Backend(Backend::Kafka), ConditionType::Backend(Backend::S3));
        let ready = Outcome::good(Reason::AllReady, "");
        let both = outcomes(&[(kafka, good()), (s3, good())]);
        let mut known = conditions(&[], &both, &ready, Some(1), Timestamp::UNIX_EPOCH);
        let one = outcomes(&[(kafka, good())]);
        retain_parts(&mut known, |part| part == ConditionType::Ready || one.contains_key(&part));
        let left = conditions(&known, &one, &ready, Some(2), Timestamp::UNIX_EPOCH);
        let types: Vec<_> = left.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(types, ["KafkaReady", "Ready"]);
    }

    #[test]
    fn the_summary_names_the_cause_and_not_what_waits_for_it() {
        let outcomes = outcomes(&[
            (ConditionType::Placed, Outcome::good(Reason::Assigned, "on cell local")),
            (
                ConditionType::WorkloadsReady,
                Outcome::waiting(Reason::DependencyNotReady, "message waits for cql"),
            ),
            (ConditionType::Backend(Backend::Cql), Outcome::retry(Reason::BackendUnavailable, "no answer")),
        ]);
        let ready = summary(&outcomes);
        assert_eq!((ready.status, ready.reason), (Status::False, Reason::BackendUnavailable));
        assert_eq!(ready.message, "StoreReady: no answer (also not ready: WorkloadsReady)");
        assert_eq!(ready.urgency, Urgency::Waiting);
    }

    #[test]
    fn one_part_keeps_the_summary_from_being_true() {
        for part in ConditionType::parts() {
            let mut all: Outcomes =
                ConditionType::parts().map(|part| (part, Outcome::good(Reason::InSync, ""))).collect();
            assert_eq!(summary(&all).reason, Reason::AllReady);
            all.insert(part, Outcome::retry(Reason::BackendUnavailable, "no answer"));
            assert_eq!(summary(&all).message, format!("{part}: no answer"));
        }
    }

    #[test]
    fn time_moves_only_with_the_status() {
        let at = |second| Timestamp::from_second(second).expect("small");
        let good = Outcome::good(Reason::InSync, "three topics");
        let first = conditions(
            &[],
            &outcomes(&[(ConditionType::Backend(Backend::Kafka), good)]),
            &Outcome::good(Reason::AllReady, ""),
            Some(1),
            at(10),
        );
        let other = Outcome::good(Reason::InSync, "four topics");
        let bad = Outcome::retry(Reason::BackendUnavailable, "gone");
        let second = conditions(
            &first,
            &outcomes(&[(ConditionType::Backend(Backend::Kafka), other)]),
            &bad,
            Some(2),
            at(20),
        );
        assert_eq!(second[0].last_transition_time.0, at(10));
        assert_eq!(second[0].message, "four topics");
        assert_eq!(second[1].last_transition_time.0, at(20));
        let third = conditions(&second, &outcomes(&[]), &bad, Some(2), at(30));
        assert_eq!(third, second);
    }
}
