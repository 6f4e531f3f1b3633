//! What users do with a messenger: a tenant of the cluster, or the one of `posthouse dev`.

mod files;
mod joining;
pub mod moderation;
mod scheduled;
pub mod search;
mod sync;

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use contracts::{
    ChatId, DeviceId, ErrorCode, FileId, MessageKey,
    api::{
        ContactableBy, CreateChatRequest, ErasedPart, ErasureState, HistoryAccess, MUTED_FOR_GOOD_MS,
        OwnChatState, PresenceVisibleTo, RegisterRequest, SetDraft, Settings, UpdateChatRequest,
        UpdateOwnChatStateRequest, UpdateProfileRequest,
    },
    event::{EntryKind, Role},
    wire::{
        self, Activity, ActivityState, ClientFrame, CloseCode, Command, Connect, History, MAX_BODY_BYTES,
        MAX_FRAME_BYTES, Message, Outcome, PresenceState, Send, ServerFrame, Typing, TypingUser,
        UserPresence, Watch,
    },
};
use futures_util::{SinkExt, StreamExt};
use posthouse_client::{Export, Messenger, Post, SendFailure, Socket, View};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message as Raw;

use crate::{
    eventually, report,
    stack::root,
    streams::{EventStream, post_alone},
    users::{Online, PAUSE, TestUser, patiently, refused},
};

pub use self::{
    files::{files, files_of_before},
    joining::joining,
    scheduled::scheduled,
    search::{search, search_by_files_and_names},
    sync::sync,
};

/// What is promised of the connections of a session that has ended.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);
/// Longer than a response takes on a busy machine.
const MOMENT: Duration = Duration::from_secs(20);

/// An account lives from its registration to its sign-out.
pub async fn account(messenger: &Messenger) -> anyhow::Result<()> {
    let ann = TestUser::register(messenger, "ann").await?;
    let request = RegisterRequest {
        username: ann.identity.username().to_owned(),
        password: ann.password.clone(),
        display_name: None,
    };
    refused(messenger.register(&request).await, ErrorCode::Conflict)?;
    refused(messenger.sign_in(ann.identity.username(), "wrong password").await, ErrorCode::Unauthenticated)?;
    let short =
        RegisterRequest { password: "short".into(), username: "ann-too-short".into(), display_name: None };
    refused(messenger.register(&short).await, ErrorCode::InvalidArgument)?;

    let profile = messenger.me(&ann.token().await?).await?.profile;
    ensure!(profile.username == ann.identity.username(), "{profile:?}");
    let request =
        UpdateProfileRequest { about: Some("rides at dawn".into()), ..UpdateProfileRequest::default() };
    messenger.update_me(&ann.token().await?, &request).await?;
    let ben = TestUser::register(messenger, "ben").await?;
    let found = messenger.user_named(&ben.token().await?, ann.identity.username()).await?;
    ensure!(found.is_some_and(|found| found.about == "rides at dawn"), "ben does not find ann");

    let renewed = ann.identity.fresh_token().await?;
    messenger.me(&renewed).await?;
    let spent = ann.identity.refresh_token().await;
    ann.identity.sign_out().await?;
    refused(messenger.refresh(&spent).await, ErrorCode::Unauthenticated)?;
    refused(messenger.me("not a token").await, ErrorCode::Unauthenticated)
}

/// Two users talk: no gap, and both see what is stored.
pub async fn talk(messenger: &Messenger) -> anyhow::Result<()> {
    let (ann, ben, chat) = TestUser::two(messenger).await?;
    ensure!(ben.direct_chat(&ann).await? == chat, "the same two have the same chat");
    let (ann_online, ben_online) = (ann.online(&[chat]).await, ben.online(&[chat]).await);
    let mut last = 0;
    for turn in 0..10 {
        let sender = if turn % 2 == 0 { &ann_online } else { &ben_online };
        let seq = sender.send(chat, &format!("line {turn}")).await?;
        ensure!(seq > last, "seq {seq} after {last}");
        last = seq;
    }
    ann_online.sees(chat, last, MOMENT).await?;
    ben_online.sees(chat, last, MOMENT).await?;
    let history = ann.history(chat).await?;
    ensure!(history.iter().map(|m| m.seq).eq(1..=last), "seq has gaps");
    for online in [&ann_online, &ben_online] {
        ensure!(online.seen().entries[&chat] == history, "{} saw something else", online.name);
    }
    Ok(())
}

/// A message that is resent with its key is stored once, and acked as the first time.
pub async fn resend(messenger: &Messenger) -> anyhow::Result<()> {
    let (ann, _ben, chat) = TestUser::two(messenger).await?;
    let key = MessageKey::generate();
    let mut seqs = Vec::new();
    let mut socket = connect(&ann).await?;
    for id in 2..4 {
        socket.send(text(&send(id, chat, key, "once"))).await?;
        seqs.push(pushed(&mut socket, |frame| frame.stored.filter(|stored| stored.key == key)).await?.seq);
    }
    ensure!(seqs[0] == seqs[1], "the same message is {seqs:?}");
    let history = ann.history(chat).await?;
    ensure!(
        history.iter().filter(|message| message.key == key).count() == 1,
        "it is stored twice: {history:?}"
    );
    Ok(())
}

/// Two users change what they wrote, reply and react. What both have at the end is what the messenger tells a new device, and
/// what one of them may not do changes nothing.
pub async fn changes(messenger: &Messenger) -> anyhow::Result<()> {
    let (ann, ben, chat) = TestUser::two(messenger).await?;
    let (ann_online, ben_online) = (ann.online(&[chat]).await, ben.online(&[chat]).await);
    let first = ann_online.send(chat, "hey").await?;
    let second = ann_online.send(chat, "a secret").await?;
    let reply = |seq, body: &str| Post::Text {
        body: body.to_owned(),
        reply_to: Some(seq),
        mentions: vec![ann.id()],
        mention_all: false,
        mention_roles: Vec::new(),
        mention_here: false,
        silent: false,
        attachments: Vec::new(),
    };
    let react = |seq, remove| Post::React { seq, emoji: "\u{1f44d}".into(), remove };
    let edit = |seq, body: &str| Post::Edit { seq, body: body.to_owned() };
    ann_online.post(chat, edit(first, "hello")).await?;
    ben_online.post(chat, react(first, false)).await?;
    ann_online.post(chat, react(first, false)).await?;
    ben_online.post(chat, reply(first, "hello to you")).await?;
    let regretted = ben_online.post(chat, reply(first, "I did not mean that")).await?;
    ben_online.post(chat, react(second, false)).await?;
    ann_online.post(chat, edit(second, "still a secret")).await?;
    ben_online.post(chat, Post::Pin { seq: first, remove: false }).await?;
    ben_online.post(chat, Post::Delete { seq: regretted }).await?;
    ben_online.post(chat, react(first, true)).await?;
    let last = ann_online.post(chat, Post::Delete { seq: second }).await?;

    use ErrorCode::{Conflict, InvalidArgument, NotFound, PermissionDenied};
    for (post, expected) in [
        (edit(first, "you are a fool"), PermissionDenied),
        (Post::Delete { seq: first }, PermissionDenied),
        (edit(second, "it was"), NotFound),
        (react(second, false), NotFound),
        (reply(last + 100, "hm"), NotFound),
        (edit(last, "an entry that is no message"), NotFound),
        (react(first, true), Conflict),
        (Post::Pin { seq: first, remove: false }, Conflict),
        (Post::React { seq: first, emoji: "thumb".into(), remove: false }, InvalidArgument),
    ] {
        let outcome = ben_online.session.send(chat, post.clone()).await;
        ensure!(
            outcome.as_ref().err().and_then(SendFailure::code) == Some(expected),
            "{post:?} became {outcome:?}"
        );
    }

    for (user, online) in [(&ann, &ann_online), (&ben, &ben_online)] {
        online.sees(chat, last, MOMENT).await?;
        let history = user.history(chat).await?;
        ensure!(history.iter().map(|m| m.seq).eq(1..=last), "what was refused is in the log");
        let fetched = view(user, &history);
        ensure!(view(user, &online.seen().entries[&chat]) == fetched, "{} saw something else", online.name);
        let [first, second] = [first, second].map(|seq| &fetched.entries()[&seq]);
        let reactions = &first.changes.reactions;
        let is_own = user.id() == ann.id();
        ensure!(first.body == "hello" && first.changes.replies == 1 && first.changes.pinned_seq.is_some());
        ensure!(
            reactions.len() == 1 && reactions[0].count == 1 && reactions[0].own == is_own,
            "{reactions:?}"
        );
        ensure!(second.changes.deleted_seq == Some(last), "{second:?}");
        ensure!(!history.iter().any(|entry| entry.body.contains("secret")), "a deleted text is still read");
    }
    Ok(())
}

