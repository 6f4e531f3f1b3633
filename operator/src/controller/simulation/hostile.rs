//! Whatever a team writes into its manifest: names of other tenants, their hosts, objects and credentials, names of the installation and of the cluster, and what breaks out
//! of the place where it stands. The API server refuses it, or every call that is made then stays within the tenant's bounds, and nothing beside it is touched.
//!
//! Each text comes to each place that the schema of the CRD has for one. Fields of services are alike, so in `make test` a text comes to one of them, and in `make fuzz` to all.
//! Texts are declared together where none can keep another from being carried out.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use crds::{MessengerTenant, Reason};
use serde_json::{Value, json};

use super::{
    CELLS, ROUNDS, Run, TENANTS, World,
    api_server::{ApiServer, Key, key},
    bounds::{ALLOWED_DOMAIN, Bounds},
    edits::example,
    is_thorough, play, ready_now,
    schema::{Place, TenantSchema},
};
use crate::{isolation, locks::lock, workload::Workload};

/// The namespace of the tenant in the example that sets every field.
const NAMESPACE: &str = "hooli";
/// Its name.
const NAME: &str = "hooli-chat";
/// The name of another tenant in that namespace.
const BESIDE: &str = "hooli-chat-two";
/// The name, the namespace and the id of a tenant elsewhere.
const ELSEWHERE: &str = "globex";

/// Why a tenant may be as it is although all that it declares was carried out: it does not get a host.
const CARRIED_OUT: [Reason; 3] = [Reason::AllReady, Reason::HostConflict, Reason::HostNotAllowed];

/// Returns what is written in each place.
fn texts() -> Vec<String> {
    let texts = [
        // Another tenant: its namespace, its Services, its hosts, and what backends call its parts and what is in them.
        ELSEWHERE,
        "globex/globex",
        "../globex",
        "globex-compact.globex.svc",
        "globex.localhost",
        "chat.example",
        "https://globex.localhost",
        "https://globex.localhost/hook",
        "http://10.90.0.1:18080/realms/globex",
        "globex.message.send",
        "mt_globex",
        "mt-globex",
        "mt:globex:",
        // One beside it, and what the operator made for that one.
        BESIDE,
        "hooli-chat-two-fcm",
        "hooli-chat-two-kafka",
        // The installation and the cluster.
        "posthouse-system",
        "cell-local-kafka",
        "localhost",
        "10.90.0.1",
        "kube-system",
        "../../kube-system/secrets/admin",
        "system-node-critical",
        "messenger.posthouse.dev/tenant",
        // What ends or extends the expression in which it stands, and what is replaced there.
        "",
        "*",
        "a`) || Host(`globex.localhost",
        "globex,app.kubernetes.io/managed-by!=any",
        "$(KAFKA_PASSWORD)",
        "one\r\ntwo\u{0}\u{1b}[2J",
        // What looks like the name of another tenant.
        "gl\u{43e}bex",
        "globex\u{200b}",
    ];
    let mut texts: Vec<_> = texts.map(str::to_owned).into();
    texts.push("a".repeat(10 * 1024));
    texts
}

/// Returns what a team creates: the example that sets every field, in this topology, and what no example has.
fn of_team(schema: &TenantSchema, topology: &str) -> Vec<(Key, Value)> {
    let mut created = example("full.yaml");
    for (_, object) in created.iter_mut().filter(|(at, _)| at.0 == TENANTS) {
        let spec = &mut object["spec"];
        spec["topology"] = topology.into();
        let env = spec.pointer_mut("/services/gateway/template/env").and_then(Value::as_array_mut);
        env.expect("the example has some").extend([
            json!({"name": "X_KEY", "valueFrom": {"secretKeyRef": {"name": "hooli-agent", "key": "key"}}}),
            json!({"name": "X_SITE", "valueFrom": {"configMapKeyRef": {"name": "hooli-site", "key": "name"}}}),
        ]);
        schema.fill(spec);
    }
    let agent = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "hooli-agent", "annotations": {(crds::ENV_ANNOTATION): NAME}},
        "data": {"key": BASE64_STANDARD.encode("word")}});
    created.push((key("secrets", NAMESPACE, "hooli-agent"), agent));
    created
}

