//! Stories over REST and gRPC.

use std::{sync::Arc, time::Duration};

use contracts::{
    UserId,
    rpc::{
        CheckPresenceRequest, DeleteUserRequest, EnsureUserRequest, FindUsersRequest, FinishDeletionRequest,
        GetNamedUsersRequest, GetUsersRequest, IsNamedRequest, ListDeletionsRequest, NoteChatsErasedRequest,
        user_service_server::UserService as _,
    },
};
use kit::{
    cache::{Metrics, Outcome, Shelf},
    testing::{Answer, TestApi, TestRealm, TestUser, wait_for},
    users::USERS,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Request};
use user::{api::grpc::UserRpc, shown::Shown, store::MemoryStore};

struct App {
    api: TestApi,
    rpc: UserRpc,
    realm: TestRealm,
}

impl App {
    async fn start() -> Self {
        let realm = TestRealm::start("acme").await;
        Self::of(realm, &Arc::default(), &Shelf::memory(), Metrics::default())
    }

    /// Returns a replica on a store and a shelf.
    fn of(realm: TestRealm, store: &Arc<MemoryStore>, shelf: &Shelf, metrics: Metrics) -> Self {
        let shown = Shown::new(store.clone(), shelf.clone(), metrics);
        let rpc = UserRpc::new(shown.clone());
        Self { api: TestApi::new(user::api::router(shown), &realm), rpc, realm }
    }

    async fn patch_me(&self, user: &TestUser, body: Value) -> Answer {
        self.api.send("PATCH /api/users/me", Some(&user.token), Some(body)).await
    }

    async fn register(&self, username: &str, display_name: &str) -> Result<UserId, Code> {
        let user_id = UserId::generate();
        let request = EnsureUserRequest {
            user_id: user_id.to_string(),
            username: username.to_owned(),
            display_name: display_name.to_owned(),
        };
        let answer = self.rpc.ensure_user(Request::new(request)).await.map_err(|status| status.code())?;
        Ok(answer.into_inner().user_id.parse().expect("an id"))
    }
}

#[tokio::test]
async fn the_first_token_makes_a_profile() {
    let app = App::start().await;
    let ann = app.realm.user("ann");
    let expected =
        json!({"user_id": ann.id, "username": "ann", "display_name": "ann", "about": "", "deleted": false});
    let mut own = expected.clone();
    own["contactable_by"] = "everyone".into();
    own["presence_visible_to"] = "everyone".into();
    own["read_receipts"] = true.into();
    assert_eq!(app.api.get(&ann, "/api/users/me").await.ok(200), own);
    let bob = app.realm.user("bob");
    assert_eq!(app.api.get(&bob, &format!("/api/users/{}", ann.id)).await.ok(200), expected);
    assert_eq!(app.api.get(&ann, &format!("/api/users/{}", bob.id)).await.ok(200)["username"], "bob");
    assert_eq!(app.api.get(&bob, &format!("/api/users/{}", UserId::generate())).await.code(), "not_found");
}

#[tokio::test]
async fn users_change_their_own_profile_and_others_find_it() {
    let app = App::start().await;
    let (ann, bob) = (app.realm.user("ann"), app.realm.user("bob"));
    app.patch_me(&ann, json!({"display_name": "Änn", "about": "Baker\r\nof bread"})).await.ok(200);
    let mut after = app.patch_me(&ann, json!({})).await.ok(200);
    assert_eq!((&after["display_name"], &after["about"]), (&"Änn".into(), &"Baker\nof bread".into()));
    // The settings are not for others.
    let fields = after.as_object_mut().expect("a profile");
    for (name, value) in [
        ("contactable_by", json!("everyone")),
        ("presence_visible_to", json!("everyone")),
        ("read_receipts", json!(true)),
    ] {
        assert_eq!(fields.remove(name), Some(value));
    }
    let found = app.api.get(&bob, "/api/users?query=%C3%84n").await.ok(200);
    assert_eq!(found, json!({"items": [after]}));
    for path in ["/api/users?username=Ann", "/api/users?username=Ann&query=other"] {
        assert_eq!(app.api.get(&bob, path).await.ok(200), found, "{path}");
    }
    assert_eq!(app.api.get(&bob, "/api/users?username=an").await.ok(200), json!({"items": []}));
    let first = app.api.get(&bob, "/api/users?limit=1").await.ok(200);
    assert_eq!(first["items"][0]["username"], "ann");
    let cursor = first["next_cursor"].as_str().expect("a next page");
    let second = app.api.get(&bob, &format!("/api/users?limit=1&cursor={cursor}")).await.ok(200);
    assert_eq!(second["items"][0]["username"], "bob");
    assert!(second.get("next_cursor").is_none());
}

