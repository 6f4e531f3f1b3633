//! Presence on the cluster: what users see of each other, while parts of it are gone, and without the service.

use std::time::Duration;

use anyhow::ensure;
use contracts::wire::{PresenceState, Watch};
use e2e::{World, eventually, stories, story, users::TestUser};
use serde_json::json;

const TENANT: &str = "e2epresence";
const LIMIT: Duration = Duration::from_secs(480);
const CONVERGENCE: Duration = Duration::from_secs(150);
/// More than a replaced pod, a new call and a heartbeat take.
const BACK: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn users_see_who_is_there_and_who_types() {
    story(LIMIT, async |world: &World| stories::presence(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_comes_back_and_chats_never_miss_it() {
    story(LIMIT, async |world: &World| {
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        let services = json!({ "presence": { "replicas": 2 }, "gateway": { "replicas": 2 } });
        let spec = json!({ "deletionPolicy": "Delete", "services": services });
        world.cluster.apply_tenant(TENANT, spec).await?;
        world.cluster.await_ready(TENANT, CONVERGENCE).await?;
        let messenger = world.stack.messenger(TENANT);
        stories::presence(&messenger).await?;

        // Every replica at once: what was watched is shown again, and messages go on meanwhile.
        let (ann, ben, chat) = TestUser::two(&messenger).await?;
        let (watcher, there) = (ann.online(&[chat]).await, ben.online(&[chat]).await);
        watcher.session.watch(Watch { users: vec![ben.id()], chats: vec![chat] }).await;
        stories::seen_as(&watcher, &ben, PresenceState::Online).await?;
        let sends = async {
            let mut seq = 0;
            for number in 0..20 {
                seq = there.send(chat, &format!("message {number}")).await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            anyhow::Ok(seq)
        };
        let (replaced, seq) = tokio::join!(world.cluster.replace_pods(TENANT, "presence", BACK), sends);
        replaced?;
        watcher.sees(chat, seq?, BACK).await?;
        watcher.seen().presence.clear();
        drop(there);
        eventually("ben is seen to go", BACK, || async {
            let seen = watcher.seen().presence.get(&ben.id()).copied();
            ensure!(seen.is_some_and(|seen| seen.state == PresenceState::Offline), "{seen:?}");
            Ok(())
        })
        .await?;

        // A tenant without the service chats on, and no user knows of any other.
        let services = json!({ "presence": { "enabled": false } });
        world
            .cluster
            .apply_tenant(TENANT, json!({ "deletionPolicy": "Delete", "services": services }))
            .await?;
        world.cluster.await_ready(TENANT, CONVERGENCE).await?;
        let there = ben.online(&[chat]).await;
        let seq = there.send(chat, "no presence here").await?;
        watcher.sees(chat, seq, BACK).await?;
        watcher.session.watch(Watch { users: vec![ben.id()], chats: vec![] }).await;
        stories::seen_as(&watcher, &ben, PresenceState::Unknown).await?;
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        Ok(())
    })
    .await;
}
