//! Stories over REST and gRPC.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use chat::{
    api::{AppState, Changes, Drafts, Guesses, Patience, Users, grpc::ChatRpc},
    domain::Limits,
    scheduled::Alarm,
    store::MemoryStore,
};
use contracts::{
    ChatId, UserId,
    api::{ContactableBy, MAX_DRAFT_BYTES},
    rpc::{
        CheckBlocksRequest, CheckMembersRequest, GetMembershipRequest, ListAcquaintancesRequest,
        ListCalledRequest, ListMembershipsRequest, chat_service_server::ChatService as _,
    },
};
use kit::{
    bucket::Rate,
    log::Log,
    testing::{Answer, TestApi, TestRealm, TestUser},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};

use crate::users::{self, Peer};

mod joining;
mod scheduled;

struct App {
    api: TestApi,
    store: Arc<MemoryStore>,
    rpc: ChatRpc,
    realm: TestRealm,
    users: Peer,
    state: AppState,
}

impl App {
    async fn start() -> Self {
        let users = Peer::default();
        let client = users.start().await;
        Self::with_users(users, client).await
    }

    async fn with_users(users: Peer, client: Users) -> Self {
        let app = Self::silent(users, client, Patience::default()).await;
        app.publish();
        app
    }

    /// Starts without a publisher.
    async fn unpublished(patience: Patience) -> Self {
        let users = Peer::default();
        let client = users.start().await;
        Self::silent(users, client, patience).await
    }

    /// Starts for a tenant with little room.
    async fn limited(limits: Limits, changes: Changes) -> Self {
        let users = Peer::default();
        let client = users.start().await;
        let app = Self::on(MemoryStore::new(limits), users, client, (Patience::default(), changes)).await;
        app.publish();
        app
    }

    async fn silent(users: Peer, client: Users, patience: Patience) -> Self {
        let state = (patience, Changes::default());
        Self::on(MemoryStore::default(), users, client, state).await
    }

    async fn on(
        store: MemoryStore,
        users: Peer,
        client: Users,
        (patience, changes): (Patience, Changes),
    ) -> Self {
        let realm = TestRealm::start("acme").await;
        let store = Arc::new(store);
        let rpc = ChatRpc::new(store.clone());
        let guesses = Guesses::default();
        let state = AppState {
            store: store.clone(),
            users: client,
            patience,
            changes,
            drafts: Drafts::default(),
            guesses,
            alarm: Alarm::default(),
        };
        let api = TestApi::new(chat::api::router(state.clone()), &realm);
        Self { api, store, rpc, realm, users, state }
    }

    /// Allows other guesses of invite links.
    fn guesses(&mut self, guesses: Guesses) {
        self.state.guesses = guesses;
        self.api = TestApi::new(chat::api::router(self.state.clone()), &self.realm);
    }

    /// Publishes the outbox from now on.
    fn publish(&self) {
        let producer = Log::memory().producer(None).expect("a producer");
        let stop = CancellationToken::new();
        tokio::spawn(chat::events::publish_memory(self.store.clone(), producer, "acme".to_owned(), stop));
    }

    async fn put(&self, caller: &TestUser, chat: &str, user: &TestUser, role: &str) -> Answer {
        let line = format!("PUT /api/chats/{chat}/members/{}", user.id);
        self.api.send(&line, Some(&caller.token), Some(json!({"role": role}))).await
    }

    async fn remove(&self, caller: &TestUser, chat: &str, user: &TestUser) -> Answer {
        let line = format!("DELETE /api/chats/{chat}/members/{}", user.id);
        self.api.send(&line, Some(&caller.token), None).await
    }

    async fn group(&self, owner: &TestUser, others: &[&TestUser]) -> String {
        let others: Vec<_> = others.iter().map(|user| user.id).collect();
        let body = json!({"kind": "group", "title": "Crew", "members": others});
        let chat = self.api.post(owner, "/api/chats", body).await.ok(201);
        chat["chat_id"].as_str().expect("an id").to_owned()
    }
}

#[tokio::test]
async fn two_users_share_one_direct_chat() {
    let app = App::start().await;
    let (ann, bob) = (app.realm.user("ann"), app.realm.user("bob"));
    let with = |user: &TestUser| json!({"kind": "direct", "members": [user.id]});
    let first = app.api.post(&ann, "/api/chats", with(&bob)).await.ok(201);
    let again = app.api.post(&bob, "/api/chats", with(&ann)).await.ok(200);
    assert_eq!(first, again);
    assert_eq!(
        (&first["kind"], &first["role"], &first["member_count"]),
        (&"direct".into(), &"member".into(), &2.into())
    );
    assert!(first.get("title").is_none());
    let list = app.api.get(&bob, "/api/chats").await.ok(200);
    assert_eq!(list, json!({"items": [first]}));
}

#[tokio::test]
async fn a_direct_chat_is_left_and_opened_again() {
    let app = App::start().await;
    let (ann, bob) = (app.realm.user("ann"), app.realm.user("bob"));
    let open = async |caller: &TestUser, other: &TestUser| {
        app.api.post(caller, "/api/chats", json!({"kind": "direct", "members": [other.id]})).await
    };
    let first = open(&ann, &bob).await.ok(201);
    let chat = first["chat_id"].as_str().expect("an id").to_owned();
    let leave = format!("/api/chats/{chat}/leave");
    let may_write = async |users: [&TestUser; 2]| {
        let seat =
            |user: &TestUser| GetMembershipRequest { chat_id: chat.clone(), user_id: user.id.to_string() };
        let request = CheckMembersRequest { memberships: users.map(seat).to_vec() };
        app.rpc.check_members(Request::new(request)).await.expect("an answer").into_inner().may_send
    };
    assert_eq!(may_write([&ann, &bob]).await, [true, true]);
    app.api.post(&bob, &leave, json!({})).await.ok(204);
    app.api.post(&bob, &leave, json!({})).await.ok(204);
    assert_eq!(app.api.get(&bob, "/api/chats").await.ok(200), json!({"items": []}));
    assert_eq!(app.api.get(&ann, &format!("/api/chats/{chat}")).await.ok(200)["member_count"], 1);
    assert_eq!(may_write([&ann, &bob]).await, [false, false], "no one reads it");

    // The other cannot bring bob back, bob can.
    let refused = open(&ann, &bob).await;
    assert_eq!((refused.status, refused.code()), (403, "consent_required"));
    assert_eq!(open(&bob, &ann).await.ok(200), first);
    assert_eq!(open(&ann, &bob).await.ok(200), first);
    assert_eq!(may_write([&ann, &bob]).await, [true, true]);
    let request = GetMembershipRequest { chat_id: chat.clone(), user_id: bob.id.to_string() };
    let member = app.rpc.get_membership(Request::new(request)).await.expect("an answer").into_inner().member;
    assert_eq!(member.and_then(|bob| bob.reads_from).map(|entry| entry.sender_id), Some(bob.id.to_string()));
    // Neither removes the other.
    assert_eq!(app.remove(&ann, &chat, &bob).await.code(), "permission_denied");
    app.remove(&ann, &chat, &ann).await.ok(204);
    app.api.post(&bob, &leave, json!({})).await.ok(204);
    assert_eq!(open(&bob, &ann).await.code(), "consent_required");
}

