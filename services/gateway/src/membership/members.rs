//! The cache itself: synchronous, fed record by record.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use contracts::{
    ChatId, UserId,
    event::{EntryKind, MAX_LISTED_AUDIENCE},
};

use crate::{domain::record::Seat, sharded::Sharded};

/// The records of one change (a new chat has one for each member) come within this time of each other. Until it has
/// passed, the cache may know some of the members only, and a message would miss the others.
const QUIET_PERIOD: Duration = Duration::from_secs(2);

/// Records that were written before a removal was known are here within this time.
const DEPARTURE_REMEMBERED: Duration = Duration::from_secs(60);
/// Departures of one chat that are remembered; of more, the oldest are forgotten.
const MAX_DEPARTED: usize = 256;

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
    members: HashSet<UserId>,
    /// Of a channel: the members who only read and react.
    readers: Option<HashSet<UserId>>,
    /// Counts the changes of this chat.
    version: u64,
    /// When the last record came; `None` for those that were there at the start.
    changed_at: Option<Instant>,
    /// Users who were removed lately: they receive nothing of what was written for them before that was known.
    departed: HashMap<UserId, Departure>,
}

/// What is known of a removal. The chat's own log and `chat.events` tell of it in their own time, and of a return too.
#[derive(Clone, Copy, Debug)]
struct Departure {
    /// Set while the chat's log has the user out, to the seq of the removal.
    seq: Option<i64>,
    /// Whether `chat.events` has the user out.
    is_confirmed: bool,
    at: Instant,
}

/// What the cache knows about a send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Changes with every record about the chat.
    pub(crate) version: u64,
    /// The recipients of the message; `None` when the sender is not known to be in the chat.
    pub(crate) likely: Option<Audience>,
    /// Whether these are all. If not, a change is still coming in.
    pub(crate) is_settled: bool,
    /// What the sender may do, as far as the cache knows.
    pub(crate) seat: Seat,
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
    /// Notes that `chat.events` has this user in the chat. `at` is `None` for what was there at the start.
    pub(crate) fn added(&self, chat: ChatId, user: UserId, seat: Seat, at: Option<Instant>) {
        let mut shard = self.chats.write(&chat);
        let chat = shard.entry(chat).or_default();
        chat.changed(at);
        chat.members.insert(user);
        match seat {
            Seat::Member => {}
            Seat::Reader => drop(chat.readers.get_or_insert_default().insert(user)),
            Seat::Writer => drop(chat.readers.get_or_insert_default().remove(&user)),
        }
        chat.returned(user, |departure| departure.is_confirmed = false);
    }

    /// Notes that `chat.events` has this user out of the chat. `at` is `None` for what was there at the start.
    pub(crate) fn removed(&self, chat: ChatId, user: UserId, at: Option<Instant>) {
        let mut shard = self.chats.write(&chat);
        let chat = shard.entry(chat).or_default();
        chat.changed(at);
        chat.members.remove(&user);
        if let Some(readers) = &mut chat.readers {
            readers.remove(&user);
        }
        if chat.members.capacity() / 4 > chat.members.len() {
            chat.members.shrink_to_fit();
        }
        // Nothing is on its way that was written before the start.
        if let Some(at) = at {
            chat.departed(user, at).is_confirmed = true;
        }
    }

    /// Returns the recipients of a message of this sender, and how far they can be relied on.
    pub(crate) fn audience(&self, chat: ChatId, sender: UserId, now: Instant) -> Known {
        let shard = self.chats.read(&chat);
        let Some(chat) = shard.get(&chat) else {
            return Known { version: 0, likely: None, is_settled: false, seat: Seat::Member };
        };
        let likely = chat
            .is_member(&sender)
            .then(|| (chat.members.len() <= MAX_LISTED_AUDIENCE).then(|| chat.present().collect()));
        let is_settled = chat.changed_at.is_none_or(|at| now.saturating_duration_since(at) >= QUIET_PERIOD);
        let seat = match &chat.readers {
            None => Seat::Member,
            Some(readers) if readers.contains(&sender) => Seat::Reader,
            Some(_) => Seat::Writer,
        };
        Known { version: chat.version, likely, is_settled, seat }
    }

    /// Returns how many members a chat has, to one of them; `None` to every other user.
    pub(crate) fn size_for(&self, chat: ChatId, user: UserId) -> Option<usize> {
        let shard = self.chats.read(&chat);
        let chat = shard.get(&chat)?;
        chat.is_member(&user).then_some(chat.members.len())
    }

    /// Returns the members of a chat that is small enough for a record to list them; none of a larger one.
    pub(crate) fn few_of(&self, chat: ChatId) -> Vec<UserId> {
        let shard = self.chats.read(&chat);
        let small = shard.get(&chat).filter(|chat| chat.members.len() <= MAX_LISTED_AUDIENCE);
        small.map(|chat| chat.present().collect()).unwrap_or_default()
    }

    /// Notes what an entry of the chat's own log means for membership. Repeated entries change nothing.
    pub(crate) fn announced(&self, entry: Entry, now: Instant) {
        let Some(subject) = entry.subject else { return };
        match entry.kind {
            EntryKind::MemberAdded => {
                let mut shard = self.chats.write(&entry.chat);
                if let Some(chat) = shard.get_mut(&entry.chat) {
                    chat.version += 1;
                    chat.returned(subject, |departure| {
                        departure.seq = departure.seq.filter(|seq| *seq > entry.seq);
                    });
                }
            }
            EntryKind::MemberRemoved => {
                let mut shard = self.chats.write(&entry.chat);
                let chat = shard.entry(entry.chat).or_default();
                chat.version += 1;
                let departure = chat.departed(subject, now);
                departure.seq = departure.seq.max(Some(entry.seq));
            }
            // Who is in the chat stays so.
            _ => {}
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
            chat.departed.is_empty()
                || chat.departed.get(user).is_none_or(|departure| departure.may_see(entry.seq))
        };
        match audience {
            Some(audience) => audience.iter().copied().filter(may_see).collect(),
            None => chat.members.iter().copied().filter(may_see).collect(),
        }
    }
}

