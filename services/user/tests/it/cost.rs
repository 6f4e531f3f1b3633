//! What a read of a profile costs with the cache and without.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::DateTime;
use contracts::UserId;
use kit::{
    cache::{Metrics, Outcome, Shelf},
    testing::TestCache,
    users::USERS,
};
use user::{
    domain::Newcomer,
    shown::Shown,
    store::{PostgresStore, ProfileStore as _},
};

use crate::store::database;

/// Those of a list that many look at.
const PROFILES: usize = 100;
const READS: usize = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_that_is_shown_in_many_lists_is_read_from_the_cache() {
    let (_database, pool) = database().await;
    let tenant = format!("t{}", &UserId::generate().0.simple().to_string()[20..]);
    let redis = TestCache::create(&tenant).await;
    let store = Arc::new(PostgresStore::new(pool));
    let at = DateTime::from_timestamp(1_700_000_000, 0).expect("a moment");
    let mut users = Vec::new();
    for number in 0..PROFILES {
        let newcomer = Newcomer::parse(UserId::generate(), &format!("user{number}"), "").expect("a user");
        users.push(store.ensure(&newcomer, at).await.expect("a profile").user_id);
    }
    let in_redis = Shelf::patient_redis(&redis.args(), &tenant, Duration::from_secs(20)).expect("settings");
    for (place, shelf) in [("without a cache", Shelf::none()), ("with Redis", in_redis)] {
        let metrics = Metrics::default();
        let shown = Shown::new(store.clone(), shelf, metrics.clone());
        let began = Instant::now();
        for read in 0..READS {
            let user = users[read % PROFILES];
            let profile = shown.profile(user).await.expect("a read").expect("a profile");
            assert_eq!(profile.user_id, user);
        }
        let each = began.elapsed() / u32::try_from(READS).expect("a number of reads");
        let hits = metrics.counted(USERS.name, Outcome::Hit);
        println!("{place}: {each:?} for each read, {hits} hits of {READS} reads");
        let expected = if place == "with Redis" { READS - PROFILES } else { 0 };
        assert_eq!(hits, expected as u64, "{place}");
    }
}
