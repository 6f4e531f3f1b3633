//! What clients see of the presence of others, and what the presence service learns of them.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use contracts::{
    ChatId, ErrorCode, UserId,
    presence::{id, unpack},
    rpc::{
        self, GatewayNews, LookRequest, LookResponse, PresenceNews, Seen, WatchChanges, gateway_news::News,
        presence_service_server::PresenceService,
    },
    wire::{
        Activity, ActivityState, Command, Outcome, Presence, PresenceState, Typing, TypingUser, UserPresence,
        Watch,
    },
};
use futures_util::stream;
use gateway::Limits;
use kit::testing::wait_for;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};
use uuid::Uuid;

use crate::{
    client::Client,
    stand::{PATIENCE, Stand, chat, device, user, with_encodings, with_stand},
};

/// The presence service of a tenant, in memory. It does what the story says.
#[derive(Clone, Default)]
pub struct FakePresence(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_down: bool,
    gateways: Vec<mpsc::Sender<Result<PresenceNews, Status>>>,
    /// What the gateways have reported of their users, and whom they follow.
    reported: BTreeMap<UserId, PresenceState>,
    followed: HashSet<UserId>,
    followed_chats: HashSet<ChatId>,
    typing: Vec<TypingUser>,
    /// Whether any gateway has ever sent all its users.
    full_reports: usize,
    /// How users are, and whom no other user may see.
    users: BTreeMap<UserId, PresenceState>,
    hidden: HashSet<UserId>,
}

impl FakePresence {
    fn with<T>(&self, then: impl FnOnce(&mut State) -> T) -> T {
        then(&mut self.0.lock().expect("no panic"))
    }

    /// Goes down, or comes back and knows nothing.
    pub fn set_down(&self, is_down: bool) {
        self.with(|state| {
            *state = State {
                is_down,
                users: std::mem::take(&mut state.users),
                hidden: std::mem::take(&mut state.hidden),
                ..State::default()
            };
        });
    }

    /// Lets a user be like this, for all who follow them.
    async fn set(&self, user: UserId, presence: PresenceState) {
        let (gateways, is_followed) = self.with(|state| {
            state.users.insert(user, presence);
            (state.gateways.clone(), state.followed.contains(&user))
        });
        let users = if is_followed { vec![of(user, presence).into()] } else { Vec::new() };
        let news = PresenceNews { absent: rpc::Presence::Offline.into(), users, ..PresenceNews::default() };
        for gateway in gateways {
            gateway.send(Ok(news.clone())).await.expect("an attached gateway");
        }
    }

    async fn waits_for(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        wait_for(what, PATIENCE, async || self.with(|state| is_so(state).then_some(()))).await;
    }

    fn take(&self, news: GatewayNews) {
        self.with(|state| match news.news {
            Some(News::Users(changes)) => {
                if changes.is_all {
                    state.reported.clear();
                    state.full_reports += 1;
                }
                for (ids, presence) in [
                    (changes.online, PresenceState::Online),
                    (changes.away, PresenceState::Away),
                    (changes.offline, PresenceState::Offline),
                ] {
                    let users = unpack("users", &ids).expect("ids").into_iter().map(UserId);
                    state.reported.extend(users.map(|user| (user, presence)));
                }
            }
            Some(News::Watch(WatchChanges { added_users, removed_users, added_chats, removed_chats })) => {
                state.followed.extend(unpack("users", &added_users).expect("ids").into_iter().map(UserId));
                for user in unpack("users", &removed_users).expect("ids") {
                    state.followed.remove(&UserId(user));
                }
                state
                    .followed_chats
                    .extend(unpack("chats", &added_chats).expect("ids").into_iter().map(ChatId));
                for chat in unpack("chats", &removed_chats).expect("ids") {
                    state.followed_chats.remove(&ChatId(chat));
                }
            }
            Some(News::Typing(typing)) => state.typing.push(typing.try_into().expect("ids")),
            Some(News::Hello(_) | News::Heartbeat(_)) | None => {}
        });
    }
}

