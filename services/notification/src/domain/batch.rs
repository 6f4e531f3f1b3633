//! What records of the log say, put together: each chat once and each seat once.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use contracts::{
    ChatId, SessionId, UserId,
    event::{
        DeliveredRecord, DeliveryOutcome, Ended, EntryKind, MembershipRecord, SessionEndRecord, Unreadable,
    },
};

use super::TOLD_FOR;

/// What is noted of records, in one transaction with the place behind them. What is noted twice has the same effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub news: BTreeMap<ChatId, News>,
    /// The last entry of a chat that a device of a user took, or that the user sent.
    pub taken: BTreeMap<(ChatId, UserId), i64>,
    /// Who is in which chat, the last of each.
    pub seats: BTreeMap<(ChatId, UserId), Seat>,
    /// Sessions that have ended.
    pub ended: BTreeSet<(UserId, SessionId)>,
    /// Users whose accounts are deleted.
    pub gone: BTreeSet<UserId>,
}

/// Texts of a chat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The last one.
    pub seq: i64,
    /// Whom they call.
    pub called: BTreeSet<UserId>,
    pub calls_all: bool,
}

/// Whether a user is in a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    pub is_member: bool,
    /// Of the chat; `None` for the tombstone of a record.
    pub version: Option<i64>,
}

impl Batch {
    /// Returns whether there is nothing to note.
    pub fn is_empty(&self) -> bool {
        let says_nothing_of_sessions = self.ended.is_empty() && self.gone.is_empty();
        self.news.is_empty() && self.taken.is_empty() && self.seats.is_empty() && says_nothing_of_sessions
    }

    /// Adds a record of `message.delivered`.
    pub fn add_delivered(&mut self, record: &DeliveredRecord, now: DateTime<Utc>) {
        match &record.outcome {
            DeliveryOutcome::Stored {
                seq,
                kind: EntryKind::Text,
                mentions,
                mentions_all,
                silent,
                sent_at_ms,
                expires_at_ms,
                ..
            } => {
                // What a user has sent needs no push to the user.
                self.take(record.chat, record.sender, *seq);
                let is_old = *sent_at_ms < (now - TOLD_FOR).timestamp_millis();
                let is_gone = expires_at_ms.is_some_and(|at_ms| at_ms <= now.timestamp_millis());
                if *silent || is_old || is_gone {
                    return;
                }
                let news = self.news.entry(record.chat).or_default();
                news.seq = news.seq.max(*seq);
                news.called.extend(mentions.iter().copied());
                news.calls_all |= *mentions_all;
            }
            DeliveryOutcome::Marked { read_seq, delivered_seq, .. } => {
                self.take(record.chat, record.sender, (*read_seq).max(*delivered_seq));
            }
            _ => {}
        }
    }

    /// Adds a record of `chat.events`. One without a payload is a tombstone.
    pub fn add_membership(&mut self, key: &[u8], payload: Option<&[u8]>) -> Result<(), Unreadable> {
        // Other keys are of other records.
        let Some((chat, user)) = MembershipRecord::parse_key(key) else { return Ok(()) };
        let seat = match payload {
            None => {
                // The record before it has said so, with a version; that one may be compacted away.
                let said = self.seats.get(&(chat, user)).and_then(|seat| seat.version);
                Seat { is_member: false, version: said }
            }
            Some(payload) => {
                let record = MembershipRecord::read(payload)?;
                Seat { is_member: record.role.is_some(), version: Some(record.version) }
            }
        };
        self.seats.insert((chat, user), seat);
        Ok(())
    }

    /// Adds a record of `session.events`.
    pub fn add_session_end(&mut self, payload: Option<&[u8]>) -> Result<(), Unreadable> {
        let SessionEndRecord { user, ended, .. } = SessionEndRecord::read(payload)?;
        match ended {
            Ended::Session(session) => {
                self.ended.insert((user, session));
            }
            Ended::Account => {
                self.gone.insert(user);
            }
        }
        Ok(())
    }

    fn take(&mut self, chat: ChatId, user: UserId, seq: i64) {
        let taken = self.taken.entry((chat, user)).or_default();
        *taken = (*taken).max(seq);
    }
}

#[cfg(test)]
mod tests {
    use contracts::{DeviceId, MessageKey};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn record(chat: ChatId, sender: UserId, outcome: DeliveryOutcome) -> DeliveredRecord {
        let (device, key) = (DeviceId(Uuid::nil()), MessageKey(Uuid::nil()));
        DeliveredRecord { v: 1, chat, sender, device, key, outcome }
    }

