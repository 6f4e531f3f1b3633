//! `posthouse chat`: a small terminal client that works in a pipe as well.

mod line;

use std::{
    collections::HashMap,
    io::IsTerminal as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey, UserId,
    api::{
        Chat, CreateChatRequest, CreateInviteRequest, MUTED_FOR_GOOD_MS, OwnChatState, RegisterRequest,
        ScheduleRequest, SetDraft, UpdateChatRequest, UpdateOwnChatStateRequest,
    },
    event::{EntryKind, Role},
    wire::{
        self, History, MAX_WATCHED_USERS, Message, OwnState, PresenceState, SyncPage, UserPresence, Watch,
    },
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::mpsc,
};

use self::line::{Call, Line, Mute};
use posthouse_client::{
    ClientError, Event, Identity, Joined, Messenger, Post, QueryFailure, Receipt, SendFailure, Session,
};

use crate::{
    args::ChatArgs,
    failure::{Exit, Failure},
    output::{self, Output},
    password,
};

/// How much of a chat is shown when it is opened.
const SHOWN_ON_OPEN: i64 = 20;
/// After the end of a pipe, the last messages have this long to be stored.
const LAST_MESSAGES: Duration = Duration::from_secs(60);

pub(crate) async fn run(args: ChatArgs, output: Output) -> Result<(), Failure> {
    let messenger = Messenger::new(&args.url)?;
    let password = password::read(&args.user)?;
    if args.register {
        let request =
            RegisterRequest { username: args.user.clone(), password: password.clone(), display_name: None };
        messenger.register(&request).await?;
    }
    let identity = Identity::sign_in(&messenger, &args.user, &password).await?;
    let (session, events) = Session::open(identity.clone(), DeviceId::generate());
    let mut room = Room {
        identity,
        session,
        output,
        open: None,
        listed: Vec::new(),
        names: HashMap::new(),
        shown: HashMap::new(),
        unshown: HashMap::new(),
        presence: HashMap::new(),
        unread: HashMap::new(),
        own_versions: HashMap::new(),
        is_synced: false,
    };
    match &args.to {
        Some(to) => room.open_by(to).await?,
        None => {
            room.list().await?;
            room.note("/help lists the commands");
        }
    }
    room.talk(events, args.follow).await
}

/// What was read from a line.
enum Read {
    Post(ChatId, Post),
    Line(Line),
}

struct Room {
    identity: Identity,
    session: Session,
    output: Output,
    open: Option<ChatId>,
    listed: Vec<Chat>,
    names: HashMap<UserId, String>,
    /// The last entry of each chat that was shown, and the last own message that is stored and not yet shown.
    shown: HashMap<ChatId, i64>,
    unshown: HashMap<ChatId, i64>,
    /// How the members of the open chat are.
    presence: HashMap<UserId, PresenceState>,
    /// What is not read of each chat, as far as it was said.
    unread: HashMap<ChatId, i64>,
    /// The newest state of each chat, as the user has it, that was shown or synced.
    own_versions: HashMap<ChatId, i64>,
    is_synced: bool,
}

impl Room {
    async fn talk(mut self, mut events: mpsc::Receiver<Event>, follow: bool) -> Result<(), Failure> {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        let mut unsettled = FuturesUnordered::new();
        let mut reading = true;
        let mut unreadable = None;
        loop {
            if !reading
                && unsettled.is_empty()
                && self.unshown.is_empty()
                && (!follow || unreadable.is_some())
            {
                return unreadable.map_or(Ok(()), Err);
            }
            tokio::select! {
                line = lines.next_line(), if reading => match line {
                    Ok(Some(text)) => match self.post(line::parse(&text)).await {
                        Ok(Read::Post(chat, post)) => {
                            let sent = self.session.send(chat, post);
                            unsettled.push(async move { (chat, sent.await) });
                        }
                        Err(failure) => self.refused(failure)?,
                        Ok(Read::Line(line)) => match line {
                        Line::Nothing => {}
                        Line::Quit => reading = false,
                        command => if let Err(failure) = self.command(command).await {
                            self.note(&failure.to_string());
                        },
                        },
                    },
                    Ok(None) => reading = false,
                    Err(error) => {
                        reading = false;
                        unreadable = Some(Failure::new(
                            Exit::Fault,
                            format!("the input cannot be read: {error}"),
                            "lines before it were sent, it and what follows were not; send UTF-8",
                        ));
                    }
                },
                Some((chat, settled)) = unsettled.next(), if !unsettled.is_empty() => self.settled(chat, settled)?,
                event = events.recv() => match event {
                    Some(event) => self.event(event).await?,
                    None => return unreadable.map_or(Ok(()), Err),
                },
                () = tokio::time::sleep(LAST_MESSAGES), if !reading && !follow => {
                    let what = format!("{} messages are not confirmed as stored", unsettled.len());
                    let next = "see `posthouse status -A`: the messenger may be unavailable";
                    return Err(Failure::new(Exit::Fault, what, next));
                }
            }
        }
    }

