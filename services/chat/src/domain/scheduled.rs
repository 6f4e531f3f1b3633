//! Messages that are sent at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey, UserId,
    api::{self, MAX_AHEAD_SECONDS, MAX_SLOW_MODE_SECONDS, RescheduleRequest, ScheduleRequest},
    event::{self, EntryKind, Role, SendRecord},
    wire::{MAX_BODY_BYTES, MAX_MENTIONS, MAX_ROLE_MENTIONS},
};
use kit::{catalog::Topic, error::InvalidField};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Access, EntryId, NoRoom, OutboxRecord, Pace, Refusal, Rights};

/// The end of the year 9999. A time that is ahead and too far is refused otherwise: see [`Scheduled::check_time`].
const LATEST_MS: i64 = 253_402_300_799_999;
/// A message whose sending fails is tried so often, within about an hour, and is then refused.
const MAX_ATTEMPTS: u32 = 20;
/// The longest wait between two attempts.
const LONGEST_WAIT: TimeDelta = TimeDelta::minutes(5);
/// What was sent is remembered for so long, for requests that are repeated.
pub const SENT_REMEMBERED: TimeDelta = TimeDelta::days(7);
/// When a user sent in a chat last is remembered for so long, also when they leave it: the longest slow mode.
pub const SLOW_REMEMBERED: TimeDelta = TimeDelta::seconds(MAX_SLOW_MODE_SECONDS as i64);
/// A queue for which there is no room is looked at again after this time at the earliest, and then for all that there is room for.
const PUT_OFF: TimeDelta = TimeDelta::seconds(1);

/// A message that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    pub chat_id: ChatId,
    pub user_id: UserId,
    /// The idempotency key of the message.
    pub key: MessageKey,
    pub text: ScheduledText,
    pub send_at: DateTime<Utc>,
    /// When it is tried, if that is later.
    pub not_before: Option<DateTime<Utc>>,
    /// How often it could not be sent, in a row.
    pub attempts: u32,
    /// Why it was not sent at its time.
    pub refused: Option<ErrorCode>,
}

/// What it says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScheduledText {
    pub body: String,
    pub reply_to: Option<i64>,
    pub mentions: Vec<UserId>,
    pub mention_roles: Vec<Role>,
    pub mentions_all: bool,
    pub mentions_here: bool,
    pub silent: bool,
}

/// Who is in a chat of those whom its messages call.
#[derive(Debug, Default)]
pub struct Audience {
    /// Those who are called by name.
    pub present: BTreeSet<UserId>,
    /// Those who have a role that is called; of each role at most one more than a message may call, beside the sender.
    pub with_role: BTreeMap<Role, BTreeSet<UserId>>,
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
    /// It is tried then: the chat is slow, and another scheduled message of the user was sent a moment ago.
    Later(DateTime<Utc>),
}

/// What decides whether the messages of a user in a chat are sent, and when.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub rights: Rights,
    /// When a scheduled message of the user was sent there last, before they left and came back too.
    pub last_sent: Option<DateTime<Utc>>,
    pub pace: Pace,
    /// The entry with which the history of the user begins; `None` for one who reads all of it.
    pub reads_from: Option<EntryId>,
}

impl Scheduled {
    /// Reads a request.
    pub fn parse(chat_id: ChatId, user_id: UserId, request: ScheduleRequest) -> Result<Self, InvalidField> {
        let ScheduleRequest {
            key,
            body,
            reply_to,
            mentions,
            mention_all,
            mention_roles,
            mention_here,
            silent,
            send_at_ms,
        } = request;
        let rest = RescheduleRequest {
            body,
            reply_to,
            mentions,
            mention_all,
            mention_roles,
            mention_here,
            silent,
            send_at_ms,
        };
        Self::parse_keyed(chat_id, user_id, key, rest)
    }

