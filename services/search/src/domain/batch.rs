//! Entries applied to documents.

use std::collections::{BTreeSet, HashMap};

use super::{Document, DocumentId, Entry, Text, What};

/// Documents that are known, and which of them have changed.
///
/// Applying twice, and in another order than the log's, makes no other document: the first text of a seq stands, of two bodies
/// the one of the later entry, and what is deleted stays so.
#[derive(Debug, Default)]
pub struct Batch {
    documents: HashMap<DocumentId, Document>,
    changed: BTreeSet<DocumentId>,
}

impl Batch {
    /// Returns a batch that knows what the index has.
    pub fn new(documents: HashMap<DocumentId, Document>) -> Self {
        Self { documents, changed: BTreeSet::new() }
    }

    /// Applies an entry. Returns false when something that it speaks of is not known.
    pub fn apply(&mut self, entry: Entry) -> bool {
        let DocumentId { chat, seq } = entry.id;
        match entry.what {
            What::Document(document) => {
                self.merge(document);
                true
            }
            What::Edit { target, body } => self.change(DocumentId { chat, seq: target }, |text| {
                let is_news = seq > text.body_seq && !text.deleted;
                if is_news {
                    text.body = body;
                    text.body_seq = seq;
                }
                is_news
            }),
            What::Delete { target } => self.change(DocumentId { chat, seq: target }, Text::delete),
            What::DeleteRange { range, subject } => {
                let mut all_known = true;
                for target in range.before(seq) {
                    all_known &= self.change(DocumentId { chat, seq: target }, |text| {
                        subject.is_none_or(|subject| subject == text.sender) && text.delete()
                    });
                }
                all_known
            }
        }
    }

    /// Adds a document as it is at some moment, to what is known of it from another one.
    pub fn merge(&mut self, document: Document) {
        let id = document.id();
        let Some(known) = self.documents.get_mut(&id) else {
            self.documents.insert(id, document);
            self.changed.insert(id);
            return;
        };
        let (Document::Text(known), Document::Text(other)) = (known, document) else { return };
        let is_later = other.body_seq > known.body_seq && !known.deleted && !other.deleted;
        if is_later {
            known.body = other.body;
            known.body_seq = other.body_seq;
        }
        if is_later || (other.deleted && known.delete()) {
            self.changed.insert(id);
        }
    }

    /// Returns the documents that have changed.
    pub fn into_changed(mut self) -> Vec<Document> {
        self.changed.iter().filter_map(|id| self.documents.remove(id)).collect()
    }

    /// Changes a text. Returns false when none is known there.
    fn change(&mut self, id: DocumentId, change: impl FnOnce(&mut Text) -> bool) -> bool {
        let Some(Document::Text(text)) = self.documents.get_mut(&id) else { return false };
        if change(text) {
            self.changed.insert(id);
        }
        true
    }
}

impl Text {
    /// Takes the text away. Returns false when it is gone already.
    fn delete(&mut self) -> bool {
        self.body.clear();
        self.files.clear();
        !std::mem::replace(&mut self.deleted, true)
    }
}

#[cfg(test)]
mod tests {
    use contracts::{ChatId, UserId, event::SeqRange};
    use uuid::Uuid;

    use super::*;
    use crate::domain::File;

    const CHAT: ChatId = ChatId(Uuid::from_u128(1));
    const ANN: UserId = UserId(Uuid::from_u128(2));
    const BEN: UserId = UserId(Uuid::from_u128(3));

    fn entry(seq: i64, what: What) -> Entry {
        Entry { id: DocumentId { chat: CHAT, seq }, sent_at_ms: seq, what }
    }

    fn text_of(sender: UserId, seq: i64, body: &str) -> Text {
        Text {
            chat: CHAT,
            seq,
            sender,
            sent_at_ms: seq,
            reply_to: None,
            expires_at_ms: None,
            body: body.into(),
            body_seq: seq,
            files: Vec::new(),
            deleted: false,
        }
    }

    fn text(sender: UserId, seq: i64, body: &str) -> Entry {
        entry(seq, What::Document(Document::Text(text_of(sender, seq, body))))
    }

    fn edit(seq: i64, target: i64, body: &str) -> Entry {
        entry(seq, What::Edit { target, body: body.into() })
    }

    fn bodies(batch: Batch) -> Vec<(i64, String)> {
        let texts = batch.into_changed().into_iter();
        texts
            .map(|document| match document {
                Document::Text(text) => (text.seq, text.body),
                Document::Beginning(_) => panic!("there is none"),
            })
            .collect()
    }

