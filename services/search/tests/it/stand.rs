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
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, SeqRange, VERSION},
    rpc::{
        CheckBlocksRequest, CheckBlocksResponse, CheckMembersRequest, CheckMembersResponse, EntriesRequest,
        EntriesResponse, EntryId, EntryPlace, EntryRequest, EntryResponse, GetMembershipRequest,
        GetMembershipResponse, HistoryRequest, HistoryResponse, ListAcquaintancesRequest,
        ListAcquaintancesResponse, ListCalledRequest, ListCalledResponse, ListChatsRequest,
        ListChatsResponse, ListMembershipsRequest, ListMembershipsResponse, ListPublishedRequest,
        ListPublishedResponse, ListResponse, MarkRequest, Membership, MovedRequest, MovedResponse,
        PinsRequest, RepliesRequest, SyncRequest, SyncResponse, Watermarks,
        chat_directory_server::{ChatDirectory, ChatDirectoryServer},
        chat_service_client::ChatServiceClient,
        chat_service_server::{ChatService, ChatServiceServer},
        message_service_client::MessageServiceClient,
        message_service_server::{MessageService, MessageServiceServer},
    },
    wire::{Changes, Message},
};
use kit::{
    bucket::Rate,
    catalog::Topic,
    health::Health,
    log::Log,
    rpc::InternalChannel,
    testing::{TestApi, TestRealm, TestUser, serve_peer, unreachable_peer, wait_for},
};
use search::{
    AppState, Metrics, Searches,
    domain::Analyzer,
    events::{Indexer, Source, Standing, Times},
    routes,
    store::{EmbeddedIndex, Index},
};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait, service::Routes};
use uuid::Uuid;

pub const TENANT: &str = "acme";
pub const PATIENCE: Duration = Duration::from_secs(30);
const TIMES: Times =
    Times { write_after: Duration::from_millis(10), forget_every: Duration::from_millis(200) };
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
pub fn index_in(folder: &Path) -> Arc<dyn Index> {
    index_of(folder, TENANT)
}

