//! What a spawned task came to, for the one that waits for it.

use std::panic::resume_unwind;

use tokio::task::JoinError;

/// Returns what a task returned; `None` where it was cancelled. A panic of the task goes on in the caller, which cannot do without what the task
/// was to do.
pub fn joined<T>(ended: Result<T, JoinError>) -> Option<T> {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(returned) => Some(returned),
        Err(Ok(panic)) => resume_unwind(panic),
        Err(Err(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        panic::{AssertUnwindSafe, catch_unwind},
    };

    use super::*;

    #[tokio::test]
    async fn a_panic_goes_on_and_a_cancelled_task_returned_nothing() {
        assert_eq!(joined(tokio::spawn(async { 7 }).await), Some(7));

        let cancelled = tokio::spawn(pending::<()>());
        cancelled.abort();
        assert_eq!(joined(cancelled.await), None);

        let ended: Result<(), JoinError> =
            tokio::spawn(async { panic!("what it was to do is not done") }).await;
        let panic = catch_unwind(AssertUnwindSafe(|| joined(ended))).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"what it was to do is not done"));
    }
}
