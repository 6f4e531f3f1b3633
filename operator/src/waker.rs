//! The waker: Traefik asks it about each request for a tenant that sleeps, by the middleware `forwardAuth` of its routes. What it answers with 200 goes on to the pods;
//! any other answer is the one that the client gets. It knows the tenant by the host that the client named.
//!
//! It writes nothing: a pass over the tenant notes in its status that it was woken, and starts the pods. A request that is lost with this process is repeated by the
//! client a second later. Every replica serves it, and one that does not lead knows no tenant, so it has the client come back.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, OnceLock, RwLock},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
    },
    middleware,
    response::{Html, IntoResponse, Response},
};
use crds::{Host, MessengerTenant};
use futures_util::{Stream, stream};
use kube::{core::DeserializeGuard, runtime::reflector::ObjectRef};
use serde_json::json;
use tokio::{net::TcpListener, sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    connections,
    fleet::Fleet,
    locks::{lock, read},
    metrics::Metrics,
    wake::Door,
};

/// Traefik sets them to what the client said, whatever the client puts there.
const FORWARDED_HOST: &str = "x-forwarded-host";
const FORWARDED_METHOD: &str = "x-forwarded-method";

/// So many tenants are woken at once, and then one each second: pods that start are the dearest there are, and who knows all hosts could start those of all tenants.
const AT_ONCE: u32 = 20;
const EACH: Duration = Duration::from_secs(1);
/// Until a client that does not read its answer is cut off when the process ends.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Tenants that wait for the pass that wakes them.
const QUEUE: usize = 64;

/// A tenant as the controller knows it.
pub(crate) type TenantRef = ObjectRef<DeserializeGuard<MessengerTenant>>;

/// What a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Pods take it.
    Open,
    /// The tenant is waking.
    Waking,
    /// Too many tenants are being woken.
    Busy,
    /// Nothing wakes the tenant.
    Suspended,
    /// No tenant has the host.
    Unknown,
    /// This replica does not know.
    StandingBy,
}

impl Answer {
    /// Returns the value of the metric's label.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Waking => "waking",
            Self::Busy => "busy",
            Self::Suspended => "suspended",
            Self::Unknown => "unknown",
            Self::StandingBy => "standing_by",
        }
    }

    /// Returns after how many seconds a client may ask again, where it may.
    const fn retry_after_seconds(self) -> Option<u32> {
        match self {
            Self::Waking | Self::StandingBy => Some(1),
            Self::Busy => Some(5),
            Self::Suspended => Some(60),
            Self::Open | Self::Unknown => None,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Open => "",
            Self::Waking | Self::Busy | Self::StandingBy => {
                "The messenger is starting; try again in a moment"
            }
            Self::Suspended => "The messenger is suspended",
            Self::Unknown => "No messenger has this host",
        }
    }
}

/// Wakes tenants that are asked for. Clones are one waker.
#[derive(Clone, Default)]
pub struct Waker(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// What is known once this replica leads.
    leading: OnceLock<Leading>,
    requested: Mutex<Requested>,
}

struct Leading {
    fleet: Arc<RwLock<Fleet>>,
    passes: mpsc::Sender<TenantRef>,
}

/// Tenants that were asked for.
#[derive(Default)]
struct Requested {
    /// The UIDs of those whose pass has not begun.
    uids: HashSet<String>,
    pace: Pace,
}

/// How fast tenants are woken.
#[derive(Default)]
struct Pace {
    /// When as many may be woken at once again as ever.
    rested_at: Option<Instant>,
}

impl Pace {
    /// Reports whether one more may be woken now, and counts it.
    fn allows(&mut self, now: Instant) -> bool {
        let rested_at = self.rested_at.map_or(now, |at| at.max(now));
        let is_allowed = rested_at - now <= EACH * (AT_ONCE - 1);
        if is_allowed {
            self.rested_at = Some(rested_at + EACH);
        }
        is_allowed
    }
}

