//! Reads and writes a tenant's part of Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::Request;
use secrecy::SecretString;
use tokio_rustls::TlsConnector;

use super::change::plan;
use super::settle::Expected;
use super::wire::{Connection, WireError};
use super::{Acl, KafkaChange, KafkaDesired, KafkaObserved, TopicObserved, UserObserved};
use catalog::{Service, Topic};
use crds::{CellKafka, TenantId};

use crate::{
    backend::{
        change::ChangeKind,
        contract::{Backend, BackendFacts},
        error::{BackendError, Holder, within},
        idle::IdlePool,
        login::Credentials,
        marker::Marker,
        ownership::{Claim, Owner, Ownership},
        password::PasswordMemo,
        tls::{self, Trust},
    },
    leader::Fence,
    tenant::{Cell, Tenant},
};

/// Connecting and logging in: a healthy broker takes 5 ms, a refused login 300 ms (the broker delays it on purpose).
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A topic that seems lost is looked for once more after this long, because brokers respond from a copy of the metadata.
const REREAD_AFTER: Duration = Duration::from_millis(250);

/// Administers tenants in one Kafka cluster. Made without I/O; connects on first use and again after a failure.
pub struct KafkaAdmin {
    endpoint: String,
    /// Or why connections can have no TLS, where they have to.
    tls: Result<Option<TlsConnector>, String>,
    credentials: Credentials,
    idle: IdlePool<Connection>,
    passwords: PasswordMemo,
}

impl Backend for KafkaAdmin {
    const ENTRY: catalog::Backend = catalog::Backend::Kafka;

    type Desired = KafkaDesired;
    type Observed = KafkaObserved;
    type Change = KafkaChange;

    fn desired(tenant: &Tenant, password: &SecretString) -> KafkaDesired {
        KafkaDesired::of(tenant, password)
    }

    fn name(id: &TenantId) -> String {
        id.kafka_user().to_string()
    }

    fn arguments(tenant: &Tenant) -> Vec<(&'static str, String)> {
        let kafka = &tenant.cell.spec.kafka;
        vec![
            ("--kafka-bootstrap-servers", kafka.bootstrap_servers.clone()),
            ("--kafka-security-protocol", kafka.security_protocol.unwrap_or_default().as_str().to_owned()),
        ]
    }

    fn in_sync(tenant: &Tenant) -> String {
        let topics: Vec<_> = tenant.topics().map(|topic| tenant.id.topic(topic.name).to_string()).collect();
        format!(
            "topics {} of {} partitions; user {}",
            topics.join(", "),
            tenant.partitions,
            Self::name(&tenant.id)
        )
    }

    fn facts(observed: &KafkaObserved) -> BackendFacts {
        BackendFacts { topic_ids: observed.topic_ids(), ..BackendFacts::default() }
    }

    fn admin_secret(cell: &Cell) -> Option<&str> {
        Some(&cell.spec.kafka.admin_secret_ref.name)
    }

    fn endpoint(cell: &Cell) -> String {
        let CellKafka { bootstrap_servers, .. } = &cell.spec.kafka;
        format!("{bootstrap_servers} {}", tls::fingerprint(cell, cell.spec.kafka.tls()))
    }

    fn connect(cell: &Cell, account: Credentials) -> Self {
        let kafka = &cell.spec.kafka;
        Self::new(&kafka.bootstrap_servers, Trust::of(cell, kafka.tls()), account)
    }

    /// Reads what the tenant has. Writes nothing; a password not yet known to work is tried by a login as the tenant.
    async fn observe(&self, desired: &KafkaDesired) -> Result<KafkaObserved, BackendError> {
        let user = &desired.tenant;
        let acls = self.acls(user).await?;
        let names: BTreeSet<&str> = desired.topics.iter().map(|topic| topic.name.as_str()).collect();
        let mut topics = self.topics(&names).await?;
        let exists = self.has_user(user).await?;
        let quotas = self.quotas(user).await?;
        let something = exists || !topics.is_empty() || !acls.is_empty();
        let ownership = ownership(&acls, something, user, &desired.owner)?;
        if desired.lost_topics(&ownership, &topics).next().is_some() {
            tokio::time::sleep(REREAD_AFTER).await;
            topics = self.topics(&names).await?;
        }
        self.check_prefix(user, &ownership, &acls).await?;
        let login = match exists {
            false => UserObserved::Absent,
            true if self.verify(user, &desired.password).await? => UserObserved::Verified,
            true => UserObserved::OtherPassword,
        };
        let replaced = ownership.former().map(|former| Acl::marker(&former.marker()));
        let kept = [Some(Acl::marker(&desired.owner.marker())), replaced];
        let acls = acls.into_iter().filter(|acl| !kept.contains(&Some(acl.clone()))).collect();
        Ok(KafkaObserved { ownership, user: login, topics, acls, quotas })
    }

