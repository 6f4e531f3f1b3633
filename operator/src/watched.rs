//! The children of all tenants as their watches show them: a pass over a steady tenant lists nothing.
//!
//! Invariant: nothing is planned on a view that is older than the operator's own writes. A watch lags behind them, so a
//! pass states what it knew last and gets a view only when the view shows all of that, at least as new, and nothing else.
//! Otherwise it lists. A view may lack another client's edit for a moment: its event starts the next pass.
//! Of a kind that the API server does not know there is nothing to be shown, and the view says so.

use std::collections::{BTreeMap, HashMap};

use crds::TENANT_LABEL;
use kube::{ResourceExt, core::DynamicObject, runtime::watcher::Event};

use crate::{
    desired::{ChildKey, Kind},
    observe::{Children, Observed},
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
    /// The API server does not know the kind.
    is_unknown: bool,
}

impl Watched {
    /// Takes in one event of the watch of a kind, and reports whether a pass may have to do something about it. How far an autoscaler is changes several times a
    /// minute, and what follows from it is seen at its Deployment.
    pub fn observe(&mut self, kind: Kind, event: &Event<DynamicObject>) -> bool {
        let watched = self.kinds.entry(kind).or_default();
        match event {
            Event::Init => {
                watched.listed.clear();
                watched.is_unknown = false;
            }
            Event::InitApply(object) => {
                insert(&mut watched.listed, object);
            }
            Event::InitDone => {
                watched.objects = std::mem::take(&mut watched.listed);
                watched.was_listed = true;
            }
            Event::Apply(object) => {
                let before = insert(&mut watched.objects, object);
                let is_declared_alike = before.is_some_and(|before| is_declared_alike(&before, object));
                return kind != Kind::HorizontalPodAutoscaler || !is_declared_alike;
            }
            Event::Delete(object) => remove(&mut watched.objects, object),
        }
        true
    }

    /// Notes that the API server does not know a kind, and reports whether that is news.
    pub fn miss(&mut self, kind: Kind) -> bool {
        let missed = WatchedKind { is_unknown: true, ..WatchedKind::default() };
        self.kinds.insert(kind, missed).is_none_or(|before| !before.is_unknown)
    }

    /// Reports whether the API server knows a kind, or nothing before it was asked.
    pub fn knows(&self, kind: Kind) -> Option<bool> {
        let watched = self.kinds.get(&kind)?;
        (watched.was_listed || watched.is_unknown).then_some(!watched.is_unknown)
    }

    /// Returns the children of a tenant and the kinds that the API server does not know. Returns nothing when another kind is not
    /// watched, or when the children are not what was `known` last or something newer.
    pub fn view(&self, namespace: &str, tenant_id: &str, known: &Versions) -> Option<Observed> {
        let mut view = Observed::default();
        let children = &mut view.children;
        for kind in Kind::LISTED {
            if self.knows(kind) == Some(false) {
                view.unknown_kinds.push(kind);
                continue;
            }
            let watched = self.kinds.get(&kind).filter(|watched| watched.was_listed)?;
            for (name, object) in watched.objects.get(namespace).into_iter().flatten() {
                if object.labels().get(TENANT_LABEL).is_some_and(|label| label == tenant_id) {
                    children.insert((kind, name.clone()), object.clone());
                }
            }
        }
        let is_current = |(key, object)| known.get(key).is_some_and(|known| version(object) >= *known);
        (children.len() == known.len() && children.iter().all(is_current)).then_some(view)
    }
}

/// Keeps an object and returns the one in whose place it is.
fn insert(objects: &mut ByNamespace, object: &DynamicObject) -> Option<DynamicObject> {
    let namespace = object.namespace().unwrap_or_default();
    objects.entry(namespace).or_default().insert(object.name_any(), object.clone())
}

/// Reports whether two versions of an object differ in no more than their status.
fn is_declared_alike(one: &DynamicObject, other: &DynamicObject) -> bool {
    let (before, now) = (&one.metadata, &other.metadata);
    one.data["spec"] == other.data["spec"]
        && before.uid == now.uid
        && before.labels == now.labels
        && before.annotations == now.annotations
        && before.owner_references == now.owner_references
        && before.deletion_timestamp == now.deletion_timestamp
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

    #[test]
    fn how_far_an_autoscaler_is_starts_no_pass() {
        let mut watched = watched();
        let scaler = |version: u32, most: u32, current: u32| {
            let mut object = object("acme-chat", version);
            object.data = json!({"spec": {"maxReplicas": most}, "status": {"currentReplicas": current}});
            object
        };
        let autoscaler = Kind::HorizontalPodAutoscaler;
        for (kind, object, expected) in [
            (autoscaler, scaler(20, 5, 1), true),
            (autoscaler, scaler(21, 5, 2), false),
            (autoscaler, scaler(22, 6, 2), true),
            (Kind::Deployment, scaler(23, 5, 1), true),
            (Kind::Deployment, scaler(24, 5, 2), true),
        ] {
            let version = object.resource_version();
            assert_eq!(watched.observe(kind, &Event::Apply(object)), expected, "{version:?}");
        }
        let mut orphan = scaler(25, 6, 2);
        orphan.metadata.owner_references = Some(Vec::new());
        assert!(watched.observe(autoscaler, &Event::Apply(orphan)));
        assert!(watched.observe(autoscaler, &Event::Delete(scaler(26, 6, 2))));
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
        watched.view("acme", "acme", &known(names)).is_some()
    }

    #[test]
    fn what_is_known_or_newer_is_a_view() {
        let mut watched = watched();
        assert!(sees(&watched, &[("acme-chat", 10), ("acme-user", 11)]));
        watched.observe(Kind::Service, &Event::Apply(object("acme-chat", 12)));
        assert!(sees(&watched, &[("acme-chat", 10), ("acme-user", 11)]));
        assert!(watched.view("acme", "other", &known(&[])).is_some_and(|view| view.children.is_empty()));
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
    fn a_kind_that_is_not_installed_is_no_reason_to_list_until_it_is() {
        let mut watched = watched();
        let both = [("acme-chat", 10), ("acme-user", 11)];
        let unknown =
            |watched: &Watched| watched.view("acme", "acme", &known(&both)).map(|view| view.unknown_kinds);
        assert_eq!(watched.knows(Kind::PodMonitor), Some(true));
        assert!(watched.miss(Kind::PodMonitor) && !watched.miss(Kind::PodMonitor), "it is news once");
        assert_eq!(unknown(&watched), Some(vec![Kind::PodMonitor]));
        assert_eq!(watched.knows(Kind::PodMonitor), Some(false));
        // Installed, it is watched, and nothing is planned before its list is complete.
        watched.observe(Kind::PodMonitor, &Event::Init);
        assert_eq!((unknown(&watched), watched.knows(Kind::PodMonitor)), (None, None));
        watched.observe(Kind::PodMonitor, &Event::InitDone);
        assert_eq!(unknown(&watched), Some(Vec::new()));
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
