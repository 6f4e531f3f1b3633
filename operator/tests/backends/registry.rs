//! The schema registry: Apicurio, and a stand-in that does as Confluent's documentation says where Apicurio differs, and wants an
//! account.

use std::{collections::BTreeMap, marker::PhantomData, sync::Mutex};

use catalog::Topic;
use crds::{Reason, TenantId};
use operator::{
    backend::{
        Backend, Claim, Credentials, DataExpected, Marker, Mode, Owner, Settled,
        registry::{COMPATIBILITY, RegistryAdmin, RegistryDesired, owner_subject, subject},
        settle,
    },
    leader::Fence,
    metrics::Metrics,
};
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{
    assert_reason,
    conformance::{Fixture, suite},
    converge, env, owner, story, tenant_id,
};

mod fake;

/// One registry.
pub trait Registry: 'static {
    /// Where the API begins at its address.
    const PATH: &'static str;

    fn address() -> String;

    fn account() -> Option<Credentials>;
}

pub struct Apicurio;

impl Registry for Apicurio {
    const PATH: &'static str = "/apis/ccompat/v7";

    fn address() -> String {
        env("REGISTRY_ADDRESS")
    }

    fn account() -> Option<Credentials> {
        None
    }
}

pub struct Fake;

impl Registry for Fake {
    const PATH: &'static str = "";

    fn address() -> String {
        fake::address()
    }

    fn account() -> Option<Credentials> {
        Some(Credentials::new(fake::USERNAME, fake::PASSWORD))
    }
}

/// Sends a request without the operator.
async fn by_hand<R: Registry>(method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    let url = format!("http://{}{}/{path}", R::address(), R::PATH);
    let mut request = reqwest::Client::new().request(method, url);
    if let Some(Credentials { username, password }) = R::account() {
        request = request.basic_auth(username, Some(password.expose_secret()));
    }
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let answer = request.send().await.unwrap_or_else(|error| {
        panic!("{error}: the suite needs the registry, which `make up-backends WITH=registry` starts")
    });
    let status = answer.status();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
}

/// Registers a schema without the operator.
async fn register<R: Registry>(subject: &str, schema: &Value) {
    let body = json!({"schemaType": "JSON", "schema": schema.to_string()});
    let path = format!("subjects/{subject}/versions");
    let (status, answer) = by_hand::<R>(Method::POST, &path, Some(body)).await;
    assert!(status.is_success(), "{status} {answer}");
}

async fn delete<R: Registry>(subject: &str) {
    for path in [format!("subjects/{subject}"), format!("subjects/{subject}?permanent=true")] {
        by_hand::<R>(Method::DELETE, &path, None).await;
    }
}

/// Returns a schema that no topic has.
fn other_schema(kind: &str) -> Value {
    json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": kind, "title": "by hand"})
}

/// How often what a tenant has there was used, by tenant id: a reader leaves nothing in a registry.
static READS: Mutex<BTreeMap<String, i64>> = Mutex::new(BTreeMap::new());

pub struct At<R>(PhantomData<R>);

impl<R: Registry> Fixture for At<R> {
    type Backend = RegistryAdmin;

    const HAS_ACCOUNT: bool = false;

    fn address() -> String {
        R::address()
    }

    fn account() -> Credentials {
        R::account().unwrap_or_else(|| Credentials::new("", ""))
    }

    fn connect(address: &str, account: Credentials) -> RegistryAdmin {
        let account = R::account().map(|_| account);
        RegistryAdmin::new(&format!("http://{address}{}", R::PATH), account)
    }

    fn desired(id: &TenantId, owner: Owner, _: SecretString) -> RegistryDesired {
        let topics = Topic::ALL.iter().copied().filter(|topic| !topic.is_optional);
        RegistryDesired { tenant: id.to_string(), owner, topics: topics.collect() }
    }

    /// Reads what a reader of a record reads: the schema by the id.
    async fn use_account(desired: &RegistryDesired) -> Result<i64, String> {
        for topic in &desired.topics {
            let path = format!("subjects/{}/versions/latest", subject(&desired.tenant, *topic));
            let (status, found) = by_hand::<R>(Method::GET, &path, None).await;
            if !status.is_success() {
                return Err(format!("{topic}: {status} {found}"));
            }
            let (_, schema) = by_hand::<R>(Method::GET, &format!("schemas/ids/{}", found["id"]), None).await;
            let schema: Value = serde_json::from_str(schema["schema"].as_str().unwrap()).unwrap();
            assert_eq!(schema, serde_json::from_str::<Value>(topic.schema).unwrap(), "{topic}");
        }
        let mut reads = READS.lock().unwrap();
        let count = reads.entry(desired.tenant.clone()).or_default();
        *count += 1;
        Ok(*count)
    }

