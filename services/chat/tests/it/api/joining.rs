//! Users who join chats by themselves.

use std::time::Duration;

use chat::api::Guesses;
use contracts::api::ContactableBy;
use kit::{
    bucket::Rate,
    testing::{Answer, TestUser},
};
use serde_json::{Value, json};

use super::App;

impl App {
    async fn channel(&self, owner: &TestUser, title: &str, visibility: &str) -> String {
        let body = json!({"kind": "channel", "title": title, "visibility": visibility, "members": []});
        let chat = self.api.post(owner, "/api/chats", body).await.ok(201);
        chat["chat_id"].as_str().expect("an id").to_owned()
    }

    /// Makes a link, and returns it with its code.
    async fn invite(&self, by: &TestUser, chat: &str, body: Value) -> (Value, String) {
        let invite = self.api.post(by, &format!("/api/chats/{chat}/invites"), body).await.ok(201);
        let code = invite["code"].as_str().expect("a code").to_owned();
        (invite, code)
    }

    async fn come(&self, user: &TestUser, code: &str) -> Answer {
        self.api.post(user, &format!("/api/invites/{code}/join"), json!({})).await
    }
}

#[tokio::test]
async fn a_public_channel_is_found_and_joined_by_everyone() {
    let app = App::start().await;
    let [ann, bob, gone] = ["ann", "bob", "gone"].map(|name| app.realm.user(name));
    let news = app.channel(&ann, "Über uns", "public").await;
    let board = app.channel(&ann, "The board", "private").await;
    let found = app.api.get(&bob, "/api/chats/public?q=%C3%BCBER").await.ok(200);
    let listed = json!({"chat_id": news, "kind": "channel", "title": "Über uns", "member_count": 1});
    assert_eq!(found, json!({"items": [listed]}));
    assert_eq!(app.api.get(&bob, "/api/chats/public?q=board").await.ok(200), json!({"items": []}));
    app.users.set(bob.id, ContactableBy::Nobody);
    for _ in 0..2 {
        let joined = app.api.post(&bob, &format!("/api/chats/{news}/join"), json!({})).await.ok(200);
        assert_eq!((&joined["role"], &joined["member_count"]), (&"member".into(), &2.into()));
        assert_eq!(joined["visibility"], "public");
    }
    let none = contracts::ChatId::generate().to_string();
    let mut seen = Vec::new();
    for chat in [&board, &none] {
        let refused = app.api.post(&bob, &format!("/api/chats/{chat}/join"), json!({})).await;
        assert_eq!((refused.status, refused.code()), (403, "not_a_member"));
        seen.push(refused.body.to_string().replace(chat.as_str(), "<chat>"));
    }
    assert_eq!(seen[0], seen[1], "a private chat and no chat look the same");
    app.users.delete(gone.id, 5);
    let late = app.api.post(&gone, &format!("/api/chats/{news}/join"), json!({})).await;
    assert_eq!(late.code(), "unauthenticated");

    let patch = async |caller: &TestUser, body| {
        app.api.send(&format!("PATCH /api/chats/{news}"), Some(&caller.token), Some(body)).await
    };
    assert_eq!(patch(&bob, json!({"visibility": "private"})).await.code(), "permission_denied");
    app.put(&ann, &news, &bob, "admin").await.ok(200);
    assert_eq!(patch(&bob, json!({"visibility": "private"})).await.code(), "permission_denied");
    assert_eq!(patch(&ann, json!({"visibility": "private"})).await.ok(200)["visibility"], "private");
    assert_eq!(patch(&ann, json!({"visibility": "secret"})).await.code(), "invalid_argument");
    let direct = json!({"kind": "direct", "members": [bob.id], "visibility": "public"});
    assert_eq!(app.api.post(&ann, "/api/chats", direct).await.code(), "invalid_argument");
    for query in ["limit=0", "limit=101", "cursor=7", "of=bob"] {
        let refused = app.api.get(&ann, &format!("/api/chats/public?{query}")).await;
        assert_eq!(refused.code(), "invalid_argument", "{query}");
    }
    let long = "x".repeat(129);
    let refused = app.api.get(&ann, &format!("/api/chats/public?q={long}")).await;
    assert_eq!(refused.code(), "invalid_argument");
}