impl Chat {
    fn changed(&mut self, at: Option<Instant>) {
        self.version += 1;
        self.changed_at = at;
    }

    /// Returns whether both logs have the user in the chat, as far as they are read.
    fn is_member(&self, user: &UserId) -> bool {
        self.members.contains(user) && !self.departed.contains_key(user)
    }

    fn present(&self) -> impl Iterator<Item = UserId> {
        self.members.iter().copied().filter(|user| self.departed.is_empty() || self.is_member(user))
    }

    /// Returns what is known of a user's removal, to be added to.
    fn departed(&mut self, user: UserId, now: Instant) -> &mut Departure {
        if self.departed.len() >= MAX_DEPARTED && !self.departed.contains_key(&user) {
            self.forget_departed(now);
        }
        let departure =
            self.departed.entry(user).or_insert(Departure { seq: None, is_confirmed: false, at: now });
        departure.at = now;
        departure
    }

    /// Notes that one of the logs has a user in the chat again.
    fn returned(&mut self, user: UserId, change: impl FnOnce(&mut Departure)) {
        if let Some(departure) = self.departed.get_mut(&user) {
            change(departure);
            if departure.seq.is_none() && !departure.is_confirmed {
                self.departed.remove(&user);
            }
        }
    }

    /// Makes room for another departure. What both logs agree on for long is forgotten first.
    fn forget_departed(&mut self, now: Instant) {
        self.departed.retain(|_, departure| {
            !departure.is_confirmed || now.saturating_duration_since(departure.at) < DEPARTURE_REMEMBERED
        });
        let oldest = self.departed.iter().min_by_key(|(_, departure)| departure.at);
        if self.departed.len() >= MAX_DEPARTED
            && let Some((&user, _)) = oldest
        {
            self.departed.remove(&user);
        }
    }
}

