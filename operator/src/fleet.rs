//! The relations between tenants: an index over the resources, fed by their watch. A pass queries it, and holds
//! no copy of the fleet.
//!
//! The watch feeds the index before it triggers a pass, so a pass never queries an index that is older than its resource.

use std::collections::{BTreeSet, HashMap};

use crds::{ConditionType, Host, MessengerTenant, Reason};
use k8s_openapi::jiff::Timestamp;
use kube::{Resource, core::DeserializeGuard, runtime::watcher::Event};

use crate::previous;

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
    pub is_ready: bool,
    pub standing: Standing,
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
            is_ready: previous::was_good(resource, ConditionType::Ready),
            standing: Standing::of(resource),
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
        let is = |part, reason: Reason| previous::reason_of(resource, part) == Some(reason.as_str());
        if cell == Some(&resource.spec.cell_ref.name) {
            let mut backends = catalog::Backend::ALL.iter();
            let is_contested =
                |backend: &catalog::Backend| is(ConditionType::Backend(*backend), Reason::ResourceConflict);
            if backends.any(is_contested) { Self::Contested } else { Self::Placed }
        } else if previous::reason_of(resource, ConditionType::Ready).is_none() {
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
    ready: usize,
    /// Members of a list that is being read; they replace the others when it is complete.
    listed: Vec<Member>,
}

impl Fleet {
    /// Takes in one event of the watch.
    pub fn observe(&mut self, event: &Event<DeserializeGuard<MessengerTenant>>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(guarded) => self.listed.extend(guarded.0.as_ref().ok().map(Member::of)),
            Event::InitDone => {
                *self = std::mem::take(&mut self.listed).into_iter().collect();
            }
            Event::Apply(guarded) => match &guarded.0 {
                Ok(resource) => self.insert(Member::of(resource)),
                // Nothing is known of it any more.
                Err(invalid) => self.remove(invalid.metadata.uid.as_deref().unwrap_or_default()),
            },
            Event::Delete(guarded) => self.remove(guarded.meta().uid.as_deref().unwrap_or_default()),
        }
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

    /// Returns how many tenants are Ready, and how many are not.
    pub fn ready_and_not(&self) -> (usize, usize) {
        (self.ready, self.members.len() - self.ready)
    }

    /// Returns the tenants that have a place: their ids, their cells, and whether they are Ready. The id of a placed tenant is its own.
    pub fn placed(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        let placed = self.members.values().filter(|member| member.is_placed());
        placed.map(|member| (member.tenant_id.as_str(), member.cell.as_str(), member.is_ready))
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
        self.ready += usize::from(member.is_ready);
        self.members.insert(member.uid.clone(), member);
    }

    fn remove(&mut self, uid: &str) {
        let Some(member) = self.members.remove(uid) else { return };
        self.ready -= usize::from(member.is_ready);
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
        assert_eq!(fleet.ready_and_not(), (0, 0));
    }

    #[test]
    fn a_new_list_replaces_what_was_known_only_when_it_is_complete() {
        let mut fleet: Fleet = [Member::of(&resource("a", "one", &[]))].into_iter().collect();
        fleet.observe(&Event::Init);
        fleet.observe(&Event::InitApply(guarded(resource("b", "two", &[]))));
        assert_eq!(uids(fleet.with_tenant_id("one")), ["a"]);
        assert!(uids(fleet.with_tenant_id("two")).is_empty());
        fleet.observe(&Event::InitDone);
        assert!(uids(fleet.with_tenant_id("one")).is_empty());
        assert_eq!(uids(fleet.with_tenant_id("two")), ["b"]);
    }

    #[test]
    fn ready_tenants_are_counted_once() {
        let mut ready = resource("a", "one", &[]);
        ready.status = Some(
            serde_json::from_value(serde_json::json!({"conditions": [{"type": "Ready", "status": "True",
                "reason": "AllReady", "message": "", "lastTransitionTime": "2026-11-28T00:00:00Z"}]}))
            .expect("a status"),
        );
        let mut fleet = Fleet::default();
        fleet.observe(&Event::Apply(guarded(ready.clone())));
        fleet.observe(&Event::Apply(guarded(ready)));
        fleet.observe(&Event::Apply(guarded(resource("b", "two", &[]))));
        assert_eq!(fleet.ready_and_not(), (1, 1));
    }
}
