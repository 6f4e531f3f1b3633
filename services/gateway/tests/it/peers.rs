//! What stands in for the services that the gateway calls.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use contracts::{
    ChatId, DeviceId, MessageKey, UserId,
    api::OwnChatState,
    event::{
        ChatKind, DeliveredRecord, DeliveryOutcome, Ended, EntryKind, MembershipRecord, OwnStateRecord,
        RestrictionRecord, Role, SendRecord, SessionEndRecord, VERSION,
    },
    rpc::{
        Changes, ChatState, CheckMembersRequest, CheckMembersResponse, EntryRequest, EntryResponse,
        GetMembershipRequest, GetMembershipResponse, Head, HistoryRequest, HistoryResponse,
        ListCalledRequest, ListCalledResponse, ListMembershipsRequest, ListMembershipsResponse,
        ListPublishedRequest, ListPublishedResponse, ListResponse, MarkRequest, Member, Membership, Message,
        MovedRequest, MovedResponse, PinsRequest, PublishedPlace, PublishedRecord, RepliesRequest,
        Restriction, SyncRequest, SyncResponse, Watermarks,
        chat_service_server::{ChatService, ChatServiceServer},
        media_service_server::MediaServiceServer,
        message_service_server::{MessageService, MessageServiceServer},
        presence_service_server::PresenceServiceServer,
    },
    wire,
};
use kit::{catalog::Topic, config::KafkaArgs, testing::TestUsers};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
    producer::{FutureProducer, FutureRecord},
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{files::FakeMedia, presence::FakePresence, stand::PARTITIONS};

pub const INTERNAL_TOKEN: &str = "internal";

/// The chat and the message service of a tenant, in memory.
#[derive(Clone)]
pub struct Peers {
    tenant: String,
    producer: FutureProducer,
    members: Arc<Mutex<HashMap<String, BTreeSet<String>>>>,
    /// How many records of `chat.events` each chat has.
    records: Arc<Mutex<HashMap<String, i64>>>,
    /// What was published of memberships.
    published: Arc<Mutex<Published>>,
    messages: Arc<Mutex<HashMap<String, Vec<Message>>>>,
    /// Direct chats to which nothing is sent: one of the two has left, or a block is between them.
    closed: Arc<Mutex<BTreeSet<String>>>,
    /// Users whom moderators let write nothing, in a chat or, with no chat, everywhere.
    restricted: Arc<Mutex<BTreeSet<(String, String)>>>,
    /// Users who moderate every chat that they are in.
    moderators: Arc<Mutex<BTreeSet<String>>>,
    /// Whether the chat service answers checks.
    pub answers_checks: Arc<AtomicBool>,
    /// Whether it lists what was published.
    pub answers_lists: Arc<AtomicBool>,
    /// How long it takes to list the chats of a user, in milliseconds.
    pub listing_ms: Arc<AtomicU32>,
    /// Whose chats it was asked to list.
    pub listed: Arc<Mutex<Vec<String>>>,
    /// Whether the message service says which keys it knows.
    pub answers_keys: Arc<AtomicBool>,
    /// How long members wait between two messages.
    pub slow_mode_seconds: Arc<AtomicU32>,
    /// How many messages are pinned in every chat.
    pub pins: Arc<AtomicU32>,
    /// When messages are stored, but for their number.
    pub clock_ms: Arc<AtomicI64>,
    pub presence: FakePresence,
    pub media: FakeMedia,
    pub users: TestUsers,
}

/// What was published of memberships, as the chat service lists it.
struct Published {
    /// Their ids begin at 1. The first one was there before the gateway.
    records: Vec<PublishedRecord>,
    /// Records before this one are forgotten.
    first: usize,
    /// Of a database that was restored, the records have other times.
    restored: i64,
    /// Whether a gateway has read it.
    is_begun: bool,
    /// The place that a gateway named last: what is before it, it has taken.
    read: Option<PublishedPlace>,
}

impl Default for Published {
    fn default() -> Self {
        let records = vec![PublishedRecord::default()];
        Self { records, first: 1, restored: 0, is_begun: false, read: None }
    }
}

