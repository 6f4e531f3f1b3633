//! The backend part of one pass: all five systems at the same time, each with a condition of its own.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use catalog::Backend;

use crds::{ConditionType, MessengerCell, MessengerTenant, Reason};
use tracing::{info, warn};

use super::{
    cell::admin_secret_name,
    context::{Context, Pass},
};
use crate::{
    apply::{Admin, Login, Mode, Settled, settle},
    backend::{BackendError, ChangeKind, Holder, System},
    desired, observe,
    previous::{is_established, reason_of, was_good},
    status::Outcome,
    tenant::Tenant,
};

/// One part of one pass may take this long. A realm on a busy machine takes 6 s, a keyspace 2 s; schema changes on
/// several nodes wait for agreement.
const PART_TIMEOUT: Duration = Duration::from_secs(25);

/// How the backends are after their phase.
pub(super) struct Backends {
    pub outcomes: BTreeMap<Backend, Outcome>,
    /// Ids of the tenant's topics, as recorded and as seen now.
    pub topic_ids: BTreeMap<String, String>,
}

impl Backends {
    /// Reports whether the tenant's part of a backend is as it should be.
    pub(super) fn is_ready(&self, backend: Backend) -> bool {
        self.outcomes.get(&backend).is_some_and(Outcome::is_good)
    }
}

/// Brings every backend part to what is desired, all at the same time.
pub(super) async fn parts(pass: Pass<'_>, tenant: &Tenant, cell: &MessengerCell) -> Backends {
    let Pass { resource, mode, context } = pass;
    let one = |part| PartPass { part, tenant, resource, cell, mode, context };
    let admins = &context.admins;
    let at = &tenant.cell;
    let (kafka, store, database, identity, cache) = tokio::join!(
        one(Backend::Kafka).run(|login| admins.kafka(at, login), desired::kafka(tenant)),
        one(Backend::Cql).run(|login| admins.cql(at, login), desired::cql(tenant)),
        one(Backend::Postgres).run(|login| admins.postgres(at, login), desired::postgres(tenant)),
        one(Backend::Keycloak).run(|login| admins.keycloak(at, login), desired::keycloak(tenant)),
        one(Backend::Redis).run(|login| admins.redis(at, login), desired::redis(tenant)),
    );
    let outcomes = [
        (Backend::Kafka, kafka.0),
        (Backend::Cql, store.0),
        (Backend::Postgres, database.0),
        (Backend::Keycloak, identity.0),
        (Backend::Redis, cache.0),
    ];
    let mut topic_ids = tenant.recorded_topic_ids.clone();
    if let Some(settled) = kafka.1 {
        topic_ids.extend(settled.observed.topic_ids());
    }
    Backends { outcomes: outcomes.into(), topic_ids }
}

/// One backend part of one pass.
struct PartPass<'a> {
    part: Backend,
    tenant: &'a Tenant,
    resource: &'a MessengerTenant,
    cell: &'a MessengerCell,
    mode: Mode,
    context: &'a Context,
}

