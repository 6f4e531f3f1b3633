//! What comes in from the session, as the terminal shows it.

use std::io::IsTerminal as _;

use contracts::{
    event::EntryKind,
    wire::{self, Message, OwnState, PresenceState, SyncPage, UserPresence},
};
use posthouse_client::Event;

use super::{
    Room,
    shown::{marks, word},
};
use crate::{
    failure::{Exit, Failure},
    output::{self, Output},
};

impl Room {
    pub(super) async fn event(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Entry { message, .. } => self.entry(message).await,
            Event::Elsewhere(message) => self.elsewhere(&message).await,
            Event::Presence(users) => self.presence(users).await,
            Event::Typing(typing) if std::io::stderr().is_terminal() => {
                let name = self.name(typing.user).await;
                self.note(&format!("{name} is typing"));
            }
            Event::Synced(page) => self.synced(page),
            Event::Marked(receipt) => self.marked(&receipt).await,
            Event::OwnState(own_state) => self.own_state(&own_state).await,
            Event::Connected { .. } | Event::Typing(_) => {}
            Event::Disconnected { why } => self.note(&format!("connection lost ({why}); reconnecting")),
            Event::Unreadable { chat, code } => {
                self.note(&format!("chat {chat} is no longer readable: {code}"));
                self.open = self.open.filter(|open| *open != chat);
                // One who comes back has the chat as any other.
                self.own_versions.remove(&chat);
            }
            Event::Ended { why } => {
                return Err(Failure::new(
                    Exit::Refused,
                    format!("the session ended: {why}"),
                    "sign in again",
                ));
            }
        }
        Ok(())
    }

    async fn entry(&mut self, message: Message) {
        if self.unshown.get(&message.chat).is_some_and(|&seq| seq <= message.seq) {
            self.unshown.remove(&message.chat);
        }
        let is_own = message.sender == self.identity.user();
        if self.open == Some(message.chat) || self.output == Output::Json {
            self.show(&message).await;
            if !is_own {
                // Who sees it has read it.
                self.session.read(message.chat, message.seq).await;
            }
        } else {
            self.elsewhere(&message).await;
        }
        self.shown.insert(message.chat, message.seq);
    }

    /// Shows once what was missed, when the first sync is over.
    fn synced(&mut self, page: SyncPage) {
        for of in &page.chats {
            self.own_versions.insert(of.chat, of.own.version);
            self.unread.insert(of.chat, of.watermarks.unread);
        }
        if page.more || self.is_synced {
            return;
        }
        self.is_synced = true;
        if page.unread > 0 && self.output != Output::Json {
            let calls = if page.mentions > 0 {
                format!(", {} of them call you", page.mentions)
            } else {
                String::new()
            };
            self.note(&format!("{} unread messages{calls}: /chats shows where", page.unread));
        }
    }

    /// Notes what is unread on all devices, and shows that another user has read the open chat.
    async fn marked(&mut self, receipt: &wire::Receipt) {
        if receipt.user == self.identity.user() {
            self.unread.insert(receipt.chat, receipt.unread.unwrap_or_default());
        } else if let Some(seq) = receipt.read_seq
            && self.open == Some(receipt.chat)
            && std::io::stderr().is_terminal()
        {
            let name = self.name(receipt.user).await;
            self.note(&format!("{name} has read up to {seq}"));
        }
    }

    /// Notes how members of the open chat are, and shows who has come or gone.
    async fn presence(&mut self, users: Vec<UserPresence>) {
        for UserPresence { user, state, .. } in users {
            let before = self.presence.insert(user, state);
            let is_news = before.is_some_and(|before| before != state && before != PresenceState::Unknown);
            if is_news && state != PresenceState::Unknown && std::io::stderr().is_terminal() {
                let name = self.name(user).await;
                self.note(&format!("{name} is {}", word(state)));
            }
        }
    }

    async fn elsewhere(&mut self, message: &Message) {
        if message.sender != self.identity.user() {
            self.session.delivered(message.chat, message.seq).await;
            *self.unread.entry(message.chat).or_default() += i64::from(message.kind == EntryKind::Text);
            if message.silent {
                return;
            }
            let name = self.name(message.sender).await;
            self.note(&format!("new message from {name} in another chat: /open {}", message.chat));
        }
    }

    /// Shows once how the user has a chat, by this program or on another device.
    pub(super) async fn own_state(&mut self, OwnState { chat, own }: &OwnState) {
        let known = self.own_versions.entry(*chat).or_default();
        if *known >= own.version {
            return;
        }
        *known = own.version;
        let which = if self.open == Some(*chat) { "this chat".to_owned() } else { format!("chat {chat}") };
        self.note(&format!("{which} is now {}", marks(own).unwrap_or("neither muted nor archived".into())));
        if own.scheduled_refused > 0 {
            self.note("a scheduled message was refused; /scheduled lists it");
        }
        if let Some(draft) = &own.draft {
            self.note(&format!("your draft there: {}", output::quoted(&draft.body)));
        }
    }
}
