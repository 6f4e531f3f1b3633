//! The children of all tenants as their watches show them: a pass over a steady tenant lists nothing.
//!
//! Invariant: nothing is planned on a view that is older than the operator's own writes. A watch lags behind them, so a
//! pass states what it knew last and gets a view only when the view shows all of that, at least as new, and nothing else.
//! Otherwise it lists. A view may lack another client's edit for a moment: its event starts the next pass.

use std::collections::{BTreeMap, HashMap};

use crds::TENANT_LABEL;
use kube::{ResourceExt, core::DynamicObject, runtime::watcher::Event};

use crate::{
    desired::{ChildKey, Kind},
    observe::Children,
};

/// Children and their resource versions.
pub(crate) type Versions = BTreeMap<ChildKey, u128>;

/// Returns the versions of children.
pub(crate) fn versions(children: &Children) -> Versions {
    children.iter().map(|(key, object)| (key.clone(), version(object))).collect()
}

fn version(object: &DynamicObject) -> u128 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default()
}

type ByNamespace = HashMap<String, BTreeMap<String, DynamicObject>>;

/// What the watches show.
#[derive(Default)]
pub(crate) struct Watched {
    kinds: BTreeMap<Kind, WatchedKind>,
}

#[derive(Default)]
struct WatchedKind {
    objects: ByNamespace,
    /// Objects of a list that is being read; they replace the others when it is complete.
    listed: ByNamespace,
    was_listed: bool,
}

impl Watched {
    /// Takes in one event of the watch of a kind.
    pub fn observe(&mut self, kind: Kind, event: &Event<DynamicObject>) {
        let watched = self.kinds.entry(kind).or_default();
        match event {
            Event::Init => watched.listed.clear(),
            Event::InitApply(object) => insert(&mut watched.listed, object),
            Event::InitDone => {
                watched.objects = std::mem::take(&mut watched.listed);
                watched.was_listed = true;
            }
            Event::Apply(object) => insert(&mut watched.objects, object),
            Event::Delete(object) => remove(&mut watched.objects, object),
        }
    }

    /// Returns the children of a tenant, or nothing when a kind is not watched, or when they are not what was `known` last or
    /// something newer.
    pub fn children(&self, namespace: &str, tenant_id: &str, known: &Versions) -> Option<Children> {
        let mut children = Children::new();
        for kind in Kind::LISTED {
            let watched = self.kinds.get(&kind).filter(|watched| watched.was_listed)?;
            for (name, object) in watched.objects.get(namespace).into_iter().flatten() {
                if object.labels().get(TENANT_LABEL).is_some_and(|label| label == tenant_id) {
                    children.insert((kind, name.clone()), object.clone());
                }
            }
        }
        let is_current = |(key, object)| known.get(key).is_some_and(|known| version(object) >= *known);
        (children.len() == known.len() && children.iter().all(is_current)).then_some(children)
    }
}

fn insert(objects: &mut ByNamespace, object: &DynamicObject) {
    let namespace = object.namespace().unwrap_or_default();
    objects.entry(namespace).or_default().insert(object.name_any(), object.clone());
}

fn remove(objects: &mut ByNamespace, object: &DynamicObject) {
    let namespace = object.namespace().unwrap_or_default();
    if let Some(others) = objects.get_mut(&namespace) {
        others.remove(&object.name_any());
        if others.is_empty() {
            objects.remove(&namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, version: u32) -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "acme",
            "resourceVersion": version.to_string(), "labels": {TENANT_LABEL: "acme"}}}))
        .expect("an object")
    }

    fn known(names: &[(&str, u128)]) -> Versions {
        names.iter().map(|(name, version)| ((Kind::Service, (*name).to_owned()), *version)).collect()
    }

    /// Every kind was listed; there are two Services.
    fn watched() -> Watched {
        let mut watched = Watched::default();
        for kind in Kind::LISTED {
            watched.observe(kind, &Event::Init);
            if kind == Kind::Service {
                watched.observe(kind, &Event::InitApply(object("acme-chat", 10)));
                watched.observe(kind, &Event::InitApply(object("acme-user", 11)));
            }
            watched.observe(kind, &Event::InitDone);
        }
        watched
    }

    fn sees(watched: &Watched, names: &[(&str, u128)]) -> bool {
        watched.children("acme", "acme", &known(names)).is_some()
    }

    #[test]
    fn what_is_known_or_newer_is_a_view() {
        let mut watched = watched();
        assert!(sees(&watched, &[("acme-chat", 10), ("acme-user", 11)]));
        watched.observe(Kind::Service, &Event::Apply(object("acme-chat", 12)));
        assert!(sees(&watched, &[("acme-chat", 10), ("acme-user", 11)]));
        assert!(watched.children("acme", "other", &known(&[])).is_some_and(|children| children.is_empty()));
    }

    #[test]
    fn a_view_that_lags_behind_a_write_is_none() {
        let mut watched = watched();
        assert!(!sees(&watched, &[("acme-chat", 12), ("acme-user", 11)]), "updated");
        assert!(!sees(&watched, &[("acme-chat", 10), ("acme-user", 11), ("acme-auth", 13)]), "created");
        assert!(!sees(&watched, &[("acme-chat", 10)]), "deleted");
        watched.observe(Kind::Service, &Event::Delete(object("acme-user", 14)));
        assert!(sees(&watched, &[("acme-chat", 10)]));
    }

    #[test]
    fn a_kind_that_was_never_listed_makes_no_view() {
        let mut watched = watched();
        watched.kinds.remove(&Kind::IngressRoute);
        assert!(!sees(&watched, &[("acme-chat", 10), ("acme-user", 11)]));
        watched.observe(Kind::IngressRoute, &Event::Init);
        assert!(!sees(&watched, &[("acme-chat", 10), ("acme-user", 11)]));
        watched.observe(Kind::IngressRoute, &Event::InitDone);
        assert!(sees(&watched, &[("acme-chat", 10), ("acme-user", 11)]));
    }

    #[test]
    fn a_new_list_replaces_what_was_there_when_it_is_complete() {
        let mut watched = watched();
        watched.observe(Kind::Service, &Event::Init);
        watched.observe(Kind::Service, &Event::InitApply(object("acme-chat", 20)));
        assert!(sees(&watched, &[("acme-chat", 10), ("acme-user", 11)]));
        watched.observe(Kind::Service, &Event::InitDone);
        assert!(sees(&watched, &[("acme-chat", 20)]));
    }
}
