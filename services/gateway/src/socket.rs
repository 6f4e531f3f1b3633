//! The connection of a client: one task that reads, writes, and carries out the session's actions, whatever carries the frames.

mod commands;
mod exchange;
mod refusals;
mod sending;
mod sends;
mod step;
mod stomp;
mod stream;
mod transport;
mod turns;
mod websocket;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use contracts::{
    DeviceId,
    wire::{CloseCode, RequestId, ServerFrame},
};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use hyper::upgrade::Upgraded;
use kit::{
    process::socket_of,
    traces::{Span, SpanKind},
};
use tokio::time::{Sleep, sleep_until, timeout};

#[cfg(test)]
pub(crate) use self::websocket::{NOT_UTF_8, POLICY_VIOLATION, PROTOCOL_ERROR};
pub(crate) use self::{commands::vouched, exchange::exchange, stream::EventStream};
use self::{
    step::{Pending, Step},
    stomp::{Awaited, Stomp},
    transport::{Incoming, Transport, Writing},
    websocket::Socket,
};
use crate::{
    domain::{
        answer::Answer,
        frame::{Form, Frame},
        posted::Reply,
        session::{Action, Lane, Session, SocketState, VerifiedToken},
    },
    registry::Connection,
    state::GatewayState,
};

/// So many events come before what they led to is written: answers that are ready at the same moment leave together.
const EVENTS_AT_ONCE: usize = 64;

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// We close with one of our codes.
    Close(CloseCode),
    /// We close as slow a client that left so much of a message unfinished that the process has no memory for it.
    NoRoom,
    /// We close with a code of RFC 6455.
    Protocol(u16, &'static str),
    /// The client has said in its own protocol that it is done.
    Done,
    /// The client closed, or is gone.
    Gone,
}

impl End {
    const fn reason(self) -> &'static str {
        match self {
            Self::Close(code) => code.reason(),
            Self::NoRoom => "no room",
            Self::Protocol(_, reason) => reason,
            Self::Done => "done",
            Self::Gone => "gone",
        }
    }
}

enum Event {
    Incoming(Incoming),
    Decided(Asked, Step),
    Answered(Asked, Lane, Answer),
    Deadline,
    End(End),
}

/// What the answer to a command needs.
struct Asked {
    id: Option<RequestId>,
    /// Where the answer goes instead of the connection.
    reply: Option<ReplyTo>,
    /// The command, from its frame to its answer.
    span: Span,
}

/// Where an answer goes that is not to be a frame of the connection's own encoding.
enum ReplyTo {
    /// To a request beside the connection.
    Post(Reply),
    /// To the connection, in frames of STOMP.
    Stomp(Box<Awaited>),
}

/// A command whose answer is on its way.
struct Unanswered {
    /// Present until the answer is there.
    asked: Option<Asked>,
    pending: Pending,
}

impl Future for Unanswered {
    type Output = (Asked, Lane, Answer);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(self.pending.poll_unpin(cx));
        let asked = self.asked.take().expect("a command is answered once");
        Poll::Ready((asked, self.pending.lane(), answer))
    }
}

/// A connection that is served.
struct Serving<T> {
    gateway: Arc<GatewayState>,
    connection: Arc<Connection>,
    transport: T,
    session: Session,
    /// Nothing for a client that does not speak STOMP.
    stomp: Option<Box<Stomp>>,
    /// A command that is being decided; reading waits for it.
    undecided: Option<(Asked, BoxFuture<'static, Step>)>,
    /// Nothing while all commands are answered: most connections are idle.
    unanswered: Option<FuturesUnordered<Unanswered>>,
    timer: Pin<Box<Sleep>>,
    /// When `timer` fires.
    armed: Instant,
    /// Events since the last write.
    unwritten: usize,
    /// Nothing is read any more.
    closing: bool,
}

/// Serves a WebSocket until it ends.
pub(crate) async fn serve(gateway: Arc<GatewayState>, connection: Arc<Connection>, upgraded: Upgraded) {
    let Some(socket) = socket_of(upgraded) else {
        let session = connection.session;
        return tracing::error!(%session, "connection {session} did not come through the listener of this process");
    };
    let socket = Socket::open(socket, &connection.queue);
    Serving::new(gateway, connection, socket).serve(None).await;
}

/// Serves an event stream until it ends. It is this user's from its beginning.
pub(crate) async fn serve_stream(
    gateway: Arc<GatewayState>,
    connection: Arc<Connection>,
    stream: EventStream,
    device: DeviceId,
    token: VerifiedToken,
) {
    gateway.membership.prepare(token.user).await;
    Serving::new(gateway, connection, stream).serve(Some((device, token))).await;
}

impl<T: Transport> Serving<T> {
    fn new(gateway: Arc<GatewayState>, connection: Arc<Connection>, transport: T) -> Self {
        let now = Instant::now();
        let session =
            Session::new(connection.session, connection.queue.encoding(), gateway.limits.clone(), now);
        let armed = session.deadline(now);
        let stomp = (connection.queue.form() == Form::Stomp).then(Box::default);
        Self {
            gateway,
            connection,
            transport,
            session,
            stomp,
            undecided: None,
            unanswered: None,
            timer: Box::pin(sleep_until(armed.into())),
            armed,
            unwritten: 0,
            closing: false,
        }
    }