#[tokio::test]
async fn a_profile_that_many_look_at_is_read_once_and_a_change_is_shown_by_every_replica() {
    let (store, shelf) = (Arc::<MemoryStore>::default(), Shelf::memory());
    let (here, there) = (Metrics::default(), Metrics::default());
    let one = App::of(TestRealm::start("acme").await, &store, &shelf, here.clone());
    let other = App::of(TestRealm::start("acme").await, &store, &shelf, there.clone());
    let (ann, bob, cid) = (one.realm.user("ann"), one.realm.user("bob"), other.realm.user("cid"));
    one.patch_me(&ann, json!({"display_name": "Annabel", "about": "Baker"})).await.ok(200);
    let path = format!("/api/users/{}", ann.id);
    let seen = async |field: &str| {
        let (one, other) = (one.api.get(&bob, &path).await.ok(200), other.api.get(&cid, &path).await.ok(200));
        assert_eq!(one, other, "every replica shows the same");
        one[field].clone()
    };
    for _ in 0..5 {
        assert_eq!(seen("display_name").await, "Annabel");
    }
    let count = |metrics: &Metrics, outcome| metrics.counted(USERS.name, outcome);
    assert_eq!((count(&here, Outcome::Hit), count(&there, Outcome::Hit)), (5, 5), "the change was kept");
    assert_eq!((count(&here, Outcome::Miss), count(&there, Outcome::Miss)), (0, 0));

    one.patch_me(&ann, json!({"display_name": "Änn"})).await.ok(200);
    assert_eq!(seen("display_name").await, "Änn");
    let status = json!({"text": "away", "expires_in_seconds": 1});
    one.patch_me(&ann, json!({"status": status})).await.ok(200);
    let is_over = async || other.api.get(&cid, &path).await.ok(200)["status"].is_null().then_some(());
    wait_for("the end of a status that is kept", Duration::from_secs(20), is_over).await;

    let request = DeleteUserRequest { receipt: Vec::new(), user_id: ann.id.to_string() };
    other.rpc.delete_user(Request::new(request)).await.expect("a deletion");
    assert_eq!((seen("deleted").await, seen("display_name").await), (true.into(), "ann".into()));
    // That there is no user is not kept: there may be one in the next moment.
    let unborn = UserId::generate();
    assert_eq!(one.api.get(&bob, &format!("/api/users/{unborn}")).await.code(), "not_found");
    let request = EnsureUserRequest {
        user_id: unborn.to_string(),
        username: "dan".to_owned(),
        display_name: "Dan".to_owned(),
    };
    other.rpc.ensure_user(Request::new(request)).await.expect("a profile");
    assert_eq!(one.api.get(&bob, &format!("/api/users/{unborn}")).await.ok(200)["username"], "dan");
}

#[tokio::test]
async fn users_set_who_may_contact_them() {
    let app = App::start().await;
    let ann = app.realm.user("ann");
    for setting in ["nobody", "shared_chats", "everyone", "nobody"] {
        let own = app.patch_me(&ann, json!({"contactable_by": setting})).await.ok(200);
        assert_eq!(own["contactable_by"], setting);
    }
    for body in [json!({}), json!({"contactable_by": null}), json!({"about": "Baker"})] {
        assert_eq!(app.patch_me(&ann, body).await.ok(200)["contactable_by"], "nobody");
    }
    let unknown = app.patch_me(&ann, json!({"contactable_by": "friends"})).await;
    assert_eq!(unknown.code(), "invalid_argument");
    let user_ids = vec![ann.id.to_string()];
    let users = app.rpc.get_users(Request::new(GetUsersRequest { user_ids })).await.expect("profiles");
    assert_eq!(users.into_inner().users[0].contactable_by, "nobody");
}

