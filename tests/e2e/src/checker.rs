//! Proves that nothing acked is lost, duplicated or out of order: compares what was acked to senders, what is stored, and
//! what each receiver saw. Pure, so that it is tested on faults of every kind.

use std::collections::{HashMap, HashSet};

use contracts::{ChatId, MessageKey, UserId, changes::Changes, event::EntryKind, wire::Message};
use posthouse_client::View;
use uuid::Uuid;

/// A message that was acked to its sender as stored.
#[derive(Clone, Debug)]
pub struct Acked {
    pub chat: ChatId,
    pub key: MessageKey,
    pub sender: UserId,
    pub seq: i64,
    pub kind: EntryKind,
    pub body: String,
}

impl Acked {
    /// Returns whether this is the stored entry. A later entry changes or removes the text of an earlier one.
    fn is(&self, stored: &Message) -> bool {
        let Changes { edited_seq, deleted_seq, .. } = stored.changes;
        let is_changed = edited_seq.or(deleted_seq).is_some();
        let is_erased = self.kind == EntryKind::Edit && stored.body.is_empty();
        (self.key, self.sender, self.kind) == (stored.key, stored.sender, stored.kind)
            && (self.body == stored.body || is_changed || is_erased)
    }
}

/// Faults of one kind that are listed; the rest is a number.
const LISTED: usize = 5;

/// Returns everything that is wrong, in words; empty when all is well.
///
/// `sent` holds every key that was ever sent. `seen` holds for each receiver and chat the entries in the order in which
/// the session handed them out.
pub fn verdict(
    acked: &[Acked],
    sent: &HashSet<MessageKey>,
    histories: &HashMap<ChatId, Vec<Message>>,
    seen: &[(String, ChatId, Vec<Message>)],
) -> Vec<String> {
    let mut faults = Faults::default();
    for (chat, history) in histories {
        for (expected, message) in (1..).zip(history) {
            if message.seq != expected {
                faults.add("gap in seq", format!("chat {chat}: {} where {expected} belongs", message.seq));
                break;
            }
        }
        let mut keys = HashSet::new();
        for message in history.iter().filter(|message| message.kind.is_from_device()) {
            if !keys.insert((message.sender, message.key)) {
                faults.add(
                    "stored twice",
                    format!("chat {chat}: key {} again as {}", message.key, message.seq),
                );
            }
            if !sent.contains(&message.key) {
                faults.add("stored and never sent", format!("chat {chat}: seq {}", message.seq));
            }
        }
    }
    for ack in acked {
        let index = usize::try_from(ack.seq - 1).unwrap_or(usize::MAX);
        match histories.get(&ack.chat).and_then(|history| history.get(index)) {
            Some(stored) if ack.is(stored) => {}
            Some(stored) => faults.add(
                "acked as another message",
                format!("chat {}: seq {} is key {}, not {}", ack.chat, ack.seq, stored.key, ack.key),
            ),
            None => faults
                .add("acked and not stored", format!("chat {}: seq {} key {}", ack.chat, ack.seq, ack.key)),
        }
    }
    // Once for all who are in a chat.
    let fetched: HashMap<ChatId, Vec<Message>> =
        histories.iter().map(|(chat, history)| (*chat, view(history))).collect();
    for (name, chat, entries) in seen {
        let history = histories.get(chat).map(Vec::as_slice).unwrap_or_default();
        let fetched = fetched.get(chat).map(Vec::as_slice).unwrap_or_default();
        let in_order = entries.iter().map(|entry| entry.seq).eq(history.iter().map(|entry| entry.seq));
        let view = view(entries);
        if in_order && view == fetched {
            continue;
        }
        let same = view.iter().zip(fetched).take_while(|(entry, stored)| entry == stored).count();
        faults.add(
            "receiver saw something else",
            format!(
                "{name} in chat {chat}: {} entries against {} stored; they part after seq {same}",
                entries.len(),
                history.len()
            ),
        );
    }
    faults.listed()
}

/// Returns the entries as the later ones left them, for nobody in particular.
fn view(entries: &[Message]) -> Vec<Message> {
    let mut view = View::new(UserId(Uuid::nil()));
    entries.iter().for_each(|entry| view.apply(entry));
    let mut entries: Vec<Message> = view.entries().values().cloned().collect();
    entries.iter_mut().flat_map(|entry| &mut entry.changes.reactions).for_each(|of| of.own = false);
    entries
}

