//! A moderation service with a log and a store in memory, and with services beside it that note what they were called for.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use contracts::{
    ChatId, DeviceId, MessageKey, RuleSetId, SanctionId, UserId,
    api::{Figures, Rule, RuleSet, RuleSetState, Sanction, SanctionKind},
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, SendRecord, VERSION},
    rpc::{
        self, AccountSession, CountUsersRequest, CountUsersResponse, EndSessionRequest, EndSessionResponse,
        EntriesRequest, EntriesResponse, EntryRequest, EntryResponse, GetAccountClosedRequest,
        GetAccountClosedResponse, GetNamedUsersRequest, GetNamedUsersResponse, GetUsersRequest,
        GetUsersResponse, HistoryRequest, HistoryResponse, ListDeletionsRequest, ListDeletionsResponse,
        ListResponse, ListSessionsRequest, ListSessionsResponse, MarkRequest, MovedRequest, MovedResponse,
        PinsRequest, RepliesRequest, RestrictRequest, RestrictResponse, SetAccountClosedRequest,
        SetAccountClosedResponse, SyncRequest, SyncResponse, Watermarks,
        account_service_server::{AccountService, AccountServiceServer},
        chat_restrictions_server::{ChatRestrictions, ChatRestrictionsServer},
        message_service_server::{MessageService, MessageServiceServer},
        user_service_server::{UserService, UserServiceServer},
    },
};
use kit::{
    bucket::Rate,
    catalog::Topic,
    clock::now_ms,
    health::Health,
    log::{Event, Log, Start},
    testing::{TestApi, TestRealm, TestUser, serve_peer, wait_for},
};
use moderation::{
    api::{self, AppState, HasClassifier, KeptUsage, Moderators, Pace, SessionPace},
    carrying_out::{Wake, Worker},
    domain::Change,
    events::Follower,
    metrics::Metrics,
    peers,
    shadowing::Shadows,
    store::{MemoryStore, ModerationStore as _},
};
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, async_trait, service::Routes};
use uuid::Uuid;

pub const TENANT: &str = "acme";
/// A moderator who is named by the id.
pub const MODERATOR_ID: UserId = UserId(Uuid::from_u128(0x0da7_e001));
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Requests of a moderator about sessions. No test waits for another one.
pub const SESSION_REQUESTS: u32 = 12;
const SESSIONS_RATE: Rate = Rate::every(Duration::from_secs(3_600), SESSION_REQUESTS);
const RATE: Rate = Rate::every(Duration::from_millis(1), 1_000);

