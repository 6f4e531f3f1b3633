//! What a classifier adds: what is asked, what follows, and what an outage of it delays.

use contracts::{ChatId, RuleSetId, UserId, api::Figures};
use kit::{
    clock::now_ms,
    reach::Reach,
    testing::{classifier::TestClassifier, receivers::verify_webhook, wait_for},
};
use moderation::{
    carrying_out::Wake,
    classifying::{Asking, Classifier, KEPT_MS, RoundError},
    metrics::Metrics,
    store::ModerationStore as _,
};
use serde_json::{Value, json};

use super::stand::{PATIENCE, Stand, text};

/// What requests are signed with.
const KEY: &str = "a key of some length";
/// Longer than a process claims a post.
const LATER_MS: i64 = 60_000;

/// Starts a classifier, with what asks it about the posts of a stand.
async fn start(stand: &Stand) -> (TestClassifier, Asking) {
    let server = TestClassifier::start().await;
    let reach = Reach { address: |address| address.is_loopback(), port: |_| true, ..Reach::internet() };
    let (url, key) = (server.url.parse().expect("a URL"), KEY.to_owned().into());
    let classifier = Classifier::within(reach, true, url, key).expect("a client");
    let (store, metrics, wake) = (stand.store.clone(), Metrics::default(), Wake::default());
    (server, Asking { store, classifier, metrics, wake })
}

/// Returns a set with a word that is deleted and a label that is reported.
fn rules() -> Value {
    json!([
        {"name": "words", "test": {"words": {"words": ["scam"]}}, "action": {"delete": true}},
        {"name": "toxic", "test": {"classifier": {"label": "toxic", "percent": 80}}, "action": {"report": true}},
    ])
}

/// Asks until the figures are as they should be, and returns them.
async fn figures(stand: &Stand, asking: &Asking, id: RuleSetId, is_it: impl Fn(&Figures) -> bool) -> Figures {
    wait_for("figures", PATIENCE, || async {
        asking.ask(now_ms()).await.expect("it answers");
        let figures = stand.store.figures(id).await.expect("a read");
        is_it(&figures).then_some(figures)
    })
    .await
}

#[tokio::test]
async fn a_label_is_caught_beside_other_rules_and_each_post_is_asked_about_once() {
    let stand = Stand::with_classifier().await;
    let (server, asking) = start(&stand).await;
    let id = stand.enforce(rules()).await;
    let (chat, ann) = (ChatId::generate(), UserId::generate());
    let records =
        || [text(chat, ann, 1, "scam, you fool"), text(chat, ann, 2, "fool"), text(chat, ann, 3, "hello")];
    stand.announce(records()).await;
    let caught = figures(&stand, &asking, id, |figures| figures.reports == 2).await;
    assert_eq!((caught.caught, caught.deletions), (2, 1), "a post that both caught is one");
    // Announced once more, and behind it what was not.
    stand.announce(records()).await;
    stand.announce([text(chat, ann, 4, "the last fool")]).await;
    figures(&stand, &asking, id, |figures| figures.reports == 3).await;
    let asked = server.asked();
    let questions: Vec<_> = asked.iter().map(|received| verify_webhook(received, KEY)).collect();
    let mut texts: Vec<_> = questions.iter().map(|question| question["text"].to_string()).collect();
    texts.sort();
    assert_eq!(texts, [r#""fool""#, r#""hello""#, r#""scam, you fool""#, r#""the last fool""#]);
    for (received, question) in asked.iter().zip(&questions) {
        assert_eq!(question["id"], received.header("posthouse-id"));
        let question = question.to_string();
        assert!(!question.contains(&ann.to_string()) && !question.contains(&chat.to_string()), "{question}");
    }
}

#[tokio::test]
async fn an_outage_delays_the_label_alone_and_what_waits_is_judged_after_it() {
    let stand = Stand::with_classifier().await;
    let (server, asking) = start(&stand).await;
    server.answer(503);
    let id = stand.enforce(rules()).await;
    let (chat, ann) = (ChatId::generate(), UserId::generate());
    stand.announce([text(chat, ann, 1, "scam, you fool")]).await;
    assert_eq!(stand.sent(1).await[0].target_seq, Some(1), "the word is deleted meanwhile");
    assert!(matches!(asking.ask(now_ms()).await, Err(RoundError::Ask(_))));
    // It is claimed still.
    assert_eq!(asking.ask(now_ms()).await.expect("nothing is asked"), 0);
    assert_eq!(stand.caught(id, 1).await.reports, 0);
    server.answer(200);
    assert_eq!(asking.ask(now_ms() + LATER_MS).await.expect("it answers"), 1);
    assert_eq!(stand.caught(id, 1).await.reports, 1);
    assert_eq!(asking.ask(now_ms() + 2 * LATER_MS).await.expect("nothing is left"), 0);
}

#[tokio::test]
async fn what_is_refused_or_waits_for_too_long_is_given_up() {
    let stand = Stand::with_classifier().await;
    let (server, asking) = start(&stand).await;
    let id = stand.enforce(rules()).await;
    let (chat, ann) = (ChatId::generate(), UserId::generate());
    server.answer(422);
    stand.announce([text(chat, ann, 1, "scam fool")]).await;
    stand.caught(id, 1).await;
    assert_eq!(asking.ask(now_ms()).await.expect("it is no outage"), 1);
    stand.announce([text(chat, ann, 2, "scam fool")]).await;
    stand.caught(id, 2).await;
    server.answer(200);
    assert_eq!(asking.ask(now_ms() + KEPT_MS + LATER_MS).await.expect("nothing is asked"), 0);
    assert_eq!(server.asked().len(), 1);
    assert_eq!(stand.caught(id, 2).await.reports, 0);
}

#[tokio::test]
async fn a_set_with_a_label_is_enforced_where_there_is_a_classifier() {
    for (stand, status) in [(Stand::start().await, 404), (Stand::with_classifier().await, 200)] {
        let moderator = stand.moderator();
        let draft = stand.post(&moderator, "rule-sets", json!({"name": "new", "rules": rules()}), 201).await;
        let path = format!("/api/moderation/rule-sets/{}/enforce", draft["id"].as_str().expect("an id"));
        let answer = stand.api.send(&format!("POST {path}"), Some(&moderator.token), None).await;
        let body = answer.ok(status);
        if status == 404 {
            assert_eq!(body["code"], "not_configured", "{body}");
        }
    }
}