#[tokio::test]
async fn users_set_their_privacy_and_say_what_they_do() {
    let app = App::start().await;
    let (ann, bob) = (app.realm.user("ann"), app.realm.user("bob"));
    for setting in ["nobody", "contacts", "shared_chats", "everyone", "nobody"] {
        let own = app.patch_me(&ann, json!({"presence_visible_to": setting})).await.ok(200);
        assert_eq!((&own["presence_visible_to"], &own["read_receipts"]), (&setting.into(), &true.into()));
    }
    assert_eq!(app.patch_me(&ann, json!({"read_receipts": false})).await.ok(200)["read_receipts"], false);
    let seen = async || app.api.get(&bob, &format!("/api/users/{}", ann.id)).await.ok(200);
    assert!(seen().await.get("status").is_none());
    let status = json!({"text": "  riding ", "emoji": "\u{1f6b2}"});
    let own = app.patch_me(&ann, json!({"status": status})).await.ok(200);
    assert_eq!(own["presence_visible_to"], "nobody");
    assert_eq!(seen().await["status"], json!({"text": "riding", "emoji": "\u{1f6b2}"}));
    app.patch_me(&ann, json!({"about": "Baker", "status": null})).await.ok(200);
    assert_eq!(seen().await["status"]["text"], "riding", "null is as good as absent");

    app.patch_me(&ann, json!({"status": {"emoji": "\u{1f634}", "expires_in_seconds": 1}})).await.ok(200);
    assert!(seen().await["status"]["expires_at_ms"].is_i64());
    wait_for("the status expires", Duration::from_secs(10), || async {
        seen().await.get("status").is_none().then_some(())
    })
    .await;
    app.patch_me(&ann, json!({"status": {"text": "back", "expires_in_seconds": 31_536_000}})).await.ok(200);
    app.patch_me(&ann, json!({"status": {}})).await.ok(200);
    assert!(seen().await.get("status").is_none());
    for body in [
        json!({"presence_visible_to": "friends"}),
        json!({"read_receipts": "yes"}),
        json!({"status": "away"}),
        json!({"status": {"text": ""}}),
        json!({"status": {"text": "us\u{202e}"}}),
        json!({"status": {"text": "x".repeat(101)}}),
        json!({"status": {"emoji": "away"}}),
        json!({"status": {"text": "away", "expires_in_seconds": 0}}),
        json!({"status": {"text": "away", "expires_in_seconds": -5}}),
        json!({"status": {"text": "away", "expires_in_seconds": 31_536_001}}),
        json!({"status": {"text": "away", "until": 7}}),
    ] {
        assert_eq!(app.patch_me(&ann, body.clone()).await.code(), "invalid_argument", "{body}");
    }
    assert!(seen().await.get("status").is_none());
}

#[tokio::test]
async fn devices_merge_their_settings() {
    let app = App::start().await;
    let (ann, bob) = (app.realm.user("ann"), app.realm.user("bob"));
    let put = async |user: &TestUser, body: Value| {
        app.api.send("PUT /api/users/me/settings", Some(&user.token), Some(body)).await
    };
    let empty = json!({"version": 0, "settings": {}});
    assert_eq!(app.api.get(&ann, "/api/users/me/settings").await.ok(200), empty);
    let phone = json!({"version": 0, "settings": {"theme": "dark"}});
    let stored = json!({"version": 1, "settings": {"theme": "dark"}});
    for _ in 0..2 {
        assert_eq!(put(&ann, phone.clone()).await.ok(200), stored);
    }
    let refused = put(&ann, json!({"version": 0, "settings": {"sound": false}})).await;
    assert_eq!((refused.status, refused.code()), (409, "conflict"));
    assert_eq!(refused.content_type, "application/problem+json");
    assert_eq!(refused.body["current"], stored);
    let merged = json!({"version": 1, "settings": {"theme": "dark", "sound": false}});
    assert_eq!(put(&ann, merged).await.ok(200)["version"], 2);
    assert_eq!(app.api.get(&bob, "/api/users/me/settings").await.ok(200), empty, "each user has their own");

    let long = json!({"version": 2, "settings": {"a": "x".repeat(64 * 1024)}});
    let refused = put(&ann, long).await;
    assert_eq!((refused.status, refused.code()), (413, "too_large"));
    for body in [
        json!({"settings": {}}),
        json!({"version": 2}),
        json!({"version": 2, "settings": []}),
        json!({"version": 2, "settings": null}),
        json!({"version": "2", "settings": {}}),
        json!({"version": 2, "settings": {"a": "\u{0}"}}),
        json!({"version": 2, "settings": {}, "merge": true}),
    ] {
        assert_eq!(put(&ann, body.clone()).await.code(), "invalid_argument", "{body}");
    }
    assert_eq!(app.api.get(&ann, "/api/users/me/settings").await.ok(200)["version"], 2);
}

