//! Pure: which of the tenants that want one name, one host or one cell's last slot gets it. The result is the same for
//! every pass, because it follows from the resources alone: the oldest wins.

use std::collections::BTreeMap;

use crds::Host;
use k8s_openapi::jiff::Timestamp;

use crate::fleet::{Fleet, Member};

/// Sorts tenants by age. The API server's clock has whole seconds. Same-second ties are broken in favour of the placed
/// tenant, so that a new tenant never evicts a running one; then the UID decides.
fn seniority(member: &Member) -> (Timestamp, bool, &str) {
    (member.created, member.placed_on.is_none(), &member.uid)
}

fn is_older(other: &Member, member: &Member) -> bool {
    other.uid != member.uid && seniority(other) < seniority(member)
}

/// Returns the tenant that owns the tenant id of `member`, when it is another one.
pub(crate) fn rival<'a>(member: &Member, fleet: &'a Fleet) -> Option<&'a Member> {
    fleet
        .with_tenant_id(&member.tenant_id)
        .filter(|other| is_older(other, member))
        .min_by_key(|other| seniority(other))
}

/// Reports whether `member` has a slot on its cell. A placed tenant keeps its slot when capacity shrinks; the others get
/// what is left, oldest first.
pub(crate) fn is_placed(member: &Member, fleet: &Fleet, capacity: usize) -> bool {
    if member.is_placed() {
        return true;
    }
    let ahead = fleet
        .on_cell(&member.cell)
        .filter(|other| other.uid != member.uid && rival(other, fleet).is_none())
        .filter(|other| other.is_placed() || seniority(other) < seniority(member))
        .count();
    ahead < capacity
}

/// Returns how many tenants are placed on a cell.
pub(crate) fn placed_on(cell: &str, fleet: &Fleet) -> usize {
    fleet.on_cell(cell).filter(|member| member.is_placed()).count()
}

/// Returns the hosts of `member` that an older tenant requests too, each with that tenant. `domain_of` returns a cell's
/// domain.
pub(crate) fn lost_hosts(
    member: &Member,
    hosts: &[Host],
    fleet: &Fleet,
    domain_of: impl Fn(&str) -> Option<String>,
) -> BTreeMap<Host, String> {
    let owner = |host: &Host| {
        fleet
            .asking_for(host, &domain_of)
            .filter(|other| is_older(other, member) && rival(other, fleet).is_none())
            .map(|other| other.resource.clone())
            .min()
    };
    hosts.iter().filter_map(|host| Some((host.clone(), owner(host)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tenant created at `second`, named and identified by `uid`.
    fn tenant(uid: &str, tenant_id: &str, second: i64, placed: bool) -> Member {
        Member {
            uid: uid.to_owned(),
            resource: format!("test/{uid}"),
            tenant_id: tenant_id.to_owned(),
            cell: "local".to_owned(),
            placed_on: placed.then(|| "local".to_owned()),
            hosts: None,
            created: Timestamp::from_second(second).expect("small"),
            is_ready: false,
        }
    }

    fn fleet(all: &[Member]) -> Fleet {
        all.iter().cloned().collect()
    }

    #[test]
    fn of_two_resources_with_one_id_the_oldest_wins() {
        let all = [tenant("b", "acme", 10, false), tenant("a", "acme", 20, true)];
        let fleet = fleet(&all);
        assert!(rival(&all[0], &fleet).is_none());
        assert_eq!(rival(&all[1], &fleet).map(|rival| rival.uid.as_str()), Some("b"));
    }

    #[test]
    fn in_one_second_the_smaller_uid_wins() {
        let all = [tenant("b", "acme", 10, false), tenant("a", "acme", 10, false)];
        let fleet = fleet(&all);
        assert!(rival(&all[1], &fleet).is_none());
        assert!(rival(&all[0], &fleet).is_some());
    }

    #[test]
    fn in_one_second_the_placed_tenant_keeps_the_id() {
        let all = [tenant("b", "acme", 10, true), tenant("a", "acme", 10, false)];
        let fleet = fleet(&all);
        assert!(rival(&all[0], &fleet).is_none());
        assert!(rival(&all[1], &fleet).is_some());
    }

    #[test]
    fn a_full_cell_takes_no_tenant_and_evicts_none() {
        let all =
            [tenant("a", "one", 10, true), tenant("b", "two", 20, true), tenant("c", "three", 5, false)];
        let fleet = fleet(&all);
        assert!(is_placed(&all[0], &fleet, 1) && is_placed(&all[1], &fleet, 1));
        assert!(!is_placed(&all[2], &fleet, 2));
        assert!(is_placed(&all[2], &fleet, 3));
        assert_eq!(placed_on("local", &fleet), 2);
    }

    #[test]
    fn a_resource_that_lost_its_id_takes_no_slot() {
        let all =
            [tenant("a", "one", 10, true), tenant("b", "one", 20, false), tenant("c", "two", 30, false)];
        assert!(is_placed(&all[2], &fleet(&all), 2));
    }

    #[test]
    fn the_oldest_tenant_keeps_a_host() {
        let hosts = ["one.localhost", "thief.localhost"].map(str::to_owned);
        let thief = Member { hosts: Some(hosts.to_vec()), ..tenant("a", "thief", 20, false) };
        let all = [tenant("b", "one", 10, false), thief];
        let fleet = fleet(&all);
        let lost = |member: &Member, hosts: &[&str]| {
            let hosts: Vec<_> = hosts.iter().map(|host| host.parse().expect("a host")).collect();
            let lost = lost_hosts(member, &hosts, &fleet, |_| Some("localhost".to_owned()));
            lost.into_iter().map(|(host, owner)| (host.to_string(), owner)).collect::<Vec<_>>()
        };
        assert_eq!(
            lost(&all[1], &["one.localhost", "thief.localhost"]),
            [("one.localhost".to_owned(), "test/b".to_owned())]
        );
        assert_eq!(lost(&all[0], &["one.localhost"]), []);
    }
}
