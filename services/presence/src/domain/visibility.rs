//! Who may see the presence of a user.

use contracts::api::ContactableBy;

/// To whom a user shows their presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisibleTo {
    /// Every user of the tenant.
    Everyone,
    /// Users who are in a chat with them.
    SharedChats,
    /// No other user.
    NoOne,
}

impl VisibleTo {
    /// Returns what follows from whom a user lets contact them: who is met in a chat sees how the others there are.
    pub fn of(contactable_by: ContactableBy) -> Self {
        match contactable_by {
            ContactableBy::Everyone => Self::Everyone,
            ContactableBy::SharedChats | ContactableBy::Nobody => Self::SharedChats,
        }
    }
}

/// Returns whether a viewer may see the presence of a user who shows it to these. `shares_chat` is whether both are in a chat,
/// `is_blocked` whether either of them has blocked the other.
pub fn may_see(visible_to: VisibleTo, shares_chat: bool, is_blocked: bool) -> bool {
    !is_blocked
        && match visible_to {
            VisibleTo::Everyone => true,
            VisibleTo::SharedChats => shares_chat,
            VisibleTo::NoOne => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_is_shown_to_whom_the_user_says_and_never_past_a_block() {
        let check = |visible_to, without_chat, with_chat| {
            assert_eq!(may_see(visible_to, false, false), without_chat, "{visible_to:?}");
            assert_eq!(may_see(visible_to, true, false), with_chat, "{visible_to:?}");
            assert!(!may_see(visible_to, true, true) && !may_see(visible_to, false, true), "{visible_to:?}");
        };
        check(VisibleTo::Everyone, true, true);
        check(VisibleTo::SharedChats, false, true);
        check(VisibleTo::NoOne, false, false);
        check(VisibleTo::of(ContactableBy::Everyone), true, true);
        check(VisibleTo::of(ContactableBy::SharedChats), false, true);
        check(VisibleTo::of(ContactableBy::Nobody), false, true);
    }
}
