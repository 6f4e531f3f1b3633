//! Entries, names and states in words.

use contracts::{
    UserId,
    api::{Chat, OwnChatState},
    event::EntryKind,
    wire::{Attachment, Message, PresenceState},
};
use posthouse_client::ClientError;

use super::{Room, now_ms};
use crate::output::{self, Output};

impl Room {
    pub(super) async fn show(&mut self, message: &Message) {
        if self.output == Output::Json {
            output::record(message);
            return;
        }
        let sender = self.name(message.sender).await;
        let subject = match message.subject {
            Some(subject) => self.name(subject).await,
            None => String::new(),
        };
        let (seq, target) = (message.seq, message.target_seq.unwrap_or_default());
        let body = output::quoted(&message.body);
        output::line(match message.kind {
            EntryKind::Text => format!("{seq:>5}  {sender}{}: {}", reply(message), text(message)),
            EntryKind::Edit => format!("{seq:>5}  * {sender} edited {target}: {body}"),
            EntryKind::Delete => format!("{seq:>5}  * {sender} deleted {target}"),
            EntryKind::DeleteRange => {
                let range = message.range.map(|range| format!("{} to {}", range.from_seq, range.to_seq));
                let of =
                    if subject.is_empty() { String::new() } else { format!(" what {subject} wrote from") };
                format!("{seq:>5}  * {sender} deleted{of} {}", range.unwrap_or_default())
            }
            EntryKind::Reaction => format!("{seq:>5}  * {sender} reacted to {target} with {body}"),
            EntryKind::ReactionRemoved => format!("{seq:>5}  * {sender} took back {body} from {target}"),
            EntryKind::Pin => format!("{seq:>5}  * {sender} pinned {target}"),
            EntryKind::Unpin => format!("{seq:>5}  * {sender} unpinned {target}"),
            EntryKind::MemberAdded => format!("{seq:>5}  * {subject} joined"),
            EntryKind::MemberRemoved if message.subject == Some(message.sender) => {
                format!("{seq:>5}  * {subject} left")
            }
            EntryKind::MemberRemoved => format!("{seq:>5}  * {sender} removed {subject}"),
            EntryKind::RoleChanged => format!("{seq:>5}  * {subject} has the role {body}"),
            EntryKind::TitleChanged => format!("{seq:>5}  * {sender} named the group {body}"),
            EntryKind::TopicChanged if message.body.is_empty() => {
                format!("{seq:>5}  * {sender} removed the topic")
            }
            EntryKind::SlowModeChanged if message.body == "0" => {
                format!("{seq:>5}  * {sender} ended slow mode")
            }
            EntryKind::SlowModeChanged => {
                format!("{seq:>5}  * {sender} lets members write every {body} s")
            }
            EntryKind::TopicChanged => format!("{seq:>5}  * {sender} set the topic: {body}"),
            EntryKind::AvatarChanged if message.body.is_empty() => {
                format!("{seq:>5}  * {sender} removed the picture")
            }
            EntryKind::AvatarChanged => format!("{seq:>5}  * {sender} set the picture: {body}"),
            EntryKind::TtlChanged if message.body == "0" => {
                format!("{seq:>5}  * {sender} lets messages stay")
            }
            EntryKind::TtlChanged => {
                format!("{seq:>5}  * {sender} lets messages disappear after {body} seconds")
            }
        });
    }

    pub(super) async fn title(&mut self, chat: &Chat) -> String {
        if let Some(title) = &chat.title {
            return title.clone();
        }
        let other = match self.identity.token().await {
            Ok(token) => self.messenger().members(&token, chat.chat_id).await.ok(),
            Err(_) => None,
        };
        let me = self.identity.user();
        match other.and_then(|members| members.into_iter().find(|member| member.user_id != me)) {
            Some(member) => format!("@{}", self.name(member.user_id).await),
            None => "direct chat".into(),
        }
    }

    /// Returns the name of a user; the id when the lookup fails.
    pub(super) async fn name(&mut self, user: UserId) -> String {
        if let Some(name) = self.names.get(&user) {
            return name.clone();
        }
        match self.look_up(user).await {
            Ok(name) => {
                self.names.insert(user, name.clone());
                name
            }
            Err(_) => user.to_string(),
        }
    }

    async fn look_up(&self, user: UserId) -> Result<String, ClientError> {
        Ok(self.messenger().user(&self.identity.token().await?, user).await?.username)
    }
}

fn reply(message: &Message) -> String {
    let to = message.target_seq.map(|seq| format!(" (to {seq})")).unwrap_or_default();
    let silent = if message.silent { " (silent)" } else { "" };
    let forwarded = if message.forwarded.is_some() { " (forwarded)" } else { "" };
    format!("{to}{forwarded}{silent}")
}

/// Returns the text of a message with what later entries changed of it.
fn text(message: &Message) -> String {
    let changes = &message.changes;
    if message.expired {
        return "(disappeared)".to_owned();
    }
    if changes.deleted_seq.is_some() {
        return "(deleted)".to_owned();
    }
    let edited = if changes.edited_seq.is_some() { " (edited)" } else { "" };
    let reactions: String =
        changes.reactions.iter().map(|of| format!(" {}{}", output::quoted(&of.emoji), of.count)).collect();
    let files: String = message.attachments.iter().map(|of| format!(" [{}]", file(of))).collect();
    let all = format!("{}{files}{edited}{reactions}", output::quoted(&message.body));
    // A file may come without words.
    all.trim_start().to_owned()
}

/// Returns a file in words: its name and how large it is.
pub(super) fn file(of: &Attachment) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let (mut size, mut unit) = (of.size, 0);
    while size >= 10_000 && unit + 1 < UNITS.len() {
        (size, unit) = (size / 1_000, unit + 1);
    }
    format!("{}, {size} {}", output::quoted(&of.name), UNITS[unit])
}

/// Returns how a user has a chat, in words; `None` when there is nothing to say.
pub(super) fn marks(own: &OwnChatState) -> Option<String> {
    let is_muted = own.muted_until_ms.is_some_and(|until| until > now_ms());
    let marks = [(own.favourite, "favourite"), (is_muted, "muted"), (own.archived, "archived")];
    let marks: Vec<_> = marks.into_iter().filter_map(|(is_set, word)| is_set.then_some(word)).collect();
    (!marks.is_empty()).then(|| marks.join(", "))
}

pub(super) const fn word(state: PresenceState) -> &'static str {
    match state {
        PresenceState::Unknown => "unknown",
        PresenceState::Offline => "offline",
        PresenceState::Away => "away",
        PresenceState::Online => "online",
    }
}
