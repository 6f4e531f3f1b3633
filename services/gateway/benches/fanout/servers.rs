//! The two servers, each in a process of its own, and the records that they follow.
//!
//! The gateway is the binary that is deployed, with the real event log and the real directory of connections; the services that it calls are
//! those of its own tests, in this process. Both servers follow a topic of the same log, so the way to them is the same.

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use contracts::{ChatId, UserId, rpc};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use kit::{
    catalog::Topic,
    clock::now_ms,
    config::KafkaArgs,
    testing::{TestCache, TestRealm, stack},
};
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminOptions, NewTopic, TopicReplication},
};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    marks::body,
    peers::{INTERNAL_TOKEN, Peers},
    protocol::{Kind, PAGE_MESSAGES},
    stand::{PARTITIONS, config, create_topics, device, get, kafka_admin, kafka_args, remove_topics, user},
    usage::Usage,
};

/// Sends all messages, and has no connection: so every member receives them.
pub const SENDER: UserId = UserId(Uuid::from_u128(1));
/// Signs the tokens of Centrifuge.
const SECRET: &str = "of this measurement alone";
/// Longer than the measurement.
const TOKENS_LIVE: Duration = Duration::from_secs(2 * 3_600);
/// A server is ready within this time.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// A server without connections has ended by then.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

/// Who is in which room.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub rooms: usize,
    /// Members of each room, all of them connected. A user is in one room.
    pub size: usize,
    /// Whether members who come back fetch what they missed.
    pub is_kept: bool,
}

impl Layout {
    pub const fn rooms(rooms: usize, size: usize) -> Self {
        Self { rooms, size, is_kept: false }
    }

    pub const fn users(self) -> usize {
        self.rooms * self.size
    }

    pub const fn room_of(self, user: usize) -> usize {
        user / self.size
    }

    /// Returns the channel of a room, as the server in `centrifuge/` has it.
    pub fn channel(self, room: usize) -> String {
        format!("{}:{room}", if self.is_kept { "kept" } else { "room" })
    }
}

/// What all servers of the measurement share: a throw-away tenant.
pub struct Ground {
    tenant: String,
    pub kafka: KafkaArgs,
    realm: TestRealm,
    redis: TestCache,
    /// Of the realm, by user.
    tokens: Vec<String>,
    /// The program of `centrifuge/`.
    centrifuge: PathBuf,
    started: AtomicU32,
}

impl Ground {
    /// Creates a tenant with so many users.
    pub async fn create(users: usize) -> anyhow::Result<Self> {
        let centrifuge = env::var_os("PH_BENCH_CENTRIFUGE")
            .context("PH_BENCH_CENTRIFUGE names no server: run `BENCH=fanout make bench`, which builds it")?;
        let tenant = format!("t{}", &Uuid::new_v4().simple().to_string()[..12]);
        let kafka = kafka_args();
        let admin = kafka_admin(&kafka);
        create_topics(&admin, &tenant).await;
        let channels = channels_topic(&tenant);
        let topic = NewTopic::new(&channels, PARTITIONS, TopicReplication::Fixed(1));
        for made in admin.create_topics([&topic], &AdminOptions::new()).await? {
            made.map_err(|(topic, code)| anyhow::anyhow!("{topic} was not created: {code}"))?;
        }
        let realm = TestRealm::start(&tenant).await;
        let expires = get_current_timestamp() + TOKENS_LIVE.as_secs();
        let token = |n| realm.token_with(user(n), "someone", json!({ "exp": expires }));
        let tokens = (0..users as u128).map(token).collect();
        let redis = TestCache::create(&tenant).await;
        let centrifuge = centrifuge.into();
        Ok(Self { tenant, kafka, realm, redis, tokens, centrifuge, started: AtomicU32::new(0) })
    }

