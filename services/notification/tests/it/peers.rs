//! The auth, the chat, the message and the user service in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use contracts::{
    ChatId, SessionId, UserId,
    rpc::{
        AccountSession, ChatState, CheckBlocksRequest, CheckBlocksResponse, CheckMembersRequest,
        CheckMembersResponse, CheckPresenceRequest, CheckPresenceResponse, DeleteUserRequest,
        DeleteUserResponse, Deletion, EnsureUserRequest, EntriesRequest, EntriesResponse, EntryRequest,
        EntryResponse, FinishDeletionRequest, FinishDeletionResponse, GetMembershipRequest,
        GetMembershipResponse, GetUsersRequest, GetUsersResponse, HistoryRequest, HistoryResponse,
        IsNamedRequest, IsNamedResponse, ListAcquaintancesRequest, ListAcquaintancesResponse,
        ListCalledRequest, ListCalledResponse, ListDeletionsRequest, ListDeletionsResponse,
        ListMembershipsRequest, ListMembershipsResponse, ListPublishedRequest, ListPublishedResponse,
        ListResponse, ListSessionsRequest, ListSessionsResponse, MarkRequest, Membership, Message,
        MovedRequest, MovedResponse, NoteChatsErasedRequest, NoteChatsErasedResponse, OwnState, PinsRequest,
        RepliesRequest, Restriction, SyncRequest, SyncResponse, User, Watermarks,
        account_service_server::{AccountService, AccountServiceServer},
        chat_service_server::{ChatService, ChatServiceServer},
        message_service_server::{MessageService, MessageServiceServer},
        user_service_server::{UserService, UserServiceServer},
    },
};
use kit::{rpc::InternalChannel, testing::serve_peer};
use tonic::{Request, Response, Status, service::Routes};

/// All of them. Cheap to clone.
#[derive(Clone, Default)]
pub struct Peers(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    seats: BTreeMap<(String, String), Seat>,
    /// Texts of chats: their seq, sender and body.
    texts: BTreeMap<String, Vec<(i64, String, String)>>,
    /// Whom texts call: their chat, their seq and a user.
    calls: Vec<(String, i64, String)>,
    titles: BTreeMap<String, String>,
    names: BTreeMap<String, String>,
    deleted: Vec<String>,
    banned: Vec<String>,
    /// Sessions that go on.
    sessions: Vec<(String, String)>,
    /// Calls for sessions.
    sessions_read: usize,
    /// The user whose sessions cannot be listed.
    unaskable: Option<String>,
    /// What is said of sessions, whatever was asked.
    said: Option<Vec<String>>,
    /// The user whose chats cannot be listed.
    unlistable: Option<String>,
    /// Calls for names of users.
    names_read: usize,
    is_down: bool,
    /// Calls while they were down.
    refused: usize,
}

#[derive(Default)]
struct Seat {
    muted_until_ms: i64,
    read_seq: i64,
    delivered_seq: i64,
}

impl Peers {
    /// Serves all until the test ends.
    pub async fn channel(&self) -> InternalChannel {
        let routes = Routes::new(ChatServiceServer::new(self.clone()))
            .add_service(MessageServiceServer::new(self.clone()))
            .add_service(UserServiceServer::new(self.clone()))
            .add_service(AccountServiceServer::new(self.clone()));
        serve_peer(routes).await
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("no panic")
    }

