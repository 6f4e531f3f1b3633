//! Pure: what happened to each part becomes conditions.

use std::collections::BTreeMap;

use crds::{ConditionType, Endpoints, KafkaStatus, Reason, Status, StoreStatus, TenantStatus};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use crate::tenant::Tenant;

/// The API server takes no more in a condition's message.
const MAX_MESSAGE: usize = 1024;

/// How one part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: Status,
    pub reason: Reason,
    /// What is, and when it is not as it should be, the next step.
    pub message: String,
    /// How long this may take: it decides when to look again.
    pub urgency: Urgency,
}

/// When to look at a part again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It is as it should be.
    Steady,
    /// Somebody has to do something first.
    NeedsPerson,
    /// Something is not there and may come back: asked less and less often.
    Retry,
    /// It is under way: asked soon.
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

    pub fn needs_person(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: Status::False, reason, message: message.into(), urgency: Urgency::NeedsPerson }
    }

    pub fn unknown(message: impl Into<String>) -> Self {
        let (reason, urgency) = (Reason::NotYetObserved, Urgency::Retry);
        Self { status: Status::Unknown, reason, message: message.into(), urgency }
    }

    pub fn is_good(&self) -> bool {
        self.status == Status::True
    }
}

/// How all parts are. A part that is not in it keeps the condition it had.
pub type Outcomes = BTreeMap<ConditionType, Outcome>;

/// Returns the summary of all parts: the first one that does not hold, in the order people read them.
pub fn summary(outcomes: &Outcomes) -> Outcome {
    let broken = |urgent: bool| {
        ConditionType::PARTS.into_iter().filter_map(move |part| {
            let outcome = outcomes.get(&part)?;
            let is_consequence = outcome.reason == Reason::DependencyNotReady;
            (!outcome.is_good() && is_consequence != urgent).then_some((part, outcome))
        })
    };
    // What only waits for another part says nothing new.
    let Some((part, first)) = broken(true).chain(broken(false)).next() else {
        return Outcome::good(Reason::AllReady, "every part is ready");
    };
    let others = ConditionType::PARTS
        .into_iter()
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

/// Returns the conditions in the order people read them. The time of a condition moves only with its status.
pub fn conditions(
    previous: &[Condition],
    outcomes: &Outcomes,
    ready: &Outcome,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let all = ConditionType::PARTS
        .into_iter()
        .map(|part| (part, outcomes.get(&part)))
        .chain([(ConditionType::Ready, Some(ready))]);
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
        message: bounded(&outcome.message),
        observed_generation: generation,
        last_transition_time: since,
    }
}

/// Returns what the tenant is, as far as it is known without asking anybody.
pub fn facts(tenant: &Tenant, topics: BTreeMap<String, String>) -> TenantStatus {
    let routed: Vec<_> = tenant.routed_hosts().collect();
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
        store: Some(StoreStatus { keyspace: Some(tenant.id.keyspace().to_string()) }),
        conditions: Vec::new(),
    }
}

fn bounded(message: &str) -> String {
    if message.len() <= MAX_MESSAGE {
        return message.to_owned();
    }
    let mut end = MAX_MESSAGE - "…".len();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(parts: &[(ConditionType, Outcome)]) -> Outcomes {
        parts.iter().cloned().collect()
    }

    #[test]
    fn the_summary_names_the_cause_and_not_what_waits_for_it() {
        let outcomes = outcomes(&[
            (ConditionType::Placed, Outcome::good(Reason::Assigned, "on cell local")),
            (
                ConditionType::WorkloadsReady,
                Outcome::waiting(Reason::DependencyNotReady, "message waits for cql"),
            ),
            (ConditionType::StoreReady, Outcome::retry(Reason::BackendUnavailable, "no answer")),
        ]);
        let ready = summary(&outcomes);
        assert_eq!((ready.status, ready.reason), (Status::False, Reason::BackendUnavailable));
        assert_eq!(ready.message, "StoreReady: no answer (also not ready: WorkloadsReady)");
        assert_eq!(ready.urgency, Urgency::Waiting);
    }

    #[test]
    fn an_unknown_part_keeps_the_summary_from_being_true() {
        let outcomes = outcomes(&[
            (ConditionType::Placed, Outcome::good(Reason::Assigned, "")),
            (ConditionType::KafkaReady, Outcome::unknown("not looked at")),
        ]);
        assert_eq!(summary(&outcomes).status, Status::False);
    }

    #[test]
    fn time_moves_only_with_the_status() {
        let at = |second| Timestamp::from_second(second).expect("small");
        let good = Outcome::good(Reason::InSync, "three topics");
        let first = conditions(
            &[],
            &outcomes(&[(ConditionType::KafkaReady, good)]),
            &Outcome::good(Reason::AllReady, ""),
            Some(1),
            at(10),
        );
        let other = Outcome::good(Reason::InSync, "four topics");
        let bad = Outcome::retry(Reason::BackendUnavailable, "gone");
        let second =
            conditions(&first, &outcomes(&[(ConditionType::KafkaReady, other)]), &bad, Some(2), at(20));
        assert_eq!(second[0].last_transition_time.0, at(10));
        assert_eq!(second[0].message, "four topics");
        assert_eq!(second[1].last_transition_time.0, at(20));
        let third = conditions(&second, &outcomes(&[]), &bad, Some(2), at(30));
        assert_eq!(third, second);
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let cut = bounded(&"ü".repeat(2000));
        assert!(cut.len() <= MAX_MESSAGE && cut.ends_with('…'));
    }
}
