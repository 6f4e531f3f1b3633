//! The chats of the users who are connected here: synchronous, fed record by record.
//!
//! Two logs tell of a membership, each in its own time: `chat.events` who is in a chat, and the chat's own log from which entry on and up
//! to which. A user receives what neither has them out for. What is held is sized by the connections of this process, whatever the
//! tenant's size.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use contracts::{
    ChatId, UserId,
    event::{ChatKind, EntryKind, Role},
};
use tokio::sync::watch;

use crate::{domain::record::Place, sharded::Sharded};

/// The chats of a user without connections are kept for this long: who loses a connection usually comes back.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// Records of a chat are in several partitions: one that is missing for this long was lost.
const RECORD_LATE: Duration = Duration::from_secs(5);
/// An announcement may come behind later ones, of a producer that was cut off meanwhile. What has a user out of a chat is remembered
/// for this long, so that an addition of before changes nothing.
const OUT_FOR: Duration = Duration::from_secs(10 * 60);
/// The clocks of the chat service's database and of the log are less than this apart.
const CLOCK_SKEW_MS: i64 = 60_000;

/// The chats of this process's users.
#[derive(Default)]
pub(crate) struct Members {
    /// Locked before `chats` where both are.
    users: Sharded<UserId, Guest>,
    chats: Sharded<ChatId, Chat>,
    seats: AtomicI64,
    /// Chats of which a record is missing, and since when.
    gaps: Mutex<HashMap<ChatId, Instant>>,
    departures: Mutex<Departures>,
    /// The number of the last note that what moderators let a user write may have changed. A gateway takes far fewer in its life than there are.
    notes: AtomicU32,
}

/// Users whom a chat's log has out, in the order in which they went.
#[derive(Default)]
struct Departures {
    /// `chat.events` may still be to tell the same.
    new: VecDeque<Departure>,
    known: VecDeque<Departure>,
}

#[derive(Clone, Copy)]
struct Departure {
    at: Instant,
    chat: ChatId,
    user: UserId,
}

/// A user who is connected here, or was until lately.
struct Guest {
    connections: usize,
    /// When the last connection ended; nothing while there is one.
    left_at: Option<Instant>,
    /// Whether the chat service has answered which chats these are.
    loaded: watch::Sender<bool>,
    chats: HashSet<ChatId>,
    /// Where moderators may let the user write nothing, without a chat everywhere, by the numbers of the notes: seats that come later begin with it.
    restricted: HashMap<Option<ChatId>, u32>,
}

#[derive(Default)]
struct Chat {
    kind: Option<ChatKind>,
    /// Members here and elsewhere.
    size: u32,
    /// How long a plain member waits between two messages, and the entry that says so; 0 for what the chat service has answered.
    slow_mode: Option<(u32, i64)>,
    /// The number of the last record of `chat.events` about this chat before which none is missing; 0 while none is known.
    version: i64,
    /// Numbers of records behind one that is missing.
    ahead: BTreeSet<i64>,
    seats: HashMap<UserId, Seat>,
}

/// A user's place in a chat.
struct Seat {
    listed: Listed,
    role: Role,
    /// The record of `chat.events` that `listed` and `role` are of: whatever an earlier one says of the user is known.
    version: i64,
    /// The newest record as of which the chat service said that the user is in the chat, and no more. Of their role, a record between
    /// `version` and this one is news.
    in_as_of: i64,
    since: Since,
    /// The entry that has the user out, while the chat's log does.
    out: Option<i64>,
    /// The number of the note that moderators may let the user write nothing here; 0 for everyone else.
    restricted: u32,
}

/// What `chat.events` says of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    /// Nothing yet: the chat's own log has told of them first.
    Unknown,
    In,
    Out,
}

/// From where on a user receives what is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// Of one who reads all of the chat.
    Beginning,
    /// An entry which has not come by here. What was sent before this time, in milliseconds since the epoch, may be before it.
    Entry {
        joined_at_ms: i64,
    },
    Seq(i64),
}

