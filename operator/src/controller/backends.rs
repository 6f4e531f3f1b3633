//! The backends phase of a pass: all of them at the same time, each with a condition of its own.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crds::{ConditionType, Reason};
use futures_util::future::join_all;
use secrecy::SecretString;
use tracing::{info, warn};

use super::context::{Context, Pass};
use crate::{
    backend::{self, AnyBackend, BackendError, BackendFacts, ChangeKind, Holder, Login, Settled},
    consent,
    mode::Mode,
    previous::{is_established, reason_of, was_good},
    status::Outcome,
    tenant::Tenant,
};

/// One backend of one pass may take this long. A realm on a busy machine takes 6 s, a keyspace 2 s; schema changes on
/// several nodes wait for agreement.
const TIMEOUT: Duration = Duration::from_secs(25);

/// How the backends are after their phase.
pub(super) struct Backends {
    pub outcomes: BTreeMap<catalog::Backend, Outcome>,
    /// Ids of the tenant's topics, as recorded and as seen now.
    pub topic_ids: BTreeMap<String, String>,
}

impl Backends {
    /// Reports whether the tenant's part of a backend is as it should be.
    pub(super) fn is_ready(&self, backend: catalog::Backend) -> bool {
        self.outcomes.get(&backend).is_some_and(Outcome::is_good)
    }
}

/// Brings the tenant's part of every backend to what is desired.
pub(super) async fn settle_all(pass: Pass<'_>, tenant: &Tenant) -> Backends {
    let one = |backend: &&'static dyn AnyBackend| Settling { backend: *backend, pass, tenant }.run();
    let mut outcomes = BTreeMap::new();
    let mut facts = BackendFacts { topic_ids: tenant.recorded_topic_ids.clone() };
    for (backend, (outcome, found)) in backend::ALL.iter().zip(join_all(backend::ALL.iter().map(one)).await) {
        outcomes.insert(backend.entry(), outcome);
        facts.merge(found);
    }
    Backends { outcomes, topic_ids: facts.topic_ids }
}

/// One backend of one pass.
struct Settling<'a> {
    backend: &'static dyn AnyBackend,
    pass: Pass<'a>,
    tenant: &'a Tenant,
}

impl Settling<'_> {
    async fn run(self) -> (Outcome, BackendFacts) {
        let Self { backend, pass: Pass { context, .. }, tenant } = self;
        let name = backend.entry().as_str();
        let began = Instant::now();
        let secret = backend.entry().secret;
        let password = match tenant.secrets.password(secret) {
            Ok(password) => password,
            Err(unusable) => {
                context.metrics.failed(name, unusable.reason().as_str());
                let message = unusable.message(&tenant.child(secret));
                return (Outcome::action_required(unusable.reason(), message), BackendFacts::default());
            }
        };
        let login = match context.login(backend, &tenant.cell) {
            Ok(login) => login,
            Err(missing) => {
                let reason = Reason::AdminSecretMissing;
                context.metrics.failed(name, reason.as_str());
                return (Outcome::action_required(reason, missing), BackendFacts::default());
            }
        };
        let settled = self.settle(&login, password).await;
        context.metrics.part_took(name, began.elapsed());
        match settled {
            Ok(settled) => (self.settled(&settled).await, settled.facts),
            Err(error) => (self.failed(&error), BackendFacts::default()),
        }
    }

    async fn settle(&self, login: &Login, password: &SecretString) -> Result<Settled, BackendError> {
        let Self { backend, pass: Pass { mode, context, .. }, tenant } = *self;
        let work = backend.settle(context.target(&tenant.cell, login), tenant, password, mode);
        context.backends.call(&tenant.cell, backend, TIMEOUT, work).await
    }

    async fn settled(&self, settled: &Settled) -> Outcome {
        let Self { backend, pass: Pass { resource, mode, context }, tenant } = *self;
        if mode == Mode::DryRun && !settled.changes.is_empty() {
            let lines: Vec<_> = settled.changes.iter().map(|(_, line)| line.as_str()).collect();
            return Outcome::action_required(Reason::Paused, format!("would {}", lines.join("; ")));
        }
        let entry = backend.entry();
        let was_good = was_good(resource, ConditionType::Backend(entry));
        for (kind, line) in &settled.changes {
            if was_good && is_established(resource) {
                context.drift_repaired(resource, entry.as_str(), line).await;
            } else {
                let is_repair = *kind == ChangeKind::Repair;
                info!(tenant = %tenant.id, backend = %entry, is_repair, "{entry}: {line}");
            }
        }
        if !settled.blocked.is_empty() {
            let message = format!(
                "{}; it is left as it is, set the resource back to go on",
                settled.blocked.join("; ")
            );
            return Outcome::action_required(Reason::ChangeBlocked, message);
        }
        Outcome::good(Reason::InSync, backend.in_sync(tenant))
    }

    fn failed(&self, error: &BackendError) -> Outcome {
        let Self { backend, pass: Pass { resource, context, .. }, tenant } = *self;
        let (entry, reason) = (backend.entry(), error.reason());
        context.metrics.failed(entry.as_str(), reason.as_str());
        if reason_of(resource, ConditionType::Backend(entry)) != Some(reason.as_str()) {
            warn!(tenant = %tenant.id, backend = %entry, %error, "{entry} of {} failed: {error}", tenant.id);
        }
        let message = format!("{error}; {}", self.next_step(error, context));
        if matches!(error, BackendError::Busy { .. }) {
            Outcome::waiting(reason, message)
        } else if error.is_retryable() {
            Outcome::retry(reason, message)
        } else {
            Outcome::action_required(reason, message)
        }
    }

    /// Returns what an administrator does about an error.
    fn next_step(&self, error: &BackendError, context: &Context) -> String {
        let Self { backend, tenant, .. } = *self;
        match error {
            BackendError::Unavailable { .. } => {
                format!("it is retried; check it, and its address in MessengerCell {}", tenant.cell.name)
            }
            BackendError::Busy { .. } => "it goes on in a moment".to_owned(),
            BackendError::CredentialsRejected { .. } => {
                format!("correct Secret {}/{}", context.config.namespace, backend.admin_secret(&tenant.cell))
            }
            BackendError::Conflict { holder: Holder::Retained { .. }, .. } => {
                "apply the tenant there, or choose another tenantId here".to_owned()
            }
            BackendError::Conflict { .. } => "remove it, or create a tenant with another tenantId".to_owned(),
            BackendError::Refused { .. } => "see the operator's log".to_owned(),
            BackendError::DataLoss { .. } => format!(
                "to accept, `kubectl -n {} annotate --overwrite mt {} {}={}`",
                tenant.namespace,
                tenant.name,
                crds::ACCEPT_LOSS_ANNOTATION,
                consent::accepting(backend.entry(), &consent::loss(&tenant.recorded_topic_ids)),
            ),
        }
    }
}
