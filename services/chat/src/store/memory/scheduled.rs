//! Messages that are sent at a time.

#![expect(clippy::disallowed_methods, reason = "in place of the clock of a database")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, Utc};
use contracts::{ChatId, MessageKey, UserId, api::MAX_SCHEDULED};
use tonic::async_trait;

use super::{MemoryStore, Tables};
use crate::{
    domain::{self, Dispatch, Refusal, Rights, Scheduled, ScheduledCounts, own_state},
    store::{Publication, ScheduleStore, StoreError},
};

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

    fn last_sent(&self, chat_id: ChatId) -> BTreeMap<UserId, DateTime<Utc>> {
        let sent = self.scheduled_sent.iter().filter(|((chat, _), _)| *chat == chat_id);
        sent.map(|((_, user), at)| (*user, *at)).collect()
    }

    fn carry_out(&mut self, chat_id: ChatId, dispatch: Dispatch, now: DateTime<Utc>) {
        let Dispatch { sent, refused, later } = dispatch;
        let all = sent.iter().chain(&refused).chain(&later);
        let users: BTreeSet<UserId> = all.map(|message| message.user_id).collect();
        for message in sent {
            self.scheduled
                .retain(|of| (of.chat_id, of.user_id, of.key) != (chat_id, message.user_id, message.key));
            self.scheduled_sent.insert((chat_id, message.user_id), now);
            let chat = self.chats.iter().find(|row| row.excerpt.chat_id == chat_id);
            let is_present = |user: &&UserId| chat.is_some_and(|row| row.excerpt.role(**user).is_some());
            let present = message.text.mentions.iter().filter(is_present).copied().collect();
            self.outbox.push(message.record(&present));
        }
        for message in refused.into_iter().chain(later) {
            if let Some(known) = self.find(chat_id, message.user_id, message.key) {
                *known = message;
            }
        }
        for user in users {
            self.recount(chat_id, user, now);
        }
    }

    /// Removes what went with members who are not in a chat any more.
    pub(super) fn tidy_scheduled(&mut self, chat_id: ChatId) {
        let Some(row) = self.chats.iter().find(|row| row.excerpt.chat_id == chat_id) else { return };
        let is_in = |user: UserId| row.excerpt.role(user).is_some();
        self.scheduled.retain(|of| of.chat_id != chat_id || is_in(of.user_id));
        self.scheduled_sent.retain(|(chat, user), _| *chat != chat_id || is_in(*user));
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
        let (rights, now) = (tables.rights(chat_id, user_id), Utc::now());
        let last_sent = tables.last_sent(chat_id).get(&user_id).copied();
        domain::send_now(chat_id, rights, last_sent, now)?;
        tables.carry_out(chat_id, Dispatch { sent: vec![message], ..Dispatch::default() }, now);
        self.filled.notify_one();
        Ok(Some(Publication { chat_id, newest: tables.newest() }))
    }

    async fn until_next(&self) -> Result<Option<Duration>, StoreError> {
        let tables = self.tables();
        let next = tables.scheduled.iter().filter(|of| of.refused.is_none()).map(|of| of.send_at).min();
        Ok(next.map(|at| (at - Utc::now()).to_std().unwrap_or(Duration::ZERO)))
    }

    async fn due_chats(&self, limit: usize) -> Result<Vec<ChatId>, StoreError> {
        let now = Utc::now();
        let tables = self.tables();
        let mut due: Vec<&Scheduled> =
            tables.scheduled.iter().filter(|of| of.refused.is_none() && of.send_at <= now).collect();
        due.sort_by_key(|of| of.send_at);
        let mut chats: Vec<ChatId> = Vec::new();
        for of in due {
            if !chats.contains(&of.chat_id) {
                chats.push(of.chat_id);
            }
        }
        chats.truncate(limit);
        Ok(chats)
    }

    async fn send_due(&self, chat_id: ChatId) -> Result<usize, StoreError> {
        let now = Utc::now();
        let mut tables = self.tables();
        let is_due = |of: &&Scheduled| of.chat_id == chat_id && of.refused.is_none() && of.send_at <= now;
        let mut messages: Vec<Scheduled> = tables.scheduled.iter().filter(is_due).cloned().collect();
        messages.sort_by_key(|of| (of.send_at, of.key));
        let users = messages.iter().map(|of| of.user_id);
        let rights: BTreeMap<UserId, Rights> =
            users.map(|user| (user, tables.rights(chat_id, user))).collect();
        let changed = messages.len();
        let dispatch = domain::dispatch(messages, &rights, tables.last_sent(chat_id), now);
        tables.carry_out(chat_id, dispatch, now);
        self.filled.notify_one();
        Ok(changed)
    }
}
