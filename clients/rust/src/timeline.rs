//! What a client has of one chat: every entry once, in order, and where the gaps are.

use std::collections::BTreeMap;

use contracts::wire::Message;

/// Entries kept while an earlier one is missing; beyond it the newest are dropped and come again by history.
const MAX_HELD: usize = 1_000;

/// The applied part of a chat is a prefix of its log; what lies beyond a gap waits.
#[derive(Debug)]
pub struct Timeline {
    applied: i64,
    head: i64,
    held: BTreeMap<i64, Message>,
}

impl Timeline {
    /// Returns a timeline that has everything up to and including `seq`.
    pub fn after(seq: i64) -> Self {
        Self { applied: seq, head: seq, held: BTreeMap::new() }
    }

    /// Takes an entry and returns those that can be applied now, in order; an entry that came before gives none.
    pub fn offer(&mut self, message: Message) -> Vec<Message> {
        self.note_head(message.seq);
        if message.seq > self.applied {
            self.held.entry(message.seq).or_insert(message);
        }
        let ready = self.ready();
        if self.held.len() > MAX_HELD {
            self.held.pop_last();
        }
        ready
    }

    /// Notes that the history of this reader begins at `seq`: nothing before it is missing. Returns the entries that can be
    /// applied now.
    pub fn begin_at(&mut self, seq: i64) -> Vec<Message> {
        if seq - 1 > self.applied {
            self.applied = seq - 1;
            self.held = self.held.split_off(&seq);
        }
        self.ready()
    }

    fn ready(&mut self) -> Vec<Message> {
        let mut ready = Vec::new();
        while let Some(next) = self.held.remove(&(self.applied + 1)) {
            self.applied = next.seq;
            ready.push(next);
        }
        ready
    }

    /// Notes that the chat reaches at least to `seq`.
    pub fn note_head(&mut self, seq: i64) {
        self.head = self.head.max(seq);
    }

    /// Returns whether an entry is known to exist that was not applied.
    pub fn has_gap(&self) -> bool {
        self.applied < self.head
    }

    /// Returns the entries beyond the gap, in order.
    pub fn into_held(self) -> impl Iterator<Item = Message> {
        self.held.into_values()
    }

    /// Returns the seq of the last applied entry.
    pub fn applied(&self) -> i64 {
        self.applied
    }
}

#[cfg(test)]
pub(super) mod tests {
    use contracts::{ChatId, MessageKey, UserId, event::EntryKind, wire::Changes};
    use uuid::Uuid;

    use super::*;

    pub fn message(seq: i64) -> Message {
        Message {
            chat: ChatId(Uuid::from_u128(1)),
            seq,
            sender: UserId(Uuid::from_u128(2)),
            key: MessageKey(Uuid::from_u128(u128::try_from(seq).expect("a seq is positive"))),
            kind: EntryKind::Text,
            body: format!("entry {seq}"),
            subject: None,
            target_seq: None,
            mentions: Vec::new(),
            mention_roles: Vec::new(),
            mentions_all: false,
            mentions_here: false,
            silent: false,
            attachments: Vec::new(),
            forwarded: None,
            range: None,
            changes: Changes::default(),
            sent_at_ms: 0,
            expires_at_ms: None,
            expired: false,
        }
    }

    fn check(after: i64, arrivals: &[i64], applied: &[i64], gap: bool) {
        let mut timeline = Timeline::after(after);
        let seen: Vec<i64> = arrivals
            .iter()
            .flat_map(|&seq| timeline.offer(message(seq)))
            .map(|message| message.seq)
            .collect();
        assert_eq!(
            (seen.as_slice(), timeline.has_gap()),
            (applied, gap),
            "arrivals {arrivals:?} after {after}"
        );
    }

    #[test]
    fn entries_are_applied_once_and_in_order() {
        check(0, &[1, 2, 3], &[1, 2, 3], false);
        check(0, &[1, 1, 2, 1, 2], &[1, 2], false);
        check(0, &[3, 2, 1], &[1, 2, 3], false);
        check(5, &[4, 5, 6], &[6], false);
    }

    #[test]
    fn an_entry_beyond_a_gap_waits() {
        check(0, &[1, 3], &[1], true);
        check(0, &[2], &[], true);
    }

    #[test]
    fn what_is_before_the_beginning_is_not_missing() {
        let mut timeline = Timeline::after(0);
        assert!(timeline.offer(message(2)).is_empty());
        assert!(timeline.offer(message(5)).is_empty());
        let ready = timeline.begin_at(5);
        assert_eq!(ready.iter().map(|message| message.seq).collect::<Vec<_>>(), [5]);
        assert!(!timeline.has_gap());
        assert!(timeline.begin_at(1).is_empty());
        assert_eq!(timeline.offer(message(6)).len(), 1, "what was applied stays applied");
    }

    #[test]
    fn a_later_head_is_a_gap() {
        let mut timeline = Timeline::after(2);
        timeline.note_head(3);
        assert!(timeline.has_gap());
        assert_eq!(timeline.offer(message(3)).len(), 1);
        assert!(!timeline.has_gap());
    }

    #[test]
    fn what_waits_beyond_a_gap_is_bounded() {
        let mut timeline = Timeline::after(0);
        let far = i64::try_from(MAX_HELD).expect("small") + 500;
        for seq in 2..=far {
            assert!(timeline.offer(message(seq)).is_empty());
        }
        assert_eq!(timeline.held.len(), MAX_HELD);
        assert_eq!(timeline.offer(message(1)).len(), MAX_HELD + 1, "the earliest are kept");
        assert!(timeline.has_gap(), "what was dropped is known to be missing");
    }
}
