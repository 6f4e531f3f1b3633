//! Notifications in memory, for a process without backends and for tests.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{ChatId, SessionId, SubscriptionId, UserId, api::NotificationChannel};
use kit::{catalog::Topic, deletions};
use tonic::async_trait;

use super::{Begun, NotificationStore, Place, Preferences, StoreError};
use crate::domain::{
    Batch, Busy, CODE_FOR, CODES_COUNT_FOR, CodeOutcome, DIGEST_AFTER, Job, MAX_CODES, MAX_SUBSCRIPTIONS,
    MAX_TRIES, NewCode, NewSubscription, Places, Subscription, Taken, Ticket, Unseen, is_of_digests,
    needs_confirmation,
};

/// The one time zone that it knows.
const UTC: &str = "UTC";

/// Keeps notifications for as long as the process lives.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    users: BTreeMap<UserId, User>,
    subscriptions: BTreeMap<SubscriptionId, Owned>,
    seats: BTreeMap<(ChatId, UserId), Seat>,
    news: BTreeMap<ChatId, News>,
    jobs: BTreeMap<(SubscriptionId, Option<ChatId>), Waiting>,
    /// The last version of any job.
    version: i64,
    /// The last ticket of any job.
    ticket: i64,
    /// In the order in which they were sent.
    codes: Vec<Code>,
    positions: BTreeMap<(Topic, i32), Option<i64>>,
    /// Sessions that have ended, or all of a user, and when that was read.
    ended: BTreeMap<(UserId, Option<SessionId>), DateTime<Utc>>,
    /// Up to when ends are read, by partition.
    ends_read_at: BTreeMap<i32, DateTime<Utc>>,
    deletions_position: deletions::Position,
}

#[derive(Debug, Default)]
struct User {
    listed_at: Option<DateTime<Utc>>,
    preferences: Preferences,
}

#[derive(Debug)]
struct Owned {
    subscription: Subscription,
    next_at: Option<DateTime<Utc>>,
    /// Of a device, and when it was known to go on last.
    session: Option<(SessionId, DateTime<Utc>)>,
}

impl Owned {
    /// Reports whether it is the device of a session that was looked for.
    fn is(&self, device: &Unseen) -> bool {
        self.subscription.id == device.id
            && self.session.as_ref().map(|(session, _)| session) == device.session.as_ref()
    }
}

#[derive(Debug)]
struct Code {
    sent: NewCode,
    tries: i32,
}

#[derive(Debug)]
struct Seat {
    is_member: bool,
    version: i64,
    changed_at: DateTime<Utc>,
    taken_seq: i64,
    told_seq: i64,
}

#[derive(Debug)]
struct News {
    seq: i64,
    called: BTreeSet<UserId>,
    calls_all: bool,
    due_at: DateTime<Utc>,
    /// What came since.
    next: Option<Box<News>>,
}

#[derive(Debug)]
struct Waiting {
    seq: i64,
    is_called: bool,
    version: i64,
    due_at: DateTime<Utc>,
    attempts: i32,
    dead_at: Option<DateTime<Utc>>,
    ticket: Option<i64>,
    is_begun: bool,
}

impl Waiting {
    /// Returns what is to be sent.
    fn job(&self, subscription: &Subscription, chat_id: Option<ChatId>) -> Job {
        Job {
            subscription: subscription.clone(),
            chat_id,
            seq: self.seq,
            is_called: self.is_called,
            version: self.version,
            attempts: self.attempts,
        }
    }

    /// Notes that no ticket stands for it.
    fn forget_ticket(&mut self) {
        (self.ticket, self.is_begun) = (None, false);
    }
}

impl MemoryStore {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn own(&self, user_id: UserId) -> Vec<Subscription> {
        let all = self.subscriptions.values().map(|entry| &entry.subscription);
        let mut own: Vec<_> = all.filter(|one| one.user_id == user_id).cloned().collect();
        own.sort_by_key(|one| (one.created_at, one.id));
        own
    }

    fn remove(&mut self, id: SubscriptionId) {
        self.subscriptions.remove(&id);
        self.jobs.retain(|(subscription, _), _| *subscription != id);
    }

