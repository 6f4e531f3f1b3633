//! The closed vocabulary of status: which conditions exist, and which reasons they may give.

use std::fmt;

use catalog::Backend;

/// One aspect of a tenant. Each has its own condition, so that one dead backend never hides the state of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// A cell exists and has room.
    Placed,
    /// The tenant's part of one backend.
    Backend(Backend),
    /// Every enabled service runs at the wanted version.
    WorkloadsReady,
    /// Every enabled service responded at the tenant's address.
    RoutesReady,
    /// Of a cell: the API server refuses Services with external IPs, with which any namespace takes the traffic to any address.
    ExternalIPsRefused,
    /// Of a cell: its tenants have the PodMonitors that it asks for.
    PodsScraped,
    /// Of a cell: its Prometheus says how well its tenants meet their objectives.
    ObjectivesKnown,
    /// The summary: true when all others are.
    Ready,
}

impl ConditionType {
    /// Returns the parts in display order; [`Self::Ready`] is made from these.
    pub fn parts() -> impl Iterator<Item = Self> {
        let backends = Backend::ALL.iter().map(|backend| Self::Backend(*backend));
        [Self::Placed].into_iter().chain(backends).chain([Self::WorkloadsReady, Self::RoutesReady])
    }

    /// Returns every condition of tenants and cells, in display order.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::parts().chain([Self::ExternalIPsRefused, Self::PodsScraped, Self::ObjectivesKnown, Self::Ready])
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "Placed",
            Self::Backend(backend) => backend.condition,
            Self::WorkloadsReady => "WorkloadsReady",
            Self::RoutesReady => "RoutesReady",
            Self::ExternalIPsRefused => "ExternalIPsRefused",
            Self::PodsScraped => "PodsScraped",
            Self::ObjectivesKnown => "ObjectivesKnown",
            Self::Ready => "Ready",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    True,
    False,
}

impl Status {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why a condition is what it is. Stable: alerts, Events and metric labels use the same words.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$name),+];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

reasons! {
    /// Ready: every part holds.
    AllReady,
    /// Placed: the cell has room and the tenant counts against it.
    Assigned,
    /// A backend: what was declared is there, and nothing else was found.
    InSync,
    /// WorkloadsReady: every Deployment has its replicas at the wanted version.
    Available,
    /// RoutesReady: every service responded through Traefik with this tenant's id.
    Reachable,
    /// ExternalIPsRefused: as it should be.
    Refused,
    /// ExternalIPsRefused: any namespace may redirect any address.
    Accepted,
    /// PodsScraped: each tenant has a PodMonitor.
    MonitorsMade,
    /// PodsScraped: the API server does not know the kind that would be made.
    KindUnknown,
    /// ObjectivesKnown: Prometheus answered.
    Answered,
    /// ObjectivesKnown: Prometheus answers, and does not have the rules that record objectives.
    RulesMissing,
    /// The part is being created for the first time.
    Creating,
    /// Ready: a part waits for another one. WorkloadsReady: a service waits for its backend.
    DependencyNotReady,
    /// WorkloadsReady: pods are being started or replaced, or are ending.
    RolloutInProgress,
    /// Placed: no MessengerCell has the name in `spec.cellRef`.
    CellNotFound,
    /// Placed: the cell does not take tenants of this namespace.
    NamespaceNotAllowed,
    /// A cell that is being deleted: tenants live on it, so it stays.
    InUse,
    /// Placed: the cell holds as many tenants as it may.
    CapacityExhausted,
    /// A backend: the cell does not have it, and a service that the tenant enables needs it.
    BackendMissing,
    /// The cell's admin Secret, or a key in it, does not exist.
    AdminSecretMissing,
    /// The backend does not respond.
    BackendUnavailable,
    /// The backend responds and is not done with this tenant yet: it changes others first.
    BackendBusy,
    /// The backend refuses the operator's own credentials.
    CredentialsRejected,
    /// The backend refused the request.
    BackendRefused,
    /// Something of that name has another owner; it is left alone.
    ResourceConflict,
    /// A Secret of the tenant, or one that its manifest names, holds nothing usable; neither the backend nor the pods are changed.
    SecretInvalid,
    /// IdentityReady: the Secret of an external identity provider, or a key in it, cannot be used; the provider is left as it is.
    ProviderSecretInvalid,
    /// IdentityReady: the cell does not let this tenant use an external identity provider; the realm does not have it.
    ProviderNotAllowed,
    /// A change cannot be made without losing data; it is not made.
    ChangeBlocked,
    /// SchemasReady: the latest schema of a subject is another one than services write by.
    SchemaMismatch,
    /// Something that held data is gone and is not recreated silently.
    DataLoss,
    /// RoutesReady: another tenant holds this host.
    HostConflict,
    /// RoutesReady: the cell does not let this tenant have this host.
    HostNotAllowed,
    /// RoutesReady: a service did not respond as it should.
    ProbeFailed,
    /// WorkloadsReady: the API server refuses new pods: a quota, a limit range or an admission policy.
    PodsRefused,
    /// WorkloadsReady: a container cannot be started as it is configured: a key of a Secret is missing, for example.
    ContainerNotStarted,
    /// WorkloadsReady: a rollout has made no progress for longer than Kubernetes waits.
    RolloutStalled,
    /// WorkloadsReady: a container exits again and again.
    CrashLooping,
    /// WorkloadsReady: an image cannot be pulled.
    ImagePullFailed,
    /// WorkloadsReady: a pod fits on no node.
    Unschedulable,
    /// Ready, WorkloadsReady, RoutesReady: the Kubernetes API refused or did not respond.
    ApiRefused,
    /// Ready: the operator itself failed at this resource.
    InternalError,
    /// The resource declares something that is not possible; the message names the field.
    InvalidSpec,
    /// Ready: the resource requests more than its cell allows; the message names the field and the limit.
    LimitExceeded,
    /// `spec.paused`: the operator observes and reports, and writes nothing.
    Paused,
    /// Ready, WorkloadsReady, RoutesReady: `spec.suspended`: no pod runs, and everything else is kept.
    Suspended,
    /// The resource is being deleted.
    Terminating,
    /// Event and log only: something was found changed by hand and put back.
    DriftRepaired,
    /// Event and log only: what a former owner left in a backend was taken over with its data.
    Adopted,
    /// Event only: others set a field again and again; it is left to them for now.
    FieldContested,
    /// Event only: a request woke a suspended tenant.
    Woken,
    /// Event only: the annotation that accepts a loss accepts none that there is.
    ConsentUnused,
    /// Event and log only: clean-up ran out of time and left something behind.
    LeftBehind,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_has_a_condition_and_no_two_share_a_name() {
        let names: Vec<_> = ConditionType::all().map(ConditionType::as_str).collect();
        let unique: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len(), "{names:?}");
        for backend in Backend::ALL {
            assert!(names.contains(&backend.condition) && backend.condition.ends_with("Ready"), "{backend}");
        }
    }

    #[test]
    fn every_reason_is_a_legal_condition_reason() {
        for reason in Reason::ALL {
            let text = reason.as_str();
            assert!(text.len() <= 64 && text.starts_with(|c: char| c.is_ascii_uppercase()), "{text}");
            assert!(text.chars().all(|c| c.is_ascii_alphanumeric()), "{text}");
        }
    }
}
