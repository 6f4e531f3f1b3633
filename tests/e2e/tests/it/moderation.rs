//! Moderation on the cluster: what breaks the rules is hidden, who breaks them is out, and only moderators of the tenant decide.

use std::{env, time::Duration};

use anyhow::{Context, ensure};
use contracts::api::{AuditEntry, Page};
use e2e::{
    World, eventually,
    replacement::{Replacement, loopback},
    report,
    rest::request,
    stories::moderation::{Load, Moderated, OUT_WITHIN, is_hidden, judged, rules, rules_with_a_rate},
    story,
    users::{TestUser, unused},
};
use kit::testing::{classifier::TestClassifier, receivers::verify_webhook};
use kube::api::{Patch, PatchParams};
use moderation::{Moderation, classifying::Classifier};
use reqwest::StatusCode;
use serde_json::json;

const TENANT: &str = "e2emoderated";
const OTHER: &str = "globex";
const CLASSIFIED: &str = "e2eclassified";
/// Where the classifier of the tenant is, and what requests to it are signed with.
const LABELS: &str = "https://labels.acme.example/classify";
const KEY: &str = "a key of some length";
const LIMIT: Duration = Duration::from_secs(480);
const CONVERGENCE: Duration = Duration::from_secs(150);
/// A message is judged within this time by a classifier that was down: what it did not answer is asked again with growing pauses.
const JUDGED_WITHIN: Duration = Duration::from_secs(120);
/// What waits for a classifier is asked, on a busy machine.
const MOMENT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_the_rules_is_hidden_and_who_breaks_them_is_out() {
    let number = |name: &str, usual| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let load = Load {
        messages: number("PH_MODERATED_MESSAGES", 800),
        // `make bench` has as many as the machine takes, up to 500.
        per_second: number("PH_MODERATED_RATE", 100),
    };
    story(LIMIT, async |world: &World| {
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        let name = unused("mod");
        world.cluster.apply_tenant(TENANT, Moderated::spec(&name)).await?;
        world.cluster.await_ready(TENANT, CONVERGENCE).await?;
        let messenger = world.stack.messenger(TENANT);
        let moderator = TestUser::register_as(&messenger, name.clone()).await?;
        let house = Moderated { messenger, moderator };

        // The log has nothing that was not judged: a shadow run reads what enforcement has.
        let id = house.enforce(&rules_with_a_rate()).await?;
        let judged = judged(&mut house.pairs().await?, load).await?;
        report(judged.summary());
        let figures = house.figures(&id).await?;
        ensure!(figures.deletions == i64::try_from(judged.hidden_after_ms.len())?, "{figures:?}");
        let draft = house.draft(&rules_with_a_rate()).await?;
        let run = house.shadow(&draft).await?;
        ensure!(run.judged == i64::try_from(judged.messages)?, "{} of {}", run.judged, judged.messages);
        ensure!(
            run.figures == figures,
            "a shadow run says {:#?}, and enforcement did {figures:#?}",
            run.figures
        );
        ensure!(figures.rules.len() == 4 && figures.rules.iter().all(|rule| rule.caught > 0), "{figures:?}");

        house.mute().await?;
        let took = house.ban().await?;
        report(format!("a banned user was out {} ms after the ban", took.as_millis()));
        ensure!(took <= OUT_WITHIN, "a banned user was in for {took:?}");
        strangers(world, &house, &name).await?;
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_classifier_that_is_down_delays_what_it_judges_and_nothing_else() {
    story(LIMIT, async |world: &World| {
        world.cluster.delete_tenant(CLASSIFIED, CONVERGENCE).await?;
        let name = unused("mod");
        let mut spec = Moderated::spec(&name);
        // The namespace of the tenant is there with it, and the Secret has to be there before the classifier is named.
        world.cluster.apply_tenant(CLASSIFIED, spec.clone()).await?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "labels", "annotations": { (crds::CLASSIFIER_URL_ANNOTATION): LABELS } },
            "stringData": { "signingKey": KEY },
        });
        let params = PatchParams::apply("e2e").force();
        world.cluster.secrets(CLASSIFIED).patch("labels", &params, &Patch::Apply(secret)).await?;
        spec["moderation"]["classifier"] = json!({ "url": LABELS, "signingKeySecretRef": { "name": "labels" } });
        world.cluster.apply_tenant(CLASSIFIED, spec).await?;
        world.cluster.await_ready(CLASSIFIED, CONVERGENCE).await?;

        // The pod's service but for the way to the classifier, which is on loopback here.
        let server = TestClassifier::start().await;
        let settings = vec![("--classifier-url", server.url.clone())];
        let service = Replacement::start::<Moderation>(world, CLASSIFIED, settings, |settings, scope| {
            Moderation::asking(settings, scope, |url, key| Classifier::within(loopback(), true, url, key))
        });
        let service = service.await?;
        let messenger = world.stack.messenger(CLASSIFIED);
        let moderator = TestUser::register_as(&messenger, name).await?;
        let house = Moderated { messenger: service.messenger.clone(), moderator };
        let mut rules = rules();
        rules.as_array_mut().context("rules are a list")?.push(json!({
            "name": "toxic", "test": { "classifier": { "label": "toxic", "percent": 80 } }, "action": { "delete": true },
        }));
        let id = house.enforce(&rules).await?;

        // A label is caught beside words.
        let (ann, ben, chat) = TestUser::two(&messenger).await?;
        let phone = ann.online(&[chat]).await;
        let mut hidden = vec![phone.send(chat, "you fool").await?, phone.send(chat, "the first scam").await?];
        let kept = phone.send(chat, "what a day").await?;
        for &seq in &hidden {
            is_hidden(&ben, chat, seq, JUDGED_WITHIN).await?;
        }
        answered(&server, &["the first scam", "what a day", "you fool"]).await?;

        // While the classifier is down, words are caught on, and what it is to judge waits.
        server.answer(503);
        let late = phone.send(chat, "fool me once").await?;
        eventually("it is asked while it is down", MOMENT, || async {
            let asked = server.asked().into_iter().filter(|received| received.status == 503).count();
            ensure!(asked > 0, "not yet");
            Ok(())
        })
        .await?;
        let word = phone.send(chat, "the second scam").await?;
        is_hidden(&ben, chat, word, JUDGED_WITHIN).await?;
        let stored = ben.history(chat).await?.into_iter().find(|entry| entry.seq == late);
        ensure!(stored.as_ref().is_some_and(|entry| entry.body == "fool me once"), "{stored:?}");

        // Once it is back, nothing was lost, and nothing that it answered is asked again.
        server.answer(200);
        is_hidden(&ben, chat, late, JUDGED_WITHIN).await?;
        hidden.extend([late, word]);
        answered(&server, &["fool me once", "the first scam", "the second scam", "what a day", "you fool"]).await?;
        for received in server.asked() {
            let question = verify_webhook(&received, KEY).to_string();
            let says = [ann.id().to_string(), ben.id().to_string(), chat.to_string()];
            ensure!(says.iter().all(|id| !question.contains(id)), "it says who sent it where: {question}");
        }
        for entry in ben.history(chat).await? {
            let is_gone = entry.changes.deleted_seq.is_some();
            ensure!(entry.seq != kept || !is_gone, "{entry:?}");
            ensure!(!hidden.contains(&entry.seq) || is_gone, "{entry:?}");
        }
        let figures = house.figures(&id).await?;
        ensure!((figures.caught, figures.deletions) == (4, 4), "{figures:?}");

        // The pod goes on where the story's service was.
        service.stop(world).await?;
        world.cluster.await_ready(CLASSIFIED, CONVERGENCE).await?;
        let last = phone.send(chat, "the last scam").await?;
        is_hidden(&ben, chat, last, JUDGED_WITHIN).await?;
        world.cluster.delete_tenant(CLASSIFIED, CONVERGENCE).await?;
        Ok(())
    })
    .await;
}