    /// Returns what a line sends, and where; or the line, when it sends nothing.
    async fn post(&mut self, line: Line) -> Result<Read, Failure> {
        if !matches!(line, Line::Post(_) | Line::Call(..) | Line::Forward { .. } | Line::DeleteRange { .. }) {
            return Ok(Read::Line(line));
        }
        let chat = self.open.ok_or_else(|| {
            Failure::new(
                Exit::Refused,
                "no chat is open: the line was not sent",
                "/chats lists them, /open @name starts one; --to opens one from the start",
            )
        })?;
        Ok(match line {
            Line::Post(post) => Read::Post(chat, post),
            Line::Call(whom, body) => Read::Post(chat, calling(whom, body)),
            Line::Forward { seq, to } => {
                let to = self.find(&to).await?.chat_id;
                Read::Post(to, Post::Forward { from_chat: chat, from_seq: seq })
            }
            Line::DeleteRange { from_seq, to_seq, username } => {
                let sender = match username {
                    Some(username) => Some(self.user_named(&username).await?),
                    None => None,
                };
                Read::Post(chat, Post::DeleteRange { from_seq, to_seq, sender })
            }
            line => Read::Line(line),
        })
    }

    /// Shows messages that a question found.
    async fn found(&mut self, found: Result<Vec<Message>, QueryFailure>) -> Result<(), Failure> {
        let messages = found.map_err(|failure| {
            let advice = failure.code().map_or("wait until the connection is back", advice);
            Failure::new(Exit::Refused, failure.to_string(), advice)
        })?;
        if messages.is_empty() {
            self.note("there is none");
        }
        for message in messages {
            self.show(&message).await;
        }
        Ok(())
    }