/// A membership as the chat service has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listing {
    pub(crate) chat: ChatId,
    pub(crate) role: Role,
    pub(crate) kind: Option<ChatKind>,
    /// Of the chat's records, the last that is in this.
    pub(crate) version: i64,
    pub(crate) members: u32,
    /// When the membership began, in milliseconds since the epoch, of a member whose history begins with an entry.
    pub(crate) from_entry_at_ms: Option<i64>,
    /// Whether nothing is delivered there: a direct chat with a block.
    pub(crate) is_closed: bool,
    pub(crate) slow_mode_seconds: u32,
}

#[cfg(test)]
impl Listing {
    /// Returns the membership of a plain member of a group from its beginning.
    pub(crate) fn of_group(chat: ChatId, version: i64, members: u32) -> Self {
        Self {
            chat,
            role: Role::Member,
            kind: Some(ChatKind::Group),
            version,
            members,
            from_entry_at_ms: None,
            is_closed: false,
            slow_mode_seconds: 0,
        }
    }
}

/// What a member may do in a chat by its kind and their role, as far as it is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Of a group, in which every member writes.
    Member,
    /// Of a direct chat: whether the other is in it decides too.
    Direct,
    /// Of a channel, as its owner or an admin.
    Writer,
    /// Of a channel, as a plain member.
    Reader,
    /// The chat's log alone has told of the user.
    Unknown,
    /// Moderators let the user write nothing there, or did when it was known last: the chat service decides about each send.
    Restricted,
}

/// What a published record says beside what is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// Nothing that is not known, or it concerns no user here.
    Known,
    /// The user's chats are being loaded, perhaps as of before the record.
    Unloaded,
    /// The log has lost it.
    Lost,
}

/// The newest record that an answer of the chat service includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AsOf(i64);

/// The newest note of a restriction that an answer of the chat service includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noted(u32);

/// How a user learns of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Push,
    /// It changes a message from before the user came: they learn that it does, and not to what.
    PushWithoutText,
    /// Whether it is from before the user came is not known here. The history knows.
    Ask,
}

/// An entry of a chat's log on its way to its recipients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) chat: ChatId,
    pub(crate) seq: i64,
    pub(crate) kind: EntryKind,
    pub(crate) subject: Option<UserId>,
    /// The message that it gives another text.
    pub(crate) edited_seq: Option<i64>,
    pub(crate) sent_at_ms: i64,
}

impl Members {
    /// Notes that a user has one connection more. True when their chats have to be loaded.
    pub(crate) fn opened(&self, user: UserId) -> bool {
        let mut shard = self.users.write(&user);
        let is_new = !shard.contains_key(&user);
        let guest = shard.entry(user).or_insert_with(|| Guest {
            connections: 0,
            left_at: None,
            loaded: watch::Sender::new(false),
            chats: HashSet::new(),
            restricted: HashMap::new(),
        });
        guest.connections += 1;
        guest.left_at = None;
        is_new
    }

    /// Notes that a connection of a user has ended.
    pub(crate) fn closed(&self, user: UserId, now: Instant) {
        if let Some(guest) = self.users.write(&user).get_mut(&user) {
            guest.connections = guest.connections.saturating_sub(1);
            guest.left_at = (guest.connections == 0).then_some(now);
        }
    }

    /// Forgets the users who left some time ago, the chats that no other user here is in, and who was removed from a chat some time ago.
    pub(crate) fn forget_departed(&self, now: Instant) {
        self.forget_departures(now);
        let is_over =
            |guest: &Guest| guest.left_at.is_some_and(|left| now.saturating_duration_since(left) >= KEPT_FOR);
        let departed = |shard: &HashMap<UserId, Guest>| -> Vec<UserId> {
            shard.iter().filter(|(_, guest)| is_over(guest)).map(|(user, _)| *user).collect()
        };
        let users: Vec<UserId> = self.users.all().flat_map(|shard| departed(&shard)).collect();
        for user in users {
            let mut shard = self.users.write(&user);
            if shard.get(&user).is_some_and(is_over)
                && let Some(guest) = shard.remove(&user)
            {
                guest.chats.iter().for_each(|chat| self.unseat(*chat, user));
            }
        }
    }

    /// Returns whether a user has connections here, or had until lately.
    pub(crate) fn has(&self, user: UserId) -> bool {
        self.users.read(&user).contains_key(&user)
    }

