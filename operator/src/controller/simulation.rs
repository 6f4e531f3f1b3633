//! A cluster, a cell and an operator in one process: passes run as they do in production, over an API server and backends in memory,
//! and a call can fail in any way. [`stories`] makes each call of a story fail in each way, [`edits`] walks through what a tenant may declare, and [`hostile`]
//! declares what is another tenant's.
//!
//! Time is paused, but for what is waited for: nothing sleeps.
//!
//! The API server differs from a real one in this: fields have no defaults, nothing is converted, and of what is written only edits that are drawn are validated; a list is one value
//! of one manager; garbage is collected at once; a watch delivers all changes before a round of passes, or none.

use std::{
    collections::BTreeMap,
    env,
    panic::resume_unwind,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Parser as _;
use crds::{MessengerCell, MessengerTenant};
use futures_util::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    core::{DeserializeGuard, DynamicObject},
    runtime::{reflector::store, watcher::Event},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{runtime::Builder, time::Instant};

use self::{
    api_server::{ApiServer, Change, Key, key},
    line::{Call, Fault, Kind as CallKind, Line, Target},
    systems::Systems,
};
use super::{
    cell,
    context::{Context, FirstLists, Memory},
    error_policy, reconcile,
};
use crate::{
    apply::Writer,
    backend::Pool,
    config::{Config, OPERATOR_NAME},
    desired::{APPLIED_ANNOTATION, Kind},
    events::Events,
    fleet::Fleet,
    leader::Fence,
    locks::{lock, write},
    metrics::Metrics,
    observe::{Probe, ProbeError, Probed},
    rendered::testing::cell_resource,
    retry::Retries,
    tenant::{Cell, Tenant},
    waker::{TenantRef, Waker},
    watched::Watched,
};

mod api_server;
mod bounds;
mod edits;
mod hostile;
mod line;
mod request;
mod schema;
mod stories;
mod systems;

/// The operator's own namespace.
const SYSTEM: &str = "posthouse-system";
const TENANTS: &str = "messengertenants";
const CELLS: &str = "messengercells";
const DEPLOYMENTS: &str = "deployments";
const AUTOSCALERS: &str = "horizontalpodautoscalers";
const PODS: &str = "pods";
/// From one round of passes to the next: longer than a circuit stays open.
const STEP: Duration = Duration::from_secs(6);
/// A tenant with this id makes the operator panic.
const PANICS: &str = "panics";
/// Begins every credential that was generated; a number follows.
const CREDENTIAL: &str = "credential-";

/// A quarter of what a thread of the operator has: a pass that needs more would end the process, and ends one of these stories before.
const STACK_BYTES: usize = 2 * 1024 * 1024;
/// Rounds of passes within which a story is over in peace.
const ROUNDS: usize = 20;
/// Rounds after which something that is quiet has proved it.
const QUIET_ROUNDS: usize = 2;

/// Reports whether nothing that can happen is left out, as `make fuzz` wants it: `EVERY_FAULT` is in the environment.
fn is_thorough() -> bool {
    env::var_os("EVERY_FAULT").is_some()
}

/// All that outlives an operator.
#[derive(Clone, Default)]
struct World {
    server: ApiServer,
    systems: Systems,
}

impl World {
    /// Returns the cell of the examples, with the operator's accounts on its backends.
    fn with_cell() -> Self {
        let mut world = Self::default();
        let resource = cell_resource();
        let mut manifest = serde_json::to_value(&resource).expect("plain data");
        manifest["metadata"]["uid"] = "uid-of-the-cell".into();
        world.server.create(key(CELLS, "", "local"), &manifest);
        let cell = Cell::new(&resource).expect("a valid cell");
        for backend in systems::ALL.iter().filter(|backend| backend.is_of(&cell)) {
            let Some(name) = backend.admin_secret(&cell) else { continue };
            let value = BASE64_STANDARD.encode("operator");
            let data: BTreeMap<_, _> = backend.entry().admin_keys.map(|key| (key, value.clone())).into();
            let secret =
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
            world.server.create(key("secrets", SYSTEM, name), &secret);
        }
        world
    }
}

/// One operator at work in a world.
struct Run {
    server: Arc<Mutex<ApiServer>>,
    systems: Arc<Mutex<Systems>>,
    line: Line,
    process: Process,
    /// Rounds in which the watches deliver nothing.
    lagging: std::ops::Range<usize>,
    rounds: usize,
    /// Passes that ended with an error.
    failed: usize,
    /// The host that a client asks the waker for in each round.
    asked_for: Option<&'static str>,
    /// The tenant that alone has passes, where not all have.
    only: Option<Key>,
}

impl Run {
    fn start(world: &World, fault: Option<(usize, Fault)>) -> Self {
        let server = Arc::new(Mutex::new(world.server.clone()));
        let systems = Arc::new(Mutex::new(world.systems.clone()));
        let line = Line::with(fault);
        let process = Process::start(&server, &systems, &line);
        let (lagging, rounds, failed) = (0..0, 0, 0);
        Self { server, systems, line, process, lagging, rounds, failed, asked_for: None, only: None }
    }

    fn world(&self) -> World {
        World { server: lock(&self.server).clone(), systems: lock(&self.systems).clone() }
    }

    /// Lets everyone do what there is to do: the controllers of Kubernetes, the watches, and a pass over each resource.
    async fn round(&mut self) {
        scale(&mut lock(&self.server));
        run_pods(&mut lock(&self.server));
        if !self.lagging.contains(&self.rounds) {
            self.process.deliver(&lock(&self.server));
        }
        self.rounds += 1;
        if self.asked_for.is_some() {
            self.process.context.waker.answer(self.asked_for, Instant::now());
        }
        let killed = self.line.clone();
        let passes = self.process.passes(self.only.as_ref());
        tokio::select! {
            biased;
            () = killed.killed() => self.process = Process::start(&self.server, &self.systems, &self.line),
            failed = passes => self.failed += failed,
        }
        tokio::time::advance(STEP).await;
    }

    /// Goes on until a round writes nothing and `is_over`. Returns the number of rounds, or how things are after `limit`.
    async fn until_quiet(
        &mut self,
        limit: usize,
        is_over: impl Fn(&ApiServer) -> bool,
    ) -> Result<usize, String> {
        let began = self.rounds;
        while self.rounds - began < limit {
            let (writes, failed) = (self.line.writes(), self.failed);
            self.round().await;
            let is_quiet = self.line.writes() == writes && self.failed == failed;
            if is_quiet && is_over(&lock(&self.server)) {
                return Ok(self.rounds - began);
            }
        }
        Err(format!("it is not quiet after {limit} rounds:\n{}", state(&self.world())))
    }

    /// Goes on for a few rounds, and fails where they write anything.
    async fn stays_quiet(&mut self) -> Result<(), String> {
        let calls = self.line.calls().len();
        let (writes, failed) = (self.line.writes(), self.failed);
        for _ in 0..QUIET_ROUNDS {
            self.round().await;
        }
        if self.line.writes() == writes && self.failed == failed {
            return Ok(());
        }
        let made = self.line.calls().split_off(calls);
        let texts: Vec<_> = made.iter().map(|call| call.text.as_str()).collect();
        Err(format!("it is not quiet afterwards: {}", texts.join(", ")))
    }
}

/// Plays a story with a clock that waits for nothing, on a thread with a small stack.
fn play(story: impl AsyncFnOnce() + Send + 'static) {
    let played = || {
        let mut runtime = Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().expect("a runtime").block_on(story());
    };
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(played).expect("a thread");
    thread.join().unwrap_or_else(|panic| resume_unwind(panic));
}

/// Lets autoscalers bring their Deployments within bounds. There is no load. Of none, they make no other number.
fn scale(server: &mut ApiServer) {
    let scalers: Vec<_> =
        server.all(AUTOSCALERS).map(|(key, object)| (key.clone(), object.clone())).collect();
    for ((_, namespace, _), scaler) in scalers {
        let spec = &scaler["spec"];
        let target =
            key(DEPLOYMENTS, &namespace, spec["scaleTargetRef"]["name"].as_str().unwrap_or_default());
        let Some(deployment) = server.get(&target) else { continue };
        let replicas = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
        let bound = |field: &str| spec[field].as_i64().expect("it is declared");
        let wanted = replicas.clamp(bound("minReplicas"), bound("maxReplicas"));
        if replicas != 0 && wanted != replicas {
            server.edit(&target, |found| found["spec"]["replicas"] = wanted.into());
        }
    }
}

/// Gives every Deployment the pods that it declares, and takes away those that none declares.
fn run_pods(server: &mut ApiServer) {
    let deployments: Vec<_> =
        server.all(DEPLOYMENTS).map(|(key, object)| (key.clone(), object.clone())).collect();
    let pods: Vec<_> = server.all(PODS).map(|(key, _)| key.clone()).collect();
    for pod in pods {
        let declares = |((_, namespace, name), object): &(Key, Value)| {
            *namespace == pod.1 && *name == pod.2 && object["spec"]["replicas"] != 0
        };
        if !deployments.iter().any(declares) {
            server.delete(&pod);
        }
    }
    for (deployment, object) in deployments {
        let replicas = object["spec"]["replicas"].as_i64().unwrap_or(1);
        server.edit(&deployment, |found| {
            found["status"] = json!({"observedGeneration": object["metadata"]["generation"], "replicas": replicas,
                "updatedReplicas": replicas, "availableReplicas": replicas});
        });
        // One stands for all of them.
        let (_, namespace, name) = &deployment;
        let pod = key(PODS, namespace, name);
        if replicas > 0 && server.get(&pod).is_none() {
            let labels = &object["spec"]["template"]["metadata"]["labels"];
            let manifest =
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}});
            server.create(pod, &manifest);
        }
    }
}