    async fn command(&mut self, line: Line) -> Result<(), Failure> {
        match line {
            Line::Help => {
                self.note(&line::help());
                Ok(())
            }
            Line::Chats => self.list().await,
            Line::Open(what) => self.open_by(&what).await,
            Line::Group { is_channel, title, members } => self.group(is_channel, title, &members).await,
            Line::Members => self.members().await,
            Line::Title(title) => {
                self.update(UpdateChatRequest { title: Some(title), ..UpdateChatRequest::default() }).await
            }
            Line::Topic(topic) => {
                self.update(UpdateChatRequest { topic: Some(topic), ..UpdateChatRequest::default() }).await
            }
            Line::Role { username, role } => self.role(&username, role).await,
            Line::Public(text) => self.public(&text).await,
            Line::Join(what) => self.join(&what).await,
            Line::Leave => self.leave().await,
            Line::Visibility(visibility) => {
                let visibility = Some(visibility);
                self.update(UpdateChatRequest { visibility, ..UpdateChatRequest::default() }).await
            }
            Line::Invite { needs_approval } => self.invite(needs_approval).await,
            Line::Invites => self.invites().await,
            Line::Revoke(invite) => {
                let chat = self.opened()?;
                Ok(self.messenger().revoke_invite(&self.identity.token().await?, chat, invite).await?)
            }
            Line::Requests => self.requests().await,
            Line::Decide { username, is_approved } => {
                let (chat, user) = (self.opened()?, self.user_named(&username).await?);
                Ok(self.messenger().decide(&self.identity.token().await?, chat, user, is_approved).await?)
            }
            Line::DeleteGroup => self.delete_group().await,
            Line::Mute(mute) => {
                let muted_until_ms = Some(until_ms(mute));
                self.own(UpdateOwnChatStateRequest { muted_until_ms, ..Default::default() }).await
            }
            Line::Disappear { seconds } => {
                let message_ttl_seconds = Some(seconds);
                self.update(UpdateChatRequest { message_ttl_seconds, ..Default::default() }).await
            }
            Line::Later { minutes, body } => self.later(minutes, body).await,
            Line::Scheduled => self.list_scheduled().await,
            Line::Unschedule { number, is_sent } => self.unschedule(number, is_sent).await,
            Line::Draft(body) => {
                let draft = Some(SetDraft { body, reply_to: None });
                self.own(UpdateOwnChatStateRequest { draft, ..Default::default() }).await
            }
            Line::Archive(archived) => {
                let archived = Some(archived);
                self.own(UpdateOwnChatStateRequest { archived, ..Default::default() }).await
            }
            Line::Favourite(favourite) => {
                let favourite = Some(favourite);
                self.own(UpdateOwnChatStateRequest { favourite, ..Default::default() }).await
            }
            Line::Incomplete(usage) => {
                self.note(&format!("usage: {usage}"));
                Ok(())
            }
            Line::Unknown(command) => {
                self.note(&format!("unknown command {command}; /help lists the commands"));
                Ok(())
            }
            Line::Pins => {
                let chat = self.opened()?;
                let page = self.session.pins(chat, None, None).await;
                self.found(page.map(|page| page.messages)).await
            }
            Line::Replies(seq) => {
                let chat = self.opened()?;
                let page = self.session.replies(chat, seq, None, None).await;
                self.found(page.map(|page| page.messages)).await
            }
            Line::Since(hours) => {
                let from_ms = Some((now_ms() - i64::from(hours) * 3_600_000).max(0));
                let chat = self.opened()?;
                let limit = Some(SHOWN_ON_OPEN as u32);
                let query = History { chat, after: None, before: None, around: None, from_ms, limit };
                let page = self.session.history(query).await;
                self.found(page.map(|page| page.messages)).await
            }
            Line::Post(_)
            | Line::Call(..)
            | Line::Forward { .. }
            | Line::DeleteRange { .. }
            | Line::Nothing
            | Line::Quit => Ok(()),
        }
    }

