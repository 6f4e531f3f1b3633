//! A manual edit is reverted, and an Event reports it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use e2e::{World, eventually, report, story};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_secs(300);
/// Until the next periodic check of the backends: they do not report changes.
const ROUND: Duration = Duration::from_secs(150);
/// Kubernetes reports a change immediately.
const WATCHED: Duration = Duration::from_secs(60);
const REASON: &str = "DriftRepaired";

#[tokio::test(flavor = "multi_thread")]
async fn a_topics_retention_is_put_back() {
    story(LIMIT, async |world: &World| {
        world.cluster.await_ready("acme", WATCHED).await?;
        let topic = "acme.message.delivered";
        let declared = world.stack.topic_setting(topic, "retention.ms").await?;
        let edit = Edit::begin(world).await?;
        world.stack.set_topic_setting(topic, "retention.ms", "1234567").await?;
        eventually("the retention is put back", ROUND, || async {
            let found = world.stack.topic_setting(topic, "retention.ms").await?;
            ensure!(found == declared, "it is {found}");
            Ok(())
        })
        .await?;
        edit.is_reported(world, &[topic, "retention.ms"], "topic retention").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_realms_client_is_put_back() {
    story(LIMIT, async |world: &World| {
        world.cluster.await_ready("acme", WATCHED).await?;
        let edit = Edit::begin(world).await?;
        world
            .stack
            .keycloak()
            .await?
            .edit_client("acme", "messenger", "standardFlowEnabled", json!(false))
            .await?;
        eventually("the client is put back", ROUND, || async {
            // The administrator's token lives for a minute only.
            let client = world.stack.keycloak().await?.client("acme", "messenger").await?;
            ensure!(client["standardFlowEnabled"] == json!(true), "the standard flow is still off");
            Ok(())
        })
        .await?;
        edit.is_reported(world, &["client messenger", "standardFlowEnabled"], "realm client").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployments_image_is_put_back() {
    story(LIMIT, async |world: &World| {
        world.cluster.await_ready("acme", WATCHED).await?;
        let name = format!("acme-{}", world.cluster.workload("acme", "user").await?);
        let api = world.cluster.deployments("acme");
        let image = async || {
            let deployment = api.get(&name).await?;
            let containers = deployment.spec.and_then(|spec| spec.template.spec).map(|pod| pod.containers);
            let container =
                containers.and_then(|containers| containers.into_iter().next()).context("a container")?;
            anyhow::Ok((container.name, container.image.unwrap_or_default()))
        };
        let (container, declared) = image().await?;
        let patch = json!({ "spec": { "template": { "spec": {
            "containers": [{ "name": container, "image": "somewhere/else:1" }] } } } });
        let edit = Edit::begin(world).await?;
        api.patch(&name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
        eventually("the image is put back", WATCHED, || async {
            let found = image().await?.1;
            ensure!(found == declared, "it is {found}");
            Ok(())
        })
        .await?;
        edit.is_reported(world, &[&format!("Deployment {name}"), "image"], "Deployment image").await?;
        world.cluster.await_ready("acme", ROUND).await.map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_service_comes_back() {
    story(LIMIT, async |world: &World| {
        world.cluster.await_ready("acme", WATCHED).await?;
        let name = format!("acme-{}", world.cluster.workload("acme", "chat").await?);
        let api = world.cluster.services("acme");
        let old = api.get(&name).await?.metadata.uid;
        let edit = Edit::begin(world).await?;
        api.delete(&name, &DeleteParams::default()).await?;
        eventually("the Service is back", WATCHED, || async {
            let found = api.get(&name).await?.metadata.uid;
            ensure!(found != old, "it is the old one");
            Ok(())
        })
        .await?;
        edit.is_reported(world, &[&format!("Service {name}")], "deleted Service").await?;
        world.cluster.await_ready("acme", ROUND).await.map(drop)
    })
    .await;
}

/// A manual edit: when it was made, and which Events there were before.
struct Edit {
    began: Instant,
    known: BTreeMap<String, i32>,
}

impl Edit {
    async fn begin(world: &World) -> anyhow::Result<Self> {
        Ok(Self { known: world.cluster.events("acme").await?, began: Instant::now() })
    }

    /// Waits for the Event about the repair and prints how long it all took.
    async fn is_reported(&self, world: &World, words: &[&str], what: &str) -> anyhow::Result<()> {
        let event = world.cluster.await_event("acme", REASON, words, &self.known, WATCHED).await?;
        report(format!(
            "{what} repaired and reported after {:.1} s: {event}",
            self.began.elapsed().as_secs_f64()
        ));
        Ok(())
    }
}
