//! One suite for every store.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ChatId, FileId, UserId,
    api::{CreateFileRequest, FilePurpose, FileRefusal},
    event::SeqRange,
};
use kit::{
    idempotency::IdempotencyKey,
    testing::{TestDatabase, wait_for},
};
use media::{
    domain::{
        Attached, Change, FREE_HOURS, Facts, File, MAX_FREE_FILES, MediaType, NewFile, Outcome,
        QUARANTINE_DAYS, Quotas, Readers, State, Thumbnail, UPLOAD_SLACK,
    },
    store::{Discarded, FileStore, MemoryStore, Offered, PostgresStore, Refusal, SCHEMA, StoreError},
};
use sqlx::PgPool;

use super::stand::PATIENCE;

type Store = Arc<dyn FileStore>;

kit::on_both_stores![
    a_file_is_kept_as_it_was_created,
    a_key_creates_one_file,
    quotas_hold_whatever_happens_at_once,
    a_user_has_a_limited_number_of_free_files,
    what_is_being_removed_counts_as_free,
    a_file_is_checked_by_one_process_at_a_time,
    what_a_file_takes_follows_its_check,
    what_is_removed_counts_until_its_upload_can_write_no_more,
    readers_follow_messages,
    readers_are_those_who_read_the_last_message_of_a_chat,
    a_deleted_range_takes_the_files_of_its_sender,
    files_of_texts_that_disappear_go_at_their_time,
    a_chat_has_one_picture,
    a_user_has_one_picture,
    an_offer_lasts_for_its_time_and_starts_the_day_again,
    what_is_free_is_collected_once_the_log_is_read,
    a_file_in_use_is_not_discarded,
    what_is_given_up_goes_once_no_message_can_have_it,
    only_what_is_ready_and_ones_own_is_offered,
    a_file_that_is_removed_stays_until_its_upload_can_write_no_more,
    a_file_that_is_checked_while_it_is_removed_stays_until_the_check_has_ended,
    files_that_wait_are_checked_in_their_order_and_no_user_takes_every_turn,
    a_picture_that_a_chat_has_before_its_check_ends_stays,
    a_file_that_one_chat_gets_while_another_loses_it_is_in_use,
    a_chat_with_any_number_of_files_is_deleted,
    an_upload_is_forgotten_after_its_requests,
    positions_are_kept_by_partition,
    an_account_takes_what_no_message_has,
];

/// Returns a database with the tables of this service.
async fn database() -> (TestDatabase, PgPool) {
    let database = TestDatabase::create().await;
    SCHEMA.migrate(&database.args()).await.expect("the migrations apply");
    let pool = SCHEMA.pool(&database.args());
    (database, pool)
}

const QUOTAS: Quotas = Quotas { tenant_bytes: 1_500, user_bytes: 1_000, file_bytes: 600 };

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 0).expect("a moment")
}

fn hours(hours: i64) -> DateTime<Utc> {
    at(0) + TimeDelta::hours(hours)
}

fn new(owner: UserId, purpose: FilePurpose, size: i64, key: Option<&str>) -> NewFile {
    let request = CreateFileRequest {
        purpose,
        name: "two cats.jpg".to_owned(),
        media_type: "image/jpeg".to_owned(),
        size,
        sha256: Some("0f".repeat(32)),
    };
    let key = key.map(|key| IdempotencyKey::parse(key).expect("a key"));
    NewFile::parse(FileId::generate(), owner, &request, key, at(0)).expect("a new file")
}

async fn add(store: &Store, owner: UserId, purpose: FilePurpose) -> FileId {
    let new = new(owner, purpose, 10, None);
    store.create(&new, &QUOTAS, at(900)).await.expect("a file");
    new.file_id
}

fn facts(bytes: i64) -> Facts {
    let media_type = MediaType::of("image/webp");
    let thumbnail = Some(Thumbnail { media_type: media_type.clone(), bytes: 2 });
    let (width, height) = (Some(640), Some(480));
    Facts { media_type, bytes, width, height, duration_ms: Some(7), blur: Some("abc".to_owned()), thumbnail }
}

/// Adds a file that is ready.
async fn ready(store: &Store, owner: UserId, purpose: FilePurpose) -> FileId {
    let file_id = add(store, owner, purpose).await;
    assert!(store.begin(file_id, at(0)).await.expect("it begins"));
    store.finish(file_id, &Outcome::Ready(facts(8)), at(1)).await.expect("it is checked");
    file_id
}

async fn file(store: &Store, file_id: FileId) -> Option<File> {
    store.file(file_id).await.expect("a read")
}

async fn apply(store: &Store, change: Change) {
    store.apply(0, 1, &[change], at(10)).await.expect("it is applied");
}

fn attached(chat: ChatId, seq: i64, sender: UserId, files: &[FileId]) -> Change {
    Change::Attached(Attached { chat, seq, sender, files: files.to_vec(), expires_at: None })
}

async fn readers(store: &Store, file_id: FileId) -> Vec<ChatId> {
    let readers = store.readers(file_id, at(20), 10).await.expect("a read");
    readers.into_iter().map(|readers| readers.chat).collect()
}

async fn collected(store: &Store, now: DateTime<Utc>) -> Vec<FileId> {
    let files = store.collect(now, 100).await.expect("a round");
    for file in &files {
        assert_eq!(file.state, State::Removing);
        store.forget(file.file_id, now).await.expect("an answer");
    }
    files.into_iter().map(|file| file.file_id).collect()
}

