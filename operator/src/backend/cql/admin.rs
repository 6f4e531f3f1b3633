//! Reads and writes a tenant's part of the CQL store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crds::{CellCql, CqlFlavor, TenantId};
use scylla::client::PoolSize;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError,
    MetadataError, NewSessionError, RequestAttemptError,
};
use scylla::response::query_result::{QueryResult, QueryRowsResult};
use scylla::value::{CqlTimeuuid, CqlValue, Row};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::hash::bcrypt_hash;
use super::{
    CqlChange, CqlDesired, CqlObserved, KeyspaceObserved, Permission, RoleObserved, plan, wanted_replication,
};
use crate::{
    backend::{
        change::ChangeKind,
        contract::{Backend, BackendFacts},
        error::{BackendError, within},
        login::Credentials,
        marker::Marker,
        ownership::{Claim, Owner, Ownership},
        statement::{identifier, literal},
        tls::{self, Trust},
    },
    tenant::{Cell, Tenant},
    text::one_line,
};

/// Connecting and logging in: a healthy node takes 150 ms, most of it bcrypt.
const OPEN_TIMEOUT: Duration = Duration::from_secs(4);
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Schema changes take 0.05-0.5 s each on a busy machine; on several nodes the wait for agreement comes on top.
const DDL_TIMEOUT: Duration = Duration::from_secs(20);

/// Of a keyspace that was created before generations were recorded.
const FIRST_GENERATION: &str = "first";

/// Administers tenants in one CQL store. Made without I/O; connects on first use and again after a failure.
pub struct CqlAdmin {
    contact_points: Vec<String>,
    endpoint: String,
    flavor: CqlFlavor,
    trust: Option<Trust>,
    credentials: Credentials,
    session: Mutex<Option<Arc<Session>>>,
    /// One schema change at a time: concurrent ones from several coordinators are a known race.
    ddl: Mutex<()>,
}

impl Backend for CqlAdmin {
    const ENTRY: catalog::Backend = catalog::Backend::Cql;

    type Desired = CqlDesired;
    type Observed = CqlObserved;
    type Change = CqlChange;

    fn desired(tenant: &Tenant, password: &SecretString) -> CqlDesired {
        CqlDesired::of(tenant, password)
    }

    fn name(id: &TenantId) -> String {
        id.keyspace().to_string()
    }

    fn arguments(tenant: &Tenant) -> Vec<(&'static str, String)> {
        let cell = &tenant.cell;
        vec![
            ("--cql-contact-points", cell.spec.cql.contact_points.join(",")),
            ("--cql-tls", cell.spec.cql.tls.unwrap_or_default().as_str().to_owned()),
            ("--cql-keyspace", Self::name(&tenant.id)),
            ("--cql-flavor", cell.cql_flavor.as_str().to_owned()),
        ]
    }

    fn in_sync(tenant: &Tenant) -> String {
        format!("keyspace and role {}", Self::name(&tenant.id))
    }

    fn data(desired: &CqlDesired) -> Option<String> {
        Some(format!("keyspace {}", desired.name))
    }

    fn facts(observed: &CqlObserved) -> BackendFacts {
        let generation = observed.keyspace.as_ref().map(|keyspace| keyspace.generation.clone());
        let is_inherited = observed.ownership.is_inherited();
        BackendFacts { generation, is_inherited, ..BackendFacts::default() }
    }

    fn admin_secret(cell: &Cell) -> Option<&str> {
        Some(&cell.spec.cql.admin_secret_ref.name)
    }

    fn endpoint(cell: &Cell) -> String {
        let CellCql { contact_points, tls, .. } = &cell.spec.cql;
        let flavor = cell.cql_flavor.as_str();
        format!("{} {flavor} {}", contact_points.join(","), tls::fingerprint(cell, *tls))
    }

    fn connect(cell: &Cell, account: Credentials) -> Self {
        let CellCql { contact_points, tls, .. } = &cell.spec.cql;
        Self::new(contact_points.clone(), cell.cql_flavor, Trust::of(cell, *tls), account)
    }

    /// Reads what the tenant has. Writes nothing and does not log in as the tenant.
    async fn observe(&self, desired: &CqlDesired) -> Result<CqlObserved, BackendError> {
        let name = identifier(Self::ENTRY, &desired.name)?;
        let keyspace = self.keyspace(name).await?;
        let role = self.role(name, desired.password.expose_secret()).await?;
        let something = keyspace.is_some() || role.is_some();
        let ownership = self.owner_of(name, something, &desired.owner).await?;
        let permissions = if role.is_some() { self.permissions(name).await? } else { BTreeSet::new() };
        Ok(CqlObserved { ownership, keyspace, role, permissions })
    }