    /// Returns what turns true when the user's chats are known; nothing for a user without connections.
    pub(crate) fn loaded(&self, user: UserId) -> Option<watch::Receiver<bool>> {
        self.users.read(&user).get(&user).map(|guest| guest.loaded.subscribe())
    }

    /// Takes the chats of a user as the chat service has them. Later records, which may be here already, stand.
    ///
    /// Returns those, of a user whose chats were known before, from which the user receives from here on what is delivered and did not
    /// until now: some of it was here before.
    pub(crate) fn load(&self, user: UserId, listings: &[Listing]) -> Vec<ChatId> {
        let mut shard = self.users.write(&user);
        let Some(guest) = shard.get_mut(&user) else { return Vec::new() };
        let was_known = *guest.loaded.borrow();
        let mut entered = Vec::new();
        guest.chats.reserve(listings.len());
        for listing in listings {
            let mut chats = self.chats.write(&listing.chat);
            let chat = chats.entry(listing.chat).or_default();
            if chat.version < listing.version {
                chat.size = listing.members;
                if chat.seats.is_empty() {
                    chat.version = listing.version;
                }
            }
            chat.kind = chat.kind.or(listing.kind);
            chat.slow_mode.get_or_insert((listing.slow_mode_seconds, 0));
            guest.chats.insert(listing.chat);
            let since = match listing.from_entry_at_ms {
                Some(joined_at_ms) => Since::Entry { joined_at_ms },
                None => Since::Beginning,
            };
            let was_present = chat.seats.get(&user).is_some_and(Seat::is_present);
            let seat = self.seat(chat, user, since, guest.restriction(listing.chat));
            if seat.version < listing.version || seat.listed == Listed::Unknown {
                seat.listed = if listing.is_closed { Listed::Out } else { Listed::In };
                (seat.role, seat.version) = (listing.role, listing.version);
            }
            if !matches!(seat.since, Since::Seq(_)) {
                seat.since = since;
            }
            if was_known && !was_present && seat.is_present() {
                entered.push(listing.chat);
            }
        }
        guest.loaded.send_replace(true);
        entered
    }

    /// Takes a record of `chat.events`. True when the user receives from here on what is delivered, of which some may have been here
    /// before: a new chat has no entry that tells of its members, nor has a chat in which a block is lifted.
    pub(crate) fn changed(&self, chat: ChatId, user: UserId, place: Place, now: Instant) -> bool {
        let mut users = self.users.write(&user);
        let mut chats = self.chats.write(&chat);
        let guest = users.get_mut(&user);
        let is_seated = chats.get(&chat).is_some_and(|chat| chat.seats.contains_key(&user));
        // A removal of one whose chats are being loaded may be later than what is loaded.
        let may_be_seated =
            guest.as_ref().is_some_and(|guest| place.role.is_some() || !*guest.loaded.borrow());
        if !chats.contains_key(&chat) && !may_be_seated {
            return false;
        }
        let known = chats.entry(chat).or_default();
        self.count((chat, &mut *known), place, now);
        let guest = guest.filter(|_| is_seated || may_be_seated);
        let Some(guest) = guest else { return false };
        guest.chats.insert(chat);
        let since = if place.from_entry { Since::Entry { joined_at_ms: i64::MAX } } else { Since::Beginning };
        let seat = self.seat(known, user, since, guest.restriction(chat));
        let was_present = seat.version >= 0 && seat.is_present();
        let was_out = seat.listed == Listed::Out;
        seat.take(place);
        // An entry that brings the user is behind their record. One who was out has none to come, or it came before and was not for them.
        !was_present && seat.is_present() && (was_out || seat.since == Since::Beginning)
    }

    /// Counts a record of a chat, and notes whether one before it is missing.
    fn count(&self, (id, chat): (ChatId, &mut Chat), place: Place, now: Instant) {
        let had_gap = !chat.ahead.is_empty();
        chat.count(place);
        let has_gap = !chat.ahead.is_empty();
        if had_gap != has_gap {
            let mut gaps = self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
            if has_gap {
                gaps.insert(id, now);
            } else {
                gaps.remove(&id);
            }
        }
    }

