//! Who an object of a backend belongs to.

use super::error::{BackendError, Holder};
use crate::tenant::Tenant;

/// The owner of an object: one resource, in one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// UID of the resource; the marker on what is in use.
    pub uid: String,
    /// Namespace of the resource. Its administrators are responsible for the data their resources leave behind.
    pub namespace: String,
}

/// A tenant's part of one backend, by name: what `remove` and `release` need.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The user, keyspace, realm or role of the tenant, as the backend calls it.
    pub name: String,
    pub owner: Owner,
}

/// Begins the marker of an object whose resource was deleted with `deletionPolicy: Retain`; the namespace follows. No UID
/// begins like this.
pub(super) const RELEASED: &str = "released:";

impl Owner {
    /// Returns the owner of a tenant's objects.
    pub(super) fn of(tenant: &Tenant) -> Self {
        Self { uid: tenant.uid.clone(), namespace: tenant.namespace.clone() }
    }

    /// Returns the marker of what this owner leaves behind with its data: the next resource with the same tenant id in the
    /// same namespace may re-adopt it, and no other marker is ever replaced.
    pub fn released(&self) -> String {
        format!("{RELEASED}{}", self.namespace)
    }
}

/// Who an object belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Ownership {
    /// Nothing of the tenant exists.
    #[default]
    Absent,
    /// It carries our owner marker.
    Ours,
    /// A former owner in the same namespace released it; see [`Owner::released`].
    Released,
}

impl Ownership {
    /// Reads a marker that was found beside an existing object.
    pub(super) fn of(
        backend: catalog::Backend,
        object: &str,
        marker: Option<&str>,
        owner: &Owner,
    ) -> Result<Self, BackendError> {
        let holder = match marker {
            Some(found) if found == owner.uid => return Ok(Self::Ours),
            Some(found) if found == owner.released() => return Ok(Self::Released),
            Some(found) => match found.strip_prefix(RELEASED) {
                Some(namespace) => Holder::Retained { namespace: namespace.into() },
                None => Holder::Other { owner: found.into() },
            },
            None => Holder::Unknown,
        };
        Err(BackendError::Conflict { backend, object: object.into(), holder })
    }
}

#[cfg(test)]
mod tests {
    use crds::Reason;

    use super::*;

    #[test]
    fn a_marker_decides_the_ownership() {
        let owner = Owner { uid: "uid-1".into(), namespace: "acme".into() };
        let of = |marker| Ownership::of(catalog::Backend::Kafka, "user acme", marker, &owner);
        assert_eq!(of(Some("uid-1")).unwrap(), Ownership::Ours);
        assert_eq!(of(Some("released:acme")).unwrap(), Ownership::Released);
        for (marker, expected) in [
            (Some("uid-2"), "belongs to owner uid-2"),
            (Some("released:beta"), "is kept for namespace beta, where its tenant was deleted"),
            (Some("released:"), "is kept for namespace , where its tenant was deleted"),
            (Some("released"), "belongs to owner released"),
            (None, "has no owner marker: not created by this operator"),
        ] {
            let conflict = of(marker).unwrap_err();
            assert_eq!(conflict.reason(), Reason::ResourceConflict);
            assert_eq!(conflict.to_string(), format!("Kafka user acme exists and {expected}"));
        }
    }
}
