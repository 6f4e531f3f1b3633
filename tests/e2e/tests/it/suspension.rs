//! A tenant is suspended while one of its users writes, and goes on; and one sleeps until a user comes.

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

const TENANT: &str = "e2esuspended";
const SLEEPER: &str = "e2esleeper";
const LIMIT: Duration = Duration::from_secs(480);
const CONVERGENCE: Duration = Duration::from_secs(150);
const MINUTE: Duration = Duration::from_secs(60);
/// Messages that have to be stored before and after.
const ON_EACH_SIDE: usize = 20;

/// Waits until no pod is listed. One that has ended runs no more, and is there until the kubelet has removed it.
async fn no_pod_is_left(world: &World, tenant: &str) -> anyhow::Result<()> {
    eventually("no pod is left", MINUTE, || async {
        let pods = world.cluster.pods(tenant).list(&ListParams::default()).await?.items;
        let pods: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        ensure!(pods.is_empty(), "there are pods: {pods:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_has_no_pod_refuses_everyone_and_comes_back_with_every_message() {
    story(LIMIT, async |world: &World| {
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        suspend(world, false).await?;
        world.cluster.await_ready(TENANT, CONVERGENCE).await?;
        let messenger = world.stack.messenger(TENANT);
        let (ann, ben, chat) = TestUser::two(&messenger).await?;
        let (ann_online, ben_online) = (ann.online(&[chat]).await, ben.online(&[chat]).await);

        let (stop, stopped) = watch::channel(false);
        let stored = AtomicUsize::new(0);
        let night = async {
            more_are_stored("messages are stored", &stored, ON_EACH_SIDE, MINUTE).await?;
            let began = Instant::now();
            suspend(world, true).await?;
            world.cluster.await_reason(TENANT, "WorkloadsReady", "Suspended", CONVERGENCE).await?;
            report(format!("suspended, and without a pod after {:.1} s", began.elapsed().as_secs_f64()));
            let message = world.cluster.await_reason(TENANT, "Ready", "Suspended", MINUTE).await?;
            ensure!(message.contains("set it to false to go on"), "{message}");
            no_pod_is_left(world, TENANT).await?;
            for path in ["/docs", "/ws"] {
                eventually(&format!("{path} is refused with the time to come back"), MINUTE, || async {
                    let response = messenger.http().get(messenger.url(path)).send().await?;
                    let wait = response.headers().get("retry-after").map(|wait| wait.as_bytes().to_vec());
                    ensure!(response.status() == 503 && wait.is_some(), "{} {wait:?}", response.status());
                    Ok(())
                })
                .await?;
            }
            let remains = world.stack.remains(TENANT).await?;
            ensure!(remains.len() >= 6, "a suspended tenant is found in every backend: {remains:#?}");

            let began = Instant::now();
            suspend(world, false).await?;
            world.cluster.await_ready(TENANT, CONVERGENCE).await?;
            report(format!("resumed, and Ready again after {:.1} s", began.elapsed().as_secs_f64()));
            more_are_stored("messages are stored", &stored, ON_EACH_SIDE, MINUTE).await?;
            stop.send_replace(true);
            anyhow::Ok(())
        };
        let writing = write(&ann_online, ann.id(), chat, &stored, stopped);
        let ((), of_ann) = tokio::try_join!(night, writing)?;

        let acked: Vec<Acked> = of_ann.into_iter().map(|(acked, _)| acked).collect();
        let history = ben.sign_in_again().await?.history(chat).await?;
        all_is_there(&[&ann_online, &ben_online], chat, history, &acked, MINUTE).await?;
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_wakes_when_a_user_connects_and_loses_nothing() {
    story(LIMIT, async |world: &World| {
        world.cluster.delete_tenant(SLEEPER, CONVERGENCE).await?;
        let spec = |is_suspended: bool| json!({ "deletionPolicy": "Delete", "suspended": is_suspended, "wakeOnConnect": {} });
        world.cluster.apply_tenant(SLEEPER, spec(false)).await?;
        world.cluster.await_ready(SLEEPER, CONVERGENCE).await?;
        let messenger = world.stack.messenger(SLEEPER);
        let (ann, ben, chat) = TestUser::two(&messenger).await?;
        ann.online(&[chat]).await.send(chat, "good night").await?;

        // No client is connected, or it would not sleep.
        world.cluster.apply_tenant(SLEEPER, spec(true)).await?;
        world.cluster.await_reason(SLEEPER, "WorkloadsReady", "Suspended", CONVERGENCE).await?;
        no_pod_is_left(world, SLEEPER).await?;
        let known = world.cluster.events(SLEEPER).await?;

        let began = Instant::now();
        let (ann_online, ben_online) = (ann.online(&[chat]).await, ben.online(&[chat]).await);
        let seq = ann_online.send(chat, "good morning").await?;
        report(format!("woken, and a message is stored after {:.1} s", began.elapsed().as_secs_f64()));
        ensure!(seq == 2, "the message has seq {seq}");
        for online in [&ann_online, &ben_online] {
            online.sees(chat, seq, MINUTE).await?;
        }
        world.cluster.await_event(SLEEPER, "Woken", &["a request came"], &known, MINUTE).await?;
        world.cluster.await_ready(SLEEPER, CONVERGENCE).await?;
        let tenant = world.cluster.tenants(SLEEPER).get(SLEEPER).await?;
        ensure!(tenant.spec.suspended == Some(true), "the manifest is its owner's");
        ensure!(tenant.status.is_some_and(|status| status.wake.is_some()), "the status says that it is awake");

        // What it was woken for goes on without the operator.
        world.cluster.kill_operator().await?;
        ann_online.send(chat, "still here").await?;
        world.cluster.await_ready(SLEEPER, CONVERGENCE).await?;
        let pods = world.cluster.pods(SLEEPER).list(&ListParams::default()).await?.items;
        ensure!(!pods.is_empty(), "it sleeps again");
        world.cluster.delete_tenant(SLEEPER, CONVERGENCE).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_finds_a_page_at_a_sleeping_tenant_and_the_messenger_a_moment_later() {
    story(LIMIT, async |world: &World| {
        world.cluster.delete_tenant(SLEEPER, CONVERGENCE).await?;
        let asleep = json!({ "deletionPolicy": "Delete", "suspended": true, "wakeOnConnect": {} });
        world.cluster.apply_tenant(SLEEPER, asleep).await?;
        world.cluster.await_reason(SLEEPER, "WorkloadsReady", "Suspended", CONVERGENCE).await?;
        let messenger = world.stack.messenger(SLEEPER);
        let open = || async {
            let response =
                messenger.http().get(messenger.url("/")).header("accept", "text/html").send().await?;
            let wait = response.headers().get("retry-after").is_some();
            anyhow::Ok((response.status().as_u16(), wait, response.text().await?))
        };
        let page = eventually("a page says that it is starting", MINUTE, || async {
            let (status, wait, page) = open().await?;
            ensure!(status == 503 && wait, "{status} {page}");
            Ok(page)
        })
        .await?;
        ensure!(page.contains("http-equiv=\"refresh\""), "{page}");
        let began = Instant::now();
        eventually("the web client answers", CONVERGENCE, || async {
            let (status, _, _) = open().await?;
            ensure!(status == 200, "{status}");
            Ok(())
        })
        .await?;
        report(format!(
            "the page of the web client came {:.1} s after the first",
            began.elapsed().as_secs_f64()
        ));
        world.cluster.delete_tenant(SLEEPER, CONVERGENCE).await?;
        Ok(())
    })
    .await;
}

async fn suspend(world: &World, is_suspended: bool) -> anyhow::Result<()> {
    let spec = json!({ "deletionPolicy": "Delete", "suspended": is_suspended });
    world.cluster.apply_tenant(TENANT, spec).await
}
