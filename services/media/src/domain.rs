//! Files, without I/O: what may be uploaded, how, and for how long it stays.

mod change;
mod link;
mod name;
mod range;
mod upload;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ChatId, FileId, UserId,
    api::{CreateFileRequest, FilePurpose, FileRefusal, FileState},
};
use kit::{error::InvalidField, idempotency::IdempotencyKey};
use sha2::{Digest as _, Sha256};

pub use self::{
    change::{Attached, Change, changes_of},
    link::{Link, LinkKey, Variant},
    name::FileName,
    range::{ByteRange, Wanted},
    upload::{Part, PartPlan, WHOLE_BYTES},
};

/// What nothing refers to is kept for so long: it may be attached meanwhile, and the log may be behind.
pub const FREE_HOURS: i64 = 24;
/// What the scanner found something in is kept for so long, for administrators.
pub const QUARANTINE_DAYS: i64 = 30;
/// A request that was begun before it expired may be writing for so long after: a file of 24 MiB takes it at 7 KB/s.
pub const UPLOAD_SLACK: TimeDelta = TimeDelta::hours(1);
/// A file whose check was begun so often and came to no end is refused: what it did to the processes that had it, it would do again.
pub const MAX_ATTEMPTS: i32 = 5;
/// Files of one user that are checked at once, in all processes: those of others are not behind them.
pub const MAX_CLAIMS: i64 = 2;
/// Files of one user that nothing refers to, or that are being removed: what their uploads wrote may be there still.
pub const MAX_FREE_FILES: i64 = 200;
/// Largest file there may be in bytes: what S3 copies with one request.
pub const LARGEST_FILE_BYTES: i64 = 5 << 30;

/// How much users may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// All users together, in bytes.
    pub tenant_bytes: i64,
    /// One user, in bytes.
    pub user_bytes: i64,
    /// One file, in bytes.
    pub file_bytes: i64,
}

/// A media type in lower case, without parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType(String);

/// The SHA-256 of a file.
pub type Checksum = [u8; 32];

/// A file that a user is about to upload.
#[derive(Clone, Debug)]
pub struct NewFile {
    pub file_id: FileId,
    pub owner: UserId,
    pub purpose: FilePurpose,
    pub name: FileName,
    pub declared: Declared,
    pub key: Option<IdempotencyKey>,
    pub created_at: DateTime<Utc>,
}

/// What the one who uploads a file says of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    pub media_type: MediaType,
    pub bytes: i64,
    pub checksum: Option<Checksum>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub file_id: FileId,
    pub owner: UserId,
    pub purpose: FilePurpose,
    pub name: FileName,
    pub declared: Declared,
    pub state: State,
    /// The id of its upload in parts, at the object store.
    pub multipart_id: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// How far a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Pending,
    Processing,
    Ready(Facts),
    Refused(FileRefusal),
    Quarantined,
    /// It is being removed, and is as good as gone.
    Removing,
}

/// Those who read a file because a message has it: the members of a chat whose histories have the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readers {
    pub chat: ChatId,
    /// The last message of the chat with the file; `None` while one is about to be sent, which every member will read.
    pub seq: Option<i64>,
}

/// What the bytes of a file say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub media_type: MediaType,
    /// Of what is served.
    pub bytes: i64,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub duration_ms: Option<i64>,
    pub blur: Option<String>,
    pub thumbnail: Option<Thumbnail>,
}

/// A small picture of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    pub media_type: MediaType,
    pub bytes: i64,
}

/// What became of the check of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ready(Facts),
    Refused(FileRefusal),
    Quarantined,
}

