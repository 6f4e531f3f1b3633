//! Direct chats, and who adds whom.

use super::*;

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