impl Waker {
    /// Answers by these tenants from now on. Returns those over which a pass is to be made.
    pub(crate) fn lead(&self, fleet: Arc<RwLock<Fleet>>) -> impl Stream<Item = TenantRef> + Send + use<> {
        let (passes, requests) = mpsc::channel(QUEUE);
        // A process leads once.
        _ = self.0.leading.set(Leading { fleet, passes });
        stream::unfold(requests, async |mut requests| {
            requests.recv().await.map(|request| (request, requests))
        })
    }

    /// Reports whether a tenant was asked for, and forgets it.
    pub(crate) fn take(&self, uid: &str) -> bool {
        lock(&self.0.requested).uids.remove(uid)
    }

    /// Decides about a request for a host, and has the tenant woken that sleeps there.
    pub(crate) fn answer(&self, host: Option<&str>, now: Instant) -> Answer {
        let Some(leading) = self.0.leading.get() else { return Answer::StandingBy };
        let fleet = read(&leading.fleet);
        if !fleet.is_complete() {
            return Answer::StandingBy;
        }
        let Some(host) = host.and_then(named) else { return Answer::Unknown };
        let Some(member) = fleet.holding(&host).next() else { return Answer::Unknown };
        match member.door {
            Door::Open => Answer::Open,
            Door::Opening => Answer::Waking,
            Door::Closed => Answer::Suspended,
            Door::Asleep => self.request(leading, &member.uid, &member.resource, now),
        }
    }

    /// Has a pass made over a tenant, once until it begins.
    fn request(&self, leading: &Leading, uid: &str, resource: &str, now: Instant) -> Answer {
        let mut requested = lock(&self.0.requested);
        if requested.uids.contains(uid) {
            return Answer::Waking;
        }
        let (namespace, name) = resource.split_once('/').unwrap_or_default();
        let Ok(place) = leading.passes.try_reserve() else { return Answer::Busy };
        if !requested.pace.allows(now) {
            return Answer::Busy;
        }
        // Before the pass, which takes it.
        requested.uids.insert(uid.to_owned());
        place.send(ObjectRef::new(name).within(namespace));
        Answer::Waking
    }

    /// Serves until `shutdown`.
    pub async fn serve(self, listener: TcpListener, metrics: Arc<Metrics>, shutdown: CancellationToken) {
        connections::serve(listener, router(self, metrics), ANSWER_LIMIT, shutdown).await;
    }
}

/// Returns the host that a client named, without a port and as an index has it.
fn named(host: &str) -> Option<Host> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.trim_end_matches('.').to_ascii_lowercase().parse().ok()
}

fn router(waker: Waker, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .fallback(ask)
        .layer(middleware::from_fn(pages::browser::protect))
        .with_state((waker, metrics))
}

