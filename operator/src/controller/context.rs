//! What every pass needs, and what passes remember for the next one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, RwLock, RwLockReadGuard},
    time::Duration,
};

use crds::{CellPrometheus, MessengerCell, MessengerTenant, Objective, Reason, TenantStatus, Usage};
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Client, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use secrecy::SecretString;
use tokio::{sync::SetOnce, time::Instant};
use tracing::warn;

use crate::{
    apply::{WriteError, Writer},
    backend::{AnyBackend, Credentials, Login, Pool, Target},
    config::Config,
    contested::Contested,
    desired::ChildKey,
    domains::Installation,
    events::{Events, reference},
    fleet::Fleet,
    locks::{lock, read},
    metrics::Metrics,
    mode::Mode,
    objectives::{Failure, Figures, Known},
    observe::{self, Observed, Probe, ReadError},
    plan::Left,
    retry::Retries,
    secrets::{Copies, Unusable},
    status::{self, Outcome},
    suspension::Pods,
    tenant::Cell,
    time_limit::TimedOut,
    waker::Waker,
    watched::{Versions, Watched},
};

/// A flag of the API server changes with its restart.
const EXTERNAL_IPS_EVERY: Duration = Duration::from_secs(600);

/// What every pass needs.
pub(crate) struct Context {
    pub client: Client,
    pub config: Config,
    pub writer: Writer,
    pub metrics: Arc<Metrics>,
    pub events: Events,
    /// Every backend that there is.
    pub all_backends: &'static [&'static dyn AnyBackend],
    pub backends: Pool,
    pub prober: Box<dyn Probe>,
    pub retries: Retries,
    /// The wall clock.
    pub now: fn() -> Timestamp,
    /// Returns a fresh credential.
    pub credential: fn() -> String,
    pub fleet: Arc<RwLock<Fleet>>,
    pub watched: Arc<RwLock<Watched>>,
    pub cells: Store<DeserializeGuard<MessengerCell>>,
    pub admin_secrets: Store<Secret>,
    pub first_lists: FirstLists,
    /// Which tenants were asked for while they slept.
    pub waker: Waker,
    pub memory: Memory,
}

/// Whether the stores have what was there at the start. It is noted where the streams that fill them are made.
///
/// A store of kube-runtime has a future of its own for this, and must not be asked: its first list wakes the one that asked
/// last and no other. The runtime itself asks the store of what a controller is for, so a pass that asked before it would
/// never end, and no other pass over its tenant begin.
#[derive(Clone, Default)]
pub(crate) struct FirstLists {
    pub tenants: FirstList,
    pub cells: FirstList,
    pub admin_secrets: FirstList,
}

/// Whether one store was filled once.
#[derive(Clone, Default)]
pub(crate) struct FirstList(Arc<SetOnce<()>>);

impl FirstList {
    /// Looks at an event that the store has taken in.
    pub fn observe<K>(&self, event: &watcher::Result<watcher::Event<K>>) {
        if matches!(event, Ok(watcher::Event::InitDone)) {
            // Set before when the watch had to begin again.
            _ = self.0.set(());
        }
    }

    async fn wait(&self) {
        self.0.wait().await;
    }
}

/// What passes remember for the next one. Lost at restart, which costs nothing but an Event.
#[derive(Default)]
pub(crate) struct Memory {
    /// The last status written, by UID, with the resource version that has it: the watch may lag behind.
    written: Mutex<HashMap<String, (String, TenantStatus)>>,
    /// The children as the last pass left them, by UID of the tenant.
    children: Mutex<HashMap<String, Versions>>,
    /// Fields of children that others set, by UID of the tenant.
    contested: Mutex<HashMap<String, Contested>>,
    /// Deletions under way, by UID.
    deletions: Mutex<HashMap<String, Deletion>>,
    /// Held while a tenant is placed: two of one id never are at the same time.
    pub placing: tokio::sync::Mutex<()>,
    /// Consents to a loss that were reported as unused, by UID.
    unused_consents: Mutex<HashMap<String, String>>,
    /// When the API server was asked last whether it takes external IPs, and what it answered.
    external_ips: Mutex<Option<(Instant, bool)>>,
    /// When what was left behind in a cell was tried last, by UID, and the generation of the cell then.
    cleaned_up: Mutex<HashMap<String, (Instant, Option<i64>)>>,
    /// When the Prometheus of a cell was asked last, by UID, and the generation of the cell then.
    asked: Mutex<HashMap<String, (Instant, Option<i64>)>>,
    /// What is known of the objectives and the usage of a cell's tenants, by its name. Nothing before its Prometheus was asked once.
    objectives: Mutex<HashMap<String, Known>>,
}

