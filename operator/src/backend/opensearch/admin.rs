//! Reads and writes a tenant's part of OpenSearch, over its REST API and that of its security plugin.

use std::collections::{BTreeMap, BTreeSet};

use crds::{CellOpenSearch, TenantId};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::try_join;

use super::{
    OWNERS, PASSWORD, RoleObserved, SearchChange, SearchDesired, SearchObserved, UserObserved,
    client::{Client, SECURITY},
    indices, plan,
};
use crate::{
    backend::{
        change::ChangeKind,
        contract::{Backend, BackendFacts},
        error::BackendError,
        http,
        login::Credentials,
        marker::new_identity,
        ownership::{Claim, Owner, Ownership},
        password::PasswordMemo,
    },
    tenant::{Cell, Tenant},
};

/// What an index that exists already is called in an error.
const PRESENT: &str = "resource_already_exists_exception";
/// Shards that a tenant's indices may have: one each, of `-control` and two generations, and some to spare. A cluster has a bounded number of them, and the
/// tenant's account may make as many as the cluster lets it.
const MAX_SHARDS: u64 = 8;
/// Indices that a message names.
const NAMED_INDICES: usize = 10;

/// Administers tenants in one OpenSearch. Created without I/O; a request stands alone.
pub struct OpenSearchAdmin {
    client: Client,
    /// The server knows accounts.
    has_accounts: bool,
    passwords: PasswordMemo,
}

/// What a tenant has, as far as it decides whose it is.
struct Found {
    ownership: Ownership,
    identity: Option<String>,
    role: Option<Role>,
    user: Option<User>,
    /// Names of indices, each with its number of shards.
    indices: BTreeMap<String, u64>,
}

/// The document with an owner marker.
#[derive(Deserialize)]
struct Marked {
    #[serde(rename = "_source")]
    source: Mark,
}

#[derive(Deserialize)]
struct Mark {
    marker: String,
    identity: Option<String>,
}

/// A role, as the security plugin describes it.
#[derive(Deserialize)]
struct Role {
    #[serde(default)]
    cluster_permissions: BTreeSet<String>,
    #[serde(default)]
    index_permissions: Vec<Value>,
    #[serde(default)]
    tenant_permissions: Vec<Value>,
}

/// A user, likewise.
#[derive(Deserialize)]
struct User {
    #[serde(default)]
    backend_roles: Vec<String>,
    #[serde(default)]
    opendistro_security_roles: Vec<String>,
}

impl Role {
    /// Reports whether it lets its user do what it should, and no more. A rule that shows a part of the documents only, or of their
    /// fields, is another one.
    fn is(&self, desired: &Value) -> bool {
        let set = |value: &Value| -> BTreeSet<String> {
            let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        let is_whole = |rule: &Value, part: &str| {
            let value = &rule[part];
            value.is_null() || value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty)
        };
        let wanted = &desired["index_permissions"][0];
        let rule_matches = match self.index_permissions.as_slice() {
            [rule] => {
                ["index_patterns", "allowed_actions"]
                    .iter()
                    .all(|part| set(&rule[part]) == set(&wanted[part]))
                    && ["dls", "fls", "masked_fields"].iter().all(|part| is_whole(rule, part))
            }
            _ => false,
        };
        rule_matches
            && self.cluster_permissions == set(&desired["cluster_permissions"])
            && self.tenant_permissions.is_empty()
    }
}

impl Backend for OpenSearchAdmin {
    const ENTRY: catalog::Backend = catalog::Backend::OpenSearch;

    type Desired = SearchDesired;
    type Observed = SearchObserved;
    type Change = SearchChange;

    fn desired(tenant: &Tenant, password: &SecretString) -> SearchDesired {
        SearchDesired::of(tenant, password)
    }

    fn name(id: &TenantId) -> String {
        id.search().to_string()
    }

