//! A tenant from its manifest to nothing: fast, through kills of the operator, with a backend down, and refused.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, ensure};
use contracts::{ErrorCode, api::RegisterRequest};
use crds::{MessengerCell, MessengerTenant};
use e2e::{
    World,
    cluster::{OPERATOR_NAMESPACE, refusal},
    eventually,
    faults::Hung,
    report,
    stack::{Backend, root},
    story,
    users::{TestUser, refused},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, ValidationDirective},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

const LIMIT: Duration = Duration::from_secs(480);
const MINUTE: Duration = Duration::from_secs(60);
/// With the operator killed on the way.
const CONVERGENCE: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tenant_becomes_ready_and_goes_without_a_trace() {
    story(LIMIT, async |world: &World| {
        let name = "e2efresh";
        world.cluster.delete_tenant(name, CONVERGENCE).await?;
        let began = Instant::now();
        world.cluster.apply_tenant(name, json!({ "deletionPolicy": "Delete" })).await?;
        let parts = time_of_each_part(world, name, began).await?;
        let took = parts.get("Ready").copied().context("Ready")?;
        let parts: Vec<String> =
            parts.iter().map(|(part, at)| format!("{part} {:.1} s", at.as_secs_f64())).collect();
        report(format!(
            "new tenant on a running stack: Ready after {:.1} s ({})",
            took.as_secs_f64(),
            parts.join(", ")
        ));

        let messenger = world.stack.messenger(name);
        let (ann, ben, chat) = TestUser::two(&messenger).await?;
        let (ann_online, ben_online) = (ann.online(&[chat]).await, ben.online(&[chat]).await);
        let seq = ann_online.send(chat, "a messenger of our own").await?;
        ben_online.sees(chat, seq, MINUTE).await?;
        drop((ann_online, ben_online));

        let remains = world.stack.remains(name).await?;
        ensure!(remains.len() >= 6, "a running tenant is found in every backend: {remains:#?}");
        let took = world.cluster.delete_tenant(name, CONVERGENCE).await?;
        let remains = world.stack.remains(name).await?;
        ensure!(remains.is_empty(), "left behind: {remains:#?}");
        report(format!(
            "kubectl delete with policy Delete: nothing is left after {:.1} s",
            took.as_secs_f64()
        ));
        Ok(())
    })
    .await;
}

