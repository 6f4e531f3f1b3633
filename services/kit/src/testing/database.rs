//! A database of its own for one test, on the real server.

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use uuid::Uuid;

use super::stack;
use crate::config::{PostgresArgs, Tls, TrustArgs};

/// A database and its owner, which is no more than a tenant's role is. Dropped with the value.
pub struct TestDatabase {
    name: String,
    password: SecretString,
}

impl TestDatabase {
    /// Creates a database that no other test uses.
    #[expect(clippy::disallowed_methods, reason = "a database of one test")]
    pub async fn create() -> Self {
        let (name, password) = (format!("test_{}", Uuid::now_v7().simple()), Uuid::new_v4().to_string());
        run(vec![
            format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'"),
            // The creator must be a member of the role to give it a database.
            format!("GRANT {name} TO CURRENT_USER"),
            format!("CREATE DATABASE {name} OWNER {name}"),
        ])
        .await;
        Self { name, password: SecretString::from(password) }
    }

    /// Returns the settings that a service reaches it with.
    pub fn args(&self) -> PostgresArgs {
        PostgresArgs {
            postgres_host: stack("PG_HOST"),
            postgres_port: stack("PG_PORT").parse().expect("PG_PORT is a port"),
            postgres_tls: Tls::Disabled,
            trust: TrustArgs::default(),
            postgres_database: self.name.clone(),
            postgres_username: self.name.clone(),
            postgres_password: self.password.expose_secret().into(),
        }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let statements = vec![
            format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
            format!("DROP ROLE IF EXISTS {}", self.name),
        ];
        // Dropping is synchronous and may happen inside a runtime, which cannot be blocked on: hence the thread.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(run(statements));
        });
        drop(dropped.join());
    }
}

/// Runs stories of one suite on both stores of a service, each in a module of its own, `memory` and `postgres`. Where it is used there are `MemoryStore`,
/// `PostgresStore`, and `database()`, which returns a database with the tables of the service and its pool.
#[macro_export]
macro_rules! on_both_stores {
    ($($story:ident),* $(,)?) => {
        mod memory {
            $(
                #[tokio::test]
                async fn $story() {
                    super::$story(std::sync::Arc::new(super::MemoryStore::default())).await;
                }
            )*
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $story() {
                    let (_database, pool) = super::database().await;
                    super::$story(std::sync::Arc::new(super::PostgresStore::new(pool))).await;
                }
            )*
        }
    };
}

async fn run(statements: Vec<String>) {
    let options = PgConnectOptions::new()
        .host(&stack("PG_HOST"))
        .port(stack("PG_PORT").parse().expect("PG_PORT is a port"))
        .database("postgres")
        .username(&stack("PG_ADMIN_USERNAME"))
        .password(&stack("PG_ADMIN_PASSWORD"))
        .ssl_mode(PgSslMode::Disable);
    let mut connection = PgConnection::connect_with(&options).await.expect("PostgreSQL answers");
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.expect("a test database");
    }
}
