//! Stories over REST and gRPC.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use chat::{
    api::{AppState, Changes, Drafts, Guesses, Patience, Users, grpc::ChatRpc},
    domain::Limits,
    scheduled::Alarm,
    store::MemoryStore,
};
use contracts::{
    ChatId, UserId,
    api::{ContactableBy, MAX_DRAFT_BYTES},
    rpc::{
        CheckBlocksRequest, CheckMembersRequest, FindChatsRequest, GetMembershipRequest,
        ListAcquaintancesRequest, ListCalledRequest, ListMembershipsRequest, Membership, OwnState,
        chat_service_server::ChatService as _,
    },
};
use kit::{
    bucket::Rate,
    log::Log,
    testing::{Answer, TestApi, TestRealm, TestUser},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};

use crate::users::{self, Peer};

mod blocks;
mod direct;
mod groups;
mod joining;
mod limits;
mod requests;
mod scheduled;
mod services;

struct App {
    api: TestApi,
    store: Arc<MemoryStore>,
    rpc: ChatRpc,
    realm: TestRealm,
    users: Peer,
    state: AppState,
}

impl App {
    async fn start() -> Self {
        let users = Peer::default();
        let client = users.start().await;
        Self::with_users(users, client).await
    }

    async fn with_users(users: Peer, client: Users) -> Self {
        let app = Self::silent(users, client, Patience::default()).await;
        app.publish();
        app
    }

    /// Starts without a publisher.
    async fn unpublished(patience: Patience) -> Self {
        let users = Peer::default();
        let client = users.start().await;
        Self::silent(users, client, patience).await
    }

    /// Starts for a tenant with little room.
    async fn limited(limits: Limits, changes: Changes) -> Self {
        let users = Peer::default();
        let client = users.start().await;
        let app = Self::on(MemoryStore::new(limits), users, client, (Patience::default(), changes)).await;
        app.publish();
        app
    }

    async fn silent(users: Peer, client: Users, patience: Patience) -> Self {
        let state = (patience, Changes::default());
        Self::on(MemoryStore::default(), users, client, state).await
    }

    async fn on(
        store: MemoryStore,
        users: Peer,
        client: Users,
        (patience, changes): (Patience, Changes),
    ) -> Self {
        let realm = TestRealm::start("acme").await;
        let store = Arc::new(store);
        let rpc = ChatRpc::new(store.clone());
        let guesses = Guesses::default();
        let state = AppState {
            store: store.clone(),
            users: client,
            patience,
            changes,
            drafts: Drafts::default(),
            guesses,
            alarm: Alarm::default(),
        };
        let api = TestApi::new(chat::api::router(state.clone()), &realm);
        Self { api, store, rpc, realm, users, state }
    }

    /// Allows other guesses of invite links.
    fn guesses(&mut self, guesses: Guesses) {
        self.state.guesses = guesses;
        self.api = TestApi::new(chat::api::router(self.state.clone()), &self.realm);
    }

    /// Publishes the outbox from now on.
    fn publish(&self) {
        let producer = Log::memory().producer(None).expect("a producer");
        let stop = CancellationToken::new();
        tokio::spawn(chat::events::publish_memory(self.store.clone(), producer, "acme".to_owned(), stop));
    }

    async fn put(&self, caller: &TestUser, chat: &str, user: &TestUser, role: &str) -> Answer {
        let line = format!("PUT /api/chats/{chat}/members/{}", user.id);
        self.api.send(&line, Some(&caller.token), Some(json!({"role": role}))).await
    }

    async fn remove(&self, caller: &TestUser, chat: &str, user: &TestUser) -> Answer {
        let line = format!("DELETE /api/chats/{chat}/members/{}", user.id);
        self.api.send(&line, Some(&caller.token), None).await
    }

    async fn group(&self, owner: &TestUser, others: &[&TestUser]) -> String {
        let others: Vec<_> = others.iter().map(|user| user.id).collect();
        let body = json!({"kind": "group", "title": "Crew", "members": others});
        let chat = self.api.post(owner, "/api/chats", body).await.ok(201);
        chat["chat_id"].as_str().expect("an id").to_owned()
    }
}
