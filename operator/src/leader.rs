//! One replica leads, and it knows until when. The lease is a compare-and-swap on a `Lease` object; every write of the
//! operator checks the [`Fence`] first.
//!
//! Invariant: no replica writes on a lease that may have run out. Expiry is judged by this machine's monotonic clock from before
//! the renewal was sent, so neither clock skew nor a long pause of this process makes two leaders: a leader that was stopped
//! and woken up finds the fence closed before its next write.

#![expect(clippy::disallowed_methods, reason = "an edge: a lease is held by the clock")]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{config::OPERATOR_NAME, locks::lock, time_limit::within};

const LEASE_NAME: &str = "posthouse-operator";
/// A leader that died is replaced after this time. Five renewals fit in it, so one lost request changes nothing.
const LEASE_DURATION: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(3);
const RETRY_EVERY: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// A write may start only while this much of the lease is left: what was sent has landed by then.
const MARGIN: Duration = Duration::from_secs(5);

/// Whether this replica may write. Cheap to clone and to query.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    valid_until: Arc<Mutex<Option<Instant>>>,
}

/// This replica does not lead, or cannot be sure that it does.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this replica does not lead any more")]
pub struct NotLeading;

impl Fence {
    /// Call before every write.
    pub fn check(&self) -> Result<(), NotLeading> {
        let valid_until = *lock(&self.valid_until);
        match valid_until {
            Some(until) if Instant::now() + MARGIN < until => Ok(()),
            _ => Err(NotLeading),
        }
    }

    /// Opens the fence for as long as a lease taken at `since` lasts.
    fn open(&self, since: Instant) {
        *lock(&self.valid_until) = Some(since + LEASE_DURATION);
    }

    fn close(&self) {
        *lock(&self.valid_until) = None;
    }

    /// Returns a fence that stays open for tests and tools that have no lease.
    pub fn always_open() -> Self {
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        Self { valid_until: Arc::new(Mutex::new(Some(far))) }
    }
}

/// A candidate for the lease.
pub struct Candidate {
    leases: Api<Lease>,
    identity: String,
    fence: Fence,
    /// What another holder's lease looked like and since when it has looked so.
    seen: Option<(LeaseSpec, Instant)>,
    /// The lease as we wrote it last.
    held: Option<Lease>,
}

impl Candidate {
    pub fn new(client: Client, namespace: &str, identity: String, fence: Fence) -> Self {
        Self { leases: Api::namespaced(client, namespace), identity, fence, seen: None, held: None }
    }

    /// Waits until this replica leads. Returns false when `shutdown` came first.
    pub async fn acquire(&mut self, shutdown: &CancellationToken) -> bool {
        let mut reported = false;
        loop {
            match self.try_acquire().await {
                Ok(true) => {
                    info!(identity = %self.identity, "leading as {}", self.identity);
                    return true;
                }
                Ok(false) if !reported => {
                    info!("another replica leads, standing by");
                    reported = true;
                }
                Ok(false) => {}
                Err(error) => warn!(%error, "failed to take the lease"),
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_EVERY) => {}
                () = shutdown.cancelled() => return false,
            }
        }
    }

    /// Renews the lease until it is lost or `shutdown` comes; then the fence is closed.
    pub async fn hold(&mut self, shutdown: &CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEW_EVERY) => {}
                () = shutdown.cancelled() => return,
            }
            match self.renew().await {
                Ok(true) => {}
                Ok(false) => {
                    warn!("another replica took the lease");
                    return self.fence.close();
                }
                Err(error) => {
                    warn!(%error, "failed to renew the lease");
                    if self.fence.check().is_err() {
                        return self.fence.close();
                    }
                }
            }
        }
    }

    /// Releases the lease, so that the next leader need not wait for it to expire.
    pub async fn release(&mut self) {
        self.fence.close();
        let Some(mut lease) = self.held.take() else { return };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
        }
        if let Err(error) = self.replace(&lease).await {
            warn!(%error, "failed to release the lease");
        }
    }

    async fn try_acquire(&mut self) -> Result<bool, kube::Error> {
        let since = Instant::now();
        let Some(mut lease) = in_time(self.leases.get_opt(LEASE_NAME)).await? else {
            let lease = self.fresh_lease();
            return self.take(since, in_time(self.leases.create(&post(), &lease)).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if !holder.is_empty() && holder != self.identity && !self.ran_out(&spec) {
            return Ok(false);
        }
        let now = MicroTime(Timestamp::now());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(LEASE_DURATION.as_secs() as i32),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(spec.lease_transitions.unwrap_or(0) + 1),
            ..LeaseSpec::default()
        });
        let since = Instant::now();
        let answer = self.replace(&lease).await;
        self.take(since, answer)
    }

    /// Returns false when another replica was faster.
    fn take(&mut self, since: Instant, answer: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
        match answer {
            Ok(lease) => {
                self.held = Some(lease);
                self.fence.open(since);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reports whether another holder's lease has not changed for as long as it lasts, by our own clock.
    fn ran_out(&mut self, spec: &LeaseSpec) -> bool {
        let lasts =
            Duration::from_secs(spec.lease_duration_seconds.unwrap_or(15).max(1).unsigned_abs().into());
        match &self.seen {
            Some((seen, since)) if seen == spec => since.elapsed() > lasts,
            _ => {
                self.seen = Some((spec.clone(), Instant::now()));
                false
            }
        }
    }

    async fn renew(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.held.clone() else { return Ok(false) };
        if let Some(spec) = &mut lease.spec {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let since = Instant::now();
        match self.replace(&lease).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                // A renewal whose response was lost may have landed: it is ours as long as it names us.
                let lease = in_time(self.leases.get(LEASE_NAME)).await?;
                let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
                self.held = Some(lease);
                Ok(holder.as_deref() == Some(&self.identity))
            }
            answer => self.take(since, answer),
        }
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, kube::Error> {
        in_time(self.leases.replace(LEASE_NAME, &post(), lease)).await
    }

    fn fresh_lease(&self) -> Lease {
        let now = MicroTime(Timestamp::now());
        Lease {
            metadata: ObjectMeta { name: Some(LEASE_NAME.to_owned()), ..Default::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(LEASE_DURATION.as_secs() as i32),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn post() -> PostParams {
    PostParams { field_manager: Some(OPERATOR_NAME.to_owned()), ..PostParams::default() }
}

/// A call that takes longer has failed: the lease would run out while it is waited for.
async fn in_time<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    within(CALL_TIMEOUT, call).await.unwrap_or_else(|late| Err(kube::Error::Service(late.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_closed_until_a_lease_is_taken_and_when_it_may_have_run_out() {
        let fence = Fence::default();
        assert!(fence.check().is_err());
        fence.open(Instant::now());
        assert!(fence.check().is_ok());
        // As after a process that was stopped for longer than the lease.
        fence.open(Instant::now() - LEASE_DURATION + MARGIN);
        assert!(fence.check().is_err());
        fence.close();
        assert!(fence.check().is_err());
    }
}
