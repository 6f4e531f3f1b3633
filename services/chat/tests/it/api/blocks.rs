//! Users who block one another.

use super::*;

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
async fn a_user_without_a_profile_who_is_in_a_chat_can_be_blocked() {
    let app = App::start().await;
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|name| app.realm.user(name));
    let direct = json!({"kind": "direct", "members": [ann.id]});
    app.api.post(&bob, "/api/chats", direct).await.ok(201);
    // As an account that came into chats before its profile was required.
    app.users.forget(bob.id);
    app.users.forget(cid.id);
    let block = async |other: &TestUser| {
        app.api.send(&format!("PUT /api/blocks/{}", other.id), Some(&ann.token), None).await
    };
    block(&bob).await.ok(204);
    assert_eq!(block(&cid).await.code(), "not_found", "she has met no such user");
    let group = json!({"kind": "group", "title": "Crew", "members": [ann.id]});
    assert_eq!(app.api.post(&bob, "/api/chats", group).await.code(), "consent_required");
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