    fn plan(desired: &KafkaDesired, observed: &KafkaObserved) -> Vec<KafkaChange> {
        plan(desired, observed)
    }

    fn kind(change: &KafkaChange) -> ChangeKind {
        change.kind()
    }

    async fn apply(&self, desired: &KafkaDesired, change: &KafkaChange) -> Result<(), BackendError> {
        let mut results = self.apply_batch(desired, std::slice::from_ref(change)).await;
        results.pop().expect("one change has one result")
    }

    /// Makes all changes of a plan in few requests. Goes on after a failure.
    async fn apply_all(
        &self,
        desired: &KafkaDesired,
        changes: &[KafkaChange],
        fence: &Fence,
    ) -> Vec<Result<(), BackendError>> {
        match fence.check() {
            Ok(()) => self.apply_batch(desired, changes).await,
            Err(_) => Vec::new(),
        }
    }

    /// Removes everything of the tenant and returns what was there. Rights go first: a session that is open outlives its
    /// user, but not its ACLs. The owner marker goes last, so that a removal cut short can be repeated.
    async fn remove(&self, claim: &Claim) -> Result<Vec<String>, BackendError> {
        let user = &claim.name;
        let Found { acls, topics, exists } = self.find(user).await?;
        let something = exists || !topics.is_empty() || !acls.is_empty();
        if ownership(&acls, something, user, &claim.owner)? == Ownership::Absent {
            return Ok(Vec::new());
        }
        let mut removed = Vec::new();
        let (markers, rights): (Vec<Acl>, Vec<Acl>) = acls.into_iter().partition(|acl| acl.owner().is_some());
        all(self.delete_acls(user, &rights).await?)?;
        removed.extend(rights.iter().map(|acl| format!("{acl} for user {user}")));
        let quotas = self.quotas(user).await?;
        if !quotas.is_empty() {
            let cleared: Vec<_> = quotas.keys().map(|key| (key.clone(), None)).collect();
            self.alter_quotas(user, &cleared).await?;
            removed.extend(quotas.keys().map(|key| format!("quota {key} of user {user}")));
        }
        if exists {
            self.delete_user(user).await?;
            self.passwords.forget(user);
            removed.push(format!("user {user}"));
        }
        self.delete_topics(&topics).await?;
        removed.extend(topics.iter().map(|topic| format!("topic {topic}")));
        let groups = self.group_names(&format!("{user}.")).await?.into_iter();
        let groups = self.delete_groups(&groups.filter(|name| is_own_group(user, name)).collect()).await?;
        removed.extend(groups.iter().map(|group| format!("group {group}")));
        all(self.delete_acls(user, &markers).await?)?;
        self.settle(Expected::Removed { user }).await;
        Ok(removed)
    }

    async fn ownership(&self, claim: &Claim) -> Result<Ownership, BackendError> {
        let user = &claim.name;
        let Found { acls, topics, exists } = self.find(user).await?;
        let something = exists || !topics.is_empty() || !acls.is_empty();
        let ownership = ownership(&acls, something, user, &claim.owner)?;
        self.check_prefix(user, &ownership, &acls).await?;
        Ok(ownership)
    }

    /// Releases a retained tenant: its data stays, and the next owner may re-adopt it. Its user loses all rights.
    async fn release(&self, claim: &Claim) -> Result<(), BackendError> {
        let user = &claim.name;
        let acls = self.acls(user).await?;
        if !ownership(&acls, !acls.is_empty(), user, &claim.owner)?.is_in_use() {
            return Ok(());
        }
        let marker = Acl::marker(&claim.owner.released());
        all(self.create_acls(user, std::slice::from_ref(&marker)).await?)?;
        // A release that was cut short has written the new marker already.
        let old: Vec<_> = acls.into_iter().filter(|acl| *acl != marker).collect();
        all(self.delete_acls(user, &old).await?)?;
        self.settle(Expected::Released { user, marker }).await;
        Ok(())
    }
}