#[tokio::test]
async fn users_decide_who_adds_them() {
    let app = App::start().await;
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|name| app.realm.user(name));
    let create = async |caller: &TestUser, kind: &str, others: &[&TestUser]| {
        let members: Vec<_> = others.iter().map(|user| user.id).collect();
        let title = if kind == "group" { json!("Crew") } else { json!(null) };
        app.api.post(caller, "/api/chats", json!({"kind": kind, "title": title, "members": members})).await
    };
    let old = app.group(&ann, &[&bob]).await;
    let crew = app.group(&ann, &[]).await;
    app.users.set(bob.id, ContactableBy::Nobody);
    let mut refusals = vec![
        create(&ann, "direct", &[&bob]).await,
        create(&cid, "direct", &[&bob]).await,
        create(&ann, "group", &[&cid, &bob]).await,
        app.put(&ann, &crew, &bob, "member").await,
    ];
    // A user who may not add members learns nothing of bob, and chats in which bob is go on.
    let stranger = app.put(&cid, &crew, &bob, "member").await;
    assert_eq!(stranger.code(), "not_a_member");
    app.put(&ann, &old, &bob, "admin").await.ok(200);

    app.users.set(bob.id, ContactableBy::SharedChats);
    refusals.push(create(&cid, "direct", &[&bob]).await);
    refusals.push(create(&cid, "group", &[&ann, &bob]).await);
    let pair = create(&ann, "direct", &[&bob]).await.ok(201);
    app.put(&ann, &crew, &bob, "member").await.ok(200);
    app.remove(&ann, &crew, &bob).await.ok(204);
    // The same response, whatever the reason: here, that ann has just removed bob.
    refusals.push(app.put(&ann, &crew, &bob, "member").await);
    for refusal in &refusals {
        assert_eq!((refusal.status, refusal.code()), (403, "consent_required"));
        assert_eq!(refusal.body, refusals[0].body);
        assert!(refusal.body["detail"].as_str().is_some_and(|text| text.contains(&bob.id.to_string())));
    }

    // What is there already needs no consent, and bob opens chats whatever others may do.
    app.users.set(bob.id, ContactableBy::Nobody);
    assert_eq!(create(&ann, "direct", &[&bob]).await.ok(200), pair);
    create(&bob, "direct", &[&cid]).await.ok(201);
    create(&cid, "direct", &[&bob]).await.ok(200);
}

#[tokio::test]
async fn a_block_acts_in_both_directions_and_is_told_from_nothing_else() {
    let app = App::start().await;
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|name| app.realm.user(name));
    let block = async |method: &str, caller: &TestUser, other: &TestUser| {
        let line = format!("{method} /api/blocks/{}", other.id);
        app.api.send(&line, Some(&caller.token), None).await
    };
    let create = async |caller: &TestUser, kind: &str, others: &[&TestUser]| {
        let members: Vec<_> = others.iter().map(|user| user.id).collect();
        let title = if kind == "group" { json!("Crew") } else { json!(null) };
        app.api.post(caller, "/api/chats", json!({"kind": kind, "title": title, "members": members})).await
    };
    let crew = app.group(&ann, &[]).await;
    let shared = app.group(&cid, &[&ann, &bob]).await;
    let attempts = async || {
        [
            create(&ann, "direct", &[&bob]).await,
            create(&ann, "group", &[&cid, &bob]).await,
            app.put(&ann, &crew, &bob, "member").await,
        ]
    };
    app.users.set(bob.id, ContactableBy::Nobody);
    let unwilling = attempts().await;
    assert_eq!((unwilling[0].status, unwilling[0].code()), (403, "consent_required"));
    app.users.set(bob.id, ContactableBy::Everyone);
    for _ in 0..2 {
        block("PUT", &bob, &ann).await.ok(204);
    }
    assert_eq!(attempts().await, unwilling, "the same response");
    // The other direction, and groups that both are in.
    assert_eq!(create(&bob, "direct", &[&ann]).await.code(), "consent_required");
    assert_eq!(create(&bob, "group", &[&ann]).await.code(), "consent_required");
    app.put(&cid, &shared, &bob, "admin").await.ok(200);
    assert_eq!(app.api.get(&ann, &format!("/api/chats/{shared}")).await.ok(200)["member_count"], 3);
    create(&cid, "group", &[&ann, &bob]).await.ok(201);

    let list = app.api.get(&bob, "/api/blocks").await.ok(200);
    assert_eq!(list["items"][0]["user_id"], json!(ann.id));
    assert!(list["items"][0]["blocked_at_ms"].is_i64());
    assert_eq!(app.api.get(&ann, "/api/blocks").await.ok(200), json!({"items": []}));
    for _ in 0..2 {
        block("DELETE", &bob, &ann).await.ok(204);
    }
    create(&ann, "direct", &[&bob]).await.ok(201);
}