/// The service of a tenant, which `mod` moderates. Its tasks end with it.
pub struct Stand {
    pub api: TestApi,
    pub realm: TestRealm,
    pub log: Log,
    pub store: Arc<MemoryStore>,
    pub peers: Peers,
    stop: CancellationToken,
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Stand {
    pub async fn start() -> Self {
        Self::with(HasClassifier(false)).await
    }

    /// Starts a service that has a classifier, and leaves it to the test when it is asked.
    pub async fn with_classifier() -> Self {
        Self::with(HasClassifier(true)).await
    }

    async fn with(has_classifier: HasClassifier) -> Self {
        let (realm, log, stop) = (TestRealm::start(TENANT).await, Log::memory(), CancellationToken::new());
        let (store, wake) = (Arc::new(MemoryStore::default()), Wake::default());
        let peers = Peers::default();
        let channel = peers.channel().await;
        let called = peers::Peers::new(channel.clone(), channel.clone(), channel.clone(), channel);
        let follower = Follower {
            store: store.clone(),
            log: log.clone(),
            tenant: TENANT.to_owned(),
            metrics: Metrics::default(),
            wake: wake.clone(),
            has_classifier: has_classifier.0,
            shutdown: stop.clone(),
        };
        tokio::spawn(follower.start().expect("it joins the group"));
        let producer = log.lasting_producer(None).expect("a producer");
        let worker =
            Worker::new(store.clone(), producer, TENANT, called.clone(), Metrics::default(), wake.clone());
        tokio::spawn(worker.run(stop.clone()));
        let shadows = Shadows::new(store.clone(), log.clone(), TENANT, TaskTracker::new(), stop.clone());
        let state = AppState {
            store: store.clone(),
            moderators: Moderators::parse(&format!(" mod, other, id:{MODERATOR_ID}, id:none")),
            pace: Pace::new(RATE),
            session_pace: SessionPace::new(SESSIONS_RATE),
            peers: called,
            shadows,
            usage: KeptUsage::new(Duration::ZERO),
            metrics: Metrics::default(),
            wake,
            has_classifier,
        };
        let api = TestApi::new(api::router(state), &realm);
        Self { api, realm, log, store, peers, stop }
    }

    /// Returns the moderator.
    pub fn moderator(&self) -> TestUser {
        self.realm.user("mod")
    }

    /// Announces entries, as the message service does.
    pub async fn announce(&self, records: impl IntoIterator<Item = DeliveredRecord>) {
        let producer = self.log.producer(Some(PATIENCE)).expect("a producer");
        for record in records {
            let payload = serde_json::to_vec(&record).expect("json");
            let topic = Topic::MessageDelivered.of(TENANT);
            let delivery = producer.send(&topic, &record.chat.to_string(), Some(&payload));
            delivery.expect("room").await.expect("in the log");
        }
    }

    /// Creates a rule set that is in force since long ago.
    pub async fn enforce(&self, rules: Value) -> RuleSetId {
        let set = rule_set(rules, RuleSetState::Enforced);
        let id = set.id;
        self.store.act(&[Change::RuleSetCreated(set)]).await.expect("it is created");
        id
    }

    /// Waits until a rule set has caught so many entries, and returns its figures.
    pub async fn caught(&self, id: RuleSetId, caught: i64) -> Figures {
        wait_for(&format!("{caught} verdicts"), PATIENCE, || async {
            let figures = self.store.figures(id).await.expect("a read");
            (figures.caught == caught).then_some(figures)
        })
        .await
    }

    /// Waits until so many records were sent, and returns them.
    pub async fn sent(&self, count: usize) -> Vec<SendRecord> {
        wait_for(&format!("{count} records that were sent"), PATIENCE, || async {
            let check = Health::default().check("log");
            let topic = Topic::MessageSend.of(TENANT);
            let mut follower =
                self.log.follow(&topic, "test", Start::Beginning, &check, &self.stop).await.expect("a log");
            let mut open: BTreeSet<i32> = follower.partitions().into_iter().collect();
            let mut records = Vec::new();
            while !open.is_empty() {
                match follower.next(&self.stop).await.expect("it goes on") {
                    Event::End(partition) => {
                        open.remove(&partition);
                    }
                    Event::Record(record) => {
                        let payload = record.payload().expect("a payload");
                        records.push(serde_json::from_slice(payload).expect("a record"));
                    }
                }
            }
            (records.len() >= count).then_some(records)
        })
        .await
    }

    pub async fn post(&self, user: &TestUser, path: &str, body: Value, status: u16) -> Value {
        self.api.post(user, &format!("/api/moderation/{path}"), body).await.ok(status)
    }

    pub async fn get(&self, user: &TestUser, path: &str) -> Value {
        self.api.get(user, &format!("/api/moderation/{path}")).await.ok(200)
    }
}

/// Returns a rule set of these rules.
pub fn rule_set(rules: Value, state: RuleSetState) -> RuleSet {
    let rules: Vec<Rule> = serde_json::from_value(rules).expect("rules");
    RuleSet {
        id: RuleSetId::generate(),
        name: "set".to_owned(),
        rules,
        state,
        created_by: UserId(Uuid::from_u128(1)),
        created_at_ms: 1,
        enforced_from_ms: (state != RuleSetState::Draft).then_some(1),
        retired_from_ms: None,
    }
}

/// Returns rules of words that are deleted.
pub fn words(words: &[&str]) -> Value {
    json!([{"name": "words", "test": {"words": {"words": words}}, "action": {"delete": true}}])
}

/// Returns what was decided about a user.
pub fn sanction(user: UserId, chat: Option<ChatId>, kind: SanctionKind, until_ms: Option<i64>) -> Sanction {
    Sanction {
        id: SanctionId::generate(),
        user,
        chat,
        kind,
        until_ms,
        note: "a note".to_owned(),
        by: Some(UserId::generate()),
        created_at_ms: 1,
        lifted: None,
    }
}

/// Returns the announcement of an entry.
pub fn entry(
    chat: ChatId,
    sender: UserId,
    seq: i64,
    (kind, target_seq): (EntryKind, Option<i64>),
    body: &str,
) -> DeliveredRecord {
    let mut outcome = DeliveryOutcome::stored(seq, kind, body, now_ms() - 1_000_000 + seq * 1_000);
    if let DeliveryOutcome::Stored { target_seq: of, .. } = &mut outcome {
        *of = target_seq;
    }
    DeliveredRecord {
        v: VERSION,
        chat,
        sender,
        device: DeviceId(Uuid::nil()),
        key: MessageKey(Uuid::from_u128(seq.unsigned_abs().into())),
        outcome,
    }
}

pub fn text(chat: ChatId, sender: UserId, seq: i64, body: &str) -> DeliveredRecord {
    entry(chat, sender, seq, (EntryKind::Text, None), body)
}

/// What holds for users, by chat and user: until when they are silent, and whether they are out.
type Restrictions = BTreeMap<(String, String), (i64, bool)>;

/// Messages with those who read them.
type Messages = Vec<(rpc::Message, Vec<String>)>;

/// The auth, the chat and the message service in memory.
#[derive(Clone, Default)]
pub struct Peers {
    /// Whether accounts are closed, by user.
    pub closed: Arc<Mutex<BTreeMap<String, bool>>>,
    pub restricted: Arc<Mutex<Restrictions>>,
    /// Sessions with their users.
    pub sessions: Arc<Mutex<Vec<(UserId, String)>>>,
    messages: Arc<Mutex<Messages>>,
    /// Whether the chat service hangs, and how many calls did.
    hangs: Arc<AtomicBool>,
    hung: Arc<AtomicUsize>,
    /// Usernames of profiles.
    pub names: Arc<Mutex<BTreeMap<String, String>>>,
    /// Users whose accounts are deleted.
    pub deleted: Arc<Mutex<Vec<UserId>>>,
    /// Whether the realm is down.
    pub realm_is_down: Arc<AtomicBool>,
}

impl Peers {
    pub async fn channel(&self) -> kit::rpc::InternalChannel {
        let routes = Routes::new(AccountServiceServer::new(self.clone()))
            .add_service(ChatRestrictionsServer::new(self.clone()))
            .add_service(MessageServiceServer::new(self.clone()))
            .add_service(UserServiceServer::new(self.clone()));
        serve_peer(routes).await
    }