async fn ask(State((waker, metrics)): State<(Waker, Arc<Metrics>)>, headers: HeaderMap) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let answer = waker.answer(header(FORWARDED_HOST), Instant::now());
    metrics.asked_to_wake(answer.as_str());
    let is_page = header(FORWARDED_METHOD).is_none_or(|method| method == "GET")
        && header(ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/html"));
    let mut response = match (answer, answer.retry_after_seconds()) {
        (Answer::Open, _) => StatusCode::OK.into_response(),
        (_, Some(seconds)) if is_page => {
            (StatusCode::SERVICE_UNAVAILABLE, Html(page(answer, seconds))).into_response()
        }
        (_, Some(_)) => problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", answer),
        (_, None) => problem(StatusCode::NOT_FOUND, "not_found", answer),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = answer.retry_after_seconds() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if answer == Answer::StandingBy {
        // The next request comes by another connection, and perhaps to the replica that leads.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Returns the body that clients of the APIs know: the same as that of a service.
fn problem(status: StatusCode, code: &str, answer: Answer) -> Response {
    let kind = format!("urn:posthouse:error:{code}");
    let body = json!({"type": kind, "title": answer.text(), "status": status.as_u16(), "code": code});
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

/// Returns a page that a browser loads again by itself. It has no script.
fn page(answer: Answer, seconds: u32) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"refresh\" content=\"{seconds}\"><title>Messenger</title></head><body><p>{}.</p></body></html>\n",
        answer.text()
    )
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use futures_util::{FutureExt as _, StreamExt as _};
    use kube::runtime::watcher::Event;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;
    use crate::locks::write;

    fn tenant(id: &str, spec: &Value, status: &Value) -> DeserializeGuard<MessengerTenant> {
        let mut resource = json!({"apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": "MessengerTenant",
            "metadata": {"name": "messenger", "namespace": id, "uid": format!("uid-of-{id}")},
            "spec": {"tenantId": id, "cellRef": {"name": "local"}},
            "status": {"hosts": [format!("{id}.example")]}});
        for (part, fields) in [("spec", spec), ("status", status)] {
            for (field, value) in fields.as_object().into_iter().flatten() {
                resource[part][field] = value.clone();
            }
        }
        DeserializeGuard(Ok(serde_json::from_value(resource).expect("a tenant")))
    }

    fn sleeper(id: &str) -> DeserializeGuard<MessengerTenant> {
        tenant(id, &json!({"suspended": true, "wakeOnConnect": {}}), &json!({}))
    }

    /// Returns a waker that leads, its tenants, and the passes that it asks for.
    fn leading(
        tenants: Vec<DeserializeGuard<MessengerTenant>>,
    ) -> (Waker, Arc<RwLock<Fleet>>, impl Stream<Item = TenantRef> + Unpin) {
        let fleet = Arc::new(RwLock::new(Fleet::default()));
        let listed = tenants.into_iter().map(Event::InitApply);
        for event in [Event::Init].into_iter().chain(listed).chain([Event::InitDone]) {
            write(&fleet).observe(&event);
        }
        let waker = Waker::default();
        let passes = Box::pin(waker.lead(fleet.clone()));
        (waker, fleet, passes)
    }

    fn answer(waker: &Waker, host: &str) -> Answer {
        waker.answer(Some(host), Instant::now())
    }

    #[tokio::test]
    async fn a_tenant_that_is_asked_for_is_woken_once_until_its_pass_begins() {
        let (waker, fleet, mut passes) = leading(vec![sleeper("acme")]);
        for host in ["acme.example", "acme.example:8000", "ACME.example."] {
            assert_eq!(answer(&waker, host), Answer::Waking, "{host}");
        }
        let asked = passes.next().await.expect("a pass is asked for");
        assert_eq!((asked.namespace.as_deref(), asked.name.as_str()), (Some("acme"), "messenger"));
        assert!(passes.next().now_or_never().is_none(), "one is enough");
        assert!(waker.take("uid-of-acme"));
        assert!(!waker.take("uid-of-acme"), "it has been taken");

        // The pass could not note it, and the client is there again.
        assert_eq!(answer(&waker, "acme.example"), Answer::Waking);
        assert!(passes.next().now_or_never().is_some());
        assert!(waker.take("uid-of-acme"));

        // It is noted, and nothing more is asked for.
        let allowed = json!({"suspended": true, "wakeOnConnect": {}});
        let mut status = json!({"wake": {"requestedAt": "2026-11-30T10:00:00Z"}});
        write(&fleet).observe(&Event::Apply(tenant("acme", &allowed, &status)));
        assert_eq!(answer(&waker, "acme.example"), Answer::Waking);
        assert!(passes.next().now_or_never().is_none());
        status["conditions"] = json!([{"type": "WorkloadsReady", "status": "True", "reason": "Available",
            "message": "", "lastTransitionTime": "2026-11-30T10:00:00Z"}]);
        write(&fleet).observe(&Event::Apply(tenant("acme", &allowed, &status)));
        assert_eq!(answer(&waker, "acme.example"), Answer::Open);
    }

    #[tokio::test]
    async fn what_must_not_be_woken_is_left_as_it_is() {
        let held = tenant("held", &json!({"suspended": true}), &json!({}));
        let (waker, _, mut passes) = leading(vec![held, sleeper("acme")]);
        for (host, expected) in [
            (Some("held.example"), Answer::Suspended),
            (Some("other.example"), Answer::Unknown),
            (Some("10.0.0.1:8084"), Answer::Unknown),
            (Some("[fd00::1]:8084"), Answer::Unknown),
            (Some(""), Answer::Unknown),
            (None, Answer::Unknown),
        ] {
            assert_eq!(waker.answer(host, Instant::now()), expected, "{host:?}");
        }
        assert!(passes.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_replica_that_does_not_know_every_tenant_calls_none_unknown() {
        let waker = Waker::default();
        assert_eq!(answer(&waker, "acme.example"), Answer::StandingBy);
        let fleet = Arc::<RwLock<Fleet>>::default();
        let _passes = waker.lead(fleet.clone());
        assert_eq!(answer(&waker, "acme.example"), Answer::StandingBy);
        for event in [Event::Init, Event::InitDone] {
            write(&fleet).observe(&event);
        }
        assert_eq!(answer(&waker, "acme.example"), Answer::Unknown);
    }

    #[test]
    fn tenants_are_woken_one_by_one_after_the_first() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut allowed = |at: Duration| (0..100).filter(|_| pace.allows(start + at)).count();
        assert_eq!(allowed(Duration::ZERO), 20);
        assert_eq!(allowed(Duration::from_millis(900)), 0);
        assert_eq!(allowed(EACH * 3), 3);
        assert_eq!(allowed(EACH * 1000), 20, "a long rest saves up no more");
    }

    async fn response(waker: &Waker, headers: &[(&str, &str)]) -> (u16, HeaderMap, String) {
        let mut request = Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        let router = router(waker.clone(), Arc::default());
        let response = router.oneshot(request).await.expect("a router answers");
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 4096).await.expect("a small body");
        (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn a_client_is_told_when_to_come_back_and_a_browser_does_by_itself() {
        let (waker, _, _passes) = leading(vec![sleeper("acme")]);
        let (status, headers, body) = response(&waker, &[(FORWARDED_HOST, "acme.example")]).await;
        assert_eq!((status, headers["retry-after"].as_bytes()), (503, b"1".as_slice()));
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(headers["cache-control"], "no-store");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((&body["code"], &body["status"]), (&json!("unavailable"), &json!(503)));

        let page = [(FORWARDED_HOST, "acme.example"), ("accept", "text/html,*/*"), (FORWARDED_METHOD, "GET")];
        let (status, headers, body) = response(&waker, &page).await;
        assert_eq!((status, headers["retry-after"].as_bytes()), (503, b"1".as_slice()));
        assert!(body.contains("<meta http-equiv=\"refresh\" content=\"1\">"), "{body}");
        assert!(!body.contains("<script"), "{body}");
        assert!(headers.contains_key("content-security-policy"));

        let form = [(FORWARDED_HOST, "acme.example"), ("accept", "text/html"), (FORWARDED_METHOD, "POST")];
        assert_eq!(response(&waker, &form).await.1["content-type"], "application/problem+json");
    }

    #[tokio::test]
    async fn what_is_open_goes_on_and_what_is_unknown_is_not_found() {
        let is_up = json!({"conditions": [{"type": "WorkloadsReady", "status": "True", "reason": "Available",
            "message": "", "lastTransitionTime": "2026-11-30T10:00:00Z"}]});
        let (waker, _, _passes) = leading(vec![tenant("acme", &json!({}), &is_up)]);
        for (host, expected) in [("acme.example", 200), ("other.example", 404)] {
            let (status, headers, _) = response(&waker, &[(FORWARDED_HOST, host)]).await;
            assert_eq!((status, headers.contains_key("retry-after")), (expected, false), "{host}");
        }
        // Its own name is none of the client's.
        assert_eq!(response(&waker, &[("host", "acme.example")]).await.0, 404);
        let (status, headers, _) = response(&Waker::default(), &[(FORWARDED_HOST, "acme.example")]).await;
        assert_eq!((status, headers["connection"].as_bytes()), (503, b"close".as_slice()));
    }
}