fn tenant_of(created: &[(Key, Value)]) -> &Value {
    let tenant = created.iter().find(|(at, _)| at.0 == TENANTS);
    &tenant.expect("the example has one").1
}

/// Creates the other tenants. That beside the team has a service account of its own at Firebase.
fn create_others(server: &mut ApiServer) {
    let small = |id: &str| {
        json!({"tenantId": id, "cellRef": {"name": "local"}, "topology": "Compact",
            "services": {"presence": {"enabled": false}, "web": {"enabled": false}}})
    };
    let mut elsewhere = small(ELSEWHERE);
    elsewhere["hosts"] = json!(["globex.localhost", "chat.example"]);
    let mut beside = small("initech");
    beside["services"]["notification"] = json!({"enabled": true});
    beside["notifications"] =
        json!({"fcm": {"serviceAccountSecretRef": {"name": "initech-firebase", "key": "account.json"}}});
    for (namespace, name, spec) in [(ELSEWHERE, ELSEWHERE, elsewhere), (NAMESPACE, BESIDE, beside)] {
        let tenant = json!({"apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": "MessengerTenant",
            "metadata": {"name": name, "uid": format!("uid-of-{name}")}, "spec": spec});
        server.create(key(TENANTS, namespace, name), &tenant);
    }
    let (_, firebase) = example("full.yaml")
        .into_iter()
        .find(|(at, _)| at.2 == "hooli-firebase")
        .expect("the example has a service account");
    let account = firebase["data"]["account.json"].as_str().expect("a file");
    let account = String::from_utf8(BASE64_STANDARD.decode(account).expect("Base64")).expect("text");
    let account = account.replace("hooli-example", "initech-example");
    let firebase = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "initech-firebase"},
        "data": {"account.json": BASE64_STANDARD.encode(account)}});
    server.create(key("secrets", NAMESPACE, "initech-firebase"), &firebase);
}

/// Returns a world with the other tenants and with what a team created, in which all tenants are Ready.
async fn world(created: &[(Key, Value)]) -> World {
    let mut world = World::with_cell();
    world.server.edit(&key(CELLS, "", "local"), |cell| {
        cell["spec"]["routing"]["allowedDomains"] = json!([ALLOWED_DOMAIN]);
    });
    create_others(&mut world.server);
    for (at, object) in created {
        world.server.create(at.clone(), object);
    }
    let mut run = Run::start(&world, None);
    let is_ready =
        |tenant: &Value| ready_now(tenant).is_some_and(|ready| ready["reason"] == Reason::AllReady.as_str());
    let ended =
        run.until_quiet(ROUNDS, |server| server.all(TENANTS).all(|(_, tenant)| is_ready(tenant))).await;
    let world = run.world();
    let statuses: Vec<_> =
        world.server.all(TENANTS).map(|(_, tenant)| &tenant["status"]["conditions"]).collect();
    assert!(ended.is_ok(), "not all are Ready: {statuses:#?}");
    world
}

/// A tenant whose calls are judged.
struct Judged<'w> {
    before: &'w World,
    key: Key,
    run: Run,
    bounds: Bounds,
    /// Calls that were judged, or were made for all tenants.
    known: usize,
}

impl<'w> Judged<'w> {
    fn start(before: &'w World, key: Key) -> Self {
        let bounds = Bounds::of(&key, &before.server);
        Self { before, run: Run::start(before, None), bounds, known: 0, key }
    }