#[tokio::test]
async fn a_block_closes_a_direct_chat_for_both() {
    let app = App::start().await;
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|name| app.realm.user(name));
    let direct = json!({"kind": "direct", "members": [bob.id]});
    let pair = app.api.post(&ann, "/api/chats", direct.clone()).await.ok(201);
    let chat_id = pair["chat_id"].as_str().expect("an id").to_owned();
    let checked = async || {
        let seat =
            |user: &TestUser| GetMembershipRequest { chat_id: chat_id.clone(), user_id: user.id.to_string() };
        let request = CheckMembersRequest { memberships: vec![seat(&ann), seat(&bob)] };
        let checked = app.rpc.check_members(Request::new(request)).await.expect("an answer").into_inner();
        (checked.is_member, checked.may_send)
    };
    let blocks = async |user: &TestUser, others: &[&TestUser]| {
        let other_ids = others.iter().map(|other| other.id.to_string()).collect();
        let request = CheckBlocksRequest { user_id: user.id.to_string(), other_ids };
        app.rpc.check_blocks(Request::new(request)).await.expect("an answer").into_inner().is_blocked
    };
    let line = format!("PUT /api/blocks/{}", ann.id);
    app.api.send(&line, Some(&bob.token), None).await.ok(204);
    assert_eq!(checked().await, (vec![true, true], vec![false, false]));
    assert_eq!(blocks(&ann, &[&cid, &bob, &ann]).await, [false, true, false]);
    assert_eq!(blocks(&bob, &[&ann]).await, [true]);
    // Both keep it, and neither sees of the other what it did not show before.
    assert_eq!(app.api.post(&ann, "/api/chats", direct).await.ok(200), pair);
    let line = format!("DELETE /api/blocks/{}", ann.id);
    app.api.send(&line, Some(&bob.token), None).await.ok(204);
    assert_eq!(checked().await, (vec![true, true], vec![true, true]));
}

#[tokio::test]
async fn a_block_is_answered_once_it_is_published() {
    let app = App::unpublished(Patience(Duration::from_millis(50))).await;
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|name| app.realm.user(name));
    app.api.post(&ann, "/api/chats", json!({"kind": "direct", "members": [bob.id]})).await.ok(201);
    let block = async |other: &TestUser| {
        app.api.send(&format!("PUT /api/blocks/{}", other.id), Some(&ann.token), None).await
    };
    block(&cid).await.ok(204);
    for _ in 0..2 {
        assert_eq!(block(&bob).await.code(), "unavailable");
    }
    app.publish();
    block(&bob).await.ok(204);
}

#[tokio::test]
async fn a_block_that_cannot_be_is_refused() {
    let app = App::start().await;
    let [ann, gone] = ["ann", "gone"].map(|name| app.realm.user(name));
    app.users.delete(gone.id, 5);
    let stranger = app.users.stranger();
    let send = async |line: String, token: &str| app.api.send(&line, Some(token), None).await;
    for (other, status, code) in [
        (ann.id.to_string(), 409, "conflict"),
        (gone.id.to_string(), 404, "not_found"),
        (stranger.to_string(), 404, "not_found"),
        ("7".to_owned(), 400, "invalid_argument"),
    ] {
        let answer = send(format!("PUT /api/blocks/{other}"), &ann.token).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{other}");
    }
    assert_eq!(send(format!("PUT /api/blocks/{}", ann.id), &gone.token).await.code(), "unauthenticated");
    // There is nothing to lift.
    send(format!("DELETE /api/blocks/{stranger}"), &ann.token).await.ok(204);
    for path in ["/api/blocks?limit=0", "/api/blocks?limit=501", "/api/blocks?cursor=7", "/api/blocks?of=bob"]
    {
        assert_eq!(app.api.get(&ann, path).await.code(), "invalid_argument", "{path}");
    }
    let other_ids = vec![stranger.to_string(); 1001];
    let request = CheckBlocksRequest { user_id: ann.id.to_string(), other_ids };
    let refused = app.rpc.check_blocks(Request::new(request)).await.expect_err("too many");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_departure_holds_for_a_day() {
    let app = App::start().await;
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|name| app.realm.user(name));
    let chat = app.group(&ann, &[&bob, &cid]).await;
    app.put(&ann, &chat, &bob, "admin").await.ok(200);
    app.remove(&ann, &chat, &cid).await.ok(204);
    assert_eq!(app.put(&ann, &chat, &cid, "member").await.code(), "consent_required");
    app.put(&bob, &chat, &cid, "member").await.ok(200);
    // Two hands are no way around it.
    app.remove(&bob, &chat, &cid).await.ok(204);
    for caller in [&ann, &bob] {
        assert_eq!(app.put(caller, &chat, &cid, "member").await.code(), "consent_required");
    }
}

#[tokio::test]
async fn a_group_lives_from_founding_to_empty() {
    let app = App::start().await;
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|name| app.realm.user(name));
    let chat = app.group(&ann, &[&bob]).await;
    app.put(&ann, &chat, &bob, "admin").await.ok(200);
    app.put(&bob, &chat, &cid, "member").await.ok(200);
    assert_eq!(app.put(&bob, &chat, &cid, "admin").await.code(), "permission_denied");
    assert_eq!(app.remove(&cid, &chat, &bob).await.code(), "permission_denied");
    assert_eq!(app.put(&ann, &chat, &ann, "member").await.code(), "conflict");
    app.api.post(&ann, &format!("/api/chats/{chat}/leave"), json!({})).await.ok(204);
    let members = app.api.get(&cid, &format!("/api/chats/{chat}/members")).await.ok(200);
    let mut expected = [(bob.id, "owner"), (cid.id, "member")];
    expected.sort_by_key(|(id, _)| *id);
    let expected = expected.map(|(id, role)| json!({"user_id": id, "role": role}));
    assert_eq!(members, json!({"items": expected}));
    assert_eq!(app.api.get(&ann, &format!("/api/chats/{chat}")).await.code(), "not_a_member");
    app.remove(&bob, &chat, &ann).await.ok(204);
    app.api.post(&ann, &format!("/api/chats/{chat}/leave"), json!({})).await.ok(204);
    app.remove(&bob, &chat, &cid).await.ok(204);
    app.remove(&bob, &chat, &bob).await.ok(204);
    assert_eq!(app.api.get(&bob, "/api/chats").await.ok(200), json!({"items": []}));
}

