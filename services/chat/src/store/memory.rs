//! The store of `posthouse dev`, and of the tests of the API.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use contracts::{ChatId, MessageKey, UserId, event::Role};
use kit::{clock::now_ms, deletions, idempotency::IdempotencyKey};
use tokio::sync::Notify;
use tonic::async_trait;

mod joining;
mod scheduled;

use self::joining::Link;
use super::{Added, ChatStore, Created, Publication, Published, PublishedPlace, StoreError};
use crate::domain::{
    self, Access, Block, Change, Chat, Command, DELETED_AT_ONCE, Excerpt, Founding, Limits, MAX_BLOCKS,
    MAX_DRAFTS, Member, Membership, NamedChat, NewChat, OutboxRecord, OwnState, OwnUpdate, Refusal,
    Restriction, Rights, Scheduled, Seat,
    limits::{self, CreatedChats, Memberships},
    own_state,
};

/// Keeps chats for as long as the process lives.
#[derive(Default)]
pub struct MemoryStore {
    limits: Limits,
    tables: Mutex<Tables>,
    /// Notified of records in the outbox.
    filled: Notify,
}

#[derive(Default)]
struct Tables {
    chats: Vec<Row>,
    outbox: Vec<OutboxRecord>,
    /// How many records have left the outbox.
    published: usize,
    deletions_position: deletions::Position,
    /// By the one who made it, and whom it is against.
    blocks: BTreeMap<(UserId, UserId), DateTime<Utc>>,
    /// What moderators let users not write in a chat, or in none.
    restrictions: BTreeMap<(UserId, Option<ChatId>), Restriction>,
    links: Vec<Link>,
    /// Since when users ask to join chats.
    requests: BTreeMap<(ChatId, UserId), DateTime<Utc>>,
    scheduled: Vec<Scheduled>,
    /// When a scheduled message of a user was sent in a chat last, who may have left it since.
    scheduled_sent: BTreeMap<(ChatId, UserId), DateTime<Utc>>,
    scheduled_spent: scheduled::AllSpent,
    /// What scheduled messages said that were sent.
    scheduled_digests: BTreeMap<(ChatId, UserId, MessageKey), [u8; 32]>,
}

struct Row {
    /// With all members.
    excerpt: Excerpt,
    /// How members have it who changed that.
    own: BTreeMap<UserId, OwnState>,
    pair: Option<(UserId, UserId)>,
    founder: UserId,
    /// The key of a group, and the digest of what it was created from.
    key: Option<(IdempotencyKey, [u8; 32])>,
    created_at: DateTime<Utc>,
}

impl Tables {
    /// Returns how many memberships there are, and how many of them a user added.
    fn memberships(&self, user_id: UserId) -> Memberships {
        let members = || self.chats.iter().flat_map(|row| &row.excerpt.members);
        let added = members().filter(|member| member.added_by == Some(user_id)).count();
        Memberships { all: members().count() as u64, added: added as u64 }
    }

    /// Refuses additions that are too many for the one for whom they count.
    fn check_members(&self, limits: &Limits, additions: Option<(UserId, usize)>) -> Result<(), Refusal> {
        additions.map_or(Ok(()), |(hand, more)| limits.check_members(self.memberships(hand), more))
    }

    /// Returns how many chats a user has created.
    fn created_chats(&self, founder: UserId, now: DateTime<Utc>) -> CreatedChats {
        let created = || self.chats.iter().filter(|row| row.founder == founder);
        let lately = || created().map(|row| row.created_at).filter(|at| *at > limits::lately(now));
        CreatedChats {
            with_members: created().filter(|row| !row.excerpt.members.is_empty()).count() as u64,
            lately: lately().count() as u64,
            first_lately: lately().min(),
        }
    }

    fn are_blocked(&self, one: UserId, other: UserId) -> bool {
        self.blocks.contains_key(&(one, other)) || self.blocks.contains_key(&(other, one))
    }

    /// Returns what holds for a user in a chat.
    fn rights(&self, chat_id: ChatId, user_id: UserId) -> Rights {
        let row = self.chats.iter().find(|row| row.excerpt.chat_id == chat_id);
        let seat = row.and_then(|row| Some((row, row.excerpt.role(user_id)?)));
        seat.map_or(Rights::NONE, |(Row { excerpt, pair, .. }, role)| {
            let own = [Some(chat_id), None].map(|chat| self.restrictions.get(&(user_id, chat)));
            if own.into_iter().flatten().any(|own| own.until.timestamp_millis() > now_ms()) {
                return Rights::RESTRICTED;
            }
            let is_blocked = pair.is_some_and(|(low, high)| self.are_blocked(low, high));
            let access = Access::of_member(excerpt.kind, role, excerpt.member_count, is_blocked);
            Rights::of_member(access, role, excerpt.slow_mode_seconds)
        })
    }

