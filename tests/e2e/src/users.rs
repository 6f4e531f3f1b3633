//! Test users: registered, signed in, and what each of them received.

#![allow(clippy::disallowed_methods, reason = "tests make names of their own")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, ensure};
use contracts::{
    ChatId, DeviceId, ErrorCode, FileId, UserId,
    api::{CreateChatRequest, FoundMessages, RegisterRequest},
    wire::{self, ChatState, MAX_HISTORY_LIMIT, Message, TypingUser, UserPresence},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use posthouse_client::{ClientError, Event, Identity, Messenger, Origin, Post, Session};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::eventually;

/// Registrations at a time: hashing a password costs Keycloak a good part of a second of one core.
const REGISTRATIONS_AT_ONCE: usize = 4;

/// How long a refusal for the moment may last on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// Repeats what is refused for the moment, as every client does.
pub(crate) async fn patiently<T>(
    mut attempt: impl AsyncFnMut() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Err(error) if error.is_temporary() && Instant::now() < end => {
                sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

async fn sign_in(messenger: &Messenger, username: &str, password: &str) -> Result<Identity, ClientError> {
    patiently(async || Identity::sign_in(messenger, username, password).await).await
}

/// Returns a username that begins with `name` and that no user has.
pub fn unused(name: &str) -> String {
    format!("{name}-{:08x}", rand::random::<u32>())
}

/// A user with an account, signed in.
pub struct TestUser {
    pub identity: Identity,
    pub password: String,
}

impl TestUser {
    /// Registers a user under an unused name that begins with `name`.
    pub async fn register(messenger: &Messenger, name: &str) -> anyhow::Result<Self> {
        Self::register_as(messenger, unused(name)).await
    }

    /// Registers a user under this name, which no other has.
    pub async fn register_as(messenger: &Messenger, username: String) -> anyhow::Result<Self> {
        let password = format!("Story-{:032x}", rand::random::<u128>());
        let request =
            RegisterRequest { username: username.clone(), password: password.clone(), display_name: None };
        let mut is_repeated = false;
        patiently(async || match messenger.register(&request).await {
            // No other user has the name: the attempt before registered it.
            Err(error) if is_repeated && error.code() == Some(ErrorCode::Conflict) => Ok(()),
            outcome => {
                is_repeated = true;
                outcome.map(|_| ())
            }
        })
        .await?;
        Ok(Self { identity: sign_in(messenger, &username, &password).await?, password })
    }

    /// Registers two users, ann and ben, with a direct chat.
    pub async fn two(messenger: &Messenger) -> anyhow::Result<(Self, Self, ChatId)> {
        let (ann, ben) = (Self::register(messenger, "ann").await?, Self::register(messenger, "ben").await?);
        let chat = ann.direct_chat(&ben).await?;
        Ok((ann, ben, chat))
    }

    /// Registers several users.
    pub async fn crowd(messenger: &Messenger, name: &str, number: usize) -> anyhow::Result<Vec<Self>> {
        stream::iter(0..number)
            .map(|_| Self::register(messenger, name))
            .buffered(REGISTRATIONS_AT_ONCE)
            .try_collect()
            .await
    }

    /// Signs in again, as after the messenger was not available.
    pub async fn sign_in_again(self) -> anyhow::Result<Self> {
        let Self { identity, password } = self;
        let identity = sign_in(identity.messenger(), identity.username(), &password).await?;
        Ok(Self { identity, password })
    }

    /// Signs the same user in on another device, in a session of its own.
    pub async fn on_another_device(&self) -> anyhow::Result<Self> {
        let identity = sign_in(self.messenger(), self.identity.username(), &self.password).await?;
        Ok(Self { identity, password: self.password.clone() })
    }

    pub fn id(&self) -> UserId {
        self.identity.user()
    }

    pub async fn token(&self) -> anyhow::Result<String> {
        Ok(self.identity.token().await?)
    }

    pub fn messenger(&self) -> &Messenger {
        self.identity.messenger()
    }

    /// Starts a direct chat with another user.
    pub async fn direct_chat(&self, other: &Self) -> anyhow::Result<ChatId> {
        Ok(self.open_direct_chat(other).await?)
    }

    /// Starts a direct chat with another user, who may not consent.
    pub async fn open_direct_chat(&self, other: &Self) -> Result<ChatId, ClientError> {
        let request = CreateChatRequest::direct(other.id());
        let token = self.identity.token().await?;
        let chat = patiently(async || self.messenger().create_chat(&token, &request).await).await?;
        Ok(chat.chat_id)
    }

    /// Starts a group with others.
    pub async fn group(&self, title: &str, others: &[UserId]) -> anyhow::Result<ChatId> {
        let request = CreateChatRequest::group(title, others.to_vec());
        let token = self.token().await?;
        let chat = patiently(async || self.messenger().create_chat(&token, &request).await).await?;
        Ok(chat.chat_id)
    }

    /// Opens a session that follows the chats from their beginning.
    pub async fn online(&self, chats: &[ChatId]) -> Online {
        let (session, mut events) = Session::open(self.identity.clone(), DeviceId::generate());
        for &chat in chats {
            session.follow(chat, 0).await;
        }
        let seen = Arc::new(Mutex::new(Seen::default()));
        let record = seen.clone();
        let reader = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                record.lock().expect("no code panics while holding it").take(event);
            }
        });
        Online { name: self.identity.username().to_owned(), session, seen, reader }
    }

    /// Returns the history of a chat by REST, as far as this user reads it.
    pub async fn history(&self, chat: ChatId) -> anyhow::Result<Vec<Message>> {
        let mut stored: Vec<Message> = Vec::new();
        loop {
            let after = stored.last().map_or(0, |message| message.seq);
            let token = self.token().await?;
            let page =
                patiently(async || self.messenger().history(&token, chat, after, MAX_HISTORY_LIMIT).await)
                    .await?;
            if page.messages.is_empty() {
                ensure!(
                    after.max(page.from_seq - 1) >= page.head_seq,
                    "the history ends at {after} and the head is {}",
                    page.head_seq
                );
                return Ok(stored);
            }
            stored.extend(page.messages);
        }
    }

    /// Returns what a file holds, as far as this user reads it.
    pub async fn content(&self, file: FileId) -> anyhow::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.identity.download(file, &mut content).await?;
        Ok(content)
    }

    /// Returns the first messages with these words that this user may read, the newest first.
    pub async fn search(&self, words: &str) -> Result<FoundMessages, ClientError> {
        self.messenger().search_messages(&self.identity.token().await?, words).await
    }
}