#[tokio::test]
async fn a_link_says_title_and_size_and_lets_in() {
    let app = App::start().await;
    let [ann, bob, cid, eve] = ["ann", "bob", "cid", "eve"].map(|name| app.realm.user(name));
    let chat = app.group(&ann, &[&cid]).await;
    let body = json!({"expires_in_seconds": 3600, "max_uses": 1});
    let (made, code) = app.invite(&ann, &chat, body).await;
    assert_eq!(
        (&made["max_uses"], &made["uses"], &made["needs_approval"]),
        (&1.into(), &0.into(), &false.into())
    );
    assert_eq!(made["made_by"], json!(ann.id));
    assert_eq!(code.len(), 22, "128 bits");
    let preview = app.api.get(&bob, &format!("/api/invites/{code}")).await.ok(200);
    assert_eq!(preview, json!({"title": "Crew", "member_count": 2, "needs_approval": false}));
    let preview = app.api.get(&cid, &format!("/api/invites/{code}")).await.ok(200);
    assert_eq!(preview["chat_id"], json!(chat), "to a member");

    // Who manages the chat sees the link, and its code nowhere.
    let path = format!("/api/chats/{chat}/invites");
    let mut listed = made.clone();
    listed.as_object_mut().expect("an object").remove("code");
    assert_eq!(app.api.get(&ann, &path).await.ok(200), json!({"items": [listed]}));
    assert_eq!(app.api.get(&cid, &path).await.code(), "permission_denied");
    assert_eq!(app.api.get(&eve, &path).await.code(), "not_a_member");
    assert_eq!(app.api.post(&cid, &path, json!({})).await.code(), "permission_denied");
    assert_eq!(app.api.post(&eve, &path, json!({})).await.code(), "not_a_member");

    let joined = app.come(&bob, &code).await.ok(200);
    assert_eq!((&joined["chat_id"], &joined["role"]), (&json!(chat), &"member".into()));
    assert_eq!(app.come(&bob, &code).await.ok(200), joined);
    // Used up, unknown, and no code at all: one answer.
    let (_, revoked) = app.invite(&ann, &chat, json!({})).await;
    let listed = app.api.get(&ann, &path).await.ok(200);
    let id = listed["items"][0]["invite_id"].as_str().expect("an id").to_owned();
    for _ in 0..2 {
        let line = format!("DELETE {path}/{id}");
        app.api.send(&line, Some(&ann.token), None).await.ok(204);
    }
    let mut answers = Vec::new();
    for code in [code.as_str(), revoked.as_str(), "AAAAAAAAAAAAAAAAAAAAAA", "7"] {
        answers.push(app.come(&eve, code).await);
        answers.push(app.api.get(&eve, &format!("/api/invites/{code}")).await);
    }
    for answer in &answers {
        assert_eq!((answer.status, answer.code()), (404, "not_found"));
        assert_eq!(answer.body, answers[0].body);
    }
    for body in [
        json!({"max_uses": 0}),
        json!({"max_uses": 10_001}),
        json!({"expires_in_seconds": 0}),
        json!({"expires_in_seconds": 31_536_001}),
        json!({"uses": 1}),
    ] {
        assert_eq!(app.api.post(&ann, &path, body.clone()).await.code(), "invalid_argument", "{body}");
    }
}

#[tokio::test]
async fn a_link_that_is_made_again_with_its_key_is_the_same_link() {
    let app = App::start().await;
    let [ann, bob] = ["ann", "bob"].map(|name| app.realm.user(name));
    let chat = app.group(&ann, &[]).await;
    let line = format!("POST /api/chats/{chat}/invites");
    let create = async |max_uses: u32| {
        let headers = [("idempotency-key", "5f0c")];
        app.api.send_with(&line, Some(&ann.token), &headers, Some(json!({"max_uses": max_uses}))).await
    };
    let (first, again) = (create(3).await.ok(201), create(3).await.ok(200));
    assert_eq!(first["invite_id"], again["invite_id"]);
    let code = |invite: &Value| invite["code"].as_str().expect("a code").to_owned();
    assert_eq!(app.come(&bob, &code(&first)).await.code(), "not_found", "the code that was lost is no good");
    app.come(&bob, &code(&again)).await.ok(200);
    let reused = create(4).await;
    assert_eq!((reused.status, reused.code()), (422, "idempotency_conflict"));
}

#[tokio::test]
async fn an_approval_is_asked_for_and_given_or_not() {
    let app = App::start().await;
    let [ann, bob, cid, dora, eve] = ["ann", "bob", "cid", "dora", "eve"].map(|name| app.realm.user(name));
    let chat = app.group(&ann, &[&eve]).await;
    let (_, code) = app.invite(&ann, &chat, json!({"needs_approval": true})).await;
    let asked = app.come(&bob, &code).await.ok(202);
    assert_eq!((&asked["chat_id"], &asked["user_id"]), (&json!(chat), &json!(bob.id)));
    assert_eq!(app.come(&bob, &code).await.ok(202), asked);
    for user in [&cid, &dora] {
        app.come(user, &code).await.ok(202);
    }
    assert_eq!(app.api.get(&bob, &format!("/api/chats/{chat}")).await.code(), "not_a_member");
    let path = format!("/api/chats/{chat}/requests");
    let page = app.api.get(&ann, &format!("{path}?limit=2")).await.ok(200);
    assert_eq!(page["items"].as_array().map(Vec::len), Some(2));
    assert!(page["next_cursor"].is_string());
    assert_eq!(app.api.get(&eve, &path).await.code(), "permission_denied");
    assert_eq!(app.api.get(&bob, &path).await.code(), "not_a_member");

    let decide = async |method: &str, caller: &TestUser, user: &TestUser| {
        app.api.send(&format!("{method} {path}/{}", user.id), Some(&caller.token), None).await
    };
    assert_eq!(decide("PUT", &eve, &bob).await.code(), "permission_denied");
    assert_eq!(decide("PUT", &bob, &bob).await.code(), "not_a_member");
    // What bob lets others do does not matter: bob has asked.
    app.users.set(bob.id, ContactableBy::Nobody);
    for _ in 0..2 {
        assert_eq!(decide("PUT", &ann, &bob).await.ok(200), json!({"user_id": bob.id, "role": "member"}));
    }
    assert_eq!(app.come(&bob, &code).await.ok(200)["member_count"], 3);
    for _ in 0..2 {
        decide("DELETE", &ann, &cid).await.ok(204);
        decide("DELETE", &dora, &dora).await.ok(204);
    }
    let unasked = decide("PUT", &ann, &cid).await;
    assert_eq!((unasked.status, unasked.code()), (404, "not_found"));
    assert_eq!(decide("DELETE", &dora, &cid).await.code(), "not_a_member");

    // A block that came meanwhile, and an account that went.
    for user in [&cid, &dora] {
        app.come(user, &code).await.ok(202);
    }
    let line = format!("PUT /api/blocks/{}", ann.id);
    app.api.send(&line, Some(&cid.token), None).await.ok(204);
    assert_eq!(decide("PUT", &ann, &cid).await.code(), "consent_required");
    app.users.delete(dora.id, 5);
    assert_eq!(decide("PUT", &ann, &dora).await.code(), "not_found");
}