impl KafkaAdmin {
    /// `bootstrap` is Kafka's list `host:port,host:port`. Connections have TLS where `trust` says what brokers are verified against.
    pub fn new(bootstrap: impl Into<String>, trust: Option<Trust>, credentials: Credentials) -> Self {
        let endpoint = bootstrap.into();
        let tls = trust.as_ref().map(Trust::client).transpose();
        let tls = tls.map(|client| client.map(|client| TlsConnector::from(Arc::new(client))));
        let (idle, passwords) = (IdlePool::default(), PasswordMemo::default());
        Self { endpoint, tls, credentials, idle, passwords }
    }

    /// Makes all changes of a plan, neighbours of a kind in one request: each write costs a round of the controller's
    /// log (up to 27 ms) whatever its size. Returns one result per change, in order, and goes on after a failure. Returns
    /// when reads show what was written.
    async fn apply_batch(
        &self,
        desired: &KafkaDesired,
        changes: &[KafkaChange],
    ) -> Vec<Result<(), BackendError>> {
        let mut results = Vec::with_capacity(changes.len());
        let same_kind =
            |a: &KafkaChange, b: &KafkaChange| std::mem::discriminant(a) == std::mem::discriminant(b);
        for run in changes.chunk_by(same_kind) {
            let expected = results.len() + run.len();
            match self.apply_run(desired, run).await {
                Ok(answers) => results.extend(answers),
                Err(error) => results.extend(run.iter().map(|_| Err(error.clone()))),
            }
            results.resize_with(expected, || Err(self.refused("apply a change", "no answer for it", true)));
        }
        let written = changes.iter().zip(&results).filter(|(_, result)| result.is_ok());
        let written: Vec<_> = written.map(|(change, _)| change).collect();
        if !written.is_empty() {
            self.settle(Expected::Applied(desired, written)).await;
        }
        results
    }

    /// Applies changes that are all of one variant.
    async fn apply_run(
        &self,
        desired: &KafkaDesired,
        run: &[KafkaChange],
    ) -> Result<Vec<Result<(), BackendError>>, BackendError> {
        let user = &desired.tenant;
        match &run[0] {
            KafkaChange::TakeOwnership { from, .. } => {
                let results = self.create_acls(user, &[Acl::marker(&desired.owner.marker())]).await?;
                if let Some(former) = from.as_ref().filter(|_| results.iter().all(Result::is_ok)) {
                    self.delete_acls(user, &[Acl::marker(&former.marker())]).await?;
                }
                Ok(results)
            }
            KafkaChange::CreateUser { .. } | KafkaChange::SetPassword { .. } => {
                self.upsert_user(user, &desired.password).await?;
                self.passwords.verified(user, &desired.password);
                Ok(vec![Ok(())])
            }
            KafkaChange::CreateTopic(_) => {
                let topic = |change: &KafkaChange| match change {
                    KafkaChange::CreateTopic(topic) => Some(topic.clone()),
                    _ => None,
                };
                self.create_topics(&run.iter().filter_map(topic).collect::<Vec<_>>()).await
            }
            KafkaChange::SetTopicConfig { .. } | KafkaChange::UnsetTopicConfig { .. } => {
                let edit = |change: &KafkaChange| match change {
                    KafkaChange::SetTopicConfig { topic, key, to, .. } => {
                        Some((topic.clone(), key.clone(), Some(to.clone())))
                    }
                    KafkaChange::UnsetTopicConfig { topic, key, .. } => {
                        Some((topic.clone(), key.clone(), None))
                    }
                    _ => None,
                };
                self.alter_topic_configs(&run.iter().filter_map(edit).collect::<Vec<_>>()).await
            }
            KafkaChange::Grant { .. } => {
                let acl = |change: &KafkaChange| match change {
                    KafkaChange::Grant { acl, .. } => Some(acl.clone()),
                    _ => None,
                };
                self.create_acls(user, &run.iter().filter_map(acl).collect::<Vec<_>>()).await
            }
            KafkaChange::Revoke { .. } => {
                let acl = |change: &KafkaChange| match change {
                    KafkaChange::Revoke { acl, .. } => Some(acl.clone()),
                    _ => None,
                };
                self.delete_acls(user, &run.iter().filter_map(acl).collect::<Vec<_>>()).await
            }
            KafkaChange::SetQuota { .. } | KafkaChange::UnsetQuota { .. } => {
                let edit = |change: &KafkaChange| match change {
                    KafkaChange::SetQuota { key, to, .. } => Some((key.clone(), Some(*to))),
                    KafkaChange::UnsetQuota { key, .. } => Some((key.clone(), None)),
                    _ => None,
                };
                // One entity, so one verdict for all of its keys.
                self.alter_quotas(user, &run.iter().filter_map(edit).collect::<Vec<_>>()).await?;
                Ok(run.iter().map(|_| Ok(())).collect())
            }
            KafkaChange::PartitionsDiffer { .. } => {
                let refused = |change: &KafkaChange| Err(self.refused("change partitions", change, false));
                Ok(run.iter().map(refused).collect())
            }
            KafkaChange::TopicLost { .. } => {
                let lost = |change: &KafkaChange| match change {
                    KafkaChange::TopicLost { topic } => {
                        let object = format!("topic {topic}");
                        Err(BackendError::DataLoss { backend: Self::ENTRY, object })
                    }
                    _ => Ok(()),
                };
                Ok(run.iter().map(lost).collect())
            }
        }
    }

