//! The backends phase of a pass: all of them at the same time, each with a condition of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crds::{ConditionType, Reason, TenantId};
use futures_util::future::join_all;
use kube::ResourceExt;
use secrecy::SecretString;
use tracing::{info, warn};

use super::{
    context::Pass,
    succession::{Failure, as_heir},
};
use crate::{
    backend::{AnyBackend, BackendError, BackendFacts, ChangeKind, Holder, Login, Owner, Ownership, Settled},
    consent,
    events::reference,
    mode::Mode,
    previous::{is_established, was_because, was_good},
    status::{Outcome, Outcomes},
    succession::NotAdopted,
    tenant::{Cell, Tenant, recorded_data},
    workload::{Workload, has_part},
};

/// One backend of one pass may take this long. A realm on a busy machine takes 6 s, a keyspace 2 s; schema changes on
/// several nodes wait for agreement.
const TIMEOUT: Duration = Duration::from_secs(25);

/// How the backends are after their phase.
pub(super) struct Backends {
    pub outcomes: BTreeMap<catalog::Backend, Outcome>,
    /// Those where what has the tenant's name is another owner's.
    of_others: BTreeSet<catalog::Backend>,
    /// Ids of the tenant's topics, as recorded and as seen now.
    pub topic_ids: BTreeMap<String, String>,
    /// What holds the tenant's data in each backend, as recorded and as seen now.
    pub generations: BTreeMap<catalog::Backend, String>,
    /// Ids of the schemas of the tenant's records, as recorded and as seen now. None where the cell has no schema registry.
    pub schema_ids: BTreeMap<String, i32>,
}

impl Backends {
    /// Reports whether nothing of any backend is the tenant's.
    pub(super) fn all_belong_to_others(&self) -> bool {
        self.of_others.len() == self.outcomes.len()
    }

    /// Reports whether what a backend has under the tenant's name is not its data: pods that use it are left as they are, for
    /// what they are connected to may be.
    pub(super) fn has_other_data(&self, backend: catalog::Backend) -> bool {
        let is_lost = |outcome: &Outcome| outcome.reason == Reason::DataLoss;
        self.of_others.contains(&backend) || self.outcomes.get(&backend).is_some_and(is_lost)
    }

    /// Reports whether the tenant's part of a backend is as it should be.
    pub(super) fn is_ready(&self, backend: catalog::Backend) -> bool {
        self.outcomes.get(&backend).is_some_and(Outcome::is_good)
    }
}

/// Brings the tenant's part of every backend to what is desired. What the tenant has no part of is not called.
pub(super) async fn settle_all(pass: Pass<'_>, tenant: &Tenant) -> Backends {
    let all = pass.context.all_backends.iter();
    let had: Vec<_> = all.filter(|backend| tenant.has_part(backend.entry())).collect();
    let one = |backend: &'static dyn AnyBackend| Settling { backend, pass, tenant }.run();
    let mut all = Backends {
        outcomes: BTreeMap::new(),
        of_others: BTreeSet::new(),
        topic_ids: tenant.recorded_topic_ids.clone(),
        generations: tenant.recorded_generations.clone(),
        schema_ids: BTreeMap::new(),
    };
    if tenant.has_part(catalog::Backend::Registry) {
        all.schema_ids.extend(tenant.recorded_schema_ids.clone());
    }
    let seen = join_all(had.iter().map(|backend| one(**backend))).await;
    for (backend, seen) in had.iter().zip(seen) {
        let Seen { outcome, facts, belongs_to_other } = seen;
        all.outcomes.insert(backend.entry(), outcome);
        all.of_others.extend(belongs_to_other.then_some(backend.entry()));
        all.topic_ids.extend(facts.topic_ids);
        all.generations.extend(facts.generation.map(|generation| (backend.entry(), generation)));
        all.schema_ids.extend(facts.schema_ids);
    }
    all
}

/// How one backend is after its phase.
struct Seen {
    outcome: Outcome,
    facts: BackendFacts,
    /// What has the tenant's name there is another owner's.
    belongs_to_other: bool,
}