#[tokio::test]
async fn users_keep_contacts() {
    let app = App::start().await;
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|name| app.realm.user(name));
    for user in [&bob, &cid] {
        app.api.get(user, "/api/users/me").await.ok(200);
    }
    let put = async |user: &TestUser, other: UserId, body: Value| {
        let line = format!("PUT /api/users/me/contacts/{other}");
        app.api.send(&line, Some(&user.token), Some(body)).await
    };
    let contact = put(&ann, bob.id, json!({"name": "  Bobby  B. "})).await.ok(200);
    assert_eq!((&contact["name"], &contact["profile"]["username"]), (&"Bobby B.".into(), &"bob".into()));
    put(&ann, cid.id, json!({})).await.ok(200);
    let page = app.api.get(&ann, "/api/users/me/contacts?limit=1").await.ok(200);
    let cursor = page["next_cursor"].as_str().expect("a next page").to_owned();
    let next = app.api.get(&ann, &format!("/api/users/me/contacts?limit=1&cursor={cursor}")).await.ok(200);
    let ids = [&page, &next].map(|page| page["items"][0]["profile"]["user_id"].clone());
    let mut expected = [json!(bob.id), json!(cid.id)];
    expected.sort_by_key(ToString::to_string);
    assert_eq!((ids, next.get("next_cursor")), (expected, None));
    // No one else sees them.
    assert_eq!(app.api.get(&bob, "/api/users/me/contacts").await.ok(200), json!({"items": []}));
    assert_eq!(app.api.get(&cid, &format!("/api/users/{}", bob.id)).await.ok(200)["display_name"], "bob");
    for _ in 0..2 {
        let line = format!("DELETE /api/users/me/contacts/{}", bob.id);
        app.api.send(&line, Some(&ann.token), None).await.ok(204);
    }
    for (other, body, status, code) in [
        (ann.id, json!({}), 409, "conflict"),
        (UserId::generate(), json!({}), 404, "not_found"),
        (bob.id, json!({"name": " "}), 400, "invalid_argument"),
        (bob.id, json!({"name": "us\u{202e}"}), 400, "invalid_argument"),
        (bob.id, json!({"name": "x".repeat(65)}), 400, "invalid_argument"),
        (bob.id, json!({"nickname": "Bob"}), 400, "invalid_argument"),
    ] {
        let answer = put(&ann, other, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{body}");
    }
    for path in ["?limit=0", "?limit=501", "?cursor=7"].map(|query| format!("/api/users/me/contacts{query}"))
    {
        assert_eq!(app.api.get(&ann, &path).await.code(), "invalid_argument", "{path}");
    }
    let left = app.api.get(&ann, "/api/users/me/contacts").await.ok(200);
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1), "{left}");
}

#[tokio::test]
async fn other_services_check_what_users_show() {
    let app = App::start().await;
    let (ann, bob) = (app.realm.user("ann"), app.realm.user("bob"));
    app.api.get(&bob, "/api/users/me").await.ok(200);
    let privacy = json!({"presence_visible_to": "contacts", "read_receipts": false});
    app.patch_me(&ann, privacy).await.ok(200);
    let shown = async |user_ids: Vec<String>| {
        let request = CheckPresenceRequest { viewer_id: bob.id.to_string(), user_ids };
        let answer = app.rpc.check_presence(Request::new(request)).await;
        answer.map(|answer| answer.into_inner().shown).map_err(|status| status.code())
    };
    let both = vec![bob.id.to_string(), ann.id.to_string()];
    assert_eq!(shown(both.clone()).await, Ok(vec!["always".to_owned(), "never".to_owned()]));
    let line = format!("PUT /api/users/me/contacts/{}", bob.id);
    app.api.send(&line, Some(&ann.token), Some(json!({}))).await.ok(200);
    assert_eq!(shown(both).await, Ok(vec!["always".to_owned(), "always".to_owned()]));
    assert_eq!(shown(vec!["7".to_owned()]).await, Err(Code::InvalidArgument));
    assert_eq!(shown(vec![ann.id.to_string(); 1001]).await, Err(Code::InvalidArgument));
    let user_ids = vec![ann.id.to_string()];
    let users = app.rpc.get_users(Request::new(GetUsersRequest { user_ids })).await.expect("profiles");
    assert!(users.into_inner().users[0].hides_read_receipts);
}

