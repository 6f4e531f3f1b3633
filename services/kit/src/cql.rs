//! Sessions with the message store.

use std::{sync::Arc, time::Duration};

use scylla::{
    client::{execution_profile::ExecutionProfile, session::Session, session_builder::SessionBuilder},
    errors::{ConnectionError, ConnectionPoolError, MetadataError, NewSessionError},
    statement::Consistency,
};
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, sleep};
use trust::{BundleError, Untrusted};

use crate::{
    config::{CqlArgs, Tls},
    error::chain,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The store may start after this process.
const PATIENCE: Duration = Duration::from_secs(120);
const RETRY: Duration = Duration::from_secs(2);

/// There is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("the certificates that are to be trusted cannot be used")]
    Bundle(#[from] BundleError),
    #[error("failed to connect to a node: {why}")]
    Untrusted { why: Untrusted, source: NewSessionError },
    #[error(transparent)]
    New(NewSessionError),
}

/// Opens a session in the tenant's keyspace, and tries again for two minutes while the store does not answer.
///
/// Reads and writes want a quorum of the local data centre: with three replicas one may be down.
pub async fn session(args: &CqlArgs) -> Result<Session, SessionError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match connect(args).await {
            Ok(session) => return Ok(session),
            Err(error @ SessionError::Bundle(_)) => return Err(error),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(error) => {
                let why = chain(&error);
                tracing::warn!(error = why, "the message store does not answer yet: {why}");
            }
        }
        sleep(RETRY).await;
    }
}

/// Opens a session, or says why there is none.
pub async fn connect(args: &CqlArgs) -> Result<Session, SessionError> {
    let tls = match args.cql_tls {
        Tls::Disabled => None,
        Tls::VerifyFull => Some(Arc::new(trust::client(args.trust.oidc_ca_bundle.as_deref())?)),
    };
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .build();
    let session = SessionBuilder::new()
        .tls_context(tls)
        .known_nodes(&args.cql_contact_points)
        .user(&args.cql_username, args.cql_password.expose_secret())
        .use_keyspace(&args.cql_keyspace, false)
        // Without it every service would hold the schema of every tenant.
        .keyspaces_to_fetch([args.cql_keyspace.clone()])
        .connection_timeout(CONNECT_TIMEOUT)
        .default_execution_profile_handle(profile.into_handle())
        .build()
        .await;
    session.map_err(|source| match untrusted(&source) {
        Some(why) => SessionError::Untrusted { why, source },
        None => SessionError::New(source),
    })
}

/// Returns why a node is not trusted. The driver does not name the failure of a connection as a source.
fn untrusted(error: &NewSessionError) -> Option<Untrusted> {
    let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(error)) = error else {
        return None;
    };
    let ConnectionPoolError::Broken { last_connection_error: ConnectionError::IoError(error) } = error else {
        return None;
    };
    Untrusted::of(&**error)
}
