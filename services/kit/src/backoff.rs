//! Exponential backoff.

use std::{
    ops::{ControlFlow, RangeInclusive},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

/// Waits between attempts: each is twice the one before it, up to a limit.
#[derive(Clone, Debug)]
pub struct Backoff {
    waits: RangeInclusive<Duration>,
    next: Duration,
}

impl Backoff {
    /// Returns a backoff that starts with the first wait of the range and ends with the last.
    pub fn new(waits: RangeInclusive<Duration>) -> Self {
        Self { next: *waits.start(), waits }
    }

    /// Returns how long to wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(*self.waits.end());
        wait
    }

    /// Starts again with the first wait, after a success.
    pub fn reset(&mut self) {
        self.next = *self.waits.start();
    }

    /// Waits before the next attempt. Breaks immediately when `stop` is cancelled.
    pub async fn pause(&mut self, stop: &CancellationToken) -> ControlFlow<()> {
        tokio::select! {
            biased;
            () = stop.cancelled() => ControlFlow::Break(()),
            () = tokio::time::sleep(self.next_wait()) => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_start_again_after_a_success() {
        let [first, second, most] = [1, 2, 3].map(Duration::from_secs);
        let mut backoff = Backoff::new(first..=most);
        let waits: Vec<Duration> = (0..4).map(|_| backoff.next_wait()).collect();
        assert_eq!(waits, [first, second, most, most]);
        backoff.reset();
        assert_eq!(backoff.next_wait(), first);
    }

    #[tokio::test]
    async fn a_pause_ends_with_the_stop() {
        let stop = CancellationToken::new();
        stop.cancel();
        let hour = Duration::from_secs(3600);
        assert!(Backoff::new(hour..=hour).pause(&stop).await.is_break());
    }
}
