//! Changes of what a caller looks at, as they happen: the API server's own watches, several of them over one connection. A browser has six to the
//! console, for all of its windows together.
//!
//! The API server decides once whether a caller may watch: when the watch begins. It goes on when the right is taken away, and when the token ends.
//! So the API server is asked again here, by a review of the caller about the caller.
//!
//! Invariant: an event goes to its caller only after the API server has said that the caller may watch, and was asked after the event had come.

use std::{
    collections::HashMap,
    convert::Infallible,
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, BodyDataStream, Bytes},
    extract::State,
    http::{
        HeaderName, HeaderValue, Method, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::Response,
    routing::post,
};
use futures_util::{
    StreamExt as _,
    future::{ready, try_join_all},
    stream::{self, BoxStream},
};
use kube::Client;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    calls::{ACCESS_REVIEW, Call, JSON, SELF_REVIEW, ask, encoded, is_plain, passed, read_json},
    refusal::Refusal,
};
use crate::{locks::lock, text::one_line, time_limit::within};

/// Watches at once. Each is a connection to the API server, and a page has four.
const WATCHES: usize = 128;
/// Of one caller, in all windows and browsers.
const WATCHES_OF_CALLER: usize = 32;
/// Over one connection: the namespaces that a user named, and what a screen has beside them.
const WATCHES_OF_STREAM: usize = 16;
/// A stream ends by then, and its page goes on where it ended: the API server looks at the token again. The client to the API server gives up what
/// is quiet for a little longer.
const STREAM_LIMIT: Duration = Duration::from_secs(50);
/// While nothing happens, the API server is asked so often about a caller, to whom a line then shows that the stream is there.
const REVIEW_EVERY: Duration = Duration::from_secs(10);
/// What comes within this time of an event goes with it, after one review.
const GATHER: Duration = Duration::from_millis(200);
/// More of it does not wait for that.
const GATHERED_BYTES: usize = 64 * 1024;
/// A manifest that the console takes is not larger.
const MAX_EVENT_BYTES: usize = super::MAX_BODY_BYTES;

/// Events in lines.
const LINES: &str = "application/x-ndjson";
/// By which a proxy of the installation does not gather what should come at once.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) fn router(server: Client, shutdown: CancellationToken) -> Router {
    let watches = Watches { server, places: Arc::default(), shutdown };
    Router::new().route("/watch", post(watch)).with_state(watches)
}

#[derive(Clone)]
struct Watches {
    server: Client,
    places: Arc<Places>,
    shutdown: CancellationToken,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Resource {
    MessengerTenants,
    MessengerCells,
    Deployments,
    Events,
}

impl Resource {
    /// Returns its group, where that is served, and its name there.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        const OWN: &str = "messenger.posthouse.dev";
        const OWN_ROOT: &str = "/apis/messenger.posthouse.dev/v1alpha1";
        match self {
            Self::MessengerTenants => (OWN, OWN_ROOT, "messengertenants"),
            Self::MessengerCells => (OWN, OWN_ROOT, "messengercells"),
            Self::Deployments => ("apps", "/apis/apps/v1", "deployments"),
            Self::Events => ("", "/api/v1", "events"),
        }
    }
}

/// A list that a caller has read, and wants to follow.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    resource: Resource,
    namespace: Option<String>,
    /// What the list, or the last event, had.
    resource_version: String,
    field_selector: Option<String>,
    label_selector: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WatchQuery<'a> {
    watch: bool,
    /// They say where to go on with a list in which nothing happens.
    allow_watch_bookmarks: bool,
    timeout_seconds: u64,
    resource_version: &'a str,
    field_selector: Option<&'a str>,
    label_selector: Option<&'a str>,
}

impl Wanted {
    /// Returns the API server's path and query: of lists that the console reads, and of no others.
    fn target(&self) -> Result<String, Refusal> {
        let (_, root, name) = self.resource.names();
        let path = match (self.namespace.as_deref(), self.resource) {
            (Some(_), Resource::MessengerCells) | (None, Resource::Deployments | Resource::Events) => {
                return Err(Refusal::NotForwarded);
            }
            (Some(namespace), _) if namespace.contains('/') => return Err(Refusal::NotForwarded),
            (Some(namespace), _) => format!("{root}/namespaces/{namespace}/{name}"),
            (None, _) => format!("{root}/{name}"),
        };
        if !is_plain(&path) {
            return Err(Refusal::NotForwarded);
        }
        // Without a version, and from zero, a watch begins with all that there is.
        if ["", "0"].contains(&self.resource_version.as_str()) {
            return Err(Refusal::Watch("resourceVersion is that of a list".to_owned()));
        }
        let query = WatchQuery {
            watch: true,
            allow_watch_bookmarks: true,
            timeout_seconds: STREAM_LIMIT.as_secs(),
            resource_version: &self.resource_version,
            field_selector: self.field_selector.as_deref(),
            label_selector: self.label_selector.as_deref(),
        };
        Ok(format!("{path}?{}", encoded(&query)))
    }