    /// Declares a spec. Returns why the tenant is Ready or not once all that it leads to is done.
    async fn declare(&mut self, spec: &Value) -> Result<String, String> {
        lock(&self.run.server).edit(&self.key, |tenant| tenant["spec"] = spec.clone());
        self.bounds.declare(spec);
        self.rests().await
    }

    async fn rests(&mut self) -> Result<String, String> {
        let key = self.key.clone();
        self.goes_on(|server| server.get(&key).and_then(ready_now).is_some()).await?;
        let server = lock(&self.run.server);
        let ready = server.get(&self.key).and_then(ready_now).expect("it rests");
        Ok(ready["reason"].as_str().unwrap_or_default().to_owned())
    }

    async fn is_deleted(&mut self) -> Result<(), String> {
        lock(&self.run.server).delete(&self.key);
        let key = self.key.clone();
        self.goes_on(|server| server.get(&key).is_none()).await
    }

    /// Goes on until nothing is written any more, and judges each call. Then all tenants have a pass, and what is not this one's is as it was.
    async fn goes_on(&mut self, is_over: impl Fn(&ApiServer) -> bool) -> Result<(), String> {
        self.run.only = Some(self.key.clone());
        let ended = self.run.until_quiet(ROUNDS, is_over).await;
        let calls = self.run.line.calls_since(self.known);
        if let Some(left) = calls.iter().find_map(|call| self.bounds.left_by(call)) {
            return Err(left);
        }
        if ended.is_err() {
            let server = lock(&self.run.server);
            let status = server.get(&self.key).map(|tenant| &tenant["status"]);
            return Err(format!("it does not come to rest: {status:#?}"));
        }
        self.run.only = None;
        self.run.round().await;
        self.known += self.run.line.calls_since(self.known).len();
        let (server, systems) = (lock(&self.run.server), lock(&self.run.systems));
        match self.bounds.touched(self.before, &server, &systems) {
            Some(touched) => Err(format!("{touched} is another one")),
            None => Ok(()),
        }
    }
}

/// What is declared at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// A pass refuses each of them, and with it all that the manifest says.
    RefusedByPass,
    /// Secrets that are copied or sent: as long as one cannot be used, pods stay as they are.
    Copied,
    /// Secrets in the environment of pods, likewise.
    Lent,
    /// Keys of such Secrets, likewise.
    Keys,
    /// Servers to which such Secrets consent, likewise.
    Urls,
    /// None of them keeps anything from being carried out.
    Others,
}

/// A text in its place.
#[derive(Clone, Copy)]
struct Written<'a> {
    place: &'a Place<'a>,
    text: &'a str,
}

impl Written<'_> {
    /// Writes it into a manifest. A Secret that is there is named with a key that it has: one that is refused for want of a key proves nothing.
    fn put(&self, manifest: &mut Value, server: &ApiServer) {
        self.place.put(manifest, self.text);
        if !self.place.path.ends_with("Ref.name") {
            return;
        }
        let secret = server.get(&key("secrets", NAMESPACE, self.text));
        let known = secret.and_then(|secret| secret["data"].as_object()?.keys().next().cloned());
        if let (Some(known), Some(beside)) = (known, self.place.beside(manifest)) {
            beside["key"] = known.into();
        }
    }

    /// Returns what it is declared with, or nothing where the API server refuses it as an edit of `before`, a manifest with little else.
    fn class(&self, schema: &TenantSchema, before: &Value) -> Option<Class> {
        let mut after = before.clone();
        self.place.put(&mut after, self.text);
        schema.check(Some(before), &after).ok()?;
        let resource: MessengerTenant = serde_json::from_value(after).expect("it was checked");
        let ends = |end: &str| self.place.path.ends_with(end);
        Some(if isolation::check(&Workload::of(&resource.spec)).is_err() {
            Class::RefusedByPass
        } else if ends("Ref.key") {
            Class::Keys
        } else if ends("secretKeyRef.name") {
            Class::Lent
        } else if ends("SecretRef.name") {
            Class::Copied
        } else if ends(".url") {
            Class::Urls
        } else {
            Class::Others
        })
    }
}