    /// Reads a request that names the key apart.
    pub fn parse_keyed(
        chat_id: ChatId,
        user_id: UserId,
        key: MessageKey,
        request: RescheduleRequest,
    ) -> Result<Self, InvalidField> {
        let RescheduleRequest {
            body,
            reply_to,
            mentions,
            mention_all,
            mention_roles,
            mention_here,
            silent,
            send_at_ms,
        } = request;
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
        if mention_roles.contains(&Role::Member) || matches!(&mention_roles[..], [one, other] if one == other)
        {
            return invalid("mention_roles", "must be owner and admin, each once".to_owned());
        }
        if mention_roles.len() > 2 {
            return invalid("mention_roles", "must be at most 2".to_owned());
        }
        let send_at = DateTime::from_timestamp_millis(send_at_ms);
        let Some(send_at) = send_at.filter(|_| (0..=LATEST_MS).contains(&send_at_ms)) else {
            return invalid("send_at_ms", format!("must be 0 to {LATEST_MS}"));
        };
        let text = ScheduledText {
            body,
            reply_to,
            mentions,
            mention_roles,
            mentions_all: mention_all,
            mentions_here: mention_here,
            silent,
        };
        Ok(Self { chat_id, user_id, key, text, send_at, not_before: None, attempts: 0, refused: None })
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

    /// Returns what stands for the message and its time, as [`Self::is_as`] compares them.
    pub fn digest(&self) -> [u8; 32] {
        let content = (&self.text, self.send_at.timestamp_millis());
        Sha256::digest(serde_json::to_vec(&content).expect("plain data")).into()
    }

    /// Returns whom it calls by a role alone: those who have one, without its sender and those whom it names. Refuses too many.
    fn called_by_role(&self, audience: &Audience) -> Result<Vec<UserId>, Refusal> {
        let called = self.text.mention_roles.iter().filter_map(|role| audience.with_role.get(role)).flatten();
        let called = called.filter(|user| **user != self.user_id);
        let called: BTreeSet<UserId> = called.copied().collect();
        // As of what is sent by hand: those who are named count too.
        if called.len() > MAX_ROLE_MENTIONS {
            return Err(Refusal::TooManyCalled);
        }
        Ok(called.into_iter().filter(|user| !self.text.mentions.contains(user)).collect())
    }

    /// Returns the record by which it is sent: as a text of its sender, from no device. With its key, it is one message however often the
    /// record is written. Those whom it names and who are not in the chat are called by nothing. `reads_from` is where the history of the sender
    /// begins: the log refuses a reply to what was before.
    pub fn record(&self, audience: &Audience, reads_from: Option<EntryId>) -> OutboxRecord {
        // No user is called by a role that too many have: such a message is refused before.
        let by_role = self.called_by_role(audience).unwrap_or_default();
        let ScheduledText { body, reply_to, mentions, mention_roles, mentions_all, mentions_here, silent } =
            self.text.clone();
        let not_members = mentions.iter().copied().filter(|user| !audience.present.contains(user)).collect();
        let called_by_role = u32::try_from(by_role.len()).expect("they are bounded");
        let mentions = mentions.into_iter().chain(by_role).collect();
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
            called_by_role,
            not_members,
            mention_roles,
            mentions_here,
            silent,
            attachments: Vec::new(),
            forwarded: None,
            source: None,
            range: None,
            moderates: false,
            subject_only: false,
            // A gateway would have read the message as the sender does.
            reads_from: reads_from.filter(|_| reply_to.is_some()).map(Into::into),
        };
        OutboxRecord {
            topic: Topic::MessageSend,
            key: self.chat_id.to_string(),
            payload: Some(serde_json::to_string(&record).expect("a record is plain data")),
        }
    }
}

/// Decides what becomes of a message whose time has come, of a user with these rights, when there is room for it. In slow mode scheduled
/// messages wait for one another; what the user sent by hand before is known to the gateways alone.
pub fn due(rights: Rights, last_sent: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Due {
    match rights.access {
        Access::None => return Due::Refused(ErrorCode::NotAMember),
        Access::Read | Access::Restricted | Access::ReadAndReact => {
            return Due::Refused(ErrorCode::PermissionDenied);
        }
        Access::ReadAndSend => {}
    }
    let may_send_at = last_sent.map(|at| at + TimeDelta::seconds(rights.slow_mode_seconds.into()));
    match may_send_at.filter(|at| *at > now) {
        Some(at) if rights.slow_mode_seconds > 0 => Due::Later(at),
        _ => Due::Send,
    }
}

/// What a round of one member's messages in a chat comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dispatch {
    pub sent: Vec<Scheduled>,
    /// With their refusals.
    pub refused: Vec<Scheduled>,
    /// With the times when they are tried.
    pub later: Vec<Scheduled>,
    /// When the tenant has room for more, if that is why the others stay as they are.
    pub resumes_at: Option<DateTime<Utc>>,
}

