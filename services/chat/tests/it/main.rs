//! The chat service from outside: its REST and gRPC stories, its stores, and its outbox on the real event log.

mod api;
mod outbox;
mod store;

use chrono::{DateTime, Utc};
use contracts::UserId;
use kit::testing::TestDatabase;
use sqlx::PgPool;

/// Returns a new user.
fn new_user() -> UserId {
    UserId::generate()
}

/// Returns a moment that every store keeps exactly.
fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 0).expect("a moment")
}

/// Returns a database with the tables of this service.
async fn database() -> (TestDatabase, PgPool) {
    let database = TestDatabase::create().await;
    kit::postgres::migrate(&database.args(), chat::store::SCHEMA, &chat::store::MIGRATIONS)
        .await
        .expect("the migrations apply");
    let pool = kit::postgres::pool(&database.args(), chat::store::SCHEMA);
    (database, pool)
}
