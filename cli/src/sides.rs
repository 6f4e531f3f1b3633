//! The two ends of a conversation that this program holds with itself: users of its own, and what each connection is shown.

#![expect(clippy::disallowed_methods, reason = "names and passwords of these users are their own")]

use std::time::Duration;

use contracts::{
    ChatId, DeviceId, MessageKey, UserId,
    api::{CreateChatRequest, RegisterRequest},
    wire::Message,
};
use posthouse_client::{Event, Identity, Messenger, Session};
use rand::seq::IndexedRandom;
use tokio::{sync::mpsc, time::timeout};

use crate::failure::{Exit, Failure};

/// A message that is not stored and delivered within this time counts as missing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const NAMES: [&str; 16] = [
    "juniper", "walter", "odile", "anton", "mabel", "cyrus", "ines", "hugo", "petra", "silas", "noor",
    "emil", "wanda", "kofi", "lucia", "bram",
];

/// Registers two users, who stay in the tenant's realm, and opens their direct chat.
pub(crate) async fn two_users(messenger: &Messenger) -> Result<([Identity; 2], ChatId), Failure> {
    let [first_name, second_name] = two_names();
    let (first, second) =
        tokio::try_join!(newcomer(messenger, first_name), newcomer(messenger, second_name))?;
    let request = CreateChatRequest::direct(second.user());
    let chat = messenger.create_chat(&first.token().await?, &request).await?.chat_id;
    Ok(([first, second], chat))
}

/// Registers a user under a new name and signs in.
async fn newcomer(messenger: &Messenger, name: String) -> Result<Identity, Failure> {
    let password = format!("Demo-{:032x}", rand::random::<u128>());
    let mut display_name = name.split('-').next().unwrap_or(&name).to_owned();
    display_name[..1].make_ascii_uppercase();
    let request = RegisterRequest {
        username: name.clone(),
        password: password.clone(),
        display_name: Some(display_name),
    };
    messenger.register(&request).await?;
    Ok(Identity::sign_in(messenger, &name, &password).await?)
}

fn two_names() -> [String; 2] {
    let mut rng = rand::rng();
    let mut names = NAMES.choose_multiple(&mut rng, 2);
    std::array::from_fn(|_| {
        let name = names.next().expect("there are two names");
        format!("{name}-{:04x}", rand::random::<u16>())
    })
}

/// One end: the session of a user, and every entry of the chat it returned.
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) user: UserId,
    pub(crate) session: Session,
    events: mpsc::Receiver<Event>,
    pub(crate) seen: Vec<Message>,
}

impl Side {
    /// Connects, and follows a chat from the entry after `after` on.
    pub(crate) async fn open(identity: &Identity, chat: ChatId, after: i64) -> Result<Self, Failure> {
        let (session, mut events) = Session::open(identity.clone(), DeviceId::generate());
        session.follow(chat, after).await;
        let next = "`posthouse status -A` shows whether the gateway is ready";
        let connected = timeout(PATIENCE, async {
            while let Some(event) = events.recv().await {
                match event {
                    Event::Connected { .. } => return Ok(()),
                    Event::Ended { why } => return Err(why),
                    _ => {}
                }
            }
            Err("the session ended".into())
        });
        match connected.await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => {
                let what = format!("{} could not connect: {why}", identity.username());
                return Err(Failure::new(Exit::Refused, what, next));
            }
            Err(_) => {
                let what = format!("{} could not connect in {} s", identity.username(), PATIENCE.as_secs());
                return Err(Failure::new(Exit::Unreachable, what, next));
            }
        }
        Ok(Self {
            name: identity.username().to_owned(),
            user: identity.user(),
            session,
            events,
            seen: Vec::new(),
        })
    }

    /// Reads events until the entry with `seq` has arrived.
    pub(crate) async fn sees(&mut self, seq: i64) -> Result<(), String> {
        while self.seen.last().is_none_or(|message| message.seq < seq) {
            self.receive().await?;
        }
        Ok(())
    }

    /// Reads events until the entry that was sent with a key has arrived. Returns its seq.
    pub(crate) async fn sees_key(&mut self, key: MessageKey) -> Result<i64, String> {
        loop {
            if let Some(message) = self.seen.iter().rfind(|message| message.key == key) {
                return Ok(message.seq);
            }
            self.receive().await?;
        }
    }

    /// Reads one event.
    async fn receive(&mut self) -> Result<(), String> {
        match self.events.recv().await {
            Some(Event::Entry { message, .. }) => self.seen.push(message),
            Some(Event::Unreadable { code, .. }) => {
                return Err(format!("{} cannot read the chat: {code}", self.name));
            }
            Some(Event::Ended { why }) => return Err(format!("{}'s session ended: {why}", self.name)),
            Some(
                Event::Connected { .. }
                | Event::Disconnected { .. }
                | Event::Elsewhere(_)
                | Event::Presence(_)
                | Event::Typing(_)
                | Event::Synced(_)
                | Event::Marked(_)
                | Event::OwnState(_),
            ) => {}
            None => return Err(format!("{}'s session has ended", self.name)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_have_different_names() {
        for _ in 0..50 {
            let [first, second] = two_names();
            assert_ne!(first.split('-').next(), second.split('-').next());
        }
    }
}