    /// Counts a record that came another way than by the log.
    pub(crate) fn counted(&self, chat: ChatId, place: Place, now: Instant) {
        if let Some(known) = self.chats.write(&chat).get_mut(&chat) {
            self.count((chat, known), place, now);
        }
    }

    /// Returns what a record that the chat service has published says of a user beside what is known here.
    pub(crate) fn compared(&self, chat: ChatId, user: UserId, place: Place) -> Compared {
        let users = self.users.read(&user);
        let Some(guest) = users.get(&user) else { return Compared::Known };
        if !*guest.loaded.borrow() {
            return Compared::Unloaded;
        }
        let chats = self.chats.read(&chat);
        let is_news = match chats.get(&chat).and_then(|chat| chat.seats.get(&user)) {
            // The chat's own log alone has told of them, or nothing has.
            None | Some(Seat { version: ..0, .. }) => place.role.is_some(),
            Some(seat) => seat.is_behind(place),
        };
        if is_news { Compared::Lost } else { Compared::Known }
    }

    /// Returns the chats of a user who is connected here, with those that the user has left lately.
    pub(crate) fn chats_of(&self, user: UserId) -> Vec<ChatId> {
        let shard = self.users.read(&user);
        shard.get(&user).map(|guest| guest.chats.iter().copied().collect()).unwrap_or_default()
    }

    /// Returns the chats in which the log has a user whom the chat service did not name.
    pub(crate) fn unnamed(&self, user: UserId, listings: &[Listing]) -> Vec<ChatId> {
        let named: HashSet<ChatId> = listings.iter().map(|listing| listing.chat).collect();
        let is_in = |chat: &ChatId| {
            let shard = self.chats.read(chat);
            let seat = shard.get(chat).and_then(|chat| chat.seats.get(&user));
            seat.is_some_and(|seat| seat.listed == Listed::In)
        };
        self.chats_of(user).into_iter().filter(|chat| !named.contains(chat) && is_in(chat)).collect()
    }

    /// Returns the chats of which a record was lost, and takes those that are known for all.
    pub(crate) fn lost_records(&self, now: Instant) -> Vec<ChatId> {
        let mut gaps = self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
        let is_lost = |_: &ChatId, since: &mut Instant| now.saturating_duration_since(*since) >= RECORD_LATE;
        let mut lost: Vec<ChatId> = gaps.extract_if(is_lost).map(|(chat, _)| chat).collect();
        drop(gaps);
        // Of a chat that all users here have left, nothing is missed.
        lost.retain(|chat| {
            let mut shard = self.chats.write(chat);
            let Some(known) = shard.get_mut(chat) else { return false };
            known.version = known.ahead.last().copied().unwrap_or(known.version);
            known.ahead.clear();
            true
        });
        lost
    }

    /// Returns the newest record that is known to be in what the chat service answers from now on about a user in a chat. It is taken
    /// before the question.
    pub(crate) fn as_of(&self, chat: ChatId, user: UserId) -> AsOf {
        let shard = self.chats.read(&chat);
        let Some(chat) = shard.get(&chat) else { return AsOf(0) };
        // What was loaded of the user may be newer than the records that were read of the chat.
        let loaded = chat.seats.get(&user).map_or(0, |seat| seat.version);
        AsOf(chat.ahead.last().copied().unwrap_or(chat.version).max(loaded))
    }

    /// Takes the answer that a user receives nothing from a chat. A later record stands.
    pub(crate) fn found_out(&self, chat: ChatId, user: UserId, AsOf(as_of): AsOf) {
        let mut chats = self.chats.write(&chat);
        let seat = chats.get_mut(&chat).and_then(|chat| chat.seats.get_mut(&user));
        if let Some(seat) = seat.filter(|seat| seat.version <= as_of) {
            (seat.listed, seat.version) = (Listed::Out, as_of);
        }
    }