    async fn event(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Entry { message, .. } => self.entry(message).await,
            Event::Elsewhere(message) => self.elsewhere(&message).await,
            Event::Presence(users) => self.presence(users).await,
            Event::Typing(typing) if std::io::stderr().is_terminal() => {
                let name = self.name(typing.user).await;
                self.note(&format!("{name} is typing"));
            }
            Event::Synced(page) => self.synced(page),
            Event::Marked(receipt) => self.marked(&receipt).await,
            Event::OwnState(own_state) => self.own_state(&own_state).await,
            Event::Connected { .. } | Event::Typing(_) => {}
            Event::Disconnected { why } => self.note(&format!("connection lost ({why}); reconnecting")),
            Event::Unreadable { chat, code } => {
                self.note(&format!("chat {chat} is no longer readable: {code}"));
                self.open = self.open.filter(|open| *open != chat);
                // One who comes back has the chat as any other.
                self.own_versions.remove(&chat);
            }
            Event::Ended { why } => {
                return Err(Failure::new(
                    Exit::Refused,
                    format!("the session ended: {why}"),
                    "sign in again",
                ));
            }
        }
        Ok(())
    }

    async fn entry(&mut self, message: Message) {
        if self.unshown.get(&message.chat).is_some_and(|&seq| seq <= message.seq) {
            self.unshown.remove(&message.chat);
        }
        let is_own = message.sender == self.identity.user();
        if self.open == Some(message.chat) || self.output == Output::Json {
            self.show(&message).await;
            if !is_own {
                // Who sees it has read it.
                self.session.read(message.chat, message.seq).await;
            }
        } else {
            self.elsewhere(&message).await;
        }
        self.shown.insert(message.chat, message.seq);
    }

    /// Shows once what was missed, when the first sync is over.
    fn synced(&mut self, page: SyncPage) {
        for of in &page.chats {
            self.own_versions.insert(of.chat, of.own.version);
            self.unread.insert(of.chat, of.watermarks.unread);
        }
        if page.more || self.is_synced {
            return;
        }
        self.is_synced = true;
        if page.unread > 0 && self.output != Output::Json {
            let calls = if page.mentions > 0 {
                format!(", {} of them call you", page.mentions)
            } else {
                String::new()
            };
            self.note(&format!("{} unread messages{calls}: /chats shows where", page.unread));
        }
    }

    /// Notes what is unread on all devices, and shows that another user has read the open chat.
    async fn marked(&mut self, receipt: &wire::Receipt) {
        if receipt.user == self.identity.user() {
            self.unread.insert(receipt.chat, receipt.unread.unwrap_or_default());
        } else if let Some(seq) = receipt.read_seq
            && self.open == Some(receipt.chat)
            && std::io::stderr().is_terminal()
        {
            let name = self.name(receipt.user).await;
            self.note(&format!("{name} has read up to {seq}"));
        }
    }

    /// Notes how members of the open chat are, and shows who has come or gone.
    async fn presence(&mut self, users: Vec<UserPresence>) {
        for UserPresence { user, state, .. } in users {
            let before = self.presence.insert(user, state);
            let is_news = before.is_some_and(|before| before != state && before != PresenceState::Unknown);
            if is_news && state != PresenceState::Unknown && std::io::stderr().is_terminal() {
                let name = self.name(user).await;
                self.note(&format!("{name} is {}", word(state)));
            }
        }
    }

    async fn elsewhere(&mut self, message: &Message) {
        if message.sender != self.identity.user() {
            self.session.delivered(message.chat, message.seq).await;
            *self.unread.entry(message.chat).or_default() += i64::from(message.kind == EntryKind::Text);
            if message.silent {
                return;
            }
            let name = self.name(message.sender).await;
            self.note(&format!("new message from {name} in another chat: /open {}", message.chat));
        }
    }

    fn settled(&mut self, chat: ChatId, settled: Result<Receipt, SendFailure>) -> Result<(), Failure> {
        match settled {
            // The message itself is shown as an entry, which may come before or after this.
            Ok(receipt) => {
                if self.shown.get(&chat).is_none_or(|&seq| seq < receipt.seq) {
                    self.unshown.insert(chat, receipt.seq);
                }
                Ok(())
            }
            Err(failure @ SendFailure::Refused { code, .. }) => {
                self.refused(Failure::new(Exit::Refused, failure.to_string(), advice(code)))
            }
            Err(failure @ SendFailure::SessionEnded) => {
                Err(Failure::new(Exit::Unreachable, failure.to_string(), "sign in again and check the chat"))
            }
        }
    }

    /// Notes a line that did not take effect. From a pipe it ends the program, as nobody would read the note.
    fn refused(&self, failure: Failure) -> Result<(), Failure> {
        if !std::io::stdin().is_terminal() {
            return Err(failure);
        }
        self.note(&failure.to_string());
        Ok(())
    }

    async fn list(&mut self) -> Result<(), Failure> {
        self.listed = self.messenger().chats(&self.identity.token().await?).await?;
        if self.output == Output::Json {
            output::record(&serde_json::json!({ "chats": self.listed }));
            return Ok(());
        }
        if self.listed.is_empty() {
            output::line("no chats yet: /open @name starts one");
        }
        for (number, chat) in (1..).zip(self.listed.clone()) {
            let title = self.title(&chat).await;
            let unread = match self.unread.get(&chat.chat_id) {
                None | Some(0) => String::new(),
                Some(unread) => format!("  {unread} unread"),
            };
            let marks = marks(&chat.own).map(|marks| format!("  {marks}")).unwrap_or_default();
            let (members, id) = (chat.member_count, chat.chat_id);
            output::line(format!("{number:>3}  {title:<32} {members} members  {id}{marks}{unread}"));
        }
        Ok(())
    }

    async fn open_by(&mut self, what: &str) -> Result<(), Failure> {
        let chat = self.find(what).await?;
        let token = self.identity.token().await?;
        // An empty page contains the head and no bodies.
        let head = self.messenger().history(&token, chat.chat_id, i64::MAX, 1).await?.head_seq;
        self.open = Some(chat.chat_id);
        let title = self.title(&chat).await;
        self.note(&format!("--- {title}"));
        self.session.follow(chat.chat_id, (head - SHOWN_ON_OPEN).max(0)).await;
        let me = self.identity.user();
        let members = self.messenger().members(&token, chat.chat_id).await?.into_iter();
        let others = members.map(|member| member.user_id).filter(|user| *user != me);
        self.presence.clear();
        let users = others.take(MAX_WATCHED_USERS).collect();
        self.session.watch(Watch { users, chats: vec![chat.chat_id] }).await;
        Ok(())
    }

    async fn find(&mut self, what: &str) -> Result<Chat, Failure> {
        let token = self.identity.token().await?;
        if let Some(username) = what.strip_prefix('@') {
            let other = self.user_named(username).await?;
            let request = CreateChatRequest::direct(other);
            return Ok(self.messenger().create_chat(&token, &request).await?);
        }
        if let Ok(chat) = what.parse::<ChatId>() {
            return Ok(self.messenger().chat(&token, chat).await?);
        }
        if self.listed.is_empty() {
            self.listed = self.messenger().chats(&token).await?;
        }
        let by_number = what.parse::<usize>().ok().and_then(|number| self.listed.get(number.checked_sub(1)?));
        let by_title = || self.listed.iter().find(|chat| chat.title.as_deref() == Some(what));
        by_number.or_else(by_title).cloned().ok_or_else(|| {
            Failure::new(
                Exit::Refused,
                format!("there is no chat {what}"),
                "/chats lists them; @name opens a direct chat",
            )
        })
    }

    async fn group(&mut self, is_channel: bool, title: String, usernames: &[String]) -> Result<(), Failure> {
        let mut members = Vec::new();
        for username in usernames {
            members.push(self.user_named(username).await?);
        }
        let request = if is_channel {
            CreateChatRequest::channel(title, members)
        } else {
            CreateChatRequest::group(title, members)
        };
        let chat = self.messenger().create_chat(&self.identity.token().await?, &request).await?;
        self.open_by(&chat.chat_id.to_string()).await
    }

    /// Returns the open chat, or says that there is none.
    fn opened(&self) -> Result<ChatId, Failure> {
        self.open.ok_or_else(|| Failure::new(Exit::Refused, "no chat is open", "/open opens one"))
    }

    /// Changes the open group. What comes of it is shown as an entry.
    async fn update(&mut self, request: UpdateChatRequest) -> Result<(), Failure> {
        let chat = self.opened()?;
        self.messenger().update_chat(&self.identity.token().await?, chat, &request).await?;
        Ok(())
    }

    /// Changes how the user has the open chat.
    async fn own(&mut self, request: UpdateOwnChatStateRequest) -> Result<(), Failure> {
        let chat = self.opened()?;
        let token = self.identity.token().await?;
        let own = self.messenger().update_own_chat_state(&token, chat, &request).await?;
        self.own_state(&OwnState { chat, own }).await;
        Ok(())
    }

    /// Shows once how the user has a chat, by this program or on another device.
    async fn own_state(&mut self, OwnState { chat, own }: &OwnState) {
        let known = self.own_versions.entry(*chat).or_default();
        if *known >= own.version {
            return;
        }
        *known = own.version;
        let which = if self.open == Some(*chat) { "this chat".to_owned() } else { format!("chat {chat}") };
        self.note(&format!("{which} is now {}", marks(own).unwrap_or("neither muted nor archived".into())));
        if own.scheduled_refused > 0 {
            self.note("a scheduled message was refused; /scheduled lists it");
        }
        if let Some(draft) = &own.draft {
            self.note(&format!("your draft there: {}", output::quoted(&draft.body)));
        }
    }

    async fn later(&mut self, minutes: u32, body: String) -> Result<(), Failure> {
        let chat = self.opened()?;
        let request = ScheduleRequest {
            key: MessageKey::generate(),
            body,
            reply_to: None,
            mentions: Vec::new(),
            mention_all: false,
            mention_roles: Vec::new(),
            mention_here: false,
            silent: false,
            send_at_ms: now_ms() + i64::from(minutes) * 60_000,
        };
        self.messenger().schedule(&self.identity.token().await?, chat, &request).await?;
        self.note(&format!("it is sent in {minutes} minutes; /scheduled lists what waits"));
        Ok(())
    }

    async fn list_scheduled(&mut self) -> Result<(), Failure> {
        let chat = self.opened()?;
        let scheduled = self.messenger().scheduled(&self.identity.token().await?, chat).await?;
        if scheduled.is_empty() {
            self.note("nothing is scheduled here");
        }
        for (number, of) in (1..).zip(&scheduled) {
            let when = match of.refused {
                Some(code) => format!("refused ({code})"),
                None => {
                    let at_ms = of.put_off_until_ms.unwrap_or(of.send_at_ms);
                    format!("in {} minutes", (at_ms - now_ms()).max(0) / 60_000)
                }
            };
            self.note(&format!("{number:>5}  {when}: {}", output::quoted(&of.body)));
        }
        Ok(())
    }

    /// Sends a scheduled message at once, or cancels it. It is named by its place in the list.
    async fn unschedule(&mut self, number: usize, is_sent: bool) -> Result<(), Failure> {
        let chat = self.opened()?;
        let token = self.identity.token().await?;
        let scheduled = self.messenger().scheduled(&token, chat).await?;
        let Some(of) = number.checked_sub(1).and_then(|place| scheduled.get(place)) else {
            self.note(&format!("there is no scheduled message {number}; /scheduled lists them"));
            return Ok(());
        };
        if is_sent {
            self.messenger().send_scheduled(&token, chat, of.key).await?;
        } else {
            self.messenger().unschedule(&token, chat, of.key).await?;
            self.note("it is cancelled");
        }
        Ok(())
    }

    async fn role(&mut self, username: &str, role: Role) -> Result<(), Failure> {
        let chat = self.opened()?;
        let user = self.user_named(username).await?;
        let token = self.identity.token().await?;
        // To put a user who is no member would add them.
        let members = self.messenger().members(&token, chat).await?;
        if !members.iter().any(|member| member.user_id == user) {
            let what = format!("{username} is not a member of the open chat");
            return Err(Failure::new(Exit::Refused, what, "/members lists them"));
        }
        self.messenger().put_member(&token, chat, user, role).await?;
        Ok(())
    }

    async fn public(&mut self, text: &str) -> Result<(), Failure> {
        let chats = self.messenger().public_chats(&self.identity.token().await?, text).await?.items;
        for chat in chats {
            let topic = chat.topic.map(|topic| format!(": {topic}")).unwrap_or_default();
            self.note(&format!(
                "{} ({} members){topic}  /join {}",
                chat.title, chat.member_count, chat.chat_id
            ));
        }
        Ok(())
    }

    async fn join(&mut self, what: &str) -> Result<(), Failure> {
        let token = self.identity.token().await?;
        let joined = match what.parse::<ChatId>() {
            Ok(chat) => Joined::Member(Box::new(self.messenger().join(&token, chat).await?)),
            Err(_) => self.messenger().join_by_invite(&token, what).await?,
        };
        match joined {
            Joined::Member(chat) => self.open_by(&chat.chat_id.to_string()).await,
            Joined::Asked(_) => {
                self.note("you ask to join: an owner or admin decides");
                Ok(())
            }
        }
    }

    async fn leave(&mut self) -> Result<(), Failure> {
        let chat = self.opened()?;
        let me = self.identity.user();
        self.messenger().remove_member(&self.identity.token().await?, chat, me).await?;
        self.open = None;
        self.note("you have left the chat");
        Ok(())
    }

    async fn invite(&mut self, needs_approval: bool) -> Result<(), Failure> {
        let chat = self.opened()?;
        let needs_approval = Some(needs_approval);
        let request = CreateInviteRequest { needs_approval, ..CreateInviteRequest::default() };
        let made = self.messenger().create_invite(&self.identity.token().await?, chat, &request).await?;
        self.note(&format!("/join {} lets users in; the code is not shown again", made.code));
        Ok(())
    }

    async fn invites(&mut self) -> Result<(), Failure> {
        let chat = self.opened()?;
        for invite in self.messenger().invites(&self.identity.token().await?, chat).await? {
            let by = self.name(invite.made_by).await;
            self.note(&format!("made by {by}, used {} times  /revoke {}", invite.uses, invite.invite_id));
        }
        Ok(())
    }

    async fn requests(&mut self) -> Result<(), Failure> {
        let chat = self.opened()?;
        for request in self.messenger().join_requests(&self.identity.token().await?, chat).await? {
            let name = self.name(request.user_id).await;
            self.note(&format!("{name} asks to join  /approve @{name}"));
        }
        Ok(())
    }

    async fn delete_group(&mut self) -> Result<(), Failure> {
        let chat = self.opened()?;
        self.messenger().delete_chat(&self.identity.token().await?, chat).await?;
        self.note("the group is deleted");
        Ok(())
    }

    async fn members(&mut self) -> Result<(), Failure> {
        let chat = self.opened()?;
        for member in self.messenger().members(&self.identity.token().await?, chat).await? {
            let name = self.name(member.user_id).await;
            let presence = self.presence.get(&member.user_id).copied().unwrap_or_default();
            let presence = if presence == PresenceState::Unknown { "" } else { word(presence) };
            self.note(format!("{name} ({}) {presence}", member.role.as_str()).trim_end());
        }
        Ok(())
    }

    async fn user_named(&self, username: &str) -> Result<UserId, Failure> {
        let found = self.messenger().user_named(&self.identity.token().await?, username).await?;
        found.map(|profile| profile.user_id).ok_or_else(|| {
            Failure::new(
                Exit::Refused,
                format!("user {username} not found"),
                "give the user name of a user of this tenant",
            )
        })
    }

    async fn show(&mut self, message: &Message) {
        if self.output == Output::Json {
            output::record(message);
            return;
        }
        let sender = self.name(message.sender).await;
        let subject = match message.subject {
            Some(subject) => self.name(subject).await,
            None => String::new(),
        };
        let (seq, target) = (message.seq, message.target_seq.unwrap_or_default());
        let body = output::quoted(&message.body);
        output::line(match message.kind {
            EntryKind::Text => format!("{seq:>5}  {sender}{}: {}", reply(message), text(message)),
            EntryKind::Edit => format!("{seq:>5}  * {sender} edited {target}: {body}"),
            EntryKind::Delete => format!("{seq:>5}  * {sender} deleted {target}"),
            EntryKind::DeleteRange => {
                let range = message.range.map(|range| format!("{} to {}", range.from_seq, range.to_seq));
                let of =
                    if subject.is_empty() { String::new() } else { format!(" what {subject} wrote from") };
                format!("{seq:>5}  * {sender} deleted{of} {}", range.unwrap_or_default())
            }
            EntryKind::Reaction => format!("{seq:>5}  * {sender} reacted to {target} with {body}"),
            EntryKind::ReactionRemoved => format!("{seq:>5}  * {sender} took back {body} from {target}"),
            EntryKind::Pin => format!("{seq:>5}  * {sender} pinned {target}"),
            EntryKind::Unpin => format!("{seq:>5}  * {sender} unpinned {target}"),
            EntryKind::MemberAdded => format!("{seq:>5}  * {subject} joined"),
            EntryKind::MemberRemoved if message.subject == Some(message.sender) => {
                format!("{seq:>5}  * {subject} left")
            }
            EntryKind::MemberRemoved => format!("{seq:>5}  * {sender} removed {subject}"),
            EntryKind::RoleChanged => format!("{seq:>5}  * {subject} has the role {body}"),
            EntryKind::TitleChanged => format!("{seq:>5}  * {sender} named the group {body}"),
            EntryKind::TopicChanged if message.body.is_empty() => {
                format!("{seq:>5}  * {sender} removed the topic")
            }
            EntryKind::SlowModeChanged if body == "0" => format!("{seq:>5}  * {sender} ended slow mode"),
            EntryKind::SlowModeChanged => {
                format!("{seq:>5}  * {sender} lets members write every {body} s")
            }
            EntryKind::TopicChanged => format!("{seq:>5}  * {sender} set the topic: {body}"),
            EntryKind::AvatarChanged if message.body.is_empty() => {
                format!("{seq:>5}  * {sender} removed the picture")
            }
            EntryKind::AvatarChanged => format!("{seq:>5}  * {sender} set the picture: {body}"),
            EntryKind::TtlChanged if message.body == "0" => {
                format!("{seq:>5}  * {sender} lets messages stay")
            }
            EntryKind::TtlChanged => {
                format!("{seq:>5}  * {sender} lets messages disappear after {body} seconds")
            }
        });
    }

    async fn title(&mut self, chat: &Chat) -> String {
        if let Some(title) = &chat.title {
            return title.clone();
        }
        let other = match self.identity.token().await {
            Ok(token) => self.messenger().members(&token, chat.chat_id).await.ok(),
            Err(_) => None,
        };
        let me = self.identity.user();
        match other.and_then(|members| members.into_iter().find(|member| member.user_id != me)) {
            Some(member) => format!("@{}", self.name(member.user_id).await),
            None => "direct chat".into(),
        }
    }

    /// Returns the name of a user; the id when the lookup fails.
    async fn name(&mut self, user: UserId) -> String {
        if let Some(name) = self.names.get(&user) {
            return name.clone();
        }
        match self.look_up(user).await {
            Ok(name) => {
                self.names.insert(user, name.clone());
                name
            }
            Err(_) => user.to_string(),
        }
    }

    async fn look_up(&self, user: UserId) -> Result<String, ClientError> {
        Ok(self.messenger().user(&self.identity.token().await?, user).await?.username)
    }

    fn messenger(&self) -> &Messenger {
        self.identity.messenger()
    }

    fn note(&self, text: &str) {
        output::note(text);
    }
}

