//! Messages that are sent at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey, UserId,
    api::{self, MAX_AHEAD_SECONDS, RescheduleRequest, ScheduleRequest},
    event::{self, EntryKind, SendRecord},
    wire::{MAX_BODY_BYTES, MAX_MENTIONS},
};
use kit::{catalog::Topic, error::InvalidField};
use uuid::Uuid;

use super::{Access, OutboxRecord, Refusal, Rights};

/// The end of the year 9999. A time that is ahead and too far is refused otherwise: see [`Scheduled::check_time`].
const LATEST_MS: i64 = 253_402_300_799_999;

/// A message that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    pub chat_id: ChatId,
    pub user_id: UserId,
    /// The idempotency key of the message.
    pub key: MessageKey,
    pub text: ScheduledText,
    pub send_at: DateTime<Utc>,
    /// Why it was not sent at its time.
    pub refused: Option<ErrorCode>,
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledText {
    pub body: String,
    pub reply_to: Option<i64>,
    pub mentions: Vec<UserId>,
    pub mentions_all: bool,
}

/// Scheduled messages of a member in a chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScheduledCounts {
    pub waiting: u32,
    pub refused: u32,
}

/// What becomes of a message whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Send,
    /// It stays, and is not tried again by itself.
    Refused(ErrorCode),
    /// It is sent then: the chat is slow, and another scheduled message of the user was sent a moment ago.
    Later(DateTime<Utc>),
}

impl Scheduled {
    /// Reads a request.
    pub fn parse(chat_id: ChatId, user_id: UserId, request: ScheduleRequest) -> Result<Self, InvalidField> {
        let ScheduleRequest { key, body, reply_to, mentions, mention_all, send_at_ms } = request;
        let rest = RescheduleRequest { body, reply_to, mentions, mention_all, send_at_ms };
        Self::parse_keyed(chat_id, user_id, key, rest)
    }

    /// Reads a request that names the key apart.
    pub fn parse_keyed(
        chat_id: ChatId,
        user_id: UserId,
        key: MessageKey,
        request: RescheduleRequest,
    ) -> Result<Self, InvalidField> {
        let RescheduleRequest { body, reply_to, mentions, mention_all, send_at_ms } = request;
        let invalid = |field, problem: String| Err(InvalidField { field, problem });
        if !(1..=MAX_BODY_BYTES).contains(&body.len()) || body.contains('\0') {
            return invalid("body", format!("must be 1 to {MAX_BODY_BYTES} bytes without U+0000"));
        }
        if reply_to.is_some_and(|seq| seq < 1) {
            return invalid("reply_to", "must be 1 or more".to_owned());
        }
        if mentions.len() > MAX_MENTIONS {
            return invalid("mentions", format!("must be at most {MAX_MENTIONS}"));
        }
        let send_at = DateTime::from_timestamp_millis(send_at_ms);
        let Some(send_at) = send_at.filter(|_| (0..=LATEST_MS).contains(&send_at_ms)) else {
            return invalid("send_at_ms", format!("must be 0 to {LATEST_MS}"));
        };
        let text = ScheduledText { body, reply_to, mentions, mentions_all: mention_all };
        Ok(Self { chat_id, user_id, key, text, send_at, refused: None })
    }

    /// Refuses a time that is not ahead, or too far. `now` is the time of the database, by which it is sent.
    pub fn check_time(&self, now: DateTime<Utc>) -> Result<(), Refusal> {
        if self.send_at <= now {
            return Err(Refusal::TimeIsPast);
        }
        if self.send_at > now + TimeDelta::seconds(MAX_AHEAD_SECONDS) {
            return Err(Refusal::TooFarAhead);
        }
        Ok(())
    }

    /// Returns whether both are the same message at the same time.
    pub fn is_as(&self, other: &Self) -> bool {
        self.key == other.key && self.text == other.text && self.send_at == other.send_at
    }

    /// Returns the record by which it is sent: as a text of its sender, from no device. With its key, it is one message however often the
    /// record is written. `present` are those whom it calls by name and who are in the chat; the others are called by nothing.
    pub fn record(&self, present: &BTreeSet<UserId>) -> OutboxRecord {
        let ScheduledText { body, reply_to, mentions, mentions_all } = self.text.clone();
        let not_members = mentions.iter().copied().filter(|user| !present.contains(user)).collect();
        let record = SendRecord {
            v: event::VERSION,
            chat: self.chat_id,
            sender: self.user_id,
            device: DeviceId(Uuid::nil()),
            key: self.key,
            kind: EntryKind::Text,
            body,
            subject: None,
            target_seq: reply_to,
            mentions,
            mentions_all,
            called_by_role: 0,
            not_members,
            mention_roles: Vec::new(),
            mentions_here: false,
            silent: false,
            forwarded: None,
            source: None,
            range: None,
            moderates: false,
            subject_only: false,
        };
        OutboxRecord {
            topic: Topic::MessageSend,
            key: self.chat_id.to_string(),
            payload: Some(serde_json::to_string(&record).expect("a record is plain data")),
        }
    }
}

