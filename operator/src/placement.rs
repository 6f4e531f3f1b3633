//! Pure: which of the tenants that want one name, one host or one cell's last slot gets it. The result is the same for
//! every pass, because it follows from the resources alone: who has it keeps it, and of those that have nothing the oldest gets it.
//! A tenant that cannot be placed blocks no other.

use std::collections::BTreeMap;

use crds::Host;
use k8s_openapi::jiff::Timestamp;

use crate::{
    domains::NotAllowed,
    fleet::{Fleet, Member, Standing},
};

/// Sorts tenants by what they have and then by age: a new tenant never evicts a running one. The API server's clock has whole
/// seconds, so that the UID breaks ties.
fn seniority(member: &Member) -> (bool, bool, Timestamp, &str) {
    let is_contested = member.standing == Standing::Contested;
    (!member.is_placed(), is_contested, member.created, &member.uid)
}

fn is_senior(other: &Member, member: &Member) -> bool {
    other.uid != member.uid && seniority(other) < seniority(member)
}

/// Returns the tenant that owns the tenant id of `member`, when it is another one.
pub(crate) fn rival<'a>(member: &Member, fleet: &'a Fleet) -> Option<&'a Member> {
    fleet
        .with_tenant_id(&member.tenant_id)
        .filter(|other| other.is_placed() || other.standing == Standing::New)
        .filter(|other| is_senior(other, member))
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
        .filter(|other| rival(other, fleet).is_none())
        .filter(|other| other.standing != Standing::Refused && is_senior(other, member))
        .count();
    ahead < capacity
}

/// Returns how many tenants are placed on a cell.
pub(crate) fn placed_on(cell: &str, fleet: &Fleet) -> usize {
    fleet.on_cell(cell).filter(|member| member.is_placed()).count()
}

/// Which of the hosts that a tenant requests it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// Those it gets, in the order it requests them.
    pub routed: Vec<Host>,
    /// The others, each with the reason.
    pub refused: BTreeMap<Host, HostRefusal>,
}

/// Why a tenant does not get a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRefusal {
    /// Another tenant holds it.
    Held {
        by: String,
    },
    NotAllowed(NotAllowed),
}

