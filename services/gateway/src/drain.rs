//! Moving connections away before the process ends.

use std::{sync::Arc, time::Duration};

use contracts::wire::CloseCode;
use tokio_util::sync::CancellationToken;

use crate::{events::SendLog, registry::Registry};

/// Batches are closed this often.
const BATCH_EVERY: Duration = Duration::from_millis(50);
/// Fewer simultaneous connections than this are not worth a wait.
const SMALLEST_BATCH: usize = 20;

/// Waits for the end of the process, then closes all connections in batches spread over `over`, so that the other
/// gateways are not asked by all at once; then waits for the log and stops the consumers.
pub(crate) async fn drain(
    registry: Arc<Registry>,
    log: SendLog,
    over: Duration,
    shutdown: CancellationToken,
    stop_consumers: CancellationToken,
) {
    shutdown.cancelled().await;
    let connections = registry.all();
    tracing::info!(connections = connections.len(), "closing {} connections", connections.len());
    let mut ticks = tokio::time::interval(BATCH_EVERY);
    let mut rest = connections.as_slice();
    for size in batches(rest.len(), over) {
        ticks.tick().await;
        let (batch, later) = rest.split_at(size);
        rest = later;
        for connection in batch {
            connection.queue.request_close(CloseCode::Drain);
        }
    }
    drop(connections);
    // Their tasks end when the last answer is out; an upgrade that raced with the shutdown is closed here too.
    while registry.len() > 0 {
        for connection in registry.all() {
            connection.queue.request_close(CloseCode::Drain);
        }
        ticks.tick().await;
    }
    log.flush().await;
    stop_consumers.cancel();
}

/// Returns the sizes of the batches.
fn batches(connections: usize, over: Duration) -> Vec<usize> {
    let ticks = usize::try_from(over.as_millis() / BATCH_EVERY.as_millis()).unwrap_or(usize::MAX).max(1);
    let size = connections.div_ceil(ticks).max(SMALLEST_BATCH);
    let mut left = connections;
    std::iter::from_fn(|| {
        let batch = size.min(left);
        left -= batch;
        (batch > 0).then_some(batch)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_fill_the_time_and_small_ones_do_not_wait() {
        let check = |connections, seconds, count, first| {
            let batches = batches(connections, Duration::from_secs(seconds));
            assert_eq!(batches.iter().sum::<usize>(), connections);
            assert_eq!((batches.len(), batches.first().copied()), (count, first));
        };
        check(0, 10, 0, None);
        check(5, 10, 1, Some(5));
        check(1_000, 10, 50, Some(20));
        check(20_000, 10, 200, Some(100));
        check(50, 0, 1, Some(50));
    }
}
