//! Notifications on the cluster: what reaches a user who is away, and what a provider that is down does to it.
//!
//! The service of these stories is the one of [`e2e::notifier`]: in the place of the tenant's pod, with a way to receivers on loopback.

use std::{env, time::Duration};

use anyhow::{Context, ensure};
use e2e::{
    World,
    cluster::ample_limits,
    eventually,
    notifier::{Away, Notifier, Outage, outage},
    report,
    rest::request,
    story,
    users::{TestUser, unused},
};
use kit::testing::receivers::verify_sender;
use serde_json::{Value, json};

const TENANT: &str = "e2enotify";
const LIMIT: Duration = Duration::from_secs(480);
const CONVERGENCE: Duration = Duration::from_secs(150);
/// What is due is sent, on a busy machine.
const MOMENT: Duration = Duration::from_secs(60);
/// Longer than a connected device takes for a message.
const NOTIFY_AFTER: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_away_is_told_once_by_each_channel_and_one_who_is_online_is_not() {
    story(LIMIT, async |world: &World| {
        apply(world).await?;
        let messenger = world.stack.messenger(TENANT);
        let notifier = Notifier::start(world, TENANT, NOTIFY_AFTER).await?;
        let ann = TestUser::register(&messenger, "ann").await?;
        let ben = Away::start(&notifier, TestUser::register(&messenger, "ben").await?).await?;
        let eve = Away::start(&notifier, TestUser::register(&messenger, "eve").await?).await?;
        notifier.subscribe_to_mails(&ben.user, "ben@corp.test").await?;
        notifier.subscribe_to_mails(&eve.user, "eve@corp.test").await?;
        let key = notifier.public_key(&ben.user).await?;
        let chat = ann.group("Harbour", &[ben.user.id(), eve.user.id()]).await?;
        notifier.knows(&[chat], 2).await?;

        let (phone, screen) = (ann.online(&[chat]).await, eve.user.online(&[chat]).await);
        let first = phone.send(chat, "the boat is in").await?;
        screen.sees(chat, first, NOTIFY_AFTER).await?;
        screen.session.delivered(chat, first).await;
        told(&ben, 1).await?;
        let push = ben.pushed().remove(0);
        ensure!(push["seq"] == first && push["unread"] == 1, "{push}");
        ensure!(push["message"]["text"] == "the boat is in", "{push}");
        let received = ben.pushes.all().remove(0);
        let claims = verify_sender(&received, &key);
        let audience = claims["aud"].as_str().unwrap_or_default();
        ensure!(ben.pushes.url == format!("{audience}/send"), "the token is for {audience}");
        let (_, hook) = ben.hooked().remove(0);
        ensure!(hook["message"] == push["message"], "the webhook says something else: {hook}");
        // The jobs of a text are made together: eve has none of it.
        ensure!(notifier.jobs(eve.user.id()).await? == 0, "there is something to tell eve");
        notifier.hurry_digest(ben.user.id()).await?;
        let mail = notifier.mail.next().await;
        ensure!(mail.to == "ben@corp.test", "it went to {}", mail.to);
        ensure!(mail.content.contains("Subject: 1 unread message at "), "{}", mail.content);
        ensure!(mail.content.contains("Harbour: 1") && !mail.content.contains("boat"), "{}", mail.content);
        ensure!(
            mail.content.contains("List-Unsubscribe-Post: List-Unsubscribe=One-Click"),
            "{}",
            mail.content
        );

        // Once eve is away, the next text is the first that comes to her, and nothing comes twice.
        drop(screen);
        let second = phone.send(chat, "and out again").await?;
        told(&ben, 2).await?;
        told(&eve, 1).await?;
        notifier.is_done(MOMENT).await?;
        let seqs = |pushed: Vec<Value>| -> Vec<i64> {
            pushed.iter().filter_map(|push| push["seq"].as_i64()).collect()
        };
        ensure!(seqs(ben.pushed()) == [first, second], "ben learns of {:?}", ben.pushed());
        ensure!(seqs(eve.pushed()) == [second], "eve learns of {:?}", eve.pushed());
        let all = |of: &Away| (of.pushes.all().len(), of.hooks.all().len());
        ensure!((all(&ben), all(&eve)) == ((2, 2), (1, 1)), "{:?} and {:?} requests", all(&ben), all(&eve));
        notifier.stop(world).await?;
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_service_that_is_down_loses_and_doubles_nothing_and_delays_itself_alone() {
    let number = |name: &str, usual| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let size = Outage {
        messages: number("PH_NOTICES", 200),
        users: 10,
        // `make bench` has 1,000 in 60 seconds.
        lasts: Duration::from_secs(number("PH_NOTICES_OUTAGE", 15) as u64),
    };
    story(LIMIT + 4 * size.lasts, async |world: &World| {
        apply(world).await?;
        report(outage(world, TENANT, size).await?.summary());
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_pushes_for_as_long_as_its_session_goes_on() {
    story(LIMIT, async |world: &World| {
        let name = unused("mod");
        let mut spec = spec();
        spec["services"]["moderation"] = json!({ "enabled": true });
        spec["moderation"] = json!({ "moderators": [name] });
        create(world, spec).await?;
        let messenger = world.stack.messenger(TENANT);
        let notifier = Notifier::start(world, TENANT, NOTIFY_AFTER).await?;
        let moderator = TestUser::register_as(&messenger, name).await?;
        let ann = TestUser::register(&messenger, "ann").await?;
        let eve = Away::start(&notifier, TestUser::register(&messenger, "eve").await?).await?;
        let desk = Away::start(&notifier, TestUser::register(&messenger, "ben").await?).await?;
        let ben = desk.user.id();
        let phone = Away::start(&notifier, desk.user.on_another_device().await?).await?;
        let chat = ann.group("Harbour", &[ben, eve.user.id()]).await?;
        notifier.knows(&[chat], 2).await?;
        let online = ann.online(&[chat]).await;
        // Returns how many pushes have come to the browsers of ben, once all are sent of another text.
        let say = async |text: &'static str, told: usize| {
            online.send(chat, text).await?;
            eventually("eve has learned of it", MOMENT, || async {
                let found = eve.pushes.taken().len();
                ensure!(found == told, "{found} pushes have come");
                Ok(())
            })
            .await?;
            notifier.is_done(MOMENT).await?;
            anyhow::Ok((phone.pushes.all().len(), desk.pushes.all().len()))
        };
        let pushed = say("to both", 1).await?;
        ensure!(pushed == (1, 1), "{pushed:?} pushes came");

        // The lost phone is signed out at the desk. Its access token is good for some minutes.
        let session = session_of(&phone.user).await?;
        messenger.end_session(&desk.user.token().await?, &session).await?;
        notifier.has_browsers(ben, 1).await?;
        let subscription = phone.browser.subscription(&phone.pushes.url);
        let late = notifier.subscribe(&phone.user, subscription.clone()).await;
        ensure!(late.as_ref().is_err_and(|error| error.to_string().contains("401")), "{late:?}");
        let pushed = say("to the desk", 2).await?;
        ensure!(pushed == (1, 2), "{pushed:?} pushes came");

        // It is found, and its user signs in again in the same browser.
        let found = phone.user.on_another_device().await?;
        notifier.subscribe(&found, subscription).await?;
        notifier.has_browsers(ben, 2).await?;
        let pushed = say("to both again", 3).await?;
        ensure!(pushed == (2, 3), "{pushed:?} pushes came");

        let session = session_of(&found).await?;
        let line = format!("DELETE /api/moderation/users/{ben}/sessions/{session}");
        request(&messenger, &line, Some(&moderator.token().await?), None).await?.ok()?;
        notifier.has_browsers(ben, 1).await?;
        let pushed = say("to the desk again", 4).await?;
        ensure!(pushed == (2, 4), "{pushed:?} pushes came");

        let ban = json!({ "user": ben, "kind": "ban", "note": "spam" });
        let line = "POST /api/moderation/sanctions";
        request(&messenger, line, Some(&moderator.token().await?), Some(&ban)).await?.ok()?;
        notifier.has_browsers(ben, 0).await?;
        let pushed = say("without ben", 5).await?;
        ensure!(pushed == (2, 4), "{pushed:?} pushes came");
        notifier.stop(world).await?;
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        Ok(())
    })
    .await;
}

/// Returns the session of a user's device.
async fn session_of(user: &TestUser) -> anyhow::Result<String> {
    let sessions = user.messenger().sessions(&user.token().await?).await?.items;
    let current = sessions.into_iter().find(|session| session.is_current);
    Ok(current.context("one is the caller's")?.session_id)
}

/// Waits until so many pushes and as many webhooks of a user have come.
async fn told(user: &Away, times: usize) -> anyhow::Result<()> {
    let name = user.user.identity.username();
    eventually(&format!("{times} notifications of {name} have come"), MOMENT, || async {
        let found = (user.pushes.taken().len(), user.hooks.taken().len());
        ensure!(found.0 >= times && found.1 >= times, "{found:?} requests have");
        Ok(())
    })
    .await
}

/// Creates the tenant again.
async fn apply(world: &World) -> anyhow::Result<()> {
    create(world, spec()).await
}

/// Returns a tenant with the service and with limits that let one user send what many would.
fn spec() -> Value {
    json!({
        "deletionPolicy": "Delete",
        "services": { "notification": { "enabled": true } },
        "limits": ample_limits(),
    })
}

async fn create(world: &World, spec: Value) -> anyhow::Result<()> {
    world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
    world.cluster.apply_tenant(TENANT, spec).await?;
    world.cluster.await_ready(TENANT, CONVERGENCE).await?;
    Ok(())
}
