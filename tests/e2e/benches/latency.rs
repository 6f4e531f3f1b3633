//! The end-to-end latency of a message beside its baseline.
//!
//! A message that is acked lies in the log, then in the store, and is announced by the log again. So nothing that keeps
//! these promises can beat two round trips through Kafka (`acks=all`) and one durable write of CQL. Both are
//! measured in turn within one run, one message at a time and then as many as fit; what is printed last is their ratio.
//!
//! With each comes the processor time that a message takes, by process: on a machine whose processors are busy, it decides how many fit.

#![allow(clippy::disallowed_methods, reason = "tests make names of their own")]

use std::time::{Duration, Instant};

use anyhow::Context;
use e2e::{
    Cluster, Stack, checker,
    pairs::{self, Pair, body},
    processes::Costs,
    report,
    stack::builds,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{Consumer as _, StreamConsumer},
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};
use scylla::{client::session::Session as CqlSession, statement::prepared::PreparedStatement};
use tokio::time::{sleep, timeout};

const TENANT: &str = "acme";
/// A tenant without traffic.
const IDLE_TENANT: &str = "globex";
const IDLE: Duration = Duration::from_secs(30);
/// Rounds of both measurements, in turn, so that a busy moment of the machine affects both.
const ROUNDS: usize = 10;
/// Messages of a round, one after another.
const SINGLE: usize = 50;
/// Messages of a round, with [`WINDOW`] of them under way.
const STREAM: usize = 1_920;
const WINDOW: usize = 64;
/// Concurrent senders; each has a chat of two, so that a message is pushed to one recipient. They are so many that none of
/// them meets the limit of a user.
const PAIRS: usize = 64;
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stack = Stack::from_environment();
    report(builds());
    let cluster = Cluster::connect().await?;
    idle(&cluster).await?;
    let baseline = Baseline::prepare(&stack).await?;
    let mut end_to_end = EndToEnd::prepare(&stack).await?;
    let (mut log_trips, mut writes, mut deliveries, mut baseline_rates, mut end_to_end_rates) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut alone, mut baseline_costs, mut streamed) =
        (Costs::default(), Costs::default(), Costs::default());
    for round in 0..=ROUNDS {
        let (log_trip, write) = (baseline.log_trips().await?, baseline.writes().await?);
        let times = async || cluster.times(TENANT).await;
        let before_single = times().await?;
        let delivered = end_to_end.one_by_one().await?;
        let before_baseline = times().await?;
        let baseline_rate = baseline.rate().await?;
        let before_stream = times().await?;
        let rates = (baseline_rate, end_to_end.rate().await?);
        let after_stream = times().await?;
        // The first round warms up connections, caches and compilers.
        if round > 0 {
            alone.add(SINGLE, &before_single, &before_baseline);
            baseline_costs.add(STREAM, &before_baseline, &before_stream);
            streamed.add(STREAM, &before_stream, &after_stream);
            log_trips.extend(log_trip);
            writes.extend(write);
            deliveries.extend(delivered);
            baseline_rates.push(rates.0);
            end_to_end_rates.push(rates.1);
        }
    }
    baseline.remove().await?;
    for times in [&mut log_trips, &mut writes, &mut deliveries, &mut baseline_rates, &mut end_to_end_rates] {
        times.sort_by(f64::total_cmp);
    }
    for percent in [50, 99] {
        let at = |times: &[f64]| checker::percentile(times, percent);
        let baseline = 2.0 * at(&log_trips) + at(&writes);
        report(format!(
            "send to delivered, one at a time, p{percent}: {:.2} ms; baseline {baseline:.2} ms (two trips through the log of {:.2} ms, \
             one write of {:.2} ms); ratio {:.2}",
            at(&deliveries),
            at(&log_trips),
            at(&writes),
            at(&deliveries) / baseline,
        ));
    }
    for (what, costs) in [
        ("one at a time", &alone),
        ("baseline, as many as fit", &baseline_costs),
        ("as many as fit", &streamed),
    ] {
        report(format!("a message, {what}: {}", costs.line()));
    }
    let (baseline, end_to_end) =
        (checker::percentile(&baseline_rates, 50), checker::percentile(&end_to_end_rates, 50));
    report(format!(
        "stored and delivered, {WINDOW} under way: {end_to_end:.0} messages/s; baseline {baseline:.0}; ratio {:.2}",
        end_to_end / baseline
    ));
    Ok(())
}

/// Reports what a tenant without traffic costs.
async fn idle(cluster: &Cluster) -> anyhow::Result<()> {
    let before = cluster.usage().await?;
    sleep(IDLE).await;
    let after = cluster.usage().await?;
    let (mut processor, mut memory) = (Duration::ZERO, 0);
    for (name, usage) in after.iter().filter(|((_, resource), _)| resource == IDLE_TENANT) {
        let then = before.get(name).context("a pod is new: the tenant is not idle")?;
        processor += usage.processor.saturating_sub(then.processor);
        memory += usage.resident_mebibytes;
    }
    let share = 100.0 * processor.as_secs_f64() / IDLE.as_secs_f64();
    report(format!("a tenant without traffic: {share:.2} % of one core, {memory} MiB"));
    Ok(())
}

