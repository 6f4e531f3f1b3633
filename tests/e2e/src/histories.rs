//! Random histories: whatever users do and however often their devices are cut off, what a device has made of the syncs and events that
//! came to it is what a new device fetches.

#![allow(clippy::disallowed_methods, reason = "a seed of its own for every run")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    env,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use contracts::{
    ChatId, DeviceId, UserId,
    api::UpdateChatRequest,
    event::{EntryKind, Role},
    wire::{ChatState, Message},
};
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use posthouse_client::{ChatList, Encoding, Event, Messenger, Post, Session, View};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use crate::{report, users::TestUser};

/// Users of a lane. Each history has a group of them, beside their direct chats.
const USERS: usize = 3;
/// After so many histories a lane has other users. Their direct chat grows with every history, and each comparison reads all of it.
const HISTORIES_OF_USERS: usize = 40;
/// Devices of a user: the first follows all chats and has their entries, the others have the list of chats.
const DEVICES: usize = 2;
/// Users come to be, and a first sync is answered, within this time.
const START: Duration = Duration::from_secs(240);
/// One history of a lane, beside those of the others, takes no longer on average.
const EACH: Duration = Duration::from_secs(20);
/// What happens in a history, at most.
const HAPPENINGS: usize = 30;
/// From the last happening until all devices agree.
const SETTLING: Duration = Duration::from_secs(120);
/// Between two looks at whether they do.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How many histories there are, and what is between their end and the comparison.
#[derive(Clone, Copy, Debug)]
pub struct Histories {
    pub number: usize,
    /// Histories at the same time, each with users of its own.
    pub lanes: usize,
    /// Whether every device comes back before it is compared. Without it, what was pushed has to be enough; announcements of marks may be
    /// lost when something is killed.
    pub is_disturbed: bool,
    /// Of the first history; each of the others has the next one.
    pub seed: u64,
}

impl Histories {
    /// Returns `number` undisturbed histories of new seeds, or what `PH_HISTORIES`, `PH_HISTORY_LANES` and `PH_HISTORY_SEED` say.
    pub fn from_environment(number: usize) -> Self {
        let set = |name: &str| env::var(name).ok().and_then(|text| text.parse().ok());
        Self {
            number: set("PH_HISTORIES").unwrap_or(number),
            lanes: set("PH_HISTORY_LANES").unwrap_or(8),
            is_disturbed: false,
            seed: set("PH_HISTORY_SEED").unwrap_or_else(|| rand::random::<u32>() as usize) as u64,
        }
    }

    /// Returns how long they may take on a cluster: what its start takes, and some seconds for each history of a lane.
    pub fn limit(self) -> Duration {
        let each = u32::try_from(self.number.div_ceil(self.lanes)).expect("few histories");
        START + EACH * each
    }

    /// Runs the histories on a messenger. Returns how many happenings there were.
    ///
    /// # Errors
    ///
    /// When a device has something else than a new one: what, the seed, and what happened.
    pub async fn run(self, messenger: &Messenger) -> anyhow::Result<usize> {
        let lanes = stream::iter(0..self.lanes).map(|lane| async move {
            let mut happened = 0;
            let numbers: Vec<usize> = (lane..self.number).step_by(self.lanes).collect();
            for (round, numbers) in numbers.chunks(HISTORIES_OF_USERS).enumerate() {
                if round > 0 {
                    report(format!("lane {lane}: {} histories", round * HISTORIES_OF_USERS));
                }
                let users = TestUser::crowd(messenger, "story", USERS).await?;
                for number in numbers {
                    let seed = self.seed + *number as u64;
                    let mut history = begun(&users, seed, self.is_disturbed).await?;
                    let outcome = history.play(self.is_disturbed).await;
                    happened += history.trace.len();
                    outcome.with_context(|| history.told())?;
                }
            }
            anyhow::Ok(happened)
        });
        lanes
            .buffer_unordered(self.lanes)
            .try_fold(0, |sum, happened| async move { Ok(sum + happened) })
            .await
    }
}

