//! `spec.services` and `spec.compact`: what runs for a tenant, and how large.

use std::{borrow::Cow, collections::BTreeMap};

use catalog::{Backend, Service, ServiceEntry};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;

use crate::{AutoscalingSpec, TemplateSpec};

/// Pods of a workload that names no number.
pub const DEFAULT_REPLICAS: i32 = 1;

/// How the services of a tenant are spread over pods. `Distributed` (default): every service has pods of its own and is
/// sized in `services`. `Compact`: all services run in one process, sized in `compact`, for a small tenant. May change at
/// any time: the new pods take over before the old ones end.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Topology {
    /// Pods of its own for every service.
    #[default]
    Distributed,
    /// All services in one process.
    Compact,
}

/// What a tenant sets for its services. One that is not mentioned has every default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServicesSpec(BTreeMap<Service, ServiceSpec>);

/// What a tenant sets for one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Only an optional service has it; see [`ServicesSpec::is_enabled`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Only a service that may use another one has it; see [`ServicesSpec::chosen`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<SearchEngine>,
    #[serde(flatten)]
    pub size: SizeSpec,
}

/// Where the index of messages is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SearchEngine {
    /// In each pod of the search service, up to about seven million messages.
    #[default]
    Embedded,
    /// On the cell's OpenSearch, for all pods.
    OpenSearch,
}

/// Pods: how many, what each may use, and what else is set for them.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SizeSpec {
    /// Pods. Default 1. Without effect while `autoscaling` is set. May change at any time.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 50").message("replicas must lie between 1 and 50"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Resource requests and limits of a pod. Absent amounts keep the defaults, unless only one side of an amount is set and the
    /// default of the other does not fit it: then both are the same. May change at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,
    /// Has a HorizontalPodAutoscaler decide how many pods there are, by the CPU that they use; the cluster needs a metrics server. Without it there are
    /// `replicas` pods: set them before it is taken out. Default: none. May change at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<AutoscalingSpec>,
    /// What the pods carry, where they run, and what else they are given. Default: nothing. May change at any time; the pods are replaced then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateSpec>,
}

/// No service starts within less CPU: the least that any requests by default.
const LEAST_CPU_LIMIT: &str = "20m";
/// No service starts within less memory: the least that any requests by default.
const LEAST_MEMORY_LIMIT: &str = "32Mi";

/// Returns the CEL expression that a request is not above its limit, where both are set.
fn request_fits(amount: &str) -> String {
    let set = |side: &str| format!("has(self.{side}) && has(self.{side}.{amount})");
    format!(
        "!({} && {}) || quantity(self.requests.{amount}).compareTo(quantity(self.limits.{amount})) <= 0",
        set("requests"),
        set("limits")
    )
}

/// Returns the CEL expression that a limit, where it is set, is not below an amount.
fn limit_is_at_least(amount: &str, least: &str) -> String {
    format!(
        "!(has(self.limits) && has(self.limits.{amount})) || quantity(self.limits.{amount}).compareTo(quantity('{least}')) >= 0"
    )
}

/// Resource requests and limits of a pod. Where only one side of an amount is set and the default of the other does not fit it,
/// the other is the same.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new(request_fits("cpu")).message("requests.cpu must not be above limits.cpu"),
    validation = Rule::new(request_fits("memory")).message("requests.memory must not be above limits.memory"),
    validation = Rule::new(limit_is_at_least("cpu", LEAST_CPU_LIMIT)).message(format!("limits.cpu must be at least {LEAST_CPU_LIMIT}").as_str()),
    validation = Rule::new(limit_is_at_least("memory", LEAST_MEMORY_LIMIT)).message(format!("limits.memory must be at least {LEAST_MEMORY_LIMIT}").as_str())
)]
#[serde(rename_all = "camelCase")]
pub struct ResourcesSpec {
    /// Kept free for the pod by the scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceAmounts>,
    /// Never exceeded: CPU is throttled, memory ends the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceAmounts>,
}

