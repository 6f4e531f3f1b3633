//! Reads and writes a tenant's part of RabbitMQ, over its management API.

use base64::{Engine, prelude::BASE64_STANDARD};
use crds::{CellRabbitMq, TenantId};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::try_join;

use super::{
    Definitions, LIMITS, MAX_CHANNELS, PASSWORD, PERMISSIONS, Permission, QUEUES, RabbitMqChange,
    RabbitMqDesired, RabbitMqObserved, TAGS, UserObserved, VirtualHostObserved, client::Client, plan,
};
use crate::{
    backend::{
        change::ChangeKind,
        contract::{Backend, BackendFacts},
        error::BackendError,
        http,
        login::Credentials,
        ownership::{Claim, Owner, Ownership},
    },
    tenant::{Cell, Tenant},
};

/// How the broker calls the hash of a password that [`matches()`] compares.
const SHA256: &str = "rabbit_password_hashing_sha256";
/// Bytes of the salt before such a hash.
const SALT_BYTES: usize = 4;

/// Administers tenants in one RabbitMQ. Created without I/O; a request stands alone.
pub struct RabbitMqAdmin {
    client: Client,
}

/// What a tenant has, as far as it decides whose it is.
struct Found {
    ownership: Ownership,
    has_virtual_host: bool,
    user: Option<User>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    password_hash: String,
    #[serde(default)]
    hashing_algorithm: String,
    /// A list, or words separated by commas in versions before 3.9.
    #[serde(default)]
    tags: Value,
    /// An object, or an empty list where it has none.
    #[serde(default)]
    limits: Value,
}

#[derive(Deserialize)]
struct Parameter {
    value: Value,
}

/// The limits of one virtual host.
#[derive(Deserialize)]
struct Limits {
    value: Map<String, Value>,
}

impl Backend for RabbitMqAdmin {
    const ENTRY: catalog::Backend = catalog::Backend::RabbitMq;

    type Desired = RabbitMqDesired;
    type Observed = RabbitMqObserved;
    type Change = RabbitMqChange;

    fn desired(tenant: &Tenant, password: &SecretString) -> RabbitMqDesired {
        RabbitMqDesired::of(tenant, password)
    }

    fn name(id: &TenantId) -> String {
        id.virtual_host().to_string()
    }

    fn arguments(tenant: &Tenant) -> Vec<(&'static str, String)> {
        vec![
            ("--rabbitmq-url", of(&tenant.cell).amqp_url.clone()),
            ("--rabbitmq-virtual-host", Self::name(&tenant.id)),
        ]
    }

    fn in_sync(tenant: &Tenant) -> String {
        format!("virtual host and user {}", Self::name(&tenant.id))
    }

    fn facts(observed: &RabbitMqObserved) -> BackendFacts {
        BackendFacts { is_inherited: observed.ownership.is_inherited(), ..BackendFacts::default() }
    }

    fn is_of(cell: &Cell) -> bool {
        cell.spec.rabbitmq.is_some()
    }

    fn admin_secret(cell: &Cell) -> Option<&str> {
        Some(&of(cell).admin_secret_ref.name)
    }

    fn endpoint(cell: &Cell) -> String {
        format!("{} {}", of(cell).management_url, cell.trust())
    }

    fn connect(cell: &Cell, account: Credentials) -> Self {
        Self::new(&of(cell).management_url, account, &cell.certificates)
    }

    /// Reads what the tenant has. Writes nothing.
    async fn observe(&self, desired: &RabbitMqDesired) -> Result<RabbitMqObserved, BackendError> {
        let name = &desired.name;
        let Found { ownership, has_virtual_host, user } = self.find(name, &desired.owner).await?;
        let virtual_host = if has_virtual_host { self.virtual_host(desired).await? } else { None };
        let user = match user {
            Some(user) => {
                let action = format!("read the permissions of user {name}");
                let path = format!("users/{name}/permissions");
                let permissions: Vec<Permission> =
                    self.client.read(&action, &path).await?.unwrap_or_default();
                Some(UserObserved {
                    password_matches: matches(&user, &desired.password),
                    tags_match: has_no_tags(&user.tags),
                    permissions_match: permissions == [desired.permission()],
                    limits_match: user.limits[MAX_CHANNELS].as_u64() == Some(desired.max_channels().into()),
                })
            }
            None => None,
        };
        Ok(RabbitMqObserved { ownership, virtual_host, user })
    }