/// Notes that the log, which has one partition, was read up to a moment.
async fn read_until(store: &Store, moment: DateTime<Utc>) {
    store.positions(&[0]).await.expect("positions");
    store.caught_up(0, moment).await.expect("it is noted");
}

/// Offers a file, and returns whether it is one that can be.
async fn offered(
    store: &Store,
    file_id: FileId,
    owner: UserId,
    chat: ChatId,
    until: DateTime<Utc>,
    now: DateTime<Utc>,
) -> bool {
    match store.offer(&[file_id], owner, chat, until, now).await.expect("an answer") {
        Offered::Files(files) => files.first().is_some_and(|file| file.file_id == file_id),
        Offered::NotFound(missing) => {
            assert_eq!(missing, file_id);
            false
        }
    }
}

fn refused<T>(outcome: Result<T, StoreError>) -> Option<Refusal> {
    match outcome {
        Err(StoreError::Refused(refusal)) => Some(refusal),
        Ok(_) | Err(_) => None,
    }
}

async fn a_file_is_kept_as_it_was_created(store: Store) {
    let (ann, chat) = (UserId::generate(), ChatId::generate());
    for purpose in [FilePurpose::Chat(chat), FilePurpose::ChatPicture(chat), FilePurpose::Avatar] {
        let new = new(ann, purpose, 10, None);
        let created = store.create(&new, &QUOTAS, at(900)).await.expect("a file");
        assert!(created.is_new);
        assert_eq!(created.file, new.file());
        assert_eq!(file(&store, new.file_id).await, Some(new.file()));
    }
    assert_eq!(file(&store, FileId::generate()).await, None);
    let file_id = add(&store, ann, FilePurpose::Chat(chat)).await;
    for upload in ["first", "second"] {
        let set = store.set_multipart(file_id, upload).await.expect("it is set");
        assert_eq!(set.as_deref(), Some("first"));
    }
    assert_eq!(file(&store, file_id).await.and_then(|file| file.multipart_id).as_deref(), Some("first"));
    store.begin(file_id, at(0)).await.expect("it begins");
    assert_eq!(store.set_multipart(file_id, "third").await.expect("an answer"), None);
    store.finish(file_id, &Outcome::Ready(facts(8)), at(1)).await.expect("it is checked");
    assert_eq!(file(&store, file_id).await.map(|file| file.state), Some(State::Ready(facts(8))));
}

async fn a_key_creates_one_file(store: Store) {
    let (ann, ben) = (UserId::generate(), UserId::generate());
    let first = new(ann, FilePurpose::Avatar, 10, Some("key"));
    let create = async |new: &NewFile| store.create(new, &QUOTAS, at(900)).await;
    create(&first).await.expect("a file");
    let again = create(&new(ann, FilePurpose::Avatar, 10, Some("key"))).await.expect("the same file");
    assert_eq!((again.file.file_id, again.is_new), (first.file_id, false));
    let other = create(&new(ann, FilePurpose::Avatar, 11, Some("key"))).await;
    assert_eq!(refused(other), Some(Refusal::KeyReused));
    assert!(create(&new(ben, FilePurpose::Avatar, 10, Some("key"))).await.expect("a file").is_new);
    assert_eq!(store.used_bytes().await.expect("a number"), 20);
    assert_eq!(store.discard(first.file_id, ann, at(1)).await.expect("an answer"), Discarded::Begun);
    assert!(create(&new(ann, FilePurpose::Avatar, 11, Some("key"))).await.expect("a file").is_new);
}

async fn quotas_hold_whatever_happens_at_once(store: Store) {
    let (ann, ben) = (UserId::generate(), UserId::generate());
    let create = async |owner, size| {
        store.create(&new(owner, FilePurpose::Avatar, size, None), &QUOTAS, at(900)).await
    };
    assert_eq!(refused(create(ann, 601).await), Some(Refusal::FileTooLarge(600)));
    let tries = (0..8).map(|_| create(ann, 300));
    let created = futures_util::future::join_all(tries).await;
    let (taken, not): (Vec<_>, Vec<_>) = created.into_iter().partition(Result::is_ok);
    assert_eq!(taken.len(), 3);
    assert!(not.into_iter().all(|one| refused(one) == Some(Refusal::UserFull(1_000))));
    assert_eq!(refused(create(ann, 101).await), Some(Refusal::UserFull(1_000)));
    create(ann, 100).await.expect("it fits exactly");
    create(ben, 500).await.expect("likewise");
    assert_eq!(refused(create(ben, 1).await), Some(Refusal::TenantFull));
    assert_eq!(store.used_bytes().await.expect("a number"), 1_500);
}

async fn a_user_has_a_limited_number_of_free_files(store: Store) {
    let (ann, chat) = (UserId::generate(), ChatId::generate());
    let quotas = Quotas { tenant_bytes: 1 << 30, user_bytes: 1 << 30, file_bytes: 1 << 30 };
    let create = async || store.create(&new(ann, FilePurpose::Chat(chat), 1, None), &quotas, at(900)).await;
    let mut last = None;
    for _ in 0..MAX_FREE_FILES {
        last = Some(create().await.expect("a file").file.file_id);
    }
    assert_eq!(refused(create().await), Some(Refusal::TooManyFree));
    apply(&store, attached(chat, 1, ann, &[last.expect("a file")])).await;
    create().await.expect("a message has one of them");
}