/// Decides what becomes of the messages of one member in a chat whose time has come, in the order in which they are to be sent. None is sent
/// before another one that is due earlier and still waits. One whose sending has failed before is tried alone: what is behind it may be why.
/// What is sent, takes its room of `turn`.
pub fn dispatch(
    mut messages: Vec<Scheduled>,
    turn: &mut Turn,
    audience: &Audience,
    now: DateTime<Utc>,
) -> Dispatch {
    let mut put_off = None;
    if let Some(Scheduled { attempts: 1.., not_before, .. }) = messages.first() {
        put_off = not_before.filter(|at| *at > now);
        if put_off.is_none() {
            messages.truncate(1);
        }
    }
    let mut dispatch = Dispatch::default();
    for mut message in messages {
        let due = match put_off {
            Some(at) => Due::Later(at),
            None => due(turn.rights, turn.last_sent, now),
        };
        let due = match due {
            Due::Send if message.called_by_role(audience).is_err() => Due::Refused(ErrorCode::LimitReached),
            Due::Send => match turn.pace.take(message.text.body.len(), now) {
                Ok(()) => Due::Send,
                Err(NoRoom::Here(at)) => Due::Later(at.max(now + PUT_OFF)),
                Err(NoRoom::Anywhere(at)) => {
                    dispatch.resumes_at = Some(at);
                    break;
                }
            },
            due => due,
        };
        match due {
            Due::Send => {
                turn.last_sent = Some(now);
                dispatch.sent.push(message);
            }
            Due::Refused(code) => {
                message.refused = Some(code);
                dispatch.refused.push(message);
            }
            Due::Later(at) => {
                put_off = Some(at);
                message.not_before = Some(at);
                dispatch.later.push(message);
            }
        }
    }
    dispatch
}

/// Returns how long a message waits that could not be sent, after so many failures before this one; `None` when it is not tried any more.
pub fn retried_after(attempts: u32) -> Option<TimeDelta> {
    let wait = TimeDelta::seconds(1_i64.checked_shl(attempts.min(30)).unwrap_or(i64::MAX));
    (attempts + 1 < MAX_ATTEMPTS).then(|| wait.min(LONGEST_WAIT))
}

/// Returns why a message is not sent at once for which its sender asks; `Ok` when it is, with its room taken of `turn`.
pub fn send_now(
    message: &Scheduled,
    turn: &mut Turn,
    audience: &Audience,
    now: DateTime<Utc>,
) -> Result<(), Refusal> {
    let until = |at: DateTime<Utc>| (at - now).to_std().unwrap_or(Duration::ZERO);
    match due(turn.rights, turn.last_sent, now) {
        Due::Send => {
            message.called_by_role(audience)?;
            let taken = turn.pace.take(message.text.body.len(), now);
            taken
                .map_err(|(NoRoom::Here(at) | NoRoom::Anywhere(at))| Refusal::TooManySent { wait: until(at) })
        }
        Due::Refused(ErrorCode::NotAMember) => Err(Refusal::NotAMember(message.chat_id)),
        Due::Refused(_) => Err(Refusal::MayNotWrite),
        Due::Later(at) => Err(Refusal::SlowMode { wait: until(at) }),
    }
}

impl From<Scheduled> for api::ScheduledMessage {
    fn from(scheduled: Scheduled) -> Self {
        let Scheduled { chat_id, key, text, send_at, not_before, refused, .. } = scheduled;
        let ScheduledText { body, reply_to, mentions, mention_roles, mentions_all, mentions_here, silent } =
            text;
        let put_off_until = not_before.filter(|at| *at > send_at && refused.is_none());
        Self {
            chat_id,
            key,
            body,
            reply_to,
            mentions,
            mention_all: mentions_all,
            mention_roles,
            mention_here: mentions_here,
            silent,
            send_at_ms: send_at.timestamp_millis(),
            put_off_until_ms: put_off_until.map(|at| at.timestamp_millis()),
            refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use kit::{catalog::Rate, config::SendRates};

    use super::*;

    const CHAT: ChatId = ChatId(Uuid::from_u128(1));
    const ANN: UserId = UserId(Uuid::from_u128(2));
    const BOB: UserId = UserId(Uuid::from_u128(3));

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).expect("a moment")
    }

