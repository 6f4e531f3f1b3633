//! The frames that wait for one connection: bounded in bytes, filled from any task, emptied by the connection's own.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    task::Waker,
};

use contracts::{
    ChatId, Encoding,
    wire::{CloseCode, Lagged, ServerFrame},
};
use futures_util::task::AtomicWaker;

use super::frame::Frame;

/// An emptied queue larger than this gives its memory back.
const KEPT_CAPACITY: usize = 16;

/// Bytes that may wait in all queues of a process, with the pages that are being read for them.
const BUDGET_BYTES: usize = 64 * 1024 * 1024;
/// What a queue may hold however little is left, so that a client that reads is not cut off by those that do not.
const SMALLEST_LIMIT_BYTES: usize = 64 * 1024;
/// A queue may hold this part of what is left of the budget. Queues that grow make the limit of all of them smaller,
/// and the longest ones meet it first (dynamic thresholds, as switches share their buffer).
const PART_OF_FREE: usize = 8;

/// The bytes that wait in all queues of a process.
#[derive(Debug)]
pub(crate) struct QueuedBytes {
    bytes: AtomicI64,
    budget: i64,
}

impl QueuedBytes {
    fn with_budget(bytes: usize) -> Self {
        Self { bytes: AtomicI64::new(0), budget: signed(bytes) }
    }

    pub(crate) fn get(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Keeps room for a frame that is being made; `None` when the budget has none.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reserved> {
        if self.free() < bytes {
            return None;
        }
        self.changed(0, bytes);
        Some(Reserved { total: self.clone(), bytes })
    }

    fn free(&self) -> usize {
        usize::try_from(self.budget - self.get()).unwrap_or(0)
    }

    fn changed(&self, before: usize, after: usize) {
        let change = signed(after) - signed(before);
        if change != 0 {
            self.bytes.fetch_add(change, Ordering::Relaxed);
        }
    }
}

impl Default for QueuedBytes {
    fn default() -> Self {
        Self::with_budget(BUDGET_BYTES)
    }
}

/// Room in the budget until it is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    total: Arc<QueuedBytes>,
    bytes: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.total.changed(self.bytes, 0);
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Queued,
    /// The chat lags: one `lagged` frame stands for this push and those before it. A fleeting frame has no such sign.
    Dropped,
    /// The connection is being closed.
    Closed,
}

/// The frames that wait for one connection.
///
/// The limit of a queue shrinks as the queues of the process fill. Over the limit, the queued messages of every chat are replaced by one `lagged` frame each; what the client cannot
/// query again (answers, `stored`, `rejected`) stays. When that alone is over the largest limit the connection is
/// closed as slow. What is worth something only now is dropped before anything else.
pub(crate) struct SendQueue {
    encoding: Encoding,
    limit_bytes: usize,
    queue: Mutex<Queue>,
    waker: AtomicWaker,
    total: Arc<QueuedBytes>,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Queued>,
    bytes: usize,
    /// Chats whose messages were dropped, with the newest seq among them.
    lagged: BTreeMap<ChatId, i64>,
    close: Option<CloseCode>,
}

struct Queued {
    frame: Frame,
    /// Set when the client can query it again.
    message: Option<(ChatId, i64)>,
    /// It is worth something only now.
    is_fleeting: bool,
}

impl SendQueue {
    /// Returns an empty queue of JSON whose bytes count in `total` too.
    pub(crate) fn new(limit_bytes: usize, total: Arc<QueuedBytes>) -> Self {
        Self {
            encoding: Encoding::Json,
            limit_bytes,
            queue: Mutex::default(),
            waker: AtomicWaker::new(),
            total,
        }
    }

