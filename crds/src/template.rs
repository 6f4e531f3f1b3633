//! `template` and `autoscaling` of a workload: what its pods carry, where they run, what else they are given, and who decides how many there are.
//!
//! Only what cannot make a pod less isolated is a field. What a pod runs, as whom, and what it reaches on its node or in the network is the operator's alone.

use std::{borrow::Cow, collections::BTreeMap};

use catalog::EXTRA_VARIABLES;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::names::LABEL_KEY;

/// CPU that pods of an autoscaled workload use on average, in percent of what they request.
const DEFAULT_CPU_UTILIZATION: i32 = 80;

/// Domains of labels and annotations that decide what selects, isolates and starts a pod.
const RESERVED_DOMAINS: &str = "^([^/]*[.])?(posthouse[.]dev|kubernetes[.]io|k8s[.]io|cncf[.]io)/";
/// The one annotation of these domains that lets nothing in: the autoscaler of nodes may move a pod that has a folder of its own.
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";

/// Returns the CEL expression that every key of a map is a label or an annotation of Kubernetes.
fn are_keys() -> String {
    format!("self.all(key, key.matches('{LABEL_KEY}'))")
}

/// Returns the CEL expression that a variable may be added to pods.
fn is_extra_variable(variable: &str) -> String {
    format!("{variable}.matches('^({})[A-Z0-9_]+$')", EXTRA_VARIABLES.join("|"))
}

/// What pods of a workload carry, where they run, and what else they are given. May change at any time; the pods are replaced then.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateSpec {
    /// Labels of the pods beside those of the operator, which stay as they are.
    #[x_kube(validation = Rule::new(are_keys()).message("template.labels must be labels of Kubernetes"))]
    #[x_kube(validation = Rule::new(format!("!self.exists(key, key.matches('{RESERVED_DOMAINS}'))")).message("template.labels must not be of a domain of the operator or of Kubernetes: those decide what selects and isolates pods"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,

    /// Annotations of the pods, likewise.
    #[x_kube(validation = Rule::new(are_keys()).message("template.annotations must be annotations of Kubernetes"))]
    #[x_kube(validation = Rule::new(format!("!self.exists(key, key.matches('{RESERVED_DOMAINS}') && key != '{SAFE_TO_EVICT}')")).message("template.annotations must not be of a domain of the operator or of Kubernetes: those decide what selects and isolates pods"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,

    /// Labels that a node must have.
    #[x_kube(validation = Rule::new(are_keys()).message("template.nodeSelector must be labels of Kubernetes"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<Labels>,

    /// Taints of nodes that the pods bear.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerations: Option<Vec<TolerationSpec>>,

    /// Which nodes the pods are attracted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<AffinitySpec>,

    /// How the pods of the workload are spread. They take the place of what the operator sets by itself where there may be more than one pod: over nodes,
    /// as far as that can be done.
    #[x_kube(validation = Rule::new("self.all(spread, self.exists_one(other, other.topologyKey == spread.topologyKey))").message("template.topologySpreadConstraints must not repeat a topologyKey"))]
    #[schemars(length(max = 4))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology_spread_constraints: Option<Vec<SpreadSpec>>,

    /// A PriorityClass. Those of the cluster itself, `system-...`, are refused.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$') && !self.startsWith('system-')").message("template.priorityClassName must be the name of a PriorityClass, and none that begins with system-"))]
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,

    /// Secrets beside the tenant by which the kubelet pulls the images.
    #[x_kube(validation = Rule::new("self.all(secret, self.exists_one(other, other.name == secret.name))").message("template.imagePullSecrets must not repeat a name"))]
    #[schemars(length(max = 8))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_secrets: Option<Vec<PullSecret>>,

    /// Variables of the environment beside those of the operator.
    #[x_kube(validation = Rule::new("self.all(variable, self.exists_one(other, other.name == variable.name))").message("template.env must not repeat a name"))]
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<EnvSpec>>,
}

/// Defines a map of texts with a bounded number of keys.
macro_rules! map {
    ($(#[$doc:meta])* $name:ident, $most:literal, $value:tt) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(BTreeMap<String, String>);

        impl $name {
            /// Returns keys and values.
            pub fn as_map(&self) -> &BTreeMap<String, String> {
                &self.0
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "object", "maxProperties": $most, "additionalProperties": $value})
            }
        }
    };
}