/// A deletion that this process works on.
#[derive(Clone, Copy)]
pub(crate) struct Deletion {
    /// When the first attempt began.
    pub began: Instant,
    /// How often the backends were called.
    pub attempts: u32,
}

/// Why a pass ended early. It is reported at the tenant, logged once, by the controller, and retried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Something that it waited for did not come.
    #[error("a pass over this resource did not end: {0}")]
    Late(TimedOut),
    /// It is a fault of the operator. Other tenants go on.
    #[error("the operator failed at this resource: {0}; report it, with the operator's log")]
    Panicked(String),
}

impl PassError {
    /// Returns the reason used in conditions and Events.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Read(_) | Self::Write(_) => Reason::ApiRefused,
            Self::Late(_) | Self::Panicked(_) => Reason::InternalError,
        }
    }

    /// Reports whether it is worth a report: the operator may write, and the next pass meets the same.
    pub fn is_lasting(&self, failures: u32) -> bool {
        let is_refusal = match self {
            Self::Read(error) => error.is_refusal(),
            Self::Write(WriteError::NotLeading(_)) => return false,
            Self::Write(error) if error.is_stale() => return false,
            Self::Write(error) => error.is_refusal(),
            Self::Late(_) | Self::Panicked(_) => true,
        };
        is_refusal || failures >= FAILURES
    }
}

/// An API server that does not respond is reported after so many passes in a row that failed: it may be restarting.
const FAILURES: u32 = 3;

