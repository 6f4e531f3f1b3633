//! Whatever fails, and whenever: everything ends as it would have without it. A story runs once in peace; then it runs again
//! with faults of its calls, one in each run, and for watches that lag in each of its rounds.

use crds::{MessengerTenant, Reason};
use kube::{ResourceExt, core::DynamicObject};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    DEPLOYMENTS, PODS, ROUNDS, Run, TENANTS, World,
    api_server::{ApiServer, key},
    difference, is_thorough,
    line::{Call, Fault},
    play, ready_now, state, systems,
};
use crate::{
    backend::{Login, Mode, Owner, Pool, Target},
    desired::{Kind, Object},
    leader::Fence,
    locks::lock,
    metrics::Metrics,
    rendered::testing::{cell_resource, example},
    tenant::Cell,
};

/// Rounds that one fault may cost.
const MORE_ROUNDS: usize = 8;
/// Rounds for which watches lag.
const LAG: usize = 2;
/// Where users find the tenant of most stories.
const HOST: &str = "acme.localhost";

/// Of all faults of all calls, every so many are made. It divides no number of faults that a call has, so that each kind comes to every kind of call.
const STEP: usize = 7;

/// What users do at a point, and how they see that it is done.
struct Story {
    name: &'static str,
    /// Right after what users did.
    start: World,
    is_over: fn(&ApiServer) -> bool,
    /// The host that a client asks the waker for, until the end of the story and beyond.
    asked_for: Option<&'static str>,
}

impl Story {
    fn new(
        name: &'static str,
        start: &World,
        edit: fn(&mut ApiServer),
        is_over: fn(&ApiServer) -> bool,
    ) -> Self {
        let mut start = start.clone();
        edit(&mut start.server);
        Self { name, start, is_over, asked_for: None }
    }

    fn run(&self, fault: Option<(usize, Fault)>) -> Run {
        Run { asked_for: self.asked_for, ..Run::start(&self.start, fault) }
    }

    /// Runs the story in peace. Returns its run, and how many rounds it took.
    async fn in_peace(&self) -> (Run, usize) {
        let mut run = self.run(None);
        let ended = run.until_quiet(ROUNDS, self.is_over).await;
        let rounds = ended.unwrap_or_else(|problem| panic!("{}: {problem}", self.name));
        (run, rounds)
    }

    /// Runs the story with the faults that there can be, each of them by itself. Returns how things are then, which is the same after each.
    async fn survives_every_fault(&self) -> World {
        let (calm, rounds) = self.in_peace().await;
        let calls = calm.line.calls();
        let expected = state(&calm.world());

        let faults_of = |(number, call): (usize, &Call)| {
            let (faults, text) = (call.kind.faults(), call.text.clone());
            faults.iter().map(move |fault| (number, text.clone(), *fault))
        };
        let faults: Vec<_> = calls.iter().enumerate().flat_map(faults_of).collect();
        let step = if is_thorough() { 1 } else { STEP };
        let mut runs = Vec::new();
        for (number, text, fault) in faults.into_iter().step_by(step) {
            let mut run = self.run(Some((number, fault)));
            let ended = self.ends_as(&expected, &mut run, rounds).await;
            let ended = match ended {
                Ok(()) if text.contains(" events ") && run.failed > calm.failed => {
                    Err("an Event failed a pass".to_owned())
                }
                ended => ended,
            };
            runs.push((format!("call {number} ({text}) {fault:?}"), ended));
        }
        for round in 0..rounds {
            let mut run = self.run(None);
            run.lagging = round..round + LAG;
            runs.push((
                format!("the watches lag in round {round}"),
                self.ends_as(&expected, &mut run, rounds).await,
            ));
        }
        let count = runs.len();
        let wrong = runs.into_iter().filter_map(|(run, ended)| Some(format!("{run}: {}", ended.err()?)));
        let wrong: Vec<_> = wrong.collect();
        println!("{}: {count} runs, {} calls and {rounds} rounds in peace", self.name, calls.len());
        assert!(wrong.is_empty(), "{}: {} of {count} runs:\n{}", self.name, wrong.len(), wrong.join("\n"));
        calm.world()
    }

