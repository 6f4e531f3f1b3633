//! The shared systems of a cell, seen from one tenant.
//!
//! Each module describes what a tenant should have there ([`kafka::KafkaDesired`] and its neighbours), reads what it
//! has, names the difference as a list of changes a person can read, and carries each change out. `plan` in every
//! module is pure; only the `*Admin` types do I/O.
//!
//! Invariant: an object that somebody else owns is never changed, adopted or removed: `observe` and `remove` answer
//! [`BackendError::Conflict`] before the first write.
//!
//! Invariant: no secret is part of an observed state, a change, an error or a log line.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use secrecy::{ExposeSecret, SecretString};

pub mod cql;
pub mod kafka;
pub mod keycloak;
pub mod postgres;
pub mod redis;

/// Whose an outside object is: one resource, in one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// UID of the resource; the marker on what is in use.
    pub uid: String,
    /// Namespace of the resource. Who may make resources there answers for the data they leave behind.
    pub namespace: String,
}

/// A tenant's part of one system, by name: what `remove` and `release` need.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The user, keyspace, realm or role of the tenant, as the system calls it.
    pub name: String,
    pub owner: Owner,
}

/// Begins the marker of an object whose resource was deleted with `deletionPolicy: Retain`; the namespace follows. No UID
/// begins like this.
const RELEASED: &str = "released:";

impl Owner {
    /// Returns the marker of what this owner leaves behind with its data: the next resource with the same tenant id in the
    /// same namespace may take it over, and nobody else's marker is ever replaced.
    pub fn released(&self) -> String {
        format!("{RELEASED}{}", self.namespace)
    }
}

/// The operator's account on one system.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub username: String,
    pub password: SecretString,
}

impl Credentials {
    pub fn new(username: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Self { username: username.into(), password: password.into() }
    }
}

/// Why a change is in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Something the tenant should have is not there yet.
    Create,
    /// Something is there and differs from what was declared: somebody edited it, or the resource changed.
    Repair,
    /// The difference cannot be removed without losing data. Applying it answers an error and touches nothing.
    Blocked,
}

/// Who an outside object belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Ownership {
    /// Nothing of the tenant is there.
    #[default]
    Absent,
    /// It carries our owner marker.
    Ours,
    /// A former owner in the same namespace let it go; see [`Owner::released`].
    Released,
}

impl Ownership {
    /// Reads a marker that was found beside an existing object.
    fn of(system: System, object: &str, marker: Option<&str>, owner: &Owner) -> Result<Self, BackendError> {
        let holder = match marker {
            Some(found) if found == owner.uid => return Ok(Self::Ours),
            Some(found) if found == owner.released() => return Ok(Self::Released),
            Some(found) => match found.strip_prefix(RELEASED) {
                Some(namespace) => Holder::Retained { namespace: namespace.into() },
                None => Holder::Other { owner: found.into() },
            },
            None => Holder::Unknown,
        };
        Err(BackendError::Conflict { system, object: object.into(), holder })
    }
}

/// Who has what a tenant would need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Another owner, as its marker or the system names it.
    Other { owner: String },
    /// Nobody at work: a deleted tenant of that namespace left its data.
    Retained { namespace: String },
    /// It carries no marker, so it was not made by this operator.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other { owner } => write!(f, "belongs to owner {owner}"),
            Self::Retained { namespace } => {
                write!(f, "is kept for namespace {namespace}, where its tenant was deleted")
            }
            Self::Unknown => f.write_str("belongs to nobody known; it was not made by this operator"),
        }
    }
}

/// A system of the cell, as people call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum System {
    Kafka,
    Cql,
    Keycloak,
    Postgres,
    Redis,
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kafka => "Kafka",
            Self::Cql => "CQL store",
            Self::Keycloak => "Keycloak",
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
        })
    }
}

/// What went wrong at a system of the cell. Messages are made for a status condition: they name the object and hold
/// neither secrets nor raw server output beyond one line.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BackendError {
    #[error("{system} at {endpoint} cannot be reached: {detail}")]
    Unavailable { system: System, endpoint: String, detail: String },
    #[error("{system} at {endpoint} refuses the operator's credentials; check the cell's admin Secret")]
    CredentialsRejected { system: System, endpoint: String },
    #[error("{system} {object} exists and {holder}")]
    Conflict { system: System, object: String, holder: Holder },
    #[error("{system} refused to {action}: {detail}")]
    Refused { system: System, action: String, detail: String, retryable: bool },
    /// Something that held data is gone. It is not made anew silently: the caller decides when to accept the loss.
    #[error("{system} {object} held data and is gone; restore it, or accept the loss before it is made anew")]
    DataLoss { system: System, object: String },
}

impl BackendError {
    /// Returns the reason used in conditions, Events and metric labels.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "BackendUnavailable",
            Self::CredentialsRejected { .. } => "CredentialsRejected",
            Self::Conflict { .. } => "ResourceConflict",
            Self::Refused { .. } => "BackendRefused",
            Self::DataLoss { .. } => "DataLoss",
        }
    }

    /// Says whether the same call may succeed later without anyone changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Refused { retryable, .. } => *retryable,
            Self::CredentialsRejected { .. } | Self::Conflict { .. } | Self::DataLoss { .. } => false,
        }
    }
}

