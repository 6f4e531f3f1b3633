//! Who an object of a backend belongs to.

use super::{
    change::ChangeKind,
    error::{BackendError, Holder},
    marker::{MarkedOwner, Marker},
};
use crate::tenant::Tenant;

/// The owner of an object: one resource, in one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// UID of the resource. A resource that is created again has another one.
    pub uid: String,
    /// Namespace of the resource. Its administrators are responsible for the data their resources leave behind.
    pub namespace: String,
    /// Name of the resource.
    pub name: String,
    /// UIDs of former owners that no longer exist and whose objects this one may adopt.
    pub heir_of: Vec<String>,
}

/// A tenant's part of one backend, by name: what `ownership`, `remove` and `release` need.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The user, keyspace, realm or role of the tenant, as the backend calls it.
    pub name: String,
    pub owner: Owner,
}

impl Owner {
    /// Returns the owner of a tenant's objects.
    pub(crate) fn of(tenant: &Tenant) -> Self {
        Self {
            uid: tenant.uid.clone(),
            namespace: tenant.namespace.clone(),
            name: tenant.name.clone(),
            heir_of: tenant.heir_of.clone(),
        }
    }

    /// Returns the marker of what this owner uses.
    pub fn marker(&self) -> Marker {
        let place = format!("{}/{}", self.namespace, self.name);
        Marker::Used(MarkedOwner { uid: self.uid.clone(), place: Some(place) })
    }

    /// Returns the marker of what this owner leaves behind with its data: the next resource with the same tenant id in the
    /// same namespace re-adopts it.
    pub fn released(&self) -> Marker {
        Marker::Released { namespace: self.namespace.clone() }
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
    /// It carries another marker, which is replaced by ours.
    Inherited(Former),
}

/// Whose marker is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Former {
    /// The owner's own, in the words of a former version.
    Itself(MarkedOwner),
    /// That of a former owner in the same namespace, which released it; see [`Owner::released`].
    Released { namespace: String },
    /// That of a former owner that no longer exists; see [`Owner::heir_of`].
    Gone(MarkedOwner),
}

impl Former {
    /// Returns the marker that is replaced.
    pub(super) fn marker(&self) -> Marker {
        match self {
            Self::Itself(owner) | Self::Gone(owner) => Marker::Used(owner.clone()),
            Self::Released { namespace } => Marker::Released { namespace: namespace.clone() },
        }
    }

    /// Returns why the marker is replaced.
    pub(super) fn kind(&self) -> ChangeKind {
        match self {
            Self::Itself(_) => ChangeKind::Record,
            Self::Released { .. } | Self::Gone(_) => ChangeKind::Adopt,
        }
    }

    /// Returns the line of a plan that takes `object` over.
    pub(super) fn takeover(&self, object: &str) -> String {
        match self {
            Self::Itself(_) => format!("name the owner of {object}"),
            Self::Released { .. } => format!("take over the retained {object}"),
            Self::Gone(owner) => format!("adopt {object} of {owner}, which no longer exists"),
        }
    }
}

impl Ownership {
    /// Reads a marker that was found beside an existing object.
    pub(crate) fn of(
        backend: catalog::Backend,
        object: &str,
        marker: Option<&str>,
        owner: &Owner,
    ) -> Result<Self, BackendError> {
        let conflict = |holder| Err(BackendError::Conflict { backend, object: object.to_owned(), holder });
        let Some(text) = marker else { return conflict(Holder::Unknown) };
        match Marker::parse(text) {
            found if found == owner.marker() => Ok(Self::Ours),
            Marker::Used(found) if found.uid == owner.uid => Ok(Self::Inherited(Former::Itself(found))),
            Marker::Used(found) if owner.heir_of.contains(&found.uid) => {
                Ok(Self::Inherited(Former::Gone(found)))
            }
            Marker::Used(found) => conflict(Holder::Owner(found)),
            Marker::Released { namespace } if namespace == owner.namespace => {
                Ok(Self::Inherited(Former::Released { namespace }))
            }
            Marker::Released { namespace } => conflict(Holder::Retained { namespace }),
        }
    }

