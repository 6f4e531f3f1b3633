//! Reading all chats into the index.

use std::{collections::VecDeque, future::pending, ops::RangeInclusive, time::Duration};

use contracts::{
    ChatId, UserId,
    convert::UnreadableField,
    event::EntryKind,
    rpc::{
        HistoryRequest, ListChatsRequest, chat_directory_client::ChatDirectoryClient,
        message_service_client::MessageServiceClient,
    },
    wire::{MAX_HISTORY_LIMIT, Message},
};
use futures_util::future::BoxFuture;
use kit::{backoff::Backoff, outage::Outage, rpc::InternalChannel};
use tonic::Status;
use uuid::Uuid;

use crate::domain::{Build, Document};

/// After a call that failed.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(10);
/// What an outage is called in the log.
const WHAT: &str = "reading chats into the index";

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("failed to list the chats of the tenant")]
    Chats(#[source] Box<Status>),
    #[error("failed to read the history of chat {chat}")]
    History { chat: ChatId, source: Box<Status> },
    #[error(transparent)]
    Unreadable(#[from] UnreadableField),
}

/// Where all chats are read.
#[derive(Clone)]
pub struct Source {
    chats: ChatDirectoryClient<InternalChannel>,
    messages: MessageServiceClient<InternalChannel>,
}

/// What was read.
pub(super) enum Step {
    /// Chats by id, and how many the tenant has.
    Chats(Vec<ChatId>, u64),
    /// What the index keeps of the first entries of a chat behind those that were read.
    Page(Page),
}

/// A page of a history.
pub(super) struct Page {
    documents: Vec<Document>,
    /// The last entry of the page; none on an empty one.
    last_seq: Option<i64>,
    /// The last entry of the chat.
    head_seq: i64,
}

impl Source {
    /// Reads from a chat and a message service.
    pub fn new(chats: InternalChannel, messages: InternalChannel) -> Self {
        Self { chats: ChatDirectoryClient::new(chats), messages: MessageServiceClient::new(messages) }
    }

    async fn chats(mut self, after: Option<ChatId>) -> Result<Step, ReadError> {
        let after_id = after.map(|chat| chat.to_string()).unwrap_or_default();
        let listed = self.chats.list_chats(ListChatsRequest { after_id, limit: 0 }).await;
        let listed = listed.map_err(|status| ReadError::Chats(Box::new(status)))?.into_inner();
        let chats = listed.chat_ids.iter().map(|id| id.parse().map_err(|_| UnreadableField("chat_ids")));
        Ok(Step::Chats(chats.collect::<Result<Vec<ChatId>, _>>()?, listed.total.unsigned_abs()))
    }

    /// Reads as a user for whom the history begins with the first entry. It is no member, and needs not be one: what a search returns is
    /// decided with the search.
    async fn page(mut self, chat: ChatId, after_seq: i64) -> Result<Step, ReadError> {
        let request = HistoryRequest {
            chat_id: chat.to_string(),
            user_id: UserId(Uuid::nil()).to_string(),
            known_from_seq: Some(1),
            after_seq,
            limit: MAX_HISTORY_LIMIT.try_into().unwrap_or(i32::MAX),
            ..HistoryRequest::default()
        };
        let page = self.messages.history(request).await;
        let page = page.map_err(|status| ReadError::History { chat, source: Box::new(status) })?.into_inner();
        let last_seq = page.messages.last().map(|message| message.seq);
        // While services are updated, there may be kinds that this build does not know. They are no texts.
        let known = page.messages.into_iter().filter(|message| EntryKind::parse(&message.kind).is_some());
        let messages = known.map(Message::try_from).collect::<Result<Vec<_>, _>>()?;
        let documents = messages.into_iter().filter_map(Document::of_stored).collect();
        Ok(Step::Page(Page { documents, last_seq, head_seq: page.head_seq }))
    }
}

type Call = BoxFuture<'static, Result<Step, ReadError>>;

/// The reading of all chats, one call after the other.
pub(super) struct Reading {
    source: Source,
    /// How far it has come.
    build: Build,
    /// The chats that come next.
    chats: VecDeque<ChatId>,
    /// The last entry that was read of the first of them.
    after_seq: i64,
    call: Option<Call>,
    /// What is read now may be older than what the log has said meanwhile.
    is_stale: bool,
    backoff: Backoff,
    outage: Outage,
}

impl Reading {
    pub(super) fn new(source: Source, build: Build) -> Self {
        Self {
            source,
            build,
            chats: VecDeque::new(),
            after_seq: 0,
            call: None,
            is_stale: false,
            backoff: Backoff::new(BACKOFF),
            outage: Outage::default(),
        }
    }

    /// Begins with the first chat again.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.source.clone(), Build::default());
    }

    /// Returns how far it has come, with all that [`Self::take`] returned.
    pub(super) fn build(&self) -> Build {
        self.build
    }

    /// Returns what a call read; never, once all is read. It may be cancelled, and goes on.
    pub(super) async fn next(&mut self) -> Result<Step, ReadError> {
        let Build::Reading { after, .. } = self.build else { return pending().await };
        let call = match &mut self.call {
            Some(call) => call,
            None => {
                self.is_stale = false;
                let call = self.call(after, None);
                self.call.insert(call)
            }
        };
        let step = call.await;
        self.call = None;
        step
    }

    /// Returns the call that reads on. It is made when the wait is over, so that its page has what the log says until then.
    fn call(&self, after: Option<ChatId>, wait: Option<Duration>) -> Call {
        let (source, chat, after_seq) = (self.source.clone(), self.chats.front().copied(), self.after_seq);
        Box::pin(async move {
            if let Some(wait) = wait {
                tokio::time::sleep(wait).await;
            }
            match chat {
                Some(chat) => source.page(chat, after_seq).await,
                None => source.chats(after).await,
            }
        })
    }

    /// Notes a change of a message of a chat that the index does not have. If the chat is being read, the page may be from before it.
    pub(super) fn missed(&mut self, chat: ChatId) {
        self.is_stale |= self.chats.front() == Some(&chat);
    }

    /// Takes what was read. Returns what the index is to have of it.
    pub(super) fn take(&mut self, step: Result<Step, ReadError>) -> Vec<Document> {
        let step = match step {
            Ok(step) => step,
            Err(error) => {
                self.outage.failed(WHAT, &error);
                self.wait();
                return Vec::new();
            }
        };
        self.outage.worked(WHAT);
        self.backoff.reset();
        let Build::Reading { read, of, .. } = &mut self.build else { return Vec::new() };
        match step {
            Step::Chats(chats, total) => {
                // Chats may have been created since.
                *of = total.max(*read + chats.len() as u64);
                if chats.is_empty() {
                    self.build = Build::Done;
                }
                self.chats = chats.into();
                Vec::new()
            }
            Step::Page(..) if self.is_stale => Vec::new(),
            Step::Page(Page { documents, last_seq, head_seq }) => {
                self.after_seq = last_seq.unwrap_or(head_seq).max(self.after_seq);
                if self.after_seq >= head_seq {
                    self.finish_chat();
                }
                documents
            }
        }
    }

    fn finish_chat(&mut self) {
        if let Build::Reading { after, read, .. } = &mut self.build {
            *after = self.chats.pop_front().or(*after);
            *read += 1;
        }
        self.after_seq = 0;
    }

    /// Puts the next call off.
    fn wait(&mut self) {
        let wait = self.backoff.next_wait();
        let Build::Reading { after, .. } = self.build else { return };
        self.is_stale = false;
        self.call = Some(self.call(after, Some(wait)));
    }
}