    async fn serve(mut self, connected: Option<(DeviceId, VerifiedToken)>) {
        let end = self.run(connected).await;
        let (session, reason) = (self.connection.session, end.reason());
        tracing::debug!(%session, reason, "connection {session} ends: {reason}");
        self.gateway.metrics.count_close(reason);
        // Boxed: an idle connection should not carry the room that closing needs.
        Box::pin(self.close(end)).await;
    }

    async fn run(&mut self, connected: Option<(DeviceId, VerifiedToken)>) -> End {
        if let Some((device, token)) = connected {
            let now = Instant::now();
            let action = self.session.connected(now, None, device, Ok(token));
            if let Some(end) = self.act(now, None, action) {
                return end;
            }
        }
        loop {
            let event = poll_fn(|cx| self.poll_event(cx)).await;
            if let Some(end) = self.handle(event) {
                return end;
            }
        }
    }

    fn handle(&mut self, event: Event) -> Option<End> {
        let now = Instant::now();
        let (reply, action) = match event {
            Event::Incoming(Incoming::Text(text, reply)) => {
                self.gateway.metrics.count_frame("text");
                if self.stomp.is_some() {
                    return self.stomp_frame(now, text.as_bytes());
                }
                (reply.map(ReplyTo::Post), self.session.text(now, &text))
            }
            Event::Incoming(Incoming::Binary(bytes)) => {
                self.gateway.metrics.count_frame("binary");
                if self.stomp.is_some() {
                    return self.stomp_frame(now, &bytes);
                }
                (None, self.session.binary(now, &bytes))
            }
            Event::Incoming(Incoming::Ping(bytes)) => {
                self.session.control(now);
                self.connection.queue.push_own(Frame::pong(&bytes));
                (None, Action::Nothing)
            }
            Event::Incoming(Incoming::Control) => {
                self.session.control(now);
                (None, Action::Nothing)
            }
            Event::Incoming(Incoming::Ended(end)) | Event::End(end) => return Some(end),
            Event::Decided(asked, step) => return self.advance(now, asked, step),
            Event::Answered(Asked { id, reply, span }, lane, answer) => {
                conclude(span, &answer);
                (reply, self.session.finished(lane, id, answer))
            }
            Event::Deadline => {
                let reading = T::ANSWERS_PINGS && self.may_read(now);
                (None, self.session.deadline_passed(now, SocketState { reading }))
            }
        };
        self.act(now, reply, action)
    }

