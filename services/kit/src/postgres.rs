//! Pools on the relational store. Each service keeps its tables in a schema of its own.

use std::time::Duration;

use catalog::POSTGRES_POOL;
use contracts::ErrorCode;
use secrecy::ExposeSecret as _;
use sqlx::{
    Connection as _, PgConnection, PgPool,
    migrate::{Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    Scope,
    config::{PostgresArgs, Tls},
    error::chain,
    health::Check,
    tls::Untrusted,
};

pub mod positions;

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// What the library says of a server that has no TLS.
const NO_TLS: &str = "server does not support TLS";
/// How often readiness queries the server.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
const WATCH_LIMIT: Duration = Duration::from_secs(5);

/// A statement ends within this time, so that one that is slow keeps no session of a pool.
const STATEMENT_LIMIT: &str = "5s";
/// A statement of a migration is about a whole table, however large it is.
const MIGRATION_LIMIT: &str = "10min";
/// It waits no longer for a table, because everyone who comes later waits behind it. The next attempt begins again.
const MIGRATION_LOCK_LIMIT: &str = "5s";

#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("failed to connect to the database")]
    Connect(#[source] sqlx::Error),
    #[error("failed to connect to the database: {why}")]
    Untrusted { why: Untrusted, source: sqlx::Error },
    #[error("failed to create schema {schema}")]
    CreateSchema { schema: &'static str, source: sqlx::Error },
    #[error("failed to migrate schema {schema}")]
    Migrate { schema: &'static str, source: sqlx::migrate::MigrateError },
}

/// The tables of one service, in a schema of its own.
pub struct Schema {
    pub name: &'static str,
    /// Names such as `0001_create_users`, with their SQL. A migration, once released, keeps its name and content.
    pub migrations: &'static [(&'static str, &'static str)],
}

impl Schema {
    /// Returns a pool that connects when it is first used.
    pub fn pool(&self, args: &PostgresArgs) -> PgPool {
        self.pool_of(args, POSTGRES_POOL)
    }

    /// Returns a pool of so many sessions, for work that waits for no other work. The catalog counts them for the service.
    pub fn pool_of(&self, args: &PostgresArgs, sessions: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(sessions)
            .min_connections(0)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            .connect_lazy_with(self.connect_options(args))
    }

    /// Returns the pool of a service, and keeps its readiness check `postgres` up to date.
    pub fn watched_pool(&self, args: &PostgresArgs, scope: &Scope) -> PgPool {
        let pool = self.pool(args);
        scope.spawn(watch(pool.clone(), scope.check("postgres"), scope.shutdown().clone()));
        pool
    }

    /// Returns how to connect with the schema first on the search path.
    pub fn connect_options(&self, args: &PostgresArgs) -> PgConnectOptions {
        let options = PgConnectOptions::new()
            .host(&args.postgres_host)
            .port(args.postgres_port)
            .database(&args.postgres_database)
            .username(&args.postgres_username)
            .password(args.postgres_password.expose_secret())
            .application_name(self.name)
            .options([("search_path", self.name), ("statement_timeout", STATEMENT_LIMIT)]);
        match (args.postgres_tls, &args.trust.oidc_ca_bundle) {
            // The library's default takes any certificate, and goes on without TLS where the server has none.
            (Tls::Disabled, _) => options.ssl_mode(PgSslMode::Disable),
            (Tls::VerifyFull, None) => options.ssl_mode(PgSslMode::VerifyFull),
            (Tls::VerifyFull, Some(bundle)) => {
                options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert_from_pem(bundle.clone().into_bytes())
            }
        }
    }

    /// Creates the schema and applies the migrations that are missing. Two at once wait for each other.
    pub async fn migrate(&self, args: &PostgresArgs) -> Result<(), MigrateError> {
        let schema = self.name;
        let migrations = self.migrations.iter().map(|(name, sql)| migration(name, sql)).collect();
        let migrator = Migrator::with_migrations(migrations);
        let limits = [("statement_timeout", MIGRATION_LIMIT), ("lock_timeout", MIGRATION_LOCK_LIMIT)];
        let connection = PgConnection::connect_with(&self.connect_options(args).options(limits)).await;
        let mut connection = connection.map_err(|source| match untrusted(&source) {
            Some(why) => MigrateError::Untrusted { why, source },
            None => MigrateError::Connect(source),
        })?;
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {schema}")))
            .execute(&mut connection)
            .await
            .map_err(|source| MigrateError::CreateSchema { schema, source })?;
        // `run` would do, but the compiler cannot see that its future is `Send`.
        let migrated = migrator.run_direct(None, &mut connection, false).await;
        migrated.map_err(|source| MigrateError::Migrate { schema, source })?;
        tracing::info!(schema, "schema {schema} is up to date");
        Ok(())
    }
}

fn migration(name: &'static str, sql: &'static str) -> Migration {
    let (version, description) = name.split_once('_').expect("a migration's name has a number and words");
    let version = version.parse().expect("a migration's name starts with its number");
    let sql = sqlx::SqlStr::from_static(sql);
    Migration::new(version, description.replace('_', " ").into(), MigrationType::Simple, sql, false)
}

/// Defines a row that is read by the names of its columns. It stands for `derive(sqlx::FromRow)`, whose macros would compile
/// the client a second time, for the compiler's own use.
#[macro_export]
macro_rules! row {
    ($vis:vis struct $row:ident { $($column:ident: $type:ty,)+ }) => {
        $vis struct $row {
            $($vis $column: $type,)+
        }

        impl ::sqlx::FromRow<'_, ::sqlx::postgres::PgRow> for $row {
            fn from_row(row: &::sqlx::postgres::PgRow) -> ::sqlx::Result<Self> {
                Ok(Self { $($column: ::sqlx::Row::try_get(row, stringify!($column))?,)+ })
            }
        }
    };
}

/// Keeps the check up to date until the shutdown: it passes while the pool gives a connection that answers.
async fn watch(pool: PgPool, check: Check, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(WATCH_INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // A server that vanished without a word sends nothing that would end the wait.
        match timeout(WATCH_LIMIT, sqlx::query("SELECT 1").execute(&pool)).await {
            Ok(Ok(_)) => check.ok(),
            Ok(Err(error)) => match untrusted(&error) {
                Some(why) => check.failing(format!("{why}: {}", chain(&error))),
                None => check.failing(chain(&error)),
            },
            Err(_) => check.failing(format!("no answer within {} s", WATCH_LIMIT.as_secs())),
        }
    }
}

/// Returns why the server is not taken for the one that it should be, or nothing of an error that is about something else.
fn untrusted(error: &sqlx::Error) -> Option<Untrusted> {
    match error {
        sqlx::Error::Tls(why) if why.to_string() == NO_TLS => Some(Untrusted::Plain),
        error => Untrusted::of(error),
    }
}

/// Returns the code that a caller meets when a query fails: a server that cannot be reached, is starting, stopping
/// or full is `unavailable`, anything else is a fault of ours.
pub fn code(error: &sqlx::Error) -> ErrorCode {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => ErrorCode::Unavailable,
        sqlx::Error::Database(error) => {
            // Classes: connection exception, insufficient resources, operator intervention (the statement timeout
            // among them), and a serialization failure or deadlock, which repeating mends.
            let class = error.code().unwrap_or_default();
            let temporary = ["08", "53", "57", "40"].iter().any(|prefix| class.starts_with(prefix));
            if temporary { ErrorCode::Unavailable } else { ErrorCode::Internal }
        }
        _ => ErrorCode::Internal,
    }
}