async fn what_is_being_removed_counts_as_free(store: Store) {
    let ann = UserId::generate();
    let quotas = Quotas { tenant_bytes: 1 << 30, user_bytes: 1 << 30, file_bytes: 1 << 30 };
    let create = async || store.create(&new(ann, FilePurpose::Avatar, 1, None), &quotas, at(900)).await;
    for each in 0..MAX_FREE_FILES {
        let file_id = create().await.expect("a file").file.file_id;
        // One that was the picture of its user was never free.
        if each == 0 {
            store.begin(file_id, at(0)).await.expect("it begins");
            store.finish(file_id, &Outcome::Ready(facts(8)), at(1)).await.expect("it is checked");
        }
        assert_eq!(store.discard(file_id, ann, at(2)).await.expect("an answer"), Discarded::Begun);
    }
    assert_eq!(refused(create().await), Some(Refusal::TooManyFree));
    let late = at(901) + UPLOAD_SLACK;
    while !collected(&store, late).await.is_empty() {}
    create().await.expect("they are gone");
}

async fn a_file_is_checked_by_one_process_at_a_time(store: Store) {
    let file_id = add(&store, UserId::generate(), FilePurpose::Avatar).await;
    let claim = async |now| {
        let claimed = store.claim(at(now), at(now + 100)).await.expect("an answer");
        claimed.map(|claimed| claimed.file.file_id)
    };
    assert_eq!(claim(0).await, None, "it is not uploaded");
    assert!(store.begin(file_id, DateTime::UNIX_EPOCH).await.expect("it begins"));
    assert!(!store.begin(file_id, DateTime::UNIX_EPOCH).await.expect("it has begun"));
    assert_eq!(claim(1).await, Some(file_id));
    assert_eq!(claim(2).await, None);
    store.give_claim_back(file_id, at(50), true).await.expect("it is returned");
    assert_eq!(claim(49).await, None);
    assert_eq!(claim(51).await, Some(file_id), "the process is gone");
    store
        .finish(file_id, &Outcome::Refused(FileRefusal::DamagedPicture), at(60))
        .await
        .expect("it is checked");
    assert_eq!(claim(1_000).await, None);
    // The process was not gone, only slow: the first outcome stands.
    let late = store.finish(file_id, &Outcome::Ready(facts(8)), at(61)).await.expect("an answer");
    assert_eq!(late.map(|file| file.state), Some(State::Refused(FileRefusal::DamagedPicture)));
}

async fn what_a_file_takes_follows_its_check(store: Store) {
    let ann = UserId::generate();
    store.positions(&[0]).await.expect("positions");
    for (outcome, kept) in [
        (Outcome::Ready(facts(8)), 10),
        (Outcome::Ready(facts(120)), 122),
        (Outcome::Refused(FileRefusal::SizeMismatch), 0),
        (Outcome::Quarantined, 100),
    ] {
        let new = new(ann, FilePurpose::Chat(ChatId::generate()), 100, None);
        store.create(&new, &QUOTAS, at(900)).await.expect("a file");
        assert_eq!(store.used_bytes().await.expect("a number"), 100);
        store.begin(new.file_id, at(0)).await.expect("it begins");
        store.finish(new.file_id, &outcome, at(1)).await.expect("it is checked");
        // The request of its upload is good still, and writes as much once more.
        assert_eq!(store.used_bytes().await.expect("a number"), kept.max(100), "{outcome:?}");
        for _ in 0..2 {
            store.forget_upload(new.file_id).await.expect("it is forgotten");
            assert_eq!(store.used_bytes().await.expect("a number"), kept, "{outcome:?}");
        }
        store.discard(new.file_id, ann, at(2)).await.expect("an answer");
        // A file that is ready waits for the log, and any other for nothing.
        store.caught_up(0, at(3)).await.expect("it is noted");
        assert_eq!(collected(&store, at(10_000)).await, [new.file_id]);
        assert_eq!(store.used_bytes().await.expect("a number"), 0);
    }
}

async fn what_is_removed_counts_until_its_upload_can_write_no_more(store: Store) {
    let ann = UserId::generate();
    let (end, quotas) = (at(900) + UPLOAD_SLACK, Quotas { user_bytes: 250, ..QUOTAS });
    let used = async || store.used_bytes().await.expect("a number");
    read_until(&store, end).await;
    for outcome in [Outcome::Ready(facts(8)), Outcome::Refused(FileRefusal::DamagedPicture)] {
        let new = new(ann, FilePurpose::Avatar, 100, None);
        store.create(&new, &quotas, at(900)).await.expect("a file");
        store.begin(new.file_id, at(0)).await.expect("it begins");
        store.finish(new.file_id, &outcome, at(1)).await.expect("it is checked");
        assert_eq!(store.discard(new.file_id, ann, at(2)).await.expect("an answer"), Discarded::Begun);
    }
    assert_eq!(collected(&store, at(3)).await.len(), 2);
    assert_eq!(used().await, 200);
    let third = store.create(&new(ann, FilePurpose::Avatar, 100, None), &quotas, at(900)).await;
    assert_eq!(refused(third), Some(Refusal::UserFull(250)));
    assert_eq!(collected(&store, end + TimeDelta::seconds(1)).await.len(), 2);
    assert_eq!(used().await, 0);
}

