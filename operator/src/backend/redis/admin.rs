//! Reads and writes a tenant's part of Redis.

use std::collections::BTreeSet;
use std::time::Duration;

use crds::{CellRedis, TenantId};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, TlsCertificates, Value, cmd,
};
use secrecy::{ExposeSecret, SecretString};

use super::{MARKER, RedisChange, RedisDesired, RedisObserved, UserObserved, commands, plan};
use crate::{
    backend::{
        change::ChangeKind,
        contract::Backend,
        error::{BackendError, within},
        idle::IdlePool,
        login::Credentials,
        ownership::{Claim, Owner, Ownership},
        password::sha256,
        tls::{self, Trust},
    },
    tenant::{Cell, Tenant},
    text::hex,
};

const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Keys looked at per SCAN round: a round blocks Redis for well under a millisecond.
const SCAN_COUNT: usize = 1000;

/// Administers tenants in one Redis. Made without I/O; connects on first use and again after a failure.
pub struct RedisAdmin {
    host: String,
    port: u16,
    endpoint: String,
    trust: Option<Trust>,
    credentials: Credentials,
    idle: IdlePool<MultiplexedConnection>,
}

impl Backend for RedisAdmin {
    const ENTRY: catalog::Backend = catalog::Backend::Redis;

    type Desired = RedisDesired;
    type Observed = RedisObserved;
    type Change = RedisChange;

    fn desired(tenant: &Tenant, password: &SecretString) -> RedisDesired {
        RedisDesired::of(tenant, password)
    }

    fn name(id: &TenantId) -> String {
        id.cache_user().to_string()
    }

    fn arguments(tenant: &Tenant) -> Vec<(&'static str, String)> {
        let cell = &tenant.cell;
        vec![
            ("--redis-addr", format!("{}:{}", cell.redis_host, cell.redis_port)),
            ("--redis-tls", cell.spec.redis.tls.unwrap_or_default().as_str().to_owned()),
        ]
    }

    fn in_sync(tenant: &Tenant) -> String {
        format!("user {} on keys and channels {}*", Self::name(&tenant.id), tenant.id.cache_prefix())
    }

    fn admin_secret(cell: &Cell) -> Option<&str> {
        Some(&cell.spec.redis.admin_secret_ref.name)
    }

    fn endpoint(cell: &Cell) -> String {
        let CellRedis { tls, .. } = &cell.spec.redis;
        format!("{}:{} {}", cell.redis_host, cell.redis_port, tls::fingerprint(cell, *tls))
    }

    fn connect(cell: &Cell, account: Credentials) -> Self {
        let CellRedis { tls, .. } = &cell.spec.redis;
        Self::new(&cell.redis_host, cell.redis_port, Trust::of(cell, *tls), account)
    }

    /// Reads what the tenant has. Writes nothing.
    async fn observe(&self, desired: &RedisDesired) -> Result<RedisObserved, BackendError> {
        let Some(user) = self.user(&desired.tenant).await? else { return Ok(RedisObserved::default()) };
        let ownership = user.ownership(&desired.tenant, &desired.owner)?;
        let reference = self.user(&reference()).await?;
        let commands_match = reference.is_some_and(|reference| reference.commands == user.commands);
        let password_matches = user.passwords == [hex(&sha256(&desired.password))];
        let (enabled, keys, channels) = (user.enabled, user.keys, user.channels);
        let selectors = user.selectors;
        let user = UserObserved { enabled, password_matches, commands_match, keys, channels, selectors };
        Ok(RedisObserved { ownership, user: Some(user) })
    }

    fn plan(desired: &RedisDesired, observed: &RedisObserved) -> Vec<RedisChange> {
        plan(desired, observed)
    }

    fn kind(change: &RedisChange) -> ChangeKind {
        change.kind()
    }