    /// Changes a block, with what is published of it.
    fn change_block(
        &mut self,
        user_id: UserId,
        blocked: UserId,
        change: impl FnOnce(&mut BTreeMap<(UserId, UserId), DateTime<Utc>>),
    ) -> Option<Publication> {
        let before = self.are_blocked(user_id, blocked);
        change(&mut self.blocks);
        let after = self.are_blocked(user_id, blocked);
        let pair = Some((user_id.min(blocked), user_id.max(blocked)));
        let row = self.chats.iter_mut().find(|row| row.pair == pair)?;
        let chat_id = row.excerpt.chat_id;
        if before != after {
            self.outbox.extend(row.excerpt.standing(after));
        }
        Some(Publication { chat_id, newest: self.newest() })
    }

    fn membership(&self, row: &Row, user: UserId) -> Option<Membership> {
        let member = row.excerpt.member(user)?;
        Some(Membership {
            chat: row.seen_by(user)?,
            other: row.pair.map(|(low, high)| if user == low { high } else { low }),
            joined_at: member.joined_at,
            reads_from: member.reads_from,
            version: row.excerpt.version,
            is_closed: row.pair.is_some_and(|(low, high)| self.are_blocked(low, high)),
        })
    }

    /// Returns the newest record that was ever in the outbox.
    fn newest(&self) -> Option<i64> {
        i64::try_from(self.published + self.outbox.len()).ok()
    }
}

impl Row {
    /// Returns whether the chat is the direct chat of the same pair, or the group of the same founder and key.
    fn is_created_by(&self, new: &NewChat) -> bool {
        let by_key = self.founder == new.founder
            && self.key.as_ref().zip(new.group_key()).is_some_and(|((one, _), other)| one == other);
        by_key || (self.pair.is_some() && self.pair == new.pair())
    }

    fn seen_by(&self, member: UserId) -> Option<Chat> {
        Some(Chat {
            chat_id: self.excerpt.chat_id,
            kind: self.excerpt.kind,
            title: self.excerpt.title.clone(),
            topic: self.excerpt.topic.clone(),
            history: self.excerpt.history,
            visibility: self.excerpt.visibility,
            slow_mode_seconds: self.excerpt.slow_mode_seconds,
            message_ttl_seconds: self.excerpt.message_ttl_seconds,
            avatar: self.excerpt.avatar.clone(),
            role: self.excerpt.role(member)?,
            own: self.own.get(&member).cloned().unwrap_or_default(),
            member_count: i64::try_from(self.excerpt.member_count).expect("members are bounded"),
            created_at: self.created_at,
        })
    }
}

impl MemoryStore {
    /// Returns a store without chats.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the oldest records that are not yet published, in order.
    pub(crate) fn unpublished(&self, limit: usize) -> Vec<OutboxRecord> {
        self.tables().outbox.iter().take(limit).cloned().collect()
    }

    /// Makes the changes that `decide` returns for a chat, `None` when there is no such chat, with the records about them.
    fn change_as(
        &self,
        chat_id: ChatId,
        actor: UserId,
        at: DateTime<Utc>,
        decide: impl FnOnce(Option<&Excerpt>) -> Result<Vec<Change>, Refusal>,
    ) -> Result<Publication, StoreError> {
        self.change_in(&mut self.tables(), chat_id, actor, at, decide)
    }