/// Amounts of CPU and memory.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceAmounts {
    /// Like `100m` (a tenth of a core) or `2`.
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,9}m?$|^[0-9]{1,9}[.][0-9]{1,3}$')").message("cpu must be an amount like 100m or 2, of at most nine digits"))]
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Like `128Mi` or `1Gi`.
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,9}(Ki|Mi|Gi)$')").message("memory must be an amount like 128Mi or 1Gi, of at most nine digits"))]
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

impl ServicesSpec {
    /// Returns what the tenant sets for one service: nothing, when it is not mentioned.
    pub fn get(&self, service: Service) -> ServiceSpec {
        self.0.get(&service).cloned().unwrap_or_default()
    }

    /// Requests an optional service.
    pub fn enable(&mut self, service: Service) {
        self.0.entry(service).or_default().enabled = Some(true);
    }

    /// Returns the backends that a service needs because the tenant chooses them.
    pub fn chosen(&self, service: Service) -> &'static [Backend] {
        match self.get(service).engine.unwrap_or_default() {
            SearchEngine::Embedded => &[],
            SearchEngine::OpenSearch => service.entry().chosen_backends,
        }
    }

    /// Reports whether the tenant has a service. The messenger itself cannot be switched off.
    pub fn is_enabled(&self, service: Service) -> bool {
        !service.is_optional || self.get(service).enabled.unwrap_or(!service.is_on_request)
    }
}

impl ResourceAmounts {
    /// Returns the named amounts as Kubernetes writes them.
    pub fn quantities(&self) -> BTreeMap<String, Quantity> {
        let named = [("cpu", &self.cpu), ("memory", &self.memory)];
        named
            .into_iter()
            .filter_map(|(name, amount)| Some((name.to_owned(), Quantity(amount.clone()?))))
            .collect()
    }
}

impl Serialize for ServicesSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(service, spec)| (service.as_str(), spec)))
    }
}

impl<'de> Deserialize<'de> for ServicesSpec {
    /// Keeps what the schema has and drops the rest, as the API server does: a service that a newer release added must
    /// not make a tenant unreadable.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = BTreeMap::<String, Option<ServiceSpec>>::deserialize(deserializer)?;
        let known = written.into_iter().filter_map(|(name, spec)| {
            let (service, mut spec) = (Service::parse(&name)?, spec?);
            spec.enabled = spec.enabled.filter(|_| service.is_optional);
            spec.engine = spec.engine.filter(|_| !service.chosen_backends.is_empty());
            Some((service, spec))
        });
        Ok(Self(known.collect()))
    }
}

impl JsonSchema for ServicesSpec {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ServicesSpec".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let properties: serde_json::Map<_, _> = Service::ALL
            .iter()
            .map(|service| (service.to_string(), service_schema(service.entry(), generator).to_value()))
            .collect();
        json_schema!({"type": "object", "properties": properties})
    }
}