#[tokio::test]
async fn a_group_is_renamed_and_deleted() {
    let app = App::start().await;
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| app.realm.user(name));
    let chat = app.group(&ann, &[&bob]).await;
    let line = |method: &str| format!("{method} /api/chats/{chat}");
    let patch =
        async |caller: &TestUser, body| app.api.send(&line("PATCH"), Some(&caller.token), Some(body)).await;
    let body = json!({"title": "  Board games ", "topic": "on Fridays"});
    let renamed = patch(&ann, body.clone()).await.ok(200);
    assert_eq!((&renamed["title"], &renamed["topic"]), (&"Board games".into(), &"on Fridays".into()));
    assert_eq!(patch(&ann, json!({})).await.ok(200), renamed);
    assert_eq!(app.api.get(&bob, "/api/chats").await.ok(200)["items"][0]["title"], "Board games");
    let untitled = patch(&ann, json!({"title": null, "topic": ""})).await.ok(200);
    assert_eq!((&untitled["title"], untitled.get("topic")), (&"Board games".into(), None));
    assert_eq!(patch(&bob, body.clone()).await.code(), "permission_denied");
    assert_eq!(patch(&eve, body).await.code(), "not_a_member");

    let delete = async |caller: &TestUser| app.api.send(&line("DELETE"), Some(&caller.token), None).await;
    assert_eq!(delete(&bob).await.code(), "permission_denied");
    assert_eq!(delete(&eve).await.code(), "not_a_member");
    for _ in 0..2 {
        delete(&ann).await.ok(204);
        assert_eq!(app.api.get(&bob, "/api/chats").await.ok(200), json!({"items": []}));
        assert_eq!(app.put(&ann, &chat, &bob, "member").await.code(), "not_a_member");
    }
    assert_eq!(delete(&bob).await.code(), "not_a_member");
    let direct =
        app.api.post(&ann, "/api/chats", json!({"kind": "direct", "members": [bob.id]})).await.ok(201);
    let direct = format!("DELETE /api/chats/{}", direct["chat_id"].as_str().expect("an id"));
    assert_eq!(app.api.send(&direct, Some(&ann.token), None).await.code(), "permission_denied");
}

