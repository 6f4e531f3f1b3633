//! The socket of a connection: one task that reads, writes, and carries out the session's actions.

mod commands;
#[cfg(test)]
mod conformance;
mod inbound;
mod refusals;
mod sending;
mod sends;
mod step;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use contracts::wire::{CloseCode, RequestId};
use futures_util::{
    FutureExt as _, Sink as _, SinkExt as _, Stream as _, StreamExt as _, future::BoxFuture,
    stream::FuturesUnordered,
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WsError, Message,
        error::CapacityError,
        protocol::{
            CloseFrame, Role, WebSocketConfig,
            frame::{
                Frame as WsFrame,
                coding::{self, Data, OpCode},
            },
        },
    },
};

use self::{
    inbound::Inbound,
    step::{Pending, Step},
};
use crate::{
    domain::{
        answer::Answer,
        frame::Frame,
        session::{Action, Lane, Session, SocketState},
    },
    registry::Connection,
    state::GatewayState,
};

/// Allocated for every connection; the library's default of 128 KiB would be most of a connection's memory.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Frames gather here up to one write.
const WRITE_BUFFER_BYTES: usize = 4 * 1024;
/// Holds the largest frame of ours: a page of history whose every character is escaped.
const MAX_WRITE_BUFFER_BYTES: usize = 1024 * 1024;
/// A frame up to this size is read and answered with `too_large`; a larger one ends the connection.
const MAX_READ_FRAME_BYTES: usize = 256 * 1024;
/// What is read of a client before its user is known: `connect` with a large token.
const MAX_STRANGER_BYTES: usize = 8 * 1024;
/// What a client that is being closed may still send before it is cut off.
const MAX_DISCARDED_BYTES: usize = 4 * 1024 * 1024;

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// We close with one of our codes.
    Close(CloseCode),
    /// We close with a code of RFC 6455.
    Protocol(u16, &'static str),
    /// The client closed, or is gone.
    Gone,
}

impl End {
    const fn reason(self) -> &'static str {
        match self {
            Self::Close(code) => code.reason(),
            Self::Protocol(_, reason) => reason,
            Self::Gone => "gone",
        }
    }

    /// Returns what is written to the client at the end; nothing when it closes itself.
    fn frame(self) -> Option<CloseFrame> {
        match self {
            Self::Close(code) => Some(CloseFrame { code: code.code().into(), reason: code.reason().into() }),
            Self::Protocol(code, reason) => {
                Some(CloseFrame { code: coding::CloseCode::from(code), reason: reason.into() })
            }
            Self::Gone => None,
        }
    }
}

/// The WebSocket of a connection.
type WebSocket = WebSocketStream<Inbound<TokioIo<Upgraded>>>;

enum Event {
    Frame(Message),
    Failed(WsError),
    Ended,
    Decided(Option<RequestId>, Step),
    Answered(Option<RequestId>, Lane, Answer),
    Deadline,
    Close(CloseCode),
}

/// A command whose answer is on its way.
struct Unanswered {
    id: Option<RequestId>,
    pending: Pending,
}

impl Future for Unanswered {
    type Output = (Option<RequestId>, Lane, Answer);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(self.pending.poll_unpin(cx));
        Poll::Ready((self.id.take(), self.pending.lane(), answer))
    }
}

struct Socket {
    gateway: Arc<GatewayState>,
    connection: Arc<Connection>,
    ws: WebSocket,
    session: Session,
    /// A command that is being decided; reading waits for it.
    undecided: Option<(Option<RequestId>, BoxFuture<'static, Step>)>,
    unanswered: FuturesUnordered<Unanswered>,
    timer: Pin<Box<Sleep>>,
    /// When `timer` fires.
    armed: Instant,
    unflushed: bool,
    /// The socket did not take all that the library holds; until it has, that is no progress.
    blocked: bool,
    /// Nothing is read any more.
    closing: bool,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(gateway: Arc<GatewayState>, connection: Arc<Connection>, upgraded: Upgraded) {
    let ws = open(upgraded, config()).await;
    let now = Instant::now();
    let session = Session::new(connection.session, gateway.limits.clone(), now);
    let armed = session.deadline(now);
    let timer = Box::pin(sleep_until(armed.into()));
    let mut socket = Socket {
        gateway,
        connection,
        ws,
        session,
        undecided: None,
        unanswered: FuturesUnordered::new(),
        timer,
        armed,
        unflushed: false,
        blocked: false,
        closing: false,
    };
    let end = socket.run().await;
    let (session, reason) = (socket.connection.session, end.reason());
    tracing::debug!(%session, reason, "connection {session} ends: {reason}");
    socket.gateway.metrics.count_close(reason);
    // Boxed: an idle connection should not carry the room that closing needs.
    Box::pin(socket.close(end)).await;
}

/// Returns what the WebSocket of a connection holds at most.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES + WRITE_BUFFER_BYTES)
        .max_message_size(Some(MAX_READ_FRAME_BYTES))
        .max_frame_size(Some(MAX_READ_FRAME_BYTES))
}

/// Speaks the WebSocket protocol from now on, with a client that nothing is known of.
async fn open(upgraded: Upgraded, config: WebSocketConfig) -> WebSocket {
    let inbound = Inbound::new(TokioIo::new(upgraded), MAX_STRANGER_BYTES);
    WebSocketStream::from_raw_socket(inbound, Role::Server, Some(config)).await
}

/// Waits until the client has answered our close frame or has gone, reading what it sends meanwhile: a socket that is
/// closed with unread input resets, and the client would never see why.
async fn part(ws: &mut WebSocket, within: Duration) {
    ws.get_mut().lift();
    let answered = async {
        while let Some(Ok(frame)) = ws.next().await {
            if frame.is_close() {
                // The client waits for us to close now.
                return;
            }
        }
        // Frames of this client cannot be read any more, its answer neither: it is to see now that we are done.
        drop(ws.get_mut().shutdown().await);
        let mut rest = vec![0; READ_BUFFER_BYTES];
        let mut left = MAX_DISCARDED_BYTES;
        while let Ok(read @ 1..) = ws.get_mut().read(&mut rest).await {
            left = left.saturating_sub(read);
            if left == 0 {
                break;
            }
        }
    };
    drop(timeout(within, answered).await);
}

impl Socket {
    async fn run(&mut self) -> End {
        loop {
            let event = poll_fn(|cx| self.poll_event(cx)).await;
            if let Some(end) = self.handle(event) {
                return end;
            }
        }
    }