impl Seen {
    fn outcome(outcome: Outcome) -> Self {
        Self { outcome, facts: BackendFacts::default(), belongs_to_other: false }
    }
}

/// One backend of one pass.
struct Settling<'a> {
    backend: &'static dyn AnyBackend,
    pass: Pass<'a>,
    tenant: &'a Tenant,
}

impl Settling<'_> {
    async fn run(self) -> Seen {
        let Self { backend, pass: Pass { context, .. }, tenant } = self;
        let name = backend.entry().as_str();
        let began = Instant::now();
        let password = match tenant.password(backend.entry()) {
            Ok(password) => password,
            Err(unusable) => {
                context.metrics.failed(name, unusable.reason().as_str());
                let secret = backend.entry().secret.map(|secret| tenant.child(secret));
                let message = unusable.message(&secret.unwrap_or_default());
                return Seen::outcome(Outcome::action_required(unusable.reason(), message));
            }
        };
        let login = match context.login(backend, &tenant.cell) {
            Ok(login) => login,
            Err(missing) => {
                let reason = Reason::AdminSecretMissing;
                context.metrics.failed(name, reason.as_str());
                return Seen::outcome(Outcome::action_required(reason, missing));
            }
        };
        let settled = self.settle(&login, &password).await;
        context.metrics.part_took(name, began.elapsed(), traces::current());
        match settled {
            Ok(settled) => {
                Seen { facts: settled.facts.clone(), ..Seen::outcome(self.settled(&settled).await) }
            }
            Err(failure) => Seen {
                belongs_to_other: failure.error.reason() == Reason::ResourceConflict,
                ..Seen::outcome(failed(self.pass, self.backend, &self.tenant.cell, &failure))
            },
        }
    }

    async fn settle(&self, login: &Login, password: &SecretString) -> Result<Settled, Failure> {
        let Self { backend, pass, tenant } = *self;
        let Pass { mode, context, .. } = pass;
        as_heir(pass, backend.entry(), |heir_of| {
            let tenant = Tenant { heir_of, ..tenant.clone() };
            Box::pin(async move {
                let target = context.target(&tenant.cell, login);
                let work = backend.settle(target, &tenant, password, mode);
                let endpoint = backend.endpoint(&tenant.cell);
                context.backends.call(&tenant.cell.name, backend.entry(), endpoint, TIMEOUT, work).await
            })
        })
        .await
    }

    async fn settled(&self, settled: &Settled) -> Outcome {
        let Self { backend, pass: Pass { resource, mode, context, .. }, tenant } = *self;
        if mode == Mode::DryRun && !settled.changes.is_empty() {
            let lines: Vec<_> = settled.changes.iter().map(|(_, line)| line.as_str()).collect();
            return Outcome::action_required(Reason::Paused, format!("would {}", lines.join("; ")));
        }
        let entry = backend.entry();
        let was_good = was_good(resource, ConditionType::Backend(entry));
        for (kind, line) in &settled.changes {
            if *kind == ChangeKind::Adopt {
                info!(tenant = %tenant.id, backend = %entry, "{entry}: {line}");
                let note = format!("{entry}: {line}");
                context.events.normal(&reference(resource), Reason::Adopted, &note).await;
            } else if *kind != ChangeKind::Record && was_good && is_established(resource) {
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
        if let Some((reason, message)) = settled.facts.problem.clone().or_else(|| backend.problem(tenant)) {
            return Outcome::action_required(reason, message);
        }
        Outcome::good(Reason::InSync, backend.in_sync(tenant))
    }
}

/// Reports why a backend was not called with success, and what an administrator does about it.
fn failed(
    Pass { resource, context, .. }: Pass<'_>,
    backend: &dyn AnyBackend,
    cell: &Cell,
    failure: &Failure,
) -> Outcome {
    let (entry, error, reason) = (backend.entry(), &failure.error, failure.error.reason());
    context.metrics.failed(entry.as_str(), reason.as_str());
    let id = &resource.spec.tenant_id;
    if !was_because(resource, ConditionType::Backend(entry), reason) {
        warn!(tenant = %id, backend = %entry, %error, "{entry} of {id} failed: {error}");
    }
    let next_step = match error {
        BackendError::Unavailable { .. } => {
            format!("it is retried; check it, and its address in MessengerCell {}", cell.name)
        }
        BackendError::Busy { .. } | BackendError::NotLeading { .. } => "it goes on in a moment".to_owned(),
        BackendError::CredentialsRejected { .. } => match backend.admin_secret(cell) {
            Some(secret) => format!("correct Secret {}/{secret}", context.config.namespace),
            None => format!(
                "name one in spec.{}.credentialsSecretRef of MessengerCell {}",
                entry.field, cell.name
            ),
        },
        BackendError::Conflict { holder, .. } => conflict_step(holder, failure.not_adopted.as_ref()),
        BackendError::Refused { .. } => "see the operator's log".to_owned(),
        BackendError::DataLoss { .. } => format!(
            "to accept, `kubectl -n {} annotate --overwrite mt {} {}={}`",
            resource.namespace().unwrap_or_default(),
            resource.name_any(),
            crds::ACCEPT_LOSS_ANNOTATION,
            consent::accepting(entry, &consent::loss(&recorded_data(resource, entry))),
        ),
    };
    let message = format!("{error}; {next_step}");
    if reason == Reason::BackendBusy {
        Outcome::waiting(reason, message)
    } else if failure.is_retryable() {
        Outcome::retry(reason, message)
    } else {
        Outcome::action_required(reason, message)
    }
}

/// Returns what an administrator does about a conflict. Nothing of it destroys data: whose it is may come back for it.
fn conflict_step(holder: &Holder, not_adopted: Option<&NotAdopted>) -> String {
    match (holder, not_adopted) {
        (_, Some(why)) => why.to_string(),
        (Holder::Retained { .. }, None) => {
            "apply the tenant there, or choose another tenantId here".to_owned()
        }
        (Holder::Owner(_) | Holder::Account { .. } | Holder::Unknown, None) => {
            "it is left as it is; find out who uses it, or create a tenant with another tenantId".to_owned()
        }
    }
}

/// Finds out which backends have a tenant's part that another owner has, and returns what to report about each. Writes nothing.
/// A backend that cannot be called, or that the tenant needs no part of, says nothing either way.
pub(super) async fn conflicts(pass: Pass<'_>, id: &TenantId, cell: &Cell) -> Outcomes {
    let one = |backend: &'static dyn AnyBackend| async move {
        let failure = ownership(pass, backend, id, cell).await.err()?;
        let is_conflict = failure.error.reason() == Reason::ResourceConflict;
        let part = ConditionType::Backend(backend.entry());
        is_conflict.then(|| (part, failed(pass, backend, cell, &failure)))
    };
    let workloads = Workload::of(&pass.resource.spec);
    let is_needed =
        |backend: &&&'static dyn AnyBackend| has_part(&workloads, backend.entry()) && backend.is_of(cell);
    let needed = pass.context.all_backends.iter().filter(is_needed);
    join_all(needed.map(|backend| one(*backend))).await.into_iter().flatten().collect()
}

/// Returns who the tenant's part of a backend belongs to, or nothing when the operator's account there is not known.
async fn ownership(
    pass: Pass<'_>,
    backend: &'static dyn AnyBackend,
    id: &TenantId,
    cell: &Cell,
) -> Result<Option<Ownership>, Failure> {
    let Pass { resource, context, .. } = pass;
    let Ok(login) = &context.login(backend, cell) else { return Ok(None) };
    let found = as_heir(pass, backend.entry(), |heir_of| {
        let owner = Owner {
            uid: resource.uid().unwrap_or_default(),
            namespace: resource.namespace().unwrap_or_default(),
            name: resource.name_any(),
            heir_of,
        };
        let target = context.target(cell, login);
        let work = backend.ownership(target, id, owner);
        Box::pin(context.backends.call(&cell.name, backend.entry(), backend.endpoint(cell), TIMEOUT, work))
    });
    found.await.map(Some)
}