fn view(user: &TestUser, entries: &[Message]) -> View {
    let mut view = View::new(user.id());
    entries.iter().for_each(|entry| view.apply(entry));
    view
}

/// A sign-out closes the connections of its session, on all of these addresses of the messenger, and no other of the user.
pub async fn sign_out(messenger: &Messenger, gateways: &[Messenger]) -> anyhow::Result<()> {
    let (ann, _ben, chat) = TestUser::two(messenger).await?;
    let desk = ann.on_another_device().await?;
    let token = ann.token().await?;
    let mut phones = Vec::new();
    let mut desks = Vec::new();
    for gateway in gateways {
        for _ in 0..2 {
            phones.push(connect_at(gateway, &ann).await?);
        }
        desks.push(connect_at(gateway, &desk).await?);
    }
    let online = ann.online(&[chat]).await;
    online.send(chat, "from the phone").await?;

    ann.identity.sign_out().await?;
    let took = all_closed(&mut phones).await?;
    report(format!("{} connections of a session closed {took:?} after its sign-out", phones.len()));
    eventually("the client gives up", MOMENT, || async {
        let failures = online.seen().failures.clone();
        ensure!(failures.iter().any(|failure| failure.contains("the session ended")), "{failures:?}");
        Ok(())
    })
    .await?;
    for (id, (gateway, desk)) in (2..).zip(gateways.iter().zip(&mut desks)) {
        let connect = Connect { token: token.clone(), device: DeviceId::generate() };
        let frame = ClientFrame { id: Some(1.into()), command: Command::Connect(connect) };
        closes(gateway.upgrade().await?, text(&frame), CloseCode::SessionEnded).await?;
        let key = MessageKey::generate();
        desk.send(text(&send(id, chat, key, "from the desk"))).await?;
        pushed(desk, |frame| frame.stored.filter(|stored| stored.key == key)).await?;
    }

    // A refresh token that is used again was stolen, or its thief was first.
    let spent = desk.identity.refresh_token().await;
    desk.identity.fresh_token().await?;
    eventually("a used refresh token is refused", MOMENT, || async {
        refused(messenger.refresh(&spent).await, ErrorCode::Unauthenticated)
    })
    .await?;
    let took = all_closed(&mut desks).await?;
    report(format!("{} connections of a session closed {took:?} after its revocation", desks.len()));
    ann.on_another_device().await?.online(&[chat]).await.send(chat, "signed in again").await?;
    Ok(())
}

/// A user signs out a lost device, then all others, then changes the password: within 5 s no connection is left of what has ended,
/// on any of these addresses, and what goes on goes on.
pub async fn devices(messenger: &Messenger, gateways: &[Messenger]) -> anyhow::Result<()> {
    let (ann, _ben, chat) = TestUser::two(messenger).await?;
    let (lost, tablet, desk) =
        (ann.on_another_device().await?, ann.on_another_device().await?, ann.on_another_device().await?);
    let sockets_of = async |user: &TestUser| {
        let mut sockets = Vec::new();
        for gateway in gateways {
            sockets.push(connect_at(gateway, user).await?);
        }
        anyhow::Ok(sockets)
    };
    let (mut own, mut losts, mut tablets, mut desks) = (
        sockets_of(&ann).await?,
        sockets_of(&lost).await?,
        sockets_of(&tablet).await?,
        sockets_of(&desk).await?,
    );
    let current = async |user: &TestUser| {
        let sessions = messenger.sessions(&user.token().await?).await?.items;
        let current =
            sessions.iter().find(|session| session.is_current).map(|session| session.session_id.clone());
        anyhow::Ok((current.context("one is the caller's")?, sessions.len()))
    };
    let (id, number) = current(&lost).await?;
    ensure!(number == 4, "{number} sessions are listed");
    messenger.end_session(&ann.token().await?, &id).await?;
    let took = all_closed(&mut losts).await?;
    report(format!("the connections of a lost device closed {took:?} after it was signed out"));
    refused(messenger.refresh(&lost.identity.refresh_token().await).await, ErrorCode::Unauthenticated)?;
    refused(messenger.sessions(&lost.token().await?).await, ErrorCode::Unauthenticated)?;

    messenger.end_other_sessions(&tablet.token().await?).await?;
    all_closed(&mut own).await?;
    all_closed(&mut desks).await?;
    let desk = ann.on_another_device().await?;
    let mut desks = sockets_of(&desk).await?;
    let token = tablet.token().await?;
    let new = format!("{}-new", ann.password);
    refused(messenger.change_password(&token, "wrong password", &new).await, ErrorCode::PermissionDenied)?;
    messenger.change_password(&token, &ann.password, &new).await?;
    let took = all_closed(&mut desks).await?;
    report(format!("the connections of another device closed {took:?} after the password was changed"));
    let name = ann.identity.username();
    refused(messenger.sign_in(name, &ann.password).await, ErrorCode::Unauthenticated)?;
    messenger.sign_in(name, &new).await?;
    for (id, socket) in (2..).zip(&mut tablets) {
        let key = MessageKey::generate();
        socket.send(text(&send(id, chat, key, "from the tablet"))).await?;
        pushed(socket, |frame| frame.stored.filter(|stored| stored.key == key)).await?;
    }
    Ok(())
}

/// A deleted account has no connection on any of these addresses, and its chats know.
pub async fn deletion(messenger: &Messenger, gateways: &[Messenger]) -> anyhow::Result<()> {
    let users = TestUser::crowd(messenger, "guest", 3).await?;
    let [ann, ben, cleo] = users.as_slice() else { unreachable!("three were registered") };
    let group = ann.group("lunch", &[ben.id(), cleo.id()]).await?;
    let pair = ann.direct_chat(ben).await?;
    ann.online(&[pair]).await.send(pair, "good bye").await?;
    let ben_online = ben.online(&[group, pair]).await;
    let desk = ann.on_another_device().await?;
    let token = ann.token().await?;
    let mut sockets = Vec::new();
    for gateway in gateways {
        sockets.push(connect_at(gateway, ann).await?);
        sockets.push(connect_at(gateway, &desk).await?);
    }

    let name = ann.identity.username();
    refused(messenger.delete_account(name, "wrong password").await, ErrorCode::Unauthenticated)?;
    let receipt = messenger.delete_account(name, &ann.password).await?;
    let took = all_closed(&mut sockets).await?;
    report(format!("{} connections of an account closed {took:?} after its deletion", sockets.len()));
    for gateway in gateways {
        let connect = Connect { token: token.clone(), device: DeviceId::generate() };
        let frame = ClientFrame { id: Some(1.into()), command: Command::Connect(connect) };
        closes(gateway.upgrade().await?, text(&frame), CloseCode::SessionEnded).await?;
    }
    refused(messenger.sign_in(name, &ann.password).await, ErrorCode::Unauthenticated)?;
    let request =
        RegisterRequest { username: name.to_owned(), password: ann.password.clone(), display_name: None };
    refused(messenger.register(&request).await, ErrorCode::Conflict)?;

    // The receipt says what is gone, to who has it.
    let erased = async |part: ErasedPart| -> anyhow::Result<Option<i64>> {
        let parts = messenger.erasure(&receipt).await?.parts;
        let part = parts.into_iter().find(|found| found.part == part).context("a part is missing")?;
        ensure!(part.part == ErasedPart::Chats || part.state == ErasureState::Erased, "{part:?}");
        Ok(part.count)
    };
    for part in [ErasedPart::Profile, ErasedPart::Account, ErasedPart::Sessions] {
        erased(part).await?;
    }
    eventually("the receipt has both chats", MOMENT, || async {
        let left = erased(ErasedPart::Chats).await?.unwrap_or_default();
        ensure!(left >= 2, "the receipt has {left} chats");
        Ok(())
    })
    .await?;

    let ben_token = ben.token().await?;
    let profile = messenger.user(&ben_token, ann.id()).await?;
    ensure!(profile.deleted && profile.username == name, "{profile:?}");
    ensure!(messenger.user_named(&ben_token, name).await?.is_none(), "ben still finds ann");

    // Both chats have the departure, and the group another owner.
    let departure = |message: &Message| {
        message.kind == EntryKind::MemberRemoved
            && message.sender == ann.id()
            && message.subject == Some(ann.id())
    };
    eventually("both chats know that ann is gone", MOMENT, || async {
        for chat in [group, pair] {
            let seen = ben_online.seen().entries.get(&chat).cloned().unwrap_or_default();
            ensure!(seen.iter().any(departure), "the entries of {chat} are {seen:?}");
        }
        let seen = ben_online.seen().entries[&group].last().cloned();
        let heir = seen.filter(|entry| entry.kind == EntryKind::RoleChanged && entry.body == "owner");
        ensure!(heir.is_some(), "the group says who owns it now");
        Ok(())
    })
    .await?;
    let members = messenger.members(&ben_token, group).await?;
    ensure!(members.len() == 2, "{members:?}");
    ensure!(members.iter().filter(|member| member.role == Role::Owner).count() == 1, "{members:?}");

    // The direct chat stays to be read, and is written to no more.
    ensure!(ben.history(pair).await?.iter().any(|message| message.body == "good bye"), "ben lost the chat");
    let failure = ben_online.session.send(pair, "are you there?").await;
    ensure!(
        failure.as_ref().err().and_then(SendFailure::code) == Some(ErrorCode::PermissionDenied),
        "it was sent: {failure:?}"
    );
    let request = CreateChatRequest::direct(ann.id());
    refused(messenger.create_chat(&cleo.token().await?, &request).await, ErrorCode::NotFound)?;
    ben_online.send(group, "and we go on").await?;
    Ok(())
}

