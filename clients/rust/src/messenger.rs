//! The REST calls of one tenant, and the upgrade to its WebSocket.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use contracts::{
    ChatId, Encoding, InviteId, MessageKey, UserId,
    api::{
        AccountDeleted, AuthSession, Block, ChangePasswordRequest, Chat, ChatMember, Contact,
        CreateChatRequest, CreateInviteRequest, CreatedInvite, ErasureReceipt, FoundChats, FoundMessages,
        FoundUsers, Invite, JoinRequest, MessagePage, OwnChatState, OwnEmailAddress, OwnProfile, Page,
        PasswordChanged, Problem, PublicChat, PutContactRequest, PutMemberRequest, RefreshRequest,
        RegisterRequest, Registered, RescheduleRequest, ScheduleRequest, ScheduledMessage, Settings,
        SignInRequest, Tokens, UpdateChatRequest, UpdateOwnChatStateRequest, UpdateProfileRequest,
        UserProfile,
    },
    event::Role,
    wire::{Ack, Message},
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Upgraded, header};
use serde::{Deserialize, de::DeserializeOwned};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::{client::generate_key, derive_accept_key},
        protocol::Role as SocketRole,
    },
};
use url::{Host, Url};

use crate::ClientError;

/// A REST call and a WebSocket upgrade each end within this time.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// A refresh ends within this time, so that there is time for another one with the same token.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(3);
const REFRESH_ATTEMPTS: u32 = 3;

/// An open WebSocket of the messenger.
pub type Socket = WebSocketStream<Upgraded>;

/// What became of a user who came by an invite link.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Joined {
    Member(Box<Chat>),
    /// An owner or admin decides.
    Asked(JoinRequest),
}

/// One tenant's messenger at its public address. Cheap to clone; holds no token.
#[derive(Clone, Debug)]
pub struct Messenger {
    base: Url,
    http: reqwest::Client,
    encoding: Encoding,
    ack: Ack,
}