impl Published {
    fn place(&self, id: usize) -> Option<PublishedPlace> {
        let is_listed = id >= self.first && id <= self.records.len();
        let place = |id| PublishedPlace { id, at_us: self.restored * 1_000_000 + id };
        is_listed.then(|| place(i64::try_from(id).expect("few")))
    }

    fn page(&mut self, from: Option<PublishedPlace>) -> ListPublishedResponse {
        let begin = from.and_then(|from| usize::try_from(from.id).ok());
        let begin = begin.filter(|begin| self.place(*begin) == from);
        // In small pages.
        let end = begin.map_or(self.records.len(), |begin| self.records.len().min(begin + 2));
        let place = self.place(end);
        (self.is_begun, self.read) = (true, from);
        ListPublishedResponse {
            records: begin.map(|begin| self.records[begin..end].to_vec()).unwrap_or_default(),
            last: place.map_or(0, |place| place.id),
            more: end < self.records.len(),
            place,
            follows: begin.is_some(),
        }
    }
}

impl Peers {
    pub fn new(tenant: &str, kafka: &KafkaArgs) -> Self {
        let producer = kit::kafka::producer_config(kafka).create().expect("a producer");
        Self {
            tenant: tenant.to_owned(),
            producer,
            members: Arc::default(),
            records: Arc::default(),
            published: Arc::default(),
            messages: Arc::default(),
            closed: Arc::default(),
            restricted: Arc::default(),
            moderators: Arc::default(),
            answers_checks: Arc::new(AtomicBool::new(true)),
            answers_lists: Arc::new(AtomicBool::new(true)),
            listing_ms: Arc::default(),
            listed: Arc::default(),
            answers_keys: Arc::new(AtomicBool::new(true)),
            slow_mode_seconds: Arc::default(),
            pins: Arc::default(),
            clock_ms: Arc::new(AtomicI64::new(1_767_225_600_000)),
            presence: FakePresence::default(),
            media: FakeMedia::default(),
            users: TestUsers::default(),
        }
    }

    /// Serves gRPC until the test ends.
    pub async fn serve(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let routes = tonic::service::Routes::new(ChatServiceServer::new(self.clone()))
            .add_service(MessageServiceServer::new(self.clone()))
            .add_service(PresenceServiceServer::new(self.presence.clone()))
            .add_service(MediaServiceServer::new(self.media.clone()))
            .add_service(self.users.server())
            .into_axum_router();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        addr
    }

    /// Makes users members: in the chat service immediately, in the event log right after.
    pub async fn join(&self, chat: ChatId, users: &[UserId]) {
        for user in users {
            self.join_silently(chat, *user);
            self.tell(chat, *user, Some(Role::Member)).await;
        }
    }

    /// Writes the next record of the chat about a user, as the chat service would.
    async fn tell(&self, chat: ChatId, user: UserId, role: Option<Role>) {
        let record = self.record(chat, user, role);
        self.produce(Topic::ChatEvents, &record.key, Some(record.payload.as_bytes())).await;
        if role.is_none() {
            self.produce(Topic::ChatEvents, &record.key, None).await;
        }
        self.published.lock().expect("no panic").records.push(record);
    }

    /// Publishes the next record of the chat about a user, which the log loses.
    pub fn tell_in_vain(&self, chat: ChatId, user: UserId, role: Option<Role>) {
        let record = self.record(chat, user, role);
        self.published.lock().expect("no panic").records.push(record);
    }

    /// Forgets what was published but for the newest record.
    pub fn forget_published(&self) {
        let mut published = self.published.lock().expect("no panic");
        published.first = published.records.len();
    }

    /// Gives everything that was published other times, as after a restore of the database.
    pub fn restore_published(&self) {
        self.published.lock().expect("no panic").restored += 1;
    }

    /// Returns whether the gateway has begun to read what was published.
    pub fn is_reading_begun(&self) -> bool {
        self.published.lock().expect("no panic").is_begun
    }

    /// Returns whether the gateway has taken all that was published.
    pub fn is_published_read(&self) -> bool {
        let published = self.published.lock().expect("no panic");
        published.read == published.place(published.records.len())
    }

