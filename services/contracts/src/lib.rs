//! What crosses a process boundary: ids, records on the event log, the WebSocket protocol, REST bodies, gRPC.
//!
//! Everything here is data. A type that only one service needs lives in that service.

pub mod api;
pub mod attachment;
pub mod cbor;
pub mod changes;
pub mod convert;
pub mod encoding;
pub mod error_code;
pub mod event;
pub mod id;
pub mod own;
pub mod presence;
pub mod rpc;
pub mod wire;
mod word;

pub use encoding::{Encoded, Encoding};
pub use error_code::ErrorCode;
pub use id::{
    AppealId, ChatId, DeviceId, FileId, InviteId, MessageKey, ReportId, RuleSetId, SanctionId, SessionId,
    SubscriptionId, UserId,
};