    /// Returns the queue of a client that reads this encoding.
    pub(crate) fn speaking(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Returns the encoding of the frames.
    pub(crate) const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Queues a frame that the client cannot query again.
    pub(crate) fn push(&self, frame: Frame) -> Pushed {
        self.add(Queued { frame, message: None, is_fleeting: false })
    }

    /// Queues a message of a chat.
    pub(crate) fn push_message(&self, chat: ChatId, seq: i64, frame: Frame) -> Pushed {
        self.add(Queued { frame, message: Some((chat, seq)), is_fleeting: false })
    }

    /// Queues a frame that is worth something only now. It is dropped when the client leaves much unread.
    pub(crate) fn push_fleeting(&self, frame: Frame) -> Pushed {
        if self.is_crowded() {
            return Pushed::Dropped;
        }
        self.add(Queued { frame, message: None, is_fleeting: true })
    }

    /// Tells the client that a chat has entries up to `seq` which it may not have.
    pub(crate) fn lag(&self, chat: ChatId, seq: i64) {
        let mut queue = self.lock();
        if queue.close.is_none() {
            queue.lag(chat, seq);
        }
        drop(queue);
        self.waker.wake();
    }

    fn add(&self, queued: Queued) -> Pushed {
        let mut queue = self.lock();
        // Answers still reach a client that has to move; a slow one takes nothing.
        if queue.close == Some(CloseCode::Slow)
            || (queue.close.is_some() && (queued.message.is_some() || queued.is_fleeting))
        {
            return Pushed::Closed;
        }
        if let Some((chat, seq)) = queued.message
            && let Some(head) = queue.lagged.get_mut(&chat)
        {
            *head = seq.max(*head);
            return Pushed::Dropped;
        }
        let before = queue.bytes;
        queue.bytes += queued.frame.len();
        queue.frames.push_back(queued);
        let mut pushed = Pushed::Queued;
        if queue.bytes > self.limit() {
            queue.drop_fleeting();
        }
        if queue.bytes > self.limit() {
            queue.drop_messages();
            pushed = Pushed::Dropped;
            if queue.bytes > self.limit_bytes {
                queue.close = Some(CloseCode::Slow);
                pushed = Pushed::Closed;
            }
        }
        self.total.changed(before, queue.bytes);
        drop(queue);
        self.waker.wake();
        pushed
    }

    /// Takes the next frame. `lagged` goes first: nothing of its chat is queued, and the client can start to query.
    pub(crate) fn pop(&self) -> Option<Frame> {
        let mut queue = self.lock();
        if let Some((chat, head_seq)) = queue.lagged.pop_first() {
            drop(queue);
            let frame = ServerFrame { lagged: Some(Lagged { chat, head_seq }), ..ServerFrame::default() };
            return Some(Frame::encode(self.encoding, &frame));
        }
        let queued = queue.frames.pop_front()?;
        let before = queue.bytes;
        queue.bytes -= queued.frame.len();
        self.total.changed(before, queue.bytes);
        if queue.frames.is_empty() && queue.frames.capacity() > KEPT_CAPACITY {
            queue.frames = VecDeque::new();
        }
        Some(queued.frame)
    }

    /// Returns whether the client leaves so much unread that its commands should wait.
    pub(crate) fn is_crowded(&self) -> bool {
        self.bytes() > self.limit() / 2
    }

    /// Returns how many bytes may wait now.
    fn limit(&self) -> usize {
        self.limit_bytes.min((self.total.free() / PART_OF_FREE).max(SMALLEST_LIMIT_BYTES))
    }

    /// Returns the bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Requests the connection's task to close; the first reason stays.
    pub(crate) fn request_close(&self, code: CloseCode) {
        self.lock().close.get_or_insert(code);
        self.waker.wake();
    }

    /// Returns why the connection should close.
    pub(crate) fn close_requested(&self) -> Option<CloseCode> {
        self.lock().close
    }

    /// Wakes `waker` with the next push or close request.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SendQueue {
    fn drop(&mut self) {
        self.total.changed(self.bytes(), 0);
    }
}

impl Queue {
    fn drop_fleeting(&mut self) {
        let bytes = &mut self.bytes;
        self.frames.retain(|queued| {
            if queued.is_fleeting {
                *bytes -= queued.frame.len();
            }
            !queued.is_fleeting
        });
    }

    fn drop_messages(&mut self) {
        for queued in mem::take(&mut self.frames) {
            let Some((chat, seq)) = queued.message else {
                self.frames.push_back(queued);
                continue;
            };
            self.bytes -= queued.frame.len();
            self.lag(chat, seq);
        }
    }

    fn lag(&mut self, chat: ChatId, seq: i64) {
        let head = self.lagged.entry(chat).or_insert(seq);
        *head = seq.max(*head);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn chat(n: u128) -> ChatId {
        ChatId(Uuid::from_u128(n))
    }

    fn all(queue: &SendQueue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop())
            .map(|frame| String::from_utf8(frame.into_bytes().to_vec()).expect("text"))
            .collect()
    }