    fn record(&self, chat: ChatId, user: UserId, role: Option<Role>) -> PublishedRecord {
        let record = MembershipRecord {
            v: VERSION,
            chat,
            user,
            role,
            kind: Some(kind_of(self.size(chat) as usize)),
            version: self.count_record(chat),
            members: self.size(chat),
            from_entry: false,
        };
        let payload = serde_json::to_string(&record).expect("json");
        PublishedRecord { key: MembershipRecord::key(chat, user), payload }
    }

    /// Changes how a user has a chat, as the chat service would.
    pub async fn own(&self, chat: ChatId, user: UserId, own: OwnChatState) {
        let record = OwnStateRecord { v: VERSION, chat, user, own };
        let payload = serde_json::to_vec(&record).expect("json");
        let key = OwnStateRecord::key(chat, user);
        self.produce(Topic::ChatEvents, &key, Some(&payload)).await;
        self.produce(Topic::ChatEvents, &key, None).await;
    }

    /// Counts a record of a chat, and returns its number. Counted and not written, it is lost.
    pub fn count_record(&self, chat: ChatId) -> i64 {
        let mut records = self.records.lock().expect("no panic");
        let count = records.entry(chat.to_string()).or_default();
        *count += 1;
        *count
    }

    fn size(&self, chat: ChatId) -> u32 {
        let members = self.members.lock().expect("no panic");
        members.get(&chat.to_string()).map_or(0, |members| u32::try_from(members.len()).expect("few"))
    }

    /// Makes a user an admin of every chat that they are in.
    pub fn promote(&self, user: UserId) {
        self.moderators.lock().expect("no panic").insert(user.to_string());
    }

    /// Makes a user a plain member again.
    pub fn demote(&self, user: UserId) {
        self.moderators.lock().expect("no panic").remove(&user.to_string());
    }

    /// Changes a message as an entry that was stored would.
    pub fn change(&self, chat: ChatId, seq: i64, change: impl FnOnce(&mut Changes)) {
        let mut messages = self.messages.lock().expect("no panic");
        let messages = messages.get_mut(&chat.to_string()).expect("a chat");
        let message = messages.iter_mut().find(|message| message.seq == seq).expect("a message");
        change(message.changes.get_or_insert_default());
    }

    /// Stores a message that no gateway receives.
    pub fn store_silently(&self, chat: ChatId, message: Message) {
        let mut messages = self.messages.lock().expect("no panic");
        messages.entry(chat.to_string()).or_default().push(message);
    }

    /// Returns how many messages of a chat are stored.
    pub fn stored(&self, chat: ChatId) -> usize {
        self.messages.lock().expect("no panic").get(&chat.to_string()).map_or(0, Vec::len)
    }

    /// Makes a user a member without a record in the event log yet.
    pub fn join_silently(&self, chat: ChatId, user: UserId) {
        let mut members = self.members.lock().expect("no panic");
        members.entry(chat.to_string()).or_default().insert(user.to_string());
    }

    pub async fn leave(&self, chat: ChatId, user: UserId) {
        self.leave_silently(chat, user);
        self.tell(chat, user, None).await;
    }

    /// Lets a user write nothing in a chat, or in none: in the chat service immediately, in the event log right after.
    pub async fn restrict(&self, chat: Option<ChatId>, user: UserId) {
        self.restrict_silently(chat, user);
        self.tell_restriction(chat, user).await;
    }

    /// Lets the user write again, likewise.
    pub async fn release(&self, chat: Option<ChatId>, user: UserId) {
        self.release_silently(chat, user);
        self.tell_restriction(chat, user).await;
    }

    async fn tell_restriction(&self, chat: Option<ChatId>, user: UserId) {
        let payload = serde_json::to_vec(&RestrictionRecord::of(chat, user)).expect("json");
        let key = RestrictionRecord::key(chat, user);
        self.produce(Topic::ChatEvents, &key, Some(&payload)).await;
        self.produce(Topic::ChatEvents, &key, None).await;
    }