impl PartPass<'_> {
    async fn run<A: Admin>(
        self,
        admin: impl FnOnce(&Login) -> Arc<A>,
        desired: A::Desired,
    ) -> (Outcome, Option<Settled<A::Observed>>) {
        let Self { part, context, .. } = self;
        let began = Instant::now();
        let secret_name = admin_secret_name(self.cell, part);
        let secret = context.admin_secret(secret_name);
        let login = match observe::login(part, &context.config.namespace, secret_name, secret.as_deref()) {
            Ok(login) => login,
            Err(missing) => {
                context.metrics.failed(part.as_str(), Reason::AdminSecretMissing.as_str());
                return (Outcome::action_required(Reason::AdminSecretMissing, missing), None);
            }
        };
        let admin = admin(&login);
        let settled = match context.admins.broken(&self.tenant.cell.name, part) {
            Some(error) => Err(error),
            None => self.settle(&*admin, &desired).await,
        };
        context.metrics.part_took(part.as_str(), began.elapsed());
        match settled {
            Ok(settled) => {
                let outcome = self.settled(&settled).await;
                (outcome, Some(settled))
            }
            Err(error) => (self.failed(&error, secret_name), None),
        }
    }

    async fn settle<A: Admin>(
        &self,
        admin: &A,
        desired: &A::Desired,
    ) -> Result<Settled<A::Observed>, BackendError> {
        let Self { part, context, .. } = *self;
        let work = settle(admin, part, desired, self.mode, &context.writer.fence, &context.metrics);
        let result = match tokio::time::timeout(PART_TIMEOUT, work).await {
            Ok(result) => result,
            Err(_) => Err(BackendError::Unavailable {
                system: system(part),
                endpoint: format!("cell {}", self.tenant.cell.name),
                detail: format!("no answer within {} s", PART_TIMEOUT.as_secs()),
            }),
        };
        if let Err(error @ BackendError::Unavailable { .. }) = &result {
            context.admins.break_for(&self.tenant.cell.name, part, error);
        }
        result
    }

    async fn settled<O>(&self, settled: &Settled<O>) -> Outcome {
        let lines: Vec<_> = settled.changes.iter().map(|(_, line)| line.as_str()).collect();
        if self.mode == Mode::Look && !lines.is_empty() {
            return Outcome::action_required(Reason::Paused, format!("would {}", lines.join("; ")));
        }
        let was_good = was_good(self.resource, ConditionType::Backend(self.part));
        for (kind, line) in &settled.changes {
            let is_repair = *kind == ChangeKind::Repair;
            if was_good && is_established(self.resource) {
                self.context.drift_repaired(self.resource, self.part.as_str(), line).await;
            } else {
                info!(tenant = %self.tenant.id, part = %self.part, is_repair, "{}: {line}", self.part);
            }
        }
        if !settled.blocked.is_empty() {
            let message = format!(
                "{}; it is left as it is, set the resource back to go on",
                settled.blocked.join("; ")
            );
            return Outcome::action_required(Reason::ChangeBlocked, message);
        }
        Outcome::good(Reason::InSync, in_sync(self.part, self.tenant))
    }

    fn failed(&self, error: &BackendError, secret_name: &str) -> Outcome {
        let Self { part, context, .. } = *self;
        let (reason, step) = match error {
            BackendError::Unavailable { .. } => (
                Reason::BackendUnavailable,
                format!(
                    "it is tried again; check it, and its address in MessengerCell {}",
                    self.tenant.cell.name
                ),
            ),
            BackendError::CredentialsRejected { .. } => (
                Reason::CredentialsRejected,
                format!("correct Secret {}/{secret_name}", context.config.namespace),
            ),
            BackendError::Conflict { holder: Holder::Retained { .. }, .. } => (
                Reason::ResourceConflict,
                "apply the tenant there, or choose another tenantId here".to_owned(),
            ),
            BackendError::Conflict { .. } => {
                (Reason::ResourceConflict, "remove it, or make a tenant with another tenantId".to_owned())
            }
            BackendError::Refused { .. } => (Reason::BackendRefused, "see the operator's log".to_owned()),
            BackendError::DataLoss { .. } => (
                Reason::DataLoss,
                format!(
                    "to accept, `kubectl -n {} annotate mt {} {}={part}`",
                    self.tenant.namespace,
                    self.tenant.name,
                    crds::ACCEPT_LOSS_ANNOTATION
                ),
            ),
        };
        context.metrics.failed(part.as_str(), reason.as_str());
        if reason_of(self.resource, ConditionType::Backend(part)) != Some(reason.as_str()) {
            warn!(tenant = %self.tenant.id, %part, %error, "{part} of {} failed: {error}", self.tenant.id);
        }
        let message = format!("{error}; {step}");
        if error.is_retryable() {
            Outcome::retry(reason, message)
        } else {
            Outcome::action_required(reason, message)
        }
    }
}

fn system(part: Backend) -> System {
    match part {
        Backend::Kafka => System::Kafka,
        Backend::Cql => System::Cql,
        Backend::Postgres => System::Postgres,
        Backend::Keycloak => System::Keycloak,
        Backend::Redis => System::Redis,
    }
}

fn in_sync(part: Backend, tenant: &Tenant) -> String {
    let id = &tenant.id;
    match part {
        Backend::Kafka => format!(
            "topics {0}message.send, {0}message.delivered, {0}chat.events of {1} partitions; user {2}",
            id.kafka_prefix(),
            tenant.partitions,
            id.kafka_user()
        ),
        Backend::Cql => format!("keyspace and role {}", id.keyspace()),
        Backend::Postgres => format!("database and role {}", id.database()),
        Backend::Keycloak => format!("realm {}", id.realm()),
        Backend::Redis => format!("user {} on keys {}*", id.cache_user(), id.cache_prefix()),
    }
}
