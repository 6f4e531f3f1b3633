//! Messages that are sent at a time.

#![expect(clippy::disallowed_methods, reason = "in place of the clock of a database")]

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use contracts::{ChatId, ErrorCode, MessageKey, UserId, api::MAX_SCHEDULED};
use tonic::async_trait;

use super::{MemoryStore, Tables};
use crate::{
    domain::{
        self, Audience, Dispatch, Limits, Pace, Refusal, Scheduled, ScheduledCounts, Spent, Turn, own_state,
    },
    store::{Hindrance, Publication, ScheduleStore, Sent, StoreError},
};

/// What scheduled messages took of the rates.
#[derive(Default)]
pub(super) struct AllSpent {
    users: BTreeMap<UserId, Spent>,
    chats: BTreeMap<ChatId, Spent>,
    tenant: Spent,
}

impl Tables {
    fn is_member(&self, chat_id: ChatId, user_id: UserId) -> bool {
        let mut rows = self.chats.iter();
        rows.any(|row| row.excerpt.chat_id == chat_id && row.excerpt.role(user_id).is_some())
    }

    fn find(&mut self, chat_id: ChatId, user_id: UserId, key: MessageKey) -> Option<&mut Scheduled> {
        let mut messages = self.scheduled.iter_mut();
        messages.find(|of| (of.chat_id, of.user_id, of.key) == (chat_id, user_id, key))
    }

    /// Writes how many messages a member has, which is a change of how they have the chat.
    fn recount(&mut self, chat_id: ChatId, user_id: UserId, now: DateTime<Utc>) {
        let own = self.scheduled.iter().filter(|of| (of.chat_id, of.user_id) == (chat_id, user_id));
        let counts = own.fold(ScheduledCounts::default(), |counts, of| match of.refused {
            None => ScheduledCounts { waiting: counts.waiting + 1, ..counts },
            Some(_) => ScheduledCounts { refused: counts.refused + 1, ..counts },
        });
        let mut rows = self.chats.iter_mut();
        let Some(row) = rows.find(|row| row.excerpt.chat_id == chat_id) else { return };
        let own = row.own.entry(user_id).or_default();
        *own = own.with_scheduled(counts, now);
        let records = own_state(chat_id, user_id, own);
        self.outbox.extend(records);
    }

    /// Returns what decides when messages of a user are sent in a chat.
    fn turn(&self, limits: &Limits, chat_id: ChatId, user_id: UserId) -> Turn {
        let AllSpent { users, chats, tenant } = &self.scheduled_spent;
        let spent = |known: Option<&Spent>| known.copied().unwrap_or_default();
        let (user, chat) = (spent(users.get(&user_id)), spent(chats.get(&chat_id)));
        let row = self.chats.iter().find(|row| row.excerpt.chat_id == chat_id);
        Turn {
            rights: self.rights(chat_id, user_id),
            last_sent: self.scheduled_sent.get(&(chat_id, user_id)).copied(),
            pace: Pace { rates: limits.sends, user, chat, tenant: *tenant },
            reads_from: row.and_then(|row| row.excerpt.member(user_id)?.reads_from),
        }
    }

    /// Returns who is in a chat, whether a message calls them or not.
    fn audience(&self, chat_id: ChatId) -> Audience {
        let mut audience = Audience::default();
        let chat = self.chats.iter().find(|row| row.excerpt.chat_id == chat_id);
        for member in chat.iter().flat_map(|row| &row.excerpt.members) {
            audience.present.insert(member.user_id);
            audience.with_role.entry(member.role).or_default().insert(member.user_id);
        }
        audience
    }

    /// Returns the messages of a member that wait and whose time has come, in the order in which they are to be sent.
    fn due(&self, chat_id: ChatId, user_id: UserId, now: DateTime<Utc>) -> Vec<Scheduled> {
        let own = self.scheduled.iter().filter(|of| (of.chat_id, of.user_id) == (chat_id, user_id));
        let mut due: Vec<Scheduled> =
            own.filter(|of| of.refused.is_none() && of.send_at <= now).cloned().collect();
        due.sort_by_key(|of| (of.send_at, of.key));
        due
    }

