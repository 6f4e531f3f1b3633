//! Looks up what commands are about: users by name, chats, and how far a chat is.

use contracts::{
    ChatId, UserId,
    api::{Chat, CreateChatRequest},
};
use posthouse_client::Messenger;

use crate::failure::{Exit, Failure};

/// Returns the user of a name.
pub(crate) async fn user(messenger: &Messenger, token: &str, username: &str) -> Result<UserId, Failure> {
    let found = messenger.user_named(token, username).await?;
    found.map(|profile| profile.user_id).ok_or_else(|| {
        let next = "give the user name of a user of this tenant";
        Failure::new(Exit::Refused, format!("user {username} not found"), next)
    })
}

/// Returns the direct chat with the user of a name, which is made where there is none.
pub(crate) async fn direct_chat(messenger: &Messenger, token: &str, username: &str) -> Result<Chat, Failure> {
    let request = CreateChatRequest::direct(user(messenger, token, username).await?);
    Ok(messenger.create_chat(token, &request).await?)
}

/// Returns the seq of the newest entry of a chat.
pub(crate) async fn head(messenger: &Messenger, token: &str, chat: ChatId) -> Result<i64, Failure> {
    // An empty page contains the head and no bodies.
    Ok(messenger.history(token, chat, i64::MAX, 1).await?.head_seq)
}