/// Begins a history; while something is down, as soon as that works.
async fn begun(users: &[TestUser], seed: u64, is_disturbed: bool) -> anyhow::Result<History<'_>> {
    let end = Instant::now() + SETTLING;
    loop {
        match History::begin(users, seed).await {
            Err(_) if is_disturbed && Instant::now() < end => sleep(LOOK_EVERY).await,
            begun => return begun,
        }
    }
}

/// What a device has, and keeps while it is cut off.
struct Held {
    list: ChatList,
    cursor: Option<String>,
    views: HashMap<ChatId, View>,
    failures: Vec<String>,
}

struct Device {
    user: usize,
    id: DeviceId,
    encoding: Encoding,
    follows: bool,
    held: Arc<Mutex<Held>>,
    link: Option<(Arc<Session>, JoinHandle<()>)>,
}

impl Device {
    fn new(user: usize, of: &TestUser, encoding: Encoding, follows: bool) -> Self {
        let held =
            Held { list: ChatList::new(of.id()), cursor: None, views: HashMap::new(), failures: Vec::new() };
        Self {
            user,
            id: DeviceId::generate(),
            encoding,
            follows,
            held: Arc::new(Mutex::new(held)),
            link: None,
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no code panics while holding it")
    }

    /// Connects, and goes on with what it has.
    fn come_back(&mut self, user: &TestUser) {
        let cursor = self.held().cursor.clone();
        let identity = user.identity.clone().speaking(self.encoding);
        let (session, mut events) = match cursor {
            Some(cursor) => Session::resume(identity, self.id, cursor),
            None => Session::open(identity, self.id),
        };
        let session = Arc::new(session);
        let (held, link, follows, reader) = (self.held.clone(), session.clone(), self.follows, user.id());
        let reader = tokio::spawn(async move {
            let mut followed = HashSet::new();
            while let Some(event) = events.recv().await {
                let new = {
                    let mut held = held.lock().expect("no code panics while holding it");
                    held.take(&event);
                    if follows { held.unfollowed(&mut followed, reader) } else { Vec::new() }
                };
                for (chat, after) in new {
                    link.follow(chat, after).await;
                }
            }
        });
        self.link = Some((session, reader));
    }

    /// Loses its connection in the middle of whatever it does.
    fn cut(&mut self) {
        if let Some((session, reader)) = self.link.take() {
            reader.abort();
            drop(session);
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Held {
    fn take(&mut self, event: &Event) {
        self.list.apply(event);
        match event {
            Event::Synced(page) => self.cursor = Some(page.cursor.clone()),
            Event::Entry { message, .. } => {
                if let Some(view) = self.views.get_mut(&message.chat) {
                    view.apply(message);
                }
            }
            Event::Ended { why } => self.failures.push(why.clone()),
            _ => {}
        }
    }

    /// Returns the chats that are listed and not followed, each with the last entry that is here, and forgets those that are not listed.
    fn unfollowed(&mut self, followed: &mut HashSet<ChatId>, reader: UserId) -> Vec<(ChatId, i64)> {
        let listed: HashSet<ChatId> = self.list.chats().map(|of| of.chat).collect();
        followed.retain(|chat| listed.contains(chat));
        self.views.retain(|chat, _| listed.contains(chat));
        let new: Vec<ChatId> = listed.into_iter().filter(|chat| followed.insert(*chat)).collect();
        new.into_iter()
            .map(|chat| {
                let view = self.views.entry(chat).or_insert_with(|| View::new(reader));
                (chat, view.entries().last_key_value().map_or(0, |(seq, _)| *seq))
            })
            .collect()
    }
}

struct History<'a> {
    users: &'a [TestUser],
    seed: u64,
    random: StdRng,
    devices: Vec<Device>,
    group: ChatId,
    chats: Vec<ChatId>,
    /// Each ends with its place in `trace`.
    sends: JoinSet<usize>,
    unsettled: BTreeSet<usize>,
    trace: Vec<String>,
}

impl<'a> History<'a> {
    async fn begin(users: &'a [TestUser], seed: u64) -> anyhow::Result<Self> {
        let direct = users[0].direct_chat(&users[1]).await?;
        let group = users[0].group(&format!("history {seed}"), &[users[1].id()]).await?;
        let devices = users.iter().enumerate().flat_map(|(number, user)| {
            // The two devices of a user differ, and so do those of two users.
            let encoding = move |device| Encoding::ALL[(number + device) % Encoding::ALL.len()];
            (0..DEVICES).map(move |device| Device::new(number, user, encoding(device), device == 0))
        });
        let mut devices: Vec<Device> = devices.collect();
        devices.iter_mut().for_each(|device| device.come_back(&users[device.user]));
        Ok(Self {
            users,
            seed,
            random: StdRng::seed_from_u64(seed),
            devices,
            group,
            chats: vec![direct, group],
            sends: JoinSet::new(),
            unsettled: BTreeSet::new(),
            trace: Vec::new(),
        })
    }

    fn told(&self) -> String {
        let mut told = format!("history with seed {}:", self.seed);
        for line in &self.trace {
            write!(told, "\n    {line}").expect("a String takes all");
        }
        told
    }

    async fn play(&mut self, is_disturbed: bool) -> anyhow::Result<()> {
        for _ in 0..self.random.random_range(HAPPENINGS / 3..=HAPPENINGS) {
            self.happen().await?;
        }
        let (sends, unsettled) = (&mut self.sends, &mut self.unsettled);
        let sent = async {
            while let Some(settled) = sends.join_next().await {
                unsettled.remove(&settled.expect("it does not panic"));
            }
        };
        if timeout(SETTLING, sent).await.is_err() {
            let left: Vec<&String> = self.unsettled.iter().map(|place| &self.trace[*place]).collect();
            bail!("neither stored nor refused: {left:#?}");
        }
        for device in &mut self.devices {
            if is_disturbed {
                device.cut();
            }
            if device.link.is_none() {
                device.come_back(&self.users[device.user]);
            }
        }
        let end = Instant::now() + SETTLING;
        while let Err(difference) = self.compare().await {
            if Instant::now() >= end {
                return Err(difference);
            }
            sleep(LOOK_EVERY).await;
        }
        let token = self.users[0].token().await?;
        for chat in self.chats.split_off(1) {
            // It may be deleted already, or belong to another user by now.
            drop(self.users[0].messenger().delete_chat(&token, chat).await);
        }
        Ok(())
    }

    /// Lets one thing happen. What is refused did not happen.
    async fn happen(&mut self) -> anyhow::Result<()> {
        let number = self.random.random_range(0..self.devices.len());
        let (user, is_online) = (self.devices[number].user, self.devices[number].link.is_some());
        let chat = *self.chats.choose(&mut self.random).expect("a direct chat at least");
        let other = self.users.choose(&mut self.random).expect("users").id();
        // While something is down there may be no new one.
        let Ok(token) = self.users[user].token().await else { return Ok(()) };
        let messenger = self.users[user].messenger();
        let what = self.random.random_range(0..40);
        let name = format!("device {number} of user {user}");
        let said = match what {
            0..=12 if is_online => self.write(number, chat, what),
            13..=18 if is_online => self.mark(number, chat, what > 15).await,
            19..=21 => {
                self.devices[number].cut();
                "is cut off".to_owned()
            }
            22..=25 if !is_online => {
                self.devices[number].come_back(&self.users[user]);
                "comes back".to_owned()
            }
            26..=28 => {
                let role = *[Role::Member, Role::Admin].choose(&mut self.random).expect("two");
                let put = messenger.put_member(&token, self.group, other, role).await;
                format!("puts {other} as {role:?}: {:?}", put.map_err(|error| error.code()))
            }
            29..=30 => {
                let removed = messenger.remove_member(&token, self.group, other).await;
                format!("removes {other}: {:?}", removed.map_err(|error| error.code()))
            }
            31..=32 => {
                let title = Some(format!("title {}", self.trace.len()));
                let request = UpdateChatRequest { title, ..UpdateChatRequest::default() };
                let updated = messenger.update_chat(&token, self.group, &request).await;
                format!("renames the group: {:?}", updated.map(drop).map_err(|error| error.code()))
            }
            33 => {
                let made = self.users[user].group("another", &[other]).await;
                self.chats.extend(made.as_ref().ok());
                format!("makes a group with {other}: {:?}", made.is_ok())
            }
            34 if self.chats.len() > 2 => {
                let deleted = messenger.delete_chat(&token, chat).await;
                format!("deletes {chat}: {:?}", deleted.map_err(|error| error.code()))
            }
            35..=36 => {
                sleep(Duration::from_millis(self.random.random_range(1..80))).await;
                "waits".to_owned()
            }
            _ => return Ok(()),
        };
        self.trace.push(format!("{name} {said}"));
        Ok(())
    }

    /// Sends an entry; what is refused, or lost with the connection, is no fault.
    fn write(&mut self, number: usize, chat: ChatId, what: u32) -> String {
        let user = self.users[self.devices[number].user].id();
        let texts: Vec<(i64, bool)> = {
            let held = self.devices[number].held();
            let entries = held.views.get(&chat).map(View::entries).into_iter().flatten();
            let texts = entries.filter(|(_, entry)| entry.kind == EntryKind::Text);
            texts.map(|(seq, entry)| (*seq, entry.sender == user)).collect()
        };
        let any = texts.choose(&mut self.random).map(|(seq, _)| *seq);
        let own: Vec<i64> = texts.iter().filter(|(_, is_own)| *is_own).map(|(seq, _)| *seq).collect();
        let own = own.choose(&mut self.random).copied();
        let called = self.users.choose(&mut self.random).expect("users").id();
        let remove = self.random.random_bool(0.3);
        let body = format!("text {}", self.trace.len());
        let post = match (what, any, own) {
            (0, _, Some(seq)) => Post::Edit { seq, body },
            (1, _, Some(seq)) => Post::Delete { seq },
            (2, Some(seq), _) => Post::React { seq, emoji: "\u{1f44d}".to_owned(), remove },
            (3, Some(seq), _) => Post::Pin { seq, remove },
            (4, Some(_), _) => calling(body, any, vec![called]),
            (5, ..) => calling(body, None, vec![called]),
            (6, Some(to_seq), _) => {
                let sender = remove.then_some(called);
                Post::DeleteRange { from_seq: (to_seq - 3).max(1), to_seq, sender }
            }
            (7, Some(from_seq), _) => Post::Forward { from_chat: chat, from_seq },
            _ => body.as_str().into(),
        };
        let said = format!("sends {post:?} to {chat}");
        if let Some((session, _)) = &self.devices[number].link {
            let (sent, place) = (session.send(chat, post), self.trace.len());
            self.unsettled.insert(place);
            self.sends.spawn(async move {
                drop(sent.await);
                place
            });
        }
        said
    }

    /// Says how far the user has come, anywhere in what there is.
    async fn mark(&mut self, number: usize, chat: ChatId, is_read: bool) -> String {
        let head = self.devices[number].held().list.get(chat).map_or(0, |state| state.head_seq);
        let seq = head - self.random.random_range(0..3);
        let Some((session, _)) = self.devices[number].link.as_ref().filter(|_| seq > 0) else {
            return "has nothing to mark".to_owned();
        };
        if is_read {
            session.read(chat, seq).await;
        } else {
            session.delivered(chat, seq).await;
        }
        format!("marks {seq} of {chat} as {}", if is_read { "read" } else { "received" })
    }

    /// Compares what every device has with what a new one fetches.
    async fn compare(&self) -> anyhow::Result<()> {
        let fetched = join_all(self.users.iter().map(fetch)).await;
        for (number, (user, fetched)) in self.users.iter().zip(fetched).enumerate() {
            let fetched = fetched.with_context(|| format!("user {number} syncs on a new device"))?;
            for (at, device) in self.devices.iter().enumerate().filter(|(_, of)| of.user == number) {
                let held = device.held();
                ensure!(held.failures.is_empty(), "the session of device {at} ended: {:?}", held.failures);
                let has: BTreeMap<ChatId, ChatState> =
                    held.list.chats().map(|of| (of.chat, of.clone())).collect();
                differ(&has, &fetched.chats)
                    .with_context(|| format!("device {at} of user {number} ({})", user.id()))?;
            }
            for (at, device) in
                self.devices.iter().enumerate().filter(|(_, of)| of.user == number && of.follows)
            {
                for chat in fetched.chats.keys() {
                    let stored = user.history(*chat).await?;
                    let mut fresh = View::new(user.id());
                    stored.iter().for_each(|entry| fresh.apply(entry));
                    let has: Vec<Message> = device
                        .held()
                        .views
                        .get(chat)
                        .map(|view| view.entries().values().cloned().collect())
                        .unwrap_or_default();
                    let fresh: Vec<Message> = fresh.entries().values().cloned().collect();
                    if let Some(seq) = parting(&has, &fresh) {
                        bail!(
                            "device {at} of user {number} has other entries of {chat} than those stored, from {seq} on:\n\
                             has    {:?}\nstored {:?}",
                            has.iter().find(|entry| entry.seq == seq),
                            fresh.iter().find(|entry| entry.seq == seq),
                        );
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns a text that calls users by name, by role and all together.
fn calling(text: String, to: Option<i64>, called: Vec<UserId>) -> Post {
    let mut post = Post::text(text);
    if let Post::Text { reply_to, mentions, mention_all, mention_roles, silent, .. } = &mut post {
        (*mention_all, *silent) = (to.is_none(), to.is_some());
        (*reply_to, *mentions, *mention_roles) = (to, called, vec![Role::Admin]);
    }
    post
}

/// Returns the first seq at which two lists of entries are not the same.
fn parting(has: &[Message], stored: &[Message]) -> Option<i64> {
    let same = has.iter().zip(stored).take_while(|(one, other)| one == other).count();
    has.get(same).or_else(|| stored.get(same)).map(|entry| entry.seq)
}

fn differ(has: &BTreeMap<ChatId, ChatState>, fresh: &BTreeMap<ChatId, ChatState>) -> anyhow::Result<()> {
    ensure!(
        has.keys().eq(fresh.keys()),
        "it lists other chats than a new device:\nhas  {:?}\nanew {:?}",
        has.keys(),
        fresh.keys()
    );
    for (chat, state) in has {
        ensure!(*state == fresh[chat], "it has a chat otherwise:\nhas  {state:?}\nanew {:?}", fresh[chat]);
    }
    Ok(())
}

/// What a new device fetches.
struct Fetched {
    chats: BTreeMap<ChatId, ChatState>,
}

async fn fetch(user: &TestUser) -> anyhow::Result<Fetched> {
    let (_session, mut events) = Session::open(user.identity.clone(), DeviceId::generate());
    let mut list = ChatList::new(user.id());
    let synced = async {
        while let Some(event) = events.recv().await {
            list.apply(&event);
            match event {
                Event::Synced(page) if !page.more => {
                    let unread = (page.unread, page.mentions);
                    ensure!(
                        list.unread() == unread,
                        "the chats have {:?} unread, the page {unread:?}",
                        list.unread()
                    );
                    break;
                }
                Event::Ended { why } => bail!("the session ended: {why}"),
                _ => {}
            }
        }
        Ok(())
    };
    timeout(SETTLING, synced).await.context("no sync")??;
    Ok(Fetched { chats: list.chats().map(|of| (of.chat, of.clone())).collect() })
}
