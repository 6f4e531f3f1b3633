//! `posthouse chat`: a small terminal client that works in a pipe as well.

mod events;
mod files;
mod found;
mod line;
mod members;
mod scheduled;
mod shown;

use std::{
    collections::HashMap,
    io::IsTerminal as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use contracts::{
    ChatId, DeviceId, ErrorCode, UserId,
    api::{
        Chat, CreateChatRequest, MUTED_FOR_GOOD_MS, RegisterRequest, SetDraft, UpdateChatRequest,
        UpdateOwnChatStateRequest,
    },
    event::Role,
    wire::{History, MAX_WATCHED_USERS, Message, OwnState, PresenceState, Watch},
};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::mpsc,
};

use posthouse_client::{Event, Identity, Messenger, Post, QueryFailure, Receipt, SendFailure, Session};

use self::{
    files::Transferred,
    line::{Call, Line, Mute},
    shown::marks,
};
use crate::{
    args::ChatArgs,
    failure::{Exit, Failure},
    lookup,
    output::{self, Output},
    password,
};

/// How much of a chat is shown when it is opened.
const SHOWN_ON_OPEN: i64 = 20;
/// The exit code of a program that Ctrl-C ended, as shells have it.
const INTERRUPTED: i32 = 130;
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
    tokio::select! {
        ended = room.talk(events, args.follow) => ended,
        // The signal itself would end the process where it is, and leave files that are half saved.
        Ok(()) = tokio::signal::ctrl_c() => std::process::exit(INTERRUPTED),
    }
}

/// What was read from a line.
enum Read {
    Post(ChatId, Post),
    /// A transfer of files, which goes on beside everything else.
    Transfer(BoxFuture<'static, Transferred>),
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
        let mut transfers = FuturesUnordered::new();
        let mut reading = true;
        let mut failed = None;
        // No one reads notes of a pipe, or sees that a file is under way: its lines are sent in their order, up to one that fails.
        let is_pipe = !std::io::stdin().is_terminal();
        loop {
            if !reading
                && unsettled.is_empty()
                && transfers.is_empty()
                && self.unshown.is_empty()
                && (!follow || failed.is_some())
            {
                return failed.map_or(Ok(()), Err);
            }
            let done = tokio::select! {
                line = lines.next_line(), if reading && (!is_pipe || transfers.is_empty()) => match line {
                    Ok(Some(text)) => match self.post(line::parse(&text)).await {
                        Ok(Read::Post(chat, post)) => {
                            unsettled.push(sent(&self.session, chat, post));
                            Ok(())
                        }
                        Ok(Read::Transfer(transfer)) => {
                            transfers.push(transfer);
                            Ok(())
                        }
                        Ok(Read::Line(Line::Nothing)) => Ok(()),
                        Ok(Read::Line(Line::Quit)) => {
                            reading = false;
                            Ok(())
                        }
                        // Programs ask for what it finds, as they send files.
                        Ok(Read::Line(Line::Find(words))) => self.find_messages(&words).await,
                        Ok(Read::Line(command)) => {
                            if let Err(failure) = self.command(command).await {
                                self.note(&failure.to_string());
                            }
                            Ok(())
                        }
                        Err(failure) => Err(failure),
                    },
                    Ok(None) => {
                        reading = false;
                        Ok(())
                    }
                    Err(error) => {
                        reading = false;
                        failed.get_or_insert(Failure::new(
                            Exit::Fault,
                            format!("the input cannot be read: {error}"),
                            "lines before it were sent, it and what follows were not; send UTF-8",
                        ));
                        Ok(())
                    }
                },
                Some(transferred) = transfers.next(), if !transfers.is_empty() => transferred.map(|left| {
                    if let Some((chat, post)) = left {
                        unsettled.push(sent(&self.session, chat, post));
                    }
                }),
                Some((chat, settled)) = unsettled.next(), if !unsettled.is_empty() => match settled {
                    Ok(receipt) => {
                        self.stored(chat, &receipt);
                        Ok(())
                    }
                    Err(failure @ SendFailure::Refused { code, .. }) => {
                        Err(Failure::new(Exit::Refused, failure.to_string(), advice(code)))
                    }
                    Err(failure @ SendFailure::SessionEnded) => {
                        let next = "sign in again and check the chat";
                        return Err(Failure::new(Exit::Unreachable, failure.to_string(), next));
                    }
                },
                event = events.recv() => match event {
                    Some(event) => {
                        self.event(event).await?;
                        Ok(())
                    }
                    None => return failed.map_or(Ok(()), Err),
                },
                () = tokio::time::sleep(LAST_MESSAGES), if !reading && (!follow || failed.is_some()) && transfers.is_empty() => {
                    let what = format!("{} messages are not confirmed as stored", unsettled.len());
                    let next = "see `posthouse status -A`: the messenger may be unavailable";
                    return Err(failed.unwrap_or_else(|| Failure::new(Exit::Fault, what, next)));
                }
            };
            match done {
                Ok(()) => {}
                // What was sent before it is under way, and is waited for.
                Err(failure) if is_pipe => {
                    reading = false;
                    failed.get_or_insert(failure);
                }
                Err(failure) => self.note(&failure.to_string()),
            }
        }
    }

    /// Returns what a line sends, and where; or the line, when it sends nothing.
    async fn post(&mut self, line: Line) -> Result<Read, Failure> {
        let sends = matches!(
            line,
            Line::Post(_)
                | Line::Call(..)
                | Line::Forward { .. }
                | Line::DeleteRange { .. }
                | Line::File(_)
                | Line::Save { .. }
        );
        if !sends {
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
            Line::File(path) => Read::Transfer(self.send_file(chat, path)),
            Line::Save { seq, folder } => Read::Transfer(self.save(chat, seq, folder).await?),
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
            | Line::File(_)
            | Line::Save { .. }
            | Line::Find(_)
            | Line::Nothing
            | Line::Quit => Ok(()),
        }
    }

    /// Notes that a message is stored. It is shown as an entry, which may come before or after this.
    fn stored(&mut self, chat: ChatId, receipt: &Receipt) {
        if self.shown.get(&chat).is_none_or(|&seq| seq < receipt.seq) {
            self.unshown.insert(chat, receipt.seq);
        }
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
        let head = lookup::head(self.messenger(), &token, chat.chat_id).await?;
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
            return lookup::direct_chat(self.messenger(), &token, username).await;
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

    async fn delete_group(&mut self) -> Result<(), Failure> {
        let chat = self.opened()?;
        self.messenger().delete_chat(&self.identity.token().await?, chat).await?;
        self.note("the group is deleted");
        Ok(())
    }

    async fn user_named(&self, username: &str) -> Result<UserId, Failure> {
        lookup::user(self.messenger(), &self.identity.token().await?, username).await
    }

    fn messenger(&self) -> &Messenger {
        self.identity.messenger()
    }

    fn note(&self, text: &str) {
        output::note(text);
    }
}

/// Sends an entry, and returns what becomes of it.
fn sent(
    session: &Session,
    chat: ChatId,
    post: Post,
) -> impl Future<Output = (ChatId, Result<Receipt, SendFailure>)> + use<> {
    let sent = session.send(chat, post);
    async move { (chat, sent.await) }
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
        ErrorCode::NoSuchFile => "send it again with /file",
        ErrorCode::IdempotencyConflict => "type it again",
        ErrorCode::TooLarge => "send it in parts",
        // What the server says of these is all there is to know.
        _ => "",
    }
}