    fn change_in(
        &self,
        tables: &mut Tables,
        chat_id: ChatId,
        actor: UserId,
        at: DateTime<Utc>,
        decide: impl FnOnce(Option<&Excerpt>) -> Result<Vec<Change>, Refusal>,
    ) -> Result<Publication, StoreError> {
        let row = tables.chats.iter_mut().find(|row| row.excerpt.chat_id == chat_id);
        let Some(row) = row else {
            decide(None)?;
            return Ok(Publication { chat_id, newest: None });
        };
        prepare(&mut row.excerpt, at);
        let changes = decide(Some(&row.excerpt))?;
        tables.check_members(&self.limits, domain::additions(actor, &changes))?;
        let mut rows = tables.chats.iter_mut();
        let row = rows.find(|row| row.excerpt.chat_id == chat_id);
        let Row { excerpt, own, .. } = row.expect("it was found above");
        let records = excerpt.apply(actor, &changes, at, MessageKey::generate);
        own.retain(|user, _| excerpt.role(*user).is_some());
        for change in &changes {
            if let Change::Added { user_id, .. } | Change::Admitted { user_id } = change {
                // As PostgreSQL numbers it.
                own.insert(*user_id, OwnState { version: at.timestamp_millis(), ..OwnState::default() });
            }
        }
        tables.outbox.extend(records);
        tables.tidy(chat_id);
        tables.tidy_scheduled(chat_id);
        self.filled.notify_one();
        Ok(Publication { chat_id, newest: tables.newest() })
    }

    /// Removes the oldest records, which were published.
    pub(crate) fn forget(&self, published: usize) {
        let mut tables = self.tables();
        tables.outbox.drain(..published);
        tables.published += published;
    }

    /// Waits until there may be records in the outbox.
    pub(crate) async fn filled(&self) {
        let waiting = !self.tables().outbox.is_empty();
        if !waiting {
            self.filled.notified().await;
        }
    }
}

/// Makes an excerpt ready for a change.
fn prepare(excerpt: &mut Excerpt, now: DateTime<Utc>) {
    excerpt.departures.retain(|departure| !departure.is_past(now));
    let others = excerpt.members.iter().filter(|member| member.role != Role::Owner);
    // Admins come before members; the id decides between users who joined together.
    let heir = others.min_by_key(|member| (member.role, member.joined_at, member.user_id));
    excerpt.heir = heir.map(|heir| heir.user_id);
}

#[async_trait]
impl ChatStore for MemoryStore {
    async fn create(&self, new: &NewChat) -> Result<Created, StoreError> {
        let mut tables = self.tables();
        let memberships = tables.memberships(new.founder);
        let pair = new.pair();
        let key = new.group_key().map(|key| (key.clone(), new.digest()));
        let is_blocked = pair.is_some_and(|(low, high)| tables.are_blocked(low, high));
        if let Some(row) = tables.chats.iter_mut().find(|row| row.is_created_by(new)) {
            if row.key != key {
                return Err(Refusal::KeyReused.into());
            }
            let chat_id = row.excerpt.chat_id;
            let records = match new.founding {
                Founding::Direct { other } => {
                    prepare(&mut row.excerpt, new.created_at);
                    let back = domain::reopen(&row.excerpt, new.founder, other, is_blocked)?;
                    let added = domain::additions(new.founder, &back).map_or(0, |(_, more)| more);
                    self.limits.check_members(memberships, added)?;
                    row.excerpt.apply(new.founder, &back, new.created_at, MessageKey::generate)
                }
                Founding::Group { .. } => Vec::new(),
            };
            let was_left = row.excerpt.members.iter().any(|member| member.reads_from.is_some());
            let chat = row.seen_by(new.founder).ok_or(Refusal::NotAMember(chat_id))?;
            tables.outbox.extend(records);
            self.filled.notify_one();
            let newest = tables.newest().filter(|_| pair.is_some() && was_left);
            return Ok(Created { chat, fresh: false, publication: Publication { chat_id, newest } });
        }
        if let Founding::Direct { other } = new.founding
            && is_blocked
        {
            return Err(Refusal::Unwanted(other).into());
        }
        self.limits.check_creation(tables.created_chats(new.founder, new.created_at), new.created_at)?;
        self.limits.check_members(memberships, new.members().len())?;
        let records = new.records();
        let row = Row {
            excerpt: Excerpt {
                chat_id: new.chat_id,
                kind: new.kind(),
                title: new.title().map(str::to_owned),
                topic: None,
                history: new.history(),
                visibility: new.visibility(),
                slow_mode_seconds: 0,
                message_ttl_seconds: 0,
                avatar: None,
                version: i64::try_from(records.len()).expect("members are bounded"),
                deleted_by: None,
                member_count: new.members().len(),
                heir: None,
                members: new.members(),
                departures: Vec::new(),
            },
            own: BTreeMap::new(),
            pair,
            founder: new.founder,
            key,
            created_at: new.created_at,
        };
        let chat = row.seen_by(new.founder).expect("a founder is in the chat");
        tables.chats.push(row);
        tables.outbox.extend(records);
        self.filled.notify_one();
        let publication = Publication { chat_id: new.chat_id, newest: None };
        Ok(Created { chat, fresh: true, publication })
    }