    /// Notes that a session has ended, and removes its devices. Returns whether there was any.
    fn end(&mut self, user: UserId, session: &SessionId, now: DateTime<Utc>) -> bool {
        self.ended.entry((user, Some(session.clone()))).or_insert(now);
        let is_of = |one: &&Owned| {
            let bound_to = one.session.as_ref().map(|(session, _)| session);
            one.subscription.user_id == user && bound_to == Some(session)
        };
        let bound: Vec<_> =
            self.subscriptions.values().filter(is_of).map(|one| one.subscription.id).collect();
        for id in &bound {
            self.remove(*id);
        }
        !bound.is_empty()
    }

    /// Forgets a user. Returns whether anything was known.
    fn erase(&mut self, user_id: UserId) -> bool {
        for one in self.own(user_id) {
            self.remove(one.id);
        }
        self.seats.retain(|(_, user), _| *user != user_id);
        self.users.remove(&user_id).is_some()
    }

    fn note(&mut self, batch: &Batch, due_at: DateTime<Utc>, now: DateTime<Utc>) {
        for (user, session) in &batch.ended {
            self.end(*user, session, now);
        }
        for user in &batch.gone {
            self.ended.entry((*user, None)).or_insert(now);
            self.erase(*user);
        }
        for ((chat, user), said) in &batch.seats {
            if !self.users.contains_key(user) {
                continue;
            }
            let version = said.version.unwrap_or(0);
            let seat = self.seats.entry((*chat, *user)).or_insert_with(|| Seat::new(version, now));
            if version == 0 || seat.version <= version {
                seat.is_member = said.is_member;
                seat.version = seat.version.max(version);
                seat.changed_at = now;
            }
        }
        for (place, seq) in &batch.taken {
            if let Some(seat) = self.seats.get_mut(place) {
                seat.taken_seq = seat.taken_seq.max(*seq);
            }
        }
        for (chat, said) in &batch.news {
            let news = News {
                seq: said.seq,
                called: said.called.clone(),
                calls_all: said.calls_all,
                due_at,
                next: None,
            };
            match self.news.entry(*chat) {
                Entry::Vacant(vacant) => {
                    vacant.insert(news);
                }
                Entry::Occupied(mut known) => known.get_mut().follow(news),
            }
        }
    }

    /// Makes jobs of the news of a chat.
    fn tell(&mut self, chat: ChatId, news: &News, now: DateTime<Utc>) {
        let mut told = Vec::new();
        for ((_, user), seat) in self.seats.iter_mut().filter(|((of, _), _)| *of == chat) {
            if seat.is_member && seat.told_seq < news.seq && seat.taken_seq < news.seq {
                seat.told_seq = news.seq;
                told.push((*user, news.calls_all || news.called.contains(user)));
            }
        }
        for (user, is_called) in told {
            for Owned { subscription, next_at, .. } in self.subscriptions.values() {
                if subscription.user_id != user || !subscription.is_confirmed {
                    continue;
                }
                let is_digest = is_of_digests(subscription.target.channel());
                let place = (subscription.id, (!is_digest).then_some(chat));
                let digest_at = next_at.unwrap_or(now).max(now + DIGEST_AFTER);
                let due_at = if is_digest { digest_at } else { now };
                let waiting = self.jobs.entry(place).or_insert(Waiting {
                    seq: 0,
                    is_called: false,
                    version: 0,
                    due_at,
                    attempts: 0,
                    dead_at: None,
                    ticket: None,
                    is_begun: false,
                });
                waiting.seq = waiting.seq.max(news.seq);
                waiting.is_called |= is_called;
                self.version += 1;
                waiting.version = self.version;
                if waiting.dead_at.take().is_some() {
                    (waiting.due_at, waiting.attempts) = (due_at, 0);
                    waiting.forget_ticket();
                }
            }
        }
    }

    /// Returns a job as long as the claim is that of its last attempt.
    fn claimed(&mut self, job: &Job) -> Option<&mut Waiting> {
        let waiting = self.jobs.get_mut(&(job.subscription.id, job.chat_id))?;
        (waiting.attempts == job.attempts && waiting.dead_at.is_none()).then_some(waiting)
    }
}

