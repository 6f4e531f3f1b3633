//! Files that users send each other.

use anyhow::{Context, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use contracts::{
    ErrorCode, FileId, UserId,
    api::{File, FileLinks, FilePurpose, HistoryAccess, UpdateChatRequest},
    event::Role,
};
use posthouse_client::{ClientError, Messenger, Post};

use super::MOMENT;
use crate::{
    eventually,
    users::{Online, TestUser, refused},
    witnesses::photo,
};

const CONTENT: &[u8] = b"tea at four, and bring a cup\n";

/// What a user sees at the end of a chat: what the last text says, and the files that it carries.
fn last(online: &Online, chat: contracts::ChatId) -> Option<(String, Vec<FileId>)> {
    let seen = online.seen();
    let last = seen.entries.get(&chat)?.last()?;
    Some((last.body.clone(), last.attachments.iter().map(|of| of.file).collect()))
}

/// Two users exchange a file, which a third does not get before one of them forwards it, and which is gone with the message that carries it.
pub async fn files(messenger: &Messenger) -> anyhow::Result<()> {
    let (ann, ben, chat) = TestUser::two(messenger).await?;
    let cid = TestUser::register(messenger, "cid").await?;
    let elsewhere = ben.group("plans", &[cid.id()]).await?;
    let (phone, other, third) =
        (ann.online(&[chat]).await, ben.online(&[chat, elsewhere]).await, cid.online(&[elsewhere]).await);

    let path = std::env::temp_dir().join(format!("posthouse-{}.txt", FileId::generate()));
    tokio::fs::write(&path, CONTENT).await?;
    let file = ann.identity.upload(FilePurpose::Chat(chat), &path).await?;
    tokio::fs::remove_file(&path).await?;
    ensure!(file.size == CONTENT.len() as i64, "{file:?}");
    ensure!(ben.content(file.id).await.is_err(), "no message carries it yet");

    let seq = phone.post(chat, Post::files("look", vec![file.id])).await?;
    for online in [&phone, &other] {
        eventually("the file comes with its message", MOMENT, || async {
            let found = last(online, chat);
            ensure!(found == Some(("look".to_owned(), vec![file.id])), "{found:?}");
            Ok(())
        })
        .await?;
    }
    eventually("the other reads the file", MOMENT, || async {
        ensure!(ben.content(file.id).await? == CONTENT, "it is another one");
        Ok(())
    })
    .await?;
    ensure!(cid.content(file.id).await.is_err(), "the third is in no chat that has it");

    other.post(elsewhere, Post::Forward { from_chat: chat, from_seq: seq }).await?;
    eventually("the third reads what is forwarded", MOMENT, || async {
        let found = last(&third, elsewhere);
        ensure!(found == Some(("look".to_owned(), vec![file.id])), "{found:?}");
        ensure!(cid.content(file.id).await? == CONTENT, "it is another one");
        Ok(())
    })
    .await?;

    phone.post(chat, Post::Edit { seq, body: "look at this".to_owned() }).await?;
    let stored = |messages: Vec<contracts::wire::Message>| messages.into_iter().find(|of| of.seq == seq);
    eventually("an edit keeps the file", MOMENT, || async {
        let found = stored(ann.history(chat).await?);
        let is_kept = found.as_ref().is_some_and(|of| of.body == "look at this" && of.attachments.len() == 1);
        ensure!(is_kept, "{found:?}");
        Ok(())
    })
    .await?;
    phone.post(chat, Post::Delete { seq }).await?;
    eventually("a deletion takes it", MOMENT, || async {
        let found = stored(ben.history(chat).await?);
        ensure!(
            found.as_ref().is_some_and(|of| of.body.is_empty() && of.attachments.is_empty()),
            "{found:?}"
        );
        Ok(())
    })
    .await
}

/// A member reads the files of the messages that they read. To who joined later, one of before is not there: not by its id, by the content or the thumbnail of a link that
/// they had before they were out, or by one that they make of a link of their own. Once the group gives its history to who joins, it is.
pub async fn files_of_before(messenger: &Messenger) -> anyhow::Result<()> {
    let (ann, ben) =
        (TestUser::register(messenger, "ann").await?, TestUser::register(messenger, "ben").await?);
    let late = TestUser::crowd(messenger, "late", 3).await?;
    let [cid, dan, eve] = late.as_slice() else { unreachable!("three were registered") };
    let group = ann.group("holidays", &[ben.id()]).await?;
    let phone = ann.online(&[group]).await;
    let token = ann.token().await?;
    let sends = async |text: &str| {
        let file = ann.identity.upload(FilePurpose::Chat(group), &photo()).await?;
        phone.post(group, Post::files(text, vec![file.id])).await?;
        anyhow::Ok(file.id)
    };
    let add =
        async |user: &TestUser, role| anyhow::Ok(messenger.put_member(&token, group, user.id(), role).await?);
    let old = sends("before").await?;
    let links = readable(&ben, old).await?;
    let thumbnail = links.thumbnail.clone().context("a picture has a thumbnail")?;

    add(cid, Role::Member).await?;
    refused(cid.identity.file(old).await, ErrorCode::NotFound)?;
    let new = sends("after").await?;
    let theirs = readable(cid, new).await?;
    refused(cid.identity.file(old).await, ErrorCode::NotFound)?;
    let thumbnail_of_new = theirs.thumbnail.context("a picture has a thumbnail")?;
    for (link, of) in [(&theirs.content, &links.content), (&thumbnail_of_new, &thumbnail)] {
        fetched(messenger, of).await?;
        for forged in
            [changed(link, old, cid.id())?, changed(link, old, ann.id())?, changed(of, old, cid.id())?]
        {
            refused(fetched(messenger, &forged).await, ErrorCode::NotFound)?;
        }
        // A link that says the same is the same.
        fetched(messenger, &changed(link, new, cid.id())?).await?;
    }

    // Who comes back reads from the return, whatever they have kept.
    add(dan, Role::Admin).await?;
    messenger.remove_member(&dan.token().await?, group, ben.id()).await?;
    add(&ben, Role::Member).await?;
    let newest = sends("welcome back").await?;
    readable(&ben, newest).await?;
    for file in [old, new] {
        refused(ben.identity.file(file).await, ErrorCode::NotFound)?;
    }
    for link in [&links.content, &thumbnail] {
        refused(fetched(messenger, link).await, ErrorCode::NotFound)?;
    }

    let open = UpdateChatRequest { history: Some(HistoryAccess::All), ..UpdateChatRequest::default() };
    messenger.update_chat(&token, group, &open).await?;
    add(eve, Role::Member).await?;
    let all = readable(eve, old).await?;
    fetched(messenger, &all.content).await?;
    refused(cid.identity.file(old).await, ErrorCode::NotFound)
}

/// Waits until a user reads a file, and returns its links.
async fn readable(user: &TestUser, file: FileId) -> anyhow::Result<FileLinks> {
    let what = format!("{} reads file {file}", user.identity.username());
    eventually(&what, MOMENT, || async {
        let found: File = user.identity.file(file).await?;
        found.links.with_context(|| format!("the file is {:?}", found.state))
    })
    .await
}

async fn fetched(messenger: &Messenger, link: &str) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    messenger.fetch(link, &mut bytes).await?;
    Ok(bytes)
}

/// Returns a link with another file and user in it, and the signature that it had.
fn changed(link: &str, file: FileId, user: UserId) -> anyhow::Result<String> {
    let (path, token) = link.rsplit_once('/').context("a link is a path")?;
    let mut bytes = URL_SAFE_NO_PAD.decode(token)?;
    // Behind the form of the token and what is fetched.
    let named = bytes.get_mut(2..34).context("the token has a file and a user")?;
    named[..16].copy_from_slice(file.0.as_bytes());
    named[16..].copy_from_slice(user.0.as_bytes());
    Ok(format!("{path}/{}", URL_SAFE_NO_PAD.encode(bytes)))
}
