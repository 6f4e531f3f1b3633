//! Chats in which a plain member waits between two messages. How long, `membership/members.rs` knows; here is who has sent when.

use std::time::{Duration, Instant};

use contracts::{ChatId, MessageKey, UserId};
use moka::sync::Cache;

/// Members of whom it is kept: those who send in slow chats at one time.
const CAPACITY: u64 = 50_000;
/// The longest slow mode.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Whether a message takes the turn of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Taken,
    /// When the sender sent last is not known here: this process began lately, or had no member of the chat. The chat's log knows.
    Unknown,
    /// The chat is not slow for the sender, or the message has its turn already.
    None,
}

/// When members of slow chats have sent last, and under which key; nothing of one who is known not to have sent lately.
pub(crate) struct SlowMode(Cache<(ChatId, UserId), Option<(Instant, MessageKey)>>);

impl Default for SlowMode {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(CAPACITY).time_to_live(LONGEST).build())
    }
}

impl SlowMode {
    /// Takes a message of a member who waits `wait` between two of them; an error is the time that is left. One that is repeated with
    /// its key is the same message.
    pub(crate) fn take(
        &self,
        (chat, user, key): (ChatId, UserId, MessageKey),
        wait: Duration,
        now: Instant,
    ) -> Result<Turn, Duration> {
        match self.0.get(&(chat, user)) {
            None => return Ok(Turn::Unknown),
            Some(None) => {}
            Some(Some((_, last))) if last == key => return Ok(Turn::None),
            Some(Some((sent, _))) => {
                let left = wait.saturating_sub(now.saturating_duration_since(sent));
                if !left.is_zero() {
                    return Err(left);
                }
            }
        }
        self.0.insert((chat, user), Some((now, key)));
        Ok(Turn::Taken)
    }

    /// Notes what the chat's log says of a member of whom nothing was known: when they sent last, and under which key.
    pub(crate) fn recalled(&self, chat: ChatId, user: UserId, last: Option<(Instant, MessageKey)>) {
        // What came meanwhile is later.
        self.0.entry((chat, user)).or_insert(last);
    }

    /// Gives back what was taken by a message that did not reach the log.
    pub(crate) fn give_back(&self, chat: ChatId, user: UserId, key: MessageKey) {
        if self.0.get(&(chat, user)).flatten().is_some_and(|(_, last)| last == key) {
            self.0.insert((chat, user), None);
        }
    }

    /// Notes a message that was stored in a slow chat, whichever gateway took it.
    pub(crate) fn stored(&self, chat: ChatId, user: UserId, key: MessageKey, now: Instant) {
        // Announced again, it is no other one.
        if self.0.get(&(chat, user)).flatten().is_none_or(|(_, last)| last != key) {
            self.0.insert((chat, user), Some((now, key)));
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const WAIT: Duration = Duration::from_secs(30);

    #[test]
    fn a_member_waits_between_two_messages() {
        let slow = SlowMode::default();
        let chat = ChatId(Uuid::from_u128(1));
        let [ann, ben] = [2, 3].map(|n| UserId(Uuid::from_u128(n)));
        let key = |n| MessageKey(Uuid::from_u128(n));
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        for user in [ann, ben] {
            assert_eq!(
                slow.take((chat, user, key(1)), WAIT, now),
                Ok(Turn::Unknown),
                "it is to be looked up"
            );
            slow.recalled(chat, user, None);
        }
        assert_eq!(slow.take((chat, ann, key(1)), WAIT, now), Ok(Turn::Taken));
        slow.recalled(chat, ann, None);
        assert_eq!(slow.take((chat, ann, key(2)), WAIT, after(10)), Err(Duration::from_secs(20)));
        assert_eq!(slow.take((chat, ann, key(1)), WAIT, after(11)), Ok(Turn::None), "it is the same message");
        assert_eq!(slow.take((chat, ben, key(3)), WAIT, after(10)), Ok(Turn::Taken), "each for themselves");
        slow.stored(chat, ann, key(1), after(25));
        assert_eq!(
            slow.take((chat, ann, key(2)), WAIT, after(30)),
            Ok(Turn::Taken),
            "the announcement is no message"
        );
        slow.stored(chat, ann, key(4), after(35));
        let left = Err(Duration::from_secs(25));
        assert_eq!(slow.take((chat, ann, key(5)), WAIT, after(40)), left, "sent through another gateway");
        slow.give_back(chat, ben, key(9));
        assert!(slow.take((chat, ben, key(4)), WAIT, after(20)).is_err(), "another message has it");
        slow.give_back(chat, ben, key(3));
        assert_eq!(
            slow.take((chat, ben, key(4)), WAIT, after(20)),
            Ok(Turn::Taken),
            "the first did not come to the log"
        );
    }

    #[test]
    fn what_the_log_says_counts_until_something_later_is_known() {
        let slow = SlowMode::default();
        let (chat, ann) = (ChatId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        let key = |n| MessageKey(Uuid::from_u128(n));
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        slow.recalled(chat, ann, Some((now, key(1))));
        assert_eq!(slow.take((chat, ann, key(2)), WAIT, after(10)), Err(Duration::from_secs(20)));
        assert_eq!(slow.take((chat, ann, key(1)), WAIT, after(10)), Ok(Turn::None), "it is stored");
        assert_eq!(slow.take((chat, ann, key(2)), WAIT, after(30)), Ok(Turn::Taken));
        slow.recalled(chat, ann, Some((now, key(1))));
        assert_eq!(slow.take((chat, ann, key(3)), WAIT, after(31)), Err(Duration::from_secs(29)));
    }
}