    fn up(&self) -> Result<MutexGuard<'_, Known>, Status> {
        let mut known = self.known();
        if known.is_down {
            known.refused += 1;
            return Err(Status::unavailable("it is down"));
        }
        Ok(known)
    }

    pub fn set_down(&self, is_down: bool) {
        self.known().is_down = is_down;
    }

    /// Returns how many calls came while they were down.
    pub fn refused(&self) -> usize {
        self.known().refused
    }

    pub fn join(&self, chat: ChatId, user: UserId) {
        self.known().seats.entry((chat.to_string(), user.to_string())).or_default();
    }

    pub fn leave(&self, chat: ChatId, user: UserId) {
        self.known().seats.remove(&(chat.to_string(), user.to_string()));
    }

    pub fn title(&self, chat: ChatId, title: &str) {
        self.known().titles.insert(chat.to_string(), title.to_owned());
    }

    pub fn name(&self, user: UserId, name: &str) {
        self.known().names.insert(user.to_string(), name.to_owned());
    }

    /// Returns how many calls there were for names of users.
    pub fn names_read(&self) -> usize {
        self.known().names_read
    }

    pub fn say(&self, chat: ChatId, seq: i64, sender: UserId, body: &str) {
        let mut known = self.known();
        let texts = known.texts.entry(chat.to_string()).or_default();
        texts.push((seq, sender.to_string(), body.to_owned()));
    }

    /// Lets a text call users.
    pub fn call(&self, chat: ChatId, seq: i64, users: &[UserId]) {
        let calls = users.iter().map(|user| (chat.to_string(), seq, user.to_string()));
        self.known().calls.extend(calls);
    }

    pub fn read(&self, chat: ChatId, user: UserId, seq: i64) {
        self.seat(chat, user, |seat| seat.read_seq = seq);
    }

    pub fn deliver(&self, chat: ChatId, user: UserId, seq: i64) {
        self.seat(chat, user, |seat| seat.delivered_seq = seq);
    }

    pub fn mute(&self, chat: ChatId, user: UserId) {
        self.seat(chat, user, |seat| seat.muted_until_ms = i64::MAX);
    }

    /// Bans a user everywhere.
    pub fn ban(&self, user: UserId) {
        self.known().banned.push(user.to_string());
    }

    pub fn lift(&self, user: UserId) {
        self.known().banned.retain(|banned| *banned != user.to_string());
    }

    /// Lets a session of a user go on.
    pub fn begin_session(&self, user: UserId, session: &SessionId) {
        self.known().sessions.push((user.to_string(), session.to_string()));
    }

    /// Lets it run out, of which the log says nothing.
    pub fn end_session(&self, session: &SessionId) {
        self.known().sessions.retain(|(_, one)| one != session.as_str());
    }

    /// Returns how many calls there were for sessions.
    pub fn sessions_read(&self) -> usize {
        self.known().sessions_read
    }

    /// Lets the list of a user's sessions fail, as if the realm hung for this user alone.
    pub fn refuse_sessions(&self, user: UserId) {
        self.known().unaskable = Some(user.to_string());
    }

    /// Lets these be all answers about sessions; `None` for those that go on.
    pub fn say_of_sessions(&self, sessions: Option<&[&str]>) {
        self.known().said = sessions.map(|said| said.iter().map(|one| (*one).to_owned()).collect());
    }

    /// Lets the list of a user's chats fail.
    pub fn refuse_list(&self, user: UserId) {
        self.known().unlistable = Some(user.to_string());
    }

    pub fn delete(&self, user: UserId) {
        self.known().deleted.push(user.to_string());
    }

    fn seat(&self, chat: ChatId, user: UserId, change: impl FnOnce(&mut Seat)) {
        change(self.known().seats.get_mut(&(chat.to_string(), user.to_string())).expect("a member"));
    }
}

impl Known {
    fn membership(&self, chat: &str, seat: &Seat) -> Membership {
        let title = self.titles.get(chat).cloned().unwrap_or_default();
        Membership {
            chat_id: chat.to_owned(),
            kind: if title.is_empty() { "direct" } else { "group" }.to_owned(),
            title,
            version: 1,
            own: Some(OwnState { muted_until_ms: seat.muted_until_ms, ..OwnState::default() }),
            ..Membership::default()
        }
    }

    fn watermarks(&self, chat: &str, user: &str, seat: &Seat) -> Watermarks {
        let texts = self.texts.get(chat).map(Vec::as_slice).unwrap_or_default();
        let unread = texts.iter().filter(|(seq, sender, _)| *seq > seat.read_seq && sender != user).count();
        let calls = self
            .calls
            .iter()
            .filter(|(of, seq, called)| of == chat && *seq > seat.read_seq && called == user);
        Watermarks {
            read_seq: seat.read_seq,
            delivered_seq: seat.delivered_seq,
            unread: unread as i64,
            mentions: calls.count() as i64,
            ..Watermarks::default()
        }
    }

