//! Sessions and accounts that end, on all gateways of a tenant.

use std::time::Duration;

use anyhow::ensure;
use catalog::HTTP_PORT;
use contracts::ErrorCode;
use e2e::{
    World, eventually, stories, story,
    users::{TestUser, refused},
};
use posthouse::client::Messenger;
use serde_json::json;

const TENANT: &str = "e2esessions";
const LIMIT: Duration = Duration::from_secs(480);
const CONVERGENCE: Duration = Duration::from_secs(150);
const GATEWAYS: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_accounts_end_with_their_connections_on_all_gateways() {
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
        let messenger = world.stack.messenger(TENANT);
        stories::sign_out(&messenger, &gateways).await?;
        stories::deletion(&messenger, &gateways).await?;
        // An administrator of the realm deletes an account: its next refresh notices.
        let (cleo, ben, chat) = TestUser::two(&messenger).await?;
        let realm = world.stack.keycloak().await?;
        realm.delete(&format!("/admin/realms/{TENANT}/users/{}", cleo.id())).await?;
        refused(messenger.refresh(&cleo.identity.refresh_token().await).await, ErrorCode::Unauthenticated)?;
        eventually("the chat knows", CONVERGENCE, || async {
            let members = messenger.members(&ben.token().await?, chat).await?.items;
            ensure!(members.len() == 1, "{members:?}");
            Ok(())
        })
        .await?;
        ensure!(messenger.user(&ben.token().await?, cleo.id()).await?.deleted, "the profile does not say so");
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        Ok(())
    })
    .await;
}
