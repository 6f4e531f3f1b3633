//! Publishes samples of presence to `presence.changes`, for who wants to follow it and is no client: analytics, bots.
//!
//! It is a task of its own: it takes what has changed from the hub at the end of each interval, and no push waits for it, whatever the
//! user service and the log do. A sample that cannot be published in its interval is worth nothing in the next one: it is dropped and
//! counted.

use std::{sync::Arc, time::Duration};

use contracts::{
    UserId,
    event::{PresenceChangeRecord, SampledState, VERSION},
    rpc::{CheckPresenceRequest, user_service_client::UserServiceClient},
};
use kit::{
    catalog::Topic,
    clock::now_ms,
    log::{LastingProducer, Log, LogError},
    outage::Outage,
    rpc::{self, InternalChannel},
};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use crate::{domain::VisibleTo, hub::Hub};

/// What an outage is called in the log.
const WHAT: &str = "publishing samples of presence";
/// Users of one question to the user service, which takes no more.
const AT_ONCE: usize = 1_000;
/// A question about users waits no longer for its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Publishes the samples of one replica.
pub struct Sampler {
    hub: Arc<Hub>,
    users: UserServiceClient<InternalChannel>,
    producer: LastingProducer,
    topic: String,
    every: Duration,
    phase: Duration,
    outage: Outage,
}

impl Sampler {
    /// Returns the sampler of a tenant, which takes note of changes from now on. Nothing is connected yet. `every` is the interval, in
    /// which a user is sampled at most once; it is the same for all replicas.
    pub fn new(
        hub: Arc<Hub>,
        users: InternalChannel,
        log: &Log,
        tenant: &str,
        every: Duration,
    ) -> Result<Self, LogError> {
        // Half of the interval: what it leaves is given up before the next one ends.
        let producer = log.lasting_producer(Some(every / 2))?;
        hub.take_samples();
        Ok(Self {
            hub,
            users: UserServiceClient::new(users),
            producer,
            topic: Topic::PresenceChanges.of(tenant),
            every,
            phase: phase(tenant, every),
            outage: Outage::default(),
        })
    }

    /// Publishes at the end of each interval, until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut wait = until_next(now_ms(), self.phase, self.every);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(wait) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.publish() => {}
            }
            wait = until_next(now_ms(), self.phase, self.every);
            // A timer may fire a moment early: the end of this interval is not that of the next one.
            if wait < self.every / 10 {
                wait += self.every;
            }
        }
    }

    /// Ends an interval.
    async fn publish(&self) {
        let samples = self.hub.samples();
        let deadline = Instant::now() + self.every / 2;
        let mut deliveries = Vec::new();
        for samples in samples.chunks(AT_ONCE) {
            let shown = match self.shown_to_all(samples).await {
                Ok(shown) => shown,
                Err(status) => {
                    self.dropped(samples.len(), &status);
                    continue;
                }
            };
            for (&(user, state), is_shown) in samples.iter().zip(shown) {
                if !is_shown {
                    continue;
                }
                match self.send(user, state) {
                    Ok(delivery) => deliveries.push(delivery),
                    Err(error) => self.dropped(1, &error),
                }
            }
        }
        for delivery in deliveries {
            match timeout_at(deadline, delivery).await {
                Ok(Ok(())) => {
                    self.hub.metrics.samples.inc();
                    self.outage.worked(WHAT);
                }
                Ok(Err(undelivered)) => self.dropped(1, &undelivered.error),
                Err(late) => self.dropped(1, &late),
            }
        }
    }

    /// Returns for each of these whether the user shows their presence to everyone.
    async fn shown_to_all(&self, samples: &[(UserId, SampledState)]) -> Result<Vec<bool>, Status> {
        // Nobody: a viewer who is in no contacts and no chats.
        let viewer_id = UserId(Uuid::nil()).to_string();
        let user_ids = samples.iter().map(|(user, _)| user.to_string()).collect();
        let request = CheckPresenceRequest { viewer_id, user_ids };
        let shown = rpc::within(ANSWER_WITHIN, self.users.clone().check_presence(request)).await?.shown;
        Ok(shown.iter().map(|text| VisibleTo::parse(text) == VisibleTo::Viewer).collect())
    }

    fn send(&self, user: UserId, state: SampledState) -> Result<kit::log::Delivery, LogError> {
        let record = PresenceChangeRecord { v: VERSION, user, state, sampled_at_ms: now_ms() };
        let payload = serde_json::to_vec(&record).expect("a record is plain data");
        self.producer.send(&self.topic, &user.to_string(), Some(&payload))
    }

    fn dropped(&self, count: usize, why: &(dyn std::error::Error + 'static)) {
        self.hub.metrics.dropped_samples.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
        self.outage.failed(WHAT, why);
    }
}

