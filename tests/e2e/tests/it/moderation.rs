//! Moderation on the cluster: what breaks the rules is hidden, who breaks them is out, and only moderators of the tenant decide.

use std::{env, time::Duration};

use anyhow::ensure;
use contracts::api::{AuditEntry, Page};
use e2e::{
    World, report,
    rest::request,
    stories::moderation::{Load, Moderated, judged, rules_with_a_rate},
    story,
    users::{TestUser, unused},
};
use reqwest::StatusCode;
use serde_json::json;

const TENANT: &str = "e2emoderated";
const OTHER: &str = "globex";
const LIMIT: Duration = Duration::from_secs(480);
const CONVERGENCE: Duration = Duration::from_secs(150);

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
        strangers(world, &house, &name).await?;
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        Ok(())
    })
    .await;
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