    async fn ends_as(&self, expected: &str, run: &mut Run, rounds: usize) -> Result<(), String> {
        run.until_quiet(rounds + MORE_ROUNDS, self.is_over).await?;
        if let Some(difference) = difference(expected, &state(&run.world())) {
            return Err(difference);
        }
        run.stays_quiet().await
    }
}

fn acme() -> super::Key {
    key(TENANTS, "acme", "acme")
}

/// Creates a tenant that is small: one pod, and no service that it can do without.
fn create(server: &mut ApiServer, id: &str, uid: &str, policy: &str) {
    let manifest = json!({
        "apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": "MessengerTenant",
        "metadata": {"name": id, "uid": uid},
        "spec": {"tenantId": id, "cellRef": {"name": "local"}, "topology": "Compact", "deletionPolicy": policy,
            "services": {"presence": {"enabled": false}, "web": {"enabled": false}}},
    });
    server.create(key(TENANTS, id, id), &manifest);
}

fn edit_spec(server: &mut ApiServer, edit: impl FnOnce(&mut Value)) {
    server.edit(&acme(), |tenant| edit(&mut tenant["spec"]));
}

/// Reports whether the status says something of what is declared now.
fn says(tenant: &Value, status: &str, reason: &str) -> bool {
    ready_now(tenant).is_some_and(|ready| ready["status"] == status && ready["reason"] == reason)
}

fn is_ready(server: &ApiServer) -> bool {
    server.get(&acme()).is_some_and(|tenant| says(tenant, "True", "AllReady"))
}

/// Returns how many pods the Deployment of the tenant declares, and whether there is an autoscaler.
fn scale(world: &World) -> (Option<i64>, bool) {
    let of = |kind: &str| world.server.get(&key(kind, "acme", "acme-compact"));
    let deployment = of("deployments").expect("it is there");
    (deployment["spec"]["replicas"].as_i64(), of("horizontalpodautoscalers").is_some())
}

fn is_paused(server: &ApiServer) -> bool {
    server.get(&acme()).is_some_and(|tenant| says(tenant, "False", "Paused"))
}

fn is_suspended(server: &ApiServer) -> bool {
    let is_told = server.get(&acme()).is_some_and(|tenant| says(tenant, "False", "Suspended"));
    is_told && server.all(PODS).next().is_none()
}

fn suspend(server: &mut ApiServer) {
    edit_spec(server, |spec| spec["suspended"] = true.into());
}

/// Has the tenant sleep until a request wakes it.
fn put_to_sleep(server: &mut ApiServer) {
    edit_spec(server, |spec| {
        spec["suspended"] = true.into();
        spec["wakeOnConnect"] = json!({});
    });
}

fn distribute(server: &mut ApiServer) {
    edit_spec(server, |spec| spec["topology"] = "Distributed".into());
}

fn delete(server: &mut ApiServer) {
    server.delete(&acme());
}

fn is_gone(server: &ApiServer) -> bool {
    server.get(&acme()).is_none()
}

/// Returns the story with which the others begin.
fn creation() -> Story {
    let create = |server: &mut ApiServer| create(server, "acme", "uid-of-acme", "Delete");
    Story::new("create", &World::with_cell(), create, is_ready)
}

/// Returns a world with a tenant that is Ready.
async fn with_tenant() -> World {
    let (run, _) = creation().in_peace().await;
    run.world()
}

/// Returns one with a tenant whose services have pods of their own.
async fn with_distributed_tenant() -> World {
    let story = Story::new("distribute", &with_tenant().await, distribute, is_ready);
    story.in_peace().await.0.world()
}

#[test]
fn a_tenant_is_created_whatever_fails() {
    play(async || {
        creation().survives_every_fault().await;
    });
}