    /// Tells a user in each partition of `chat.events` how they have a chat: when all of it has come, what was there before is read too.
    pub async fn tell_in_each_partition(&self, chat: ChatId, user: UserId) {
        let topic = Topic::ChatEvents.of(&self.tenant);
        let key = OwnStateRecord::key(chat, user);
        for partition in 0..PARTITIONS {
            let own = OwnChatState { version: (partition + 1).into(), ..OwnChatState::default() };
            let payload = serde_json::to_vec(&OwnStateRecord { v: VERSION, chat, user, own }).expect("json");
            let record = FutureRecord::to(&topic).key(&key).payload(&payload).partition(partition);
            self.producer.send(record, Duration::from_secs(30)).await.expect("the record is in the log");
        }
    }

    /// Lets a user write nothing in a chat, or in none, without a record in the event log yet.
    pub fn restrict_silently(&self, chat: Option<ChatId>, user: UserId) {
        let place = (user.to_string(), chat.map(|chat| chat.to_string()).unwrap_or_default());
        self.restricted.lock().expect("no panic").insert(place);
    }

    /// Lets the user write again, likewise.
    pub fn release_silently(&self, chat: Option<ChatId>, user: UserId) {
        let place = (user.to_string(), chat.map(|chat| chat.to_string()).unwrap_or_default());
        self.restricted.lock().expect("no panic").remove(&place);
    }

    /// Removes one of the two of a direct chat: the other is in it still, and may not write.
    pub async fn leave_direct(&self, chat: ChatId, user: UserId) {
        self.close_silently(chat);
        self.leave(chat, user).await;
    }

    /// Closes a direct chat for a block, without a record in the event log yet.
    pub fn close_silently(&self, chat: ChatId) {
        self.closed.lock().expect("no panic").insert(chat.to_string());
    }

    /// Closes a direct chat of these users for a block: they are in it still, and in the event log they are not.
    pub async fn close(&self, chat: ChatId, users: &[UserId]) {
        self.close_silently(chat);
        for user in users {
            self.tell(chat, *user, None).await;
        }
    }

    /// Opens it again.
    pub fn open_silently(&self, chat: ChatId) {
        self.closed.lock().expect("no panic").remove(&chat.to_string());
    }

    /// Removes a user without a record in the event log yet.
    pub fn leave_silently(&self, chat: ChatId, user: UserId) {
        if let Some(members) = self.members.lock().expect("no panic").get_mut(&chat.to_string()) {
            members.remove(&user.to_string());
        }
    }

    /// Announces an outcome as the message service would.
    pub async fn announce(&self, record: &DeliveredRecord) {
        let payload = serde_json::to_vec(record).expect("json");
        self.produce(Topic::MessageDelivered, &record.chat.to_string(), Some(&payload)).await;
    }

    /// Puts a chat into slow mode, as an entry of its log tells.
    pub async fn slow(&self, chat: ChatId, seconds: u32) {
        self.slow_mode_seconds.store(seconds, Ordering::SeqCst);
        let seq = {
            let messages = self.messages.lock().expect("no panic");
            messages.get(&chat.to_string()).map_or(1, |messages| messages.len() as i64 + 1)
        };
        self.announce_entry(chat, seq, (EntryKind::SlowModeChanged, None), seconds.to_string()).await;
    }

    /// Announces that a user is out of a chat, as an entry of its log tells.
    pub async fn announce_removal(&self, chat: ChatId, user: UserId, seq: i64) {
        self.announce_entry(chat, seq, (EntryKind::MemberRemoved, Some(user)), "2".to_owned()).await;
    }

    async fn announce_entry(
        &self,
        chat: ChatId,
        seq: i64,
        (kind, subject): (EntryKind, Option<UserId>),
        body: String,
    ) {
        let mut outcome = DeliveryOutcome::stored(seq, kind, body, 0);
        if let DeliveryOutcome::Stored { subject: said, .. } = &mut outcome {
            *said = subject;
        }
        let (sender, key) = (UserId(Uuid::from_u128(9)), MessageKey(Uuid::new_v4()));
        let device = DeviceId(Uuid::nil());
        self.announce(&DeliveredRecord { v: VERSION, chat, sender, device, key, outcome }).await;
    }

    /// Ends sessions of a user as the auth service would.
    pub async fn end_sessions(&self, user: UserId, ended: Ended) {
        let record = SessionEndRecord { v: VERSION, user, ended };
        let payload = serde_json::to_vec(&record).expect("json");
        self.produce(Topic::SessionEvents, &user.to_string(), Some(&payload)).await;
    }

