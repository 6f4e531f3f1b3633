//! Reads and writes a tenant's part of PostgreSQL.

use std::{io, time::Duration};

use crds::{CellPostgres, TenantId};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, raw_sql};

use super::verifier::scram_verifier;
use super::{
    DatabaseObserved, PostgresChange, PostgresDesired, PostgresObserved, RoleObserved, SETTINGS, plan,
};
use crate::{
    backend::{
        change::ChangeKind,
        contract::{Backend, BackendFacts},
        error::{BackendError, Holder},
        idle::IdlePool,
        login::Credentials,
        ownership::{Claim, Owner, Ownership},
        password::PasswordMemo,
        statement::{identifier, literal},
        tls::{self, Trust},
    },
    tenant::{Cell, Tenant},
    text::one_line,
    time_limit::within,
};

const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// CREATE and DROP DATABASE copy and remove files: 0.1 s on a quiet machine.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// The database the operator talks to: statements on roles and databases work from any.
const MAINTENANCE_DATABASE: &str = "postgres";
const MARKER: &str = "posthouse.owner=";
/// What the library says of a server that has no TLS.
const NO_TLS: &str = "server does not support TLS";
/// How the server ends its refusal of a session without TLS for which `pg_hba.conf` has no rule.
const UNENCRYPTED: &str = ", no encryption";
/// Sessions of the server that no tenant is given: the operator has its own work to do.
const OPERATOR_SESSIONS: i32 = 10;
/// Who holds this lock, a number that means nothing else, may change how many sessions roles may have.
const SESSIONS_LOCK: i64 = 0x706f_7374_686f_7573;

const ROLE: &str = "
    SELECT rolcanlogin, rolconnlimit, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls,
        pg_has_role(current_user, oid, 'USAGE') AS operator_is_member,
        shobj_description(oid, 'pg_authid') AS comment, COALESCE(rolconfig, '{}') AS settings,
        ARRAY(SELECT pg_get_userbyid(roleid)::text FROM pg_auth_members WHERE member = r.oid) AS member_of
    FROM pg_roles r WHERE rolname = $1";
const DATABASE: &str = "
    SELECT oid::text AS id, pg_get_userbyid(datdba)::text AS owner, has_database_privilege('public', oid, 'CONNECT') AS open_to_all
    FROM pg_database WHERE datname = $1";

/// Administers tenants in one PostgreSQL server. Made without I/O; connects on first use and again after a failure.
pub struct PostgresAdmin {
    host: String,
    port: u16,
    endpoint: String,
    trust: Option<Trust>,
    credentials: Credentials,
    idle: IdlePool<PgConnection>,
    passwords: PasswordMemo,
}

impl Backend for PostgresAdmin {
    const ENTRY: catalog::Backend = catalog::Backend::Postgres;

    type Desired = PostgresDesired;
    type Observed = PostgresObserved;
    type Change = PostgresChange;

    fn desired(tenant: &Tenant, password: &SecretString) -> PostgresDesired {
        PostgresDesired::of(tenant, password)
    }

    fn name(id: &TenantId) -> String {
        id.database().to_string()
    }

    fn arguments(tenant: &Tenant) -> Vec<(&'static str, String)> {
        let cell = &tenant.cell;
        vec![
            ("--postgres-host", cell.spec.postgres.host.clone()),
            ("--postgres-port", cell.postgres_port.to_string()),
            ("--postgres-tls", cell.spec.postgres.tls.unwrap_or_default().as_str().to_owned()),
            ("--postgres-database", Self::name(&tenant.id)),
        ]
    }

    fn in_sync(tenant: &Tenant) -> String {
        format!("database and role {}", Self::name(&tenant.id))
    }

    fn data(desired: &PostgresDesired) -> Option<String> {
        Some(format!("database {}", desired.name))
    }

    fn facts(observed: &PostgresObserved) -> BackendFacts {
        let generation = observed.database.as_ref().map(|database| database.id.clone());
        let is_inherited = observed.ownership.is_inherited();
        BackendFacts { generation, is_inherited, ..BackendFacts::default() }
    }

