//! Groups and channels.

use super::*;

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