    fn message(user_id: UserId, n: u128) -> Scheduled {
        let text = ScheduledText { body: n.to_string(), ..ScheduledText::default() };
        let key = MessageKey(Uuid::from_u128(n));
        let send_at = at(0);
        Scheduled { chat_id: CHAT, user_id, key, text, send_at, not_before: None, attempts: 0, refused: None }
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
            mention_roles: vec![Role::Owner, Role::Admin],
            mention_here: true,
            silent: true,
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
            (RescheduleRequest { mention_roles: vec![Role::Member], ..request() }, "mention_roles"),
            (RescheduleRequest { mention_roles: vec![Role::Admin; 2], ..request() }, "mention_roles"),
            (RescheduleRequest { mention_roles: vec![Role::Admin; 3], ..request() }, "mention_roles"),
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
        check(rights(Access::Restricted, 0), None, denied);
        check(Rights::NONE, None, Due::Refused(ErrorCode::NotAMember));
        check(rights(Access::ReadAndSend, 30), None, Due::Send);
        check(rights(Access::ReadAndSend, 30), Some(at(5)), Due::Later(at(35)));
        check(rights(Access::ReadAndSend, 30), Some(at(-20)), Due::Send);
        let now =
            |rights, last| send_now(&message(ANN, 1), &mut turn(rights, last), &Audience::default(), at(10));
        assert_eq!(
            now(rights(Access::ReadAndSend, 30), Some(at(5))),
            Err(Refusal::SlowMode { wait: Duration::from_secs(25) })
        );
        assert_eq!(now(rights(Access::ReadAndSend, 30), Some(at(-20))), Ok(()));
        assert_eq!(now(rights(Access::Read, 0), None), Err(Refusal::MayNotWrite));
        assert_eq!(now(Rights::NONE, None), Err(Refusal::NotAMember(CHAT)));
    }

    fn turn(rights: Rights, last_sent: Option<DateTime<Utc>>) -> Turn {
        Turn { rights, last_sent, pace: Pace::default(), reads_from: None }
    }

    fn round(messages: &[&Scheduled], slow_mode_seconds: u32, last: Option<i64>, now: i64) -> Dispatch {
        let messages = messages.iter().map(|message| (*message).clone()).collect();
        let rights = rights(Access::ReadAndSend, slow_mode_seconds);
        dispatch(messages, &mut turn(rights, last.map(at)), &Audience::default(), at(now))
    }

    #[test]
    fn what_there_is_no_room_for_waits_in_its_order() {
        let messages: Vec<_> = (1..=5).map(|n| message(ANN, n)).collect();
        let keys = |of: &[Scheduled]| of.iter().map(|of| of.key.0.as_u128()).collect::<Vec<_>>();
        let send = |rates, messages: &[Scheduled], turn: &mut Turn, seconds| {
            turn.pace.rates = rates;
            dispatch(messages.to_vec(), turn, &Audience::default(), at(seconds))
        };
        let of_user = SendRates { user_sends: Rate::per_second(1, 2), ..SendRates::DEFAULT };
        let mut ann = turn(rights(Access::ReadAndSend, 0), None);
        let first = send(of_user, &messages, &mut ann, 10);
        assert_eq!((keys(&first.sent), keys(&first.later)), (vec![1, 2], vec![3, 4, 5]));
        assert!(first.later.iter().all(|of| of.not_before == Some(at(11))), "{first:?}");
        assert_eq!(first.resumes_at, None, "others go on");
        let asked = send_now(&messages[2], &mut ann, &Audience::default(), at(10));
        assert_eq!(asked, Err(Refusal::TooManySent { wait: Duration::from_secs(1) }));
        let second = send(of_user, &first.later, &mut ann, 12);
        assert_eq!((keys(&second.sent), keys(&second.later)), (vec![3, 4], vec![5]));

        // When the tenant has no room, the queues stay as they are.
        let of_all = SendRates { tenant_sends: Rate::per_second(2, 4), ..SendRates::DEFAULT };
        let mut ann = turn(rights(Access::ReadAndSend, 0), None);
        let first = send(of_all, &messages, &mut ann, 10);
        assert_eq!((keys(&first.sent), &first.later), (vec![1, 2], &vec![]));
        assert_eq!(first.resumes_at, Some(at(11)), "half of two a second");
    }

    #[test]
    fn messages_of_a_member_are_sent_in_order_and_one_by_one_in_slow_mode() {
        let [first, second, third] = [1, 2, 3].map(|n| message(ANN, n));
        let all = [&first, &second, &third];
        let put_off = |of: &Scheduled, seconds| Scheduled { not_before: Some(at(seconds)), ..of.clone() };
        assert_eq!(round(&all, 0, None, 10).sent, [first.clone(), second.clone(), third.clone()]);
        let slow = round(&all, 30, None, 10);
        assert_eq!((slow.sent, slow.refused), (vec![first.clone()], vec![]));
        assert_eq!(slow.later, [put_off(&second, 40), put_off(&third, 40)]);
        // One that is due meanwhile comes behind those that wait, also when the chat is not slow any more.
        let (second, fourth) = (put_off(&second, 40), Scheduled { send_at: at(20), ..message(ANN, 4) });
        let slow = round(&[&second, &fourth], 30, Some(10), 25);
        assert_eq!((slow.sent, slow.later), (vec![], vec![second.clone(), put_off(&fourth, 40)]));
        assert_eq!(round(&[&second, &fourth], 0, Some(10), 25).sent, [second, fourth]);
    }

