//! Runs the protocol on a socket, and on the next one when that breaks.

mod link;

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey,
    wire::{
        self, ActivityState, ClientFrame, Connect, Connected, History, HistoryPage, ListPage, Outcome, Pins,
        Replies, ServerFrame, Watch,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use self::link::Link;
use crate::{
    ClientError, Event, Identity, Post, QueryFailure, Receipt, SendFailure,
    machine::{Machine, Output},
};

/// Events that wait for the program; a full queue stops the reading of the socket, and the server's bounds apply.
pub const EVENT_QUEUE: usize = 4_096;
/// Commands that wait for the session.
const COMMAND_QUEUE: usize = 1_024;
/// The id of `connect`, the first command.
const CONNECT_ID: u32 = 1;
/// The answer to `connect` comes within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bounds of the wait between two attempts.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(30);
/// A server may have a client wait for so long, and no longer.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// A client waits for as long as the server says, and at most so many times as long on top.
const PATIENCE: u32 = 4;
/// A connection that lived for this long was a good one: the next wait is short again.
const GOOD_AFTER: Duration = Duration::from_secs(60);
/// How often the machine looks at the time.
const TICK: Duration = Duration::from_millis(200);
/// A token is replaced this long before its end, or at half its life when that is shorter.
const REFRESH_BEFORE: Duration = Duration::from_secs(60);

/// Between two attempts to replace a token.
const REFRESH_PAUSE: Duration = Duration::from_secs(5);

/// A user's connection to the messenger, for as long as it is kept. Dropping it ends it.
pub struct Session {
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

enum Command {
    Send { chat: ChatId, key: MessageKey, post: Post, outcome: Settle },
    Follow { chat: ChatId, after: i64 },
    Watch(Watch),
    Activity(ActivityState),
    Typing(ChatId),
    Read(ChatId, i64),
    Delivered(ChatId, i64),
    Sync,
    Query(wire::Command, Answer),
}

type Renewal = Pin<Box<dyn Future<Output = Result<String, ClientError>> + Send>>;

type Answer = oneshot::Sender<Result<Outcome, QueryFailure>>;

type Settle = oneshot::Sender<Result<Receipt, SendFailure>>;

impl Session {
    /// Opens a session; connecting is part of it, and so is connecting again. Read the events, or it stops making progress.
    pub fn open(identity: Identity, device: DeviceId) -> (Self, mpsc::Receiver<Event>) {
        Self::begin(identity, device, None)
    }

    /// Opens a session that goes on where an earlier one ended: at the cursor of the last [`Event::Synced`] that the program took, with
    /// the [`crate::ChatList`] that it kept. An expired cursor begins with all chats.
    pub fn resume(identity: Identity, device: DeviceId, cursor: String) -> (Self, mpsc::Receiver<Event>) {
        Self::begin(identity, device, Some(cursor))
    }

    fn begin(identity: Identity, device: DeviceId, cursor: Option<String>) -> (Self, mpsc::Receiver<Event>) {
        let (commands, incoming) = mpsc::channel(COMMAND_QUEUE);
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let machine = Machine::new(identity.user(), cursor).answered_by(identity.messenger().ack());
        let run = Run {
            identity,
            device,
            machine,
            incoming,
            events,
            settles: HashMap::new(),
            answers: HashMap::new(),
            queries: 0,
        };
        (Self { commands, task: tokio::spawn(run.until_ended()) }, receiver)
    }

    /// Sends a message, or a change of one, under a new key.
    pub fn send<P: Into<Post>>(
        &self,
        chat: ChatId,
        post: P,
    ) -> impl Future<Output = Result<Receipt, SendFailure>> + Send + use<P> {
        self.send_keyed(chat, MessageKey::generate(), post.into())
    }

    /// Sends an entry, again and again until it is known to be stored or refused; the same key is the same message, and both calls
    /// have its outcome.
    pub fn send_keyed(
        &self,
        chat: ChatId,
        key: MessageKey,
        post: Post,
    ) -> impl Future<Output = Result<Receipt, SendFailure>> + Send + use<> {
        let commands = self.commands.clone();
        async move {
            let (outcome, settled) = oneshot::channel();
            commands
                .send(Command::Send { chat, key, post, outcome })
                .await
                .map_err(|_| SendFailure::SessionEnded)?;
            answer(&commands, settled).await.unwrap_or(Err(SendFailure::SessionEnded))
        }
    }

    /// Hands out every entry of `chat` after `after` from now on, those already stored first.
    pub async fn follow(&self, chat: ChatId, after: i64) {
        // A session that has ended reports it by its last event.
        let _ = self.commands.send(Command::Follow { chat, after }).await;
    }

    /// Replaces what is seen of the presence of others: what is on the user's screen. It holds over connections.
    pub async fn watch(&self, watch: Watch) {
        let _ = self.commands.send(Command::Watch(watch)).await;
    }

    /// Asks which chats changed, which comes as [`Event::Synced`]. Each connection begins with that, and what is pushed keeps a
    /// [`crate::ChatList`] current; it is for a program that does not trust its own.
    pub async fn sync(&self) {
        let _ = self.commands.send(Command::Sync).await;
    }

    /// Says whether the user is at this device; a session begins as online.
    pub async fn activity(&self, state: ActivityState) {
        let _ = self.commands.send(Command::Activity(state)).await;
    }

    /// Says that the user is typing in a chat; to be repeated every few seconds while they do.
    pub async fn typing(&self, chat: ChatId) {
        let _ = self.commands.send(Command::Typing(chat)).await;
    }

    /// Says that the user has read a chat up to an entry. Say it as often as it is so: what is sent is bounded, and what was
    /// said without a connection is sent later.
    pub async fn read(&self, chat: ChatId, seq: i64) {
        let _ = self.commands.send(Command::Read(chat, seq)).await;
    }

    /// Lists the pinned messages of a chat, the one that was pinned last first, and whether there are more. `before` is
    /// `changes.pinned_seq` of the last message of the page before.
    pub async fn pins(
        &self,
        chat: ChatId,
        before: Option<i64>,
        limit: Option<u32>,
    ) -> Result<ListPage, QueryFailure> {
        listed(self.query(wire::Command::Pins(Pins { chat, before, limit })).await?)
    }

    /// Lists the replies to message `seq` in the order of their seq, those behind `after`, and whether there are more.
    pub async fn replies(
        &self,
        chat: ChatId,
        seq: i64,
        after: Option<i64>,
        limit: Option<u32>,
    ) -> Result<ListPage, QueryFailure> {
        listed(self.query(wire::Command::Replies(Replies { chat, seq, after, limit })).await?)
    }

    /// Fetches a page of history beside those of a chat that is followed: from a time on, or around a message.
    pub async fn history(&self, query: History) -> Result<HistoryPage, QueryFailure> {
        match self.query(wire::Command::History(query)).await? {
            Outcome::History(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    async fn query(&self, command: wire::Command) -> Result<Outcome, QueryFailure> {
        let (sender, answered) = oneshot::channel();
        let asked = self.commands.send(Command::Query(command, sender)).await;
        asked.map_err(|_| QueryFailure::Offline)?;
        answer(&self.commands, answered).await.unwrap_or(Err(QueryFailure::Offline))
    }

    /// Says that this device has received a chat up to an entry; likewise.
    pub async fn delivered(&self, chat: ChatId, seq: i64) {
        let _ = self.commands.send(Command::Delivered(chat, seq)).await;
    }
}

/// Waits for the answer to a command; `None` when the session ends without one.
async fn answer<T>(commands: &mpsc::Sender<Command>, mut answer: oneshot::Receiver<T>) -> Option<T> {
    tokio::select! {
        biased;
        answered = &mut answer => answered.ok(),
        // A command that comes into the queue while the session ends stays there as long as there is a sender, and its answer
        // with it.
        () = commands.closed() => answer.try_recv().ok(),
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits between attempts double from the first to the last; each is drawn from zero to its bound, so that users
/// whose gateway went away do not come back in step.
#[derive(Default)]
struct BackOff {
    failed: u32,
}

impl BackOff {
    /// Returns the bound of the next wait. A connection that was closed before it was accepted did not live.
    fn next(&mut self, lived: Duration) -> Duration {
        if lived >= GOOD_AFTER {
            self.failed = 0;
        }
        self.failed += 1;
        (FIRST_WAIT * 2_u32.pow((self.failed - 1).min(8))).min(LAST_WAIT)
    }
}

/// Returns the wait before the next attempt. `bound` is that of the back-off, `said` what the server said, and `part` a random number from 0 to 1. A server that knows
/// when it can be asked again is not waited for much longer, however often an attempt has failed.
fn wait(bound: Duration, said: Option<Duration>, part: f64) -> Duration {
    match said {
        Some(said) => {
            let said = said.min(LONGEST_WAIT);
            said + bound.min(said * PATIENCE).mul_f64(part)
        }
        None => bound.mul_f64(part),
    }
}

struct Run {
    identity: Identity,
    device: DeviceId,
    machine: Machine,
    incoming: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// Who waits for a message; more than one when it was sent again with the same key.
    settles: HashMap<MessageKey, Vec<Settle>>,
    answers: HashMap<u64, Answer>,
    /// How many questions were asked.
    queries: u64,
}

/// Why a connection is over.
enum End {
    /// Connect again after a wait.
    Broken(String),
    /// Connect again after the time that the server said.
    Later(String, Duration),
    /// Connect again with a new token.
    Expired,
    /// Do not connect again.
    Final(String),
}

impl Run {
    #[expect(clippy::disallowed_methods, reason = "jitter")]
    async fn until_ended(mut self) {
        let mut back_off = BackOff::default();
        let mut fresh_token = false;
        loop {
            let mut lived = Duration::ZERO;
            let end = match self.connect(fresh_token).await {
                Ok((link, connected)) => {
                    let since = Instant::now();
                    let end = self.drive(link, &connected).await;
                    lived = since.elapsed();
                    end
                }
                // A token that is refused although it was made for this attempt stays refused.
                Err(End::Expired) if fresh_token => {
                    End::Final("the messenger does not take this sign-in".into())
                }
                Err(end) => end,
            };
            let (why, said) = match end {
                End::Broken(why) => {
                    fresh_token = false;
                    (why, None)
                }
                End::Later(why, said) => {
                    fresh_token = false;
                    (why, Some(said))
                }
                End::Expired => {
                    fresh_token = true;
                    ("the token expired".into(), None)
                }
                End::Final(why) => {
                    self.machine.ended(why);
                    // Without a socket there is nothing that can fail.
                    let _ = self.deliver(None).await;
                    return;
                }
            };
            self.machine.disconnected(why);
            let _ = self.deliver(None).await;
            let wait = wait(back_off.next(lived), said, rand::random());
            if self.stay_offline(wait).await.is_break() {
                return;
            }
        }
    }

    async fn connect(&self, fresh_token: bool) -> Result<(Link, Connected), End> {
        let token = if fresh_token { self.identity.fresh_token().await } else { self.identity.token().await };
        let token = token.map_err(|error| no_token(&error))?;
        let (socket, encoding) =
            self.identity.messenger().open_socket().await.map_err(|error| unusable(&error))?;
        let mut link = Link::new(socket, encoding);
        let connect = Connect { token, device: self.device };
        let connect = ClientFrame { id: Some(CONNECT_ID.into()), command: wire::Command::Connect(connect) };
        link.feed(&connect).await.map_err(End::Broken)?;
        link.flush().await.map_err(End::Broken)?;
        let answer = timeout(CONNECT_TIMEOUT, async {
            loop {
                match link.next().await? {
                    Some(ServerFrame { result: Some(Outcome::Connected(connected)), .. }) => {
                        return Ok(connected);
                    }
                    Some(ServerFrame { error: Some(error), .. }) => {
                        return Err(match error.code {
                            ErrorCode::TokenExpired | ErrorCode::Unauthenticated => End::Expired,
                            _ if error.temporary => End::Broken(error.detail),
                            code => End::Final(format!("{code}: {}", error.detail)),
                        });
                    }
                    Some(_) | None => {}
                }
            }
        });
        let connected =
            answer.await.unwrap_or_else(|_| Err(End::Broken("no answer to connect".to_owned())))?;
        Ok((link, connected))
    }

    async fn drive(&mut self, mut link: Link, connected: &Connected) -> End {
        self.machine.connected(connected, Instant::now());
        let silence = Duration::from_secs((connected.ping_seconds + connected.pong_seconds).into()) * 2;
        let mut received_at = Instant::now();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refresh_at = refresh_at(connected.token_expires_in_seconds);
        let mut renewal: Option<Renewal> = None;
        loop {
            let news = match self.deliver(Some(&mut link)).await {
                Ok(news) => news,
                Err(why) => return End::Broken(why),
            };
            match news {
                Some(Token::Refused) => return End::Expired,
                Some(Token::Renewed(left)) => refresh_at = refresh_at_half(left),
                Some(Token::Later) => refresh_at = Instant::now() + REFRESH_PAUSE,
                None => {}
            }
            tokio::select! {
                frame = link.next() => {
                    received_at = Instant::now();
                    match frame {
                        Ok(Some(frame)) => self.machine.frame(frame, received_at),
                        Ok(None) => {}
                        Err(end) => return end,
                    }
                }
                command = self.incoming.recv() => match command {
                    Some(command) => self.take(command),
                    None => {
                        // The session was dropped.
                        link.close().await;
                        return End::Final("closed".into());
                    }
                },
                _ = ticks.tick() => {
                    let now = Instant::now();
                    if now.duration_since(received_at) > silence {
                        return End::Broken("the server fell silent".into());
                    }
                    if now >= refresh_at && renewal.is_none() {
                        let identity = self.identity.clone();
                        renewal = Some(Box::pin(async move { identity.fresh_token().await }));
                    }
                    self.machine.tick(now);
                }
                renewed = async { renewal.as_mut().expect("guarded").await }, if renewal.is_some() => {
                    renewal = None;
                    match renewed {
                        Ok(token) => {
                            // Until the server answers; then from the new token's life.
                            refresh_at = Instant::now() + REFRESH_BEFORE;
                            self.machine.refresh(token);
                        }
                        Err(_) => refresh_at = Instant::now() + REFRESH_PAUSE,
                    }
                }
            }
        }
    }

    /// Takes commands for a while without a connection. Breaks when the session was dropped.
    async fn stay_offline(&mut self, wait: Duration) -> std::ops::ControlFlow<()> {
        let over = tokio::time::sleep(wait);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return std::ops::ControlFlow::Continue(()),
                command = self.incoming.recv() => match command {
                    Some(command) => self.take(command),
                    None => return std::ops::ControlFlow::Break(()),
                },
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Send { chat, key, post, outcome } => {
                self.settles.entry(key).or_default().push(outcome);
                self.machine.send(chat, key, post, Instant::now());
            }
            Command::Follow { chat, after } => self.machine.follow(chat, after, Instant::now()),
            Command::Watch(watch) => self.machine.watch(watch, Instant::now()),
            Command::Activity(state) => self.machine.activity(state),
            Command::Typing(chat) => self.machine.typing(chat),
            Command::Read(chat, seq) => self.machine.read(chat, seq, Instant::now()),
            Command::Delivered(chat, seq) => self.machine.delivered(chat, seq, Instant::now()),
            Command::Sync => self.machine.sync(Instant::now()),
            Command::Query(command, answer) => {
                self.queries += 1;
                self.answers.insert(self.queries, answer);
                self.machine.query(self.queries, command);
            }
        }
    }

    /// Carries out what the machine decided; returns what it decided about the token. Frames need a connection.
    async fn deliver(&mut self, mut link: Option<&mut Link>) -> Result<Option<Token>, String> {
        let mut news = None;
        let mut written = false;
        while let Some(output) = self.machine.next_output() {
            match (output, &mut link) {
                (Output::Frame(frame), Some(link)) => {
                    link.feed(&frame).await?;
                    written = true;
                }
                (Output::Frame(_), None) => {}
                // A program that stopped reading events still gets its sends settled.
                (Output::Event(event), _) => drop(self.events.send(event).await),
                (Output::Settled(key, outcome), _) => {
                    for settle in self.settles.remove(&key).into_iter().flatten() {
                        let _ = settle.send(outcome.clone());
                    }
                }
                (Output::Answered(query, outcome), _) => {
                    if let Some(answer) = self.answers.remove(&query) {
                        let _ = answer.send(outcome);
                    }
                }
                (Output::TokenRefused, _) => news = Some(Token::Refused),
                (Output::RefreshLater, _) => news = Some(Token::Later),
                (Output::TokenRenewed(left), _) => news = Some(Token::Renewed(left)),
            }
        }
        if let (true, Some(link)) = (written, link) {
            link.flush().await?;
        }
        Ok(news)
    }
}

fn listed(outcome: Outcome) -> Result<ListPage, QueryFailure> {
    match outcome {
        Outcome::Listed(page) => Ok(page),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(outcome: &Outcome) -> QueryFailure {
    QueryFailure::Refused {
        code: ErrorCode::Internal,
        detail: format!("an answer to something else: {outcome:?}"),
    }
}

enum Token {
    Refused,
    Renewed(Duration),
    Later,
}

fn refresh_at(expires_in_seconds: i64) -> Instant {
    refresh_at_half(Duration::from_secs(u64::try_from(expires_in_seconds).unwrap_or(0)))
}

fn refresh_at_half(left: Duration) -> Instant {
    Instant::now() + left.saturating_sub(REFRESH_BEFORE).max(left / 2)
}

/// Decides whether to try again to get a token.
fn no_token(error: &ClientError) -> End {
    match error {
        // A refresh token that is refused once is never taken again.
        ClientError::Refused { status: 401, .. } => {
            End::Final("the session has ended: sign in again".to_owned())
        }
        error => unusable(error),
    }
}

/// Decides whether an attempt that failed before `connect` is worth another one.
fn unusable(error: &ClientError) -> End {
    match error {
        ClientError::Refused { status: 401 | 403, .. } => End::Expired,
        ClientError::Refused { status: 400, problem: Some(problem), .. } => {
            End::Final(format!("{}: {}", problem.code, problem.title))
        }
        ClientError::Refused { retry_after_seconds: Some(seconds), .. } => {
            End::Later(error.to_string(), Duration::from_secs(seconds.get().into()))
        }
        ClientError::Address { .. } | ClientError::Prepare { .. } | ClientError::Handshake { .. } => {
            End::Final(error.to_string())
        }
        // A route that is just being created returns 404 for a moment, so it is retried too. The last two are of files, by
        // which nothing connects.
        ClientError::Refused { .. }
        | ClientError::Local { .. }
        | ClientError::NotTaken { .. }
        | ClientError::Transport { .. }
        | ClientError::Timeout { .. }
        | ClientError::Shape { .. } => End::Broken(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
