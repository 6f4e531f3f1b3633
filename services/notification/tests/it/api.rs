//! Stories over REST.

use kit::testing::{
    TestUser,
    receivers::{Browser, verify_webhook},
};
use serde_json::{Value, json};

use super::stand::{SMS_KEY, Stand};

const SUBSCRIPTIONS: &str = "/api/notifications/subscriptions";
const PREFERENCES: &str = "/api/notifications/preferences";

#[tokio::test]
async fn a_user_has_subscriptions_of_their_own() {
    let stand = Stand::start().await;
    let [ann, ben] = ["ann", "ben"].map(|name| stand.realm.user(name));
    stand.api.refuses_strangers(&stand.realm, SUBSCRIPTIONS).await;
    let channels = stand.api.get(&ann, "/api/notifications/channels").await.ok(200);
    let expected = json!({"web_push_key": stand.public_key, "email": true, "fcm": true, "sms": true});
    assert_eq!(channels, expected);
    let browser = Browser::new();
    let body = browser.subscription("https://push.example/1");
    let first = stand.api.post(&ann, SUBSCRIPTIONS, body.clone()).await.ok(200);
    assert_eq!((&first["name"], &first["confirmed"]), (&json!("push.example"), &json!(true)));
    let again = stand.api.post(&ann, SUBSCRIPTIONS, body.clone()).await.ok(200);
    assert_eq!(first["id"], again["id"]);
    // Another user signed in at the same browser.
    let other = stand.api.post(&ben, SUBSCRIPTIONS, body).await.ok(200);
    assert_ne!(first["id"], other["id"]);
    assert_eq!(stand.api.get(&ann, SUBSCRIPTIONS).await.ok(200)["items"], json!([]));
    let remove = format!("DELETE {SUBSCRIPTIONS}/{}", other["id"].as_str().expect("an id"));
    assert_eq!(stand.api.send(&remove, Some(&ann.token), None).await.code(), "not_found");
    stand.api.send(&remove, Some(&ben.token), None).await.ok(204);
    assert_eq!(stand.api.send(&remove, Some(&ben.token), None).await.code(), "not_found");
}

#[tokio::test]
async fn a_secret_is_shown_once_and_subscriptions_are_limited() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    for n in 0..20 {
        let body = json!({"webhook": {"url": format!("https://hooks.example/{n}")}});
        assert!(stand.api.post(&ann, SUBSCRIPTIONS, body).await.ok(200)["secret"].is_string());
    }
    let body = json!({"webhook": {"url": "https://hooks.example/one-more"}});
    assert_eq!(stand.api.post(&ann, SUBSCRIPTIONS, body).await.code(), "limit_reached");
    let listed = stand.api.get(&ann, SUBSCRIPTIONS).await.ok(200);
    let items = listed["items"].as_array().expect("a list");
    assert!(items.len() == 20 && items.iter().all(|one| one.get("secret").is_none()));
}

#[tokio::test]
async fn an_endpoint_is_on_a_public_address() {
    let stand = Stand::outside().await;
    let ann = stand.realm.user("ann");
    for url in [
        "http://push.example/1",
        "https://push.example:8443/1",
        "https://127.0.0.1/1",
        "https://[::1]/1",
        "https://10.0.0.1/1",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:192.168.1.1]/1",
        "https://localhost/1",
        "https://kubernetes.default.svc/1",
        "https://acme-chat/1",
        "https://2130706433/1",
    ] {
        let hook = json!({"webhook": {"url": url}});
        assert_eq!(stand.api.post(&ann, SUBSCRIPTIONS, hook).await.code(), "invalid_argument", "{url}");
        let push = Browser::new().subscription(url);
        assert_eq!(stand.api.post(&ann, SUBSCRIPTIONS, push).await.code(), "invalid_argument", "{url}");
    }
}

