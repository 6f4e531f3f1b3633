//! The only writer to the API server. Every write checks the fence first and is counted.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};
use serde_json::{Value, json};
use std::sync::Arc;

use crds::{CELL_FINALIZER, FINALIZER, MessengerCell, MessengerTenant, TenantStatus};

use crate::{
    api::{self, server_message},
    config::OPERATOR_NAME,
    desired::{Kind, Object},
    leader::{Fence, NotLeading},
    metrics::Metrics,
    plan,
};

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

    /// Reports whether the object was changed or removed by another client in between; the next pass sees it.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Refused { source: kube::Error::Api(status), .. } if status.code == 409 || status.code == 404)
    }
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
    /// server has it now.
    pub async fn apply(&self, namespace: &str, object: &Object) -> Result<DynamicObject, WriteError> {
        self.fence.check()?;
        self.metrics.wrote("kubernetes", "apply");
        let api = api::children(&self.client, namespace, object.kind);
        let params = PatchParams::apply(OPERATOR_NAME).force();
        let refused = || WriteError::refused(format!("apply {object:?}"));
        let applied =
            api.patch(&object.name, &params, &Patch::Apply(&object.manifest)).await.map_err(refused())?;
        let found = serde_json::to_value(&applied).expect("Kubernetes objects are plain data");
        let Some(removal) = plan::removal(object.kind, &object.manifest, &found) else { return Ok(applied) };
        self.fence.check()?;
        let params = PatchParams { field_manager: Some(OPERATOR_NAME.to_owned()), ..PatchParams::default() };
        api.patch(&object.name, &params, &Patch::Merge(removal)).await.map_err(refused())
    }

    /// Deletes one object; one that is gone already is fine.
    pub async fn delete(&self, namespace: &str, kind: Kind, name: &str) -> Result<(), WriteError> {
        self.fence.check()?;
        self.metrics.wrote("kubernetes", "delete");
        match api::children(&self.client, namespace, kind).delete(name, &DeleteParams::background()).await {
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
                self.delete(namespace, Kind::Deployment, &deployment.name_any()).await?;
            }
        }
        Ok(())
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