    #[test]
    fn one_that_fails_is_tried_alone_again_and_again_and_then_refused() {
        let [first, second] = [1, 2].map(|n| message(ANN, n));
        let failed = Scheduled { attempts: 1, not_before: Some(at(12)), ..first };
        let early = round(&[&failed, &second], 0, None, 11);
        let waiting = Scheduled { not_before: Some(at(12)), ..second.clone() };
        assert_eq!((early.sent, early.later), (vec![], vec![failed.clone(), waiting]));
        let alone = round(&[&failed, &second], 0, None, 12);
        assert_eq!(alone, Dispatch { sent: vec![failed], ..Dispatch::default() });

        let waits: Vec<i64> = (0..).map_while(retried_after).map(|wait| wait.num_seconds()).collect();
        assert_eq!(waits[..11], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let all = waits.iter().sum::<i64>();
        assert!((3_000..4_000).contains(&all), "about an hour: {all} s in {} attempts", waits.len() + 1);
    }

    #[test]
    fn a_role_calls_whoever_has_it_by_then() {
        let others: BTreeSet<UserId> = (0..=100).map(|n| UserId(Uuid::from_u128(100 + n))).collect();
        let [one, two] = [100, 101].map(|n| UserId(Uuid::from_u128(n)));
        let text = ScheduledText {
            mentions: vec![one, BOB],
            mention_roles: vec![Role::Owner, Role::Admin],
            mentions_here: true,
            silent: true,
            ..message(ANN, 1).text
        };
        let message = Scheduled { text, ..message(ANN, 1) };
        let with_role = BTreeMap::from([(Role::Owner, [ANN].into()), (Role::Admin, [ANN, one, two].into())]);
        let few = Audience { present: [one].into(), with_role };
        let send: SendRecord =
            serde_json::from_str(&message.record(&few, None).payload.expect("a payload")).expect("json");
        assert_eq!((send.mentions, send.called_by_role), (vec![one, BOB, two], 1));
        assert_eq!((send.not_members, send.mention_roles), (vec![BOB], vec![Role::Owner, Role::Admin]));
        assert!(send.mentions_here && send.silent && !send.mentions_all);
        let many = Audience { with_role: BTreeMap::from([(Role::Admin, others)]), ..few };
        let may = rights(Access::ReadAndSend, 0);
        let done = dispatch(vec![message.clone()], &mut turn(may, None), &many, at(10));
        assert_eq!(done.refused.first().and_then(|of| of.refused), Some(ErrorCode::LimitReached));
        assert_eq!(send_now(&message, &mut turn(may, None), &many, at(10)), Err(Refusal::TooManyCalled));
    }

    #[test]
    fn a_digest_stands_for_the_message_and_its_time() {
        let one = message(ANN, 1);
        let put_off = Scheduled { not_before: Some(at(9)), attempts: 3, ..one.clone() };
        assert_eq!(put_off.digest(), one.digest());
        let silent = ScheduledText { silent: true, ..one.text.clone() };
        for other in [
            Scheduled { text: silent, ..one.clone() },
            Scheduled { send_at: at(1), ..one.clone() },
            message(ANN, 2),
        ] {
            assert_ne!(other.digest(), one.digest());
        }
    }

    #[test]
    fn it_is_sent_as_a_text_of_its_sender_under_its_key() {
        let text = ScheduledText {
            body: "now".to_owned(),
            reply_to: Some(7),
            mentions: vec![BOB, ANN],
            mentions_all: true,
            ..ScheduledText::default()
        };
        let scheduled = Scheduled { text, ..message(ANN, 5) };
        let joined = EntryId { sender: BOB, key: MessageKey(Uuid::from_u128(9)) };
        let audience = Audience { present: [BOB].into(), ..Audience::default() };
        let record = scheduled.record(&audience, Some(joined));
        assert_eq!((record.topic, record.key), (Topic::MessageSend, CHAT.to_string()));
        let send: SendRecord = serde_json::from_str(&record.payload.expect("a payload")).expect("json");
        assert_eq!((send.sender, send.key, send.kind), (ANN, scheduled.key, EntryKind::Text));
        assert_eq!((send.body.as_str(), send.target_seq), ("now", Some(7)));
        assert_eq!((send.mentions, send.mentions_all, send.device.0.is_nil()), (vec![BOB, ANN], true, true));
        assert_eq!(send.not_members, [ANN]);
        assert_eq!(send.reads_from, Some(joined.into()), "the log compares it with what it replies to");
    }
}