map! {
    /// Labels: at most sixteen.
    Labels, 16, {"type": "string", "maxLength": 63, "pattern": "^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$"}
}
map! {
    /// Annotations: at most sixteen.
    Annotations, 16, {"type": "string", "maxLength": 4096}
}

/// A taint that pods bear.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!(has(self.operator) && self.operator == 'Exists' && has(self.value))").message("a toleration has no value where its operator is Exists"),
    validation = Rule::new("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')").message("a toleration has tolerationSeconds only with the effect NoExecute")
)]
#[serde(rename_all = "camelCase")]
pub struct TolerationSpec {
    /// Key of the taint. All taints at once, and those of nodes that run the cluster itself, are not borne.
    #[x_kube(validation = Rule::new(format!("self.matches('{LABEL_KEY}') && !self.startsWith('node-role.kubernetes.io/')")).message("tolerations.key must be the key of a taint, and none of node-role.kubernetes.io"))]
    #[schemars(length(min = 1, max = 317))]
    pub key: String,

    /// How the value is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,

    /// Value of the taint.
    #[x_kube(validation = Rule::new("self.matches('^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$')").message("tolerations.value must be the value of a taint"))]
    #[schemars(length(max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,

    /// Effect of the taint. Default: each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,

    /// How long a pod stays when a node gets the taint. Default: without a limit.
    #[x_kube(validation = Rule::new("self >= 0").message("tolerationSeconds must not be negative"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// How the value of a taint is compared: `Equal` (default) or `Exists`.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TolerationOperator {
    /// The taint has this value.
    Equal,
    /// The taint has any value.
    Exists,
}

/// What a taint does to pods that do not bear it.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaintEffect {
    /// No new pod comes to the node.
    NoSchedule,
    /// Pods come to the node where no other has room.
    PreferNoSchedule,
    /// No new pod comes to the node, and those that are there leave.
    NoExecute,
}

/// Which nodes pods are attracted to. What attracts pods to other pods, or keeps them away, is not offered: it concerns pods of others, and
/// `topologySpreadConstraints` says the same of those of the workload.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AffinitySpec {
    /// As in a pod of Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<NodeAffinitySpec>,
}

/// Which nodes pods are attracted to.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAffinitySpec {
    /// A node must be as one of these terms says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_during_scheduling_ignored_during_execution: Option<NodeTerms>,

    /// A node is better the more of these it is like.
    #[schemars(length(max = 8))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_during_scheduling_ignored_during_execution: Option<Vec<PreferredNodes>>,
}

/// Terms of which a node has to be like one.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeTerms {
    /// Each of the terms.
    #[schemars(length(min = 1, max = 8))]
    pub node_selector_terms: Vec<NodeTerm>,
}

/// Nodes that are better than others.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreferredNodes {
    /// How much better.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100").message("weight must lie between 1 and 100"))]
    pub weight: i32,
    /// Which nodes they are.
    pub preference: NodeTerm,
}

/// Requirements that a node has to meet, all of them.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeTerm {
    /// The requirements.
    #[schemars(length(min = 1, max = 8))]
    pub match_expressions: Vec<NodeRequirement>,
}

/// What a label of a node has to be like.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.operator in ['Exists', 'DoesNotExist'] ? !has(self.values) || size(self.values) == 0 : has(self.values) && (self.operator in ['Gt', 'Lt'] ? size(self.values) == 1 && self.values.all(value, value.matches('^-?[0-9]{1,9}$')) : size(self.values) > 0)").message("matchExpressions have values with In and NotIn, one number with Gt and Lt, and none with Exists and DoesNotExist"))]
#[serde(rename_all = "camelCase")]
pub struct NodeRequirement {
    /// Key of the label.
    #[x_kube(validation = Rule::new(format!("self.matches('{LABEL_KEY}')")).message("matchExpressions.key must be the key of a label"))]
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How the values are compared.
    pub operator: NodeOperator,
    /// Values of the label.
    #[schemars(length(max = 16), inner(length(max = 63)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
}

/// How the values of a label are compared.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeOperator {
    /// It has one of them.
    In,
    /// It has none of them.
    NotIn,
    /// The node has the label.
    Exists,
    /// The node has it not.
    DoesNotExist,
    /// It is a number above this one.
    Gt,
    /// It is a number below this one.
    Lt,
}

