//! How much the users of a tenant may do where it says nothing else.

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

/// Memberships of a tenant: one for each member of each chat. Every gateway keeps them, 40 bytes each in large groups and 120 in
/// direct chats, in the [`memory_limit`](crate::ServiceEntry::memory_limit) of its pod, and reads them all when it starts.
pub const MEMBERSHIPS: u32 = 1_000_000;
/// Chats that one user creates. No user opens so many by hand.
pub const CHATS_PER_USER: u32 = 1000;
