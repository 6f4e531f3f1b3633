//! What other services ask, and what they are asked.

use super::*;

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
    let list = async |seats_only| {
        let request = ListMembershipsRequest { user_id: id(&bob), chat_ids: Vec::new(), seats_only };
        let listed = app.rpc.list_memberships(Request::new(request)).await.expect("an answer");
        <[Membership; 1]>::try_from(listed.into_inner().memberships).expect("one")
    };
    let [listed] = list(false).await;
    assert_eq!((&listed.chat_id, listed.role.as_str()), (&chat_id, "member"));
    assert_eq!((listed.version, listed.member_count, listed.is_closed), (2, 2, false));
    let [seat_only] = list(true).await;
    let Membership { chat_id: listed_id, reads_from, joined_at_ms, .. } = listed;
    let own = Some(OwnState::default());
    let expected = Membership { chat_id: listed_id, reads_from, joined_at_ms, own, ..Membership::default() };
    assert_eq!(seat_only, expected);

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
async fn the_search_service_finds_the_chats_of_a_user_by_words_of_their_titles() {
    let app = App::start().await;
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| app.realm.user(name));
    let chat_id = app.group(&ann, &[&bob]).await;
    let title = app.api.get(&ann, &format!("/api/chats/{chat_id}")).await.ok(200)["title"].clone();
    let title = title.as_str().expect("a title").to_uppercase();
    let find = async |user: &TestUser, query: &str, limit| {
        let request = FindChatsRequest { user_id: user.id.to_string(), query: query.to_owned(), limit };
        app.rpc.find_chats(Request::new(request)).await.map(tonic::Response::into_inner)
    };
    for user in [&ann, &bob] {
        let found = find(user, &title, 0).await.expect("an answer");
        let ids: Vec<_> = found.chats.iter().map(|named| &named.chat_id).collect();
        assert_eq!((ids, found.direct_chats.len()), (vec![&chat_id], 0));
    }
    assert!(find(&ann, "elsewhere", 0).await.expect("an answer").chats.is_empty());
    assert!(find(&eve, &title, 0).await.expect("an answer").chats.is_empty());
    for (query, limit) in [("", 0), ("*", 0), (title.as_str(), 101)] {
        assert_eq!(find(&ann, query, limit).await.expect_err("a refusal").code(), Code::InvalidArgument);
    }
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
