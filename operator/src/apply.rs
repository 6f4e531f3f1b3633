//! The only writer to the API server. Every write checks the fence first and is counted.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
    core::{ApiResource, DynamicObject, Status},
};
use serde_json::{Value, json};
use std::sync::Arc;

use crds::{CELL_FINALIZER, FINALIZER, MessengerCell, MessengerTenant, TenantStatus};

use crate::{
    api::{self, server_message},
    config::OPERATOR_NAME,
    desired::{self, Kind, Object},
    leader::{Fence, NotLeading},
    metrics::Metrics,
    plan,
    suspension::asks_for_pods,
};

/// Holds the replicas of a Deployment that an autoscaler takes over, until it sets them.
const HOLDER_OF_REPLICAS: &str = "posthouse-operator-autoscaling";

/// Why something could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    #[error("failed to {action}: {}", server_message(source))]
    Refused { action: String, source: kube::Error },
}

impl WriteError {
    fn refused(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Refused { action, source }
    }

    /// Reports whether the API server refused the write, and will again.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if api::is_refusal(source))
    }

    /// Reports whether the object was changed, removed or replaced by another client in between; the next pass sees it.
    pub fn is_stale(&self) -> bool {
        let Self::Refused { source: kube::Error::Api(status), .. } = self else { return false };
        matches!(status.code, 404 | 409) || is_of_another_object(status)
    }
}

/// Reports whether a write named another object than the one that is there: to the API server that is the change of a field that cannot be changed.
fn is_of_another_object(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 422 && causes.any(|cause| cause.field == "metadata.uid")
}

/// A resource that stays until our finalizer is removed.
trait Held: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned {}

impl Held for MessengerTenant {}
impl Held for MessengerCell {}

/// Writes to the API server.
#[derive(Clone)]
pub(crate) struct Writer {
    pub client: Client,
    pub fence: Fence,
    pub metrics: Arc<Metrics>,
}

impl Writer {
    /// Applies one object with our field manager, removes what others added where it is declared whole, and returns it as the
    /// server has it now. Fails when `found`, which it changes, is not there any more, or another object in its place: what was
    /// read may be old.
    pub async fn apply(
        &self,
        namespace: &str,
        object: &Object,
        found: Option<&DynamicObject>,
    ) -> Result<DynamicObject, WriteError> {
        let api = api::children(&self.client, namespace, object.kind);
        let params = PatchParams::apply(OPERATOR_NAME).force();
        let refused = || WriteError::refused(format!("apply {object:?}"));
        if let Some(found) = found
            && let Some(replicas) = desired::replicas_to_hold(object, found)
        {
            self.hold_replicas(namespace, found, replicas).await?;
        }
        self.fence.check()?;
        self.metrics.wrote("kubernetes", "apply");
        let mut manifest = object.manifest.clone();
        if let Some(uid) = found.and_then(ResourceExt::uid) {
            manifest["metadata"]["uid"] = uid.into();
        }
        let applied = api.patch(&object.name, &params, &Patch::Apply(manifest)).await.map_err(refused())?;
        let found = serde_json::to_value(&applied).expect("Kubernetes objects are plain data");
        let Some(removal) = plan::removal(object.kind, &object.manifest, &found) else { return Ok(applied) };
        self.fence.check()?;
        let params = PatchParams { field_manager: Some(OPERATOR_NAME.to_owned()), ..PatchParams::default() };
        api.patch(&object.name, &params, &Patch::Merge(removal)).await.map_err(refused())
    }

    /// Lets a Deployment have so many pods by a manager of their own, so that they stay when the operator applies it without a number. Fails when the Deployment
    /// has changed since it was read: the number may be another one.
    async fn hold_replicas(
        &self,
        namespace: &str,
        deployment: &DynamicObject,
        replicas: i64,
    ) -> Result<(), WriteError> {
        self.fence.check()?;
        self.metrics.wrote("kubernetes", "scale");
        let name = deployment.name_any();
        let patch = json!({
            "apiVersion": Deployment::api_version(&()),
            "kind": Deployment::kind(&()),
            "metadata": {
                "name": name, "uid": deployment.uid(), "resourceVersion": deployment.resource_version(),
            },
            "spec": {"replicas": replicas},
        });
        let params = PatchParams::apply(HOLDER_OF_REPLICAS).force();
        let api = api::children(&self.client, namespace, Kind::Deployment);
        let held = api.patch(&name, &params, &Patch::Apply(patch)).await;
        held.map_err(WriteError::refused(format!("hold the replicas of Deployment {name}")))?;
        Ok(())
    }