    /// Writes any bytes to a topic.
    pub async fn produce(&self, topic: Topic, key: &str, payload: Option<&[u8]>) {
        let topic = topic.of(&self.tenant);
        let mut record = FutureRecord::to(&topic).key(key);
        if let Some(payload) = payload {
            record = record.payload(payload);
        }
        self.producer.send(record, Duration::from_secs(30)).await.expect("the record is in the log");
    }

    /// Numbers what is sent, keeps it and announces it, until the test ends.
    pub fn number_messages(&self, kafka: &KafkaArgs) {
        let mut config = kit::kafka::consumer_config(kafka, &format!("{}.test", self.tenant));
        let consumer: StreamConsumer = config.set("fetch.wait.max.ms", "50").create().expect("a consumer");
        let topic = Topic::MessageSend.of(&self.tenant);
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(&topic, partition, Offset::Beginning).expect("a partition");
        }
        consumer.assign(&list).expect("an assignment");
        let peers = self.clone();
        tokio::spawn(async move {
            loop {
                let Ok(record) = consumer.recv().await else { continue };
                let Some(payload) = record.payload() else { continue };
                let record: SendRecord = serde_json::from_slice(payload).expect("a record of the gateway");
                let announced = peers.keep(record);
                let payload = serde_json::to_vec(&announced).expect("json");
                let (topic, key) = (Topic::MessageDelivered.of(&peers.tenant), announced.chat.to_string());
                let record = FutureRecord::to(&topic).key(&key).payload(&payload);
                drop(peers.producer.send_result(record).map_err(|(error, _)| error).expect("room"));
            }
        });
    }

    fn keep(&self, record: SendRecord) -> DeliveredRecord {
        let SendRecord { v, chat, sender, device, key, .. } = record.clone();
        let mut messages = self.messages.lock().expect("no panic");
        let messages = messages.entry(chat.to_string()).or_default();
        let earlier = messages
            .iter()
            .find(|message| message.key == key.to_string() && message.sender_id == sender.to_string());
        if let Some(earlier) = earlier {
            let outcome = DeliveryOutcome::Repeated { seq: earlier.seq };
            return DeliveredRecord { v, chat, sender, device, key, outcome };
        }
        let seq = i64::try_from(messages.len()).expect("few") + 1;
        let sent_at_ms = self.clock_ms.load(Ordering::SeqCst) + seq;
        let stored = wire::Message {
            chat,
            seq,
            sender,
            key,
            kind: record.kind,
            body: record.body,
            subject: record.subject,
            target_seq: record.target_seq,
            mentions: record.mentions,
            mention_roles: record.mention_roles,
            mentions_all: record.mentions_all,
            mentions_here: record.mentions_here,
            silent: record.silent,
            attachments: record.attachments,
            forwarded: record.forwarded,
            range: record.range,
            sent_at_ms,
            expires_at_ms: None,
            expired: false,
            changes: wire::Changes::default(),
        };
        messages.push(stored.clone().into());
        let outcome = DeliveryOutcome::Stored {
            seq,
            kind: stored.kind,
            body: stored.body,
            subject: stored.subject,
            target_seq: stored.target_seq,
            mentions: stored.mentions,
            mention_roles: stored.mention_roles,
            mentions_all: stored.mentions_all,
            mentions_here: stored.mentions_here,
            silent: stored.silent,
            attachments: stored.attachments,
            forwarded: stored.forwarded,
            range: stored.range,
            sent_at_ms,
            subject_only: record.subject_only,
            expires_at_ms: None,
            place: None,
        };
        DeliveredRecord { v, chat, sender, device, key, outcome }
    }
}

/// The chats of two are direct ones.
fn kind_of(members: usize) -> ChatKind {
    if members > 2 { ChatKind::Group } else { ChatKind::Direct }
}

fn authorized<T>(request: &Request<T>) -> Result<(), Status> {
    let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    if token == Some(&format!("Bearer {INTERNAL_TOKEN}")) {
        Ok(())
    } else {
        Err(Status::unauthenticated("the internal token is required"))
    }
}