    /// Stores a message that these users read.
    pub fn store(&self, chat: ChatId, seq: i64, sender: UserId, body: &str, readers: &[&TestUser]) {
        let message = rpc::Message {
            chat_id: chat.to_string(),
            seq,
            sender_id: sender.to_string(),
            key: Uuid::nil().to_string(),
            kind: "text".to_owned(),
            body: body.to_owned(),
            sent_at_ms: 5,
            ..rpc::Message::default()
        };
        let readers = readers.iter().map(|user| user.id.to_string()).collect();
        let mut messages = self.messages.lock().expect("no panic");
        messages.retain(|(other, _)| (&other.chat_id, other.seq) != (&message.chat_id, seq));
        messages.push((message, readers));
    }

    /// Lets every call of the chat service hang from here on.
    pub fn hang(&self) {
        self.hangs.store(true, Ordering::Relaxed);
    }

    fn realm_is_up(&self) -> Result<(), Status> {
        if self.realm_is_down.load(Ordering::Relaxed) {
            return Err(Status::unavailable("the realm is down"));
        }
        Ok(())
    }

    /// Waits until one does.
    pub async fn is_hanging(&self) {
        wait_for("a call that hangs", PATIENCE, || async {
            (self.hung.load(Ordering::Relaxed) > 0).then_some(())
        })
        .await;
    }

    /// Waits until an account is closed, or open again.
    pub async fn is_closed(&self, user: UserId, expected: bool) {
        wait_for("the account", PATIENCE, || async {
            let closed = self.closed.lock().expect("no panic");
            (closed.get(&user.to_string()) == Some(&expected)).then_some(())
        })
        .await;
    }

    /// Waits until it holds for a user in a chat, or everywhere, whether they are silent and whether they are banned.
    pub async fn is_restricted(&self, user: UserId, chat: Option<ChatId>, expected: (bool, bool)) {
        wait_for("the restriction", PATIENCE, || async {
            let place = (user.to_string(), chat.map(|chat| chat.to_string()).unwrap_or_default());
            let restricted = self.restricted.lock().expect("no panic");
            let (until_ms, is_out) = *restricted.get(&place)?;
            ((until_ms > now_ms(), is_out) == expected).then_some(())
        })
        .await;
    }
}

#[async_trait]
impl AccountService for Peers {
    async fn set_account_closed(
        &self,
        request: Request<SetAccountClosedRequest>,
    ) -> Result<Response<SetAccountClosedResponse>, Status> {
        let SetAccountClosedRequest { user_id, closed } = request.into_inner();
        self.realm_is_up()?;
        self.closed.lock().expect("no panic").insert(user_id, closed);
        Ok(Response::new(SetAccountClosedResponse {}))
    }