#[tokio::test]
async fn many_are_added_at_once_and_listed_in_pages() {
    let app = App::start().await;
    let [ann, bob, eve, left, shy, gone] =
        ["ann", "bob", "eve", "left", "shy", "gone"].map(|name| app.realm.user(name));
    let chat = app.group(&ann, &[&bob, &left]).await;
    app.api.post(&left, &format!("/api/chats/{chat}/leave"), json!({})).await.ok(204);
    app.users.set(shy.id, ContactableBy::Nobody);
    app.users.delete(gone.id, 5);
    let others: Vec<_> = (0..30).map(|_| UserId::generate()).collect();
    let named = [bob.id, left.id, shy.id, gone.id].into_iter().chain(others.clone()).collect::<Vec<_>>();
    let path = format!("/api/chats/{chat}/members");
    let add = async |caller: &TestUser, users: &[UserId]| {
        app.api.post(caller, &path, json!({"user_ids": users})).await
    };
    let refused = |user: &TestUser, code: &str| json!({"user_id": user.id, "code": code});
    let mut expected = vec![
        (left.id, refused(&left, "consent_required")),
        (shy.id, refused(&shy, "consent_required")),
        (gone.id, refused(&gone, "not_found")),
    ];
    expected.sort_by_key(|(id, _)| *id);
    let expected: Vec<_> = expected.into_iter().map(|(_, refused)| refused).collect();
    for _ in 0..2 {
        assert_eq!(add(&ann, &named).await.ok(200), json!({"refused": expected}));
        assert_eq!(app.api.get(&ann, &format!("/api/chats/{chat}")).await.ok(200)["member_count"], 32);
    }
    assert_eq!(add(&bob, &others).await.code(), "permission_denied");
    assert_eq!(add(&eve, &others).await.code(), "not_a_member");
    for users in [vec![], vec![bob.id; 501]] {
        assert_eq!(add(&ann, &users).await.code(), "invalid_argument");
    }

    let mut all: Vec<_> = others.into_iter().chain([ann.id, bob.id]).map(|id| id.to_string()).collect();
    all.sort();
    let (mut seen, mut next) = (Vec::new(), format!("{path}?limit=7"));
    loop {
        let page = app.api.get(&bob, &next).await.ok(200);
        let items = page["items"].as_array().expect("items");
        seen.extend(items.iter().map(|of| of["user_id"].as_str().expect("an id").to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        next = format!("{path}?limit=7&cursor={cursor}");
    }
    assert_eq!(seen, all);
    let owners = app.api.get(&bob, &format!("{path}?role=owner")).await.ok(200);
    assert_eq!(owners, json!({"items": [{"user_id": ann.id, "role": "owner"}]}));
    assert_eq!(app.api.get(&eve, &path).await.code(), "not_a_member");
    for query in ["limit=0", "limit=1001", "cursor=7", "role=king", "of=bob"] {
        assert_eq!(app.api.get(&ann, &format!("{path}?{query}")).await.code(), "invalid_argument", "{query}");
    }
}

#[tokio::test]
async fn a_channel_is_created_as_a_group_is() {
    let app = App::start().await;
    let [ann, bob] = ["ann", "bob"].map(|name| app.realm.user(name));
    let body = json!({"kind": "channel", "title": "News", "members": [bob.id]});
    let channel = app.api.post(&ann, "/api/chats", body).await.ok(201);
    assert_eq!((&channel["kind"], &channel["history"]), (&"channel".into(), &"all".into()));
    let chat = channel["chat_id"].as_str().expect("an id").to_owned();
    let seat = |user: &TestUser| GetMembershipRequest { chat_id: chat.clone(), user_id: user.id.to_string() };
    let request = CheckMembersRequest { memberships: vec![seat(&ann), seat(&bob)] };
    let checked = app.rpc.check_members(Request::new(request)).await.expect("an answer").into_inner();
    assert_eq!((checked.is_member, checked.may_send), (vec![true; 2], vec![true, false]));
    assert_eq!(checked.may_react, [true, true]);
    assert_eq!(app.put(&bob, &chat, &ann, "member").await.code(), "permission_denied");
    let untitled = json!({"kind": "channel", "members": []});
    assert_eq!(app.api.post(&ann, "/api/chats", untitled).await.code(), "invalid_argument");
}

#[tokio::test]
async fn a_member_mutes_archives_and_marks_a_chat_for_themselves() {
    let app = App::start().await;
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| app.realm.user(name));
    let chat = app.group(&ann, &[&bob]).await;
    let patch = async |caller: &TestUser, body| {
        app.api.send(&format!("PATCH /api/chats/{chat}/me"), Some(&caller.token), Some(body)).await
    };
    let default = json!({"version": 0, "archived": false, "favourite": false});
    assert_eq!(app.api.get(&bob, &format!("/api/chats/{chat}")).await.ok(200)["own"], default);
    let own = patch(&bob, json!({"muted_until_ms": 9000, "favourite": true})).await.ok(200);
    let expected = json!({"version": 1, "muted_until_ms": 9000, "archived": false, "favourite": true});
    assert_eq!(own, expected);
    assert_eq!(app.api.get(&bob, "/api/chats").await.ok(200)["items"][0]["own"], expected);
    assert_eq!(app.api.get(&ann, "/api/chats").await.ok(200)["items"][0]["own"], default);
    assert_eq!(patch(&bob, json!({"muted_until_ms": null})).await.ok(200), expected);
    let own = patch(&bob, json!({"muted_until_ms": 0, "archived": true})).await.ok(200);
    assert_eq!(own, json!({"version": 2, "archived": true, "favourite": true}));
    assert_eq!(patch(&eve, json!({"archived": true})).await.code(), "not_a_member");
    let draft = json!({"body": "I wi", "reply_to": 7});
    let own = patch(&bob, json!({"draft": draft})).await.ok(200);
    assert_eq!(own, json!({"version": 3, "archived": true, "favourite": true, "draft": draft}));
    let found = app.api.get(&bob, &format!("/api/chats/{chat}")).await.ok(200);
    assert_eq!((&found["own"], found["member_count"].as_i64()), (&own, Some(2)));
    let own = patch(&bob, json!({"draft": {"body": ""}})).await.ok(200);
    assert_eq!(own, json!({"version": 4, "archived": true, "favourite": true}));
    for body in [
        json!({"muted_until_ms": -1}),
        json!({"archived": "yes"}),
        json!({"pinned": true}),
        json!([]),
        json!({"draft": "I wi"}),
        json!({"draft": {"reply_to": 7}}),
        json!({"draft": {"body": "x", "reply_to": 0}}),
        json!({"draft": {"body": "x".repeat(MAX_DRAFT_BYTES + 1)}}),
    ] {
        assert_eq!(patch(&bob, body.clone()).await.code(), "invalid_argument", "{body}");
    }
    let mut answers = Vec::new();
    for n in 0..40 {
        answers.push(patch(&bob, json!({"draft": {"body": n.to_string()}})).await);
    }
    let refused = answers.into_iter().find(|answer| answer.status != 200).expect("drafts have a rate");
    assert_eq!(refused.code(), "rate_limited");
    patch(&bob, json!({"archived": false})).await.ok(200);
}

#[tokio::test]
async fn a_group_says_what_new_members_read() {
    let app = App::start().await;
    let [ann, bob, cid, dora] = ["ann", "bob", "cid", "dora"].map(|name| app.realm.user(name));
    let patch = async |caller: &TestUser, chat: &str, body| {
        app.api.send(&format!("PATCH /api/chats/{chat}"), Some(&caller.token), Some(body)).await
    };
    let chat = app.group(&ann, &[&bob]).await;
    let found = app.api.get(&bob, &format!("/api/chats/{chat}")).await.ok(200);
    assert_eq!(found["history"], "from_entry");
    app.put(&ann, &chat, &cid, "member").await.ok(200);
    let changed = patch(&ann, &chat, json!({"history": "all"})).await.ok(200);
    assert_eq!((&changed["history"], &changed["role"]), (&"all".into(), &"owner".into()));
    patch(&ann, &chat, json!({"history": "all"})).await.ok(200);
    app.put(&ann, &chat, &dora, "member").await.ok(200);
    let reads_from = async |user: &TestUser| {
        let request = GetMembershipRequest { chat_id: chat.clone(), user_id: user.id.to_string() };
        let answer = app.rpc.get_membership(Request::new(request)).await.expect("an answer");
        answer.into_inner().member.expect("a member").reads_from
    };
    let entry = reads_from(&cid).await.expect("an entry");
    assert_eq!(entry.sender_id, ann.id.to_string());
    assert_eq!((reads_from(&dora).await, reads_from(&bob).await), (None, None));

    assert_eq!(patch(&bob, &chat, json!({"history": "all"})).await.code(), "permission_denied");
    let eve = app.realm.user("eve");
    assert_eq!(patch(&eve, &chat, json!({"history": "all"})).await.code(), "not_a_member");
    let slow = patch(&ann, &chat, json!({"slow_mode_seconds": 3600, "avatar": "f-7_A"})).await.ok(200);
    assert_eq!((&slow["slow_mode_seconds"], &slow["avatar"]), (&3600.into(), &"f-7_A".into()));
    for body in [
        json!({"slow_mode_seconds": 3601}),
        json!({"slow_mode_seconds": -1}),
        json!({"avatar": "a b"}),
        json!({"avatar": "x".repeat(129)}),
    ] {
        assert_eq!(patch(&ann, &chat, body.clone()).await.code(), "invalid_argument", "{body}");
    }
    for body in [json!({"history": "some"}), json!({"title": " "}), json!({"topic": 7}), json!(["all"])] {
        assert_eq!(patch(&ann, &chat, body.clone()).await.code(), "invalid_argument", "{body}");
    }
    let open = json!({"kind": "group", "title": "Crew", "members": [], "history": "all"});
    let open = app.api.post(&ann, "/api/chats", open).await.ok(201);
    assert_eq!(open["history"], "all");
    let default = json!({"kind": "group", "title": "Crew", "members": [], "history": null});
    assert_eq!(app.api.post(&ann, "/api/chats", default).await.ok(201)["history"], "from_entry");
    let direct =
        app.api.post(&ann, "/api/chats", json!({"kind": "direct", "members": [bob.id]})).await.ok(201);
    assert!(direct.get("history").is_none());
    let direct = direct["chat_id"].as_str().expect("an id");
    assert_eq!(patch(&ann, direct, json!({"history": "all"})).await.code(), "permission_denied");
}

#[tokio::test]
async fn a_group_that_is_created_again_with_its_key_is_the_same_group() {
    let app = App::start().await;
    let [ann, bob] = ["ann", "bob"].map(|name| app.realm.user(name));
    let create = async |title: &str, keys: &[&str]| {
        let body = json!({"kind": "group", "title": title, "members": [bob.id]});
        let headers: Vec<_> = keys.iter().map(|key| ("idempotency-key", *key)).collect();
        app.api.send_with("POST /api/chats", Some(&ann.token), &headers, Some(body)).await
    };
    let first = create("the trip", &["5f0c"]).await.ok(201);
    assert_eq!(create("the trip", &["5f0c"]).await.ok(200), first);
    let other = create("the trip", &[]).await.ok(201);
    assert_ne!(other["chat_id"], first["chat_id"]);
    let reused = create("another trip", &["5f0c"]).await;
    assert_eq!((reused.status, reused.code()), (422, "idempotency_conflict"));
    for keys in [&["5f0c", "5f0d"] as &[_], &[""], &["two words"]] {
        assert_eq!(create("the trip", keys).await.code(), "invalid_argument", "{keys:?}");
    }
}

#[tokio::test]
async fn a_limit_is_named_with_what_makes_room_and_refuses_no_repetition() {
    let limits = Limits { max_memberships: 100, max_chats_per_user: 3 };
    let app = App::limited(limits, Changes::default()).await;
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|name| app.realm.user(name));
    let create = async |caller: &TestUser, key: Option<&str>, body| {
        let headers: Vec<_> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
        app.api.send_with("POST /api/chats", Some(&caller.token), &headers, Some(body)).await
    };
    let group = |others: &[UserId]| json!({"kind": "group", "title": "Crew", "members": others});
    let direct = |other: &TestUser| json!({"kind": "direct", "members": [other.id]});
    let limited = |answer: Answer, hint: &str| {
        assert_eq!((answer.status, answer.code()), (409, "limit_reached"));
        let detail = answer.body["detail"].as_str().expect("a detail").to_owned();
        assert!(detail.contains(hint), "{detail}");
        assert_eq!(answer.retry_after, None, "waiting does not help");
    };

    let pair = create(&ann, None, direct(&bob)).await.ok(201);
    let crew = create(&ann, Some("5f0c"), group(&[])).await.ok(201);
    let others: Vec<_> = (0..9).map(|_| UserId::generate()).collect();
    // Two and one are there: with ten more, one user would have thirteen, of 87 that are left.
    limited(create(&ann, None, group(&others)).await, "limits.memberships");
    let last = create(&ann, None, group(&others[..7])).await.ok(201);
    let last = last["chat_id"].as_str().expect("an id");
    limited(app.put(&ann, last, &cid, "member").await, "remove members");
    // A user who is added by others creates chats of their own.
    create(&bob, None, group(&[cid.id])).await.ok(201);
    limited(create(&ann, None, group(&[])).await, "limits.chatsPerUser");

    assert_eq!(create(&ann, None, direct(&bob)).await.ok(200), pair);
    assert_eq!(create(&bob, None, direct(&ann)).await.ok(200), pair);
    assert_eq!(create(&ann, Some("5f0c"), group(&[])).await.ok(200), crew);

    // An empty group makes room for another one, but not on the same day.
    let crew = crew["chat_id"].as_str().expect("an id");
    app.remove(&ann, crew, &ann).await.ok(204);
    let soon = create(&ann, None, group(&[])).await;
    assert_eq!((soon.status, soon.code()), (429, "rate_limited"));
    let wait = soon.retry_after.expect("how long to wait");
    assert!((86_000..=86_401).contains(&wait), "{wait}");
}

