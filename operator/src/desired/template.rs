//! What a tenant sets for the pods of a workload, in the terms of Kubernetes. What the operator sets stays as it is.

use std::collections::BTreeMap;

use crds::{
    AffinitySpec, EnvSpec, KeyRef, NodeAffinitySpec, NodeOperator, NodeRequirement, NodeTerm, PreferredNodes,
    SpreadSpec, TaintEffect, TemplateSpec, TolerationOperator, TolerationSpec, Unsatisfiable,
};
use k8s_openapi::{
    api::core::v1::{
        Affinity, ConfigMapKeySelector, EnvVar, EnvVarSource, LocalObjectReference, NodeAffinity,
        NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, PreferredSchedulingTerm,
        SecretKeySelector, Toleration, TopologySpreadConstraint,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};

use super::object::{labels, literal, present, selector};
use crate::{tenant::Tenant, workload::Workload};

/// Returns the metadata of pods; `annotations` are those of the operator.
pub(super) fn metadata(
    tenant: &Tenant,
    workload: &Workload,
    annotations: BTreeMap<String, String>,
) -> ObjectMeta {
    let template = &workload.size.template;
    let mut all_labels = template.labels.as_ref().map(|labels| labels.as_map().clone()).unwrap_or_default();
    all_labels.extend(labels(tenant, Some(workload.name)));
    let mut all_annotations =
        template.annotations.as_ref().map(|annotations| annotations.as_map().clone()).unwrap_or_default();
    all_annotations.extend(annotations);
    ObjectMeta { labels: Some(all_labels), annotations: Some(all_annotations), ..Default::default() }
}

/// Returns a pod that has what a template sets for it as a whole, and nothing else yet.
pub(super) fn pod(template: &TemplateSpec) -> PodSpec {
    let node_selector = template.node_selector.as_ref().map(|labels| labels.as_map().clone());
    PodSpec {
        node_selector: node_selector.filter(|labels| !labels.is_empty()),
        tolerations: present(template.tolerations.iter().flatten().map(toleration)),
        affinity: template.affinity.as_ref().and_then(affinity),
        priority_class_name: template.priority_class_name.clone(),
        image_pull_secrets: present(
            template
                .image_pull_secrets
                .iter()
                .flatten()
                .map(|secret| LocalObjectReference { name: secret.name.clone() }),
        ),
        ..Default::default()
    }
}

/// Returns the variables that a template adds.
pub(super) fn environment(template: &TemplateSpec) -> impl Iterator<Item = EnvVar> {
    template.env.iter().flatten().map(|EnvSpec { name, value, value_from }| EnvVar {
        name: name.clone(),
        value: value.as_deref().map(literal),
        value_from: value_from.as_ref().map(|source| EnvVarSource {
            secret_key_ref: source.secret_key_ref.clone().map(|KeyRef { name, key }| SecretKeySelector {
                name,
                key,
                optional: None,
            }),
            config_map_key_ref: source
                .config_map_key_ref
                .clone()
                .map(|KeyRef { name, key }| ConfigMapKeySelector { name, key, optional: None }),
            ..Default::default()
        }),
    })
}

/// Returns how the pods of a workload are spread: as its template says, or over nodes, where there may be more than one.
pub(super) fn spread(tenant: &Tenant, workload: &Workload) -> Option<Vec<TopologySpreadConstraint>> {
    let over_nodes = SpreadSpec {
        topology_key: "kubernetes.io/hostname".to_owned(),
        max_skew: 1,
        when_unsatisfiable: Unsatisfiable::ScheduleAnyway,
    };
    let default = || if workload.size.most() > 1 { vec![over_nodes] } else { Vec::new() };
    let wanted = workload.size.template.topology_spread_constraints.clone().unwrap_or_else(default);
    present(wanted.into_iter().map(|spread| {
        TopologySpreadConstraint {
            max_skew: spread.max_skew,
            topology_key: spread.topology_key,
            when_unsatisfiable: match spread.when_unsatisfiable {
                Unsatisfiable::DoNotSchedule => "DoNotSchedule",
                Unsatisfiable::ScheduleAnyway => "ScheduleAnyway",
            }
            .to_owned(),
            label_selector: Some(LabelSelector {
                match_labels: Some(selector(tenant, workload)),
                ..Default::default()
            }),
            ..Default::default()
        }
    }))
}

fn toleration(toleration: &TolerationSpec) -> Toleration {
    let TolerationSpec { key, operator, value, effect, toleration_seconds } = toleration;
    let operator = operator.map(|operator| match operator {
        TolerationOperator::Equal => "Equal",
        TolerationOperator::Exists => "Exists",
    });
    let effect = effect.map(|effect| match effect {
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    });
    Toleration {
        key: Some(key.clone()),
        operator: operator.map(str::to_owned),
        value: value.clone(),
        effect: effect.map(str::to_owned),
        toleration_seconds: *toleration_seconds,
    }
}

/// Returns an affinity that says something.
fn affinity(AffinitySpec { node_affinity }: &AffinitySpec) -> Option<Affinity> {
    let NodeAffinitySpec {
        required_during_scheduling_ignored_during_execution: required,
        preferred_during_scheduling_ignored_during_execution: preferred,
    } = node_affinity.as_ref()?;
    let required = required.as_ref().map(|terms| NodeSelector {
        node_selector_terms: terms.node_selector_terms.iter().map(node_term).collect(),
    });
    let preferred = present(preferred.iter().flatten().map(|PreferredNodes { weight, preference }| {
        PreferredSchedulingTerm { weight: *weight, preference: node_term(preference) }
    }));
    let says_something = required.is_some() || preferred.is_some();
    says_something.then(|| Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: required,
            preferred_during_scheduling_ignored_during_execution: preferred,
        }),
        ..Default::default()
    })
}

