//! STOMP as another way to say what clients of JSON say: its frames, what they ask for, and to whom pushes go.
//!
//! Nothing here knows a socket or decides what a user may do. A frame becomes a command of the protocol, and a frame of the protocol becomes
//! messages to the destinations that a client has subscribed to.

pub(crate) mod codec;
pub(crate) mod request;
pub(crate) mod subscriptions;