    async fn edit(RegistryDesired { tenant, .. }: &RegistryDesired) -> Vec<String> {
        let (send, events) = (subject(tenant, Topic::MessageSend), subject(tenant, Topic::ChatEvents));
        let (path, body) = (format!("config/{send}"), json!({"compatibility": "NONE"}));
        let (status, answer) = by_hand::<R>(Method::PUT, &path, Some(body)).await;
        assert!(status.is_success(), "{status} {answer}");
        let (status, _) = by_hand::<R>(Method::DELETE, &format!("subjects/{events}"), None).await;
        assert!(status.is_success());
        vec![
            format!("set compatibility {COMPATIBILITY} of subject {send}"),
            format!("register the schema of subject {events}"),
        ]
    }

    async fn create_foreign(name: &str) {
        register::<R>(&subject(name, Topic::MessageSend), &other_schema("object")).await;
    }

    async fn foreign(name: &str) -> String {
        let mut seen = String::new();
        for topic in Topic::ALL {
            let subject = subject(name, *topic);
            for path in [format!("subjects/{subject}/versions/latest"), format!("config/{subject}")] {
                seen.push_str(&format!("{:?}", by_hand::<R>(Method::GET, &path, None).await));
            }
        }
        let path = format!("subjects/{}/versions", owner_subject(name));
        format!("{seen}{:?}", by_hand::<R>(Method::GET, &path, None).await.0)
    }

    async fn remove_foreign(name: &str) {
        delete::<R>(&subject(name, Topic::MessageSend)).await;
    }

    async fn mark(_: &RegistryAdmin, RegistryDesired { tenant, .. }: &RegistryDesired, _: &Marker, to: &str) {
        let mut schema = other_schema("object");
        schema["title"] = to.into();
        schema["$comment"] = uuid::Uuid::new_v4().to_string().into();
        register::<R>(&owner_subject(tenant), &schema).await;
    }
}

fn admin<R: Registry>() -> RegistryAdmin {
    At::<R>::connect(&R::address(), At::<R>::account())
}

fn desired<R: Registry>() -> RegistryDesired {
    At::<R>::desired(&tenant_id(), owner(), SecretString::default())
}

fn claim(desired: &RegistryDesired) -> Claim {
    Claim { name: desired.tenant.clone(), owner: desired.owner.clone() }
}

/// Runs a pass, and returns how it went.
async fn pass(
    admin: &RegistryAdmin,
    desired: &RegistryDesired,
) -> Result<Settled, operator::backend::BackendError> {
    let (fence, metrics) = (Fence::always_open(), Metrics::default());
    settle(admin, desired, DataExpected::No, Mode::Apply, &fence, &metrics).await
}

/// What stands in the registry of a topic: id and version of the latest schema.
async fn latest<R: Registry>(subject: &str) -> Option<(i64, i64)> {
    let path = format!("subjects/{subject}/versions/latest");
    let (status, found) = by_hand::<R>(Method::GET, &path, None).await;
    status.is_success().then(|| (found["id"].as_i64().unwrap(), found["version"].as_i64().unwrap()))
}

