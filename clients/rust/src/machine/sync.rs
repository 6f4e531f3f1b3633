//! Which chats changed, and when that is to be asked.

use std::{collections::HashMap, time::Instant};

use contracts::{
    ChatId, ErrorCode,
    wire::{self, SyncPage, WireError},
};

use super::{ANSWER_PATIENCE, RETRY_AFTER, wait};

/// Syncs in a row for entries that no page includes: the head of a chat follows its announcement within this time, and one that is not
/// there by then is of a chat that the user does not read any more.
pub(super) const MAX_RESYNCS: u32 = 6;

/// What is requested again until it is answered.
#[derive(Clone, Copy)]
pub(super) enum Fetch {
    Idle,
    Due(Instant),
    Unanswered(Instant),
}

impl Fetch {
    pub(super) fn is_idle(self) -> bool {
        matches!(self, Self::Idle)
    }

    pub(super) fn is_due(self, now: Instant) -> bool {
        matches!(self, Self::Due(at) if at <= now)
    }

    /// Returns whether an answer did not come in time.
    pub(super) fn is_lost(self, now: Instant) -> bool {
        matches!(self, Self::Unanswered(at) if now.duration_since(at) >= ANSWER_PATIENCE)
    }
}

/// Which chats changed while there was no connection, or in a way of which pushes do not tell all.
pub(super) struct Sync {
    /// Where the next page goes on; `None` begins with all chats.
    cursor: Option<String>,
    fetch: Fetch,
    /// The program asked while a request was under way, whose answer may be of before.
    is_asked: bool,
    /// The last entry of each chat that the program knows of, with all before it.
    heads: HashMap<ChatId, i64>,
    /// Entries that came, of chats that no page has named or of which others did not come.
    missing: HashMap<ChatId, i64>,
    /// Syncs in a row that left some of them.
    resyncs: u32,
}

impl Sync {
    pub(super) fn from(cursor: Option<String>) -> Self {
        let (heads, missing) = Default::default();
        Self { cursor, fetch: Fetch::Idle, is_asked: false, heads, missing, resyncs: 0 }
    }

    /// Returns whether all chats are still to be fetched.
    pub(super) fn begins(&self) -> bool {
        self.cursor.is_none()
    }

    /// Returns whether a page has named a chat, and the user has not left it since.
    pub(super) fn names(&self, chat: ChatId) -> bool {
        self.heads.contains_key(&chat)
    }

    /// Asks what changed from now on, as each connection does once.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.fetch, self.is_asked) = (Fetch::Due(now), false);
    }

    /// Asks for a program.
    pub(super) fn ask(&mut self, now: Instant) {
        match self.fetch {
            Fetch::Idle => self.fetch = Fetch::Due(now),
            Fetch::Due(_) => {}
            Fetch::Unanswered(_) => self.is_asked = true,
        }
    }

    /// Returns the request that is due.
    pub(super) fn request(&mut self, now: Instant) -> Option<wire::Sync> {
        if !self.fetch.is_due(now) {
            return None;
        }
        self.fetch = Fetch::Unanswered(now);
        Some(wire::Sync { cursor: self.cursor.clone(), limit: None, entries: None })
    }

    /// Asks again for what stayed without an answer.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.fetch.is_lost(now) {
            self.fetch = Fetch::Due(now);
        }
    }

    /// Notes an entry. One that does not follow the last one is missed until a page includes it.
    pub(super) fn note(&mut self, chat: ChatId, seq: i64, now: Instant) {
        match self.heads.get_mut(&chat) {
            Some(head) if seq == *head + 1 => *head = seq,
            _ => self.miss(chat, seq, now),
        }
    }

    /// Notes an entry that exists, and asks for a page that includes it.
    pub(super) fn miss(&mut self, chat: ChatId, seq: i64, now: Instant) {
        if self.heads.get(&chat).is_some_and(|head| *head >= seq) {
            return;
        }
        let missing = self.missing.entry(chat).or_default();
        *missing = seq.max(*missing);
        if self.fetch.is_idle() {
            self.fetch = Fetch::Due(now);
        }
    }

    /// Forgets a chat that the user has left.
    pub(super) fn forget(&mut self, chat: ChatId) {
        self.heads.remove(&chat);
        self.missing.remove(&chat);
    }

    /// Takes a page, and says when the next one is due.
    pub(super) fn take(&mut self, page: &SyncPage, now: Instant) {
        self.cursor = Some(page.cursor.clone());
        if let Some(all) = &page.all_chats {
            self.heads.retain(|chat, _| all.contains(chat));
        }
        for of in &page.chats {
            let head = self.heads.entry(of.chat).or_default();
            *head = of.head_seq.max(*head);
        }
        if page.more {
            self.fetch = Fetch::Due(now);
            return;
        }
        let heads = &self.heads;
        self.missing.retain(|chat, seq| heads.get(chat).is_none_or(|head| head < seq));
        if self.missing.is_empty() || self.resyncs == MAX_RESYNCS {
            (self.fetch, self.resyncs) = (Fetch::Idle, 0);
            self.missing.clear();
        } else {
            self.resyncs += 1;
            self.fetch = Fetch::Due(now + RETRY_AFTER);
        }
        if std::mem::take(&mut self.is_asked) {
            self.fetch = Fetch::Due(now);
        }
    }

    /// Asks again later. Returns whether that begins with all chats.
    pub(super) fn refused(&mut self, error: &WireError, now: Instant) -> bool {
        self.fetch = Fetch::Due(now + wait(error));
        let is_expired = error.code == ErrorCode::CursorExpired;
        if is_expired {
            self.cursor = None;
            self.heads.clear();
        }
        is_expired
    }
}