/// A user with an open session.
pub struct Online {
    pub name: String,
    pub session: Session,
    seen: Arc<Mutex<Seen>>,
    reader: JoinHandle<()>,
}

/// What a session handed out.
#[derive(Default)]
pub struct Seen {
    /// Entries of each followed chat in the order in which they came.
    pub entries: HashMap<ChatId, Vec<Message>>,
    pub pushed: u64,
    pub refetched: u64,
    pub connected: u64,
    /// How each watched user is.
    pub presence: HashMap<UserId, UserPresence>,
    /// Who typed, in the order in which it came.
    pub typing: Vec<TypingUser>,
    /// Each chat as the last sync had it.
    pub synced: HashMap<ChatId, ChatState>,
    /// Who has read or received what, in the order in which it came.
    pub receipts: Vec<wire::Receipt>,
    /// How the user has chats, as it was pushed.
    pub own_states: Vec<wire::OwnState>,
    /// Why the session ended, or a chat could not be read.
    pub failures: Vec<String>,
}

impl Seen {
    fn take(&mut self, event: Event) {
        match event {
            Event::Entry { message, origin } => {
                match origin {
                    Origin::Pushed => self.pushed += 1,
                    Origin::Refetched => self.refetched += 1,
                    Origin::Own => {}
                }
                self.entries.entry(message.chat).or_default().push(message);
            }
            Event::Connected { .. } => self.connected += 1,
            Event::Unreadable { chat, code } => self.failures.push(format!("{chat} is not readable: {code}")),
            Event::Ended { why } => self.failures.push(format!("the session ended: {why}")),
            Event::Presence(users) => {
                self.presence.extend(users.into_iter().map(|presence| (presence.user, presence)));
            }
            Event::Typing(typing) => self.typing.push(typing),
            Event::Synced(page) => self.synced.extend(page.chats.into_iter().map(|of| (of.chat, of))),
            Event::Marked(receipt) => self.receipts.push(receipt),
            Event::OwnState(own_state) => self.own_states.push(own_state),
            Event::Disconnected { .. } | Event::Elsewhere(_) => {}
        }
    }
}

impl Online {
    /// Sends a message and waits until it is stored; returns its seq.
    pub async fn send(&self, chat: ChatId, body: &str) -> anyhow::Result<i64> {
        self.post(chat, body.into()).await
    }

    /// Sends an entry and waits until it is stored; returns its seq.
    pub async fn post(&self, chat: ChatId, post: Post) -> anyhow::Result<i64> {
        let sent = timeout(Duration::from_secs(30), self.session.send(chat, post.clone()));
        let receipt = sent.await.with_context(|| format!("{post:?} was not stored in 30 s"))?;
        Ok(receipt.with_context(|| format!("{post:?}"))?.seq)
    }

    /// Waits until everything of a chat up to `seq` was handed out.
    pub async fn sees(&self, chat: ChatId, seq: i64, limit: Duration) -> anyhow::Result<()> {
        eventually(&format!("{} sees entry {seq}", self.name), limit, || async {
            let seen = self.seen();
            let last =
                seen.entries.get(&chat).and_then(|entries| entries.last()).map_or(0, |message| message.seq);
            ensure!(last >= seq, "{} has seen {last}; failures: {:?}", self.name, seen.failures);
            Ok(())
        })
        .await
    }

    /// Returns what the session handed out so far.
    pub fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().expect("no code panics while holding it")
    }
}

impl Drop for Online {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Fails when a call was not refused with this code.
pub fn refused<T>(outcome: Result<T, ClientError>, code: ErrorCode) -> anyhow::Result<()> {
    match outcome {
        Ok(_) => anyhow::bail!("it was accepted, and should be refused with {code}"),
        Err(error) => {
            ensure!(error.code() == Some(code), "it should be refused with {code}: {error}");
            Ok(())
        }
    }
}
