//! The index on the real OpenSearch, which replicas share.

use std::{panic::AssertUnwindSafe, sync::Arc};

use contracts::{ChatId, UserId, event::EntryKind};
use futures_util::FutureExt as _;
use kit::testing::{TestUser, stack, wait_for};
use reqwest::Method;
use search::{
    domain::{Document, DocumentId, Text},
    store::{Generations, Index, OpenSearchGenerations, OpenSearchIndex, Server, Write},
};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    stand::{PATIENCE, Stand, analyzer, entry, search, stored, text},
    stories::about,
};

/// Returns a place on the server that no other story has.
fn server() -> Server {
    server_at(format!("http://{}", stack("OPENSEARCH_ADDRESS")))
}

fn server_at(url: String) -> Server {
    Server {
        url,
        index: format!("t{}", &Uuid::new_v4().simple().to_string()[..12]),
        replicas: 0,
        username: "nobody".to_owned(),
        password: "a server without accounts does not look at it".into(),
        ca_bundle: None,
    }
}

/// Sends a request by hand. What is not there has nothing.
async fn by_hand(server: &Server, method: Method, path: &str) -> Value {
    let request = reqwest::Client::new().request(method, format!("{}/{path}", server.url));
    let answer = request.send().await.unwrap_or_else(|error| {
        panic!("{error}: the suite needs OpenSearch, which `make up-backends WITH=opensearch` starts")
    });
    serde_json::from_str(&answer.text().await.expect("an answer")).unwrap_or_default()
}

/// Returns the generations that are there.
async fn generations(server: &Server) -> Vec<String> {
    let found = by_hand(server, Method::GET, &format!("{}-v*/_alias", server.index)).await;
    let mut names: Vec<_> = found.as_object().into_iter().flat_map(|found| found.keys().cloned()).collect();
    names.retain(|name| name.starts_with(&server.index));
    names.sort();
    names
}

/// Tells a story, and removes what it left, whatever happened.
async fn with_server(server: &Server, story: impl Future<Output = ()>) {
    let told = AssertUnwindSafe(Box::pin(story)).catch_unwind().await;
    let mut indices = generations(server).await;
    indices.extend([server.index.clone(), format!("{}-control", server.index)]);
    indices.push(format!("stranger-{}", server.index));
    for index in indices {
        by_hand(server, Method::DELETE, &index).await;
    }
    if let Err(panic) = told {
        std::panic::resume_unwind(panic);
    }
}

/// Tells a story of one index.
pub async fn with_index<F: Future<Output = ()>>(story: impl FnOnce(Arc<dyn Index>) -> F) {
    let server = server();
    let body = async {
        let index = OpenSearchIndex::create(&server, &server.index, analyzer()).await.expect("an index");
        story(Arc::new(index)).await;
    };
    with_server(&server, body).await;
}

fn replica(server: &Server) -> Arc<dyn Generations> {
    Arc::new(OpenSearchGenerations::new(server, analyzer()).expect("a client"))
}

/// Waits until the first generation was built again, and the second one is alone.
async fn is_built_again(server: &Server) {
    let is_one = || async { (generations(server).await == [format!("{}-v1-2", server.index)]).then_some(()) };
    wait_for("the index that was built again, alone", PATIENCE, is_one).await;
}

/// Returns a stand with a user in a chat that has so many texts.
async fn with_news(texts: i64) -> (Stand, TestUser, ChatId) {
    let stand = Stand::create().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.peers.join(chat, &ann);
    let news = (1..=texts).map(|seq| stored(text(chat, ann.id, seq, "news of before")));
    stand.peers.store(chat, news.collect());
    (stand, ann, chat)
}

const CHAT: ChatId = ChatId(Uuid::from_u128(1));

