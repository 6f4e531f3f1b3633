//! What users find.

use anyhow::ensure;
use contracts::{ChatId, UserId, api::FilePurpose, event::Role};
use posthouse_client::{Messenger, Post};
use reqwest::StatusCode;

use super::MOMENT;
use crate::{
    eventually,
    rest::request,
    users::{TestUser, patiently, unused},
    witnesses::photo,
};

/// Users find what is said in their chats, as it is now and from where their history begins, and nothing once they are out.
pub async fn search(messenger: &Messenger) -> anyhow::Result<()> {
    let (ann, ben, direct) = TestUser::two(messenger).await?;
    let cleo = TestUser::register(messenger, "cleo").await?;
    let group = ann.group("Crew", &[ben.id()]).await?;
    let online = ann.online(&[direct, group]).await;
    let first = online.send(group, "все участники уже здесь").await?;
    let second = online.send(direct, "running late, the участники know").await?;
    finds(&ben, "участник", &[(direct, second), (group, first)]).await?;
    finds(&cleo, "участник", &[]).await?;

    online.post(direct, Post::Edit { seq: second, body: "running in time".to_owned() }).await?;
    finds(&ben, "участник", &[(group, first)]).await?;
    finds(&ben, "time", &[(direct, second)]).await?;
    online.post(direct, Post::Delete { seq: second }).await?;
    finds(&ben, "time", &[]).await?;

    messenger.put_member(&ann.token().await?, group, cleo.id(), Role::Member).await?;
    let third = online.send(group, "участники and Cleo").await?;
    finds(&cleo, "участник", &[(group, third)]).await?;
    messenger.remove_member(&ann.token().await?, group, ben.id()).await?;
    let now = found(&ben, "участник").await?;
    ensure!(now.is_empty(), "a user who was removed finds {now:?}");
    finds(&ann, "участник", &[(group, third), (group, first)]).await
}

/// Users find messages by the types and names of their files and by links, and chats and users by their names: as they are now, from where their history begins,
/// and nothing of chats that they are not in.
pub async fn search_by_files_and_names(messenger: &Messenger) -> anyhow::Result<()> {
    let (ann, ben, direct) = TestUser::two(messenger).await?;
    let eve = TestUser::register(messenger, "eve").await?;
    // A word that no other story has.
    let word = unused("tide").replace('-', "");
    let group = ann.group(&format!("Harbour {word}"), &[ben.id()]).await?;
    let phone = ann.online(&[direct, group]).await;
    let path = std::env::temp_dir().join(format!("{word}.txt"));
    tokio::fs::write(&path, "high water at four").await?;
    let table = ann.identity.upload(FilePurpose::Chat(group), &path).await?;
    tokio::fs::remove_file(&path).await?;
    let first = phone.post(group, Post::files("look", vec![table.id])).await?;
    let picture = ann.identity.upload(FilePurpose::Chat(direct), &photo()).await?;
    let second = phone.post(direct, Post::files("", vec![picture.id])).await?;
    let third = phone.send(group, "more of it at https://example.org/").await?;

    let queries = [
        ("has:link".to_owned(), vec![(group, third)]),
        ("has:file".to_owned(), vec![(direct, second), (group, first)]),
        ("HAS:image".to_owned(), vec![(direct, second)]),
        ("has:video".to_owned(), Vec::new()),
        (word.clone(), vec![(group, first)]),
        (format!("{word} has:file"), vec![(group, first)]),
        (format!("{word} has:image"), Vec::new()),
    ];
    for (query, expected) in &queries {
        finds(&ben, query, expected).await?;
        let others = found(&eve, query).await?;
        ensure!(others.is_empty(), "who is in no chat finds {others:?} by {query}");
    }
    let mut items = patiently(async || ben.search(&word).await).await?.items;
    let files = items.pop().map(|of| of.files).unwrap_or_default();
    ensure!(files.len() == 1 && files[0].file == table.id, "{files:?}");
    let line = format!("GET /api/search/messages?q=has:file&chat={group}");
    let token = eve.token().await?;
    request(messenger, &line, Some(&token), None).await?.refused(StatusCode::FORBIDDEN)?;

    // Chats are found by who is in them, users by all.
    let (name, other) = (ben.identity.username(), ann.identity.username());
    for (user, query, expected) in [
        (&ann, word.as_str(), vec![group]),
        (&ann, name, vec![direct]),
        (&ben, other, vec![direct]),
        (&eve, word.as_str(), Vec::new()),
        (&eve, name, Vec::new()),
    ] {
        let chats = chats(user, query).await?;
        ensure!(chats == expected, "{} finds {chats:?} by {query}", user.identity.username());
    }
    let users = users(&eve, name).await?;
    ensure!(users == [ben.id()], "eve finds {users:?}");

    // Who joins finds what comes from then on, and who is out nothing.
    messenger.put_member(&ann.token().await?, group, eve.id(), Role::Member).await?;
    let fourth = phone.send(group, &format!("no {word} today")).await?;
    finds(&eve, &word, &[(group, fourth)]).await?;
    let (files, chats_of_eve) = (found(&eve, "has:file").await?, chats(&eve, &word).await?);
    ensure!(files.is_empty() && chats_of_eve == [group], "eve finds {files:?} and {chats_of_eve:?}");
    messenger.remove_member(&ann.token().await?, group, ben.id()).await?;
    let (words, files, chats_of_ben) =
        (found(&ben, &word).await?, found(&ben, "has:file").await?, chats(&ben, &word).await?);
    ensure!(
        words.is_empty() && chats_of_ben.is_empty(),
        "who was removed finds {words:?} and {chats_of_ben:?}"
    );
    ensure!(files == [(direct, second)], "who was removed finds {files:?}");
    phone.post(direct, Post::Delete { seq: second }).await?;
    finds(&ben, "has:file", &[]).await?;
    finds(&ann, "has:file", &[(group, first)]).await
}

/// Returns the chats that a user finds by their names, the newest first.
pub async fn chats(user: &TestUser, query: &str) -> anyhow::Result<Vec<ChatId>> {
    let token = user.token().await?;
    let found = patiently(async || user.messenger().find_chats(&token, query).await).await?;
    Ok(found.items.iter().map(|of| of.chat_id).collect())
}

/// Returns the users that a user finds by their names.
pub async fn users(user: &TestUser, query: &str) -> anyhow::Result<Vec<UserId>> {
    let token = user.token().await?;
    let found = patiently(async || user.messenger().find_users(&token, query).await).await?;
    Ok(found.items.iter().map(|of| of.user_id).collect())
}

/// Waits until a user finds these and no others.
pub async fn finds(user: &TestUser, query: &str, expected: &[(ChatId, i64)]) -> anyhow::Result<()> {
    let what = format!("{} finds {expected:?} by {query}", user.identity.username());
    eventually(&what, MOMENT, || async {
        let found = found(user, query).await?;
        ensure!(found == expected, "it is {found:?}");
        Ok(())
    })
    .await
}

/// Returns what a user finds now, the newest first.
pub async fn found(user: &TestUser, query: &str) -> anyhow::Result<Vec<(ChatId, i64)>> {
    let found = patiently(async || user.search(query).await).await?;
    Ok(found.items.iter().map(|found| (found.chat_id, found.seq)).collect())
}
