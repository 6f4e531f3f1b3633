//! One part of a tenant in one shared system: observe, plan, apply, for all five systems alike.

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use catalog::Backend;
use secrecy::SecretString;

use crate::{
    backend::{
        BackendError, ChangeKind, Claim, Credentials,
        cql::{self, CqlAdmin},
        kafka::{self, KafkaAdmin},
        keycloak::{self, KeycloakAdmin},
        postgres::{self, PostgresAdmin},
        redis::{self, RedisAdmin},
    },
    leader::Fence,
    metrics::Metrics,
    tenant::Cell,
};

/// A backend that did not answer is not asked again for this long, for any tenant: a dead system must not hold the
/// operator's hands.
const BREAK_TIME: Duration = Duration::from_secs(5);

/// Whether a pass may change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Act,
    /// `spec.paused`: look and say what would be done.
    Look,
}

/// A system's administration, the same for all five.
pub trait Admin {
    type Desired;
    type Observed;
    type Change: Display;

    fn observe(
        &self,
        desired: &Self::Desired,
    ) -> impl Future<Output = Result<Self::Observed, BackendError>> + Send;
    fn plan(desired: &Self::Desired, observed: &Self::Observed) -> Vec<Self::Change>;
    fn kind(change: &Self::Change) -> ChangeKind;
    /// Applies changes in order and answers for each one that was tried.
    fn apply_all(
        &self,
        desired: &Self::Desired,
        changes: &[Self::Change],
        fence: &Fence,
    ) -> impl Future<Output = Vec<Result<(), BackendError>>> + Send;
    fn remove(&self, claim: &Claim) -> impl Future<Output = Result<Vec<String>, BackendError>> + Send;
    fn release(&self, claim: &Claim) -> impl Future<Output = Result<(), BackendError>> + Send;
}

macro_rules! admin {
    ($admin:ident, $module:ident, $desired:ident, $observed:ident, $change:ident, $apply_all:expr) => {
        impl Admin for $admin {
            type Desired = $module::$desired;
            type Observed = $module::$observed;
            type Change = $module::$change;

            async fn observe(&self, desired: &Self::Desired) -> Result<Self::Observed, BackendError> {
                $admin::observe(self, desired).await
            }

            fn plan(desired: &Self::Desired, observed: &Self::Observed) -> Vec<Self::Change> {
                $module::plan(desired, observed)
            }

            fn kind(change: &Self::Change) -> ChangeKind {
                change.kind()
            }

            async fn apply_all(
                &self,
                desired: &Self::Desired,
                changes: &[Self::Change],
                fence: &Fence,
            ) -> Vec<Result<(), BackendError>> {
                $apply_all(self, desired, changes, fence).await
            }

            async fn remove(&self, claim: &Claim) -> Result<Vec<String>, BackendError> {
                $admin::remove(self, claim).await
            }

            async fn release(&self, claim: &Claim) -> Result<(), BackendError> {
                $admin::release(self, claim).await
            }
        }
    };
    ($admin:ident, $module:ident, $desired:ident, $observed:ident, $change:ident) => {
        admin!(
            $admin,
            $module,
            $desired,
            $observed,
            $change,
            async |admin: &$admin, desired, changes: &[$module::$change], fence: &Fence| {
                let mut results = Vec::with_capacity(changes.len());
                for change in changes {
                    if fence.check().is_err() {
                        break;
                    }
                    let result = $admin::apply(admin, desired, change).await;
                    let failed = result.is_err();
                    results.push(result);
                    // What comes later in a plan builds on what comes first.
                    if failed {
                        break;
                    }
                }
                results
            }
        );
    };
}

admin!(
    KafkaAdmin,
    kafka,
    KafkaDesired,
    KafkaObserved,
    KafkaChange,
    async |admin: &KafkaAdmin, desired, changes, fence: &Fence| match fence.check() {
        Ok(()) => KafkaAdmin::apply_all(admin, desired, changes).await,
        Err(_) => Vec::new(),
    }
);
admin!(CqlAdmin, cql, CqlDesired, CqlObserved, CqlChange);
admin!(KeycloakAdmin, keycloak, KeycloakDesired, KeycloakObserved, KeycloakChange);
admin!(PostgresAdmin, postgres, PostgresDesired, PostgresObserved, PostgresChange);
admin!(RedisAdmin, redis, RedisDesired, RedisObserved, RedisChange);

/// What one pass did to a part.
#[derive(Debug)]
pub struct Settled<O> {
    /// As it is after the pass.
    pub observed: O,
    /// What was done, or in [`Mode::Look`] would be.
    pub changes: Vec<(ChangeKind, String)>,
    /// Changes that lose data and were not made.
    pub blocked: Vec<String>,
}