#[tokio::test]
async fn a_registration_keeps_its_display_name() {
    let app = App::start().await;
    let id = app.register("ann", "Ann A.").await.expect("a profile");
    let ann = TestUser { id, token: app.realm.token(id, "ann") };
    assert_eq!(app.api.get(&ann, "/api/users/me").await.ok(200)["display_name"], "Ann A.");
    assert_eq!(app.register("", "").await, Err(Code::InvalidArgument));
    assert_eq!(app.register("bob", &"x".repeat(65)).await, Err(Code::InvalidArgument));
}

#[tokio::test]
async fn other_services_ask_for_profiles() {
    let app = App::start().await;
    let ann = app.register("ann", "").await.expect("a profile");
    let query = async |user_ids| {
        let answer = app.rpc.get_users(Request::new(GetUsersRequest { user_ids })).await;
        answer.map(|answer| answer.into_inner().users).map_err(|status| status.code())
    };
    let users = query(vec![UserId::generate().to_string(), ann.to_string()]).await.expect("profiles");
    assert_eq!((users.len(), users[0].display_name.as_str()), (1, "ann"));
    assert_eq!(query(vec!["7".to_owned()]).await, Err(Code::InvalidArgument));
    assert_eq!(query(vec![ann.to_string(); 1001]).await, Err(Code::InvalidArgument));
}

#[tokio::test]
async fn the_search_service_finds_users_by_words_of_their_names() {
    let app = App::start().await;
    let ann = app.register("ann", "Анна Петрова").await.expect("a profile");
    let bob = app.register("bob", "Пётр Иванов").await.expect("a profile");
    let find = async |query: &str, among_ids: Vec<String>, limit| {
        let request = FindUsersRequest { query: query.to_owned(), among_ids, limit };
        let answer = app.rpc.find_users(Request::new(request)).await.map_err(|status| status.code())?;
        let users = answer.into_inner().users.into_iter();
        Ok::<_, Code>(users.map(|user| user.user_id).collect::<Vec<_>>())
    };
    assert_eq!(find("петр", Vec::new(), 0).await, Ok(vec![ann.to_string()]));
    assert_eq!(find("п", Vec::new(), 0).await, Ok(vec![ann.to_string(), bob.to_string()]));
    assert_eq!(find("п", Vec::new(), 1).await, Ok(vec![ann.to_string()]));
    assert_eq!(find("п", vec![bob.to_string()], 0).await, Ok(vec![bob.to_string()]));
    for (query, among_ids, limit) in [
        ("", Vec::new(), 0),
        ("*", Vec::new(), 0),
        ("п", vec!["7".to_owned()], 0),
        ("п", vec![bob.to_string(); 1001], 0),
        ("п", Vec::new(), 101),
    ] {
        assert_eq!(find(query, among_ids, limit).await, Err(Code::InvalidArgument), "{query} {limit}");
    }
}

#[tokio::test]
async fn bad_input_gets_a_code_and_changes_nothing() {
    let app = App::start().await;
    let ann = app.realm.user("ann");
    let before = app.api.get(&ann, "/api/users/me").await.ok(200);
    let bodies = [
        json!({"display_name": ""}),
        json!({"display_name": "x".repeat(65)}),
        json!({"display_name": "\u{200b}"}),
        json!({"display_name": "ann\u{202e}evil"}),
        json!({"about": "a\0b"}),
        json!([null, null]),
        json!({"about": "x".repeat(501)}),
        json!({"display_name": "Ann", "username": "root"}),
        json!({"about": 7}),
    ];
    for body in bodies {
        assert_eq!(app.patch_me(&ann, body.clone()).await.code(), "invalid_argument", "{body}");
    }
    assert_eq!(
        app.api.send("PATCH /api/users/me", Some(&ann.token), None).await.code(),
        "unsupported_media_type"
    );
    let long = "x".repeat(65);
    let paths = [
        "/api/users/7",
        "/api/users?limit=0",
        "/api/users?limit=101",
        "/api/users?cursor=7",
        "/api/users?cursor=00000000-0000-0000-0000-000000000001.a%00",
        "/api/users?query=a%00",
        "/api/users?order=age",
        "/api/users?username=",
        "/api/users/me?limit=1",
        &format!("/api/users?query={long}"),
    ];
    for path in paths {
        assert_eq!(app.api.get(&ann, path).await.code(), "invalid_argument", "{path}");
    }
    assert_eq!(app.api.get(&ann, "/api/users/me").await.ok(200), before);
}