    async fn newcomers(&self, new: &NewChat) -> Result<BTreeSet<UserId>, StoreError> {
        let tables = self.tables();
        let row = tables.chats.iter().find(|row| row.is_created_by(new));
        let is_there =
            |user: &UserId| row.is_some_and(|row| row.pair.is_none() || row.excerpt.role(*user).is_some());
        Ok(new.founding.others().into_iter().filter(|user| !is_there(user)).collect())
    }

    async fn acquaintances(
        &self,
        user_id: UserId,
        others: &[UserId],
    ) -> Result<BTreeSet<UserId>, StoreError> {
        let tables = self.tables();
        let shared = tables.chats.iter().filter(|row| row.excerpt.role(user_id).is_some());
        let met = shared.flat_map(|row| row.excerpt.members.iter().map(|member| member.user_id));
        Ok(met.filter(|met| others.contains(met)).collect())
    }

    async fn chat(&self, chat_id: ChatId, member: UserId) -> Result<Option<Chat>, StoreError> {
        let tables = self.tables();
        let row = tables.chats.iter().find(|row| row.excerpt.chat_id == chat_id);
        Ok(row.and_then(|row| row.seen_by(member)))
    }

    async fn chats(
        &self,
        member: UserId,
        before: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<Chat>, StoreError> {
        let tables = self.tables();
        let mut chats: Vec<_> = tables.chats.iter().filter_map(|row| row.seen_by(member)).collect();
        chats.sort_by_key(|chat| std::cmp::Reverse(chat.chat_id));
        chats.retain(|chat| before.is_none_or(|before| chat.chat_id < before));
        chats.truncate(limit);
        Ok(chats)
    }

    async fn membership(&self, chat_id: ChatId, user_id: UserId) -> Result<Option<Membership>, StoreError> {
        let tables = self.tables();
        let row = tables.chats.iter().find(|row| row.excerpt.chat_id == chat_id);
        Ok(row.and_then(|row| tables.membership(row, user_id)))
    }

    async fn memberships(&self, user_id: UserId, among: &[ChatId]) -> Result<Vec<Membership>, StoreError> {
        let tables = self.tables();
        let chats =
            tables.chats.iter().filter(|row| among.is_empty() || among.contains(&row.excerpt.chat_id));
        Ok(chats.filter_map(|row| tables.membership(row, user_id)).collect())
    }

    async fn seats(&self, user_id: UserId) -> Result<Vec<Seat>, StoreError> {
        let memberships = self.memberships(user_id, &[]).await?;
        Ok(memberships.iter().map(Seat::from).collect())
    }

    async fn names(&self, user_id: UserId, limit: usize) -> Result<Vec<NamedChat>, StoreError> {
        let memberships = self.memberships(user_id, &[]).await?.into_iter();
        let mut names: Vec<_> = memberships
            .map(|Membership { chat, other, .. }| NamedChat {
                chat_id: chat.chat_id,
                kind: chat.kind,
                title: chat.title,
                other,
            })
            .collect();
        names.sort_by_key(|named| std::cmp::Reverse(named.chat_id));
        names.truncate(limit);
        Ok(names)
    }

    async fn member(&self, chat_id: ChatId, user_id: UserId) -> Result<Option<Member>, StoreError> {
        let tables = self.tables();
        let row = tables.chats.iter().find(|row| row.excerpt.chat_id == chat_id);
        Ok(row.and_then(|row| row.excerpt.member(user_id).cloned()))
    }

    async fn members(
        &self,
        chat_id: ChatId,
        role: Option<Role>,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Member>, StoreError> {
        let tables = self.tables();
        let row = tables.chats.iter().find(|row| row.excerpt.chat_id == chat_id);
        let mut members = row.map(|row| row.excerpt.members.clone()).unwrap_or_default();
        members.retain(|member| role.is_none_or(|role| member.role == role));
        members.retain(|member| after.is_none_or(|after| member.user_id > after));
        members.sort_by_key(|member| member.user_id);
        members.truncate(limit);
        Ok(members)
    }

    async fn present(
        &self,
        chat_id: ChatId,
        users: &BTreeSet<UserId>,
    ) -> Result<BTreeSet<UserId>, StoreError> {
        let tables = self.tables();
        let row = tables.chats.iter().find(|row| row.excerpt.chat_id == chat_id);
        let members = row.into_iter().flat_map(|row| &row.excerpt.members).map(|member| member.user_id);
        Ok(members.filter(|user| users.contains(user)).collect())
    }

    async fn rights(&self, seats: &[(ChatId, UserId)]) -> Result<Vec<Rights>, StoreError> {
        let tables = self.tables();
        Ok(seats.iter().map(|(chat_id, user_id)| tables.rights(*chat_id, *user_id)).collect())
    }

    async fn change(
        &self,
        chat_id: ChatId,
        actor: UserId,
        command: Command,
        at: DateTime<Utc>,
    ) -> Result<Publication, StoreError> {
        self.change_as(chat_id, actor, at, |excerpt| match excerpt {
            Some(excerpt) => domain::decide(excerpt, actor, &command),
            None => command.of_stranger(chat_id, actor),
        })
    }

    async fn add(
        &self,
        chat_id: ChatId,
        actor: UserId,
        users: &BTreeSet<UserId>,
        at: DateTime<Utc>,
    ) -> Result<Added, StoreError> {
        let mut unwanted = BTreeSet::new();
        let publication = self.change_as(chat_id, actor, at, |excerpt| {
            let additions = domain::add(excerpt.ok_or(Refusal::NotAMember(chat_id))?, actor, users)?;
            unwanted = additions.unwanted;
            Ok(additions.changes)
        })?;
        Ok(Added { unwanted, publication })
    }

    async fn empty(&self, chat_id: ChatId, at: DateTime<Utc>) -> Result<Option<Publication>, StoreError> {
        let (by, next) = {
            let tables = self.tables();
            let row = tables.chats.iter().find(|row| row.excerpt.chat_id == chat_id);
            let Some((row, by)) = row.and_then(|row| Some((row, row.excerpt.deleted_by?))) else {
                return Ok(None);
            };
            let mut members: Vec<_> = row.excerpt.members.iter().collect();
            members.sort_by_key(|of| (of.role == Role::Owner, of.joined_at, of.user_id));
            let next = members.iter().map(|member| member.user_id).take(DELETED_AT_ONCE);
            (by, next.collect::<Vec<_>>())
        };
        if next.is_empty() {
            return Ok(None);
        }
        let decide = |excerpt: Option<&Excerpt>| {
            Ok(excerpt.map(|excerpt| domain::empty(excerpt, &next)).unwrap_or_default())
        };
        self.change_as(chat_id, by, at, decide).map(Some)
    }

    async fn begun_deletions(&self, limit: usize) -> Result<Vec<ChatId>, StoreError> {
        let tables = self.tables();
        let begun = tables.chats.iter().map(|row| &row.excerpt);
        let begun = begun.filter(|of| of.deleted_by.is_some() && of.member_count > 0);
        Ok(begun.map(|of| of.chat_id).take(limit).collect())
    }

    async fn update_own(
        &self,
        chat_id: ChatId,
        member: UserId,
        update: &OwnUpdate,
        at: DateTime<Utc>,
    ) -> Result<Option<OwnState>, StoreError> {
        let mut tables = self.tables();
        let drafts = tables.chats.iter().filter_map(|row| row.own.get(&member)?.draft.as_ref()).count();
        let mut rows = tables.chats.iter_mut();
        let row = rows.find(|row| row.excerpt.chat_id == chat_id && row.excerpt.role(member).is_some());
        let Some(row) = row else { return Ok(None) };
        let before = row.own.entry(member).or_default();
        let own = before.after(update, at);
        if before.draft.is_none() && own.draft.is_some() && drafts >= MAX_DRAFTS {
            return Err(Refusal::TooManyDrafts.into());
        }
        if own.version != before.version {
            *before = own.clone();
            tables.outbox.extend(own_state(chat_id, member, &own));
            self.filled.notify_one();
        }
        Ok(Some(own))
    }

    async fn depart(&self, chat_id: ChatId, user_id: UserId, at: DateTime<Utc>) -> Result<(), StoreError> {
        let decide = |excerpt: Option<&Excerpt>| {
            Ok(excerpt.map(|excerpt| domain::depart(excerpt, user_id)).unwrap_or_default())
        };
        self.change_as(chat_id, user_id, at, decide).map(drop)
    }

    async fn restrict(
        &self,
        user_id: UserId,
        chat_id: Option<ChatId>,
        restriction: Option<Restriction>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let before = match restriction {
            Some(restriction) => tables.restrictions.insert((user_id, chat_id), restriction),
            None => tables.restrictions.remove(&(user_id, chat_id)),
        };
        if before == restriction {
            return Ok(());
        }
        tables.outbox.extend(domain::restriction(chat_id, user_id));
        self.filled.notify_one();
        Ok(())
    }

    async fn restrictions(&self, user_id: UserId) -> Result<Vec<Restriction>, StoreError> {
        let tables = self.tables();
        let own = tables.restrictions.iter().filter(|((user, _), _)| *user == user_id);
        let now_ms = now_ms();
        let holds = |own: &Restriction| own.until.timestamp_millis() > now_ms;
        Ok(own.map(|(_, own)| *own).filter(holds).collect())
    }

    async fn forget_restrictions(&self, user_id: UserId) -> Result<(), StoreError> {
        self.tables().restrictions.retain(|(user, _), _| *user != user_id);
        Ok(())
    }

    async fn block(
        &self,
        user_id: UserId,
        blocked: UserId,
        at: DateTime<Utc>,
    ) -> Result<Option<Publication>, StoreError> {
        let mut tables = self.tables();
        let own = tables.blocks.keys().filter(|(by, _)| *by == user_id).count();
        if own >= MAX_BLOCKS && !tables.blocks.contains_key(&(user_id, blocked)) {
            return Err(Refusal::TooManyBlocks.into());
        }
        let publication = tables.change_block(user_id, blocked, |blocks| {
            blocks.entry((user_id, blocked)).or_insert(at);
        });
        self.filled.notify_one();
        Ok(publication)
    }

    async fn unblock(
        &self,
        user_id: UserId,
        blocked: UserId,
        _: DateTime<Utc>,
    ) -> Result<Option<Publication>, StoreError> {
        let publication = self.tables().change_block(user_id, blocked, |blocks| {
            blocks.remove(&(user_id, blocked));
        });
        self.filled.notify_one();
        Ok(publication)
    }

    async fn blocks(
        &self,
        user_id: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Block>, StoreError> {
        let tables = self.tables();
        let own = tables.blocks.iter().filter(|((by, _), _)| *by == user_id);
        let behind = own.filter(|((_, blocked), _)| after.is_none_or(|after| *blocked > after));
        Ok(behind
            .map(|((_, blocked), at)| Block { user_id: *blocked, blocked_at: *at })
            .take(limit)
            .collect())
    }

    async fn blocked(&self, user_id: UserId, others: &[UserId]) -> Result<BTreeSet<UserId>, StoreError> {
        let tables = self.tables();
        Ok(others.iter().copied().filter(|other| tables.are_blocked(user_id, *other)).collect())
    }

    async fn blocks_of_any(
        &self,
        user_id: UserId,
        limit: usize,
    ) -> Result<Vec<(UserId, UserId)>, StoreError> {
        let tables = self.tables();
        let blocks = tables.blocks.keys().copied();
        Ok(blocks.filter(|(by, blocked)| *by == user_id || *blocked == user_id).take(limit).collect())
    }

    fn deletions_position(&self) -> deletions::Position {
        self.tables().deletions_position.clone()
    }

    async fn all_chats(&self, after: Option<ChatId>, limit: usize) -> Result<Vec<ChatId>, StoreError> {
        let tables = self.tables();
        let chats = tables.chats.iter().map(|row| row.excerpt.chat_id);
        let mut chats: Vec<_> = chats.filter(|chat| after.is_none_or(|after| *chat > after)).collect();
        chats.sort_unstable();
        chats.truncate(limit);
        Ok(chats)
    }

    async fn count_chats(&self) -> Result<i64, StoreError> {
        Ok(i64::try_from(self.tables().chats.len()).unwrap_or(i64::MAX))
    }

    async fn is_published(&self, publication: Publication) -> Result<bool, StoreError> {
        let published = i64::try_from(self.tables().published).unwrap_or(i64::MAX);
        Ok(publication.newest.is_none_or(|newest| newest <= published))
    }

    async fn pending(&self, limit: usize) -> Result<Vec<OutboxRecord>, StoreError> {
        Ok(self.unpublished(limit))
    }

    /// There is no log here that could lose a record.
    async fn published(&self, _: Option<PublishedPlace>, _: usize) -> Result<Published, StoreError> {
        Ok(Published::default())
    }
}
