//! `posthouse.v1.MediaService`, for the tenant's other services.

use std::collections::BTreeSet;

use chrono::{TimeDelta, Utc};
use contracts::{
    FileId,
    attachment::{Attachment, MAX_ATTACHMENTS},
    rpc::{DescribeFilesRequest, DescribeFilesResponse, media_service_server::MediaService},
};
use kit::{
    error::{InvalidField, status},
    rpc::id,
};
use tonic::{Request, Response, Status, async_trait};

use super::Files;
use crate::{domain::File, error::Error, store::Offered};

/// For so long the members of a chat may fetch what a gateway sends to it, until this service has read that it was stored: the log may be
/// read late, by this service and by the one that stores messages.
const OFFERED_FOR: TimeDelta = TimeDelta::hours(1);

/// Serves from the store.
pub struct MediaRpc {
    files: Files,
}

impl MediaRpc {
    pub fn new(files: Files) -> Self {
        Self { files }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods, reason = "one that is missing would answer `UNIMPLEMENTED`")]
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
        // A call is for the files of one message.
        if file_ids.len() > MAX_ATTACHMENTS || distinct.len() != file_ids.len() {
            let problem = format!("at most {MAX_ATTACHMENTS}, each once");
            return Err(InvalidField { field: "file_ids", problem }.into());
        }
        let offered = self.files.store.offer(&file_ids, user_id, chat_id, now + OFFERED_FOR, now).await;
        match offered.map_err(|error| status(Error::from(error)))? {
            Offered::Files(files) => {
                let files = files.iter().filter_map(described).map(Into::into).collect();
                Ok(Response::new(DescribeFilesResponse { files }))
            }
            Offered::NotFound(file_id) => Err(status(Error::NotFound(file_id))),
        }
    }
}

/// Returns what is known of a file that is ready.
fn described(file: &File) -> Option<Attachment> {
    let facts = file.facts()?;
    Some(Attachment {
        file: file.file_id,
        name: file.name.as_str().to_owned(),
        media_type: facts.media_type.as_str().to_owned(),
        size: facts.bytes,
        width: facts.width,
        height: facts.height,
        duration_ms: facts.duration_ms,
        blur: facts.blur.clone(),
        has_thumbnail: facts.thumbnail.is_some(),
    })
}