/// Pairs of users who exchange messages through the public address.
struct EndToEnd {
    pairs: Vec<Pair>,
}

impl EndToEnd {
    async fn prepare(stack: &Stack) -> anyhow::Result<Self> {
        Ok(Self { pairs: Pair::some(&stack.messenger(TENANT), "bench", PAIRS).await? })
    }

    /// Returns the times in milliseconds from a send until the recipient has the message.
    async fn one_by_one(&mut self) -> anyhow::Result<Vec<f64>> {
        let mut times = Vec::with_capacity(SINGLE);
        for _ in 0..SINGLE {
            times.push(self.pairs[0].deliver(&body()).await?.as_secs_f64() * 1_000.0);
        }
        Ok(times)
    }

    /// Returns the messages per second, [`WINDOW`] of them under way.
    async fn rate(&mut self) -> anyhow::Result<f64> {
        pairs::rate(&mut self.pairs, STREAM, WINDOW).await
    }
}

/// The same guarantees without a messenger: a topic and a table of the administrator's own, used directly.
struct Baseline {
    admin: AdminClient<DefaultClientContext>,
    topic: String,
    producer: FutureProducer,
    consumer: StreamConsumer,
    keyspace: String,
    store: CqlSession,
    insert: PreparedStatement,
}

impl Baseline {
    async fn prepare(stack: &Stack) -> anyhow::Result<Self> {
        let name = format!("bench_{:08x}", rand::random::<u32>());
        let mut config = stack.kafka_config(&stack.kafka_admin);
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .set("group.id", &name)
            .set("enable.auto.commit", "false");
        let admin: AdminClient<DefaultClientContext> = config.create()?;
        let new = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
        let mut created = admin.create_topics([&new], &AdminOptions::new()).await?;
        created.pop().context("a result for one topic")?.map_err(|(_, code)| code)?;
        let consumer: StreamConsumer = config.create()?;
        let mut partition = TopicPartitionList::new();
        partition.add_partition_offset(&name, 0, Offset::Beginning)?;
        consumer.assign(&partition)?;

        let store = stack.cql(&stack.cql_admin).await?;
        let statements = [
            format!(
                "CREATE KEYSPACE {name} WITH replication = \
                 {{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}}"
            ),
            format!("CREATE TABLE {name}.messages (chat int, seq int, body text, PRIMARY KEY (chat, seq))"),
        ];
        for statement in statements {
            store.query_unpaged(statement, ()).await?;
        }
        let insert = format!("INSERT INTO {name}.messages (chat, seq, body) VALUES (?, ?, ?)");
        let insert = store.prepare(insert).await?;
        let (topic, keyspace) = (name.clone(), name);
        Ok(Self { admin, topic, producer: config.create()?, consumer, keyspace, store, insert })
    }

    /// Returns the times in milliseconds from a record's produce call until it is consumed.
    async fn log_trips(&self) -> anyhow::Result<Vec<f64>> {
        let mut times = Vec::with_capacity(SINGLE);
        for _ in 0..SINGLE {
            let began = Instant::now();
            tokio::try_join!(self.produce(), self.consume())?;
            times.push(milliseconds(began));
        }
        Ok(times)
    }

    /// Returns the times in milliseconds of durable writes.
    async fn writes(&self) -> anyhow::Result<Vec<f64>> {
        let mut times = Vec::with_capacity(SINGLE);
        for seq in 0..SINGLE {
            let began = Instant::now();
            self.write(seq).await?;
            times.push(milliseconds(began));
        }
        Ok(times)
    }

    /// Returns the messages per second through the log, the store and the log again, [`WINDOW`] of them at a time.
    async fn rate(&self) -> anyhow::Result<f64> {
        let began = Instant::now();
        let travel = stream::iter(0..STREAM)
            .map(async |seq| {
                self.produce().await?;
                self.write(seq).await?;
                self.produce().await
            })
            .buffer_unordered(WINDOW)
            .try_for_each(async |()| Ok(()));
        let arrive = async {
            for _ in 0..2 * STREAM {
                self.consume().await?;
            }
            Ok(())
        };
        tokio::try_join!(travel, arrive)?;
        Ok(STREAM as f64 / began.elapsed().as_secs_f64())
    }

    async fn produce(&self) -> anyhow::Result<()> {
        let payload = body();
        let record = FutureRecord::<(), _>::to(&self.topic).payload(&payload);
        self.producer.send(record, Timeout::After(LIMIT)).await.map_err(|(error, _)| error)?;
        Ok(())
    }

    async fn consume(&self) -> anyhow::Result<()> {
        timeout(LIMIT, self.consumer.recv()).await.context("a record did not arrive in time")??;
        Ok(())
    }

    async fn write(&self, seq: usize) -> anyhow::Result<()> {
        self.store.execute_unpaged(&self.insert, (0, i32::try_from(seq)?, body())).await?;
        Ok(())
    }

    async fn remove(self) -> anyhow::Result<()> {
        self.store.query_unpaged(format!("DROP KEYSPACE {}", self.keyspace), ()).await?;
        self.admin.delete_topics(&[&self.topic], &AdminOptions::new()).await?;
        Ok(())
    }
}

fn milliseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1_000.0
}
