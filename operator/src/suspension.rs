//! Pure: what a tenant without pods says, and in which order its pods end.
//!
//! The workload that stores what is in the log ends last, once no other pod is left that could put something there: what was accepted and is not stored waits until
//! the tenant goes on, and the log does not keep it for as long as that may take.

use catalog::Service;
use crds::Reason;
use kube::core::DynamicObject;

use crate::{desired::Kind, plan::ObjectChange, status::Outcome, tenant::Tenant};

/// How far the pods of a tenant are from none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pods {
    /// It is not suspended.
    Wanted,
    /// Deployments were scaled down in this pass, and have pods again by what came back.
    PutBack,
    /// So many are left that may put something into the log, which is stored meanwhile.
    Feeding(usize),
    /// So many are left, and no Deployment asks for any.
    Ending(usize),
    Gone,
}

impl Pods {
    /// Reports whether a change has to wait until no pod is left that feeds the log.
    pub fn hold(self, tenant: &Tenant, change: &ObjectChange) -> bool {
        let (ObjectChange::Update { object, .. } | ObjectChange::Repair { object, .. }) = change else {
            return false;
        };
        matches!(self, Self::Feeding(_) | Self::PutBack)
            && object.kind == Kind::Deployment
            && object.name == storing_deployment(&tenant.name)
    }

    /// Returns how the workloads of a suspended tenant are.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Wanted => None,
            Self::PutBack => Some(Outcome::retry(
                Reason::ApiRefused,
                "the API server lets Deployments have pods again in the moment that they are scaled to none; see that no webhook sets their spec.replicas",
            )),
            Self::Feeding(pods) | Self::Ending(pods) => {
                Some(Outcome::waiting(Reason::RolloutInProgress, format!("{pods} pods are ending")))
            }
            Self::Gone => {
                Some(Outcome::action_required(Reason::Suspended, "no pod runs while spec.suspended is true"))
            }
        }
    }
}

/// Returns how a suspended tenant is as a whole, whatever its parts are. `wakes` says whether a request wakes it.
pub(crate) fn summary(parts: &Outcome, wakes: bool) -> Outcome {
    let or_else = if wakes { ", or connect, which wakes it" } else { "" };
    let message = format!(
        "spec.suspended is true, and all but the pods is kept; set it to false to go on{or_else} ({})",
        parts.message
    );
    Outcome { urgency: parts.urgency, ..Outcome::action_required(Reason::Suspended, message) }
}

/// Returns the name of the Deployment that stores what is in the log, where that is one of its own.
pub(crate) fn storing_deployment(tenant: &str) -> String {
    format!("{tenant}-{}", Service::Message)
}

/// Reports whether a Deployment asks for pods: for one, when it does not say how many.
pub(crate) fn asks_for_pods(deployment: &DynamicObject) -> bool {
    deployment.data["spec"]["replicas"].as_i64() != Some(0)
}

#[cfg(test)]
mod tests {
    use crds::Status;

    use super::*;
    use crate::{
        rendered::testing::{children, example},
        status::Urgency,
    };

    #[test]
    fn while_the_log_is_fed_what_stores_it_is_left_as_it_is_and_nothing_else() {
        let tenant = example("full.yaml", |resource| resource.spec.suspended = Some(true));
        let held = |pods: Pods| -> Vec<String> {
            let updates = children(&tenant)
                .into_iter()
                .map(|object| ObjectChange::Update { object, fields: Vec::new() });
            updates.filter(|change| pods.hold(&tenant, change)).map(|change| change.to_string()).collect()
        };
        for pods in [Pods::Feeding(1), Pods::PutBack] {
            assert_eq!(held(pods), ["update Deployment hooli-chat-message"], "{pods:?}");
        }
        for pods in [Pods::Wanted, Pods::Ending(1), Pods::Gone] {
            assert!(held(pods).is_empty(), "{pods:?}");
        }
    }

    #[test]
    fn a_suspended_tenant_says_so_first_and_is_looked_at_as_its_parts_need() {
        let parts = Outcome::retry(Reason::BackendUnavailable, "KafkaReady: no answer");
        let whole = summary(&parts, false);
        assert_eq!(
            (whole.status, whole.reason, whole.urgency),
            (Status::False, Reason::Suspended, Urgency::Retry)
        );
        assert!(
            whole.message.contains("set it to false to go on (KafkaReady: no answer)"),
            "{}",
            whole.message
        );
        let whole = summary(&parts, true);
        assert!(
            whole.message.contains("set it to false to go on, or connect, which wakes it"),
            "{}",
            whole.message
        );
    }
}
