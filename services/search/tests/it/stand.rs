//! A search service with a log in memory, and with a chat and a message service that say what a story wants.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use contracts::{
    ChatId, DeviceId, MessageKey, UserId,
    api::FoundMessages,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, VERSION},
    rpc::{
        EntriesRequest, EntriesResponse, EntryId, EntryPlace, FindChatsRequest, FindChatsResponse,
        FindUsersRequest, FindUsersResponse, HistoryRequest, HistoryResponse, ListChatsRequest,
        ListChatsResponse, ListMembershipsRequest, ListMembershipsResponse, Membership, NamedChat, User,
        chat_directory_server::{ChatDirectory, ChatDirectoryServer},
        chat_service_client::ChatServiceClient,
        chat_service_server::{ChatService, ChatServiceServer},
        message_service_client::MessageServiceClient,
        message_service_server::{MessageService, MessageServiceServer},
        user_service_client::UserServiceClient,
        user_service_server::{UserService, UserServiceServer},
    },
    wire::{Changes, Message},
};
use kit::{
    bucket::Rate,
    catalog::Topic,
    health::Health,
    log::Log,
    rpc::InternalChannel,
    testing::{TestApi, TestRealm, TestUser, serve_peer},
    text::{NameQuery, search_key},
};
use search::{
    AppState, Metrics, Searches,
    domain::{Analyzer, Search, parse},
    events::{Indexer, Source, Standing, Times},
    routes,
    store::{EmbeddedGenerations, Generations},
};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait, service::Routes};
use uuid::Uuid;

pub const TENANT: &str = "acme";
pub const PATIENCE: Duration = Duration::from_secs(30);
const TIMES: Times = Times {
    write_after: Duration::from_millis(10),
    forget_every: Duration::from_millis(200),
    switch_within: PATIENCE,
};
/// Stories look again and again.
const RATE: Rate = Rate::every(Duration::from_millis(1), 100_000);
/// Entries of a page of history: few, so that there are several pages.
const PAGE: usize = 3;
/// When the first entry of a chat was sent.
pub const BEGAN_MS: i64 = 1_700_000_000_000;

pub fn analyzer() -> Arc<Analyzer> {
    Arc::new(Analyzer::default())
}

/// Returns an index in a folder.
pub fn index_in(folder: &Path) -> Arc<dyn Generations> {
    index_of(folder, TENANT)
}

/// Returns an index of any tenant in a folder.
pub fn index_of(folder: &Path, tenant: &str) -> Arc<dyn Generations> {
    index_within(folder, u64::MAX, tenant)
}

/// Returns an index of any tenant in a folder that may hold so much.
pub fn index_within(folder: &Path, limit_bytes: u64, tenant: &str) -> Arc<dyn Generations> {
    Arc::new(EmbeddedGenerations::open(folder, limit_bytes, tenant, analyzer()).expect("an index"))
}

/// A tenant with its log, its chats and what is stored of them.
pub struct Stand {
    pub realm: TestRealm,
    pub log: Log,
    pub peers: Peers,
    pub tenant: String,
    /// How often a user may search.
    pub rate: Rate,
    pub times: Times,
}

impl Stand {
    pub async fn create() -> Self {
        Self::with_log(Log::memory(), TENANT).await
    }

    /// Returns a tenant whose log is another one.
    pub async fn with_log(log: Log, tenant: &str) -> Self {
        let realm = TestRealm::start(tenant).await;
        Self {
            realm,
            log,
            peers: Peers::with_pages_of(PAGE),
            tenant: tenant.to_owned(),
            rate: RATE,
            times: TIMES,
        }
    }

    /// Starts the service on an index, which may not be complete yet.
    pub async fn start(&self, generations: Arc<dyn Generations>) -> Running {
        let channel = self.peers.serve().await;
        self.start_with(generations, channel.clone(), channel).await
    }