    fn admin_secret(cell: &Cell) -> Option<&str> {
        Some(&cell.spec.postgres.admin_secret_ref.name)
    }

    fn endpoint(cell: &Cell) -> String {
        let CellPostgres { host, tls, .. } = &cell.spec.postgres;
        format!("{host}:{} {}", cell.postgres_port, tls::fingerprint(cell, *tls))
    }

    fn connect(cell: &Cell, account: Credentials) -> Self {
        let CellPostgres { host, tls, .. } = &cell.spec.postgres;
        Self::new(host, cell.postgres_port, Trust::of(cell, *tls), account)
    }

    /// Reads what the tenant has. Writes nothing; a password not yet known to work is tried by a login as the tenant.
    async fn observe(&self, desired: &PostgresDesired) -> Result<PostgresObserved, BackendError> {
        let name = identifier(Self::ENTRY, &desired.name)?;
        let mut observed = self.read(name, &desired.owner).await?;
        if let Some(role) = &mut observed.role {
            role.password_matches = self.verify(name, &desired.password).await?;
        }
        Ok(observed)
    }

    fn plan(desired: &PostgresDesired, observed: &PostgresObserved) -> Vec<PostgresChange> {
        plan(desired, observed)
    }

    fn kind(change: &PostgresChange) -> ChangeKind {
        change.kind()
    }

    /// Makes one change of a plan.
    async fn apply(&self, desired: &PostgresDesired, change: &PostgresChange) -> Result<(), BackendError> {
        let name = identifier(Self::ENTRY, &desired.name)?;
        let marker = literal(&format!("{MARKER}{}", desired.owner.marker()));
        let verifier = || literal(&scram_verifier(desired.password.expose_secret()));
        let action = change.to_string();
        match change {
            PostgresChange::CreateRole { .. } => {
                let (limit, verifier) = (desired.connection_limit, verifier());
                let settings: String =
                    SETTINGS.iter().map(|(parameter, value)| set(name, parameter, value) + "; ").collect();
                let room = room_for(name, limit);
                let statement = format!(
                    "BEGIN; {room}CREATE ROLE {name} LOGIN NOINHERIT CONNECTION LIMIT {limit} PASSWORD {verifier}; \
                     COMMENT ON ROLE {name} IS {marker}; GRANT {name} TO CURRENT_USER; {settings}COMMIT"
                );
                self.run(&action, statement).await?;
                self.passwords.verified(name, &desired.password);
                Ok(())
            }
            PostgresChange::TakeOver { .. } => {
                self.run(&action, format!("COMMENT ON ROLE {name} IS {marker}")).await
            }
            PostgresChange::JoinRole { .. } => {
                self.run(&action, format!("GRANT {name} TO CURRENT_USER")).await
            }
            PostgresChange::AllowLogin { .. } => {
                let room = room_for(name, desired.connection_limit);
                self.run(&action, format!("BEGIN; {room}ALTER ROLE {name} LOGIN; COMMIT")).await
            }
            PostgresChange::SetPassword { .. } => {
                self.run(&action, format!("ALTER ROLE {name} PASSWORD {}", verifier())).await?;
                self.passwords.verified(name, &desired.password);
                Ok(())
            }
            PostgresChange::SetConnectionLimit { from, to, .. } => {
                let grows = *from >= 0 && to > from;
                let room = if grows { room_for(name, *to) } else { String::new() };
                let set = format!("ALTER ROLE {name} CONNECTION LIMIT {to}");
                self.run(&action, format!("BEGIN; {room}{set}; COMMIT")).await
            }
            PostgresChange::SetParameter { parameter, value, .. } => {
                self.run(&action, set(name, parameter, value)).await
            }
            PostgresChange::DropAttribute { attribute, .. } => {
                self.run(&action, format!("ALTER ROLE {name} NO{attribute}")).await
            }
            PostgresChange::LeaveRole { group, .. } => {
                let group = group.replace('"', "\"\"");
                self.run(&action, format!("REVOKE \"{group}\" FROM {name}")).await
            }
            PostgresChange::CreateDatabase { .. } => {
                let create =
                    format!("CREATE DATABASE {name} OWNER {name} TEMPLATE template0 ENCODING 'UTF8'");
                self.run(&action, create).await?;
                self.run(&action, close(name)).await
            }
            PostgresChange::CloseDatabase { .. } => self.run(&action, close(name)).await,
        }
    }

