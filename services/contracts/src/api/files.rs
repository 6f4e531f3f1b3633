//! Bodies of files that users upload and fetch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;
use crate::{ChatId, FileId, UserId, event::is_false, word::whole};

/// What a file is for. It decides who may read it, and does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FilePurpose {
    /// Messages of this chat: its members read it once a message has it, and members of chats that it is forwarded to.
    Chat(ChatId),
    /// The picture of this group or channel: its members read it. It is the chat's once `avatar` of the chat is the id of the file.
    ChatPicture(ChatId),
    /// The picture of the one who uploads it, in place of the one before it: every user of the tenant reads it.
    Avatar,
}

/// `POST /api/media/files`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateFileRequest {
    #[serde(rename = "for")]
    pub purpose: FilePurpose,
    /// As it is shown and saved. Of a path the last part stays; what no file system keeps or what hides is left out; the rest is cut to 255
    /// bytes of UTF-8.
    #[schema(schema_with = schema::file_name)]
    pub name: String,
    /// Its media type, without parameters. A picture, audio or video must be what it says; what any other file is decides its bytes.
    #[schema(schema_with = schema::media_type)]
    #[serde(rename = "type")]
    pub media_type: String,
    /// In bytes, exactly. The messenger has a limit for one file.
    #[schema(minimum = 1, example = 48_213)]
    #[serde(deserialize_with = "whole")]
    pub size: i64,
    /// SHA-256 of its bytes in hexadecimal. Bytes with another one are refused; where it is absent, only size and type are checked.
    #[schema(schema_with = schema::sha256)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// How far a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    /// Its upload is not completed.
    Pending,
    /// It is being checked.
    Processing,
    /// It can be attached and read.
    Ready,
    /// It was not taken, see `refused`. Nothing of it is kept but this, for a day.
    Refused,
    /// The scanner found something in it. No user reads it.
    Quarantined,
}

/// Why a file was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileRefusal {
    /// It has another number of bytes than `size`.
    SizeMismatch,
    /// Its bytes have another SHA-256 than `sha256`.
    ChecksumMismatch,
    /// It is something else than `type` says.
    TypeMismatch,
    /// It is a picture of a kind that is not supported: JPEG, PNG, GIF and WebP are.
    UnsupportedPicture,
    /// It is a picture that is damaged or not complete.
    DamagedPicture,
    /// It is a picture with more pixels than are decoded.
    PictureTooLarge,
    /// It is a picture with too many frames, or too many pixels in all of them.
    AnimationTooLong,
    /// It is a picture that took too long.
    PictureTookTooLong,
    /// It is larger than the scanner of the messenger takes.
    TooLargeToScan,
    /// Its check was begun several times and came to no end.
    CheckFailed,
}

/// A file, as the one who uploaded it and those who read it see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct File {
    pub id: FileId,
    #[serde(rename = "for")]
    pub purpose: FilePurpose,
    /// Who uploaded it.
    pub owner: UserId,
    #[schema(example = "two cats.jpg")]
    pub name: String,
    /// As it was declared, until it is ready: then what its bytes say.
    #[schema(example = "image/jpeg")]
    #[serde(rename = "type")]
    pub media_type: String,
    /// In bytes. As it was declared, until it is ready: a picture is encoded again, without what the camera wrote into it.
    #[schema(example = 48_213)]
    pub size: i64,
    pub state: FileState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<FileRefusal>,
    /// Of a picture or a film, in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Of a film or a sound, in milliseconds, where it could be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// A few bytes that stand for a picture until it is there: a thumbhash in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blur: Option<String>,
    /// Whether there is a small picture of it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub has_thumbnail: bool,
    /// Milliseconds since the epoch.
    pub created_at_ms: i64,
    /// What is left to do for its upload, to the one who uploads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<FileUpload>,
    /// Where it is fetched, once it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<FileLinks>,
}

/// How a file is uploaded. The requests go to the object store and carry no token: what they may do is signed in their address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum FileUpload {
    /// With one request.
    Whole(WholeUpload),
    /// In parts, in any order, several at once.
    Parts(PartsUpload),
}

