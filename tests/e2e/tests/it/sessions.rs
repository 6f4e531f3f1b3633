//! Sessions and accounts that end, on all gateways of a tenant.

use std::time::Duration;

use anyhow::ensure;
use catalog::HTTP_PORT;
use e2e::{World, stories, story};
use posthouse::client::Messenger;
use serde_json::json;

const TENANT: &str = "e2esessions";
const LIMIT: Duration = Duration::from_secs(480);
const CONVERGENCE: Duration = Duration::from_secs(150);
const GATEWAYS: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_connections_on_all_gateways() {
    story(LIMIT, async |world: &World| {
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        let spec = json!({ "deletionPolicy": "Delete", "services": { "gateway": { "replicas": GATEWAYS } } });
        world.cluster.apply_tenant(TENANT, spec).await?;
        world.cluster.await_ready(TENANT, CONVERGENCE).await?;
        let mut gateways = Vec::new();
        for address in world.cluster.pod_addresses(TENANT, "gateway").await? {
            gateways.push(Messenger::new(&format!("http://{address}:{HTTP_PORT}").parse()?)?);
        }
        ensure!(gateways.len() == GATEWAYS, "{} gateways are ready", gateways.len());
        stories::sign_out(&world.stack.messenger(TENANT), &gateways).await?;
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        Ok(())
    })
    .await;
}