    /// Makes the user what it should be, whichever change needs it: one command, all or nothing. Sessions that are
    /// open go on under the new rights.
    async fn apply(&self, desired: &RedisDesired, change: &RedisChange) -> Result<(), BackendError> {
        let mut set = cmd("ACL");
        // The password goes as a hash, so that it is never seen by MONITOR or a slow log.
        set.arg("SETUSER").arg(&desired.tenant).arg("reset").arg("on");
        set.arg(format!("#{}", hex(&sha256(&desired.password))));
        set.arg(desired.keys())
            .arg(desired.channels())
            .arg(format!("({MARKER}{})", desired.owner.marker()))
            .arg(commands());
        let action = change.to_string();
        self.call::<()>(&action, &set).await?;
        let mut set = cmd("ACL");
        set.arg("SETUSER").arg(reference()).arg("reset").arg(commands());
        self.call::<()>(&action, &set).await?;
        self.save(&action).await
    }

    async fn ownership(&self, claim: &Claim) -> Result<Ownership, BackendError> {
        match self.user(&claim.name).await? {
            Some(user) => user.ownership(&claim.name, &claim.owner),
            None => Ok(Ownership::Absent),
        }
    }

    /// Removes the tenant's user, which ends its sessions, and its keys. Returns what was there.
    async fn remove(&self, claim: &Claim) -> Result<Vec<String>, BackendError> {
        let mut removed = Vec::new();
        let Some(user) = self.user(&claim.name).await? else { return Ok(removed) };
        user.ownership(&claim.name, &claim.owner)?;
        // The user is switched off first and deleted last: a removal cut short is found and repeated.
        let action = format!("lock user {}", claim.name);
        self.call::<()>(&action, cmd("ACL").arg("SETUSER").arg(&claim.name).arg("off").arg("-@all")).await?;
        let keys = self.remove_keys(&format!("mt:{}:*", claim.name)).await?;
        if keys > 0 {
            removed.push(format!("{keys} keys mt:{}:*", claim.name));
        }
        let action = format!("delete user {}", claim.name);
        self.call::<i64>(&action, cmd("ACL").arg("DELUSER").arg(&claim.name)).await?;
        self.save(&action).await?;
        removed.push(format!("user {}", claim.name));
        Ok(removed)
    }

    /// Releases a retained tenant: its keys stay, its user is locked, and the next owner may re-adopt it.
    async fn release(&self, claim: &Claim) -> Result<(), BackendError> {
        let Some(user) = self.user(&claim.name).await? else { return Ok(()) };
        if !user.ownership(&claim.name, &claim.owner)?.is_in_use() {
            return Ok(());
        }
        let action = format!("release user {}", claim.name);
        let mut set = cmd("ACL");
        set.arg("SETUSER").arg(&claim.name).arg("reset").arg(format!("({MARKER}{})", claim.owner.released()));
        self.call::<()>(&action, &set).await?;
        self.save(&action).await
    }
}

impl RedisAdmin {
    /// Connections have TLS where `trust` says what the server is verified against.
    pub fn new(host: impl Into<String>, port: u16, trust: Option<Trust>, credentials: Credentials) -> Self {
        let host = host.into();
        let endpoint = format!("{host}:{port}");
        Self { host, port, endpoint, trust, credentials, idle: IdlePool::default() }
    }

