//! Pure: which of the tenants that want one name, one host or one cell's last place gets it. The answer is the same
//! whoever asks, because it follows from the resources alone: the oldest wins.

use crds::{Host, MessengerTenant};
use k8s_openapi::jiff::Timestamp;

use crate::tenant;

/// Sorts resources by age. The API server's clock tells whole seconds: of two of the same second, one that has a place
/// goes before one that has none, so that a newcomer never displaces who is at work; then the UID decides.
fn seniority(resource: &MessengerTenant) -> (Timestamp, bool, &str) {
    let created = resource.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
    let unplaced = resource.status.as_ref().is_none_or(|status| status.cell.is_none());
    (created, unplaced, resource.metadata.uid.as_deref().unwrap_or_default())
}

/// Returns the resource that owns the tenant id of `resource`, when it is another one.
pub fn rival<'a>(resource: &MessengerTenant, all: &'a [MessengerTenant]) -> Option<&'a MessengerTenant> {
    all.iter()
        .filter(|other| other.spec.tenant_id == resource.spec.tenant_id)
        .filter(|other| other.metadata.uid != resource.metadata.uid)
        .filter(|other| seniority(other) < seniority(resource))
        .min_by_key(|other| seniority(other))
}

/// Says whether `resource` has a place on its cell. Who was placed keeps the place when the cell shrinks; the others get
/// what is left, oldest first.
pub fn is_placed(resource: &MessengerTenant, all: &[MessengerTenant], capacity: usize) -> bool {
    let cell = &resource.spec.cell_ref.name;
    let holds_place = |tenant: &MessengerTenant| {
        tenant.status.as_ref().and_then(|status| status.cell.as_ref()) == Some(cell)
    };
    if holds_place(resource) {
        return true;
    }
    let ahead = all
        .iter()
        .filter(|other| other.metadata.uid != resource.metadata.uid && &other.spec.cell_ref.name == cell)
        .filter(|other| rival(other, all).is_none())
        .filter(|other| holds_place(other) || seniority(other) < seniority(resource))
        .count();
    ahead < capacity
}

/// Returns the hosts of `resource` that an older tenant asks for too. `domain_of` answers a cell's domain.
pub fn lost_hosts(
    resource: &MessengerTenant,
    hosts: &[Host],
    all: &[MessengerTenant],
    domain_of: impl Fn(&str) -> Option<String>,
) -> Vec<(Host, String)> {
    let older = || {
        all.iter()
            .filter(|other| other.metadata.uid != resource.metadata.uid)
            .filter(|other| seniority(other) < seniority(resource))
            .filter(|other| rival(other, all).is_none())
    };
    let mut lost = Vec::new();
    for other in older() {
        let domain = domain_of(&other.spec.cell_ref.name).unwrap_or_default();
        let theirs = tenant::hosts(other, &domain).unwrap_or_default();
        let name = || {
            let metadata = &other.metadata;
            format!(
                "{}/{}",
                metadata.namespace.as_deref().unwrap_or_default(),
                metadata.name.as_deref().unwrap_or_default()
            )
        };
        lost.extend(hosts.iter().filter(|host| theirs.contains(host)).map(|host| (host.clone(), name())));
    }
    lost.sort();
    lost.dedup_by(|a, b| a.0 == b.0);
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tenant created at `second`, named and identified by `uid`.
    fn tenant(uid: &str, tenant_id: &str, second: i64, placed: bool) -> MessengerTenant {
        let mut tenant: MessengerTenant = serde_json::from_value(serde_json::json!({
            "apiVersion": "messenger.posthouse.dev/v1alpha1",
            "kind": "MessengerTenant",
            "metadata": {"name": uid, "namespace": "test", "uid": uid,
                "creationTimestamp": Timestamp::from_second(second).expect("small").to_string()},
            "spec": {"tenantId": tenant_id, "cellRef": {"name": "local"}}
        }))
        .expect("a tenant");
        if placed {
            tenant.status = Some(crds::TenantStatus { cell: Some("local".to_owned()), ..Default::default() });
        }
        tenant
    }

    #[test]
    fn of_two_resources_with_one_id_the_oldest_wins() {
        let all = [tenant("b", "acme", 10, false), tenant("a", "acme", 20, true)];
        assert!(rival(&all[0], &all).is_none());
        assert_eq!(rival(&all[1], &all).and_then(|rival| rival.metadata.uid.as_deref()), Some("b"));
    }

    #[test]
    fn in_one_second_the_smaller_uid_wins() {
        let all = [tenant("b", "acme", 10, false), tenant("a", "acme", 10, false)];
        assert!(rival(&all[1], &all).is_none());
        assert!(rival(&all[0], &all).is_some());
    }

    #[test]
    fn in_one_second_who_has_a_place_keeps_the_id() {
        let all = [tenant("b", "acme", 10, true), tenant("a", "acme", 10, false)];
        assert!(rival(&all[0], &all).is_none());
        assert!(rival(&all[1], &all).is_some());
    }

    #[test]
    fn a_full_cell_takes_nobody_and_sends_nobody_away() {
        let all =
            [tenant("a", "one", 10, true), tenant("b", "two", 20, true), tenant("c", "three", 5, false)];
        assert!(is_placed(&all[0], &all, 1) && is_placed(&all[1], &all, 1));
        assert!(!is_placed(&all[2], &all, 2));
        assert!(is_placed(&all[2], &all, 3));
    }

    #[test]
    fn a_resource_that_lost_its_id_takes_no_place() {
        let all =
            [tenant("a", "one", 10, true), tenant("b", "one", 20, false), tenant("c", "two", 30, false)];
        assert!(is_placed(&all[2], &all, 2));
    }

    #[test]
    fn the_oldest_tenant_keeps_a_host() {
        let mut thief = tenant("a", "thief", 20, false);
        thief.spec.hosts = Some(vec!["one.localhost".to_owned(), "thief.localhost".to_owned()]);
        let all = [tenant("b", "one", 10, false), thief];
        let domain = |_: &str| Some("localhost".to_owned());
        let lost = |index: usize| {
            let hosts = tenant::hosts(&all[index], "localhost").expect("hosts");
            lost_hosts(&all[index], &hosts, &all, domain)
        };
        assert_eq!(lost(1), [("one.localhost".parse().expect("host"), "test/b".to_owned())]);
        assert_eq!(lost(0), []);
    }
}
