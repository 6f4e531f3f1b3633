//! OpenSearch: the one of the local stack, which has no accounts, and a stand-in that has what the security plugin adds.

use std::{collections::BTreeMap, marker::PhantomData};

use crds::{Reason, TenantId};
use operator::backend::{
    Backend, Claim, Credentials, Marker, Owner,
    opensearch::{OWNERS, OpenSearchAdmin, SearchDesired, indices},
};
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{
    assert_reason,
    conformance::{Fixture, suite},
    converge, env, owner, password, story, tenant_id,
};

mod fake;

/// One server.
pub trait Server: 'static {
    /// It knows accounts.
    const HAS_ACCOUNTS: bool;

    fn address() -> String;

    /// The operator's account.
    fn account() -> Option<Credentials>;
}

/// The one of `make up-backends WITH=opensearch`.
pub struct Local;

impl Server for Local {
    const HAS_ACCOUNTS: bool = false;

    fn address() -> String {
        env("OPENSEARCH_ADDRESS")
    }

    fn account() -> Option<Credentials> {
        None
    }
}

pub struct Fake;

impl Server for Fake {
    const HAS_ACCOUNTS: bool = true;

    fn address() -> String {
        fake::address()
    }

    fn account() -> Option<Credentials> {
        Some(Credentials::new(fake::USERNAME, fake::PASSWORD))
    }
}

