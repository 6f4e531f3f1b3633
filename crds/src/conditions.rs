//! The closed vocabulary of status: which conditions exist, and which reasons they may give.

use std::fmt;

/// One aspect of a tenant. Each has its own condition, so that one dead backend never hides the state of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// A cell exists and has room.
    Placed,
    /// Topics, user, ACLs and quotas in Kafka.
    KafkaReady,
    /// Keyspace, role and grants in the CQL store.
    StoreReady,
    /// Database and role in PostgreSQL.
    DatabaseReady,
    /// Realm and clients in Keycloak.
    IdentityReady,
    /// ACL user in Redis.
    CacheReady,
    /// The five services run at the wanted version.
    WorkloadsReady,
    /// Every service answered at the tenant's address.
    RoutesReady,
    /// The summary: true when all others are.
    Ready,
}

impl ConditionType {
    /// The parts in the order people read them; [`Self::Ready`] is made from these.
    pub const PARTS: [Self; 8] = [
        Self::Placed,
        Self::KafkaReady,
        Self::StoreReady,
        Self::DatabaseReady,
        Self::IdentityReady,
        Self::CacheReady,
        Self::WorkloadsReady,
        Self::RoutesReady,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "Placed",
            Self::KafkaReady => "KafkaReady",
            Self::StoreReady => "StoreReady",
            Self::DatabaseReady => "DatabaseReady",
            Self::IdentityReady => "IdentityReady",
            Self::CacheReady => "CacheReady",
            Self::WorkloadsReady => "WorkloadsReady",
            Self::RoutesReady => "RoutesReady",
            Self::Ready => "Ready",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a condition holds. `Unknown` means that nobody could look yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    True,
    False,
    Unknown,
}

impl Status {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
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
    /// A backend part: what was declared is there, and nothing else was found.
    InSync,
    /// WorkloadsReady: every Deployment has its replicas at the wanted version.
    Available,
    /// RoutesReady: every service answered through the front door with this tenant's name.
    Reachable,
    /// The part is being made for the first time.
    Creating,
    /// Ready: a part waits for another one. WorkloadsReady: a service waits for its backend.
    DependencyNotReady,
    /// WorkloadsReady: pods are being started or replaced.
    RolloutInProgress,
    /// The operator has not looked at this part yet.
    NotYetObserved,
    /// Placed: no MessengerCell has the name in `spec.cellRef`.
    CellNotFound,
    /// Placed: the cell holds as many tenants as it may.
    CapacityExhausted,
    /// The cell's admin Secret, or a key in it, does not exist.
    AdminSecretMissing,
    /// The backend does not answer.
    BackendUnavailable,
    /// The backend refuses the operator's own credentials.
    CredentialsRejected,
    /// The backend understood and said no.
    BackendRefused,
    /// Something of that name belongs to someone else; it is left alone.
    ResourceConflict,
    /// A change cannot be made without losing data; it is not made.
    ChangeBlocked,
    /// Something that held data is gone and is not made anew silently.
    DataLoss,
    /// RoutesReady: another tenant had this host first.
    HostConflict,
    /// RoutesReady: a service did not answer as it should.
    ProbeFailed,
    /// WorkloadsReady: a container exits again and again.
    CrashLooping,
    /// WorkloadsReady: an image cannot be had.
    ImagePullFailed,
    /// WorkloadsReady: no node takes a pod.
    Unschedulable,
    /// WorkloadsReady, RoutesReady: the Kubernetes API refused or did not answer.
    ApiRefused,
    /// The resource says something that cannot be done; the message names the field.
    InvalidSpec,
    /// `spec.paused`: the operator looks and reports, and writes nothing.
    Paused,
    /// The resource is being deleted.
    Terminating,
    /// Event and log only: something was found changed by hand and put back.
    DriftRepaired,
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
    fn every_reason_is_a_legal_condition_reason() {
        for reason in Reason::ALL {
            let text = reason.as_str();
            assert!(text.len() <= 64 && text.starts_with(|c: char| c.is_ascii_uppercase()), "{text}");
            assert!(text.chars().all(|c| c.is_ascii_alphanumeric()), "{text}");
        }
    }
}
