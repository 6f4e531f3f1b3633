//! The cache itself: synchronous, fed record by record.

use std::collections::HashMap;

use contracts::{
    ChatId, UserId,
    event::{EntryKind, MAX_LISTED_AUDIENCE},
};

use crate::{membership::Audience, sharded::Sharded};

/// Who is in which chat, as the logs told it.
///
/// `chat.events` says who is a member now; the chat's own log says from which seq on a removed person hears nothing.
#[derive(Default)]
pub(crate) struct Members {
    chats: Sharded<ChatId, Chat>,
}

#[derive(Default)]
struct Chat {
    people: HashMap<UserId, Standing>,
    members: usize,
    /// People whose removal was announced, with its seq. Few: those added again are taken out.
    departed: Vec<(UserId, i64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Member,
    /// Known to be out, which is more than not known to be in.
    Removed,
}

/// An entry of a chat's log on its way to people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) chat: ChatId,
    pub(crate) seq: i64,
    pub(crate) kind: EntryKind,
    pub(crate) subject: Option<UserId>,
}

impl Members {
    /// Notes that `chat.events` has this person in the chat.
    pub(crate) fn added(&self, chat: ChatId, user: UserId) {
        let mut shard = self.chats.write(&chat);
        let chat = shard.entry(chat).or_default();
        if chat.people.insert(user, Standing::Member) != Some(Standing::Member) {
            chat.members += 1;
        }
    }

    /// Notes that `chat.events` has this person out of the chat.
    pub(crate) fn removed(&self, chat: ChatId, user: UserId) {
        let mut shard = self.chats.write(&chat);
        let chat = shard.entry(chat).or_default();
        if chat.people.insert(user, Standing::Removed) == Some(Standing::Member) {
            chat.members -= 1;
        }
    }

    /// Returns whom a message of this sender goes to; `None` when the sender is not known to be a member.
    pub(crate) fn audience(&self, chat: ChatId, sender: UserId) -> Option<Audience> {
        let shard = self.chats.read(&chat);
        let chat = shard.get(&chat)?;
        (chat.people.get(&sender) == Some(&Standing::Member))
            .then(|| (chat.members <= MAX_LISTED_AUDIENCE).then(|| chat.members().collect()))
    }

    /// Notes what an entry of the chat's own log says about membership. Repeated entries change nothing.
    pub(crate) fn announced(&self, entry: Entry) {
        let Some(subject) = entry.subject else { return };
        match entry.kind {
            EntryKind::Text => {}
            EntryKind::MemberAdded => {
                let mut shard = self.chats.write(&entry.chat);
                if let Some(chat) = shard.get_mut(&entry.chat) {
                    chat.departed.retain(|(user, seq)| *user != subject || *seq > entry.seq);
                }
            }
            EntryKind::MemberRemoved => {
                let mut shard = self.chats.write(&entry.chat);
                let departed = &mut shard.entry(entry.chat).or_default().departed;
                match departed.iter_mut().find(|(user, _)| *user == subject) {
                    Some((_, seq)) => *seq = entry.seq.max(*seq),
                    None => departed.push((subject, entry.seq)),
                }
            }
        }
    }

    /// Returns who may see an entry: the audience it was written for (or everyone in the chat), without those removed
    /// since. A removed person sees the removal and nothing after it.
    pub(crate) fn recipients(&self, entry: Entry, audience: Option<&[UserId]>) -> Vec<UserId> {
        let shard = self.chats.read(&entry.chat);
        let Some(chat) = shard.get(&entry.chat) else {
            return audience.unwrap_or_default().to_vec();
        };
        let may_see = |user: &UserId| {
            if entry.kind == EntryKind::MemberRemoved && entry.subject == Some(*user) {
                return true;
            }
            chat.people.get(user) != Some(&Standing::Removed)
                && !chat.departed.iter().any(|(departed, seq)| departed == user && entry.seq > *seq)
        };
        match audience {
            Some(audience) => audience.iter().copied().filter(may_see).collect(),
            None => chat.members().filter(may_see).collect(),
        }
    }
}

impl Chat {
    fn members(&self) -> impl Iterator<Item = UserId> {
        self.people.iter().filter(|(_, standing)| **standing == Standing::Member).map(|(user, _)| *user)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn chat() -> ChatId {
        ChatId(Uuid::from_u128(1))
    }

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    fn text(seq: i64) -> Entry {
        Entry { chat: chat(), seq, kind: EntryKind::Text, subject: None }
    }

    fn change(seq: i64, kind: EntryKind, n: u128) -> Entry {
        Entry { chat: chat(), seq, kind, subject: Some(user(n)) }
    }

    fn sorted(mut users: Vec<UserId>) -> Vec<u128> {
        users.sort();
        users.iter().map(|user| user.0.as_u128()).collect()
    }

    #[test]
    fn an_audience_is_the_members_and_only_for_a_member() {
        let members = Members::default();
        assert_eq!(members.audience(chat(), user(1)), None);
        members.added(chat(), user(1));
        members.added(chat(), user(1));
        members.added(chat(), user(2));
        members.added(chat(), user(3));
        members.removed(chat(), user(3));
        let audience = members.audience(chat(), user(1)).expect("a member").expect("a short list");
        assert_eq!(sorted(audience), [1, 2]);
        assert_eq!(members.audience(chat(), user(3)), None);
    }

    #[test]
    fn a_large_chat_is_not_listed() {
        let members = Members::default();
        for n in 1..=MAX_LISTED_AUDIENCE as u128 {
            members.added(chat(), user(n));
        }
        assert!(members.audience(chat(), user(1)).expect("a member").is_some());
        members.added(chat(), user(1000));
        assert_eq!(members.audience(chat(), user(1)), Some(None));
        assert_eq!(members.recipients(text(1), None).len(), MAX_LISTED_AUDIENCE + 1);
        members.removed(chat(), user(1000));
        assert!(members.audience(chat(), user(1)).expect("a member").is_some());
    }

    #[test]
    fn an_audience_of_an_unknown_chat_is_taken_as_it_is() {
        assert_eq!(sorted(Members::default().recipients(text(1), Some(&[user(4)]))), [4]);
    }

    #[test]
    fn a_person_who_is_not_known_yet_still_gets_what_is_for_them() {
        let members = Members::default();
        members.added(chat(), user(1));
        assert_eq!(sorted(members.recipients(text(1), Some(&[user(1), user(2)]))), [1, 2]);
    }

    #[test]
    fn nothing_after_a_removal_is_for_the_removed() {
        let members = Members::default();
        let audience = [user(1), user(2)];
        let seen = |entry| sorted(members.recipients(entry, Some(&audience)));
        members.added(chat(), user(1));
        members.added(chat(), user(2));
        let removal = change(5, EntryKind::MemberRemoved, 2);
        members.announced(removal);
        assert_eq!(seen(removal), [1, 2], "the removal itself is");
        assert_eq!(seen(text(4)), [1, 2], "what was before it is");
        assert_eq!(seen(text(6)), [1]);

        members.announced(change(7, EntryKind::MemberAdded, 2));
        assert_eq!(seen(text(8)), [1, 2], "added again");
        members.announced(removal);
        members.announced(change(7, EntryKind::MemberAdded, 2));
        assert_eq!(seen(text(8)), [1, 2], "repeated announcements end the same");

        members.removed(chat(), user(2));
        assert_eq!(seen(text(9)), [1], "chat.events alone is enough");
        assert_eq!(seen(removal), [1, 2], "and still the removal is told");
    }
}