#[tokio::test]
async fn one_user_changes_chats_at_a_rate_and_reads_at_any() {
    let rate = Rate::every(Duration::from_secs(600), 4);
    let app = App::limited(Limits::default(), Changes::new(rate)).await;
    let [ann, bob] = ["ann", "bob"].map(|name| app.realm.user(name));
    let open = json!({"kind": "direct", "members": [bob.id]});
    let chat = app.api.post(&ann, "/api/chats", open.clone()).await.ok(201);
    let chat = chat["chat_id"].as_str().expect("an id").to_owned();
    // Out of the chat and back: each is an entry, and reaches the devices of the other.
    app.api.post(&ann, &format!("/api/chats/{chat}/leave"), json!({})).await.ok(204);
    app.api.post(&ann, "/api/chats", open.clone()).await.ok(200);
    app.remove(&ann, &chat, &ann).await.ok(204);
    let history = Some(json!({"history": "all"}));
    for refused in [
        app.api.post(&ann, "/api/chats", open).await,
        app.put(&ann, &chat, &bob, "admin").await,
        app.remove(&ann, &chat, &bob).await,
        app.api.post(&ann, &format!("/api/chats/{chat}/leave"), json!({})).await,
        app.api.send(&format!("PATCH /api/chats/{chat}"), Some(&ann.token), history).await,
    ] {
        assert_eq!((refused.status, refused.code()), (429, "rate_limited"));
        let wait = refused.retry_after.expect("how long to wait");
        assert!((500..=601).contains(&wait), "{wait}");
    }
    app.api.get(&ann, "/api/chats").await.ok(200);
    app.api.post(&bob, &format!("/api/chats/{chat}/leave"), json!({})).await.ok(204);
}

#[tokio::test]
async fn a_chat_of_others_and_no_chat_look_the_same() {
    let app = App::start().await;
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| app.realm.user(name));
    let theirs = app.group(&ann, &[&bob]).await;
    let none = ChatId::generate().to_string();
    let mut seen = Vec::new();
    for chat in [&theirs, &none] {
        let answers = [
            app.api.get(&eve, &format!("/api/chats/{chat}")).await,
            app.api.get(&eve, &format!("/api/chats/{chat}/members")).await,
            app.put(&eve, chat, &bob, "member").await,
            app.remove(&eve, chat, &bob).await,
        ];
        app.api.post(&eve, &format!("/api/chats/{chat}/leave"), json!({})).await.ok(204);
        for answer in answers {
            assert_eq!(answer.code(), "not_a_member");
            seen.push(answer.body.to_string().replace(chat.as_str(), "<chat>"));
        }
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "the same body each time");
}