    /// Deletes the object that has this UID; one that is gone already is fine. Fails when another object is in its place.
    pub async fn delete(
        &self,
        namespace: &str,
        kind: Kind,
        name: &str,
        uid: Option<String>,
    ) -> Result<(), WriteError> {
        self.fence.check()?;
        self.metrics.wrote("kubernetes", "delete");
        let params = DeleteParams::background().preconditions(Preconditions { uid, resource_version: None });
        match api::children(&self.client, namespace, kind).delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(WriteError::refused(format!("delete {} {name}", kind.as_str()))(error)),
        }
    }

    /// Deletes the Deployments of a tenant, so that nothing writes to backends that are about to be cleaned.
    pub async fn stop_workloads(&self, namespace: &str, selector: &str) -> Result<(), WriteError> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let found = api
            .list_metadata(&ListParams::default().labels(selector))
            .await
            .map_err(WriteError::refused("list Deployments"))?;
        for deployment in &found.items {
            if deployment.metadata.deletion_timestamp.is_none() {
                let (name, uid) = (deployment.name_any(), deployment.uid());
                self.delete(namespace, Kind::Deployment, &name, uid).await?;
            }
        }
        Ok(())
    }

    /// Lets a Deployment have no pods; one that is gone has none. Reports whether it asks for none now: what the API server is made to change in a write
    /// comes back with it.
    pub async fn scale_to_zero(&self, namespace: &str, name: &str) -> Result<bool, WriteError> {
        self.fence.check()?;
        self.metrics.wrote("kubernetes", "scale");
        let api = api::children(&self.client, namespace, Kind::Deployment);
        let params = PatchParams { field_manager: Some(OPERATOR_NAME.to_owned()), ..PatchParams::default() };
        match api.patch(name, &params, &Patch::Merge(json!({"spec": {"replicas": 0}}))).await {
            Ok(scaled) => Ok(!asks_for_pods(&scaled)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
            Err(error) => Err(WriteError::refused(format!("scale Deployment {name}"))(error)),
        }
    }

    /// Sets the status of a tenant and returns the resource version that has it.
    pub async fn tenant_status(
        &self,
        resource: &MessengerTenant,
        status: &TenantStatus,
    ) -> Result<Option<String>, WriteError> {
        self.fence.check()?;
        self.metrics.wrote("kubernetes", "status");
        let api = self.tenants(resource);
        let patch = json!({
            "apiVersion": MessengerTenant::api_version(&()),
            "kind": MessengerTenant::kind(&()),
            "metadata": {"name": resource.name_any(), "uid": resource.uid()},
            "status": status,
        });
        let params = PatchParams::apply(OPERATOR_NAME).force();
        let patched = api
            .patch_status(&resource.name_any(), &params, &Patch::Apply(patch))
            .await
            .map_err(WriteError::refused("set the status"))?;
        Ok(patched.resource_version())
    }

    /// Sets the status of a resource of ours that cannot be read.
    pub async fn raw_status(
        &self,
        api: &Api<DynamicObject>,
        found: &DynamicObject,
        resource: &ApiResource,
        status: Value,
    ) -> Result<(), WriteError> {
        self.fence.check()?;
        self.metrics.wrote("kubernetes", "status");
        let patch = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {
                "name": found.name_any(), "uid": found.uid(), "resourceVersion": found.resource_version(),
            },
            "status": status,
        });
        let params = PatchParams::apply(OPERATOR_NAME).force();
        api.patch_status(&found.name_any(), &params, &Patch::Apply(patch))
            .await
            .map_err(WriteError::refused("set the status"))?;
        Ok(())
    }

    /// Sets the status of a cell, unless the cell changed since it was read: passes of the cell and deletions both write it.
    pub async fn cell_status(
        &self,
        cell: &MessengerCell,
        status: &crds::CellStatus,
    ) -> Result<(), WriteError> {
        self.fence.check()?;
        self.metrics.wrote("kubernetes", "status");
        let api: Api<MessengerCell> = Api::all(self.client.clone());
        let patch = json!({
            "apiVersion": MessengerCell::api_version(&()),
            "kind": MessengerCell::kind(&()),
            "metadata": {
                "name": cell.name_any(), "uid": cell.uid(), "resourceVersion": cell.resource_version(),
            },
            "status": status,
        });
        let params = PatchParams::apply(OPERATOR_NAME).force();
        api.patch_status(&cell.name_any(), &params, &Patch::Apply(patch))
            .await
            .map_err(WriteError::refused("set the status of the cell"))?;
        Ok(())
    }

    /// Adds our finalizer, unless the tenant changed since it was read.
    pub async fn add_finalizer(&self, tenant: &MessengerTenant) -> Result<(), WriteError> {
        self.hold(&self.tenants(tenant), tenant, FINALIZER).await
    }

    /// Removes our finalizer from the tenant.
    pub async fn remove_finalizer(&self, tenant: &MessengerTenant) -> Result<(), WriteError> {
        self.release(&self.tenants(tenant), tenant, FINALIZER).await
    }

    /// Adds our finalizer, unless the cell changed since it was read.
    pub async fn add_cell_finalizer(&self, cell: &MessengerCell) -> Result<(), WriteError> {
        self.hold(&Api::all(self.client.clone()), cell, CELL_FINALIZER).await
    }

    /// Removes our finalizer from the cell.
    pub async fn remove_cell_finalizer(&self, cell: &MessengerCell) -> Result<(), WriteError> {
        self.release(&Api::all(self.client.clone()), cell, CELL_FINALIZER).await
    }

    async fn hold<K: Held>(&self, api: &Api<K>, resource: &K, finalizer: &str) -> Result<(), WriteError> {
        let mut finalizers = resource.finalizers().to_vec();
        finalizers.push(finalizer.to_owned());
        self.set_finalizers(api, resource, &finalizers, "add the finalizer").await
    }

    async fn release<K: Held>(&self, api: &Api<K>, resource: &K, finalizer: &str) -> Result<(), WriteError> {
        let others: Vec<_> =
            resource.finalizers().iter().filter(|name| *name != finalizer).cloned().collect();
        match self.set_finalizers(api, resource, &others, "remove the finalizer").await {
            Err(WriteError::Refused { source: kube::Error::Api(status), .. }) if status.code == 404 => Ok(()),
            other => other,
        }
    }

    async fn set_finalizers<K: Held>(
        &self,
        api: &Api<K>,
        resource: &K,
        finalizers: &[String],
        action: &str,
    ) -> Result<(), WriteError> {
        self.fence.check()?;
        self.metrics.wrote("kubernetes", "finalizer");
        let patch = json!({"metadata": {
            "uid": resource.uid(),
            "resourceVersion": resource.resource_version(),
            "finalizers": finalizers,
        }});
        let params = PatchParams { field_manager: Some(OPERATOR_NAME.to_owned()), ..PatchParams::default() };
        api.patch_metadata(&resource.name_any(), &params, &Patch::Merge(patch))
            .await
            .map_err(WriteError::refused(action))?;
        Ok(())
    }

    fn tenants(&self, resource: &MessengerTenant) -> Api<MessengerTenant> {
        Api::namespaced(self.client.clone(), &resource.namespace().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use kube::client::Body;
    use tower::service_fn;

    use super::*;

    /// Returns a writer to an API server that has a Deployment with so many pods whatever is written.
    fn writer(replicas: u32) -> Writer {
        let answer = move |_: http::Request<Body>| async move {
            let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "acme-chat"},
                "spec": {"replicas": replicas}});
            Ok::<_, io::Error>(http::Response::new(Body::from(deployment.to_string().into_bytes())))
        };
        let client = Client::new(service_fn(answer), "default");
        Writer { client, fence: Fence::always_open(), metrics: Arc::default() }
    }

    #[tokio::test]
    async fn a_deployment_that_has_pods_again_at_once_was_not_scaled_down() {
        for (replicas, expected) in [(0, true), (2, false)] {
            let is_scaled = writer(replicas).scale_to_zero("acme", "acme-chat").await;
            assert_eq!(is_scaled.expect("it is taken"), expected, "{replicas}");
        }
    }
}
