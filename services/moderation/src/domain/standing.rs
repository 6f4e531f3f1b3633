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
    /// Until when the user writes nothing, in milliseconds since the epoch.
    pub silent_until_ms: Option<i64>,
    /// Until when the user is banned, likewise.
    pub banned_until_ms: Option<i64>,
    /// What was carried out last had a ban.
    pub was_banned: bool,
}

/// Returns until when a user writes nothing, and until when the user is banned, by the user's sanctions of one scope.
pub fn standing<'a>(
    sanctions: impl IntoIterator<Item = &'a Sanction>,
    now_ms: i64,
) -> (Option<i64>, Option<i64>) {
    let (mut silent, mut banned) = (None, None);
    for sanction in sanctions {
        let until_ms = sanction.until_ms.unwrap_or(FOR_GOOD_MS).min(FOR_GOOD_MS);
        if sanction.lifted.is_some() || until_ms <= now_ms {
            continue;
        }
        match sanction.kind {
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
    use contracts::{SanctionId, api::Decision};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_longest_counts_and_what_is_lifted_or_over_does_not() {
        let user = UserId(Uuid::from_u128(1));
        let of = |kind, until_ms| Sanction {
            id: SanctionId(Uuid::from_u128(2)),
            user,
            chat: None,
            kind,
            until_ms,
            note: String::new(),
            by: None,
            created_at_ms: 0,
            lifted: None,
        };
        use SanctionKind::{Ban, Mute, Warning};
        let check = |sanctions: &[Sanction], expected| assert_eq!(standing(sanctions, 100), expected);
        check(&[], (None, None));
        check(&[of(Warning, None)], (None, None));
        check(&[of(Mute, Some(100)), of(Mute, Some(150)), of(Mute, Some(120))], (Some(150), None));
        check(&[of(Mute, Some(200)), of(Ban, Some(150))], (Some(200), Some(150)));
        check(&[of(Ban, None)], (Some(FOR_GOOD_MS), Some(FOR_GOOD_MS)));
        let lifted = Some(Decision { by: Some(user), at_ms: 1, note: String::new() });
        check(&[Sanction { lifted, ..of(Ban, None) }, of(Mute, Some(101))], (Some(101), None));
    }
}
