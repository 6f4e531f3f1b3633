//! The end-to-end latency of a message beside its baseline.
//!
//! A message that is acked lies in the log, then in the store, and is announced by the log again. So nothing that keeps
//! these promises can beat two round trips through Kafka (`acks=all`) and one durable write of CQL. Road and floor are
//! measured in turn within one run, one message at a time and then as many as fit; what is printed last is their ratio.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use contracts::{ChatId, DeviceId};
use e2e::{
    Cluster, Stack, checker,
    people::{Online, Person},
    say,
};
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use posthouse::client::{Event, Session};
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{Consumer as _, StreamConsumer},
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};
use scylla::{client::session::Session as CqlSession, statement::prepared::PreparedStatement};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

const TENANT: &str = "acme";
/// Nobody talks here.
const IDLE_TENANT: &str = "globex";
const IDLE: Duration = Duration::from_secs(30);
/// Turns of road and floor, so that a busy moment of the machine falls on both.
const ROUNDS: usize = 10;
/// Messages of a round, one after another.
const SINGLE: usize = 50;
/// Messages of a round, with [`WINDOW`] of them under way.
const STREAM: usize = 2_000;
const WINDOW: usize = 64;
/// People who send at once; each has a chat of two, so that a message is pushed to one person.
const PAIRS: usize = 8;
const BODY: usize = 120;
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stack = Stack::from_environment();
    idle().await?;
    let floor = Floor::prepare(&stack).await?;
    let mut road = Road::prepare(&stack).await?;
    let (mut log_trips, mut writes, mut said, mut floor_rates, mut road_rates) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (log_trip, write, stored) =
            (floor.log_trips().await?, floor.writes().await?, road.one_by_one().await?);
        let rates = (floor.rate().await?, road.rate().await?);
        // The first round warms up connections, caches and compilers.
        if round > 0 {
            log_trips.extend(log_trip);
            writes.extend(write);
            said.extend(stored);
            floor_rates.push(rates.0);
            road_rates.push(rates.1);
        }
    }
    floor.remove().await?;
    for times in [&mut log_trips, &mut writes, &mut said, &mut floor_rates, &mut road_rates] {
        times.sort_by(f64::total_cmp);
    }
    for percent in [50, 99] {
        let at = |times: &[f64]| checker::percentile(times, percent);
        let floor = 2.0 * at(&log_trips) + at(&writes);
        say(format!(
            "send to delivered, one at a time, p{percent}: {:.2} ms; floor {floor:.2} ms (two trips through the log of {:.2} ms, \
             one write of {:.2} ms); ratio {:.2}",
            at(&said),
            at(&log_trips),
            at(&writes),
            at(&said) / floor,
        ));
    }
    let (floor, road) = (checker::percentile(&floor_rates, 50), checker::percentile(&road_rates, 50));
    say(format!(
        "stored and delivered, {WINDOW} under way: {road:.0} messages/s; floor {floor:.0}; ratio {:.2}",
        road / floor
    ));
    Ok(())
}

/// Says what a tenant costs in which nobody talks.
async fn idle() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let before = cluster.usage().await?;
    sleep(IDLE).await;
    let after = cluster.usage().await?;
    let (mut processor, mut memory) = (Duration::ZERO, 0);
    for (name, usage) in after.iter().filter(|((_, resource), _)| resource == IDLE_TENANT) {
        let then = before.get(name).context("a pod is new: the tenant is not at rest")?;
        processor += usage.processor.saturating_sub(then.processor);
        memory += usage.resident_mebibytes;
    }
    let share = 100.0 * processor.as_secs_f64() / IDLE.as_secs_f64();
    say(format!("a tenant in which nobody talks: {share:.2} % of one core, {memory} MiB"));
    Ok(())
}

/// Users who talk through the public address, two by two.
struct Road {
    pairs: Vec<Pair>,
}

struct Pair {
    chat: ChatId,
    speaker: Online,
    /// What the other one hears; the session ends with it.
    heard: mpsc::Receiver<Event>,
    _listener: Session,
}

