//! What holds for every request.

use super::*;

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
    app.api.refuses_strangers(&app.realm, "/api/chats").await;
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