async fn readers_follow_messages(store: Store) {
    let (ann, chats) = (UserId::generate(), [ChatId::generate(), ChatId::generate()]);
    let file_id = ready(&store, ann, FilePurpose::Chat(chats[0])).await;
    assert_eq!(readers(&store, file_id).await, []);
    // Of a file that is not there, nothing is kept.
    apply(&store, attached(chats[0], 1, ann, &[file_id, FileId::generate()])).await;
    apply(&store, attached(chats[0], 1, ann, &[file_id])).await;
    apply(&store, attached(chats[0], 2, ann, &[file_id])).await;
    assert_eq!(readers(&store, file_id).await, [chats[0]]);
    apply(&store, attached(chats[1], 1, ann, &[file_id])).await;
    assert_eq!(readers(&store, file_id).await.len(), 2);
    assert_eq!(store.readers(file_id, at(20), 1).await.expect("a read").len(), 1);
    apply(&store, Change::Detached { chat: chats[0], seq: 1 }).await;
    assert_eq!(readers(&store, file_id).await.len(), 2, "another message of the chat has it");
    apply(&store, Change::Detached { chat: chats[0], seq: 2 }).await;
    assert_eq!(readers(&store, file_id).await, [chats[1]]);
    apply(&store, Change::ChatDeleted { chat: chats[1] }).await;
    assert_eq!(readers(&store, file_id).await, []);
}

async fn readers_are_those_who_read_the_last_message_of_a_chat(store: Store) {
    let (ann, chat) = (UserId::generate(), ChatId::generate());
    let file_id = ready(&store, ann, FilePurpose::Chat(chat)).await;
    let last = async |now| {
        let readers = store.readers(file_id, at(now), 10).await.expect("a read");
        let [Readers { chat: of, seq }] = readers[..] else { panic!("{readers:?}") };
        assert_eq!(of, chat);
        seq
    };
    apply(&store, attached(chat, 3, ann, &[file_id])).await;
    apply(&store, attached(chat, 12, ann, &[file_id])).await;
    let expires_at = Some(at(100));
    let expiring = Attached { chat, seq: 20, sender: ann, files: vec![file_id], expires_at };
    apply(&store, Change::Attached(expiring)).await;
    assert_eq!(last(99).await, Some(20));
    assert_eq!(last(100).await, Some(12), "what has disappeared is read by nobody");
    // It is about to be sent again.
    assert!(offered(&store, file_id, ann, chat, at(200), at(20)).await);
    assert_eq!(last(150).await, None);
    assert_eq!(last(200).await, Some(12));
    apply(&store, attached(chat, 21, ann, &[file_id])).await;
    assert_eq!(last(150).await, Some(21));
    apply(&store, Change::Detached { chat, seq: 21 }).await;
    apply(&store, Change::Detached { chat, seq: 12 }).await;
    assert_eq!(last(150).await, Some(3));
}

async fn a_deleted_range_takes_the_files_of_its_sender(store: Store) {
    let (ann, ben, chat) = (UserId::generate(), UserId::generate(), ChatId::generate());
    let mut files = Vec::new();
    for (seq, sender) in [(1, ann), (2, ben), (3, ann), (4, ann)] {
        let file_id = ready(&store, sender, FilePurpose::Chat(chat)).await;
        apply(&store, attached(chat, seq, sender, &[file_id])).await;
        files.push(file_id);
    }
    let delete = async |from_seq, to_seq, sender| {
        let range = SeqRange { from_seq, to_seq };
        apply(&store, Change::RangeDetached { chat, range, sender }).await;
        let mut read = Vec::new();
        for file_id in &files {
            read.push(!readers(&store, *file_id).await.is_empty());
        }
        read
    };
    assert_eq!(delete(1, 3, Some(ann)).await, [false, true, false, true]);
    assert_eq!(delete(2, 3, None).await, [false, false, false, true]);
}

async fn files_of_texts_that_disappear_go_at_their_time(store: Store) {
    let (ann, chat) = (UserId::generate(), ChatId::generate());
    let file_id = ready(&store, ann, FilePurpose::Chat(chat)).await;
    let expires_at = Some(at(100));
    assert!(offered(&store, file_id, ann, chat, at(3_600), at(1)).await);
    let attached = Attached { chat, seq: 1, sender: ann, files: vec![file_id], expires_at };
    apply(&store, Change::Attached(attached)).await;
    let reads = async |now| !store.readers(file_id, at(now), 10).await.expect("a read").is_empty();
    assert!(reads(99).await);
    assert!(!reads(100).await, "before anything is removed, and though it was offered for longer");
    while store.expire(at(99), 10).await.expect("a round") {}
    assert!(reads(99).await);
    while store.expire(at(100), 10).await.expect("a round") {}
    assert!(!reads(99).await);
    assert_eq!(
        store.discard(file_id, ann, at(101)).await.expect("an answer"),
        Discarded::Begun,
        "it is free"
    );
}

