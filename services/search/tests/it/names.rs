//! Chats and users that are found by their names.

use contracts::{
    ChatId,
    api::{FoundChats, FoundUsers},
};
use kit::testing::TestUser;
use serde_json::json;

use crate::{
    stand::{Running, Stand, encoded},
    stories::index_in_memory,
};

impl Running {
    async fn chats(&self, user: &TestUser, query: &str) -> Vec<ChatId> {
        let body = self.api.get(user, &format!("/api/search/chats?q={}", encoded(query))).await.ok(200);
        let found: FoundChats = serde_json::from_value(body).expect("chats");
        found.items.iter().map(|chat| chat.chat_id).collect()
    }

    async fn users(&self, user: &TestUser, query: &str) -> Vec<String> {
        let body = self.api.get(user, &format!("/api/search/users?q={}", encoded(query))).await.ok(200);
        let found: FoundUsers = serde_json::from_value(body).expect("users");
        found.items.into_iter().map(|user| user.username).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chats_are_found_by_the_beginnings_of_the_words_of_their_names() {
    let stand = Stand::create().await;
    let service = stand.service().await;
    let [ann, ben, eve] = ["ann", "ben", "eve"].map(|name| stand.realm.user(name));
    stand.peers.name(&ben, "ben", "Бен Петров");
    stand.peers.name(&eve, "eve", "Eve");
    let [crew, trip, pair, elsewhere] = [(); 4].map(|()| ChatId::generate());
    stand.peers.title(crew, "Команда Петровых", &[&ann, &ben]);
    stand.peers.title(trip, "Trip to Cork", &[&ann]);
    stand.peers.pair(pair, [&ann, &ben]);
    stand.peers.title(elsewhere, "Команда", &[&eve]);

    let newest_first = |mut chats: Vec<ChatId>| {
        chats.sort();
        chats.reverse();
        chats
    };
    assert_eq!(service.chats(&ann, "КОМАН").await, [crew]);
    assert_eq!(service.chats(&ann, "петр").await, newest_first(vec![crew, pair]));
    assert_eq!(service.chats(&ann, "cor tri").await, [trip]);
    assert_eq!(service.chats(&ann, "rip").await, []);
    assert_eq!(service.chats(&eve, "команда").await, [elsewhere]);
    let body = service.api.get(&ann, &format!("/api/search/chats?q={}", encoded("бен"))).await.ok(200);
    let direct = json!({"chat_id": pair, "kind": "direct", "name": "Бен Петров", "other": ben.id});
    assert_eq!(body, json!({"items": [direct]}));

    // A user who is out of a chat does not find it from that moment on.
    stand.peers.leave(crew, &ben);
    assert_eq!(service.chats(&ben, "коман").await, []);
    assert_eq!(service.chats(&ann, "коман").await, [crew]);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_found_by_the_beginnings_of_the_words_of_their_names() {
    let stand = Stand::create().await;
    let service = stand.service().await;
    let [ann, ben, eve] = ["ann", "ben", "eve"].map(|name| stand.realm.user(name));
    stand.peers.name(&ann, "ann.miller", "Anna");
    stand.peers.name(&ben, "ben", "Бен Миллер");
    assert_eq!(service.users(&eve, "mil").await, ["ann.miller"]);
    assert_eq!(service.users(&eve, "МИЛ").await, ["ben"]);
    assert_eq!(service.users(&eve, "nobody-of-this-name").await, [""; 0]);
    let body = service.api.get(&eve, "/api/search/users?q=anna").await.ok(200);
    let found = json!({"user_id": ann.id, "username": "ann.miller", "display_name": "Anna"});
    assert_eq!(body, json!({"items": [found]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_for_names_that_cannot_be_answered_is_refused_with_the_reason() {
    let stand = Stand::create().await;
    let service = stand.service().await;
    let ann = stand.realm.user("ann");
    let many = "a ".repeat(10_000);
    for what in ["chats", "users"] {
        for query in ["", " ", "*", "?!", many.as_str(), "a b c d e f g h i"] {
            let refused = service.api.get(&ann, &format!("/api/search/{what}?q={}", encoded(query))).await;
            assert_eq!((refused.status, refused.code()), (400, "invalid_argument"), "{query}");
            let detail = refused.body["detail"].as_str().expect("a reason");
            assert!(detail.starts_with("q: "), "{detail}");
        }
        for rest in ["", "?q=%00a", "?q=a&limit=0", "?q=a&limit=51", "?q=a&cursor=x"] {
            let refused = service.api.get(&ann, &format!("/api/search/{what}{rest}")).await;
            assert_eq!((refused.status, refused.code()), (400, "invalid_argument"), "{rest}");
        }
        service.api.refuses_strangers(&stand.realm, &format!("/api/search/{what}?q=a")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_for_names_count_as_searches() {
    let mut stand = Stand::create().await;
    stand.rate = kit::bucket::Rate::every(std::time::Duration::from_secs(60), 2);
    let service = stand.start(index_in_memory()).await;
    let ann = stand.realm.user("ann");
    assert_eq!(service.chats(&ann, "crew").await, []);
    assert_eq!(service.users(&ann, "crew").await, [""; 0]);
    for what in ["chats", "users", "messages"] {
        let refused = service.api.get(&ann, &format!("/api/search/{what}?q=crew")).await;
        assert_eq!((refused.status, refused.code()), (429, "rate_limited"), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_services_that_own_names_none_is_found() {
    let stand = Stand::create().await;
    let service = stand.start_without_chats().await;
    for what in ["chats", "users"] {
        let answer = service.api.get(&stand.realm.user("ann"), &format!("/api/search/{what}?q=crew")).await;
        assert_eq!((answer.status, answer.code()), (503, "unavailable"), "{what}");
    }
}