    fn carry_out(
        &mut self,
        (chat_id, user_id): (ChatId, UserId),
        (dispatch, turn): (Dispatch, Turn),
        audience: &Audience,
        now: DateTime<Utc>,
    ) {
        let Dispatch { sent, refused, later, resumes_at: _ } = dispatch;
        let is_news = !sent.is_empty() || !refused.is_empty();
        let AllSpent { users, chats, tenant } = &mut self.scheduled_spent;
        users.insert(user_id, turn.pace.user);
        chats.insert(chat_id, turn.pace.chat);
        *tenant = turn.pace.tenant;
        for message in sent {
            self.scheduled.retain(|of| (of.chat_id, of.user_id, of.key) != (chat_id, user_id, message.key));
            self.scheduled_sent.insert((chat_id, user_id), now);
            self.scheduled_digests.insert((chat_id, user_id, message.key), message.digest());
            self.outbox.push(message.record(audience, turn.reads_from));
        }
        for message in refused.into_iter().chain(later) {
            if let Some(known) = self.find(chat_id, user_id, message.key) {
                *known = message;
            }
        }
        if is_news {
            self.recount(chat_id, user_id, now);
        }
    }

    /// Forgets when a user sent, and how much.
    pub(super) fn forget_sender(&mut self, user_id: UserId) {
        self.scheduled_sent.retain(|(_, user), _| *user != user_id);
        self.scheduled_spent.users.remove(&user_id);
    }

    /// Removes what went with members who are not in a chat any more.
    pub(super) fn tidy_scheduled(&mut self, chat_id: ChatId) {
        let Some(row) = self.chats.iter().find(|row| row.excerpt.chat_id == chat_id) else { return };
        let is_in = |user: UserId| row.excerpt.role(user).is_some();
        self.scheduled.retain(|of| of.chat_id != chat_id || is_in(of.user_id));
        self.scheduled_digests.retain(|(chat, user, _), _| *chat != chat_id || is_in(*user));
    }
}

#[async_trait]
impl ScheduleStore for MemoryStore {
    async fn schedule(&self, new: &Scheduled) -> Result<Option<(Scheduled, bool)>, StoreError> {
        let mut tables = self.tables();
        if !tables.is_member(new.chat_id, new.user_id) {
            return Ok(None);
        }
        if let Some(known) = tables.find(new.chat_id, new.user_id, new.key) {
            return if known.is_as(new) {
                Ok(Some((known.clone(), false)))
            } else {
                Err(Refusal::ScheduledKeyReused.into())
            };
        }
        if let Some(sent) = tables.scheduled_digests.get(&(new.chat_id, new.user_id, new.key)) {
            return if *sent == new.digest() {
                Ok(Some((new.clone(), false)))
            } else {
                Err(Refusal::ScheduledKeyReused.into())
            };
        }
        let now = Utc::now();
        new.check_time(now)?;
        if tables.scheduled.iter().filter(|of| of.user_id == new.user_id).count() >= MAX_SCHEDULED {
            return Err(Refusal::TooManyScheduled.into());
        }
        tables.scheduled.push(new.clone());
        tables.recount(new.chat_id, new.user_id, now);
        self.filled.notify_one();
        Ok(Some((new.clone(), true)))
    }