/// Gives `call` until `limit`, then answers [`BackendError::Unavailable`].
async fn within<T>(
    system: System,
    endpoint: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, BackendError> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result,
        Err(_) => Err(BackendError::Unavailable {
            system,
            endpoint: endpoint.into(),
            detail: format!("no answer within {} s", limit.as_secs()),
        }),
    }
}

/// How long a password that was seen to work is believed. A password changed by hand is found after at most this time;
/// verifying on each pass would cost a login per tenant and pass.
const PASSWORD_BELIEVED: Duration = Duration::from_secs(10 * 60);

/// Remembers which passwords were seen to work, by hash. Lost at restart, which costs one login per tenant.
#[derive(Debug, Default)]
struct PasswordMemo {
    verified: Mutex<HashMap<String, ([u8; 32], Instant)>>,
}

impl PasswordMemo {
    fn knows(&self, user: &str, password: &SecretString) -> bool {
        let verified = self.verified.lock().expect("no code panics while holding the memo");
        verified
            .get(user)
            .is_some_and(|(hash, at)| *hash == sha256(password) && at.elapsed() < PASSWORD_BELIEVED)
    }

    fn verified(&self, user: &str, password: &SecretString) {
        let mut verified = self.verified.lock().expect("no code panics while holding the memo");
        verified.insert(user.to_owned(), (sha256(password), Instant::now()));
    }

    fn forget(&self, user: &str) {
        self.verified.lock().expect("no code panics while holding the memo").remove(user);
    }
}

/// Idle connections kept per system; more reconciles at once open more and close them after use.
const IDLE_CONNECTIONS: usize = 4;

/// Open connections nobody uses at the moment. A connection is taken out for a call and put back after it went well, so
/// a future dropped half way drops its connection too, and no connection is ever in an unknown state.
struct IdlePool<C> {
    idle: Mutex<Vec<C>>,
}

impl<C> Default for IdlePool<C> {
    fn default() -> Self {
        Self { idle: Mutex::default() }
    }
}

impl<C> IdlePool<C> {
    fn take(&self) -> Option<C> {
        self.idle.lock().expect("no code panics while holding the pool").pop()
    }

    fn put_back(&self, connection: C) {
        let mut idle = self.idle.lock().expect("no code panics while holding the pool");
        if idle.len() < IDLE_CONNECTIONS {
            idle.push(connection);
        }
    }
}

/// Checks a name before it becomes part of a statement that takes no parameters. Names are valid by construction; this
/// is the second lock on the same door.
fn identifier(system: System, name: &str) -> Result<&str, BackendError> {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !name.is_empty() && name.len() <= 48 && name.bytes().all(known) {
        return Ok(name);
    }
    let detail = "the name is not of lower case letters, digits and _ only, or is longer than 48".to_owned();
    Err(BackendError::Refused { system, action: format!("use the name {name:?}"), detail, retryable: false })
}

/// Quotes text for SQL and CQL statements that take no parameters.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn sha256(secret: &SecretString) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, secret.expose_secret().as_bytes()).as_ref());
    hash
}

/// Keeps the first line of what a server said, at most 200 characters: some servers answer with a dump.
fn one_line(text: impl fmt::Display) -> String {
    let text = text.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memo_knows_only_the_password_that_was_verified() {
        let memo = PasswordMemo::default();
        let (right, wrong) = (SecretString::from("right"), SecretString::from("wrong"));
        assert!(!memo.knows("acme", &right));
        memo.verified("acme", &right);
        assert!(memo.knows("acme", &right));
        assert!(!memo.knows("acme", &wrong));
        assert!(!memo.knows("beta", &right));
        memo.forget("acme");
        assert!(!memo.knows("acme", &right));
    }

    #[test]
    fn a_marker_decides_the_ownership() {
        let owner = Owner { uid: "uid-1".into(), namespace: "acme".into() };
        let of = |marker| Ownership::of(System::Kafka, "user acme", marker, &owner);
        assert_eq!(of(Some("uid-1")).unwrap(), Ownership::Ours);
        assert_eq!(of(Some("released:acme")).unwrap(), Ownership::Released);
        for (marker, said) in [
            (Some("uid-2"), "belongs to owner uid-2"),
            (Some("released:beta"), "is kept for namespace beta, where its tenant was deleted"),
            (Some("released:"), "is kept for namespace , where its tenant was deleted"),
            (Some("released"), "belongs to owner released"),
            (None, "belongs to nobody known; it was not made by this operator"),
        ] {
            let conflict = of(marker).unwrap_err();
            assert_eq!(conflict.reason(), "ResourceConflict");
            assert_eq!(conflict.to_string(), format!("Kafka user acme exists and {said}"));
        }
    }

    #[test]
    fn only_plain_names_and_quoted_text_reach_a_statement() {
        assert!(identifier(System::Cql, "mt_acme").is_ok());
        for name in ["", "mt-acme", "mt_acme; DROP", "Mt", "a\"b"] {
            assert!(!identifier(System::Cql, name).unwrap_err().is_retryable(), "{name}");
        }
        assert_eq!(literal("it's"), "'it''s'");
    }

    #[test]
    fn server_text_is_cut_to_one_short_line() {
        assert_eq!(one_line("first\nsecond"), "first");
        assert_eq!(one_line("x".repeat(500)).len(), 200);
    }
}
