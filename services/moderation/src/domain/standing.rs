//! What holds for a user at a moment, as the sum of sanctions.

use contracts::{
    ChatId, UserId,
    api::{MUTED_FOR_GOOD_MS, Sanction, SanctionKind},
};

/// The end of what has none.
pub const FOR_GOOD_MS: i64 = MUTED_FOR_GOOD_MS;

/// Where a sanction holds: in a chat, or everywhere.
pub type Scope = Option<ChatId>;

/// Whom and where it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub user: UserId,
    pub scope: Scope,
}

/// What holds for a user in a scope. The other services receive all of it, so that the order of calls does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub place: Place,
    /// Counts the changes.
    pub version: i64,
    /// Until when the claim of it lasts, in milliseconds since the epoch.
    pub claimed_until_ms: i64,
    /// Until when the user writes nothing, in milliseconds since the epoch.
    pub silent_until_ms: Option<i64>,
    /// Until when the user is banned, likewise.
    pub banned_until_ms: Option<i64>,
    /// Moderators have closed the account, or begun to: it is theirs to open again. What others had closed before is not.
    pub has_closed: bool,
}

/// Returns when a sanction ends, in milliseconds since the epoch; [`FOR_GOOD_MS`] for one without an end.
pub fn end_ms(sanction: &Sanction) -> i64 {
    sanction.until_ms.unwrap_or(FOR_GOOD_MS).min(FOR_GOOD_MS)
}

/// Returns until when a user writes nothing, and until when the user is banned, by the kinds and ends of the user's sanctions of one scope
/// that are not lifted.
pub fn standing(
    sanctions: impl IntoIterator<Item = (SanctionKind, i64)>,
    now_ms: i64,
) -> (Option<i64>, Option<i64>) {
    let (mut silent, mut banned) = (None, None);
    for (kind, until_ms) in sanctions.into_iter().filter(|(_, until_ms)| *until_ms > now_ms) {
        match kind {
            SanctionKind::Warning => {}
            SanctionKind::Mute => silent = silent.max(Some(until_ms)),
            SanctionKind::Ban => {
                silent = silent.max(Some(until_ms));
                banned = banned.max(Some(until_ms));
            }
        }
    }
    (silent, banned)
}

/// Returns when a standing has to be carried out again because its ban ends; the rest ends by itself.
pub fn next_change_ms(standing: &Standing) -> Option<i64> {
    let until_ms = standing.banned_until_ms.filter(|until_ms| *until_ms < FOR_GOOD_MS);
    until_ms.filter(|_| standing.place.scope.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_counts_and_what_is_over_does_not() {
        use SanctionKind::{Ban, Mute, Warning};
        let check = |sanctions: &[(SanctionKind, i64)], expected| {
            assert_eq!(standing(sanctions.iter().copied(), 100), expected);
        };
        check(&[], (None, None));
        check(&[(Warning, FOR_GOOD_MS)], (None, None));
        check(&[(Mute, 100), (Mute, 150), (Mute, 120)], (Some(150), None));
        check(&[(Mute, 200), (Ban, 150)], (Some(200), Some(150)));
        check(&[(Ban, FOR_GOOD_MS), (Mute, 150)], (Some(FOR_GOOD_MS), Some(FOR_GOOD_MS)));
        check(&[(Ban, 100), (Mute, 101)], (Some(101), None));
    }
}
