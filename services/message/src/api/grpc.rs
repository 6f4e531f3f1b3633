//! gRPC for the tenant's other services.

use std::sync::Arc;

use contracts::{
    ChatId, UserId,
    rpc::{
        EntriesRequest, EntriesResponse, EntryPlace, EntryRequest, EntryResponse, HistoryRequest,
        HistoryResponse, ListResponse, MarkRequest, MovedRequest, MovedResponse, PinsRequest, RepliesRequest,
        SyncRequest, SyncResponse, Watermarks,
        message_service_server::{MessageService, MessageServiceServer},
    },
    wire::MAX_SYNC_ENTRIES,
};
use kit::{
    clock::now_ms,
    error::status,
    page::{LIST, SYNC, Span},
    rpc::id,
};
use tonic::{Request, Response, Status, service::Routes};

use super::AppState;
use crate::{
    domain::{KeyId, SeatId, TargetId},
    error::Error,
    history::List,
    store::StoreError,
};

/// Returns the gRPC services.
pub(crate) fn routes(state: &AppState) -> Routes {
    Routes::new(MessageServiceServer::new(Messages(state.clone())))
}

struct Messages(AppState);

#[tonic::async_trait]
#[deny(clippy::missing_trait_methods, reason = "one that is missing would answer `UNIMPLEMENTED`")]
impl MessageService for Messages {
    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryResponse>, Status> {
        let HistoryRequest {
            chat_id,
            user_id,
            known_from_seq,
            after_seq,
            limit,
            before_seq,
            around_seq,
            from_ms,
        } = request.into_inner();
        // 0 stands for an absent `after_seq`, and is the same.
        let span = Span::of((after_seq != 0).then_some(after_seq), before_seq, around_seq, from_ms)?;
        let (chat, user) = (id("chat_id", &chat_id)?, id("user_id", &user_id)?);
        // 0 stands for an absent limit.
        let size = kit::page::HISTORY.of((limit != 0).then_some(limit.into()))?;
        let found = self.0.read(chat, user, known_from_seq, span, size).await.map_err(status)?;
        let messages = found.messages.into_iter().map(Into::into).collect();
        Ok(Response::new(HistoryResponse { messages, head_seq: found.head_seq, from_seq: found.from_seq }))
    }

    async fn entry(&self, request: Request<EntryRequest>) -> Result<Response<EntryResponse>, Status> {
        let EntryRequest { chat_id, user_id, seq, key, key_chat_id, count_pins } = request.into_inner();
        let (chat, sender) = (id("chat_id", &chat_id)?, id("user_id", &user_id)?);
        let message = match seq {
            0 => None,
            seq => Some(self.0.entry(chat, sender, seq).await.map_err(status)?.into()),
        };
        let is_key_known = match key.as_str() {
            "" => false,
            key => {
                let of = if key_chat_id.is_empty() { chat } else { id("key_chat_id", &key_chat_id)? };
                let id = KeyId { chat: of, sender, key: id("key", key)? };
                let known = self.0.store.known_key_of(id).await;
                known.map_err(|source| unread(chat, source))?.is_some()
            }
        };
        let pins = if count_pins {
            self.0.store.count_pins_of(chat, now_ms()).await.map_err(|source| unread(chat, source))?
        } else {
            0
        };
        let pins = u32::try_from(pins).unwrap_or(u32::MAX);
        Ok(Response::new(EntryResponse { message, is_key_known, pins }))
    }

    async fn entries(&self, request: Request<EntriesRequest>) -> Result<Response<EntriesResponse>, Status> {
        let places = request.into_inner().places;
        if places.len() > LIST.max {
            return Err(Status::invalid_argument(format!("places: must be at most {}", LIST.max)));
        }
        // One that is not positive is of no entry.
        let places = places.into_iter().filter(|EntryPlace { seq, .. }| *seq > 0);
        let ids =
            places.map(|EntryPlace { chat_id, seq }| Ok(TargetId { chat: id("chat_id", &chat_id)?, seq }));
        let ids = ids.collect::<Result<Vec<_>, Status>>()?;
        let entries = self.0.store.entries_of(ids).await.map_err(|source| status(Error::Entries(source)))?;
        Ok(Response::new(EntriesResponse { messages: entries.into_iter().map(Into::into).collect() }))
    }

    async fn pins(&self, request: Request<PinsRequest>) -> Result<Response<ListResponse>, Status> {
        let PinsRequest { chat_id, user_id, before_seq, limit } = request.into_inner();
        let reader = SeatId { chat: id("chat_id", &chat_id)?, user: id("user_id", &user_id)? };
        // 0 stands for an absent limit.
        let size = LIST.of((limit != 0).then_some(limit.into()))?;
        let list = self.0.pins(reader, before_seq, size).await.map_err(status)?;
        Ok(Response::new(list.into()))
    }

    async fn replies(&self, request: Request<RepliesRequest>) -> Result<Response<ListResponse>, Status> {
        let RepliesRequest { chat_id, user_id, seq, after_seq, limit } = request.into_inner();
        let reader = SeatId { chat: id("chat_id", &chat_id)?, user: id("user_id", &user_id)? };
        // 0 stands for an absent limit.
        let size = LIST.of((limit != 0).then_some(limit.into()))?;
        let list = self.0.replies(reader, (seq, after_seq), size).await.map_err(status)?;
        Ok(Response::new(list.into()))
    }

    async fn sync(&self, request: Request<SyncRequest>) -> Result<Response<SyncResponse>, Status> {
        let SyncRequest { user_id, cursor, limit, entries } = request.into_inner();
        let user: UserId = id("user_id", &user_id)?;
        // 0 stands for an absent limit.
        let limit = SYNC.of((limit != 0).then_some(limit.into()))?.items();
        let entries = usize::try_from(entries).unwrap_or_default().min(MAX_SYNC_ENTRIES as usize);
        let page = self.0.sync(user, &cursor, limit, entries).await.map_err(status)?;
        Ok(Response::new(page))
    }

    async fn moved(&self, request: Request<MovedRequest>) -> Result<Response<MovedResponse>, Status> {
        let moved = self.0.moved(&request.into_inner().cursor).await.map_err(status)?;
        Ok(Response::new(moved))
    }

    async fn mark(&self, request: Request<MarkRequest>) -> Result<Response<Watermarks>, Status> {
        let MarkRequest { chat_id, user_id, read_seq, delivered_seq } = request.into_inner();
        let (chat, user) = (id("chat_id", &chat_id)?, id("user_id", &user_id)?);
        let marked = self.0.mark(SeatId { chat, user }, read_seq, delivered_seq).await.map_err(status)?;
        Ok(Response::new(marked.into()))
    }
}

fn unread(chat: ChatId, source: StoreError) -> Status {
    status(Error::History { chat, source: Arc::new(source) })
}

impl From<List> for ListResponse {
    fn from(List { messages, more }: List) -> Self {
        Self { messages: messages.into_iter().map(Into::into).collect(), more }
    }
}
