//! What users find.

use std::time::Duration;

use contracts::{
    ChatId,
    api::FoundMessage,
    event::{EntryKind, SeqRange},
};
use kit::bucket::Rate;
use serde_json::json;

use crate::{
    stand::{BEGAN_MS, Stand, encoded, entry, stored, text},
    stories::{about, expiring, range_deleted, with_files},
};

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_found_by_their_words_in_any_language() {
    let stand = Stand::create().await;
    let service = stand.service().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.peers.join(chat, &ann);
    let texts = [
        "Are you running late?",
        "Список участников готов, ёлка тоже",
        "我在东京工作",
        "来週は東京大学です",
        "서울에서 만나요",
        "ภาษาไทย",
        "the red car, and a green one",
        "Zoe\u{308} is in the cafe\u{301}",
    ];
    let records = (1..).zip(texts).map(|(seq, body)| text(chat, ann.id, seq, body));
    stand.announce(records).await;
    service.finds(&ann, "cafe", &[8]).await;
    for (query, expected) in [
        ("run", vec![1]),
        ("LATE runs", vec![1]),
        ("участник", vec![2]),
        ("елки", vec![2]),
        ("东京", vec![3]),
        ("東京", vec![4]),
        ("大学", vec![4]),
        ("京", vec![4, 3]),
        ("서울", vec![5]),
        ("ภาษา", vec![6]),
        ("\"red car\"", vec![7]),
        ("\"car red\"", vec![]),
        ("car red", vec![7]),
        ("\"run\"", vec![]),
        ("run*", vec![1]),
        ("участ*", vec![2]),
        ("\"red\" gre*", vec![7]),
        ("zoë", vec![8]),
        ("running nowhere", vec![]),
    ] {
        assert_eq!(service.seqs(&ann, &encoded(query)).await, expected, "{query}");
    }
    let page = service.page(&ann, "runs").await;
    let found = serde_json::to_value(&page).expect("json");
    let excerpt = json!([
        {"text": "Are you ", "found": false},
        {"text": "running", "found": true},
        {"text": " late?", "found": false},
    ]);
    assert_eq!(found["items"][0]["excerpt"], excerpt);
    assert_eq!(found["items"][0]["sent_at_ms"], BEGAN_MS + 1_000);
    assert!(page.complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_found_by_their_files() {
    let stand = Stand::create().await;
    let service = stand.service().await;
    let [ann, ben, eve] = ["ann", "ben", "eve"].map(|name| stand.realm.user(name));
    let chat = ChatId::generate();
    for user in [&ann, &ben] {
        stand.peers.join(chat, user);
    }
    let files = [("Отчёт за март.pdf", "application/pdf"), ("sea.png", "image/png")];
    stand
        .announce([
            with_files(&files, text(chat, ann.id, 1, "")),
            with_files(&[("cat.gif", "image/gif")], text(chat, ann.id, 2, "our cat")),
            text(chat, ann.id, 3, "a cat at https://example.org/"),
        ])
        .await;
    service.finds(&ben, &encoded("has:link"), &[3]).await;
    for (query, expected) in [
        ("has:file", vec![2, 1]),
        ("HAS:image", vec![2, 1]),
        ("отчеты", vec![1]),
        ("отчет has:image", vec![1]),
        ("sea pdf", vec![1]),
        ("cat has:file", vec![2]),
        ("cat", vec![3, 2]),
        ("has:video", vec![]),
    ] {
        assert_eq!(service.seqs(&ben, &encoded(query)).await, expected, "{query}");
        assert!(service.seqs(&eve, &encoded(query)).await.is_empty(), "{query}");
    }
    let page = service.page(&ben, &encoded("sea has:file")).await;
    let found = serde_json::to_value(&page.items[0]).expect("json");
    assert_eq!(found["excerpt"], json!([]));
    let sea = json!([{"text": "sea", "found": true}, {"text": ".png", "found": false}]);
    assert_eq!((&found["files"][1]["name"], &found["files"][1]["type"]), (&sea, &json!("image/png")));
    assert_eq!(found["files"][0]["size"], 7);

    // An edit leaves the files, and a deletion takes them along. Out of the chat they are not found.
    let edit = |seq, target, body| about(target, entry(chat, ann.id, seq, EntryKind::Edit, body));
    let deleted = about(2, entry(chat, ann.id, 5, EntryKind::Delete, ""));
    stand.announce([edit(4, 1, "see this"), edit(6, 3, "no more"), deleted]).await;
    service.finds(&ben, &encoded("see has:file"), &[1]).await;
    service.finds(&ben, &encoded("has:file"), &[1]).await;
    assert!(service.seqs(&ben, &encoded("has:link")).await.is_empty());
    stand.peers.leave(chat, &ben);
    assert!(service.seqs(&ben, &encoded("has:file")).await.is_empty());
    assert_eq!(service.seqs(&ann, &encoded("has:file")).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_is_narrowed_by_chat_sender_thread_and_time() {
    let stand = Stand::create().await;
    let service = stand.service().await;
    let [ann, ben] = ["ann", "ben"].map(|name| stand.realm.user(name));
    let (one, two) = (ChatId::generate(), ChatId::generate());
    for chat in [one, two] {
        stand.peers.join(chat, &ann);
    }
    let reply = |seq, target| about(target, text(one, ben.id, seq, "hello again"));
    stand
        .announce([
            text(one, ann.id, 1, "hello"),
            text(one, ben.id, 2, "hello there"),
            reply(3, 1),
            reply(4, 1),
            reply(5, 2),
            text(two, ben.id, 9, "hello elsewhere"),
        ])
        .await;
    service.finds(&ann, "hello", &[9, 5, 4, 3, 2, 1]).await;
    let at = |seq: i64| BEGAN_MS + seq * 1_000;
    for (filter, expected) in [
        (format!("&chat={one}"), vec![5, 4, 3, 2, 1]),
        (format!("&chat={two}"), vec![9]),
        (format!("&chat={one}&thread=1"), vec![4, 3, 1]),
        (format!("&chat={one}&thread=1&sender={}", ben.id), vec![4, 3]),
        ("&thread=1".to_owned(), vec![9, 5, 4, 3, 2, 1]),
        (format!("&sender={}", ann.id), vec![1]),
        (format!("&from_ms={}", at(4)), vec![9, 5, 4]),
        (format!("&to_ms={}", at(2)), vec![1]),
        (format!("&from_ms={}&to_ms={}", at(2), at(4)), vec![3, 2]),
        (format!("&sender={}", stand.realm.user("eve").id), vec![]),
    ] {
        assert_eq!(service.seqs(&ann, &format!("hello{filter}")).await, expected, "{filter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_have_every_message_once() {
    let stand = Stand::create().await;
    let service = stand.service().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.peers.join(chat, &ann);
    stand.announce((1..=25).map(|seq| text(chat, ann.id, seq, "again and again"))).await;
    service.finds(&ann, "again&limit=50", &(1..=25).rev().collect::<Vec<_>>()).await;
    let (mut seqs, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = service.page(&ann, &format!("again&limit=10{cursor}")).await;
        seqs.extend(page.items.iter().map(|found| found.seq));
        let Some(next) = page.next_cursor else { break };
        assert_eq!(page.items.len(), 10);
        cursor = format!("&cursor={next}");
        // What comes meanwhile is on no later page.
        stand.announce([text(chat, ann.id, 100, "again")]).await;
    }
    assert_eq!(seqs, (1..=25).rev().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_is_removed_finds_nothing_from_that_moment_on() {
    let stand = Stand::create().await;
    let service = stand.service().await;
    let [ann, ben, eve] = ["ann", "ben", "eve"].map(|name| stand.realm.user(name));
    let chat = ChatId::generate();
    for user in [&ann, &ben] {
        stand.peers.join(chat, user);
    }
    stand.announce([text(chat, ann.id, 1, "our secret")]).await;
    for user in [&ann, &ben] {
        service.finds(user, "secret", &[1]).await;
    }
    assert!(service.seqs(&eve, "secret").await.is_empty());

    // There is no moment in between: the next search is refused, and nothing has to reach the index.
    stand.peers.leave(chat, &ben);
    assert!(service.seqs(&ben, "secret").await.is_empty());
    assert!(service.seqs(&ben, &format!("secret&sender={}", ann.id)).await.is_empty());
    for user in [&ben, &eve] {
        let path = format!("/api/search/messages?q=secret&chat={chat}");
        let refused = service.api.get(user, &path).await;
        assert_eq!((refused.status, refused.code()), (403, "not_a_member"));
    }
    assert_eq!(service.seqs(&ann, "secret").await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_finds_nothing_from_before_the_entry_that_added_them() {
    let stand = Stand::create().await;
    let service = stand.service().await;
    let [ann, ben] = ["ann", "ben"].map(|name| stand.realm.user(name));
    let chat = ChatId::generate();
    stand.peers.join(chat, &ann);
    stand.announce([text(chat, ann.id, 1, "news of before")]).await;
    service.finds(&ann, "news", &[1]).await;

    // Ben is a member as soon as the chat service says so. That his entry has no seq yet opens nothing.
    let added = entry(chat, ann.id, 2, EntryKind::MemberAdded, "2");
    stand.peers.join_by(chat, &ben, &added);
    assert!(service.seqs(&ben, "news").await.is_empty());
    assert!(service.seqs(&ben, &format!("news&chat={chat}")).await.is_empty());
    stand.announce([added, text(chat, ann.id, 3, "news for Ben")]).await;
    service.finds(&ben, "news", &[3]).await;
    assert_eq!(service.seqs(&ann, "news").await, [3, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_edited_or_deleted_is_found_as_it_is_now() {
    let stand = Stand::create().await;
    let service = stand.service().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.peers.join(chat, &ann);
    let texts: Vec<_> = (1..=6).map(|seq| text(chat, ann.id, seq, &format!("word{seq} first"))).collect();
    stand.announce(texts.clone()).await;
    service.finds(&ann, "first", &[6, 5, 4, 3, 2, 1]).await;

    let edit = |seq, target, body| about(target, entry(chat, ann.id, seq, EntryKind::Edit, body));
    stand.announce([edit(7, 1, "second"), edit(8, 1, "third")]).await;
    service.finds(&ann, "third", &[1]).await;
    assert!(service.page(&ann, "third").await.items[0].edited);
    assert!(service.seqs(&ann, "second").await.is_empty());
    assert!(service.seqs(&ann, "word1").await.is_empty());

    let deleted = about(2, entry(chat, ann.id, 9, EntryKind::Delete, ""));
    let range = SeqRange { from_seq: 4, to_seq: 5 };
    stand.announce([deleted, range_deleted(chat, ann.id, 10, range)]).await;
    service.finds(&ann, "first", &[6, 3]).await;

    // The log announces entries again after a crash of the message service. Nothing comes back.
    stand.announce(texts.into_iter().chain([edit(7, 1, "second")])).await;
    stand.announce([text(chat, ann.id, 11, "first of a new time")]).await;
    service.finds(&ann, "first", &[11, 6, 3]).await;
    assert_eq!(service.seqs(&ann, "third").await, [1]);
    assert!(service.seqs(&ann, "word2").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_has_disappeared_is_not_found() {
    let stand = Stand::create().await;
    let service = stand.service().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.peers.join(chat, &ann);
    let soon = kit::clock::now_ms() + 2_000;
    stand
        .announce([
            expiring(soon, text(chat, ann.id, 1, "fleeting news")),
            expiring(BEGAN_MS, text(chat, ann.id, 2, "news of long ago")),
            expiring(soon + 3_600_000, text(chat, ann.id, 3, "news of today")),
        ])
        .await;
    service.finds(&ann, "news", &[3, 1]).await;
    service.finds(&ann, "news", &[3]).await;
    assert!(kit::clock::now_ms() >= soon, "it was found as long as it was there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_cannot_be_answered_is_refused_with_the_reason() {
    let stand = Stand::create().await;
    let service = stand.service().await;
    let ann = stand.realm.user("ann");
    let many = "a ".repeat(10_000);
    let cjk = "\u{6771}".repeat(33);
    for query in [
        "",
        " ",
        "*ing",
        "a*b",
        "**",
        "?!",
        "a*",
        "ab* cd* ef*",
        "has:",
        "has:pdf news",
        many.as_str(),
        cjk.as_str(),
        "x ".repeat(33).as_str(),
        "y".repeat(257).as_str(),
    ] {
        let path = format!("/api/search/messages?q={}", encoded(query));
        let refused = service.api.get(&ann, &path).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_argument"), "{query}");
        let detail = refused.body["detail"].as_str().expect("a reason");
        assert!(detail.starts_with("q: "), "{detail}");
    }
    for rest in
        ["", "?q=a&limit=0", "?q=a&limit=51", "?q=a&cursor=x", "?q=a&chat=7", "?q=a&from_ms=-1", "?q=a&x=1"]
    {
        let refused = service.api.get(&ann, &format!("/api/search/messages{rest}")).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_argument"), "{rest}");
    }
    // What would be a regular expression elsewhere is a text like others here.
    assert!(service.seqs(&ann, &encoded("/(a+)+$/ (x|x)y")).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_searches_without_a_pause_is_held_up_and_nobody_else() {
    let mut stand = Stand::create().await;
    stand.rate = Rate::every(Duration::from_secs(60), 2);
    let service = stand.service().await;
    let [ann, ben] = ["ann", "ben"].map(|name| stand.realm.user(name));
    for _ in 0..2 {
        assert!(service.seqs(&ann, "news").await.is_empty());
    }
    let refused = service.api.get(&ann, "/api/search/messages?q=news").await;
    assert_eq!((refused.status, refused.code()), (429, "rate_limited"));
    assert!(refused.retry_after.is_some());
    assert!(service.seqs(&ben, "news").await.is_empty());
    service.api.get(&ann, "/api/search/status").await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_index_is_behind_a_search_finds_what_is_there_now() {
    let stand = Stand::create().await;
    let service = stand.service().await;
    let (ann, chat) = (stand.realm.user("ann"), ChatId::generate());
    stand.peers.join(chat, &ann);
    let past = |seq| expiring(BEGAN_MS, text(chat, ann.id, seq, ""));
    stand.announce((1..=6).map(|seq| text(chat, ann.id, seq, &format!("news number {seq}")))).await;
    service.finds(&ann, "news", &[6, 5, 4, 3, 2, 1]).await;

    // What follows does not reach the index: the log is read late, after an outage.
    stand.peers.apply(about(1, entry(chat, ann.id, 7, EntryKind::Delete, "")));
    stand.peers.apply(about(2, entry(chat, ann.id, 8, EntryKind::Edit, "all is different")));
    stand.peers.apply(about(3, entry(chat, ann.id, 9, EntryKind::Edit, "better news")));
    let mut disappeared = stored(past(4));
    disappeared.expired = true;
    stand.peers.put(disappeared);
    stand.peers.put(stored(past(5)));
    let page = service.page(&ann, "news").await;
    let shown: Vec<_> = page.items.iter().map(|found| (found.seq, found.edited, shown(found))).collect();
    assert_eq!(shown, [(6, false, "news number 6".to_owned()), (3, true, "better news".to_owned())]);
    // A page that lost some goes on behind them.
    let page = service.page(&ann, "news&limit=2").await;
    assert_eq!(page.items.len(), 1);
    let cursor = page.next_cursor.expect("more of them");
    assert_eq!(service.seqs(&ann, &format!("news&limit=3&cursor={cursor}")).await, [3]);
}

fn shown(found: &FoundMessage) -> String {
    found.excerpt.iter().map(|part| part.text.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_finds_nothing() {
    let stand = Stand::create().await;
    let service = stand.service().await;
    service.api.refuses_strangers(&stand.realm, "/api/search/messages?q=secret").await;
    service.api.refuses_strangers(&stand.realm, "/api/search/status").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_chat_service_nothing_is_found_and_nothing_is_shown() {
    let stand = Stand::create().await;
    let service = stand.start_without_chats().await;
    let answer = service.api.get(&stand.realm.user("ann"), "/api/search/messages?q=secret").await;
    assert_eq!((answer.status, answer.code()), (503, "unavailable"));
    assert!(answer.retry_after.is_some());
}