impl News {
    /// Notes what came while this waits.
    fn follow(&mut self, mut news: Self) {
        let last = self.next.as_ref().map_or(self.seq, |next| next.seq);
        // What is known already comes again, and makes nothing wait longer.
        if news.seq <= last {
            return;
        }
        if let Some(next) = self.next.take() {
            news.called.extend(next.called);
            news.calls_all |= next.calls_all;
        }
        self.next = Some(Box::new(news));
    }
}

impl Seat {
    fn new(version: i64, changed_at: DateTime<Utc>) -> Self {
        Self { is_member: false, version, changed_at, taken_seq: 0, told_seq: 0 }
    }
}

#[async_trait]
impl NotificationStore for MemoryStore {
    async fn subscribe(&self, new: &NewSubscription) -> Result<Subscription, StoreError> {
        let mut tables = self.tables();
        let ended = [Some(new.session.clone()), None].map(|session| (new.user_id, session));
        if ended.iter().any(|ended| tables.ended.contains_key(ended)) {
            return Err(StoreError::SessionOver);
        }
        let session = new.bound_to().map(|session| (session.clone(), new.created_at));
        tables.users.entry(new.user_id).or_default().listed_at = None;
        let (channel, endpoint) = (new.target.channel(), new.target.endpoint());
        let is_same =
            |one: &Subscription| one.target.channel() == channel && one.target.endpoint() == endpoint;
        let same = tables.subscriptions.values().map(|entry| &entry.subscription).find(|one| is_same(one));
        let taken = same.filter(|one| one.user_id != new.user_id && new.target.is_device());
        if let Some(taken) = taken.map(|one| one.id) {
            tables.remove(taken);
        }
        let own = tables.own(new.user_id);
        if let Some(known) = own.iter().find(|one| is_same(one)) {
            let known = Subscription { target: new.target.clone(), ..known.clone() };
            if let Some(entry) = tables.subscriptions.get_mut(&known.id) {
                (entry.subscription, entry.session) = (known.clone(), session);
            }
            return Ok(known);
        }
        if own.len() >= MAX_SUBSCRIPTIONS {
            return Err(StoreError::TooMany);
        }
        let subscription = Subscription {
            id: new.id,
            user_id: new.user_id,
            target: new.target.clone(),
            is_confirmed: !needs_confirmation(channel),
            created_at: new.created_at,
        };
        let entry = Owned { subscription: subscription.clone(), next_at: None, session };
        tables.subscriptions.insert(new.id, entry);
        Ok(subscription)
    }

    async fn subscriptions(&self, user_id: UserId) -> Result<Vec<Subscription>, StoreError> {
        Ok(self.tables().own(user_id))
    }