    fn plan(desired: &RabbitMqDesired, observed: &RabbitMqObserved) -> Vec<RabbitMqChange> {
        plan(desired, observed)
    }

    fn kind(change: &RabbitMqChange) -> ChangeKind {
        change.kind()
    }

    /// Makes one change of a plan.
    async fn apply(&self, desired: &RabbitMqDesired, change: &RabbitMqChange) -> Result<(), BackendError> {
        let action = change.to_string();
        match change {
            RabbitMqChange::TakeOver { .. } => self.mark(desired, &action).await,
            RabbitMqChange::CreateVirtualHost { .. } => {
                self.mark(desired, &action).await?;
                self.create(desired, &action).await
            }
            RabbitMqChange::RecreateVirtualHost { name, .. } => {
                self.client.delete(&action, &format!("vhosts/{name}")).await?;
                self.create(desired, &action).await
            }
            RabbitMqChange::RepairVirtualHost { what, .. } => {
                if what.contains(&LIMITS) {
                    self.set_limits(desired, &action).await?;
                }
                if what.contains(&QUEUES) {
                    self.import(desired, &action).await?;
                }
                Ok(())
            }
            RabbitMqChange::CreateUser { .. } => {
                self.mark(desired, &action).await?;
                self.set_user(desired, &action).await?;
                self.set_permissions(desired, &action).await
            }
            RabbitMqChange::RepairUser { what, .. } => {
                if what.contains(&PASSWORD) || what.contains(&TAGS) {
                    self.set_user(desired, &action).await?;
                }
                if what.contains(&PERMISSIONS) {
                    self.set_permissions(desired, &action).await?;
                }
                if what.contains(&LIMITS) {
                    self.set_user_limits(desired, &action).await?;
                }
                Ok(())
            }
        }
    }

    async fn ownership(&self, claim: &Claim) -> Result<Ownership, BackendError> {
        Ok(self.find(&claim.name, &claim.owner).await?.ownership)
    }

    /// Removes the tenant's user, which ends its connections, and the virtual host. Returns what was there. The marker goes last, so
    /// that what is left after a failure is still the tenant's.
    async fn remove(&self, claim: &Claim) -> Result<Vec<String>, BackendError> {
        let name = &claim.name;
        if self.find(name, &claim.owner).await?.ownership == Ownership::Absent {
            return Ok(Vec::new());
        }
        let mut removed = Vec::new();
        if self.remove_user(name).await? {
            removed.push(format!("user {name}"));
        }
        let action = format!("delete virtual host {name}");
        if self.client.delete(&action, &format!("vhosts/{name}")).await? {
            removed.push(format!("virtual host {name}"));
        }
        self.remove_marker(name).await?;
        removed.push(format!("owner marker of {name}"));
        Ok(removed)
    }

    /// Releases a retained tenant: its queues stay, its user is removed, and the next owner may re-adopt the virtual host.
    async fn release(&self, claim: &Claim) -> Result<(), BackendError> {
        let name = &claim.name;
        let Found { ownership, has_virtual_host, user } = self.find(name, &claim.owner).await?;
        if !ownership.is_in_use() {
            return Ok(());
        }
        if user.is_some() {
            self.remove_user(name).await?;
        }
        if !has_virtual_host {
            // Nothing is kept that the next owner could miss.
            return self.remove_marker(name).await;
        }
        let action = format!("release virtual host {name}");
        self.write_marker(name, &claim.owner.released().to_string(), &action).await
    }
}

impl RabbitMqAdmin {
    /// `account` is a user with the tag `administrator`; `certificates` are trusted beside the public ones.
    pub fn new(management_url: &str, account: Credentials, certificates: &[reqwest::Certificate]) -> Self {
        Self { client: Client::new(management_url, account, http::client(certificates)) }
    }

