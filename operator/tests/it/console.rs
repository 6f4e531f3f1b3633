//! The console from the side of its callers: one with rights in one namespace sees and changes that one only, and an administrator gets no call
//! out of it that it does not make.

use axum::{
    Router,
    body::{Body, BodyDataStream, to_bytes},
    http::{HeaderName, Method, Request, Response, StatusCode, header},
};
use crds::MessengerTenant;
use futures_util::StreamExt;
use kube::ResourceExt;
use operator::console;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    api_server::{ApiServer, SYSTEM, TOKEN, USER_TOKEN},
    stand::{NOWHERE, create_admin_secret, create_cell, create_tenant, edit_tenant, tenants},
};

const GROUP: &str = "/k8s/apis/messenger.posthouse.dev/v1alpha1";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

fn tenant(namespace: &str) -> String {
    format!("{GROUP}/namespaces/{namespace}/messengertenants/it")
}

fn list(namespace: &str) -> String {
    format!("{GROUP}/namespaces/{namespace}/messengertenants")
}

fn events(namespace: &str) -> String {
    format!("/k8s/api/v1/namespaces/{namespace}/events")
}

/// A manifest as users write it.
fn manifest(namespace: &str, policy: &str) -> String {
    format!(
        "apiVersion: messenger.posthouse.dev/v1alpha1\nkind: MessengerTenant\nmetadata:\n  name: it\n  namespace: {namespace}\n\
         spec:\n  tenantId: {namespace}\n  cellRef:\n    name: dead\n  deletionPolicy: {policy}\n"
    )
}

struct Caller<'a> {
    console: &'a Router,
    token: &'a str,
}

impl Caller<'_> {
    async fn call(&self, method: Method, path: &str, media_type: &str, body: &str) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, media_type)
            .body(Body::from(body.to_owned()))
            .expect("a request");
        read(self.console.clone().oneshot(request).await.expect("a router answers")).await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, "application/json", "").await
    }

    async fn apply(&self, path: &str, manifest: &str) -> (StatusCode, Value) {
        self.call(Method::PATCH, path, APPLY, manifest).await
    }

    async fn watch(&self, wanted: &Value) -> Response<Body> {
        let request = Request::post("/watch")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Body::from(wanted.to_string()))
            .expect("a request");
        self.console.clone().oneshot(request).await.expect("a router answers")
    }

    async fn follow(&self, wanted: &Value) -> Followed {
        let response = self.watch(wanted).await;
        assert_eq!(response.status(), StatusCode::OK, "{wanted}");
        Followed { lines: response.into_body().into_data_stream(), held: String::new() }
    }
}

/// What comes of lists that are watched.
struct Followed {
    lines: BodyDataStream,
    held: String,
}

impl Followed {
    /// Returns the next event but for bookmarks, with the number of its list, or nothing at the end.
    async fn next(&mut self) -> Option<(u64, Value)> {
        loop {
            while let Some((line, rest)) = self.held.split_once('\n') {
                let event = serde_json::from_str::<(u64, Value)>(line).ok();
                assert!(event.is_some() || line.is_empty(), "{line}");
                self.held = rest.to_owned();
                if let Some((number, event)) = event.filter(|(_, event)| event["type"] != "BOOKMARK") {
                    return Some((number, event));
                }
            }
            let part = self.lines.next().await?.expect("it is whole");
            self.held.push_str(std::str::from_utf8(&part).expect("text"));
        }
    }
}

/// Changes a tenant, in a way that is easy to tell.
async fn rename(server: &ApiServer, namespace: &str, name: &str) {
    edit_tenant(server, namespace, "it", json!({"branding": {"displayName": name}})).await;
}

fn name_of((_, event): &(u64, Value)) -> &Value {
    &event["object"]["spec"]["branding"]["displayName"]
}

/// Gets a path with these headers and no others.
async fn bare(console: &Router, path: &str, headers: &[(HeaderName, &str)]) -> Response<Body> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let request = request.body(Body::empty()).expect("a request");
    console.clone().oneshot(request).await.expect("a router answers")
}

async fn read(response: Response<Body>) -> (StatusCode, Value) {
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 16 * 1024 * 1024).await.expect("a body");
    // A refusal of a router has no body.
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

async fn policy(server: &ApiServer, namespace: &str) -> String {
    let tenant = tenants(server, namespace).get("it").await.expect("the tenant is there");
    format!("{:?}", tenant.spec.deletion_policy)
}