    /// Takes the answer that a user is in a chat. False when it is not known as what and from where on: they are to be loaded.
    pub(crate) fn found_in(&self, chat: ChatId, user: UserId, AsOf(as_of): AsOf) -> bool {
        let mut chats = self.chats.write(&chat);
        let Some(seat) = chats.get_mut(&chat).and_then(|chat| chat.seats.get_mut(&user)) else {
            return false;
        };
        if seat.version > as_of {
            return true;
        }
        if seat.listed == Listed::In {
            seat.in_as_of = seat.in_as_of.max(as_of);
        }
        seat.listed == Listed::In
    }

    /// Takes an entry of a chat's own log, and returns the user who is out with it and is still to learn of it. Repeated entries change
    /// nothing.
    pub(crate) fn announced(&self, entry: Entry, now: Instant) -> Option<UserId> {
        let Entry { chat, seq, kind, subject, sent_at_ms, .. } = entry;
        if !kind.is_membership() {
            return None;
        }
        let subject = subject?;
        let mut users = self.users.write(&subject);
        let guest = users.get_mut(&subject)?;
        let mut chats = self.chats.write(&chat);
        if kind == EntryKind::MemberAdded {
            let known = chats.entry(chat).or_default();
            guest.chats.insert(chat);
            let restricted = guest.restriction(chat);
            self.seat(known, subject, Since::Entry { joined_at_ms: i64::MAX }, restricted).entered(seq);
            return None;
        }
        // Also of one who is not known to be in the chat: `chat.events` may tell later of how they came, and of how they went.
        guest.chats.insert(chat);
        let known = chats.entry(chat).or_default();
        let seat = self.seat(known, subject, Since::Beginning, guest.restriction(chat));
        let is_news = seat.left(seq, sent_at_ms);
        if is_news {
            self.departures().new.push_back(Departure { at: now, chat, user: subject });
        }
        is_news.then_some(subject)
    }

    fn departures(&self) -> MutexGuard<'_, Departures> {
        self.departures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the users whom a chat's log has out for some time while `chat.events` has them in. One of the two is older, and the chat
    /// service knows which.
    pub(crate) fn doubtful(&self, now: Instant) -> Vec<(ChatId, UserId)> {
        let mut departures = self.departures();
        let is_due = |of: &mut Departure| now.saturating_duration_since(of.at) >= RECORD_LATE;
        let mut doubtful = Vec::new();
        while let Some(of) = departures.new.pop_front_if(is_due) {
            if self.with_seat(of, |seat| seat.listed == Listed::In && seat.out.is_some()) == Some(true) {
                doubtful.push((of.chat, of.user));
            }
            departures.known.push_back(of);
        }
        doubtful
    }

    /// Takes the answer that a user is in a chat whose log has them out: what it said was of before they came back.
    pub(crate) fn came_back(&self, chat: ChatId, user: UserId) {
        let mut chats = self.chats.write(&chat);
        let seat = chats.get_mut(&chat).and_then(|chat| chat.seats.get_mut(&user));
        if let Some(seat) = seat.filter(|seat| seat.listed == Listed::In) {
            seat.out = None;
            // The load that follows says where the history begins.
            seat.since = Since::Entry { joined_at_ms: i64::MAX };
        }
    }

    fn with_seat<T>(
        &self,
        Departure { chat, user, .. }: Departure,
        look: impl FnOnce(&Seat) -> T,
    ) -> Option<T> {
        self.chats.read(&chat).get(&chat).and_then(|chat| chat.seats.get(&user)).map(look)
    }

    /// Forgets those who are out of a chat for some time.
    fn forget_departures(&self, now: Instant) {
        let is_past = |of: &mut Departure| now.saturating_duration_since(of.at) >= OUT_FOR;
        let past: Vec<Departure> = {
            let mut departures = self.departures();
            std::iter::from_fn(|| departures.known.pop_front_if(is_past)).collect()
        };
        for of in past {
            let mut users = self.users.write(&of.user);
            if self.with_seat(of, Seat::is_over) == Some(true) {
                if let Some(guest) = users.get_mut(&of.user) {
                    guest.chats.remove(&of.chat);
                }
                self.unseat(of.chat, of.user);
            }
        }
    }

