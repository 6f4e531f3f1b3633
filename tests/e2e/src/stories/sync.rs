//! How a user's devices agree on what there is and what is read.

use std::sync::Mutex;

use anyhow::{Context as _, ensure};
use contracts::{
    ChatId, ErrorCode, UserId,
    api::UpdateProfileRequest,
    wire::{ChatState, Watermarks},
};
use posthouse_client::{Messenger, Post};

use super::MOMENT;
use crate::{
    eventually,
    users::{Online, TestUser, refused},
};

/// A device that comes back knows what changed, what is unread and what calls its user; what is read on one device is read on all of
/// them, and shown to others unless the user does not want it.
pub async fn sync(messenger: &Messenger) -> anyhow::Result<()> {
    let (ann, ben, direct) = TestUser::two(messenger).await?;
    let carol = TestUser::register(messenger, "carol").await?;
    let group = ben.group("tea", &[ann.id(), carol.id()]).await?;
    let ben_online = ben.online(&[direct, group]).await;
    ben_online.send(direct, "hello").await?;
    let last = ben_online.send(direct, "are you there?").await?;
    let call = |mentions: Vec<UserId>, mention_all| Post::Text {
        body: "tea at four".to_owned(),
        reply_to: None,
        mentions,
        mention_all,
        mention_roles: Vec::new(),
        mention_here: false,
        silent: false,
        attachments: Vec::new(),
    };
    ben_online.post(group, call(vec![ann.id()], false)).await?;
    ben_online.post(group, call(vec![carol.id()], false)).await?;
    let called = ben_online.post(group, call(Vec::new(), true)).await?;

    let state = has(&ann, direct, |of| of.watermarks.unread == 2).await?;
    ensure!(state.other == Some(ben.id()) && state.head_seq == last, "{state:?}");
    ensure!(state.entries.last().is_some_and(|entry| entry.body == "are you there?"), "{state:?}");
    let state = has(&ann, group, |of| of.watermarks.unread == 3).await?;
    ensure!(state.watermarks.mentions == 2 && state.title.as_deref() == Some("tea"), "{state:?}");
    let own = has(&ben, group, |of| of.head_seq == called).await?;
    ensure!(own.watermarks.unread == 0, "what ben wrote is read by him: {own:?}");

    // Read at the desk, and so on the phone; ben learns of it.
    let phone = ann.online(&[]).await;
    let desk = ann.on_another_device().await?.online(&[direct]).await;
    desk.sees(direct, last, MOMENT).await?;
    desk.session.read(direct, last).await;
    marked(&phone, direct, ann.id(), last, Some(0)).await?;
    marked(&ben_online, direct, ann.id(), last, None).await?;
    let read = Watermarks { read_seq: last, delivered_seq: last, unread: 0, mentions: 0, counted_seq: last };
    has(&ann, direct, |of| of.watermarks == read).await?;
    has(&ben, direct, |of| of.other_read_seq == Some(last)).await?;
    ensure!(carol.online(&[]).await.seen().receipts.is_empty(), "carol is not in this chat");

    // Who does not show it does not, from then on.
    let hiding = UpdateProfileRequest { read_receipts: Some(false), ..UpdateProfileRequest::default() };
    messenger.update_me(&ann.token().await?, &hiding).await?;
    let secret = ben_online.send(direct, "a secret").await?;
    desk.session.read(direct, secret).await;
    marked(&phone, direct, ann.id(), secret, Some(0)).await?;
    let state = has(&ben, direct, |of| of.head_seq == secret).await?;
    ensure!(state.other_read_seq.is_none() && state.other_delivered_seq.is_none(), "{state:?}");
    ensure!(!has_marked(&ben_online, direct, ann.id(), secret), "ben learned what ann has read");

    // No user is shown anything across a block, and nothing that was shown vanishes with it.
    let shown = UpdateProfileRequest { read_receipts: Some(true), ..UpdateProfileRequest::default() };
    messenger.update_me(&ann.token().await?, &shown).await?;
    has(&ben, direct, |of| of.other_read_seq == Some(secret)).await?;
    let unread = ben_online.send(direct, "read this behind a block").await?;
    messenger.block(&ann.token().await?, ben.id()).await?;
    desk.session.read(direct, unread).await;
    marked(&phone, direct, ann.id(), unread, Some(0)).await?;
    has(&ben, direct, |of| of.head_seq == unread && of.other_read_seq == Some(secret)).await?;
    ensure!(!has_marked(&ben_online, direct, ann.id(), unread), "ben learned what ann has read");
    messenger.unblock(&ann.token().await?, ben.id()).await?;
    let seen = ben_online.send(direct, "and this").await?;
    desk.session.read(direct, seen).await;
    has(&ben, direct, |of| of.other_read_seq == Some(seen)).await?;

    // A chat that was left is in no sync.
    refused(
        messenger.remove_member(&carol.token().await?, group, ann.id()).await,
        ErrorCode::PermissionDenied,
    )?;
    messenger.remove_member(&ben.token().await?, group, ann.id()).await?;
    let back = ann.online(&[]).await;
    eventually("ann syncs", MOMENT, || async {
        ensure!(back.seen().synced.contains_key(&direct), "not yet");
        Ok(())
    })
    .await?;
    ensure!(!back.seen().synced.contains_key(&group), "ann is not in the group any more");
    Ok(())
}

/// Waits until a device that comes now learns of a chat as it should be. The head of a chat follows its last entry.
async fn has(
    user: &TestUser,
    chat: ChatId,
    is_right: impl Fn(&ChatState) -> bool,
) -> anyhow::Result<ChatState> {
    let found = Mutex::new(None);
    eventually(&format!("a device syncs chat {chat}"), MOMENT, || async {
        let device = user.online(&[]).await;
        eventually("a sync", MOMENT, || async {
            ensure!(device.seen().synced.contains_key(&chat), "not yet");
            Ok(())
        })
        .await?;
        let state = device.seen().synced[&chat].clone();
        ensure!(is_right(&state), "{state:?}");
        *found.lock().expect("no panic") = Some(state);
        Ok(())
    })
    .await?;
    found.into_inner().expect("no panic").context("a state")
}

fn has_marked(online: &Online, chat: ChatId, user: UserId, read_seq: i64) -> bool {
    let seen = online.seen();
    seen.receipts.iter().any(|of| (of.chat, of.user, of.read_seq) == (chat, user, Some(read_seq)))
}

/// Waits until a session has learned how far a user has read; `unread` comes to their own devices.
async fn marked(
    online: &Online,
    chat: ChatId,
    user: UserId,
    read_seq: i64,
    unread: Option<i64>,
) -> anyhow::Result<()> {
    let what = format!("{} learns that {read_seq} is read", online.name);
    eventually(&what, MOMENT, || async {
        ensure!(has_marked(online, chat, user, read_seq), "{:?}", online.seen().receipts);
        Ok(())
    })
    .await?;
    let found = online.seen().receipts.iter().rfind(|of| of.read_seq == Some(read_seq)).copied();
    ensure!(found.is_some_and(|of| of.unread == unread), "{found:?}");
    Ok(())
}
