//! Chats in which a member waits between two messages.
//!
//! The chat service says with each check how long. A send in a group is usually checked while it is on its way to the log, which is too
//! late to refuse it; so where it is not known that a chat is quick, the check comes first.

use std::time::{Duration, Instant};

use contracts::{ChatId, UserId};
use moka::sync::Cache;

/// Members of whom it is kept: those who send at one time.
const CAPACITY: u64 = 50_000;
/// A chat that becomes slow is so for all at the next check of each, and within this time.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// The longest slow mode.
const LONGEST: Duration = Duration::from_secs(3_600);

/// How long members wait, and since when.
pub(crate) struct SlowMode {
    waits: Cache<(ChatId, UserId), Duration>,
    sent: Cache<(ChatId, UserId), Instant>,
}

impl Default for SlowMode {
    fn default() -> Self {
        Self {
            waits: Cache::builder().max_capacity(CAPACITY).time_to_live(KNOWN_FOR).build(),
            sent: Cache::builder().max_capacity(CAPACITY).time_to_live(LONGEST).build(),
        }
    }
}

impl SlowMode {
    /// Notes how long a member waits between two messages.
    pub(crate) fn note(&self, chat: ChatId, user: UserId, seconds: u32) {
        self.waits.insert((chat, user), Duration::from_secs(seconds.into()));
    }

    /// Returns whether it is known that a member does not wait.
    pub(crate) fn is_off(&self, chat: ChatId, user: UserId) -> bool {
        self.waits.get(&(chat, user)) == Some(Duration::ZERO)
    }

    /// Takes a message of a member; an error is the time to wait.
    pub(crate) fn take(&self, chat: ChatId, user: UserId, now: Instant) -> Result<(), Duration> {
        let wait = self.waits.get(&(chat, user)).unwrap_or_default();
        if wait.is_zero() {
            return Ok(());
        }
        let since = self.sent.get(&(chat, user)).map(|sent| now.saturating_duration_since(sent));
        if let Some(left) = since.and_then(|since| wait.checked_sub(since)).filter(|left| !left.is_zero()) {
            return Err(left);
        }
        self.sent.insert((chat, user), now);
        Ok(())
    }

    /// Notes a message that was stored, whichever gateway took it.
    pub(crate) fn stored(&self, chat: ChatId, user: UserId, now: Instant) {
        if self.waits.get(&(chat, user)).is_some_and(|wait| !wait.is_zero()) {
            self.sent.insert((chat, user), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_member_waits_between_two_messages_where_the_chat_says_so() {
        let slow = SlowMode::default();
        let chat = ChatId(Uuid::from_u128(1));
        let [ann, ben, owner] = [2, 3, 4].map(|n| UserId(Uuid::from_u128(n)));
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        assert!(!slow.is_off(chat, ann), "the first check comes first");
        slow.note(chat, ann, 30);
        slow.note(chat, ben, 30);
        slow.note(chat, owner, 0);
        assert!(slow.is_off(chat, owner) && !slow.is_off(chat, ann));
        assert_eq!(slow.take(chat, ann, now), Ok(()));
        assert_eq!(slow.take(chat, ann, after(10)), Err(Duration::from_secs(20)));
        assert_eq!(slow.take(chat, ben, after(10)), Ok(()), "each for themselves");
        assert_eq!(slow.take(chat, owner, after(10)).and(slow.take(chat, owner, after(10))), Ok(()));
        slow.stored(chat, ann, after(25));
        assert_eq!(
            slow.take(chat, ann, after(30)),
            Err(Duration::from_secs(25)),
            "sent through another gateway"
        );
        assert_eq!(slow.take(chat, ann, after(55)), Ok(()));
        slow.note(chat, ann, 0);
        assert_eq!(slow.take(chat, ann, after(56)), Ok(()), "it is over");
    }
}