    fn plan(desired: &CqlDesired, observed: &CqlObserved) -> Vec<CqlChange> {
        plan(desired, observed)
    }

    fn kind(change: &CqlChange) -> ChangeKind {
        change.kind()
    }

    /// Makes one change of a plan.
    async fn apply(&self, desired: &CqlDesired, change: &CqlChange) -> Result<(), BackendError> {
        let name = identifier(Self::ENTRY, &desired.name)?;
        let hash = || literal(&bcrypt_hash(name, desired.password.expose_secret()));
        let action = change.to_string();
        let statement = match change {
            CqlChange::TakeOwnership { .. } => return self.mark(desired, &action).await,
            CqlChange::CreateKeyspace { replication, .. } => {
                // Before the keyspace: one that is there has its own generation.
                self.record(desired, &action, &generation_row(name)).await?;
                format!("CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = {}", cql_map(replication))
            }
            CqlChange::ReplicationDiffers { .. } => {
                let (backend, action) = (Self::ENTRY, "move data".to_owned());
                return Err(BackendError::Refused {
                    backend,
                    action,
                    detail: change.to_string(),
                    retryable: false,
                });
            }
            CqlChange::CreateRole { .. } => {
                let options = "SUPERUSER = false AND LOGIN = true";
                format!("CREATE ROLE IF NOT EXISTS {name} WITH HASHED PASSWORD = {} AND {options}", hash())
            }
            CqlChange::AllowLogin { .. } => format!("ALTER ROLE {name} WITH LOGIN = true"),
            CqlChange::SetPassword { .. } => format!("ALTER ROLE {name} WITH HASHED PASSWORD = {}", hash()),
            CqlChange::LeaveRole { group, .. } => format!("REVOKE {} FROM {name}", quoted(group)),
            CqlChange::Grant { permission, .. } => {
                format!("GRANT {} ON KEYSPACE {name} TO {name}", permission.permission)
            }
            CqlChange::Revoke { permission, .. } => {
                let resource =
                    resource_clause(&permission.resource).ok_or_else(|| BackendError::Refused {
                        backend: Self::ENTRY,
                        action: action.clone(),
                        detail: "revoke it by hand: the operator does not administer rights of this kind"
                            .into(),
                        retryable: false,
                    })?;
                format!("REVOKE {} ON {resource} FROM {name}", permission.permission)
            }
        };
        self.change(&action, &statement).await
    }

    async fn ownership(&self, claim: &Claim) -> Result<Ownership, BackendError> {
        let name = identifier(Self::ENTRY, &claim.name)?;
        let something = self.keyspace(name).await?.is_some() || self.role(name, "").await?.is_some();
        self.owner_of(name, something, &claim.owner).await
    }

    /// Removes the tenant's role, which ends its access, and its keyspace with all tables. Returns what was there.
    async fn remove(&self, claim: &Claim) -> Result<Vec<String>, BackendError> {
        let name = identifier(Self::ENTRY, &claim.name)?;
        let keyspace = self.keyspace(name).await?.is_some();
        let role = self.role(name, "").await?.is_some();
        let mut removed = Vec::new();
        if self.owner_of(name, keyspace || role, &claim.owner).await? == Ownership::Absent {
            return Ok(removed);
        }
        if role {
            self.change(&format!("drop role {name}"), &format!("DROP ROLE IF EXISTS {name}")).await?;
            removed.push(format!("role {name}"));
        }
        if keyspace {
            self.change(&format!("drop keyspace {name}"), &format!("DROP KEYSPACE IF EXISTS {name}")).await?;
            removed.push(format!("keyspace {name}"));
        }
        for table in ["keyspaces", "owners"] {
            let forget = format!("DELETE FROM posthouse_operator.{table} WHERE name = {}", literal(name));
            self.own_rows(&format!("forget the owner of {name}"), &forget).await?;
        }
        Ok(removed)
    }

    /// Releases a retained tenant: its data stays, its role is dropped, and the next owner may re-adopt it.
    async fn release(&self, claim: &Claim) -> Result<(), BackendError> {
        let name = identifier(Self::ENTRY, &claim.name)?;
        let something = self.keyspace(name).await?.is_some();
        if !self.owner_of(name, something, &claim.owner).await?.is_in_use() {
            return Ok(());
        }
        self.change(&format!("drop role {name}"), &format!("DROP ROLE IF EXISTS {name}")).await?;
        self.run(&format!("release {name}"), &owner_row(name, &claim.owner.released()), READ_TIMEOUT)
            .await
            .map(|_| ())
    }
}

