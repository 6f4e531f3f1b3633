//! Pools on the relational store. Each service keeps its tables in a schema of its own.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use sqlx::{
    Connection as _, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::config::PostgresArgs;

/// A tenant's services share one connection budget on the server.
const MAX_CONNECTIONS: u32 = 8;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("failed to connect to the database")]
    Connect(#[source] sqlx::Error),
    #[error("failed to create schema {schema}")]
    CreateSchema { schema: &'static str, source: sqlx::Error },
    #[error("failed to migrate schema {schema}")]
    Migrate { schema: &'static str, source: sqlx::migrate::MigrateError },
}

/// Returns a pool that connects when it is first used. `schema` is the service's own and a literal of its code.
pub fn pool(args: &PostgresArgs, schema: &'static str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .min_connections(0)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT)
        .connect_lazy_with(connect_options(args, schema))
}

/// Creates the schema and applies the migrations that are missing. Two at once wait for each other.
pub async fn migrate(
    args: &PostgresArgs,
    schema: &'static str,
    migrations: &Migrator,
) -> Result<(), MigrateError> {
    let mut connection =
        PgConnection::connect_with(&connect_options(args, schema)).await.map_err(MigrateError::Connect)?;
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {schema}")))
        .execute(&mut connection)
        .await
        .map_err(|source| MigrateError::CreateSchema { schema, source })?;
    migrations.run(&mut connection).await.map_err(|source| MigrateError::Migrate { schema, source })?;
    tracing::info!(schema, "schema {schema} is up to date");
    Ok(())
}

/// Returns how to connect with `schema` first on the search path.
pub fn connect_options(args: &PostgresArgs, schema: &'static str) -> PgConnectOptions {
    PgConnectOptions::new()
        .host(&args.postgres_host)
        .port(args.postgres_port)
        .database(&args.postgres_database)
        .username(&args.postgres_username)
        .password(args.postgres_password.expose_secret())
        .application_name(schema)
        .options([("search_path", schema), ("statement_timeout", "5s")])
}