    /// Returns the question whether the caller may watch it.
    fn review(&self) -> Value {
        let (group, _, resource) = self.resource.names();
        let attributes =
            json!({"verb": "watch", "group": group, "resource": resource, "namespace": self.namespace});
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes}})
    }

    /// Returns what a user calls it.
    fn name(&self) -> String {
        let (_, _, name) = self.resource.names();
        match &self.namespace {
            Some(namespace) => format!("{name} in namespace {namespace}"),
            None => name.to_owned(),
        }
    }
}

/// How many watches each caller has, by the name that the API server knows them by.
#[derive(Default)]
struct Places(Mutex<HashMap<String, usize>>);

/// What one stream has of them, until it is dropped.
struct Place {
    places: Arc<Places>,
    caller: String,
    watches: usize,
}

impl Places {
    fn take(self: &Arc<Self>, caller: String, watches: usize) -> Result<Place, Refusal> {
        let mut open = lock(&self.0);
        let own = open.get(&caller).copied().unwrap_or_default() + watches;
        if own > WATCHES_OF_CALLER {
            return Err(Refusal::TooManyWatches);
        }
        if open.values().sum::<usize>() + watches > WATCHES {
            return Err(Refusal::Busy);
        }
        open.insert(caller.clone(), own);
        drop(open);
        Ok(Place { places: self.clone(), caller, watches })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.places.0);
        let left = open.get(&self.caller).copied().unwrap_or_default().saturating_sub(self.watches);
        if left == 0 {
            open.remove(&self.caller);
        } else {
            open.insert(self.caller.clone(), left);
        }
    }
}

/// Sends what happens in the lists that the body names, in lines of `[number of the list, event]`. An event is the API server's own, and one of type
/// ERROR is the last of its list. The stream ends when its time is over, or when one of its watches does: the caller goes on where it ended.
async fn watch(State(watches): State<Watches>, call: Call, body: Bytes) -> Result<Response, Refusal> {
    let Watches { server, places, shutdown } = watches;
    let wanted: Vec<Wanted> =
        serde_json::from_slice(&body).map_err(|error| Refusal::Watch(one_line(error)))?;
    if wanted.is_empty() || wanted.len() > WATCHES_OF_STREAM {
        return Err(Refusal::Watch(format!("1 to {WATCHES_OF_STREAM} lists are watched together")));
    }
    let targets = wanted.iter().map(Wanted::target).collect::<Result<Vec<_>, _>>()?;
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let review = Some((JSON, review.to_string().into()));
    let answer = ask(&server, Method::POST, &call.token, SELF_REVIEW, review).await?;
    if !answer.status().is_success() {
        return Ok(passed(answer));
    }
    let caller = read_json(answer).await?;
    let Some(caller) = caller["status"]["userInfo"]["username"].as_str() else {
        return Err(Refusal::Unreachable("it does not say who the caller is".to_owned()));
    };
    let place = Arc::new(places.take(caller.to_owned(), wanted.len())?);
    let opening = wanted.iter().zip(targets).enumerate().map(|(number, (wanted, target))| {
        let right = Right {
            server: server.clone(),
            token: call.token.clone(),
            review: wanted.review().to_string().into(),
            name: wanted.name(),
        };
        open(number, right, target, place.clone())
    });
    let opened = try_join_all(opening).await?;
    let over = async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sleep(STREAM_LIMIT) => {}
        }
    };
    let lines = stream::select_all(opened)
        .take_while(|lines| ready(lines.is_some()))
        .filter_map(ready)
        .map(Ok::<Bytes, Infallible>)
        .take_until(over);
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(LINES));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// Begins one watch, and returns its lines as they come. `None` among them ends the stream of all.
async fn open(
    number: usize,
    right: Right,
    target: String,
    place: Arc<Place>,
) -> Result<BoxStream<'static, Option<Bytes>>, Refusal> {
    let answer = ask(&right.server, Method::GET, &right.token, &target, None).await?;
    let status = answer.status();
    if !status.is_success() {
        let mut refusal = read_json(answer).await?;
        if !refusal.is_object() {
            refusal = json!({"code": status.as_u16()});
        }
        return Ok(stream::iter([Some(last_line(number, &refusal))]).boxed());
    }
    let events = Body::new(answer.into_body()).into_data_stream();
    let watch = Watch { number, right, events, held: Vec::new(), _place: place };
    let next = |watch: Option<Watch>| async move { Some(watch?.next().await) };
    Ok(stream::unfold(Some(watch), next).boxed())
}