fn reply(message: &Message) -> String {
    let to = message.target_seq.map(|seq| format!(" (to {seq})")).unwrap_or_default();
    let silent = if message.silent { " (silent)" } else { "" };
    let forwarded = if message.forwarded.is_some() { " (forwarded)" } else { "" };
    format!("{to}{forwarded}{silent}")
}

/// Returns a text that calls others.
fn calling(whom: Call, body: String) -> Post {
    let mut post = Post::text(body);
    if let Post::Text { mention_all, mention_roles, mention_here, .. } = &mut post {
        match whom {
            Call::Admins => *mention_roles = vec![Role::Owner, Role::Admin],
            Call::Here => *mention_here = true,
            Call::All => *mention_all = true,
        }
    }
    post
}

/// Returns the text of a message with what later entries changed of it.
fn text(message: &Message) -> String {
    let changes = &message.changes;
    if message.expired {
        return "(disappeared)".to_owned();
    }
    if changes.deleted_seq.is_some() {
        return "(deleted)".to_owned();
    }
    let edited = if changes.edited_seq.is_some() { " (edited)" } else { "" };
    let reactions: String =
        changes.reactions.iter().map(|of| format!(" {}{}", output::quoted(&of.emoji), of.count)).collect();
    format!("{}{edited}{reactions}", output::quoted(&message.body))
}