/// Waits until a classifier has answered about these texts, in alphabetical order, and about no other; about each of them once.
async fn answered(server: &TestClassifier, expected: &[&str]) -> anyhow::Result<()> {
    eventually("the classifier has answered about all texts", MOMENT, || async {
        let answered = server.asked().into_iter().filter(|received| received.status == 200);
        let texts = answered.map(|received| verify_webhook(&received, KEY)["text"].clone());
        let mut texts: Vec<String> = texts.filter_map(|text| text.as_str().map(str::to_owned)).collect();
        texts.sort();
        ensure!(texts == expected, "it has about {texts:?}");
        Ok(())
    })
    .await
}

/// A user, and the moderator of another tenant who has the same name, see and decide nothing here.
async fn strangers(world: &World, house: &Moderated, name: &str) -> anyhow::Result<()> {
    let eve = TestUser::register(&house.messenger, "eve").await?;
    let other = world.stack.messenger(OTHER);
    let foreign = TestUser::register_as(&other, name.to_owned()).await?;
    let (own, foreign) = (eve.token().await?, foreign.token().await?);
    let set = house.draft(&rules_with_a_rate()).await?;
    let any = "00000000-0000-0000-0000-000000000001";
    let rules = json!({ "name": "mine", "rules": rules_with_a_rate() });
    let note = json!({ "note": "" });
    for (line, body) in [
        ("GET rule-sets".to_owned(), None),
        ("POST rule-sets".to_owned(), Some(rules)),
        (format!("GET rule-sets/{set}"), None),
        (format!("POST rule-sets/{set}/enforce"), None),
        (format!("GET rule-sets/{set}/figures"), None),
        (format!("POST rule-sets/{set}/shadow"), Some(json!({ "days": 1 }))),
        ("GET reports".to_owned(), None),
        (format!("POST reports/{any}/decision"), Some(json!({ "upheld": false, "note": "" }))),
        ("GET sanctions".to_owned(), None),
        (
            "POST sanctions".to_owned(),
            Some(json!({ "user": house.moderator.id(), "kind": "ban", "note": "" })),
        ),
        (format!("POST sanctions/{any}/lift"), Some(note)),
        ("GET appeals".to_owned(), None),
        (format!("POST appeals/{any}/decision"), Some(json!({ "accepted": true, "note": "" }))),
        ("GET audit".to_owned(), None),
        ("GET usage".to_owned(), None),
        (format!("GET users/{any}/sessions"), None),
        (format!("DELETE users/{any}/sessions/one"), None),
    ] {
        let line = line.replacen(' ', " /api/moderation/", 1);
        for (token, status) in [(&own, StatusCode::FORBIDDEN), (&foreign, StatusCode::UNAUTHORIZED)] {
            let answer = request(&house.messenger, &line, Some(token), body.as_ref()).await?;
            answer.refused(status)?;
        }
    }
    // Nor does the other tenant have any of it, which has no such service.
    request(&other, "GET /api/moderation/reports", Some(&foreign), None)
        .await?
        .refused(StatusCode::NOT_FOUND)?;
    let audit: Page<AuditEntry> =
        serde_json::from_value(house.request("GET audit?limit=100", None).await?.ok()?)?;
    let ours = house.moderator.id();
    ensure!(
        audit.items.iter().all(|entry| entry.by.is_none_or(|by| by == ours)),
        "another one decided: {:#?}",
        audit.items
    );
    let state = house.request(&format!("GET rule-sets/{set}"), None).await?.ok()?;
    ensure!(state["state"] == "draft", "{state}");
    Ok(())
}
