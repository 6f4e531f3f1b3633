//! The list of a user's chats as a client shows it: what `sync` said, and what has happened since.
//!
//! What a sync, an entry or a receipt says is of one moment, and they come by different ways. Each of them names the last entry that it
//! includes, so it does not matter in which order they come: the list ends as one that is just fetched.

use std::collections::{BTreeMap, HashMap};

use contracts::{
    ChatId, UserId,
    event::{EntryKind, Role},
    own::OwnChatState,
    wire::{self, ChatState, Message, SyncPage},
};

use crate::Event;

/// Entries of a chat that are kept to be applied again to an older state that comes late, or to be counted behind a watermark.
const MAX_RECENT: usize = 128;

/// Receipts that are kept until a page names their chat.
const MAX_EARLY: usize = 1_000;

/// The chats of a user. Give it every event of a session.
#[derive(Clone, Debug)]
pub struct ChatList {
    user: UserId,
    chats: BTreeMap<ChatId, Listed>,
    /// The entry that removed the user, of chats that an older page may still name.
    left: HashMap<ChatId, i64>,
    /// Receipts in chats that no page has named yet: the one that does may be of before them.
    early: Vec<wire::Receipt>,
    /// How the user has such chats, likewise.
    early_own: Vec<wire::OwnState>,
}

#[derive(Clone, Debug)]
struct Listed {
    state: ChatState,
    /// What is unread up to an entry, as the server counted it.
    counted: Counted,
    /// Entries as they came, by seq.
    recent: BTreeMap<i64, Message>,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    up_to: i64,
    unread: i64,
    mentions: i64,
}

impl ChatList {
    /// Returns a list without chats.
    pub fn new(user: UserId) -> Self {
        Self { user, chats: BTreeMap::new(), left: HashMap::new(), early: Vec::new(), early_own: Vec::new() }
    }

    /// Returns the chats, by id. `entries` has the last entry, and nothing while that is not known.
    pub fn chats(&self) -> impl Iterator<Item = &ChatState> {
        self.chats.values().map(|listed| &listed.state)
    }

    /// Returns a chat.
    pub fn get(&self, chat: ChatId) -> Option<&ChatState> {
        self.chats.get(&chat).map(|listed| &listed.state)
    }

    /// Returns the texts that are unread in all chats, and how many of them call the user.
    pub fn unread(&self) -> (i64, i64) {
        self.chats().fold((0, 0), |(unread, mentions), of| {
            (unread + of.watermarks.unread, mentions + of.watermarks.mentions)
        })
    }

    /// Applies an event of a session.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Synced(page) => self.synced(page),
            Event::Entry { message, .. } | Event::Elsewhere(message) => self.entry(message),
            Event::Marked(receipt) => self.marked(receipt),
            Event::OwnState(own) => self.own(own),
            _ => {}
        }
    }

    /// Removes the last texts whose time has come. A program calls it now and then: nothing comes from the messenger at that moment.
    /// They are unread as before: the messenger counts them too.
    pub fn expire(&mut self, now_ms: i64) {
        for listed in self.chats.values_mut() {
            listed.state.entries.iter_mut().for_each(|entry| entry.expire(now_ms));
            let is_over = |entry: &&mut Message| entry.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
            for entry in listed.recent.values_mut().filter(is_over) {
                entry.body.clear();
                entry.attachments.clear();
            }
        }
    }

    fn synced(&mut self, page: &SyncPage) {
        for state in &page.chats {
            // Behind the removal there is an entry that added the user again, or the page is of before.
            if self.left.get(&state.chat).is_some_and(|removal| state.head_seq <= *removal) {
                continue;
            }
            self.left.remove(&state.chat);
            let before = self.chats.remove(&state.chat);
            self.chats.insert(state.chat, Listed::new(self.user, state.clone(), before));
        }
        if let Some(all) = &page.all_chats {
            self.chats.retain(|chat, _| all.contains(chat));
        }
        if !page.more {
            std::mem::take(&mut self.early).iter().for_each(|receipt| self.marked(receipt));
            self.early.clear();
            std::mem::take(&mut self.early_own).iter().for_each(|own| self.own(own));
            self.early_own.clear();
        }
    }

    fn entry(&mut self, message: &Message) {
        if message.kind == EntryKind::MemberRemoved && message.subject == Some(self.user) {
            // One that a page includes is of before the user came back.
            if self.chats.get(&message.chat).is_some_and(|listed| message.seq <= listed.state.head_seq) {
                return;
            }
            self.chats.remove(&message.chat);
            self.left.insert(message.chat, message.seq);
            return;
        }
        // The session syncs for an entry of a chat that no page has named.
        let Some(listed) = self.chats.get_mut(&message.chat) else { return };
        listed.recent.entry(message.seq).or_insert_with(|| message.clone());
        if listed.recent.len() > MAX_RECENT {
            listed.recent.pop_first();
        }
        listed.catch_up(self.user);
    }

    fn own(&mut self, own: &wire::OwnState) {
        if let Some(listed) = self.chats.get_mut(&own.chat) {
            listed.own(&own.own);
        } else if self.early_own.len() < MAX_EARLY {
            self.early_own.push(own.clone());
        }
    }

    fn marked(&mut self, receipt: &wire::Receipt) {
        if let Some(listed) = self.chats.get_mut(&receipt.chat) {
            listed.marked(self.user, receipt);
        } else if self.early.len() < MAX_EARLY {
            self.early.push(*receipt);
        }
    }
}