/// A group enforces its roles and its membership.
pub async fn group(messenger: &Messenger) -> anyhow::Result<()> {
    let users = TestUser::crowd(messenger, "guest", 4).await?;
    let [owner, admin, member, outsider] = users.as_slice() else { unreachable!("four were registered") };
    let chat = owner.group("lunch", &[admin.id(), member.id()]).await?;
    let roles = async |user: &TestUser| anyhow::Ok(messenger.members(&user.token().await?, chat).await?);
    ensure!(roles(member).await?.len() == 3, "three are in the group");
    refused(messenger.members(&outsider.token().await?, chat).await, ErrorCode::NotAMember)?;

    let add = messenger.put_member(&member.token().await?, chat, outsider.id(), Role::Member).await;
    refused(add, ErrorCode::PermissionDenied)?;
    messenger.put_member(&owner.token().await?, chat, admin.id(), Role::Admin).await?;
    messenger.put_member(&admin.token().await?, chat, outsider.id(), Role::Member).await?;

    let online = outsider.online(&[chat]).await;
    let seq = online.send(chat, "thanks for having me").await?;
    messenger.remove_member(&admin.token().await?, chat, outsider.id()).await?;
    // The removal is an entry of the chat's log: a removed member receives nothing after it.
    let listener = member.online(&[chat]).await;
    listener.sees(chat, seq + 1, MOMENT).await?;
    let removal = listener.seen().entries[&chat].last().cloned().context("an entry")?;
    ensure!(
        removal.kind == EntryKind::MemberRemoved && removal.subject == Some(outsider.id()),
        "the last entry is {removal:?}"
    );
    // An answered change holds for whatever begins later, however fast it comes.
    const OUT: &str = "am I still here?";
    for round in 0..10 {
        let outcome = timeout(MOMENT, online.session.send(chat, OUT)).await?;
        ensure!(
            outcome.as_ref().err().and_then(SendFailure::code) == Some(ErrorCode::NotAMember),
            "round {round}: {outcome:?}"
        );
        messenger.put_member(&owner.token().await?, chat, outsider.id(), Role::Member).await?;
        online.send(chat, "I am back").await?;
        messenger.remove_member(&admin.token().await?, chat, outsider.id()).await?;
    }
    ensure!(owner.history(chat).await?.iter().all(|message| message.body != OUT), "it was stored");
    refused(messenger.history(&outsider.token().await?, chat, 0, 10).await.map(drop), ErrorCode::NotAMember)?;

    messenger.remove_member(&member.token().await?, chat, member.id()).await?;
    ensure!(roles(owner).await?.len() == 2, "one was removed and one left");
    Ok(())
}

/// What a group is called and who has which role reaches all devices, and a deleted group is gone for all.
pub async fn names_and_roles(messenger: &Messenger) -> anyhow::Result<()> {
    let users = TestUser::crowd(messenger, "guest", 3).await?;
    let [owner, member, stranger] = users.as_slice() else { unreachable!("three were registered") };
    let chat = owner.group("lunch", &[member.id()]).await?;
    let (phone, laptop) = (member.online(&[chat]).await, member.on_another_device().await?);
    let laptop = laptop.online(&[chat]).await;
    let named = |title: &str, topic: &str| UpdateChatRequest {
        title: Some(title.to_owned()),
        topic: Some(topic.to_owned()),
        ..UpdateChatRequest::default()
    };
    let update = async |user: &TestUser, request| {
        let token = user.token().await?;
        anyhow::Ok(messenger.update_chat(&token, chat, &request).await)
    };
    let renamed = update(owner, named("dinner", "where to go")).await??;
    ensure!(renamed.title.as_deref() == Some("dinner"), "{renamed:?}");
    refused(update(member, named("mine", "")).await?, ErrorCode::PermissionDenied)?;
    refused(update(stranger, named("mine", "")).await?, ErrorCode::NotAMember)?;
    messenger.put_member(&owner.token().await?, chat, member.id(), Role::Admin).await?;
    update(member, named("dinner", "")).await??;
    for device in [&phone, &laptop] {
        device.sees(chat, 4, MOMENT).await?;
        let entries = device.seen().entries[&chat].clone();
        let said: Vec<_> = entries
            .iter()
            .map(|entry| (entry.kind, entry.sender, entry.subject, entry.body.as_str()))
            .collect();
        let (owner, member) = (owner.id(), member.id());
        ensure!(
            said == [
                (EntryKind::TitleChanged, owner, None, "dinner"),
                (EntryKind::TopicChanged, owner, None, "where to go"),
                (EntryKind::RoleChanged, owner, Some(member), "admin"),
                (EntryKind::TopicChanged, member, None, ""),
            ],
            "{said:?}"
        );
    }

    let delete = async |user: &TestUser| anyhow::Ok(messenger.delete_chat(&user.token().await?, chat).await);
    refused(delete(member).await?, ErrorCode::PermissionDenied)?;
    refused(delete(stranger).await?, ErrorCode::NotAMember)?;
    delete(owner).await??;
    delete(owner).await??;
    for device in [&phone, &laptop] {
        device.sees(chat, 5, MOMENT).await?;
        let last = device.seen().entries[&chat].last().cloned().context("an entry")?;
        ensure!(last.kind == EntryKind::MemberRemoved && last.subject == Some(member.id()), "{last:?}");
    }
    let outcome = timeout(MOMENT, phone.session.send(chat, "is anyone here?")).await?;
    ensure!(matches!(&outcome, Err(SendFailure::Refused { code: ErrorCode::NotAMember, .. })), "{outcome:?}");
    for user in [owner, member] {
        let token = user.token().await?;
        ensure!(messenger.chats(&token).await?.is_empty(), "it is still in a list");
        refused(messenger.history(&token, chat, 0, 10).await.map(drop), ErrorCode::NotAMember)?;
        refused(messenger.members(&token, chat).await.map(drop), ErrorCode::NotAMember)?;
    }
    Ok(())
}

