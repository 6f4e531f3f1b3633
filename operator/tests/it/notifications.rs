//! What the notification service needs of a Secret that a manifest names, from there to its pods.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::stand::{
    Operator, SOON, condition_message, create_tenant, edit_tenant, eventually, flags, on_real_backends,
    tenants,
};

const URL: &str = "https://sms.acme.example/send";
const SECRETS_ANNOTATION: &str = "messenger.posthouse.dev/secrets";

/// Returns the arguments of the service's pods, and the digest of the Secrets that they have.
async fn pods(deployments: &Api<Deployment>) -> Option<(BTreeMap<String, String>, String)> {
    let deployment = deployments.get_opt("it-notification").await.expect("an answer")?;
    let arguments = flags(&deployment)?;
    let digest = deployment.spec?.template.metadata?.annotations?.remove(SECRETS_ANNOTATION)?;
    Some((arguments, digest))
}

async fn patch(secrets: &Api<Secret>, name: &str, change: Value) {
    secrets.patch(name, &PatchParams::default(), &Patch::Merge(change)).await.expect("taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_a_manifest_names_is_copied_and_a_new_key_starts_new_pods() {
    let (server, _) = on_real_backends("notifications").await;
    let operator = Operator::start(&server);
    let id = format!("itn{:x}", std::process::id());
    let namespace = id.as_str();
    let sms = json!({"url": URL, "signingKeySecretRef": {"name": "sms-hook"}, "interval": "30m"});
    let spec = json!({"tenantId": id, "cellRef": {"name": "real"}, "deletionPolicy": "Delete",
        "kafka": {"partitions": 1}, "services": {"notification": {"enabled": true}}, "notifications": {"sms": sms}});
    create_tenant(&server, namespace, "it", spec).await;
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), namespace);
    let deployments: Api<Deployment> = Api::namespaced(server.client.clone(), namespace);
    let unusable = async |expected: &str| {
        let says = || async {
            let (status, reason) = ("False", "SecretInvalid");
            let message = condition_message(&server, namespace, "it", "WorkloadsReady", status, reason).await;
            message.contains(expected).then_some(())
        };
        eventually(expected, SOON, says).await;
    };
    unusable(&format!("spec.notifications.sms: Secret {namespace}/sms-hook does not exist; create it")).await;
    let of_others = || async { deployments.get_opt("it-chat").await.expect("an answer").map(drop) };
    eventually("other services have their pods", SOON * 2, of_others).await;
    assert!(deployments.get_opt("it-notification").await.expect("an answer").is_none());

    let secret =
        json!({"metadata": {"name": "sms-hook"}, "stringData": {"signingKey": "the first signing key"}});
    let secret: Secret = serde_json::from_value(secret).expect("a Secret");
    secrets.create(&PostParams::default(), &secret).await.expect("taken");
    unusable("does not consent to sign requests to this URL").await;
    let consent = json!({"metadata": {"annotations": {"messenger.posthouse.dev/sms-url": URL}}});
    patch(&secrets, "sms-hook", consent).await;
    let copied = async |expected: Option<&str>| {
        let is_copied = || async {
            let data = secrets.get_opt("it-sms").await.expect("an answer")?.data.unwrap_or_default();
            let found = data.get("signingKey").map(|value| String::from_utf8_lossy(&value.0).into_owned());
            (found.as_deref() == expected).then_some(())
        };
        eventually("the key is copied", SOON, is_copied).await;
    };
    copied(Some("the first signing key")).await;
    let (arguments, first) = eventually("the service has pods", SOON * 2, || pods(&deployments)).await;
    assert_eq!(arguments["--sms-url"], URL);
    assert_eq!(arguments["--sms-interval-seconds"], "1800");
    assert!(!arguments.values().any(|value| value.contains("signing key")));
    operator.comes_to_rest().await;

    patch(&secrets, "sms-hook", json!({"stringData": {"signingKey": "the second signing key"}})).await;
    copied(Some("the second signing key")).await;
    let replaced = || async {
        let (_, digest) = pods(&deployments).await?;
        (digest != first).then_some(digest)
    };
    let second = eventually("pods are replaced", SOON, replaced).await;
    // What cannot be used changes nothing.
    patch(&secrets, "sms-hook", json!({"stringData": {"signingKey": "short"}})).await;
    unusable("key signingKey of Secret").await;
    let (_, digest) = pods(&deployments).await.expect("they are there");
    assert_eq!(digest, second);
    copied(Some("the second signing key")).await;

    edit_tenant(&server, namespace, "it", json!({"notifications": null})).await;
    copied(None).await;
    let unset = || async {
        let (arguments, _) = pods(&deployments).await?;
        (!arguments.contains_key("--sms-url")).then_some(())
    };
    eventually("the service sends no text messages", SOON, unset).await;
    operator.comes_to_rest().await;

    let api = &tenants(&server, namespace);
    api.delete("it", &DeleteParams::default()).await.expect("deleted");
    let gone = || async move { api.get_opt("it").await.expect("an answer").is_none().then_some(()) };
    eventually("the tenant is gone", Duration::from_secs(75), gone).await;
    operator.stop().await;
}