#[tonic::async_trait]
impl PresenceService for FakePresence {
    async fn attach(
        &self,
        request: Request<Streaming<GatewayNews>>,
    ) -> Result<Response<BoxStream<PresenceNews>>, Status> {
        let (sender, receiver) = mpsc::channel(64);
        if self.with(|state| state.is_down) {
            return Err(Status::unavailable("it is down"));
        }
        let first = PresenceNews {
            absent: rpc::Presence::Offline.into(),
            heartbeat_ms: 10_000,
            ..PresenceNews::default()
        };
        sender.send(Ok(first)).await.expect("room");
        self.with(|state| state.gateways.push(sender));
        let (this, mut news) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(news)) = news.message().await {
                this.take(news);
            }
        });
        let news =
            stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
        Ok(Response::new(Box::pin(news)))
    }

    async fn look(&self, request: Request<LookRequest>) -> Result<Response<LookResponse>, Status> {
        let views = request.into_inner().views.into_iter();
        self.with(|state| {
            if state.is_down {
                return Err(Status::unavailable("it is down"));
            }
            let seen = views.map(|view| {
                let viewer = UserId(id("viewer_id", &view.viewer_id).expect("an id"));
                let users = unpack("users", &view.user_ids).expect("ids").into_iter().map(UserId);
                let visible = users.filter(|user| *user == viewer || !state.hidden.contains(user));
                let presence = |user| of(user, *state.users.get(&user).unwrap_or(&PresenceState::Offline));
                Seen { users: visible.map(|user| presence(user).into()).collect() }
            });
            let seen = seen.collect();
            Ok(Response::new(LookResponse { absent: rpc::Presence::Offline.into(), seen }))
        })
    }
}

fn of(user: UserId, state: PresenceState) -> UserPresence {
    UserPresence { user, state, last_seen_ms: None }
}

async fn watch(
    client: &mut Client,
    users: &[UserId],
    chats: &[ChatId],
) -> Result<Vec<UserPresence>, ErrorCode> {
    let command = Command::Watch(Watch { users: users.to_vec(), chats: chats.to_vec() });
    let id = client.command(command).await;
    match client.answer(id).await? {
        Outcome::Watching(Presence { users }) => Ok(users),
        other => panic!("not watching: {other:?}"),
    }
}

/// Watches once the gateway is attached.
pub async fn watching(client: &mut Client, users: &[UserId], chats: &[ChatId]) -> Vec<UserPresence> {
    loop {
        match watch(client, users, chats).await {
            Ok(users) => return users,
            Err(ErrorCode::Unavailable | ErrorCode::RateLimited) => {
                tokio::time::sleep(Duration::from_millis(100)).await
            }
            Err(code) => panic!("refused with {code}"),
        }
    }
}

async fn pushed(client: &mut Client) -> Vec<UserPresence> {
    client.push("presence", |frame| frame.presence.clone()).await.users
}