async fn a_chat_has_one_picture(store: Store) {
    let (ann, chat) = (UserId::generate(), ChatId::generate());
    let purpose = FilePurpose::ChatPicture(chat);
    let (first, second) = (ready(&store, ann, purpose).await, ready(&store, ann, purpose).await);
    let other = ready(&store, ann, FilePurpose::ChatPicture(ChatId::generate())).await;
    let in_use = async |file_id| {
        let files = store.collect(hours(FREE_HOURS + 1), 100).await.expect("a round");
        !files.iter().any(|file| file.file_id == file_id)
    };
    apply(&store, Change::Pictured { chat, picture: Some(first) }).await;
    apply(&store, Change::Pictured { chat, picture: Some(second) }).await;
    // A file of another chat is no picture of this one.
    apply(&store, Change::Pictured { chat: ChatId::generate(), picture: Some(other) }).await;
    store.positions(&[0]).await.expect("positions");
    store.caught_up(0, hours(FREE_HOURS + 1)).await.expect("it is noted");
    assert!(in_use(second).await);
    assert!(!in_use(first).await);
    assert!(!in_use(other).await);
    assert_eq!(store.discard(second, ann, at(20)).await.expect("an answer"), Discarded::InUse);
    apply(&store, Change::Pictured { chat, picture: None }).await;
    assert_eq!(store.discard(second, ann, at(20)).await.expect("an answer"), Discarded::Begun);
}

async fn a_user_has_one_picture(store: Store) {
    let (ann, ben) = (UserId::generate(), UserId::generate());
    let avatars = async |users: &[UserId]| {
        let mut found: Vec<_> = store
            .avatars(users)
            .await
            .expect("a read")
            .iter()
            .map(|file| (file.owner, file.file_id))
            .collect();
        found.sort();
        found
    };
    let avatar = async |user| avatars(&[user]).await.first().map(|(_, file_id)| *file_id);
    assert_eq!(avatar(ann).await, None);
    let first = ready(&store, ann, FilePurpose::Avatar).await;
    assert_eq!(avatar(ann).await, Some(first));
    add(&store, ann, FilePurpose::Avatar).await;
    assert_eq!(avatar(ann).await, Some(first), "the next one is not uploaded yet");
    let second = ready(&store, ann, FilePurpose::Avatar).await;
    let of_ben = ready(&store, ben, FilePurpose::Avatar).await;
    assert_eq!(avatar(ann).await, Some(second));
    let mut both = vec![(ann, second), (ben, of_ben)];
    both.sort();
    assert_eq!(avatars(&[ben, UserId::generate(), ann]).await, both, "of those who have one");
    assert!(avatars(&[]).await.is_empty());
    assert_eq!(store.discard(second, ben, at(20)).await.expect("an answer"), Discarded::NotFound);
    assert_eq!(store.discard(second, ann, at(20)).await.expect("an answer"), Discarded::Begun);
    assert_eq!(avatar(ann).await, None);
}

async fn an_offer_lasts_for_its_time_and_starts_the_day_again(store: Store) {
    let (ann, chat) = (UserId::generate(), ChatId::generate());
    let file_id = ready(&store, ann, FilePurpose::Chat(chat)).await;
    let until = hours(20) + TimeDelta::seconds(60);
    assert!(offered(&store, file_id, ann, chat, until, hours(20)).await);
    let reads = async |now| store.readers(file_id, now, 10).await.expect("a read");
    assert_eq!(reads(hours(20)).await, [Readers { chat, seq: None }]);
    assert_eq!(reads(hours(20) + TimeDelta::seconds(60)).await, []);
    store.positions(&[0]).await.expect("positions");
    store.caught_up(0, hours(100)).await.expect("it is noted");
    assert_eq!(collected(&store, hours(FREE_HOURS + 19)).await, []);
    apply(&store, attached(chat, 1, ann, &[file_id])).await;
    apply(&store, Change::Detached { chat, seq: 1 }).await;
    assert_eq!(reads(hours(20)).await, [], "what is deleted is not offered any more");
}

async fn only_what_is_ready_and_ones_own_is_offered(store: Store) {
    let (ann, ben) = (UserId::generate(), UserId::generate());
    let (chat, other) = (ChatId::generate(), ChatId::generate());
    let first = ready(&store, ann, FilePurpose::Chat(chat)).await;
    let second = ready(&store, ann, FilePurpose::Chat(chat)).await;
    let until = at(100);
    for (owner, to) in [(ben, chat), (ann, other)] {
        assert!(!offered(&store, first, owner, to, until, at(10)).await);
    }
    let pending = add(&store, ann, FilePurpose::Chat(chat)).await;
    let picture = ready(&store, ann, FilePurpose::ChatPicture(chat)).await;
    for not in [pending, picture, FileId::generate()] {
        let both = store.offer(&[first, not], ann, chat, until, at(10)).await.expect("an answer");
        assert_eq!(both, Offered::NotFound(not));
    }
    assert_eq!(readers(&store, first).await, [], "all of them or none");
    match store.offer(&[second, first], ann, chat, until, at(10)).await.expect("an answer") {
        Offered::Files(files) => {
            let ids: Vec<_> = files.iter().map(|file| file.file_id).collect();
            assert_eq!(ids, [second, first], "as they were named");
        }
        Offered::NotFound(file_id) => panic!("{file_id} is not offered"),
    }
    assert_eq!(readers(&store, first).await, [chat]);
    assert_eq!(
        store.offer(&[], ann, chat, until, at(10)).await.expect("an answer"),
        Offered::Files(Vec::new())
    );
}