/// In a channel its owner and admins write, and members read and react.
pub async fn channel(messenger: &Messenger) -> anyhow::Result<()> {
    let users = TestUser::crowd(messenger, "guest", 3).await?;
    let [owner, member, stranger] = users.as_slice() else { unreachable!("three were registered") };
    let request = CreateChatRequest::channel("news", vec![member.id()]);
    let chat = messenger.create_chat(&owner.token().await?, &request).await?.chat_id;
    let (author, reader) = (owner.online(&[chat]).await, member.online(&[chat]).await);
    let seq = author.send(chat, "we open at nine").await?;
    reader.sees(chat, seq, MOMENT).await?;
    let refused_as = async |online: &Online, post: Post, code| {
        let outcome = timeout(MOMENT, online.session.send(chat, post)).await?;
        ensure!(
            matches!(&outcome, Err(SendFailure::Refused { code: found, .. }) if *found == code),
            "{outcome:?}"
        );
        anyhow::Ok(())
    };
    refused_as(&reader, "first!".into(), ErrorCode::PermissionDenied).await?;
    refused_as(&reader, Post::Pin { seq, remove: false }, ErrorCode::PermissionDenied).await?;
    refused_as(&reader, Post::Delete { seq }, ErrorCode::PermissionDenied).await?;
    refused_as(&stranger.online(&[]).await, "let me in".into(), ErrorCode::NotAMember).await?;
    let like = || Post::React { seq, emoji: "\u{1f44d}".into(), remove: false };
    timeout(MOMENT, reader.session.send(chat, like())).await??;
    // A role that was answered holds for whatever is sent then.
    for round in 0..5 {
        messenger.put_member(&owner.token().await?, chat, member.id(), Role::Admin).await?;
        reader.send(chat, &format!("round {round}")).await?;
        messenger.put_member(&owner.token().await?, chat, member.id(), Role::Member).await?;
        refused_as(&reader, "once more".into(), ErrorCode::PermissionDenied).await?;
    }
    let history = owner.history(chat).await?;
    ensure!(
        history.iter().all(|message| message.body != "first!" && message.body != "once more"),
        "it is stored"
    );
    // Who comes later reads what was said before.
    messenger.put_member(&owner.token().await?, chat, stranger.id(), Role::Member).await?;
    ensure!(
        stranger.history(chat).await?.first().is_some_and(|message| message.seq == seq),
        "it begins later"
    );
    Ok(())
}

/// A chat is muted, archived and marked on all devices of a member, and for no other.
pub async fn own_state(messenger: &Messenger) -> anyhow::Result<()> {
    let (ann, ben, chat) = TestUser::two(messenger).await?;
    let desk = ann.on_another_device().await?;
    let stranger = TestUser::register(messenger, "eve").await?;
    let request = UpdateOwnChatStateRequest {
        muted_until_ms: Some(MUTED_FOR_GOOD_MS),
        archived: Some(true),
        ..Default::default()
    };
    let (phone, theirs) = (ann.online(&[chat]).await, ben.online(&[chat]).await);
    for online in [&phone, &theirs] {
        eventually("the first sync", MOMENT, || async {
            ensure!(online.seen().synced.contains_key(&chat), "nothing is synced");
            Ok(())
        })
        .await?;
    }
    let own = messenger.update_own_chat_state(&ann.token().await?, chat, &request).await?;
    ensure!(own.version == 1 && own.archived && own.muted_until_ms == Some(MUTED_FOR_GOOD_MS), "{own:?}");
    let listed =
        async |user: &TestUser| anyhow::Ok(messenger.chats(&user.token().await?).await?[0].own.clone());
    ensure!(listed(&desk).await? == own, "another device of ann has it otherwise");
    ensure!(listed(&ben).await? == OwnChatState::default(), "ben sees it");
    let favourite = UpdateOwnChatStateRequest { favourite: Some(true), ..Default::default() };
    let own = messenger.update_own_chat_state(&desk.token().await?, chat, &favourite).await?;
    ensure!(own.version == 2 && own.archived && own.favourite && listed(&ann).await? == own, "{own:?}");
    let draft = |body: &str| UpdateOwnChatStateRequest {
        draft: Some(SetDraft { body: body.to_owned(), reply_to: None }),
        ..Default::default()
    };
    let own = messenger.update_own_chat_state(&desk.token().await?, chat, &draft("I wi")).await?;
    ensure!(own.draft.as_ref().is_some_and(|draft| draft.body == "I wi"), "{own:?}");
    eventually("the phone learns of each change", MOMENT, || async {
        let seen = phone.seen();
        let versions: Vec<i64> = seen.own_states.iter().map(|of| of.own.version).collect();
        ensure!(
            versions.iter().is_sorted() && [1, 2, 3].iter().all(|of| versions.contains(of)),
            "{versions:?}"
        );
        ensure!(seen.own_states.last() == Some(&wire::OwnState { chat, own: own.clone() }), "{own:?}");
        Ok(())
    })
    .await?;
    // One who connects later has it from the sync, and what is removed is gone for all.
    let later = desk.online(&[]).await;
    eventually("the sync of another device", MOMENT, || async {
        ensure!(later.seen().synced.get(&chat).is_some_and(|of| of.own == own), "it is not synced");
        Ok(())
    })
    .await?;
    let own = messenger.update_own_chat_state(&ann.token().await?, chat, &draft("")).await?;
    ensure!(own.version == 4 && own.draft.is_none() && listed(&desk).await? == own, "{own:?}");
    ensure!(theirs.seen().own_states.is_empty(), "ben received it");
    let token = stranger.token().await?;
    refused(messenger.update_own_chat_state(&token, chat, &request).await, ErrorCode::NotAMember)?;
    Ok(())
}

/// Either user of a direct chat lets texts disappear, and every device knows when they do.
pub async fn disappearing(messenger: &Messenger) -> anyhow::Result<()> {
    let (ann, ben, chat) = TestUser::two(messenger).await?;
    let (one, other) = (ann.online(&[chat]).await, ben.online(&[chat]).await);
    let lasting = one.send(chat, "this stays").await?;
    let ttl = |seconds| UpdateChatRequest { message_ttl_seconds: Some(seconds), ..Default::default() };
    refused(messenger.update_chat(&ben.token().await?, chat, &ttl(1)).await, ErrorCode::InvalidArgument)?;
    let set = messenger.update_chat(&ben.token().await?, chat, &ttl(3600)).await?;
    ensure!(set.message_ttl_seconds == 3600, "{set:?}");
    other.sees(chat, lasting + 1, MOMENT).await?;
    let seq = one.send(chat, "this does not").await?;
    let edit = one.post(chat, Post::Edit { seq, body: "nor this".to_owned() }).await?;
    messenger.update_chat(&ann.token().await?, chat, &ttl(0)).await?;
    let last = one.send(chat, "this does").await?;
    other.sees(chat, last, MOMENT).await?;
    let pushed = other.seen().entries.get(&chat).cloned().unwrap_or_default();
    for entries in [pushed, ann.history(chat).await?] {
        let of = |seq| entries.iter().find(|entry| entry.seq == seq);
        let expiry = |seq| of(seq).and_then(|entry| entry.expires_at_ms);
        let sent = of(seq).map(|entry| entry.sent_at_ms + 3_600_000);
        ensure!(sent.is_some() && expiry(seq) == sent && expiry(edit) == sent, "{entries:?}");
        ensure!(expiry(lasting).is_none() && expiry(last).is_none(), "{entries:?}");
        let changes = entries.iter().filter(|entry| entry.kind == EntryKind::TtlChanged);
        ensure!(changes.map(|entry| entry.body.as_str()).eq(["3600", "0"]), "{entries:?}");
    }
    Ok(())
}