impl Listed {
    /// Takes a state of the server, and applies what it does not include: later entries, and watermarks, which never go back.
    fn new(user: UserId, state: ChatState, before: Option<Self>) -> Self {
        let of = state.watermarks;
        let counted = Counted { up_to: of.counted_seq, unread: of.unread, mentions: of.mentions };
        let mut listed = Self { state, counted, recent: BTreeMap::new() };
        if let Some(before) = before {
            let (marks, known) = (&mut listed.state.watermarks, before.state.watermarks);
            if known.read_seq > marks.read_seq {
                (marks.read_seq, listed.counted) = (known.read_seq, before.counted);
            }
            marks.delivered_seq = marks.delivered_seq.max(known.delivered_seq);
            listed.read_by_other(before.state.other_read_seq, before.state.other_delivered_seq);
            listed.own(&before.state.own);
            listed.recent = before.recent;
        }
        // One is shown; a page may have more of them, or none.
        let last = listed.state.entries.pop();
        listed.state.entries.clear();
        listed.state.entries.extend(last);
        listed.catch_up(user);
        listed
    }

    /// Takes how the user has the chat, unless a later change is known.
    fn own(&mut self, own: &OwnChatState) {
        if own.version > self.state.own.version {
            self.state.own = own.clone();
        }
    }

    /// Applies the entries that follow the last one; one beyond a gap waits.
    fn catch_up(&mut self, user: UserId) {
        while let Some(next) = self.recent.get(&(self.state.head_seq + 1)).cloned() {
            self.state.head_seq = next.seq;
            self.apply(user, &next);
            self.state.entries = vec![next];
            self.state.limited = self.state.head_seq > self.state.from_seq;
        }
        self.count(user);
    }

    fn apply(&mut self, user: UserId, entry: &Message) {
        match entry.kind {
            // Who writes a text has read the chat up to it.
            EntryKind::Text if entry.sender == user => self.read(entry.seq),
            EntryKind::TitleChanged => self.state.title = Some(entry.body.clone()),
            EntryKind::TopicChanged => self.state.topic = text(&entry.body),
            EntryKind::AvatarChanged => self.state.avatar = text(&entry.body),
            EntryKind::SlowModeChanged => {
                self.state.slow_mode_seconds = entry.body.parse().unwrap_or_default();
            }
            EntryKind::TtlChanged => {
                self.state.message_ttl_seconds = entry.body.parse().unwrap_or_default();
            }
            EntryKind::RoleChanged if entry.subject == Some(user) => {
                self.state.role = Role::parse(&entry.body).unwrap_or(self.state.role);
            }
            EntryKind::MemberAdded | EntryKind::MemberRemoved => {
                // Who joins has read what was before.
                if entry.kind == EntryKind::MemberAdded && entry.subject == Some(user) {
                    self.read(entry.seq);
                }
                self.state.member_count = entry.body.parse().unwrap_or(self.state.member_count);
            }
            _ => {}
        }
    }

    fn read(&mut self, seq: i64) {
        let marks = &mut self.state.watermarks;
        marks.read_seq = marks.read_seq.max(seq);
        marks.delivered_seq = marks.delivered_seq.max(marks.read_seq);
        if self.counted.up_to <= seq {
            self.counted = Counted { up_to: seq, unread: 0, mentions: 0 };
        }
    }

    /// Notes how far the other user of a direct chat has come, unless a page says that they do not show it.
    fn read_by_other(&mut self, read_seq: Option<i64>, delivered_seq: Option<i64>) {
        let later =
            |known: Option<i64>, seq: Option<i64>| known.map(|known| known.max(seq.unwrap_or_default()));
        self.state.other_read_seq = later(self.state.other_read_seq, read_seq);
        self.state.other_delivered_seq = later(self.state.other_delivered_seq, delivered_seq);
    }

    fn marked(&mut self, user: UserId, receipt: &wire::Receipt) {
        if receipt.user != user {
            if self.state.other == Some(receipt.user) {
                self.state.other_read_seq = self.state.other_read_seq.max(receipt.read_seq);
                self.state.other_delivered_seq = self.state.other_delivered_seq.max(receipt.delivered_seq);
            }
            return;
        }
        let marks = &mut self.state.watermarks;
        marks.delivered_seq = marks.delivered_seq.max(receipt.delivered_seq.unwrap_or_default());
        if let (Some(read_seq), Some(unread), Some(mentions), Some(up_to)) =
            (receipt.read_seq, receipt.unread, receipt.mentions, receipt.counted_seq)
            && read_seq > marks.read_seq
        {
            marks.read_seq = read_seq;
            self.counted = Counted { up_to, unread, mentions };
        }
        self.count(user);
    }

    /// Adds the texts behind those that the server counted.
    fn count(&mut self, user: UserId) {
        let Counted { up_to, mut unread, mut mentions } = self.counted;
        let up_to = up_to.max(self.state.watermarks.read_seq);
        let behind = self.recent.range(up_to + 1..).map(|(_, entry)| entry);
        for entry in behind.take_while(|entry| entry.seq <= self.state.head_seq) {
            if entry.kind == EntryKind::Text && entry.sender != user {
                unread += 1;
                mentions += i64::from(entry.mentions_all || entry.mentions.contains(&user));
            }
        }
        let marks = &mut self.state.watermarks;
        (marks.unread, marks.mentions) = (unread, mentions);
        marks.counted_seq = self.counted.up_to.max(self.state.head_seq);
    }
}

/// Returns what an entry says that may say none.
fn text(body: &str) -> Option<String> {
    (!body.is_empty()).then(|| body.to_owned())
}
