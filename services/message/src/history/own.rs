//! What a user wrote, in the chats that they are in and in those that they have left.

use contracts::{
    ChatId, UserId,
    changes::Changes,
    event::EntryKind,
    wire::{HISTORY_PAGE_BYTES, MAX_HISTORY_LIMIT, Message},
};

use super::Bounds;
use crate::{
    domain::TargetId,
    store::{Result, Room, Store},
};

/// Entries that one page looks at: in a long chat a user may have written little. A second of reads at most.
const LOOK_AT: usize = 5_000;
/// What a chat counts for, beside its entries: the reads that find its end.
const CHAT: usize = 50;

/// A page of what a user wrote.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OwnTexts {
    pub messages: Vec<Message>,
    /// The last entry that was looked at; `None` when there are no more.
    pub last: Option<TargetId>,
}

/// Returns texts of a user behind an entry, by chat and seq: at most `limit` and about 128 KiB of JSON. A page that is not the last may be
/// shorter, or empty. The texts are as they are now, with what their sender and deletions made of them; what others said of them belongs
/// to others.
pub async fn own_texts<S: Store>(
    store: &S,
    user: UserId,
    behind: Option<TargetId>,
    limit: usize,
) -> Result<OwnTexts> {
    // Who writes a text has read up to it, so each chat has a mark in which the user ever wrote.
    let marked = store.marks_of(user).await?.into_keys();
    let mut chats: Vec<ChatId> = marked.filter(|chat| behind.is_none_or(|of| *chat >= of.chat)).collect();
    chats.sort_unstable();
    let (mut found, mut room) = (OwnTexts::default(), Room::new(limit, HISTORY_PAGE_BYTES));
    let mut looked_at = 0;
    for chat in chats {
        let head_seq = store.head(chat).await?.seq;
        let bounds = Bounds { chat, from_seq: 1, head_seq };
        let mut last = TargetId { chat, seq: behind.filter(|of| of.chat == chat).map_or(0, |of| of.seq) };
        loop {
            if looked_at >= LOOK_AT {
                return Ok(OwnTexts { last: Some(last), ..found });
            }
            let page = Room::new(MAX_HISTORY_LIMIT as usize, HISTORY_PAGE_BYTES);
            let page = bounds.after(store, last.seq, page).await?;
            looked_at += page.len();
            if page.is_empty() {
                break;
            }
            for mut message in page {
                let seq = message.seq;
                if message.sender == user && message.kind == EntryKind::Text {
                    let Changes { seq, edited_seq, edits, deleted_seq, .. } = message.changes;
                    message.changes = Changes { seq, edited_seq, edits, deleted_seq, ..Changes::default() };
                    if !room.take(&message) {
                        return Ok(OwnTexts { last: Some(last), ..found });
                    }
                    found.messages.push(message);
                }
                last.seq = seq;
            }
        }
        looked_at += CHAT;
    }
    Ok(found)
}