    /// Carries out the session's actions.
    fn act(&mut self, now: Instant, reply: Option<ReplyTo>, action: Action) -> Option<End> {
        match action {
            Action::Nothing => match reply {
                Some(ReplyTo::Post(reply)) => reply.send(None),
                Some(ReplyTo::Stomp(awaited)) => self.stomp_receipt(*awaited),
                None => {}
            },
            Action::Answer(frame) => {
                if let Some(error) = &frame.error {
                    self.gateway.metrics.count_error(error.code);
                }
                return self.answer(reply, frame);
            }
            Action::Open(identity, token_session, frame) => {
                self.transport.identified();
                // The answer is queued first: no push comes before it.
                self.answer(reply, frame);
                self.connection.set_token_session(token_session);
                let most = self.gateway.connections.connections_per_user;
                self.gateway.registry.identify(&self.connection, identity, most);
                self.gateway.membership.opened(identity.user);
                self.gateway.ended.check(identity.user, &self.connection);
                self.gateway.sessions.opened(identity.user, self.connection.session);
                self.gateway.presence.opened(identity.user);
            }
            Action::Renew(identity, token_session, frame) => {
                self.answer(reply, frame);
                self.connection.set_token_session(token_session);
                self.gateway.ended.check(identity.user, &self.connection);
            }
            Action::Ping => {
                self.connection.queue.push_own(Frame::ping(self.connection.queue.form()));
                if let Some(stomp) = &self.stomp {
                    stomp.beat(&self.connection.queue);
                }
            }
            Action::Close(code) => return Some(End::Close(code)),
            Action::Refuse(frame, code) => {
                self.act(now, reply, Action::Answer(frame));
                return Some(End::Close(code));
            }
            Action::Connect(id, connect) => {
                let (span, step) = traced("connect", || commands::connect(&self.gateway, connect));
                return self.advance(now, Asked { id, reply, span }, step);
            }
            Action::Run(id, caller, command) => {
                let name = command.name();
                let first = || commands::run(&self.gateway, &self.connection, caller, command);
                let (span, step) = traced(name, first);
                return self.advance(now, Asked { id, reply, span }, step);
            }
        }
        None
    }

    /// Answers a command. Returns how the connection ends when the client cannot go on behind the answer.
    fn answer(&self, reply: Option<ReplyTo>, frame: Box<ServerFrame>) -> Option<End> {
        match reply {
            Some(ReplyTo::Post(reply)) => reply.send(Some(frame)),
            Some(ReplyTo::Stomp(awaited)) => return self.stomp_answer(*awaited, &frame),
            None => {
                self.connection.queue.push_own(Frame::encode(self.connection.queue.form(), &frame));
            }
        }
        None
    }

    /// Takes a command as far as it goes now.
    fn advance(&mut self, now: Instant, asked: Asked, step: Step) -> Option<End> {
        let Asked { id, reply, span } = asked;
        let action = match step {
            Step::Nothing => {
                self.session.passed();
                Action::Nothing
            }
            Step::Answer(answer) => {
                conclude(span, &answer);
                let is_passed_over = matches!(
                    (&reply, &answer),
                    (Some(ReplyTo::Stomp(awaited)), Err(refusal)) if awaited.passes_over(refusal.code)
                );
                if is_passed_over {
                    // Nor is its client read more slowly for it: one that acknowledges all that it receives cannot know the rate.
                    self.session.passed();
                    return None;
                }
                self.session.answered(now, id, answer)
            }
            Step::Connected(device, token) => self.session.connected(now, id, device, token),
            Step::Refreshed(token) => self.session.refreshed(now, id, token),
            Step::Undecided(step) => {
                self.undecided = Some((Asked { id, reply, span }, step));
                return None;
            }
            Step::Pending(pending) => {
                self.session.started(pending.lane());
                let unanswered = Unanswered { asked: Some(Asked { id, reply, span }), pending };
                self.unanswered.get_or_insert_default().push(unanswered);
                return None;
            }
        };
        self.act(now, reply, action)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.connection.queue.register(cx.waker());
        let now = Instant::now();
        if let Some(code) = self.connection.queue.close_requested()
            && !self.closing
        {
            return Poll::Ready(Event::End(End::Close(code)));
        }
        let (is_pause, may_read) = (self.unwritten >= EVENTS_AT_ONCE, self.may_read(now));
        if !is_pause && let Poll::Ready(event) = self.poll_next(cx, may_read) {
            self.unwritten += 1;
            return Poll::Ready(event);
        }
        self.unwritten = 0;
        if let Err(end) = self.write(cx, now) {
            return Poll::Ready(Event::End(end));
        }
        // Behind the write, because one that stalls has a deadline.
        if !self.closing && self.poll_deadline(cx, now).is_ready() {
            return Poll::Ready(Event::Deadline);
        }
        // A client whose answers were in its queue a moment ago may go on.
        let may_go_on = self.may_read(now);
        if (is_pause || may_go_on && !may_read)
            && let Poll::Ready(event) = self.poll_next(cx, may_go_on)
        {
            self.unwritten = 1;
            return Poll::Ready(event);
        }
        Poll::Pending
    }