/// One process of the operator: what it remembers is lost with it.
struct Process {
    context: Arc<Context>,
    /// The tenants as the watch showed them last.
    tenants: BTreeMap<Key, Arc<DeserializeGuard<MessengerTenant>>>,
    cells: store::Writer<DeserializeGuard<MessengerCell>>,
    admin_secrets: store::Writer<Secret>,
    /// What the waker asks for: each round has a pass over each tenant.
    _woken: BoxStream<'static, TenantRef>,
    /// Changes that the watches have delivered.
    delivered: usize,
}

impl Process {
    fn start(server: &Arc<Mutex<ApiServer>>, systems: &Arc<Mutex<Systems>>, line: &Line) -> Self {
        systems::connect_to(systems, line);
        let client = api_server::client(server, line);
        let (fence, metrics) = (Fence::always_open(), Arc::new(Metrics::default()));
        let (cells, mut cell_events) = store();
        let (admin_secrets, mut secret_events) = store();
        let first_lists = FirstLists::default();
        let (mut fleet, mut watched) = (Fleet::default(), Watched::default());
        // All are empty at first; what is there follows as changes.
        for kind in Kind::LISTED {
            watched.observe(kind, &Event::Init);
            watched.observe(kind, &Event::InitDone);
        }
        fleet.observe(&Event::Init);
        fleet.observe(&Event::InitDone);
        let (fleet, waker) = (Arc::new(RwLock::new(fleet)), Waker::default());
        let woken = waker.lead(fleet.clone()).boxed();
        cell_events.apply_watcher_event(&Event::InitDone);
        secret_events.apply_watcher_event(&Event::InitDone);
        for list in [&first_lists.tenants, &first_lists.cells, &first_lists.admin_secrets] {
            list.observe(&Ok(Event::<()>::InitDone));
        }
        let arguments = ["operator", "--namespace", SYSTEM, "--image-tag", "test"];
        let context = Context {
            config: Config::try_parse_from(arguments).expect("arguments"),
            writer: Writer { client: client.clone(), fence: fence.clone(), metrics: metrics.clone() },
            events: Events::new(client.clone(), "simulation", fence, metrics.clone()),
            metrics,
            all_backends: systems::ALL,
            backends: Pool::default(),
            prober: Box::new(Traefik { server: server.clone(), line: line.clone() }),
            retries: Retries::new(Duration::from_secs(60), || 0.5),
            now: || Timestamp::UNIX_EPOCH,
            credential,
            fleet,
            watched: Arc::new(RwLock::new(watched)),
            cells,
            admin_secrets,
            first_lists,
            waker,
            memory: Memory::default(),
            client,
        };
        Self {
            context: Arc::new(context),
            tenants: BTreeMap::new(),
            cells: cell_events,
            admin_secrets: secret_events,
            _woken: woken,
            delivered: 0,
        }
    }

