//! Writes to the sockets of connections that received something.

use std::sync::Arc;

use kit::tasks::joined;
use tokio::{
    runtime::Handle,
    task::{JoinHandle, yield_now},
};

use crate::registry::Connection;

/// So few are written on the spot: to hand them over takes as long.
const FEW: usize = 8;
/// After so many, a flusher lets others have their turn.
const AT_ONCE: usize = 64;

/// Writes to each of these connections what waits for it, with one flusher for each core when they are many. A socket that does not take it
/// all costs no more than one write here: its own task goes on.
pub(crate) async fn flush(mut connections: Vec<Arc<Connection>>) {
    if connections.len() <= FEW {
        connections.iter().for_each(|connection| connection.queue.flush());
        return;
    }
    let flushers = Handle::current().metrics().num_workers().max(1);
    let share = connections.len().div_ceil(flushers).max(FEW);
    let mut parts: Vec<JoinHandle<()>> = Vec::with_capacity(flushers);
    while !connections.is_empty() {
        let part = connections.split_off(connections.len().saturating_sub(share));
        parts.push(tokio::spawn(flush_in_turn(part)));
    }
    // All of them, before more is queued: what the log brings meanwhile is the next round, and the larger the more they have to do.
    for part in parts {
        joined(part.await);
    }
}

async fn flush_in_turn(connections: Vec<Arc<Connection>>) {
    for part in connections.chunks(AT_ONCE) {
        part.iter().for_each(|connection| connection.queue.flush());
        yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, IoSlice},
        sync::atomic::{AtomicUsize, Ordering},
    };

    use uuid::Uuid;

    use super::*;
    use crate::domain::send_queue::{Queued, SendQueue, Wire};

    #[derive(Default)]
    struct Socket(AtomicUsize);

    impl Wire for Socket {
        fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
            let count = bytes.iter().map(|piece| piece.len()).sum();
            self.0.fetch_add(count, Ordering::Relaxed);
            Ok(count)
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_of_few_and_of_many_is_written() {
        for count in [0, 1, FEW, FEW + 1, 2 * FEW + 1, 10 * AT_ONCE] {
            let socket = Arc::<Socket>::default();
            let connections: Vec<_> = (0..count)
                .map(|n| {
                    let queue = SendQueue::new(100, Arc::default());
                    queue.attach(socket.clone());
                    assert!(queue.put(Queued::answer("12".into())).1);
                    Connection::new(Uuid::from_u128(n as u128), queue)
                })
                .collect();
            flush(connections.clone()).await;
            assert_eq!(socket.0.load(Ordering::Relaxed), 2 * count);
            assert!(connections.iter().all(|connection| connection.queue.bytes() == 0));
        }
    }
}