#[test]
fn an_edit_is_carried_out_whatever_fails() {
    play(async || {
        let edit = |server: &mut ApiServer| {
            edit_spec(server, |spec| {
                spec["kafka"] = json!({"retention": "24h"});
                spec["routing"] = json!({"rateLimit": {"average": 20, "burst": 50}});
                spec["services"]["media"] = json!({"enabled": true});
            });
        };
        let edited = Story::new("edit", &with_tenant().await, edit, is_ready).survives_every_fault().await;
        let undo = |server: &mut ApiServer| {
            edit_spec(server, |spec| spec["services"]["media"] = json!({"enabled": false}));
        };
        Story::new("switch a service off", &edited, undo, is_ready).survives_every_fault().await;
    });
}

#[test]
fn a_paused_tenant_is_left_alone_and_goes_on_whatever_fails() {
    play(async || {
        let pause = |server: &mut ApiServer| {
            edit_spec(server, |spec| {
                spec["paused"] = true.into();
                spec["kafka"] = json!({"retention": "24h"});
            });
        };
        let start = with_tenant().await;
        let paused = Story::new("pause", &start, pause, is_paused).survives_every_fault().await;
        assert_eq!(
            format!("{:?}", paused.systems),
            format!("{:?}", start.systems),
            "nothing is written there"
        );
        let resume = |server: &mut ApiServer| edit_spec(server, |spec| spec["paused"] = false.into());
        Story::new("resume", &paused, resume, is_ready).survives_every_fault().await;
    });
}

#[test]
fn a_tenant_changes_its_topology_and_back_whatever_fails() {
    play(async || {
        let distributed = Story::new("distribute", &with_tenant().await, distribute, is_ready);
        let distributed = distributed.survives_every_fault().await;
        let compact = |server: &mut ApiServer| edit_spec(server, |spec| spec["topology"] = "Compact".into());
        Story::new("compact", &distributed, compact, is_ready).survives_every_fault().await;
    });
}

#[test]
fn a_tenant_is_suspended_whatever_fails() {
    play(async || {
        let start = with_distributed_tenant().await;
        let suspended = Story::new("suspend", &start, suspend, is_suspended).survives_every_fault().await;
        assert_eq!(
            format!("{:?}", suspended.systems),
            format!("{:?}", start.systems),
            "all but its pods is kept"
        );
    });
}

#[test]
fn a_suspended_tenant_goes_on_as_it_was_whatever_fails() {
    play(async || {
        let start = with_distributed_tenant().await;
        let suspended = Story::new("suspend", &start, suspend, is_suspended).in_peace().await.0.world();
        let go_on = |server: &mut ApiServer| {
            edit_spec(server, |spec| _ = spec.as_object_mut().expect("an object").remove("suspended"));
        };
        let gone_on = Story::new("go on", &suspended, go_on, is_ready).survives_every_fault().await;
        assert_eq!(difference(&state(&start), &state(&gone_on)), None);
    });
}

#[test]
fn a_suspended_tenant_is_deleted_whatever_fails() {
    play(async || {
        let start = with_tenant().await;
        let suspended = Story::new("suspend", &start, suspend, is_suspended).in_peace().await.0.world();
        let story = Story::new("delete what is suspended", &suspended, delete, is_gone);
        assert_nothing_is_left(&story.survives_every_fault().await);
    });
}

#[test]
fn a_suspension_that_is_taken_back_before_its_end_is_no_edit_of_another_client() {
    play(async || {
        let mut run = Run::start(&with_tenant().await, None);
        let replicas = |server: &ApiServer| {
            let deployment = server.get(&key(DEPLOYMENTS, "acme", "acme-compact")).expect("it is there");
            deployment["spec"]["replicas"].clone()
        };
        // As often as it takes until a field that another client changes is left to it.
        for _ in 0..3 {
            suspend(&mut lock(&run.server));
            run.round().await;
            assert_eq!(replicas(&lock(&run.server)), 0, "that is all that was done");
            edit_spec(&mut lock(&run.server), |spec| spec["suspended"] = false.into());
            run.until_quiet(ROUNDS, is_ready).await.unwrap_or_else(|problem| panic!("{problem}"));
        }
        let server = lock(&run.server);
        assert_eq!(replicas(&server), 1);
        let told: Vec<_> = server.all("events").map(|(_, event)| &event["reason"]).collect();
        assert!(!told.iter().any(|reason| *reason == Reason::DriftRepaired.as_str()), "{told:?}");
    });
}