    fn arguments(tenant: &Tenant) -> Vec<(&'static str, String)> {
        let search = of(&tenant.cell);
        vec![
            ("--opensearch-url", search.url.clone()),
            ("--opensearch-index", Self::name(&tenant.id)),
            ("--opensearch-replicas", search.replicas().to_string()),
        ]
    }

    fn in_sync(tenant: &Tenant) -> String {
        let (name, search) = (Self::name(&tenant.id), of(&tenant.cell));
        let indices = indices(&name);
        if search.has_accounts() {
            format!("indices {indices}, role and user {name}")
        } else {
            format!(
                "indices {indices} without an account: every client that reaches {} reads and changes the messages of all tenants in it, so the cell is for \
                 one tenant or for tenants that trust each other",
                search.url
            )
        }
    }

    fn facts(observed: &SearchObserved) -> BackendFacts {
        observed.facts()
    }

    fn is_of(cell: &Cell) -> bool {
        cell.spec.opensearch.is_some()
    }

    fn admin_secret(cell: &Cell) -> Option<&str> {
        of(cell).credentials_secret_ref.as_ref().map(|secret| secret.name.as_str())
    }

    fn endpoint(cell: &Cell) -> String {
        let search = of(cell);
        format!("{} {} {}", search.url, search.has_accounts(), cell.trust())
    }

    fn connect(cell: &Cell, account: Credentials) -> Self {
        let search = of(cell);
        let account = search.credentials_secret_ref.as_ref().map(|_| account);
        Self::trusting(&search.url, search.has_accounts(), account, &cell.certificates)
    }

    /// Reads what the tenant has. Writes nothing; a password not yet known to work is tried by a login as the tenant.
    async fn observe(&self, desired: &SearchDesired) -> Result<SearchObserved, BackendError> {
        let Found { ownership, identity, role, user, indices: kept } =
            self.find(&desired.name, &desired.owner).await?;
        check_shards(&desired.name, &kept)?;
        let role = role.map(|role| RoleObserved { rights_match: role.is(&desired.role()) });
        let user = match user {
            None => None,
            Some(user) => Some(UserObserved {
                password_matches: self.verify(&desired.name, &desired.password).await?,
                role_matches: user.backend_roles.is_empty()
                    && user.opendistro_security_roles == [desired.name.clone()],
            }),
        };
        Ok(SearchObserved { ownership, identity, role, user })
    }

    fn plan(desired: &SearchDesired, observed: &SearchObserved) -> Vec<SearchChange> {
        plan(desired, observed)
    }

    fn kind(change: &SearchChange) -> ChangeKind {
        change.kind()
    }

    /// Makes one change of a plan.
    async fn apply(&self, desired: &SearchDesired, change: &SearchChange) -> Result<(), BackendError> {
        let action = change.to_string();
        let SearchDesired { name, owner, password, .. } = desired;
        match change {
            SearchChange::Reserve { .. } => self.reserve(name, &owner.marker().to_string(), &action).await,
            SearchChange::TakeOver { .. } => self.mark(name, &owner.marker().to_string(), &action).await,
            SearchChange::CreateRole { role } | SearchChange::RepairRole { role } => {
                let path = format!("{SECURITY}/api/roles/{role}");
                let _: Value = self.client.send(&action, Method::PUT, &path, Some(&desired.role())).await?;
                Ok(())
            }
            SearchChange::CreateUser { user } => self.put_user(user, Some(password), &action).await,
            SearchChange::RepairUser { user, what } => {
                let password = what.contains(&PASSWORD).then_some(password);
                self.put_user(user, password, &action).await
            }
        }
    }

    async fn ownership(&self, claim: &Claim) -> Result<Ownership, BackendError> {
        Ok(self.find(&claim.name, &claim.owner).await?.ownership)
    }

