//! `posthouse.v1.MediaService`, for the tenant's other services.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ChatId, FileId, UserId,
    api::FilePurpose,
    rpc::{self, DescribeFilesRequest, DescribeFilesResponse, media_service_server::MediaService},
};
use kit::{
    error::{InvalidField, status},
    rpc::id,
};
use tonic::{Request, Response, Status, async_trait};

use super::Files;
use crate::{
    domain::{Facts, File},
    error::Error,
};

/// Files of one call: those of one message.
const MAX_FILES: usize = 10;
/// For so long the members of a chat may fetch what a gateway sends to it, until this service has read that it was stored.
const OFFERED_FOR: TimeDelta = TimeDelta::seconds(60);

/// Serves from the store.
pub struct MediaRpc {
    files: Files,
}

impl MediaRpc {
    pub fn new(files: Files) -> Self {
        Self { files }
    }

    /// Returns a file that a user may attach to a message of a chat: their own that was made for it, or, for a forward, one that they may read.
    async fn attachable(
        &self,
        file_id: FileId,
        user_id: UserId,
        chat_id: ChatId,
        now: DateTime<Utc>,
    ) -> Result<rpc::File, Error> {
        let file = self.files.store.file(file_id).await?.ok_or(Error::NotFound(file_id))?;
        let FilePurpose::Chat(made_for) = file.purpose else { return Err(Error::NotFound(file_id)) };
        let is_own = file.owner == user_id && made_for == chat_id;
        let is_attachable = is_own || self.is_read(&file, user_id, now).await?;
        let facts = file.facts().filter(|_| is_attachable).ok_or(Error::NotFound(file_id))?;
        Ok(described(&file, facts))
    }

    /// Reports whether a message that a user reads has a file. That it is the user's own is not enough.
    async fn is_read(&self, file: &File, user_id: UserId, now: DateTime<Utc>) -> Result<bool, Error> {
        let readers = self.files.store.readers(file.file_id, now, super::MAX_READERS).await?;
        self.files.chats.is_in_any(user_id, &readers).await
    }
}

#[async_trait]
impl MediaService for MediaRpc {
    #[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
    async fn describe_files(
        &self,
        request: Request<DescribeFilesRequest>,
    ) -> Result<Response<DescribeFilesResponse>, Status> {
        let DescribeFilesRequest { chat_id, user_id, file_ids } = request.into_inner();
        let (chat_id, user_id, now) = (id("chat_id", &chat_id)?, id("user_id", &user_id)?, Utc::now());
        let file_ids = file_ids.iter().map(|file| id("file_ids", file));
        let file_ids: Vec<FileId> = file_ids.collect::<Result<_, InvalidField>>()?;
        let distinct: BTreeSet<_> = file_ids.iter().collect();
        if file_ids.len() > MAX_FILES || distinct.len() != file_ids.len() {
            let problem = format!("at most {MAX_FILES}, each once");
            return Err(InvalidField { field: "file_ids", problem }.into());
        }
        let mut files = Vec::with_capacity(file_ids.len());
        for file_id in &file_ids {
            files.push(self.attachable(*file_id, user_id, chat_id, now).await.map_err(status)?);
        }
        let offered = self.files.store.offer(&file_ids, chat_id, now + OFFERED_FOR, now).await;
        offered.map_err(|error| status(Error::from(error)))?;
        Ok(Response::new(DescribeFilesResponse { files }))
    }
}

fn described(file: &File, facts: &Facts) -> rpc::File {
    rpc::File {
        id: file.file_id.to_string(),
        name: file.name.as_str().to_owned(),
        r#type: facts.media_type.as_str().to_owned(),
        size: facts.bytes,
        width: facts.width,
        height: facts.height,
        duration_ms: facts.duration_ms,
        blur: facts.blur.clone().unwrap_or_default(),
        has_thumbnail: facts.thumbnail.is_some(),
    }
}