async fn what_is_free_is_collected_once_the_log_is_read(store: Store) {
    let (ann, chat) = (UserId::generate(), ChatId::generate());
    let free = ready(&store, ann, FilePurpose::Chat(chat)).await;
    let kept = ready(&store, ann, FilePurpose::Chat(chat)).await;
    let pending = add(&store, ann, FilePurpose::Chat(chat)).await;
    let found = add(&store, ann, FilePurpose::Chat(chat)).await;
    store.begin(found, at(0)).await.expect("it begins");
    store.finish(found, &Outcome::Quarantined, at(1)).await.expect("it is checked");
    apply(&store, attached(chat, 1, ann, &[kept])).await;
    store.positions(&[0, 1]).await.expect("positions");
    assert_eq!(collected(&store, hours(FREE_HOURS) - TimeDelta::seconds(1)).await, []);
    let late = hours(FREE_HOURS + 1);
    assert_eq!(collected(&store, late).await, [pending], "no message has what is not ready");
    store.caught_up(0, late).await.expect("it is noted");
    assert_eq!(collected(&store, late).await, [], "one partition was never read");
    store.caught_up(1, hours(FREE_HOURS - 1)).await.expect("it is noted");
    assert_eq!(collected(&store, late).await, [], "one is behind");
    store.caught_up(1, late).await.expect("it is noted");
    assert_eq!(collected(&store, late).await, [free]);
    assert_eq!(file(&store, free).await, None);
    assert_eq!(collected(&store, hours(24 * QUARANTINE_DAYS + 1)).await, [found]);
    assert!(file(&store, kept).await.is_some());
}

async fn a_file_in_use_is_not_discarded(store: Store) {
    let (ann, ben, chat) = (UserId::generate(), UserId::generate(), ChatId::generate());
    let file_id = ready(&store, ann, FilePurpose::Chat(chat)).await;
    let discard = async |user| store.discard(file_id, user, at(20)).await.expect("an answer");
    apply(&store, attached(chat, 1, ann, &[file_id])).await;
    assert_eq!(discard(ann).await, Discarded::InUse);
    assert_eq!(discard(ben).await, Discarded::NotFound);
    apply(&store, Change::Detached { chat, seq: 1 }).await;
    assert_eq!(discard(ann).await, Discarded::Begun);
    // A message that has it after all keeps it.
    apply(&store, attached(chat, 2, ann, &[file_id])).await;
    read_until(&store, at(30)).await;
    assert_eq!(collected(&store, at(40)).await, []);
    assert_eq!(readers(&store, file_id).await, [chat]);
    assert_eq!(discard(ann).await, Discarded::InUse);
    apply(&store, Change::Detached { chat, seq: 2 }).await;
    assert_eq!(collected(&store, at(40)).await, [file_id]);
    assert_eq!(discard(ann).await, Discarded::Begun, "it has begun before");
    // A record that comes now finds nothing.
    apply(&store, attached(chat, 3, ann, &[file_id])).await;
    assert_eq!(readers(&store, file_id).await, []);
    assert_eq!(collected(&store, at(10_000)).await, [file_id]);
    assert_eq!(discard(ann).await, Discarded::NotFound);
}

async fn what_is_given_up_goes_once_no_message_can_have_it(store: Store) {
    let (ann, ben, chat) = (UserId::generate(), UserId::generate(), ChatId::generate());
    let file_id = ready(&store, ann, FilePurpose::Chat(chat)).await;
    assert!(offered(&store, file_id, ann, chat, at(70), at(10)).await);
    read_until(&store, at(15)).await;
    assert_eq!(store.discard(file_id, ann, at(20)).await.expect("an answer"), Discarded::Begun);
    assert!(!offered(&store, file_id, ann, chat, at(80), at(21)).await, "no message gets it any more");
    assert_eq!(collected(&store, at(75)).await, [], "a message that was not read may have it");
    read_until(&store, at(21)).await;
    assert_eq!(collected(&store, at(69)).await, [], "a gateway may be sending it");
    assert_eq!(collected(&store, at(70)).await, [file_id]);
    // What is not ready is in no message.
    let pending = add(&store, ben, FilePurpose::Chat(chat)).await;
    assert_eq!(store.discard(pending, ben, at(90)).await.expect("an answer"), Discarded::Begun);
    assert_eq!(collected(&store, at(91)).await, [pending]);
}

async fn a_file_that_is_removed_stays_until_its_upload_can_write_no_more(store: Store) {
    let ann = UserId::generate();
    let file_id = add(&store, ann, FilePurpose::Avatar).await;
    assert!(store.extend_upload(file_id, at(1_000)).await.expect("an answer"));
    assert_eq!(store.discard(file_id, ann, at(5)).await.expect("an answer"), Discarded::Begun);
    assert!(!store.extend_upload(file_id, at(2_000)).await.expect("an answer"), "no request is signed");
    let in_removal = async |now| {
        let files = store.collect(now, 10).await.expect("a round");
        files.into_iter().map(|file| file.file_id).collect::<Vec<_>>()
    };
    assert_eq!(in_removal(at(6)).await, [file_id], "what was uploaded goes immediately");
    assert!(!store.forget(file_id, at(6)).await.expect("an answer"));
    let end = at(1_000) + UPLOAD_SLACK;
    assert_eq!(in_removal(end).await, []);
    assert_eq!(store.used_bytes().await.expect("a number"), 10);
    let late = end + TimeDelta::seconds(1);
    assert_eq!(in_removal(late).await, [file_id], "and what was uploaded since");
    assert!(store.forget(file_id, late).await.expect("an answer"));
    assert_eq!(store.used_bytes().await.expect("a number"), 0);
    assert_eq!(file(&store, file_id).await, None);
}

