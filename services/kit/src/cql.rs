//! Sessions with the message store.

use std::time::Duration;

use scylla::{
    client::{execution_profile::ExecutionProfile, session::Session, session_builder::SessionBuilder},
    statement::Consistency,
};
use secrecy::ExposeSecret as _;

use crate::config::CqlArgs;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens a session in the tenant's keyspace.
///
/// Reads and writes want a quorum of the local data centre: with three replicas one may be down.
pub async fn session(args: &CqlArgs) -> Result<Session, scylla::errors::NewSessionError> {
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
