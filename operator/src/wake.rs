//! Pure: whether a suspended tenant is awake because a request woke it, and what becomes of the next request.
//!
//! The manifest says that it is suspended and that it may be woken; the status says that it was. So nothing is written that the owner of the manifest writes, and an
//! operator that starts again goes on where the last one was.

use crds::{ConditionType, MessengerTenant, Wake};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use crate::previous::{is_established, was_good};

/// So long after the request that woke it a tenant is opened although not all of its workloads are available: what one of them lacks may take its users less than all.
const OPENING_SECONDS: i64 = 600;

/// What becomes of a request that comes to the waker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Its pods take it.
    Open,
    /// Its pods are starting.
    Opening,
    /// It wakes the tenant.
    Asleep,
    /// Only the owner of the manifest lets the tenant go on.
    Closed,
}

/// Returns what becomes of a request for a tenant. Only routes of one that sleeps, or slept until now, lead to the waker.
pub(crate) fn door(resource: &MessengerTenant) -> Door {
    let is_left_alone = resource.spec.paused == Some(true) || resource.metadata.deletion_timestamp.is_some();
    if is_suspended(resource) {
        return if wakes(resource) && !is_left_alone { Door::Asleep } else { Door::Closed };
    }
    if was_good(resource, ConditionType::WorkloadsReady) { Door::Open } else { Door::Opening }
}

/// Reports whether a tenant has no pods for now.
pub(crate) fn is_suspended(resource: &MessengerTenant) -> bool {
    resource.spec.suspended == Some(true) && !(wakes(resource) && recorded(resource).is_some())
}

/// Reports whether a request wakes a tenant, or has woken it.
pub(crate) fn wakes(resource: &MessengerTenant) -> bool {
    resource.spec.suspended == Some(true) && resource.spec.wake_on_connect.is_some()
}

/// Returns what the status says of the wake.
pub(crate) fn recorded(resource: &MessengerTenant) -> Option<&Wake> {
    resource.status.as_ref()?.wake.as_ref()
}

/// Reports whether a tenant was woken so long ago that its routes ask the waker no more, whatever its workloads are.
pub(crate) fn is_overdue(resource: &MessengerTenant, now: Timestamp) -> bool {
    recorded(resource)
        .is_some_and(|wake| now.as_second() - wake.requested_at.0.as_second() >= OPENING_SECONDS)
}