    /// Removes the tenant's topics.
    pub async fn remove(&self) {
        let admin = kafka_admin(&self.kafka);
        remove_topics(&admin, &self.tenant).await;
        let channels = channels_topic(&self.tenant);
        drop(admin.delete_topics(&[channels.as_str()], &AdminOptions::new()).await);
    }

    /// Deletes the records that no server needs any more: a run leaves some hundred megabytes.
    pub async fn forget_records(&self) -> anyhow::Result<()> {
        let mut ends = TopicPartitionList::new();
        for topic in [Topic::MessageDelivered.of(&self.tenant), channels_topic(&self.tenant)] {
            for partition in 0..PARTITIONS {
                ends.add_partition_offset(&topic, partition, Offset::End)?;
            }
        }
        kafka_admin(&self.kafka).delete_records(&ends, &AdminOptions::new()).await?;
        Ok(())
    }

    /// Starts a server, with these users as members of their rooms.
    pub async fn start(&self, kind: Kind, layout: Layout) -> anyhow::Result<Server> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        // Each server has rooms of its own: the numbers of their messages begin at 1.
        let chats: Vec<ChatId> = (0..layout.rooms as u128)
            .map(|room| ChatId(Uuid::from_u128((u128::from(number) << 64) | (1 << 32) | room)))
            .collect();
        match kind {
            Kind::Centrifuge => self.start_centrifuge(layout, chats).await,
            Kind::Json | Kind::Cbor => self.start_gateway(kind, layout, chats, number).await,
        }
    }

    async fn start_gateway(
        &self,
        kind: Kind,
        layout: Layout,
        chats: Vec<ChatId>,
        number: u32,
    ) -> anyhow::Result<Server> {
        let peers = Peers::new(&self.tenant, &self.kafka);
        for member in 0..layout.users() {
            peers.join_silently(chats[layout.room_of(member)], user(member as u128));
        }
        let redis = self.redis.args();
        let (invocation, arguments) =
            config(&self.tenant, &self.kafka, &redis, &self.realm, peers.serve().await);
        let child = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .arg("run")
            .args(arguments)
            // The directory of connections knows a gateway by it.
            .env("HOSTNAME", format!("gateway-{number}"))
            .env("INTERNAL_TOKEN", INTERNAL_TOKEN)
            .env("KAFKA_USERNAME", &self.kafka.kafka_username)
            .env("KAFKA_PASSWORD", stack("KAFKA_ADMIN_PASSWORD"))
            .env("REDIS_USERNAME", &redis.redis_username)
            .env("REDIS_PASSWORD", redis.redis_password.expose_secret())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("the gateway does not start")?;
        let process = Running::new(child);
        let addresses = invocation.process.service;
        let end = Instant::now() + STARTS_WITHIN;
        while !get(addresses.management_addr, "/readyz")
            .await
            .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        {
            ensure!(Instant::now() < end, "the gateway is not ready");
            sleep(POLL).await;
        }
        let target = Target { kind, addr: addresses.http_addr, layout, tokens: self.tokens.clone(), chats };
        let topic = Topic::MessageDelivered.of(&self.tenant);
        Ok(Server { target: Arc::new(target), process, topic, peers: Some(peers) })
    }

    async fn start_centrifuge(&self, layout: Layout, chats: Vec<ChatId>) -> anyhow::Result<Server> {
        let topic = channels_topic(&self.tenant);
        let page: Vec<String> = (0..PAGE_MESSAGES).map(|number| format!("\"{}\"", body(0, number))).collect();
        let mut child = Command::new(&self.centrifuge)
            .env("KAFKA_BOOTSTRAP_SERVERS", &self.kafka.kafka_bootstrap_servers)
            .env("KAFKA_USERNAME", &self.kafka.kafka_username)
            .env("KAFKA_PASSWORD", stack("KAFKA_ADMIN_PASSWORD"))
            .env("TOKEN_SECRET", SECRET)
            .env("TOPIC", &topic)
            .env("PAGE", page.join("\n"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} does not start", self.centrifuge.display()))?;
        let output = child.stdout.take().context("the server has no output")?;
        let process = Running::new(child);
        let first = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line).map(|_| line)
        });
        let line =
            tokio::time::timeout(STARTS_WITHIN, first).await.context("Centrifuge is not ready")???;
        let Some(addr) = line.trim().strip_prefix("ready ") else {
            bail!("Centrifuge ended instead of being ready: it says why above");
        };
        let addr: SocketAddr = addr.parse()?;
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let expires = get_current_timestamp() + TOKENS_LIVE.as_secs();
        let tokens = (0..layout.users()).map(|member| {
            let channel = layout.channel(layout.room_of(member));
            let claims = json!({ "sub": user(member as u128), "channel": channel, "exp": expires });
            encode(&Header::new(Algorithm::HS256), &claims, &key)
        });
        let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
        let target = Target { kind: Kind::Centrifuge, addr, layout, tokens, chats };
        Ok(Server { target: Arc::new(target), process, topic, peers: None })
    }
}

