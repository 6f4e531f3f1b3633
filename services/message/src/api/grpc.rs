//! gRPC for the tenant's other services.

use contracts::{
    ChatId,
    rpc::{
        EntryRequest, EntryResponse, Head, HeadsRequest, HeadsResponse, HistoryRequest, HistoryResponse,
        message_service_server::{MessageService, MessageServiceServer},
    },
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kit::{
    error::{InvalidField, status},
    page::Span,
    rpc::id,
};
use tonic::{Request, Response, Status, service::Routes};

use super::AppState;
use crate::{domain::KeyId, error::Error};

/// Chats of one `Heads` call: the chats of a user who is in very many.
const MAX_HEADS: usize = 5_000;
/// Head rows read concurrently for one call.
const HEADS_AT_ONCE: usize = 32;

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
        let message = Some(self.0.entry(chat, sender, seq).await.map_err(status)?.into());
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

    async fn heads(&self, request: Request<HeadsRequest>) -> Result<Response<HeadsResponse>, Status> {
        let ids = request.into_inner().chat_ids;
        if ids.len() > MAX_HEADS {
            let problem = format!("at most {MAX_HEADS}");
            return Err(InvalidField { field: "chat_ids", problem }.into());
        }
        let chats: Vec<ChatId> = ids.iter().map(|text| id("chat_ids", text)).collect::<Result<_, _>>()?;
        let heads = stream::iter(chats)
            .map(|chat| async move {
                let head = self.0.store.head_of(chat).await.map_err(Error::Heads)?;
                Ok::<_, Error>(Head { chat_id: chat.to_string(), head_seq: head.seq })
            })
            .buffered(HEADS_AT_ONCE)
            .try_collect()
            .await
            .map_err(status)?;
        Ok(Response::new(HeadsResponse { heads }))
    }
}
