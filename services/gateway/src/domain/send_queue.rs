//! The frames that wait for one connection: bounded in bytes, filled and flushed from any task, and emptied by the connection's
//! own task where its socket does not take all.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, IoSlice},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    task::Waker,
};

use bytes::{Buf as _, Bytes};
use contracts::{
    ChatId, Encoding,
    wire::{CloseCode, Lagged, ServerFrame},
};
use futures_util::task::AtomicWaker;
use kit::budget::{Budget, PART_OF_FREE, Room};

use super::{
    frame::{Form, Frame, Run},
    stomp::subscriptions::Subscriptions,
};

/// Pieces that one write hands to the socket. More wait seldom, and go with the next one.
const MAX_PIECES: usize = 64;
/// Frames that may wait for a client whose commands are taken. Each costs some 100 bytes beside its own, of which a pong may have two.
const MOST_FRAMES: usize = 1_024;
/// Chats of which one write tells that they lag, some 100 bytes each. They are encoded again for each write that takes none of them, and a user may
/// be in thousands.
const LAGGED_AT_ONCE: usize = 128;

/// Bytes that may wait in all queues of a process, with the pages that are being read for them, and with messages from clients that are not whole.
const BUDGET_BYTES: usize = 64 * 1024 * 1024;
/// What a queue may hold however little is left, so that a client that reads is not cut off by those that do not.
const SMALLEST_LIMIT_BYTES: usize = 64 * 1024;
/// All messages that are not whole may take this part of the budget, and no less: clients that begin them and stop do not keep others from their
/// pages, and clients that do not read keep nobody from sending.
const INBOUND_PART: usize = 4;
/// What a message may have that is not whole, however little is left: more than most have when they are. All of these may be more than their part of the
/// budget; what is beyond it takes nothing from the rest.
const SMALLEST_INBOUND_BYTES: usize = 4 * 1024;

/// The bytes that wait in all queues of a process. A queue may hold a part of what is left of them, as a message that is not whole may of its own.
#[derive(Debug)]
pub(crate) struct QueuedBytes {
    /// For clients, with what is kept for pages.
    outbound: AtomicI64,
    /// From clients.
    inbound: Arc<Budget>,
    budget: i64,
}

impl QueuedBytes {
    pub(crate) fn with_budget(bytes: usize) -> Self {
        let inbound = Arc::new(Budget::new(bytes / INBOUND_PART, SMALLEST_INBOUND_BYTES));
        Self { outbound: AtomicI64::new(0), inbound, budget: signed(bytes) }
    }

    #[cfg(test)]
    pub(crate) fn get(&self) -> i64 {
        self.outbound_bytes() + self.inbound_bytes()
    }

    /// Returns the bytes that wait for clients.
    pub(crate) fn outbound_bytes(&self) -> i64 {
        self.outbound.load(Ordering::Relaxed)
    }

    /// Returns the bytes of messages from clients that are not whole, or wait for their turn.
    pub(crate) fn inbound_bytes(&self) -> i64 {
        signed(self.inbound.bytes())
    }

    /// Returns the room of a message from a client, with nothing in it.
    pub(crate) fn inbound_room(&self) -> Room {
        self.inbound.room()
    }

    /// Keeps room for a frame that is being made; `None` when the budget has none.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reserved> {
        if self.free() < bytes {
            return None;
        }
        changed(&self.outbound, 0, bytes);
        Some(Reserved { total: self.clone(), bytes })
    }

    fn free(&self) -> usize {
        let inbound = self.inbound_bytes().min(signed(self.inbound.all()));
        usize::try_from(self.budget - self.outbound_bytes() - inbound).unwrap_or(0)
    }
}

