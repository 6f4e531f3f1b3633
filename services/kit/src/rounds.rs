//! Work that is done again and again.

use std::{error::Error, time::Duration};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{backoff::Backoff, outage::Outage};

/// Does a round of work, and another one `interval` after it has succeeded, until `stop` is cancelled. After a failure the next
/// one begins when the backoff says so; a row of failures is one outage of `what` in the log. A round that is under way is
/// not cancelled.
pub async fn repeat<E: Error + 'static, F: Future<Output = Result<(), E>>>(
    what: &str,
    interval: Duration,
    backoff: Backoff,
    stop: &CancellationToken,
    round: impl FnMut() -> F,
) {
    let never = Notify::new();
    repeat_woken(what, interval, backoff, stop, &never, round).await;
}

/// Does the same, and cuts the interval short when `wake` is notified, also of what came during the round. A backoff is waited for to its
/// end.
pub async fn repeat_woken<E: Error + 'static, F: Future<Output = Result<(), E>>>(
    what: &str,
    interval: Duration,
    backoff: Backoff,
    stop: &CancellationToken,
    wake: &Notify,
    mut round: impl FnMut() -> F,
) {
    let timed = || {
        let done = round();
        async move { done.await.map(|()| interval) }
    };
    repeat_timed(what, backoff, stop, wake, timed).await;
}

/// Does the same, where each round says how long after it the next one begins.
pub async fn repeat_timed<E: Error + 'static, F: Future<Output = Result<Duration, E>>>(
    what: &str,
    mut backoff: Backoff,
    stop: &CancellationToken,
    wake: &Notify,
    mut round: impl FnMut() -> F,
) {
    let outage = Outage::default();
    loop {
        let woken = wake.notified();
        let (pause, has_worked) = match round().await {
            Ok(pause) => {
                outage.worked(what);
                backoff.reset();
                (pause, true)
            }
            Err(error) => {
                outage.failed(what, &error);
                (backoff.next_wait(), false)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = woken, if has_worked => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::testing::wait_for;

    #[tokio::test]
    async fn a_failure_waits_for_the_backoff_and_a_success_for_the_interval() {
        let (stop, rounds) = (CancellationToken::new(), AtomicUsize::new(0));
        let round = || {
            let is_down = rounds.fetch_add(1, Ordering::Relaxed) < 2;
            async move { if is_down { Err(io::Error::other("it is down")) } else { Ok(()) } }
        };
        let (moment, hour) = (Duration::from_millis(1), Duration::from_secs(3600));
        let repeated = repeat("counting", hour, Backoff::new(moment..=moment), &stop, round);
        let stopped = async {
            let succeeded = || async { (rounds.load(Ordering::Relaxed) == 3).then_some(()) };
            wait_for("the success", Duration::from_secs(10), succeeded).await;
            stop.cancel();
        };
        tokio::join!(repeated, stopped);
        assert_eq!(rounds.into_inner(), 3, "the next one would have come in an hour");
    }

    #[tokio::test]
    async fn what_comes_during_a_round_begins_the_next_one_immediately() {
        let (stop, wake, rounds) = (CancellationToken::new(), Notify::new(), AtomicUsize::new(0));
        let round = || {
            if rounds.fetch_add(1, Ordering::Relaxed) == 0 {
                wake.notify_one();
            }
            async { Ok::<_, io::Error>(()) }
        };
        let (moment, hour) = (Duration::from_millis(1), Duration::from_secs(3600));
        let repeated = repeat_woken("counting", hour, Backoff::new(moment..=moment), &stop, &wake, round);
        let stopped = async {
            let woken = || async { (rounds.load(Ordering::Relaxed) == 2).then_some(()) };
            wait_for("the second round", Duration::from_secs(10), woken).await;
            stop.cancel();
        };
        tokio::join!(repeated, stopped);
        assert_eq!(rounds.into_inner(), 2, "the next one would have come in an hour");
    }
}
