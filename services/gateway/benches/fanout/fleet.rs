//! The clients: thousands of sockets in this process, with one loop for both servers, so that they cost the same beside each.
//!
//! A delivery is a mark in a frame.

use std::{
    cell::RefCell,
    collections::HashMap,
    future::poll_fn,
    ops::Range,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncRead as _, AsyncReadExt as _, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    marks::marks,
    protocol::{self, CONNECT, Kind, PAGE, Reply},
    servers::Target,
    times::{Times, now_us},
};

/// Numbers of the records that a socket of a kept room has to have in the end, see [`Progress::complete`].
pub const KEPT_RECORDS: u32 = u32::BITS;

/// What is read at once at most, with what is left of the read before. A page fits in.
const READ_BYTES: usize = 256 * 1024;
/// More than a server answers to an upgrade.
const HEAD_BYTES: usize = 1024;
/// Nothing takes longer, or it will not come.
const PATIENCE: Duration = Duration::from_secs(60);
/// A connection is tried so often; the tries that failed are counted.
const TRIES: usize = 10;
const RETRY_AFTER: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(1);

const CLOSE: u8 = 8;
const PING: u8 = 9;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// What all sockets have come to.
pub struct Progress {
    pub connected: AtomicUsize,
    /// Tries to connect that failed.
    pub failed_tries: AtomicUsize,
    /// Sockets that have the page they requested.
    pub paged: AtomicUsize,
    /// Requests of a page that were answered with a time to wait, and repeated after it.
    pub repeated: AtomicUsize,
    /// Sockets of kept rooms that have all records.
    pub complete: AtomicUsize,
    pub delivered: AtomicU64,
    /// Read from all sockets.
    pub bytes: AtomicU64,
    is_timing: AtomicBool,
    is_paging: AtomicBool,
    /// From the moment that a record was due until it was read.
    pub times: Times,
    writers: Mutex<Vec<(usize, Arc<OwnedWriteHalf>)>>,
    /// Of the channels of Centrifuge that are kept, by room.
    epochs: Mutex<HashMap<usize, String>>,
    failure: Mutex<Option<String>>,
}

