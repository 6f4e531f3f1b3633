//! Messages that are found by their words.

use std::{collections::HashMap, iter};

use contracts::{
    ChatId,
    api::{Chat, ExcerptPart, FoundMessage},
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

/// Returns the part of a text that was found and the names of the files, with what was searched for in brackets.
fn excerpt(message: &FoundMessage) -> String {
    let edited = if message.edited { " (edited)" } else { "" };
    let text = format!("{}{edited}", output::quoted(&marked(&message.excerpt)));
    let files = message.files.iter().map(|file| format!("(file {})", output::quoted(&marked(&file.name))));
    let shown: Vec<_> = iter::once(text).chain(files).filter(|part| !part.is_empty()).collect();
    shown.join(" ")
}

fn marked(parts: &[ExcerptPart]) -> String {
    let mark = |part: &ExcerptPart| if part.found { format!("[{}]", part.text) } else { part.text.clone() };
    parts.iter().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use contracts::{FileId, UserId, api::FoundFile};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_was_found_is_in_brackets_in_the_text_and_in_the_names_of_files() {
        let part = |text: &str, found| ExcerptPart { text: text.to_owned(), found };
        let file = FoundFile {
            file: FileId(Uuid::nil()),
            name: vec![part("red", true), part(".png", false)],
            media_type: "image/png".to_owned(),
            size: 7,
        };
        let found = FoundMessage {
            chat_id: ChatId(Uuid::nil()),
            seq: 1,
            sender: UserId(Uuid::nil()),
            sent_at_ms: 0,
            reply_to: None,
            edited: false,
            excerpt: vec![part("a ", false), part("car", true)],
            files: vec![file.clone()],
        };
        assert_eq!(excerpt(&found), "a [car] (file [red].png)");
        assert_eq!(excerpt(&FoundMessage { excerpt: Vec::new(), ..found }), "(file [red].png)");
    }
}
