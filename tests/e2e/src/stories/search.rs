//! What users find.

use anyhow::ensure;
use contracts::{ChatId, event::Role};
use posthouse_client::{Messenger, Post};

use super::MOMENT;
use crate::{eventually, users::TestUser};

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

/// Waits until a user finds these and no others.
async fn finds(user: &TestUser, query: &str, expected: &[(ChatId, i64)]) -> anyhow::Result<()> {
    let what = format!("{} finds {expected:?} by {query}", user.identity.username());
    eventually(&what, MOMENT, || async {
        let found = found(user, query).await?;
        ensure!(found == expected, "it is {found:?}");
        Ok(())
    })
    .await
}

/// Returns what a user finds now, the newest first.
async fn found(user: &TestUser, query: &str) -> anyhow::Result<Vec<(ChatId, i64)>> {
    Ok(user.search(query).await?.items.iter().map(|found| (found.chat_id, found.seq)).collect())
}