    async fn reschedule(&self, of: &Scheduled) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let Some(known) = tables.find(of.chat_id, of.user_id, of.key) else { return Ok(false) };
        if known.is_as(of) && known.refused.is_none() {
            return Ok(true);
        }
        let now = Utc::now();
        of.check_time(now)?;
        *known = of.clone();
        tables.recount(of.chat_id, of.user_id, now);
        self.filled.notify_one();
        Ok(true)
    }

    async fn unschedule(
        &self,
        chat_id: ChatId,
        user_id: UserId,
        key: MessageKey,
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        if tables.find(chat_id, user_id, key).is_none() {
            return Ok(false);
        }
        tables.scheduled.retain(|of| (of.chat_id, of.user_id, of.key) != (chat_id, user_id, key));
        tables.recount(chat_id, user_id, Utc::now());
        self.filled.notify_one();
        Ok(true)
    }

    async fn scheduled(
        &self,
        chat_id: ChatId,
        user_id: UserId,
    ) -> Result<Option<Vec<Scheduled>>, StoreError> {
        let tables = self.tables();
        if !tables.is_member(chat_id, user_id) {
            return Ok(None);
        }
        let own = tables.scheduled.iter().filter(|of| (of.chat_id, of.user_id) == (chat_id, user_id));
        let mut own: Vec<Scheduled> = own.cloned().collect();
        own.sort_by_key(|of| (of.send_at, of.key));
        Ok(Some(own))
    }

    async fn send_now(
        &self,
        chat_id: ChatId,
        user_id: UserId,
        key: MessageKey,
    ) -> Result<Option<Publication>, StoreError> {
        let mut tables = self.tables();
        let Some(message) = tables.find(chat_id, user_id, key).cloned() else { return Ok(None) };
        let (mut turn, now) = (tables.turn(&self.limits, chat_id, user_id), Utc::now());
        let audience = tables.audience(chat_id);
        domain::send_now(&message, &mut turn, &audience, now)?;
        let dispatch = Dispatch { sent: vec![message], ..Dispatch::default() };
        tables.carry_out((chat_id, user_id), (dispatch, turn), &audience, now);
        self.filled.notify_one();
        Ok(Some(Publication { chat_id, newest: tables.newest() }))
    }

    async fn until_next(&self) -> Result<Option<Duration>, StoreError> {
        let tables = self.tables();
        let next = tables.scheduled.iter().filter(|of| of.refused.is_none()).map(tried_at).min();
        Ok(next.map(|at| (at - Utc::now()).to_std().unwrap_or(Duration::ZERO)))
    }

    async fn due_senders(&self, limit: usize) -> Result<Vec<(ChatId, UserId)>, StoreError> {
        let now = Utc::now();
        let tables = self.tables();
        let mut due: Vec<&Scheduled> =
            tables.scheduled.iter().filter(|of| of.refused.is_none() && tried_at(of) <= now).collect();
        due.sort_by_key(|of| tried_at(of));
        let mut senders: Vec<(ChatId, UserId)> = Vec::new();
        for of in due {
            if !senders.contains(&(of.chat_id, of.user_id)) {
                senders.push((of.chat_id, of.user_id));
            }
        }
        senders.truncate(limit);
        Ok(senders)
    }

    async fn send_due(&self, chat_id: ChatId, user_id: UserId) -> Result<Sent, StoreError> {
        let now = Utc::now();
        let mut tables = self.tables();
        let messages = tables.due(chat_id, user_id, now);
        if !messages.iter().any(|of| tried_at(of) <= now) {
            return Ok(Sent::default());
        }
        let (mut turn, audience) = (tables.turn(&self.limits, chat_id, user_id), tables.audience(chat_id));
        let dispatch = domain::dispatch(messages, &mut turn, &audience, now);
        let sent = Sent::of(&dispatch, now);
        tables.carry_out((chat_id, user_id), (dispatch, turn), &audience, now);
        self.filled.notify_one();
        Ok(sent)
    }

    async fn put_off(
        &self,
        chat_id: ChatId,
        user_id: UserId,
        hindrance: Hindrance,
    ) -> Result<(), StoreError> {
        let now = Utc::now();
        let mut tables = self.tables();
        let mut due = tables.due(chat_id, user_id, now);
        let Some(first) = due.first_mut() else { return Ok(()) };
        let wait = hindrance.wait(first.attempts);
        first.attempts += u32::from(hindrance == Hindrance::Message);
        first.refused = wait.is_none().then_some(ErrorCode::Internal);
        for message in due {
            if let Some(known) = tables.find(chat_id, user_id, message.key) {
                *known = Scheduled { not_before: wait.map(|wait| now + wait), ..message };
            }
        }
        if wait.is_none() {
            tables.recount(chat_id, user_id, now);
            self.filled.notify_one();
        }
        Ok(())
    }
}

/// Returns when a message is tried.
fn tried_at(of: &Scheduled) -> DateTime<Utc> {
    of.not_before.map_or(of.send_at, |at| at.max(of.send_at))
}
