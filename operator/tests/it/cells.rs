//! Which tenants a cell takes, and when it may go.

use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    api_server::ApiServer,
    stand::{
        NOWHERE, Operator, SOON, cell_message, cells, condition_message, create_cell, create_tenant,
        edit_cell, eventually, tenants,
    },
};

async fn ready_message(server: &ApiServer, reason: &str) -> String {
    cell_message(server, "cell", "Ready", Some(reason), SOON).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_decides_which_namespaces_use_it_and_stays_until_no_tenant_does() {
    let server = ApiServer::start("cells").await;
    create_cell(&server, "cell", 5, NOWHERE, None).await;
    edit_cell(&server, "cell", json!({"allowedNamespaces": ["first", "late"]})).await;
    let operator = Operator::start(&server);
    let spec = |id: &str| json!({"tenantId": id, "cellRef": {"name": "cell"}});
    create_tenant(&server, "first", "first", spec("first")).await;
    condition_message(&server, "first", "first", "Placed", "True", "Assigned").await;
    create_tenant(&server, "second", "second", spec("second")).await;
    let message =
        condition_message(&server, "second", "second", "Placed", "False", "NamespaceNotAllowed").await;
    assert!(message.contains("does not allow namespace second in spec.allowedNamespaces"), "{message}");
    assert!(tenants(&server, "second").get("second").await.expect("there").finalizers().is_empty());

    // Who is placed stays.
    edit_cell(&server, "cell", json!({"allowedNamespaces": []})).await;
    condition_message(&server, "first", "first", "KafkaReady", "False", "AdminSecretMissing").await;
    condition_message(&server, "first", "first", "Placed", "True", "Assigned").await;
    edit_cell(&server, "cell", json!({"allowedNamespaces": null})).await;
    condition_message(&server, "second", "second", "Placed", "True", "Assigned").await;

    // Deleted under its tenants, it stays, says why, and takes no other.
    cells(&server).delete("cell", &DeleteParams::default()).await.expect("deleted");
    let message = ready_message(&server, "InUse").await;
    assert!(message.contains("MessengerTenant first/first, MessengerTenant second/second;"), "{message}");
    create_tenant(&server, "late", "late", spec("late")).await;
    let message = condition_message(&server, "late", "late", "Placed", "False", "CellNotFound").await;
    assert!(message.contains("is being deleted"), "{message}");

    // What they leave behind holds it too, because nothing else knows where that is.
    for name in ["first", "second"] {
        tenants(&server, name).delete(name, &DeleteParams::default()).await.expect("deleted");
        let api = &tenants(&server, name);
        let gone = || async move { api.get_opt(name).await.expect("an answer").is_none().then_some(()) };
        eventually(&format!("{name} is gone"), SOON * 2, gone).await;
    }
    let left = || async {
        let message = ready_message(&server, "InUse").await;
        message.contains("the deleted tenant first (").then_some(message)
    };
    eventually("the cell names what was left behind", SOON, left).await;
    let nothing_left = json!({"status": {"leftovers": []}});
    cells(&server)
        .patch_status("cell", &PatchParams::default(), &Patch::Merge(nothing_left))
        .await
        .expect("edited");
    let cells = &cells(&server);
    let gone = || async move { cells.get_opt("cell").await.expect("an answer").is_none().then_some(()) };
    eventually("the cell is gone", SOON, gone).await;
    operator.stop().await;
}