/// Returns the name of a place that it shares with those of other services.
fn shared_path<'p>(place: &'p Place<'_>) -> Option<&'p str> {
    place.path.strip_prefix("spec.services.")?.split_once('.').map(|(_, path)| path)
}

/// Returns a manifest that has little else than what is in a place.
fn little(schema: &TenantSchema, manifest: &Value, place: &Place<'_>) -> Value {
    let mut little = schema.about(manifest, place);
    little["spec"]["topology"] = manifest["spec"]["topology"].clone();
    little
}

/// Returns all texts in places that the API server lets through, as they are declared. `groups` are places that are alike.
fn written<'a>(
    schema: &TenantSchema,
    manifest: &Value,
    groups: &BTreeMap<&str, Vec<&'a Place<'a>>>,
    texts: &'a [String],
) -> BTreeMap<(Class, usize), Vec<Written<'a>>> {
    let mut taken = BTreeMap::new();
    let mut declared = BTreeMap::<_, Vec<_>>::new();
    for places in groups.values() {
        let first = places[0];
        let before = little(schema, manifest, first);
        let refused = schema.check(None, &before);
        assert!(refused.is_ok(), "{}: what the example has is refused: {refused:?}", first.path);
        let taken = taken.entry(first.kind()).or_insert_with(|| first.taken(texts));
        let mut of_class = BTreeMap::<_, Vec<_>>::new();
        for text in taken.iter().copied() {
            if let Some(class) = (Written { place: first, text }).class(schema, &before) {
                of_class.entry(class).or_default().push(text);
            }
        }
        let turns = if is_thorough() { places.len() } else { 1 };
        for (class, texts) in of_class {
            for (number, text) in texts.iter().copied().enumerate() {
                for turn in 0..turns {
                    let place = places[(number + turn) % places.len()];
                    let together = number / places.len() * turns + turn;
                    declared.entry((class, together)).or_default().push(Written { place, text });
                }
            }
        }
    }
    declared
}

/// Declares texts together, and those that a pass refused unexpectedly once more in smaller parts. Returns how many edits that took.
async fn declare(
    judged: &mut Judged<'_>,
    manifest: &Value,
    class: Class,
    texts: Vec<Written<'_>>,
) -> Result<usize, String> {
    let (mut waiting, mut edits) = (vec![texts], 0);
    while let Some(mut texts) = waiting.pop() {
        let mut edited = manifest.clone();
        // A text in a map is found by the key that is there before.
        texts.sort_by_key(|written| written.place.is_key());
        for written in &texts {
            written.put(&mut edited, &judged.before.server);
        }
        let reason = judged.declare(&edited["spec"]).await.map_err(|problem| {
            let lines = texts.iter().map(|Written { place, text }| format!("{}: {text:?}", place.path));
            format!("{problem}\nwith {}", lines.collect::<Vec<_>>().join("\n     "))
        })?;
        edits += 1;
        let is_carried_out = CARRIED_OUT.iter().any(|known| known.as_str() == reason);
        if class == Class::Others && !is_carried_out && texts.len() > 1 {
            let others = texts.split_off(texts.len() / 2);
            waiting.extend([texts, others]);
        }
    }
    Ok(edits)
}

