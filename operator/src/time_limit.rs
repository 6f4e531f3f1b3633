//! The time limit of a call to a server.

use std::time::Duration;

/// A call took longer than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
pub(crate) struct TimedOut(Duration);

/// Gives a call until `limit`, then drops it.
pub(crate) async fn within<T>(limit: Duration, call: impl Future<Output = T>) -> Result<T, TimedOut> {
    tokio::time::timeout(limit, call).await.map_err(|_| TimedOut(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_is_late_is_given_up() {
        let limit = Duration::from_millis(10);
        assert_eq!(within(limit, std::future::ready(7)).await, Ok(7));
        assert_eq!(within(limit, std::future::pending::<()>()).await, Err(TimedOut(limit)));
        assert_eq!(TimedOut(Duration::from_secs(3)).to_string(), "no answer within 3 s");
    }
}