    pub(super) async fn find(&self, user: &str) -> Result<Found, BackendError> {
        let own = own_topics(user);
        let names = self.topic_names(&format!("{user}.")).await?;
        Ok(Found {
            acls: self.acls(user).await?,
            topics: names.into_iter().filter(|name| own.contains(name)).collect(),
            exists: self.has_user(user).await?,
        })
    }

    /// Fails while another client's topic, group or ACL lies under the tenant's prefix, unless rights on the prefix were granted
    /// before. A group of a tenant that comes back may be one that its own account formed; it can create no topic.
    async fn check_prefix(
        &self,
        user: &str,
        ownership: &Ownership,
        acls: &BTreeSet<Acl>,
    ) -> Result<(), BackendError> {
        if acls.iter().any(|acl| acl.owner().is_none()) {
            return Ok(());
        }
        let prefix = format!("{user}.");
        let conflict = |object, holder| Err(BackendError::Conflict { backend: Self::ENTRY, object, holder });
        let own = own_topics(user);
        if let Some(topic) = self.topic_names(&prefix).await?.into_iter().find(|name| !own.contains(name)) {
            return conflict(format!("topic {topic}"), Holder::Unknown);
        }
        if let Some((account, acl)) = self.foreign_acl(user, &prefix).await? {
            return conflict(format!("right `{acl}`"), Holder::Account { name: account });
        }
        let groups = match ownership {
            Ownership::Absent => self.group_names(&prefix).await?,
            Ownership::Ours | Ownership::Inherited(_) => Vec::new(),
        };
        match groups.into_iter().next() {
            Some(group) => conflict(format!("group {group}"), Holder::Unknown),
            None => Ok(()),
        }
    }

    /// Forgets that the tenant's password was seen to work, so that the next [`Self::observe`] tries it again.
    pub fn distrust_password(&self, tenant: &str) {
        self.passwords.forget(tenant);
    }