    async fn ownership(&self, claim: &Claim) -> Result<Ownership, BackendError> {
        let name = identifier(Self::ENTRY, &claim.name)?;
        Ok(self.read(name, &claim.owner).await?.ownership)
    }

    /// Removes the tenant's database, with the sessions in it, and its role. Returns what was there.
    async fn remove(&self, claim: &Claim) -> Result<Vec<String>, BackendError> {
        let name = identifier(Self::ENTRY, &claim.name)?;
        let observed = self.read(name, &claim.owner).await?;
        let mut removed = Vec::new();
        let Some(role) = observed.role else { return Ok(removed) };
        self.passwords.forget(name);
        // New sessions are refused before the open ones are ended, or a busy client would slip back in.
        let mut lock = format!("ALTER ROLE {name} NOLOGIN");
        if !role.operator_is_member {
            lock.push_str(&format!("; GRANT {name} TO CURRENT_USER"));
        }
        self.run(&format!("lock role {name}"), lock).await?;
        if observed.database.is_some() {
            let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            self.run(&format!("drop database {name}"), drop).await?;
            removed.push(format!("database {name}"));
        }
        self.run(&format!("drop role {name}"), format!("DROP ROLE IF EXISTS {name}")).await?;
        removed.push(format!("role {name}"));
        Ok(removed)
    }

    /// Releases a retained tenant: its data stays, its role cannot log in, and the next owner may re-adopt it.
    async fn release(&self, claim: &Claim) -> Result<(), BackendError> {
        let name = identifier(Self::ENTRY, &claim.name)?;
        if !self.read(name, &claim.owner).await?.ownership.is_in_use() {
            return Ok(());
        }
        self.passwords.forget(name);
        let marker = literal(&format!("{MARKER}{}", claim.owner.released()));
        let statement =
            format!("BEGIN; ALTER ROLE {name} NOLOGIN; COMMENT ON ROLE {name} IS {marker}; COMMIT");
        self.run(&format!("release role {name}"), statement).await
    }
}

impl PostgresAdmin {
    /// Connections have TLS where `trust` says what the server is verified against.
    pub fn new(host: impl Into<String>, port: u16, trust: Option<Trust>, credentials: Credentials) -> Self {
        let host = host.into();
        let endpoint = format!("{host}:{port}");
        let (idle, passwords) = (IdlePool::default(), PasswordMemo::default());
        Self { host, port, endpoint, trust, credentials, idle, passwords }
    }

    /// Forgets that the tenant's password was seen to work, so that the next [`Self::observe`] tries it again.
    pub fn distrust_password(&self, name: &str) {
        self.passwords.forget(name);
    }

    /// Reads role and database. Leaves `password_matches` false.
    async fn read(&self, name: &str, owner: &Owner) -> Result<PostgresObserved, BackendError> {
        let rows = self.rows(name).await;
        let (role, database) = rows.map_err(|error| self.classify(&format!("read role {name}"), error))?;
        if let Some((owner, _)) = &database
            && (role.is_none() || owner != name)
        {
            let (backend, object) = (Self::ENTRY, format!("database {name}"));
            return Err(BackendError::Conflict {
                backend,
                object,
                holder: Holder::Account { name: format!("role {owner}") },
            });
        }
        let database = database.map(|(_, database)| database);
        let Some((role, comment)) = role else {
            return Ok(PostgresObserved { ownership: Ownership::Absent, role: None, database });
        };
        let marker = comment.as_deref().and_then(|comment| comment.strip_prefix(MARKER));
        let ownership = Ownership::of(Self::ENTRY, &format!("role {name}"), marker, owner)?;
        Ok(PostgresObserved { ownership, role: Some(role), database })
    }