async fn connected(stand: &Stand, n: u128) -> Client {
    stand.connect(user(n), device(n)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_sees_whom_it_watches_and_may_see() {
    with_encodings(Limits::default(), async |stand| {
        let presence = &stand.peers.presence;
        presence.with(|state| {
            state.users.extend([(user(2), PresenceState::Online), (user(3), PresenceState::Online)]);
            state.hidden.insert(user(3));
        });
        let mut client = connected(&stand, 1).await;
        let answer = watching(&mut client, &[user(2), user(3), user(4)], &[]).await;
        let offline = [of(user(3), PresenceState::Offline), of(user(4), PresenceState::Offline)];
        assert_eq!(answer[0], of(user(2), PresenceState::Online));
        assert_eq!(answer[1..], offline, "who may not be seen looks like who is not there");
        presence.waits_for("what is followed", |state| state.followed == [user(2), user(4)].into()).await;

        presence.set(user(3), PresenceState::Away).await;
        presence.set(user(2), PresenceState::Away).await;
        assert_eq!(pushed(&mut client).await, [of(user(2), PresenceState::Away)]);
        presence.set(user(4), PresenceState::Online).await;
        assert_eq!(pushed(&mut client).await, [of(user(4), PresenceState::Online)]);

        // What is watched is replaced, and forgotten with the connection.
        watching(&mut client, &[user(4)], &[]).await;
        presence.waits_for("one user less", |state| state.followed == [user(4)].into()).await;
        presence.set(user(2), PresenceState::Online).await;
        presence.set(user(4), PresenceState::Away).await;
        assert_eq!(pushed(&mut client).await, [of(user(4), PresenceState::Away)]);
        drop(client);
        presence.waits_for("nothing that is followed", |state| state.followed.is_empty()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_reported_as_the_most_active_of_their_devices() {
    with_stand(Limits::default(), async |stand| {
        let presence = &stand.peers.presence;
        let is = |state: &State, presence| state.reported.get(&user(1)) == Some(&presence);
        let away = || Command::Activity(Activity { state: ActivityState::Away });
        let mut phone = stand.connect(user(1), device(1)).await;
        let mut desk = stand.connect(user(1), device(2)).await;
        presence.waits_for("online", |state| is(state, PresenceState::Online)).await;
        phone.command(away()).await;
        // The answer comes behind it: the other device holds the user online.
        watching(&mut phone, &[], &[]).await;
        presence.waits_for("online still", |state| is(state, PresenceState::Online)).await;
        desk.command(away()).await;
        presence.waits_for("away", |state| is(state, PresenceState::Away)).await;
        phone.command(Command::Activity(Activity { state: ActivityState::Online })).await;
        presence.waits_for("online again", |state| is(state, PresenceState::Online)).await;
        drop((phone, desk));
        presence.waits_for("offline", |state| is(state, PresenceState::Offline)).await;
        assert_eq!(presence.with(|state| state.full_reports), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_is_for_members_of_a_chat_who_watch_it() {
    with_encodings(Limits::default(), async |stand| {
        let presence = &stand.peers.presence;
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let (mut ann, mut eve) = (connected(&stand, 1).await, connected(&stand, 3).await);
        let mut ben = connected(&stand, 2).await;
        watching(&mut ann, &[], &[chat()]).await;
        watching(&mut eve, &[], &[chat()]).await;
        presence.waits_for("the chat", |state| state.followed_chats.contains(&chat())).await;
        // The membership cache follows the log.
        ann.send_text(chat(), "hello").await;
        ben.message().await;

        let typing = TypingUser { chat: chat(), user: user(2) };
        eve.command(Command::Typing(Typing { chat: chat() })).await;
        for _ in 0..20 {
            ben.command(Command::Typing(Typing { chat: chat() })).await;
        }
        presence.waits_for("typing", |state| !state.typing.is_empty()).await;
        // Behind what was typed, in the order of the socket.
        ben.send_text(chat(), "that is what I typed").await;
        assert!(presence.with(|state| state.typing.iter().all(|of| *of == typing)), "none of a stranger");
        assert!(presence.with(|state| state.typing.len()) <= 3, "no more than a few");

        let news = PresenceNews {
            absent: rpc::Presence::Offline.into(),
            typing: vec![typing.into()],
            ..PresenceNews::default()
        };
        let gateways = presence.with(|state| state.gateways.clone());
        gateways[0].send(Ok(news)).await.expect("an attached gateway");
        assert_eq!(ann.push("typing", |frame| frame.typing).await, typing);
        assert!(eve.receives_nothing(Duration::from_millis(300)).await, "a stranger sees no typing");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chats_go_on_without_presence_and_it_comes_back() {
    with_stand(Limits::default(), async |stand| {
        let presence = &stand.peers.presence;
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        presence.with(|state| state.users.extend([(user(2), PresenceState::Online)]));
        let mut client = connected(&stand, 1).await;
        assert_eq!(watching(&mut client, &[user(2)], &[]).await, [of(user(2), PresenceState::Online)]);
        presence.waits_for("the watched user", |state| state.followed == [user(2)].into()).await;

        presence.set_down(true);
        let refused = async {
            loop {
                match watch(&mut client, &[user(2)], &[]).await {
                    Err(ErrorCode::Unavailable) => return,
                    Ok(_) | Err(ErrorCode::RateLimited) => {
                        tokio::time::sleep(Duration::from_millis(200)).await
                    }
                    Err(code) => panic!("refused with {code}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.expect("a refusal in time");
        assert_eq!(client.send_text(chat(), "no presence").await.seq, 1);
        // What was watched is unknown after a heartbeat.
        assert_eq!(pushed(&mut client).await, [of(user(2), PresenceState::Unknown)]);

        presence.set_down(false);
        presence
            .waits_for("all users", |state| state.full_reports == 1 && state.reported.contains_key(&user(1)))
            .await;
        presence.waits_for("the watched user", |state| state.followed == [user(2)].into()).await;
        presence.set(user(2), PresenceState::Away).await;
        assert_eq!(pushed(&mut client).await, [of(user(2), PresenceState::Away)]);
        assert_eq!(watching(&mut client, &[user(2)], &[]).await, [of(user(2), PresenceState::Away)]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_is_refused() {
    with_stand(Limits::default(), async |stand| {
        let mut client = connected(&stand, 1).await;
        let users: Vec<UserId> = (0..201).map(|_| UserId(Uuid::new_v4())).collect();
        assert_eq!(watch(&mut client, &users, &[]).await, Err(ErrorCode::InvalidArgument));
        let chats: Vec<ChatId> = (0..21).map(|_| ChatId(Uuid::new_v4())).collect();
        assert_eq!(watch(&mut client, &[], &chats).await, Err(ErrorCode::InvalidArgument));
        assert_eq!(watching(&mut client, &users[..200], &chats[..20]).await.len(), 200);
        let mut codes = HashSet::new();
        for _ in 0..60 {
            codes.extend(watch(&mut client, &[], &[]).await.err());
        }
        assert!(codes.contains(&ErrorCode::RateLimited), "{codes:?}");
    })
    .await;
}