impl MediaType {
    /// Reads a media type. Parameters are refused: what a file is its bytes say.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, InvalidField> {
        let is_part = |part: &str| {
            let is_of_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte);
            let starts_well = part.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
            starts_well && part.len() <= 127 && part.bytes().all(is_of_part)
        };
        let parts = text.split_once('/').filter(|(kind, name)| is_part(kind) && is_part(name));
        let problem = || "must be a media type such as image/jpeg, without parameters".to_owned();
        parts
            .map(|_| Self(text.to_ascii_lowercase()))
            .ok_or_else(|| InvalidField { field, problem: problem() })
    }

    /// Returns the media type of what is known here. It is one by construction.
    pub fn of(text: &str) -> Self {
        Self::parse("type", text).unwrap_or_else(|_| Self::unknown())
    }

    /// Returns that of bytes which are nothing else.
    pub fn unknown() -> Self {
        Self("application/octet-stream".to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether it promises a picture.
    pub fn is_picture(&self) -> bool {
        self.0.starts_with("image/")
    }

    /// Returns whether it promises what is shown inside a page: a picture, a film or a sound. What promises that is checked to be it.
    pub fn is_medium(&self) -> bool {
        ["image/", "video/", "audio/"].iter().any(|start| self.0.starts_with(start))
    }
}

impl NewFile {
    /// Reads a request for an upload.
    pub fn parse(
        file_id: FileId,
        owner: UserId,
        request: &CreateFileRequest,
        key: Option<IdempotencyKey>,
        created_at: DateTime<Utc>,
    ) -> Result<Self, InvalidField> {
        let media_type = MediaType::parse("type", &request.media_type)?;
        let is_picture_only = matches!(request.purpose, FilePurpose::Avatar | FilePurpose::ChatPicture(_));
        if is_picture_only && !media_type.is_picture() {
            let problem = "must be a picture for a user or a chat".to_owned();
            return Err(InvalidField { field: "type", problem });
        }
        if request.size < 1 {
            return Err(InvalidField { field: "size", problem: "must be 1 or more".to_owned() });
        }
        let checksum = request.sha256.as_deref().map(checksum).transpose()?;
        Ok(Self {
            file_id,
            owner,
            purpose: request.purpose,
            name: FileName::of(&request.name),
            declared: Declared { media_type, bytes: request.size, checksum },
            key,
            created_at,
        })
    }

    /// Returns what a repetition has in common with the first request.
    pub fn digest(&self) -> Checksum {
        let Self { purpose, name, declared: Declared { media_type, bytes, checksum }, .. } = self;
        let text = format!("{purpose:?}\n{}\n{bytes}\n{checksum:?}\n{}", media_type.0, name.as_str());
        Sha256::digest(text).into()
    }

    /// Returns the file as it begins.
    pub fn file(&self) -> File {
        File {
            file_id: self.file_id,
            owner: self.owner,
            purpose: self.purpose,
            name: self.name.clone(),
            declared: self.declared.clone(),
            state: State::Pending,
            multipart_id: None,
            created_at: self.created_at,
        }
    }
}

/// Reads a SHA-256 in hexadecimal.
fn checksum(text: &str) -> Result<Checksum, InvalidField> {
    let problem = || "must be 64 of 0-9 a-f".to_owned();
    let refused = || InvalidField { field: "sha256", problem: problem() };
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(refused)
}

impl File {
    /// Returns whether its upload is in parts.
    pub fn is_in_parts(&self) -> bool {
        self.declared.bytes > WHOLE_BYTES
    }

    /// Returns the facts of a file that is ready.
    pub fn facts(&self) -> Option<&Facts> {
        match &self.state {
            State::Ready(facts) => Some(facts),
            _ => None,
        }
    }

    /// Returns the key of the object that its upload in one request writes. What is there is never served: the request is good for a while after
    /// the check.
    pub fn upload_key(&self) -> String {
        format!("uploads/{}", self.file_id)
    }

    /// Returns the key of the object that is served.
    pub fn key(&self, variant: Variant) -> String {
        match variant {
            Variant::Content => format!("files/{}", self.file_id),
            Variant::Thumbnail => format!("thumbnails/{}", self.file_id),
        }
    }

    /// Returns the moment up to which a file that is free since `free_since` is kept.
    pub fn kept_until(state: FileState, free_since: DateTime<Utc>) -> DateTime<Utc> {
        free_since
            + match state {
                FileState::Quarantined => TimeDelta::days(QUARANTINE_DAYS),
                FileState::Pending | FileState::Processing | FileState::Ready | FileState::Refused => {
                    TimeDelta::hours(FREE_HOURS)
                }
            }
    }
}

impl State {
    /// Returns the state as others see it; `None` for a file that is as good as gone.
    pub fn shown(&self) -> Option<FileState> {
        match self {
            Self::Pending => Some(FileState::Pending),
            Self::Processing => Some(FileState::Processing),
            Self::Ready(_) => Some(FileState::Ready),
            Self::Refused(_) => Some(FileState::Refused),
            Self::Quarantined => Some(FileState::Quarantined),
            Self::Removing => None,
        }
    }

    /// Returns what became of the check, if it has ended.
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Ready(facts) => Some(Outcome::Ready(facts.clone())),
            Self::Refused(refusal) => Some(Outcome::Refused(*refusal)),
            Self::Quarantined => Some(Outcome::Quarantined),
            Self::Pending | Self::Processing | Self::Removing => None,
        }
    }
}

impl From<Outcome> for State {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ready(facts) => Self::Ready(facts),
            Outcome::Refused(refusal) => Self::Refused(refusal),
            Outcome::Quarantined => Self::Quarantined,
        }
    }
}

