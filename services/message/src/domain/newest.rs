//! Which keys a chat cannot have used yet.

use contracts::MessageKey;
use uuid::Uuid;

/// The newest key of an entry that is stored in a chat, of those that have an order (UUID version 7, where an earlier one is the lesser one). It
/// is a function of the chat's log.
///
/// No stored entry of the chat has an ordered key behind it, whatever the clock was by which a client made one: it is a comparison of keys and
/// no time. A key from the future is the newest one from then on, and all that costs is look-ups in its chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewestKey(Uuid);

impl NewestKey {
    /// Of a chat whose head does not say: of before it was kept, or written last by a version that does not keep it. No key is behind it.
    pub const UNKNOWN: Self = Self(Uuid::max());

    /// Returns the one that a store has kept.
    pub const fn stored(key: Uuid) -> Self {
        Self(key)
    }

    /// Returns what a store keeps; `None` for one that is not known. It is the nil UUID of a chat without ordered keys.
    pub fn to_store(self) -> Option<Uuid> {
        (self != Self::UNKNOWN).then_some(self.0)
    }

    /// Returns whether no entry that it includes has this key.
    pub fn is_before(self, key: MessageKey) -> bool {
        is_ordered(key) && key.0 > self.0
    }

    /// Includes an entry with this key.
    #[must_use]
    pub fn with(self, key: MessageKey) -> Self {
        if self.is_before(key) { Self(key.0) } else { self }
    }
}

fn is_ordered(key: MessageKey) -> bool {
    key.0.get_version_num() == 7
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(n: u128) -> MessageKey {
        MessageKey(Uuid::from_u128((n << 80) | (7 << 76) | (1 << 63)))
    }

    #[test]
    fn a_key_behind_the_newest_one_was_never_used() {
        let none = NewestKey::default();
        assert!(none.is_before(ordered(1)));
        let some = none.with(ordered(5)).with(ordered(3));
        for (key, is_unused) in [(1, false), (3, false), (4, false), (5, false), (6, true)] {
            assert_eq!(some.is_before(ordered(key)), is_unused, "{key}");
        }
    }

    #[test]
    fn keys_without_an_order_say_nothing() {
        // Version 4, greater than all others.
        let random = MessageKey(Uuid::from_u128(!(0xb << 76)));
        assert_eq!(random.0.get_version_num(), 4);
        assert!(!NewestKey::default().is_before(random));
        assert_eq!(NewestKey::default().with(random), NewestKey::default());
    }

    #[test]
    fn what_is_not_known_stays_so_and_is_not_kept() {
        assert_eq!(NewestKey::UNKNOWN.with(ordered(9)), NewestKey::UNKNOWN);
        assert!(!NewestKey::UNKNOWN.is_before(ordered(9)));
        assert_eq!(NewestKey::UNKNOWN.to_store(), None);
        let kept = NewestKey::default().with(ordered(9));
        assert_eq!(kept.to_store().map(NewestKey::stored), Some(kept));
    }
}