#[tokio::test]
async fn pages_follow_each_other_to_the_end() {
    let app = App::start().await;
    let ann = app.realm.user("ann");
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(app.group(&ann, &[]).await);
    }
    made.sort();
    made.reverse();
    let (mut seen, mut path) = (Vec::new(), "/api/chats?limit=2".to_owned());
    loop {
        let page = app.api.get(&ann, &path).await.ok(200);
        let items = page["items"].as_array().expect("items");
        seen.extend(items.iter().map(|chat| chat["chat_id"].as_str().expect("an id").to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/chats?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, made);
}

#[tokio::test]
async fn bad_input_gets_a_code_and_stores_nothing() {
    let app = App::start().await;
    let (ann, bob) = (app.realm.user("ann"), app.realm.user("bob"));
    let group = |title: &str| json!({"kind": "group", "title": title, "members": []});
    let bodies = [
        (group(""), "invalid_argument"),
        (group(&"x".repeat(129)), "invalid_argument"),
        (group("\u{3164}"), "invalid_argument"),
        (group("us\u{202e}"), "invalid_argument"),
        (json!(["group", "Crew", []]), "invalid_argument"),
        (json!({"kind": "group", "members": []}), "invalid_argument"),
        (json!({"kind": "direct", "members": []}), "invalid_argument"),
        (json!({"kind": "direct", "members": [ann.id]}), "conflict"),
        (json!({"kind": "direct", "members": [bob.id], "title": "us"}), "invalid_argument"),
        (json!({"kind": "direct", "members": [bob.id], "history": "all"}), "invalid_argument"),
        (json!({"kind": "group", "title": "Crew", "members": [], "history": "some"}), "invalid_argument"),
        (json!({"kind": "channel", "members": []}), "invalid_argument"),
        (json!({"kind": "direct", "members": ["bob"]}), "invalid_argument"),
        (json!({"kind": "direct", "members": [bob.id], "tenant": "globex"}), "invalid_argument"),
    ];
    for (body, code) in bodies {
        assert_eq!(app.api.post(&ann, "/api/chats", body.clone()).await.code(), code, "{body}");
    }
    for path in ["/api/chats/7", "/api/chats?limit=0", "/api/chats?limit=101", "/api/chats?sort=title"] {
        assert_eq!(app.api.get(&ann, path).await.code(), "invalid_argument", "{path}");
    }
    let without_body = app.api.send("POST /api/chats", Some(&ann.token), None).await;
    assert_eq!(without_body.code(), "unsupported_media_type");
    assert_eq!(app.api.get(&ann, "/api/chats").await.ok(200), json!({"items": []}));
}

#[tokio::test]
async fn without_a_token_of_this_tenant_there_is_nothing() {
    let app = App::start().await;
    let globex = TestRealm::start("globex").await;
    let ann = app.realm.user("ann");
    let expired = app.realm.token_with(ann.id, "ann", json!({"exp": 1_700_000_000}));
    let foreign = globex.token(ann.id, "ann");
    let cases = [
        (None, "unauthenticated"),
        (Some("nonsense"), "unauthenticated"),
        (Some(foreign.as_str()), "unauthenticated"),
        (Some(expired.as_str()), "token_expired"),
    ];
    for (token, code) in cases {
        let answer = app.api.send("GET /api/chats", token, None).await;
        assert_eq!((answer.status, answer.code()), (401, code));
    }
}

#[tokio::test]
async fn a_change_is_answered_once_it_is_published() {
    let app = App::unpublished(Patience::default()).await;
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|name| app.realm.user(name));
    // A new chat is answered immediately: no record of it can come too early.
    let chat = app.group(&ann, &[&bob]).await;
    let mut changes = std::pin::pin!(async {
        app.remove(&ann, &chat, &bob).await.ok(204);
        app.put(&ann, &chat, &cid, "member").await.ok(200);
        app.api.post(&cid, &format!("/api/chats/{chat}/leave"), json!({})).await.ok(204);
    });
    let soon = tokio::time::timeout(Duration::from_millis(300), &mut changes).await;
    assert!(soon.is_err(), "a removal was answered that no gateway can know of");
    // It is done, though, and a repetition waits like the first request.
    assert_eq!(app.api.get(&bob, &format!("/api/chats/{chat}")).await.code(), "not_a_member");
    let again = tokio::time::timeout(Duration::from_millis(300), app.remove(&ann, &chat, &bob)).await;
    assert!(again.is_err(), "a repeated removal was answered that no gateway can know of");
    app.publish();
    changes.await;
}

#[tokio::test]
async fn a_change_that_is_not_published_in_time_is_to_be_repeated() {
    let app = App::unpublished(Patience(Duration::from_millis(50))).await;
    let [ann, bob] = ["ann", "bob"].map(|name| app.realm.user(name));
    let chat = app.group(&ann, &[&bob]).await;
    let answer = app.remove(&ann, &chat, &bob).await;
    assert_eq!((answer.status, answer.code()), (503, "unavailable"));
    app.publish();
    app.remove(&ann, &chat, &bob).await.ok(204);
}

