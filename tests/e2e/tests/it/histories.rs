//! Devices that agree with what is stored, over real backends, in both topologies and through kills.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use e2e::{World, faults::Part, histories::Histories, report, stack::Backend, story};
use rand::seq::SliceRandom as _;
use serde_json::json;

const TENANT: &str = "e2ehistories";
/// A tenant is ready, or gone, within this time.
const CONVERGENCE: Duration = Duration::from_secs(150);
const KILLS_LIMIT: Duration = Duration::from_secs(900);

#[tokio::test(flavor = "multi_thread")]
async fn state_and_events_are_what_a_new_device_fetches() {
    let histories = Histories { lanes: 4, ..Histories::from_environment(12) };
    story(histories.limit(), async |world: &World| {
        let began = Instant::now();
        let happened = histories.run(&world.stack.messenger("acme")).await?;
        report(format!("{histories:?}: {happened} happenings in {:?}", began.elapsed()));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_they_are_whatever_is_killed_in_both_topologies() {
    story(KILLS_LIMIT, async |world: &World| {
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        let two = json!({ "gateway": { "replicas": 2 }, "message": { "replicas": 2 } });
        let topologies = [
            (json!({ "deletionPolicy": "Delete", "services": two }), Part::PATH.to_vec()),
            (
                json!({ "deletionPolicy": "Delete", "topology": "Compact" }),
                vec![Part::Pods("compact"), Part::Backend(Backend::Kafka), Part::Backend(Backend::Cassandra)],
            ),
        ];
        for (spec, mut parts) in topologies {
            world.cluster.apply_tenant(TENANT, spec).await?;
            world.cluster.await_ready(TENANT, CONVERGENCE).await?;
            parts.shuffle(&mut rand::rng());
            kill_in_the_middle(world, &parts).await?;
        }
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        Ok(())
    })
    .await;
}

/// Runs histories for as long as it takes to kill all parts, and one round more.
async fn kill_in_the_middle(world: &World, parts: &[Part]) -> anyhow::Result<()> {
    let messenger = world.stack.messenger(TENANT);
    let (over, rounds) = (Cell::new(false), Cell::new(0));
    let kills = async {
        for part in parts {
            let began = Instant::now();
            part.kill(world, TENANT).await?;
            report(format!("{} are back after {:.1} s", part.name(), began.elapsed().as_secs_f64()));
        }
        over.set(true);
        anyhow::Ok(())
    };
    let histories = async {
        let mut happened = 0;
        loop {
            let is_last = over.get();
            let round = Histories { lanes: 4, is_disturbed: true, ..Histories::from_environment(8) };
            happened += round.run(&messenger).await?;
            rounds.set(rounds.get() + 1);
            if is_last {
                return anyhow::Ok(happened);
            }
        }
    };
    let ((), happened) = tokio::try_join!(kills, histories)?;
    report(format!("{happened} happenings in {} rounds over kills of {parts:?}", rounds.get()));
    Ok(())
}
