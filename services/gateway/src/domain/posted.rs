//! A frame that comes by POST, beside the event stream that it belongs to.

use contracts::wire::ServerFrame;
use kit::budget::Room;
use tokio::sync::oneshot;

/// The text of a frame, and where its answer goes.
pub(crate) struct Posted {
    pub(crate) text: String,
    pub(crate) reply: Reply,
    /// Where it counts until it is read.
    _room: Room,
}

/// Where an answer goes. Dropped without one, it says that the stream has ended.
#[derive(Debug)]
pub(crate) struct Reply(oneshot::Sender<Replied>);

/// The answer to a frame; `None` to a command that has no answer.
pub(crate) type Replied = Option<Box<ServerFrame>>;

impl Posted {
    /// Returns a frame, which has its room there, and what its answer arrives at. Nothing when there is no room for it.
    pub(crate) fn new(text: String, mut room: Room) -> Option<(Self, oneshot::Receiver<Replied>)> {
        let (reply, replied) = oneshot::channel();
        room.resize(text.len()).then(|| (Self { text, reply: Reply(reply), _room: room }, replied))
    }
}

impl Reply {
    /// Answers. A client that has gone does not mind.
    pub(crate) fn send(self, replied: Replied) {
        drop(self.0.send(replied));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::send_queue::QueuedBytes;

    #[test]
    fn a_frame_that_waits_counts_until_it_is_read() {
        let total = Arc::new(QueuedBytes::with_budget(64 * 1024));
        let posted = |bytes: usize| Posted::new("x".repeat(bytes), total.inbound_room());
        let (waiting, _replied) = posted(1_000).expect("room");
        assert_eq!(total.get(), 1_000);
        assert!(posted(64 * 1024).is_none());
        drop(waiting);
        assert_eq!(total.get(), 0);
    }
}