    /// Removes the tenant's user, role and indices. Returns what was there. The user goes first, so that nothing is made meanwhile, and
    /// the marker last, so that what is left after a failure is still the tenant's.
    async fn remove(&self, claim: &Claim) -> Result<Vec<String>, BackendError> {
        let name = &claim.name;
        let found = self.find(name, &claim.owner).await?;
        if found.ownership == Ownership::Absent {
            return Ok(Vec::new());
        }
        let mut removed = self.remove_account(name, &found).await?;
        for index in found.indices.into_keys() {
            let action = format!("delete index {index}");
            let gone: Option<Value> = self.client.find(&action, Method::DELETE, &index, None, &[]).await?;
            if gone.is_some() {
                removed.push(format!("index {index}"));
            }
        }
        self.remove_marker(name).await?;
        removed.push(format!("owner marker of {name}"));
        Ok(removed)
    }

    /// Releases a retained tenant: its indices stay, its user and role are removed, and the next owner may re-adopt the names.
    async fn release(&self, claim: &Claim) -> Result<(), BackendError> {
        let name = &claim.name;
        let found = self.find(name, &claim.owner).await?;
        if !found.ownership.is_in_use() {
            return Ok(());
        }
        self.remove_account(name, &found).await?;
        if found.indices.is_empty() {
            // Nothing is kept that the next owner could take over.
            return self.remove_marker(name).await;
        }
        let action = format!("release indices {}", indices(name));
        self.mark(name, &claim.owner.released().to_string(), &action).await
    }
}

impl OpenSearchAdmin {
    /// `has_accounts` says whether tenants have users there, by its security plugin.
    pub fn new(url: &str, has_accounts: bool, account: Option<Credentials>) -> Self {
        Self::trusting(url, has_accounts, account, &[])
    }

    /// Returns one that trusts certificates beside the public ones.
    fn trusting(
        url: &str,
        has_accounts: bool,
        account: Option<Credentials>,
        certificates: &[reqwest::Certificate],
    ) -> Self {
        let client = Client::new(url, account, http::client(certificates));
        Self { client, has_accounts, passwords: PasswordMemo::default() }
    }

    /// Finds what a tenant has and whose it is. What has the tenant's name and no marker beside it is another one's.
    async fn find(&self, name: &str, owner: &Owner) -> Result<Found, BackendError> {
        let (mark, role, user, indices) = try_join!(
            self.marker(name),
            self.secured::<Role>("roles", name),
            self.secured::<User>("internalusers", name),
            self.indices(name),
        )?;
        let object = match (&role, &user) {
            _ if !indices.is_empty() => format!("index {}", indices.keys().next().map_or("", String::as_str)),
            (_, Some(_)) => format!("user {name}"),
            (Some(_), _) => format!("role {name}"),
            (None, None) => format!("owner marker of {name}"),
        };
        let is_absent = mark.is_none() && role.is_none() && user.is_none() && indices.is_empty();
        let (marker, identity) = mark.map(|mark| (mark.marker, mark.identity)).unzip();
        let ownership = if is_absent {
            Ownership::Absent
        } else {
            Ownership::of(Self::ENTRY, &object, marker.as_deref(), owner)?
        };
        Ok(Found { ownership, identity: identity.flatten(), role, user, indices })
    }

    async fn marker(&self, name: &str) -> Result<Option<Mark>, BackendError> {
        let action = format!("read the owner marker of {name}");
        let path = format!("{OWNERS}/_doc/{name}");
        let found: Option<Marked> = self.client.find(&action, Method::GET, &path, None, &[]).await?;
        Ok(found.map(|found| found.source))
    }

    /// Returns one object of the security plugin; nothing where the server has no accounts.
    async fn secured<T: serde::de::DeserializeOwned>(
        &self,
        kind: &str,
        name: &str,
    ) -> Result<Option<T>, BackendError> {
        if !self.has_accounts {
            return Ok(None);
        }
        let action = format!("read {name} of {kind}");
        let path = format!("{SECURITY}/api/{kind}/{name}");
        let found: Option<BTreeMap<String, T>> =
            self.client.find(&action, Method::GET, &path, None, &[]).await?;
        Ok(found.and_then(|mut found| found.remove(name)))
    }

