//! What notifications say. Names and texts of others come in as data and stay data: they are values of JSON, or lines of a mail that is
//! plain text, and never a part of a header.

use contracts::{ChatId, UserId};
use kit::mail::Mail;
use serde::Serialize;

/// Most of a text that a notification shows, in characters.
const MAX_EXCERPT_CHARS: usize = 200;
/// Chats that a digest names.
const MAX_DIGEST_CHATS: usize = 20;
/// Most of a title in a digest, in characters.
const MAX_TITLE_CHARS: usize = 80;

/// What a notification says of a chat. It is the payload of pushes and webhooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    pub chat: ChatId,
    /// "direct", "group" or "channel".
    pub kind: String,
    /// Of a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The last text that was not taken.
    pub seq: i64,
    /// Who wrote it, and what, unless it is gone or the user does not want texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<NoticeText>,
    /// What is unread in the chat, and what of it calls the user.
    pub unread: i64,
    pub mentions: i64,
    /// What is unread in all chats.
    pub badge: i64,
}

/// A text of a notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NoticeText {
    pub sender: UserId,
    pub name: String,
    pub text: String,
    pub sent_at_ms: i64,
}

/// What a user has missed in all chats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    pub chats: Vec<Missed>,
    /// In all of them.
    pub unread: i64,
}

/// What a user has missed in one chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Of the chat.
    pub name: String,
    pub unread: i64,
    /// Whether any of it calls the user, as everything does in a direct chat.
    pub is_called: bool,
}

impl Digest {
    /// Leaves out chats where nothing calls the user.
    pub fn keep_called(&mut self) {
        self.chats.retain(|missed| missed.is_called);
        self.unread = self.chats.iter().map(|missed| missed.unread).sum();
    }
}

/// Returns the beginning of a text on one line.
pub fn excerpt(text: &str) -> String {
    cut(text, MAX_EXCERPT_CHARS)
}

/// Returns the beginning of a text, with one blank for all that is blank, or harms the text around it.
fn cut(text: &str, max_chars: usize) -> String {
    let is_harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    let words: String = text.chars().map(|c| if is_harmful(c) { ' ' } else { c }).collect();
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(max_chars) {
        None => line,
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
    }
}

/// Returns the mail of a digest. `origin` is the tenant's address, and `token` ends such mails.
pub fn digest_mail(digest: &Digest, origin: &str, token: &str) -> Mail {
    let host = host(origin);
    let unread = digest.unread;
    let mut text = format!("You have unread messages at {host}.\n\n");
    for Missed { name, unread, .. } in digest.chats.iter().take(MAX_DIGEST_CHATS) {
        text.push_str(&format!("  {}: {unread}\n", cut(name, MAX_TITLE_CHARS)));
    }
    let others = digest.chats.len().saturating_sub(MAX_DIGEST_CHATS);
    if others > 0 {
        text.push_str(&format!("  and {others} other chats\n"));
    }
    text.push_str(&format!(
        "\nOpen {origin}/ to read them. Answers to this mail reach nobody.\n\nTo get no more of these mails, open this \
         link:\n\n{origin}/#notifications_end={token}\n"
    ));
    Mail {
        subject: format!("{unread} unread {} at {host}", if unread == 1 { "message" } else { "messages" }),
        text,
        unsubscribe: Some(format!("{origin}/api/notifications/unsubscriptions/{token}")),
    }
}

/// Returns the mail by which a user confirms an address.
pub fn confirmation_mail(origin: &str, token: &str) -> Mail {
    let host = host(origin);
    Mail {
        subject: format!("Mails from {host}"),
        text: format!(
            "This address was entered for mails about unread messages at {host}. To get them, open this link:\n\n\
             {origin}/#notifications_confirmation={token}\n\nIf it was not you, do nothing: no other mail comes.\n"
        ),
        unsubscribe: None,
    }
}

/// Returns the text message of a digest. It names numbers, and nothing that others wrote: it may lie on a screen that is locked.
pub fn digest_text(digest: &Digest, origin: &str) -> String {
    let (host, chats) = (host(origin), digest.chats.len());
    let messages = if digest.unread == 1 { "message" } else { "messages" };
    let noun = if chats == 1 { "chat" } else { "chats" };
    format!("{} unread {messages} in {chats} {noun} at {host}", digest.unread)
}

/// Returns the text message by which a user confirms a number.
pub fn code_text(code: &str, origin: &str) -> String {
    format!(
        "{code} confirms this number for {} within 10 minutes. If it was not you, do nothing.",
        host(origin)
    )
}

fn host(origin: &str) -> &str {
    origin.split_once("://").map_or(origin, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(name: String, unread: i64) -> Missed {
        Missed { name, unread, is_called: false }
    }

    #[test]
    fn a_name_stays_within_its_line() {
        let name = "Cats\r\nBcc: all@acme.example\r\n\r\n<b>now</b>\u{202e}gnp".to_owned();
        let digest = Digest { chats: vec![missed(name, 3)], unread: 3 };
        let mail = digest_mail(&digest, "https://acme.example", "TOKEN");
        assert!(mail.text.contains("\n  Cats Bcc: all@acme.example <b>now</b> gnp: 3\n"), "{}", mail.text);
        assert_eq!(mail.subject, "3 unread messages at acme.example");
        assert_eq!(
            mail.unsubscribe.as_deref(),
            Some("https://acme.example/api/notifications/unsubscriptions/TOKEN")
        );
    }

    #[test]
    fn a_text_message_has_numbers_and_no_names() {
        let chats = |count: usize| (0..count).map(|n| missed(format!("secret {n}"), 2)).collect();
        let text = |unread: i64, count: usize| {
            digest_text(&Digest { chats: chats(count), unread }, "https://acme.example")
        };
        assert_eq!(text(7, 3), "7 unread messages in 3 chats at acme.example");
        assert_eq!(text(1, 1), "1 unread message in 1 chat at acme.example");
        let code = code_text("012345", "https://acme.example");
        assert!(code.starts_with("012345 ") && code.contains("acme.example") && code.len() <= 160, "{code}");
    }

    #[test]
    fn an_excerpt_is_one_line_of_a_limited_length() {
        assert_eq!(excerpt(" a \n\n b\u{0}c "), "a b c");
        let long = excerpt(&"ä".repeat(MAX_EXCERPT_CHARS + 1));
        assert_eq!(long.chars().count(), MAX_EXCERPT_CHARS + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn a_digest_of_many_chats_names_some() {
        let chats = (0..MAX_DIGEST_CHATS + 2).map(|n| missed(format!("chat {n}"), 1)).collect();
        let mail = digest_mail(&Digest { chats, unread: 1 }, "https://acme.example", "T");
        assert!(mail.text.contains("and 2 other chats"));
        assert_eq!(mail.subject, "1 unread message at acme.example");
    }
}