/// A new member reads a group from the entry that added them, and the group may give them all of it.
pub async fn new_members(messenger: &Messenger) -> anyhow::Result<()> {
    let users = TestUser::crowd(messenger, "guest", 4).await?;
    let [owner, founder, guest, late] = users.as_slice() else { unreachable!("four were registered") };
    let chat = owner.group("plans", &[founder.id()]).await?;
    let online = owner.online(&[chat]).await;
    for line in ["one", "two", "three"] {
        online.send(chat, line).await?;
    }
    // Neither at the moment of the addition nor later does the new member read what was before.
    let (added, peeked) = tokio::join!(
        async {
            let token = owner.token().await?;
            anyhow::Ok(messenger.put_member(&token, chat, guest.id(), Role::Member).await?)
        },
        eventually("the new member reads", MOMENT, || async {
            let page = messenger.history(&guest.token().await?, chat, 0, 500).await?;
            // Ends the story, however often it is tried.
            assert!(page.messages.iter().all(|message| message.seq > 3), "the new member reads {page:?}");
            ensure!(!page.messages.is_empty(), "their entry is on its way");
            Ok(())
        }),
    );
    added?;
    peeked?;
    let guest_online = guest.online(&[chat]).await;
    let seq = online.send(chat, "welcome").await?;
    guest_online.sees(chat, seq, MOMENT).await?;
    let seqs = async |user: &TestUser| {
        let history = user.history(chat).await?;
        anyhow::Ok(history.iter().map(|message| message.seq).collect::<Vec<_>>())
    };
    ensure!(seqs(guest).await? == [4, 5], "the new member reads {:?}", seqs(guest).await?);
    let pushed: Vec<_> = guest_online.seen().entries[&chat].iter().map(|message| message.seq).collect();
    ensure!(pushed == [4, 5], "the session handed out {pushed:?}");
    ensure!(seqs(founder).await? == [1, 2, 3, 4, 5], "founders read all");

    let request = UpdateChatRequest { history: Some(HistoryAccess::All), ..UpdateChatRequest::default() };
    refused(messenger.update_chat(&guest.token().await?, chat, &request).await, ErrorCode::PermissionDenied)?;
    let changed = messenger.update_chat(&owner.token().await?, chat, &request).await?;
    ensure!(changed.history == Some(HistoryAccess::All), "{changed:?}");
    messenger.put_member(&owner.token().await?, chat, late.id(), Role::Member).await?;
    let late_online = late.online(&[chat]).await;
    late_online.sees(chat, 6, MOMENT).await?;
    ensure!(seqs(late).await? == [1, 2, 3, 4, 5, 6], "the group gives its history to who comes now");
    ensure!(seqs(guest).await? == [4, 5, 6], "and not to who came before");
    Ok(())
}

/// A direct chat is left, takes no more messages, and is open again once the one who left opens it.
pub async fn leaving_a_direct_chat(messenger: &Messenger) -> anyhow::Result<()> {
    let (ann, ben, chat) = TestUser::two(messenger).await?;
    let (ann_online, ben_online) = (ann.online(&[chat]).await, ben.online(&[chat]).await);
    ben_online.sees(chat, ann_online.send(chat, "hello?").await?, MOMENT).await?;
    messenger.remove_member(&ben.token().await?, chat, ben.id()).await?;
    messenger.remove_member(&ben.token().await?, chat, ben.id()).await?;
    ensure!(messenger.chats(&ben.token().await?).await?.is_empty(), "it is in ben's list");
    refused(messenger.history(&ben.token().await?, chat, 0, 10).await.map(drop), ErrorCode::NotAMember)?;
    ann_online.sees(chat, 2, MOMENT).await?;
    for online in [&ann_online, &ben_online] {
        let outcome = timeout(MOMENT, online.session.send(chat, "still there?")).await?;
        // Ann is in it still and no one would receive what she sends; ben is a stranger.
        let code =
            if online.name == ann_online.name { ErrorCode::PermissionDenied } else { ErrorCode::NotAMember };
        ensure!(
            outcome.as_ref().err().and_then(SendFailure::code) == Some(code),
            "{}: {outcome:?}",
            online.name
        );
    }
    refused(ann.open_direct_chat(&ben).await, ErrorCode::ConsentRequired)?;

    ensure!(ben.direct_chat(&ann).await? == chat, "it is the same chat");
    let back = ben.online(&[chat]).await;
    let seq = back.send(chat, "here I am").await?;
    ann_online.sees(chat, seq, MOMENT).await?;
    back.sees(chat, seq, MOMENT).await?;
    let seqs: Vec<_> = back.seen().entries[&chat].iter().map(|message| message.seq).collect();
    ensure!(seqs == [3, 4], "who is back reads from the return: {seqs:?}");
    let all: Vec<_> = ann.history(chat).await?.iter().map(|message| message.seq).collect();
    ensure!(all == [1, 2, 3, 4], "who stayed reads all: {all:?}");
    ann_online.send(chat, "good").await.map(drop)
}

/// Users decide who adds them, and a departure holds.
pub async fn consent(messenger: &Messenger) -> anyhow::Result<()> {
    let users = TestUser::crowd(messenger, "guest", 4).await?;
    let [ann, ben, cleo, dora] = users.as_slice() else { unreachable!("four were registered") };
    let set = async |contactable_by| {
        let request =
            UpdateProfileRequest { contactable_by: Some(contactable_by), ..UpdateProfileRequest::default() };
        anyhow::Ok(messenger.update_me(&ben.token().await?, &request).await?)
    };
    let put = async |caller: &TestUser, chat, role| {
        let token = caller.token().await?;
        anyhow::Ok(messenger.put_member(&token, chat, ben.id(), role).await)
    };
    let crew = ann.group("crew", &[cleo.id()]).await?;
    messenger.put_member(&ann.token().await?, crew, cleo.id(), Role::Admin).await?;
    let own = set(ContactableBy::Nobody).await?;
    ensure!(own.contactable_by == ContactableBy::Nobody, "{own:?}");
    refused(ann.open_direct_chat(ben).await, ErrorCode::ConsentRequired)?;
    refused(put(ann, crew, Role::Member).await?, ErrorCode::ConsentRequired)?;
    let group = CreateChatRequest::group("more", vec![dora.id(), ben.id()]);
    let group = messenger.create_chat(&ann.token().await?, &group).await;
    refused(group.map(drop), ErrorCode::ConsentRequired)?;

    // Ben reaches others all the same, and who shares a chat with ben may then be allowed to add them.
    let pair = ben.direct_chat(ann).await?;
    ensure!(ann.direct_chat(ben).await? == pair, "a chat that is there needs no consent");
    set(ContactableBy::SharedChats).await?;
    refused(dora.open_direct_chat(ben).await, ErrorCode::ConsentRequired)?;
    refused(put(cleo, crew, Role::Member).await?, ErrorCode::ConsentRequired)?;
    put(ann, crew, Role::Member).await??;

    // Not again by the same hand, by another one; after a leave, by none.
    set(ContactableBy::Everyone).await?;
    messenger.remove_member(&ann.token().await?, crew, ben.id()).await?;
    refused(put(ann, crew, Role::Member).await?, ErrorCode::ConsentRequired)?;
    put(cleo, crew, Role::Member).await??;
    messenger.remove_member(&ben.token().await?, crew, ben.id()).await?;
    for caller in [ann, cleo] {
        refused(put(caller, crew, Role::Member).await?, ErrorCode::ConsentRequired)?;
    }
    Ok(())
}

/// A block holds in both directions from its answer on, and ends with it.
pub async fn blocks(messenger: &Messenger) -> anyhow::Result<()> {
    let (ann, ben, pair) = TestUser::two(messenger).await?;
    let cleo = TestUser::register(messenger, "cleo").await?;
    let crew = cleo.group("crew", &[ann.id(), ben.id()]).await?;
    let (ann_online, ben_online) = (ann.online(&[pair, crew]).await, ben.online(&[pair, crew]).await);
    ann_online.send(pair, "before").await?;
    let sockets = [connect_at(messenger, &ann).await?, connect_at(messenger, &ben).await?];
    let token = ben.token().await?;
    patiently(async || messenger.block(&token, ann.id()).await).await?;
    let listed = patiently(async || messenger.blocks(&token).await).await?;
    ensure!(listed.iter().map(|block| block.user_id).eq([ann.id()]), "{listed:?}");
    for mut socket in sockets {
        let during = send(2, pair, MessageKey::generate(), "during");
        refused_frame(&mut socket, during, ErrorCode::PermissionDenied).await?;
    }
    for (caller, other) in [(&ann, &ben), (&ben, &ann)] {
        let (token, group) = (caller.token().await?, CreateChatRequest::group("more", vec![other.id()]));
        let group = patiently(async || messenger.create_chat(&token, &group).await).await;
        refused(group, ErrorCode::ConsentRequired)?;
    }
    let seq = ann_online.send(crew, "in a group that both are in").await?;
    ben_online.sees(crew, seq, MOMENT).await?;

    let token = ben.token().await?;
    patiently(async || messenger.unblock(&token, ann.id()).await).await?;
    let seq = ann_online.send(pair, "after").await?;
    ben_online.sees(pair, seq, MOMENT).await?;
    let history = ben.history(pair).await?;
    ensure!(history.iter().map(|message| message.body.as_str()).eq(["before", "after"]), "{history:?}");
    Ok(())
}

