//! Users who have no words by which they are found get them in the background, some at a time: all of a large tenant are more than one statement
//! may write. Any number of processes may do it at once.

use std::{ops::RangeInclusive, time::Duration};

use kit::{backoff::Backoff, rounds};
use tokio_util::sync::CancellationToken;

use crate::store::{PostgresStore, StoreError};

/// How often such users are looked for. While services are updated, builds of before write some.
const INTERVAL: Duration = Duration::from_secs(60);
/// After a failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// Users of one transaction, whose rows are locked meanwhile.
const USERS: usize = 500;

/// Writes words that are missing, until the shutdown.
pub(crate) async fn follow(store: PostgresStore, shutdown: CancellationToken) {
    let what = "writing the words of names";
    rounds::repeat(what, INTERVAL, Backoff::new(BACKOFF), &shutdown, || write(&store, &shutdown)).await;
}

async fn write(store: &PostgresStore, shutdown: &CancellationToken) -> Result<(), StoreError> {
    let mut written = 0;
    while !shutdown.is_cancelled() {
        let users = store.write_missing_words(USERS).await?;
        written += users;
        if users < USERS {
            break;
        }
    }
    if written > 0 {
        tracing::info!(users = written, "{written} users are found by the words of their names now");
    }
    Ok(())
}