/// Sends a request without the operator.
async fn by_hand<S: Server>(
    account: Option<Credentials>,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (StatusCode, Value) {
    let mut request = reqwest::Client::new().request(method, format!("http://{}/{path}", S::address()));
    if let Some(Credentials { username, password }) = account {
        request = request.basic_auth(username, Some(password.expose_secret()));
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap_or_else(|error| {
        panic!("{error}: the suite needs OpenSearch, which `make up-backends WITH=opensearch` starts")
    });
    let status = answer.status();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
}

async fn as_admin<S: Server>(method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    by_hand::<S>(S::account(), method, path, body).await
}

pub struct At<S>(PhantomData<S>);

impl<S: Server> Fixture for At<S> {
    type Backend = OpenSearchAdmin;

    const HAS_ACCOUNT: bool = S::HAS_ACCOUNTS;

    fn address() -> String {
        S::address()
    }

    fn account() -> Credentials {
        S::account().unwrap_or_else(|| Credentials::new("", ""))
    }

    fn connect(address: &str, account: Credentials) -> OpenSearchAdmin {
        let account = S::account().map(|_| account);
        OpenSearchAdmin::new(&format!("http://{address}"), S::HAS_ACCOUNTS, account)
    }

    fn desired(id: &TenantId, owner: Owner, password: SecretString) -> SearchDesired {
        let name = OpenSearchAdmin::name(id);
        SearchDesired { name, owner, password, has_accounts: S::HAS_ACCOUNTS }
    }

    /// Writes a document into an index of the tenant, and counts them.
    async fn use_account(SearchDesired { name, password, .. }: &SearchDesired) -> Result<i64, String> {
        let account = || Some(Credentials::new(name.clone(), password.clone()));
        let index = format!("{name}-v1-1");
        let (status, answer) = by_hand::<S>(account(), Method::PUT, &index, Some(json!({}))).await;
        let is_present = answer["error"]["type"] == "resource_already_exists_exception";
        if !status.is_success() && !is_present {
            return Err(format!("{status} {answer}"));
        }
        let id = uuid::Uuid::new_v4();
        let path = format!("{index}/_doc/{id}?refresh=true");
        let (status, answer) = by_hand::<S>(account(), Method::PUT, &path, Some(json!({"a": 1}))).await;
        if !status.is_success() {
            return Err(format!("{status} {answer}"));
        }
        let (_, counted) = by_hand::<S>(account(), Method::GET, &format!("{index}/_count"), None).await;
        counted["count"].as_i64().ok_or_else(|| counted.to_string())
    }

    async fn edit(SearchDesired { name, .. }: &SearchDesired) -> Vec<String> {
        if !S::HAS_ACCOUNTS {
            return Vec::new();
        }
        let role = json!({"cluster_permissions": ["*"], "index_permissions": [
            {"index_patterns": ["*"], "allowed_actions": ["*"]}]});
        let user = json!({"opendistro_security_roles": [name, "all_access"]});
        for (kind, body) in [("roles", role), ("internalusers", user)] {
            let path = format!("_plugins/_security/api/{kind}/{name}");
            let (status, answer) = as_admin::<S>(Method::PUT, &path, Some(body)).await;
            assert!(status.is_success(), "{status} {answer}");
        }
        vec![format!("set rights of role {name}"), format!("set role of user {name}")]
    }

    async fn create_foreign(name: &str) {
        let (status, answer) = as_admin::<S>(Method::PUT, &format!("{name}-notes"), Some(json!({}))).await;
        assert!(status.is_success(), "{status} {answer}");
    }

    async fn foreign(name: &str) -> String {
        let index = as_admin::<S>(Method::GET, &format!("{}/_settings", indices(name)), None).await;
        // Another test may make the index with the markers meanwhile.
        let (marker, _) = as_admin::<S>(Method::GET, &format!("{OWNERS}/_doc/{name}"), None).await;
        format!("{index:?} {marker}")
    }

    async fn remove_foreign(name: &str) {
        as_admin::<S>(Method::DELETE, &format!("{name}-notes"), None).await;
    }

    async fn mark(_: &OpenSearchAdmin, SearchDesired { name, .. }: &SearchDesired, _: &Marker, to: &str) {
        let path = format!("{OWNERS}/_doc/{name}");
        let (status, found) = as_admin::<S>(Method::GET, &path, None).await;
        assert!(status.is_success(), "{status} {found}");
        let mut mark = found["_source"].clone();
        mark["marker"] = to.into();
        let (status, answer) = as_admin::<S>(Method::PUT, &path, Some(mark)).await;
        assert!(status.is_success(), "{status} {answer}");
    }
}

fn admin<S: Server>() -> OpenSearchAdmin {
    At::<S>::connect(&S::address(), At::<S>::account())
}

fn desired<S: Server>() -> SearchDesired {
    At::<S>::desired(&tenant_id(), owner(), password())
}

fn claim(desired: &SearchDesired) -> Claim {
    Claim { name: desired.name.clone(), owner: desired.owner.clone() }
}

async fn a_removal_takes_the_indices_of_the_tenant_and_no_others<S: Server>() {
    let (admin, one, other) = (admin::<S>(), desired::<S>(), desired::<S>());
    let body = async {
        converge(&admin, &one).await;
        converge(&admin, &other).await;
        for tenant in [&one, &other] {
            At::<S>::use_account(tenant).await.unwrap();
        }
        let removed = admin.remove(&claim(&one)).await.unwrap();
        let name = &one.name;
        let accounts = [format!("user {name}"), format!("role {name}")];
        let mut expected = if S::HAS_ACCOUNTS { accounts.to_vec() } else { Vec::new() };
        expected.extend([format!("index {name}-v1-1"), format!("owner marker of {name}")]);
        assert_eq!(removed, expected);
        assert_eq!(converge(&admin, &other).await, [""; 0]);
        assert_eq!(At::<S>::use_account(&other).await, Ok(2), "its documents are there");
    };
    let clean_up = async {
        _ = admin.remove(&claim(&one)).await;
        _ = admin.remove(&claim(&other)).await;
    };
    story(body, clean_up).await;
}

/// An administrator may set any alias, and the index behind it is of others: it neither makes a name a taken one nor goes with the tenant.
async fn an_index_that_only_an_alias_leads_to_is_left_alone<S: Server>() {
    let (admin, desired) = (admin::<S>(), desired::<S>());
    let name = &desired.name;
    let stranger = format!("company-{name}");
    let body = async {
        let alias = format!("{name}-report");
        let aliases = json!({"aliases": {alias: {}}});
        let (status, answer) = as_admin::<S>(Method::PUT, &stranger, Some(aliases)).await;
        assert!(status.is_success(), "{status} {answer}");
        let path = format!("{stranger}/_doc/x?refresh=true");
        let (status, answer) = as_admin::<S>(Method::PUT, &path, Some(json!({"a": 1}))).await;
        assert!(status.is_success(), "{status} {answer}");
        converge(&admin, &desired).await;
        At::<S>::use_account(&desired).await.unwrap();
        let removed = admin.remove(&claim(&desired)).await.unwrap();
        assert!(removed.contains(&format!("index {name}-v1-1")), "{removed:?}");
        assert!(!removed.contains(&format!("index {stranger}")), "{removed:?}");
        let (_, counted) = as_admin::<S>(Method::GET, &format!("{stranger}/_count"), None).await;
        assert_eq!(counted["count"], 1, "{counted}");
    };
    let clean_up = async {
        _ = admin.remove(&claim(&desired)).await;
        as_admin::<S>(Method::DELETE, &stranger, None).await;
    };
    story(body, clean_up).await;
}

async fn what_was_made_for_a_tenant_is_told_from_what_was_made_after_it_was_removed<S: Server>() {
    let (admin, desired) = (admin::<S>(), desired::<S>());
    let identity = async || {
        converge(&admin, &desired).await;
        OpenSearchAdmin::facts(&admin.observe(&desired).await.unwrap()).generation.unwrap()
    };
    let body = async {
        let first = identity().await;
        assert_eq!(identity().await, first);
        admin.remove(&claim(&desired)).await.unwrap();
        assert_ne!(identity().await, first);
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
}

/// Declares the tests of one server.
macro_rules! tests {
    ($server:ty) => {
        suite!(super::At<$server>, which may take every client);

        #[tokio::test]
        async fn a_removal_takes_the_indices_of_the_tenant_and_no_others() {
            super::a_removal_takes_the_indices_of_the_tenant_and_no_others::<$server>().await;
        }

        #[tokio::test]
        async fn an_index_that_only_an_alias_leads_to_is_left_alone() {
            super::an_index_that_only_an_alias_leads_to_is_left_alone::<$server>().await;
        }

        #[tokio::test]
        async fn what_was_made_for_a_tenant_is_told_from_what_was_made_after_it_was_removed() {
            super::what_was_made_for_a_tenant_is_told_from_what_was_made_after_it_was_removed::<$server>().await;
        }
    };
}

mod local {
    use super::{Local, suite};

    tests!(Local);

    /// What is not there is not taken for consent to do without it.
    #[tokio::test]
    async fn a_server_without_its_security_plugin_is_refused_unless_the_cell_says_so() {
        use super::*;

        let admin = OpenSearchAdmin::new(&format!("http://{}", Local::address()), true, None);
        let desired = SearchDesired { has_accounts: true, ..desired::<Local>() };
        let refused = assert_reason(admin.observe(&desired).await, Reason::BackendRefused);
        assert!(
            refused.contains("it has no security plugin; install it, or set spec.opensearch.security"),
            "{refused}"
        );
    }
}

mod stand_in {
    use super::{Fake, suite};

    tests!(Fake);

    // The server of the local stack takes every client.
    suite!(super::At<Fake>: a_wrong_password_is_told_from_a_dead_port,);

    /// The cluster has a bounded number of shards for all tenants.
    #[tokio::test]
    async fn more_indices_than_the_service_makes_are_reported() {
        use super::*;

        let (admin, desired) = (admin::<Fake>(), desired::<Fake>());
        let body = async {
            converge(&admin, &desired).await;
            for number in 1..=9 {
                let account = Some(Credentials::new(desired.name.clone(), desired.password.clone()));
                let index = format!("{}-x{number}", desired.name);
                let (status, answer) = by_hand::<Fake>(account, Method::PUT, &index, Some(json!({}))).await;
                assert!(status.is_success(), "{status} {answer}");
            }
            let refused = assert_reason(admin.observe(&desired).await, Reason::BackendRefused);
            assert!(refused.contains("they have 9 shards"), "{refused}");
            assert_eq!(admin.remove(&claim(&desired)).await.unwrap().len(), 12, "it can be deleted");
        };
        story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
    }

    #[tokio::test]
    async fn one_tenant_gets_nothing_of_another() {
        use super::*;

        let (admin, one, other) = (admin::<Fake>(), desired::<Fake>(), desired::<Fake>());
        let body = async {
            converge(&admin, &one).await;
            converge(&admin, &other).await;
            At::<Fake>::use_account(&other).await.unwrap();
            let account = || Some(Credentials::new(one.name.clone(), one.password.clone()));
            let index = format!("{}-v1-1", other.name);
            let attempts: BTreeMap<String, Method> = [
                (format!("{index}/_count"), Method::GET),
                (format!("{index}/_doc/x"), Method::PUT),
                (format!("{}-v2-1", other.name), Method::PUT),
                (index, Method::DELETE),
                (format!("{OWNERS}/_doc/{}", one.name), Method::GET),
                (format!("{OWNERS}/_doc/{}?", one.name), Method::PUT),
                (format!("_plugins/_security/api/internalusers/{}", one.name), Method::GET),
                (format!("_plugins/_security/api/roles/{}", one.name), Method::PUT),
            ]
            .into();
            for (path, method) in attempts {
                let body = (method == Method::PUT).then(|| json!({}));
                let (status, answer) = by_hand::<Fake>(account(), method.clone(), &path, body).await;
                assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}: {answer}");
            }
            // An alias with the name of the other's next generation, on an index of its own, would get what the other writes.
            let (own, alias) = (format!("{}-x", one.name), format!("{}-v1-2", other.name));
            let body = json!({"aliases": {alias: {"is_write_index": true}}});
            let (status, answer) = by_hand::<Fake>(account(), Method::PUT, &own, Some(body)).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
            assert_eq!(At::<Fake>::use_account(&other).await, Ok(2), "its documents are there");
        };
        let clean_up = async {
            _ = admin.remove(&claim(&one)).await;
            _ = admin.remove(&claim(&other)).await;
        };
        story(body, clean_up).await;
    }
}
