//! How an index is built again while it is searched.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
};

use contracts::{
    ChatId,
    event::EntryKind,
    rpc::{GetIndexRequest, IndexGeneration, RebuildRequest, search_index_server::SearchIndex as _},
};
use kit::testing::{TestUser, wait_for};
use search::{
    IndexRpc,
    store::{Generations, Index, IndexError},
};
use tokio::sync::Semaphore;
use tonic::{Code, Request, async_trait};

use crate::{
    stand::{PATIENCE, Running, Stand, entry, index_in, index_within, stored, text},
    stories::{about, index_in_memory},
};

/// Messages that are there before, and that arrive meanwhile. A page has all of them.
const BEFORE: i64 = 10;
const MEANWHILE: i64 = 30;

/// Generations of which none can be begun for a time.
struct Stubborn {
    generations: Arc<dyn Generations>,
    fails: AtomicBool,
    attempts: AtomicUsize,
}

#[async_trait]
impl Generations for Stubborn {
    fn served(&self) -> Arc<dyn Index> {
        self.generations.served()
    }

    fn next(&self) -> Option<Arc<dyn Index>> {
        self.generations.next()
    }

    fn is_outdated(&self) -> bool {
        self.generations.is_outdated()
    }

    async fn check_room(&self) -> Result<(), IndexError> {
        self.generations.check_room().await
    }

    async fn begin(&self) -> Result<Arc<dyn Index>, IndexError> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        if self.fails.load(Ordering::SeqCst) {
            Err(IndexError::Cancelled)
        } else {
            self.generations.begin().await
        }
    }

    async fn switch(&self) -> Result<(), IndexError> {
        self.generations.switch().await
    }
}

impl Stand {
    /// Lets an index be built beside the one that is searched, until its first page is on its way. Pages wait for permits from then on.
    async fn begin_to_rebuild(&self, service: &Running) -> Arc<Semaphore> {
        let (gate, read) = (self.peers.hold(), self.peers.pages());
        service.standing.rebuild();
        service.is_rebuilding().await;
        let on_its_way = || async { (self.peers.pages() > read).then_some(()) };
        wait_for("a page on its way", PATIENCE, on_its_way).await;
        gate
    }

    /// Stores what was in a chat before the service.
    fn store_before(&self, chat: ChatId, user: &TestUser) {
        self.peers.join(chat, user);
        let before = (1..=BEFORE).map(|seq| stored(text(chat, user.id, seq, "news of before")));
        self.peers.store(chat, before.collect());
    }
}

impl Running {
    /// Waits until an index is built beside the one that is searched.
    async fn is_rebuilding(&self) {
        let building = || async { self.standing.next().map(drop) };
        wait_for("an index that is built again", PATIENCE, building).await;
    }

    async fn is_rebuilt(&self) {
        let done = || async { self.standing.next().is_none().then_some(()) };
        wait_for("the index that was built again", PATIENCE, done).await;
    }

    /// Searches until the story is done: each search finds all that was confirmed before it, nothing twice, and says that it is complete.
    async fn finds_all_of(&self, user: &TestUser, confirmed: &AtomicI64, done: &AtomicBool) -> usize {
        let mut searches = 0;
        while !done.load(Ordering::SeqCst) {
            let before = confirmed.load(Ordering::SeqCst);
            let page = self.page(user, "news&limit=50").await;
            assert!(page.complete, "{page:?}");
            let seqs: Vec<_> = page.items.iter().map(|found| found.seq).collect();
            let once: BTreeSet<_> = seqs.iter().copied().collect();
            assert_eq!(once.len(), seqs.len(), "a message is doubled: {seqs:?}");
            let missing: Vec<_> = (1..=before).filter(|seq| !once.contains(seq)).collect();
            assert!(missing.is_empty(), "{missing:?} of {before} are missing in {seqs:?}");
            searches += 1;
        }
        searches
    }
}

/// Returns the generations that have files.
fn generations(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().expect("a name")).collect();
    names.retain(|name| name.starts_with('v'));
    names.sort();
    names
}