/// A user takes along what is kept about them, and nothing of others.
pub async fn export(messenger: &Messenger) -> anyhow::Result<()> {
    let (ann, ben, pair) = TestUser::two(messenger).await?;
    let dora = TestUser::register(messenger, "dora").await?;
    let crew = ann.group("crew", &[dora.id()]).await?;
    let token = ann.token().await?;
    let about =
        UpdateProfileRequest { about: Some("rides at dawn".into()), ..UpdateProfileRequest::default() };
    messenger.update_me(&token, &about).await?;
    let settings = [("theme".to_owned(), "dark".into())].into_iter().collect();
    messenger.put_settings(&token, &Settings { version: 0, settings }).await?;
    messenger.put_contact(&token, ben.id(), Some("Benny")).await?;
    messenger.block(&token, dora.id()).await?;
    messenger.put_contact(&ben.token().await?, ann.id(), Some("a name of ben's own")).await?;
    let (ann_online, dora_online) = (ann.online(&[pair, crew]).await, dora.online(&[crew]).await);
    ann_online.send(pair, "to ben").await?;
    ann_online.send(crew, "to all").await?;
    dora_online.send(crew, "of dora").await?;
    // What she wrote is hers when she is out.
    messenger.remove_member(&token, crew, dora.id()).await?;
    eventually("her last message is written", MOMENT, || async {
        let own = Export::read(&dora.identity).await?;
        ensure!(own.memberships.is_empty(), "{own:?}");
        ensure!(own.messages.iter().map(|message| message.body.as_str()).eq(["of dora"]), "{own:?}");
        Ok(())
    })
    .await?;
    let export = Export::read(&ann.identity).await?;
    let bodies: BTreeSet<_> = export.messages.iter().map(|message| message.body.as_str()).collect();
    ensure!(bodies == BTreeSet::from(["to ben", "to all"]), "{export:?}");
    ensure!(export.profile.profile.about == "rides at dawn", "{export:?}");
    ensure!(export.settings.version == 1 && export.settings.settings["theme"] == "dark", "{export:?}");
    ensure!(export.contacts.iter().map(|contact| contact.name.as_deref()).eq([Some("Benny")]), "{export:?}");
    ensure!(export.blocks.iter().map(|block| block.user_id).eq([dora.id()]), "{export:?}");
    let chats: BTreeSet<_> =
        export.memberships.iter().map(|of| (of.chat.chat_id, of.members.len())).collect();
    ensure!(chats == BTreeSet::from([(pair, 2), (crew, 1)]), "{export:?}");
    let bens = Export::read(&ben.identity).await?;
    ensure!(bens.blocks.is_empty() && bens.memberships.len() == 1 && bens.settings.version == 0, "{bens:?}");
    Ok(())
}

/// A user whose network lets no WebSocket through talks by an event stream and requests with one who has a WebSocket; a program
/// sends without any connection.
pub async fn streams(messenger: &Messenger) -> anyhow::Result<()> {
    let (ann, ben, chat) = TestUser::two(messenger).await?;
    let online = ann.online(&[chat]).await;
    let mut stream = EventStream::open(messenger, &ben).await?;
    let seq = online.send(chat, "are you there?").await?;
    let message = stream.pushed(|frame| frame.message).await?;
    ensure!((message.seq, message.body.as_str()) == (seq, "are you there?"), "{message:?}");

    let key = MessageKey::generate();
    for id in 1..3 {
        let accepted = stream.post(&send(id, chat, key, "behind a proxy")).await?.and_then(|of| of.result);
        ensure!(matches!(accepted, Some(Outcome::Accepted(_))), "{accepted:?}");
        let stored = stream.pushed(|frame| frame.stored).await?;
        ensure!((stored.key, stored.seq) == (key, seq + 1), "{stored:?}");
    }
    online.sees(chat, seq + 1, MOMENT).await?;
    let command = |id: u32, command| ClientFrame { id: Some(id.into()), command };
    let watch = Watch { users: vec![ann.id()], chats: vec![chat] };
    eventually("presence is available", MOMENT, || async {
        let seen = stream.post(&command(3, Command::Watch(watch.clone()))).await?.and_then(|of| of.result);
        ensure!(matches!(seen, Some(Outcome::Watching(_))), "{seen:?}");
        Ok(())
    })
    .await?;
    for silent in
        [Command::Typing(Typing { chat }), Command::Activity(Activity { state: ActivityState::Away })]
    {
        let answer = stream.post(&ClientFrame { id: None, command: silent }).await?;
        ensure!(answer.is_none(), "{answer:?}");
    }
    let conflict = stream.post(&send(4, chat, key, "another text")).await?.and_then(|of| of.error);
    if let Some(error) = conflict {
        ensure!(error.code == ErrorCode::IdempotencyConflict, "{error:?}");
    } else {
        let rejected = stream.pushed(|frame| frame.rejected).await?;
        ensure!(rejected.code == ErrorCode::IdempotencyConflict, "{rejected:?}");
    }

    let device = DeviceId::generate();
    let accepted = post_alone(&ben, device, &send(5, chat, MessageKey::generate(), "by a program")).await?;
    ensure!(accepted.is_some_and(|of| of.result.is_some()), "a send without a connection is not accepted");
    online.sees(chat, seq + 2, MOMENT).await?;
    let history = command(6, Command::History(History::after(chat, 0, None)));
    let page = match post_alone(&ben, device, &history).await?.and_then(|of| of.result) {
        Some(Outcome::History(page)) => page,
        other => anyhow::bail!("{other:?}"),
    };
    ensure!(page.messages == ben.history(chat).await?, "the history by a command is another one: {page:?}");
    let refused = post_alone(&ben, device, &command(7, Command::Watch(watch))).await?;
    ensure!(
        refused.and_then(|of| of.error).is_some_and(|error| error.code == ErrorCode::InvalidArgument),
        "nothing is watched without a connection"
    );
    let message = stream.pushed(|frame| frame.message).await?;
    ensure!(message.body == "by a program", "another device of the sender has {message:?}");

    let token = ben.token().await?;
    ben.identity.sign_out().await?;
    let began = Instant::now();
    let code = stream.until_closed().await?;
    ensure!(code == CloseCode::SessionEnded.code(), "closed with {code}");
    ensure!(began.elapsed() <= CLOSED_WITHIN, "open for {:?} after the sign-out", began.elapsed());
    let request = messenger.http().get(messenger.url(&format!("/events?device={device}"))).bearer_auth(token);
    let status = request.send().await?.status();
    ensure!(status.as_u16() == 401, "a stream of an ended session is answered with {status}");
    Ok(())
}

/// Two users of a chat see how the other is and when they type; a stranger sees what the settings show, and chats do not
/// depend on it.
pub async fn presence(messenger: &Messenger) -> anyhow::Result<()> {
    let (ann, ben, chat) = TestUser::two(messenger).await?;
    let eve = TestUser::register(messenger, "eve").await?;
    let settings = UpdateProfileRequest {
        presence_visible_to: Some(PresenceVisibleTo::SharedChats),
        ..UpdateProfileRequest::default()
    };
    messenger.update_me(&ben.token().await?, &settings).await?;
    let (watcher, stranger) = (ann.online(&[chat]).await, eve.online(&[]).await);
    watcher.session.watch(Watch { users: vec![ben.id()], chats: vec![chat] }).await;
    stranger.session.watch(Watch { users: vec![ben.id(), ann.id()], chats: vec![chat] }).await;
    seen_as(&watcher, &ben, PresenceState::Offline).await?;
    seen_as(&stranger, &ann, PresenceState::Online).await?;

    let there = ben.online(&[chat]).await;
    seen_as(&watcher, &ben, PresenceState::Online).await?;
    there.session.activity(ActivityState::Away).await;
    seen_as(&watcher, &ben, PresenceState::Away).await?;
    there.session.activity(ActivityState::Online).await;
    seen_as(&watcher, &ben, PresenceState::Online).await?;
    let typing = TypingUser { chat, user: ben.id() };
    eventually("ann sees ben typing", MOMENT, || async {
        there.session.typing(chat).await;
        ensure!(watcher.seen().typing.contains(&typing), "no typing");
        Ok(())
    })
    .await?;
    let seq = there.send(chat, "that is what I typed").await?;
    watcher.sees(chat, seq, MOMENT).await?;
    drop(there);
    let gone = seen_as(&watcher, &ben, PresenceState::Offline).await?;
    ensure!(gone.last_seen_ms.is_some(), "no moment: {gone:?}");

    // All that time ben looked the same to whom the settings do not show them.
    let seen = stranger.seen();
    let hidden = UserPresence { user: ben.id(), state: PresenceState::Offline, last_seen_ms: None };
    ensure!(seen.presence.get(&ben.id()) == Some(&hidden), "{:?}", seen.presence);
    ensure!(seen.typing.is_empty(), "a stranger sees typing: {:?}", seen.typing);
    Ok(())
}