    /// Returns the names of the tenant's indices, and how many shards each has. A pattern also finds what aliases of such names lead to: that is of others, and an administrator made the alias.
    async fn indices(&self, name: &str) -> Result<BTreeMap<String, u64>, BackendError> {
        let pattern = indices(name);
        let action = format!("list indices {pattern}");
        let path = format!("{pattern}?expand_wildcards=all&filter_path=*.settings.index.number_of_shards");
        let found: Option<BTreeMap<String, Value>> =
            self.client.find(&action, Method::GET, &path, None, &[]).await?;
        let beginning = format!("{name}-");
        let own = found.unwrap_or_default().into_iter().filter(|(index, _)| index.starts_with(&beginning));
        Ok(own.map(|(index, settings)| (index, shards_of(&settings))).collect())
    }

    async fn verify(&self, name: &str, password: &SecretString) -> Result<bool, BackendError> {
        if self.passwords.knows(name, password) {
            return Ok(true);
        }
        let is_right = self.client.lets_in(&Credentials::new(name, password.clone())).await?;
        if is_right {
            self.passwords.verified(name, password);
        }
        Ok(is_right)
    }

    /// Writes the first marker of a tenant, unless another one is there meanwhile. The first of all finds no index for it.
    async fn reserve(&self, name: &str, marker: &str, action: &str) -> Result<(), BackendError> {
        let settings = json!({
            "settings": {"index": {"number_of_shards": 1, "auto_expand_replicas": "0-1"}},
            "mappings": {"dynamic": false},
        });
        let _: Option<Value> =
            self.client.find(action, Method::PUT, OWNERS, Some(&settings), &[PRESENT]).await?;
        let mark = json!({"marker": marker, "identity": new_identity()});
        let path = format!("{OWNERS}/_create/{name}");
        let _: Value = self.client.send(action, Method::PUT, &path, Some(&mark)).await?;
        Ok(())
    }

    /// Replaces a marker. What it marks is the same as before.
    async fn mark(&self, name: &str, marker: &str, action: &str) -> Result<(), BackendError> {
        let identity = self.marker(name).await?.and_then(|mark| mark.identity);
        let mark = json!({"marker": marker, "identity": identity.unwrap_or_else(new_identity)});
        let path = format!("{OWNERS}/_doc/{name}");
        let _: Value = self.client.send(action, Method::PUT, &path, Some(&mark)).await?;
        Ok(())
    }

    async fn remove_marker(&self, name: &str) -> Result<(), BackendError> {
        let action = format!("remove the owner marker of {name}");
        let path = format!("{OWNERS}/_doc/{name}");
        let _: Option<Value> = self.client.find(&action, Method::DELETE, &path, None, &[]).await?;
        Ok(())
    }

    /// Makes a user what it should be. Without a password it keeps its own.
    async fn put_user(
        &self,
        name: &str,
        password: Option<&SecretString>,
        action: &str,
    ) -> Result<(), BackendError> {
        let mut user = json!({"opendistro_security_roles": [name], "backend_roles": [], "attributes": {}});
        if let Some(password) = password {
            user["password"] = password.expose_secret().into();
        }
        self.passwords.forget(name);
        let path = format!("{SECURITY}/api/internalusers/{name}");
        let _: Value = self.client.send(action, Method::PUT, &path, Some(&user)).await?;
        Ok(())
    }

    /// Removes user and role. Returns what was there.
    async fn remove_account(&self, name: &str, found: &Found) -> Result<Vec<String>, BackendError> {
        let mut removed = Vec::new();
        let there =
            [("internalusers", "user", found.user.is_some()), ("roles", "role", found.role.is_some())];
        for (kind, title, _) in there.into_iter().filter(|(_, _, is_there)| *is_there) {
            let action = format!("remove {title} {name}");
            let path = format!("{SECURITY}/api/{kind}/{name}");
            let _: Option<Value> = self.client.find(&action, Method::DELETE, &path, None, &[]).await?;
            removed.push(format!("{title} {name}"));
        }
        self.passwords.forget(name);
        Ok(removed)
    }
}

