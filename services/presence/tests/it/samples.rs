//! Samples of presence on the event log.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use contracts::{
    UserId,
    event::{PresenceChangeRecord, SampledState, VERSION},
    wire::PresenceState,
};
use kit::{
    catalog::Topic,
    config::{KafkaArgs, TrustArgs},
    health::Health,
    log::{Event, Follower, Log, Start},
    testing::stack,
};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    gateway::Gateway,
    stand::{HEARTBEAT, PATIENCE, SAMPLE_EVERY, Stand, user},
};

/// The topic of a tenant in the real Kafka, read from its beginning.
struct Samples {
    topic: String,
    admin: AdminClient<DefaultClientContext>,
    log: Log,
    follower: Follower,
    stop: CancellationToken,
    read: Vec<PresenceChangeRecord>,
}

impl Samples {
    async fn create(tenant: &str) -> Self {
        let args = KafkaArgs {
            kafka_bootstrap_servers: stack("KAFKA_BOOTSTRAP"),
            kafka_security_protocol: "sasl_plaintext".to_owned(),
            trust: TrustArgs::default(),
            kafka_username: stack("KAFKA_ADMIN_USERNAME"),
            kafka_password: stack("KAFKA_ADMIN_PASSWORD").into(),
            schema_ids: Vec::new(),
        };
        let admin: AdminClient<DefaultClientContext> =
            kit::kafka::producer_config(&args).create().expect("an admin client");
        let topic = Topic::PresenceChanges.of(tenant);
        let new = NewTopic::new(&topic, 3, TopicReplication::Fixed(1));
        let made = admin.create_topics(&[new], &AdminOptions::new()).await.expect("Kafka answers");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        let (log, stop) = (Log::kafka(args), CancellationToken::new());
        let check = Health::default().check("test");
        let follower = log.follow(&topic, &format!("{tenant}.test"), Start::Beginning, &check, &stop).await;
        Self { topic, admin, log, follower: follower.expect("a follower"), stop, read: Vec::new() }
    }

    /// Reads until the last sample of each of these users has this state.
    async fn read_until(&mut self, users: &[UserId], state: SampledState) {
        let mut last: HashMap<UserId, SampledState> = HashMap::new();
        for record in &self.read {
            last.insert(record.user, record.state);
        }
        let all = timeout(PATIENCE, async {
            while !users.iter().all(|user| last.get(user) == Some(&state)) {
                let event = self.follower.next(&self.stop).await.expect("not stopped");
                let Event::Record(record) = event else { continue };
                let key = record.key().map(<[u8]>::to_vec);
                let record = serde_json::from_slice(record.payload().expect("a payload"));
                let record: PresenceChangeRecord = record.expect("a record");
                assert_eq!((record.v, key), (VERSION, Some(record.user.to_string().into_bytes())));
                last.insert(record.user, record.state);
                self.read.push(record);
            }
        });
        assert!(all.await.is_ok(), "{last:?}");
    }

    async fn remove(self) {
        drop(self.admin.delete_topics(&[&self.topic], &AdminOptions::new()).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_it_to_everyone_is_sampled_once_in_an_interval_whichever_replica_goes() {
    let stand = Stand::create().await;
    let mut samples = Samples::create(&stand.tenant).await;
    let (one, two) = (stand.sampling_replica(&samples.log).await, stand.sampling_replica(&samples.log).await);
    let open: Vec<UserId> = (1..=20).map(user).collect();
    let hidden = [user(21), user(22)];
    for user in &open {
        stand.peers.add(*user, "always");
    }
    stand.peers.add(hidden[0], "never");
    stand.peers.add(hidden[1], "shared_chats");
    let all: Vec<UserId> = open.iter().chain(&hidden).copied().collect();
    let here = Gateway::attach(&one, &all).await;
    let there = Gateway::attach(&two, &[]).await;
    there.watch(&all, &[]).await;
    there.settles().await;
    there.sees(user(22), PresenceState::Online).await;

    // They come and go all the time, and are away at last.
    let began = Instant::now();
    while began.elapsed() < 2 * SAMPLE_EVERY {
        for state in [PresenceState::Away, PresenceState::Online, PresenceState::Away] {
            for user in &all {
                here.report(*user, state).await;
            }
            there.sees(user(22), state).await;
        }
    }
    samples.read_until(&open, SampledState::Away).await;
    // One interval has begun before, and one may have ended late.
    let most = began.elapsed().as_secs() / SAMPLE_EVERY.as_secs() + 2;
    let mut moments: HashMap<UserId, Vec<i64>> = HashMap::new();
    for record in &samples.read {
        assert!(open.contains(&record.user), "{record:?}");
        moments.entry(record.user).or_default().push(record.sampled_at_ms);
    }
    for (user, moments) in &moments {
        assert!(moments.len() as u64 <= most, "{user}: {moments:?}");
        let apart = |pair: &[i64]| Duration::from_millis(pair[0].abs_diff(pair[1])) > SAMPLE_EVERY / 4;
        assert!(moments.windows(2).all(apart), "by both replicas: {moments:?}");
    }

    // A replica that goes takes no sample with it.
    drop((there, two));
    here.all(&[]).await;
    samples.read_until(&open, SampledState::Offline).await;
    assert!(samples.read.iter().all(|record| !hidden.contains(&record.user)));
    samples.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_log_delays_no_presence() {
    let stand = Stand::create().await;
    // Port 9 (discard) of loopback: nothing listens there.
    let dead = Log::kafka(KafkaArgs {
        kafka_bootstrap_servers: "127.0.0.1:9".to_owned(),
        kafka_security_protocol: "plaintext".to_owned(),
        trust: TrustArgs::default(),
        kafka_username: "u".to_owned(),
        kafka_password: "p".into(),
        schema_ids: Vec::new(),
    });
    let replica = stand.sampling_replica(&dead).await;
    stand.peers.add(user(1), "always");
    let gateway = Gateway::attach(&replica, &[user(1)]).await;
    gateway.watch(&[user(1)], &[]).await;
    gateway.sees(user(1), PresenceState::Online).await;
    let began = Instant::now();
    while began.elapsed() < 2 * SAMPLE_EVERY {
        for state in [PresenceState::Away, PresenceState::Online] {
            let changed = Instant::now();
            gateway.report(user(1), state).await;
            gateway.sees(user(1), state).await;
            assert!(changed.elapsed() < HEARTBEAT, "{:?}", changed.elapsed());
        }
    }
}
