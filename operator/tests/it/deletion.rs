//! What a deletion leaves behind, and what becomes of it.

use std::time::Duration;

use kube::api::DeleteParams;
use serde_json::json;

use crate::{
    api_server::ApiServer,
    stand::{
        Backends, NOWHERE, Operator, SOON, cells, condition_message, create_cell, create_tenant, edit_cell,
        eventually, redis_user_exists, tenants,
    },
};

async fn move_redis(server: &ApiServer, address: &str) {
    edit_cell(server, "real", json!({"redis": {"address": address}})).await;
}

async fn leftovers(server: &ApiServer) -> Vec<crds::Leftover> {
    let cell = cells(server).get("real").await.expect("there");
    cell.status.map(|status| status.leftovers).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_deletion_left_behind_is_cleaned_up_later() {
    let backends = Backends::from_env();
    let server = ApiServer::start("leftovers").await;
    create_cell(&server, "real", 5, NOWHERE, Some(&backends)).await;
    backends.create_admin_secrets(&server, "real").await;
    let operator = Operator::start(&server);
    let id = format!("itd{:x}", std::process::id());
    let namespace = id.as_str();
    let spec = json!({"tenantId": id, "cellRef": {"name": "real"}, "deletionPolicy": "Delete",
        "kafka": {"partitions": 1}});
    create_tenant(&server, namespace, "it", spec).await;
    condition_message(&server, namespace, "it", "CacheReady", "True", "InSync").await;

    // Redis is away for the whole deletion.
    move_redis(&server, NOWHERE).await;
    condition_message(&server, namespace, "it", "CacheReady", "False", "BackendUnavailable").await;
    let api = &tenants(&server, namespace);
    api.delete("it", &DeleteParams::default()).await.expect("deleted");
    let gone = || async move { api.get_opt("it").await.expect("an answer").is_none().then_some(()) };
    eventually("the tenant is gone", Duration::from_secs(75), gone).await;
    let left = leftovers(&server).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(
        (left[0].tenant_id.as_str(), left[0].backends.as_slice()),
        (namespace, ["redis".to_owned()].as_slice())
    );
    assert!(redis_user_exists(&id).await);

    move_redis(&server, &backends.redis).await;
    let cleaned = || async { leftovers(&server).await.is_empty().then_some(()) };
    eventually("nothing is left behind", SOON, cleaned).await;
    assert!(!redis_user_exists(&id).await);
    operator.stop().await;
}