impl Messenger {
    /// Returns a client of the messenger at `base`, for example `http://acme.localhost:8000`.
    ///
    /// `localhost` and every name below it mean this machine, whatever DNS resolves (RFC 6761).
    pub fn new(base: &Url) -> Result<Self, ClientError> {
        let (Some(host), "http" | "https") = (base.host(), base.scheme()) else {
            return Err(ClientError::Address { url: base.to_string() });
        };
        // HTTP/1.1 only: a WebSocket begins as an upgrade of it.
        let mut builder = reqwest::Client::builder().http1_only().connect_timeout(Duration::from_secs(5));
        if let Host::Domain(name) = host
            && (name == "localhost" || name.ends_with(".localhost"))
        {
            builder = builder.no_proxy().resolve(name, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        }
        let http =
            builder.build().map_err(|source| ClientError::Prepare { url: base.to_string(), source })?;
        Ok(Self { base: base.clone(), http, encoding: Encoding::default(), ack: Ack::default() })
    }

    /// Returns the messenger with sessions whose frames are written so, as far as the server can. JSON is the default.
    pub fn speaking(self, encoding: Encoding) -> Self {
        Self { encoding, ..self }
    }

    /// Returns the messenger with sessions whose texts are answered so. With [`Ack::Stored`] a text takes half of the frames; its
    /// [`crate::Receipt`] has one time for both. A server of before this was known refuses texts that ask for it.
    pub fn answered_by(self, ack: Ack) -> Self {
        Self { ack, ..self }
    }

    pub(crate) const fn ack(&self) -> Ack {
        self.ack
    }

    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Returns the HTTP client, for requests that have no method here.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Returns the address of `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> Url {
        self.base.join(path).expect("a path that begins with a slash joins every http address")
    }

    pub async fn register(&self, request: &RegisterRequest) -> Result<Registered, ClientError> {
        let call = self.http.post(self.url("/api/auth/register")).json(request);
        self.json("register a user", call).await
    }

    pub async fn sign_in(&self, username: &str, password: &str) -> Result<Tokens, ClientError> {
        let request = SignInRequest { username: username.into(), password: password.into() };
        self.json("sign in", self.http.post(self.url("/api/auth/sign-in")).json(&request)).await
    }

    /// Returns new tokens. A refresh token is used once, but its answer is repeated for ten seconds: an answer that does not come is
    /// requested again within that time.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Tokens, ClientError> {
        let mut attempt = 1;
        loop {
            match self.json("refresh the token", self.refresh_call(refresh_token)).await {
                Err(error) if error.code().is_none() && attempt < REFRESH_ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    fn refresh_call(&self, refresh_token: &str) -> RequestBuilder {
        let request = RefreshRequest { refresh_token: refresh_token.into() };
        self.http.post(self.url("/api/auth/refresh")).timeout(REFRESH_TIMEOUT).json(&request)
    }

    pub async fn sign_out(&self, refresh_token: &str) -> Result<(), ClientError> {
        let request = RefreshRequest { refresh_token: refresh_token.into() };
        self.done("sign out", self.http.post(self.url("/api/auth/sign-out")).json(&request)).await
    }

    /// Returns the caller's sessions on all devices.
    pub async fn sessions(&self, token: &str) -> Result<Page<AuthSession>, ClientError> {
        self.json("list sessions", self.get("/api/auth/sessions", token)).await
    }

    /// Ends one of the caller's sessions.
    pub async fn end_session(&self, token: &str, session: &str) -> Result<(), ClientError> {
        let mut url = self.url("/api/auth/sessions");
        url.path_segments_mut().expect("an http address has a path").push(session);
        self.done("end a session", self.http.delete(url).bearer_auth(token)).await
    }

    /// Ends all sessions of the caller but the one of the token.
    pub async fn end_other_sessions(&self, token: &str) -> Result<(), ClientError> {
        let call = self.with_token(Method::DELETE, "/api/auth/sessions", token);
        self.done("end other sessions", call).await
    }

    /// Changes the caller's password; all other sessions end. Returns the address that links for a new password go to, for the user to see
    /// that it is theirs.
    pub async fn change_password(
        &self,
        token: &str,
        current: &str,
        new: &str,
    ) -> Result<PasswordChanged, ClientError> {
        let request = ChangePasswordRequest { current_password: current.into(), new_password: new.into() };
        let call = self.with_token(Method::POST, "/api/auth/change-password", token).json(&request);
        self.json("change the password", call).await
    }

    /// Deletes the account that the password opens. Returns the receipt, which shows what is erased and when.
    pub async fn delete_account(&self, username: &str, password: &str) -> Result<String, ClientError> {
        let request = SignInRequest { username: username.into(), password: password.into() };
        let call = self.http.post(self.url("/api/auth/delete-account")).json(&request);
        let AccountDeleted { receipt } = self.json("delete an account", call).await?;
        Ok(receipt.0)
    }

    /// Returns what of a deleted account is erased, by its receipt.
    pub async fn erasure(&self, receipt: &str) -> Result<ErasureReceipt, ClientError> {
        let call = self.http.get(self.url(&format!("/api/users/erasures/{receipt}")));
        self.json("read the receipt of an erasure", call).await
    }

    /// Returns the e-mail address of the caller's account.
    pub async fn email(&self, token: &str) -> Result<OwnEmailAddress, ClientError> {
        self.json("read one's e-mail address", self.get("/api/auth/email", token)).await
    }

    pub async fn me(&self, token: &str) -> Result<OwnProfile, ClientError> {
        self.json("read one's own profile", self.get("/api/users/me", token)).await
    }

    pub async fn update_me(
        &self,
        token: &str,
        request: &UpdateProfileRequest,
    ) -> Result<OwnProfile, ClientError> {
        let call = self.with_token(Method::PATCH, "/api/users/me", token).json(request);
        self.json("change one's own profile", call).await
    }

    pub async fn user(&self, token: &str, user: UserId) -> Result<UserProfile, ClientError> {
        self.json("look up a user", self.get(&format!("/api/users/{user}"), token)).await
    }

    /// Returns the first page of users whose name begins with `prefix`.
    pub async fn search_users(&self, token: &str, prefix: &str) -> Result<Page<UserProfile>, ClientError> {
        self.json("search users", self.get("/api/users", token).query(&[("query", prefix)])).await
    }

    /// Returns the user with exactly this username, in any case.
    pub async fn user_named(&self, token: &str, username: &str) -> Result<Option<UserProfile>, ClientError> {
        let call = self.get("/api/users", token).query(&[("username", username)]);
        let page: Page<UserProfile> = self.json("look up a username", call).await?;
        Ok(page.items.into_iter().next())
    }

    /// Returns the newest messages with these words, of the chats of the caller. `has:file` and its like narrow it. A tenant without the search service
    /// returns 404.
    pub async fn search_messages(&self, token: &str, query: &str) -> Result<FoundMessages, ClientError> {
        self.json("search messages", self.get("/api/search/messages", token).query(&[("q", query)])).await
    }

    /// Returns the newest chats of the caller whose names have words with these beginnings. A tenant without the search service returns 404.
    pub async fn find_chats(&self, token: &str, query: &str) -> Result<FoundChats, ClientError> {
        self.json("search chats", self.get("/api/search/chats", token).query(&[("q", query)])).await
    }

    /// Returns users whose names have words with these beginnings. A tenant without the search service returns 404.
    pub async fn find_users(&self, token: &str, query: &str) -> Result<FoundUsers, ClientError> {
        self.json("search users", self.get("/api/search/users", token).query(&[("q", query)])).await
    }

    /// Returns every chat of the caller.
    pub async fn chats(&self, token: &str) -> Result<Vec<Chat>, ClientError> {
        self.all("list chats", "/api/chats", token).await
    }

    /// Returns what the caller's clients share.
    pub async fn settings(&self, token: &str) -> Result<Settings, ClientError> {
        self.json("read settings", self.get("/api/users/me/settings", token)).await
    }

    /// Replaces what the caller's clients share, if it is of the version that is named.
    pub async fn put_settings(&self, token: &str, settings: &Settings) -> Result<Settings, ClientError> {
        let call = self.with_token(Method::PUT, "/api/users/me/settings", token).json(settings);
        self.json("replace settings", call).await
    }

    /// Returns every contact of the caller.
    pub async fn contacts(&self, token: &str) -> Result<Vec<Contact>, ClientError> {
        self.all("list contacts", "/api/users/me/contacts", token).await
    }

    /// Puts a user into the caller's contacts.
    pub async fn put_contact(
        &self,
        token: &str,
        user: UserId,
        name: Option<&str>,
    ) -> Result<Contact, ClientError> {
        let request = PutContactRequest { name: name.map(str::to_owned) };
        let call = self.with_token(Method::PUT, &format!("/api/users/me/contacts/{user}"), token);
        self.json("put a contact", call.json(&request)).await
    }

    pub async fn create_chat(&self, token: &str, request: &CreateChatRequest) -> Result<Chat, ClientError> {
        self.json("create a chat", self.with_token(Method::POST, "/api/chats", token).json(request)).await
    }

    /// Changes a group.
    pub async fn update_chat(
        &self,
        token: &str,
        chat: ChatId,
        request: &UpdateChatRequest,
    ) -> Result<Chat, ClientError> {
        let call = self.with_token(Method::PATCH, &format!("/api/chats/{chat}"), token).json(request);
        self.json("change a chat", call).await
    }

    /// Changes how the caller has a chat.
    pub async fn update_own_chat_state(
        &self,
        token: &str,
        chat: ChatId,
        request: &UpdateOwnChatStateRequest,
    ) -> Result<OwnChatState, ClientError> {
        let call = self.with_token(Method::PATCH, &format!("/api/chats/{chat}/me"), token).json(request);
        self.json("change how one has a chat", call).await
    }

    /// Schedules a message; the same key is the same message.
    pub async fn schedule(
        &self,
        token: &str,
        chat: ChatId,
        request: &ScheduleRequest,
    ) -> Result<ScheduledMessage, ClientError> {
        let call =
            self.with_token(Method::POST, &format!("/api/chats/{chat}/scheduled"), token).json(request);
        self.json("schedule a message", call).await
    }

    /// Returns what the caller has scheduled in a chat, the next one first.
    pub async fn scheduled(&self, token: &str, chat: ChatId) -> Result<Vec<ScheduledMessage>, ClientError> {
        self.all("list scheduled messages", &format!("/api/chats/{chat}/scheduled"), token).await
    }

    /// Replaces a scheduled message.
    pub async fn reschedule(
        &self,
        token: &str,
        (chat, key): (ChatId, MessageKey),
        request: &RescheduleRequest,
    ) -> Result<ScheduledMessage, ClientError> {
        let path = format!("/api/chats/{chat}/scheduled/{key}");
        self.json("change a scheduled message", self.with_token(Method::PUT, &path, token).json(request))
            .await
    }

    /// Cancels a scheduled message.
    pub async fn unschedule(&self, token: &str, chat: ChatId, key: MessageKey) -> Result<(), ClientError> {
        let path = format!("/api/chats/{chat}/scheduled/{key}");
        self.done("cancel a scheduled message", self.with_token(Method::DELETE, &path, token)).await
    }

    /// Sends a scheduled message at once.
    pub async fn send_scheduled(
        &self,
        token: &str,
        chat: ChatId,
        key: MessageKey,
    ) -> Result<(), ClientError> {
        let path = format!("/api/chats/{chat}/scheduled/{key}/send");
        self.done("send a scheduled message", self.with_token(Method::POST, &path, token)).await
    }

    /// Deletes a group that the caller owns.
    pub async fn delete_chat(&self, token: &str, chat: ChatId) -> Result<(), ClientError> {
        let path = format!("/api/chats/{chat}");
        self.done("delete a chat", self.with_token(Method::DELETE, &path, token)).await
    }

    pub async fn chat(&self, token: &str, chat: ChatId) -> Result<Chat, ClientError> {
        self.json("read a chat", self.get(&format!("/api/chats/{chat}"), token)).await
    }

    /// Returns the members of a chat, by id.
    pub async fn members(&self, token: &str, chat: ChatId) -> Result<Vec<ChatMember>, ClientError> {
        self.all("list members", &format!("/api/chats/{chat}/members"), token).await
    }

    /// Returns the newest public chats with this text in the title or topic.
    pub async fn public_chats(&self, token: &str, text: &str) -> Result<Page<PublicChat>, ClientError> {
        let call = self.get("/api/chats/public", token).query(&[("q", text)]);
        self.json("list public chats", call).await
    }

    /// Joins a public chat.
    pub async fn join(&self, token: &str, chat: ChatId) -> Result<Chat, ClientError> {
        let call = self.with_token(Method::POST, &format!("/api/chats/{chat}/join"), token);
        self.json("join a chat", call).await
    }

    /// Joins a chat by the code of an invite link, or asks to.
    pub async fn join_by_invite(&self, token: &str, code: &str) -> Result<Joined, ClientError> {
        let mut url = self.url("/api/invites");
        // A code is what a user typed: it may have any character.
        url.path_segments_mut().expect("an address has a path").extend([code, "join"]);
        self.json("join by an invite link", self.http.post(url).bearer_auth(token)).await
    }

    /// Makes an invite link of a chat.
    pub async fn create_invite(
        &self,
        token: &str,
        chat: ChatId,
        request: &CreateInviteRequest,
    ) -> Result<CreatedInvite, ClientError> {
        let call = self.with_token(Method::POST, &format!("/api/chats/{chat}/invites"), token).json(request);
        self.json("make an invite link", call).await
    }

    /// Returns the invite links of a chat.
    pub async fn invites(&self, token: &str, chat: ChatId) -> Result<Vec<Invite>, ClientError> {
        self.all("list invite links", &format!("/api/chats/{chat}/invites"), token).await
    }

    pub async fn revoke_invite(
        &self,
        token: &str,
        chat: ChatId,
        invite: InviteId,
    ) -> Result<(), ClientError> {
        let path = format!("/api/chats/{chat}/invites/{invite}");
        self.done("revoke an invite link", self.with_token(Method::DELETE, &path, token)).await
    }

    /// Returns who asks to join a chat.
    pub async fn join_requests(&self, token: &str, chat: ChatId) -> Result<Vec<JoinRequest>, ClientError> {
        self.all("list requests to join", &format!("/api/chats/{chat}/requests"), token).await
    }

    /// Lets a user in who asks to join, or does not.
    pub async fn decide(
        &self,
        token: &str,
        chat: ChatId,
        user: UserId,
        is_approved: bool,
    ) -> Result<(), ClientError> {
        let method = if is_approved { Method::PUT } else { Method::DELETE };
        let path = format!("/api/chats/{chat}/requests/{user}");
        self.done("decide on a request to join", self.with_token(method, &path, token)).await
    }

    /// Adds a member or changes the role.
    pub async fn put_member(
        &self,
        token: &str,
        chat: ChatId,
        user: UserId,
        role: Role,
    ) -> Result<(), ClientError> {
        let path = format!("/api/chats/{chat}/members/{user}");
        let call = self.with_token(Method::PUT, &path, token).json(&PutMemberRequest { role });
        self.done("put a member", call).await
    }

    /// Removes a member; one's own removal is leaving.
    pub async fn remove_member(&self, token: &str, chat: ChatId, user: UserId) -> Result<(), ClientError> {
        let path = format!("/api/chats/{chat}/members/{user}");
        self.done("remove a member", self.with_token(Method::DELETE, &path, token)).await
    }

    pub async fn block(&self, token: &str, user: UserId) -> Result<(), ClientError> {
        let call = self.with_token(Method::PUT, &format!("/api/blocks/{user}"), token);
        self.done("block a user", call).await
    }

    pub async fn unblock(&self, token: &str, user: UserId) -> Result<(), ClientError> {
        let call = self.with_token(Method::DELETE, &format!("/api/blocks/{user}"), token);
        self.done("lift a block", call).await
    }

    /// Returns everyone whom the caller blocks.
    pub async fn blocks(&self, token: &str) -> Result<Vec<Block>, ClientError> {
        self.all("list blocks", "/api/blocks", token).await
    }

    /// Returns one page of history by REST: entries with a greater seq than `after`, oldest first.
    pub async fn history(
        &self,
        token: &str,
        chat: ChatId,
        after: i64,
        limit: u32,
    ) -> Result<MessagePage, ClientError> {
        let call = self
            .get(&format!("/api/messages/{chat}"), token)
            .query(&[("after", after.to_string()), ("limit", limit.to_string())]);
        self.json("read history", call).await
    }

    /// Returns one page of what the caller wrote, also in chats that they have left, by chat and seq.
    pub async fn own_messages(
        &self,
        token: &str,
        cursor: Option<&str>,
    ) -> Result<Page<Message>, ClientError> {
        let query: Vec<_> = cursor.iter().map(|cursor| ("cursor", cursor)).collect();
        self.json("list own messages", self.get("/api/messages", token).query(&query)).await
    }

    /// Opens a WebSocket of JSON; `connect` has still to be sent.
    pub async fn upgrade(&self) -> Result<Socket, ClientError> {
        Ok(self.offer(&[Encoding::Json]).await?.0)
    }

    /// Opens a WebSocket in the encoding of this messenger, or in JSON when the server knows no other.
    pub(crate) async fn open_socket(&self) -> Result<(Socket, Encoding), ClientError> {
        match self.encoding {
            Encoding::Json => self.offer(&[Encoding::Json]).await,
            other => self.offer(&[other, Encoding::Json]).await,
        }
    }

    /// Opens a WebSocket in one of these encodings, the first that the server knows.
    async fn offer(&self, encodings: &[Encoding]) -> Result<(Socket, Encoding), ClientError> {
        const ACTION: &str = "open the WebSocket";
        let key = generate_key();
        let offered: Vec<&str> = encodings.iter().map(|encoding| encoding.subprotocol()).collect();
        let offered = offered.join(", ");
        let call = self
            .http
            .get(self.url("/ws"))
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key)
            .header(header::SEC_WEBSOCKET_PROTOCOL, &offered);
        let response = self.answer(ACTION, call, StatusCode::SWITCHING_PROTOCOLS).await?;
        let answered = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let refused = |detail: &str| ClientError::Handshake {
            action: ACTION,
            url: self.base.to_string(),
            detail: detail.into(),
        };
        if answered(header::SEC_WEBSOCKET_ACCEPT) != Some(&derive_accept_key(key.as_bytes())) {
            return Err(refused("its accept key does not match"));
        }
        let spoken = answered(header::SEC_WEBSOCKET_PROTOCOL).and_then(Encoding::of);
        let Some(encoding) = spoken.filter(|spoken| encodings.contains(spoken)) else {
            return Err(refused(&format!("it does not support {offered}")));
        };
        let upgraded = response.upgrade().await.map_err(|source| self.transport(ACTION, source))?;
        Ok((WebSocketStream::from_raw_socket(upgraded, SocketRole::Client, None).await, encoding))
    }

    pub(crate) fn get(&self, path: &str, token: &str) -> RequestBuilder {
        self.with_token(Method::GET, path, token)
    }

    pub(crate) fn with_token(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        self.http.request(method, self.url(path)).bearer_auth(token)
    }

    /// Returns the items of all pages of a list.
    async fn all<T: DeserializeOwned>(
        &self,
        action: &'static str,
        path: &str,
        token: &str,
    ) -> Result<Vec<T>, ClientError> {
        let mut items = Vec::new();
        let mut cursor = None::<String>;
        loop {
            let call = self.get(path, token).query(&cursor.iter().map(|c| ("cursor", c)).collect::<Vec<_>>());
            let page: Page<T> = self.json(action, call).await?;
            items.extend(page.items);
            match page.next_cursor {
                Some(next) if Some(&next) != cursor.as_ref() => cursor = Some(next),
                _ => return Ok(items),
            }
        }
    }

    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        action: &'static str,
        call: RequestBuilder,
    ) -> Result<T, ClientError> {
        let response = self.answer(action, call, StatusCode::OK).await?;
        let body = self.body(action, response).await?;
        serde_json::from_slice(&body).map_err(|source| ClientError::Shape {
            action,
            url: self.base.to_string(),
            source,
        })
    }

    pub(crate) async fn done(&self, action: &'static str, call: RequestBuilder) -> Result<(), ClientError> {
        self.answer(action, call, StatusCode::OK).await.map(drop)
    }

    /// Sends a call and returns its response when it is the `expected` one; any 2xx stands for 200.
    pub(crate) async fn answer(
        &self,
        action: &'static str,
        call: RequestBuilder,
        expected: StatusCode,
    ) -> Result<Response, ClientError> {
        let sent = tokio::time::timeout(CALL_TIMEOUT, call.send()).await.map_err(|_| self.timeout(action))?;
        let response = sent.map_err(|source| self.transport(action, source))?;
        let status = response.status();
        if status == expected || (expected == StatusCode::OK && status.is_success()) {
            return Ok(response);
        }
        let retry_after_seconds = retry_after_seconds(&response);
        let problem = serde_json::from_slice::<Problem>(&self.body(action, response).await?).ok();
        let (url, status) = (self.base.to_string(), status.as_u16());
        Err(ClientError::Refused { action, url, status, retry_after_seconds, problem })
    }

    async fn body(&self, action: &'static str, response: Response) -> Result<Vec<u8>, ClientError> {
        let body =
            tokio::time::timeout(CALL_TIMEOUT, response.bytes()).await.map_err(|_| self.timeout(action))?;
        Ok(body.map_err(|source| self.transport(action, source))?.to_vec())
    }

    pub(crate) fn transport(&self, action: &'static str, source: reqwest::Error) -> ClientError {
        ClientError::Transport { action, url: self.base.to_string(), source: source.without_url() }
    }

    fn timeout(&self, action: &'static str) -> ClientError {
        self.late(action, CALL_TIMEOUT)
    }

    pub(crate) fn late(&self, action: &'static str, within: Duration) -> ClientError {
        ClientError::Timeout { action, url: self.base.to_string(), seconds: within.as_secs() }
    }
}

/// Returns after how many seconds a client may come back, where the server says so and it is less than a day.
pub(crate) fn retry_after_seconds(response: &Response) -> Option<NonZeroU16> {
    response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
