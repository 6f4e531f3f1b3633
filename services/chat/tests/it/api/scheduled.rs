//! Messages that are sent at a time.

use chrono::Utc;
use contracts::MessageKey;
use serde_json::{Value, json};

use super::App;

fn ahead_ms(seconds: i64) -> i64 {
    Utc::now().timestamp_millis() + seconds * 1000
}

#[tokio::test]
async fn a_message_is_scheduled_changed_and_cancelled_by_its_sender_alone() {
    let app = App::start().await;
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| app.realm.user(name));
    let chat = app.group(&ann, &[&bob]).await;
    let path = format!("/api/chats/{chat}/scheduled");
    let key = MessageKey::generate().to_string();
    let send_at_ms = ahead_ms(3600);
    let request = json!({"key": key, "body": "see you", "reply_to": 7, "send_at_ms": send_at_ms});
    let made = app.api.post(&bob, &path, request.clone()).await.ok(201);
    let expected = json!({
        "chat_id": chat, "key": key, "body": "see you", "reply_to": 7, "mention_all": false,
        "send_at_ms": send_at_ms,
    });
    assert_eq!(made, expected);
    assert_eq!(app.api.post(&bob, &path, request.clone()).await.ok(200), expected, "once");
    let other = json!({"key": key, "body": "another", "send_at_ms": send_at_ms});
    assert_eq!(app.api.post(&bob, &path, other).await.code(), "idempotency_conflict");
    assert_eq!(app.api.get(&bob, &path).await.ok(200), json!({"items": [expected]}));
    let own = app.api.get(&bob, &format!("/api/chats/{chat}")).await.ok(200)["own"].clone();
    assert_eq!((&own["scheduled"], &own["version"]), (&json!(1), &json!(1)));
    assert_eq!(app.api.get(&ann, &path).await.ok(200), json!({"items": []}));
    assert_eq!(app.api.get(&eve, &path).await.code(), "not_a_member");
    assert_eq!(app.api.post(&eve, &path, request).await.code(), "not_a_member");

    let one = format!("{path}/{key}");
    let put = async |user, body: Value| app.api.send(&format!("PUT {one}"), Some(user), Some(body)).await;
    let changed = json!({
        "body": "see you all", "mention_all": true, "mention_roles": ["owner"], "mention_here": true, "silent": true,
        "send_at_ms": send_at_ms + 1,
    });
    let mut expected = changed.clone();
    (expected["chat_id"], expected["key"]) = (json!(chat), json!(key));
    assert_eq!(put(&bob.token, changed.clone()).await.ok(200), expected, "it is replaced as a whole");
    assert_eq!(app.api.get(&bob, &path).await.ok(200), json!({"items": [expected]}));
    assert_eq!(put(&ann.token, changed).await.code(), "not_found");
    let past = json!({"body": "late", "send_at_ms": ahead_ms(-1)});
    assert_eq!(put(&bob.token, past).await.code(), "conflict");
    assert_eq!(app.api.send(&format!("DELETE {one}"), Some(&ann.token), None).await.code(), "not_found");
    app.api.send(&format!("DELETE {one}"), Some(&bob.token), None).await.ok(204);
    assert_eq!(app.api.send(&format!("DELETE {one}"), Some(&bob.token), None).await.code(), "not_found");
    assert_eq!(app.api.post(&bob, &format!("{one}/send"), json!({})).await.code(), "not_found");
    for seconds in [-1, 367 * 86_400] {
        let body = json!({"key": key, "body": "x", "send_at_ms": ahead_ms(seconds)});
        assert_eq!(app.api.post(&bob, &path, body).await.code(), "conflict", "{seconds} s ahead");
    }
    for body in [
        json!({"key": key, "body": "", "send_at_ms": send_at_ms}),
        json!({"key": key, "body": "a\u{0}b", "send_at_ms": send_at_ms}),
        json!({"key": key, "body": "x".repeat(16 * 1024 + 1), "send_at_ms": send_at_ms}),
        json!({"key": key, "body": "x", "send_at_ms": i64::MAX}),
        json!({"key": key, "body": "x", "reply_to": 0, "send_at_ms": send_at_ms}),
        json!({"key": key, "body": "x", "mention_roles": ["member"], "send_at_ms": send_at_ms}),
        json!({"key": "no id", "body": "x", "send_at_ms": send_at_ms}),
        json!({"key": key, "send_at_ms": send_at_ms}),
    ] {
        assert_eq!(app.api.post(&bob, &path, body.clone()).await.code(), "invalid_argument", "{body}");
    }
}

#[tokio::test]
async fn a_message_is_sent_at_once_by_its_sender() {
    let app = App::start().await;
    let [ann, bob] = ["ann", "bob"].map(|name| app.realm.user(name));
    let body = json!({"kind": "channel", "title": "News", "members": [bob.id]});
    let chat = app.api.post(&ann, "/api/chats", body).await.ok(201)["chat_id"].clone();
    let path = format!("/api/chats/{}/scheduled", chat.as_str().expect("an id"));
    for (user, code) in [(&ann, None), (&bob, Some("permission_denied"))] {
        let key = MessageKey::generate();
        let request = json!({"key": key, "body": "now", "send_at_ms": ahead_ms(60)});
        let made = app.api.post(user, &path, request.clone()).await.ok(201);
        let answer = app.api.post(user, &format!("{path}/{key}/send"), json!({})).await;
        match code {
            None => {
                answer.ok(204);
                assert_eq!(app.api.post(user, &path, request).await.ok(200), made, "the same answer");
            }
            Some(code) => assert_eq!(answer.code(), code),
        }
        let left = app.api.get(user, &path).await.ok(200)["items"].as_array().map(Vec::len);
        assert_eq!(left, Some(usize::from(code.is_some())), "what is refused stays as it was");
    }
}