#[tonic::async_trait]
impl ChatService for Peers {
    async fn get_membership(
        &self,
        request: Request<GetMembershipRequest>,
    ) -> Result<Response<GetMembershipResponse>, Status> {
        authorized(&request)?;
        let GetMembershipRequest { chat_id, user_id } = request.into_inner();
        let members = self.members.lock().expect("no panic");
        let known = members.get(&chat_id).is_some_and(|members| members.contains(&user_id));
        let is_admin = self.moderators.lock().expect("no panic").contains(&user_id);
        let role = if is_admin { "admin" } else { "member" };
        let member = known.then(|| Member { user_id, role: role.to_owned(), reads_from: None });
        Ok(Response::new(GetMembershipResponse { member, ..GetMembershipResponse::default() }))
    }

    async fn check_members(
        &self,
        request: Request<CheckMembersRequest>,
    ) -> Result<Response<CheckMembersResponse>, Status> {
        authorized(&request)?;
        if !self.answers_checks.load(Ordering::SeqCst) {
            return Err(Status::unavailable("switched off"));
        }
        let (members, closed) =
            (self.members.lock().expect("no panic"), self.closed.lock().expect("no panic"));
        let is_member = |seat: &GetMembershipRequest| {
            members.get(&seat.chat_id).is_some_and(|members| members.contains(&seat.user_id))
        };
        let silenced = self.restricted.lock().expect("no panic");
        let is_restricted = |seat: &GetMembershipRequest| {
            is_member(seat)
                && [seat.chat_id.as_str(), ""]
                    .iter()
                    .any(|chat| silenced.contains(&(seat.user_id.clone(), (*chat).to_owned())))
        };
        let may_send = |seat: &GetMembershipRequest| {
            is_member(seat) && !is_restricted(seat) && !closed.contains(&seat.chat_id)
        };
        let seats = request.into_inner().memberships;
        let restricted = seats.iter().map(is_restricted).collect();
        let is_member = seats.iter().map(is_member).collect();
        let may_send: Vec<_> = seats.iter().map(may_send).collect();
        let may_react = may_send.clone();
        let slow = self.slow_mode_seconds.load(Ordering::SeqCst);
        let slow_mode_seconds = may_send.iter().map(|may_send| if *may_send { slow } else { 0 }).collect();
        let is_restricted = restricted;
        let checked =
            CheckMembersResponse { is_member, may_send, may_react, slow_mode_seconds, is_restricted };
        Ok(Response::new(checked))
    }

    async fn list_published(
        &self,
        request: Request<ListPublishedRequest>,
    ) -> Result<Response<ListPublishedResponse>, Status> {
        authorized(&request)?;
        let answers = self.answers_checks.load(Ordering::SeqCst) && self.answers_lists.load(Ordering::SeqCst);
        if !answers {
            return Err(Status::unavailable("switched off"));
        }
        Ok(Response::new(self.published.lock().expect("no panic").page(request.into_inner().from)))
    }

    async fn list_called(
        &self,
        request: Request<ListCalledRequest>,
    ) -> Result<Response<ListCalledResponse>, Status> {
        authorized(&request)?;
        if !self.answers_checks.load(Ordering::SeqCst) {
            return Err(Status::unavailable("switched off"));
        }
        let ListCalledRequest { chat_id, user_ids, roles } = request.into_inner();
        let (members, moderators) =
            (self.members.lock().expect("no panic"), self.moderators.lock().expect("no panic"));
        let of_chat = members.get(&chat_id).cloned().unwrap_or_default();
        let has_role = roles.iter().any(|role| role == "admin");
        let with_role = of_chat.iter().filter(|user| has_role && moderators.contains(*user));
        Ok(Response::new(ListCalledResponse {
            role_member_ids: with_role.cloned().collect(),
            member_ids: user_ids.into_iter().filter(|user| of_chat.contains(user)).collect(),
        }))
    }