/// The request that uploads a whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WholeUpload {
    /// `PUT`
    #[schema(example = "PUT")]
    pub method: String,
    pub url: String,
    /// Headers that it must carry as they are here, beside a `content-length` of exactly `size`. A browser sets that by itself.
    pub headers: BTreeMap<String, String>,
    /// Milliseconds since the epoch. `GET` of the file gives another request then.
    pub expires_at_ms: i64,
}

/// The requests that upload a file in parts. What was uploaded stays: after an interruption `GET` of the file has what is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartsUpload {
    pub parts: Vec<UploadPart>,
    /// Milliseconds since the epoch. `GET` of the file gives other requests then.
    pub expires_at_ms: i64,
}

/// One part of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadPart {
    /// Counted from 1.
    #[schema(example = 1)]
    pub number: u16,
    /// Where it begins in the file, in bytes.
    #[schema(example = 0)]
    pub offset: i64,
    /// In bytes, exactly.
    #[schema(example = 16_777_216)]
    pub size: i64,
    /// It is there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub uploaded: bool,
    /// Where it is sent with `PUT`. The first 64 parts that are missing have one; `GET` of the file has more, once these are uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// `POST /api/media/avatars`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AvatarsRequest {
    /// Whose pictures.
    #[schema(max_items = 100)]
    pub users: Vec<UserId>,
}

/// Where a file is fetched. The addresses are paths of the messenger, and good for a few minutes and for the caller: whether the caller may
/// read the file is checked each time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileLinks {
    /// The file itself.
    pub content: String,
    /// A small picture of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<String>,
    /// Milliseconds since the epoch. `GET` of the file gives other links then.
    pub expires_at_ms: i64,
}

impl FilePurpose {
    /// Returns the chat whose members it concerns.
    pub const fn chat(self) -> Option<ChatId> {
        match self {
            Self::Chat(chat) | Self::ChatPicture(chat) => Some(chat),
            Self::Avatar => None,
        }
    }
}

impl FileState {
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Processing, Self::Ready, Self::Refused, Self::Quarantined];

    /// Returns the state as it is stored and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Ready => "ready",
            Self::Refused => "refused",
            Self::Quarantined => "quarantined",
        }
    }

    /// Reads the stored form.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl FileRefusal {
    pub const ALL: [Self; 10] = [
        Self::SizeMismatch,
        Self::ChecksumMismatch,
        Self::TypeMismatch,
        Self::UnsupportedPicture,
        Self::DamagedPicture,
        Self::PictureTooLarge,
        Self::AnimationTooLong,
        Self::PictureTookTooLong,
        Self::TooLargeToScan,
        Self::CheckFailed,
    ];

    /// Returns the reason as it is stored and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SizeMismatch => "size_mismatch",
            Self::ChecksumMismatch => "checksum_mismatch",
            Self::TypeMismatch => "type_mismatch",
            Self::UnsupportedPicture => "unsupported_picture",
            Self::DamagedPicture => "damaged_picture",
            Self::PictureTooLarge => "picture_too_large",
            Self::AnimationTooLong => "animation_too_long",
            Self::PictureTookTooLong => "picture_took_too_long",
            Self::TooLargeToScan => "too_large_to_scan",
            Self::CheckFailed => "check_failed",
        }
    }

    /// Reads the stored form.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_stored_is_what_is_sent() {
        for state in FileState::ALL {
            assert_eq!(serde_json::to_value(state).expect("json"), state.as_str());
        }
        for refusal in FileRefusal::ALL {
            assert_eq!(serde_json::to_value(refusal).expect("json"), refusal.as_str());
        }
    }

    #[test]
    fn a_purpose_names_its_chat() {
        let chat = ChatId(Uuid::from_u128(1));
        for (purpose, expected) in [
            (FilePurpose::Chat(chat), json!({"chat": chat})),
            (FilePurpose::ChatPicture(chat), json!({"chat_picture": chat})),
            (FilePurpose::Avatar, json!("avatar")),
        ] {
            assert_eq!(serde_json::to_value(purpose).expect("json"), expected);
            assert_eq!(serde_json::from_value::<FilePurpose>(expected).expect("it is read"), purpose);
        }
    }
}