    fn lagged(n: u128, head: i64) -> String {
        format!(r#"{{"lagged":{{"chat":"{}","head_seq":{head}}}}}"#, chat(n))
    }

    #[test]
    fn frames_leave_in_the_order_they_came() {
        let queue = SendQueue::new(100, Arc::default());
        assert_eq!(queue.push("a".into()), Pushed::Queued);
        assert_eq!(queue.push_message(chat(1), 1, "b".into()), Pushed::Queued);
        assert_eq!(all(&queue), ["a", "b"]);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn over_the_limit_a_chats_backlog_becomes_one_lagged_frame() {
        let total = Arc::<QueuedBytes>::default();
        let queue = SendQueue::new(10, total.clone());
        queue.push("answer".into());
        queue.push_message(chat(1), 1, "m1".into());
        queue.push_message(chat(2), 7, "m7".into());
        assert_eq!(queue.push_message(chat(1), 2, "m2".into()), Pushed::Dropped);
        assert_eq!(
            queue.push_message(chat(1), 3, "m3".into()),
            Pushed::Dropped,
            "it lags until the client is notified"
        );
        assert_eq!(queue.push_message(chat(3), 1, "x1".into()), Pushed::Queued);
        assert_eq!(total.get(), 8);
        assert_eq!(queue.close_requested(), None);
        assert_eq!(all(&queue), [lagged(1, 3), lagged(2, 7), "answer".to_owned(), "x1".to_owned()]);
        assert_eq!(queue.push_message(chat(1), 4, "m4".into()), Pushed::Queued, "notified, it flows again");
        drop(queue);
        assert_eq!(total.get(), 0);
    }

    #[test]
    fn what_is_worth_something_only_now_is_dropped_first() {
        let total = Arc::<QueuedBytes>::default();
        let queue = SendQueue::new(10, total.clone());
        assert_eq!(queue.push_fleeting("on".into()), Pushed::Queued);
        queue.push_message(chat(1), 1, "m1".into());
        queue.push_message(chat(1), 2, "m2".into());
        assert_eq!(queue.push_fleeting("of".into()), Pushed::Dropped, "more than half is unread");
        queue.push("answer".into());
        assert_eq!(total.get(), 10, "the first one made room");
        assert_eq!(all(&queue), ["m1", "m2", "answer"], "no chat lags");
        queue.request_close(CloseCode::Drain);
        assert_eq!(queue.push_fleeting("on".into()), Pushed::Closed);
        assert_eq!(total.get(), 0);
    }

    #[test]
    fn queues_share_the_budget_of_their_process_and_the_longest_lag_first() {
        let total = Arc::new(QueuedBytes::with_budget(4 * 1024 * 1024));
        let queues: Vec<SendQueue> = (0..100).map(|_| SendQueue::new(1024 * 1024, total.clone())).collect();
        let frame: Frame = "x".repeat(1024).into();
        let quiet = SendQueue::new(1024 * 1024, total.clone());
        for seq in 0..1_000 {
            for queue in &queues {
                queue.push_message(chat(1), seq, frame.clone());
            }
            assert_eq!(quiet.push_message(chat(2), seq, frame.clone()), Pushed::Queued);
            assert!(quiet.pop().is_some());
        }
        assert!(total.get() <= 100 * 64 * 1024 + 1024, "{} bytes", total.get());
        assert!(queues.iter().all(|queue| queue.close_requested().is_none()));
        drop(queues);
        assert_eq!(total.get(), 0);
    }

    #[test]
    fn room_for_a_page_is_kept_while_it_is_read() {
        let total = Arc::new(QueuedBytes::with_budget(1_000));
        let page = total.reserve(600).expect("room");
        assert!(total.reserve(600).is_none());
        drop(page);
        assert!(total.reserve(600).is_some());
        assert_eq!(total.get(), 0);
    }

    #[test]
    fn a_client_that_leaves_its_answers_is_closed_as_slow() {
        let queue = SendQueue::new(10, Arc::default());
        queue.push("12345".into());
        assert_eq!(queue.push("123456".into()), Pushed::Closed);
        assert_eq!(queue.close_requested(), Some(CloseCode::Slow));
        assert_eq!(queue.push("1".into()), Pushed::Closed);
        queue.request_close(CloseCode::Drain);
        assert_eq!(queue.close_requested(), Some(CloseCode::Slow), "the first reason stays");
    }

    #[test]
    fn a_connection_that_is_asked_to_move_still_gets_its_answers() {
        let queue = SendQueue::new(10, Arc::default());
        queue.request_close(CloseCode::Drain);
        assert_eq!(queue.push("accepted".into()), Pushed::Queued);
        assert_eq!(queue.push_message(chat(1), 1, "m".into()), Pushed::Closed);
        assert_eq!(all(&queue), ["accepted"]);
    }
}