    fn handle(&mut self, event: Event) -> Option<End> {
        let now = Instant::now();
        let action = match event {
            Event::Frame(Message::Text(text)) => {
                self.gateway.metrics.count_frame("text");
                self.session.text(now, &text)
            }
            Event::Frame(Message::Binary(_)) => {
                self.gateway.metrics.count_frame("binary");
                self.session.binary(now)
            }
            Event::Frame(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                self.session.control(now);
                Action::Nothing
            }
            Event::Frame(Message::Close(_)) | Event::Ended => return Some(End::Gone),
            Event::Failed(error) => return Some(end_of(&error)),
            Event::Decided(id, step) => return self.advance(now, id, step),
            Event::Answered(id, lane, answer) => self.session.finished(lane, id, answer),
            Event::Deadline => {
                let reading = self.may_read(now);
                self.session.deadline_passed(now, SocketState { reading })
            }
            Event::Close(code) => return Some(End::Close(code)),
        };
        self.act(now, action)
    }

    /// Carries out the session's actions.
    fn act(&mut self, now: Instant, action: Action) -> Option<End> {
        match action {
            Action::Nothing => {}
            Action::Answer(frame) => {
                if let Some(error) = &frame.error {
                    self.gateway.metrics.count_error(error.code);
                }
                self.connection.queue.push(Frame::encode(&frame));
            }
            Action::Open(identity, token_session, frame) => {
                self.ws.get_mut().lift();
                // The answer is queued first: no push comes before it.
                self.connection.queue.push(Frame::encode(&frame));
                self.connection.set_token_session(token_session);
                let most = self.gateway.limits.connections_per_user;
                self.gateway.registry.identify(&self.connection, identity, most);
                self.gateway.ended.check(identity.user, &self.connection);
                self.gateway.sessions.opened(self.connection.session, identity);
                self.gateway.presence.opened(identity.user);
            }
            Action::Renew(identity, token_session, frame) => {
                self.connection.queue.push(Frame::encode(&frame));
                self.connection.set_token_session(token_session);
                self.gateway.ended.check(identity.user, &self.connection);
            }
            Action::Ping => {
                self.connection.queue.push(Frame::ping());
            }
            Action::Close(code) => return Some(End::Close(code)),
            Action::Refuse(frame, code) => {
                self.act(now, Action::Answer(frame));
                return Some(End::Close(code));
            }
            Action::Connect(id, connect) => {
                return self.advance(now, id, commands::connect(&self.gateway, connect));
            }
            Action::Run(id, caller, command) => {
                return self.advance(
                    now,
                    id,
                    commands::run(&self.gateway, &self.connection, caller, command),
                );
            }
        }
        None
    }

