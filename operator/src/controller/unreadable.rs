//! A resource that cannot be read: the API server let it in before a rule was added. Nothing of it is changed but its summary, and
//! other resources go on.

use crds::Reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Resource,
    core::{ApiResource, DynamicObject, error_boundary::InvalidObject},
    runtime::controller::Action,
};
use serde_json::json;
use tracing::warn;

use super::context::{Context, PassError};
use crate::{
    observe::ReadError,
    status::{self, Outcome, Outcomes},
};

/// Reports what is wrong in the condition Ready and in an Event. What else the status says is kept: a place and hosts are held by
/// it.
pub(super) async fn report<K>(invalid: &InvalidObject, context: &Context) -> Result<Action, PassError>
where
    K: Resource<DynamicType = ()>,
{
    let name = invalid.metadata.name.clone().unwrap_or_default();
    warn!(name, error = %invalid.error, "{} {name} cannot be read and is left alone", K::kind(&()));
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = match &invalid.metadata.namespace {
        Some(namespace) => Api::namespaced_with(context.client.clone(), namespace, &resource),
        None => Api::all_with(context.client.clone(), &resource),
    };
    let read = api.get_opt(&name).await.map_err(ReadError::new(format!("{} {name}", K::kind(&()))))?;
    let Some(found) = read else { return Ok(Action::await_change()) };
    let message =
        format!("it cannot be read: {}; correct it, its deletion too waits for that", invalid.error);
    let ready = Outcome::action_required(Reason::InvalidSpec, message);
    let before = &found.data["status"];
    let mut known: Vec<Condition> = serde_json::from_value(before["conditions"].clone()).unwrap_or_default();
    status::retain_own(&mut known);
    let generation = found.metadata.generation;
    let conditions = status::conditions(&known, &Outcomes::new(), &ready, generation, (context.now)());
    if conditions != known {
        let mut status = if before.is_object() { before.clone() } else { json!({}) };
        status["conditions"] = serde_json::to_value(conditions).expect("conditions are plain data");
        // The server may refuse the status too: it checks the whole resource.
        context.events.warning(&found.object_ref(&resource), ready.reason, &ready.message).await;
        context.writer.raw_status(&api, &found, &resource, status).await?;
    }
    Ok(Action::await_change())
}