#[tokio::test]
async fn without_a_token_of_this_tenant_there_is_nothing() {
    let app = App::start().await;
    app.api.refuses_strangers(&app.realm, "/api/users/me").await;
}

#[tokio::test]
async fn the_description_names_every_endpoint_and_its_problems() {
    let store = Arc::new(MemoryStore::default());
    let api = user::api::router(Shown::new(store, Shelf::none(), Metrics::default()));
    let description = serde_json::to_value(api.get_openapi()).expect("json");
    let patch = &description["paths"]["/api/users/me"]["patch"];
    let statuses: Vec<_> = patch["responses"].as_object().expect("responses").keys().collect();
    assert_eq!(statuses, ["200", "400", "401", "413", "415", "500", "503"]);
    let parameters = description["paths"]["/api/users"]["get"]["parameters"].as_array().expect("parameters");
    let names: Vec<_> = parameters.iter().filter_map(|parameter| parameter["name"].as_str()).collect();
    assert_eq!(names, ["query", "username", "limit", "cursor"]);
}

#[tokio::test]
async fn a_profile_has_its_name_in_any_case() {
    let app = App::start().await;
    app.register("ann", "").await.expect("a profile");
    let is_named = async |username: &str| {
        let request = IsNamedRequest { username: username.to_owned() };
        let answer = app.rpc.is_named(Request::new(request)).await;
        answer.map(|answer| answer.into_inner().is_named).map_err(|status| status.code())
    };
    assert_eq!(is_named("ann").await, Ok(true));
    assert_eq!(is_named(" ANN").await, Ok(true));
    assert_eq!(is_named("an").await, Ok(false));
    assert_eq!(is_named("").await, Err(Code::InvalidArgument));
}

#[tokio::test]
async fn other_services_ask_who_has_a_name() {
    let app = App::start().await;
    let ann = app.register("ann", "").await.expect("a profile");
    let query = async |names: &[&str]| {
        let usernames = names.iter().map(|&name| name.to_owned()).collect();
        let answer = app.rpc.get_named_users(Request::new(GetNamedUsersRequest { usernames })).await;
        answer.map(|answer| answer.into_inner().users).map_err(|status| status.code())
    };
    let users = query(&["eve", " ANN", "", "\u{202e}ann"]).await.expect("profiles");
    assert_eq!((users.len(), users[0].user_id.as_str()), (1, ann.to_string().as_str()));
    assert_eq!(query(&["ann"; 1001]).await, Err(Code::InvalidArgument));
}