fn version(body: &str, body_seq: i64) -> Text {
    Text {
        chat: CHAT,
        seq: 1,
        sender: UserId(Uuid::nil()),
        sent_at_ms: 1,
        reply_to: None,
        expires_at_ms: None,
        body: body.to_owned(),
        body_seq,
        files: Vec::new(),
        deleted: false,
    }
}

#[tokio::test]
async fn what_comes_late_or_again_changes_nothing() {
    with_index(|index| async move {
        let write = async |text: Text| {
            let write = Write { documents: vec![Document::Text(text)], ..Write::default() };
            index.write(write).await.expect("a write");
        };
        let kept = async || {
            let id = DocumentId { chat: CHAT, seq: 1 };
            let mut found = index.documents(vec![id]).await.expect("an answer");
            let Some(Document::Text(text)) = found.remove(&id) else { panic!("it is there") };
            (text.body, text.deleted)
        };
        write(version("second", 5)).await;
        for late in [version("first", 1), version("second", 5), version("between", 3)] {
            write(late).await;
            assert_eq!(kept().await, ("second".to_owned(), false));
        }
        write(Text { deleted: true, ..version("", 5) }).await;
        write(version("third", 7)).await;
        assert_eq!(kept().await, (String::new(), true), "what is deleted stays so");
        assert!(index.search(search("third", &[(CHAT, 1)])).await.expect("an answer").is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_index_that_was_removed_by_hand_is_not_made_by_a_write() {
    let server = server();
    let body = async {
        let index = OpenSearchIndex::create(&server, &server.index, analyzer()).await.expect("an index");
        by_hand(&server, Method::DELETE, &server.index).await;
        let write = Write { documents: vec![Document::Text(version("news", 1))], ..Write::default() };
        index.write(write).await.expect_err("there is no index");
        index.write(Write::default()).await.expect_err("there is no index");
        assert_eq!(index.progress().await.expect("an answer"), None);
        let found = by_hand(&server, Method::GET, &format!("{}*/_alias", server.index)).await;
        assert!(found.as_object().is_none_or(serde_json::Map::is_empty), "{found}");
    };
    with_server(&server, body).await;
}

/// Makes an index of others, to which aliases lead that look like the tenant's. Returns its name.
async fn stranger(server: &Server, aliases: &[String]) -> String {
    let stranger = format!("stranger-{}", server.index);
    by_hand(server, Method::PUT, &stranger).await;
    for alias in aliases {
        let made = by_hand(server, Method::PUT, &format!("{stranger}/_alias/{alias}")).await;
        assert_eq!(made["acknowledged"], true, "{made}");
    }
    stranger
}

/// Returns how many documents there are in an index.
async fn count(server: &Server, index: &str) -> i64 {
    by_hand(server, Method::POST, &format!("{index}/_refresh")).await;
    let counted = by_hand(server, Method::GET, &format!("{index}/_count")).await;
    counted["count"].as_i64().unwrap_or_else(|| panic!("{counted}"))
}

#[tokio::test]
async fn an_alias_in_place_of_an_index_gets_no_text() {
    let server = server();
    let body = async {
        let index = OpenSearchIndex::create(&server, &server.index, analyzer()).await.expect("an index");
        by_hand(&server, Method::DELETE, &server.index).await;
        let stranger = stranger(&server, std::slice::from_ref(&server.index)).await;
        let write = Write { documents: vec![Document::Text(version("news", 1))], ..Write::default() };
        index.write(write).await.expect_err("it is an alias");
        index.write(Write::default()).await.expect_err("it is an alias");
        assert_eq!(count(&server, &stranger).await, 0);
        assert!(
            OpenSearchIndex::create(&server, &server.index, analyzer()).await.is_err(),
            "the name is taken"
        );
    };
    with_server(&server, body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_on_an_index_of_others_get_no_text_and_do_not_open_it() {
    let server = server();
    let (stand, ann, chat) = with_news(1).await;
    let body = async {
        let alias = |end: &str| format!("{}-{end}", server.index);
        let aliases = [alias("search"), alias("v1-1-write"), alias("v1-2-write"), alias("v1-9")];
        let stranger = stranger(&server, &aliases).await;
        let one = stand.start(replica(&server)).await;
        one.is_complete().await;
        let other = stand.start(replica(&server)).await;
        other.is_complete().await;
        stand.announce([text(chat, ann.id, 2, "news of now")]).await;
        for replica in [&one, &other] {
            replica.finds(&ann, "news", &[2, 1]).await;
        }
        one.standing.rebuild();
        is_built_again(&server).await;
        for replica in [&one, &other] {
            replica.finds(&ann, "news", &[2, 1]).await;
        }
        assert_eq!(count(&server, &stranger).await, 0, "it is there, and nothing was written to it");
        one.end().await;
        other.end().await;
    };
    with_server(&server, body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_an_index_and_one_fills_it() {
    let server = server();
    let (stand, ann, chat) = with_news(1).await;
    let body = async {
        let one = stand.start(replica(&server)).await;
        one.is_complete().await;
        let read = stand.peers.pages();
        let other = stand.start(replica(&server)).await;
        other.is_complete().await;
        stand.announce([text(chat, ann.id, 2, "news of now")]).await;
        for replica in [&one, &other] {
            replica.finds(&ann, "news", &[2, 1]).await;
        }
        assert_eq!(stand.peers.pages(), read, "one of them reads");
        // The one that fills it ends, and the other goes on where it was.
        one.end().await;
        stand.announce([about(1, entry(chat, ann.id, 3, EntryKind::Edit, "something else"))]).await;
        other.finds(&ann, "something", &[1]).await;
        assert_eq!(stand.peers.pages(), read, "no chat is read again");
        // Who has left finds nothing from then on.
        stand.peers.leave(chat, &ann);
        assert!(other.seqs(&ann, "news").await.is_empty());
        other.end().await;
    };
    with_server(&server, body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_built_again_beside_the_one_that_is_searched() {
    let server = server();
    let (stand, ann, chat) = with_news(5).await;
    let body = async {
        let service = stand.start(replica(&server)).await;
        service.is_complete().await;
        assert_eq!(generations(&server).await, [format!("{}-v1-1", server.index)]);
        let gate = stand.peers.hold();
        service.standing.rebuild();
        wait_for("another index", PATIENCE, || async { service.standing.next().map(drop) }).await;
        for seq in 6..=9 {
            stand.announce([text(chat, ann.id, seq, "news of meanwhile")]).await;
            let all: Vec<_> = (1..=seq).rev().collect();
            service.finds(&ann, "news&limit=50", &all).await;
        }
        gate.add_permits(1_000);
        is_built_again(&server).await;
        service.finds(&ann, "news&limit=50", &[9, 8, 7, 6, 5, 4, 3, 2, 1]).await;
        service.end().await;

        let read = stand.peers.pages();
        let service = stand.start(replica(&server)).await;
        service.is_complete().await;
        stand.announce([text(chat, ann.id, 10, "news of later")]).await;
        service.finds(&ann, "later", &[10]).await;
        assert_eq!(stand.peers.pages(), read, "no chat is read again");
        service.end().await;
    };
    with_server(&server, body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_concerns_searches_and_no_more() {
    let stand = Stand::create().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.peers.title(chat, "Our trip", &[&ann]);
    // Nothing listens on port 9 of this machine.
    let service = stand.start(replica(&server_at("http://127.0.0.1:9".to_owned()))).await;
    let answer = service.api.get(&ann, "/api/search/messages?q=news").await;
    assert_eq!((answer.status, answer.code()), (503, "unavailable"));
    let found = service.api.get(&ann, "/api/search/chats?q=trip").await.ok(200);
    assert_eq!(found["items"].as_array().expect("items").len(), 1);
    let status = service.api.get(&ann, "/api/search/status").await.ok(200);
    assert_eq!(status["complete"], false);
    service.end().await;
}
