//! Chats in which a plain member waits between two messages. How long, the check of the sender says; here is who has sent when.

use std::time::{Duration, Instant};

use contracts::{ChatId, MessageKey, UserId};
use moka::{ops::compute::Op, sync::Cache};

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

/// What is known here of when a member of a slow chat sent last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// It is being looked up. What comes meanwhile counts.
    Asked,
    /// Not lately.
    Never,
    Sent(Instant, MessageKey),
}

/// When members of slow chats have sent last, and under which key.
pub(crate) struct SlowMode(Cache<(ChatId, UserId), Last>);

impl Default for SlowMode {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(CAPACITY).time_to_live(LONGEST).build())
    }
}

impl SlowMode {
    /// Takes a message of a member who waits `wait` between two of them; an error is the time that is left. One that is repeated with
    /// its key is the same message. Of messages that come at once, one takes the turn.
    pub(crate) fn take(
        &self,
        (chat, user, key): (ChatId, UserId, MessageKey),
        wait: Duration,
        now: Instant,
    ) -> Result<Turn, Duration> {
        self.change(chat, user, |known| match known {
            None => (Some(Last::Asked), Ok(Turn::Unknown)),
            Some(Last::Asked) => (None, Ok(Turn::Unknown)),
            Some(Last::Sent(_, last)) if last == key => (None, Ok(Turn::None)),
            Some(Last::Sent(sent, _)) if now.saturating_duration_since(sent) < wait => {
                (None, Err(wait - now.saturating_duration_since(sent)))
            }
            Some(Last::Sent(..) | Last::Never) => (Some(Last::Sent(now, key)), Ok(Turn::Taken)),
        })
    }

    /// Notes what the chat's log says of a member of whom nothing was known: when they sent last, and under which key.
    pub(crate) fn recalled(&self, chat: ChatId, user: UserId, last: Option<(Instant, MessageKey)>) {
        let last = last.map_or(Last::Never, |(sent, key)| Last::Sent(sent, key));
        self.change(chat, user, |known| match known {
            None | Some(Last::Asked) => (Some(last), ()),
            // What came meanwhile is later.
            Some(Last::Never | Last::Sent(..)) => (None, ()),
        });
    }

    /// Gives back what was taken by a message that did not reach the log.
    pub(crate) fn give_back(&self, chat: ChatId, user: UserId, key: MessageKey) {
        self.change(chat, user, |known| match known {
            Some(Last::Sent(_, last)) if last == key => (Some(Last::Never), ()),
            _ => (None, ()),
        });
    }

    /// Notes a message that was stored, whichever gateway took it: in a chat that is known here to be slow, and of a member of whom
    /// something is kept. A member without a connection sends to a chat of which nothing else is known here.
    pub(crate) fn stored(
        &self,
        (chat, user, key): (ChatId, UserId, MessageKey),
        is_slow: bool,
        now: Instant,
    ) {
        // Most messages are of chats that are not slow.
        if !is_slow && !self.0.contains_key(&(chat, user)) {
            return;
        }
        self.change(chat, user, |known| match known {
            // Announced again, it is no other one.
            Some(Last::Sent(_, last)) if last == key => (None, ()),
            None if !is_slow => (None, ()),
            _ => (Some(Last::Sent(now, key)), ()),
        });
    }

    /// Changes what is known of a member, as `decide` says; nothing else does meanwhile.
    fn change<T>(
        &self,
        chat: ChatId,
        user: UserId,
        decide: impl FnOnce(Option<Last>) -> (Option<Last>, T),
    ) -> T {
        let mut decided = None;
        self.0.entry((chat, user)).and_compute_with(|known| {
            let (next, outcome) = decide(known.map(|entry| entry.into_value()));
            decided = Some(outcome);
            next.map_or(Op::Nop, Op::Put)
        });
        decided.expect("it is decided once")
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
        slow.stored((chat, ann, key(1)), true, after(25));
        assert_eq!(
            slow.take((chat, ann, key(2)), WAIT, after(30)),
            Ok(Turn::Taken),
            "the announcement is no message"
        );
        slow.stored((chat, ann, key(4)), true, after(35));
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

    /// A chat of which no member is connected is not known here to be slow.
    #[test]
    fn what_is_sent_elsewhere_counts_for_a_member_who_has_sent_here() {
        let slow = SlowMode::default();
        let chat = ChatId(Uuid::from_u128(1));
        let [ann, ben, cid] = [2, 3, 4].map(|n| UserId(Uuid::from_u128(n)));
        let key = |n| MessageKey(Uuid::from_u128(n));
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(slow.take((chat, ann, key(1)), WAIT, now), Ok(Turn::Unknown));
        slow.recalled(chat, ann, None);
        assert_eq!(slow.take((chat, ann, key(1)), WAIT, now), Ok(Turn::Taken));
        slow.stored((chat, ann, key(2)), false, after(30));
        assert_eq!(slow.take((chat, ann, key(3)), WAIT, after(31)), Err(Duration::from_secs(29)));
        // While it is looked up, too.
        assert_eq!(slow.take((chat, ben, key(1)), WAIT, now), Ok(Turn::Unknown));
        slow.stored((chat, ben, key(2)), false, now);
        slow.recalled(chat, ben, None);
        assert_eq!(slow.take((chat, ben, key(1)), WAIT, after(1)), Err(Duration::from_secs(29)));
        // Of who sends nothing here, nothing is kept.
        slow.stored((chat, cid, key(1)), false, now);
        assert_eq!(slow.take((chat, cid, key(2)), WAIT, now), Ok(Turn::Unknown));
    }

    #[test]
    fn of_messages_that_come_at_once_one_takes_the_turn() {
        let slow = SlowMode::default();
        let (chat, ann) = (ChatId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        let now = Instant::now();
        slow.recalled(chat, ann, None);
        let taken = std::thread::scope(|scope| {
            let take = |n| {
                let slow = &slow;
                scope.spawn(move || slow.take((chat, ann, MessageKey(Uuid::from_u128(n))), WAIT, now))
            };
            let takes: Vec<_> = (0..16).map(take).collect();
            takes.into_iter().map(|of| of.join().expect("no panic")).filter(Result::is_ok).count()
        });
        assert_eq!(taken, 1);
    }
}
