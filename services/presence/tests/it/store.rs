//! One suite for every store of last moments.

use kit::testing::TestCache;
use presence::store::{LastSeen, MemoryStore, RedisStore};
use uuid::Uuid;

use crate::stand::user;

async fn suite(store: &dyn LastSeen) {
    assert_eq!(store.last_seen(&[]).await, []);
    assert_eq!(store.last_seen(&[user(1), user(2)]).await, [None, None]);
    store.note(&[user(1)], 5_000).await;
    store.note(&[user(2), user(3)], 7_000).await;
    let moments = store.last_seen(&[user(3), user(9), user(1)]).await;
    assert_eq!(moments, [Some(7_000), None, Some(5_000)], "in the order of the question");
    store.note(&[user(1)], 9_000).await;
    assert_eq!(store.last_seen(&[user(1)]).await, [Some(9_000)]);
    let many: Vec<_> = (100..1_300).map(user).collect();
    store.note(&many, 11_000).await;
    assert!(store.last_seen(&many).await.iter().all(|moment| *moment == Some(11_000)));
}

#[tokio::test]
async fn memory() {
    suite(&MemoryStore::default()).await;
}

#[tokio::test]
async fn redis() {
    let tenant = format!("t{}", &Uuid::new_v4().simple().to_string()[..12]);
    let cache = TestCache::create(&tenant).await;
    let connection = || kit::redis::connection(&cache.args()).expect("settings");
    let store = RedisStore::new(connection(), &tenant);
    suite(&store).await;
    // What another program wrote there is not known, and no outage.
    cache.set(&format!("mt:{tenant}:seen:{}", user(1)), "yesterday").await;
    assert_eq!(store.last_seen(&[user(1), user(2)]).await, [None, Some(7_000)]);
    cache.set_down(true).await;
    store.note(&[user(2)], 1).await;
    assert_eq!(store.last_seen(&[user(2)]).await, [None]);
    cache.set_down(false).await;
    assert_eq!(RedisStore::new(connection(), &tenant).last_seen(&[user(2)]).await, [Some(7_000)]);
}