    /// Finds what a tenant has and whose it is. Something without a marker is something of others.
    async fn find(&self, name: &str, owner: &Owner) -> Result<Found, BackendError> {
        let (host_action, user_action) = (format!("read virtual host {name}"), format!("read user {name}"));
        let (host_path, user_path) = (format!("vhosts/{name}"), format!("users/{name}"));
        let ((), marker, host, user) = try_join!(
            self.client.check(),
            self.marker(name),
            self.client.read::<Value>(&host_action, &host_path),
            self.client.read::<User>(&user_action, &user_path),
        )?;
        let object = match (&host, &user) {
            (None, Some(_)) => format!("user {name}"),
            _ => format!("virtual host {name}"),
        };
        let ownership = if marker.is_none() && host.is_none() && user.is_none() {
            Ownership::Absent
        } else {
            Ownership::of(Self::ENTRY, &object, marker.as_deref(), owner)?
        };
        Ok(Found { ownership, has_virtual_host: host.is_some(), user })
    }

    async fn marker(&self, name: &str) -> Result<Option<String>, BackendError> {
        let action = format!("read the owner marker of {name}");
        let parameter: Option<Parameter> = self.client.read(&action, &marker_of(name)).await?;
        Ok(parameter.map(|parameter| parameter.value.as_str().unwrap_or_default().to_owned()))
    }

    async fn mark(&self, desired: &RabbitMqDesired, action: &str) -> Result<(), BackendError> {
        self.write_marker(&desired.name, &desired.owner.marker().to_string(), action).await
    }

    async fn write_marker(&self, name: &str, marker: &str, action: &str) -> Result<(), BackendError> {
        self.client.send(action, Method::PUT, &marker_of(name), json!({"value": marker})).await
    }

    async fn remove_marker(&self, name: &str) -> Result<(), BackendError> {
        let action = format!("remove the owner marker of {name}");
        self.client.delete(&action, &marker_of(name)).await.map(drop)
    }

    async fn virtual_host(
        &self,
        desired: &RabbitMqDesired,
    ) -> Result<Option<VirtualHostObserved>, BackendError> {
        let name = &desired.name;
        let action = format!("read virtual host {name}");
        let (limits_path, path) = (format!("vhost-limits/{name}"), format!("definitions/{name}"));
        let (limits, definitions) = try_join!(
            self.client.read::<Vec<Limits>>(&action, &limits_path),
            self.client.read::<Definitions>(&action, &path),
        )?;
        let (Some(limits), Some(found)) = (limits, definitions) else { return Ok(None) };
        let is_set = |(limit, number): (&'static str, u32)| {
            let mut values = limits.iter().filter_map(|limits| limits.value.get(limit));
            values.any(|value| value.as_u64() == Some(number.into()))
        };
        let wanted = Definitions::desired();
        Ok(Some(VirtualHostObserved {
            limits_match: desired.limits().into_iter().all(is_set),
            is_complete: found.has_all(&wanted),
            differing: found.differing(&wanted),
        }))
    }

    async fn create(&self, desired: &RabbitMqDesired, action: &str) -> Result<(), BackendError> {
        self.client.send(action, Method::PUT, &format!("vhosts/{}", desired.name), json!({})).await?;
        self.set_limits(desired, action).await?;
        self.import(desired, action).await
    }

    async fn set_limits(&self, desired: &RabbitMqDesired, action: &str) -> Result<(), BackendError> {
        for (limit, number) in desired.limits() {
            let path = format!("vhost-limits/{}/{limit}", desired.name);
            self.client.send(action, Method::PUT, &path, json!({"value": number})).await?;
        }
        Ok(())
    }

    /// Adds exchanges, queues and bindings that are missing. They go to the import for the whole broker, each with its virtual host: that for one
    /// virtual host leaves out exchanges in some versions.
    async fn import(&self, desired: &RabbitMqDesired, action: &str) -> Result<(), BackendError> {
        let body = Definitions::desired().of(&desired.name);
        self.client.send(action, Method::POST, "definitions", body).await
    }

