//! What goes wrong at a backend.

use std::{fmt, time::Duration};

use crds::Reason;

use super::marker::MarkedOwner;
use crate::{text::one_line, time_limit};

/// An error of a backend. Messages are for a status condition: they name the object and hold neither secrets nor raw
/// server output beyond one line.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BackendError {
    #[error("{} at {endpoint} cannot be reached: {detail}", .backend.title)]
    Unavailable { backend: catalog::Backend, endpoint: String, detail: String },
    #[error("{} at {endpoint} refuses the operator's credentials; check the cell's admin Secret", .backend.title)]
    CredentialsRejected { backend: catalog::Backend, endpoint: String },
    /// It responds, and the tenant's turn did not come or end in time: other tenants are served first.
    #[error("{} was not done with this tenant within {} s", .backend.title, .limit.as_secs())]
    Busy { backend: catalog::Backend, limit: Duration },
    /// It was not called, or not to the end: what is missing is missing still.
    #[error("{} was left as it is: this replica does not lead any more", .backend.title)]
    NotLeading { backend: catalog::Backend },
    #[error("{} {object} exists and {holder}", .backend.title)]
    Conflict { backend: catalog::Backend, object: String, holder: Holder },
    #[error("{} refused to {action}: {detail}", .backend.title)]
    Refused { backend: catalog::Backend, action: String, detail: String, retryable: bool },
    /// It is not recreated silently: the caller decides when to accept the loss.
    #[error("{} {object} is missing but held data; restore it or accept the loss before it is recreated", .backend.title)]
    DataLoss { backend: catalog::Backend, object: String },
}

impl BackendError {
    pub(super) fn unavailable(backend: catalog::Backend, endpoint: &str, why: impl fmt::Display) -> Self {
        Self::Unavailable { backend, endpoint: endpoint.to_owned(), detail: one_line(why) }
    }

    /// `action` is what was refused, as it stands behind "refused to".
    pub(super) fn refused(
        backend: catalog::Backend,
        action: &str,
        why: impl fmt::Display,
        retryable: bool,
    ) -> Self {
        Self::Refused { backend, action: action.to_owned(), detail: one_line(why), retryable }
    }

    /// Returns the reason used in conditions, Events and metric labels.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unavailable { .. } => Reason::BackendUnavailable,
            Self::Busy { .. } | Self::NotLeading { .. } => Reason::BackendBusy,
            Self::CredentialsRejected { .. } => Reason::CredentialsRejected,
            Self::Conflict { .. } => Reason::ResourceConflict,
            Self::Refused { .. } => Reason::BackendRefused,
            Self::DataLoss { .. } => Reason::DataLoss,
        }
    }

    /// Reports whether the same call may succeed later without anyone changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Busy { .. } | Self::NotLeading { .. } => true,
            Self::Refused { retryable, .. } => *retryable,
            Self::CredentialsRejected { .. } | Self::Conflict { .. } | Self::DataLoss { .. } => false,
        }
    }
}

/// Who has what a tenant would need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The resource that its marker names.
    Owner(MarkedOwner),
    /// An account of the backend that is no tenant's.
    Account { name: String },
    /// No resource: a deleted tenant of that namespace left its data.
    Retained { namespace: String },
    /// It carries no marker, so it was not created by this operator.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(owner) => write!(f, "belongs to {owner}"),
            Self::Account { name } => write!(f, "belongs to {name}"),
            Self::Retained { namespace } => {
                write!(f, "is kept for namespace {namespace}, where its tenant was deleted")
            }
            Self::Unknown => f.write_str("has no owner marker: not created by this operator"),
        }
    }
}

/// Gives a call to a backend until `limit`; a late one means that the backend is not available.
pub(super) async fn within<T>(
    backend: catalog::Backend,
    endpoint: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, BackendError> {
    let result = time_limit::within(limit, call).await;
    result.unwrap_or_else(|late| Err(BackendError::unavailable(backend, endpoint, late)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_backend_the_object_and_the_next_step() {
        let backend = catalog::Backend::Cql;
        let lost = BackendError::DataLoss { backend, object: "keyspace mt_acme".into() };
        assert_eq!(
            lost.to_string(),
            "CQL store keyspace mt_acme is missing but held data; restore it or accept the loss before it is recreated"
        );
        let late = BackendError::unavailable(backend, "cql:9042", "no answer within 3 s");
        assert_eq!(late.to_string(), "CQL store at cql:9042 cannot be reached: no answer within 3 s");
        assert!(late.is_retryable() && !lost.is_retryable());
    }
}