/// Writes each text into each place: in one topology into those of services, in the other one into all others.
async fn write_everywhere(topology: &str) {
    let schema = TenantSchema::new();
    let (created, texts) = (of_team(&schema, topology), texts());
    let manifest = tenant_of(&created);
    let places = schema.places(manifest);
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for place in &places {
        match (topology, shared_path(place)) {
            ("Distributed", Some(path)) => groups.entry(path).or_default().push(place),
            ("Compact", None) => groups.entry(place.path.as_str()).or_default().push(place),
            _ => {}
        }
    }
    let declared = written(&schema, manifest, &groups, &texts);
    let count: usize = declared.values().map(Vec::len).sum();
    let base = world(&created).await;
    let mut judged = Judged::start(&base, key(TENANTS, NAMESPACE, NAME));
    let mut edits = 0;
    for ((class, _), texts) in declared {
        let done = declare(&mut judged, manifest, class, texts).await;
        edits += done.unwrap_or_else(|problem| panic!("{problem}"));
    }
    judged.is_deleted().await.unwrap_or_else(|problem| panic!("{problem}"));
    println!("{topology}: {count} texts in {} places, {edits} edits, {} calls", groups.len(), judged.known);
    assert!(count > groups.len(), "the API server refuses all but {count} texts");
}

#[test]
fn no_text_in_a_manifest_leads_a_pass_out_of_the_bounds_of_its_tenant() {
    play(async || write_everywhere("Compact").await);
}

#[test]
fn no_text_for_a_service_leads_a_pass_out_of_the_bounds_of_its_tenant() {
    play(async || write_everywhere("Distributed").await);
}

/// Reports whether the API server takes a text as the name of a resource.
fn is_name(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().zip(text.bytes().last());
    text.len() <= 253
        && text.bytes().all(|byte| is_inner(byte) || b"-.".contains(&byte))
        && ends.is_some_and(|(first, last)| is_inner(first) && is_inner(last))
}

/// Creates a tenant and deletes it again. Returns why it was Ready or not.
async fn comes_and_goes(base: &World, manifest: &Value) -> Result<String, String> {
    let key = key(TENANTS, NAMESPACE, manifest["metadata"]["name"].as_str().expect("it has one"));
    let mut world = base.clone();
    world.server.create(key.clone(), manifest);
    let mut judged = Judged::start(&world, key);
    let reason = judged.rests().await?;
    judged.is_deleted().await?;
    Ok(reason)
}

#[test]
fn a_tenant_stays_within_its_bounds_whatever_it_is_called_and_names_for_good() {
    play(async || {
        let schema = TenantSchema::new();
        let (created, texts) = (of_team(&schema, "Compact"), texts());
        let manifest = tenant_of(&created);
        let secrets: Vec<_> = created.iter().filter(|(at, _)| at.0 == "secrets").cloned().collect();
        let base = world(&secrets).await;
        let places = schema.places(manifest);
        let mut tenants = Vec::new();
        // What cannot be edited comes with a new tenant.
        for place in places.iter().filter(|place| place.is_lasting) {
            let before = little(&schema, manifest, place);
            for text in place.taken(&texts) {
                let mut after = before.clone();
                place.put(&mut after, text);
                if schema.check(Some(&before), &after).is_err() && schema.check(None, &after).is_ok() {
                    tenants.push((format!("{}: {text}", place.path), after));
                }
            }
        }
        let id = places.iter().find(|place| place.path == "spec.tenantId").expect("it is a text");
        for text in texts.iter().filter(|text| is_name(text)) {
            let mut named = little(&schema, manifest, id);
            named["metadata"]["name"] = text.as_str().into();
            let is_free = base.server.get(&key(TENANTS, NAMESPACE, text)).is_none();
            if is_free && schema.check(None, &named).is_ok() {
                tenants.push((format!("metadata.name: {text}"), named));
            }
        }
        let mut reasons = BTreeMap::<_, usize>::new();
        for (what, tenant) in &tenants {
            let reason = comes_and_goes(&base, tenant).await;
            *reasons.entry(reason.unwrap_or_else(|problem| panic!("{problem}\nwith {what}"))).or_default() +=
                1;
        }
        println!("{} tenants: {reasons:?}", tenants.len());
        for reason in [Reason::AllReady, Reason::CellNotFound, Reason::ResourceConflict] {
            assert!(reasons.contains_key(reason.as_str()), "none was {reason:?}: {reasons:?}");
        }
    });
}