fn node_term(NodeTerm { match_expressions }: &NodeTerm) -> NodeSelectorTerm {
    let requirement = |NodeRequirement { key, operator, values }: &NodeRequirement| NodeSelectorRequirement {
        key: key.clone(),
        operator: match operator {
            NodeOperator::In => "In",
            NodeOperator::NotIn => "NotIn",
            NodeOperator::Exists => "Exists",
            NodeOperator::DoesNotExist => "DoesNotExist",
            NodeOperator::Gt => "Gt",
            NodeOperator::Lt => "Lt",
        }
        .to_owned(),
        values: present(values.iter().flatten().cloned()),
    };
    NodeSelectorTerm {
        match_expressions: Some(match_expressions.iter().map(requirement).collect()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{
        desired::{Kind, Object},
        rendered::testing::{children, example},
    };

    /// Returns the Deployment of a compact tenant whose pods are set like this.
    fn deployment(size: Value) -> Object {
        let tenant = example("compact.yaml", |resource| {
            resource.spec.compact = Some(serde_json::from_value(size).expect("a size"));
        });
        children(&tenant).into_iter().find(|object| object.kind == Kind::Deployment).expect("it runs")
    }

    #[test]
    fn a_template_that_says_nothing_starts_no_pod() {
        let before = deployment(json!({}));
        for size in [
            json!({"template": {}, "autoscaling": null}),
            json!({"template": {"labels": {}, "annotations": {}, "nodeSelector": {}, "tolerations": [], "affinity": {},
                "imagePullSecrets": [], "env": []}}),
            json!({"template": {"affinity": {"nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": []}}}}),
        ] {
            assert_eq!(deployment(size.clone()).manifest, before.manifest, "{size}");
        }
    }

    #[test]
    fn pods_are_as_their_template_says() {
        let zone = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]});
        let disk = json!({"matchExpressions": [{"key": "disk", "operator": "Exists"}]});
        let affinity = json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [zone]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 5, "preference": disk}],
        }});
        let toleration =
            json!({"key": "tenants", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60});
        let template = json!({
            "labels": {"team": "messaging"}, "annotations": {"example.com/owner": "ops"},
            "nodeSelector": {"pool": "messengers"}, "tolerations": [toleration], "affinity": affinity,
            "topologySpreadConstraints": [
                {"maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}],
            "priorityClassName": "tenants", "imagePullSecrets": [{"name": "registry"}],
            "env": [
                {"name": "RUST_LOG", "value": "info,$(INTERNAL_TOKEN)"},
                {"name": "X_KEY", "valueFrom": {"secretKeyRef": {"name": "agent", "key": "key"}}},
                {"name": "X_SITE", "valueFrom": {"configMapKeyRef": {"name": "site", "key": "name"}}}],
        });
        let before = deployment(json!({})).manifest["spec"].take();
        let tenant = example("compact.yaml", |resource| {
            let size = json!({"template": template});
            resource.spec.compact = Some(serde_json::from_value(size).expect("a size"));
        });
        let mut asked = tenant.clone();
        assert!(!tenant.unusable_env.is_empty(), "no Secret consents");
        assert!(!children(&tenant).iter().any(|object| object.kind == Kind::Deployment));
        asked.unusable_env.clear();
        let found = children(&asked).into_iter().find(|object| object.kind == Kind::Deployment);
        let after = found.expect("it runs").manifest["spec"].take();

        // Nothing of the operator's own is another one.
        let mut expected = before;
        let pod = &mut expected["template"];
        pod["metadata"]["labels"]["team"] = json!("messaging");
        pod["metadata"]["annotations"]["example.com/owner"] = json!("ops");
        let spread = &template["topologySpreadConstraints"][0];
        pod["spec"]["topologySpreadConstraints"] = json!([spread]);
        pod["spec"]["topologySpreadConstraints"][0]["labelSelector"] = json!({"matchLabels": {"app.kubernetes.io/instance": "wonka", "app.kubernetes.io/name": "compact"}});
        for field in ["nodeSelector", "tolerations", "affinity", "priorityClassName", "imagePullSecrets"] {
            pod["spec"][field] = template[field].clone();
        }
        let mut variables = template["env"].as_array().expect("a list").clone();
        variables[0]["value"] = json!("info,$$(INTERNAL_TOKEN)");
        for containers in ["containers", "initContainers"] {
            let env = pod["spec"][containers][0]["env"].as_array_mut().expect("a list");
            env.extend(variables.clone());
        }
        assert_eq!(after, expected);
    }

    #[test]
    fn the_labels_and_annotations_of_the_operator_stay() {
        let before = deployment(json!({}));
        let of =
            |object: &Object, field: &str| object.manifest["spec"]["template"]["metadata"][field].clone();
        let mut template = json!({});
        for field in ["labels", "annotations"] {
            // The API server refuses them; a resource that was made without its rules has them nevertheless.
            for (key, _) in of(&before, field).as_object().expect("a map") {
                template[field][key] = json!("stolen");
            }
        }
        let after = deployment(json!({"template": template}));
        assert_eq!(after.manifest, before.manifest);
    }
}