/// Returns the last line of a list: why there is no more.
fn last_line(number: usize, status: &Value) -> Bytes {
    format!("{}\n", json!([number, {"type": "ERROR", "object": status}])).into()
}

/// What a caller has to be able to do for as long as a watch goes on.
struct Right {
    server: Client,
    token: HeaderValue,
    review: Bytes,
    name: String,
}

impl Right {
    /// Asks the API server whether the caller still has it, and returns its refusal where not. Fails where it is not known.
    async fn refusal(&self) -> Result<Option<Value>, Refusal> {
        let review = Some((JSON, self.review.clone()));
        let answer = ask(&self.server, Method::POST, &self.token, ACCESS_REVIEW, review).await?;
        let status = answer.status();
        let answer = read_json(answer).await?;
        match (status, answer["status"]["allowed"].as_bool()) {
            (StatusCode::UNAUTHORIZED, _) => Ok(Some(answer)),
            (_, Some(true)) => Ok(None),
            (_, Some(false)) => Ok(Some(Refusal::Revoked(self.name.clone()).body())),
            (_, None) => Err(Refusal::Unreachable(format!("it answers a review with {status}"))),
        }
    }
}

/// One watch that goes on.
struct Watch {
    number: usize,
    right: Right,
    events: BodyDataStream,
    /// What has come and was not sent yet.
    held: Vec<u8>,
    _place: Arc<Place>,
}

impl Watch {
    /// Returns what goes to the caller next, and the watch unless that was all. Nothing ends the stream of all.
    async fn next(mut self) -> (Option<Bytes>, Option<Self>) {
        if matches!(within(REVIEW_EVERY, self.gather()).await, Ok(false)) {
            return (None, None);
        }
        match self.right.refusal().await {
            Ok(None) => (Some(self.lines()), Some(self)),
            Ok(Some(status)) => (Some(last_line(self.number, &status)), None),
            // A right that is not known of is none. The page asks again from where it was.
            Err(_) => (None, None),
        }
    }

    /// Waits for an event, and takes what comes in the moment after it. Reports whether there is one.
    async fn gather(&mut self) -> bool {
        while !self.held.contains(&b'\n') {
            if self.held.len() > MAX_EVENT_BYTES {
                warn!(watched = %self.right.name, bytes = self.held.len(), "an event is too large for the console");
                return false;
            }
            if !self.read().await {
                return false;
            }
        }
        let more = async { while self.held.len() < GATHERED_BYTES && self.read().await {} };
        _ = within(GATHER, more).await;
        true
    }

    /// Waits for a part of what the API server sends, and reports whether one came.
    async fn read(&mut self) -> bool {
        let Some(Ok(part)) = self.events.next().await else { return false };
        self.held.extend_from_slice(&part);
        true
    }

