//! Pure: what is there and what should be there become an ordered, readable list of changes. The shared
//! systems have a `plan` each beside their types; this one is for Kubernetes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use kube::core::DynamicObject;

use crate::{
    desired::{APPLIED_ANNOTATION, ChildKey, Kind, Object},
    observe::{Children, is_owned_by},
};

mod compare;

use compare::differences;
#[cfg(test)]
pub(crate) use compare::testing;
pub(crate) use compare::{may_be_left, removal};

/// Fields of children that are left to others, as paths.
pub(crate) type Left = BTreeMap<ChildKey, BTreeSet<String>>;

/// One difference between the children of a tenant and what they should be.
#[derive(Clone, Debug)]
pub(crate) enum ObjectChange {
    /// It is not there.
    Create(Object),
    /// We want something else than the last time: the resource or the operator changed, or it is adopted.
    Update { object: Object, fields: Vec<String> },
    /// Another client changed what we wrote.
    Repair { object: Object, fields: Vec<String> },
    /// It is ours and not wanted any more.
    Delete { kind: Kind, name: String },
}

impl Object {
    /// Returns the fields in which an object of the server differs from this one.
    pub fn differences(&self, found: &DynamicObject) -> Vec<String> {
        let found = serde_json::to_value(found).expect("Kubernetes objects are plain data");
        differences(self.kind, &self.manifest, &found)
    }
}

impl ObjectChange {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Create(object) | Self::Update { object, .. } | Self::Repair { object, .. } => object.kind,
            Self::Delete { kind, .. } => *kind,
        }
    }
}

impl fmt::Display for ObjectChange {
    /// Names objects and fields, never values: a Secret is an object too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(object) => write!(f, "create {object:?}"),
            Self::Update { object, fields } => write!(f, "update {object:?}{}", Fields(fields)),
            Self::Repair { object, fields } => write!(f, "repair {object:?}{}", Fields(fields)),
            Self::Delete { kind, name } => write!(f, "delete {} {name}", kind.as_str()),
        }
    }
}

/// Returns what leads from `live` to `desired`, in the order to apply it: first autoscalers go that are left over, so that none changes what a Deployment
/// says from now on; then comes what a pod needs, then pods, then what else is left over. Fields that others own are no difference unless they change whom an object selects, admits or reaches, and
/// neither are fields that the server filled in, or that are `left` to others. Empty means steady.
pub(crate) fn objects(
    desired: &[Object],
    live: &Children,
    owner_uid: &str,
    left: &Left,
) -> Vec<ObjectChange> {
    let mut changes: Vec<_> = desired
        .iter()
        .filter_map(|object| match live.get(&(object.kind, object.name.clone())) {
            None => Some(ObjectChange::Create(object.clone())),
            Some(found) => object_change(object, found, owner_uid, left.get(&object.key())),
        })
        .collect();
    let wanted =
        |kind: Kind, name: &str| desired.iter().any(|object| object.kind == kind && object.name == name);
    let left_over = live
        .iter()
        .filter(|((kind, name), found)| !wanted(*kind, name) && is_owned_by(found, owner_uid))
        .map(|((kind, name), _)| ObjectChange::Delete { kind: *kind, name: name.clone() });
    let is_autoscaler = |change: &ObjectChange| change.kind() == Kind::HorizontalPodAutoscaler;
    let (autoscalers, others): (Vec<_>, Vec<_>) = left_over.partition(is_autoscaler);
    changes.splice(..0, autoscalers);
    changes.extend(others);
    changes
}

fn object_change(
    object: &Object,
    found: &DynamicObject,
    owner_uid: &str,
    left: Option<&BTreeSet<String>>,
) -> Option<ObjectChange> {
    let mut fields = object.differences(found);
    fields.retain(|field| left.is_none_or(|left| !left.contains(field)));
    let applied = found.metadata.annotations.as_ref().and_then(|all| all.get(APPLIED_ANNOTATION));
    // What lost its owner is adopted, which is no repair of an edit.
    let is_as_we_left_it =
        applied.map(String::as_str) == Some(object.digest()) && is_owned_by(found, owner_uid);
    match (is_as_we_left_it, fields.is_empty()) {
        (true, true) => None,
        (true, false) => Some(ObjectChange::Repair { object: object.clone(), fields }),
        (false, _) => Some(ObjectChange::Update { object: object.clone(), fields }),
    }
}

/// Shows at most [`SHOWN_FIELDS`] fields: an object that is wholly different needs no full list.
struct Fields<'a>(&'a [String]);

const SHOWN_FIELDS: usize = 4;

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<_> = self.0.iter().filter(|field| !field.ends_with(APPLIED_ANNOTATION)).collect();
        if fields.is_empty() {
            return Ok(());
        }
        let shown: Vec<_> = fields.iter().take(SHOWN_FIELDS).map(|field| field.as_str()).collect();
        write!(f, ": {}", shown.join(", "))?;
        match fields.len().saturating_sub(SHOWN_FIELDS) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        rendered::testing::{children, example},
        tenant::Tenant,
    };

    #[test]
    fn an_autoscaler_comes_after_its_deployment_and_goes_before_it() {
        let of = |size: Value| {
            example("compact.yaml", |resource| {
                resource.spec.compact = Some(serde_json::from_value(size).expect("a size"));
            })
        };
        let lines = |from: &Tenant, to: &Tenant| -> Vec<String> {
            let object = |object: Object| {
                (object.key(), serde_json::from_value(object.manifest).expect("an object of its kind"))
            };
            let live: Children = children(from).into_iter().map(object).collect();
            objects(&children(to), &live, &to.uid, &Left::new()).iter().map(ToString::to_string).collect()
        };
        let (fixed, scaled) = (of(json!({"replicas": 2})), of(json!({"autoscaling": {"maxReplicas": 4}})));
        let least = "metadata.annotations.messenger.posthouse.dev/least-replicas";
        assert_eq!(
            lines(&fixed, &scaled),
            [
                format!("update Deployment wonka-compact: {least}"),
                "create HorizontalPodAutoscaler wonka-compact".to_owned()
            ]
        );
        assert_eq!(
            lines(&scaled, &fixed),
            [
                "delete HorizontalPodAutoscaler wonka-compact",
                "update Deployment wonka-compact: spec.replicas"
            ]
        );
    }
}
