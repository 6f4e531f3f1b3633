//! The store of `posthouse dev`, and of the tests of the API.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use contracts::{ChatId, FileId, UserId, api::FilePurpose};
use kit::{deletions, idempotency::IdempotencyKey};
use tonic::async_trait;

use super::{Claimed, Created, Discarded, FileStore, Offered, Refusal, StoreError};
use crate::domain::{
    Attached, Change, Checksum, File, MAX_CLAIMS, MAX_FREE_FILES, NewFile, Outcome, Quotas, Readers, State,
    UPLOAD_SLACK,
};

/// Keeps what files there are for as long as the process lives.
#[derive(Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    files: BTreeMap<FileId, Row>,
    attachments: BTreeMap<(ChatId, i64, FileId), Attachment>,
    offers: BTreeMap<(FileId, ChatId), DateTime<Utc>>,
    positions: BTreeMap<i32, Position>,
    deletions_position: deletions::Position,
}

struct Row {
    file: File,
    request: (Option<IdempotencyKey>, Checksum),
    kept_bytes: i64,
    claimed_until: Option<DateTime<Utc>>,
    attempts: i32,
    upload_until: Option<DateTime<Utc>>,
    is_emptied: bool,
    free_since: Option<DateTime<Utc>>,
    discarded_at: Option<DateTime<Utc>>,
}

struct Attachment {
    sender: UserId,
    expires_at: Option<DateTime<Utc>>,
}

#[derive(Default)]
struct Position {
    next_offset: Option<i64>,
    caught_up_at: Option<DateTime<Utc>>,
}

impl Row {
    fn is_ready(&self) -> bool {
        matches!(self.file.state, State::Ready(_))
    }

    /// Returns whether its removal may begin at `now`. `read_until` is the moment up to which the log is read for sure.
    fn is_collectable(
        &self,
        now: DateTime<Utc>,
        read_until: Option<DateTime<Utc>>,
        is_offered: bool,
    ) -> bool {
        let (Some(free_since), Some(state)) = (self.free_since, self.file.state.shown()) else {
            return false;
        };
        let until = File::kept_until(state, free_since);
        // Only a message makes a difference, so only what a message may have waits for the log.
        if !self.is_ready() {
            return until < now;
        }
        let Some(read_until) = read_until.map(|read| read.min(now)) else { return false };
        let is_given_up = self.discarded_at.is_some_and(|at| at.max(free_since) < read_until) && !is_offered;
        until < read_until || is_given_up
    }

    /// Returns whether its upload can write no more at `now`.
    fn is_uploaded(&self, now: DateTime<Utc>) -> bool {
        self.upload_until.is_none_or(|until| until < now - UPLOAD_SLACK)
    }
}

impl Tables {
    fn kept_bytes(&self, is_counted: impl Fn(&File) -> bool) -> i64 {
        let counted = self.files.values().filter(|row| is_counted(&row.file));
        counted.map(|row| row.kept_bytes).sum()
    }

    /// The moment up to which all partitions were read; `None` while one never was.
    fn read_until(&self) -> Option<DateTime<Utc>> {
        let all: Option<Vec<_>> = self.positions.values().map(|position| position.caught_up_at).collect();
        all?.into_iter().min()
    }

    /// Notes for each of these files whether a message has it.
    fn refer(&mut self, file_ids: BTreeSet<FileId>, now: DateTime<Utc>) {
        for file_id in file_ids {
            let is_attached = self.attachments.keys().any(|(.., of)| *of == file_id);
            if let Some(row) = self.files.get_mut(&file_id) {
                row.free_since = if is_attached { None } else { row.free_since.or(Some(now)) };
            }
        }
    }

