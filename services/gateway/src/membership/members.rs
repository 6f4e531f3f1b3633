//! The cache itself: synchronous, fed record by record.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use contracts::{
    ChatId, UserId,
    event::{EntryKind, MAX_LISTED_AUDIENCE},
};

use crate::sharded::Sharded;

/// The records of one change (a new chat has one for each member) come within this time of each other. Until it has
/// passed, the cache may know some of the members only, and a message would miss the others.
const QUIET_PERIOD: Duration = Duration::from_secs(2);

/// The users a message goes to; `None` for more than a record lists.
pub(crate) type Audience = Option<Vec<UserId>>;

/// The members of chats, as the logs have them.
///
/// `chat.events` holds the current members; the chat's own log shows from which seq on a removed user receives nothing.
#[derive(Default)]
pub(crate) struct Members {
    chats: Sharded<ChatId, Chat>,
}

#[derive(Default)]
struct Chat {
    users: HashMap<UserId, Standing>,
    members: usize,
    /// Counts the records about this chat.
    version: u64,
    /// When the last record came; `None` for those that were there at the start.
    changed_at: Option<Instant>,
    /// Users whose removal was announced, with its seq. Few: those added again are taken out.
    departed: Vec<(UserId, i64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Member,
    /// Known to be out, which is more than not known to be in.
    Removed,
}

/// What the cache knows about a send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Changes with every record about the chat.
    pub(crate) version: u64,
    /// The recipients of the message.
    pub(crate) settled: Option<Audience>,
    /// Its recipients at least: a change is still coming in.
    pub(crate) likely: Option<Audience>,
}

/// An entry of a chat's log on its way to its recipients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) chat: ChatId,
    pub(crate) seq: i64,
    pub(crate) kind: EntryKind,
    pub(crate) subject: Option<UserId>,
}

impl Members {
    /// Notes that `chat.events` has this user in the chat.
    pub(crate) fn added(&self, chat: ChatId, user: UserId, at: Option<Instant>) {
        self.changed(chat, user, Standing::Member, at);
    }

    /// Notes that `chat.events` has this user out of the chat.
    pub(crate) fn removed(&self, chat: ChatId, user: UserId, at: Option<Instant>) {
        self.changed(chat, user, Standing::Removed, at);
    }

    fn changed(&self, chat: ChatId, user: UserId, standing: Standing, at: Option<Instant>) {
        let mut shard = self.chats.write(&chat);
        let chat = shard.entry(chat).or_default();
        chat.version += 1;
        chat.changed_at = at;
        let before = chat.users.insert(user, standing);
        chat.members += usize::from(standing == Standing::Member);
        chat.members -= usize::from(before == Some(Standing::Member));
    }

    /// Returns the recipients of a message of this sender, and how far they can be relied on.
    pub(crate) fn audience(&self, chat: ChatId, sender: UserId, now: Instant) -> Known {
        let shard = self.chats.read(&chat);
        let Some(chat) = shard.get(&chat) else { return Known { version: 0, settled: None, likely: None } };
        let likely = (chat.users.get(&sender) == Some(&Standing::Member))
            .then(|| (chat.members <= MAX_LISTED_AUDIENCE).then(|| chat.members().collect()));
        let is_settled = chat.changed_at.is_none_or(|at| now.saturating_duration_since(at) >= QUIET_PERIOD);
        let version = chat.version;
        if is_settled {
            Known { version, settled: likely, likely: None }
        } else {
            Known { version, settled: None, likely }
        }
    }

    /// Notes what an entry of the chat's own log means for membership. Repeated entries change nothing.
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

    /// Returns the recipients of an entry: the audience it was written for (or all members of the chat), without those
    /// removed since. A removed user receives the removal and nothing after it.
    pub(crate) fn recipients(&self, entry: Entry, audience: Option<&[UserId]>) -> Vec<UserId> {
        let shard = self.chats.read(&entry.chat);
        let Some(chat) = shard.get(&entry.chat) else {
            return audience.unwrap_or_default().to_vec();
        };
        let may_see = |user: &UserId| {
            if entry.kind == EntryKind::MemberRemoved && entry.subject == Some(*user) {
                return true;
            }
            chat.users.get(user) != Some(&Standing::Removed)
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
        self.users.iter().filter(|(_, standing)| **standing == Standing::Member).map(|(user, _)| *user)
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

    /// Returns the audience of a chat that does not change any more.
    fn settled(members: &Members, n: u128) -> Option<Audience> {
        members.audience(chat(), user(n), Instant::now()).settled
    }

    #[test]
    fn an_audience_is_the_members_and_only_for_a_member() {
        let members = Members::default();
        assert_eq!(settled(&members, 1), None);
        for n in [1, 1, 2, 3] {
            members.added(chat(), user(n), None);
        }
        members.removed(chat(), user(3), None);
        members.removed(chat(), user(3), None);
        let audience = settled(&members, 1).expect("a member").expect("a short list");
        assert_eq!(sorted(audience), [1, 2]);
        assert_eq!(settled(&members, 3), None);
    }

    #[test]
    fn a_chat_that_is_changing_is_not_relied_on() {
        let members = Members::default();
        let start = Instant::now();
        members.added(chat(), user(1), Some(start));
        let known = members.audience(chat(), user(1), start);
        assert_eq!(known, Known { version: 1, settled: None, likely: Some(Some(vec![user(1)])) });
        members.added(chat(), user(2), Some(start));
        let known = members.audience(chat(), user(1), start + QUIET_PERIOD);
        assert_eq!((known.version, known.likely), (2, None));
        assert_eq!(known.settled.map(|audience| sorted(audience.expect("a short list"))), Some(vec![1, 2]));
    }

    #[test]
    fn a_large_chat_is_not_listed() {
        let members = Members::default();
        for n in 1..=MAX_LISTED_AUDIENCE as u128 {
            members.added(chat(), user(n), None);
        }
        assert!(settled(&members, 1).expect("a member").is_some());
        members.added(chat(), user(1000), None);
        assert_eq!(settled(&members, 1), Some(None));
        assert_eq!(members.recipients(text(1), None).len(), MAX_LISTED_AUDIENCE + 1);
        members.removed(chat(), user(1000), None);
        assert!(settled(&members, 1).expect("a member").is_some());
    }

    #[test]
    fn an_audience_of_an_unknown_chat_is_taken_as_it_is() {
        assert_eq!(sorted(Members::default().recipients(text(1), Some(&[user(4)]))), [4]);
    }

    #[test]
    fn a_user_who_is_not_known_yet_still_receives_their_messages() {
        let members = Members::default();
        members.added(chat(), user(1), None);
        assert_eq!(sorted(members.recipients(text(1), Some(&[user(1), user(2)]))), [1, 2]);
    }

    #[test]
    fn nothing_after_a_removal_is_for_the_removed() {
        let members = Members::default();
        let audience = [user(1), user(2)];
        let seen = |entry| sorted(members.recipients(entry, Some(&audience)));
        members.added(chat(), user(1), None);
        members.added(chat(), user(2), None);
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

        members.removed(chat(), user(2), None);
        assert_eq!(seen(text(9)), [1], "chat.events alone is enough");
        assert_eq!(seen(removal), [1, 2], "and the removal is still delivered");
    }
}
