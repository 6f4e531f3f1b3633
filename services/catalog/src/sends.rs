//! How much may be sent where a tenant says nothing else.

/// Messages that may be sent: in the long run, and at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRate {
    pub per_second: u32,
    pub burst: u32,
}

/// Of one user, over all connections. A whole tenant stores about 1,500 messages a second on two cores, so one user has little
/// of it, and far more than can be typed.
pub const USER_SENDS: SendRate = SendRate { per_second: 25, burst: 100 };
/// To one chat, by all members together.
pub const CHAT_SENDS: SendRate = SendRate { per_second: 100, burst: 400 };
