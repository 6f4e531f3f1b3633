//! What a client fetches when it comes back, on the store in memory and on the real one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use contracts::{ChatId, DeviceId, MessageKey, UserId, event::EntryKind, wire::Watermarks};
use kit::clock::now_ms;
use message::{
    domain::SeatId,
    domain::{Chats, Content, Cursor, Entry, Generation, Head, KeyId, Sequenced, Verdict, sequence},
    history::Beginning,
    store::{Partition, Progress, Row, Store, cql::CqlStore, memory::MemoryStore, migrate::migrate},
    sync::{Mark, Marked, Membership, SyncQuery, SyncedPage, Syncer, Syncing as _},
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::stand::with_stand;

const PARTITIONS: usize = 3;
/// Later than the slack that what has no place in the log counts as changed for.
const LATER_MS: i64 = 10 * 60 * 1000;

/// The logs of a tenant, their owner, and the chat service.
struct World<S> {
    /// Stores are shared, and each world has logs of its own.
    generation: Generation,
    store: Arc<S>,
    syncer: Syncer<S>,
    /// The log of each partition.
    logs: [Vec<Entry>; PARTITIONS],
    heads: HashMap<ChatId, Head>,
    /// Heads that are not stored yet.
    unstored: Vec<(Partition, ChatId)>,
    memberships: BTreeMap<(UserId, ChatId), Membership>,
    others: HashMap<SeatId, UserId>,
    now_ms: i64,
}

/// What a client has of a chat.
type View = BTreeMap<ChatId, (i64, i64, Watermarks, (i64, i64))>;

/// A client of one user: what it has, and its cursor.
#[derive(Default)]
struct Client {
    cursor: Option<Cursor>,
    view: View,
    unread: (i64, i64),
}

impl Client {
    /// Takes a page. Returns whether there are more.
    fn take(&mut self, page: SyncedPage) -> bool {
        if let Some(all) = page.all_chats {
            self.view.retain(|chat, _| all.contains(chat));
        }
        for of in page.chats {
            let others = (of.other_read_seq, of.other_delivered_seq);
            self.view.insert(of.chat, (of.head_seq, of.from_seq, of.watermarks, others));
        }
        self.unread = (page.unread, page.mentions);
        let more = page.cursor.page.is_some();
        // As clients have it: a text.
        self.cursor = Some(Cursor::decode(&page.cursor.encode()).expect("a cursor of ours"));
        more
    }
}

impl<S: Store> World<S> {
    fn new(store: Arc<S>) -> Self {
        let generation = Generation::new(&Uuid::new_v4().to_string());
        Self {
            syncer: Syncer::new(store.clone(), generation.clone()),
            generation,
            store,
            logs: Default::default(),
            heads: HashMap::new(),
            unstored: Vec::new(),
            memberships: BTreeMap::new(),
            others: HashMap::new(),
            now_ms: 1_700_000_000_000,
        }
    }

    fn partition(chat: ChatId) -> usize {
        (chat.0.as_u128() % PARTITIONS as u128) as usize
    }

    /// Appends an entry as the owner of the chat's partition does. Its head is stored later.
    async fn append(&mut self, chat: ChatId, sender: UserId, of: impl FnOnce(Entry) -> Entry) -> i64 {
        let partition = Self::partition(chat);
        let log = &mut self.logs[partition];
        let entry = of(Entry {
            offset: log.len() as i64,
            logged_at_ms: self.now_ms,
            chat,
            sender,
            device: DeviceId(Uuid::from_u128(3)),
            key: MessageKey::generate(),
            kind: EntryKind::Text,
            body: "hi".to_owned(),
            subject: None,
            target_seq: None,
            mentions: Vec::new(),
            mention_roles: Vec::new(),
            mentions_all: false,
            mentions_here: false,
            silent: false,
            attachments: Vec::new(),
            forwarded: None,
            range: None,
            moderates: false,
            subject_only: false,
            reads_from: None,
            content: Content::new(EntryKind::Text, "hi").hash(),
        });
        log.push(entry.clone());
        let head = self.heads.entry(chat).or_default().clone();
        let mut chats = Chats { heads: HashMap::from([(chat, head)]), ..Chats::default() };
        let sequenced = sequence(&self.generation, &mut chats, HashMap::new(), [&entry]);
        let Sequenced { verdicts, .. } = sequenced.expect("no contradiction");
        let Verdict::Store { seq, stamp, counts, effect, times } = verdicts[0] else {
            panic!("{verdicts:?}")
        };
        let row = Row { entry: &entry, seq, stamp, counts, effect, times };
        self.store.append(&self.generation, &[row], &[]).await.expect("a row");
        self.heads.insert(chat, chats.heads[&chat].clone());
        self.unstored.push((Partition(partition as i32), chat));
        seq
    }

    async fn text(&mut self, chat: ChatId, sender: UserId) -> i64 {
        self.append(chat, sender, |entry| entry).await
    }

    /// Stores the heads, and then how far the logs are applied.
    async fn flush(&mut self) {
        for (partition, chat) in std::mem::take(&mut self.unstored) {
            let head = self.heads[&chat].clone();
            self.store.put_heads(partition, &[(chat, head)]).await.expect("a head");
        }
        for (partition, log) in self.logs.iter().enumerate() {
            let (partition, next) = (Partition(partition as i32), log.len() as i64);
            let progress = Progress { next_offset: next, last: None };
            self.store.put_progress(&self.generation, partition, progress).await.expect("a position");
        }
    }

    fn join(&mut self, chat: ChatId, user: UserId, beginning: Beginning) {
        let membership = Membership { chat, beginning, joined_at_ms: self.now_ms, own_changed_at_ms: 0 };
        self.memberships.insert((user, chat), membership);
    }

    /// Adds a user to a chat, who reads from there.
    async fn add(&mut self, chat: ChatId, user: UserId) -> i64 {
        let mut key = MessageKey::generate();
        let by = UserId(Uuid::from_u128(77));
        let seq = self
            .append(chat, by, |entry| {
                key = entry.key;
                Entry { kind: EntryKind::MemberAdded, subject: Some(user), body: String::new(), ..entry }
            })
            .await;
        self.join(chat, user, Beginning::Entry(KeyId { chat, sender: by, key }));
        seq
    }

    async fn page(&self, user: UserId, cursor: Option<Cursor>, limit: usize) -> SyncedPage {
        let query = SyncQuery { user, cursor, limit, entries: 1, now_ms: self.now_ms };
        let own = self.memberships.range((user, ChatId(Uuid::nil()))..=(user, ChatId(Uuid::max())));
        let own = own.map(|(_, membership)| membership.clone()).collect();
        self.syncer.sync(query, own).await.expect("a page")
    }

    async fn sync(&self, user: UserId, client: &mut Client, limit: usize) {
        while client.take(self.page(user, client.cursor.clone(), limit).await) {}
    }

    async fn mark(&self, chat: ChatId, user: UserId, read_seq: i64, delivered_seq: i64) -> Marked {
        let seat = SeatId { chat, user };
        let beginning = self.memberships[&(user, chat)].beginning;
        let mark = Mark { seat, read_seq, delivered_seq, now_ms: self.now_ms };
        self.syncer.mark(mark, beginning, self.others.get(&seat).copied()).await.expect("a mark")
    }
}

fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

async fn suite<S: Store>(store: Arc<S>) {
    a_client_fetches_what_changed_and_nothing_else(store.clone()).await;
    pages_hold_every_chat_once(store.clone()).await;
    what_was_left_is_noticed(store.clone()).await;
    unread_is_what_others_wrote_since(store.clone()).await;
    a_mark_never_goes_back(store.clone()).await;
    a_direct_chat_shows_how_far_the_other_has_come(store).await;
}

async fn a_client_fetches_what_changed_and_nothing_else<S: Store>(store: Arc<S>) {
    let mut world = World::new(store);
    let (ann, bob) = (UserId::generate(), UserId::generate());
    let chats: Vec<ChatId> = (0..8).map(|_| ChatId::generate()).collect();
    for &chat in &chats {
        world.join(chat, ann, Beginning::Seq(1));
        world.text(chat, bob).await;
    }
    world.flush().await;
    let mut client = Client::default();
    world.sync(ann, &mut client, 50).await;
    assert_eq!(client.view.len(), 8);
    assert_eq!(client.unread, (8, 0));

    world.now_ms += LATER_MS;
    let quiet = world.page(ann, client.cursor.clone(), 50).await;
    // The memberships are as young as the cursor; from now on they are old.
    client.take(quiet);
    world.now_ms += LATER_MS;
    assert!(world.page(ann, client.cursor.clone(), 50).await.chats.is_empty(), "nothing happened");
    world.text(chats[3], bob).await;
    world.text(chats[5], bob).await;
    world.text(chats[3], bob).await;
    world.flush().await;
    let page = world.page(ann, client.cursor.clone(), 50).await;
    let changed: Vec<ChatId> = page.chats.iter().map(|of| of.chat).collect();
    assert_eq!(changed, [chats[3], chats[5]], "the last active one first");
    let last = &page.chats[0];
    assert_eq!((last.head_seq, last.entries.len(), last.limited), (3, 1, true));
    assert_eq!(last.entries[0].seq, 3);
    assert_eq!((page.unread, &page.all_chats), (11, &None));

    // How the user has a chat is in no log; the time of the change counts, as that of a mark does.
    client.take(page);
    world.now_ms += LATER_MS;
    client.take(world.page(ann, client.cursor.clone(), 50).await);
    let changed_at_ms = world.now_ms - 1_000;
    world.memberships.get_mut(&(ann, chats[6])).expect("ann is in it").own_changed_at_ms = changed_at_ms;
    let page = world.page(ann, client.cursor.clone(), 50).await;
    assert_eq!(page.chats.iter().map(|of| of.chat).collect::<Vec<_>>(), [chats[6]]);
    client.take(page);
    world.now_ms += LATER_MS;
    client.take(world.page(ann, client.cursor.clone(), 50).await);
    assert!(world.page(ann, client.cursor.clone(), 50).await.chats.is_empty(), "it is known");
}

async fn pages_hold_every_chat_once<S: Store>(store: Arc<S>) {
    let mut world = World::new(store);
    let (ann, bob) = (UserId::generate(), UserId::generate());
    let chats: Vec<ChatId> = (0..7).map(|_| ChatId::generate()).collect();
    for &chat in &chats {
        world.join(chat, ann, Beginning::Seq(1));
        world.text(chat, bob).await;
        world.now_ms += 1_000;
    }
    world.flush().await;
    let first = world.page(ann, None, 3).await;
    let ids = |page: &SyncedPage| page.chats.iter().map(|of| of.chat).collect::<Vec<_>>();
    assert_eq!(ids(&first), [chats[6], chats[5], chats[4]]);
    // What happens between two pages is not on the later ones, and not lost.
    world.text(chats[0], bob).await;
    world.text(chats[6], bob).await;
    world.flush().await;
    let second = world.page(ann, Some(first.cursor), 3).await;
    assert_eq!(ids(&second), [chats[3], chats[2], chats[1]]);
    assert!(second.cursor.page.is_none(), "it is the last one");
    let mut next = ids(&world.page(ann, Some(second.cursor), 3).await);
    next.sort();
    let mut changed = [chats[0], chats[6]];
    changed.sort();
    // The others are as young as their memberships, and on a page behind.
    assert!(changed.iter().all(|chat| next.contains(chat)), "{next:?}");
}

async fn what_was_left_is_noticed<S: Store>(store: Arc<S>) {
    let mut world = World::new(store);
    let (ann, bob) = (UserId::generate(), UserId::generate());
    let [kept, left] = [ChatId::generate(), ChatId::generate()];
    for chat in [kept, left] {
        world.join(chat, ann, Beginning::Seq(1));
        world.text(chat, bob).await;
    }
    world.flush().await;
    let mut client = Client::default();
    world.sync(ann, &mut client, 50).await;
    world.memberships.remove(&(ann, left));
    let page = world.page(ann, client.cursor.clone(), 50).await;
    assert_eq!(page.all_chats, Some(vec![kept]));
    client.take(page);
    assert_eq!(client.view.keys().copied().collect::<Vec<_>>(), [kept]);
    // A new member reads from the entry that added them, and has read what was before.
    let seq = world.add(left, ann).await;
    world.text(left, bob).await;
    world.flush().await;
    world.sync(ann, &mut client, 50).await;
    let (head_seq, from_seq, watermarks, _) = client.view[&left];
    assert_eq!((head_seq, from_seq, watermarks.unread, watermarks.read_seq), (seq + 1, seq, 1, seq));
}

async fn unread_is_what_others_wrote_since<S: Store>(store: Arc<S>) {
    let mut world = World::new(store);
    let (ann, bob, chat) = (UserId::generate(), UserId::generate(), ChatId::generate());
    world.join(chat, ann, Beginning::Seq(1));
    world.text(chat, bob).await;
    world.text(chat, ann).await;
    let call = world.append(chat, bob, |entry| Entry { mentions: vec![ann, bob], ..entry }).await;
    world.append(chat, bob, |entry| Entry { kind: EntryKind::Pin, target_seq: None, ..entry }).await;
    world.append(chat, bob, |entry| Entry { mentions_all: true, mentions: vec![ann], ..entry }).await;
    world.text(chat, bob).await;
    world.flush().await;
    let watermarks = async |world: &World<S>| {
        let page = world.page(ann, None, 1).await;
        assert_eq!(
            (page.unread, page.mentions),
            (page.chats[0].watermarks.unread, page.chats[0].watermarks.mentions)
        );
        page.chats[0].watermarks
    };
    // Her own text is read, and a pin is no text.
    let expected = Watermarks { read_seq: 2, delivered_seq: 2, unread: 3, mentions: 2, counted_seq: 6 };
    assert_eq!(watermarks(&world).await, expected);
    let read = Watermarks { read_seq: call, delivered_seq: call, unread: 2, mentions: 1, counted_seq: 6 };
    assert_eq!(world.mark(chat, ann, call, 0).await, Marked::Moved(read));
    assert_eq!(watermarks(&world).await, read);
    let all = Watermarks { read_seq: 6, delivered_seq: 6, unread: 0, mentions: 0, counted_seq: 6 };
    assert_eq!(world.mark(chat, ann, 6, 0).await, Marked::Moved(all));
    assert_eq!(watermarks(&world).await, all);
}

async fn a_mark_never_goes_back<S: Store>(store: Arc<S>) {
    let mut world = World::new(store);
    let (ann, bob, chat) = (UserId::generate(), UserId::generate(), ChatId::generate());
    world.text(chat, bob).await;
    world.add(chat, ann).await;
    for _ in 0..3 {
        world.text(chat, bob).await;
    }
    // Also while the head is not stored yet: what was announced counts.
    let at = |read_seq, delivered_seq, unread| Watermarks {
        read_seq,
        delivered_seq,
        unread,
        mentions: 0,
        counted_seq: 5,
    };
    assert_eq!(world.mark(chat, ann, 4, 0).await, Marked::Moved(at(4, 4, 1)));
    world.flush().await;
    assert_eq!(world.mark(chat, ann, 3, 0).await, Marked::Before(at(4, 4, 1)));
    assert_eq!(world.mark(chat, ann, 0, 5).await, Marked::Moved(at(4, 5, 1)));
    assert_eq!(world.mark(chat, ann, 0, 4).await, Marked::Before(at(4, 5, 1)));
    assert_eq!(world.mark(chat, ann, 5, 0).await, Marked::Moved(at(5, 5, 0)));
    for beyond in [6, i64::MAX, 1] {
        assert_eq!(world.mark(chat, ann, beyond, 0).await, Marked::NoEntry, "{beyond}");
    }
    assert_eq!(world.mark(chat, ann, 0, 6).await, Marked::NoEntry);
}

async fn a_direct_chat_shows_how_far_the_other_has_come<S: Store>(store: Arc<S>) {
    let mut world = World::new(store);
    let (ann, bob, chat) = (UserId::generate(), UserId::generate(), ChatId::generate());
    for (user, other) in [(ann, bob), (bob, ann)] {
        world.join(chat, user, Beginning::Seq(1));
        world.others.insert(SeatId { chat, user }, other);
    }
    world.text(chat, ann).await;
    world.text(chat, ann).await;
    world.flush().await;
    let mut client = Client::default();
    world.sync(ann, &mut client, 50).await;
    assert_eq!(client.view[&chat].3, (0, 0));
    world.now_ms += LATER_MS;
    world.mark(chat, bob, 1, 2).await;
    world.now_ms += LATER_MS;
    // The chat counts as changed for her, though its log did not move.
    world.sync(ann, &mut client, 50).await;
    assert_eq!(client.view[&chat].3, (1, 2));
}

#[tokio::test]
async fn in_memory() {
    suite(Arc::new(MemoryStore::default())).await;
}

#[tokio::test]
async fn on_the_real_store() {
    with_stand(|stand| async move {
        migrate(&stand.session, kit::config::CqlFlavor::Cassandra).await.expect("tables");
        suite(Arc::new(CqlStore::prepare(stand.session.clone(), now_ms).await.expect("statements"))).await;
    })
    .await;
}

/// What happens while a client comes and goes.
#[derive(Clone, Debug)]
enum Happening {
    Text {
        chat: usize,
        user: usize,
        call: u8,
    },
    Add {
        chat: usize,
        user: usize,
    },
    Leave {
        chat: usize,
        user: usize,
    },
    Mark {
        chat: usize,
        user: usize,
        back: i64,
        is_read: bool,
    },
    Flush,
    Wait {
        ms: i64,
    },
    /// A client syncs; it may be cut off after some pages.
    Sync {
        user: usize,
        device: usize,
        limit: usize,
        pages: usize,
    },
    /// A client loses what it has.
    Forget {
        user: usize,
        device: usize,
    },
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let (chat, user, device) = (0..5_usize, 0..3_usize, 0..2_usize);
    let happening = prop_oneof![
        8 => (chat.clone(), user.clone(), 0..5_u8)
            .prop_map(|(chat, user, call)| Happening::Text { chat, user, call }),
        2 => (chat.clone(), user.clone()).prop_map(|(chat, user)| Happening::Add { chat, user }),
        1 => (chat.clone(), user.clone()).prop_map(|(chat, user)| Happening::Leave { chat, user }),
        3 => (chat, user.clone(), 0..4_i64, any::<bool>())
            .prop_map(|(chat, user, back, is_read)| Happening::Mark { chat, user, back, is_read }),
        4 => Just(Happening::Flush),
        // The clock of the log may step back.
        2 => (-LATER_MS..4 * LATER_MS).prop_map(|ms| Happening::Wait { ms }),
        4 => (user.clone(), device.clone(), 1..4_usize, 1..4_usize)
            .prop_map(|(user, device, limit, pages)| Happening::Sync { user, device, limit, pages }),
        1 => (user, device).prop_map(|(user, device)| Happening::Forget { user, device }),
    ];
    prop::collection::vec(happening, 1..60)
}

async fn what_a_client_has_is_what_a_new_one_fetches(happenings: &[Happening]) {
    let mut world = World::new(Arc::new(MemoryStore::default()));
    // What has no place in the log has a time: that of services, which goes on.
    let mut services_ms = world.now_ms;
    let mut clients: HashMap<(usize, usize), Client> = HashMap::new();
    let chat_of = |chat: usize| ChatId(Uuid::from_u128(1_000 + chat as u128));
    let user_of = |of: usize| user(1 + of as u128);
    for happening in happenings {
        let log_ms = world.now_ms;
        match *happening {
            Happening::Text { chat, user, call } => {
                let mentions = if call % 3 == 1 { vec![user_of(0), user_of(1)] } else { Vec::new() };
                let call_all = call == 4;
                world
                    .append(chat_of(chat), user_of(user), |entry| Entry {
                        mentions,
                        mentions_all: call_all,
                        ..entry
                    })
                    .await;
            }
            Happening::Add { chat, user } => {
                if !world.memberships.contains_key(&(user_of(user), chat_of(chat))) {
                    world.now_ms = services_ms;
                    world.add(chat_of(chat), user_of(user)).await;
                    world.now_ms = log_ms;
                }
            }
            Happening::Leave { chat, user } => {
                world.memberships.remove(&(user_of(user), chat_of(chat)));
            }
            Happening::Mark { chat, user, back, is_read } => {
                let (chat, user) = (chat_of(chat), user_of(user));
                let seq = world.heads.get(&chat).map_or(0, |head| head.seq) - back;
                if seq > 0 && world.memberships.contains_key(&(user, chat)) {
                    world.now_ms = services_ms;
                    let (read, delivered) = if is_read { (seq, 0) } else { (0, seq) };
                    world.mark(chat, user, read, delivered).await;
                    world.now_ms = log_ms;
                }
            }
            Happening::Flush => world.flush().await,
            Happening::Wait { ms } => {
                world.now_ms += ms;
                services_ms += ms.abs();
            }
            Happening::Sync { user, device, limit, pages } => {
                world.now_ms = services_ms;
                let client = clients.entry((user, device)).or_default();
                for _ in 0..pages {
                    if !client.take(world.page(user_of(user), client.cursor.clone(), limit).await) {
                        break;
                    }
                }
                world.now_ms = log_ms;
            }
            Happening::Forget { user, device } => drop(clients.remove(&(user, device))),
        }
    }
    world.flush().await;
    world.now_ms = services_ms;
    for ((user, device), mut client) in clients {
        world.sync(user_of(user), &mut client, 2).await;
        // A run of pages that was cut off may have begun before the last changes; the next one has them.
        world.sync(user_of(user), &mut client, 2).await;
        let mut fresh = Client::default();
        world.sync(user_of(user), &mut fresh, 50).await;
        assert_eq!(client.view, fresh.view, "user {user}, device {device}");
        assert_eq!(client.unread, fresh.unread, "user {user}, device {device}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn syncing_is_fetching_all_again(happenings in happenings()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(what_a_client_has_is_what_a_new_one_fetches(&happenings));
    }
}