#[derive(Default)]
struct Faults {
    kinds: Vec<(&'static str, Vec<String>)>,
}

impl Faults {
    fn add(&mut self, kind: &'static str, detail: String) {
        match self.kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, details)) => details.push(detail),
            None => self.kinds.push((kind, vec![detail])),
        }
    }

    fn listed(self) -> Vec<String> {
        let text = |(kind, details): (&str, Vec<String>)| {
            format!("{kind} ({}): {}", details.len(), details[..details.len().min(LISTED)].join("; "))
        };
        self.kinds.into_iter().map(text).collect()
    }
}

/// Returns the value below which `percent` of the sorted values lie; zero for none.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: ChatId = ChatId(Uuid::from_u128(1));

    fn message(seq: i64, key: u128) -> Message {
        Message {
            chat: CHAT,
            seq,
            sender: UserId(Uuid::from_u128(9)),
            key: MessageKey(Uuid::from_u128(key)),
            kind: EntryKind::Text,
            body: format!("body {key}"),
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
            sent_at_ms: seq,
            expires_at_ms: None,
            expired: false,
        }
    }

    fn ack(message: &Message) -> Acked {
        Acked {
            chat: CHAT,
            key: message.key,
            sender: message.sender,
            seq: message.seq,
            kind: message.kind,
            body: message.body.clone(),
        }
    }

    #[test]
    fn what_later_entries_changed_is_compared_too() {
        let about = |seq, kind, body: &str| Message {
            kind,
            body: body.into(),
            target_seq: Some(1),
            ..message(seq, seq.unsigned_abs().into())
        };
        let seen =
            vec![message(1, 1), about(2, EntryKind::Edit, "better"), about(3, EntryKind::Reaction, "x")];
        let mut history = view(&seen);
        assert_eq!((history[0].body.as_str(), history[0].changes.seq), ("better", 3));
        let acked: Vec<Acked> = seen.iter().map(ack).collect();
        let sent = seen.iter().map(|message| message.key).collect();
        let check = |history: &[Message]| {
            let histories = HashMap::from([(CHAT, history.to_vec())]);
            verdict(&acked, &sent, &histories, &[("ann".into(), CHAT, seen.clone())]).len()
        };
        assert_eq!(check(&history), 0);
        history[0].changes.reactions.clear();
        assert_eq!(check(&history), 1, "a reaction is not kept with its message");
    }

    /// Three messages were sent, acked, stored and seen; `edit` breaks something.
    fn check(edit: impl FnOnce(&mut Vec<Acked>, &mut Vec<Message>, &mut Vec<Message>), expected: &[&str]) {
        let mut history: Vec<Message> = (1..=3).map(|n| message(n, n as u128)).collect();
        let sent = history.iter().map(|message| message.key).collect();
        let mut acked = history.iter().map(ack).collect();
        let mut seen = history.clone();
        edit(&mut acked, &mut history, &mut seen);
        let found = verdict(&acked, &sent, &HashMap::from([(CHAT, history)]), &[("ann".into(), CHAT, seen)]);
        let kinds: Vec<&str> = found.iter().map(|fault| fault.split(" (").next().expect("a kind")).collect();
        assert_eq!(kinds, expected, "{found:#?}");
    }

    #[test]
    fn all_is_well() {
        check(|_, _, _| {}, &[]);
        check(
            |acked, _, _| {
                acked.pop();
            },
            &[],
        );
    }

    #[test]
    fn a_lost_message_is_found() {
        check(
            |_, history, seen| {
                history.pop();
                seen.pop();
            },
            &["acked and not stored"],
        );
    }

    #[test]
    fn a_gap_is_found() {
        check(
            |acked, history, seen| {
                acked.clear();
                history.remove(1);
                seen.remove(1);
            },
            &["gap in seq"],
        );
    }

    #[test]
    fn a_duplicate_and_an_unsent_message_are_found() {
        check(
            |_, history, seen| {
                history.push(message(4, 2));
                seen.push(message(4, 2));
            },
            &["stored twice"],
        );
        check(
            |_, history, seen| {
                history.push(message(4, 77));
                seen.push(message(4, 77));
            },
            &["stored and never sent"],
        );
    }

    #[test]
    fn a_seq_that_was_assigned_twice_is_found() {
        check(|acked, _, _| acked[2].seq = 2, &["acked as another message"]);
    }

    #[test]
    fn a_receiver_that_missed_duplicated_or_swapped_something_is_found() {
        check(
            |_, _, seen| {
                seen.pop();
            },
            &["receiver saw something else"],
        );
        check(|_, _, seen| seen.push(message(3, 3)), &["receiver saw something else"]);
        check(|_, _, seen| seen.swap(0, 1), &["receiver saw something else"]);
    }

    #[test]
    fn percentiles_are_of_the_sorted_values() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(
            (percentile(&values, 50), percentile(&values, 99), percentile(&[], 50)),
            (50.0, 99.0, 0.0)
        );
    }
}