#[test]
fn a_request_wakes_a_tenant_whatever_fails() {
    play(async || {
        let start = with_tenant().await;
        let asleep = Story::new("sleep", &start, put_to_sleep, is_suspended).in_peace().await.0.world();
        let wake = Story::new("wake", &asleep, |_| {}, is_ready);
        let awake = Story { asked_for: Some(HOST), ..wake }.survives_every_fault().await;
        let tenant = awake.server.get(&acme()).expect("it is there");
        assert_eq!(tenant["spec"]["suspended"], true, "the manifest is its owner's");
        assert!(tenant["status"]["wake"]["requestedAt"].is_string(), "{:#}", tenant["status"]);

        // The next operator finds it awake, whether it is asked for or not.
        let (next, _) = Story::new("stay awake", &awake, |_| {}, is_ready).in_peace().await;
        assert_eq!(difference(&state(&awake), &state(&next.world())), None);
        let forbid = |server: &mut ApiServer| {
            edit_spec(server, |spec| _ = spec.as_object_mut().expect("an object").remove("wakeOnConnect"));
        };
        let story = Story::new("sleep for good", &awake, forbid, is_suspended);
        let suspended = Story { asked_for: Some(HOST), ..story }.survives_every_fault().await;
        let tenant = suspended.server.get(&acme()).expect("it is there");
        assert!(tenant["status"]["wake"].is_null(), "{:#}", tenant["status"]);
    });
}

#[test]
fn a_request_from_before_a_pause_wakes_no_tenant_after_it() {
    play(async || {
        let start = with_tenant().await;
        let (mut run, _) = Story::new("sleep", &start, put_to_sleep, is_suspended).in_peace().await;
        run.process.context.waker.answer(Some(HOST), Instant::now());
        let steps = [(true, is_paused as fn(&ApiServer) -> bool), (false, is_suspended)];
        for (paused, is_over) in steps {
            edit_spec(&mut lock(&run.server), |spec| spec["paused"] = paused.into());
            run.until_quiet(ROUNDS, is_over).await.unwrap_or_else(|problem| panic!("{paused}: {problem}"));
        }
        let world = run.world();
        let tenant = world.server.get(&acme()).expect("it is there");
        assert!(tenant["status"]["wake"].is_null(), "{:#}", tenant["status"]);
    });
}

#[test]
fn a_request_that_comes_while_pods_end_is_no_edit_of_another_client() {
    play(async || {
        let start = with_distributed_tenant().await;
        for rounds_before in 0..5 {
            let mut run = Run::start(&start, None);
            put_to_sleep(&mut lock(&run.server));
            for _ in 0..rounds_before {
                run.round().await;
            }
            run.asked_for = Some(HOST);
            run.until_quiet(ROUNDS, is_ready).await.unwrap_or_else(|problem| panic!("{problem}"));
            let server = lock(&run.server);
            let mut deployments = server.all(DEPLOYMENTS);
            assert!(deployments.all(|(_, object)| object["spec"]["replicas"] == 1), "{rounds_before}");
            let told: Vec<_> = server.all("events").map(|(_, event)| &event["reason"]).collect();
            assert!(told.iter().any(|reason| *reason == Reason::Woken.as_str()), "{told:?}");
            assert!(!told.iter().any(|reason| *reason == Reason::DriftRepaired.as_str()), "{told:?}");
        }
    });
}

