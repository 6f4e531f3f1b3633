//! Pure: whether a tenant may adopt what a former owner left in a backend.
//!
//! Invariant: what a resource that exists may still use is never adopted, and nothing passes to another resource than its own
//! successor without the consent of an administrator of the cell.

use std::collections::BTreeSet;

use crds::{DeletionPolicy, Leftover, MessengerCell};
use kube::ResourceExt;

use crate::backend::MarkedOwner;

/// A tenant that finds another owner's marker.
pub(crate) struct Claimant<'a> {
    pub uid: &'a str,
    /// `NAMESPACE/NAME` of its resource.
    pub place: &'a str,
    /// This very resource owned the object before.
    pub owned_it: bool,
}

/// Why nothing is adopted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAdopted {
    #[error("that resource exists; delete this one, or create a tenant with another tenantId")]
    Exists,
    #[error(
        "that resource was deleted with deletionPolicy Delete and not all of it could be removed yet; this goes on by itself"
    )]
    BeingRemoved,
    #[error(
        "it was this tenant's before, and the API server knows no such resource: does another cluster use the same backends? \
         If not, `{0}` lets this tenant adopt it"
    )]
    Taken(String),
    #[error(
        "that resource no longer exists and its data is kept for it: apply it again there, or let this tenant adopt its data with \
         `{0}`, or create a tenant with another tenantId"
    )]
    Stranger(String),
    #[error("whether that resource still exists could not be found out ({0}); it is tried again")]
    Unknown(String),
}

impl NotAdopted {
    /// Reports whether it may pass without anyone changing anything.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::BeingRemoved | Self::Unknown(_))
    }
}

/// Checks that a claimant may adopt what `former` left. `living` are the UIDs of all resources with its tenant id, as the API
/// server has them now.
pub(crate) fn check(
    claimant: &Claimant<'_>,
    former: &MarkedOwner,
    living: &BTreeSet<String>,
    cell: &MessengerCell,
) -> Result<(), NotAdopted> {
    if !living.contains(claimant.uid) {
        // The answer is about other resources than ours, so it proves nothing.
        return Err(NotAdopted::Unknown("the API server lists other tenants only".to_owned()));
    }
    if living.contains(&former.uid) {
        return Err(NotAdopted::Exists);
    }
    let status = cell.status.as_ref();
    let is_being_removed = |leftover: &Leftover| {
        leftover.uid == former.uid && leftover.deletion_policy == DeletionPolicy::Delete
    };
    if status.is_some_and(|status| status.leftovers.iter().any(is_being_removed)) {
        return Err(NotAdopted::BeingRemoved);
    }
    let consent = format!("{}:{}", former.uid, claimant.place);
    let given = cell.annotations().get(crds::ADOPT_ANNOTATION);
    if given.is_some_and(|given| given.split(',').any(|one| one.trim() == consent)) {
        return Ok(());
    }
    let command =
        || format!("kubectl annotate mcell {} {}={consent}", cell.name_any(), crds::ADOPT_ANNOTATION);
    if former.place.as_deref() != Some(claimant.place) {
        Err(NotAdopted::Stranger(command()))
    } else if claimant.owned_it {
        Err(NotAdopted::Taken(command()))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn former(place: Option<&str>) -> MarkedOwner {
        MarkedOwner { uid: "uid-0".to_owned(), place: place.map(str::to_owned) }
    }

    fn cell(edit: impl FnOnce(&mut MessengerCell)) -> MessengerCell {
        let mut cell = crate::rendered::testing::cell_resource();
        edit(&mut cell);
        cell
    }

    fn living(uids: &[&str]) -> BTreeSet<String> {
        uids.iter().map(|uid| (*uid).to_owned()).collect()
    }

    const HEIR: Claimant<'_> = Claimant { uid: "uid-1", place: "shop/acme", owned_it: false };

    #[test]
    fn the_same_namespace_and_name_adopt_what_a_resource_left_that_is_gone() {
        let check = |place, uids: &[&str]| check(&HEIR, &former(place), &living(uids), &cell(|_| {}));
        assert_eq!(check(Some("shop/acme"), &["uid-1", "uid-2"]), Ok(()));
        assert_eq!(check(Some("shop/acme"), &["uid-1", "uid-0"]), Err(NotAdopted::Exists));
        for place in [Some("shop/other"), Some("other/acme"), None] {
            let refused = check(place, &["uid-1"]).expect_err("another's");
            let command = "`kubectl annotate mcell local messenger.posthouse.dev/adopt=uid-0:shop/acme`";
            assert!(refused.to_string().contains(command), "{refused}");
            assert!(!refused.may_pass());
        }
    }

    #[test]
    fn an_answer_without_the_tenant_itself_proves_nothing() {
        for uids in [&[][..], &["uid-2"]] {
            let unknown = check(&HEIR, &former(Some("shop/acme")), &living(uids), &cell(|_| {}));
            assert!(unknown.expect_err("unknown").may_pass());
        }
    }

    #[test]
    fn consent_names_the_former_owner_and_the_heir() {
        for (given, expected) in [
            ("uid-0:shop/acme", true),
            ("uid-9:a/b, uid-0:shop/acme", true),
            ("uid-0:shop/other", false),
            ("uid-9:shop/acme", false),
            ("uid-0", false),
            ("", false),
        ] {
            let cell = cell(|cell| {
                cell.annotations_mut().insert(crds::ADOPT_ANNOTATION.to_owned(), given.to_owned());
            });
            for place in [Some("other/acme"), None] {
                let checked = check(&HEIR, &former(place), &living(&["uid-1"]), &cell);
                assert_eq!(checked.is_ok(), expected, "{given}");
            }
            let exists = check(&HEIR, &former(None), &living(&["uid-0", "uid-1"]), &cell);
            assert_eq!(exists, Err(NotAdopted::Exists), "{given}");
        }
    }

    #[test]
    fn what_is_being_removed_is_not_adopted_and_what_is_kept_is() {
        for (policy, expected) in
            [(DeletionPolicy::Delete, Err(NotAdopted::BeingRemoved)), (DeletionPolicy::Retain, Ok(()))]
        {
            let cell = cell(|cell| {
                cell.status.get_or_insert_default().leftovers.push(Leftover {
                    tenant_id: "acme".to_owned(),
                    namespace: "shop".to_owned(),
                    name: "acme".to_owned(),
                    uid: "uid-0".to_owned(),
                    deletion_policy: policy,
                    backends: vec!["redis".to_owned()],
                });
            });
            assert_eq!(check(&HEIR, &former(Some("shop/acme")), &living(&["uid-1"]), &cell), expected);
        }
    }

    #[test]
    fn two_clusters_with_the_same_backends_do_not_take_a_tenant_from_each_other() {
        let claimant = Claimant { owned_it: true, ..HEIR };
        let taken = check(&claimant, &former(Some("shop/acme")), &living(&["uid-1"]), &cell(|_| {}));
        assert!(
            taken.expect_err("taken").to_string().contains("does another cluster use the same backends?")
        );
    }
}