/// Waits until a user sees another one like this.
pub async fn seen_as(
    watcher: &Online,
    user: &TestUser,
    state: PresenceState,
) -> anyhow::Result<UserPresence> {
    let what = format!("{} sees {} as {state:?}", watcher.name, user.identity.username());
    eventually(&what, MOMENT, || async {
        let seen = watcher.seen().presence.get(&user.id()).copied();
        seen.filter(|seen| seen.state == state).with_context(|| format!("it is {seen:?}"))
    })
    .await
}

/// Every service documents itself, as committed.
pub async fn documentation(messenger: &Messenger, tenant: &str) -> anyhow::Result<()> {
    for service in ["auth", "user", "chat", "message", "web"] {
        let page = get(messenger, tenant, &format!("/docs/{service}/")).await?;
        ensure!(page.contains("swagger"), "/docs/{service}/ is not a Swagger UI: {page:.200}");
        let document = get(messenger, tenant, &format!("/docs/{service}/openapi.json")).await?;
        let document: serde_json::Value = serde_json::from_str(&document)?;
        ensure!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{service}");
        ensure!(
            document["paths"].as_object().is_some_and(|paths| !paths.is_empty()),
            "{service} has no paths"
        );
        is_committed(&format!("{service}.openapi.json"), &document)?;
    }
    let document = get(messenger, tenant, "/docs/presence/openapi.json").await?;
    is_committed("presence.openapi.json", &serde_json::from_str(&document)?)?;
    let index = get(messenger, tenant, "/docs").await?;
    ensure!(index.contains("/docs/auth") && index.contains("/docs/message"), "the index names the services");
    let asyncapi = get(messenger, tenant, "/docs/gateway/asyncapi.json").await?;
    ensure!(asyncapi.contains("asyncapi"), "the gateway describes its protocol");
    Ok(())
}

/// Whatever a browser opens of a messenger runs and loads nothing but what this address serves, and stands in no frame. The pages
/// are those that the index leads to.
pub async fn pages(messenger: &Messenger) -> anyhow::Result<()> {
    let mut left = vec![messenger.url("/docs"), messenger.url("/docs/"), messenger.url("/no-such-page")];
    left.extend(catalog::Service::ALL.iter().map(|service| messenger.url(&format!("/docs/{service}"))));
    let (mut seen, mut pages) = (BTreeSet::new(), 0);
    while let Some(url) = left.pop() {
        if !seen.insert(url.clone()) {
            continue;
        }
        let response = messenger.http().get(url).send().await?;
        let (url, headers) = (response.url().clone(), response.headers().clone());
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let policy: Vec<_> = header("content-security-policy").split(';').map(str::trim).collect();
        for directive in
            ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]
        {
            ensure!(policy.contains(&directive), "{url} comes without {directive}: {policy:?}");
        }
        ensure!(header("x-content-type-options") == "nosniff", "{url}: the type may be guessed");
        ensure!(header("referrer-policy") == "no-referrer", "{url} may be sent as a referrer");
        ensure!(header("strict-transport-security").is_empty(), "{url} is not by TLS, which is required now");
        if !header("content-type").starts_with("text/html") {
            continue;
        }
        ensure!(response.status().is_success(), "{url} returned {}", response.status());
        let page = response.text().await?;
        pages += 1;
        for inline in ["<style", " style=", " onload=", " onclick=", "javascript:"] {
            ensure!(!page.contains(inline), "{url} has {inline}, which the policy forbids");
        }
        let scripts = page.matches("<script").count();
        ensure!(scripts == page.matches("<script src=").count(), "{url} has a script of its own");
        let links = ["href=\"", "src=\""].into_iter().flat_map(|attribute| page.split(attribute).skip(1));
        for link in links.filter_map(|rest| rest.split('"').next()) {
            let link = url.join(link)?;
            ensure!(link.origin() == url.origin(), "{url} leads to {link}");
            left.push(link);
        }
    }
    let services = catalog::Service::ALL.iter().filter(|service| !service.is_on_request).count();
    ensure!(pages > services + 1, "{pages} pages of {services} services: {seen:?}");
    ensure!(
        seen.contains(&messenger.url("/docs/gateway/protocol.js")),
        "no page led to its script: {seen:?}"
    );
    Ok(())
}

/// The address of a messenger is a page that runs the scripts of this address alone, and all of its files are there. It knows what the
/// tenant has.
pub async fn web_client(messenger: &Messenger, tenant: &str) -> anyhow::Result<()> {
    let response = messenger.http().get(messenger.url("/")).send().await?;
    ensure!(response.status() == 200, "the page: {}", response.status());
    let headers = response.headers().clone();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ensure!(header("content-type").starts_with("text/html"), "the page is {}", header("content-type"));
    ensure!(header("cache-control") == "no-cache", "a new release is not seen: {}", header("cache-control"));
    let policy: Vec<_> = header("content-security-policy").split(';').map(str::trim).collect();
    for directive in ["default-src 'none'", "script-src 'self'", "require-trusted-types-for 'script'"] {
        ensure!(policy.contains(&directive), "the page comes without {directive}: {policy:?}");
    }
    let page = response.text().await?;
    let links = ["href=\"", "src=\""].into_iter().flat_map(|attribute| page.split(attribute).skip(1));
    let files = links.filter_map(|rest| rest.split('"').next()).filter(|link| link.starts_with("/app/"));
    for file in files {
        let response = messenger.http().get(messenger.url(file)).send().await?;
        ensure!(response.status() == 200, "{file}, which the page has: {}", response.status());
    }
    let config: serde_json::Value = serde_json::from_str(&get(messenger, tenant, "/app/config.json").await?)?;
    ensure!(config["name"] == tenant, "{config}");
    let services = config["services"].as_array().context("no services")?;
    ensure!(services.iter().any(|service| service == "chat"), "{config}");
    Ok(())
}

/// What is no path of any service is refused as every service refuses.
pub async fn no_such_path(messenger: &Messenger) -> anyhow::Result<()> {
    for path in ["/nothing", "/app/nothing", "/api", "/api/nothing", "/API/CHATS"] {
        let response = messenger.http().get(messenger.url(path)).send().await?;
        ensure!(response.status() == 404, "{path}: {}", response.status());
        let problem: contracts::api::Problem =
            serde_json::from_str(&response.text().await?).with_context(|| format!("{path}: no problem"))?;
        ensure!(problem.code == ErrorCode::NotFound, "{path}: {}", problem.code);
    }
    Ok(())
}

/// Compares a description with the one that is committed for authors of clients.
fn is_committed(file: &str, served: &serde_json::Value) -> anyhow::Result<()> {
    let committed = root().join("docs/api").join(file);
    let known = fs::read_to_string(&committed).unwrap_or_default();
    if serde_json::from_str::<serde_json::Value>(&known).is_ok_and(|known| known == *served) {
        return Ok(());
    }
    let local = root().join(".local");
    fs::create_dir_all(&local)?;
    let fresh = local.join(file);
    fs::write(&fresh, format!("{served:#}\n"))?;
    anyhow::bail!(
        "{} is not what is served: if the change is meant, copy {} there",
        committed.display(),
        fresh.display()
    )
}

async fn get(messenger: &Messenger, tenant: &str, path: &str) -> anyhow::Result<String> {
    let response = messenger.http().get(messenger.url(path)).send().await?;
    let status = response.status();
    let served_by =
        response.headers().get("x-posthouse-tenant").and_then(|value| value.to_str().ok()).map(str::to_owned);
    ensure!(status.is_success(), "{path} returned {status}");
    ensure!(served_by.as_deref() == Some(tenant), "{path} is served by {served_by:?}");
    Ok(response.text().await?)
}