async fn a_tenant_learns_the_ids_of_its_schemas<R: Registry>() {
    let (admin, desired) = (admin::<R>(), desired::<R>());
    let body = async {
        let settled = pass(&admin, &desired).await.unwrap();
        for topic in &desired.topics {
            let (id, version) = latest::<R>(&subject(&desired.tenant, *topic)).await.unwrap();
            assert_eq!(version, 1, "{topic}");
            assert_eq!(i64::from(settled.facts.schema_ids[&topic.of(&desired.tenant)]), id, "{topic}");
            let path = format!("config/{}", subject(&desired.tenant, *topic));
            let (_, config) = by_hand::<R>(Method::GET, &path, None).await;
            assert_eq!(config["compatibilityLevel"], COMPATIBILITY, "{topic}");
        }
        assert_eq!(settled.facts.schema_ids.len(), desired.topics.len());
        assert_eq!(settled.facts.problem, None);
        assert_eq!(latest::<R>(&subject(&desired.tenant, Topic::PresenceChanges)).await, None);
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
}

async fn a_schema_that_readers_of_an_earlier_one_cannot_read_is_refused<R: Registry>() {
    let (admin, desired) = (admin::<R>(), desired::<R>());
    let events = subject(&desired.tenant, Topic::SessionEvents);
    let body = async {
        converge(&admin, &desired).await;
        delete::<R>(&events).await;
        register::<R>(&events, &other_schema("string")).await;
        let refused = assert_reason(pass(&admin, &desired).await, Reason::BackendRefused);
        let begin = format!(
            "Schema registry refused to register another schema of subject {events} after version 1: 409"
        );
        assert!(refused.starts_with(&begin), "{refused}");
        // The subject is asked to refuse, and the others are as they should be.
        let changes = planned(&admin, &desired).await;
        assert_eq!(changes, [format!("register another schema of subject {events} after version 1")]);
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
}

/// Returns what a pass still plans.
async fn planned(admin: &RegistryAdmin, desired: &RegistryDesired) -> Vec<String> {
    let observed = admin.observe(desired).await.unwrap();
    super::lines(RegistryAdmin::plan(desired, &observed))
}

async fn a_later_schema_of_others_is_reported_and_left<R: Registry>() {
    let (admin, desired) = (admin::<R>(), desired::<R>());
    let sends = subject(&desired.tenant, Topic::MessageSend);
    let body = async {
        let first = pass(&admin, &desired).await.unwrap();
        let mut later: Value = serde_json::from_str(Topic::MessageSend.schema).unwrap();
        later["properties"]["of_the_next_release"] = json!({"type": "string"});
        register::<R>(&sends, &later).await;
        let (id, version) = latest::<R>(&sends).await.unwrap();
        let settled = pass(&admin, &desired).await.unwrap();
        assert_eq!(settled.changes, vec![], "it is not put back");
        assert_eq!(settled.facts.schema_ids, first.facts.schema_ids, "services go on writing by theirs");
        let (reason, message) = settled.facts.problem.unwrap();
        assert_eq!(reason, Reason::SchemaMismatch);
        let part = format!("of subject {sends} (schema");
        let end = format!("its latest is version {version} (schema {id})");
        assert!(message.contains(&part) && message.contains(&end), "{message}");
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
}

async fn a_removal_takes_the_subjects_of_the_tenant_and_no_others<R: Registry>() {
    let (admin, one, other) = (admin::<R>(), desired::<R>(), desired::<R>());
    let by_others = format!("{}.orders-value", one.tenant);
    let body = async {
        converge(&admin, &one).await;
        converge(&admin, &other).await;
        register::<R>(&by_others, &other_schema("object")).await;
        let removed = admin.remove(&claim(&one)).await.unwrap();
        let mut expected: Vec<_> =
            one.topics.iter().map(|topic| format!("subject {}", subject(&one.tenant, *topic))).collect();
        expected.push(format!("owner marker of {}", one.tenant));
        assert_eq!(removed, expected);
        for topic in Topic::ALL {
            assert_eq!(latest::<R>(&subject(&one.tenant, *topic)).await, None, "{topic}");
        }
        assert_eq!(latest::<R>(&owner_subject(&one.tenant)).await, None);
        assert!(latest::<R>(&by_others).await.is_some());
        assert_eq!(converge(&admin, &other).await, [""; 0]);
    };
    let clean_up = async {
        delete::<R>(&by_others).await;
        _ = admin.remove(&claim(&one)).await;
        _ = admin.remove(&claim(&other)).await;
    };
    story(body, clean_up).await;
}

async fn another_path_is_no_registry<R: Registry>() {
    let desired = desired::<R>();
    let url = format!("http://{}{}/elsewhere", R::address(), R::PATH);
    let lost = RegistryAdmin::new(&url, R::account());
    let refused = assert_reason(lost.observe(&desired).await, Reason::BackendRefused);
    assert!(refused.ends_with("correct url in spec.schemaRegistry of the cell"), "{refused}");
}

/// Declares the tests of one registry.
macro_rules! tests {
    ($registry:ty) => {
        suite!(super::At<$registry>, which may take every client);

        #[tokio::test]
        async fn a_tenant_learns_the_ids_of_its_schemas() {
            super::a_tenant_learns_the_ids_of_its_schemas::<$registry>().await;
        }

        #[tokio::test]
        async fn a_schema_that_readers_of_an_earlier_one_cannot_read_is_refused() {
            super::a_schema_that_readers_of_an_earlier_one_cannot_read_is_refused::<$registry>().await;
        }

        #[tokio::test]
        async fn a_later_schema_of_others_is_reported_and_left() {
            super::a_later_schema_of_others_is_reported_and_left::<$registry>().await;
        }

        #[tokio::test]
        async fn a_removal_takes_the_subjects_of_the_tenant_and_no_others() {
            super::a_removal_takes_the_subjects_of_the_tenant_and_no_others::<$registry>().await;
        }

        #[tokio::test]
        async fn another_path_is_no_registry() {
            super::another_path_is_no_registry::<$registry>().await;
        }
    };
}

mod apicurio {
    use super::{Apicurio, suite};

    tests!(Apicurio);
}

mod stand_in {
    use super::{Fake, suite};

    tests!(Fake);

    // Apicurio of the local stack takes every client.
    suite!(super::At<Fake>: a_wrong_password_is_told_from_a_dead_port,);
}