    /// Delivers what has changed, as the watches do.
    fn deliver(&mut self, server: &ApiServer) {
        let changes = server.changes_since(self.delivered);
        self.delivered += changes.len();
        for change in changes {
            let (kind, namespace, _) = &change.key;
            if kind == TENANTS {
                let event = event::<DeserializeGuard<MessengerTenant>>(change);
                write(&self.context.fleet).observe(&event);
                match event {
                    Event::Apply(tenant) => _ = self.tenants.insert(change.key.clone(), Arc::new(tenant)),
                    _ => _ = self.tenants.remove(&change.key),
                }
            } else if kind == CELLS {
                self.cells.apply_watcher_event(&event(change));
            } else if kind == "secrets" && namespace == SYSTEM {
                self.admin_secrets.apply_watcher_event(&event(change));
            } else if let Some(child) =
                Kind::LISTED.into_iter().find(|child| child.api_resource().plural == *kind)
            {
                let is_managed =
                    change.object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == OPERATOR_NAME;
                if is_managed {
                    write(&self.context.watched).observe(child, &event::<DynamicObject>(change));
                }
            }
        }
    }

    /// Makes a pass over each resource, or over `only` this tenant. Returns how many ended with an error.
    async fn passes(&self, only: Option<&Key>) -> usize {
        let mut failed = 0;
        for cell in self.context.cells.state().into_iter().filter(|_| only.is_none()) {
            if let Err(error) = cell::reconcile(cell.clone(), self.context.clone()).await {
                cell::error_policy(cell, &error, self.context.clone());
                failed += 1;
            }
        }
        for (_, tenant) in self.tenants.iter().filter(|(key, _)| only.is_none_or(|only| only == *key)) {
            if let Err(error) = reconcile(tenant.clone(), self.context.clone()).await {
                error_policy(tenant.clone(), &error, self.context.clone());
                failed += 1;
            }
        }
        failed
    }
}