    /// Returns what is ready.
    fn poll_next(&mut self, cx: &mut Context<'_>, may_read: bool) -> Poll<Event> {
        match self.unanswered.as_mut().map(|unanswered| unanswered.poll_next_unpin(cx)) {
            Some(Poll::Ready(Some((asked, lane, answer)))) => {
                return Poll::Ready(Event::Answered(asked, lane, answer));
            }
            Some(Poll::Ready(None)) => self.unanswered = None,
            Some(Poll::Pending) | None => {}
        }
        if let Some((_, step)) = &mut self.undecided
            && let Poll::Ready(step) = step.poll_unpin(cx)
            && let Some((asked, _)) = self.undecided.take()
        {
            return Poll::Ready(Event::Decided(asked, step));
        }
        if may_read && let Poll::Ready(incoming) = self.transport.poll_read(cx) {
            return Poll::Ready(Event::Incoming(incoming));
        }
        Poll::Pending
    }

    /// Returns whether the client may send more: not while it leaves our answers unread. The task is woken when it may for having read them.
    fn may_read(&self, now: Instant) -> bool {
        !self.closing && self.session.may_read(now) && !self.connection.queue.awaits_room()
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

    /// Writes what is queued, as far as the transport takes it. True when it took all.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, End> {
        let writing = self.transport.write(cx, &self.connection.queue)?;
        if matches!(writing, Writing::Done | Writing::Blocked { has_moved: true }) {
            self.session.write_went_on();
        }
        if writing != Writing::Done {
            self.session.write_blocked(now);
        }
        Ok(writing == Writing::Done)
    }

    async fn close(mut self, mut end: End) {
        self.closing = true;
        let limits = self.gateway.limits.clone();
        if matches!(end, End::Gone) {
            drop(timeout(limits.close_within, self.transport.say(&self.connection.queue, end)).await);
            return;
        }
        // What is in the producer's queue is answered before we leave a client that does nothing wrong.
        if matches!(
            end,
            End::Done | End::Close(CloseCode::Drain | CloseCode::TokenExpired | CloseCode::Superseded)
        ) {
            let finished = timeout(limits.produce_within, self.finish()).await;
            end = finished.ok().flatten().unwrap_or(end);
        }
        if matches!(end, End::Done) && !self.session.is_busy() {
            self.stomp_farewell();
        }
        let goodbye = async {
            poll_fn(|cx| self.poll_written(cx)).await?;
            self.transport.say(&self.connection.queue, end).await
        };
        if !matches!(timeout(limits.close_within, goodbye).await, Ok(Ok(()))) {
            return;
        }
        // From here on the socket has one owner.
        self.connection.queue.detach();
        self.transport.part(limits.close_within).await;
    }

    /// Waits for the answers of commands that are on their way. Returns how the connection ends behind one that is its last.
    async fn finish(&mut self) -> Option<End> {
        while self.session.is_busy() {
            let event = match poll_fn(|cx| self.poll_event(cx)).await {
                Event::Incoming(Incoming::Ended(_)) | Event::End(_) => return None,
                event => event,
            };
            if let Some(end) = self.handle(event) {
                return Some(end);
            }
        }
        None
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        self.connection.queue.register(cx.waker());
        match self.write(cx, Instant::now()) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(end) => Poll::Ready(Err(end)),
        }
    }
}

/// Takes the first step of a command. Where that is traced, all that it leads to is a part of its span.
fn traced(command: &'static str, first: impl FnOnce() -> Step) -> (Span, Step) {
    let mut span = Span::root("frame", SpanKind::Server);
    let Some(parent) = span.parent() else { return (span, first()) };
    span.set("command", command);
    let step = {
        let _within = parent.enter();
        first()
    };
    (span, step.within(parent))
}

/// Ends the span of a command with what the command came to. What a client may not do is no failure of ours.
fn conclude(mut span: Span, answer: &Answer) {
    if let Err(refusal) = answer {
        let code = refusal.code.as_str();
        span.set("error.type", code);
        if refusal.code.is_fault() {
            span.fail(code);
        }
    }
}

/// Those who still know the connection do not keep its socket open.
impl<T> Drop for Serving<T> {
    fn drop(&mut self) {
        self.connection.queue.detach();
    }
}