    async fn verify(&self, user: &str, password: &SecretString) -> Result<bool, BackendError> {
        if self.passwords.knows(user, password) {
            return Ok(true);
        }
        let tenant = Credentials { username: user.to_owned(), password: password.clone() };
        match self.open_as(&tenant).await {
            Ok(_) => {
                self.passwords.verified(user, password);
                Ok(true)
            }
            Err(BackendError::CredentialsRejected { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Sends one request over an idle connection, or over a new one.
    pub(super) async fn call<R: Request>(&self, request: &R) -> Result<R::Response, BackendError> {
        if let Some(mut connection) = self.idle.take().filter(Connection::is_usable) {
            let answer = within(Self::ENTRY, &self.endpoint, CALL_TIMEOUT, async {
                Ok(connection.call(request).await)
            });
            match answer.await? {
                Ok(response) => {
                    self.idle.put_back(connection);
                    return Ok(response);
                }
                // The broker closes idle and expired connections; every request here can be sent twice.
                Err(WireError::Io(_)) => {}
                Err(other) => return Err(self.broken(&self.endpoint, other)),
            }
        }
        let mut connection = self.open_as(&self.credentials).await?;
        let response = self.call_on(&mut connection, request).await?;
        self.idle.put_back(connection);
        Ok(response)
    }

    /// Sends one request over a connection to a certain broker.
    pub(super) async fn call_on<R: Request>(
        &self,
        connection: &mut Connection,
        request: &R,
    ) -> Result<R::Response, BackendError> {
        within(Self::ENTRY, &self.endpoint, CALL_TIMEOUT, async {
            connection.call(request).await.map_err(|error| self.broken(&self.endpoint, error))
        })
        .await
    }

    pub(super) async fn open_at(
        &self,
        address: &str,
        credentials: &Credentials,
    ) -> Result<Connection, BackendError> {
        let tls = self.tls.as_ref().map_err(|why| BackendError::unavailable(Self::ENTRY, address, why))?;
        within(Self::ENTRY, address, OPEN_TIMEOUT, async {
            let opened = Connection::open(address, tls.as_ref(), credentials).await;
            opened.map_err(|error| self.broken(address, error))
        })
        .await
    }

    pub(super) fn own_credentials(&self) -> &Credentials {
        &self.credentials
    }

    async fn open_as(&self, credentials: &Credentials) -> Result<Connection, BackendError> {
        let mut last = None;
        for address in self.endpoint.split(',').map(str::trim) {
            match self.open_at(address, credentials).await {
                Err(error @ BackendError::Unavailable { .. }) => last = Some(error),
                decided => return decided,
            }
        }
        Err(last.expect("a split has at least one part, so at least one address was tried"))
    }

    fn broken(&self, address: &str, error: WireError) -> BackendError {
        let endpoint = address.to_owned();
        match error {
            WireError::LoginRefused => BackendError::CredentialsRejected { backend: Self::ENTRY, endpoint },
            other => BackendError::unavailable(Self::ENTRY, address, tls::why(Self::ENTRY, &other)),
        }
    }

    pub(super) fn refused(&self, action: &str, why: impl std::fmt::Display, retryable: bool) -> BackendError {
        BackendError::refused(Self::ENTRY, action, why, retryable)
    }

    /// Reads an item's error code. `fine` lists codes that mean "already so". The broker's own message is left out: it
    /// may hold a dump of the request.
    pub(super) fn verdict(
        &self,
        code: i16,
        fine: &[ResponseError],
        action: &str,
    ) -> Result<(), BackendError> {
        match ResponseError::try_from_code(code) {
            None => Ok(()),
            Some(error) if fine.contains(&error) => Ok(()),
            Some(error) => Err(self.refused(action, error, error.is_retriable())),
        }
    }
}

/// What carries a tenant's own names.
pub(super) struct Found {
    /// Those of its user, markers included.
    pub(super) acls: BTreeSet<Acl>,
    pub(super) topics: Vec<String>,
    pub(super) exists: bool,
}

fn ownership(
    acls: &BTreeSet<Acl>,
    something: bool,
    tenant: &str,
    owner: &Owner,
) -> Result<Ownership, BackendError> {
    if !something {
        return Ok(Ownership::Absent);
    }
    let object = format!("user {tenant} or its topics");
    let of = |marker| Ownership::of(KafkaAdmin::ENTRY, &object, marker, owner);
    // Markers stand side by side while ownership passes on. Ours decides, then those of resources, which may still be there.
    let mut inherited = None;
    for text in acls.iter().filter_map(Acl::owner).collect::<BTreeSet<_>>() {
        match (of(Some(text)), Marker::parse(text)) {
            (Ok(Ownership::Ours), _) => return Ok(Ownership::Ours),
            (found, Marker::Used(_)) => inherited = Some(first_conflict(inherited, found)),
            (found, Marker::Released { .. }) => inherited = inherited.or(Some(found)),
        }
    }
    inherited.unwrap_or_else(|| of(None))
}

/// Returns the first that is a conflict, or else `first`.
fn first_conflict<T, E>(first: Option<Result<T, E>>, second: Result<T, E>) -> Result<T, E> {
    match (first, second) {
        (Some(first), Ok(_)) => first,
        (Some(Err(first)), Err(_)) => Err(first),
        (_, second) => second,
    }
}

/// Returns the names of the tenant's topics.
fn own_topics(user: &str) -> BTreeSet<String> {
    Topic::ALL.iter().map(|topic| topic.of(user)).collect()
}

/// Reports whether a consumer group is the tenant's: each is called after the service that forms it, and may say behind a dot what it is for.
fn is_own_group(user: &str, group: &str) -> bool {
    let name = group.strip_prefix(user).and_then(|rest| rest.strip_prefix('.'));
    name.and_then(|name| name.split('.').next()).is_some_and(|service| Service::parse(service).is_some())
}

fn all(results: Vec<Result<(), BackendError>>) -> Result<(), BackendError> {
    results.into_iter().collect()
}

/// Topics by name.
pub(super) type Topics = BTreeMap<String, TopicObserved>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_the_tenants_by_the_service_that_forms_it() {
        let is_own = |group| is_own_group("acme", group);
        assert!(is_own("acme.message") && is_own("acme.notification.message.delivered"));
        assert!(!is_own("acme.reports") && !is_own("acme2.message") && !is_own("acme") && !is_own("message"));
    }
}
