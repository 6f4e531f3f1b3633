//! What is more than a user may.

use super::*;

#[tokio::test]
async fn a_limit_is_named_with_what_makes_room_and_refuses_no_repetition() {
    let limits = Limits { max_memberships: 100, max_chats_per_user: 3, ..Limits::DEFAULT };
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