    /// Removes attachments, the offers of their files to the same chats, and notes which files are free then.
    fn detach(&mut self, now: DateTime<Utc>, is_gone: impl Fn(&(ChatId, i64, FileId), &Attachment) -> bool) {
        let gone: Vec<_> = self
            .attachments
            .iter()
            .filter(|(key, attachment)| is_gone(key, attachment))
            .map(|(key, _)| *key)
            .collect();
        for key in &gone {
            let (chat, _, file) = *key;
            self.attachments.remove(key);
            self.offers.remove(&(file, chat));
        }
        self.refer(gone.into_iter().map(|(.., file)| file).collect(), now);
    }

    /// Notes which file is the picture of a user or a chat, if any.
    fn picture(
        &mut self,
        purpose: FilePurpose,
        owner: Option<UserId>,
        now: DateTime<Utc>,
        picture: Option<FileId>,
    ) {
        // One that is being checked is the picture, unless it is refused then.
        let is_checked = |state: &State| matches!(state, State::Processing | State::Ready(_));
        for (file_id, row) in &mut self.files {
            let is_of = row.file.purpose == purpose && owner.is_none_or(|owner| row.file.owner == owner);
            if is_of && Some(*file_id) == picture && is_checked(&row.file.state) {
                row.free_since = None;
            } else if is_of {
                row.free_since = row.free_since.or(Some(now));
            }
        }
    }

    fn apply(&mut self, change: &Change, now: DateTime<Utc>) {
        match change {
            Change::Attached(Attached { chat, seq, sender, files, expires_at }) => {
                let there = files.iter().filter(|file| {
                    self.files.get(file).is_some_and(|row| !matches!(row.file.state, State::Removing))
                });
                let there: BTreeSet<FileId> = there.copied().collect();
                for file in &there {
                    let attachment = Attachment { sender: *sender, expires_at: *expires_at };
                    self.attachments.insert((*chat, *seq, *file), attachment);
                    // The message says from here on who may read it, and up to when: an offer would outlast one that disappears.
                    self.offers.remove(&(*file, *chat));
                }
                self.refer(there, now);
            }
            Change::Detached { chat, seq } => self.detach(now, |(of, at, _), _| of == chat && at == seq),
            Change::RangeDetached { chat, range, sender } => self.detach(now, |(of, at, _), attachment| {
                of == chat && range.contains(*at) && sender.is_none_or(|sender| attachment.sender == sender)
            }),
            Change::Pictured { chat, picture } => {
                self.picture(FilePurpose::ChatPicture(*chat), None, now, *picture);
            }
            Change::ChatDeleted { chat } => {
                self.detach(now, |(of, ..), _| of == chat);
                self.offers.retain(|(_, of), _| of != chat);
                self.picture(FilePurpose::ChatPicture(*chat), None, now, None);
            }
        }
    }

    /// Gives a file up: removes one that no message may have, and notes of another one when it was.
    fn give_up(&mut self, file_id: FileId, now: DateTime<Utc>) {
        let Some(row) = self.files.get_mut(&file_id) else { return };
        if row.is_ready() && row.file.purpose != FilePurpose::Avatar {
            row.discarded_at.get_or_insert(now);
        } else {
            self.remove(file_id);
        }
    }

    /// Begins the removal of a file. Nothing refers to it from here on.
    fn remove(&mut self, file_id: FileId) {
        if let Some(row) = self.files.get_mut(&file_id) {
            row.file.state = State::Removing;
            row.upload_until = row.upload_until.max(row.claimed_until.take());
        }
        self.offers.retain(|(file, _), _| *file != file_id);
    }
}

impl MemoryStore {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, file_id: FileId, change: impl FnOnce(&mut Row) -> T) -> Option<T> {
        self.tables().files.get_mut(&file_id).map(change)
    }
}

