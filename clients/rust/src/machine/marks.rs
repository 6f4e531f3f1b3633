//! How far the user has come in their chats, and what of it is to be said.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use contracts::{
    ChatId,
    wire::{self, Command, Mark, WireError},
};

use super::{ANSWER_PATIENCE, wait};

/// Marks of a chat are sent at most this often: the last one counts.
pub(super) const MARK_PAUSE: Duration = Duration::from_secs(1);

/// What is to be said of how far the user has come.
#[derive(Default)]
pub(super) struct Marks {
    chats: HashMap<ChatId, Marked>,
}

#[derive(Default)]
struct Marked {
    read: Watermark,
    delivered: Watermark,
    /// No mark before this.
    held_until: Option<Instant>,
}

#[derive(Clone, Copy, Default)]
struct Watermark {
    /// 0 for nothing.
    seq: i64,
    /// What the server has, or is about to.
    said: i64,
    /// What the server has.
    taken: i64,
}

/// A mark without an answer.
#[derive(Clone, Copy)]
pub(super) struct Said {
    chat: ChatId,
    /// Of what is read, or of what is received.
    is_read: bool,
    seq: i64,
    at: Instant,
}

impl Marks {
    /// Notes that the user has read a chat up to `seq`.
    pub(super) fn read(&mut self, chat: ChatId, seq: i64) {
        let read = &mut self.chats.entry(chat).or_default().read;
        read.seq = seq.max(read.seq);
    }

    /// Notes that this device has received a chat up to `seq`.
    pub(super) fn delivered(&mut self, chat: ChatId, seq: i64) {
        let delivered = &mut self.chats.entry(chat).or_default().delivered;
        delivered.seq = seq.max(delivered.seq);
    }

    /// Notes a new connection: whether a mark without an answer arrived is not known, and it may be said again.
    pub(super) fn connected(&mut self) {
        for marked in self.chats.values_mut() {
            for mark in [&mut marked.read, &mut marked.delivered] {
                mark.said = mark.taken;
            }
        }
    }

    /// Returns at most `room` marks that are due, which count as said.
    pub(super) fn due(&mut self, room: usize, now: Instant) -> Vec<Said> {
        let due = self.chats.iter_mut().filter_map(|(&chat, marked)| marked.due(chat, now));
        due.take(room).collect()
    }

    /// Notes that the server has a mark.
    pub(super) fn taken(&mut self, said: Said) {
        if let Some(mark) = self.watermark(said) {
            mark.taken = mark.taken.max(said.seq);
        }
    }

    /// Says a mark again whose answer did not come in time.
    pub(super) fn lost(&mut self, said: Said) {
        if let Some(mark) = self.watermark(said) {
            mark.said = mark.taken;
        }
    }

    /// Says a mark again that was refused for now. One that is refused for good is as if it had not been said.
    pub(super) fn refused(&mut self, said: Said, error: &WireError, now: Instant) {
        let Some(marked) = self.chats.get_mut(&said.chat) else { return };
        // What is read counts as received, and so does its refusal.
        marked.delivered.said = marked.delivered.taken;
        let mark = marked.watermark(said.is_read);
        mark.said = mark.taken;
        if error.temporary {
            marked.held_until = Some(now + wait(error).max(MARK_PAUSE));
        } else if mark.seq == said.seq {
            mark.seq = mark.taken;
        }
    }

    /// Notes a receipt. Returns whether it is news: one of the user's own behind a later one has an old count of what is unread.
    pub(super) fn receipt(&mut self, receipt: &wire::Receipt) -> bool {
        if let (Some(_), Some(seq)) = (receipt.unread, receipt.read_seq) {
            let read = &mut self.chats.entry(receipt.chat).or_default().read;
            if seq < read.taken {
                return false;
            }
            (read.taken, read.said) = (seq, read.said.max(seq));
        }
        true
    }

    fn watermark(&mut self, said: Said) -> Option<&mut Watermark> {
        Some(self.chats.get_mut(&said.chat)?.watermark(said.is_read))
    }
}

impl Marked {
    fn watermark(&mut self, is_read: bool) -> &mut Watermark {
        if is_read { &mut self.read } else { &mut self.delivered }
    }

    fn due(&mut self, chat: ChatId, now: Instant) -> Option<Said> {
        // What is read was received.
        self.delivered.said = self.delivered.said.max(self.read.seq);
        let is_held = self.held_until.is_some_and(|until| now < until);
        if is_held || !(self.read.is_due() || self.delivered.is_due()) {
            return None;
        }
        self.held_until = Some(now + MARK_PAUSE);
        let is_read = self.read.is_due();
        let mark = self.watermark(is_read);
        mark.said = mark.seq;
        Some(Said { chat, is_read, seq: mark.seq, at: now })
    }
}

impl Watermark {
    fn is_due(self) -> bool {
        self.seq > self.said
    }
}

impl Said {
    /// Returns the command that says it.
    pub(super) fn command(self) -> Command {
        let mark = Mark { chat: self.chat, seq: self.seq };
        if self.is_read { Command::Read(mark) } else { Command::Delivered(mark) }
    }

    /// Returns whether its answer did not come in time.
    pub(super) fn is_overdue(self, now: Instant) -> bool {
        now.duration_since(self.at) >= ANSWER_PATIENCE
    }
}
