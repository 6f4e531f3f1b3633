//! A frame that comes by POST, beside the event stream that it belongs to.

use contracts::wire::ServerFrame;
use tokio::sync::oneshot;

/// The text of a frame, and where its answer goes.
pub(crate) struct Posted {
    pub(crate) text: String,
    pub(crate) reply: Reply,
}

/// Where an answer goes. Dropped without one, it says that the stream has ended.
#[derive(Debug)]
pub(crate) struct Reply(oneshot::Sender<Replied>);

/// The answer to a frame; `None` to a command that has no answer.
pub(crate) type Replied = Option<Box<ServerFrame>>;

impl Posted {
    /// Returns a frame, and what its answer arrives at.
    pub(crate) fn new(text: String) -> (Self, oneshot::Receiver<Replied>) {
        let (reply, replied) = oneshot::channel();
        (Self { text, reply: Reply(reply) }, replied)
    }
}

impl Reply {
    /// Answers. A client that has gone does not mind.
    pub(crate) fn send(self, replied: Replied) {
        drop(self.0.send(replied));
    }
}