    pub async fn start_with(
        &self,
        generations: Arc<dyn Generations>,
        source: InternalChannel,
        chats: InternalChannel,
    ) -> Running {
        let (standing, metrics) = (Arc::new(Standing::default()), Metrics::default());
        let stop = CancellationToken::new();
        let indexer = Indexer {
            tenant: self.tenant.clone(),
            log: self.log.clone(),
            generations: generations.clone(),
            source: Source::new(source.clone(), source.clone()),
            standing: standing.clone(),
            metrics: metrics.clone(),
            check: Health::default().check("log"),
            stop: stop.clone(),
            times: self.times,
        };
        let task = tokio::spawn(indexer.run());
        let state = AppState {
            generations,
            analyzer: analyzer(),
            users: UserServiceClient::new(chats.clone()),
            chats: ChatServiceClient::new(chats),
            messages: MessageServiceClient::new(source),
            standing: standing.clone(),
            metrics,
            searches: Searches::new(self.rate),
        };
        Running { api: TestApi::new(routes(state), &self.realm), standing, stop, task }
    }

    /// Stores entries and announces them, as the message service does.
    pub async fn announce(&self, records: impl IntoIterator<Item = DeliveredRecord>) {
        let records: Vec<_> = records.into_iter().collect();
        for record in &records {
            self.peers.apply(record.clone());
        }
        let producer = self.log.producer(Some(PATIENCE)).expect("a producer");
        for record in records {
            let payload = serde_json::to_vec(&record).expect("json");
            let topic = Topic::MessageDelivered.of(&self.tenant);
            let delivery = producer.send(&topic, &record.chat.to_string(), Some(&payload));
            delivery.expect("room").await.expect("in the log");
        }
    }
}

/// A replica of the service. It ends when it is dropped.
pub struct Running {
    pub api: TestApi,
    pub standing: Arc<Standing>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Ends it, and waits until its index is free.
    pub async fn end(mut self) {
        self.stop.cancel();
        (&mut self.task).await.expect("the task ends");
    }

    /// Returns what a user finds. `query` is the rest of the path.
    pub async fn page(&self, user: &TestUser, query: &str) -> FoundMessages {
        let body = self.api.get(user, &format!("/api/search/messages?q={query}")).await.ok(200);
        serde_json::from_value(body).expect("a page")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Encodes a query for a path.
pub fn encoded(query: &str) -> String {
    query.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Returns a search of anyone, in chats each with the first seq that is read there.
pub fn search(query: &str, seats: &[(ChatId, i64)]) -> Search {
    Search {
        reader: UserId(Uuid::nil()),
        query: parse(&analyzer(), query).expect("a query"),
        seats: seats.iter().copied().collect(),
        begun: Vec::new(),
        chat: None,
        thread: None,
        sender: None,
        from_ms: None,
        to_ms: None,
        after: None,
        limit: 10,
        now_ms: 1_000,
    }
}

/// Returns the announcement of an entry of any kind.
pub fn entry(chat: ChatId, sender: UserId, seq: i64, kind: EntryKind, body: &str) -> DeliveredRecord {
    DeliveredRecord {
        v: VERSION,
        chat,
        sender,
        device: DeviceId(Uuid::nil()),
        key: MessageKey(Uuid::from_u128(seq.unsigned_abs().into())),
        outcome: DeliveryOutcome::stored(seq, kind, body, BEGAN_MS + seq * 1_000),
    }
}

pub fn text(chat: ChatId, sender: UserId, seq: i64, body: &str) -> DeliveredRecord {
    entry(chat, sender, seq, EntryKind::Text, body)
}

/// Returns an entry as the message service has it.
pub fn stored(record: DeliveredRecord) -> Message {
    let DeliveredRecord { chat, sender, key, outcome, .. } = record;
    let DeliveryOutcome::Stored {
        seq,
        kind,
        body,
        target_seq,
        range,
        attachments,
        sent_at_ms,
        expires_at_ms,
        ..
    } = outcome
    else {
        panic!("it is no entry")
    };
    Message {
        chat,
        seq,
        sender,
        key,
        kind,
        body,
        subject: None,
        target_seq,
        mentions: Vec::new(),
        mention_roles: Vec::new(),
        mentions_all: false,
        mentions_here: false,
        silent: false,
        forwarded: None,
        range,
        attachments,
        sent_at_ms,
        expires_at_ms,
        expired: false,
        changes: Changes::default(),
    }
}

/// The chat and the message service in memory.
#[derive(Clone)]
pub struct Peers(pub Arc<Known>);

type Entries = BTreeMap<(String, i64), Message>;

/// What both know.
pub struct Known {
    /// Most entries of a page of history.
    page_entries: usize,
    /// Chats by the user who is in them, each with the entry with which the history begins.
    seats: Mutex<BTreeMap<(String, String), Option<EntryId>>>,
    /// Titles of chats, by chat.
    titles: Mutex<BTreeMap<String, String>>,
    /// Direct chats, each with its two users.
    pairs: Mutex<Vec<(String, [String; 2])>>,
    /// Users who have a name.
    names: Mutex<Vec<User>>,
    /// Entries by chat and seq, as they are now.
    entries: Mutex<Entries>,
    /// Pages of history that were read.
    pub pages: AtomicUsize,
    /// Pages wait here, with what they read already, while it is there.
    pub gate: Mutex<Option<Arc<Semaphore>>>,
}

impl Peers {
    /// Returns services without chats. A page of history has so many entries, fewer than are requested, as long texts make them.
    pub fn with_pages_of(entries: usize) -> Self {
        Self(Arc::new(Known {
            page_entries: entries,
            seats: Mutex::default(),
            titles: Mutex::default(),
            pairs: Mutex::default(),
            names: Mutex::default(),
            entries: Mutex::default(),
            pages: AtomicUsize::default(),
            gate: Mutex::default(),
        }))
    }

    pub async fn serve(&self) -> InternalChannel {
        let routes = Routes::new(ChatServiceServer::new(self.clone()))
            .add_service(ChatDirectoryServer::new(self.clone()))
            .add_service(MessageServiceServer::new(self.clone()))
            .add_service(UserServiceServer::new(self.clone()));
        serve_peer(routes).await
    }

    pub fn seats(&self) -> MutexGuard<'_, BTreeMap<(String, String), Option<EntryId>>> {
        self.0.seats.lock().expect("no panic")
    }

    /// Adds a user to a chat, who reads all of it.
    pub fn join(&self, chat: ChatId, user: &TestUser) {
        self.seats().insert((user.id.to_string(), chat.to_string()), None);
    }

    pub fn titles(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.titles.lock().expect("no panic")
    }

    pub fn pairs(&self) -> MutexGuard<'_, Vec<(String, [String; 2])>> {
        self.0.pairs.lock().expect("no panic")
    }

    pub fn names(&self) -> MutexGuard<'_, Vec<User>> {
        self.0.names.lock().expect("no panic")
    }