impl Progress {
    fn new() -> Self {
        Self {
            connected: AtomicUsize::new(0),
            failed_tries: AtomicUsize::new(0),
            paged: AtomicUsize::new(0),
            repeated: AtomicUsize::new(0),
            complete: AtomicUsize::new(0),
            delivered: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            is_timing: AtomicBool::new(false),
            is_paging: AtomicBool::new(false),
            times: Times::new(),
            writers: Mutex::default(),
            epochs: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Begins to take the times of deliveries.
    pub fn take_times(&self) {
        self.is_timing.store(true, Ordering::Relaxed);
    }

    fn fail(&self, why: String) {
        lock(&self.failure).get_or_insert(why);
    }

    /// Waits until something has come; fails with what went wrong with any socket.
    pub async fn until(&self, what: &str, mut has_come: impl FnMut(&Self) -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while !has_come(self) {
            if let Some(why) = lock(&self.failure).as_ref() {
                bail!("{what}: {why}");
            }
            ensure!(
                Instant::now() < end,
                "{what} did not come in {} s: {} connected, {} deliveries, {} pages and {} requests of one that were repeated, {} complete",
                PATIENCE.as_secs(),
                self.connected.load(Ordering::Relaxed),
                self.delivered(),
                self.paged.load(Ordering::Relaxed),
                self.repeated.load(Ordering::Relaxed),
                self.complete.load(Ordering::Relaxed),
            );
            sleep(POLL).await;
        }
        Ok(())
    }
}

/// Sockets of one server. They end with the value.
pub struct Fleet {
    pub progress: Arc<Progress>,
    target: Arc<Target>,
    tasks: JoinSet<()>,
}

impl Fleet {
    pub fn new(target: &Arc<Target>) -> Self {
        Self { progress: Arc::new(Progress::new()), target: target.clone(), tasks: JoinSet::new() }
    }

    /// Connects and authenticates these users, so many at a time, and returns how long it took.
    pub async fn connect(&mut self, users: Range<usize>, at_once: usize) -> anyhow::Result<Duration> {
        self.connect_as(users, at_once, Return::New).await
    }

    /// Connects again as [`Self::connect`], and fetches what `before` has missed.
    pub async fn connect_again(
        &mut self,
        users: Range<usize>,
        at_once: usize,
        before: Epochs,
    ) -> anyhow::Result<Duration> {
        // Centrifuge answers the first frame with what was missed.
        let reads_pages = self.target.kind != Kind::Centrifuge;
        self.progress.is_paging.store(reads_pages, Ordering::Relaxed);
        self.connect_as(users, at_once, Return::Again(Arc::new(before))).await
    }

    async fn connect_as(
        &mut self,
        users: Range<usize>,
        at_once: usize,
        comes: Return,
    ) -> anyhow::Result<Duration> {
        let turns = Arc::new(Semaphore::new(at_once));
        let wanted = self.progress.connected.load(Ordering::Relaxed) + users.len();
        let began = Instant::now();
        for user in users {
            let (target, progress, turns) = (self.target.clone(), self.progress.clone(), turns.clone());
            let comes = comes.clone();
            self.tasks.spawn(async move {
                let Err(error) = serve(&target, user, &progress, &turns, &comes).await else { return };
                progress.fail(format!("the socket of user {user}: {error:#}"));
            });
        }
        let is_connected = |progress: &Progress| progress.connected.load(Ordering::Relaxed) >= wanted;
        self.progress.until("connections", is_connected).await?;
        Ok(began.elapsed())
    }

    /// Has every socket read a page, so many at a time, and waits for all of them.
    pub async fn read_pages(&self, at_once: usize) -> anyhow::Result<()> {
        let progress = &self.progress;
        progress.is_paging.store(true, Ordering::Relaxed);
        let writers = lock(&progress.writers).clone();
        for (number, (user, writer)) in writers.iter().enumerate() {
            let has_turn = |progress: &Progress| number < progress.paged.load(Ordering::Relaxed) + at_once;
            progress.until("a turn to read a page", has_turn).await?;
            write(writer, &self.target.page_of(*user)).await?;
        }
        let are_read = |progress: &Progress| progress.paged.load(Ordering::Relaxed) >= writers.len();
        progress.until("pages", are_read).await
    }

    /// Cuts all sockets at once, without a close frame, and returns what a return needs.
    pub async fn cut(mut self) -> Epochs {
        lock(&self.progress.writers).clear();
        self.tasks.shutdown().await;
        Epochs(std::mem::take(&mut *lock(&self.progress.epochs)))
    }
}

/// Where the kept channels of Centrifuge began, by room. The gateway needs none of it.
pub struct Epochs(HashMap<usize, String>);

#[derive(Clone)]
enum Return {
    New,
    Again(Arc<Epochs>),
}

/// Connects a user, and receives until the end.
async fn serve(
    target: &Target,
    user: usize,
    progress: &Progress,
    turns: &Semaphore,
    comes: &Return,
) -> anyhow::Result<()> {
    let turn = turns.acquire().await?;
    let mut tries = 1;
    let mut socket = loop {
        match Socket::open(target, user, progress, comes).await {
            Ok(socket) => break socket,
            Err(error) if tries >= TRIES => return Err(error),
            Err(_) => {
                progress.failed_tries.fetch_add(1, Ordering::Relaxed);
                tries += 1;
                sleep(RETRY_AFTER).await;
            }
        }
    };
    drop(turn);
    progress.connected.fetch_add(1, Ordering::Relaxed);
    if matches!(comes, Return::Again(_)) && progress.is_paging.load(Ordering::Relaxed) {
        write(&socket.writing, &target.page_of(user)).await?;
    }
    loop {
        let Some(repeats_at) = socket.sight.repeats_at else {
            socket.read().await?;
            continue;
        };
        // What comes meanwhile is read.
        match timeout_at(repeats_at, socket.read()).await {
            Ok(read) => read?,
            Err(_) => {
                socket.sight.repeats_at = None;
                progress.repeated.fetch_add(1, Ordering::Relaxed);
                write(&socket.writing, &target.page_of(user)).await?;
            }
        }
    }
}

struct Socket<'a> {
    reading: OwnedReadHalf,
    /// The beginning of a frame.
    rest: Vec<u8>,
    writing: Arc<OwnedWriteHalf>,
    sight: Sight<'a>,
}

/// What a socket makes of its frames.
struct Sight<'a> {
    kind: Kind,
    room: usize,
    is_kept: bool,
    progress: &'a Progress,
    is_connected: bool,
    is_paged: bool,
    /// When the page is requested again, which there was no room for.
    repeats_at: Option<Instant>,
    /// Records of the room that came, one bit each.
    records: u32,
}