    async fn list_memberships(
        &self,
        request: Request<ListMembershipsRequest>,
    ) -> Result<Response<ListMembershipsResponse>, Status> {
        authorized(&request)?;
        if !self.answers_checks.load(Ordering::SeqCst) {
            return Err(Status::unavailable("switched off"));
        }
        let user_id = request.into_inner().user_id;
        self.listed.lock().expect("no panic").push(user_id.clone());
        tokio::time::sleep(Duration::from_millis(self.listing_ms.load(Ordering::SeqCst).into())).await;
        let (members, records, closed) = (
            self.members.lock().expect("no panic"),
            self.records.lock().expect("no panic"),
            self.closed.lock().expect("no panic"),
        );
        let own = members.iter().filter(|(_, members)| members.contains(&user_id));
        let memberships = own.map(|(chat_id, members)| Membership {
            chat_id: chat_id.clone(),
            kind: kind_of(members.len()).as_str().to_owned(),
            role: "member".to_owned(),
            member_count: members.len() as i64,
            version: records.get(chat_id).copied().unwrap_or(0),
            is_closed: closed.contains(chat_id),
            slow_mode_seconds: self.slow_mode_seconds.load(Ordering::SeqCst),
            ..Membership::default()
        });
        let memberships = memberships.collect();
        let silenced = self.restricted.lock().expect("no panic");
        let own = silenced.iter().filter(|(user, _)| *user == user_id);
        let restriction = |(_, chat_id): &(String, String)| Restriction {
            chat_id: chat_id.clone(),
            until_ms: i64::MAX,
            ban: false,
        };
        let restrictions = own.map(restriction).collect();
        Ok(Response::new(ListMembershipsResponse { memberships, restrictions }))
    }
}

#[tonic::async_trait]
impl MessageService for Peers {
    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryResponse>, Status> {
        authorized(&request)?;
        let HistoryRequest {
            chat_id, user_id, known_from_seq, after_seq, before_seq, from_ms, limit, ..
        } = request.into_inner();
        let from_seq = match known_from_seq {
            Some(from_seq) => from_seq,
            None if !self.answers_checks.load(Ordering::SeqCst) => {
                return Err(Status::unavailable("the chat service does not answer"));
            }
            None => {
                let members = self.members.lock().expect("no panic");
                if !members.get(&chat_id).is_some_and(|members| members.contains(&user_id)) {
                    return Err(Status::permission_denied("not a member"));
                }
                1
            }
        };
        let messages = self.messages.lock().expect("no panic");
        let messages = messages.get(&chat_id).cloned().unwrap_or_default();
        let head_seq = messages.last().map_or(0, |message| message.seq);
        let limit = usize::try_from(limit).expect("a limit");
        let is_wanted = |seq| before_seq.map_or(seq > after_seq, |before| seq < before);
        let is_late = |message: &Message| from_ms.is_none_or(|ms| message.sent_at_ms >= ms);
        let wanted = messages.into_iter().filter(|message| is_wanted(message.seq) && is_late(message));
        let messages = wanted.take(limit).collect();
        Ok(Response::new(HistoryResponse { messages, head_seq, from_seq }))
    }

    async fn entry(&self, request: Request<EntryRequest>) -> Result<Response<EntryResponse>, Status> {
        authorized(&request)?;
        let EntryRequest { chat_id, user_id, seq, key, key_chat_id, count_pins } = request.into_inner();
        let all = self.messages.lock().expect("no panic");
        let of_key = all.get(if key_chat_id.is_empty() { &chat_id } else { &key_chat_id });
        let is_key = |entry: &Message| entry.key == key && entry.sender_id == user_id;
        let is_key_known = of_key.is_some_and(|entries| entries.iter().any(is_key));
        if seq == 0 {
            return if self.answers_keys.load(Ordering::SeqCst) {
                Ok(Response::new(EntryResponse { message: None, is_key_known, pins: 0 }))
            } else {
                Err(Status::unavailable("the store does not answer"))
            };
        }
        if !self.members.lock().expect("no panic").get(&chat_id).is_some_and(|of| of.contains(&user_id)) {
            return Err(Status::permission_denied("not a member"));
        }
        let messages = all.get(&chat_id).cloned().unwrap_or_default();
        let pins = if count_pins { self.pins.load(Ordering::SeqCst) } else { 0 };
        let message = messages.into_iter().find(|message| message.seq == seq);
        let message = Some(message.ok_or_else(|| Status::not_found("no such entry"))?);
        Ok(Response::new(EntryResponse { message, is_key_known, pins }))
    }

