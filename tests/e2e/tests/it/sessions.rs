//! Sessions and accounts that end, on all gateways of a tenant.

use std::time::Duration;

use anyhow::ensure;
use catalog::HTTP_PORT;
use contracts::ErrorCode;
use e2e::{
    World, eventually, stories, story,
    users::{TestUser, refused},
};
use futures_util::future::try_join_all;
use posthouse_client::Messenger;
use serde_json::json;

const TENANT: &str = "e2esessions";
const LIMIT: Duration = Duration::from_secs(480);
const CONVERGENCE: Duration = Duration::from_secs(150);
const GATEWAYS: usize = 2;
const AUTHS: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_accounts_end_with_their_connections_on_all_gateways() {
    story(LIMIT, async |world: &World| {
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        let services = json!({ "gateway": { "replicas": GATEWAYS }, "auth": { "replicas": AUTHS } });
        let spec = json!({ "deletionPolicy": "Delete", "services": services });
        world.cluster.apply_tenant(TENANT, spec).await?;
        world.cluster.await_ready(TENANT, CONVERGENCE).await?;
        let gateways = replicas(world, "gateway", GATEWAYS).await?;
        let messenger = world.stack.messenger(TENANT);
        one_token_at_two_replicas(&messenger, &replicas(world, "auth", AUTHS).await?).await?;
        stories::sign_out(&messenger, &gateways).await?;
        stories::devices(&messenger, &gateways).await?;
        stories::deletion(&messenger, &gateways).await?;
        // An administrator of the realm deletes an account: its next refresh notices.
        let (cleo, ben, chat) = TestUser::two(&messenger).await?;
        let realm = world.stack.keycloak().await?;
        realm.delete(&format!("/admin/realms/{TENANT}/users/{}", cleo.id())).await?;
        refused(messenger.refresh(&cleo.identity.refresh_token().await).await, ErrorCode::Unauthenticated)?;
        eventually("the chat knows", CONVERGENCE, || async {
            let members = messenger.members(&ben.token().await?, chat).await?;
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

/// Returns the pods of a service, past Traefik.
async fn replicas(world: &World, service: &str, expected: usize) -> anyhow::Result<Vec<Messenger>> {
    let addresses = world.cluster.pod_addresses(TENANT, service).await?;
    ensure!(addresses.len() == expected, "{} of {expected} pods of {service} are ready", addresses.len());
    let url = |address| format!("http://{address}:{HTTP_PORT}").parse();
    addresses.into_iter().map(|address| Ok(Messenger::new(&url(address)?)?)).collect()
}

/// Windows of one client refresh at the same moment, and Traefik spreads them over the replicas.
async fn one_token_at_two_replicas(messenger: &Messenger, replicas: &[Messenger]) -> anyhow::Result<()> {
    let user = TestUser::register(messenger, "amy").await?;
    let mut token = user.identity.refresh_token().await;
    for _ in 0..3 {
        let windows = replicas.iter().cycle().take(6).map(|replica| replica.refresh(&token));
        let answers = try_join_all(windows).await?;
        let next = answers[0].refresh_token.clone();
        ensure!(
            answers.iter().all(|tokens| tokens.refresh_token == next),
            "windows received different tokens"
        );
        token = next;
    }
    Ok(())
}