    /// Calls `visit` for each user here who learns of an entry; of the one who is out with it, [`Self::announced`] has told.
    /// Returns whether the chat is slow.
    pub(crate) fn for_recipients(&self, entry: Entry, mut visit: impl FnMut(UserId, Way)) -> bool {
        let shard = self.chats.read(&entry.chat);
        let Some(chat) = shard.get(&entry.chat) else { return false };
        for (user, seat) in &chat.seats {
            if let Some(way) = seat.way(entry) {
                visit(*user, way);
            }
        }
        chat.slow_mode.is_some_and(|(seconds, _)| seconds > 0)
    }

    /// Takes how long plain members of a chat wait from an entry on.
    pub(crate) fn slowed(&self, chat: ChatId, seq: i64, seconds: u32) {
        if let Some(chat) = self.chats.write(&chat).get_mut(&chat)
            && chat.slow_mode.is_none_or(|(_, known)| known <= seq)
        {
            chat.slow_mode = Some((seconds, seq));
        }
    }

    /// Forgets how long members of a chat wait, of which an entry was lost: the next check says it.
    pub(crate) fn forget_slow_mode(&self, chat: ChatId) {
        if let Some(chat) = self.chats.write(&chat).get_mut(&chat) {
            chat.slow_mode = None;
        }
    }

    /// Takes how long a user waits as the chat service has it. One who does not wait says nothing of those who do.
    pub(crate) fn waits(&self, chat: ChatId, user: UserId, seconds: u32) {
        let mut chats = self.chats.write(&chat);
        let Some(chat) = chats.get_mut(&chat) else { return };
        let is_plain = chat.seats.get(&user).is_some_and(|seat| seat.role == Role::Member);
        if is_plain && chat.slow_mode.is_none_or(|(_, known)| known == 0) {
            chat.slow_mode = Some((seconds, 0));
        }
    }

    /// Returns how long a user who is connected here waits between two messages in a chat; nothing when it is not known.
    pub(crate) fn slow_mode(&self, chat: ChatId, user: UserId) -> Option<Duration> {
        let shard = self.chats.read(&chat);
        let chat = shard.get(&chat)?;
        let seat = chat.seats.get(&user).filter(|seat| seat.listed != Listed::Unknown)?;
        if chat.kind == Some(ChatKind::Direct) || seat.role != Role::Member {
            return Some(Duration::ZERO);
        }
        chat.slow_mode.map(|(seconds, _)| Duration::from_secs(seconds.into()))
    }

    /// Calls `visit` for each user here who is in a chat.
    pub(crate) fn for_present(&self, chat: ChatId, visit: impl FnMut(UserId)) {
        let shard = self.chats.read(&chat);
        let seats = shard.get(&chat).into_iter().flat_map(|chat| &chat.seats);
        seats.filter(|(_, seat)| seat.is_present()).map(|(user, _)| *user).for_each(visit);
    }

    /// Returns the users who are connected here, or were until lately.
    pub(crate) fn users(&self) -> Vec<UserId> {
        self.users.all().flat_map(|shard| shard.keys().copied().collect::<Vec<_>>()).collect()
    }

    /// Returns what a user who is connected here may do in a chat; nothing of one who is not known to be in it.
    pub(crate) fn standing(&self, chat: ChatId, user: UserId) -> Option<Standing> {
        let shard = self.chats.read(&chat);
        let chat = shard.get(&chat)?;
        let seat = chat.seats.get(&user).filter(|seat| seat.is_present())?;
        Some(match (chat.kind, seat.role) {
            _ if seat.listed == Listed::Unknown => Standing::Unknown,
            _ if seat.restricted > 0 => Standing::Restricted,
            (None, _) => Standing::Unknown,
            (Some(ChatKind::Direct), _) => Standing::Direct,
            (Some(ChatKind::Group), _) => Standing::Member,
            (Some(ChatKind::Channel), Role::Member) => Standing::Reader,
            (Some(ChatKind::Channel), Role::Owner | Role::Admin) => Standing::Writer,
        })
    }

