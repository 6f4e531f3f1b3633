//! A tenant moves between its topologies while its users write.

use std::{sync::atomic::AtomicUsize, time::Duration};

use anyhow::ensure;
use e2e::{
    World,
    checker::Acked,
    eventually, report, story,
    users::TestUser,
    writing::{all_is_there, more_are_stored, write},
};
use kube::{ResourceExt, api::ListParams};
use serde_json::json;
use tokio::{sync::watch, time::Instant};

const TENANT: &str = "e2etopology";
const LIMIT: Duration = Duration::from_secs(480);
const CONVERGENCE: Duration = Duration::from_secs(150);
/// After the last send, until every receiver has everything.
const SETTLING: Duration = Duration::from_secs(60);
/// Messages that have to be stored in each topology before the next change.
const IN_EACH: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_topology_in_either_direction_loses_no_acked_message() {
    story(LIMIT, async |world: &World| {
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        apply(world, "Distributed").await?;
        let messenger = world.stack.messenger(TENANT);
        let (ann, ben, chat) = TestUser::two(&messenger).await?;
        let (ann_online, ben_online) = (ann.online(&[chat]).await, ben.online(&[chat]).await);

        let (stop, stopped) = watch::channel(false);
        let stored = AtomicUsize::new(0);
        let moves = async {
            for topology in ["Compact", "Distributed"] {
                let began = Instant::now();
                apply(world, topology).await?;
                report(format!("{topology} and Ready again after {:.1} s", began.elapsed().as_secs_f64()));
                let what = format!("messages are stored in {topology}");
                more_are_stored(&what, &stored, IN_EACH, SETTLING).await?;
            }
            stop.send_replace(true);
            anyhow::Ok(())
        };
        let ((), of_ann, of_ben) = tokio::try_join!(
            moves,
            write(&ann_online, ann.id(), chat, &stored, stopped.clone()),
            write(&ben_online, ben.id(), chat, &stored, stopped),
        )?;

        let slowest = of_ann.iter().chain(&of_ben).map(|(_, took)| *took).max().unwrap_or_default();
        let acked: Vec<Acked> = of_ann.into_iter().chain(of_ben).map(|(acked, _)| acked).collect();
        report(format!(
            "{} messages over two changes of topology, the slowest stored after {:.1} s",
            acked.len(),
            slowest.as_secs_f64()
        ));
        ensure!(!acked.is_empty(), "no message was sent");
        let history = ann.history(chat).await?;
        all_is_there(&[&ann_online, &ben_online], chat, history, &acked, SETTLING).await?;
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        Ok(())
    })
    .await;
}

/// Applies the tenant in a topology, and waits until it is Ready and nothing of the other topology is left.
async fn apply(world: &World, topology: &str) -> anyhow::Result<()> {
    world.cluster.apply_tenant(TENANT, json!({ "deletionPolicy": "Delete", "topology": topology })).await?;
    world.cluster.await_ready(TENANT, CONVERGENCE).await?;
    let compact = format!("{TENANT}-compact");
    eventually(&format!("only the {topology} workloads are left"), CONVERGENCE, || async {
        let deployments = world.cluster.deployments(TENANT).list(&ListParams::default()).await?;
        let names: Vec<String> = deployments.items.iter().map(ResourceExt::name_any).collect();
        let is_compact = names == [compact.clone()];
        let is_distributed = !names.is_empty() && !names.contains(&compact);
        ensure!(if topology == "Compact" { is_compact } else { is_distributed }, "{names:?}");
        Ok(())
    })
    .await
}
