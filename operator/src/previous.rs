//! Pure: what the last status reported. It distinguishes a first set-up from a repair, and news from what is known.

use crds::{ConditionType, MessengerTenant, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Reports whether the last status was about this very spec: then a difference is a manual edit.
pub(crate) fn is_established(resource: &MessengerTenant) -> bool {
    let observed = resource.status.as_ref().and_then(|status| status.observed_generation);
    observed.is_some() && observed == resource.metadata.generation
}

/// Reports whether a part was as it should be.
pub(crate) fn was_good(resource: &MessengerTenant, part: ConditionType) -> bool {
    condition(resource, part).is_some_and(|condition| condition.status == "True")
}

/// Reports whether a part was as it should be since the resource was created. A status that came with a restore is about another
/// resource, so it is older.
pub(crate) fn was_good_in_this_life(resource: &MessengerTenant, part: ConditionType) -> bool {
    let created = resource.metadata.creation_timestamp.as_ref();
    condition(resource, part).is_some_and(|condition| {
        condition.status == "True"
            && created.is_some_and(|created| condition.last_transition_time.0 >= created.0)
    })
}

/// Reports whether anything was said of a part.
pub(crate) fn was_reported(resource: &MessengerTenant, part: ConditionType) -> bool {
    condition(resource, part).is_some()
}

/// Reports whether a part's condition gave this reason.
pub(crate) fn was_because(resource: &MessengerTenant, part: ConditionType, reason: Reason) -> bool {
    condition(resource, part).is_some_and(|condition| condition.reason == reason.as_str())
}

fn condition(resource: &MessengerTenant, part: ConditionType) -> Option<&Condition> {
    resource.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == part.as_str())
}
