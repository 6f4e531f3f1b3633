//! How the index comes to have what is in the chats.

use contracts::{ChatId, event::EntryKind, wire::Changes};
use kit::testing::wait_for;
use search::store::{EmbeddedGenerations, IndexError};

use crate::{
    stand::{PATIENCE, Stand, TENANT, analyzer, entry, index_in, stored, text},
    stories::{about, index_in_memory},
};

/// More than the log in memory keeps of a partition.
const MORE_THAN_KEPT: i64 = 10_001;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_index_reads_what_was_before_it() {
    let stand = Stand::create().await;
    let ann = stand.realm.user("ann");
    let chats: Vec<_> = (0..5).map(|_| ChatId::generate()).collect();
    for chat in &chats {
        stand.peers.join(*chat, &ann);
        let mut messages: Vec<_> =
            (1..=7).map(|seq| stored(text(*chat, ann.id, seq, &format!("before{seq} common")))).collect();
        messages[1].changes = Changes { seq: 9, deleted_seq: Some(9), ..Changes::default() };
        messages[1].body.clear();
        messages[2].changes = Changes { seq: 8, edited_seq: Some(8), edits: 1, ..Changes::default() };
        messages[2].body = "edited common".to_owned();
        messages[3].expired = true;
        messages[3].body.clear();
        messages.push(stored(about(3, entry(*chat, ann.id, 8, EntryKind::Edit, "edited common"))));
        messages.push(stored(about(2, entry(*chat, ann.id, 9, EntryKind::Delete, ""))));
        stand.peers.store(*chat, messages);
    }
    let service = stand.service().await;
    assert_eq!(service.standing.percent(), 100);
    for chat in &chats {
        let found = service.seqs(&ann, &format!("common&chat={chat}")).await;
        assert_eq!(found, [7, 6, 5, 3, 1]);
        assert_eq!(service.seqs(&ann, &format!("edited&chat={chat}")).await, [3]);
    }
    // Each history has three pages.
    assert_eq!(stand.peers.pages(), 5 * 3);
    let status = service.api.get(&ann, "/api/search/status").await.ok(200);
    assert_eq!(status, serde_json::json!({"complete": true, "percent": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_index_is_built_results_say_so() {
    let stand = Stand::create().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.peers.join(chat, &ann);
    stand.peers.store(chat, vec![stored(text(chat, ann.id, 1, "before"))]);
    let gate = stand.peers.hold();
    let service = stand.start(index_in_memory()).await;
    wait_for("a page on its way", PATIENCE, || async { (stand.peers.pages() > 0).then_some(()) }).await;
    stand.announce([text(chat, ann.id, 2, "meanwhile")]).await;
    service.finds(&ann, "meanwhile", &[2]).await;
    let page = service.page(&ann, "before").await;
    assert!(page.items.is_empty() && !page.complete, "{page:?}");
    let status = service.api.get(&ann, "/api/search/status").await.ok(200);
    assert_eq!(status, serde_json::json!({"complete": false, "percent": 0}));
    gate.add_permits(1);
    service.is_complete().await;
    assert_eq!(service.seqs(&ann, "before").await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_comes_while_its_page_is_read_is_not_lost() {
    let stand = Stand::create().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.peers.join(chat, &ann);
    let before = [text(chat, ann.id, 1, "wrong"), text(chat, ann.id, 2, "gone")].map(stored);
    stand.peers.store(chat, before.to_vec());
    let gate = stand.peers.hold();
    let service = stand.start(index_in_memory()).await;
    wait_for("a page on its way", PATIENCE, || async { (stand.peers.pages() > 0).then_some(()) }).await;

    // The page has what was before. Now the store changes, and the log says so of messages that the index does not have.
    let [mut edited, mut deleted] = before;
    edited.body = "right".to_owned();
    edited.changes = Changes { seq: 3, edited_seq: Some(3), edits: 1, ..Changes::default() };
    deleted.body.clear();
    deleted.changes = Changes { seq: 4, deleted_seq: Some(4), ..Changes::default() };
    stand.peers.store(chat, vec![edited, deleted]);
    let edit = about(1, entry(chat, ann.id, 3, EntryKind::Edit, "right"));
    let deletion = about(2, entry(chat, ann.id, 4, EntryKind::Delete, ""));
    stand.announce([edit, deletion, text(chat, ann.id, 5, "later")]).await;
    service.finds(&ann, "later", &[5]).await;

    gate.add_permits(10);
    service.is_complete().await;
    assert_eq!(service.seqs(&ann, "right").await, [1]);
    assert!(service.seqs(&ann, "wrong").await.is_empty());
    assert!(service.seqs(&ann, "gone").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_on_a_volume_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::create().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.peers.join(chat, &ann);
    stand.peers.store(chat, vec![stored(text(chat, ann.id, 1, "news of before"))]);
    let service = stand.start(index_in(folder.path())).await;
    service.is_complete().await;
    stand.announce([text(chat, ann.id, 2, "news of now")]).await;
    service.finds(&ann, "news", &[2, 1]).await;
    service.end().await;

    let read = stand.peers.pages();
    let edit = about(1, entry(chat, ann.id, 4, EntryKind::Edit, "old news"));
    stand.announce([text(chat, ann.id, 3, "news of meanwhile"), edit]).await;
    let service = stand.start(index_in(folder.path())).await;
    service.is_complete().await;
    service.finds(&ann, "news", &[3, 2, 1]).await;
    service.finds(&ann, "old", &[1]).await;
    assert_eq!(stand.peers.pages(), read, "no chat is read again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_has_forgotten_is_read_from_the_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::create().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.peers.join(chat, &ann);
    let service = stand.start(index_in(folder.path())).await;
    service.is_complete().await;
    stand.announce([text(chat, ann.id, 1, "first")]).await;
    service.finds(&ann, "first", &[1]).await;
    service.end().await;

    // Entries that the index has no part in push the second text out of the log.
    stand.announce([text(chat, ann.id, 2, "lost")]).await;
    let quiet = |seq| about(1, entry(chat, ann.id, seq, EntryKind::Pin, ""));
    stand.announce((3..3 + MORE_THAN_KEPT).map(quiet)).await;
    let kept = [text(chat, ann.id, 1, "first"), text(chat, ann.id, 2, "lost")].map(stored);
    stand.peers.store(chat, kept.to_vec());
    let service = stand.start(index_in(folder.path())).await;
    service.finds(&ann, "lost", &[2]).await;
    service.is_complete().await;
    assert_eq!(service.seqs(&ann, "first").await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_of_one_tenant_and_one_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::create().await;
    let service = stand.start(index_in(folder.path())).await;
    service.is_complete().await;
    let second = EmbeddedGenerations::open(folder.path(), u64::MAX, TENANT, analyzer()).map(drop);
    assert!(matches!(second, Err(IndexError::Engine { .. })), "{second:?}");
    service.end().await;
    let other = || EmbeddedGenerations::open(folder.path(), u64::MAX, "globex", analyzer()).map(drop);
    let refused = || async { matches!(other(), Err(IndexError::OfAnotherTenant(_))).then_some(()) };
    wait_for("the refusal of another tenant", PATIENCE, refused).await;
    // Nothing of it is touched.
    let again = stand.start(index_in(folder.path())).await;
    again.is_complete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_damaged_is_built_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::create().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.peers.join(chat, &ann);
    stand.peers.store(chat, vec![stored(text(chat, ann.id, 1, "news"))]);
    let service = stand.start(index_in(folder.path())).await;
    service.is_complete().await;
    service.end().await;
    std::fs::write(folder.path().join("v2.1/meta.json"), "{").expect("a damage");
    let service = stand.start(index_in(folder.path())).await;
    service.is_complete().await;
    assert_eq!(service.seqs(&ann, "news").await, [1]);
}