/// Two teams, each with a tenant; the user has the chart's role in `mine`.
async fn two_teams(name: &str) -> (ApiServer, Router, [MessengerTenant; 2]) {
    let server = ApiServer::start(name).await;
    create_cell(&server, "dead", 5, NOWHERE, None).await;
    let spec = |id: &str| json!({"tenantId": id, "cellRef": {"name": "dead"}, "deletionPolicy": "Retain"});
    let mine = create_tenant(&server, "mine", "it", spec("mine")).await;
    let theirs = create_tenant(&server, "theirs", "it", spec("theirs")).await;
    server.tenant_editor("mine").await;
    let console = console::router(server.anonymous.clone(), CancellationToken::new());
    (server, console, [mine, theirs])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_rights_in_one_namespace_sees_and_changes_that_one_only() {
    let (server, console, [_, theirs]) = two_teams("console").await;
    let user = Caller { console: &console, token: USER_TOKEN };

    let (status, found) = user.get(&list("mine")).await;
    assert_eq!(status, StatusCode::OK, "{found}");
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(user.get(&tenant("mine")).await.0, StatusCode::OK);
    assert_eq!(user.get(&events("mine")).await.0, StatusCode::OK);
    let deployments = |namespace: &str| format!("/k8s/apis/apps/v1/namespaces/{namespace}/deployments");
    assert_eq!(user.get(&deployments("mine")).await.0, StatusCode::OK);

    // Of the other team, of all teams, and of what has no team.
    for path in [
        list("theirs"),
        tenant("theirs"),
        events("theirs"),
        deployments("theirs"),
        format!("{GROUP}/messengertenants"),
        format!("{GROUP}/messengercells"),
        format!("{GROUP}/messengercells/dead"),
    ] {
        let (status, refusal) = user.get(&path).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}: {refusal}");
        // It is the API server's own refusal: it names who was refused what.
        assert!(
            refusal["message"].as_str().is_some_and(|text| text.contains("\"user\" cannot")),
            "{refusal}"
        );
        assert!(refusal.get("items").is_none() && refusal.get("spec").is_none(), "{refusal}");
    }
    let edit = manifest("theirs", "Delete");
    for query in ["", "?dryRun=All", "?force=true", "?dryRun=All&force=true"] {
        let (status, refusal) = user.apply(&format!("{}{query}", tenant("theirs")), &edit).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{query}: {refusal}");
    }
    let pause = r#"{"spec":{"paused":true}}"#;
    assert_eq!(user.call(Method::PATCH, &tenant("theirs"), MERGE, pause).await.0, StatusCode::FORBIDDEN);
    let uid = theirs.uid().expect("a UID");
    for query in ["", "&dryRun=All"] {
        let path = format!("{}?uid={uid}{query}", tenant("theirs"));
        assert_eq!(user.call(Method::DELETE, &path, MERGE, "").await.0, StatusCode::FORBIDDEN, "{query}");
    }
    // Cells are of those whom the cluster's administrator lets.
    let larger = json!({"spec": {"capacity": {"tenants": 7}}}).to_string();
    let cell = format!("{GROUP}/messengercells/dead");
    assert_eq!(user.call(Method::PATCH, &cell, MERGE, &larger).await.0, StatusCode::FORBIDDEN);
    let admin = Caller { console: &console, token: TOKEN };
    let (status, planned) = admin.call(Method::PATCH, &format!("{cell}?dryRun=All"), MERGE, &larger).await;
    assert_eq!((status, &planned["spec"]["capacity"]["tenants"]), (StatusCode::OK, &json!(7)), "{planned}");
    let (_, now) = admin.get(&cell).await;
    assert_eq!(now["spec"]["capacity"]["tenants"], json!(5), "it was a plan");
    // A manifest says where it belongs, and the path where the caller may write: they cannot differ.
    let (status, refusal) = user.apply(&tenant("mine"), &edit).await;
    assert!(status.is_client_error(), "{status}: {refusal}");
    let now = tenants(&server, "theirs").get("it").await.expect("it is there");
    assert_eq!(now.resource_version(), theirs.resource_version(), "it was not touched");

    // Who the caller is, and may do what, is the API server's word as well.
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
    let path = "/k8s/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (status, answer) = user.call(Method::POST, path, "application/json", &review).await;
    assert_eq!((status, &answer["status"]["userInfo"]["username"]), (StatusCode::CREATED, &json!("user")));
    for (namespace, expected) in [("mine", true), ("theirs", false)] {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"namespace": namespace, "verb": "delete", "group": "messenger.posthouse.dev",
                "resource": "messengertenants"}}});
        let path = "/k8s/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let (_, answer) = user.call(Method::POST, path, "application/json", &review.to_string()).await;
        assert_eq!(answer["status"]["allowed"], json!(expected), "{namespace}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_follows_the_changes_of_their_namespace_until_the_rights_are_gone() {
    let (server, console, _) = two_teams("console-watch").await;
    let user = Caller { console: &console, token: USER_TOKEN };
    let (_, found) = user.get(&list("mine")).await;
    let version = found["metadata"]["resourceVersion"].clone();
    let mine = |version: &Value| json!({"resource": "messengertenants", "namespace": "mine", "resourceVersion": version});

    // Of the other team, of all teams, and of cells there is a refusal of the API server, and nothing else.
    let mut theirs = mine(&version);
    theirs["namespace"] = json!("theirs");
    let all = json!({"resource": "messengertenants", "resourceVersion": version});
    let cells = json!({"resource": "messengercells", "resourceVersion": version});
    let mut followed = user.follow(&json!([mine(&version), theirs, all, cells])).await;
    rename(&server, "theirs", "elsewhere").await;
    rename(&server, "mine", "one").await;
    let mut refused = Vec::new();
    let first = loop {
        let (number, event) = followed.next().await.expect("it goes on");
        if number == 0 {
            break (number, event);
        }
        assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(403)), "{event}");
        let message = event["object"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("\"user\" cannot watch"), "{event}");
        refused.push(number);
    };
    refused.sort_unstable();
    assert_eq!((name_of(&first), refused), (&json!("one"), vec![1, 2, 3]));

    // It is cut, and goes on where it was: what happened meanwhile comes, each once and in order.
    let version = first.1["object"]["metadata"]["resourceVersion"].clone();
    drop(followed);
    rename(&server, "mine", "two").await;
    rename(&server, "theirs", "elsewhere again").await;
    rename(&server, "mine", "three").await;
    let mut followed = user.follow(&json!([mine(&version)])).await;
    for expected in ["two", "three"] {
        let event = followed.next().await.expect("it goes on");
        assert_eq!(name_of(&event), &json!(expected), "{event:?}");
    }

    // The API server itself would go on sending: it asked once.
    server.take_role_back("mine").await;
    rename(&server, "mine", "four").await;
    let (number, last) = followed.next().await.expect("why there is no more");
    assert_eq!((number, &last["type"], &last["object"]["code"]), (0, &json!("ERROR"), &json!(403)), "{last}");
    assert!(!last.to_string().contains("four"), "{last}");
    assert!(followed.next().await.is_none());
    let (_, last) = user.follow(&json!([mine(&version)])).await.next().await.expect("a refusal");
    assert_eq!(last["object"]["code"], json!(403), "{last}");

    // Without a token there is no watch, and there is none of what is no list of the console.
    let nobody = Caller { console: &console, token: "" };
    assert_eq!(nobody.watch(&json!([mine(&version)])).await.status(), StatusCode::UNAUTHORIZED);
    let admin = Caller { console: &console, token: TOKEN };
    let secrets = json!({"resource": "secrets", "namespace": SYSTEM, "resourceVersion": version});
    assert_eq!(admin.watch(&json!([secrets])).await.status(), StatusCode::BAD_REQUEST);
    let nested =
        json!({"resource": "events", "namespace": format!("{SYSTEM}/secrets"), "resourceVersion": version});
    assert_eq!(admin.watch(&json!([nested])).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_is_planned_applied_and_refused_as_kubectl_would() {
    let (server, console, [mine, _]) = two_teams("console-edit").await;
    let user = Caller { console: &console, token: USER_TOKEN };
    let path = tenant("mine");

    // Another manager owns the field: it is said whose it is, and nothing happens.
    let edit = manifest("mine", "Delete");
    let (status, conflict) = user.apply(&path, &edit).await;
    assert_eq!(status, StatusCode::CONFLICT, "{conflict}");
    let causes = conflict["details"]["causes"].to_string();
    assert!(causes.contains(".spec.deletionPolicy"), "{conflict}");
    assert_eq!(policy(&server, "mine").await, "Some(Retain)");

    // A plan is what would be, and is not.
    let (status, planned) = user.apply(&format!("{path}?dryRun=All&force=true"), &edit).await;
    assert_eq!((status, &planned["spec"]["deletionPolicy"]), (StatusCode::OK, &json!("Delete")), "{planned}");
    assert_eq!(policy(&server, "mine").await, "Some(Retain)");

    let (status, applied) = user.apply(&format!("{path}?force=true"), &edit).await;
    assert_eq!(status, StatusCode::OK, "{applied}");
    assert_eq!(policy(&server, "mine").await, "Some(Delete)");
    let managers = applied["metadata"]["managedFields"].to_string();
    assert!(managers.contains("posthouse-console"), "{managers}");

    // What the schema refuses, the rules refuse, and what no field is called.
    for (from, to, expected) in [
        ("deletionPolicy: Delete", "deletionPolicy: Perhaps", "deletionPolicy"),
        ("tenantId: mine", "tenantId: other", "tenantId is immutable"),
        ("deletionPolicy: Delete", "deletionPolice: Delete", "deletionPolice"),
    ] {
        let bad = edit.replace(from, to);
        let (status, refusal) = user.apply(&format!("{path}?dryRun=All&force=true"), &bad).await;
        assert!(!status.is_success(), "{to}: {status}");
        assert!(refusal["message"].as_str().is_some_and(|text| text.contains(expected)), "{to}: {refusal}");
    }

    // What is not there yet is planned and created in the same way.
    let (path_of_new, new) = (path.replace("/it", "/other"), edit.replace("name: it", "name: other"));
    let new = new.replace("tenantId: mine", "tenantId: other");
    let (status, planned) = user.apply(&format!("{path_of_new}?dryRun=All"), &new).await;
    assert!(status.is_success(), "{status}: {planned}");
    assert!(tenants(&server, "mine").get_opt("other").await.expect("an answer").is_none(), "it was a plan");
    let (status, made) = user.apply(&path_of_new, &new).await;
    assert_eq!((status, &made["spec"]["tenantId"]), (StatusCode::CREATED, &json!("other")), "{made}");

    // A pause is one field.
    for paused in [true, false] {
        let body = json!({"spec": {"paused": paused}}).to_string();
        let (status, answer) = user.call(Method::PATCH, &path, MERGE, &body).await;
        assert_eq!((status, &answer["spec"]["paused"]), (StatusCode::OK, &json!(paused)), "{answer}");
        assert_eq!(answer["spec"]["deletionPolicy"], json!("Delete"), "the rest stays");
    }

    // A deletion is of the resource that the caller saw.
    let other = "00000000-0000-4000-8000-000000000000";
    let (status, answer) = user.call(Method::DELETE, &format!("{path}?uid={other}"), MERGE, "").await;
    assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    assert_eq!(user.call(Method::DELETE, &path, MERGE, "").await.0, StatusCode::BAD_REQUEST);
    let uid = mine.uid().expect("a UID");
    let (status, answer) =
        user.call(Method::DELETE, &format!("{path}?uid={uid}&dryRun=All"), MERGE, "").await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    tenants(&server, "mine").get("it").await.expect("a dry run deletes nothing");
    let (status, answer) = user.call(Method::DELETE, &format!("{path}?uid={uid}"), MERGE, "").await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(tenants(&server, "mine").get_opt("it").await.expect("an answer").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_makes_no_call_that_it_does_not_list_and_lends_no_identity() {
    let (server, console, _) = two_teams("console-calls").await;
    create_admin_secret(&server, "secret", &[("password", "p")]).await;
    let admin = Caller { console: &console, token: TOKEN };
    let user = Caller { console: &console, token: USER_TOKEN };

    // An administrator may read all of these with kubectl.
    for path in [
        format!("/k8s/api/v1/namespaces/{SYSTEM}/secrets"),
        format!("/k8s/api/v1/namespaces/{SYSTEM}/secrets/secret"),
        "/k8s/api/v1/namespaces".to_owned(),
        "/k8s/apis/apps/v1/namespaces/mine/deployments/it-chat".to_owned(),
        format!("{GROUP}/namespaces/mine/messengertenants/it/status"),
        format!("/k8s/api/v1/namespaces/{SYSTEM}%2fsecrets%2f..%2fx/events"),
        format!("/k8s/api/v1/namespaces/..%2f..%2f..%2fapi%2fv1%2fnamespaces%2f{SYSTEM}%2fsecrets%3f/events"),
        "/k8s/apis/../api/v1/secrets".to_owned(),
        "/k8s//api/v1/secrets".to_owned(),
        "/k8s".to_owned(),
    ] {
        let (status, answer) = admin.get(&path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {answer}");
    }
    for query in ["watch=true", "resourceVersion=0", "fieldManager=x", "limit=-1"] {
        let path = format!("{GROUP}/messengertenants?{query}");
        assert_eq!(admin.get(&path).await.0, StatusCode::BAD_REQUEST, "{query}");
    }
    for (method, path) in [
        (Method::POST, format!("{GROUP}/namespaces/mine/messengertenants")),
        (Method::PUT, tenant("mine")),
        (Method::DELETE, format!("{GROUP}/namespaces/mine/messengertenants")),
        (Method::DELETE, format!("{GROUP}/messengercells/dead")),
        (Method::POST, format!("{GROUP}/messengercells")),
    ] {
        let status = admin.call(method.clone(), &path, MERGE, "{}").await.0;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
    }
    let json_patch = "application/json-patch+json";
    let (status, _) = admin.call(Method::PATCH, &tenant("mine"), json_patch, "[]").await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);

    // Without a token of its caller it has none.
    let path = tenant("mine");
    assert_eq!(bare(&console, &path, &[]).await.status(), StatusCode::UNAUTHORIZED);
    for value in ["Basic YWRtaW46YWRtaW4=", "Bearer ", "Bearer nonsense"] {
        let headers = [(header::AUTHORIZATION, value)];
        assert_eq!(bare(&console, &path, &headers).await.status(), StatusCode::UNAUTHORIZED, "{value}");
    }
    let cookie = [(header::COOKIE, "token=x")];
    assert_eq!(bare(&console, &path, &cookie).await.status(), StatusCode::UNAUTHORIZED);

    // A header by which the API server would take the caller for another user stays here: an administrator stays one.
    let bearer = format!("Bearer {TOKEN}");
    for name in ["impersonate-user", "x-remote-user"] {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let request = Request::post("/k8s/apis/authentication.k8s.io/v1/selfsubjectreviews")
            .header(header::AUTHORIZATION, &bearer)
            .header(name, "user")
            .body(Body::from(review.to_string()))
            .expect("a request");
        let (_, answer) = read(console.clone().oneshot(request).await.expect("a router answers")).await;
        assert_eq!(answer["status"]["userInfo"]["username"], json!("admin"), "{name}: {answer}");
    }

    // A page of another address calls.
    for site in ["cross-site", "same-site"] {
        let headers =
            [(header::AUTHORIZATION, bearer.as_str()), (HeaderName::from_static("sec-fetch-site"), site)];
        assert_eq!(bare(&console, &path, &headers).await.status(), StatusCode::FORBIDDEN, "{site}");
    }

    // Connections to the API server are shared, and identities are not. As many at once as there are places for.
    let calls = (0..24).map(|turn| {
        let (caller, expected) =
            if turn % 2 == 0 { (&admin, StatusCode::OK) } else { (&user, StatusCode::FORBIDDEN) };
        async move {
            let (status, answer) = caller.get(&tenant("theirs")).await;
            assert_eq!(status, expected, "call {turn}: {answer}");
        }
    });
    futures_util::future::join_all(calls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_runs_nothing_of_others_and_no_answer_is_kept() {
    let server = ApiServer::start("console-page").await;
    let console = console::router(server.anonymous.clone(), CancellationToken::new());
    let origin = (header::ORIGIN, "https://evil.example");
    let bearer = format!("Bearer {TOKEN}");
    let page = bare(&console, "/", std::slice::from_ref(&origin)).await;
    assert_eq!(page.status(), StatusCode::OK);
    let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().expect("text").to_owned();
    assert!(policy.contains("connect-src 'self';") && policy.contains("trusted-types"), "{policy}");
    let headers = [origin, (header::AUTHORIZATION, bearer.as_str())];
    let list = bare(&console, &format!("{GROUP}/messengertenants"), &headers).await;
    assert_eq!(list.status(), StatusCode::OK);
    assert_eq!(list.headers()[header::CACHE_CONTROL], "no-store");
    for response in [&page, &list] {
        let headers = response.headers();
        assert!(
            !headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
                && !headers.contains_key(header::SET_COOKIE)
        );
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::X_FRAME_OPTIONS], "DENY");
    }
    for (path, expected) in [("/nothing", StatusCode::NOT_FOUND), ("/livez", StatusCode::OK)] {
        assert_eq!(bare(&console, path, &[]).await.status(), expected, "{path}");
    }
}
