//! Carries out what was decided: entries that delete messages, and what the chat and the auth service are to know of users.
//!
//! What is to be done is in the store, so that it is done whatever is killed or down. A process claims a part of it for some seconds; what it does not finish is
//! claimed again, and what is done twice has the same effect.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use contracts::{
    DeviceId,
    event::{EntryKind, SendRecord},
};
use futures_util::future::join_all;
use kit::{
    backoff::Backoff,
    catalog::Topic,
    clock::now_ms,
    log::{LastingProducer, LogError},
    rounds,
};
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    domain::{Deletion, Place, SYSTEM, Standing},
    error::Error,
    metrics::Metrics,
    peers::Peers,
    store::{ModerationStore, StoreError},
};

/// How often it is looked for what another process has decided, or did not finish, and for bans that have ended. What this process decides wakes
/// it.
const INTERVAL: Duration = Duration::from_secs(5);
/// After a failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(250)..=Duration::from_secs(5);
/// What is claimed is another's after this long: the calls of the one who claimed it, and what the auth service does of such a call that was given up, are over by then.
const CLAIM_MS: i64 = 15_000;
/// Deletions of one claim.
const DELETIONS: usize = 200;
/// Standings of one claim, which are carried out at once.
const STANDINGS: usize = 8;
/// Claims in a row of which nothing was carried out, after which a round ends: a service is down, and what needs another one has had its turn.
const FAILED_CLAIMS: usize = 8;
/// Less than a claim.
const ACK_WITHIN: Duration = Duration::from_secs(4);
/// For the calls of one standing. The auth service goes on with one that is given up, for five seconds.
const SETTLED_WITHIN: Duration = Duration::from_secs(4);

#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("failed to send the entry of a deletion")]
    Send(#[source] LogError),
    #[error("the log did not take the entry of a deletion in time")]
    Late,
    #[error("failed to carry out a sanction")]
    Settle(#[source] Error),
    #[error("the services that carry out sanctions did not answer in time")]
    Slow,
    #[error("another process has the sanction by now")]
    Lost,
}

/// Wakes a worker when there may be something to do. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Wake {
    deleting: Arc<Notify>,
    settling: Arc<Notify>,
    asking: Arc<Notify>,
}

impl Wake {
    /// Notifies both parts: what was decided may delete a message, restrict a user, or both.
    pub(crate) fn notify(&self) {
        self.deleting.notify_one();
        self.settling.notify_one();
    }

    /// Notifies the task that asks the classifier.
    pub(crate) fn ask(&self) {
        self.asking.notify_one();
    }

    /// Returns what that task waits for.
    pub(crate) fn asked(&self) -> &Notify {
        &self.asking
    }
}

/// What carrying out needs.
pub struct Worker {
    pub store: Arc<dyn ModerationStore>,
    pub producer: LastingProducer,
    /// The name of the tenant's topic of what is sent.
    pub topic: String,
    pub peers: Peers,
    pub metrics: Metrics,
    pub wake: Wake,
}

impl Worker {
    /// Returns a worker of a tenant.
    pub fn new(
        store: Arc<dyn ModerationStore>,
        producer: LastingProducer,
        tenant: &str,
        peers: Peers,
        metrics: Metrics,
        wake: Wake,
    ) -> Self {
        Self { store, producer, topic: Topic::MessageSend.of(tenant), peers, metrics, wake }
    }

    /// Carries out what there is until the shutdown. A service that is down holds up its own part only.
    pub async fn run(self, shutdown: CancellationToken) {
        let delete = || async {
            while self.delete().await? == DELETIONS && !shutdown.is_cancelled() {}
            Ok::<_, WorkError>(())
        };
        let settle = || self.settle(&shutdown);
        let (what, backoff) = ("deleting messages", Backoff::new(BACKOFF));
        let deleting = rounds::repeat_woken(what, INTERVAL, backoff, &shutdown, &self.wake.deleting, delete);
        let (what, backoff) = ("carrying out sanctions", Backoff::new(BACKOFF));
        let settling = rounds::repeat_woken(what, INTERVAL, backoff, &shutdown, &self.wake.settling, settle);
        tokio::join!(deleting, settling);
    }