    /// Notes that what moderators let a user write may have changed, in a chat or, without one, everywhere: the user is checked before the next
    /// send there. Of a user who is not here nothing is kept.
    pub(crate) fn restricted(&self, chat: Option<ChatId>, user: UserId) {
        let mut users = self.users.write(&user);
        let Some(guest) = users.get_mut(&user) else { return };
        let note = self.notes.fetch_add(1, Ordering::Relaxed) + 1;
        guest.restricted.insert(chat, note);
        match chat {
            Some(chat) => self.note(chat, user, note),
            None => guest.chats.iter().for_each(|chat| self.note(*chat, user, note)),
        }
    }

    /// Takes the answer that moderators let a user write nothing in a chat.
    pub(crate) fn found_restricted(&self, chat: ChatId, user: UserId) {
        if self.standing(chat, user) != Some(Standing::Restricted) {
            self.restricted(Some(chat), user);
        }
    }

    fn note(&self, chat: ChatId, user: UserId, note: u32) {
        let mut chats = self.chats.write(&chat);
        if let Some(seat) = chats.get_mut(&chat).and_then(|chat| chat.seats.get_mut(&user)) {
            seat.restricted = note;
        }
    }

    /// Returns the newest note of a restriction. It is taken before the question, whose answer includes it.
    pub(crate) fn noted(&self) -> Noted {
        Noted(self.notes.load(Ordering::Relaxed))
    }

    /// Takes the answer that moderators let a user write in a chat, and so everywhere but in other chats. A later note stands.
    pub(crate) fn found_free(&self, chat: ChatId, user: UserId, Noted(noted): Noted) {
        // Nearly every one who is checked was free before.
        let was_free = {
            let shard = self.chats.read(&chat);
            let seat = shard.get(&chat).and_then(|chat| chat.seats.get(&user));
            seat.is_none_or(|seat| seat.restricted == 0)
        };
        if was_free {
            return;
        }
        let mut users = self.users.write(&user);
        if let Some(guest) = users.get_mut(&user) {
            let of_this = |place: &Option<ChatId>| place.is_none_or(|place| place == chat);
            guest.restricted.retain(|place, note| *note > noted || !of_this(place));
        }
        let mut chats = self.chats.write(&chat);
        if let Some(seat) = chats.get_mut(&chat).and_then(|chat| chat.seats.get_mut(&user))
            && seat.restricted <= noted
        {
            seat.restricted = 0;
        }
    }

    /// Returns how many members a chat has, here and elsewhere, to one of them; nothing to every other user.
    pub(crate) fn size_for(&self, chat: ChatId, user: UserId) -> Option<usize> {
        let shard = self.chats.read(&chat);
        let chat = shard.get(&chat)?;
        chat.seats.get(&user).filter(|seat| seat.is_present())?;
        Some(chat.size())
    }

    /// Returns how many members a chat has, here and elsewhere; 0 of one that nobody here is in.
    pub(crate) fn size(&self, chat: ChatId) -> usize {
        self.chats.read(&chat).get(&chat).map_or(0, Chat::size)
    }

    /// Returns how many memberships are held.
    pub(crate) fn seats(&self) -> i64 {
        self.seats.load(Ordering::Relaxed)
    }

    /// Returns the seat of a user; a new one, of which neither log has told, when there is none.
    fn seat<'a>(&self, chat: &'a mut Chat, user: UserId, since: Since, restricted: u32) -> &'a mut Seat {
        chat.seats.entry(user).or_insert_with(|| {
            self.seats.fetch_add(1, Ordering::Relaxed);
            let (listed, role) = (Listed::Unknown, Role::Member);
            Seat { listed, role, version: -1, in_as_of: -1, since, out: None, restricted }
        })
    }

    fn unseat(&self, chat: ChatId, user: UserId) {
        let mut shard = self.chats.write(&chat);
        let Some(known) = shard.get_mut(&chat) else { return };
        if known.seats.remove(&user).is_some() {
            self.seats.fetch_sub(1, Ordering::Relaxed);
        }
        if known.seats.is_empty() {
            shard.remove(&chat);
            if shard.capacity() / 4 > shard.len() {
                shard.shrink_to_fit();
            }
        } else if known.seats.capacity() / 4 > known.seats.len() {
            known.seats.shrink_to_fit();
        }
    }
}

