//! What a client has of one chat: its messages with what later entries changed of them.

use std::collections::{BTreeMap, HashMap};

use contracts::{
    UserId,
    changes::{Change, InRange, deletions},
    event::EntryKind,
    wire::Message,
};

/// The entries of a chat, each as the later ones left it. Entries are applied in order, as a [`crate::Timeline`] hands them out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Whose view it is.
    user: UserId,
    entries: BTreeMap<i64, Message>,
    /// The edits of each message, by their seq: a deletion finds them without reading the whole chat.
    edits: HashMap<i64, Vec<i64>>,
}

impl View {
    /// Returns a view without entries.
    pub fn new(user: UserId) -> Self {
        Self { user, entries: BTreeMap::new(), edits: HashMap::new() }
    }

    /// Returns the entries, by seq.
    pub fn entries(&self) -> &BTreeMap<i64, Message> {
        &self.entries
    }

    /// Applies the next entry. What it changes of an entry that is not here has no effect.
    pub fn apply(&mut self, entry: &Message) {
        let is_here = self.entries.insert(entry.seq, entry.clone()).is_some();
        if let (EntryKind::Edit, Some(target), false) = (entry.kind, entry.target_seq, is_here) {
            self.edits.entry(target).or_default().push(entry.seq);
        }
        if entry.kind == EntryKind::DeleteRange {
            self.delete_range(entry);
        }
        let Some(target) = entry.target_seq.and_then(|seq| self.entries.get_mut(&seq)) else { return };
        let Some(change) = Change::of(entry.kind, entry.sender, &entry.body) else { return };
        let is_new = target.changes.add(entry.seq, change);
        if is_new
            && entry.sender == self.user
            && let Some(of) = target.changes.reactions.iter_mut().find(|of| of.emoji == entry.body)
        {
            of.own = entry.kind == EntryKind::Reaction;
        }
        match entry.kind {
            EntryKind::Edit if is_new => target.body.clone_from(&entry.body),
            // What it replied to may have been fetched at another moment, without this.
            EntryKind::Delete => self.erase(entry),
            _ => {}
        }
    }

    /// Removes the texts whose time has come. A program calls it now and then: nothing comes from the messenger at that moment.
    pub fn expire(&mut self, now_ms: i64) {
        self.entries.values_mut().for_each(|entry| entry.expire(now_ms));
    }

    /// Deletes what a range has to be deleted.
    fn delete_range(&mut self, deletion: &Message) {
        let Some(range) = deletion.range else { return };
        let in_range = self.entries.range(range.before(deletion.seq)).map(|(seq, of)| {
            let (kind, sender, target_seq) = (of.kind, of.sender, of.target_seq);
            InRange { seq: *seq, kind, sender, target_seq, changes: &of.changes }
        });
        for (seq, change) in deletions(deletion.seq, deletion.subject, in_range) {
            if let Some(entry) = self.entries.get_mut(&seq) {
                entry.changes.add(deletion.seq, change);
            }
            if matches!(change, Change::Deleted { .. }) {
                self.empty(seq);
            }
        }
    }

    /// Removes the text of a message and of its edits, and what it carries.
    fn empty(&mut self, seq: i64) {
        let edits = self.edits.get(&seq).into_iter().flatten();
        for at in edits.chain([&seq]) {
            if let Some(entry) = self.entries.get_mut(at) {
                entry.body.clear();
                entry.attachments.clear();
            }
        }
    }

    /// Removes the text of a deleted message and of its edits.
    fn erase(&mut self, deletion: &Message) {
        let Some(seq) = deletion.target_seq else { return };
        let replied_to = self.entries.get(&seq).and_then(|target| target.target_seq);
        self.empty(seq);
        if let Some(replied_to) = replied_to.and_then(|seq| self.entries.get_mut(&seq)) {
            replied_to.changes.add(deletion.seq, Change::RepliesDeleted(1));
        }
    }
}
