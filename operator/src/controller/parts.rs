//! The backend part of one pass: all five systems at the same time, each with a condition of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crds::{ConditionType, MessengerCell, MessengerTenant, Reason};
use tracing::{info, warn};

use super::{
    Context,
    cell::admin_secret_name,
    pass::{drift_repaired, is_established, reason_of, was_good},
};
use crate::{
    apply::{Admin, Login, Mode, Settled, settle},
    backend::{BackendError, ChangeKind, Holder, System},
    catalog::Part,
    desired, observe,
    status::{Outcome, Outcomes},
    tenant::Tenant,
};

/// One part of one pass may take this long. A realm on a busy machine takes 6 s, a keyspace 2 s; schema changes on
/// several nodes wait for agreement.
const PART_TIMEOUT: Duration = Duration::from_secs(25);

/// Brings every backend part to what is desired, all at the same time. Returns the tenant with its topics' ids.
pub(super) async fn parts(
    mut tenant: Tenant,
    resource: &MessengerTenant,
    cell: &MessengerCell,
    mode: Mode,
    context: &Context,
) -> (Outcomes, Tenant) {
    let one = |part| PartPass { part, tenant: &tenant, resource, cell, mode, context };
    let admins = &context.admins;
    let at = &tenant.cell;
    let (kafka, store, database, identity, cache) = tokio::join!(
        one(Part::Kafka).run(|login| admins.kafka(at, login), desired::kafka(&tenant)),
        one(Part::Store).run(|login| admins.cql(at, login), desired::cql(&tenant)),
        one(Part::Database).run(|login| admins.postgres(at, login), desired::postgres(&tenant)),
        one(Part::Identity).run(|login| admins.keycloak(at, login), desired::keycloak(&tenant)),
        one(Part::Cache).run(|login| admins.redis(at, login), desired::redis(&tenant)),
    );
    let outcomes = [
        (ConditionType::KafkaReady, kafka.0),
        (ConditionType::StoreReady, store.0),
        (ConditionType::DatabaseReady, database.0),
        (ConditionType::IdentityReady, identity.0),
        (ConditionType::CacheReady, cache.0),
    ];
    if let Some(settled) = kafka.1 {
        tenant.topic_ids.extend(settled.observed.topic_ids());
    }
    (outcomes.into(), tenant)
}

/// One backend part of one pass.
struct PartPass<'a> {
    part: Part,
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
                return (Outcome::needs_person(Reason::AdminSecretMissing, missing), None);
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
            return Outcome::needs_person(Reason::Paused, format!("would {}", lines.join("; ")));
        }
        let was_good = was_good(self.resource, self.part.condition());
        for (kind, line) in &settled.changes {
            let is_repair = *kind == ChangeKind::Repair;
            if was_good && is_established(self.resource) {
                drift_repaired(self.resource, self.part.as_str(), line, self.context).await;
            } else {
                info!(tenant = %self.tenant.id, part = %self.part, is_repair, "{}: {line}", self.part);
            }
        }
        if !settled.blocked.is_empty() {
            let message = format!(
                "{}; it is left as it is, set the resource back to go on",
                settled.blocked.join("; ")
            );
            return Outcome::needs_person(Reason::ChangeBlocked, message);
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
        if reason_of(self.resource, part.condition()) != Some(reason.as_str()) {
            warn!(tenant = %self.tenant.id, %part, %error, "{part} of {} failed: {error}", self.tenant.id);
        }
        let message = format!("{error}; {step}");
        if error.is_retryable() {
            Outcome::retry(reason, message)
        } else {
            Outcome::needs_person(reason, message)
        }
    }
}

fn system(part: Part) -> System {
    match part {
        Part::Kafka => System::Kafka,
        Part::Store => System::Cql,
        Part::Database => System::Postgres,
        Part::Identity => System::Keycloak,
        Part::Cache => System::Redis,
    }
}

fn in_sync(part: Part, tenant: &Tenant) -> String {
    let id = &tenant.id;
    match part {
        Part::Kafka => format!(
            "topics {0}message.send, {0}message.delivered, {0}chat.events of {1} partitions; user {2}",
            id.kafka_prefix(),
            tenant.partitions,
            id.kafka_user()
        ),
        Part::Store => format!("keyspace and role {}", id.keyspace()),
        Part::Database => format!("database and role {}", id.database()),
        Part::Identity => format!("realm {}", id.realm()),
        Part::Cache => format!("user {} on keys {}*", id.cache_user(), id.cache_prefix()),
    }
}
