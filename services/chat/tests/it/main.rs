//! The chat service from outside: its REST and gRPC stories, its stores, and its outbox on the real event log.

#![allow(clippy::disallowed_methods, reason = "tests make names of their own")]

mod api;
mod departures;
mod outbox;
mod store;
mod users;

use chat::store::SCHEMA;
use chrono::{DateTime, Utc};
use contracts::UserId;
use kit::{testing::TestDatabase, text::Title};
use sqlx::PgPool;

/// Returns a new user.
fn new_user() -> UserId {
    UserId::generate()
}

/// Returns a title of a group.
fn crew() -> Title {
    Title::parse("title", "Crew").expect("a title")
}

/// Returns a moment that every store keeps exactly.
fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 0).expect("a moment")
}

/// Returns a database with the tables of this service.
async fn database() -> (TestDatabase, PgPool) {
    let database = TestDatabase::create().await;
    SCHEMA.migrate(&database.args()).await.expect("the migrations apply");
    let pool = SCHEMA.pool(&database.args());
    (database, pool)
}