    /// Takes a command as far as it goes now.
    fn advance(&mut self, now: Instant, id: Option<RequestId>, step: Step) -> Option<End> {
        let action = match step {
            Step::Nothing => {
                self.session.passed();
                Action::Nothing
            }
            Step::Answer(answer) => self.session.answered(now, id, answer),
            Step::Connected(device, token) => self.session.connected(now, id, device, token),
            Step::Refreshed(token) => self.session.refreshed(now, id, token),
            Step::Undecided(step) => {
                self.undecided = Some((id, step));
                Action::Nothing
            }
            Step::Pending(pending) => {
                self.session.started(pending.lane());
                self.unanswered.push(Unanswered { id, pending });
                Action::Nothing
            }
        };
        self.act(now, action)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.connection.queue.register(cx.waker());
        let now = Instant::now();
        if let Err(error) = self.poll_write(cx, now) {
            return Poll::Ready(Event::Failed(error));
        }
        if let Some(code) = self.connection.queue.close_requested()
            && !self.closing
        {
            return Poll::Ready(Event::Close(code));
        }
        if let Poll::Ready(Some((id, lane, answer))) = self.unanswered.poll_next_unpin(cx) {
            return Poll::Ready(Event::Answered(id, lane, answer));
        }
        if let Some((id, step)) = &mut self.undecided
            && let Poll::Ready(step) = step.poll_unpin(cx)
        {
            let id = id.take();
            self.undecided = None;
            return Poll::Ready(Event::Decided(id, step));
        }
        if !self.closing && self.poll_deadline(cx, now).is_ready() {
            return Poll::Ready(Event::Deadline);
        }
        if self.may_read(now)
            && let Poll::Ready(frame) = Pin::new(&mut self.ws).poll_next(cx)
        {
            return Poll::Ready(match frame {
                Some(Ok(frame)) => Event::Frame(frame),
                Some(Err(error)) => Event::Failed(error),
                None => Event::Ended,
            });
        }
        Poll::Pending
    }

    /// Returns whether the client may send more: not while it leaves our answers unread.
    fn may_read(&self, now: Instant) -> bool {
        !self.closing && self.session.may_read(now) && !self.connection.queue.is_crowded()
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let deadline = self.session.deadline(now);
        if deadline <= now {
            // Moved on by what the session does at its deadline.
            return Poll::Ready(());
        }
        // A timer that fires too early is cheaper than one that is moved with every frame.
        if deadline < self.armed || self.armed <= now {
            self.armed = deadline;
            self.timer.as_mut().reset(deadline.into());
        }
        match self.timer.poll_unpin(cx) {
            Poll::Ready(()) => {
                self.armed = deadline;
                self.timer.as_mut().reset(deadline.into());
                self.timer.poll_unpin(cx)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Writes what is queued, as far as the socket takes it.
    fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), WsError> {
        loop {
            match Pin::new(&mut self.ws).poll_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => {
                    self.blocked = true;
                    self.session.write_blocked(now);
                    return Ok(());
                }
            }
            if self.blocked {
                self.blocked = false;
                self.session.write_went_on();
            }
            let Some(frame) = self.connection.queue.pop() else { break };
            Pin::new(&mut self.ws).start_send(text(frame))?;
            self.unflushed = true;
        }
        if self.unflushed {
            match Pin::new(&mut self.ws).poll_flush(cx) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending => {
                    self.session.write_blocked(now);
                    return Ok(());
                }
            }
            self.unflushed = false;
        }
        self.session.write_went_on();
        Ok(())
    }

    async fn close(mut self, end: End) {
        self.closing = true;
        let limits = self.gateway.limits.clone();
        let Some(frame) = end.frame() else {
            // Answers the client's close frame, if that is what came.
            drop(timeout(limits.close_within, self.ws.flush()).await);
            return;
        };
        // What is in the producer's queue is answered before we leave a client that does nothing wrong.
        if matches!(end, End::Close(CloseCode::Drain | CloseCode::TokenExpired | CloseCode::Superseded)) {
            drop(timeout(limits.produce_within, self.finish()).await);
        }
        let goodbye = async {
            poll_fn(|cx| self.poll_written(cx)).await?;
            self.ws.send(Message::Close(Some(frame))).await
        };
        if !matches!(timeout(limits.close_within, goodbye).await, Ok(Ok(()))) {
            return;
        }
        part(&mut self.ws, limits.close_within).await;
    }

    /// Waits for the answers of commands that are on their way.
    async fn finish(&mut self) {
        while self.session.is_busy() {
            match poll_fn(|cx| self.poll_event(cx)).await {
                Event::Failed(_) | Event::Ended => return,
                event => {
                    self.handle(event);
                }
            }
        }
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        self.connection.queue.register(cx.waker());
        self.poll_write(cx, Instant::now())?;
        if self.unflushed || self.connection.queue.bytes() > 0 {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

/// Returns a text frame as the WebSocket library takes it without copying it or checking that it is UTF-8 again.
fn text(frame: Frame) -> Message {
    Message::Frame(WsFrame::message(frame.into_bytes(), OpCode::Data(Data::Text), true))
}

/// Close codes of RFC 6455 for a client that does not speak it.
pub(crate) const PROTOCOL_ERROR: u16 = 1002;
pub(crate) const NOT_UTF_8: u16 = 1007;

fn end_of(error: &WsError) -> End {
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { .. }) => End::Close(CloseCode::TooLarge),
        WsError::Io(error) if inbound::is_too_much(error) => End::Close(CloseCode::TooLarge),
        WsError::Utf8(_) => End::Protocol(NOT_UTF_8, "a text frame is UTF-8"),
        WsError::Protocol(_) | WsError::Capacity(_) => {
            End::Protocol(PROTOCOL_ERROR, "not the WebSocket protocol")
        }
        _ => End::Gone,
    }
}