/// Decides what becomes of a message whose time has come, of a user with these rights. In slow mode scheduled messages wait for one another;
/// what the user sent by hand before is known to the gateways alone.
pub fn due(rights: Rights, last_sent: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Due {
    match rights.access {
        Access::None => return Due::Refused(ErrorCode::NotAMember),
        Access::Read | Access::ReadAndReact => return Due::Refused(ErrorCode::PermissionDenied),
        Access::ReadAndSend => {}
    }
    let may_send_at = last_sent.map(|at| at + TimeDelta::seconds(rights.slow_mode_seconds.into()));
    match may_send_at.filter(|at| *at > now) {
        Some(at) if rights.slow_mode_seconds > 0 => Due::Later(at),
        _ => Due::Send,
    }
}

/// What a round of one chat comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dispatch {
    pub sent: Vec<Scheduled>,
    /// With their refusals.
    pub refused: Vec<Scheduled>,
    /// With their new times.
    pub later: Vec<Scheduled>,
}

/// Decides what becomes of the messages of a chat whose time has come, in the order in which they are to be sent. `rights` and `last_sent` are
/// those of their senders.
pub fn dispatch(
    messages: Vec<Scheduled>,
    rights: &BTreeMap<UserId, Rights>,
    mut last_sent: BTreeMap<UserId, DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Dispatch {
    let mut dispatch = Dispatch::default();
    for mut message in messages {
        let user = message.user_id;
        let rights = rights.get(&user).copied().unwrap_or(Rights::NONE);
        match due(rights, last_sent.get(&user).copied(), now) {
            Due::Send => {
                last_sent.insert(user, now);
                dispatch.sent.push(message);
            }
            Due::Refused(code) => {
                message.refused = Some(code);
                dispatch.refused.push(message);
            }
            Due::Later(at) => {
                message.send_at = at;
                dispatch.later.push(message);
            }
        }
    }
    dispatch
}

/// Returns why a message is not sent at once for which its sender asks; `Ok` when it is.
pub fn send_now(
    chat_id: ChatId,
    rights: Rights,
    last_sent: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(), Refusal> {
    match due(rights, last_sent, now) {
        Due::Send => Ok(()),
        Due::Refused(ErrorCode::NotAMember) => Err(Refusal::NotAMember(chat_id)),
        Due::Refused(_) => Err(Refusal::MayNotWrite),
        Due::Later(at) => Err(Refusal::SlowMode { wait: (at - now).to_std().unwrap_or(Duration::ZERO) }),
    }
}

impl From<Scheduled> for api::ScheduledMessage {
    fn from(scheduled: Scheduled) -> Self {
        let Scheduled { chat_id, key, text, send_at, refused, .. } = scheduled;
        let ScheduledText { body, reply_to, mentions, mentions_all } = text;
        Self {
            chat_id,
            key,
            body,
            reply_to,
            mentions,
            mention_all: mentions_all,
            send_at_ms: send_at.timestamp_millis(),
            refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: ChatId = ChatId(Uuid::from_u128(1));
    const ANN: UserId = UserId(Uuid::from_u128(2));
    const BOB: UserId = UserId(Uuid::from_u128(3));

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).expect("a moment")
    }

    fn message(user_id: UserId, n: u128) -> Scheduled {
        let text =
            ScheduledText { body: n.to_string(), reply_to: None, mentions: vec![], mentions_all: false };
        let key = MessageKey(Uuid::from_u128(n));
        Scheduled { chat_id: CHAT, user_id, key, text, send_at: at(0), refused: None }
    }

    fn rights(access: Access, slow_mode_seconds: u32) -> Rights {
        Rights { access, slow_mode_seconds }
    }

    #[test]
    fn what_no_chat_takes_is_refused_when_it_is_scheduled() {
        let request = || RescheduleRequest {
            body: "later".to_owned(),
            reply_to: Some(1),
            mentions: vec![BOB; MAX_MENTIONS],
            mention_all: true,
            send_at_ms: 5_000,
        };
        let parse = |request| Scheduled::parse_keyed(CHAT, ANN, MessageKey(Uuid::nil()), request);
        let read = parse(request()).expect("a message");
        assert_eq!(
            (read.send_at.timestamp_millis(), read.text.reply_to, read.refused),
            (5_000, Some(1), None)
        );
        assert!(parse(RescheduleRequest { body: "x".repeat(MAX_BODY_BYTES), ..request() }).is_ok());
        for (request, field) in [
            (RescheduleRequest { body: String::new(), ..request() }, "body"),
            (RescheduleRequest { body: "x".repeat(MAX_BODY_BYTES + 1), ..request() }, "body"),
            (RescheduleRequest { body: "a\0b".to_owned(), ..request() }, "body"),
            (RescheduleRequest { reply_to: Some(0), ..request() }, "reply_to"),
            (RescheduleRequest { mentions: vec![BOB; MAX_MENTIONS + 1], ..request() }, "mentions"),
            (RescheduleRequest { send_at_ms: i64::MAX, ..request() }, "send_at_ms"),
        ] {
            assert_eq!(parse(request).map_err(|invalid| invalid.field), Err(field));
        }
    }

    #[test]
    fn a_time_is_ahead_and_not_further_than_a_year() {
        let check = |now, expected| assert_eq!(message(ANN, 1).check_time(now), expected);
        check(at(-1), Ok(()));
        check(at(0), Err(Refusal::TimeIsPast));
        check(at(1), Err(Refusal::TimeIsPast));
        check(at(-MAX_AHEAD_SECONDS), Ok(()));
        check(at(-MAX_AHEAD_SECONDS - 1), Err(Refusal::TooFarAhead));
    }

    #[test]
    fn the_rights_at_its_time_decide() {
        let check = |rights, last, expected| assert_eq!(due(rights, last, at(10)), expected);
        let denied = Due::Refused(ErrorCode::PermissionDenied);
        check(rights(Access::ReadAndSend, 0), None, Due::Send);
        check(rights(Access::ReadAndSend, 0), Some(at(10)), Due::Send);
        check(rights(Access::ReadAndReact, 0), None, denied);
        check(rights(Access::Read, 0), None, denied);
        check(Rights::NONE, None, Due::Refused(ErrorCode::NotAMember));
        check(rights(Access::ReadAndSend, 30), None, Due::Send);
        check(rights(Access::ReadAndSend, 30), Some(at(5)), Due::Later(at(35)));
        check(rights(Access::ReadAndSend, 30), Some(at(-20)), Due::Send);
        assert_eq!(
            send_now(CHAT, rights(Access::ReadAndSend, 30), Some(at(5)), at(10)),
            Err(Refusal::SlowMode { wait: Duration::from_secs(25) })
        );
        assert_eq!(send_now(CHAT, rights(Access::Read, 0), None, at(10)), Err(Refusal::MayNotWrite));
        assert_eq!(send_now(CHAT, Rights::NONE, None, at(10)), Err(Refusal::NotAMember(CHAT)));
    }

    #[test]
    fn messages_of_one_time_are_sent_in_order_and_one_by_one_in_slow_mode() {
        let messages = [(ANN, 1), (BOB, 2), (ANN, 3), (BOB, 4)].map(|(user, n)| message(user, n));
        let rights =
            BTreeMap::from([(ANN, rights(Access::ReadAndSend, 30)), (BOB, rights(Access::ReadAndSend, 0))]);
        let done = dispatch(messages.to_vec(), &rights, BTreeMap::new(), at(10));
        let [first, second, third, fourth] = messages;
        assert_eq!(done.sent, [first, second, fourth]);
        assert_eq!(done.later, [Scheduled { send_at: at(40), ..third }]);
        assert_eq!(done.refused, []);
    }

    #[test]
    fn it_is_sent_as_a_text_of_its_sender_under_its_key() {
        let text = ScheduledText {
            body: "now".to_owned(),
            reply_to: Some(7),
            mentions: vec![BOB, ANN],
            mentions_all: true,
        };
        let scheduled = Scheduled { text, ..message(ANN, 5) };
        let record = scheduled.record(&BTreeSet::from([BOB]));
        assert_eq!((record.topic, record.key), (Topic::MessageSend, CHAT.to_string()));
        let send: SendRecord = serde_json::from_str(&record.payload.expect("a payload")).expect("json");
        assert_eq!((send.sender, send.key, send.kind), (ANN, scheduled.key, EntryKind::Text));
        assert_eq!((send.body.as_str(), send.target_seq), ("now", Some(7)));
        assert_eq!((send.mentions, send.mentions_all, send.device.0.is_nil()), (vec![BOB, ANN], true, true));
        assert_eq!(send.not_members, [ANN]);
    }
}
