//! The relations between tenants: an index over the resources, fed by their watch. A pass queries it, and holds
//! no copy of the fleet.
//!
//! The watch feeds the index before it triggers a pass, so a pass never queries an index that is older than its resource.

use std::collections::{BTreeSet, HashMap};

use crds::{ConditionType, Host, MessengerTenant, Reason};
use k8s_openapi::jiff::Timestamp;
use kube::{Resource, core::DeserializeGuard, runtime::watcher::Event};

use crate::{
    previous,
    wake::{self, Door},
};

/// What placement has to know of one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub uid: String,
    /// `<namespace>/<name>`.
    pub resource: String,
    pub tenant_id: String,
    /// The cell it names.
    pub cell: String,
    /// The hosts it holds: those that its status names.
    pub held_hosts: Vec<String>,
    pub created: Timestamp,
    pub readiness: Readiness,
    pub standing: Standing,
    pub door: Door,
}

/// What a tenant's last report says as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    NotReady,
    /// It has no pods because its manifest says so.
    Suspended,
}

impl Readiness {
    fn of(resource: &MessengerTenant) -> Self {
        if previous::was_good(resource, ConditionType::Ready) {
            Self::Ready
        } else if previous::was_because(resource, ConditionType::Ready, Reason::Suspended) {
            Self::Suspended
        } else {
            Self::NotReady
        }
    }
}

/// How many tenants are how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub ready: usize,
    pub not_ready: usize,
    pub suspended: usize,
}

impl Counts {
    fn of(&mut self, readiness: Readiness) -> &mut usize {
        match readiness {
            Readiness::Ready => &mut self.ready,
            Readiness::NotReady => &mut self.not_ready,
            Readiness::Suspended => &mut self.suspended,
        }
    }
}

/// What a tenant's last report says about its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It is on the cell it names.
    Placed,
    /// It is on the cell it names, and another owner has something in a backend that it needs.
    Contested,
    /// Nothing was reported yet.
    New,
    /// It waits for a slot on its cell.
    Waiting,
    /// It cannot be placed as things are.
    Refused,
}

impl Member {
    /// Reads a resource.
    pub fn of(resource: &MessengerTenant) -> Self {
        let metadata = &resource.metadata;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            uid: text(&metadata.uid),
            resource: format!("{}/{}", text(&metadata.namespace), text(&metadata.name)),
            tenant_id: resource.spec.tenant_id.clone(),
            cell: resource.spec.cell_ref.name.clone(),
            held_hosts: resource.status.as_ref().and_then(|status| status.hosts.clone()).unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0),
            readiness: Readiness::of(resource),
            standing: Standing::of(resource),
            door: wake::door(resource),
        }
    }

    /// Reports whether it has a slot on the cell it names.
    pub fn is_placed(&self) -> bool {
        matches!(self.standing, Standing::Placed | Standing::Contested)
    }
}

impl Standing {
    fn of(resource: &MessengerTenant) -> Self {
        let cell = resource.status.as_ref().and_then(|status| status.cell.as_ref());
        let is = |part, reason| previous::was_because(resource, part, reason);
        if cell == Some(&resource.spec.cell_ref.name) {
            let mut backends = catalog::Backend::ALL.iter();
            let is_contested =
                |backend: &catalog::Backend| is(ConditionType::Backend(*backend), Reason::ResourceConflict);
            if backends.any(is_contested) { Self::Contested } else { Self::Placed }
        } else if !previous::was_reported(resource, ConditionType::Ready) {
            Self::New
        } else if is(ConditionType::Placed, Reason::CapacityExhausted) {
            Self::Waiting
        } else {
            Self::Refused
        }
    }
}

type Index = HashMap<String, BTreeSet<String>>;

/// All tenants that can be read.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// By UID, which the indexes hold.
    members: HashMap<String, Member>,
    by_tenant_id: Index,
    by_cell: Index,
    by_host: Index,
    counts: Counts,
    /// Members of a list that is being read; they replace the others when it is complete.
    listed: Vec<Member>,
    /// Whether all of them were read once.
    is_complete: bool,
}