    async fn verify(&self, name: &str, password: &SecretString) -> Result<bool, BackendError> {
        if self.passwords.knows(name, password) {
            return Ok(true);
        }
        let tenant = Credentials { username: name.to_owned(), password: password.clone() };
        match self.open(&tenant, name).await {
            Ok(connection) => {
                // A session that is not closed politely would be logged as lost.
                let _ = connection.close().await;
            }
            Err(error) if is_rejected(&error) => return Ok(false),
            // It did not look at the password.
            Err(error) if lacks_rule(&error) => {
                return Err(self.classify(&format!("log in as {name}"), error));
            }
            // The server looks at the database and at limits after the password: any such refusal proves it.
            Err(sqlx::Error::Database(_)) => {}
            Err(error) => return Err(self.classify(&format!("log in as {name}"), error)),
        }
        self.passwords.verified(name, password);
        Ok(true)
    }

    async fn rows(&self, name: &str) -> Result<(Option<RoleRow>, Option<DatabaseRow>), sqlx::Error> {
        let mut connection = self.connection().await?;
        let reading = async {
            let role = sqlx::query(ROLE).bind(name).fetch_optional(&mut connection).await?;
            let database = sqlx::query(DATABASE).bind(name).fetch_optional(&mut connection).await?;
            Ok((role, database))
        };
        let (role, database) = limited(CALL_TIMEOUT, reading).await?;
        self.idle.put_back(connection);
        let role = role.map(|row| role_of(&row)).transpose()?;
        let database = database.map(|row| {
            let database =
                DatabaseObserved { id: row.try_get("id")?, open_to_all: row.try_get("open_to_all")? };
            Ok::<_, sqlx::Error>((row.try_get("owner")?, database))
        });
        Ok((role, database.transpose()?))
    }

    /// Runs statements. After a failure the connection is closed, and with it any open transaction.
    async fn run(&self, action: &str, statements: String) -> Result<(), BackendError> {
        let running = async {
            let mut connection = self.connection().await?;
            limited(CALL_TIMEOUT, raw_sql(AssertSqlSafe(statements)).execute(&mut connection)).await?;
            self.idle.put_back(connection);
            Ok(())
        };
        running.await.map_err(|error| self.classify(action, error))
    }

    /// Takes an idle connection, or opens one. A connection that died while it was idle (a restart of the server) is
    /// found out by a ping, so that no statement is ever sent twice.
    async fn connection(&self) -> Result<PgConnection, sqlx::Error> {
        if let Some(mut connection) = self.idle.take()
            && limited(OPEN_TIMEOUT, connection.ping()).await.is_ok()
        {
            return Ok(connection);
        }
        self.open(&self.credentials, MAINTENANCE_DATABASE).await
    }

    async fn open(&self, credentials: &Credentials, database: &str) -> Result<PgConnection, sqlx::Error> {
        // Without statement logging no verifier can reach a log.
        let options = PgConnectOptions::new_without_pgpass()
            .host(&self.host)
            .port(self.port)
            .username(&credentials.username)
            .password(credentials.password.expose_secret())
            .database(database)
            .application_name("posthouse-operator")
            .disable_statement_logging();
        let options = match &self.trust {
            // The library's default takes any certificate, and goes on without TLS where the server has none.
            None => options.ssl_mode(PgSslMode::Disable),
            Some(Trust { ca_bundle: None }) => options.ssl_mode(PgSslMode::VerifyFull),
            Some(Trust { ca_bundle: Some(bundle) }) => {
                options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert_from_pem(bundle.clone().into_bytes())
            }
        };
        limited(OPEN_TIMEOUT, PgConnection::connect_with(&options)).await
    }

