//! gRPC for the tenant's other services.

use contracts::{
    UserId,
    rpc::{
        EntryRequest, EntryResponse, HistoryRequest, HistoryResponse, MarkRequest, MovedRequest,
        MovedResponse, SyncRequest, SyncResponse, Watermarks,
        message_service_server::{MessageService, MessageServiceServer},
    },
    wire::MAX_SYNC_ENTRIES,
};
use kit::{
    error::status,
    page::{SYNC, Span},
    rpc::id,
};
use tonic::{Request, Response, Status, service::Routes};

use super::AppState;
use crate::{
    domain::{KeyId, SeatId},
    error::Error,
};

/// Returns the gRPC services.
pub(crate) fn routes(state: &AppState) -> Routes {
    Routes::new(MessageServiceServer::new(Messages(state.clone())))
}

struct Messages(AppState);

#[tonic::async_trait]
impl MessageService for Messages {
    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryResponse>, Status> {
        let HistoryRequest { chat_id, user_id, known_from_seq, after_seq, limit, before_seq, around_seq } =
            request.into_inner();
        // 0 stands for an absent `after_seq`, and is the same.
        let span = Span::of((after_seq != 0).then_some(after_seq), before_seq, around_seq)?;
        let (chat, user) = (id("chat_id", &chat_id)?, id("user_id", &user_id)?);
        // 0 stands for an absent limit.
        let size = kit::page::HISTORY.of((limit != 0).then_some(limit.into()))?;
        let found = self.0.read(chat, user, known_from_seq, span, size).await.map_err(status)?;
        let messages = found.messages.into_iter().map(Into::into).collect();
        Ok(Response::new(HistoryResponse { messages, head_seq: found.head_seq, from_seq: found.from_seq }))
    }

    async fn entry(&self, request: Request<EntryRequest>) -> Result<Response<EntryResponse>, Status> {
        let EntryRequest { chat_id, user_id, seq, key } = request.into_inner();
        let (chat, sender) = (id("chat_id", &chat_id)?, id("user_id", &user_id)?);
        let message = match seq {
            0 => None,
            seq => Some(self.0.entry(chat, sender, seq).await.map_err(status)?.into()),
        };
        let is_key_known = match key.as_str() {
            "" => false,
            key => {
                let id = KeyId { chat, sender, key: id("key", key)? };
                let known = self.0.store.known_key_of(id).await;
                known.map_err(|source| status(Error::History { chat, source }))?.is_some()
            }
        };
        Ok(Response::new(EntryResponse { message, is_key_known }))
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