#[async_trait]
impl FileStore for MemoryStore {
    async fn create(
        &self,
        new: &NewFile,
        quotas: &Quotas,
        upload_until: DateTime<Utc>,
    ) -> Result<Created, StoreError> {
        let mut tables = self.tables();
        let digest = new.digest();
        let is_repeated = |row: &&Row| {
            row.file.owner == new.owner
                && new.key.is_some()
                && row.request.0 == new.key
                && row.file.state != State::Removing
        };
        if let Some(row) = tables.files.values().find(is_repeated) {
            return match row.request.1 == digest {
                true => Ok(Created { file: row.file.clone(), is_new: false }),
                false => Err(Refusal::KeyReused.into()),
            };
        }
        let bytes = new.declared.bytes;
        if bytes > quotas.file_bytes {
            return Err(Refusal::FileTooLarge(quotas.file_bytes).into());
        }
        let is_free = |row: &&Row| {
            row.file.owner == new.owner && (row.free_since.is_some() || row.file.state == State::Removing)
        };
        if tables.files.values().filter(is_free).count() as i64 >= MAX_FREE_FILES {
            return Err(Refusal::TooManyFree.into());
        }
        if tables.kept_bytes(|file| file.owner == new.owner) + bytes > quotas.user_bytes {
            return Err(Refusal::UserFull(quotas.user_bytes).into());
        }
        if tables.kept_bytes(|_| true) + bytes > quotas.tenant_bytes {
            return Err(Refusal::TenantFull.into());
        }
        let row = Row {
            file: new.file(),
            request: (new.key.clone(), digest),
            kept_bytes: bytes,
            claimed_until: None,
            attempts: 0,
            upload_until: Some(upload_until),
            is_emptied: false,
            free_since: Some(new.created_at),
            discarded_at: None,
        };
        tables.files.insert(new.file_id, row);
        Ok(Created { file: new.file(), is_new: true })
    }

    async fn file(&self, file_id: FileId) -> Result<Option<File>, StoreError> {
        Ok(self.tables().files.get(&file_id).map(|row| row.file.clone()))
    }

    async fn set_multipart(&self, file_id: FileId, multipart_id: &str) -> Result<Option<String>, StoreError> {
        let set = self.change(file_id, |row| {
            let is_pending = row.file.state == State::Pending;
            is_pending.then(|| row.file.multipart_id.get_or_insert_with(|| multipart_id.to_owned()).clone())
        });
        Ok(set.flatten())
    }

    async fn extend_upload(&self, file_id: FileId, until: DateTime<Utc>) -> Result<bool, StoreError> {
        let extended = self.change(file_id, |row| {
            let is_pending = row.file.state == State::Pending;
            if is_pending {
                row.upload_until = row.upload_until.max(Some(until));
            }
            is_pending
        });
        Ok(extended.unwrap_or(false))
    }

    async fn begin(&self, file_id: FileId, at: DateTime<Utc>) -> Result<bool, StoreError> {
        let begun = self.change(file_id, |row| {
            let is_pending = row.file.state == State::Pending;
            if is_pending {
                row.file.state = State::Processing;
                row.claimed_until = Some(at);
            }
            is_pending
        });
        Ok(begun.unwrap_or(false))
    }

    async fn claim(&self, now: DateTime<Utc>, until: DateTime<Utc>) -> Result<Option<Claimed>, StoreError> {
        let mut tables = self.tables();
        let mut claims = HashMap::<UserId, i64>::new();
        let in_processing = || tables.files.values().filter(|row| row.file.state == State::Processing);
        for row in in_processing().filter(|row| row.claimed_until > Some(now)) {
            *claims.entry(row.file.owner).or_default() += 1;
        }
        let is_claimable = |row: &&Row| {
            let claims = claims.get(&row.file.owner).copied().unwrap_or(0);
            row.claimed_until <= Some(now) && claims < MAX_CLAIMS
        };
        let first = in_processing().filter(is_claimable).min_by_key(|row| row.claimed_until);
        let file_id = first.map(|row| row.file.file_id);
        let claimed = file_id.and_then(|file_id| tables.files.get_mut(&file_id));
        Ok(claimed.map(|row| {
            row.claimed_until = Some(until);
            row.attempts += 1;
            Claimed { file: row.file.clone(), attempts: row.attempts }
        }))
    }