#[tokio::test]
async fn a_deleted_account_keeps_its_name_and_nothing_else() {
    let app = App::start().await;
    let (ann, bob) = (app.realm.user("ann"), app.realm.user("bob"));
    app.patch_me(&ann, json!({"display_name": "Annabel", "about": "Baker"})).await.ok(200);
    app.api.get(&bob, "/api/users/me").await.ok(200);
    let list = async |after: &str, unfinished: bool| {
        let request = ListDeletionsRequest { after: after.to_owned(), limit: 0, unfinished };
        let answer = app.rpc.list_deletions(Request::new(request)).await;
        answer.map(|answer| answer.into_inner().deletions).map_err(|status| status.code())
    };
    let delete = async |user_id: UserId| {
        let request = DeleteUserRequest { receipt: Vec::new(), user_id: user_id.to_string() };
        app.rpc.delete_user(Request::new(request)).await.expect("a deletion");
    };
    delete(UserId::generate()).await;
    assert!(list("", false).await.expect("a list").is_empty(), "there is no such user");
    delete(ann.id).await;
    let deletions = list("", false).await.expect("a list");
    delete(ann.id).await;
    assert_eq!(list("", false).await.expect("a list").len(), 1, "it was deleted once");
    assert_eq!(deletions[0].user_id, ann.id.to_string());
    assert!(list(&deletions[0].position, false).await.expect("a list").is_empty());
    assert_eq!(list("yesterday", false).await, Err(Code::InvalidArgument));

    let seen = app.api.get(&bob, &format!("/api/users/{}", ann.id)).await.ok(200);
    let left = json!({
        "user_id": ann.id, "username": "ann", "display_name": "ann", "about": "", "deleted": true,
    });
    assert_eq!(seen, left);
    for path in ["/api/users?query=ann", "/api/users?username=ann", "/api/users?query=Annabel"] {
        assert_eq!(app.api.get(&bob, path).await.ok(200), json!({"items": []}), "{path}");
    }
    let everyone = app.api.get(&bob, "/api/users").await.ok(200);
    assert_eq!(everyone["items"].as_array().map(Vec::len), Some(1), "{everyone}");
    let request = IsNamedRequest { username: "ann".to_owned() };
    assert!(app.rpc.is_named(Request::new(request)).await.expect("an answer").into_inner().is_named);
    let request = GetUsersRequest { user_ids: vec![ann.id.to_string()] };
    let users = app.rpc.get_users(Request::new(request)).await.expect("an answer").into_inner().users;
    assert!(users[0].deleted);

    // A token that has time left is of no use here.
    assert_eq!(app.api.get(&ann, "/api/users/me").await.code(), "unauthenticated");
    assert_eq!(app.patch_me(&ann, json!({"about": "I am back"})).await.code(), "unauthenticated");
    assert_eq!(app.api.get(&bob, &format!("/api/users/{}", ann.id)).await.ok(200), left);
    // Nor is the name to another account. The services that query for it know this from a fault of their own.
    assert_eq!(app.register("ann", "Ann").await, Err(Code::FailedPrecondition));
    let impostor = app.realm.user("ann");
    assert_eq!(app.api.get(&impostor, "/api/users/me").await.code(), "unauthenticated");

    assert_eq!(list("", true).await.expect("a list").len(), 1);
    let request = FinishDeletionRequest { user_id: ann.id.to_string() };
    app.rpc.finish_deletion(Request::new(request)).await.expect("an end");
    assert!(list("", true).await.expect("a list").is_empty());
    assert_eq!(list("", false).await.expect("a list").len(), 1, "those who follow the list still see it");
}

#[tokio::test]
async fn who_has_deleted_an_account_sees_with_the_receipt_what_is_erased() {
    let app = App::start().await;
    let user_id = app.register("ann", "Ann").await.expect("a profile").to_string();
    let receipt = "r".repeat(43);
    let path = format!("GET /api/users/erasures/{receipt}");
    let unknown = app.api.send(&path, None, None).await;
    assert_eq!((unknown.status, unknown.code()), (404, "not_found"));
    let hash = Sha256::digest(&receipt).to_vec();
    let request = DeleteUserRequest { user_id: user_id.clone(), receipt: hash };
    app.rpc.delete_user(Request::new(request)).await.expect("a deletion");
    let pending = app.api.send(&path, None, None).await.ok(200);
    assert_eq!(pending["finished_at_ms"], Value::Null);
    let part = |receipt: &Value, name: &str| {
        let parts = receipt["parts"].as_array().expect("parts").clone();
        let part = parts.into_iter().find(|part| part["part"] == name).expect("the part");
        (part["state"].as_str().expect("a state").to_owned(), part["count"].clone())
    };
    assert_eq!(part(&pending, "profile").0, "erased");
    assert_eq!(part(&pending, "account").0, "pending");
    let finish = FinishDeletionRequest { user_id: user_id.clone() };
    app.rpc.finish_deletion(Request::new(finish)).await.expect("an end");
    let note = NoteChatsErasedRequest {
        user_id: user_id.clone(),
        chats_left: 2,
        blocks_lifted: 0,
        is_settled: true,
    };
    app.rpc.note_chats_erased(Request::new(note)).await.expect("a note");
    let finished = app.api.send(&path, None, None).await.ok(200);
    assert!(finished["finished_at_ms"].is_i64(), "{finished}");
    assert_eq!(part(&finished, "chats"), ("erased".to_owned(), json!(2)));
    assert_eq!(part(&finished, "sessions").0, "erased");
    assert_eq!(part(&finished, "messages").0, "kept");
    assert!(!finished.to_string().contains("ann") && !finished.to_string().contains(&user_id), "{finished}");
    let wrong = DeleteUserRequest { user_id, receipt: vec![1; 31] };
    let refused = app.rpc.delete_user(Request::new(wrong)).await.map_err(|status| status.code());
    assert_eq!(refused.err(), Some(Code::InvalidArgument));
}