    async fn remove_keys(&self, pattern: &str) -> Result<usize, BackendError> {
        let mut removed = 0;
        let mut cursor = 0_u64;
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_COUNT);
            let (next, keys): (u64, Vec<Vec<u8>>) = self.call("list keys", &scan).await?;
            if !keys.is_empty() {
                removed += self.call::<usize>("remove keys", cmd("UNLINK").arg(&keys)).await?;
            }
            if next == 0 {
                return Ok(removed);
            }
            cursor = next;
        }
    }

    async fn user(&self, name: &str) -> Result<Option<AclUser>, BackendError> {
        let action = format!("read user {name}");
        let answer: Value = self.call(&action, cmd("ACL").arg("GETUSER").arg(name)).await?;
        AclUser::parse(answer).map_err(|detail| BackendError::Refused {
            backend: Self::ENTRY,
            action,
            detail: detail.into(),
            retryable: false,
        })
    }

    /// Writes the users to the ACL file. A Redis without one keeps them in memory only; after a restart they are missing
    /// and made again like any other drift.
    async fn save(&self, action: &str) -> Result<(), BackendError> {
        match self.call::<()>(action, cmd("ACL").arg("SAVE")).await {
            Err(BackendError::Refused { detail, .. })
                if detail.contains("not configured to use an ACL file") =>
            {
                Ok(())
            }
            other => other,
        }
    }

    async fn call<T: redis::FromRedisValue>(
        &self,
        action: &str,
        command: &redis::Cmd,
    ) -> Result<T, BackendError> {
        if let Some(mut connection) = self.idle.take() {
            match self.send(&mut connection, command).await? {
                Ok(value) => {
                    self.idle.put_back(connection);
                    return Ok(value);
                }
                // The server was restarted, or the idle connection was cut: every command here can be sent twice.
                Err(error) if error.is_unrecoverable_error() || error.is_io_error() => {}
                Err(error) => return Err(self.classify(action, &error)),
            }
        }
        let opening = within(Self::ENTRY, &self.endpoint, OPEN_TIMEOUT, async { Ok(self.open().await) });
        let mut connection = opening.await?.map_err(|error| self.classify("log in", &error))?;
        let value =
            self.send(&mut connection, command).await?.map_err(|error| self.classify(action, &error))?;
        self.idle.put_back(connection);
        Ok(value)
    }

    async fn send<T: redis::FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
        command: &redis::Cmd,
    ) -> Result<Result<T, RedisError>, BackendError> {
        within(Self::ENTRY, &self.endpoint, CALL_TIMEOUT, async { Ok(command.query_async(connection).await) })
            .await
    }

    async fn open(&self) -> Result<MultiplexedConnection, RedisError> {
        let account = RedisConnectionInfo::default()
            .set_username(&self.credentials.username)
            .set_password(self.credentials.password.expose_secret())
            // CLIENT SETINFO is not among the operator's rights and is of no use here.
            .set_skip_set_lib_name();
        let (host, port) = (self.host.clone(), self.port);
        let address = match self.trust {
            None => ConnectionAddr::Tcp(host, port),
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        };
        let info = address.into_connection_info()?.set_redis_settings(account);
        let client = match self.trust.as_ref().and_then(|trust| trust.ca_bundle.as_deref()) {
            None => Client::open(info)?,
            // Instead of the public authorities: the library has no room for both.
            Some(bundle) => {
                let root_cert = Some(bundle.as_bytes().to_vec());
                Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })?
            }
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(OPEN_TIMEOUT))
            .set_response_timeout(Some(CALL_TIMEOUT));
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    fn classify(&self, action: &str, error: &RedisError) -> BackendError {
        let (backend, endpoint) = (Self::ENTRY, self.endpoint.clone());
        let code = error.code().unwrap_or_default();
        if error.kind() == ErrorKind::AuthenticationFailed || code == "WRONGPASS" || code == "NOAUTH" {
            return BackendError::CredentialsRejected { backend, endpoint };
        }
        if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) {
            let retryable = matches!(code, "LOADING" | "BUSY" | "TRYAGAIN" | "MASTERDOWN");
            return BackendError::refused(backend, action, error, retryable);
        }
        BackendError::unavailable(backend, &endpoint, tls::why(backend, error))
    }
}

/// Returns the name of the user whose rules are the measure. It holds a hash of the rules, so that another version of the
/// operator measures by its own.
fn reference() -> String {
    format!("posthouse-rules-{}", &hex(&sha256(&commands().join(" ").into()))[..8])
}