fn event<K: DeserializeOwned>(change: &Change) -> Event<K> {
    let object = serde_json::from_value((*change.object).clone()).expect("an object of its kind");
    if change.is_gone { Event::Delete(object) } else { Event::Apply(object) }
}

/// Returns a credential that no other is equal to.
fn credential() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{CREDENTIAL}{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Leads users along the routes that are there.
struct Traefik {
    server: Arc<Mutex<ApiServer>>,
    line: Line,
}

impl Probe for Traefik {
    fn probe<'a>(&'a self, tenant: &'a Tenant) -> BoxFuture<'a, Probed> {
        Box::pin(async move {
            assert_ne!(tenant.id.as_str(), PANICS, "nobody foresaw this");
            let target = Target::Addresses(tenant.id.clone());
            let call = Call { kind: CallKind::Probe, text: format!("probe {}", tenant.id), target };
            let answer = |is_away: bool| {
                let server = lock(&self.server);
                let wrong =
                    tenant.services().filter(|service| is_away || !leads_to_pods(&server, tenant, *service));
                let no_answer = |service| ProbeError::NoAnswer {
                    service,
                    url: tenant.child(service),
                    detail: "no route, no pod, or a fault".to_owned(),
                };
                Probed { wrong: wrong.map(no_answer).collect(), expires_at: None }
            };
            self.line.call(call, |_| answer(false), |_| answer(true)).await
        })
    }
}

fn leads_to_pods(server: &ApiServer, tenant: &Tenant, service: catalog::Service) -> bool {
    let route = server.get(&key("ingressroutes", &tenant.namespace, &tenant.child(service)));
    let target = route.and_then(|route| route.pointer("/spec/routes/0/services/0/name")?.as_str());
    let deployment = target.and_then(|target| server.get(&key(DEPLOYMENTS, &tenant.namespace, target)));
    deployment.is_some_and(|deployment| deployment["status"]["availableReplicas"].as_u64() >= Some(1))
}

/// Returns all that there is, as text that is equal whenever a tenant is the same for its users and administrators.
///
/// Left out are Events, which tell what happened on the way, and pods; of every object its resource version, its UID, its generation,
/// what is said about just this one, and its times; and digests: a quiet pass has compared them. Of a credential
/// counts where else it stands.
fn state(world: &World) -> String {
    state_beside(world, &[])
}

/// Returns the same without the objects of some kinds.
fn state_beside(world: &World, kinds: &[&str]) -> String {
    let is_shown = |kind: &str| kind != "events" && kind != PODS && !kinds.contains(&kind);
    let objects = world.server.objects().filter(|(key, _)| is_shown(&key.0));
    let objects: Vec<_> = objects.map(|(key, object)| format!("{key:?} {:#}", comparable(object))).collect();
    renumbered(&format!("{}\n{:#?}", objects.join("\n"), world.systems))
}

/// Returns the first line in which two texts differ.
fn difference(expected: &str, found: &str) -> Option<String> {
    if expected == found {
        return None;
    }
    let (mut expected, mut found) = (expected.lines(), found.lines());
    // What comes before it says where it is.
    let mut place = "";
    loop {
        match (expected.next(), found.next()) {
            (Some(expected), Some(found)) if expected == found => {
                if expected.starts_with('(') {
                    place = expected;
                }
            }
            (expected, found) => {
                return Some(format!("in {place}\n  expected {expected:?}\n  found    {found:?}"));
            }
        }
    }
}

/// Returns the condition Ready of a tenant whose status is about what is declared now.
fn ready_now(tenant: &Value) -> Option<&Value> {
    let (status, metadata) = (&tenant["status"], &tenant["metadata"]);
    let conditions = status["conditions"].as_array()?;
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
    (status["observedGeneration"] == metadata["generation"]).then_some(ready)
}

fn comparable(object: &Value) -> Value {
    let mut object = object.clone();
    let generation = object["metadata"]["generation"].clone();
    forget(
        &mut object,
        "/metadata",
        &["resourceVersion", "uid", "generation", "creationTimestamp", "deletionTimestamp"],
    );
    forget(&mut object, "/metadata/annotations", &[APPLIED_ANNOTATION]);
    forget(&mut object, "/spec/template/metadata/annotations", &["messenger.posthouse.dev/secrets"]);
    if let Some(status) = object.get_mut("status") {
        forget_generation(status, &generation);
        let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
        conditions.into_iter().flatten().for_each(|condition| forget_generation(condition, &generation));
    }
    for (_, value) in object.get_mut("data").and_then(Value::as_object_mut).into_iter().flatten() {
        let bytes = value.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
        if let Some(text) = bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
            *value = text.into();
        }
    }
    object
}