    /// Sends the entries of deletions, and returns how many.
    async fn delete(&self) -> Result<usize, WorkError> {
        let now_ms = now_ms();
        let deletions = self.store.claim_deletions(now_ms, now_ms + CLAIM_MS, DELETIONS).await?;
        let mut sent = Vec::with_capacity(deletions.len());
        for deletion in &deletions {
            let payload = serde_json::to_vec(&entry_of(*deletion)).expect("a record is plain data");
            let delivery = self.producer.send(&self.topic, &deletion.chat.to_string(), Some(&payload));
            sent.push((*deletion, delivery.map_err(WorkError::Send)?));
        }
        for (deletion, delivery) in sent {
            let outcome = timeout(ACK_WITHIN, delivery).await.map_err(|_| WorkError::Late)?;
            outcome.map_err(|undelivered| WorkError::Send(undelivered.error))?;
            self.store.finish_deletion(deletion).await?;
            self.metrics.deletions.inc();
        }
        Ok(deletions.len())
    }

    /// Carries out standings until there are no more. One that fails holds up no other: it is tried again when its claim has ended, behind those that
    /// were never tried.
    async fn settle(&self, shutdown: &CancellationToken) -> Result<(), WorkError> {
        let (mut failure, mut failed_claims) = (None, 0);
        while failed_claims < FAILED_CLAIMS && !shutdown.is_cancelled() {
            let (claimed, failures) = self.settle_some().await?;
            failed_claims = if failures.len() < claimed { 0 } else { failed_claims + 1 };
            failure = failure.or_else(|| failures.into_iter().next());
            if claimed < STANDINGS {
                break;
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Carries out the standings of one claim. Returns how many they were, and why some of them are not done.
    async fn settle_some(&self) -> Result<(usize, Vec<WorkError>), WorkError> {
        let now_ms = now_ms();
        let standings = self.store.claim_standings(now_ms, now_ms + CLAIM_MS, STANDINGS).await?;
        let outcomes = join_all(standings.iter().map(|standing| self.settle_one(standing))).await;
        let mut failures = Vec::new();
        for (standing, outcome) in standings.iter().zip(outcomes) {
            if let Err(error) = outcome {
                let user = standing.place.user;
                tracing::debug!(%error, %user, "a sanction of {user} is not carried out yet: {error}");
                failures.push(error);
            }
        }
        Ok((standings.len(), failures))
    }

    async fn settle_one(&self, standing: &Standing) -> Result<(), WorkError> {
        let has_closed = AtomicBool::new(standing.has_closed);
        let settled = timeout(SETTLED_WITHIN, self.carry_out(standing, &has_closed)).await;
        let standing = Standing { has_closed: has_closed.into_inner(), ..*standing };
        if let Err(error) = settled.unwrap_or(Err(WorkError::Slow)) {
            self.store.leave_standing(&standing).await?;
            return Err(error);
        }
        if !self.store.finish_standing(&standing).await? {
            return Err(WorkError::Lost);
        }
        self.metrics.standings.inc();
        Ok(())
    }

    /// Calls the chat and the auth service at once: while one is down, the other knows.
    async fn carry_out(&self, standing: &Standing, has_closed: &AtomicBool) -> Result<(), WorkError> {
        let restrict = async { self.peers.restrict(standing).await.map_err(WorkError::Settle) };
        let (restricted, settled) = tokio::join!(restrict, self.settle_account(standing, has_closed));
        restricted.and(settled)
    }

    /// Closes the account of who is banned everywhere, and opens it again when that is over. One that others had closed
    /// before is theirs; one that they close while the ban holds is opened with its end, as the realm does not say who closed it.
    async fn settle_account(&self, standing: &Standing, has_closed: &AtomicBool) -> Result<(), WorkError> {
        let Standing { place: Place { user, scope }, banned_until_ms, .. } = *standing;
        if scope.is_some() {
            return Ok(());
        }
        match (banned_until_ms.is_some(), standing.has_closed) {
            (false, false) => return Ok(()),
            (true, false) => {
                if self.peers.is_account_closed(user).await.map_err(WorkError::Settle)? {
                    return Ok(());
                }
                if !self.store.note_closing(standing).await? {
                    return Err(WorkError::Lost);
                }
                has_closed.store(true, Ordering::Relaxed);
            }
            (_, true) => {}
        }
        let is_banned = banned_until_ms.is_some();
        self.peers.set_account_closed(user, is_banned).await.map_err(WorkError::Settle)?;
        has_closed.store(is_banned, Ordering::Relaxed);
        Ok(())
    }
}

/// Returns the entry that deletes a message: that of a moderator, in the name of no user.
fn entry_of(deletion: Deletion) -> SendRecord {
    SendRecord {
        target_seq: Some(deletion.seq),
        moderates: true,
        ..SendRecord::new(deletion.chat, SYSTEM, DeviceId(Uuid::nil()), deletion.key(), EntryKind::Delete)
    }
}