    async fn get_account_closed(
        &self,
        request: Request<GetAccountClosedRequest>,
    ) -> Result<Response<GetAccountClosedResponse>, Status> {
        self.realm_is_up()?;
        let user_id = request.into_inner().user_id;
        let closed = self.closed.lock().expect("no panic").get(&user_id).copied().unwrap_or(false);
        Ok(Response::new(GetAccountClosedResponse { closed }))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        self.realm_is_up()?;
        let user_id = request.into_inner().user_id;
        let all = self.sessions.lock().expect("no panic");
        let session = |(_, id): &(UserId, String)| AccountSession {
            session_id: id.clone(),
            started_at_ms: 1,
            last_used_at_ms: 2,
        };
        let sessions = all.iter().filter(|(user, _)| user.to_string() == user_id).map(session).collect();
        Ok(Response::new(ListSessionsResponse { sessions }))
    }

    async fn end_session(
        &self,
        request: Request<EndSessionRequest>,
    ) -> Result<Response<EndSessionResponse>, Status> {
        let EndSessionRequest { user_id, session_id } = request.into_inner();
        let mut all = self.sessions.lock().expect("no panic");
        all.retain(|(user, id)| user.to_string() != user_id || *id != session_id);
        Ok(Response::new(EndSessionResponse {}))
    }
}

#[async_trait]
impl ChatRestrictions for Peers {
    async fn restrict(
        &self,
        request: Request<RestrictRequest>,
    ) -> Result<Response<RestrictResponse>, Status> {
        if self.hangs.load(Ordering::Relaxed) {
            self.hung.fetch_add(1, Ordering::Relaxed);
            pending::<()>().await;
        }
        let RestrictRequest { user_id, chat_id, until_ms, remove, ban } = request.into_inner();
        assert!(!(remove && ban), "a ban is of a chat or of all");
        self.restricted.lock().expect("no panic").insert((user_id, chat_id), (until_ms, remove || ban));
        Ok(Response::new(RestrictResponse {}))
    }
}

#[async_trait]
impl UserService for Peers {
    async fn count_users(
        &self,
        _: Request<CountUsersRequest>,
    ) -> Result<Response<CountUsersResponse>, Status> {
        Ok(Response::new(CountUsersResponse { users: 12 }))
    }

    async fn get_users(
        &self,
        request: Request<GetUsersRequest>,
    ) -> Result<Response<GetUsersResponse>, Status> {
        let names = self.names.lock().expect("no panic");
        let user = |user_id: String| {
            let username = names.get(&user_id)?.clone();
            Some(rpc::User { user_id, username, ..rpc::User::default() })
        };
        let users = request.into_inner().user_ids.into_iter().filter_map(user).collect();
        Ok(Response::new(GetUsersResponse { users }))
    }

    async fn get_named_users(
        &self,
        request: Request<GetNamedUsersRequest>,
    ) -> Result<Response<GetNamedUsersResponse>, Status> {
        let usernames = request.into_inner().usernames;
        let names = self.names.lock().expect("no panic");
        let named = names.iter().filter(|(_, username)| usernames.contains(username));
        let user = |(user_id, username): (&String, &String)| rpc::User {
            user_id: user_id.clone(),
            username: username.clone(),
            ..rpc::User::default()
        };
        Ok(Response::new(GetNamedUsersResponse { users: named.map(user).collect() }))
    }

    async fn list_deletions(
        &self,
        request: Request<ListDeletionsRequest>,
    ) -> Result<Response<ListDeletionsResponse>, Status> {
        let after = request.into_inner().after.parse().unwrap_or(0);
        let deletion = |(at, user): (usize, &UserId)| rpc::Deletion {
            user_id: user.to_string(),
            position: (at + 1).to_string(),
            age_seconds: 3_600,
        };
        let deleted = self.deleted.lock().expect("no panic");
        let deletions = deleted.iter().enumerate().skip(after).map(deletion).collect();
        Ok(Response::new(ListDeletionsResponse { deletions }))
    }
}

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the moderation service does not call it"))
}

#[async_trait]
impl MessageService for Peers {
    async fn entry(&self, request: Request<EntryRequest>) -> Result<Response<EntryResponse>, Status> {
        let EntryRequest { chat_id, user_id, seq, .. } = request.into_inner();
        let messages = self.messages.lock().expect("no panic");
        let in_chat = || messages.iter().filter(|(message, _)| message.chat_id == chat_id);
        if !in_chat().any(|(_, readers)| readers.contains(&user_id)) {
            return Err(Status::permission_denied("not a member"));
        }
        let found = in_chat().find(|(message, readers)| message.seq == seq && readers.contains(&user_id));
        let (message, _) = found.ok_or_else(|| Status::not_found("no such entry"))?;
        Ok(Response::new(EntryResponse { message: Some(message.clone()), ..EntryResponse::default() }))
    }

    async fn history(&self, _: Request<HistoryRequest>) -> Result<Response<HistoryResponse>, Status> {
        not_here()
    }

    async fn entries(&self, _: Request<EntriesRequest>) -> Result<Response<EntriesResponse>, Status> {
        not_here()
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
