//! How many connections there are, over all gateways of a tenant.

use std::time::Duration;

use contracts::wire::CloseCode;
use gateway::Settings;
use kit::testing::wait_for;
use tokio_tungstenite::tungstenite::Error;

use crate::{
    client::Client,
    stand::{PATIENCE, Stand, device, user, with_settings},
};

/// Each gateway has a name of its own where they run as pods.
fn settings(settings: &mut Settings) {
    settings.limits.session_refresh = Duration::from_secs(1);
    settings.connections.connections_per_user = 3;
    settings.connections.tenant_connections = 6;
}

/// Returns the connections of user 1, as the directory has them.
async fn listed(stand: &Stand) -> usize {
    stand.redis.size(&format!("mt:{}:connections:{}", stand.tenant, user(1))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_one_limit_over_all_gateways_and_the_oldest_connection_goes() {
    with_settings(settings, async |stand| {
        let other = stand.another_gateway_with(settings).await;
        let mut here = Vec::new();
        for n in 1..=3 {
            here.push(stand.connect(user(1), device(n)).await);
        }
        wait_for("three in the directory", PATIENCE, async || (listed(&stand).await == 3).then_some(()))
            .await;
        let mut there = Client::open(other.http).await;
        there.connect(&stand.realm.token(user(1), "one"), device(4)).await;
        assert_eq!(here.remove(0).closed().await, Some(CloseCode::Superseded.code()), "the oldest");
        wait_for("three of four", PATIENCE, async || (listed(&stand).await == 3).then_some(())).await;

        // What ends is forgotten.
        drop((here, there));
        wait_for("none", PATIENCE, async || (listed(&stand).await == 0).then_some(())).await;
        other.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_has_so_many_connections() {
    with_settings(settings, async |stand| {
        let mut open = Vec::new();
        for n in 1..=6 {
            open.push(stand.connect(user(n), device(n)).await);
        }
        let refused = Client::try_open(stand.gateway.http, None).await;
        let Err(Error::Http(answer)) = refused.map(drop) else { panic!("one too many was taken") };
        let body = String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned();
        assert!(answer.status() == 503 && body.contains("as many connections"), "{body}");
        drop(open.pop());
        let taken = async || Client::try_open(stand.gateway.http, None).await.ok().map(drop);
        wait_for("room for another", PATIENCE, taken).await;
    })
    .await;
}