    pub fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.entries.lock().expect("no panic")
    }

    /// Stores an entry, and what it changes of others.
    pub fn apply(&self, record: DeliveredRecord) {
        let entry = stored(record);
        let mut entries = self.entries();
        let id = |seq: i64| (entry.chat.to_string(), seq);
        let changed = match (entry.kind, entry.target_seq, entry.range) {
            (EntryKind::Edit | EntryKind::Delete, Some(target), _) => target..=target,
            (EntryKind::DeleteRange, _, Some(range)) => range.from_seq..=range.to_seq.min(entry.seq),
            _ => RangeInclusive::new(1, 0),
        };
        for seq in changed {
            if let Some(target) = entries.get_mut(&id(seq)) {
                change(target, &entry);
            }
        }
        entries.entry(id(entry.seq)).or_insert(entry);
    }

    /// Stores an entry in the place of what is there.
    pub fn put(&self, message: Message) {
        self.entries().insert((message.chat.to_string(), message.seq), message);
    }
}

/// Changes a message as an edit or a deletion says.
fn change(target: &mut Message, entry: &Message) {
    let changes = &mut target.changes;
    if changes.deleted_seq.is_some() {
        return;
    }
    if entry.kind != EntryKind::Edit {
        changes.deleted_seq = Some(entry.seq);
        target.body.clear();
        target.attachments.clear();
    } else if changes.edited_seq.is_none_or(|seq| seq < entry.seq) {
        changes.edited_seq = Some(entry.seq);
        target.body.clone_from(&entry.body);
    }
}

#[async_trait]
impl ChatService for Peers {
    async fn list_memberships(
        &self,
        request: Request<ListMembershipsRequest>,
    ) -> Result<Response<ListMembershipsResponse>, Status> {
        let ListMembershipsRequest { user_id, chat_ids, .. } = request.into_inner();
        let seats = self.seats();
        let own = seats
            .iter()
            .filter(|((user, chat), _)| *user == user_id && (chat_ids.is_empty() || chat_ids.contains(chat)));
        let memberships = own.map(|((_, chat), reads_from)| Membership {
            chat_id: chat.clone(),
            reads_from: reads_from.clone(),
            ..Membership::default()
        });
        let memberships = memberships.collect();
        Ok(Response::new(ListMembershipsResponse { memberships, ..ListMembershipsResponse::default() }))
    }