    /// Sets password and tags of the user, and creates it where it is missing. Its limits are set with it, so that it never has none.
    async fn set_user(&self, desired: &RabbitMqDesired, action: &str) -> Result<(), BackendError> {
        let body = json!({"password": desired.password.expose_secret(), "tags": ""});
        self.client.send(action, Method::PUT, &format!("users/{}", desired.name), body).await?;
        self.set_user_limits(desired, action).await
    }

    async fn set_user_limits(&self, desired: &RabbitMqDesired, action: &str) -> Result<(), BackendError> {
        let path = format!("user-limits/{}/{MAX_CHANNELS}", desired.name);
        self.client.send(action, Method::PUT, &path, json!({"value": desired.max_channels()})).await
    }

    /// Sets what the user may do, and takes from it what it may do elsewhere.
    async fn set_permissions(&self, desired: &RabbitMqDesired, action: &str) -> Result<(), BackendError> {
        let name = &desired.name;
        let Permission { vhost, configure, write, read } = desired.permission();
        let body = json!({"configure": configure, "write": write, "read": read});
        self.client.send(action, Method::PUT, &format!("permissions/{vhost}/{name}"), body).await?;
        let path = format!("users/{name}/permissions");
        let all: Vec<Permission> = self.client.read(action, &path).await?.unwrap_or_default();
        for foreign in all.iter().filter(|permission| permission.vhost != vhost) {
            // A name of others may hold a slash.
            let place = url::form_urlencoded::byte_serialize(foreign.vhost.as_bytes()).collect::<String>();
            let place = place.replace('+', "%20");
            self.client.delete(action, &format!("permissions/{place}/{name}")).await?;
        }
        Ok(())
    }

    async fn remove_user(&self, name: &str) -> Result<bool, BackendError> {
        self.client.delete(&format!("delete user {name}"), &format!("users/{name}")).await
    }
}

/// Returns where a cell has RabbitMQ.
fn of(cell: &Cell) -> &CellRabbitMq {
    cell.spec.rabbitmq.as_ref().expect("a backend is called where the cell has it")
}

/// Returns the path of the marker of a virtual host and its user.
fn marker_of(name: &str) -> String {
    format!("global-parameters/posthouse-owner-{name}")
}

fn has_no_tags(tags: &Value) -> bool {
    match tags {
        Value::Array(tags) => tags.is_empty(),
        Value::String(tags) => tags.is_empty(),
        _ => true,
    }
}

/// Reports whether the hash of a user is that of a password: a salt, and SHA-256 over salt and password.
fn matches(user: &User, password: &SecretString) -> bool {
    let Ok(hash) = BASE64_STANDARD.decode(&user.password_hash) else { return false };
    let Some((salt, found)) = hash.split_at_checked(SALT_BYTES) else { return false };
    let expected = Sha256::new().chain_update(salt).chain_update(password.expose_secret()).finalize();
    user.hashing_algorithm == SHA256 && found.ct_eq(expected.as_slice()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(password_hash: &str, hashing_algorithm: &str) -> User {
        User {
            password_hash: password_hash.to_owned(),
            hashing_algorithm: hashing_algorithm.to_owned(),
            tags: json!([]),
            limits: Value::Null,
        }
    }

    #[test]
    fn a_password_is_known_by_its_hash() {
        // The example of RabbitMQ's documentation.
        let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
        assert!(matches(&user(hash, SHA256), &"test12".into()));
        assert!(!matches(&user(hash, SHA256), &"test13".into()));
        assert!(!matches(&user(hash, "rabbit_password_hashing_md5"), &"test12".into()));
        for broken in ["", "AAAA", "not base64"] {
            assert!(!matches(&user(broken, SHA256), &"test12".into()), "{broken}");
        }
    }

    #[test]
    fn a_user_of_a_tenant_has_no_tag() {
        for (tags, expected) in [
            (json!([]), true),
            (json!(""), true),
            (Value::Null, true),
            (json!(["administrator"]), false),
            (json!("monitoring"), false),
        ] {
            assert_eq!(has_no_tags(&tags), expected, "{tags}");
        }
    }
}