/// Decides on the hosts that `member` requests. A host stays with the tenant that holds it. Of two that came to hold it in one
/// moment the oldest keeps it. A tenant that holds none, or has no slot, blocks no other.
pub(crate) fn hosts(
    member: &Member,
    requested: Vec<Host>,
    fleet: &Fleet,
    allowed: impl Fn(&Host) -> Result<(), NotAllowed>,
) -> Hosts {
    let holder = |host: &Host| {
        let holds_it_too = member.held_hosts.iter().any(|held| held == host.as_str());
        fleet
            .holding(host)
            .filter(|other| other.uid != member.uid && other.is_placed() && rival(other, fleet).is_none())
            .filter(|other| !holds_it_too || is_senior(other, member))
            .min_by_key(|other| seniority(other))
    };
    let mut hosts = Hosts::default();
    for host in requested {
        let refusal = match (allowed(&host), holder(&host)) {
            (Err(why), _) => HostRefusal::NotAllowed(why),
            (Ok(()), Some(holder)) => HostRefusal::Held { by: holder.resource.clone() },
            (Ok(()), None) => {
                hosts.routed.push(host);
                continue;
            }
        };
        hosts.refused.insert(host, refusal);
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fleet::Readiness, wake::Door};

    /// A tenant created at `second`, named and identified by `uid`.
    fn tenant(uid: &str, tenant_id: &str, second: i64, placed: bool) -> Member {
        Member {
            uid: uid.to_owned(),
            resource: format!("test/{uid}"),
            tenant_id: tenant_id.to_owned(),
            cell: "local".to_owned(),
            standing: if placed { Standing::Placed } else { Standing::New },
            held_hosts: Vec::new(),
            created: Timestamp::from_second(second).expect("small"),
            readiness: Readiness::NotReady,
            door: Door::Opening,
        }
    }

    fn fleet(all: &[Member]) -> Fleet {
        all.iter().cloned().collect()
    }

    fn standing(standing: Standing, member: Member) -> Member {
        Member { standing, ..member }
    }

    /// Fails unless the first of two tenants with one id gets it.
    fn first_gets_the_id(all: &[Member; 2]) {
        let fleet = fleet(all);
        assert_eq!(rival(&all[0], &fleet), None);
        assert_eq!(rival(&all[1], &fleet), Some(&all[0]));
    }

    #[test]
    fn of_two_new_resources_with_one_id_the_oldest_wins() {
        first_gets_the_id(&[tenant("b", "acme", 10, false), tenant("a", "acme", 20, false)]);
    }

    #[test]
    fn a_placed_tenant_keeps_its_id_however_old_another_one_is() {
        first_gets_the_id(&[tenant("b", "acme", 20, true), tenant("a", "acme", 10, false)]);
        first_gets_the_id(&[tenant("b", "acme", 10, true), tenant("a", "acme", 20, true)]);
        let contested = standing(Standing::Contested, tenant("a", "acme", 10, true));
        first_gets_the_id(&[tenant("b", "acme", 20, true), contested]);
    }

    #[test]
    fn a_tenant_that_cannot_be_placed_keeps_no_id_from_another_one() {
        for reported in [Standing::Waiting, Standing::Refused] {
            let older = standing(reported, tenant("a", "acme", 10, false));
            let younger = tenant("b", "acme", 20, false);
            assert_eq!(rival(&younger, &fleet(&[older, younger.clone()])), None, "{reported:?}");
        }
    }

    #[test]
    fn a_slot_is_for_those_that_wait_for_it() {
        let older = |reported| standing(reported, tenant("a", "one", 10, false));
        for (reported, expected) in
            [(Standing::New, false), (Standing::Waiting, false), (Standing::Refused, true)]
        {
            let younger = tenant("b", "two", 20, false);
            let fleet = fleet(&[older(reported), younger.clone()]);
            assert_eq!(is_placed(&younger, &fleet, 1), expected, "{reported:?}");
        }
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

    fn holding(hosts: &[&str], member: Member) -> Member {
        Member { held_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), ..member }
    }

    /// Returns the hosts that a tenant gets, and who holds the others.
    fn got(member: &Member, fleet: &Fleet, requested: &[&str]) -> (Vec<String>, Vec<String>) {
        let requested = requested.iter().map(|host| host.parse().expect("a host")).collect();
        let hosts = hosts(member, requested, fleet, |_| Ok(()));
        let holder = |refusal: &HostRefusal| match refusal {
            HostRefusal::Held { by } => by.clone(),
            HostRefusal::NotAllowed(why) => panic!("{why}"),
        };
        (hosts.routed.iter().map(ToString::to_string).collect(), hosts.refused.values().map(holder).collect())
    }

    #[test]
    fn a_host_stays_with_its_holder_however_old_another_tenant_is() {
        let young = holding(&["chat.example"], tenant("young", "young", 20, true));
        let old = tenant("old", "old", 10, true);
        let fleet = fleet(&[young.clone(), old.clone()]);
        let requested = ["chat.example", "old.localhost"];
        assert_eq!(
            got(&old, &fleet, &requested),
            (vec!["old.localhost".to_owned()], vec!["test/young".to_owned()])
        );
        assert_eq!(got(&young, &fleet, &["chat.example"]), (vec!["chat.example".to_owned()], vec![]));
    }

    #[test]
    fn of_two_holders_the_oldest_keeps_a_host() {
        let all = [("a", 20), ("b", 10)]
            .map(|(uid, second)| holding(&["chat.example"], tenant(uid, uid, second, true)));
        let fleet = fleet(&all);
        assert_eq!(got(&all[0], &fleet, &["chat.example"]), (vec![], vec!["test/b".to_owned()]));
        assert_eq!(got(&all[1], &fleet, &["chat.example"]), (vec!["chat.example".to_owned()], vec![]));
    }

    #[test]
    fn a_tenant_without_a_slot_or_its_id_blocks_no_host() {
        let placed = tenant("a", "one", 10, true);
        let unplaced = holding(&["chat.example"], tenant("b", "two", 5, false));
        let twin = holding(&["chat.example"], tenant("c", "one", 20, true));
        let fleet = fleet(&[placed.clone(), unplaced, twin]);
        assert_eq!(got(&placed, &fleet, &["chat.example"]), (vec!["chat.example".to_owned()], vec![]));
    }

    #[test]
    fn a_host_that_is_not_allowed_is_refused_whether_it_is_held_or_not() {
        let member = holding(&["chat.example"], tenant("a", "one", 10, true));
        let requested = vec!["chat.example".parse().expect("a host")];
        let hosts = hosts(&member, requested, &fleet(std::slice::from_ref(&member)), |_| {
            Err(NotAllowed::Installation)
        });
        assert!(hosts.routed.is_empty());
        let refusals: Vec<_> = hosts.refused.into_values().collect();
        assert_eq!(refusals, [HostRefusal::NotAllowed(NotAllowed::Installation)]);
    }
}