impl Context {
    /// Returns the index of all tenants. Held for a look-up only, never over an await.
    pub fn fleet(&self) -> RwLockReadGuard<'_, Fleet> {
        read(&self.fleet)
    }

    /// Returns the children of a tenant as their watches show them, or nothing while they lag behind the last pass.
    pub fn watched_children(&self, resource: &MessengerTenant) -> Option<Observed> {
        let known = self.memory.known_children(resource.uid()?.as_str())?;
        let watched = read(&self.watched);
        watched.view(resource.namespace()?.as_str(), &resource.spec.tenant_id, &known)
    }

    /// Waits for the first lists of tenants, cells and Secrets: before them everything looks missing.
    pub async fn stores_ready(&self) {
        let FirstLists { tenants, cells, admin_secrets } = &self.first_lists;
        for list in [tenants, cells, admin_secrets] {
            list.wait().await;
        }
    }

    /// Returns a cell, without the conditions of other controllers.
    pub fn cell(&self, name: &str) -> Option<MessengerCell> {
        let mut cell = self.cells.get(&ObjectRef::new(name))?.0.as_ref().ok().cloned()?;
        if let Some(status) = &mut cell.status {
            status::retain_own(&mut status.conditions);
        }
        Some(cell)
    }

    /// Returns what belongs to the installation, as all cells declare it.
    pub fn installation(&self) -> Installation {
        let cells = self.cells.state();
        Installation::of(cells.iter().filter_map(|guarded| Some(&guarded.0.as_ref().ok()?.spec)))
    }

    fn admin_secret(&self, name: &str) -> Option<Arc<Secret>> {
        self.admin_secrets.get(&ObjectRef::new(name).within(&self.config.namespace))
    }

    /// Reads the operator's account on a cell's backend. The error names what is missing where.
    pub fn login(&self, backend: &dyn AnyBackend, cell: &Cell) -> Result<Login, String> {
        let Some(name) = backend.admin_secret(cell) else { return Ok(Login::none()) };
        let secret = self.admin_secret(name);
        Login::read(backend.entry(), &self.config.namespace, name, secret.as_deref())
    }

    /// Reads the account at a cell's mail server, `None` where the cell needs none. The error names what is missing where.
    pub fn smtp_account(&self, cell: &Cell) -> Result<Option<Credentials>, String> {
        let Some(name) = cell.spec.smtp.as_ref().and_then(|smtp| smtp.credentials_secret_ref.as_ref()) else {
            return Ok(None);
        };
        let (secret, namespace) = (self.admin_secret(&name.name), &self.config.namespace);
        let keys = catalog::Secret::Smtp.keys;
        Login::keys(
            [keys[0].key, keys[1].key],
            "the account at the mail server",
            namespace,
            &name.name,
            secret.as_deref(),
        )
        .map(|login| Some(login.account))
    }

    /// Reads the token that the Prometheus of a cell wants, `None` where the cell names none. The error names what is missing where.
    pub fn prometheus_token(&self, prometheus: &CellPrometheus) -> Result<Option<SecretString>, String> {
        let Some(name) = prometheus.token_secret_ref.as_ref().map(|reference| &reference.name) else {
            return Ok(None);
        };
        let namespace = &self.config.namespace;
        let Some(secret) = self.admin_secret(name) else {
            return Err(format!(
                "Secret {namespace}/{name} does not exist; create it with the key token of an account at Prometheus"
            ));
        };
        let token = Login::value(&secret, namespace, name, "token")?;
        // What was made of a file ends in a line break.
        Ok(Some(token.trim().into()))
    }

    /// Returns what a tenant of a cell gets a copy of from the cell.
    pub fn cell_copies(&self, cell: &Cell) -> Copies {
        let data = match self.smtp_account(cell) {
            Ok(None) => return Copies::new(),
            Ok(Some(Credentials { username, password })) => {
                let keys = catalog::Secret::Smtp.keys;
                Ok([(keys[0].key.to_owned(), username.into()), (keys[1].key.to_owned(), password)].into())
            }
            Err(_) => Err(Unusable::OfCell),
        };
        [(catalog::Secret::Smtp, data)].into()
    }

    /// Returns what a call to a cell's backend needs.
    pub fn target<'a>(&'a self, cell: &'a Cell, login: &'a Login) -> Target<'a> {
        let (fence, metrics) = (&self.writer.fence, &self.metrics);
        Target { cell, login, pool: &self.backends, fence, metrics }
    }

    /// Reports whether the API server takes Services with external IPs. It is asked once in a while.
    pub async fn takes_external_ips(&self) -> Result<bool, ReadError> {
        let known = *lock(&self.memory.external_ips);
        if let Some((at, takes)) = known
            && at.elapsed() < EXTERNAL_IPS_EVERY
        {
            return Ok(takes);
        }
        let takes = observe::takes_external_ips(&self.client, &self.config.namespace).await?;
        *lock(&self.memory.external_ips) = Some((Instant::now(), takes));
        Ok(takes)
    }

    /// Records that something changed by hand was put back.
    pub async fn drift_repaired(&self, resource: &MessengerTenant, part: &'static str, line: &str) {
        warn!(tenant = %resource.spec.tenant_id, part, "repaired what was changed by hand: {line}");
        self.metrics.repaired(part);
        self.events.warning(&reference(resource), Reason::DriftRepaired, &format!("{part}: {line}")).await;
    }

    /// Forgets a tenant that is gone.
    pub fn forget(&self, resource: &MessengerTenant) {
        if let Some(uid) = resource.uid() {
            self.memory.forget(&uid);
            self.retries.forget(&uid);
            self.waker.take(&uid);
        }
    }
}