/// Brings one part to what is desired.
pub async fn settle<A: Admin>(
    admin: &A,
    part: Backend,
    desired: &A::Desired,
    mode: Mode,
    fence: &Fence,
    metrics: &Metrics,
) -> Result<Settled<A::Observed>, BackendError> {
    let observed = admin.observe(desired).await?;
    let plan = A::plan(desired, &observed);
    let lines = |kinds: &[ChangeKind]| {
        plan.iter()
            .map(|change| (A::kind(change), change.to_string()))
            .filter(|(kind, _)| kinds.contains(kind))
            .collect::<Vec<_>>()
    };
    let changes = lines(&[ChangeKind::Create, ChangeKind::Repair]);
    let blocked: Vec<_> = lines(&[ChangeKind::Blocked]).into_iter().map(|(_, line)| line).collect();
    if mode == Mode::Look || plan.is_empty() {
        return Ok(Settled { observed, changes, blocked });
    }
    let results = admin.apply_all(desired, &plan, fence).await;
    let mut failure = None;
    for (change, result) in plan.iter().zip(results) {
        match result {
            Ok(()) => metrics.wrote(part.as_str(), "change"),
            Err(BackendError::Refused { .. }) if A::kind(change) == ChangeKind::Blocked => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    let observed = admin.observe(desired).await?;
    Ok(Settled { observed, changes, blocked })
}

/// Removes one part, or lets it go with its data. Answers what was removed.
pub async fn remove_part<A: Admin>(
    admin: &A,
    part: Backend,
    claim: &Claim,
    policy: crds::DeletionPolicy,
    fence: &Fence,
    metrics: &Metrics,
) -> Result<Vec<String>, BackendError> {
    if fence.check().is_err() {
        return Ok(Vec::new());
    }
    match policy {
        crds::DeletionPolicy::Delete => {
            let removed = admin.remove(claim).await?;
            if !removed.is_empty() {
                metrics.wrote(part.as_str(), "remove");
            }
            Ok(removed)
        }
        crds::DeletionPolicy::Retain => {
            admin.release(claim).await?;
            metrics.wrote(part.as_str(), "release");
            Ok(Vec::new())
        }
    }
}

/// The operator's account on one system, and the version of the Secret it came from.
#[derive(Clone, Debug)]
pub struct Login {
    pub username: String,
    pub password: SecretString,
    pub version: String,
}

/// Connections to the systems of all cells. One is kept for as long as its cell and its Secret stay the same.
#[derive(Default)]
pub struct Admins {
    kafka: Cache<KafkaAdmin>,
    cql: Cache<CqlAdmin>,
    keycloak: Cache<KeycloakAdmin>,
    postgres: Cache<PostgresAdmin>,
    redis: Cache<RedisAdmin>,
    broken: Mutex<HashMap<(String, Backend), (Instant, BackendError)>>,
}

impl Admins {
    pub fn kafka(&self, cell: &Cell, login: &Login) -> Arc<KafkaAdmin> {
        let servers = &cell.kafka_bootstrap_servers;
        self.kafka.get(cell, servers, login, |account| KafkaAdmin::new(servers.clone(), account))
    }

    pub fn cql(&self, cell: &Cell, login: &Login) -> Arc<CqlAdmin> {
        let flavor = match cell.cql_flavor {
            crds::CqlFlavor::Scylla => cql::CqlFlavor::Scylla,
            crds::CqlFlavor::Cassandra => cql::CqlFlavor::Cassandra,
        };
        let points = &cell.cql_contact_points;
        let endpoint = format!("{} {flavor:?}", points.join(","));
        self.cql.get(cell, &endpoint, login, |account| CqlAdmin::new(points.clone(), flavor, account))
    }

    pub fn keycloak(&self, cell: &Cell, login: &Login) -> Arc<KeycloakAdmin> {
        let url = cell.keycloak_url.as_str();
        self.keycloak.get(cell, url, login, |account| KeycloakAdmin::new(url, account))
    }

    pub fn postgres(&self, cell: &Cell, login: &Login) -> Arc<PostgresAdmin> {
        let (host, port) = (&cell.postgres_host, cell.postgres_port);
        let endpoint = format!("{host}:{port}");
        self.postgres.get(cell, &endpoint, login, |account| PostgresAdmin::new(host.clone(), port, account))
    }

    pub fn redis(&self, cell: &Cell, login: &Login) -> Arc<RedisAdmin> {
        let (host, port) = (&cell.redis_host, cell.redis_port);
        let endpoint = format!("{host}:{port}");
        self.redis.get(cell, &endpoint, login, |account| RedisAdmin::new(host.clone(), port, account))
    }

    /// Answers the error of a system that just failed to answer somebody.
    pub fn broken(&self, cell: &str, part: Backend) -> Option<BackendError> {
        let broken = self.broken.lock().expect("no code panics while holding it");
        let (since, error) = broken.get(&(cell.to_owned(), part))?;
        (since.elapsed() < BREAK_TIME).then(|| error.clone())
    }

    /// Remembers that a system did not answer.
    pub fn break_for(&self, cell: &str, part: Backend, error: &BackendError) {
        let mut broken = self.broken.lock().expect("no code panics while holding it");
        broken.insert((cell.to_owned(), part), (Instant::now(), error.clone()));
    }
}

struct Cache<A> {
    /// By cell; the text says what the connection was made from.
    made: Mutex<HashMap<String, (String, Arc<A>)>>,
}

impl<A> Default for Cache<A> {
    fn default() -> Self {
        Self { made: Mutex::default() }
    }
}

impl<A> Cache<A> {
    fn get(&self, cell: &Cell, endpoint: &str, login: &Login, make: impl FnOnce(Credentials) -> A) -> Arc<A> {
        let from = format!("{} {endpoint} {}", cell.uid, login.version);
        let mut made = self.made.lock().expect("no code panics while holding it");
        match made.get(&cell.name) {
            Some((known, admin)) if *known == from => admin.clone(),
            _ => {
                let account = Credentials::new(login.username.clone(), login.password.clone());
                let admin = Arc::new(make(account));
                made.insert(cell.name.clone(), (from, admin.clone()));
                admin
            }
        }
    }
}