    fn text(seq: i64, sent_at_ms: i64, more: serde_json::Value) -> DeliveryOutcome {
        let mut stored = json!({"seq": seq, "kind": "text", "body": "x", "sent_at_ms": sent_at_ms});
        stored.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json!({"stored": stored})).unwrap()
    }

    #[test]
    fn texts_of_a_chat_are_one_piece_of_news() {
        let (chat, [ann, ben]) = (ChatId::generate(), [UserId::generate(), UserId::generate()]);
        let now = DateTime::from_timestamp_millis(1_800_000_000_000).unwrap();
        let now_ms = now.timestamp_millis();
        let mut batch = Batch::default();
        for outcome in [
            text(1, now_ms, json!({"mentions": [ben]})),
            text(3, now_ms, json!({})),
            // An announcement that comes again.
            text(2, now_ms, json!({})),
            text(4, now_ms, json!({"silent": true})),
            text(5, now_ms - TOLD_FOR.num_milliseconds() - 1, json!({})),
            text(6, now_ms, json!({"expires_at_ms": now_ms})),
        ] {
            batch.add_delivered(&record(chat, ann, outcome), now);
        }
        let marked = json!({"marked": {"read_seq": 1, "delivered_seq": 2, "unread": 1, "mentions": 0}});
        batch.add_delivered(&record(chat, ben, serde_json::from_value(marked).unwrap()), now);
        let news = News { seq: 3, called: BTreeSet::from([ben]), calls_all: false };
        assert_eq!(batch.news, BTreeMap::from([(chat, news)]));
        assert_eq!(batch.taken, BTreeMap::from([((chat, ann), 6), ((chat, ben), 2)]));
    }

    #[test]
    fn a_tombstone_has_the_version_of_the_record_before_it() {
        let (chat, user) = (ChatId::generate(), UserId::generate());
        let key = MembershipRecord::key(chat, user);
        let said = |version: i64, role: Option<&str>| {
            let mut record = json!({"v": 1, "chat": chat, "user": user, "version": version});
            if let Some(role) = role {
                record["role"] = role.into();
            }
            record.to_string()
        };
        let mut batch = Batch::default();
        let mut add = |payload: Option<String>| {
            batch.add_membership(key.as_bytes(), payload.as_deref().map(str::as_bytes)).unwrap();
            batch.seats[&(chat, user)]
        };
        assert_eq!(add(None), Seat { is_member: false, version: None });
        assert_eq!(add(Some(said(4, Some("member")))), Seat { is_member: true, version: Some(4) });
        assert_eq!(add(Some(said(5, None))), Seat { is_member: false, version: Some(5) });
        assert_eq!(add(None), Seat { is_member: false, version: Some(5) });
        let own = format!("{key}/own");
        batch.add_membership(own.as_bytes(), Some(b"of another kind")).unwrap();
        assert_eq!(batch.seats.len(), 1);
    }

    #[test]
    fn the_ends_of_a_session_and_of_an_account_are_noted() {
        let (user, other) = (UserId::generate(), UserId::generate());
        let mut batch = Batch::default();
        let mut add = |record: serde_json::Value| batch.add_session_end(Some(record.to_string().as_bytes()));
        for _ in 0..2 {
            add(json!({"v": 1, "user": user, "ended": {"session": "phone"}})).unwrap();
        }
        add(json!({"v": 1, "user": other, "ended": "account"})).unwrap();
        let newer = add(json!({"v": 2, "user": user, "ended": {"session": "desk"}}));
        assert_eq!(newer.unwrap_err(), Unreadable::Version(2));
        assert_eq!(batch.add_session_end(None).unwrap_err(), Unreadable::Empty);
        assert_eq!(batch.ended, BTreeSet::from([(user, "phone".parse::<SessionId>().unwrap())]));
        assert_eq!(batch.gone, BTreeSet::from([other]));
        assert!(!batch.is_empty() && !Batch { gone: batch.gone, ..Batch::default() }.is_empty());
    }

    #[test]
    fn a_membership_of_a_newer_version_says_nothing_here_and_is_not_quoted() {
        let (chat, user) = (ChatId::generate(), UserId::generate());
        let key = MembershipRecord::key(chat, user);
        let mut batch = Batch::default();
        let mut refusal = |payload: serde_json::Value| {
            let payload = payload.to_string();
            batch.add_membership(key.as_bytes(), Some(payload.as_bytes())).unwrap_err()
        };
        let newer = json!({"v": 2, "chat": chat, "user": user, "version": 1, "role": "member"});
        assert_eq!(refusal(newer), Unreadable::Version(2));
        let quoted = refusal(json!({"v": 1, "chat": "the secret one"}));
        assert!(matches!(quoted, Unreadable::Form(_)) && !quoted.to_string().contains("secret"), "{quoted}");
        assert!(batch.is_empty());
    }
}
