//! Tenants as the cluster reports them.

use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use serde::Serialize;
use serde_json::Value;
use url::Url;

use crate::failure::{Exit, Failure, chain};

/// What this program reads of a `MessengerTenant`; a field that the cluster does not know yet is absent.
#[derive(Debug, Serialize)]
pub(crate) struct Tenant {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) tenant_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    pub(crate) observed: bool,
    pub(crate) deleting: bool,
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Where to look for tenants.
pub(crate) enum Scope<'a> {
    Everywhere,
    /// `None` is the kubeconfig's own namespace.
    Namespace(Option<&'a str>),
}

impl Tenant {
    pub(crate) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Returns whether the tenant is ready as it is specified now.
    pub(crate) fn is_ready(&self) -> bool {
        self.observed && !self.deleting && self.condition("Ready").is_some_and(|ready| ready.status == "True")
    }

    /// Returns the address of its messenger, as the operator reports it.
    pub(crate) fn address(&self) -> Option<Url> {
        self.url.as_deref().and_then(|url| url.parse().ok())
    }
}

/// Returns a client of the cluster that the caller's kubeconfig names.
pub(crate) async fn client() -> Result<Client, Failure> {
    Client::try_default().await.map_err(|error| {
        let next = "point KUBECONFIG at the cluster: `export KUBECONFIG=$PWD/.local/kubeconfig`";
        Failure::new(Exit::Unreachable, format!("no cluster is configured: {}", chain(&error)), next)
    })
}

/// Returns a kind of this project, as the API server knows it.
pub(crate) fn resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("messenger.posthouse.dev", "v1alpha1", kind))
}

/// Returns the tenants of a scope, in the order of namespace and name.
pub(crate) async fn list(scope: Scope<'_>) -> Result<Vec<Tenant>, Failure> {
    let client = client().await?;
    let resource = resource("MessengerTenant");
    let api: Api<DynamicObject> = match scope {
        Scope::Everywhere => Api::all_with(client, &resource),
        Scope::Namespace(None) => Api::default_namespaced_with(client, &resource),
        Scope::Namespace(Some(namespace)) => Api::namespaced_with(client, namespace, &resource),
    };
    let listed = api.list(&ListParams::default()).await.map_err(|error| unread(&error))?;
    let mut tenants: Vec<Tenant> = listed.items.iter().map(tenant).collect();
    tenants.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(tenants)
}

/// Returns a tenant as the API server has it.
pub(crate) async fn get(client: &Client, namespace: &str, name: &str) -> Result<DynamicObject, Failure> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &resource("MessengerTenant"));
    let found = api.get_opt(name).await.map_err(|error| unread(&error))?;
    found.ok_or_else(|| {
        let next = "`posthouse status -A` lists the tenants of every namespace";
        Failure::new(Exit::Refused, format!("tenant {name} not found in namespace {namespace}"), next)
    })
}

/// Returns the address of a tenant's messenger.
pub(crate) async fn address_of(namespace: Option<&str>, name: &str) -> Result<Url, Failure> {
    let client = client().await?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace());
    let found = tenant(&get(&client, namespace, name).await?);
    found.address().ok_or_else(|| {
        let next = "`posthouse status` shows what it waits for; --url names an address without the cluster";
        Failure::new(Exit::Fault, format!("tenant {name} has no address yet"), next)
    })
}

fn unread(error: &kube::Error) -> Failure {
    let what = format!("failed to read MessengerTenants: {}", chain(error));
    match error {
        kube::Error::Api(status) if status.code == 404 => Failure::new(
            Exit::Refused,
            what,
            "Posthouse is not installed in the cluster: install charts/posthouse-crds and charts/posthouse",
        ),
        kube::Error::Api(_) => Failure::new(
            Exit::Refused,
            what,
            "ask for permission to get and list messengertenants.messenger.posthouse.dev",
        ),
        _ => Failure::new(
            Exit::Unreachable,
            what,
            "check that the cluster is up (`make up`) and that KUBECONFIG refers to it",
        ),
    }
}

fn tenant(object: &DynamicObject) -> Tenant {
    let text = |pointer: &str| object.data.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let generation = object.data.pointer("/status/observedGeneration").and_then(Value::as_i64);
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    Tenant {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        tenant_id: text("/spec/tenantId").unwrap_or_default(),
        url: text("/status/endpoints/web"),
        observed: generation.is_some() && generation == object.metadata.generation,
        deleting: object.metadata.deletion_timestamp.is_some(),
        conditions: conditions.map(|list| list.iter().map(condition).collect()).unwrap_or_default(),
    }
}

fn condition(value: &Value) -> Condition {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    Condition { kind: text("type"), status: text("status"), reason: text("reason"), message: text("message") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(observed_generation: i64, ready: &str) -> Tenant {
        let object = serde_json::from_value(json!({
            "apiVersion": "messenger.posthouse.dev/v1alpha1",
            "kind": "MessengerTenant",
            "metadata": { "name": "acme", "namespace": "tenants", "generation": 2 },
            "spec": { "tenantId": "acme" },
            "status": {
                "observedGeneration": observed_generation,
                "endpoints": { "web": "http://acme.localhost:8000" },
                "conditions": [{ "type": "Ready", "status": ready, "reason": "R", "message": "m" }],
            },
        }));
        tenant(&object.expect("an object"))
    }

    #[test]
    fn ready_is_about_the_present_spec() {
        assert!(read(2, "True").is_ready());
        assert!(!read(1, "True").is_ready());
        assert!(!read(2, "False").is_ready());
    }

    #[test]
    fn the_address_is_the_operators() {
        assert_eq!(read(2, "True").address().expect("an address").as_str(), "http://acme.localhost:8000/");
    }
}
