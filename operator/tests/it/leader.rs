//! Two replicas at a real API server.

use std::time::{Duration, Instant};

use operator::leader::{Candidate, Fence};
use tokio_util::sync::CancellationToken;

use crate::api_server::ApiServer;

/// A lease lasts 15 s.
const LEASE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_slept_finds_its_fence_closed_before_the_next_one_leads() {
    let server = ApiServer::start("leader").await;
    let candidate = |identity: &str| {
        let fence = Fence::default();
        (Candidate::new(server.client.clone(), "default", identity.to_owned(), fence.clone()), fence)
    };
    let never = CancellationToken::new();
    let ((mut first, first_fence), (mut second, second_fence)) = (candidate("first"), candidate("second"));
    assert!(first.acquire(&never).await);
    first_fence.check().expect("the first one leads");

    // It renews nothing, like a process that was stopped. The second one takes over only when the first can no longer write.
    let began = Instant::now();
    let waiting = tokio::spawn(async move {
        assert!(second.acquire(&CancellationToken::new()).await);
        second
    });
    while second_fence.check().is_err() {
        assert!(began.elapsed() < LEASE * 3, "no replica took over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    first_fence.check().expect_err("the old leader may not write");
    let mut second = waiting.await.expect("no panic");

    // The old leader wakes up, and learns that it lost.
    first.hold(&never).await;
    first_fence.check().expect_err("it does not lead");
    second_fence.check().expect("the new leader is not disturbed");

    // A lease that was released is taken immediately.
    second.release().await;
    second_fence.check().expect_err("it gave the lease back");
    let began = Instant::now();
    let (mut third, third_fence) = candidate("third");
    assert!(third.acquire(&never).await);
    third_fence.check().expect("the third one leads");
    assert!(began.elapsed() < Duration::from_secs(5), "it waited {:?}", began.elapsed());
}