/// Returns how a user has a chat, in words; `None` when there is nothing to say.
fn marks(own: &OwnChatState) -> Option<String> {
    let is_muted = own.muted_until_ms.is_some_and(|until| until > now_ms());
    let marks = [(own.favourite, "favourite"), (is_muted, "muted"), (own.archived, "archived")];
    let marks: Vec<_> = marks.into_iter().filter_map(|(is_set, word)| is_set.then_some(word)).collect();
    (!marks.is_empty()).then(|| marks.join(", "))
}

fn until_ms(mute: Mute) -> i64 {
    match mute {
        Mute::Off => 0,
        Mute::ForGood => MUTED_FOR_GOOD_MS,
        Mute::Hours(hours) => now_ms() + i64::from(hours) * 3_600_000,
    }
}

#[expect(clippy::disallowed_methods, reason = "an edge: the time of the command")]
fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// Returns what to do about a message or a change that was refused.
const fn advice(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NotAMember => "check whether the user is still a member of the chat",
        ErrorCode::NotFound => "give the number of a message that is shown and not deleted",
        ErrorCode::PermissionDenied => {
            "change what you wrote yourself; a direct chat that is closed takes no messages"
        }
        ErrorCode::IdempotencyConflict => "type it again",
        ErrorCode::TooLarge => "send it in parts",
        // What the server says of these is all there is to know.
        _ => "",
    }
}

const fn word(state: PresenceState) -> &'static str {
    match state {
        PresenceState::Unknown => "unknown",
        PresenceState::Offline => "offline",
        PresenceState::Away => "away",
        PresenceState::Online => "online",
    }
}
