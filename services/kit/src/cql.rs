//! Sessions with the message store.

use std::time::Duration;

use scylla::{
    client::{execution_profile::ExecutionProfile, session::Session, session_builder::SessionBuilder},
    errors::NewSessionError,
    statement::Consistency,
};
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, sleep};

use crate::config::CqlArgs;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The store may start after this process.
const PATIENCE: Duration = Duration::from_secs(120);
const RETRY: Duration = Duration::from_secs(2);

/// Opens a session in the tenant's keyspace, and tries again for two minutes while the store does not answer.
///
/// Reads and writes want a quorum of the local data centre: with three replicas one may be down.
pub async fn session(args: &CqlArgs) -> Result<Session, NewSessionError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match connect(args).await {
            Ok(session) => return Ok(session),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(error) => {
                let why = crate::error::chain(&error);
                tracing::warn!(error = why, "the message store does not answer yet: {why}");
            }
        }
        sleep(RETRY).await;
    }
}

async fn connect(args: &CqlArgs) -> Result<Session, NewSessionError> {
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .build();
    SessionBuilder::new()
        .known_nodes(&args.cql_contact_points)
        .user(&args.cql_username, args.cql_password.expose_secret())
        .use_keyspace(&args.cql_keyspace, false)
        // Without it every service would hold the schema of every tenant.
        .keyspaces_to_fetch([args.cql_keyspace.clone()])
        .connection_timeout(CONNECT_TIMEOUT)
        .default_execution_profile_handle(profile.into_handle())
        .build()
        .await
}