/// Returns an index of any tenant in a folder.
pub fn index_of(folder: &Path, tenant: &str) -> Arc<dyn Index> {
    Arc::new(EmbeddedIndex::open(folder, tenant, analyzer()).expect("an index"))
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

    /// Starts the service with a new index in memory, and waits until it is complete.
    pub async fn service(&self) -> Running {
        let running = self.start(Arc::new(EmbeddedIndex::in_memory(analyzer()).expect("an index"))).await;
        running.is_complete().await;
        running
    }

    /// Starts the service on an index, which may not be complete yet.
    pub async fn start(&self, index: Arc<dyn Index>) -> Running {
        let channel = self.peers.serve().await;
        self.start_with(index, channel.clone(), channel).await
    }

    /// Starts the service without a chat service that answers searches.
    pub async fn start_without_chats(&self) -> Running {
        let index = Arc::new(EmbeddedIndex::in_memory(analyzer()).expect("an index"));
        self.start_with(index, self.peers.serve().await, unreachable_peer()).await
    }

    async fn start_with(
        &self,
        index: Arc<dyn Index>,
        source: InternalChannel,
        chats: InternalChannel,
    ) -> Running {
        let (standing, metrics) = (Arc::new(Standing::default()), Metrics::default());
        let stop = CancellationToken::new();
        let indexer = Indexer {
            tenant: self.tenant.clone(),
            log: self.log.clone(),
            index: index.clone(),
            source: Source::new(source.clone(), source.clone()),
            standing: standing.clone(),
            metrics: metrics.clone(),
            check: Health::default().check("log"),
            stop: stop.clone(),
            times: self.times,
        };
        let task = tokio::spawn(indexer.run());
        let state = AppState {
            index,
            analyzer: analyzer(),
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
    pub async fn is_complete(&self) {
        let complete = || async { self.standing.is_complete().then_some(()) };
        wait_for("a complete index", PATIENCE, complete).await;
    }

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

    /// Returns the seqs that a user finds, the newest first.
    pub async fn seqs(&self, user: &TestUser, query: &str) -> Vec<i64> {
        self.page(user, query).await.items.iter().map(|found| found.seq).collect()
    }

    /// Waits until a user finds these and no others.
    pub async fn finds(&self, user: &TestUser, query: &str, expected: &[i64]) {
        let found = || async { (self.seqs(user, query).await == expected).then_some(()) };
        wait_for(&format!("{expected:?} by {query}"), PATIENCE, found).await;
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

/// Returns the announcement of an entry of any kind.
pub fn entry(chat: ChatId, sender: UserId, seq: i64, kind: EntryKind, body: &str) -> DeliveredRecord {
    DeliveredRecord {
        v: VERSION,
        chat,
        sender,
        device: DeviceId(Uuid::nil()),
        key: MessageKey(Uuid::from_u128(seq.unsigned_abs().into())),
        outcome: DeliveryOutcome::Stored {
            seq,
            kind,
            body: body.to_owned(),
            subject: None,
            target_seq: None,
            mentions: Vec::new(),
            mention_roles: Vec::new(),
            mentions_all: false,
            mentions_here: false,
            silent: false,
            forwarded: None,
            range: None,
            attachments: Vec::new(),
            sent_at_ms: BEGAN_MS + seq * 1_000,
            subject_only: false,
            expires_at_ms: None,
            place: None,
        },
    }
}

pub fn text(chat: ChatId, sender: UserId, seq: i64, body: &str) -> DeliveredRecord {
    entry(chat, sender, seq, EntryKind::Text, body)
}

/// Returns the announcement of an entry that speaks of another one.
pub fn about(target: i64, mut record: DeliveredRecord) -> DeliveredRecord {
    if let DeliveryOutcome::Stored { target_seq, .. } = &mut record.outcome {
        *target_seq = Some(target);
    }
    record
}

/// Returns the announcement of the deletion of a range.
pub fn range_deleted(chat: ChatId, sender: UserId, seq: i64, of: SeqRange) -> DeliveredRecord {
    let mut record = entry(chat, sender, seq, EntryKind::DeleteRange, "");
    if let DeliveryOutcome::Stored { range, .. } = &mut record.outcome {
        *range = Some(of);
    }
    record
}

/// Lets a text disappear.
pub fn expiring(at_ms: i64, mut record: DeliveredRecord) -> DeliveredRecord {
    if let DeliveryOutcome::Stored { expires_at_ms, .. } = &mut record.outcome {
        *expires_at_ms = Some(at_ms);
    }
    record
}

/// Returns an entry as the message service has it.
pub fn stored(record: DeliveredRecord) -> Message {
    let DeliveredRecord { chat, sender, key, outcome, .. } = record;
    let DeliveryOutcome::Stored { seq, kind, body, target_seq, range, sent_at_ms, expires_at_ms, .. } =
        outcome
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
        attachments: Vec::new(),
        sent_at_ms,
        expires_at_ms,
        expired: false,
        changes: Changes::default(),
    }
}

/// The chat and the message service in memory.
#[derive(Clone)]
pub struct Peers(Arc<Known>);

type Entries = BTreeMap<(String, i64), Message>;

struct Known {
    /// Most entries of a page of history.
    page_entries: usize,
    /// Chats by the user who is in them, each with the entry with which the history begins.
    seats: Mutex<BTreeMap<(String, String), Option<EntryId>>>,
    /// Entries by chat and seq, as they are now.
    entries: Mutex<Entries>,
    /// Pages of history that were read.
    pages: AtomicUsize,
    /// Pages wait here, with what they read already, while it is there.
    gate: Mutex<Option<Arc<Semaphore>>>,
}

impl Peers {
    /// Returns services without chats. A page of history has so many entries, fewer than are requested, as long texts make them.
    pub fn with_pages_of(entries: usize) -> Self {
        Self(Arc::new(Known {
            page_entries: entries,
            seats: Mutex::default(),
            entries: Mutex::default(),
            pages: AtomicUsize::default(),
            gate: Mutex::default(),
        }))
    }

    async fn serve(&self) -> InternalChannel {
        let routes = Routes::new(ChatServiceServer::new(self.clone()))
            .add_service(ChatDirectoryServer::new(self.clone()))
            .add_service(MessageServiceServer::new(self.clone()));
        serve_peer(routes).await
    }

    fn seats(&self) -> MutexGuard<'_, BTreeMap<(String, String), Option<EntryId>>> {
        self.0.seats.lock().expect("no panic")
    }

    /// Adds a user to a chat, who reads all of it.
    pub fn join(&self, chat: ChatId, user: &TestUser) {
        self.seats().insert((user.id.to_string(), chat.to_string()), None);
    }

    /// Adds a user to a chat, who reads it from the entry that adds them.
    pub fn join_by(&self, chat: ChatId, user: &TestUser, added: &DeliveredRecord) {
        let entry = EntryId { sender_id: added.sender.to_string(), key: added.key.to_string() };
        self.seats().insert((user.id.to_string(), chat.to_string()), Some(entry));
    }

    pub fn leave(&self, chat: ChatId, user: &TestUser) {
        self.seats().remove(&(user.id.to_string(), chat.to_string()));
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
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

    /// Stores the history of a chat, in the place of what is there.
    pub fn store(&self, chat: ChatId, messages: Vec<Message>) {
        let chat = chat.to_string();
        let mut entries = self.entries();
        entries.retain(|(of, _), _| *of != chat);
        entries.extend(messages.into_iter().map(|message| ((chat.clone(), message.seq), message)));
    }

    /// Returns how many pages of history were read.
    pub fn pages(&self) -> usize {
        self.0.pages.load(Ordering::SeqCst)
    }

    /// Lets pages wait, once they are read, until there are permits.
    pub fn hold(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.0.gate.lock().expect("no panic") = Some(gate.clone());
        gate
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
    } else if changes.edited_seq.is_none_or(|seq| seq < entry.seq) {
        changes.edited_seq = Some(entry.seq);
        target.body.clone_from(&entry.body);
    }
}

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the search service does not call it"))
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
        Ok(Response::new(ListMembershipsResponse { memberships: memberships.collect() }))
    }

    async fn list_published(
        &self,
        _: Request<ListPublishedRequest>,
    ) -> Result<Response<ListPublishedResponse>, Status> {
        not_here()
    }

    async fn get_membership(
        &self,
        _: Request<GetMembershipRequest>,
    ) -> Result<Response<GetMembershipResponse>, Status> {
        not_here()
    }

    async fn check_members(
        &self,
        _: Request<CheckMembersRequest>,
    ) -> Result<Response<CheckMembersResponse>, Status> {
        not_here()
    }

    async fn check_blocks(
        &self,
        _: Request<CheckBlocksRequest>,
    ) -> Result<Response<CheckBlocksResponse>, Status> {
        not_here()
    }

    async fn list_acquaintances(
        &self,
        _: Request<ListAcquaintancesRequest>,
    ) -> Result<Response<ListAcquaintancesResponse>, Status> {
        not_here()
    }

    async fn list_called(
        &self,
        _: Request<ListCalledRequest>,
    ) -> Result<Response<ListCalledResponse>, Status> {
        not_here()
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

    async fn entry(&self, _: Request<EntryRequest>) -> Result<Response<EntryResponse>, Status> {
        not_here()
    }

    async fn entries(&self, request: Request<EntriesRequest>) -> Result<Response<EntriesResponse>, Status> {
        let entries = self.entries();
        let places = request.into_inner().places.into_iter();
        let found = places.filter_map(|EntryPlace { chat_id, seq }| entries.get(&(chat_id, seq)));
        Ok(Response::new(EntriesResponse { messages: found.cloned().map(Into::into).collect() }))
    }

    async fn pins(&self, _: Request<PinsRequest>) -> Result<Response<ListResponse>, Status> {
        not_here()
    }

    async fn replies(&self, _: Request<RepliesRequest>) -> Result<Response<ListResponse>, Status> {
        not_here()
    }

    async fn sync(&self, _: Request<SyncRequest>) -> Result<Response<SyncResponse>, Status> {
        not_here()
    }

    async fn moved(&self, _: Request<MovedRequest>) -> Result<Response<MovedResponse>, Status> {
        not_here()
    }

    async fn mark(&self, _: Request<MarkRequest>) -> Result<Response<Watermarks>, Status> {
        not_here()
    }
}
