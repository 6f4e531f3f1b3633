//! What stands in for a gateway.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use contracts::{
    ChatId, UserId,
    presence::pack,
    rpc::{
        GatewayHello, GatewayNews, Heartbeat, UserChanges, WatchChanges, gateway_news::News,
        presence_service_client::PresenceServiceClient,
    },
    wire::{PresenceState, TypingUser, UserPresence},
};
use futures_util::stream;
use kit::testing::wait_for;
use tokio::{sync::mpsc, task::JoinHandle};
use uuid::Uuid;

use crate::stand::{HEARTBEAT, PATIENCE, Replica};

/// A gateway that is attached to a replica.
pub struct Gateway {
    id: Uuid,
    sender: mpsc::Sender<GatewayNews>,
    received: Arc<Mutex<Received>>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
pub struct Received {
    pub states: HashMap<UserId, UserPresence>,
    /// All states in the order in which they came.
    pub history: Vec<UserPresence>,
    pub typing: Vec<TypingUser>,
    pub absent: PresenceState,
    pub messages: usize,
    /// Whether the replica has ended the call.
    pub is_over: bool,
}

impl Gateway {
    /// Attaches a gateway that sends heartbeats, with these users online.
    pub async fn attach(replica: &Replica, users: &[UserId]) -> Self {
        let mut gateway = Self::attach_as(Uuid::new_v4(), replica, users).await;
        let sender = gateway.sender.clone();
        gateway.tasks.push(tokio::spawn(async move {
            loop {
                tokio::time::sleep(HEARTBEAT / 4).await;
                let beat = GatewayNews { news: Some(News::Heartbeat(Heartbeat {})) };
                if sender.send(beat).await.is_err() {
                    return;
                }
            }
        }));
        gateway
    }

    /// Attaches a gateway that is silent after its first report.
    pub async fn attach_as(id: Uuid, replica: &Replica, users: &[UserId]) -> Self {
        let (sender, receiver) = mpsc::channel(16);
        let received = Arc::<Mutex<Received>>::default();
        let mut gateway = Self { id, sender, received, tasks: Vec::new() };
        gateway.send(News::Hello(GatewayHello { gateway_id: id.as_bytes().to_vec() })).await;
        gateway.all(users).await;
        let sent =
            stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
        let mut news = PresenceServiceClient::new(replica.api.clone())
            .attach(sent)
            .await
            .expect("an attached gateway")
            .into_inner();
        let received = gateway.received.clone();
        let reader = tokio::spawn(async move {
            while let Ok(Some(news)) = news.message().await {
                let mut received = received.lock().expect("no panic");
                received.messages += 1;
                received.absent = news.absent().into();
                for presence in news.users {
                    let presence = UserPresence::try_from(presence).expect("a presence");
                    received.states.insert(presence.user, presence);
                    received.history.push(presence);
                }
                received
                    .typing
                    .extend(news.typing.into_iter().map(|of| TypingUser::try_from(of).expect("ids")));
            }
            received.lock().expect("no panic").is_over = true;
        });
        gateway.tasks.push(reader);
        gateway
    }

    pub fn id(&self) -> Uuid {
        self.id
    }

    pub async fn send(&self, news: News) {
        self.sender.send(GatewayNews { news: Some(news) }).await.expect("an attached gateway");
    }

    /// Reports all users of the gateway.
    pub async fn all(&self, users: &[UserId]) {
        let online = pack(users.iter().map(|user| user.0));
        self.send(News::Users(UserChanges { is_all: true, online, ..UserChanges::default() })).await;
    }

    /// Reports that a user is like this.
    pub async fn report(&self, user: UserId, state: PresenceState) {
        let mut changes = UserChanges::default();
        let ids = pack([user.0]);
        match state {
            PresenceState::Online => changes.online = ids,
            PresenceState::Away => changes.away = ids,
            PresenceState::Offline | PresenceState::Unknown => changes.offline = ids,
        }
        self.send(News::Users(changes)).await;
    }

    pub async fn watch(&self, users: &[UserId], chats: &[ChatId]) {
        let added_users = pack(users.iter().map(|user| user.0));
        let added_chats = pack(chats.iter().map(|chat| chat.0));
        self.send(News::Watch(WatchChanges { added_users, added_chats, ..WatchChanges::default() })).await;
    }

    /// Returns what is known of all that was received.
    pub fn received<T>(&self, of: impl FnOnce(&Received) -> T) -> T {
        of(&self.received.lock().expect("no panic"))
    }

    /// Waits until a watched user is like this, and returns all that is known of them.
    pub async fn sees(&self, user: UserId, state: PresenceState) -> UserPresence {
        wait_for(&format!("{user} as {state:?}"), PATIENCE, async || {
            self.received(|received| received.states.get(&user).copied().filter(|of| of.state == state))
        })
        .await
    }

    /// Waits until absent users are known to be offline.
    pub async fn settles(&self) {
        wait_for("complete presence", PATIENCE, async || {
            self.received(|received| (received.absent == PresenceState::Offline).then_some(()))
        })
        .await;
    }

    /// Goes without a word, as a killed process does.
    pub async fn kill(self) {
        drop(self);
        // Its tasks are aborted when they are polled next.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