async fn a_file_that_is_checked_while_it_is_removed_stays_until_the_check_has_ended(store: Store) {
    let ann = UserId::generate();
    let file_id = add(&store, ann, FilePurpose::Avatar).await;
    store.begin(file_id, at(0)).await.expect("it begins");
    store.claim(at(1), at(1_800)).await.expect("an answer").expect("a file");
    store.discard(file_id, ann, at(5)).await.expect("an answer");
    assert!(!store.forget(file_id, at(1_000) + UPLOAD_SLACK).await.expect("an answer"));
    assert!(store.forget(file_id, at(1_801) + UPLOAD_SLACK).await.expect("an answer"));
}

async fn files_that_wait_are_checked_in_their_order_and_no_user_takes_every_turn(store: Store) {
    let (ann, ben) = (UserId::generate(), UserId::generate());
    let mut files = Vec::new();
    for (moment, owner) in [(4, ann), (1, ann), (2, ann), (3, ben)] {
        let file_id = add(&store, owner, FilePurpose::Avatar).await;
        assert!(store.begin(file_id, at(moment)).await.expect("it begins"));
        files.push(file_id);
    }
    let claim = async |now| {
        let claimed = store.claim(at(now), at(100)).await.expect("an answer");
        claimed.map(|claimed| (claimed.file.file_id, claimed.attempts))
    };
    assert_eq!(claim(10).await, Some((files[1], 1)));
    assert_eq!(claim(10).await, Some((files[2], 1)));
    assert_eq!(claim(10).await, Some((files[3], 1)), "two of Ann's are being checked");
    assert_eq!(claim(10).await, None);
    store.finish(files[1], &Outcome::Ready(facts(8)), at(11)).await.expect("it is checked");
    assert_eq!(claim(12).await, Some((files[0], 1)));
    // An attempt counts, unless the file has no part in its end.
    store.give_claim_back(files[2], at(20), false).await.expect("it is returned");
    assert_eq!(claim(19).await, None);
    assert_eq!(claim(20).await, Some((files[2], 1)));
    store.give_claim_back(files[2], at(20), true).await.expect("it is returned");
    assert_eq!(claim(20).await, Some((files[2], 2)));
    for checked in &files[2..] {
        store.finish(*checked, &Outcome::Ready(facts(8)), at(21)).await.expect("it is checked");
    }
    assert_eq!(claim(99).await, None);
    assert_eq!(claim(100).await, Some((files[0], 2)), "the process that had it is gone");
}

async fn a_picture_that_a_chat_has_before_its_check_ends_stays(store: Store) {
    let (ann, late) = (UserId::generate(), hours(FREE_HOURS + 1));
    read_until(&store, late).await;
    let outcomes = [Outcome::Ready(facts(8)), Outcome::Refused(FileRefusal::DamagedPicture)];
    let mut files = Vec::new();
    for outcome in outcomes {
        let chat = ChatId::generate();
        let file_id = add(&store, ann, FilePurpose::ChatPicture(chat)).await;
        assert!(store.begin(file_id, at(0)).await.expect("it begins"));
        apply(&store, Change::Pictured { chat, picture: Some(file_id) }).await;
        store.finish(file_id, &outcome, at(20)).await.expect("it is checked");
        files.push(file_id);
    }
    assert_eq!(collected(&store, late).await, [files[1]], "one that is refused is nobody's");
    assert_eq!(file(&store, files[0]).await.map(|file| file.state), Some(State::Ready(facts(8))));
}

async fn a_file_that_one_chat_gets_while_another_loses_it_is_in_use(store: Store) {
    let (ann, from, to) = (UserId::generate(), ChatId::generate(), ChatId::generate());
    let file_id = ready(&store, ann, FilePurpose::Chat(from)).await;
    for seq in 1..40 {
        apply(&store, attached(from, seq, ann, &[file_id])).await;
        let (loses, gets) = ([Change::Detached { chat: from, seq }], [attached(to, seq, ann, &[file_id])]);
        let (lost, got) =
            tokio::join!(store.apply(0, seq, &loses, at(10)), store.apply(1, seq, &gets, at(10)));
        lost.expect("it is applied");
        got.expect("it is applied");
        let discarded = store.discard(file_id, ann, at(20)).await.expect("an answer");
        assert_eq!(discarded, Discarded::InUse, "round {seq}");
        apply(&store, Change::Detached { chat: to, seq }).await;
    }
}

