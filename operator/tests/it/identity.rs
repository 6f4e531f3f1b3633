//! External identity providers and the mail server, from a manifest to the realm and to the pods.

use std::time::Duration;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::stand::{
    Operator, SOON, cell_message, condition_message, create_admin_secret, create_tenant, edit_cell,
    edit_tenant, eventually, flags, on_real_backends, tenants,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn providers_and_mail_come_from_a_manifest_and_what_is_missing_is_named() {
    let (server, backends) = on_real_backends("identity").await;
    let operator = Operator::start(&server);
    let id = format!("iti{:x}", std::process::id());
    let namespace = id.as_str();
    // Any realm is a provider; no user signs in here.
    let issuer = format!("{}/realms/master", backends.keycloak);
    let provider = json!({"alias": "corp", "displayName": "Corp, Inc.", "issuer": issuer, "clientId": "posthouse",
        "clientSecretRef": {"name": "corp-client", "key": "secret"}});
    let spec = json!({"tenantId": id, "cellRef": {"name": "real"}, "deletionPolicy": "Delete",
        "kafka": {"partitions": 1}, "identity": {"providers": [provider]}});
    create_tenant(&server, namespace, "it", spec).await;
    let identity = async |status: &str, reason: &str| {
        condition_message(&server, namespace, "it", "IdentityReady", status, reason).await
    };
    let message = identity("False", "ProviderNotAllowed").await;
    assert!(
        message.contains("MessengerCell real does not allow") && message.contains("providerHosts"),
        "{message}"
    );

    let host = issuer.split(['/', ':']).nth(3).expect("a host").to_owned();
    edit_cell(&server, "real", json!({"keycloak": {"providerHosts": [host]}})).await;
    let message = identity("False", "ProviderSecretInvalid").await;
    assert!(
        message.contains(&format!("Secret {namespace}/corp-client does not exist; create it")),
        "{message}"
    );
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), namespace);
    let secret = json!({"metadata": {"name": "corp-client"}, "stringData": {"secret": "not for others"}});
    let secret: Secret = serde_json::from_value(secret).expect("a Secret");
    secrets.create(&PostParams::default(), &secret).await.expect("taken");
    let does_not_consent = || async {
        let message = identity("False", "ProviderSecretInvalid").await;
        message.contains("does not consent to be sent to this issuer").then_some(())
    };
    eventually("the Secret does not consent", SOON, does_not_consent).await;
    let consent = json!({"metadata": {"annotations": {"messenger.posthouse.dev/issuer": issuer}}});
    secrets.patch("corp-client", &PatchParams::default(), &Patch::Merge(consent)).await.expect("taken");
    identity("True", "InSync").await;

    // The mail server, whose Secret is not complete at first.
    let smtp = json!({"host": "mail.example", "from": "no-reply@example.org", "credentialsSecretRef": {"name": "real-smtp"}});
    edit_cell(&server, "real", json!({ "smtp": smtp })).await;
    let message = cell_message(&server, "real", "Ready", Some("AdminSecretMissing"), SOON * 2).await;
    assert!(message.contains("Secret posthouse-system/real-smtp does not exist"), "{message}");
    create_admin_secret(&server, "real-smtp", &[("username", "messenger"), ("password", "of the server")])
        .await;
    let copied = || async {
        let data = secrets.get("it-smtp").await.expect("there").data.unwrap_or_default();
        let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
        (text("username")? == "messenger" && text("password")? == "of the server").then_some(())
    };
    eventually("the account at the mail server is copied", SOON * 2, copied).await;
    let deployments: Api<Deployment> = Api::namespaced(server.client.clone(), namespace);
    let arguments = || async {
        let flags = flags(&deployments.get_opt("it-auth").await.expect("an answer")?)?;
        flags.contains_key("--smtp-url").then_some(flags)
    };
    let arguments = eventually("the auth service has its settings", SOON * 2, arguments).await;
    assert_eq!(arguments["--smtp-url"], "smtp://mail.example:587?tls=required");
    assert_eq!(arguments["--smtp-from"], "no-reply@example.org");
    assert_eq!(arguments["--public-origins"], format!("http://{id}.it.localhost"));
    assert_eq!(arguments["--identity-providers"], r#"[{"alias":"corp","display_name":"Corp, Inc."}]"#);

    // What is no secret is in the status, and nothing else.
    let tenant =
        serde_json::to_string(&tenants(&server, namespace).get("it").await.expect("there")).expect("JSON");
    assert!(!tenant.contains("not for others") && !tenant.contains("of the server"), "{tenant}");
    // A steady tenant writes nothing.
    operator.comes_to_rest().await;

    edit_tenant(&server, namespace, "it", json!({"identity": {"providers": null}})).await;
    let unset = || async {
        let flags = flags(&deployments.get("it-auth").await.expect("there"))?;
        (!flags.contains_key("--identity-providers")).then_some(())
    };
    eventually("the auth service has no provider", SOON, unset).await;

    let api = &tenants(&server, namespace);
    api.delete("it", &DeleteParams::default()).await.expect("deleted");
    let gone = || async move { api.get_opt("it").await.expect("an answer").is_none().then_some(()) };
    eventually("the tenant is gone", Duration::from_secs(75), gone).await;
    operator.stop().await;
}