    fn head(&self, chat: &str) -> i64 {
        self.texts.get(chat).and_then(|texts| texts.last()).map_or(0, |(seq, ..)| *seq)
    }
}

fn not_called<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not called by this service"))
}

#[tonic::async_trait]
impl ChatService for Peers {
    async fn list_memberships(
        &self,
        request: Request<ListMembershipsRequest>,
    ) -> Result<Response<ListMembershipsResponse>, Status> {
        let ListMembershipsRequest { user_id, chat_ids, .. } = request.into_inner();
        let known = self.up()?;
        if known.unlistable.as_ref() == Some(&user_id) {
            return Err(Status::out_of_range("the answer is too large"));
        }
        let is_asked = |chat: &String| chat_ids.is_empty() || chat_ids.contains(chat);
        let seats = known.seats.iter().filter(|((chat, user), _)| *user == user_id && is_asked(chat));
        let memberships = seats.map(|((chat, _), seat)| known.membership(chat, seat)).collect();
        let banned = known.banned.iter().filter(|banned| **banned == user_id);
        let restriction = |_| Restriction { chat_id: String::new(), until_ms: i64::MAX, ban: true };
        let restrictions = banned.map(restriction).collect();
        Ok(Response::new(ListMembershipsResponse { memberships, restrictions }))
    }

    async fn get_membership(
        &self,
        _: Request<GetMembershipRequest>,
    ) -> Result<Response<GetMembershipResponse>, Status> {
        not_called()
    }

    async fn check_members(
        &self,
        _: Request<CheckMembersRequest>,
    ) -> Result<Response<CheckMembersResponse>, Status> {
        not_called()
    }

    async fn check_blocks(
        &self,
        _: Request<CheckBlocksRequest>,
    ) -> Result<Response<CheckBlocksResponse>, Status> {
        not_called()
    }

    async fn list_called(
        &self,
        _: Request<ListCalledRequest>,
    ) -> Result<Response<ListCalledResponse>, Status> {
        not_called()
    }

    async fn list_published(
        &self,
        _: Request<ListPublishedRequest>,
    ) -> Result<Response<ListPublishedResponse>, Status> {
        not_called()
    }

    async fn list_acquaintances(
        &self,
        _: Request<ListAcquaintancesRequest>,
    ) -> Result<Response<ListAcquaintancesResponse>, Status> {
        not_called()
    }
}

#[tonic::async_trait]
impl AccountService for Peers {
    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let ListSessionsRequest { user_id, session_ids } = request.into_inner();
        let mut known = self.up()?;
        known.sessions_read += 1;
        if known.unaskable.as_ref() == Some(&user_id) {
            return Err(Status::deadline_exceeded("no answer in time"));
        }
        let is_asked =
            |(user, session): &&(String, String)| *user == user_id && session_ids.contains(session);
        let going_on = known.sessions.iter().filter(is_asked).map(|(_, session)| session.clone());
        let said = known.said.clone().unwrap_or_else(|| going_on.collect());
        let session = |session_id: String| AccountSession { session_id, ..AccountSession::default() };
        Ok(Response::new(ListSessionsResponse { sessions: said.into_iter().map(session).collect() }))
    }
}

#[tonic::async_trait]
impl MessageService for Peers {
    async fn mark(&self, request: Request<MarkRequest>) -> Result<Response<Watermarks>, Status> {
        let MarkRequest { chat_id, user_id, .. } = request.into_inner();
        let known = self.up()?;
        let seat = known.seats.get(&(chat_id.clone(), user_id.clone()));
        let seat = seat.ok_or_else(|| Status::permission_denied("not a member"))?;
        Ok(Response::new(known.watermarks(&chat_id, &user_id, seat)))
    }