/// Returns what the status is to say of the wake: nothing where the tenant sleeps or is not suspended. `connections` are those of its users, where that is known.
pub(crate) fn next(
    resource: &MessengerTenant,
    is_requested: bool,
    connections: Option<i64>,
    now: Timestamp,
) -> Option<Wake> {
    let settings = resource.spec.wake_on_connect.as_ref().filter(|_| wakes(resource))?;
    let Some(wake) = recorded(resource) else {
        return is_requested.then_some(Wake { requested_at: Time(now), idle_since: None });
    };
    let idle_since = (connections == Some(0)).then(|| wake.idle_since.clone().unwrap_or(Time(now)));
    let is_over = idle_since.as_ref().is_some_and(|since| {
        let idle_seconds = now.as_second() - since.0.as_second();
        u64::try_from(idle_seconds).is_ok_and(|seconds| seconds >= settings.idle_after().as_secs())
    });
    // Where its manifest is refused, its routes would not come to ask the waker; where a pod cannot start, no request would get further than the waker for a while.
    let may_sleep = is_established(resource) && was_good(resource, ConditionType::Ready);
    (!(is_over && may_sleep)).then(|| Wake { idle_since, ..wake.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const MINUTE: i64 = 60;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn tenant(spec: &Value, status: &Value) -> MessengerTenant {
        let mut resource = json!({"apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": "MessengerTenant",
            "metadata": {"name": "acme", "namespace": "acme"},
            "spec": {"tenantId": "acme", "cellRef": {"name": "local"}}, "status": status});
        for (field, value) in spec.as_object().into_iter().flatten() {
            resource["spec"][field] = value.clone();
        }
        serde_json::from_value(resource).expect("a tenant")
    }

    /// Returns what a status says of a part.
    fn says(part: &str, status: &str) -> Value {
        json!([{"type": part, "status": status, "reason": "Any", "message": "",
            "lastTransitionTime": "2026-11-30T10:00:00Z"}])
    }

    /// Returns a tenant that sleeps, or is awake as `wake` says, and was Ready when it was looked at last.
    fn sleeper(wake: Option<Wake>) -> MessengerTenant {
        let status = json!({"observedGeneration": 1, "conditions": says("Ready", "True")});
        let mut resource = tenant(&json!({"suspended": true, "wakeOnConnect": {}}), &status);
        resource.metadata.generation = Some(1);
        resource.status.get_or_insert_default().wake = wake;
        resource
    }

    fn awake(requested_at: i64, idle_since: Option<i64>) -> Wake {
        Wake { requested_at: Time(at(requested_at)), idle_since: idle_since.map(|since| Time(at(since))) }
    }

    #[test]
    fn a_request_wakes_a_tenant_whose_manifest_allows_it_and_no_other() {
        let allowed = json!({"suspended": true, "wakeOnConnect": {}});
        for (spec, wakes) in [
            (allowed, true),
            (json!({"suspended": true}), false),
            (json!({"suspended": false, "wakeOnConnect": {}}), false),
            (json!({"wakeOnConnect": {}}), false),
        ] {
            let resource = tenant(&spec, &json!({}));
            let next = next(&resource, true, None, at(7));
            assert_eq!(next, wakes.then(|| awake(7, None)), "{spec}");
        }
        assert_eq!(next(&sleeper(None), false, Some(0), at(7)), None, "no request came");
    }

    #[test]
    fn a_tenant_that_is_awake_has_pods_until_its_manifest_allows_it_no_more() {
        let wake = json!({"wake": {"requestedAt": "2026-11-30T10:00:00Z"}});
        let (allowed, withdrawn) =
            (json!({"suspended": true, "wakeOnConnect": {}}), json!({"suspended": true}));
        assert!(!is_suspended(&tenant(&allowed, &wake)));
        assert!(is_suspended(&tenant(&allowed, &json!({}))));
        let withdrawn = tenant(&withdrawn, &wake);
        assert!(is_suspended(&withdrawn));
        assert_eq!(next(&withdrawn, true, None, at(7)), None);
        let resumed = tenant(&json!({"suspended": false, "wakeOnConnect": {}}), &wake);
        assert_eq!(next(&resumed, false, None, at(7)), None, "the next suspension begins asleep");
    }

    #[test]
    fn a_tenant_sleeps_again_once_nobody_was_connected_for_long_enough() {
        let next = |idle_since: Option<i64>, connections: Option<i64>, now: i64| {
            next(&sleeper(Some(awake(0, idle_since))), false, connections, at(now))
        };
        // No client yet, then some, then none again.
        assert_eq!(next(None, Some(0), 100), Some(awake(0, Some(100))));
        assert_eq!(next(Some(100), Some(0), 200), Some(awake(0, Some(100))));
        assert_eq!(next(Some(100), Some(3), 200), Some(awake(0, None)));
        // What is not known ends no pod, however long that is so.
        assert_eq!(next(Some(100), None, 100 + 90 * MINUTE), Some(awake(0, None)));
        assert_eq!(next(Some(100), Some(0), 99 + 30 * MINUTE), Some(awake(0, Some(100))));
        assert_eq!(next(Some(100), Some(0), 100 + 30 * MINUTE), None);
        // The clock was set back.
        assert_eq!(next(Some(100), Some(0), 50), Some(awake(0, Some(100))));
    }

    #[test]
    fn a_workload_that_never_runs_does_not_keep_a_tenant_closed() {
        let woken = sleeper(Some(awake(100, None)));
        assert!(!is_overdue(&woken, at(99 + 10 * MINUTE)));
        assert!(is_overdue(&woken, at(100 + 10 * MINUTE)));
        assert!(!is_overdue(&sleeper(None), at(100 + 10 * MINUTE)), "it sleeps");
        assert!(!is_overdue(&woken, at(50)), "the clock was set back");
    }

    #[test]
    fn a_tenant_that_could_not_be_woken_does_not_fall_asleep() {
        let over = 100 + 30 * MINUTE;
        let idle = sleeper(Some(awake(0, Some(100))));
        assert_eq!(next(&idle, false, Some(0), at(over)), None);
        let mut not_ready = idle.clone();
        let conditions = serde_json::from_value(says("Ready", "False")).expect("conditions");
        not_ready.status.get_or_insert_default().conditions = conditions;
        // What a pass makes of the newest manifest is not known yet.
        let mut edited = idle;
        edited.metadata.generation = Some(2);
        for resource in [not_ready, edited] {
            assert_eq!(next(&resource, false, Some(0), at(over)), Some(awake(0, Some(100))));
        }
    }

    #[test]
    fn a_request_finds_the_door_as_the_tenant_is() {
        let workloads = |status: &str| says("WorkloadsReady", status);
        let wake = json!({"requestedAt": "2026-11-30T10:00:00Z"});
        let allowed = json!({"suspended": true, "wakeOnConnect": {}});
        for (spec, status, expected) in [
            (allowed.clone(), json!({"conditions": workloads("False")}), Door::Asleep),
            // Its pods have not ended yet.
            (allowed.clone(), json!({"conditions": workloads("True")}), Door::Asleep),
            (allowed.clone(), json!({"conditions": workloads("False"), "wake": wake}), Door::Opening),
            (allowed, json!({"conditions": workloads("True"), "wake": wake}), Door::Open),
            (json!({"suspended": true}), json!({}), Door::Closed),
            (json!({"suspended": true}), json!({"wake": wake}), Door::Closed),
            (json!({"suspended": true, "paused": true, "wakeOnConnect": {}}), json!({}), Door::Closed),
            (json!({"suspended": false}), json!({}), Door::Opening),
            (json!({}), json!({"conditions": workloads("True")}), Door::Open),
        ] {
            assert_eq!(door(&tenant(&spec, &status)), expected, "{spec} {status}");
        }
    }
}