#[tokio::test]
async fn an_address_is_confirmed_by_its_owner_and_not_flooded() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let address = |address: &str| json!({"email": {"address": address}});
    let injected = address("ann@corp.test\r\nBcc: all@corp.test");
    assert_eq!(stand.api.post(&ann, SUBSCRIPTIONS, injected).await.code(), "invalid_argument");
    for _ in 0..3 {
        stand.api.post(&ann, SUBSCRIPTIONS, address("ben@corp.test")).await.ok(200);
        let mail = stand.mail.next().await;
        assert!(!mail.content.contains("List-Unsubscribe"), "it was asked for");
    }
    assert_eq!(stand.api.post(&ann, SUBSCRIPTIONS, address("ben@corp.test")).await.code(), "rate_limited");
    let confirm = |token: String| {
        let body = json!({"token": token});
        stand.api.send("POST /api/notifications/confirmations", None, Some(body))
    };
    let listed = stand.api.get(&ann, SUBSCRIPTIONS).await.ok(200);
    let id = listed["items"][0]["id"].as_str().expect("an id").parse().expect("an id");
    assert_eq!(confirm(stand.tokens.ending(id)).await.code(), "not_found", "of another purpose");
    confirm(stand.tokens.confirming(id)).await.ok(204);
    let listed = stand.api.get(&ann, SUBSCRIPTIONS).await.ok(200);
    assert_eq!(listed["items"][0]["confirmed"], true);
}

#[tokio::test]
async fn preferences_are_kept_as_they_were_set() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let standard = json!({"level": "all", "shows_text": true});
    assert_eq!(stand.api.get(&ann, PREFERENCES).await.ok(200), standard);
    let put = |body: Value| {
        let line = format!("PUT {PREFERENCES}");
        let (api, token) = (&stand.api, &ann.token);
        async move { api.send(&line, Some(token), Some(body)).await }
    };
    let quiet = |from: &str, zone: &str| {
        let quiet = json!({"from": from, "to": "07:00", "time_zone": zone});
        json!({"level": "mentions", "shows_text": false, "quiet": quiet})
    };
    let set = put(quiet("22:00", "UTC")).await.ok(200);
    assert_eq!(set, quiet("22:00", "UTC"));
    assert_eq!(stand.api.get(&ann, PREFERENCES).await.ok(200), set);
    for bad in [quiet("25:00", "UTC"), quiet("22:00", "Nowhere/At_All"), quiet("22:00", "")] {
        assert_eq!(put(bad).await.code(), "invalid_argument");
    }
    put(standard.clone()).await.ok(200);
    assert_eq!(stand.api.get(&ann, PREFERENCES).await.ok(200), standard);
}

/// Subscribes a number, and returns the id of the subscription and the code that was sent to it.
async fn enter(stand: &Stand, user: &TestUser, number: &str) -> (String, String) {
    let before = stand.sms.all().len();
    let created = stand.api.post(user, SUBSCRIPTIONS, json!({"sms": {"number": number}})).await.ok(200);
    assert_eq!((&created["name"], &created["confirmed"]), (&json!(number), &json!(false)));
    let received = stand.sms.wait(before + 1).await.pop().expect("a text message");
    let sent = verify_webhook(&received, SMS_KEY);
    assert_eq!((&sent["to"], &sent["id"]), (&json!(number), &json!(received.header("posthouse-id"))));
    let text = sent["text"].as_str().expect("a text");
    assert!(text.contains("acme.example"), "{text}");
    (created["id"].as_str().expect("an id").to_owned(), text[..6].to_owned())
}

async fn confirm(stand: &Stand, user: &TestUser, id: &str, code: &str) -> String {
    let line = format!("POST {SUBSCRIPTIONS}/{id}/confirmation");
    let answer = stand.api.send(&line, Some(&user.token), Some(json!({"code": code}))).await;
    if answer.status == 204 { "confirmed".to_owned() } else { answer.code().to_owned() }
}

/// Returns another code.
fn other(code: &str) -> &'static str {
    if code == "000000" { "000001" } else { "000000" }
}

async fn is_confirmed(stand: &Stand, user: &TestUser) -> Vec<Value> {
    let listed = stand.api.get(user, SUBSCRIPTIONS).await.ok(200);
    let items = listed["items"].as_array().expect("a list");
    items.iter().map(|one| one["confirmed"].clone()).collect()
}

