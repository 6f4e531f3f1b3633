//! Stories over REST.

use kit::testing::receivers::Browser;
use serde_json::json;

use super::stand::Stand;

const SUBSCRIPTIONS: &str = "/api/notifications/subscriptions";
const PREFERENCES: &str = "/api/notifications/preferences";

#[tokio::test]
async fn a_user_has_subscriptions_of_their_own() {
    let stand = Stand::start().await;
    let [ann, ben] = ["ann", "ben"].map(|name| stand.realm.user(name));
    stand.api.refuses_strangers(&stand.realm, SUBSCRIPTIONS).await;
    let channels = stand.api.get(&ann, "/api/notifications/channels").await.ok(200);
    assert_eq!(channels, json!({"web_push_key": stand.public_key, "email": true}));
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
    let put = |body: serde_json::Value| {
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