fn changed(counter: &AtomicI64, before: usize, after: usize) {
    let change = signed(after) - signed(before);
    if change != 0 {
        counter.fetch_add(change, Ordering::Relaxed);
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
        changed(&self.total.outbound, self.bytes, 0);
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

/// Where the frames of a connection go that leave its queue in any task: its socket.
pub(crate) trait Wire: Send + Sync {
    /// Takes of these bytes, in their order, what it can without waiting, and returns how many. Fails with `WouldBlock` when that is none.
    fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// How far a queue was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Nothing waits any more.
    pub(crate) is_all: bool,
    pub(crate) bytes: usize,
}

/// The frames that wait for one connection.
///
/// The limit of a queue shrinks as the queues of the process fill. Over the limit, the queued messages of every chat are replaced by one `lagged` frame each; what the client cannot
/// query again (answers, `stored`, `rejected`) stays. When that alone is over the largest limit the connection is
/// closed as slow. What is worth something only now is dropped before anything else.
///
/// Everything that leaves goes through here, under one lock: so no two tasks write to a socket at a time, and a frame of which a part has left
/// is followed by its rest, whatever is dropped meanwhile.
pub(crate) struct SendQueue {
    form: Form,
    limit_bytes: usize,
    queue: Mutex<Queue>,
    waker: AtomicWaker,
    total: Arc<QueuedBytes>,
}

#[derive(Default)]
struct Queue {
    /// Nothing for an event stream, whose frames leave one by one, and for a connection that has ended.
    wire: Option<Arc<dyn Wire>>,
    /// The rest of what the socket took in part. It cannot be dropped, so it is beyond the limit of the queue, and in the total of the process alone.
    started: Bytes,
    frames: VecDeque<Queued>,
    /// Of `frames`.
    bytes: usize,
    /// What is counted of this queue in the total of the process. What leaves at once is never counted there.
    counted: usize,
    /// Chats whose messages were dropped, with the newest seq among them. Of a client of STOMP those that it has subscribed to.
    lagged: BTreeMap<ChatId, i64>,
    /// What a client of STOMP has subscribed to; nothing for every other one.
    subscriptions: Option<Box<Subscriptions>>,
    close: Option<CloseCode>,
    /// It is on the list of one who flushes it soon.
    is_listed: bool,
    /// The socket did not take all. The connection's own task goes on when it does, and no other.
    is_blocked: bool,
    /// The connection's task takes no command, because the client leaves so much unread.
    ///
    /// No wake-up is lost. The flag is set in the look that finds no room, under the lock, by a task that has registered its waker before. Room that
    /// is made behind that look meets the flag, and room that was made before is seen by the look. Others make room where they write or drop, and
    /// all of them [leave](SendQueue::leave). The task itself looks again behind its own writes. Where the limit alone has grown, what waits is either to be
    /// flushed by another task, which leaves, or left to this one, which goes on with the socket.
    is_awaited: bool,
    /// The last frame is queued.
    is_over: bool,
}

/// A frame, or a run of them, with what may be done with it while it waits.
pub(crate) struct Queued {
    frame: Frame,
    /// Set when the client can query it again: the chat, and the newest of its entries.
    message: Option<(ChatId, i64)>,
    /// It is worth something only now.
    is_fleeting: bool,
}

impl Queued {
    /// Returns a frame that the client cannot query again.
    pub(crate) const fn answer(frame: Frame) -> Self {
        Self { frame, message: None, is_fleeting: false }
    }

    /// Returns messages of a chat up to this entry.
    pub(crate) const fn messages(chat: ChatId, seq: i64, frame: Frame) -> Self {
        Self { frame, message: Some((chat, seq)), is_fleeting: false }
    }

    /// Returns a frame that is worth something only now. It is dropped when the client leaves much unread.
    pub(crate) const fn fleeting(frame: Frame) -> Self {
        Self { frame, message: None, is_fleeting: true }
    }
}

impl SendQueue {
    /// Returns an empty queue of text whose bytes count in `total` too.
    pub(crate) fn new(limit_bytes: usize, total: Arc<QueuedBytes>) -> Self {
        Self { form: Form::Text, limit_bytes, queue: Mutex::default(), waker: AtomicWaker::new(), total }
    }

    /// Returns the queue of a connection that has its frames in this form.
    pub(crate) fn of(mut self, form: Form) -> Self {
        self.form = form;
        if form == Form::Stomp {
            self.lock().subscriptions = Some(Box::default());
        }
        self
    }

    /// Returns how the frames are written.
    pub(crate) const fn form(&self) -> Form {
        self.form
    }

    /// Returns the encoding of the frames.
    pub(crate) const fn encoding(&self) -> Encoding {
        self.form.encoding()
    }

    /// Reads or changes what a client of STOMP has subscribed to; nothing for every other one, and for a connection that has ended.
    pub(crate) fn subscriptions<T>(&self, then: impl FnOnce(&mut Subscriptions) -> T) -> Option<T> {
        let mut queue = self.lock();
        let Queue { subscriptions, lagged, .. } = &mut *queue;
        let subscriptions = subscriptions.as_deref_mut()?;
        let before = subscriptions.count();
        let result = then(subscriptions);
        // Not for each look: a client that reads nothing may lag in thousands of chats, and goes on to acknowledge.
        if subscriptions.count() < before {
            lagged.retain(|chat, _| subscriptions.has_entries_of(*chat));
        }
        Some(result)
    }

    /// Lets frames leave through this socket.
    pub(crate) fn attach(&self, wire: Arc<dyn Wire>) {
        self.lock().wire = Some(wire);
    }

    /// Forgets the socket and all that waits: the connection has ended.
    pub(crate) fn detach(&self) {
        let mut queue = self.lock();
        let ended = Queue { close: queue.close, counted: queue.counted, is_over: true, ..Queue::default() };
        *queue = ended;
        self.count(&mut queue);
    }

    /// Queues a frame that the client cannot query again.
    pub(crate) fn push(&self, frame: Frame) -> Pushed {
        self.push_and_wake(Queued::answer(frame))
    }

    /// Queues a frame of the connection's own task that the client cannot query again. The task writes before it waits.
    pub(crate) fn push_own(&self, frame: Frame) -> Pushed {
        let mut queue = self.lock();
        let pushed = self.add(&mut queue, Queued::answer(frame));
        self.count_what_stays(&mut queue);
        pushed
    }

    /// Queues a frame that is worth something only now. It is dropped when the client leaves much unread.
    pub(crate) fn push_fleeting(&self, frame: Frame) -> Pushed {
        self.push_and_wake(Queued::fleeting(frame))
    }

    /// Queues a message of a chat.
    #[cfg(test)]
    fn push_message(&self, chat: ChatId, seq: i64, frame: Frame) -> Pushed {
        self.push_and_wake(Queued::messages(chat, seq, frame))
    }

    fn push_and_wake(&self, queued: Queued) -> Pushed {
        let mut queue = self.lock();
        let was_closing = queue.close.is_some();
        let pushed = self.add(&mut queue, queued);
        self.count_what_stays(&mut queue);
        let has_news = queue.is_for_task() || (queue.close.is_some() && !was_closing);
        self.leave(queue, has_news);
        pushed
    }

    /// Queues without waking the connection's task. True when the caller has to [flush](Self::flush) the queue, once for all that it puts
    /// there until then.
    pub(crate) fn put(&self, queued: Queued) -> (Pushed, bool) {
        let mut queue = self.lock();
        let was_closing = queue.close.is_some();
        // What waits for a flush does not make a client lag that reads.
        let is_much = queue.bytes + queued.frame.len() > self.limit() / 2;
        let is_left = is_much && !queue.is_blocked && !self.write_as_other(&mut queue);
        let pushed = self.add(&mut queue, queued);
        self.count_what_stays(&mut queue);
        let is_closed = queue.close.is_some() && !was_closing;
        (pushed, self.list(queue, is_left || is_closed))
    }

    /// Likewise tells the client that a chat has entries up to `seq` which it may not have.
    pub(crate) fn put_lag(&self, chat: ChatId, seq: i64) -> bool {
        let mut queue = self.lock();
        if queue.is_open() {
            queue.lag(chat, seq);
        }
        self.list(queue, false)
    }

    /// Tells the client that a chat has entries up to `seq` which it may not have.
    pub(crate) fn lag(&self, chat: ChatId, seq: i64) {
        let mut queue = self.lock();
        if !queue.is_open() {
            return;
        }
        queue.lag(chat, seq);
        let has_news = queue.is_for_task();
        self.leave(queue, has_news);
    }

    /// Leaves a queue that was filled, with news for the connection's task or without. Returns whether it is to be flushed by the task that filled
    /// it, and is on no list yet.
    fn list(&self, mut queue: MutexGuard<'_, Queue>, has_news: bool) -> bool {
        if queue.wire.is_none() || queue.close.is_some() {
            let has_news = has_news || queue.is_for_task();
            self.leave(queue, has_news);
            return false;
        }
        let is_to_flush = !queue.is_blocked && !mem::replace(&mut queue.is_listed, true);
        self.leave(queue, has_news);
        is_to_flush
    }

    /// Leaves a queue that another task than the connection's own has changed, and wakes that one: for news, and for room that it waits for.
    fn leave(&self, mut queue: MutexGuard<'_, Queue>, has_news: bool) {
        let has_room = queue.is_awaited && self.has_room(&queue);
        if has_room {
            queue.is_awaited = false;
        }
        drop(queue);
        if has_news || has_room {
            self.waker.wake();
        }
    }

    fn add(&self, queue: &mut Queue, queued: Queued) -> Pushed {
        if queued.is_fleeting && queue.bytes > self.limit() / 2 {
            return Pushed::Dropped;
        }
        // Answers still reach a client that has to move; a slow one takes nothing.
        if queue.is_over
            || queue.close == Some(CloseCode::Slow)
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
        let Some(frame) = queue.to_client(queued.frame) else { return Pushed::Queued };
        let queued = Queued { frame, ..queued };
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
        pushed
    }

    /// Counts what waits in the total of the process, unless it leaves in a moment.
    fn count_what_stays(&self, queue: &mut Queue) {
        if queue.wire.is_none() || queue.is_blocked {
            self.count(queue);
        }
    }

    fn count(&self, queue: &mut Queue) {
        let held = queue.bytes + queue.started.len();
        changed(&self.total.outbound, queue.counted, held);
        queue.counted = held;
    }

    /// Writes what waits to the socket. Where it does not take all, the connection's task is woken to go on.
    pub(crate) fn flush(&self) {
        let mut queue = self.lock();
        queue.is_listed = false;
        if queue.is_blocked {
            return;
        }
        let is_left = !self.write_as_other(&mut queue);
        self.leave(queue, is_left);
    }

    /// Writes for another task than the connection's own; false when that one has to go on. It finds an error again.
    fn write_as_other(&self, queue: &mut Queue) -> bool {
        self.write_out(queue).is_ok_and(|written| written.is_all)
    }

    /// Writes what waits to the socket, for the connection's own task: it goes on when the socket takes more.
    pub(crate) fn write(&self) -> io::Result<Written> {
        self.write_out(&mut self.lock())
    }

    fn write_out(&self, queue: &mut Queue) -> io::Result<Written> {
        let written = queue.write(self.form);
        queue.is_blocked = !written.as_ref().is_ok_and(|written| written.is_all);
        self.count(queue);
        written
    }

    /// Takes the next frame, or run of them. `lagged` goes first: nothing of its chat is queued, and the client can start to query.
    pub(crate) fn pop(&self) -> Option<Frame> {
        let mut queue = self.lock();
        if let Some((chat, head_seq)) = queue.lagged.pop_first() {
            drop(queue);
            return Some(Frame::encode(self.form, &lagged(chat, head_seq)));
        }
        let queued = queue.frames.pop_front()?;
        queue.bytes -= queued.frame.len();
        self.count(&mut queue);
        queue.release();
        Some(queued.frame)
    }

    /// Leaves this frame as the last one, behind the rest of one of which a part has left; nothing is queued behind it.
    pub(crate) fn end_with(&self, frame: Option<Frame>) {
        let mut queue = self.lock();
        queue.is_over = true;
        queue.lagged.clear();
        queue.frames = frame.map(Queued::answer).into_iter().collect();
        queue.bytes = queue.frames.iter().map(|queued| queued.frame.len()).sum();
        self.count(&mut queue);
    }

    /// Returns whether the client leaves so much unread that its commands should wait.
    pub(crate) fn is_crowded(&self) -> bool {
        !self.has_room(&self.lock())
    }

    /// Likewise, for the connection's own task: it is woken once there is room for commands again.
    pub(crate) fn awaits_room(&self) -> bool {
        let mut queue = self.lock();
        queue.is_awaited = !self.has_room(&queue);
        queue.is_awaited
    }

    fn has_room(&self, queue: &Queue) -> bool {
        queue.frames.len() <= MOST_FRAMES && queue.bytes <= self.limit() / 2
    }

    /// Returns how many bytes may wait now: queues that grow make it smaller for all of them, and the longest meet it first.
    fn limit(&self) -> usize {
        self.limit_bytes.min((self.total.free() / PART_OF_FREE).max(SMALLEST_LIMIT_BYTES))
    }

    /// Returns the bytes that wait.
    #[cfg(test)]
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

    /// Wakes `waker` with what is pushed and the task has to write, with a close request, when a flush leaves something, and when there is the room
    /// that the task [awaits](Self::awaits_room).
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Returns the room of a message from the client, with nothing in it.
    pub(crate) fn inbound_room(&self) -> Room {
        self.total.inbound_room()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SendQueue {
    fn drop(&mut self) {
        let counted = self.lock().counted;
        changed(&self.total.outbound, counted, 0);
    }
}

impl Queue {
    /// Returns whether the client may still learn what it lacks.
    const fn is_open(&self) -> bool {
        self.close.is_none() && !self.is_over
    }

    /// Returns whether what is pushed is left to the connection's task, which does not know of it: one whose socket took a part goes on when that takes
    /// more.
    const fn is_for_task(&self) -> bool {
        !self.is_blocked && !self.is_over
    }

    /// Writes as much as the socket takes.
    fn write(&mut self, form: Form) -> io::Result<Written> {
        let mut bytes = 0;
        loop {
            let Some(wire) = &self.wire else { return Ok(Written { is_all: true, bytes }) };
            // They leave first, and are as they were until the socket takes them: a chat lags up to the newest of its entries.
            let ahead = self.lagged_frames(form);
            let mut pieces = [IoSlice::new(&[]); MAX_PIECES];
            let mut count = 0;
            let begun = [&*self.started, &*ahead].into_iter().filter(|piece| !piece.is_empty());
            let whole = self.frames.iter().map(|queued| queued.frame.as_bytes());
            for piece in begun.chain(whole).take(MAX_PIECES) {
                pieces[count] = IoSlice::new(piece);
                count += 1;
            }
            if count == 0 {
                return Ok(Written { is_all: true, bytes });
            }
            match wire.write(&pieces[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    bytes += taken;
                    self.took(taken, ahead);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Written { is_all: false, bytes });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns what is said of the first chats that lag.
    fn lagged_frames(&self, form: Form) -> Bytes {
        if self.lagged.is_empty() {
            return Bytes::new();
        }
        let first = self.lagged.iter().take(LAGGED_AT_ONCE);
        let frames: Vec<ServerFrame> = first.map(|(chat, seq)| lagged(*chat, *seq)).collect();
        let run = Run::encode(form, &frames).part(0..frames.len());
        run.and_then(|run| self.to_client(run)).map_or_else(Bytes::new, Frame::into_bytes)
    }

    /// Returns a frame as the client receives it; nothing when it has not subscribed to it.
    fn to_client(&self, frame: Frame) -> Option<Frame> {
        match &self.subscriptions {
            Some(subscriptions) => frame.addressed(subscriptions),
            None => Some(frame),
        }
    }

    /// Forgets the first bytes of what waits; `ahead` is what is said of the first chats that lag.
    fn took(&mut self, taken: usize, ahead: Bytes) {
        let mut left = self.took_of_started(taken);
        if left > 0 && !ahead.is_empty() {
            for _ in 0..LAGGED_AT_ONCE {
                self.lagged.pop_first();
            }
            self.started = ahead;
            left = self.took_of_started(left);
        }
        while left > 0 {
            let Some(Queued { frame, .. }) = self.frames.pop_front() else { break };
            self.bytes -= frame.len();
            self.started = frame.into_bytes();
            left = self.took_of_started(left);
        }
        if self.started.is_empty() {
            // It would keep the bytes before it.
            self.started = Bytes::new();
        }
        self.release();
    }

    /// Forgets the first bytes of what was begun, and returns how many of them are of what is behind it.
    fn took_of_started(&mut self, taken: usize) -> usize {
        let of_started = taken.min(self.started.len());
        self.started.advance(of_started);
        taken - of_started
    }

    /// Gives the memory of an emptied queue back: most connections are idle.
    fn release(&mut self) {
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        }
    }

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
        if self.subscriptions.as_ref().is_some_and(|subscriptions| !subscriptions.has_entries_of(chat)) {
            return;
        }
        let head = self.lagged.entry(chat).or_insert(seq);
        *head = seq.max(*head);
    }
}

fn lagged(chat: ChatId, head_seq: i64) -> ServerFrame {
    ServerFrame { lagged: Some(Lagged { chat, head_seq }), ..ServerFrame::default() }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{atomic::AtomicUsize, mpsc},
        task::Wake,
        thread,
        time::Duration,
    };

    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        frame::payloads,
        stomp::{codec::Version, subscriptions::Destination},
    };

    fn chat(n: u128) -> ChatId {
        ChatId(Uuid::from_u128(n))
    }

    /// Returns texts as they were queued, and what the queue itself made of `lagged`.
    fn all(queue: &SendQueue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop())
            .map(|frame| {
                let bytes = frame.as_bytes();
                let text = if bytes.starts_with(b"\x81") { payloads(bytes).concat() } else { bytes.to_vec() };
                String::from_utf8(text).expect("text")
            })
            .collect()
    }

    /// A socket that takes as many bytes as it has room for.
    #[derive(Default)]
    struct Socket(Mutex<Taken>);

    #[derive(Default)]
    struct Taken {
        room: usize,
        bytes: Vec<u8>,
        writes: usize,
    }

    impl Socket {
        fn with_room(room: usize) -> Arc<Self> {
            Arc::new(Self(Mutex::new(Taken { room, ..Taken::default() })))
        }

        fn taken(&self) -> MutexGuard<'_, Taken> {
            self.0.lock().expect("no panic")
        }

        fn text(&self) -> String {
            String::from_utf8(self.taken().bytes.clone()).expect("text")
        }
    }

    impl Wire for Socket {
        fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
            let mut taken = self.taken();
            taken.writes += 1;
            let bytes = bytes.iter().flat_map(|piece| piece.to_vec()).collect::<Vec<u8>>();
            let count = bytes.len().min(taken.room);
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            taken.room -= count;
            taken.bytes.extend_from_slice(&bytes[..count]);
            Ok(count)
        }
    }

    /// Counts how often a connection's task is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Task {
        /// Registers at a queue, and returns whether the task awaits room there: the first steps of each turn.
        fn looks(self: &Arc<Self>, queue: &SendQueue) -> bool {
            queue.register(&self.clone().into());
            queue.awaits_room()
        }

        /// Returns how often the task was woken since the last call.
        fn woken(&self) -> usize {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    fn messages(seq: i64, frame: &'static str) -> Queued {
        Queued::messages(chat(1), seq, frame.into())
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
    fn a_client_of_stomp_lags_in_chats_that_it_has_subscribed_to() {
        let queue = SendQueue::new(2_000, Arc::default()).of(Form::Stomp);
        let subscribe =
            || queue.subscriptions(|of| of.add(Version::V12, Some("a"), Destination::Chat(chat(1)), false));
        let lag = || (1..=2).for_each(|n| queue.lag(chat(n), 7));
        assert_eq!(subscribe(), Some(Ok(())));
        lag();
        let socket = Socket::with_room(10_000);
        queue.attach(socket.clone());
        assert!(queue.write().expect("room").is_all);
        let messages = payloads(&socket.taken().bytes);
        let texts: Vec<_> = messages.iter().map(|message| String::from_utf8_lossy(message)).collect();
        assert_eq!(texts.len(), 1, "{texts:?}");
        assert!(texts[0].contains("type:lagged") && texts[0].contains(&chat(1).to_string()), "{texts:?}");

        // What a client does not receive any more it does not lack.
        lag();
        let removed = queue.subscriptions(|of| of.remove(Some("a"), None));
        assert_eq!(removed, Some(Some(Destination::Chat(chat(1)))));
        assert_eq!(queue.write().ok(), Some(Written { is_all: true, bytes: 0 }));
        assert_eq!(subscribe(), Some(Ok(())));
        assert_eq!(queue.write().ok(), Some(Written { is_all: true, bytes: 0 }));
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
    fn what_clients_leave_unfinished_takes_a_part_of_the_budget_and_no_page() {
        const EACH: usize = 64 * 1024;
        let total = Arc::new(QueuedBytes::with_budget(16 * 1024 * 1024));
        let mut rooms: Vec<Room> = Vec::new();
        loop {
            let mut room = total.inbound_room();
            if !room.resize(EACH) {
                break;
            }
            rooms.push(room);
        }
        assert_eq!(total.inbound_bytes(), signed(rooms.len() * EACH));
        assert!((20..64).contains(&rooms.len()), "{} of 4 MiB", rooms.len());
        assert_eq!(total.get(), total.inbound_bytes());
        assert!(total.reserve(8 * 1024 * 1024).is_some(), "others are read as before");
        let mut small = total.inbound_room();
        assert!(small.resize(SMALLEST_INBOUND_BYTES), "so are those who send little");
        assert!(rooms[0].resize(EACH / 2), "what becomes less is not too much");
        drop((rooms, small));
        assert_eq!((total.get(), total.inbound_bytes()), (0, 0));
    }

    #[test]
    fn however_many_messages_are_begun_they_take_no_more_than_their_part() {
        const BUDGET: usize = 16 * 1024 * 1024;
        let total = Arc::new(QueuedBytes::with_budget(BUDGET));
        let begin = || {
            let mut room = total.inbound_room();
            assert!(room.resize(SMALLEST_INBOUND_BYTES), "each client may have as much");
            room
        };
        let begun: Vec<Room> = (0..2 * BUDGET / SMALLEST_INBOUND_BYTES).map(|_| begin()).collect();
        assert_eq!(total.get(), signed(2 * BUDGET));
        assert!(total.reserve(BUDGET / 2).is_some(), "others have their pages");
        let queue = SendQueue::new(1024 * 1024, total.clone());
        let frame: Frame = "x".repeat(1024 * 1024).into();
        assert_eq!(queue.push_message(chat(1), 1, frame), Pushed::Queued, "and their messages");
        drop((begun, queue));
        assert_eq!((total.get(), total.inbound_bytes()), (0, 0));
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

    #[test]
    fn what_waits_leaves_in_one_write_and_wakes_no_task() {
        let (socket, task, total) = (Socket::with_room(100), Arc::<Task>::default(), Arc::default());
        let queue = SendQueue::new(100, Arc::<QueuedBytes>::clone(&total));
        queue.attach(socket.clone());
        queue.register(&task.clone().into());
        assert_eq!(queue.put(messages(1, "one ")), (Pushed::Queued, true));
        assert_eq!(
            queue.put(messages(3, "two, three ")),
            (Pushed::Queued, false),
            "it is to be flushed already"
        );
        assert_eq!(queue.put(Queued::answer("answer".into())), (Pushed::Queued, false));
        assert_eq!(total.get(), 0, "it is about to leave");
        queue.flush();
        assert_eq!(socket.text(), "one two, three answer");
        assert_eq!((socket.taken().writes, task.0.load(Ordering::Relaxed)), (1, 0));
        assert_eq!((queue.bytes(), total.get(), queue.lock().frames.capacity()), (0, 0, 0));
        assert_eq!(
            queue.put(messages(4, "four")),
            (Pushed::Queued, true),
            "the next one is to be flushed again"
        );
    }

    #[test]
    fn a_socket_that_takes_a_part_receives_the_rest_and_nothing_twice() {
        let texts = ["a", "bcdefg", "hi", "jklmnopqrstuvw", "xyz"];
        let whole = texts.concat();
        for room in 1..=whole.len() {
            let (socket, total) = (Socket::with_room(room), Arc::default());
            let queue = SendQueue::new(1_000, Arc::<QueuedBytes>::clone(&total));
            queue.attach(socket.clone());
            for (seq, text) in (1..).zip(texts) {
                queue.put(messages(seq, text));
            }
            queue.flush();
            assert_eq!(socket.text(), whole[..room]);
            while queue.write().expect("an open socket") != (Written { is_all: true, bytes: 0 }) {
                socket.taken().room = room;
            }
            assert_eq!(socket.text(), whole, "{room} bytes at a time");
            assert_eq!((queue.bytes(), total.get(), queue.lock().started.len()), (0, 0, 0));
        }
    }

    #[test]
    fn a_slow_socket_costs_one_write_and_then_its_own_task() {
        let (socket, task, total) = (Socket::with_room(5), Arc::<Task>::default(), Arc::default());
        let queue = SendQueue::new(100, Arc::<QueuedBytes>::clone(&total));
        queue.attach(socket.clone());
        queue.register(&task.clone().into());
        assert!(queue.put(messages(1, "a run of messages")).1);
        queue.flush();
        let writes = socket.taken().writes;
        assert_eq!(task.0.load(Ordering::Relaxed), 1, "its task goes on");
        for seq in 2..5 {
            assert_eq!(queue.put(messages(seq, "more")), (Pushed::Queued, false), "no one else does");
        }
        queue.flush();
        assert_eq!(socket.taken().writes, writes, "nor by mistake");
        assert_eq!(total.get(), 24, "what stays is counted, the rest of what was begun too");
        socket.taken().room = 100;
        assert_eq!(queue.write().expect("an open socket"), Written { is_all: true, bytes: 24 });
        assert_eq!((socket.text().as_str(), total.get()), ("a run of messagesmoremoremore", 0));
        assert!(queue.put(messages(5, "and on")).1, "it is quick again");
    }

    #[test]
    fn who_awaits_room_is_woken_when_it_is_there_and_not_before() {
        let (socket, task) = (Socket::with_room(usize::MAX), Arc::<Task>::default());
        let queue = SendQueue::new(20, Arc::default());
        queue.attach(socket.clone());
        // By a flush.
        assert!(queue.put(messages(1, "twelve bytes")).1);
        assert!(task.looks(&queue));
        assert_eq!(task.woken(), 0);
        queue.flush();
        assert_eq!(task.woken(), 1);
        assert!(!task.looks(&queue));
        assert!(queue.put(messages(2, "few")).1);
        queue.flush();
        assert_eq!(task.woken(), 0, "it awaits none");
        // By a write on the spot, for what comes next.
        assert!(queue.put(messages(3, "twelve bytes")).1);
        assert!(task.looks(&queue));
        assert_eq!(queue.put(messages(4, "few")), (Pushed::Queued, false));
        assert_eq!(task.woken(), 1);
        queue.flush();
        // By what is dropped. A socket that takes nothing is the task's, whatever else is pushed meanwhile.
        socket.taken().room = 0;
        assert!(queue.put(messages(5, "twelve bytes")).1);
        task.looks(&queue);
        queue.flush();
        assert_eq!(task.woken(), 1, "it goes on with the socket");
        assert!(task.looks(&queue));
        queue.push("answer".into());
        queue.push_fleeting("on".into());
        queue.lag(chat(2), 1);
        assert_eq!(task.woken(), 0);
        assert_eq!(queue.put(messages(6, "few")).0, Pushed::Dropped);
        assert_eq!(task.woken(), 1, "the answer is left");
        // It has to close.
        assert!(!task.looks(&queue));
        assert_eq!(queue.push("twenty bytes are more".into()), Pushed::Closed);
        assert_eq!(task.woken(), 1);
        assert!(task.looks(&queue));
        assert_eq!(queue.push("more".into()), Pushed::Closed);
        assert_eq!(task.woken(), 0, "it knows");
    }

    /// A task that puts as much as makes it await room, while another one flushes: at each moment of the flush, it goes on.
    #[test]
    fn room_that_is_made_beside_a_look_is_not_missed() {
        const COMMANDS: usize = 20_000;
        const PATIENCE: Duration = Duration::from_secs(30);

        struct Parked(mpsc::Sender<()>);

        impl Wake for Parked {
            fn wake(self: Arc<Self>) {
                self.0.send(()).ok();
            }
        }

        let queue = Arc::new(SendQueue::new(8, Arc::default()));
        queue.attach(Socket::with_room(usize::MAX));
        let (list, listed) = mpsc::channel();
        let flushing = {
            let queue = queue.clone();
            thread::spawn(move || listed.iter().for_each(|()| queue.flush()))
        };
        let (wake, woken) = mpsc::channel();
        let task = Arc::new(Parked(wake));
        let mut waits = 0;
        for _ in 0..COMMANDS {
            if queue.put(Queued::answer("answer".into())).1 {
                list.send(()).expect("the list is read");
            }
            loop {
                queue.register(&task.clone().into());
                if !queue.awaits_room() {
                    break;
                }
                waits += 1;
                woken.recv_timeout(PATIENCE).expect("a wake-up");
            }
        }
        drop(list);
        flushing.join().expect("no panic");
        assert!(waits > 0 && woken.try_iter().count() == 0, "each wake-up is for a wait");
    }

    #[test]
    fn a_client_that_reads_no_pong_is_not_read_either() {
        let (socket, task) = (Socket::with_room(0), Arc::<Task>::default());
        let queue = SendQueue::new(1024 * 1024, Arc::default());
        queue.attach(socket.clone());
        while !task.looks(&queue) {
            queue.push_own(Frame::pong(b""));
            assert!(!queue.write().expect("an open socket").is_all);
        }
        assert_eq!(queue.lock().frames.len(), MOST_FRAMES + 1);
        socket.taken().room = usize::MAX;
        assert!(queue.write().expect("an open socket").is_all);
        assert!(!task.looks(&queue));
    }

    #[test]
    fn whatever_is_dropped_the_rest_of_what_was_begun_comes_first() {
        let socket = Socket::with_room(3);
        let queue = SendQueue::new(10, Arc::default());
        queue.attach(socket.clone());
        queue.put(messages(1, "first"));
        queue.flush();
        queue.put(messages(2, "second"));
        assert_eq!(queue.put(messages(3, "third")).0, Pushed::Dropped);
        socket.taken().room = 1_000;
        queue.write().expect("an open socket");
        let taken = socket.taken().bytes.clone();
        let rest = taken.strip_prefix(b"first").expect("all of it");
        assert_eq!(payloads(rest), [lagged(1, 3).into_bytes()]);
    }

    #[test]
    fn a_chat_lags_up_to_the_newest_entry_when_the_socket_takes_it() {
        let socket = Socket::with_room(0);
        let queue = SendQueue::new(10, Arc::default());
        queue.attach(socket.clone());
        queue.put(messages(1, "first"));
        queue.flush();
        assert_eq!(queue.put(messages(2, "second")).0, Pushed::Dropped);
        for seq in 3..5 {
            assert!(!queue.write().expect("an open socket").is_all);
            assert_eq!(queue.put(messages(seq, "more")).0, Pushed::Dropped);
        }
        socket.taken().room = 1_000;
        assert!(queue.write().expect("an open socket").is_all);
        assert_eq!(payloads(&socket.taken().bytes), [lagged(1, 4).into_bytes()]);
        assert_eq!(queue.put(messages(5, "fifth")).0, Pushed::Queued, "notified, it flows again");
    }

    #[test]
    fn a_client_is_told_that_a_chat_lags_however_small_the_parts_are_that_its_socket_takes() {
        let socket = Socket::with_room(3);
        let queue = SendQueue::new(100, Arc::default());
        queue.attach(socket.clone());
        queue.put(messages(1, "first"));
        queue.flush();
        queue.put_lag(chat(2), 7);
        queue.put(messages(2, "second"));
        for _ in 0..3 {
            socket.taken().room = 3;
            assert!(!queue.write().expect("an open socket").is_all);
        }
        socket.taken().room = 1_000;
        queue.write().expect("an open socket");
        let taken = socket.taken().bytes.clone();
        let behind = taken.strip_prefix(b"first").expect("it was begun");
        let said = behind.strip_suffix(b"second").expect("it is behind what is said of the other chat");
        assert_eq!(payloads(said), [lagged(2, 7).into_bytes()]);
    }

    #[test]
    fn however_many_chats_lag_a_write_encodes_some_of_them() {
        let (socket, total) = (Socket::with_room(1), Arc::default());
        let queue = SendQueue::new(100, Arc::<QueuedBytes>::clone(&total));
        queue.attach(socket.clone());
        let chats = 2 * LAGGED_AT_ONCE + 1;
        for n in 0..chats {
            queue.put_lag(chat(n as u128), 1);
        }
        assert!(!queue.write().expect("an open socket").is_all);
        assert_eq!(queue.lock().lagged.len(), LAGGED_AT_ONCE + 1);
        assert_eq!(total.get(), signed(queue.lock().started.len()));
        socket.taken().room = usize::MAX;
        assert!(queue.write().expect("an open socket").is_all);
        assert_eq!(payloads(&socket.taken().bytes).len(), chats);
        assert_eq!(total.get(), 0);
    }

    #[test]
    fn a_client_that_reads_does_not_lag_for_what_comes_at_once() {
        let socket = Socket::with_room(1_000);
        let queue = SendQueue::new(10, Arc::default());
        queue.attach(socket.clone());
        let mut whole = String::new();
        for seq in 1..100 {
            assert_eq!(queue.put(messages(seq, "abcd")).0, Pushed::Queued);
            whole.push_str("abcd");
        }
        queue.flush();
        assert_eq!(socket.text(), whole);
    }

    #[test]
    fn nothing_is_left_behind_the_last_frame() {
        let (socket, total) = (Socket::with_room(3), Arc::default());
        let queue = SendQueue::new(100, Arc::<QueuedBytes>::clone(&total));
        queue.attach(socket.clone());
        queue.put(messages(1, "first"));
        queue.flush();
        queue.put(messages(2, "second"));
        queue.end_with(Some("bye".into()));
        assert_eq!(queue.push("answer".into()), Pushed::Closed);
        queue.lag(chat(1), 3);
        queue.put_lag(chat(1), 4);
        socket.taken().room = 100;
        assert!(queue.write().expect("an open socket").is_all);
        assert_eq!((socket.text().as_str(), total.get()), ("firstbye", 0));
    }

    #[test]
    fn a_connection_that_has_ended_keeps_neither_socket_nor_bytes() {
        let (socket, total) = (Socket::with_room(3), Arc::default());
        let queue = SendQueue::new(100, Arc::<QueuedBytes>::clone(&total));
        queue.attach(socket.clone());
        queue.put(messages(1, "first"));
        queue.flush();
        queue.put(messages(2, "second"));
        queue.detach();
        assert_eq!((Arc::strong_count(&socket), queue.bytes(), total.get()), (1, 0, 0));
        assert_eq!(queue.put(messages(3, "third")), (Pushed::Closed, false));
    }

    /// Frames are put while others are flushed: each is written, once and in order, though the queue may be on the list already.
    #[test]
    fn what_is_put_beside_a_flush_is_not_forgotten() {
        const EACH: usize = 20_000;
        let socket = Socket::with_room(usize::MAX);
        let queue = Arc::new(SendQueue::new(usize::MAX, Arc::new(QueuedBytes::with_budget(1 << 40))));
        queue.attach(socket.clone());
        let (list, listed) = mpsc::channel();
        let putting = ["a", "b"].map(|text| {
            let (queue, list) = (queue.clone(), list.clone());
            thread::spawn(move || {
                for _ in 0..EACH {
                    if queue.put(Queued::answer(text.into())).1 {
                        list.send(()).expect("the list is read");
                    }
                }
            })
        });
        drop(list);
        let flushing = {
            let queue = queue.clone();
            thread::spawn(move || listed.iter().for_each(|()| queue.flush()))
        };
        for thread in putting {
            thread.join().expect("no panic");
        }
        flushing.join().expect("no panic");
        let text = socket.text();
        assert_eq!(["a", "b"].map(|of| text.matches(of).count()), [EACH; 2]);
        assert_eq!(queue.bytes(), 0);
    }
}
