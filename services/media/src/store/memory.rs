//! The store of `posthouse dev`, and of the tests of the API.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use contracts::{ChatId, FileId, UserId, api::FilePurpose};
use kit::idempotency::IdempotencyKey;
use tonic::async_trait;

use super::{Created, Discarded, FileStore, Refusal, StoreError};
use crate::domain::{Attached, Change, Checksum, File, MAX_FREE_FILES, NewFile, Outcome, Quotas, State};

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
    deletions_position: Option<String>,
}

struct Row {
    file: File,
    request: (Option<IdempotencyKey>, Checksum),
    kept_bytes: i64,
    claimed_until: Option<DateTime<Utc>>,
    upload_until: Option<DateTime<Utc>>,
    free_since: Option<DateTime<Utc>>,
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
    /// Returns whether its removal may begin at `now`. `read_until` is the moment up to which the log is read for sure.
    fn is_collectable(&self, now: DateTime<Utc>, read_until: Option<DateTime<Utc>>) -> bool {
        let (Some(free_since), Some(state)) = (self.free_since, self.file.state.shown()) else {
            return false;
        };
        let until = File::kept_until(state, free_since);
        // Only a message makes a difference, so only what a message may have waits for the log.
        let waits_for_log = matches!(self.file.state, State::Ready(_));
        until < now && (!waits_for_log || read_until.is_some_and(|read| until < read))
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
        for (file_id, row) in &mut self.files {
            let is_of = row.file.purpose == purpose && owner.is_none_or(|owner| row.file.owner == owner);
            if is_of && Some(*file_id) == picture && matches!(row.file.state, State::Ready(_)) {
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

    /// Begins the removal of a file. Nothing refers to it from here on.
    fn remove(&mut self, file_id: FileId) {
        if let Some(row) = self.files.get_mut(&file_id) {
            row.file.state = State::Removing;
            row.claimed_until = None;
        }
        self.offers.retain(|(file, _), _| *file != file_id);
        self.attachments.retain(|(.., file), _| *file != file_id);
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
        let free =
            tables.files.values().filter(|row| row.file.owner == new.owner && row.free_since.is_some());
        if free.filter(|row| row.file.state != State::Removing).count() as i64 >= MAX_FREE_FILES {
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
            upload_until: Some(upload_until),
            free_since: Some(new.created_at),
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

    async fn extend_upload(&self, file_id: FileId, until: DateTime<Utc>) -> Result<(), StoreError> {
        self.change(file_id, |row| row.upload_until = row.upload_until.max(Some(until)));
        Ok(())
    }

    async fn begin(&self, file_id: FileId, claimed_until: DateTime<Utc>) -> Result<bool, StoreError> {
        let begun = self.change(file_id, |row| {
            let is_pending = row.file.state == State::Pending;
            if is_pending {
                row.file.state = State::Processing;
                row.claimed_until = Some(claimed_until);
            }
            is_pending
        });
        Ok(begun.unwrap_or(false))
    }

    async fn claim(&self, now: DateTime<Utc>, until: DateTime<Utc>) -> Result<Option<File>, StoreError> {
        let mut tables = self.tables();
        let is_unclaimed =
            |row: &&mut Row| row.file.state == State::Processing && row.claimed_until < Some(now);
        let claimed = tables.files.values_mut().find(is_unclaimed);
        Ok(claimed.map(|row| {
            row.claimed_until = Some(until);
            row.file.clone()
        }))
    }

    async fn keep_claim(&self, file_id: FileId, until: DateTime<Utc>) -> Result<(), StoreError> {
        self.change(file_id, |row| {
            if row.file.state == State::Processing {
                row.claimed_until = Some(until);
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
        row.kept_bytes = outcome.kept_bytes(row.file.declared.bytes);
        row.claimed_until = None;
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
    ) -> Result<Vec<ChatId>, StoreError> {
        let tables = self.tables();
        let attached = tables.attachments.iter().filter(|((.., file), attachment)| {
            *file == file_id && attachment.expires_at.is_none_or(|expires_at| now < expires_at)
        });
        let offered = tables.offers.iter().filter(|((file, _), until)| *file == file_id && now < **until);
        let attached = attached.map(|((chat, ..), _)| *chat);
        let chats: BTreeSet<ChatId> = attached.chain(offered.map(|((_, chat), _)| *chat)).collect();
        Ok(chats.into_iter().take(limit).collect())
    }

    async fn offer(
        &self,
        file_ids: &[FileId],
        chat_id: ChatId,
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        for file_id in file_ids {
            if let Some(row) = tables.files.get_mut(file_id) {
                row.free_since = row.free_since.map(|since| since.max(now));
                tables.offers.insert((*file_id, chat_id), until);
            }
        }
        Ok(())
    }

    async fn avatar(&self, user_id: UserId) -> Result<Option<File>, StoreError> {
        let tables = self.tables();
        let is_avatar = |row: &&Row| {
            row.file.owner == user_id
                && row.file.purpose == FilePurpose::Avatar
                && row.free_since.is_none()
                && matches!(row.file.state, State::Ready(_))
        };
        Ok(tables.files.values().find(is_avatar).map(|row| row.file.clone()))
    }

    async fn discard(&self, file_id: FileId, owner: UserId) -> Result<Discarded, StoreError> {
        let mut tables = self.tables();
        let found = tables.files.get(&file_id).filter(|row| row.file.owner == owner);
        let Some(row) = found else { return Ok(Discarded::NotFound) };
        if row.free_since.is_none() && row.file.purpose != FilePurpose::Avatar {
            return Ok(Discarded::InUse);
        }
        tables.remove(file_id);
        Ok(Discarded::Begun)
    }

    async fn collect(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<File>, StoreError> {
        let mut tables = self.tables();
        let read_until = tables.read_until();
        let collectable = tables.files.values().filter(|row| row.is_collectable(now, read_until));
        let collectable: Vec<_> = collectable.take(limit).map(|row| row.file.file_id).collect();
        collectable.into_iter().for_each(|file_id| tables.remove(file_id));
        let removing = tables.files.values().filter(|row| row.file.state == State::Removing);
        Ok(removing.take(limit).map(|row| row.file.clone()).collect())
    }

    async fn forget(&self, file_id: FileId) -> Result<(), StoreError> {
        let mut tables = self.tables();
        tables.remove(file_id);
        tables.files.remove(&file_id);
        Ok(())
    }

    async fn uploaded(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<File>, StoreError> {
        let tables = self.tables();
        let is_done = |row: &&Row| {
            row.upload_until.is_some_and(|until| until < now)
                && matches!(row.file.state, State::Ready(_) | State::Refused(_) | State::Quarantined)
        };
        Ok(tables.files.values().filter(is_done).take(limit).map(|row| row.file.clone()).collect())
    }

    async fn forget_upload(&self, file_id: FileId) -> Result<(), StoreError> {
        self.change(file_id, |row| row.upload_until = None);
        Ok(())
    }

    async fn expire(&self, now: DateTime<Utc>, _: usize) -> Result<bool, StoreError> {
        let is_past = |_: &(ChatId, i64, FileId), attachment: &Attachment| {
            attachment.expires_at.is_some_and(|expires_at| expires_at <= now)
        };
        self.tables().detach(now, is_past);
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

    async fn erase(&self, user_id: UserId, _: DateTime<Utc>) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let is_erased = |row: &&Row| {
            row.file.owner == user_id
                && row.file.state != State::Removing
                && (row.free_since.is_some() || row.file.purpose == FilePurpose::Avatar)
        };
        let erased: Vec<_> = tables.files.values().filter(is_erased).map(|row| row.file.file_id).collect();
        erased.iter().for_each(|file_id| tables.remove(*file_id));
        Ok(erased.len() as u64)
    }

    async fn deletions_position(&self) -> Result<Option<String>, StoreError> {
        Ok(self.tables().deletions_position.clone())
    }

    async fn set_deletions_position(&self, position: &str) -> Result<(), StoreError> {
        self.tables().deletions_position = Some(position.to_owned());
        Ok(())
    }

    async fn used_bytes(&self) -> Result<i64, StoreError> {
        Ok(self.tables().kept_bytes(|_| true))
    }
}