fn forget(object: &mut Value, place: &str, fields: &[&str]) {
    if let Some(found) = object.pointer_mut(place).and_then(Value::as_object_mut) {
        found.retain(|field, _| !fields.contains(&field.as_str()));
    }
}

/// Forgets which generation something is about that is about the one which is there.
fn forget_generation(status: &mut Value, generation: &Value) {
    if status["observedGeneration"] == *generation {
        forget(status, "", &["observedGeneration"]);
    }
}

/// Numbers credentials in the order in which they stand in a text.
fn renumbered(text: &str) -> String {
    let mut known = Vec::new();
    let mut parts = text.split(CREDENTIAL);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
        let (number, rest) = part.split_at(end);
        let at = known.iter().position(|other| *other == number).unwrap_or_else(|| {
            known.push(number);
            known.len() - 1
        });
        result.push_str(&format!("{CREDENTIAL}#{at}{rest}"));
    }
    result
}

#[test]
fn a_deployment_has_pods_while_it_declares_some() {
    let mut server = ApiServer::default();
    let (deployment, pod) = (key(DEPLOYMENTS, "acme", "acme-chat"), key(PODS, "acme", "acme-chat"));
    let manifest = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "acme-chat"},
        "spec": {"replicas": 2, "template": {"metadata": {"labels": {"app": "chat"}}}}});
    server.create(deployment.clone(), &manifest);
    run_pods(&mut server);
    let labels = server.get(&pod).map(|pod| &pod["metadata"]["labels"]);
    assert_eq!(labels, Some(&json!({"app": "chat"})));

    for (replicas, has_pods) in [(0, false), (0, false), (1, true)] {
        server.edit(&deployment, |found| found["spec"]["replicas"] = replicas.into());
        run_pods(&mut server);
        assert_eq!(server.get(&pod).is_some(), has_pods, "{replicas}");
        let available = &server.get(&deployment).expect("it is there")["status"]["availableReplicas"];
        assert_eq!(*available, replicas);
    }

    server.delete(&deployment);
    run_pods(&mut server);
    assert_eq!(server.get(&pod), None);
}