    fn classify(&self, action: &str, error: sqlx::Error) -> BackendError {
        let (backend, endpoint) = (Self::ENTRY, self.endpoint.clone());
        if is_rejected(&error) {
            return BackendError::CredentialsRejected { backend, endpoint };
        }
        match error {
            sqlx::Error::Database(_) if lacks_rule(&error) => {
                let detail = "its pg_hba.conf has no rule for a session without TLS from here: set spec.postgres.tls of \
                              the cell to VerifyFull, or add one";
                BackendError::refused(backend, action, detail, false)
            }
            sqlx::Error::Database(refusal) => {
                let code = refusal.code().unwrap_or_default().into_owned();
                // Classes: 40 serialization, 53 resources, 55 object in use, 57 shutting down.
                let retryable = ["40", "53", "55", "57"].iter().any(|class| code.starts_with(class));
                let detail = one_line(format!("{} ({code})", refusal.message()));
                BackendError::Refused { backend, action: action.into(), detail, retryable }
            }
            sqlx::Error::Tls(why) if why.to_string() == NO_TLS => {
                BackendError::unavailable(backend, &endpoint, tls::no_tls(backend))
            }
            other => BackendError::unavailable(backend, &endpoint, tls::why(backend, &other)),
        }
    }
}

fn set(role: &str, parameter: &str, value: &str) -> String {
    format!("ALTER ROLE {role} SET {parameter} = {}", literal(value))
}

/// Returns the beginning of a transaction that fails when the server has fewer sessions than its roles may have with `limit` of this
/// one: otherwise the sessions that a tenant may have are not there when it needs them, because others have theirs. Roles without a
/// limit are no tenants', and do not count.
fn room_for(name: &str, limit: i32) -> String {
    let name = literal(name);
    format!(
        "SELECT pg_advisory_xact_lock({SESSIONS_LOCK});
        DO $check$ DECLARE
            available bigint := current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
                - coalesce(current_setting('reserved_connections', true)::bigint, 0) - {OPERATOR_SESSIONS};
            others bigint := (SELECT coalesce(sum(rolconnlimit), 0) FROM pg_roles
                WHERE rolcanlogin AND rolconnlimit > 0 AND rolname <> {name});
        BEGIN
            IF others + {limit} > available THEN
                RAISE EXCEPTION USING ERRCODE = 'too_many_connections', MESSAGE = format(
                    'the tenant needs %s sessions, and of the %s that the server has for tenants %s may be used by others; raise'
                    ' max_connections of the server, or lower the replicas or the number of tenants', {limit}, available, others);
            END IF;
        END $check$;
        "
    )
}

fn close(name: &str) -> String {
    format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC")
}

/// A role and its comment.
type RoleRow = (RoleObserved, Option<String>);
/// A database's owner, and the database.
type DatabaseRow = (String, DatabaseObserved);

fn role_of(row: &sqlx::postgres::PgRow) -> Result<RoleRow, sqlx::Error> {
    let attributes = [
        ("rolsuper", "SUPERUSER"),
        ("rolcreatedb", "CREATEDB"),
        ("rolcreaterole", "CREATEROLE"),
        ("rolreplication", "REPLICATION"),
        ("rolbypassrls", "BYPASSRLS"),
    ];
    let mut extra_attributes = Vec::new();
    for (column, attribute) in attributes {
        if row.try_get(column)? {
            extra_attributes.push(attribute.to_owned());
        }
    }
    let settings: Vec<String> = row.try_get("settings")?;
    let settings = settings.iter().filter_map(|setting| setting.split_once('='));
    let role = RoleObserved {
        settings: settings.map(|(parameter, value)| (parameter.to_owned(), value.to_owned())).collect(),
        can_login: row.try_get("rolcanlogin")?,
        connection_limit: row.try_get("rolconnlimit")?,
        extra_attributes,
        member_of: row.try_get("member_of")?,
        operator_is_member: row.try_get("operator_is_member")?,
        password_matches: false,
    };
    Ok((role, row.try_get("comment")?))
}

/// 28P01 is a wrong password, 28000 a role that may not log in at all.
fn is_rejected(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    code.is_some_and(|code| code == "28P01" || code == "28000") && !lacks_rule(error)
}

/// Reports whether the server has no rule for this session, which has no TLS. It says so before it looks at a password.
fn lacks_rule(error: &sqlx::Error) -> bool {
    let refusal = error.as_database_error();
    refusal.is_some_and(|refusal| {
        refusal.message().contains("pg_hba.conf") && refusal.message().ends_with(UNENCRYPTED)
    })
}

async fn limited<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let timed_out = |late| Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, late)));
    within(limit, call).await.unwrap_or_else(timed_out)
}