impl<'a> Socket<'a> {
    /// Opens a WebSocket and waits until it is authenticated.
    async fn open(
        target: &Target,
        user: usize,
        progress: &'a Progress,
        comes: &Return,
    ) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target.addr).await.context("no connection")?;
        stream.set_nodelay(true)?;
        // Nothing is waited for at the end, and no port is kept.
        stream.set_zero_linger()?;
        let (reading, writing) = stream.into_split();
        let room = target.layout.room_of(user);
        let sight = Sight {
            kind: target.kind,
            room,
            is_kept: target.layout.is_kept,
            progress,
            is_connected: false,
            is_paged: false,
            repeats_at: None,
            records: 0,
        };
        let mut socket =
            Self { reading, rest: Vec::with_capacity(HEAD_BYTES), writing: Arc::new(writing), sight };
        let opened = async {
            write(&socket.writing, target.kind.upgrade(target.addr).as_bytes()).await?;
            socket.upgraded().await?;
            let epoch = match comes {
                Return::New => None,
                Return::Again(epochs) => Some(epochs.0.get(&room).map(String::as_str).unwrap_or_default()),
            };
            write(&socket.writing, &target.connect(user, epoch)).await?;
            while !socket.sight.is_connected {
                socket.read().await?;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, opened).await.context("no authentication in time")??;
        lock(&progress.writers).push((user, socket.writing.clone()));
        Ok(socket)
    }

    /// Reads the answer to the upgrade.
    async fn upgraded(&mut self) -> anyhow::Result<()> {
        const END: &[u8] = b"\r\n\r\n";
        loop {
            let read = self.reading.read_buf(&mut self.rest).await?;
            ensure!(read > 0, "closed before the upgrade");
            if let Some(at) = self.rest.windows(END.len()).position(|window| window == END) {
                let is_upgraded = self.rest.starts_with(b"HTTP/1.1 101");
                ensure!(is_upgraded, "no upgrade: {}", String::from_utf8_lossy(&self.rest));
                self.rest.drain(..at + END.len());
                return Ok(());
            }
        }
    }

    /// Reads once, and takes the frames that are whole.
    async fn read(&mut self) -> anyhow::Result<()> {
        let Self { reading, rest, writing, sight } = self;
        let writing: &OwnedWriteHalf = writing;
        let (read, delivered) = poll_fn(|cx| -> Poll<anyhow::Result<(usize, u64)>> {
            SCRATCH.with_borrow_mut(|scratch| {
                let before = rest.len();
                scratch[..before].copy_from_slice(rest);
                let mut buffer = ReadBuf::new(&mut scratch[before..]);
                match Pin::new(&mut *reading).poll_read(cx, &mut buffer) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Ready(Ok(())) => {}
                }
                let read = buffer.filled().len();
                if read == 0 {
                    return Poll::Ready(Err(anyhow::anyhow!("the server closed the connection")));
                }
                let (now, mut delivered) = (now_us(), 0);
                let taken = frames(&scratch[..before + read], |opcode, payload| {
                    delivered += sight.take(opcode, payload, now, writing)?;
                    Ok(())
                });
                Poll::Ready(taken.map(|left| {
                    rest.clear();
                    rest.extend_from_slice(left);
                    (read, delivered)
                }))
            })
        })
        .await?;
        sight.progress.bytes.fetch_add(read as u64, Ordering::Relaxed);
        if delivered > 0 {
            sight.progress.delivered.fetch_add(delivered, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Sight<'_> {
    /// Takes a frame, and returns how many marks it has.
    fn take(
        &mut self,
        opcode: u8,
        payload: &[u8],
        now_us: u64,
        writing: &OwnedWriteHalf,
    ) -> anyhow::Result<u64> {
        match opcode {
            CLOSE => bail!("closed with {:?}", String::from_utf8_lossy(payload)),
            PING => {
                reply(writing, &protocol::pong(payload))?;
                return Ok(0);
            }
            _ if self.kind.is_ping(payload) => reply(writing, &self.kind.pong())?,
            _ => {}
        }
        if !self.is_connected {
            match self.reply(CONNECT, payload)? {
                Reply::None => {}
                Reply::Done => self.is_connected = true,
                Reply::Later(wait) => bail!("refused for {} ms", wait.as_millis()),
            }
            if self.is_kept && self.kind == Kind::Centrifuge {
                self.note_epoch(payload);
            }
        } else if !self.is_paged && self.progress.is_paging.load(Ordering::Relaxed) {
            match self.reply(PAGE, payload)? {
                Reply::None => {}
                Reply::Done => {
                    self.is_paged = true;
                    self.progress.paged.fetch_add(1, Ordering::Relaxed);
                }
                Reply::Later(wait) => self.repeats_at = Some(Instant::now() + wait),
            }
        }
        let is_timing = self.progress.is_timing.load(Ordering::Relaxed);
        let mut count = 0;
        for mark in marks(payload) {
            // It is in a page that was stored before, and no delivery.
            if mark.due_us == 0 {
                continue;
            }
            count += 1;
            if is_timing {
                self.progress.times.add(now_us.saturating_sub(mark.due_us));
            }
            if self.is_kept {
                self.note_record(mark.number);
            }
        }
        Ok(count)
    }

    fn reply(&self, id: u32, payload: &[u8]) -> anyhow::Result<Reply> {
        self.kind.reply(id, payload).map_err(|refusal| anyhow::anyhow!("refused: {refusal}"))
    }

    fn note_epoch(&self, payload: &[u8]) {
        let text = String::from_utf8_lossy(payload);
        let epoch = text.split_once(r#""epoch":""#).and_then(|(_, rest)| rest.split('"').next());
        if let Some(epoch) = epoch {
            lock(&self.progress.epochs).entry(self.room).or_insert_with(|| epoch.to_owned());
        }
    }

    fn note_record(&mut self, number: u64) {
        let bit = u32::try_from(number).ok().and_then(|number| 1_u32.checked_shl(number)).unwrap_or(0);
        let was_complete = self.records == u32::MAX;
        self.records |= bit;
        if self.records == u32::MAX && !was_complete {
            self.progress.complete.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Calls `take` with opcode and payload of every frame that is whole, and returns the rest.
fn frames(mut bytes: &[u8], mut take: impl FnMut(u8, &[u8]) -> anyhow::Result<()>) -> anyhow::Result<&[u8]> {
    while let Some((opcode, head, length)) = header(bytes)
        && let Some(payload) = bytes.get(head..head + length)
    {
        take(opcode, payload)?;
        bytes = &bytes[head + length..];
    }
    Ok(bytes)
}

/// Returns opcode, length of the head and length of the payload of a frame of a server, which are not masked.
fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (head, length) = match second & 0x7f {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into()),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        length => (2, length.into()),
    };
    Some((first & 0x0f, head, length))
}

/// Writes a frame from inside a read. It is short, and a socket that takes no pong is not read by its server.
fn reply(writing: &OwnedWriteHalf, frame: &[u8]) -> anyhow::Result<()> {
    let written = writing.try_write(frame).context("no answer to a ping")?;
    ensure!(written == frame.len(), "half an answer to a ping");
    Ok(())
}

async fn write(writing: &OwnedWriteHalf, mut bytes: &[u8]) -> anyhow::Result<()> {
    while !bytes.is_empty() {
        writing.writable().await?;
        match writing.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