impl Road {
    async fn prepare(stack: &Stack) -> anyhow::Result<Self> {
        let messenger = stack.messenger(TENANT);
        let people = Person::crowd(&messenger, "bench", PAIRS * 2).await?;
        let mut pairs = Vec::new();
        for pair in people.chunks_exact(2) {
            let chat = pair[0].direct_chat(&pair[1]).await?;
            let (listener, heard) = Session::open(pair[1].identity.clone(), DeviceId::generate());
            listener.follow(chat, 0).await;
            pairs.push(Pair { chat, speaker: pair[0].online(&[chat]).await, heard, _listener: listener });
        }
        Ok(Self { pairs })
    }

    /// Times in milliseconds from a send until the other one of a pair has it.
    async fn one_by_one(&mut self) -> anyhow::Result<Vec<f64>> {
        let pair = &mut self.pairs[0];
        let mut times = Vec::with_capacity(SINGLE);
        for _ in 0..SINGLE {
            let began = Instant::now();
            let text = body();
            // Who hears may be told before who speaks.
            let (seq, heard) = tokio::join!(pair.speaker.say(pair.chat, &text), hear(&mut pair.heard, 1));
            heard?;
            times.push(milliseconds(began));
            seq?;
        }
        Ok(times)
    }

    /// Messages a second, from the first send until everyone has everything.
    async fn rate(&mut self) -> anyhow::Result<f64> {
        let began = Instant::now();
        let talks = self.pairs.iter_mut().map(async |Pair { chat, speaker, heard, .. }| {
            let speak = stream::iter(0..STREAM / PAIRS)
                .map(async |_| speaker.say(*chat, &body()).await)
                .buffered(WINDOW / PAIRS)
                .try_for_each(async |_| Ok(()));
            tokio::try_join!(speak, hear(heard, STREAM / PAIRS)).map(drop)
        });
        try_join_all(talks).await?;
        Ok(STREAM as f64 / began.elapsed().as_secs_f64())
    }
}

/// Waits for this many messages.
async fn hear(heard: &mut mpsc::Receiver<Event>, number: usize) -> anyhow::Result<()> {
    let mut left = number;
    while left > 0 {
        match timeout(LIMIT, heard.recv()).await.context("nothing was heard in time")? {
            Some(Event::Entry { .. }) => left -= 1,
            Some(Event::Ended { why }) => bail!("the session ended: {why}"),
            Some(_) => {}
            None => bail!("the session is closed"),
        }
    }
    Ok(())
}

/// The same promises without a messenger: a topic and a table of the administrator's own, used directly.
struct Floor {
    admin: AdminClient<DefaultClientContext>,
    topic: String,
    producer: FutureProducer,
    consumer: StreamConsumer,
    keyspace: String,
    store: CqlSession,
    insert: PreparedStatement,
}

impl Floor {
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
        let mut made = admin.create_topics([&new], &AdminOptions::new()).await?;
        made.pop().context("an answer for one topic")?.map_err(|(_, code)| code)?;
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

    /// Times in milliseconds from a record's produce call until it is consumed.
    async fn log_trips(&self) -> anyhow::Result<Vec<f64>> {
        let mut times = Vec::with_capacity(SINGLE);
        for _ in 0..SINGLE {
            let began = Instant::now();
            tokio::try_join!(self.produce(), self.consume())?;
            times.push(milliseconds(began));
        }
        Ok(times)
    }

    /// Times in milliseconds of durable writes.
    async fn writes(&self) -> anyhow::Result<Vec<f64>> {
        let mut times = Vec::with_capacity(SINGLE);
        for seq in 0..SINGLE {
            let began = Instant::now();
            self.write(seq).await?;
            times.push(milliseconds(began));
        }
        Ok(times)
    }

    /// Messages a second through the log, the store and the log again, [`WINDOW`] of them at a time.
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

fn body() -> String {
    "m".repeat(BODY)
}

fn milliseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1_000.0
}