    #[test]
    fn what_comes_again_changes_nothing() {
        let log = [
            text(ANN, 1, "one"),
            text(BEN, 2, "two"),
            edit(3, 1, "one, edited"),
            entry(4, What::Delete { target: 2 }),
            edit(5, 1, "one, edited twice"),
        ];
        let mut batch = Batch::default();
        for entry in log.iter().chain(&log[..4]).chain(&log[1..3]) {
            assert!(batch.apply(entry.clone()));
        }
        let after = [(1, "one, edited twice".to_owned()), (2, String::new())];
        assert_eq!(bodies(batch), after, "no text is back");
    }

    #[test]
    fn an_edit_leaves_the_files_and_a_deletion_takes_them_along() {
        let files = vec![File { name: "cat.png".into(), media_type: "image/png".into() }];
        let with_files = |seq| Document::Text(Text { files: files.clone(), ..text_of(ANN, seq, "") });
        let mut batch = Batch::default();
        for seq in 1..=2 {
            batch.apply(entry(seq, What::Document(with_files(seq))));
        }
        batch.apply(edit(3, 1, "edited"));
        batch.apply(entry(4, What::Delete { target: 2 }));
        // A page from before the deletion brings none back.
        batch.merge(with_files(2));
        let kept: Vec<_> = batch
            .into_changed()
            .into_iter()
            .map(|document| match document {
                Document::Text(text) => (text.body, text.files.len()),
                Document::Beginning(_) => panic!("there is none"),
            })
            .collect();
        assert_eq!(kept, [("edited".to_owned(), 1), (String::new(), 0)]);
    }

    #[test]
    fn a_batch_has_only_what_changed() {
        let known = text_of(ANN, 1, "one");
        let id = DocumentId { chat: CHAT, seq: 1 };
        let mut batch = Batch::new(HashMap::from([(id, Document::Text(known))]));
        assert!(batch.apply(text(ANN, 1, "one")));
        assert_eq!(batch.into_changed(), []);
    }

    #[test]
    fn a_page_of_before_does_not_take_back_what_the_log_said_since() {
        let mut batch = Batch::default();
        for entry in [text(ANN, 1, "one"), edit(3, 1, "edited"), text(ANN, 2, "two")] {
            batch.apply(entry);
        }
        batch.apply(entry(4, What::Delete { target: 2 }));
        batch.merge(Document::Text(text_of(ANN, 1, "one")));
        batch.merge(Document::Text(text_of(ANN, 2, "two")));
        assert_eq!(bodies(batch), [(1, "edited".to_owned()), (2, String::new())]);
    }

    #[test]
    fn a_page_of_later_brings_what_the_log_has_yet_to_say() {
        let mut batch = Batch::default();
        batch.apply(text(ANN, 1, "one"));
        batch.apply(text(ANN, 2, "two"));
        batch.merge(Document::Text(Text { body_seq: 3, ..text_of(ANN, 1, "edited") }));
        batch.merge(Document::Text(Text { deleted: true, ..text_of(ANN, 2, "") }));
        assert!(batch.apply(edit(3, 1, "edited")));
        assert_eq!(bodies(batch), [(1, "edited".to_owned()), (2, String::new())]);
    }

    #[test]
    fn a_range_loses_the_texts_before_its_entry_that_are_meant() {
        let range = SeqRange { from_seq: 1, to_seq: 9 };
        let mut batch = Batch::default();
        for entry in [text(ANN, 1, "a"), text(BEN, 2, "b"), text(ANN, 3, "c"), text(ANN, 5, "later")] {
            batch.apply(entry);
        }
        assert!(batch.apply(entry(4, What::DeleteRange { range, subject: Some(ANN) })));
        let left: Vec<_> = bodies(batch).into_iter().map(|(_, body)| body).collect();
        assert_eq!(left, ["", "b", "", "later"]);
    }

    #[test]
    fn a_change_of_what_is_not_known_is_noticed() {
        let mut batch = Batch::default();
        assert!(!batch.apply(edit(3, 1, "edited")));
        assert!(!batch.apply(entry(4, What::Delete { target: 1 })));
        let range = SeqRange { from_seq: 1, to_seq: 2 };
        assert!(!batch.apply(entry(5, What::DeleteRange { range, subject: None })));
        assert_eq!(batch.into_changed(), []);
    }

    #[test]
    fn an_entry_needs_what_it_speaks_of() {
        let needs = |entry: Entry| entry.needs().map(|id| id.seq).collect::<Vec<_>>();
        assert_eq!(needs(text(ANN, 7, "a")), [7]);
        assert_eq!(needs(edit(7, 2, "a")), [2]);
        assert_eq!(needs(entry(7, What::Delete { target: 2 })), [2]);
        let range = SeqRange { from_seq: 5, to_seq: 9 };
        assert_eq!(needs(entry(7, What::DeleteRange { range, subject: None })), [5, 6]);
    }
}
