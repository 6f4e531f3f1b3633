//! Who may see the presence of a user.

/// Whether a user shows their presence to a viewer, as the user service says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisibleTo {
    /// To this viewer in any case.
    Viewer,
    /// If the two are in a chat together.
    SharedChats,
    /// Not to this viewer.
    NoOne,
}

impl VisibleTo {
    /// Reads what the user service says. What is not known here is of a newer version, and may be as strict as the strictest.
    pub fn parse(text: &str) -> Self {
        match text {
            "always" => Self::Viewer,
            "shared_chats" => Self::SharedChats,
            _ => Self::NoOne,
        }
    }
}

/// Returns whether a viewer may see the presence of a user who shows it to these. `shares_chat` is whether both are in a chat,
/// `is_blocked` whether either of them has blocked the other.
pub fn may_see(visible_to: VisibleTo, shares_chat: bool, is_blocked: bool) -> bool {
    !is_blocked
        && match visible_to {
            VisibleTo::Viewer => true,
            VisibleTo::SharedChats => shares_chat,
            VisibleTo::NoOne => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_is_shown_to_whom_the_user_says_and_never_past_a_block() {
        let check = |text, without_chat, with_chat| {
            let visible_to = VisibleTo::parse(text);
            assert_eq!(may_see(visible_to, false, false), without_chat, "{text}");
            assert_eq!(may_see(visible_to, true, false), with_chat, "{text}");
            assert!(!may_see(visible_to, true, true) && !may_see(visible_to, false, true), "{text}");
        };
        check("always", true, true);
        check("shared_chats", false, true);
        check("never", false, false);
        check("whatever comes later", false, false);
    }
}
