//! Pairs of users who exchange messages through the public address, for measurements.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use contracts::{ChatId, DeviceId};
use posthouse_client::{Event, Messenger, Session};
use tokio::{
    sync::{mpsc, watch},
    time::{interval, timeout},
};

use crate::users::{Online, TestUser};

/// A message arrives within this time, or something is wrong.
const LIMIT: Duration = Duration::from_secs(30);

/// Two users with a chat of their own, both connected.
pub struct Pair {
    pub chat: ChatId,
    /// Who sends.
    pub user: TestUser,
    pub sender: Online,
    /// What the other one receives; the session ends with the pair.
    pub events: mpsc::Receiver<Event>,
    _recipient: Session,
}

impl Pair {
    /// Registers and connects so many pairs.
    pub async fn some(messenger: &Messenger, name: &str, number: usize) -> anyhow::Result<Vec<Self>> {
        let mut users = TestUser::crowd(messenger, name, number * 2).await?.into_iter();
        let mut pairs = Vec::with_capacity(number);
        while let (Some(user), Some(other)) = (users.next(), users.next()) {
            let chat = user.direct_chat(&other).await?;
            let (recipient, events) = Session::open(other.identity, DeviceId::generate());
            recipient.follow(chat, 0).await;
            let sender = user.online(&[chat]).await;
            pairs.push(Self { chat, user, sender, events, _recipient: recipient });
        }
        Ok(pairs)
    }

    /// Sends one message, and returns how long it took until the other one had it.
    pub async fn deliver(&mut self, text: &str) -> anyhow::Result<Duration> {
        let Self { chat, sender, events, .. } = self;
        let began = Instant::now();
        // The push to the recipient may arrive before the ack to the sender.
        let arrival = async {
            receive(events, 1).await?;
            anyhow::Ok(began.elapsed())
        };
        let (_, took) = tokio::try_join!(sender.send(*chat, text), arrival)?;
        Ok(took)
    }

    /// Sends a message at each `pace`, one after the other, until it is stopped. Returns how long each of them took until the other one had it.
    pub async fn talk(
        &mut self,
        pace: Duration,
        stop: watch::Receiver<bool>,
    ) -> anyhow::Result<Vec<Duration>> {
        let (mut clock, mut times) = (interval(pace), Vec::new());
        while !*stop.borrow() {
            clock.tick().await;
            times.push(self.deliver("the kettle is on").await?);
        }
        Ok(times)
    }
}

/// Waits for so many entries.
pub async fn receive(events: &mut mpsc::Receiver<Event>, number: usize) -> anyhow::Result<()> {
    let mut left = number;
    while left > 0 {
        match timeout(LIMIT, events.recv()).await.context("nothing was received in time")? {
            Some(Event::Entry { .. }) => left -= 1,
            Some(Event::Ended { why }) => bail!("the session ended: {why}"),
            Some(_) => {}
            None => bail!("the session is closed"),
        }
    }
    Ok(())
}