    async fn sync(&self, request: Request<SyncRequest>) -> Result<Response<SyncResponse>, Status> {
        let user_id = request.into_inner().user_id;
        let known = self.up()?;
        let mut synced = SyncResponse::default();
        for ((chat, _), seat) in known.seats.iter().filter(|((_, user), _)| *user == user_id) {
            let watermarks = known.watermarks(chat, &user_id, seat);
            synced.unread += watermarks.unread;
            synced.chats.push(ChatState {
                membership: Some(known.membership(chat, seat)),
                head_seq: known.head(chat),
                watermarks: Some(watermarks),
                ..ChatState::default()
            });
        }
        Ok(Response::new(synced))
    }

    async fn entries(&self, request: Request<EntriesRequest>) -> Result<Response<EntriesResponse>, Status> {
        let known = self.up()?;
        let mut messages = Vec::new();
        for place in request.into_inner().places {
            let texts = known.texts.get(&place.chat_id).map(Vec::as_slice).unwrap_or_default();
            let found = texts.iter().find(|(seq, ..)| *seq == place.seq);
            messages.extend(found.map(|(seq, sender, body)| Message {
                chat_id: place.chat_id.clone(),
                seq: *seq,
                sender_id: sender.clone(),
                kind: "text".to_owned(),
                body: body.clone(),
                ..Message::default()
            }));
        }
        Ok(Response::new(EntriesResponse { messages }))
    }

    async fn history(&self, _: Request<HistoryRequest>) -> Result<Response<HistoryResponse>, Status> {
        not_called()
    }

    async fn entry(&self, _: Request<EntryRequest>) -> Result<Response<EntryResponse>, Status> {
        not_called()
    }

    async fn pins(&self, _: Request<PinsRequest>) -> Result<Response<ListResponse>, Status> {
        not_called()
    }

    async fn replies(&self, _: Request<RepliesRequest>) -> Result<Response<ListResponse>, Status> {
        not_called()
    }

    async fn moved(&self, _: Request<MovedRequest>) -> Result<Response<MovedResponse>, Status> {
        not_called()
    }
}

#[tonic::async_trait]
impl UserService for Peers {
    async fn get_users(
        &self,
        request: Request<GetUsersRequest>,
    ) -> Result<Response<GetUsersResponse>, Status> {
        let mut known = self.up()?;
        known.names_read += 1;
        let user = |user_id: String| {
            let display_name = known.names.get(&user_id).cloned().unwrap_or_else(|| "A user".to_owned());
            User { user_id, display_name, version: 1, ..User::default() }
        };
        let users = request.into_inner().user_ids.into_iter().map(user).collect();
        Ok(Response::new(GetUsersResponse { users }))
    }

    async fn list_deletions(
        &self,
        request: Request<ListDeletionsRequest>,
    ) -> Result<Response<ListDeletionsResponse>, Status> {
        let after = request.into_inner().after.parse().unwrap_or(0);
        let deletion = |(at, user_id): (usize, &String)| Deletion {
            user_id: user_id.clone(),
            position: (at + 1).to_string(),
            age_seconds: 3600,
        };
        let deletions = self.known().deleted.iter().enumerate().skip(after).map(deletion).collect();
        Ok(Response::new(ListDeletionsResponse { deletions }))
    }

    async fn check_presence(
        &self,
        _: Request<CheckPresenceRequest>,
    ) -> Result<Response<CheckPresenceResponse>, Status> {
        not_called()
    }

    async fn ensure_user(&self, _: Request<EnsureUserRequest>) -> Result<Response<User>, Status> {
        not_called()
    }

    async fn is_named(&self, _: Request<IsNamedRequest>) -> Result<Response<IsNamedResponse>, Status> {
        not_called()
    }

    async fn delete_user(
        &self,
        _: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        not_called()
    }

    async fn finish_deletion(
        &self,
        _: Request<FinishDeletionRequest>,
    ) -> Result<Response<FinishDeletionResponse>, Status> {
        not_called()
    }

    async fn note_chats_erased(
        &self,
        _: Request<NoteChatsErasedRequest>,
    ) -> Result<Response<NoteChatsErasedResponse>, Status> {
        not_called()
    }
}