    async fn give_claim_back(
        &self,
        file_id: FileId,
        again_at: DateTime<Utc>,
        is_counted: bool,
    ) -> Result<(), StoreError> {
        self.change(file_id, |row| {
            if row.file.state == State::Processing {
                row.claimed_until = Some(again_at);
                row.attempts -= i32::from(!is_counted);
            }
        });
        Ok(())
    }

    async fn finish(
        &self,
        file_id: FileId,
        outcome: &Outcome,
        now: DateTime<Utc>,
    ) -> Result<Option<File>, StoreError> {
        let mut tables = self.tables();
        let Some(row) = tables.files.get_mut(&file_id) else { return Ok(None) };
        if row.file.state != State::Processing {
            return Ok(Some(row.file.clone()));
        }
        row.file.state = outcome.clone().into();
        row.kept_bytes = outcome.charged_bytes(row.file.declared.bytes);
        row.claimed_until = None;
        if !row.is_ready() {
            row.free_since.get_or_insert(now);
        }
        let file = row.file.clone();
        if file.purpose == FilePurpose::Avatar && matches!(file.state, State::Ready(_)) {
            tables.picture(FilePurpose::Avatar, Some(file.owner), now, Some(file_id));
        }
        Ok(Some(file))
    }

    async fn readers(
        &self,
        file_id: FileId,
        now: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Readers>, StoreError> {
        let tables = self.tables();
        let attached = tables.attachments.iter().filter(|((.., file), attachment)| {
            *file == file_id && attachment.expires_at.is_none_or(|expires_at| now < expires_at)
        });
        let offered = tables.offers.iter().filter(|((file, _), until)| *file == file_id && now < **until);
        // In the order of their seqs: the last one stays.
        let attached = attached.map(|((chat, seq, _), _)| (*chat, Some(*seq)));
        let offered = offered.map(|((_, chat), _)| (*chat, None));
        let last: BTreeMap<ChatId, Option<i64>> = attached.chain(offered).collect();
        Ok(last.into_iter().take(limit).map(|(chat, seq)| Readers { chat, seq }).collect())
    }

    async fn offer(
        &self,
        file_ids: &[FileId],
        owner: UserId,
        chat_id: ChatId,
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Offered, StoreError> {
        let mut tables = self.tables();
        let mut files = Vec::with_capacity(file_ids.len());
        for file_id in file_ids {
            let row = tables.files.get(file_id).filter(|row| {
                let is_for_chat = row.file.purpose == FilePurpose::Chat(chat_id) && row.file.owner == owner;
                is_for_chat && row.is_ready() && row.discarded_at.is_none()
            });
            let Some(row) = row else { return Ok(Offered::NotFound(*file_id)) };
            files.push(row.file.clone());
        }
        for file_id in file_ids {
            if let Some(row) = tables.files.get_mut(file_id) {
                row.free_since = row.free_since.map(|since| since.max(now));
            }
            tables.offers.insert((*file_id, chat_id), until);
        }
        Ok(Offered::Files(files))
    }

    async fn avatars(&self, users: &[UserId]) -> Result<Vec<File>, StoreError> {
        let tables = self.tables();
        let is_avatar = |row: &&Row| {
            users.contains(&row.file.owner)
                && row.file.purpose == FilePurpose::Avatar
                && row.free_since.is_none()
                && row.is_ready()
        };
        Ok(tables.files.values().filter(is_avatar).map(|row| row.file.clone()).collect())
    }

    async fn discard(
        &self,
        file_id: FileId,
        owner: UserId,
        now: DateTime<Utc>,
    ) -> Result<Discarded, StoreError> {
        let mut tables = self.tables();
        let found = tables.files.get(&file_id).filter(|row| row.file.owner == owner);
        let Some(row) = found else { return Ok(Discarded::NotFound) };
        if row.file.state == State::Removing {
            return Ok(Discarded::Begun);
        }
        if row.free_since.is_none() && row.file.purpose != FilePurpose::Avatar {
            return Ok(Discarded::InUse);
        }
        tables.give_up(file_id, now);
        Ok(Discarded::Begun)
    }

    async fn collect(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<File>, StoreError> {
        let mut tables = self.tables();
        let read_until = tables.read_until();
        let collectable = tables.files.values().filter(|row| {
            let is_offered =
                tables.offers.iter().any(|((file, _), until)| *file == row.file.file_id && now < *until);
            row.is_collectable(now, read_until, is_offered)
        });
        let collectable: Vec<_> = collectable.take(limit).map(|row| row.file.file_id).collect();
        collectable.into_iter().for_each(|file_id| tables.remove(file_id));
        let removing = tables
            .files
            .values()
            .filter(|row| row.file.state == State::Removing && (!row.is_emptied || row.is_uploaded(now)));
        Ok(removing.take(limit).map(|row| row.file.clone()).collect())
    }

    async fn forget(&self, file_id: FileId, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let found = tables.files.get_mut(&file_id).filter(|row| row.file.state == State::Removing);
        let Some(row) = found else { return Ok(false) };
        row.is_emptied = true;
        let is_forgotten = row.is_uploaded(now);
        if is_forgotten {
            tables.files.remove(&file_id);
        }
        Ok(is_forgotten)
    }

    async fn uploaded(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<File>, StoreError> {
        let tables = self.tables();
        let is_done = |row: &&Row| {
            row.upload_until.is_some()
                && row.is_uploaded(now)
                && matches!(row.file.state, State::Ready(_) | State::Refused(_) | State::Quarantined)
        };
        Ok(tables.files.values().filter(is_done).take(limit).map(|row| row.file.clone()).collect())
    }

    async fn forget_upload(&self, file_id: FileId) -> Result<(), StoreError> {
        self.change(file_id, |row| {
            if let Some(outcome) = row.file.state.outcome() {
                row.upload_until = None;
                row.kept_bytes = outcome.kept_bytes(row.file.declared.bytes);
            }
        });
        Ok(())
    }

    async fn expire(&self, now: DateTime<Utc>, _: usize) -> Result<bool, StoreError> {
        let is_past = |_: &(ChatId, i64, FileId), attachment: &Attachment| {
            attachment.expires_at.is_some_and(|expires_at| expires_at <= now)
        };
        let mut tables = self.tables();
        tables.detach(now, is_past);
        tables.offers.retain(|_, until| now < *until);
        Ok(false)
    }

    async fn positions(&self, partitions: &[i32]) -> Result<HashMap<i32, Option<i64>>, StoreError> {
        let mut tables = self.tables();
        let mut next = |partition: i32| tables.positions.entry(partition).or_default().next_offset;
        Ok(partitions.iter().map(|partition| (*partition, next(*partition))).collect())
    }

    async fn apply(
        &self,
        partition: i32,
        next_offset: i64,
        changes: &[Change],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        for change in changes {
            tables.apply(change, now);
        }
        tables.positions.entry(partition).or_default().next_offset = Some(next_offset);
        Ok(())
    }

    async fn caught_up(&self, partition: i32, at: DateTime<Utc>) -> Result<(), StoreError> {
        self.tables().positions.entry(partition).or_default().caught_up_at = Some(at);
        Ok(())
    }

    async fn erase(&self, user_id: UserId, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let is_erased = |row: &&Row| {
            row.file.owner == user_id
                && row.file.state != State::Removing
                && row.discarded_at.is_none()
                && (row.free_since.is_some() || row.file.purpose == FilePurpose::Avatar)
        };
        let erased: Vec<_> = tables.files.values().filter(is_erased).map(|row| row.file.file_id).collect();
        erased.iter().for_each(|file_id| tables.give_up(*file_id, now));
        Ok(erased.len() as u64)
    }

    fn deletions_position(&self) -> deletions::Position {
        self.tables().deletions_position.clone()
    }

    async fn used_bytes(&self) -> Result<i64, StoreError> {
        Ok(self.tables().kept_bytes(|_| true))
    }
}
