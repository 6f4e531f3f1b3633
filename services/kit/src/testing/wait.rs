//! Waiting for what comes by itself.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(5);

/// Polls until there is a value; panics when none comes `within` this time.
pub async fn wait_for<T, F: Future<Output = Option<T>>>(
    what: &str,
    within: Duration,
    mut poll: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = poll().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited for {what} in vain");
        tokio::time::sleep(POLL).await;
    }
}
