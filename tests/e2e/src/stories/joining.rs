//! How users come into a chat by themselves, and what a busy one asks of them.

use anyhow::ensure;
use contracts::{
    ErrorCode,
    api::{CreateChatRequest, CreateInviteRequest, UpdateChatRequest, Visibility},
    event::EntryKind,
    wire::Message,
};
use posthouse_client::{Joined, Messenger};

use super::MOMENT;
use crate::{
    eventually,
    users::{TestUser, refused},
};

/// A public group is found and joined, a private one by a link, with or without approval. Who comes reads from their entry on. In slow mode
/// members take turns.
pub async fn joining(messenger: &Messenger) -> anyhow::Result<()> {
    let [owner, guest, other] = [
        TestUser::register(messenger, "owner").await?,
        TestUser::register(messenger, "guest").await?,
        TestUser::register(messenger, "other").await?,
    ];
    let title = format!("open house of {}", owner.id());
    let request = CreateChatRequest {
        visibility: Some(Visibility::Public),
        ..CreateChatRequest::group(&title, Vec::new())
    };
    let public = messenger.create_chat(&owner.token().await?, &request).await?.chat_id;
    let host = owner.online(&[public]).await;
    host.send(public, "before anyone came").await?;

    let found = messenger.public_chats(&guest.token().await?, &title).await?.items;
    ensure!(found.len() == 1 && found[0].chat_id == public, "{found:?}");
    messenger.join(&guest.token().await?, public).await?;
    let visitor = guest.online(&[public]).await;
    let welcome = host.send(public, "welcome").await?;
    visitor.sees(public, welcome, MOMENT).await?;
    let seen = visitor.seen().entries[&public].clone();
    ensure!(seen.first().is_some_and(|entry| entry.kind == EntryKind::MemberAdded), "{seen:?}");
    ensure!(seen.iter().all(|entry| entry.body != "before anyone came"), "{seen:?}");

    let slow = UpdateChatRequest { slow_mode_seconds: Some(600), ..UpdateChatRequest::default() };
    messenger.update_chat(&owner.token().await?, public, &slow).await?;
    eventually("the visitor learns of it", MOMENT, || async {
        let seen = visitor.seen();
        let is_told = |entry: &Message| entry.kind == EntryKind::SlowModeChanged && entry.body == "600";
        ensure!(seen.entries[&public].iter().any(is_told), "not yet");
        Ok(())
    })
    .await?;
    visitor.send(public, "once").await?;
    let again = visitor.session.send(public, "twice").await;
    ensure!(
        again.as_ref().is_err_and(|failure| failure.code() == Some(ErrorCode::SlowMode)),
        "a second message was taken: {again:?}"
    );
    host.send(public, "the owner does not wait").await?;
    host.send(public, "at all").await?;

    let private = owner.group("behind a door", &[]).await?;
    let token = owner.token().await?;
    refused(messenger.join(&guest.token().await?, private).await, ErrorCode::NotAMember)?;
    let link = CreateInviteRequest { max_uses: Some(1), ..CreateInviteRequest::default() };
    let link = messenger.create_invite(&token, private, &link).await?;
    let joined = messenger.join_by_invite(&guest.token().await?, &link.code).await?;
    ensure!(matches!(&joined, Joined::Member(chat) if chat.chat_id == private), "{joined:?}");
    refused(messenger.join_by_invite(&other.token().await?, &link.code).await, ErrorCode::NotFound)?;

    let link = CreateInviteRequest { needs_approval: Some(true), ..CreateInviteRequest::default() };
    let link = messenger.create_invite(&token, private, &link).await?;
    let asked = messenger.join_by_invite(&other.token().await?, &link.code).await?;
    ensure!(matches!(&asked, Joined::Asked(request) if request.chat_id == private), "{asked:?}");
    refused(messenger.members(&other.token().await?, private).await, ErrorCode::NotAMember)?;
    refused(messenger.join_requests(&guest.token().await?, private).await, ErrorCode::PermissionDenied)?;
    let requests = messenger.join_requests(&token, private).await?;
    ensure!(requests.len() == 1 && requests[0].user_id == other.id(), "{requests:?}");
    messenger.decide(&token, private, other.id(), true).await?;
    ensure!(messenger.members(&other.token().await?, private).await?.len() == 3, "all three are in it");

    messenger.revoke_invite(&token, private, link.invite.invite_id).await?;
    let late = TestUser::register(messenger, "late").await?;
    refused(messenger.join_by_invite(&late.token().await?, &link.code).await, ErrorCode::NotFound)?;
    Ok(())
}