/// Returns how many shards an index has, as the server shows its settings: a text.
fn shards_of(index: &Value) -> u64 {
    let shown = index["settings"]["index"]["number_of_shards"].as_str();
    shown.and_then(|shards| shards.parse().ok()).unwrap_or(1)
}

/// Refuses more shards than the search service makes: they are those of the other tenants, too.
fn check_shards(name: &str, kept: &BTreeMap<String, u64>) -> Result<(), BackendError> {
    let shards = kept.values().fold(0_u64, |sum, shards| sum.saturating_add(*shards));
    if shards <= MAX_SHARDS {
        return Ok(());
    }
    let some: Vec<_> = kept.keys().take(NAMED_INDICES).map(String::as_str).collect();
    Err(BackendError::Refused {
        backend: OpenSearchAdmin::ENTRY,
        action: format!("share the cluster with indices {}", indices(name)),
        detail: format!(
            "they have {shards} shards, and the search service makes no more than {MAX_SHARDS}; delete those of {} that it did not make",
            some.join(", ")
        ),
        retryable: true,
    })
}

/// Returns where a cell has OpenSearch.
fn of(cell: &Cell) -> &CellOpenSearch {
    cell.spec.opensearch.as_ref().expect("a backend is called where the cell has it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired() -> Value {
        json!({"cluster_permissions": ["a", "b"], "index_permissions": [
            {"index_patterns": ["mt-acme-*"], "allowed_actions": ["c", "d"]}]})
    }

    fn is_desired(edit: impl FnOnce(&mut Value)) -> bool {
        // As the plugin shows it.
        let mut shown = json!({"reserved": false, "hidden": false, "static": false, "cluster_permissions": ["b", "a"],
            "index_permissions": [{"index_patterns": ["mt-acme-*"], "allowed_actions": ["d", "c"], "fls": [], "masked_fields": []}],
            "tenant_permissions": []});
        edit(&mut shown);
        serde_json::from_value::<Role>(shown).expect("a role").is(&desired())
    }

    #[test]
    fn more_shards_than_the_service_makes_are_refused_and_named() {
        let index = |shards: &str| {
            shards_of(&json!({"settings": {"index": {"number_of_shards": shards, "uuid": "x"}}}))
        };
        let kept = |shards: &str| {
            let all = [("mt-acme-control", index("1")), ("mt-acme-v1-1", index(shards))];
            BTreeMap::from(all.map(|(name, shards)| (name.to_owned(), shards)))
        };
        assert!(check_shards("mt-acme", &kept("7")).is_ok());
        let refused = check_shards("mt-acme", &kept("1024")).expect_err("more").to_string();
        assert!(refused.contains("they have 1025 shards") && refused.contains("mt-acme-v1-1"), "{refused}");
    }

    #[test]
    fn a_role_with_more_or_less_is_another_one() {
        assert!(is_desired(|_| {}));
        assert!(is_desired(|role| role["index_permissions"][0]["dls"] = Value::Null));
        assert!(!is_desired(|role| role["cluster_permissions"] = json!(["a", "b", "*"])));
        assert!(!is_desired(|role| role["index_permissions"][0]["index_patterns"] = json!(["*"])));
        assert!(!is_desired(|role| role["index_permissions"][0]["allowed_actions"] = json!(["c"])));
        assert!(!is_desired(|role| role["index_permissions"][0]["dls"] = "{\"match_none\": {}}".into()));
        assert!(!is_desired(|role| role["index_permissions"] = json!([])));
        assert!(!is_desired(|role| role["tenant_permissions"] = json!([{"tenant_patterns": ["*"]}])));
    }
}
