//! Files that users send each other.

use anyhow::ensure;
use contracts::{FileId, api::FilePurpose};
use posthouse_client::{Messenger, Post};

use super::MOMENT;
use crate::{
    eventually,
    users::{Online, TestUser},
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
