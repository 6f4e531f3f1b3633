//! Who writes records to the log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::ensure;
use contracts::{
    DeviceId, MessageKey,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, VERSION},
};
use kit::clock::now_ms;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
};
use uuid::Uuid;

use crate::{
    fleet::Progress,
    marks::body,
    peers::Peers,
    protocol::Kind,
    servers::{Ground, SENDER, Server, Target, store},
    times::now_us,
};

/// How long it waits when enough is under way.
const PAUSE: Duration = Duration::from_micros(200);
/// Records that are written without a look at what is under way.
const BATCH: usize = 8;
/// What was published is in the log within this time.
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);

/// Writes the records that a server follows, as the message service would.
pub struct Publisher {
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: String,
    target: Arc<Target>,
    /// Whether the server has. What is written for it then, the next one would read.
    has_ended: Arc<AtomicBool>,
    peers: Option<Peers>,
    /// The last seq of each room.
    heads: Vec<i64>,
    next_room: usize,
}

impl Publisher {
    /// Returns who writes for this server.
    pub fn of(server: &Server, ground: &Ground) -> anyhow::Result<Self> {
        let mut config = kit::kafka::producer_config(&ground.kafka);
        // The way to the servers is to be short, and is the same for both.
        config.set("linger.ms", "0");
        let (target, peers) = (server.target.clone(), server.peers.clone());
        let stored = |room| {
            let stored = peers.as_ref().map_or(0, |peers| peers.stored(target.chat(room)));
            i64::try_from(stored).expect("few")
        };
        let heads = (0..target.layout.rooms).map(stored).collect();
        let (producer, topic, has_ended) = (config.create()?, server.topic.clone(), server.has_ended());
        Ok(Self { producer, topic, target, has_ended, peers, heads, next_room: 0 })
    }

    /// Writes a record for a room. In a kept room it is stored before.
    pub fn publish(&mut self, room: usize, due_us: u64, number: usize) -> anyhow::Result<()> {
        ensure!(!self.has_ended.load(Ordering::Relaxed), "the server has ended");
        let text = body(due_us, number);
        let (key, payload) = match self.target.kind {
            Kind::Centrifuge => (self.target.layout.channel(room), format!("\"{text}\"").into_bytes()),
            Kind::Json | Kind::Cbor => {
                let chat = self.target.chat(room);
                self.heads[room] += 1;
                let seq = self.heads[room];
                if let Some(peers) = self.peers.as_ref().filter(|_| self.target.layout.is_kept) {
                    store(peers, chat, seq, text.clone());
                }
                let outcome = DeliveryOutcome::stored(seq, EntryKind::Text, text, now_ms());
                let key = MessageKey(Uuid::new_v4());
                let device = DeviceId(Uuid::from_u128(1));
                let record = DeliveredRecord { v: VERSION, chat, sender: SENDER, device, key, outcome };
                (chat.to_string(), serde_json::to_vec(&record)?)
            }
        };
        loop {
            let record = BaseRecord::to(&self.topic).key(&key).payload(&payload);
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => thread::sleep(PAUSE),
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    /// Writes a record for each room.
    pub fn publish_to_all(&mut self, number: usize) -> anyhow::Result<()> {
        (0..self.target.layout.rooms).try_for_each(|room| self.publish(room, now_us(), number))
    }

    fn publish_next(&mut self, due_us: u64) -> anyhow::Result<()> {
        let room = self.next_room;
        self.next_room = (room + 1) % self.target.layout.rooms;
        self.publish(room, due_us, 0)
    }

    /// Writes records in turn to all rooms, with so many deliveries under way, until stopped. Returns how many deliveries they make.
    pub fn saturate(&mut self, progress: &Progress, window: u64, stop: &AtomicBool) -> anyhow::Result<u64> {
        let size = self.target.layout.size as u64;
        let (before, mut due) = (progress.delivered(), 0);
        while !stop.load(Ordering::Relaxed) {
            if due + before >= progress.delivered() + window {
                thread::sleep(PAUSE);
                continue;
            }
            for _ in 0..BATCH {
                self.publish_next(now_us())?;
                due += size;
            }
        }
        Ok(due)
    }

    /// Writes records in turn to all rooms at a fixed rate, whatever becomes of them. Returns how many deliveries they make.
    pub fn at_rate(&mut self, deliveries_per_second: f64, within: Duration) -> anyhow::Result<u64> {
        let size = self.target.layout.size;
        let per_second = deliveries_per_second / size as f64;
        let records = (per_second * within.as_secs_f64()).round() as u64;
        let began_us = now_us();
        for number in 0..records {
            let due_us = began_us + (number as f64 / per_second * 1_000_000.0) as u64;
            let early = due_us.saturating_sub(now_us());
            if early > 0 {
                thread::sleep(Duration::from_micros(early));
            }
            self.publish_next(due_us)?;
        }
        Ok(records * size as u64)
    }
}

impl Drop for Publisher {
    /// Waits until what was published is in the log: the producer forgets what is on its way when it is dropped.
    fn drop(&mut self) {
        if self.has_ended.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.producer.flush(WRITTEN_WITHIN) {
            println!("records were not written in {} s: {error}", WRITTEN_WITHIN.as_secs());
        }
    }
}