    async fn find_chats(
        &self,
        request: Request<FindChatsRequest>,
    ) -> Result<Response<FindChatsResponse>, Status> {
        let FindChatsRequest { user_id, query, limit } = request.into_inner();
        let query = NameQuery::parse("query", &query)?;
        let seats = self.seats();
        let is_in = |chat: &String| seats.contains_key(&(user_id.clone(), chat.clone()));
        let titles = self.titles();
        let found = titles.iter().filter(|(chat, title)| is_in(chat) && query.finds(&[&search_key(title)]));
        let chats = found.map(|(chat, title)| NamedChat {
            chat_id: chat.clone(),
            kind: "group".to_owned(),
            title: title.clone(),
            other_id: String::new(),
        });
        let pairs = self.pairs();
        let direct_chats = pairs.iter().filter(|(chat, _)| is_in(chat)).map(|(chat, users)| NamedChat {
            chat_id: chat.clone(),
            kind: "direct".to_owned(),
            title: String::new(),
            other_id: users.iter().find(|user| **user != user_id).expect("two users").clone(),
        });
        let limit = usize::try_from(limit).expect("a limit");
        Ok(Response::new(FindChatsResponse {
            chats: chats.take(limit).collect(),
            direct_chats: direct_chats.collect(),
        }))
    }
}

#[async_trait]
impl UserService for Peers {
    async fn find_users(
        &self,
        request: Request<FindUsersRequest>,
    ) -> Result<Response<FindUsersResponse>, Status> {
        let FindUsersRequest { query, among_ids, limit } = request.into_inner();
        let query = NameQuery::parse("query", &query)?;
        let names = self.names();
        let found = names.iter().filter(|user| {
            (among_ids.is_empty() || among_ids.contains(&user.user_id))
                && query.finds(&[&user.username, &search_key(&user.display_name)])
        });
        let limit = usize::try_from(limit).expect("a limit");
        Ok(Response::new(FindUsersResponse { users: found.take(limit).cloned().collect() }))
    }
}

#[async_trait]
impl ChatDirectory for Peers {
    async fn list_chats(
        &self,
        request: Request<ListChatsRequest>,
    ) -> Result<Response<ListChatsResponse>, Status> {
        let after = request.into_inner().after_id;
        let mut chats: Vec<_> = self.entries().keys().map(|(chat, _)| chat.clone()).collect();
        chats.dedup();
        // Short pages, so that there are several.
        let total = chats.len().try_into().expect("few");
        let behind = chats.into_iter().filter(|chat| *chat > after);
        Ok(Response::new(ListChatsResponse { chat_ids: behind.take(2).collect(), total }))
    }
}

#[async_trait]
impl MessageService for Peers {
    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryResponse>, Status> {
        let HistoryRequest { chat_id, after_seq, limit, known_from_seq, .. } = request.into_inner();
        assert_eq!(known_from_seq, Some(1), "the service is in no chat");
        let limit = usize::try_from(limit).expect("a limit").min(self.0.page_entries);
        let (messages, head_seq) = {
            let entries = self.entries();
            let of_chat = |after: i64| entries.range((chat_id.clone(), after)..=(chat_id.clone(), i64::MAX));
            let messages: Vec<_> =
                of_chat(after_seq + 1).take(limit).map(|(_, message)| message.clone().into()).collect();
            (messages, of_chat(0).next_back().map_or(0, |((_, seq), _)| *seq))
        };
        let gate = self.0.gate.lock().expect("no panic").clone();
        self.0.pages.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = gate {
            gate.acquire().await.expect("it stays open").forget();
        }
        Ok(Response::new(HistoryResponse { messages, head_seq, from_seq: 1 }))
    }

    async fn entries(&self, request: Request<EntriesRequest>) -> Result<Response<EntriesResponse>, Status> {
        let entries = self.entries();
        let places = request.into_inner().places.into_iter();
        let found = places.filter_map(|EntryPlace { chat_id, seq }| entries.get(&(chat_id, seq)));
        Ok(Response::new(EntriesResponse { messages: found.cloned().map(Into::into).collect() }))
    }
}