    /// Takes the whole events of what is held. Where there is none, an empty line says that the watch goes on.
    fn lines(&mut self) -> Bytes {
        let end = self.held.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.held.split_off(end);
        let whole = mem::replace(&mut self.held, rest);
        let mut lines = Vec::with_capacity(whole.len() + 16);
        for event in whole.split(|byte| *byte == b'\n').filter(|event| !event.is_empty()) {
            lines.extend_from_slice(format!("[{},", self.number).as_bytes());
            lines.extend_from_slice(event);
            lines.extend_from_slice(b"]\n");
        }
        if lines.is_empty() {
            lines.push(b'\n');
        }
        lines.into()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

    use axum::http::{Request, header::AUTHORIZATION};
    use tokio::sync::mpsc;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// An API server that says of a caller's rights what a test does, and whose watches have what it sends.
    #[derive(Default)]
    struct Server {
        refuses: AtomicBool,
        fails: AtomicBool,
        reviews: AtomicUsize,
        watches: Mutex<Vec<(String, mpsc::Sender<String>)>>,
    }

    impl Server {
        fn answer(&self, request: &Request<kube::client::Body>) -> Response {
            let answer = |status: u16, body: Value| {
                let response = Response::builder().status(status).body(Body::from(body.to_string()));
                response.expect("a response")
            };
            match request.uri().path() {
                SELF_REVIEW if request.headers()[AUTHORIZATION] != "Bearer t" => {
                    answer(401, json!({"kind": "Status", "code": 401}))
                }
                SELF_REVIEW => answer(201, json!({"status": {"userInfo": {"username": "ann"}}})),
                ACCESS_REVIEW => {
                    self.reviews.fetch_add(1, Relaxed);
                    if self.fails.load(Relaxed) {
                        return answer(500, json!({"kind": "Status", "code": 500}));
                    }
                    answer(201, json!({"status": {"allowed": !self.refuses.load(Relaxed)}}))
                }
                path if path.contains("/namespaces/theirs/") => {
                    answer(403, json!({"kind": "Status", "code": 403, "message": "no"}))
                }
                _ => {
                    let (sender, events) = mpsc::channel(8);
                    lock(&self.watches).push((request.uri().to_string(), sender));
                    let events = stream::unfold(events, |mut events| async move {
                        Some((Ok::<String, Infallible>(events.recv().await?), events))
                    });
                    Response::new(Body::from_stream(events))
                }
            }
        }

        /// Sends a part of what a watch has, by the order in which they began.
        async fn send(&self, watch: usize, part: &str) {
            let sender = lock(&self.watches)[watch].1.clone();
            sender.send(part.to_owned()).await.expect("it is watched");
        }

        fn end(&self, watch: usize) {
            lock(&self.watches).remove(watch);
        }
    }

    fn console() -> (Arc<Server>, Router, CancellationToken) {
        let (server, shutdown) = (Arc::new(Server::default()), CancellationToken::new());
        let answering = server.clone();
        let client = service_fn(move |request: Request<kube::client::Body>| {
            ready(Ok::<_, Infallible>(answering.answer(&request)))
        });
        (server, router(Client::new(client, "default"), shutdown.clone()), shutdown)
    }

    async fn asked(console: &Router, token: &str, wanted: Value) -> Response {
        let request = Request::post("/watch").header(AUTHORIZATION, format!("Bearer {token}"));
        let request = request.body(Body::from(wanted.to_string())).expect("a request");
        console.clone().oneshot(request).await.expect("a router answers")
    }

    fn tenants(namespace: &str) -> Value {
        json!({"resource": "messengertenants", "namespace": namespace, "resourceVersion": "7"})
    }

    fn lines(response: Response) -> BodyDataStream {
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().into_data_stream()
    }

    /// Returns the events that come next.
    async fn next(lines: &mut BodyDataStream) -> Option<String> {
        loop {
            let part = lines.next().await?.expect("it is whole");
            if part != "\n" {
                return Some(String::from_utf8(part.to_vec()).expect("text"));
            }
        }
    }

    #[tokio::test]
    async fn lists_are_followed_together_and_each_event_has_the_number_of_its_list() {
        let (server, console, _) = console();
        let events = json!({"resource": "events", "namespace": "mine", "resourceVersion": "9",
            "fieldSelector": "involvedObject.uid=1"});
        let mut lines = lines(asked(&console, "t", json!([tenants("mine"), events])).await);
        let targets: Vec<_> = lock(&server.watches).iter().map(|(target, _)| target.clone()).collect();
        let [first, second] = targets.as_slice() else { panic!("{targets:?}") };
        assert!(first.contains("/namespaces/mine/messengertenants?"), "{first}");
        for part in ["watch=true", "resourceVersion=7", "allowWatchBookmarks=true", "timeoutSeconds=50"] {
            assert!(first.contains(part), "{first}");
        }
        assert!(second.contains("fieldSelector=involvedObject.uid%3D1"), "{second}");
        server.send(1, "{\"type\":\"ADDED\"}\n{\"type\":\"").await;
        assert_eq!(next(&mut lines).await.as_deref(), Some("[1,{\"type\":\"ADDED\"}]\n"));
        server.send(1, "MODIFIED\"}\n").await;
        assert_eq!(next(&mut lines).await.as_deref(), Some("[1,{\"type\":\"MODIFIED\"}]\n"));
        server.send(0, "{\"type\":\"DELETED\"}\n").await;
        assert_eq!(next(&mut lines).await.as_deref(), Some("[0,{\"type\":\"DELETED\"}]\n"));
        assert!(server.reviews.load(Relaxed) >= 3, "one for each time");
        // A list that ends by itself would be missed: all of them are asked for again.
        server.end(0);
        assert_eq!(next(&mut lines).await, None);
    }

    #[tokio::test]
    async fn what_comes_after_a_right_is_gone_is_not_sent() {
        let (server, console, _) = console();
        let wanted = json!([tenants("mine"), tenants("ours")]);
        let mut lines = lines(asked(&console, "t", wanted).await);
        server.refuses.store(true, Relaxed);
        server.send(0, "{\"type\":\"MODIFIED\",\"object\":\"a secret\"}\n").await;
        let last = next(&mut lines).await.expect("a line");
        let (number, event): (usize, Value) = serde_json::from_str(&last).expect("an event");
        assert_eq!((number, &event["type"], &event["object"]["code"]), (0, &json!("ERROR"), &json!(403)));
        assert!(!last.contains("a secret"), "{last}");
        // The other list has a right of its own.
        server.refuses.store(false, Relaxed);
        server.send(1, "{\"type\":\"ADDED\"}\n").await;
        assert_eq!(next(&mut lines).await.as_deref(), Some("[1,{\"type\":\"ADDED\"}]\n"));
        // A right that is not known of ends the stream.
        server.fails.store(true, Relaxed);
        server.send(1, "{\"type\":\"ADDED\"}\n").await;
        assert_eq!(next(&mut lines).await, None);
    }

    #[tokio::test]
    async fn a_list_that_is_refused_at_once_leaves_the_others() {
        let (server, console, shutdown) = console();
        let wanted = json!([tenants("theirs"), tenants("mine")]);
        let mut lines = lines(asked(&console, "t", wanted).await);
        let last = next(&mut lines).await.expect("a line");
        assert!(last.starts_with("[0,") && last.contains("403"), "{last}");
        server.send(0, "{\"type\":\"ADDED\"}\n").await;
        assert_eq!(next(&mut lines).await.as_deref(), Some("[1,{\"type\":\"ADDED\"}]\n"));
        shutdown.cancel();
        assert_eq!(next(&mut lines).await, None, "it does not hold the process up");
        assert_eq!(asked(&console, "other", json!([tenants("mine")])).await.status(), 401);
    }

    #[tokio::test]
    async fn an_event_that_is_too_large_ends_the_stream() {
        let (server, console, _) = console();
        let mut lines = lines(asked(&console, "t", json!([tenants("mine")])).await);
        let sending = async {
            server.send(0, &"x".repeat(MAX_EVENT_BYTES)).await;
            server.send(0, "x").await;
        };
        let (ended, ()) = tokio::join!(next(&mut lines), sending);
        assert_eq!(ended, None);
    }

    #[tokio::test]
    async fn a_caller_has_so_many_watches_until_they_end() {
        let (_, console, _) = console();
        let many = Value::from(vec![tenants("mine"); WATCHES_OF_STREAM]);
        let mut open = Vec::new();
        for _ in 0..WATCHES_OF_CALLER / WATCHES_OF_STREAM {
            open.push(lines(asked(&console, "t", many.clone()).await));
        }
        let refused = asked(&console, "t", json!([tenants("mine")])).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        open.pop();
        assert_eq!(asked(&console, "t", many).await.status(), StatusCode::OK);
        // All callers together have so many, too.
        let (places, mut taken) = (Arc::new(Places::default()), Vec::new());
        for caller in 0..WATCHES / WATCHES_OF_CALLER {
            taken.push(places.take(caller.to_string(), WATCHES_OF_CALLER).map_err(|_| caller));
        }
        assert!(taken.iter().all(Result::is_ok));
        assert!(matches!(places.take("late".to_owned(), 1), Err(Refusal::Busy)));
        taken.pop();
        assert!(places.take("late".to_owned(), 1).is_ok());
    }

    #[test]
    fn only_lists_of_the_console_are_watched() {
        let target = |wanted: Value| {
            serde_json::from_value::<Wanted>(wanted).ok().and_then(|wanted| wanted.target().ok())
        };
        let of = |resource: &str, namespace: Option<&str>| {
            target(json!({"resource": resource, "namespace": namespace, "resourceVersion": "7"}))
        };
        for (resource, namespace) in [
            ("messengertenants", None),
            ("messengertenants", Some("mine")),
            ("messengercells", None),
            ("deployments", Some("mine")),
            ("events", Some("mine")),
        ] {
            assert!(of(resource, namespace).is_some(), "{resource} {namespace:?}");
        }
        for (resource, namespace) in [
            ("secrets", Some("mine")),
            ("messengercells", Some("mine")),
            ("deployments", None),
            ("events", None),
            ("events", Some("mine/secrets")),
            ("events", Some("..")),
            ("events", Some("a%2fb")),
            ("events", Some("a?b")),
            ("events", Some("")),
        ] {
            assert!(of(resource, namespace).is_none(), "{resource} {namespace:?}");
        }
        for version in ["", "0"] {
            assert!(target(json!({"resource": "messengercells", "resourceVersion": version})).is_none());
        }
        let more = json!({"resource": "messengercells", "resourceVersion": "7", "sendInitialEvents": true});
        assert!(target(more).is_none());
    }
}