/// How the pods of a workload are spread. Pods of others do not count.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpreadSpec {
    /// Label of nodes: those of one value are one place.
    #[x_kube(validation = Rule::new(format!("self.matches('{LABEL_KEY}')")).message("topologyKey must be the key of a label"))]
    #[schemars(length(min = 1, max = 317))]
    pub topology_key: String,
    /// How many more pods one place may have than another.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 50").message("maxSkew must lie between 1 and 50"))]
    pub max_skew: i32,
    /// What is done with a pod that would break it.
    pub when_unsatisfiable: Unsatisfiable,
}

/// What is done with a pod that would break a spread.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unsatisfiable {
    /// It waits.
    DoNotSchedule,
    /// It runs where that is least broken.
    ScheduleAnyway,
}

/// A Secret by which the kubelet pulls images.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullSecret {
    /// Name of the Secret.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')").message("imagePullSecrets.name must be the name of a Secret"))]
    #[schemars(length(max = 253))]
    pub name: String,
}

/// A variable of the environment: its value, or where that is.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.value) != has(self.valueFrom)").message("env has a value or a valueFrom"))]
#[serde(rename_all = "camelCase")]
pub struct EnvSpec {
    /// Its name. The services read settings of the operator from variables of any other form, in a later release from more of them.
    #[x_kube(validation = Rule::new(is_extra_variable("self")).message(&*format!("env.name must begin with one of {}, and be upper-case letters, digits and _: others are the project's own", EXTRA_VARIABLES.join(", "))))]
    #[schemars(length(max = 64))]
    pub name: String,

    /// Its value, as it is: `$(NAME)` is not replaced.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,

    /// A key of a Secret or a ConfigMap beside the tenant, read when a pod starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvSourceSpec>,
}

/// Where the value of a variable is.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.secretKeyRef) != has(self.configMapKeyRef)").message("env.valueFrom has a secretKeyRef or a configMapKeyRef"))]
#[serde(rename_all = "camelCase")]
pub struct EnvSourceSpec {
    /// A Secret that consents: its annotation `messenger.posthouse.dev/env` has the name of this resource. While it cannot be used, pods stay as they are and
    /// `WorkloadsReady` names the next step, with reason `SecretInvalid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,

    /// A ConfigMap. Pods do not start without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
}

/// A key of an object beside the tenant.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// Name of the object.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')").message("valueFrom must name a Secret or a ConfigMap"))]
    #[schemars(length(max = 253))]
    pub name: String,
    /// Key in the object.
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9._-]+$')").message("valueFrom must name a key"))]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Has an autoscaler decide how many pods there are, by the CPU that they use.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.minReplicas) || self.minReplicas <= self.maxReplicas").message("autoscaling.minReplicas must not be above maxReplicas"))]
#[serde(rename_all = "camelCase")]
pub struct AutoscalingSpec {
    /// Fewest pods. Default 1.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 50").message("autoscaling.minReplicas must lie between 1 and 50"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<i32>,
    /// Most pods. What a cell limits is compared with them.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 50").message("autoscaling.maxReplicas must lie between 1 and 50"))]
    pub max_replicas: i32,
    /// CPU that the pods are to use on average, in percent of what they request. Default 80.
    #[x_kube(validation = Rule::new("self >= 10 && self <= 1000").message("autoscaling.cpuUtilization must lie between 10 and 1000"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_utilization: Option<i32>,
}

impl AutoscalingSpec {
    /// Returns the fewest pods.
    pub fn min_replicas(&self) -> i32 {
        self.min_replicas.unwrap_or(crate::DEFAULT_REPLICAS)
    }

    /// Returns the CPU that the pods are to use, in percent of what they request.
    pub fn cpu_utilization(&self) -> i32 {
        self.cpu_utilization.unwrap_or(DEFAULT_CPU_UTILIZATION)
    }
}

impl TemplateSpec {
    /// Returns the Secrets from which variables come, with the keys there.
    pub fn env_secrets(&self) -> impl Iterator<Item = &KeyRef> {
        let sources = self.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
        sources.filter_map(|source| source.secret_key_ref.as_ref())
    }
}
