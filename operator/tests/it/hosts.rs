//! Which tenant a host belongs to.

use kube::{ResourceExt, api::ListParams};
use serde_json::json;

use crate::{
    api_server::ApiServer,
    stand::{
        NOWHERE, Operator, SOON, allow_domains, api_of, condition_message, create_cell, create_tenant,
        default_services, eventually, request_hosts, tenants,
    },
};

/// Waits until there is a route of every service and each is for these hosts, and returns the versions of the routes.
async fn routed(server: &ApiServer, namespace: &str, hosts: &[&str]) -> Vec<Option<String>> {
    let hosts: Vec<_> = hosts.iter().map(|host| format!("Host(`{host}`)")).collect();
    let start = format!("({}) && ", hosts.join(" || "));
    let routes = &api_of(server, namespace, "traefik.io", "v1alpha1", "IngressRoute");
    let start = &start;
    let all = || async move {
        let routes = routes.list(&ListParams::default()).await.expect("a list").items;
        let are_for_them = routes.len() == default_services().count()
            && routes.iter().all(|route| {
                let rule = route.data["spec"]["routes"][0]["match"].as_str().expect("a rule");
                rule.starts_with(start)
            });
        are_for_them.then(|| routes.iter().map(ResourceExt::resource_version).collect())
    };
    eventually(&format!("the routes of {namespace} start with {start}"), SOON, all).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_stays_with_its_holder_and_never_leaves_the_allowed_domains() {
    let server = ApiServer::start("hosts").await;
    create_cell(&server, "dead", 5, NOWHERE, None).await;
    allow_domains(&server, "dead", &["shared.example"]).await;
    let operator = Operator::start(&server);
    let cell = json!({"name": "dead"});
    create_tenant(&server, "old", "old", json!({"tenantId": "oldone", "cellRef": cell})).await;
    routed(&server, "old", &["oldone.it.localhost"]).await;
    let hosts = ["young.it.localhost", "chat.shared.example"];
    let spec = json!({"tenantId": "young", "cellRef": cell, "hosts": hosts});
    create_tenant(&server, "young", "young", spec).await;
    let before = routed(&server, "young", &hosts).await;

    // Another tenant's hosts, the cell's own domain, and the address of a tenant that may come one day.
    let wanted = json!([
        "oldone.it.localhost",
        "chat.shared.example",
        "young.it.localhost",
        "it.localhost",
        "later.it.localhost"
    ]);
    request_hosts(&server, "old", "old", wanted).await;
    let message = condition_message(&server, "old", "old", "RoutesReady", "False", "HostConflict").await;
    for expected in [
        "chat.shared.example: MessengerTenant young/young holds it",
        "it.localhost: it belongs to the installation",
        "later.it.localhost: it is the address of tenant id later",
        "young.it.localhost: it is the address of tenant id young",
    ] {
        assert!(message.contains(expected), "{message}");
    }
    routed(&server, "old", &["oldone.it.localhost"]).await;
    assert_eq!(routed(&server, "young", &hosts).await, before, "the holder's routes were touched");
    let status = tenants(&server, "old").get("old").await.expect("there").status.expect("a status");
    assert_eq!(status.hosts, Some(vec!["oldone.it.localhost".to_owned()]));

    // Dropped by its holder, it is free for the next one.
    request_hosts(&server, "young", "young", json!(["young.it.localhost"])).await;
    routed(&server, "young", &["young.it.localhost"]).await;
    request_hosts(&server, "old", "old", json!(["oldone.it.localhost", "chat.shared.example"])).await;
    routed(&server, "old", &["oldone.it.localhost", "chat.shared.example"]).await;

    // A domain that is not allowed any more is not routed.
    allow_domains(&server, "dead", &[]).await;
    let message = condition_message(&server, "old", "old", "RoutesReady", "False", "HostNotAllowed").await;
    assert!(message.contains("MessengerCell dead does not allow it"), "{message}");
    routed(&server, "old", &["oldone.it.localhost"]).await;
    operator.stop().await;
}