/// The response of ACL GETUSER.
#[derive(Debug, Default)]
struct AclUser {
    enabled: bool,
    passwords: Vec<String>,
    commands: BTreeSet<String>,
    keys: BTreeSet<String>,
    channels: BTreeSet<String>,
    owner: Option<String>,
    /// Selectors but for the owner marker.
    selectors: usize,
}

impl AclUser {
    fn parse(answer: Value) -> Result<Option<Self>, &'static str> {
        if answer == Value::Nil {
            return Ok(None);
        }
        let mut user = Self::default();
        for (name, value) in answer.into_map_iter().map_err(|_| "the answer is no map")? {
            let name: String = redis::from_redis_value(name).map_err(|_| "a field has no name")?;
            match name.as_str() {
                "flags" => user.enabled = words(value)?.iter().any(|flag| flag == "on"),
                "passwords" => user.passwords = words(value)?,
                "commands" => user.commands = words(value)?.into_iter().collect(),
                "keys" => user.keys = words(value)?.into_iter().collect(),
                "channels" => user.channels = words(value)?.into_iter().collect(),
                "selectors" => {
                    for selector in value.into_sequence().map_err(|_| "selectors are no list")? {
                        match marker(selector)? {
                            Some(owner) => user.owner = Some(owner),
                            None => user.selectors += 1,
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(Some(user))
    }

    fn ownership(&self, tenant: &str, owner: &Owner) -> Result<Ownership, BackendError> {
        Ownership::of(RedisAdmin::ENTRY, &format!("user {tenant}"), self.owner.as_deref(), owner)
    }
}

/// Reads the owner from a selector that allows no command; `None` for any other.
fn marker(selector: Value) -> Result<Option<String>, &'static str> {
    let selector = AclUser::parse(selector)?.unwrap_or_default();
    let mut keys = selector.keys.iter();
    let owner = keys.next().and_then(|key| key.strip_prefix(MARKER)).map(str::to_owned);
    let powerless = selector.commands == BTreeSet::from(["-@all".to_owned()]) && keys.next().is_none();
    Ok(if powerless { owner } else { None })
}

/// Reads a list that is an array or, since Redis 7, one string with blanks.
fn words(value: Value) -> Result<Vec<String>, &'static str> {
    let texts: Vec<String> = match value {
        Value::Array(_) | Value::Set(_) => {
            redis::from_redis_value(value).map_err(|_| "a list holds no text")?
        }
        other => vec![redis::from_redis_value(other).map_err(|_| "a field holds no text")?],
    };
    Ok(texts.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn answers_of_redis_6_and_7_read_alike() {
        let flags = || (text("flags"), Value::Array(vec![text("on")]));
        let seven = Value::Map(vec![
            flags(),
            (text("keys"), text("~a:* ~b:*")),
            (text("commands"), text("-@all +get")),
        ]);
        let keys = Value::Array(vec![text("~a:*"), text("~b:*")]);
        let six = Value::Array(vec![
            text("flags"),
            flags().1,
            text("keys"),
            keys,
            text("commands"),
            text("-@all +get"),
        ]);
        for answer in [seven, six] {
            let user = AclUser::parse(answer).unwrap().unwrap();
            assert!(user.enabled);
            assert_eq!(user.keys.len(), 2);
            assert_eq!(user.commands, BTreeSet::from(["-@all".to_owned(), "+get".to_owned()]));
        }
        let selector = |commands, keys| {
            Value::Array(vec![
                text("commands"),
                text(commands),
                text("keys"),
                text(keys),
                text("channels"),
                text(""),
            ])
        };
        assert_eq!(marker(selector("-@all", "~posthouse-owner:uid-1")), Ok(Some("uid-1".to_owned())));
        assert_eq!(marker(selector("-@all +get", "~posthouse-owner:uid-1")), Ok(None));
        assert_eq!(marker(selector("-@all", "~posthouse-owner:uid-1 ~*")), Ok(None));
        assert!(AclUser::parse(Value::Nil).unwrap().is_none());
    }
}