impl CqlAdmin {
    /// Connections have TLS where `trust` says what the nodes are verified against, by their IP addresses.
    pub fn new(
        contact_points: Vec<String>,
        flavor: CqlFlavor,
        trust: Option<Trust>,
        credentials: Credentials,
    ) -> Self {
        let endpoint = contact_points.join(",");
        let (session, ddl) = (Mutex::default(), Mutex::default());
        Self { contact_points, endpoint, flavor, trust, credentials, session, ddl }
    }

    /// Writes the owner's row.
    async fn mark(&self, desired: &CqlDesired, action: &str) -> Result<(), BackendError> {
        self.record(desired, action, &owner_row(&desired.name, &desired.owner.marker())).await
    }

    /// Writes a row of the operator's own tables; creates them when they are not there yet.
    async fn record(&self, desired: &CqlDesired, action: &str, row: &str) -> Result<(), BackendError> {
        if self.run(action, row, READ_TIMEOUT).await.is_ok() {
            return Ok(());
        }
        let replication = cql_map(&wanted_replication(desired));
        let keyspace = "CREATE KEYSPACE IF NOT EXISTS posthouse_operator WITH replication =";
        let table = "CREATE TABLE IF NOT EXISTS posthouse_operator";
        for statement in [
            format!("{keyspace} {replication}"),
            format!("{table}.owners (name text PRIMARY KEY, owner_uid text)"),
            format!("{table}.keyspaces (name text PRIMARY KEY, generation timeuuid)"),
        ] {
            self.change("create the operator's own tables", &statement).await?;
        }
        self.run(action, row, READ_TIMEOUT).await.map(|_| ())
    }