/// The topic that the server in `centrifuge/` follows.
fn channels_topic(tenant: &str) -> String {
    format!("{tenant}.bench.channels")
}

/// What clients know of a server.
pub struct Target {
    pub kind: Kind,
    pub addr: SocketAddr,
    pub layout: Layout,
    /// By user.
    tokens: Vec<String>,
    /// By room.
    chats: Vec<ChatId>,
}

impl Target {
    pub fn chat(&self, room: usize) -> ChatId {
        self.chats[room]
    }

    /// Returns the frame that reads the first page of a user's chat.
    pub fn page_of(&self, user: usize) -> Vec<u8> {
        self.kind.page(self.chat(self.layout.room_of(user)))
    }

    /// Returns the frame that authenticates a user, who comes back when there is an epoch.
    pub fn connect(&self, member: usize, epoch: Option<&str>) -> Vec<u8> {
        let token = &self.tokens[member];
        match self.kind {
            Kind::Centrifuge => {
                let channel = self.layout.channel(self.layout.room_of(member));
                Kind::connect_to_channel(token, &channel, epoch)
            }
            Kind::Json | Kind::Cbor => self.kind.connect(token, device(member as u128)),
        }
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    pub target: Arc<Target>,
    process: Running,
    /// The topic that it follows.
    pub topic: String,
    /// The services that a gateway calls.
    pub peers: Option<Peers>,
}

impl Server {
    pub fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.process.child.id())
    }

    /// Returns whether it has ended, for who writes for it.
    pub fn has_ended(&self) -> Arc<AtomicBool> {
        self.process.has_ended.clone()
    }

    /// Gives every chat a page of messages. Centrifuge began with one.
    pub fn store_pages(&self) {
        let Some(peers) = &self.peers else { return };
        for chat in &self.target.chats {
            for number in 0..PAGE_MESSAGES {
                store(peers, *chat, number as i64 + 1, body(0, number));
            }
        }
    }
}

/// Stores a message, which no gateway receives.
pub fn store(peers: &Peers, chat: ChatId, seq: i64, body: String) {
    let message = rpc::Message {
        chat_id: chat.to_string(),
        seq,
        sender_id: SENDER.to_string(),
        key: Uuid::new_v4().to_string(),
        kind: "text".to_owned(),
        body,
        sent_at_ms: now_ms(),
        ..rpc::Message::default()
    };
    peers.store_silently(chat, message);
}

/// A process that ends when it is dropped.
struct Running {
    child: Child,
    has_ended: Arc<AtomicBool>,
}

impl Running {
    fn new(child: Child) -> Self {
        Self { child, has_ended: Arc::default() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Relaxed);
        // It may have ended by itself.
        kill_process(Pid::from_child(&self.child), Signal::TERM).ok();
        let end = Instant::now() + ENDS_WITHIN;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(POLL);
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