async fn a_chat_with_any_number_of_files_is_deleted(store: Store) {
    let (ann, chat, other) = (UserId::generate(), ChatId::generate(), ChatId::generate());
    let mut files = Vec::new();
    for _ in 0..10 {
        files.push(ready(&store, ann, FilePurpose::Chat(chat)).await);
    }
    // More than one transaction removes.
    let messages: Vec<_> = (1..=250).map(|seq| attached(chat, seq, ann, &files)).collect();
    store.apply(0, 251, &messages, at(10)).await.expect("it is applied");
    apply(&store, attached(other, 1, ann, &files[..1])).await;
    apply(&store, Change::ChatDeleted { chat }).await;
    assert_eq!(readers(&store, files[0]).await, [other]);
    for file_id in &files[1..] {
        assert_eq!(readers(&store, *file_id).await, []);
        assert_eq!(store.discard(*file_id, ann, at(20)).await.expect("an answer"), Discarded::Begun);
    }
}

async fn an_upload_is_forgotten_after_its_requests(store: Store) {
    let ann = UserId::generate();
    let file_id = add(&store, ann, FilePurpose::Avatar).await;
    for (until, is_pending) in [(1_000, true), (950, true), (2_000, false)] {
        if !is_pending {
            store.begin(file_id, at(0)).await.expect("it begins");
        }
        assert_eq!(store.extend_upload(file_id, at(until)).await.expect("an answer"), is_pending);
    }
    store.finish(file_id, &Outcome::Ready(facts(8)), at(1)).await.expect("it is checked");
    add(&store, ann, FilePurpose::Avatar).await;
    let uploaded = async |now| {
        let files = store.uploaded(at(now), 10).await.expect("a list");
        files.into_iter().map(|file| file.file_id).collect::<Vec<_>>()
    };
    // A request that was begun in time may be writing still.
    let end = 1_000 + UPLOAD_SLACK.num_seconds();
    assert_eq!(uploaded(end).await, []);
    assert_eq!(uploaded(end + 1).await, [file_id]);
    store.forget_upload(file_id).await.expect("it is forgotten");
    assert_eq!(uploaded(end + 1).await, []);
}

async fn positions_are_kept_by_partition(store: Store) {
    let positions = async || {
        let found = store.positions(&[0, 3]).await.expect("positions");
        (found[&0], found[&3])
    };
    assert_eq!(positions().await, (None, None));
    store.apply(3, 17, &[], at(1)).await.expect("it is noted");
    assert_eq!(positions().await, (None, Some(17)));
    assert_eq!(store.deletions_position().get().await.expect("a read"), None);
    for position in ["a", "b"] {
        store.deletions_position().set(position).await.expect("it is noted");
        assert_eq!(store.deletions_position().get().await.expect("a read").as_deref(), Some(position));
    }
}

async fn an_account_takes_what_no_message_has(store: Store) {
    let (ann, ben, chat) = (UserId::generate(), UserId::generate(), ChatId::generate());
    let sent = ready(&store, ann, FilePurpose::Chat(chat)).await;
    apply(&store, attached(chat, 1, ann, &[sent])).await;
    let mut gone =
        vec![ready(&store, ann, FilePurpose::Avatar).await, add(&store, ann, FilePurpose::Chat(chat)).await];
    let on_its_way = ready(&store, ann, FilePurpose::Chat(chat)).await;
    let not_sent = ready(&store, ann, FilePurpose::Chat(chat)).await;
    let other = add(&store, ben, FilePurpose::Chat(chat)).await;
    assert_eq!(store.erase(ann, at(5)).await.expect("it is erased"), 4);
    assert_eq!(store.erase(ann, at(6)).await.expect("it is erased"), 0);
    let mut found = collected(&store, at(7)).await;
    gone.sort();
    found.sort();
    assert_eq!(found, gone);
    // A message that was accepted before, and is read now.
    apply(&store, attached(chat, 2, ann, &[on_its_way])).await;
    read_until(&store, at(8)).await;
    assert_eq!(collected(&store, at(9)).await, [not_sent]);
    for kept in [sent, on_its_way, other] {
        assert!(file(&store, kept).await.is_some_and(|file| file.state != State::Removing));
    }
}

/// Another partition attaches a file while this one detaches it: what was written meanwhile is seen behind the lock, whatever was seen before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_attached_during_a_detachment_is_in_use() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool.clone()));
    let (ann, from, to) = (UserId::generate(), ChatId::generate(), ChatId::generate());
    let file_id = ready(&store, ann, FilePurpose::Chat(from)).await;
    apply(&store, attached(from, 1, ann, &[file_id])).await;
    let mut other = pool.begin().await.expect("a transaction");
    let lock = "SELECT FROM files WHERE file_id = $1 FOR UPDATE";
    sqlx::query(lock).bind(file_id.0).execute(&mut *other).await.expect("a lock");
    let attach = "INSERT INTO attachments (chat_id, seq, file_id, sender_id) VALUES ($1, 1, $2, $3)";
    let attach = sqlx::query(attach).bind(to.0).bind(file_id.0).bind(ann.0);
    attach.execute(&mut *other).await.expect("an attachment");
    let detaching = tokio::spawn({
        let store = store.clone();
        async move { apply(&store, Change::Detached { chat: from, seq: 1 }).await }
    });
    wait_for("the detachment to wait", PATIENCE, || async {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE wait_event_type = 'Lock' AND datname = current_database()";
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&pool).await.expect("a number");
        (waiting > 0).then_some(())
    })
    .await;
    other.commit().await.expect("it is committed");
    detaching.await.expect("it is applied");
    assert_eq!(store.discard(file_id, ann, at(20)).await.expect("an answer"), Discarded::InUse);
}