impl Fleet {
    /// Takes in one event of the watch.
    pub fn observe(&mut self, event: &Event<DeserializeGuard<MessengerTenant>>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(guarded) => self.listed.extend(guarded.0.as_ref().ok().map(Member::of)),
            Event::InitDone => {
                *self = std::mem::take(&mut self.listed).into_iter().collect();
                self.is_complete = true;
            }
            Event::Apply(guarded) => match &guarded.0 {
                Ok(resource) => self.insert(Member::of(resource)),
                // Nothing is known of it any more.
                Err(invalid) => self.remove(invalid.metadata.uid.as_deref().unwrap_or_default()),
            },
            Event::Delete(guarded) => self.remove(guarded.meta().uid.as_deref().unwrap_or_default()),
        }
    }

    /// Reports whether a tenant that is not in it does not exist.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Returns the tenants that name a tenant id.
    pub fn with_tenant_id<'a>(&'a self, id: &str) -> impl Iterator<Item = &'a Member> {
        self.at(&self.by_tenant_id, id)
    }

    /// Returns the tenants that name a cell.
    pub fn on_cell<'a>(&'a self, cell: &str) -> impl Iterator<Item = &'a Member> {
        self.at(&self.by_cell, cell)
    }

    /// Returns the tenants that hold a host.
    pub fn holding<'a>(&'a self, host: &Host) -> impl Iterator<Item = &'a Member> {
        self.at(&self.by_host, host.as_str())
    }

    /// Returns how many tenants are Ready, how many are not, and how many are suspended.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the tenants that have a place: their ids, their cells, and how they are. The id of a placed tenant is its own.
    pub fn placed(&self) -> impl Iterator<Item = (&str, &str, Readiness)> {
        let placed = self.members.values().filter(|member| member.is_placed());
        placed.map(|member| (member.tenant_id.as_str(), member.cell.as_str(), member.readiness))
    }

    fn at<'a>(&'a self, index: &'a Index, key: &str) -> impl Iterator<Item = &'a Member> {
        index.get(key).into_iter().flatten().filter_map(|uid| self.members.get(uid))
    }

    fn insert(&mut self, member: Member) {
        self.remove(&member.uid);
        let mut note = |index: fn(&mut Self) -> &mut Index, key: &str| {
            index(self).entry(key.to_owned()).or_default().insert(member.uid.clone());
        };
        note(|fleet| &mut fleet.by_tenant_id, &member.tenant_id);
        note(|fleet| &mut fleet.by_cell, &member.cell);
        for host in &member.held_hosts {
            note(|fleet| &mut fleet.by_host, host);
        }
        *self.counts.of(member.readiness) += 1;
        self.members.insert(member.uid.clone(), member);
    }

    fn remove(&mut self, uid: &str) {
        let Some(member) = self.members.remove(uid) else { return };
        *self.counts.of(member.readiness) -= 1;
        let mut forget = |index: fn(&mut Self) -> &mut Index, key: &str| {
            let index = index(self);
            if let Some(uids) = index.get_mut(key) {
                uids.remove(uid);
                if uids.is_empty() {
                    index.remove(key);
                }
            }
        };
        forget(|fleet| &mut fleet.by_tenant_id, &member.tenant_id);
        forget(|fleet| &mut fleet.by_cell, &member.cell);
        for host in &member.held_hosts {
            forget(|fleet| &mut fleet.by_host, host);
        }
    }
}

impl FromIterator<Member> for Fleet {
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> Self {
        let mut fleet = Self::default();
        for member in members {
            fleet.insert(member);
        }
        fleet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(uid: &str, tenant_id: &str, hosts: &[&str]) -> MessengerTenant {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "messenger.posthouse.dev/v1alpha1",
            "kind": "MessengerTenant",
            "metadata": {"name": uid, "namespace": "test", "uid": uid},
            "spec": {"tenantId": tenant_id, "cellRef": {"name": "local"}},
            "status": {"hosts": hosts}
        }))
        .expect("a tenant")
    }

    fn uids<'a>(members: impl Iterator<Item = &'a Member>) -> Vec<&'a str> {
        members.map(|member| member.uid.as_str()).collect()
    }

    fn guarded(resource: MessengerTenant) -> DeserializeGuard<MessengerTenant> {
        DeserializeGuard(Ok(resource))
    }

    #[test]
    fn an_edit_moves_a_tenant_in_every_index() {
        let mut fleet = Fleet::default();
        fleet.observe(&Event::Apply(guarded(resource("a", "one", &["a.example", "b.example"]))));
        fleet.observe(&Event::Apply(guarded(resource("a", "one", &["b.example", "c.example"]))));
        let holding = |host: &str| uids(fleet.holding(&host.parse().expect("a host"))).len();
        assert_eq!((holding("a.example"), holding("b.example"), holding("c.example")), (0, 1, 1));
        assert_eq!(uids(fleet.on_cell("local")), ["a"]);
    }

    #[test]
    fn a_deleted_tenant_leaves_nothing_behind() {
        let mut fleet = Fleet::default();
        fleet.observe(&Event::Apply(guarded(resource("a", "one", &["a.example"]))));
        fleet.observe(&Event::Delete(guarded(resource("a", "one", &["a.example"]))));
        assert!(fleet.members.is_empty() && fleet.by_tenant_id.is_empty());
        assert!(fleet.by_cell.is_empty() && fleet.by_host.is_empty());
        assert_eq!(fleet.counts(), Counts::default());
    }

    #[test]
    fn a_new_list_replaces_what_was_known_only_when_it_is_complete() {
        let mut fleet: Fleet = [Member::of(&resource("a", "one", &[]))].into_iter().collect();
        fleet.observe(&Event::Init);
        fleet.observe(&Event::InitApply(guarded(resource("b", "two", &[]))));
        assert_eq!(uids(fleet.with_tenant_id("one")), ["a"]);
        assert!(uids(fleet.with_tenant_id("two")).is_empty());
        assert!(!fleet.is_complete());
        fleet.observe(&Event::InitDone);
        assert!(fleet.is_complete());
        assert!(uids(fleet.with_tenant_id("one")).is_empty());
        assert_eq!(uids(fleet.with_tenant_id("two")), ["b"]);
    }

    #[test]
    fn each_tenant_is_counted_once_as_it_is_now() {
        let is = |uid: &str, status: &str, reason: &str| {
            let mut resource = resource(uid, uid, &[]);
            resource.status = Some(
                serde_json::from_value(serde_json::json!({"conditions": [{"type": "Ready", "status": status,
                    "reason": reason, "message": "", "lastTransitionTime": "2026-11-28T00:00:00Z"}]}))
                .expect("a status"),
            );
            Event::Apply(guarded(resource))
        };
        let mut fleet = Fleet::default();
        fleet.observe(&is("a", "True", "AllReady"));
        fleet.observe(&is("a", "True", "AllReady"));
        fleet.observe(&is("b", "False", "BackendUnavailable"));
        fleet.observe(&Event::Apply(guarded(resource("c", "three", &[]))));
        assert_eq!(fleet.counts(), Counts { ready: 1, not_ready: 2, suspended: 0 });
        fleet.observe(&is("a", "False", "Suspended"));
        assert_eq!(fleet.counts(), Counts { ready: 0, not_ready: 2, suspended: 1 });
    }
}
