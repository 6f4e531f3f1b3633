//! What only stories do with the stand, so that the benchmark has all of it in use.

use std::sync::{Arc, atomic::Ordering};

use contracts::{
    ChatId, FileId, UserId,
    attachment::Attachment,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, SeqRange},
    rpc::{EntryId, User},
    wire::Message,
};
use kit::testing::{TestUser, unreachable_peer, wait_for};
use search::store::{EmbeddedGenerations, Generations};
use tokio::sync::Semaphore;

use crate::stand::{PATIENCE, Peers, Running, Stand, analyzer, entry};

/// Returns a new index in memory.
pub fn index_in_memory() -> Arc<dyn Generations> {
    Arc::new(EmbeddedGenerations::in_memory(analyzer()).expect("an index"))
}

impl Stand {
    /// Starts the service with a new index in memory, and waits until it is complete.
    pub async fn service(&self) -> Running {
        let running = self.start(index_in_memory()).await;
        running.is_complete().await;
        running
    }

    /// Starts the service without a chat service that answers searches.
    pub async fn start_without_chats(&self) -> Running {
        self.start_with(index_in_memory(), self.peers.serve().await, unreachable_peer()).await
    }
}

impl Running {
    pub async fn is_complete(&self) {
        let complete = || async { self.standing.is_complete().then_some(()) };
        wait_for("a complete index", PATIENCE, complete).await;
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

impl Peers {
    /// Adds a user to a chat, who reads it from the entry that adds them.
    pub fn join_by(&self, chat: ChatId, user: &TestUser, added: &DeliveredRecord) {
        let entry = EntryId { sender_id: added.sender.to_string(), key: added.key.to_string() };
        self.seats().insert((user.id.to_string(), chat.to_string()), Some(entry));
    }

    /// Gives a chat of users a title; they are in it from then on.
    pub fn title(&self, chat: ChatId, title: &str, users: &[&TestUser]) {
        for user in users {
            self.join(chat, user);
        }
        self.titles().insert(chat.to_string(), title.to_owned());
    }

    /// Lets two users have a direct chat.
    pub fn pair(&self, chat: ChatId, users: [&TestUser; 2]) {
        for user in users {
            self.join(chat, user);
        }
        self.pairs().push((chat.to_string(), users.map(|user| user.id.to_string())));
    }

    /// Gives a user a name.
    pub fn name(&self, user: &TestUser, username: &str, display_name: &str) {
        self.names().push(User {
            user_id: user.id.to_string(),
            username: username.to_owned(),
            display_name: display_name.to_owned(),
            ..User::default()
        });
    }

    pub fn leave(&self, chat: ChatId, user: &TestUser) {
        self.seats().remove(&(user.id.to_string(), chat.to_string()));
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

/// Gives a text files, each by its name and type.
pub fn with_files(files: &[(&str, &str)], mut record: DeliveredRecord) -> DeliveredRecord {
    if let DeliveryOutcome::Stored { attachments, .. } = &mut record.outcome {
        *attachments = files
            .iter()
            .map(|(name, media_type)| Attachment {
                name: (*name).to_owned(),
                media_type: (*media_type).to_owned(),
                size: 7,
                ..Attachment::unknown(FileId::generate())
            })
            .collect();
    }
    record
}