fn newest(last: i64) -> Vec<i64> {
    (1..=last).rev().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_index_is_built_again_every_search_finds_all_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::create().await;
    let ([ann, ben], chat) = (["ann", "ben"].map(|name| stand.realm.user(name)), ChatId::generate());
    stand.store_before(chat, &ann);
    stand.peers.join(chat, &ben);
    let service = stand.start(index_in(folder.path())).await;
    service.is_complete().await;
    let (confirmed, done) = (AtomicI64::new(BEFORE), AtomicBool::new(false));
    let story = async {
        let gate = stand.begin_to_rebuild(&service).await;
        assert_eq!(generations(folder.path()).len(), 2);
        let status = service.api.get(&ann, "/api/search/status").await.ok(200);
        assert_eq!(status, serde_json::json!({"complete": true, "percent": 100, "rebuild_percent": 0}));
        for seq in BEFORE + 1..=BEFORE + MEANWHILE {
            stand.announce([text(chat, ann.id, seq, "news of now")]).await;
            service.finds(&ann, "news&limit=50", &newest(seq)).await;
            confirmed.store(seq, Ordering::SeqCst);
            // The pages come one by one, between what arrives.
            gate.add_permits(1);
        }
        gate.add_permits(1_000);
        service.is_rebuilt().await;
        assert_eq!(service.seqs(&ann, "news&limit=50").await, newest(BEFORE + MEANWHILE));
        done.store(true, Ordering::SeqCst);
    };
    let (searches, ()) = tokio::join!(service.finds_all_of(&ben, &confirmed, &done), story);
    assert!(searches > 0);
    // It follows the log on.
    stand.announce([about(1, entry(chat, ann.id, 100, EntryKind::Edit, "something else"))]).await;
    service.finds(&ann, "something", &[1]).await;
    let left = || async { (generations(folder.path()) == ["v2.2"]).then_some(()) };
    wait_for("the removal of the index of before", PATIENCE, left).await;
    service.end().await;

    // It is the one that is opened again.
    let read = stand.peers.pages();
    let service = stand.start(index_in(folder.path())).await;
    service.is_complete().await;
    assert_eq!(service.seqs(&ann, "something").await, [1]);
    assert_eq!(stand.peers.pages(), read, "no chat is read again");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_come_while_an_index_is_built_again_are_in_both() {
    let stand = Stand::create().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.store_before(chat, &ann);
    let service = stand.service().await;
    let gate = stand.begin_to_rebuild(&service).await;
    stand
        .announce([
            about(1, entry(chat, ann.id, 11, EntryKind::Edit, "better news")),
            about(2, entry(chat, ann.id, 12, EntryKind::Delete, "")),
        ])
        .await;
    service.finds(&ann, "better", &[1]).await;
    service.finds(&ann, "news", &[10, 9, 8, 7, 6, 5, 4, 3, 1]).await;
    gate.add_permits(1_000);
    service.is_rebuilt().await;
    assert_eq!(service.seqs(&ann, "better").await, [1]);
    assert_eq!(service.seqs(&ann, "news").await, [10, 9, 8, 7, 6, 5, 4, 3, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_being_built_goes_on_after_the_process_was_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::create().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.store_before(chat, &ann);
    let service = stand.start(index_in(folder.path())).await;
    service.is_complete().await;
    let gate = stand.begin_to_rebuild(&service).await;
    service.end().await;
    assert_eq!(generations(folder.path()), ["v2.1", "v2.2"]);

    stand.announce([text(chat, ann.id, 11, "news of meanwhile")]).await;
    let service = stand.start(index_in(folder.path())).await;
    service.is_rebuilding().await;
    service.finds(&ann, "news&limit=50", &newest(11)).await;
    service.is_complete().await;
    assert!(service.page(&ann, "news").await.complete);
    gate.add_permits(1_000);
    service.is_rebuilt().await;
    assert_eq!(service.seqs(&ann, "news&limit=50").await, newest(11));
    wait_for("one index", PATIENCE, || async { (generations(folder.path()) == ["v2.2"]).then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_damaged_while_it_was_built_costs_nothing_of_the_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::create().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.store_before(chat, &ann);
    let service = stand.start(index_in(folder.path())).await;
    service.is_complete().await;
    let gate = stand.begin_to_rebuild(&service).await;
    service.end().await;
    fs::write(folder.path().join("v2.2/meta.json"), "{").expect("a damage");

    let read = stand.peers.pages();
    let service = stand.start(index_in(folder.path())).await;
    assert_eq!(generations(folder.path()), ["v2.1"]);
    service.is_complete().await;
    assert_eq!(service.seqs(&ann, "news&limit=50").await, newest(BEFORE));
    assert_eq!(stand.peers.pages(), read, "no chat is read again");
    gate.add_permits(1_000);
    service.standing.rebuild();
    wait_for("another index", PATIENCE, || async { (generations(folder.path()) == ["v2.2"]).then_some(()) })
        .await;
    assert_eq!(service.seqs(&ann, "news&limit=50").await, newest(BEFORE));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_an_older_form_is_searched_until_another_one_is_built() {
    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::create().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.store_before(chat, &ann);
    let service = stand.start(index_in(folder.path())).await;
    service.is_complete().await;
    service.end().await;
    // As the version before had it.
    fs::rename(folder.path().join("v2.1"), folder.path().join("v1")).expect("a folder");
    fs::remove_file(folder.path().join("served")).expect("a file");

    let gate = stand.peers.hold();
    let service = stand.start(index_in(folder.path())).await;
    service.is_rebuilding().await;
    service.finds(&ann, "news&limit=50", &newest(BEFORE)).await;
    assert!(!service.page(&ann, "news").await.complete, "an older form lacks something");
    stand.announce([text(chat, ann.id, 11, "news of meanwhile")]).await;
    service.finds(&ann, "news&limit=50", &newest(11)).await;
    gate.add_permits(1_000);
    service.is_rebuilt().await;
    let page = service.page(&ann, "news&limit=50").await;
    assert!(page.complete && page.items.len() == 11, "{page:?}");
    wait_for("one index", PATIENCE, || async { (generations(folder.path()) == ["v2.1"]).then_some(()) })
        .await;
}

/// A pod whose folder is full is replaced, and begins with nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_not_built_again_where_two_have_no_room() {
    const LIMIT_BYTES: u64 = 3 << 10;
    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::create().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.store_before(chat, &ann);
    {
        let held = index_within(folder.path(), LIMIT_BYTES);
        let service = stand.start(held.clone()).await;
        service.is_complete().await;
        let rpc = IndexRpc::new(service.standing.clone(), held);
        let refused = rpc.rebuild(Request::new(RebuildRequest {})).await.expect_err("there is no room");
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("up to 1024"), "{refused:?}");
        assert_eq!((service.standing.next(), service.standing.waits()), (None, None));
        service.end().await;
    }
    // As the version before had it.
    fs::rename(folder.path().join("v2.1"), folder.path().join("v1")).expect("a folder");
    fs::remove_file(folder.path().join("served")).expect("a file");
    {
        let held = index_within(folder.path(), LIMIT_BYTES);
        let service = stand.start(held.clone()).await;
        let rpc = IndexRpc::new(service.standing.clone(), held);
        let waits = || async {
            let index =
                rpc.get_index(Request::new(GetIndexRequest {})).await.expect("an answer").into_inner();
            index.waits.contains("up to 1024").then_some(())
        };
        wait_for("the reason why it waits", PATIENCE, waits).await;
        service.finds(&ann, "news&limit=50", &newest(BEFORE)).await;
        assert_eq!(generations(folder.path()), ["v1"]);
        service.end().await;
    }
    let service = stand.start(index_in(folder.path())).await;
    wait_for("the other index", PATIENCE, || async {
        (generations(folder.path()) == ["v2.1"]).then_some(())
    })
    .await;
    assert_eq!(service.standing.waits(), None);
    service.finds(&ann, "news&limit=50", &newest(BEFORE)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_while_none_can_be_begun_are_requests_for_one() {
    let stand = Stand::create().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.store_before(chat, &ann);
    let generations = Arc::new(Stubborn {
        generations: index_in_memory(),
        fails: AtomicBool::new(true),
        attempts: AtomicUsize::new(0),
    });
    let service = stand.start(generations.clone()).await;
    service.is_complete().await;
    let (gate, read) = (stand.peers.hold(), stand.peers.pages());
    service.standing.rebuild();
    let attempts = || generations.attempts.load(Ordering::SeqCst);
    wait_for("an attempt", PATIENCE, || async { (attempts() > 0).then_some(()) }).await;
    service.standing.rebuild();
    generations.fails.store(false, Ordering::SeqCst);
    service.is_rebuilding().await;
    let begun = attempts();
    gate.add_permits(1_000);
    service.is_rebuilt().await;
    for seq in 11..=13 {
        stand.announce([text(chat, ann.id, seq, "news of now")]).await;
        service.finds(&ann, "news&limit=50", &newest(seq)).await;
    }
    assert_eq!((attempts(), service.standing.next()), (begun, None), "no other one is begun");
    assert_eq!(stand.peers.pages(), read + 4, "the history was read once");
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_let_an_index_be_built_again_and_see_how_far_it_is() {
    let stand = Stand::create().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.store_before(chat, &ann);
    let generations = index_in_memory();
    let service = stand.start(generations.clone()).await;
    service.is_complete().await;
    let rpc = IndexRpc::new(service.standing.clone(), generations);
    let index = async || {
        let answer = rpc.get_index(Request::new(GetIndexRequest {})).await.expect("an answer").into_inner();
        let shown = |generation: IndexGeneration| (generation.complete, generation.percent);
        (answer.served.map(shown), answer.next.map(shown))
    };
    assert_eq!(index().await, (Some((true, 100)), None));
    let (gate, read) = (stand.peers.hold(), stand.peers.pages());
    rpc.rebuild(Request::new(RebuildRequest {})).await.expect("an answer");
    service.is_rebuilding().await;
    assert_eq!(index().await, (Some((true, 100)), Some((false, 0))));
    // The one that is built is what is requested.
    rpc.rebuild(Request::new(RebuildRequest {})).await.expect("an answer");
    gate.add_permits(1_000);
    service.is_rebuilt().await;
    stand.announce([text(chat, ann.id, 11, "news of now")]).await;
    service.finds(&ann, "news&limit=50", &newest(11)).await;
    assert_eq!(index().await, (Some((true, 100)), None));
    assert_eq!(stand.peers.pages(), read + 4, "the history was read once");
}