impl Memory {
    /// Returns the resource with the newest status known: what we wrote ourselves may not have come back yet. Conditions of other
    /// controllers are left out: they are neither ours to compare nor to write.
    pub fn with_written_status(&self, resource: &MessengerTenant) -> MessengerTenant {
        let mut resource = resource.clone();
        if let Some(status) = &mut resource.status {
            status::retain_own(&mut status.conditions);
        }
        let written = lock(&self.written);
        if let Some((version, status)) = resource.uid().and_then(|uid| written.get(&uid)) {
            let number = |version: &str| version.parse::<u128>().unwrap_or_default();
            if number(version) > number(resource.resource_version().as_deref().unwrap_or_default()) {
                resource.status = Some(status.clone());
            }
        }
        resource
    }

    pub fn remember_status(&self, resource: &MessengerTenant, version: Option<String>, status: TenantStatus) {
        if let (Some(uid), Some(version)) = (resource.uid(), version) {
            let mut written = lock(&self.written);
            written.insert(uid, (version, status));
        }
    }

    /// Reports whether the last pass left a child: when it is missing now, another client deleted it. Nothing is known before
    /// the first pass of this process.
    pub fn has_left(&self, uid: &str, child: &ChildKey) -> Option<bool> {
        let children = lock(&self.children);
        children.get(uid).map(|children| children.contains_key(child))
    }

    pub fn remember_children(&self, uid: &str, versions: Versions) {
        lock(&self.children).insert(uid.to_owned(), versions);
    }

    /// Forgets how the last pass left the children: they are changed, and what the watches show may be from before.
    pub fn forget_children(&self, uid: &str) {
        lock(&self.children).remove(uid);
    }

    fn known_children(&self, uid: &str) -> Option<Versions> {
        lock(&self.children).get(uid).cloned()
    }

    /// Returns the fields of a tenant's children that are left to others.
    pub fn left_to_others(&self, uid: &str) -> Left {
        lock(&self.contested).get(uid).map(|contested| contested.left(Instant::now())).unwrap_or_default()
    }

    /// Notes that a child was written: `repaired` are fields that another client had changed, `undone` those that the server made
    /// something else of. Returns those that are left to others from now on.
    pub fn repaired(
        &self,
        uid: &str,
        child: &ChildKey,
        repaired: &[String],
        undone: &[String],
    ) -> Vec<String> {
        let mut contested = lock(&self.contested);
        contested.entry(uid.to_owned()).or_default().repaired(child, repaired, undone, Instant::now())
    }

    /// Notes that a consent to a loss is not used, and reports whether that is news.
    pub fn is_new_consent(&self, resource: &MessengerTenant, value: &str) -> bool {
        let mut known = lock(&self.unused_consents);
        let before = known.insert(resource.uid().unwrap_or_default(), value.to_owned());
        before.is_none_or(|before| before != value)
    }

    /// Returns how far the deletion of a tenant is. It begins with the first call.
    pub fn deletion(&self, resource: &MessengerTenant) -> Deletion {
        let began = || Deletion { began: Instant::now(), attempts: 0 };
        *lock(&self.deletions).entry(resource.uid().unwrap_or_default()).or_insert_with(began)
    }

    /// Counts an attempt at the backends, and returns how many there were.
    pub fn attempted_deletion(&self, resource: &MessengerTenant) -> u32 {
        let mut deletion = self.deletion(resource);
        deletion.attempts += 1;
        lock(&self.deletions).insert(resource.uid().unwrap_or_default(), deletion);
        deletion.attempts
    }

    /// Reports whether what was left behind in a cell is to be tried again: the cell was edited, or the last time is `every` ago.
    /// Every event of a tenant starts a pass of the cell, which must not call a dead backend each time.
    pub fn is_clean_up_due(&self, cell: &MessengerCell, every: Duration) -> bool {
        is_due(&self.cleaned_up, cell, every)
    }

    /// Reports whether the Prometheus of a cell is to be asked again, likewise.
    pub fn is_asking_due(&self, cell: &MessengerCell, every: Duration) -> bool {
        is_due(&self.asked, cell, every)
    }

    /// Notes what the Prometheus of a cell answered, or why it did not.
    pub fn answered(&self, cell: &str, url: &str, answer: Result<Figures, Failure>) {
        let mut objectives = lock(&self.objectives);
        let known = Known::after(objectives.remove(cell), url, answer, Instant::now());
        objectives.insert(cell.to_owned(), known);
    }

