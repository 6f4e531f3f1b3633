//! A client of one tenant's messenger, for programs in Rust: REST and a WebSocket session.
//!
//! A session reconnects by itself, repeats what was not stored under the same key, and hands out every entry of a
//! followed chat once and in order, whatever the push path lost or doubled.

mod chats;
mod error;
mod export;
mod files;
mod identity;
mod machine;
mod messenger;
mod post;
mod session;
mod timeline;
#[cfg(test)]
mod vectors;
mod view;

pub use chats::ChatList;
pub use contracts::{
    ChatId, DeviceId, Encoding, ErrorCode, FileId, MessageKey, UserId,
    event::EntryKind,
    wire::{Ack, Attachment, Message},
};
pub use error::ClientError;
pub use export::{Export, Membership};
pub use identity::Identity;
pub use machine::{Event, Origin, QueryFailure, Receipt, SendFailure};
pub use messenger::{Joined, Messenger, Socket};
pub use post::Post;
pub use session::{EVENT_QUEUE, Session};
pub use timeline::Timeline;
pub use view::View;
