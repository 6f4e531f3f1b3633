//! What a connection is, apart from its socket: synchronous and tested without a runtime.

pub(crate) mod answer;
pub(crate) mod draft;
pub(crate) mod ended;
pub(crate) mod exchanges;
pub(crate) mod frame;
pub(crate) mod limits;
pub(crate) mod posted;
pub(crate) mod rates;
pub(crate) mod record;
pub(crate) mod reporter;
pub(crate) mod send_queue;
pub(crate) mod session;
pub(crate) mod slow_mode;
pub(crate) mod stomp;
pub(crate) mod watches;
mod websocket_header;