/// Returns the schema of one service. Only an optional one can be switched off, so only there is `enabled` a field, and `engine` where there is
/// a choice.
fn service_schema(service: &ServiceEntry, generator: &mut SchemaGenerator) -> Schema {
    let mut schema = SizeSpec::json_schema(generator);
    schema.insert("description".to_owned(), service.about.into());
    schema.insert("nullable".to_owned(), true.into());
    if service.is_optional {
        let enabled = json!({
            "type": "boolean",
            "nullable": true,
            "description": format!(
                "Whether the tenant has the service. Default {}. May change at any time; when it is switched off, its pods \
                 and routes are removed and its data is kept.",
                !service.is_on_request
            ),
        });
        let properties = schema.ensure_object().entry("properties").or_insert_with(|| json!({}));
        properties["enabled"] = enabled;
    }
    if !service.chosen_backends.is_empty() {
        let engine = json!({
            "type": "string",
            "nullable": true,
            "enum": ["Embedded", "OpenSearch"],
            "description": "Where the index of messages is. Embedded (default): in each pod, up to about seven million messages. OpenSearch: \
                on the cell's OpenSearch, for all pods; a tenant of a cell without one is refused with reason BackendMissing. May change at any \
                time: the new index is built from the stored messages, and results say meanwhile that they are not complete. What was on \
                OpenSearch is kept there, and is used again after a change back, or removed with the tenant.",
        });
        let properties = schema.ensure_object().entry("properties").or_insert_with(|| json!({}));
        properties["engine"] = engine;
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(service: &ServiceEntry) -> serde_json::Value {
        let schema = service_schema(service, &mut SchemaGenerator::default());
        assert_eq!(schema.get("description"), Some(&service.about.into()));
        schema.get("properties").expect("an object").clone()
    }

    #[test]
    fn the_least_limits_are_what_some_service_requests_by_default() {
        assert!(Service::ALL.iter().any(|service| service.cpu_request == LEAST_CPU_LIMIT));
        assert!(Service::ALL.iter().any(|service| service.memory_request == LEAST_MEMORY_LIMIT));
    }

    #[test]
    fn only_an_optional_service_can_be_switched_off() {
        for service in Service::ALL {
            let optional = ServiceEntry { is_optional: true, ..*service.entry() };
            assert_eq!(properties(&optional)["enabled"]["type"], "boolean");
            let mandatory = ServiceEntry { is_optional: false, ..*service.entry() };
            assert_eq!(properties(&mandatory).get("enabled"), None);
            assert!(properties(&mandatory).get("replicas").is_some());
        }
    }

    #[test]
    fn the_engine_of_searches_is_a_choice_and_of_nothing_else() {
        for service in Service::ALL {
            let has_choice = *service == Service::Search;
            assert_eq!(properties(service.entry()).get("engine").is_some(), has_choice, "{service}");
            let written = json!({service.as_str(): {"engine": "OpenSearch"}});
            let spec: ServicesSpec = serde_json::from_value(written).expect("a service");
            let chosen: &[Backend] = if has_choice { &[Backend::OpenSearch] } else { &[] };
            assert_eq!(spec.chosen(*service), chosen, "{service}");
            assert!(ServicesSpec::default().chosen(*service).is_empty(), "{service}");
        }
        let known = properties(Service::Search.entry())["engine"]["enum"].clone();
        assert_eq!(known, json!([SearchEngine::Embedded, SearchEngine::OpenSearch]));
        serde_json::from_value::<ServicesSpec>(json!({"search": {"engine": "Lucene"}})).expect_err("unknown");
    }

    #[test]
    fn a_service_on_request_is_off_where_nothing_is_said() {
        let described = |is_on_request| {
            let optional = ServiceEntry { is_optional: true, is_on_request, ..*Service::Presence.entry() };
            properties(&optional)["enabled"]["description"].as_str().expect("documented").to_owned()
        };
        assert!(described(true).contains("Default false") && described(false).contains("Default true"));
        for service in Service::ALL {
            let mut spec = ServicesSpec::default();
            assert_eq!(spec.is_enabled(*service), !service.is_on_request, "{service}");
            spec.enable(*service);
            assert!(spec.is_enabled(*service));
        }
    }

    #[test]
    fn every_service_of_the_catalog_is_a_field_and_reads_back() {
        let schema = ServicesSpec::json_schema(&mut SchemaGenerator::default());
        let fields =
            schema.get("properties").and_then(|properties| properties.as_object()).expect("an object");
        assert_eq!(fields.len(), Service::ALL.len());
        for service in Service::ALL {
            assert!(fields.contains_key(service.as_str()));
            let written = json!({service.as_str(): {"replicas": 7, "autoscaling": {"maxReplicas": 9},
                "template": {"labels": {"team": "messaging"}}}});
            let spec: ServicesSpec = serde_json::from_value(written.clone()).expect("a service");
            assert_eq!(spec.get(*service).size.replicas, Some(7));
            assert_eq!(serde_json::to_value(&spec).expect("plain data"), written);
        }
    }

    #[test]
    fn what_the_schema_does_not_have_is_dropped() {
        let written = json!({"stranger": {"replicas": 2}, "chat": {"enabled": false, "replicas": 2}});
        let spec: ServicesSpec = serde_json::from_value(written).expect("readable");
        assert!(spec.is_enabled(Service::Chat) || Service::Chat.is_optional);
        let kept = serde_json::to_value(&spec).expect("plain data");
        assert_eq!(kept.get("stranger"), None);
        assert_eq!(kept["chat"].get("enabled").is_some(), Service::Chat.is_optional);
    }
}