impl Guest {
    /// Returns the newest note that moderators may let the user write nothing in a chat; 0 when there is none.
    fn restriction(&self, chat: ChatId) -> u32 {
        let of = |place| self.restricted.get(&place).copied().unwrap_or(0);
        if self.restricted.is_empty() { 0 } else { of(Some(chat)).max(of(None)) }
    }
}

impl Chat {
    /// Takes number, kind and size of a record.
    fn count(&mut self, place: Place) {
        self.kind = place.kind.or(self.kind);
        if place.version <= self.version {
            return;
        }
        if self.ahead.last().is_none_or(|last| *last < place.version) {
            self.size = place.members;
        }
        if self.version == 0 {
            self.version = place.version;
            return;
        }
        self.ahead.insert(place.version);
        while self.ahead.first() == Some(&(self.version + 1)) {
            self.ahead.pop_first();
            self.version += 1;
        }
    }

    fn size(&self) -> usize {
        // A chat service that does not number its records does not count their chats either.
        self.seats.len().max(usize::try_from(self.size).unwrap_or(usize::MAX))
    }
}

impl Seat {
    /// Takes a record of `chat.events`, unless what it says is known or no longer so.
    fn take(&mut self, place: Place) {
        // A record without a number is of an older chat service, or the tombstone behind one that has a number.
        let is_unnumbered = place.version == 0 && self.version.max(self.in_as_of) <= 0;
        if !is_unnumbered && !self.is_behind(place) {
            return;
        }
        self.version = place.version;
        self.listed = if place.role.is_some() { Listed::In } else { Listed::Out };
        self.role = place.role.unwrap_or(self.role);
    }

    /// Returns whether a numbered record says what is not known. One that has the user out is older than an answer that has them in.
    fn is_behind(&self, place: Place) -> bool {
        let known = if place.role.is_some() { self.version } else { self.version.max(self.in_as_of) };
        known < place.version
    }

    /// Takes an entry that adds the user.
    fn entered(&mut self, seq: i64) {
        let is_old = self.out.is_some_and(|out| out > seq);
        match self.since {
            Since::Seq(since) if since >= seq => {}
            _ if is_old => {}
            // Who reads all goes on to, unless they come back.
            Since::Beginning if self.out.is_none() => {}
            Since::Beginning | Since::Entry { .. } | Since::Seq(_) => {
                (self.since, self.out) = (Since::Seq(seq), None);
            }
        }
    }

    /// Takes an entry that has the user out; false when it is known already, or older than their return.
    fn left(&mut self, seq: i64, sent_at_ms: i64) -> bool {
        let has_returned = match self.since {
            Since::Seq(since) => since > seq,
            Since::Entry { joined_at_ms } => {
                joined_at_ms < i64::MAX && sent_at_ms < joined_at_ms.saturating_sub(CLOCK_SKEW_MS)
            }
            Since::Beginning => false,
        };
        if has_returned || self.out.is_some_and(|out| out >= seq) {
            return false;
        }
        self.out = Some(seq);
        true
    }

    /// Returns whether neither log has the user in the chat.
    fn is_over(&self) -> bool {
        self.listed != Listed::In && self.out.is_some()
    }

    fn is_present(&self) -> bool {
        self.listed != Listed::Out && self.out.is_none()
    }

    /// Returns how the user learns of an entry, if they do.
    fn way(&self, Entry { seq, edited_seq, sent_at_ms, .. }: Entry) -> Option<Way> {
        if self.listed == Listed::Out || self.out.is_some_and(|out| seq >= out) {
            return None;
        }
        match self.since {
            Since::Beginning => Some(Way::Push),
            Since::Seq(since) if seq < since => None,
            Since::Seq(since) if edited_seq.is_some_and(|edited| edited < since) => {
                Some(Way::PushWithoutText)
            }
            Since::Seq(_) => Some(Way::Push),
            // The history knows whether they read the message.
            Since::Entry { .. } if edited_seq.is_some() => Some(Way::Ask),
            Since::Entry { joined_at_ms } if sent_at_ms >= joined_at_ms.saturating_add(CLOCK_SKEW_MS) => {
                Some(Way::Push)
            }
            Since::Entry { .. } => Some(Way::Ask),
        }
    }
}

#[cfg(test)]
mod tests;