#[tokio::test]
async fn a_removed_user_is_told_so_and_not_let_in() {
    let app = App::start().await;
    let [ann, bob] = ["ann", "bob"].map(|name| app.realm.user(name));
    let chat = app.group(&ann, &[&bob]).await;
    let (_, code) = app.invite(&ann, &chat, json!({})).await;
    app.remove(&ann, &chat, &bob).await.ok(204);
    let refused = app.come(&bob, &code).await;
    assert_eq!((refused.status, refused.code()), (403, "permission_denied"));
    assert!(
        refused.body["detail"].as_str().is_some_and(|text| text.contains("24 hours")),
        "{:?}",
        refused.body
    );
}

#[tokio::test]
async fn codes_that_lead_nowhere_are_tried_at_a_rate() {
    let mut app = App::start().await;
    app.guesses(Guesses::new(Rate::every(Duration::from_secs(600), 3)));
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|name| app.realm.user(name));
    let chat = app.group(&ann, &[]).await;
    let (_, code) = app.invite(&ann, &chat, json!({})).await;
    let look = async |user: &TestUser, code: &str| app.api.get(user, &format!("/api/invites/{code}")).await;
    for _ in 0..10 {
        look(&bob, &code).await.ok(200);
    }
    for _ in 0..2 {
        assert_eq!(look(&bob, "AAAAAAAAAAAAAAAAAAAAAA").await.code(), "not_found");
    }
    assert_eq!(app.come(&bob, "AAAAAAAAAAAAAAAAAAAAAA").await.code(), "not_found");
    // From then on a good one is refused too: the answer says nothing of it.
    for refused in [look(&bob, &code).await, look(&bob, "7").await, app.come(&bob, &code).await] {
        assert_eq!((refused.status, refused.code()), (429, "rate_limited"));
        assert!(refused.retry_after.is_some_and(|wait| (500..=601).contains(&wait)));
    }
    look(&cid, &code).await.ok(200);
}

/// Each time is an entry for every member, whichever way the user comes.
#[tokio::test]
async fn a_user_joins_at_a_rate_by_whichever_way() {
    let app = App::start().await;
    let [ann, bob] = ["ann", "bob"].map(|name| app.realm.user(name));
    let limited = |refused: Answer, most: u64| {
        assert_eq!((refused.status, refused.code()), (429, "rate_limited"));
        assert!(refused.retry_after.is_some_and(|wait| (1..=most + 1).contains(&wait)));
    };
    let chat = app.group(&ann, &[]).await;
    let (_, code) = app.invite(&ann, &chat, json!({})).await;
    for _ in 0..5 {
        for _ in 0..3 {
            // A member who repeats it is not counted.
            app.come(&bob, &code).await.ok(200);
        }
        app.api.post(&bob, &format!("/api/chats/{chat}/leave"), json!({})).await.ok(204);
    }
    limited(app.come(&bob, &code).await, 60);
    let open = Some(json!({"visibility": "public"}));
    app.api.send(&format!("PATCH /api/chats/{chat}"), Some(&ann.token), open).await.ok(200);
    limited(app.api.post(&bob, &format!("/api/chats/{chat}/join"), json!({})).await, 60);
    // Other chats have room, up to 30 in all. A machine that is very busy may leave time for one more.
    let mut joined = 0;
    let refused = loop {
        let next = app.channel(&ann, "News", "public").await;
        let answer = app.api.post(&bob, &format!("/api/chats/{next}/join"), json!({})).await;
        if answer.status != 200 {
            break answer;
        }
        joined += 1;
    };
    limited(refused, 30);
    assert!((25..=27).contains(&joined), "{joined} chats");
}