/// Bad frames and tokens get a documented code and store nothing.
pub async fn refusals(messenger: &Messenger) -> anyhow::Result<()> {
    let (ann, _ben, chat) = TestUser::two(messenger).await?;
    let outsider = TestUser::register(messenger, "cleo").await?;
    let before = ann.history(chat).await?.len();

    // The connection stays open after a refused command.
    let mut socket = connect(&outsider).await?;
    let key = MessageKey::generate();
    refused_frame(&mut socket, send(2, chat, key, "let me in"), ErrorCode::NotAMember).await?;
    refused_frame(&mut socket, send(3, ChatId::generate(), key, "is anyone here?"), ErrorCode::NotAMember)
        .await?;
    let peek = ClientFrame { id: Some(4.into()), command: Command::History(History::after(chat, 0, None)) };
    refused_frame(&mut socket, peek, ErrorCode::NotAMember).await?;
    let mut socket = connect(&ann).await?;
    let long = "x".repeat(MAX_BODY_BYTES + 1);
    refused_frame(&mut socket, send(2, chat, key, &long), ErrorCode::TooLarge).await?;
    refused_frame(&mut socket, send(3, chat, key, ""), ErrorCode::InvalidArgument).await?;
    // A file that nobody uploaded, or a messenger that takes none.
    let with_file = Send { attachments: vec![FileId::generate()], ..Send::text(chat, key, "look") };
    let with_file = ClientFrame { id: Some(8.into()), command: Command::Send(with_file) };
    let reply = answer(&mut socket, &with_file).await?;
    let code = reply.error.as_ref().map(|error| error.code);
    ensure!(
        matches!(code, Some(ErrorCode::NoSuchFile | ErrorCode::NotConfigured)),
        "a file that is not there is answered with {reply:?}"
    );
    let backwards =
        ClientFrame { id: Some(5.into()), command: Command::History(History::after(chat, -1, None)) };
    refused_frame(&mut socket, backwards, ErrorCode::InvalidArgument).await?;
    // The same key with another body is a conflict, and the first one stands.
    socket.send(text(&send(6, chat, key, "first"))).await?;
    pushed(&mut socket, |frame| frame.stored.filter(|stored| stored.key == key)).await?;
    socket.send(text(&send(7, chat, key, "second"))).await?;
    let code = pushed(&mut socket, |frame| {
        let error = frame.error.filter(|_| frame.id == Some(7.into())).map(|error| error.code);
        error.or(frame.rejected.filter(|rejected| rejected.key == key).map(|rejected| rejected.code))
    })
    .await?;
    ensure!(code == ErrorCode::IdempotencyConflict, "the second body got {code}");

    // A malformed frame is refused and the connection stays open; before `connect` the connection is closed.
    for (raw, code) in [
        (Raw::text("{\"id\":9,\"shout\":{}}"), ErrorCode::Malformed),
        (Raw::text("not json"), ErrorCode::Malformed),
        (Raw::text("x".repeat(MAX_FRAME_BYTES + 1)), ErrorCode::TooLarge),
    ] {
        socket.send(raw).await?;
        let found = pushed(&mut socket, |frame| frame.error.map(|error| error.code)).await?;
        ensure!(found == code, "a frame that is {code} is refused with {found}");
    }
    closes(messenger.upgrade().await?, Raw::text("not json"), CloseCode::Malformed).await?;
    let forged = Connect { token: "forged".into(), device: DeviceId::generate() };
    let frame = ClientFrame { id: Some(1.into()), command: Command::Connect(forged) };
    closes(messenger.upgrade().await?, text(&frame), CloseCode::InvalidToken).await?;
    closes(messenger.upgrade().await?, text(&send(1, chat, key, "first")), CloseCode::Malformed).await?;
    let silent = until_closed(&mut messenger.upgrade().await?).await?;
    ensure!(silent == CloseCode::Stale.code(), "a silent connection was closed with {silent}");

    let after = ann.history(chat).await?;
    ensure!(after.len() == before + 1, "one message was sent and {} are stored", after.len() - before);
    ensure!(after.last().is_some_and(|message| message.body == "first"), "the first body stands");
    Ok(())
}

/// Opens a connection of a user without the client that connects again and sends again.
pub async fn connect(user: &TestUser) -> anyhow::Result<Socket> {
    connect_at(user.messenger(), user).await
}

/// Opens a connection like [`connect`], at this address.
async fn connect_at(messenger: &Messenger, user: &TestUser) -> anyhow::Result<Socket> {
    let mut socket = messenger.upgrade().await?;
    let connect = Connect { token: user.token().await?, device: DeviceId::generate() };
    let frame = ClientFrame { id: Some(1.into()), command: Command::Connect(connect) };
    socket.send(text(&frame)).await?;
    pushed(&mut socket, |frame| match frame.result {
        Some(Outcome::Connected(connected)) => Some(connected),
        _ => None,
    })
    .await?;
    Ok(socket)
}

/// Waits until all connections are closed because their session has ended, and returns how long that took.
async fn all_closed(sockets: &mut [Socket]) -> anyhow::Result<Duration> {
    let began = Instant::now();
    for socket in sockets {
        let code = until_closed(socket).await?;
        ensure!(code == CloseCode::SessionEnded.code(), "closed with {code}");
    }
    let took = began.elapsed();
    ensure!(took <= CLOSED_WITHIN, "connections of an ended session were open for {took:?}");
    Ok(took)
}

/// Returns the command that sends a message.
pub fn send(id: u32, chat: ChatId, key: MessageKey, body: &str) -> ClientFrame {
    let body = body.to_owned();
    let send = Send::text(chat, key, body);
    ClientFrame { id: Some(id.into()), command: Command::Send(send) }
}

/// Returns a frame as it is written.
pub fn text(frame: &ClientFrame) -> Raw {
    Raw::text(serde_json::to_string(frame).expect("a frame is JSON"))
}

/// Reads frames until one has what is looked for.
pub async fn pushed<T>(socket: &mut Socket, look: impl Fn(ServerFrame) -> Option<T>) -> anyhow::Result<T> {
    let reading = async {
        loop {
            match socket.next().await.context("the connection was lost")?? {
                Raw::Text(text) => {
                    if let Some(found) = look(serde_json::from_str(&text)?) {
                        return Ok(found);
                    }
                }
                Raw::Close(close) => anyhow::bail!("the server closed: {close:?}"),
                _ => {}
            }
        }
    };
    timeout(MOMENT, reading).await.context("no such frame came")?
}

async fn refused_frame(socket: &mut Socket, frame: ClientFrame, code: ErrorCode) -> anyhow::Result<()> {
    let reply = answer(socket, &frame).await?;
    let found = reply.error.as_ref().map(|error| error.code);
    ensure!(found == Some(code), "command {:?} should be refused with {code}: {reply:?}", frame.id);
    Ok(())
}

/// Sends a command and returns its answer. Where it is refused for the moment, it is repeated, as by every client.
async fn answer(socket: &mut Socket, frame: &ClientFrame) -> anyhow::Result<ServerFrame> {
    let end = Instant::now() + MOMENT;
    loop {
        socket.send(text(frame)).await?;
        let reply = pushed(socket, |reply| (reply.id == frame.id).then_some(reply)).await?;
        let is_temporary = reply.error.as_ref().is_some_and(|error| error.temporary);
        if !is_temporary || Instant::now() >= end {
            return Ok(reply);
        }
        sleep(PAUSE).await;
    }
}

async fn closes(mut socket: Socket, raw: Raw, code: CloseCode) -> anyhow::Result<()> {
    socket.send(raw).await?;
    let found = until_closed(&mut socket).await?;
    ensure!(found == code.code(), "closed with {found} where {} belongs", code.code());
    Ok(())
}

async fn until_closed(socket: &mut Socket) -> anyhow::Result<u16> {
    let reading = async {
        loop {
            if let Raw::Close(close) =
                socket.next().await.context("the connection was lost without a close frame")??
            {
                return Ok(close.context("a close frame without a code")?.code.into());
            }
        }
    };
    timeout(MOMENT, reading).await.context("the connection was not closed")?
}