impl Departure {
    /// Returns whether the user may still see an entry that was written for them.
    fn may_see(&self, seq: i64) -> bool {
        !self.is_confirmed && self.seq.is_none_or(|removed| seq <= removed)
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

    #[test]
    fn a_channel_is_known_by_each_of_its_members() {
        let members = Members::default();
        let seat = |n| members.audience(chat(), user(n), Instant::now()).seat;
        members.added(chat(), user(1), Seat::Writer, None);
        assert_eq!(seat(1), Seat::Writer);
        members.added(chat(), user(2), Seat::Reader, None);
        assert_eq!((seat(1), seat(2)), (Seat::Writer, Seat::Reader));
        members.added(chat(), user(2), Seat::Writer, None);
        members.added(chat(), user(1), Seat::Reader, None);
        assert_eq!((seat(1), seat(2)), (Seat::Reader, Seat::Writer));
        members.removed(chat(), user(1), None);
        members.added(chat(), user(1), Seat::Writer, None);
        assert_eq!(seat(1), Seat::Writer);
    }

    fn sorted(mut users: Vec<UserId>) -> Vec<u128> {
        users.sort();
        users.iter().map(|user| user.0.as_u128()).collect()
    }

    /// Returns the audience of a chat that does not change any more.
    fn settled(members: &Members, n: u128) -> Option<Audience> {
        let known = members.audience(chat(), user(n), Instant::now());
        known.likely.filter(|_| known.is_settled)
    }

    #[test]
    fn an_audience_is_the_members_and_only_for_a_member() {
        let members = Members::default();
        assert_eq!(settled(&members, 1), None);
        for n in [1, 1, 2, 3] {
            members.added(chat(), user(n), Seat::Member, None);
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
        members.added(chat(), user(1), Seat::Member, Some(start));
        let known = members.audience(chat(), user(1), start);
        let likely = Some(Some(vec![user(1)]));
        assert_eq!(known, Known { version: 1, likely, is_settled: false, seat: Seat::Member });
        members.added(chat(), user(2), Seat::Member, Some(start));
        let known = members.audience(chat(), user(1), start + QUIET_PERIOD);
        assert_eq!((known.version, known.is_settled), (2, true));
        assert_eq!(known.likely.map(|audience| sorted(audience.expect("a short list"))), Some(vec![1, 2]));
    }

    #[test]
    fn a_large_chat_is_not_listed() {
        let members = Members::default();
        for n in 1..=MAX_LISTED_AUDIENCE as u128 {
            members.added(chat(), user(n), Seat::Member, None);
        }
        assert!(settled(&members, 1).expect("a member").is_some());
        members.added(chat(), user(1000), Seat::Member, None);
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
        members.added(chat(), user(1), Seat::Member, None);
        assert_eq!(sorted(members.recipients(text(1), Some(&[user(1), user(2)]))), [1, 2]);
    }

    #[test]
    fn nothing_after_a_removal_is_for_the_removed() {
        let members = Members::default();
        let audience = [user(1), user(2)];
        let seen = |entry| sorted(members.recipients(entry, Some(&audience)));
        members.added(chat(), user(1), Seat::Member, None);
        members.added(chat(), user(2), Seat::Member, None);
        let removal = change(5, EntryKind::MemberRemoved, 2);
        members.announced(removal, Instant::now());
        assert_eq!(seen(removal), [1, 2], "the removal itself is");
        assert_eq!(seen(text(4)), [1, 2], "what was before it is");
        assert_eq!(seen(text(6)), [1]);

        members.announced(change(7, EntryKind::MemberAdded, 2), Instant::now());
        assert_eq!(seen(text(8)), [1, 2], "added again");
        members.announced(removal, Instant::now());
        members.announced(change(7, EntryKind::MemberAdded, 2), Instant::now());
        assert_eq!(seen(text(8)), [1, 2], "repeated announcements end the same");

        members.removed(chat(), user(2), Some(Instant::now()));
        assert_eq!(seen(text(9)), [1], "chat.events alone is enough");
        assert_eq!(seen(removal), [1, 2], "and the removal is still delivered");
    }

    #[test]
    fn whom_the_chats_log_has_out_sends_nothing_and_is_sent_nothing() {
        let (members, now) = (Members::default(), Instant::now());
        for n in 1..=3 {
            members.added(chat(), user(n), Seat::Member, None);
        }
        let before = members.audience(chat(), user(2), now);
        members.announced(change(5, EntryKind::MemberRemoved, 2), now);
        let after = members.audience(chat(), user(2), now);
        assert_eq!(after.likely, None, "chat.events has not said so yet");
        assert_ne!(before.version, after.version, "an earlier look-up does not count");
        assert_eq!(sorted(settled(&members, 1).expect("a member").expect("a short list")), [1, 3]);
        // Added again, whichever log says so first.
        members.announced(change(6, EntryKind::MemberAdded, 2), now);
        assert!(settled(&members, 2).is_some());
        members.removed(chat(), user(2), Some(now));
        members.announced(change(7, EntryKind::MemberRemoved, 2), now);
        members.added(chat(), user(2), Seat::Member, None);
        assert_eq!(settled(&members, 2), None);
        members.announced(change(8, EntryKind::MemberAdded, 2), now);
        assert!(settled(&members, 2).is_some());
    }

    #[test]
    fn a_chat_through_which_thousands_pass_stays_small() {
        let members = Members::default();
        let now = Instant::now();
        for n in 1..=2 {
            members.added(chat(), user(n), Seat::Member, None);
        }
        for n in 100..20_000 {
            members.added(chat(), user(n), Seat::Member, Some(now));
            let seq = i64::try_from(n).expect("small");
            members.announced(change(seq, EntryKind::MemberRemoved, n), now);
            members.removed(chat(), user(n), Some(now));
        }
        let shard = members.chats.read(&chat());
        let chat = &shard[&chat()];
        assert!(chat.departed.len() <= MAX_DEPARTED && chat.members.len() == 2);
        assert!(chat.members.capacity() < 100, "{}", chat.members.capacity());
        assert!(chat.departed.contains_key(&user(19_999)), "the latest are remembered");
    }
}
