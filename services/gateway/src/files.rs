//! What the media service says of files that messages carry.

use std::sync::Arc;

use contracts::{
    ChatId, FileId, UserId,
    rpc::{self, media_service_client::MediaServiceClient},
    wire::Attachment,
};
use kit::rpc::InternalChannel;
use tonic::Code;

use crate::error::GatewayError;

/// Looks up files before they are sent, so that the log alone decides what a message carries. A tenant may take no files.
pub(crate) struct Files {
    client: Option<MediaServiceClient<InternalChannel>>,
}

impl Files {
    pub(crate) fn new(channel: Option<InternalChannel>) -> Self {
        Self { client: channel.map(MediaServiceClient::new) }
    }

    /// Returns the files with what is known of them, in their order. Refuses one that is not the sender's, not for this chat, or not ready.
    pub(crate) async fn describe(
        &self,
        chat: ChatId,
        sender: UserId,
        files: &[Attachment],
    ) -> Result<Vec<Attachment>, GatewayError> {
        let mut client = self.client.clone().ok_or(GatewayError::NoMedia { chat })?;
        let request = rpc::DescribeFilesRequest {
            chat_id: chat.to_string(),
            user_id: sender.to_string(),
            file_ids: files.iter().map(|of| of.file.to_string()).collect(),
        };
        let described = client.describe_files(request).await.map_err(|status| match status.code() {
            Code::NotFound => GatewayError::NoSuchFile { chat },
            _ => GatewayError::Media { chat, source: Arc::new(status) },
        })?;
        let described = described.into_inner().files;
        let ids = described.iter().map(|known| known.id.parse::<FileId>().ok());
        if !ids.eq(files.iter().map(|of| Some(of.file))) {
            return Err(GatewayError::NoSuchFile { chat });
        }
        let known = |(of, known): (&Attachment, rpc::File)| {
            Attachment::try_from(known).map_err(|source| GatewayError::File { file: of.file, source })
        };
        files.iter().zip(described).map(known).collect()
    }
}
