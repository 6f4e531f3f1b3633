//! Messages that are found by their words.

use std::collections::HashMap;

use contracts::{
    ChatId,
    api::{Chat, FoundMessage},
};

use super::Room;
use crate::{
    failure::Failure,
    output::{self, Output},
};

impl Room {
    /// Shows the newest messages of all chats with these words.
    pub(super) async fn find_messages(&mut self, words: &str) -> Result<(), Failure> {
        let token = self.identity.token().await?;
        let found = self.messenger().search_messages(&token, words).await;
        let found = found.map_err(|error| Failure::of_optional("search", "search", error))?;
        if self.output == Output::Json {
            output::record(&found);
            return Ok(());
        }
        if found.items.is_empty() {
            self.note("there is none");
        } else {
            let chats = self.messenger().chats(&token).await?;
            let chats: HashMap<ChatId, Chat> = chats.into_iter().map(|chat| (chat.chat_id, chat)).collect();
            let mut titles = HashMap::new();
            for message in &found.items {
                if let Some(chat) = chats.get(&message.chat_id)
                    && !titles.contains_key(&message.chat_id)
                {
                    titles.insert(message.chat_id, self.title(chat).await);
                }
                let title =
                    titles.get(&message.chat_id).map_or("(a chat that you have left)", String::as_str);
                let sender = self.name(message.sender).await;
                output::line(format!("{:>5}  {title}  {sender}: {}", message.seq, excerpt(message)));
            }
        }
        if !found.complete {
            self.note("older messages may be missing: the messenger is still reading them");
        }
        Ok(())
    }
}

/// Returns the part of a text that was found, with what was searched for in brackets.
fn excerpt(message: &FoundMessage) -> String {
    let mark = |found: bool, text: &str| if found { format!("[{text}]") } else { text.to_owned() };
    let parts = message.excerpt.iter().map(|part| mark(part.found, &part.text));
    let edited = if message.edited { " (edited)" } else { "" };
    format!("{}{edited}", output::quoted(&parts.collect::<String>()))
}