impl Outcome {
    /// Returns how many bytes are charged for a file of this outcome while the request of its upload may still be used. That writes what was
    /// `declared`, again and whatever the outcome is: who is charged less could store any number of bytes with files that are refused.
    pub fn charged_bytes(&self, declared: i64) -> i64 {
        let kept = self.kept_bytes(declared);
        // An upload in parts ends with its check: no part can be written after it.
        if declared > WHOLE_BYTES { kept } else { kept.max(declared) }
    }

    /// Returns how many bytes a file of this outcome keeps, of which `declared` were taken for it.
    pub fn kept_bytes(&self, declared: i64) -> i64 {
        match self {
            Self::Ready(facts) => {
                facts.bytes + facts.thumbnail.as_ref().map_or(0, |thumbnail| thumbnail.bytes)
            }
            Self::Refused(_) => 0,
            Self::Quarantined => declared,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn request() -> CreateFileRequest {
        CreateFileRequest {
            purpose: FilePurpose::Chat(ChatId(Uuid::from_u128(1))),
            name: "two cats.jpg".to_owned(),
            media_type: "image/jpeg".to_owned(),
            size: 7,
            sha256: Some("0f".repeat(32)),
        }
    }

    fn parse(request: &CreateFileRequest) -> Result<NewFile, &'static str> {
        let ids = (FileId(Uuid::from_u128(2)), UserId(Uuid::from_u128(3)));
        NewFile::parse(ids.0, ids.1, request, None, DateTime::UNIX_EPOCH).map_err(|error| error.field)
    }

    #[test]
    fn a_request_for_an_upload_is_read_or_the_field_is_named() {
        let new = parse(&request()).expect("a new file");
        assert_eq!(new.declared.checksum, Some([0x0f; 32]));
        assert_eq!(new.declared.media_type.as_str(), "image/jpeg");
        let check = |change: fn(&mut CreateFileRequest), field| {
            let mut request = request();
            change(&mut request);
            assert_eq!(parse(&request).map(drop), Err(field));
        };
        check(|request| request.size = 0, "size");
        check(|request| request.size = -1, "size");
        for bad in ["", "image", "image/", "/jpeg", "image/jpeg; q=1", "image/j peg", "image/jpeg/x"] {
            let request = CreateFileRequest { media_type: bad.to_owned(), ..request() };
            assert_eq!(parse(&request).map(drop), Err("type"), "{bad}");
        }
        check(|request| request.sha256 = Some("0f".repeat(31)), "sha256");
        check(|request| request.sha256 = Some("0F".repeat(32)), "sha256");
        check(|request| request.sha256 = Some("0".repeat(63)), "sha256");
        let avatar = |media_type: &str| {
            let media_type = media_type.to_owned();
            parse(&CreateFileRequest { purpose: FilePurpose::Avatar, media_type, ..request() }).map(drop)
        };
        assert_eq!(avatar("IMAGE/PNG"), Ok(()));
        assert_eq!(avatar("text/plain"), Err("type"));
    }

    #[test]
    fn requests_with_another_content_have_another_digest() {
        let first = parse(&request()).expect("a new file").digest();
        assert_eq!(parse(&request()).expect("a new file").digest(), first);
        for other in [
            CreateFileRequest { size: 8, ..request() },
            CreateFileRequest { name: "one cat.jpg".to_owned(), ..request() },
            CreateFileRequest { media_type: "image/png".to_owned(), ..request() },
            CreateFileRequest { sha256: None, ..request() },
            CreateFileRequest { purpose: FilePurpose::Avatar, ..request() },
        ] {
            assert_ne!(parse(&other).expect("a new file").digest(), first, "{other:?}");
        }
    }

    #[test]
    fn a_file_that_was_refused_takes_no_room_once_its_upload_can_write_no_more() {
        let bytes = |outcome: Outcome| outcome.kept_bytes(100);
        let charged = |outcome: Outcome| outcome.charged_bytes(100);
        let media_type = MediaType::of("image/webp");
        let thumbnail = Some(Thumbnail { media_type: media_type.clone(), bytes: 5 });
        let (width, height, duration_ms, blur) = Default::default();
        let facts = Facts { media_type, bytes: 80, width, height, duration_ms, blur, thumbnail };
        let refused = Outcome::Refused(FileRefusal::DamagedPicture);
        assert_eq!(bytes(Outcome::Ready(facts.clone())), 85);
        assert_eq!(bytes(refused.clone()), 0);
        assert_eq!(bytes(Outcome::Quarantined), 100);
        assert_eq!(charged(Outcome::Ready(Facts { bytes: 120, ..facts.clone() })), 125);
        assert_eq!(charged(Outcome::Ready(facts)), 100);
        assert_eq!(charged(refused.clone()), 100);
        assert_eq!(refused.charged_bytes(WHOLE_BYTES + 1), 0, "no part can be written any more");
    }
}