    /// Reports whether an owner uses the object, or used it when it was last seen.
    pub(super) fn is_in_use(&self) -> bool {
        !matches!(self, Self::Absent | Self::Inherited(Former::Released { .. }))
    }

    /// Reports whether another owner than this one left the object.
    pub(super) fn is_inherited(&self) -> bool {
        matches!(self, Self::Inherited(Former::Released { .. } | Former::Gone(_)))
    }

    /// Returns whose marker is replaced.
    pub(super) fn former(&self) -> Option<&Former> {
        match self {
            Self::Inherited(former) => Some(former),
            Self::Absent | Self::Ours => None,
        }
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A resource `acme` in the namespace `acme`.
    pub fn owner() -> Owner {
        Owner { uid: "uid-1".into(), namespace: "acme".into(), name: "acme".into(), heir_of: Vec::new() }
    }

    /// The ways to come by an object that carries another marker, each with what the plan says about `object`.
    pub fn inherited(object: &str) -> [(Ownership, String, ChangeKind); 3] {
        let gone = MarkedOwner { uid: "uid-0".into(), place: Some("acme/acme".into()) };
        [
            (
                Ownership::Inherited(Former::Released { namespace: "acme".into() }),
                format!("take over the retained {object}"),
                ChangeKind::Adopt,
            ),
            (
                Ownership::Inherited(Former::Gone(gone)),
                format!("adopt {object} of MessengerTenant acme/acme (UID uid-0), which no longer exists"),
                ChangeKind::Adopt,
            ),
            (
                Ownership::Inherited(Former::Itself(MarkedOwner { uid: "uid-1".into(), place: None })),
                format!("name the owner of {object}"),
                ChangeKind::Record,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use crds::Reason;

    use super::*;

    fn of(owner: &Owner, marker: Option<&str>) -> Result<Ownership, BackendError> {
        Ownership::of(catalog::Backend::Kafka, "user acme", marker, owner)
    }

    #[test]
    fn a_marker_decides_the_ownership() {
        let owner = testing::owner();
        assert_eq!(of(&owner, Some("uid-1:acme/acme")).unwrap(), Ownership::Ours);
        let released = Former::Released { namespace: "acme".into() };
        assert_eq!(of(&owner, Some("released:acme")).unwrap(), Ownership::Inherited(released));
        for marker in ["uid-1", "uid-1:acme/other"] {
            let Marker::Used(itself) = Marker::parse(marker) else { panic!("{marker} is released") };
            assert_eq!(of(&owner, Some(marker)).unwrap(), Ownership::Inherited(Former::Itself(itself)));
        }
        for (marker, expected) in [
            (Some("uid-2"), "belongs to the MessengerTenant with UID uid-2"),
            (Some("uid-2:acme/acme"), "belongs to MessengerTenant acme/acme (UID uid-2)"),
            (Some("released:beta"), "is kept for namespace beta, where its tenant was deleted"),
            (Some("released:"), "is kept for namespace , where its tenant was deleted"),
            (Some("released"), "belongs to the MessengerTenant with UID released"),
            (None, "has no owner marker: not created by this operator"),
        ] {
            let conflict = of(&owner, marker).unwrap_err();
            assert_eq!(conflict.reason(), Reason::ResourceConflict);
            assert_eq!(conflict.to_string(), format!("Kafka user acme exists and {expected}"));
        }
    }

    #[test]
    fn a_former_owner_is_adopted_by_its_heir_only() {
        let heir = Owner { heir_of: vec!["uid-0".into()], ..testing::owner() };
        for (marker, place) in [("uid-0", None), ("uid-0:beta/shop", Some("beta/shop".to_owned()))] {
            let gone = Former::Gone(MarkedOwner { uid: "uid-0".into(), place });
            assert_eq!(of(&heir, Some(marker)).unwrap(), Ownership::Inherited(gone.clone()));
            assert_eq!(gone.marker().to_string(), marker);
        }
        of(&heir, Some("uid-2:acme/acme")).unwrap_err();
        of(&testing::owner(), Some("uid-0:acme/acme")).unwrap_err();
    }
}