#[test]
fn what_the_watches_show_from_before_pods_were_ended_is_not_relied_on() {
    play(async || {
        let mut run = Run::start(&with_tenant().await, None);
        run.until_quiet(ROUNDS, is_ready).await.unwrap_or_else(|problem| panic!("{problem}"));
        let is_shown = |run: &Run| {
            let tenant = lock(&run.server).get(&acme()).expect("it is there").clone();
            let tenant: MessengerTenant = serde_json::from_value(tenant).expect("a tenant");
            run.process.context.watched_children(&tenant).is_some()
        };
        assert!(is_shown(&run), "all is as the last pass left it");
        suspend(&mut lock(&run.server));
        run.round().await;
        assert!(!is_shown(&run), "a Deployment was changed");
    });
}

#[test]
fn an_autoscaler_takes_over_and_goes_again_whatever_fails() {
    play(async || {
        let switch_on = |server: &mut ApiServer| {
            edit_spec(server, |spec| {
                spec["compact"] = json!({"replicas": 4, "autoscaling": {"minReplicas": 2, "maxReplicas": 5},
                    "template": {"labels": {"team": "messaging"}, "nodeSelector": {"pool": "messengers"}}});
            });
        };
        let on = Story::new("scale", &with_tenant().await, switch_on, is_ready).survives_every_fault().await;
        assert_eq!(scale(&on), (Some(2), true));

        // There is load, and the tenant changes in other ways: its pods stay as many.
        let template = |server: &mut ApiServer| {
            let deployment = key("deployments", "acme", "acme-compact");
            server.edit(&deployment, |found| found["spec"]["replicas"] = 5.into());
            edit_spec(server, |spec| {
                spec["compact"]["template"] = json!({"priorityClassName": "messengers"})
            });
        };
        let grown = Story::new("other template", &on, template, is_ready).survives_every_fault().await;
        assert_eq!(scale(&grown), (Some(5), true));

        let switch_off =
            |server: &mut ApiServer| edit_spec(server, |spec| spec["compact"] = json!({"replicas": 4}));
        let off = Story::new("scale no more", &grown, switch_off, is_ready).survives_every_fault().await;
        assert_eq!(scale(&off), (Some(4), false));

        // What the spec had before stays when an autoscaler comes again.
        let again = |server: &mut ApiServer| {
            edit_spec(server, |spec| spec["compact"] = json!({"autoscaling": {"maxReplicas": 5}}));
        };
        let (run, _) = Story::new("scale again", &off, again, is_ready).in_peace().await;
        assert_eq!(scale(&run.world()), (Some(4), true));
    });
}

#[test]
fn a_suspended_tenant_has_the_least_pods_of_its_autoscaler_when_it_goes_on_whatever_fails() {
    play(async || {
        let mut start = with_tenant().await;
        edit_spec(&mut start.server, |spec| {
            spec["compact"] = json!({"autoscaling": {"minReplicas": 2, "maxReplicas": 5}});
        });
        let suspended = Story::new("suspend", &start, suspend, is_suspended).survives_every_fault().await;
        assert_eq!(scale(&suspended), (Some(0), true));
        let go_on = |server: &mut ApiServer| edit_spec(server, |spec| spec["suspended"] = false.into());
        let on = Story::new("go on", &suspended, go_on, is_ready).survives_every_fault().await;
        assert_eq!(scale(&on), (Some(2), true));
    });
}

#[test]
fn a_deleted_tenant_leaves_nothing_whatever_fails() {
    play(async || {
        let story = Story::new("delete", &with_tenant().await, delete, is_gone);
        assert_nothing_is_left(&story.survives_every_fault().await);
    });
}