    /// Returns whether the objectives of a cell's tenants are known, or nothing before its Prometheus was asked.
    pub fn objectives_known(&self, cell: &str) -> Option<Outcome> {
        lock(&self.objectives).get(cell).map(Known::outcome)
    }

    /// Returns what the status of a tenant on a cell says of its objectives and its usage, likewise; `shown` is the status before.
    pub fn figures(
        &self,
        cell: &str,
        tenant_id: &str,
        shown: &TenantStatus,
    ) -> Option<(Vec<Objective>, Option<Usage>)> {
        let (objectives, now) = (lock(&self.objectives), Instant::now());
        let known = objectives.get(cell)?;
        let usage = known.usage(tenant_id, shown.usage.as_ref(), now);
        Some((known.objectives(tenant_id, &shown.objectives, now), usage))
    }

    /// Returns how many clients are connected to a tenant on a cell, if its Prometheus says so now.
    pub fn connections(&self, cell: &str, tenant_id: &str) -> Option<i64> {
        lock(&self.objectives).get(cell)?.connections(tenant_id, Instant::now())
    }

    /// Forgets what was answered about a cell that has no Prometheus any more.
    pub fn forget_objectives(&self, cell: &str) {
        lock(&self.objectives).remove(cell);
    }

    fn forget(&self, uid: &str) {
        lock(&self.deletions).remove(uid);
        lock(&self.written).remove(uid);
        lock(&self.unused_consents).remove(uid);
        lock(&self.contested).remove(uid);
        self.forget_children(uid);
    }
}

/// Reports whether something is to be done again for a cell: it was edited, or the last time is `every` ago. Notes that it is done now.
fn is_due(
    done: &Mutex<HashMap<String, (Instant, Option<i64>)>>,
    cell: &MessengerCell,
    every: Duration,
) -> bool {
    let mut done = lock(done);
    let (uid, generation) = (cell.uid().unwrap_or_default(), cell.metadata.generation);
    let last = done.get(&uid);
    let is_due = last.is_none_or(|(at, of)| at.elapsed() >= every || *of != generation);
    if is_due {
        done.insert(uid, (Instant::now(), generation));
    }
    is_due
}

/// One pass: a tenant, and whether it may be changed.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub resource: &'a MessengerTenant,
    pub mode: Mode,
    pub context: &'a Context,
    /// How far a suspended tenant is.
    pub pods: Pods,
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
    use kube::runtime::{WatchStreamExt as _, reflector};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "what the runtime does")]
    async fn all_passes_go_on_when_a_store_is_filled_whoever_else_waits_for_it() {
        let (store, writer) = reflector::store::<Secret>();
        let (send, events) =
            tokio::sync::mpsc::unbounded_channel::<watcher::Result<watcher::Event<Secret>>>();
        let events = futures_util::stream::unfold(events, async |mut events| {
            events.recv().await.map(|event| (event, events))
        });
        let list = FirstList::default();
        let noted = list.clone();
        let filling = reflector(writer, events).inspect(move |event| noted.observe(event)).touched_objects();
        let filling = tokio::spawn(filling.for_each(async |_| {}));

        let mut passes: FuturesUnordered<_> = (0..4).map(|_| list.wait()).collect();
        assert!(passes.next().now_or_never().is_none(), "nothing is listed yet");
        // As a controller of what is in the store does.
        let runtime = tokio::spawn(async move { store.wait_until_ready().await.is_ok() });
        tokio::task::yield_now().await;
        for event in
            [watcher::Event::Init, watcher::Event::InitDone, watcher::Event::Init, watcher::Event::InitDone]
        {
            send.send(Ok(event)).expect("it is read");
        }
        timeout(Duration::from_secs(5), passes.collect::<Vec<_>>()).await.expect("each of them is woken");
        assert!(runtime.await.expect("no panic"));
        drop(send);
        filling.await.expect("no panic");
    }
}