    async fn pins(&self, request: Request<PinsRequest>) -> Result<Response<ListResponse>, Status> {
        authorized(&request)?;
        let PinsRequest { chat_id, user_id, before_seq, limit } = request.into_inner();
        let members = self.members.lock().expect("no panic");
        if !members.get(&chat_id).is_some_and(|members| members.contains(&user_id)) {
            return Err(Status::permission_denied("not a member"));
        }
        let pinned = |message: &&Message| {
            let pin = message.changes.as_ref().and_then(|changes| changes.pinned_seq);
            pin.is_some_and(|pin| before_seq.is_none_or(|before| pin < before))
        };
        let all = self.messages.lock().expect("no panic");
        let messages: Vec<_> = all.get(&chat_id).into_iter().flatten().filter(pinned).cloned().collect();
        Ok(Response::new(ListResponse { more: messages.len() > limit as usize, messages }))
    }

    async fn replies(&self, request: Request<RepliesRequest>) -> Result<Response<ListResponse>, Status> {
        authorized(&request)?;
        let RepliesRequest { chat_id, seq, after_seq, .. } = request.into_inner();
        let all = self.messages.lock().expect("no panic");
        let messages = all.get(&chat_id).cloned().unwrap_or_default();
        if !messages.iter().any(|message| message.seq == seq) {
            return Err(Status::not_found("no such entry"));
        }
        let is_reply = |message: &Message| message.target_seq == Some(seq) && message.seq > after_seq;
        let messages = messages.into_iter().filter(|message| message.kind == "text" && is_reply(message));
        Ok(Response::new(ListResponse { messages: messages.collect(), more: false }))
    }

    async fn sync(&self, request: Request<SyncRequest>) -> Result<Response<SyncResponse>, Status> {
        authorized(&request)?;
        let SyncRequest { user_id, cursor, .. } = request.into_inner();
        if !cursor.is_empty() && cursor != "a cursor" {
            return Err(Status::failed_precondition("not one of yours"));
        }
        let (members, messages) =
            (self.members.lock().expect("no panic"), self.messages.lock().expect("no panic"));
        let own = members.iter().filter(|(_, members)| members.contains(&user_id));
        let chats = own.map(|(chat_id, members)| ChatState {
            membership: Some(Membership {
                chat_id: chat_id.clone(),
                kind: "group".to_owned(),
                title: "Friends".to_owned(),
                role: "member".to_owned(),
                member_count: members.len() as i64,
                ..Membership::default()
            }),
            head_seq: messages.get(chat_id).map_or(0, |messages| messages.len() as i64),
            from_seq: 1,
            ..ChatState::default()
        });
        let (chats, cursor) = (chats.collect(), "a cursor".to_owned());
        Ok(Response::new(SyncResponse { chats, cursor, ..SyncResponse::default() }))
    }

    async fn moved(&self, request: Request<MovedRequest>) -> Result<Response<MovedResponse>, Status> {
        authorized(&request)?;
        let began = !request.into_inner().cursor.is_empty();
        let messages = self.messages.lock().expect("no panic");
        let heads = messages
            .iter()
            .filter(|_| began)
            .map(|(chat_id, messages)| Head { chat_id: chat_id.clone(), head_seq: messages.len() as i64 });
        Ok(Response::new(MovedResponse {
            cursor: "here".to_owned(),
            heads: heads.collect(),
            ..MovedResponse::default()
        }))
    }

    async fn mark(&self, request: Request<MarkRequest>) -> Result<Response<Watermarks>, Status> {
        authorized(&request)?;
        let MarkRequest { chat_id, user_id, read_seq, delivered_seq } = request.into_inner();
        let (members, messages) =
            (self.members.lock().expect("no panic"), self.messages.lock().expect("no panic"));
        if !members.get(&chat_id).is_some_and(|members| members.contains(&user_id)) {
            return Err(Status::permission_denied("not a member"));
        }
        let head = messages.get(&chat_id).map_or(0, |messages| messages.len() as i64);
        let seq = read_seq.max(delivered_seq);
        if seq > head {
            return Err(Status::not_found("no such entry"));
        }
        Ok(Response::new(Watermarks {
            read_seq,
            delivered_seq: seq,
            unread: head - read_seq,
            mentions: 0,
            counted_seq: head,
        }))
    }
}