/// Returns when the intervals of a tenant end, within an interval of the clock: all replicas agree, and the tenants of a cell take turns.
fn phase(tenant: &str, every: Duration) -> Duration {
    let sum = tenant.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Duration::from_millis(sum % millis(every))
}

/// Returns the time until an interval ends.
fn until_next(now_ms: i64, phase: Duration, every: Duration) -> Duration {
    let every_ms = millis(every);
    let passed_ms =
        (u64::try_from(now_ms).unwrap_or_default() + every_ms - millis(phase) % every_ms) % every_ms;
    Duration::from_millis(every_ms - passed_ms)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use kit::{
        config::{KafkaArgs, TrustArgs},
        testing::unreachable_peer,
    };

    use super::*;
    use crate::{
        config::Times,
        domain::{Changes, GatewayId},
        store::MemoryStore,
    };

    #[test]
    fn intervals_end_at_the_same_moments_for_all_replicas_and_not_for_all_tenants() {
        let every = Duration::from_secs(30);
        let ends = |tenant: &str, now_ms: i64| {
            let wait = until_next(now_ms, phase(tenant, every), every);
            assert!(wait > Duration::ZERO && wait <= every, "{wait:?}");
            now_ms + i64::try_from(wait.as_millis()).expect("a short time")
        };
        let now_ms = 1_700_000_000_000;
        let end = ends("acme", now_ms);
        assert!((now_ms..end).step_by(997).all(|at| ends("acme", at) == end));
        assert_eq!(ends("acme", end), end + 30_000);
        assert_ne!(ends("acme", now_ms) % 30_000, ends("globex", now_ms) % 30_000);
    }

    #[test]
    fn a_replica_that_is_gone_is_known_to_be_gone_before_the_interval_ends() {
        let every = Duration::from_secs(kit::catalog::PRESENCE_SAMPLE_SECONDS.into());
        assert!(every > 2 * Times::default().heartbeat);
    }

    #[tokio::test]
    async fn what_cannot_be_published_is_dropped_and_counted() {
        let hub = Hub::alone(Times::default(), Arc::new(MemoryStore::default()));
        // Port 9 (discard) of loopback: nothing listens there.
        let log = Log::kafka(KafkaArgs {
            kafka_bootstrap_servers: "127.0.0.1:9".to_owned(),
            kafka_security_protocol: "plaintext".to_owned(),
            trust: TrustArgs::default(),
            kafka_username: "u".to_owned(),
            kafka_password: "p".into(),
            schema_ids: Vec::new(),
        });
        let every = Duration::from_millis(200);
        let sampler = Sampler::new(hub.clone(), unreachable_peer(), &log, "acme", every).expect("a producer");
        let gateway = GatewayId(Uuid::from_u128(1));
        let _attached = hub.attach(gateway);
        let users: Vec<UserId> = (1..=3).map(|n| UserId(Uuid::from_u128(n))).collect();
        let changes = Changes { is_all: true, online: users, ..Changes::default() };
        hub.report(gateway, &changes).await;
        sampler.publish().await;
        assert_eq!(hub.metrics.dropped_samples.get(), 3, "to whom they show it is not known");
        let user = UserId(Uuid::from_u128(1));
        let delivery = sampler.send(user, SampledState::Online).expect("a queue");
        delivery.await.expect_err("there is no broker");
        sampler.publish().await;
        assert_eq!((hub.metrics.dropped_samples.get(), hub.metrics.samples.get()), (3, 0), "nothing changed");
    }
}