    /// Runs a statement on the operator's own tables; `None` while they are not there, as before the first tenant.
    async fn own_rows(&self, action: &str, statement: &str) -> Result<Option<QueryRowsResult>, BackendError> {
        match self.run(action, statement, READ_TIMEOUT).await {
            Ok(result) => self.rows(result),
            Err(BackendError::Refused { detail, .. }) if is_missing(&detail) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn owner_of(&self, name: &str, something: bool, owner: &Owner) -> Result<Ownership, BackendError> {
        let select =
            format!("SELECT owner_uid FROM posthouse_operator.owners WHERE name = {}", literal(name));
        let rows = self.own_rows(&format!("read the owner of {name}"), &select).await?;
        let marker = rows.and_then(|rows| rows.maybe_first_row::<(String,)>().ok().flatten());
        let marker = marker.map(|(owner,)| owner);
        if marker.is_none() && !something {
            return Ok(Ownership::Absent);
        }
        Ownership::of(Self::ENTRY, &format!("keyspace or role {name}"), marker.as_deref(), owner)
    }

    async fn keyspace(&self, name: &str) -> Result<Option<KeyspaceObserved>, BackendError> {
        let select = format!(
            "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = {}",
            literal(name)
        );
        let result = self.run(&format!("read keyspace {name}"), &select, READ_TIMEOUT).await?;
        let Some(rows) = self.rows(result)? else { return Ok(None) };
        let row =
            rows.maybe_first_row::<(HashMap<String, String>,)>().map_err(|error| self.unreadable(error))?;
        let Some((replication,)) = row else { return Ok(None) };
        let shorten = |(key, value): (String, String)| match key.as_str() {
            "class" => (key, value.rsplit('.').next().unwrap_or_default().to_owned()),
            _ => (key, value),
        };
        let replication = replication.into_iter().map(shorten).collect();
        Ok(Some(KeyspaceObserved { generation: self.generation(name).await?, replication }))
    }

    /// Returns the generation of a keyspace that is there. The store's own time of it is none: the store writes that again with
    /// every table of the keyspace.
    async fn generation(&self, name: &str) -> Result<String, BackendError> {
        let select =
            format!("SELECT generation FROM posthouse_operator.keyspaces WHERE name = {}", literal(name));
        let rows = self.own_rows(&format!("read the generation of {name}"), &select).await?;
        let Some(rows) = rows else { return Ok(FIRST_GENERATION.to_owned()) };
        let row = rows.maybe_first_row::<(CqlTimeuuid,)>().map_err(|error| self.unreadable(error))?;
        Ok(row.map_or_else(|| FIRST_GENERATION.to_owned(), |(generation,)| generation.to_string()))
    }

    async fn role(&self, name: &str, password: &str) -> Result<Option<RoleObserved>, BackendError> {
        let table = match self.flavor {
            CqlFlavor::Scylla => "system.roles",
            CqlFlavor::Cassandra => "system_auth.roles",
        };
        let select =
            format!("SELECT can_login, salted_hash, member_of FROM {table} WHERE role = {}", literal(name));
        let result = self.run(&format!("read role {name}"), &select, READ_TIMEOUT).await?;
        let Some(rows) = self.rows(result)? else { return Ok(None) };
        type Columns = (Option<bool>, Option<String>, Option<BTreeSet<String>>);
        let row = rows.maybe_first_row::<Columns>().map_err(|error| self.unreadable(error))?;
        Ok(row.map(|(can_login, hash, member_of)| RoleObserved {
            can_login: can_login.unwrap_or_default(),
            password_matches: hash.is_some_and(|hash| hash == bcrypt_hash(name, password)),
            member_of: member_of.unwrap_or_default().into_iter().collect(),
        }))
    }

    /// Lists the role's own rights; the statement is the same in both flavors, the tables behind it are not.
    async fn permissions(&self, name: &str) -> Result<BTreeSet<Permission>, BackendError> {
        let statement = format!("LIST ALL PERMISSIONS OF {name} NORECURSIVE");
        let result = self.run(&format!("list rights of role {name}"), &statement, READ_TIMEOUT).await?;
        let mut permissions = BTreeSet::new();
        let Some(rows) = self.rows(result)? else { return Ok(permissions) };
        let column = |name: &str| rows.column_specs().iter().position(|column| column.name() == name);
        let (Some(resource), Some(permission)) = (column("resource"), column("permission")) else {
            return Err(self.unreadable("no columns resource and permission"));
        };
        for row in rows.rows::<Row>().map_err(|error| self.unreadable(error))? {
            let row = row.map_err(|error| self.unreadable(error))?;
            let text = |index: usize| match row.columns.get(index) {
                Some(Some(CqlValue::Text(text))) => Ok(text.clone()),
                _ => Err(self.unreadable("a right is no text")),
            };
            permissions.insert(Permission { resource: text(resource)?, permission: text(permission)? });
        }
        Ok(permissions)
    }

    /// Runs a schema or role change, one at a time.
    async fn change(&self, action: &str, statement: &str) -> Result<(), BackendError> {
        let _turn = self.ddl.lock().await;
        self.run(action, statement, DDL_TIMEOUT).await.map(|_| ())
    }

    async fn run(&self, action: &str, statement: &str, limit: Duration) -> Result<QueryResult, BackendError> {
        let session = self.session().await?;
        let answer = within(Self::ENTRY, &self.endpoint, limit, async {
            session.query_unpaged(statement, &[]).await.map_err(|error| self.classify(action, error))
        })
        .await;
        if matches!(answer, Err(BackendError::Unavailable { .. })) {
            self.session.lock().await.take_if(|kept| Arc::ptr_eq(kept, &session));
        }
        answer
    }

    async fn session(&self) -> Result<Arc<Session>, BackendError> {
        let mut kept = self.session.lock().await;
        if let Some(session) = &*kept {
            return Ok(Arc::clone(session));
        }
        let tls = self.trust.as_ref().map(Trust::client).transpose();
        let tls = tls.map_err(|error| self.unavailable(error))?.map(Arc::new);
        // One connection is enough for an administrator, and each costs the store a bcrypt at login.
        let builder = SessionBuilder::new()
            .tls_context(tls)
            .known_nodes(&self.contact_points)
            .user(&self.credentials.username, self.credentials.password.expose_secret())
            .pool_size(PoolSize::PerHost(NonZeroUsize::MIN))
            .connection_timeout(OPEN_TIMEOUT)
            .fetch_schema_metadata(false);
        // Boxed: the driver's future is large, and every call holds it.
        let building = within(Self::ENTRY, &self.endpoint, OPEN_TIMEOUT, async {
            Box::pin(builder.build()).await.map_err(|error| self.classify_new(error))
        });
        let session = Arc::new(building.await?);
        *kept = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Returns `None` for an answer without rows: with nothing to list, LIST returns a different kind.
    fn rows(&self, result: QueryResult) -> Result<Option<QueryRowsResult>, BackendError> {
        if !result.is_rows() {
            return Ok(None);
        }
        result.into_rows_result().map(Some).map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, why: impl std::fmt::Display) -> BackendError {
        let (backend, action) = (Self::ENTRY, "answer in a known form".to_owned());
        BackendError::Refused { backend, action, detail: one_line(why), retryable: false }
    }

    fn classify(&self, action: &str, error: ExecutionError) -> BackendError {
        match error {
            ExecutionError::LastAttemptError(RequestAttemptError::DbError(kind, message)) => {
                // An `ALTER ROLE ... PASSWORD` within 5 s of the last is refused as Overloaded; it passes later.
                let permanent = matches!(
                    kind,
                    DbError::Invalid | DbError::SyntaxError | DbError::Unauthorized | DbError::ConfigError
                );
                let (backend, detail) = (Self::ENTRY, one_line(message));
                BackendError::Refused { backend, action: action.into(), detail, retryable: !permanent }
            }
            ExecutionError::ConnectionPoolError(error) => self.classify_pool(error),
            other => self.unavailable(other),
        }
    }

    fn classify_new(&self, error: NewSessionError) -> BackendError {
        match error {
            NewSessionError::MetadataError(MetadataError::ConnectionPoolError(error)) => {
                self.classify_pool(error)
            }
            other => self.unavailable(other),
        }
    }

    fn classify_pool(&self, error: ConnectionPoolError) -> BackendError {
        if let ConnectionPoolError::Broken { last_connection_error } = &error
            && let ConnectionError::ConnectionSetupRequestError(setup) = last_connection_error
            && let ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, _) = &setup.error
        {
            return BackendError::CredentialsRejected {
                backend: Self::ENTRY,
                endpoint: self.endpoint.clone(),
            };
        }
        match &error {
            ConnectionPoolError::Broken { last_connection_error: ConnectionError::IoError(error) } => {
                self.unavailable(tls::why(Self::ENTRY, &**error))
            }
            _ => self.unavailable(&error),
        }
    }

    fn unavailable(&self, error: impl std::fmt::Display) -> BackendError {
        let (backend, endpoint) = (Self::ENTRY, self.endpoint.clone());
        BackendError::Unavailable { backend, endpoint, detail: one_line(error) }
    }
}

fn owner_row(name: &str, marker: &Marker) -> String {
    let (name, owner) = (literal(name), literal(&marker.to_string()));
    format!("INSERT INTO posthouse_operator.owners (name, owner_uid) VALUES ({name}, {owner})")
}

/// The row that a new keyspace begins with.
fn generation_row(name: &str) -> String {
    format!("INSERT INTO posthouse_operator.keyspaces (name, generation) VALUES ({}, now())", literal(name))
}

fn cql_map(map: &BTreeMap<String, String>) -> String {
    let entries: Vec<_> =
        map.iter().map(|(key, value)| format!("{}: {}", literal(key), literal(value))).collect();
    format!("{{{}}}", entries.join(", "))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Turns the store's spelling of a resource into that of a statement; `None` for kinds the operator leaves alone.
fn resource_clause(resource: &str) -> Option<String> {
    let inner = resource.strip_prefix('<')?.strip_suffix('>')?;
    match inner.split_once(' ')? {
        ("all", "keyspaces") => Some("ALL KEYSPACES".into()),
        ("all", "roles") => Some("ALL ROLES".into()),
        ("keyspace", name) => Some(format!("KEYSPACE {}", quoted(name))),
        ("role", name) => Some(format!("ROLE {}", quoted(name))),
        ("table", name) => {
            let (keyspace, table) = name.split_once('.')?;
            Some(format!("TABLE {}.{}", quoted(keyspace), quoted(table)))
        }
        _ => None,
    }
}

/// Cassandra and ScyllaDB spell it differently; both return Invalid.
fn is_missing(detail: &str) -> bool {
    let detail = detail.to_lowercase();
    ["does not exist", "unconfigured table", "can't find"].iter().any(|text| detail.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cql::own_keyspace;

    #[test]
    fn resources_read_back_as_statements() {
        for (resource, clause) in [
            (own_keyspace("mt_acme").as_str(), Some("KEYSPACE \"mt_acme\"")),
            ("<all keyspaces>", Some("ALL KEYSPACES")),
            ("<table mt_a.messages>", Some("TABLE \"mt_a\".\"messages\"")),
            ("<all functions>", None),
            ("data", None),
        ] {
            assert_eq!(resource_clause(resource).as_deref(), clause, "{resource}");
        }
    }
}