#[tokio::test]
async fn a_number_counts_once_its_code_is_confirmed() {
    let stand = Stand::start().await;
    let [ann, ben] = ["ann", "ben"].map(|name| stand.realm.user(name));
    for bad in ["4915112345678", "+49 151 12345678", "+0123456789", "+491511234567\r\nX: 1", "+12345"] {
        let body = json!({"sms": {"number": bad}});
        assert_eq!(stand.api.post(&ann, SUBSCRIPTIONS, body).await.code(), "invalid_argument", "{bad:?}");
    }
    let (id, first) = enter(&stand, &ann, "+4915112345678").await;
    for bad in ["", "12345", "1234567", "12345a", "١٢٣٤٥٦"] {
        assert_eq!(confirm(&stand, &ann, &id, bad).await, "invalid_argument", "{bad:?}");
    }
    // The same request sends another code, which takes the place of the first.
    let (again, second) = enter(&stand, &ann, "+4915112345678").await;
    assert_eq!(id, again);
    if first != second {
        assert_eq!(confirm(&stand, &ann, &id, &first).await, "permission_denied");
    }
    assert_eq!(confirm(&stand, &ben, &id, &second).await, "not_found", "it is another user's");
    assert_eq!(is_confirmed(&stand, &ann).await, [false]);
    assert_eq!(confirm(&stand, &ann, &id, &second).await, "confirmed");
    assert_eq!(confirm(&stand, &ann, &id, &second).await, "confirmed", "a repetition does no harm");
    assert_eq!(is_confirmed(&stand, &ann).await, [true]);
    let mail =
        stand.api.post(&ann, SUBSCRIPTIONS, json!({"email": {"address": "ann@corp.test"}})).await.ok(200);
    let mail = mail["id"].as_str().expect("an id").to_owned();
    assert_eq!(confirm(&stand, &ann, &mail, &second).await, "conflict", "it has no number");
}

#[tokio::test]
async fn a_wrong_code_five_times_ends_it() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let (id, code) = enter(&stand, &ann, "+4915112345678").await;
    for _ in 0..5 {
        assert_eq!(confirm(&stand, &ann, &id, other(&code)).await, "permission_denied");
    }
    assert_eq!(confirm(&stand, &ann, &id, &code).await, "conflict", "it has ended");
    assert_eq!(is_confirmed(&stand, &ann).await, [false]);
    let (_, code) = enter(&stand, &ann, "+4915112345678").await;
    assert_eq!(confirm(&stand, &ann, &id, &code).await, "confirmed");
}

#[tokio::test]
async fn a_number_is_of_the_user_who_confirmed_it_last() {
    let stand = Stand::start().await;
    let [ann, ben] = ["ann", "ben"].map(|name| stand.realm.user(name));
    let (of_ann, code) = enter(&stand, &ann, "+4915112345678").await;
    assert_eq!(confirm(&stand, &ann, &of_ann, &code).await, "confirmed");
    // Another user enters it, and does not have the phone.
    let (of_ben, code) = enter(&stand, &ben, "+4915112345678").await;
    assert_eq!(confirm(&stand, &ben, &of_ben, other(&code)).await, "permission_denied");
    assert_eq!(
        (is_confirmed(&stand, &ann).await, is_confirmed(&stand, &ben).await),
        (vec![json!(true)], vec![json!(false)])
    );
    assert_eq!(confirm(&stand, &ann, &of_ben, &code).await, "not_found");
    // The number is another user's now.
    assert_eq!(confirm(&stand, &ben, &of_ben, &code).await, "confirmed");
    assert_eq!(
        (is_confirmed(&stand, &ann).await, is_confirmed(&stand, &ben).await),
        (vec![], vec![json!(true)])
    );
}

#[tokio::test]
async fn codes_are_limited_for_a_number_and_for_a_user() {
    let stand = Stand::start().await;
    let [ann, ben, eve] = ["ann", "ben", "eve"].map(|name| stand.realm.user(name));
    let refused = async |user: &TestUser, number: &str| {
        let answer = stand.api.post(user, SUBSCRIPTIONS, json!({"sms": {"number": number}})).await;
        answer.code().to_owned()
    };
    for n in 0..5 {
        enter(&stand, &ann, &format!("+49151000000{n}")).await;
    }
    assert_eq!(refused(&ann, "+491510000009").await, "rate_limited");
    for user in [&ben, &ben, &eve, &eve, &eve] {
        enter(&stand, user, "+4915112345678").await;
    }
    assert_eq!(refused(&ben, "+4915112345678").await, "rate_limited");
    enter(&stand, &ben, "+491510000008").await;
    assert_eq!(stand.sms.all().len(), 11, "what was refused was not sent");
}

#[tokio::test]
async fn a_hook_that_refuses_a_number_is_told_apart_from_one_that_is_down() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let answered = async |status: u16, number: &str| {
        stand.sms.answer(status);
        let answer = stand.api.post(&ann, SUBSCRIPTIONS, json!({"sms": {"number": number}})).await;
        answer.code().to_owned()
    };
    assert_eq!(answered(422, "+491510000001").await, "conflict");
    for status in [500, 401, 404, 302] {
        assert_eq!(answered(status, "+491510000001").await, "unavailable", "{status}");
    }
    assert_eq!(is_confirmed(&stand, &ann).await, [false], "no answer removes it");
}