/// Returns when each condition first was True, from the apply on.
async fn time_of_each_part(
    world: &World,
    name: &str,
    began: Instant,
) -> anyhow::Result<BTreeMap<String, Duration>> {
    let mut reached = BTreeMap::new();
    loop {
        let tenant = world.cluster.tenants(name).get(name).await?;
        for condition in tenant.status.unwrap_or_default().conditions {
            if condition.status == "True" {
                reached.entry(condition.type_).or_insert_with(|| began.elapsed());
            }
        }
        if reached.contains_key("Ready") {
            return Ok(reached);
        }
        let is_late = began.elapsed() >= CONVERGENCE;
        ensure!(!is_late, "not Ready after {} s; True so far: {reached:?}", CONVERGENCE.as_secs());
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_at_any_moment_converges() {
    story(LIMIT, async |world: &World| {
        let name = "e2ekilled";
        world.cluster.delete_tenant(name, CONVERGENCE).await?;

        world.cluster.apply_tenant(name, json!({ "deletionPolicy": "Delete" })).await?;
        kill_operator_at_random(world, 3).await?;
        let took = world.cluster.await_ready(name, CONVERGENCE).await?;
        report(format!(
            "created with 3 kills of the operator: Ready {:.1} s after the last",
            took.as_secs_f64()
        ));

        let edit = json!({ "deletionPolicy": "Delete", "kafka": { "retention": "24h" },
            "identity": { "registration": "InviteOnly" }, "services": { "user": { "replicas": 2 } } });
        world.cluster.apply_tenant(name, edit).await?;
        kill_operator_at_random(world, 2).await?;
        world.cluster.await_ready(name, CONVERGENCE).await?;
        let retention = world.stack.topic_setting(&format!("{name}.message.send"), "retention.ms").await?;
        ensure!(retention == "86400000", "the retention is {retention}");
        let stranger =
            RegisterRequest { username: "ann".into(), password: "correct horse".into(), display_name: None };
        refused(world.stack.messenger(name).register(&stranger).await, ErrorCode::PermissionDenied)?;

        world.cluster.tenants(name).delete(name, &DeleteParams::default()).await?;
        kill_operator_at_random(world, 2).await?;
        world.cluster.delete_tenant(name, CONVERGENCE).await?;
        let remains = world.stack.remains(name).await?;
        ensure!(remains.is_empty(), "left behind: {remains:#?}");
        world.cluster.await_ready("acme", CONVERGENCE).await?;
        Ok(())
    })
    .await;
}

async fn kill_operator_at_random(world: &World, times: usize) -> anyhow::Result<()> {
    for _ in 0..times {
        // The moment is random on purpose: over many runs every step is cut in half.
        let moment = Duration::from_millis(rand::random_range(0..5_000));
        sleep(moment).await;
        world.cluster.kill_operator().await?;
        eventually("the operator runs again", CONVERGENCE, || async {
            let pods = world.cluster.pods(OPERATOR_NAMESPACE).list(&ListParams::default()).await?;
            let running = pods.items.iter().any(|pod| {
                let status = pod.status.as_ref();
                status.is_some_and(|status| status.phase.as_deref() == Some("Running"))
                    && pod.metadata.deletion_timestamp.is_none()
            });
            ensure!(running, "no pod of it runs");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_ends_although_a_backend_is_down() {
    story(LIMIT, async |world: &World| {
        let name = "e2edown";
        world.cluster.delete_tenant(name, CONVERGENCE).await?;
        world.cluster.apply_tenant(name, json!({ "deletionPolicy": "Delete" })).await?;
        world.cluster.await_reason(name, "IdentityReady", "InSync", CONVERGENCE).await?;

        // A server that hangs is worse than one that is gone: its connections stay open.
        let hung = Hung::stop(&world.stack, Backend::Keycloak)?;
        let took = world.cluster.delete_tenant(name, CONVERGENCE).await?;
        report(format!("deleted in {:.1} s while Keycloak hung", took.as_secs_f64()));
        drop(hung);
        let remains = eventually("Keycloak responds again", MINUTE, || world.stack.remains(name)).await?;
        ensure!(
            remains.iter().all(|left| left.starts_with("realm ")),
            "left behind beside the realm: {remains:#?}"
        );
        eventually("what was left behind is removed", CONVERGENCE, || async {
            let remains = world.stack.remains(name).await?;
            ensure!(remains.is_empty(), "left behind: {remains:#?}");
            Ok(())
        })
        .await?;
        world.cluster.await_ready("acme", CONVERGENCE).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_tenants_with_one_id_the_oldest_wins() {
    story(LIMIT, async |world: &World| {
        let name = "e2etwin";
        world.cluster.delete_tenant(name, CONVERGENCE).await?;
        world.cluster.await_ready("acme", CONVERGENCE).await?;
        let owner = world.cluster.owner("acme").await?;
        let before = world.stack.kafka_of("acme", &owner).await?;
        world.cluster.apply_tenant_as(name, "acme", json!({ "deletionPolicy": "Delete" })).await?;
        let message = world.cluster.await_reason(name, "Ready", "ResourceConflict", MINUTE).await?;
        ensure!(message.contains("acme"), "the message does not name the winner: {message}");
        let deployments = world.cluster.deployments(name).list(&ListParams::default()).await?;
        ensure!(deployments.items.is_empty(), "the loser has Deployments");
        world.cluster.delete_tenant(name, CONVERGENCE).await?;
        ensure!(world.stack.kafka_of("acme", &owner).await? == before, "the winner's Kafka objects changed");
        world.cluster.await_ready("acme", CONVERGENCE).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_tenant_comes_back_with_its_messages_and_to_its_own_namespace_only() {
    story(LIMIT, async |world: &World| {
        let (name, stranger) = ("e2ekept", "e2ethief");
        world.cluster.delete_tenant(stranger, CONVERGENCE).await?;
        world.cluster.delete_tenant(name, CONVERGENCE).await?;

        // What an earlier story that failed has left would be taken over here.
        world.cluster.apply_tenant(name, json!({ "deletionPolicy": "Retain" })).await?;
        world.cluster.await_ready(name, CONVERGENCE).await?;
        let messenger = world.stack.messenger(name);
        let (ann, _ben, chat) = TestUser::two(&messenger).await?;
        let online = ann.online(&[chat]).await;
        let seq = online.send(chat, "to be continued").await?;
        drop(online);
        world.cluster.delete_tenant(name, CONVERGENCE).await?;
        let kept = world.stack.remains(name).await?;

        world.cluster.apply_tenant_as(stranger, name, json!({ "deletionPolicy": "Delete" })).await?;
        for part in ["KafkaReady", "StoreReady", "IdentityReady", "DatabaseReady", "CacheReady"] {
            let message = world.cluster.await_reason(stranger, part, "ResourceConflict", MINUTE).await?;
            ensure!(message.contains(&format!("kept for namespace {name}")), "{part}: {message}");
        }
        world.cluster.delete_tenant(stranger, CONVERGENCE).await?;
        ensure!(world.stack.remains(name).await? == kept, "a stranger's policy Delete removed kept data");

        world.cluster.apply_tenant(name, json!({ "deletionPolicy": "Delete" })).await?;
        world.cluster.await_ready(name, CONVERGENCE).await?;
        let ann = ann.sign_in_again().await?;
        let online = ann.online(&[chat]).await;
        online.sees(chat, seq, MINUTE).await?;
        let next = online.send(chat, "continued").await?;
        ensure!(next == seq + 1, "after {seq} comes {next}");
        let bodies: Vec<_> = ann.history(chat).await?.into_iter().map(|message| message.body).collect();
        ensure!(bodies == ["to be continued", "continued"], "{bodies:?}");
        drop(online);
        world.cluster.delete_tenant(name, CONVERGENCE).await?;
        let remains = world.stack.remains(name).await?;
        ensure!(remains.is_empty(), "left behind: {remains:#?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_topic_is_recreated_after_consent_and_no_message_is_lost() {
    story(LIMIT, async |world: &World| {
        let name = "e2elost";
        world.cluster.delete_tenant(name, CONVERGENCE).await?;
        world.cluster.apply_tenant(name, json!({ "deletionPolicy": "Delete" })).await?;
        world.cluster.await_ready(name, CONVERGENCE).await?;
        let messenger = world.stack.messenger(name);
        let (ann, ben, chat) = TestUser::two(&messenger).await?;
        let (ann_online, ben_online) = (ann.online(&[chat]).await, ben.online(&[chat]).await);
        let before = ann_online.send(chat, "before").await?;

        world.stack.delete_topic(&format!("{name}.message.send")).await?;
        let message = world.cluster.await_reason(name, "KafkaReady", "DataLoss", CONVERGENCE).await?;
        let consent = format!("annotate --overwrite mt {name} {}=", crds::ACCEPT_LOSS_ANNOTATION);
        let (_, value) =
            message.split_once(&consent).with_context(|| format!("no consent is named: {message}"))?;
        let value = value.trim_end_matches('`');
        let began = Instant::now();
        annotate(world, name, crds::ACCEPT_LOSS_ANNOTATION, value).await?;
        world.cluster.await_reason(name, "KafkaReady", "InSync", CONVERGENCE).await?;
        world.cluster.await_ready(name, CONVERGENCE).await?;
        report(format!(
            "a lost topic was recreated {:.1} s after the consent",
            began.elapsed().as_secs_f64()
        ));

        let after =
            eventually("messages are stored again", CONVERGENCE, || ann_online.send(chat, "after")).await?;
        ensure!(after > before, "after {before} comes {after}");
        ben_online.sees(chat, after, MINUTE).await?;
        let history = ben.history(chat).await?;
        let seqs: Vec<_> = history.iter().map(|message| message.seq).collect();
        ensure!(seqs == (before..=after).collect::<Vec<_>>(), "seqs {seqs:?}");
        ensure!(history[0].body == "before", "{history:?}");
        drop((ann_online, ben_online));
        world.cluster.delete_tenant(name, CONVERGENCE).await?;
        Ok(())
    })
    .await;
}

async fn annotate(world: &World, name: &str, key: &str, value: &str) -> anyhow::Result<()> {
    let patch = json!({ "metadata": { "annotations": { key: value } } });
    world.cluster.tenants(name).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_without_a_valid_secret_is_reported_in_the_tenants_condition() {
    story(LIMIT, async |world: &World| {
        let (cell, name) = ("e2e-cell", "e2ecell");
        let cells: Api<MessengerCell> = Api::all(world.cluster.client.clone());
        let secrets: Api<Secret> = world.cluster.secrets(OPERATOR_NAMESPACE);
        world.cluster.delete_tenant(name, CONVERGENCE).await?;
        let secret = "e2e-cell-kafka";
        let _ = secrets.delete(secret, &DeleteParams::default()).await;

        let mut spec = serde_json::to_value(&cells.get("local").await?.spec)?;
        spec["kafka"]["adminSecretRef"] = json!({ "name": secret });
        let manifest = json!({
            "apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": "MessengerCell",
            "metadata": { "name": cell }, "spec": spec,
        });
        let params = PatchParams::apply("e2e").force();
        cells.patch(cell, &params, &Patch::Apply(manifest)).await?;
        let spec = json!({ "cellRef": { "name": cell }, "deletionPolicy": "Delete" });
        world.cluster.apply_tenant(name, spec).await?;
        let message = world.cluster.await_reason(name, "KafkaReady", "AdminSecretMissing", MINUTE).await?;
        ensure!(message.contains(secret), "the message does not name the Secret: {message}");

        put_secret(&secrets, secret, "unknown", "wrong").await?;
        let message =
            world.cluster.await_reason(name, "KafkaReady", "CredentialsRejected", MINUTE * 2).await?;
        ensure!(!message.contains("wrong"), "the message shows the password: {message}");
        // The other backends do not wait for this one.
        world.cluster.await_reason(name, "DatabaseReady", "InSync", MINUTE).await?;

        let good = world.cluster.secret(OPERATOR_NAMESPACE, "cell-local-kafka").await?;
        put_secret(&secrets, secret, &good["username"], &good["password"]).await?;
        world.cluster.await_reason(name, "KafkaReady", "InSync", MINUTE * 2).await?;
        world.cluster.delete_tenant(name, CONVERGENCE).await?;
        cells.delete(cell, &DeleteParams::default()).await?;
        secrets.delete(secret, &DeleteParams::default()).await?;
        let remains = world.stack.remains(name).await?;
        ensure!(remains.is_empty(), "left behind: {remains:#?}");
        Ok(())
    })
    .await;
}

async fn put_secret(secrets: &Api<Secret>, name: &str, username: &str, password: &str) -> anyhow::Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
        "stringData": { "username": username, "password": password },
    });
    secrets.patch(name, &PatchParams::apply("e2e").force(), &Patch::Apply(secret)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_manifest_names_the_field_and_the_rule() {
    story(LIMIT, async |world: &World| {
        let (mut refused, mut wrong) = (0, Vec::new());
        for entry in fs::read_dir(root().join("examples/tenants/refused"))? {
            let path = entry?.path();
            let text = fs::read_to_string(&path)?;
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // The server reports some rules in its own words.
            let line_after = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
            let expected = line_after("# Refused by the server: ").or_else(|| line_after("# Refused: "));
            let expected = expected.with_context(|| format!("{file} has no line `# Refused: TEXT`"))?;
            let documents = serde_saphyr::from_multiple::<serde_json::Value>(&text)?;
            match refused_by_server(world, &documents).await.with_context(|| file.clone()) {
                Ok(message) if message.contains(expected) => refused += 1,
                Ok(message) => wrong.push(format!("{file}: {message:?}, without {expected:?}")),
                Err(error) => wrong.push(format!("{error:#}")),
            }
        }
        ensure!(wrong.is_empty(), "{wrong:#?}");
        ensure!(refused >= 5, "only {refused} refused examples were found");
        Ok(())
    })
    .await;
}

/// Applies a manifest without an effect, or an edit (two manifests) of a tenant that is paused; returns the refusal.
async fn refused_by_server(world: &World, documents: &[serde_json::Value]) -> anyhow::Result<String> {
    let api: Api<kube::api::DynamicObject> = Api::default_namespaced_with(
        world.cluster.client.clone(),
        &kube::api::ApiResource::erase::<MessengerTenant>(&()),
    );
    let strict = |dry_run| PostParams { dry_run, field_manager: Some("e2e".into()) };
    let mut object: kube::api::DynamicObject = serde_json::from_value(documents[0].clone())?;
    let mut params = PatchParams::apply("e2e").force();
    params.field_validation = Some(ValidationDirective::Strict);
    let Some(edit) = documents.get(1) else {
        // As `kubectl apply` does: an unknown field is an error.
        let path = format!("{}?dryRun=All&fieldValidation=Strict&fieldManager=e2e", api.resource_url());
        let request = http::Request::post(path).header("content-type", "application/json");
        let request = request.body(serde_json::to_vec(&documents[0])?)?;
        return refusal(world.cluster.client.request::<serde_json::Value>(request).await);
    };
    object.data["spec"]["paused"] = json!(true);
    let name = object.name_any();
    let _ = api.delete(&name, &DeleteParams::default()).await;
    eventually("the last edit's tenant is gone", MINUTE, || async {
        ensure!(api.get_opt(&name).await?.is_none(), "it is still there");
        Ok(())
    })
    .await?;
    api.create(&strict(false), &object).await?;
    params.dry_run = true;
    let outcome = refusal(api.patch(&name, &params, &Patch::Apply(edit.clone())).await);
    api.delete(&name, &DeleteParams::default()).await?;
    outcome
}