    async fn confirm(&self, id: SubscriptionId) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let found = tables.subscriptions.get_mut(&id);
        Ok(found.map(|entry| entry.subscription.is_confirmed = true).is_some())
    }

    async fn note_code(&self, new: &NewCode) -> Result<Option<TimeDelta>, StoreError> {
        let mut tables = self.tables();
        let since = new.sent_at - CODES_COUNT_FOR;
        let wait = |is_same: &dyn Fn(&NewCode) -> bool| {
            let counted = tables.codes.iter().map(|code| &code.sent).filter(|one| one.sent_at > since);
            let sent: Vec<_> = counted.filter(|one| is_same(one)).map(|one| one.sent_at).collect();
            let first = sent.first().filter(|_| i64::try_from(sent.len()).is_ok_and(|n| n >= MAX_CODES))?;
            Some(*first + CODES_COUNT_FOR - new.sent_at)
        };
        let of_user = wait(&|one| one.user_id == new.user_id);
        let wait = of_user.max(wait(&|one| one.number == new.number));
        if wait.is_none() {
            tables.codes.push(Code { sent: new.clone(), tries: 0 });
        }
        Ok(wait)
    }

    async fn try_code(
        &self,
        id: SubscriptionId,
        user_id: UserId,
        code: &[u8],
        now: DateTime<Utc>,
    ) -> Result<CodeOutcome, StoreError> {
        let mut tables = self.tables();
        let Tables { subscriptions, codes, .. } = &mut *tables;
        let is_number = |one: &Subscription| one.target.channel() == NotificationChannel::Sms;
        let own = subscriptions.get_mut(&id).map(|entry| &mut entry.subscription);
        let Some(own) = own.filter(|one| one.user_id == user_id) else {
            return Ok(CodeOutcome::NoSubscription);
        };
        if own.is_confirmed && is_number(own) {
            return Ok(CodeOutcome::Confirmed);
        }
        let last = codes.iter_mut().rev().find(|code| code.sent.subscription == id);
        let good = last.filter(|last| last.tries < MAX_TRIES && last.sent.sent_at > now - CODE_FOR);
        let Some(last) = good else { return Ok(CodeOutcome::NoCode) };
        last.tries += 1;
        if last.sent.code != code {
            return Ok(CodeOutcome::Wrong { left: MAX_TRIES - last.tries });
        }
        last.tries = MAX_TRIES;
        own.is_confirmed = true;
        let number = own.target.endpoint().to_owned();
        let others = subscriptions.values().map(|entry| &entry.subscription);
        let is_lost = |one: &&Subscription| {
            is_number(one) && one.target.endpoint() == number && one.user_id != user_id && one.is_confirmed
        };
        let lost: Vec<_> = others.filter(is_lost).map(|one| one.id).collect();
        for id in lost {
            tables.remove(id);
        }
        Ok(CodeOutcome::Confirmed)
    }

    async fn forget_codes(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let count = tables.codes.len();
        tables.codes.retain(|code| code.sent.sent_at >= before);
        Ok((count - tables.codes.len()) as u64)
    }

    async fn unsubscribe(&self, id: SubscriptionId, of: Option<UserId>) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let found = tables.subscriptions.get(&id);
        let is_found = found.is_some_and(|entry| of.is_none_or(|user| entry.subscription.user_id == user));
        if is_found {
            tables.remove(id);
        }
        Ok(is_found)
    }

    async fn preferences(
        &self,
        user_id: UserId,
        now: DateTime<Utc>,
    ) -> Result<(Preferences, Option<u16>), StoreError> {
        let tables = self.tables();
        let preferences = tables.users.get(&user_id).map(|user| user.preferences.clone()).unwrap_or_default();
        let minute = u16::try_from(now.timestamp().rem_euclid(24 * 3600) / 60).ok();
        let minute = minute.filter(|_| preferences.quiet.is_some());
        Ok((preferences, minute))
    }

    async fn set_preferences(&self, user_id: UserId, preferences: &Preferences) -> Result<(), StoreError> {
        let mut tables = self.tables();
        if !tables.ended.contains_key(&(user_id, None)) {
            tables.users.entry(user_id).or_default().preferences = preferences.clone();
        }
        Ok(())
    }

    async fn knows_time_zone(&self, name: &str) -> Result<bool, StoreError> {
        Ok(name == UTC)
    }

    async fn positions(
        &self,
        topic: Topic,
        partitions: &[i32],
    ) -> Result<HashMap<i32, Option<i64>>, StoreError> {
        let mut tables = self.tables();
        let mut next = |partition: i32| *tables.positions.entry((topic, partition)).or_default();
        Ok(partitions.iter().map(|partition| (*partition, next(*partition))).collect())
    }

    async fn apply(
        &self,
        place: Place,
        batch: &Batch,
        delay: TimeDelta,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        tables.note(batch, now + delay, now);
        tables.positions.insert((place.topic, place.partition), Some(place.next_offset));
        Ok(())
    }

    async fn ends_read(
        &self,
        partition: i32,
        at: DateTime<Utc>,
        since: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let before = tables.ends_read_at.insert(partition, at);
        if before.is_none_or(|before| before >= since) {
            return Ok(0);
        }
        let mut doubtful = 0;
        for (_, seen_at) in tables.subscriptions.values_mut().filter_map(|one| one.session.as_mut()) {
            *seen_at = DateTime::<Utc>::MIN_UTC;
            doubtful += 1;
        }
        Ok(doubtful)
    }

    async fn forget_ends(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let count = tables.ended.len();
        tables.ended.retain(|_, read_at| *read_at >= before);
        Ok((count - tables.ended.len()) as u64)
    }

    async fn take_unseen(
        &self,
        since: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Unseen>, StoreError> {
        let mut tables = self.tables();
        let devices = tables.subscriptions.values_mut().filter_map(|one| {
            let Owned { subscription, session, .. } = one;
            let (session, seen_at) = session.as_mut()?;
            (*seen_at < since).then_some((subscription, session, seen_at))
        });
        let mut due: Vec<_> = devices.collect();
        due.sort_by_key(|(_, _, seen_at)| **seen_at);
        let mut taken = Vec::new();
        for (subscription, session, seen_at) in due.into_iter().take(limit) {
            *seen_at = until;
            let (id, user_id) = (subscription.id, subscription.user_id);
            taken.push(Unseen { id, user_id, session: Some(session.clone()) });
        }
        Ok(taken)
    }

    async fn note_seen(&self, device: &Unseen, at: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let found = tables.subscriptions.get_mut(&device.id).filter(|one| one.is(device));
        if let Some((_, seen_at)) = found.and_then(|one| one.session.as_mut()) {
            *seen_at = at;
        }
        Ok(())
    }

    async fn end_unseen(&self, device: &Unseen, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        // Every device has a session here.
        let session = device.session.as_ref();
        Ok(session.is_some_and(|session| tables.end(device.user_id, session, now)))
    }

    async fn note_unbound(&self, _: DateTime<Utc>) -> Result<i64, StoreError> {
        // No other release has subscribed any.
        Ok(0)
    }

    async fn unlisted(&self, since: DateTime<Utc>, limit: usize) -> Result<Vec<UserId>, StoreError> {
        let tables = self.tables();
        let is_due = |user: &User| user.listed_at.is_none_or(|at| at < since);
        let mut due: Vec<_> = tables.users.iter().filter(|(_, user)| is_due(user)).collect();
        due.sort_by_key(|(_, user)| user.listed_at);
        Ok(due.into_iter().map(|(id, _)| *id).take(limit).collect())
    }

    async fn list(
        &self,
        user_id: UserId,
        chats: &[(ChatId, i64)],
        listed_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let Some(user) = tables.users.get_mut(&user_id) else { return Ok(()) };
        user.listed_at = Some(listed_at);
        for (chat, version) in chats {
            let seat = tables.seats.entry((*chat, user_id)).or_insert_with(|| Seat::new(*version, listed_at));
            if seat.version <= *version {
                (seat.is_member, seat.version, seat.changed_at) = (true, *version, listed_at);
            }
        }
        let is_listed = |chat: &ChatId| chats.iter().any(|(listed, _)| listed == chat);
        for ((chat, user), seat) in &mut tables.seats {
            if *user == user_id && seat.changed_at < listed_at && !is_listed(chat) {
                seat.is_member = false;
            }
        }
        Ok(())
    }

    async fn list_again(&self, user_id: UserId, listed_at: DateTime<Utc>) -> Result<(), StoreError> {
        if let Some(user) = self.tables().users.get_mut(&user_id) {
            user.listed_at = Some(listed_at);
        }
        Ok(())
    }

    async fn spread(&self, now: DateTime<Utc>, limit: usize) -> Result<usize, StoreError> {
        let mut tables = self.tables();
        let due = tables.news.iter().filter(|(_, news)| news.due_at <= now);
        let due: Vec<ChatId> = due.map(|(chat, _)| *chat).take(limit).collect();
        for chat in &due {
            if let Some(news) = tables.news.remove(chat) {
                tables.tell(*chat, &news, now);
                if let Some(next) = news.next {
                    tables.news.insert(*chat, *next);
                }
            }
        }
        Ok(due.len())
    }

    async fn next_news(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        Ok(self.tables().news.values().map(|news| news.due_at).min())
    }

    async fn next_job(&self, channel: NotificationChannel) -> Result<Option<DateTime<Utc>>, StoreError> {
        let tables = self.tables();
        let is_of = |id: &SubscriptionId| {
            let found = tables.subscriptions.get(id);
            found.is_some_and(|entry| entry.subscription.target.channel() == channel)
        };
        let waiting = tables.jobs.iter().filter(|((id, _), one)| one.dead_at.is_none() && is_of(id));
        Ok(waiting.map(|(_, one)| one.due_at).min())
    }

    async fn claim(
        &self,
        channel: NotificationChannel,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: usize,
        busy: &Busy,
    ) -> Result<Vec<Job>, StoreError> {
        let (mut tables, mut busy) = (self.tables(), busy.clone());
        let Tables { subscriptions, jobs, .. } = &mut *tables;
        let mut due: Vec<_> =
            jobs.iter_mut().filter(|(_, one)| one.dead_at.is_none() && one.due_at <= now).collect();
        due.sort_by_key(|(_, one)| one.due_at);
        let mut claimed = Vec::new();
        for ((id, chat), waiting) in due {
            let Some(Owned { subscription, .. }) = subscriptions.get(id) else { continue };
            let is_of_channel = subscription.target.channel() == channel;
            if !is_of_channel || claimed.len() == limit || !busy.has_place(subscription) {
                continue;
            }
            busy.add(subscription);
            waiting.due_at = until;
            waiting.attempts += 1;
            waiting.forget_ticket();
            claimed.push(waiting.job(subscription, *chat));
        }
        Ok(claimed)
    }

    async fn hand_over(
        &self,
        channel: NotificationChannel,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        places: Places,
        few: &BTreeMap<String, i64>,
    ) -> Result<Vec<Ticket>, StoreError> {
        let mut tables = self.tables();
        let Tables { subscriptions, jobs, ticket, .. } = &mut *tables;
        let subscriptions = &*subscriptions;
        let (mut all, mut busy) = (0, Busy::default());
        let of_channel = |id: &SubscriptionId| {
            let found = subscriptions.get(id).map(|entry| &entry.subscription);
            found.filter(|subscription| subscription.target.channel() == channel)
        };
        for ((id, _), waiting) in jobs.iter() {
            let is_handed = waiting.ticket.is_some() && waiting.dead_at.is_none() && waiting.due_at > now;
            if let (true, Some(subscription)) = (is_handed, of_channel(id)) {
                all += 1;
                busy.add(subscription);
            }
        }
        let mut due: Vec<_> =
            jobs.iter_mut().filter(|(_, one)| one.dead_at.is_none() && one.due_at <= now).collect();
        due.sort_by_key(|(_, one)| one.due_at);
        let mut tickets = Vec::new();
        for ((id, chat), waiting) in due {
            let Some(subscription) = of_channel(id) else { continue };
            let of_host = subscription.target.host().and_then(|host| few.get(host)).copied();
            let of_host = of_host.unwrap_or(places.of_host).min(places.of_host);
            if all >= places.all || !busy.has_place_of(subscription, Places { of_host, ..places }) {
                continue;
            }
            all += 1;
            busy.add(subscription);
            *ticket += 1;
            (waiting.due_at, waiting.ticket, waiting.is_begun) = (until, Some(*ticket), false);
            tickets.push(Ticket {
                number: *ticket,
                subscription_id: *id,
                chat_id: *chat,
                attempts: waiting.attempts,
            });
        }
        Ok(tickets)
    }

    async fn begin(
        &self,
        channel: NotificationChannel,
        taken: &[Taken],
        until: DateTime<Utc>,
    ) -> Result<Begun, StoreError> {
        let mut tables = self.tables();
        let Tables { subscriptions, jobs, .. } = &mut *tables;
        let mut begun = Begun::default();
        for Taken { ticket, is_revived } in taken {
            let place = (ticket.subscription_id, ticket.chat_id);
            let (Some(waiting), Some(Owned { subscription, .. })) =
                (jobs.get_mut(&place), subscriptions.get(&ticket.subscription_id))
            else {
                continue;
            };
            let is_dead = waiting.dead_at.is_some();
            let is_new = !is_dead && !waiting.is_begun && waiting.attempts == ticket.attempts;
            let is_to_do = if *is_revived { is_dead } else { is_new };
            if waiting.ticket != Some(ticket.number) {
                continue;
            }
            if is_to_do && subscription.target.channel() == channel {
                waiting.attempts = if is_dead { 1 } else { waiting.attempts + 1 };
                (waiting.due_at, waiting.is_begun, waiting.dead_at) = (until, true, None);
                begun.jobs.push((ticket.number, waiting.job(subscription, ticket.chat_id)));
            } else if is_dead {
                begun.dead.push(ticket.number);
            }
        }
        Ok(begun)
    }

    async fn take_back(&self, tickets: &[Ticket], until: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tables = self.tables();
        for ticket in tickets {
            let waiting = tables.jobs.get_mut(&(ticket.subscription_id, ticket.chat_id));
            let is_it = |one: &&mut Waiting| {
                one.ticket == Some(ticket.number) && !one.is_begun && one.dead_at.is_none()
            };
            if let Some(waiting) = waiting.filter(is_it) {
                waiting.due_at = until;
                waiting.forget_ticket();
            }
        }
        Ok(())
    }

    async fn take_all_back(
        &self,
        channel: NotificationChannel,
        now: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let Tables { subscriptions, jobs, .. } = &mut *tables;
        let mut count = 0;
        for ((id, _), waiting) in jobs.iter_mut() {
            let is_of_channel =
                subscriptions.get(id).is_some_and(|entry| entry.subscription.target.channel() == channel);
            let is_handed = waiting.ticket.is_some() && !waiting.is_begun && waiting.dead_at.is_none();
            if is_of_channel && is_handed {
                waiting.due_at = waiting.due_at.min(now);
                waiting.forget_ticket();
                count += 1;
            }
        }
        Ok(count)
    }

    async fn finish(
        &self,
        job: &Job,
        now: DateTime<Utc>,
        next_at: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let mut is_done = false;
        if let Some(waiting) = tables.claimed(job) {
            is_done = waiting.version == job.version;
            (waiting.due_at, waiting.attempts) = (next_at.unwrap_or(now).max(now), 0);
            waiting.forget_ticket();
        }
        if is_done {
            tables.jobs.remove(&(job.subscription.id, job.chat_id));
        }
        if let (Some(_), Some(entry)) = (next_at, tables.subscriptions.get_mut(&job.subscription.id)) {
            entry.next_at = next_at;
        }
        Ok(())
    }

    async fn put_off(&self, job: &Job, until: DateTime<Utc>, is_counted: bool) -> Result<(), StoreError> {
        if let Some(waiting) = self.tables().claimed(job) {
            waiting.due_at = until;
            waiting.attempts -= i32::from(!is_counted);
            waiting.forget_ticket();
        }
        Ok(())
    }

    async fn bury(&self, job: &Job, now: DateTime<Utc>, _death: &str) -> Result<(), StoreError> {
        if let Some(waiting) = self.tables().claimed(job) {
            waiting.dead_at = Some(now);
        }
        Ok(())
    }

    async fn forget_dead(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let count = tables.jobs.len();
        tables.jobs.retain(|_, one| one.dead_at.is_none_or(|at| at >= before));
        Ok((count - tables.jobs.len()) as u64)
    }

    async fn counts(&self) -> Result<HashMap<NotificationChannel, (i64, i64)>, StoreError> {
        let tables = self.tables();
        let mut counts: HashMap<_, (i64, i64)> = HashMap::new();
        for ((id, _), waiting) in &tables.jobs {
            let Some(entry) = tables.subscriptions.get(id) else { continue };
            let (alive, dead) = counts.entry(entry.subscription.target.channel()).or_default();
            *(if waiting.dead_at.is_some() { dead } else { alive }) += 1;
        }
        Ok(counts)
    }

    async fn erase(&self, user_id: UserId) -> Result<bool, StoreError> {
        Ok(self.tables().erase(user_id))
    }

    fn deletions_position(&self) -> deletions::Position {
        self.tables().deletions_position.clone()
    }
}