#[tokio::test]
async fn other_services_ask_for_memberships() {
    let app = App::start().await;
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| app.realm.user(name));
    let chat_id = app.group(&ann, &[&bob]).await;
    let role = async |chat_id: &str, user_id: &str| {
        let request = GetMembershipRequest { chat_id: chat_id.to_owned(), user_id: user_id.to_owned() };
        let answer = app.rpc.get_membership(Request::new(request)).await?;
        Ok::<_, tonic::Status>(answer.into_inner().member.map(|member| member.role))
    };
    let id = |user: &TestUser| user.id.to_string();
    assert_eq!(role(&chat_id, &id(&ann)).await.expect("an answer").as_deref(), Some("owner"));
    assert_eq!(role(&chat_id, &id(&eve)).await.expect("an answer"), None);
    assert_eq!(role(&ChatId::generate().to_string(), &id(&ann)).await.expect("an answer"), None);
    assert_eq!(role("7", &id(&ann)).await.expect_err("no id").code(), Code::InvalidArgument);
    let seat = |chat_id: &str, user: &TestUser| GetMembershipRequest {
        chat_id: chat_id.to_owned(),
        user_id: id(user),
    };
    let none = ChatId::generate().to_string();
    let memberships =
        vec![seat(&chat_id, &bob), seat(&chat_id, &eve), seat(&none, &bob), seat(&chat_id, &ann)];
    let checked = app.rpc.check_members(Request::new(CheckMembersRequest { memberships })).await;
    let checked = checked.expect("an answer").into_inner();
    assert_eq!(checked.is_member, [true, false, false, true]);
    assert_eq!(checked.may_send, [true, false, false, true]);
    assert_eq!(checked.slow_mode_seconds, [0; 4]);
    let request = ListMembershipsRequest { user_id: id(&bob), chat_ids: Vec::new() };
    let listed = app.rpc.list_memberships(Request::new(request)).await.expect("an answer").into_inner();
    let [listed] = listed.memberships.as_slice() else { panic!("{listed:?}") };
    assert_eq!((&listed.chat_id, listed.role.as_str()), (&chat_id, "member"));
    assert_eq!((listed.version, listed.member_count, listed.is_closed), (2, 2, false));

    let met = async |user: &TestUser, other_ids: Vec<String>| {
        let request = ListAcquaintancesRequest { user_id: id(user), other_ids };
        Ok::<_, tonic::Status>(app.rpc.list_acquaintances(Request::new(request)).await?.into_inner().user_ids)
    };
    assert_eq!(met(&ann, vec![id(&bob), id(&eve)]).await.expect("an answer"), [id(&bob)]);
    assert_eq!(met(&eve, vec![id(&bob), id(&ann)]).await.expect("an answer"), [""; 0]);
    assert_eq!(met(&ann, vec!["7".to_owned()]).await.expect_err("no id").code(), Code::InvalidArgument);
    let many = vec![id(&bob); 1001];
    assert_eq!(met(&ann, many).await.expect_err("too many").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn whom_a_message_calls_is_asked_in_one_call() {
    let app = App::start().await;
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| app.realm.user(name));
    let chat = app.group(&ann, &[&bob]).await;
    let called = async |users: &[&TestUser], roles: &[&str]| {
        let request = ListCalledRequest {
            chat_id: chat.clone(),
            user_ids: users.iter().map(|user| user.id.to_string()).collect(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        };
        let answer = app.rpc.list_called(Request::new(request)).await?.into_inner();
        Ok::<_, tonic::Status>((answer.member_ids, answer.role_member_ids))
    };
    let id = |user: &TestUser| user.id.to_string();
    assert_eq!(called(&[&bob, &eve], &[]).await.expect("an answer"), (vec![id(&bob)], vec![]));
    assert_eq!(called(&[], &["owner", "admin"]).await.expect("an answer"), (vec![], vec![id(&ann)]));
    for roles in [["member"], ["king"]] {
        assert_eq!(called(&[], &roles).await.expect_err("no such role").code(), Code::InvalidArgument);
    }
    let many = vec![&bob; 1001];
    assert_eq!(called(&many, &[]).await.expect_err("too many").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn only_users_become_members() {
    let app = App::start().await;
    let [ann, bob] = ["ann", "bob"].map(|name| app.realm.user(name));
    let stranger = app.users.stranger();
    let chat = app.group(&ann, &[&bob]).await;
    let calls = app.users.calls.load(SeqCst);
    let others: Vec<_> = (0..998).map(|_| UserId::generate()).chain([stranger]).collect();
    for (kind, title, members) in [
        ("direct", json!(null), vec![stranger]),
        ("group", json!("Crew"), vec![bob.id, stranger]),
        ("group", json!("Crew"), others),
    ] {
        let body = json!({"kind": kind, "title": title, "members": members});
        let answer = app.api.post(&ann, "/api/chats", body).await;
        assert_eq!((answer.status, answer.code()), (404, "not_found"));
        assert!(answer.body["detail"].as_str().is_some_and(|detail| detail.contains(&stranger.to_string())));
    }
    assert_eq!(app.users.calls.load(SeqCst), calls + 3, "one call for each request");
    let put = format!("PUT /api/chats/{chat}/members/{stranger}");
    let answer = app.api.send(&put, Some(&ann.token), Some(json!({"role": "member"}))).await;
    assert_eq!(answer.code(), "not_found");
    // Who may not add members does not learn whether a user exists.
    let eve = app.realm.user("eve");
    for (caller, code) in [(&eve, "not_a_member"), (&bob, "permission_denied")] {
        let answer = app.api.send(&put, Some(&caller.token), Some(json!({"role": "member"}))).await;
        assert_eq!(answer.code(), code);
    }
    let body = json!({"kind": "direct", "members": [bob.id]});
    let pair = app.api.post(&eve, "/api/chats", body).await.ok(201);
    let pair = pair["chat_id"].as_str().expect("an id");
    let put = format!("PUT /api/chats/{pair}/members/{stranger}");
    let answer = app.api.send(&put, Some(&eve.token), Some(json!({"role": "member"}))).await;
    assert_eq!(answer.code(), "permission_denied");
    let list = app.api.get(&ann, "/api/chats").await.ok(200);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
}

#[tokio::test]
async fn deleted_accounts_become_no_members_and_create_no_chats() {
    let app = App::start().await;
    let [ann, bob, gone] = ["ann", "bob", "gone"].map(|name| app.realm.user(name));
    let chat = app.group(&ann, &[]).await;
    let direct = json!({"kind": "direct", "members": [bob.id]});
    app.api.post(&gone, "/api/chats", direct.clone()).await.ok(201);
    app.users.delete(gone.id, 5);
    for body in [
        json!({"kind": "direct", "members": [gone.id]}),
        json!({"kind": "group", "title": "Crew", "members": [bob.id, gone.id]}),
    ] {
        assert_eq!(app.api.post(&ann, "/api/chats", body).await.code(), "not_found");
    }
    assert_eq!(app.put(&ann, &chat, &gone, "member").await.code(), "not_found");
    // The token has time left.
    let group = |members: &[UserId]| json!({"kind": "group", "title": "Crew", "members": members});
    for body in [group(&[bob.id]), group(&[]), direct] {
        assert_eq!(app.api.post(&gone, "/api/chats", body).await.code(), "unauthenticated");
    }
}

#[tokio::test]
async fn without_the_user_service_members_are_not_added_and_change_roles() {
    let app = App::with_users(Peer::default(), users::unreachable()).await;
    let [ann, bob] = ["ann", "bob"].map(|name| app.realm.user(name));
    let body = json!({"kind": "direct", "members": [bob.id]});
    let answer = app.api.post(&ann, "/api/chats", body).await;
    assert_eq!((answer.status, answer.code()), (503, "unavailable"));
    let chat = app.group(&ann, &[]).await;
    assert_eq!(app.put(&ann, &chat, &bob, "member").await.code(), "unavailable");
    app.put(&ann, &chat, &ann, "owner").await.ok(200);
    app.remove(&ann, &chat, &bob).await.ok(204);
}

#[tokio::test]
async fn the_description_names_every_endpoint_and_its_problems() {
    let (store, users) = (Arc::new(MemoryStore::default()), users::unreachable());
    let (patience, changes, guesses) = (Patience::default(), Changes::default(), Guesses::default());
    let state = AppState {
        store,
        users,
        patience,
        changes,
        drafts: Drafts::default(),
        guesses,
        alarm: Alarm::default(),
    };
    let api = chat::api::router(state);
    let description = serde_json::to_value(api.get_openapi()).expect("json");
    let put = &description["paths"]["/api/chats/{chat}/members/{user}"]["put"];
    let statuses: Vec<_> = put["responses"].as_object().expect("responses").keys().collect();
    assert_eq!(statuses, ["200", "400", "401", "403", "404", "409", "413", "415", "500", "503"]);
    for operations in description["paths"].as_object().expect("paths").values() {
        for operation in operations.as_object().expect("operations").values() {
            assert!(operation["security"][0].get("access_token").is_some(), "{operation}");
            assert!(operation["summary"].is_string());
        }
    }
    assert!(description["components"]["schemas"]["Problem"].is_object());
}