/// Checks that a tenant has left nothing but its Events.
fn assert_nothing_is_left(world: &World) {
    assert!(world.systems.parts.is_empty(), "{:#?}", world.systems.parts);
    let is_left = |(_, namespace, name): &super::Key| namespace == "acme" && !name.starts_with("acme.");
    let left: Vec<_> = world.server.objects().filter(|(key, _)| is_left(key)).map(|(key, _)| key).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_retained_tenant_is_taken_up_again_whatever_fails() {
    play(async || {
        let start = with_tenant().await;
        let delete = |server: &mut ApiServer| {
            edit_spec(server, |spec| spec["deletionPolicy"] = "Retain".into());
            server.delete(&acme());
        };
        let retained = Story::new("retain", &start, delete, is_gone).survives_every_fault().await;
        assert_eq!(retained.systems.parts.len(), start.systems.parts.len());
        let again = |server: &mut ApiServer| create(server, "acme", "uid-of-the-next", "Delete");
        Story::new("take up again", &retained, again, is_ready).survives_every_fault().await;
    });
}

#[test]
fn a_panic_is_one_tenants_condition_and_nobody_elses() {
    play(async || {
        let mut world = World::with_cell();
        create(&mut world.server, super::PANICS, "uid-of-panics", "Delete");
        create(&mut world.server, "acme", "uid-of-acme", "Delete");
        let mut run = Run::start(&world, None);
        let panics = key(TENANTS, super::PANICS, super::PANICS);
        let is_said =
            |server: &ApiServer| server.get(&panics).is_some_and(|it| says(it, "False", "InternalError"));
        for _ in 0..ROUNDS {
            run.round().await;
            let server = run.world().server;
            if is_ready(&server) && is_said(&server) {
                break;
            }
        }
        let server = lock(&run.server);
        assert!(is_ready(&server), "{:#}", server.get(&acme()).expect("it is there"));
        let tenant = server.get(&panics).expect("it is there");
        assert!(is_said(&server), "{tenant:#}");
        let text = tenant["status"].to_string();
        assert!(text.contains("nobody foresaw this; report it, with the operator's log"), "{text}");
    });
}

#[test]
fn what_took_the_place_of_an_object_is_not_written() {
    play(async || {
        let run = Run::start(&with_tenant().await, None);
        let name = "acme-compact".to_owned();
        let service = key("services", "acme", &name);
        let manifest = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "acme"},
            "spec": {"selector": {"app": "another"}}});
        let (ours, theirs): (DynamicObject, _) = {
            let mut server = lock(&run.server);
            let ours = server.get(&service).expect("it is there").clone();
            server.delete(&service);
            (serde_json::from_value(ours).expect("an object"), server.create(service.clone(), &manifest))
        };
        let writer = &run.process.context.writer;
        let object = Object { kind: Kind::Service, name: name.clone(), manifest };
        let applied = writer.apply("acme", &object, Some(&ours)).await;
        assert!(applied.is_err_and(|error| error.is_stale()));
        let deleted = writer.delete("acme", Kind::Service, &name, ours.uid()).await;
        assert!(deleted.is_err_and(|error| error.is_stale()));
        assert_eq!(lock(&run.server).get(&service), Some(&*theirs));
    });
}

#[test]
fn behind_a_closed_fence_nothing_counts_as_done() {
    play(async || {
        let run = Run::start(&World::with_cell(), None);
        let cell = Cell::new(&cell_resource()).expect("a valid cell");
        let tenant = example("acme.yaml", |_| {});
        let (pool, login) = (Pool::default(), Login::none());
        let (closed, metrics) = (Fence::default(), Metrics::default());
        let target = Target { cell: &cell, login: &login, pool: &pool, fence: &closed, metrics: &metrics };
        for backend in systems::ALL.iter().filter(|backend| backend.is_of(&cell)) {
            let password = SecretString::from("secret");
            let settled = backend.settle(target, &tenant, &password, Mode::Apply).await;
            assert!(settled.is_err_and(|error| error.is_retryable()), "{}", backend.entry());
            let policy = crds::DeletionPolicy::Delete;
            let cleaned = backend.clean_up(target, &tenant.id, Owner::of(&tenant), policy).await;
            assert!(cleaned.is_err_and(|error| error.is_retryable()), "{}", backend.entry());
        }
        assert_eq!(run.line.writes(), 0);
    });
}
