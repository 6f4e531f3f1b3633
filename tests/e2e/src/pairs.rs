//! Pairs of users who exchange messages through the public address, for measurements.

use std::time::Duration;

use anyhow::{Context, bail};
use contracts::{ChatId, DeviceId};
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use posthouse_client::{Event, Message, Messenger, Session};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval, sleep_until, timeout},
};

use crate::users::{Online, TestUser};

/// A message arrives within this time, or something is wrong.
const LIMIT: Duration = Duration::from_secs(30);
/// Bytes of a text.
const BODY: usize = 120;
/// Until the first message of a round is due: every pair waits for its own by then.
const LEAD: Duration = Duration::from_millis(20);

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

/// Returns a text of the length that texts of measurements have.
pub fn body() -> String {
    "m".repeat(BODY)
}

/// Sends so many messages through all pairs together, with `under_way` of them under way. Returns how many there were in a second, from the first send until every
/// recipient has everything.
pub async fn rate(pairs: &mut [Pair], messages: usize, under_way: usize) -> anyhow::Result<f64> {
    let (number, each) = (pairs.len(), messages / pairs.len());
    let began = Instant::now();
    let talks = pairs.iter_mut().map(async |Pair { chat, sender, events, .. }| {
        let send = stream::iter(0..each)
            .map(async |_| sender.send(*chat, &body()).await)
            .buffered(under_way / number)
            .try_for_each(async |_| Ok(()));
        tokio::try_join!(send, receive(events, each)).map(drop)
    });
    try_join_all(talks).await?;
    Ok((number * each) as f64 / began.elapsed().as_secs_f64())
}

/// Sends so many messages through all pairs in turn, at a rate: each when it is due, whatever became of those before it. Returns how long each took from then until
/// the recipient had it. The clock of the runtime is late by a millisecond at most, which is part of it.
pub async fn open_loop(
    pairs: &mut [Pair],
    messages: usize,
    per_second: usize,
) -> anyhow::Result<Vec<Duration>> {
    let (number, began) = (pairs.len(), Instant::now() + LEAD);
    let talks = pairs.iter_mut().enumerate().map(async |(first, Pair { chat, sender, events, .. })| {
        let after = |place: usize| Duration::from_secs_f64(place as f64 / per_second as f64);
        let due: Vec<Instant> = (first..messages).step_by(number).map(|place| began + after(place)).collect();
        let sends = try_join_all(due.iter().copied().enumerate().map(async |(place, at)| {
            sleep_until(at).await;
            sender.send(*chat, &numbered(place)).await
        }));
        tokio::try_join!(sends, arrivals(events, &due)).map(|(_, times)| times)
    });
    Ok(try_join_all(talks).await?.concat())
}

/// Returns a text like [`body`] that has a number.
fn numbered(place: usize) -> String {
    format!("{place:m<BODY$}")
}

/// Returns the number that a text has.
fn number_of(body: &str) -> Option<usize> {
    body.trim_end_matches('m').parse().ok()
}

/// Returns how long each message took that was due, once all have come.
async fn arrivals(events: &mut mpsc::Receiver<Event>, due: &[Instant]) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(due.len());
    while times.len() < due.len() {
        let body = entry(events).await?.body;
        let at = number_of(&body).and_then(|place| due.get(place));
        times.push(at.with_context(|| format!("{body:?} was not sent in this round"))?.elapsed());
    }
    Ok(times)
}

/// Waits for so many entries.
async fn receive(events: &mut mpsc::Receiver<Event>, number: usize) -> anyhow::Result<()> {
    for _ in 0..number {
        entry(events).await?;
    }
    Ok(())
}

/// Waits for the next entry.
async fn entry(events: &mut mpsc::Receiver<Event>) -> anyhow::Result<Message> {
    loop {
        match timeout(LIMIT, events.recv()).await.context("nothing was received in time")? {
            Some(Event::Entry { message, .. }) => return Ok(message),
            Some(Event::Ended { why }) => bail!("the session ended: {why}"),
            Some(_) => {}
            None => bail!("the session is closed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_text_is_read_and_does_not_change_its_length() {
        for place in [0, 7, 1_249] {
            let text = numbered(place);
            assert_eq!((text.len(), number_of(&text)), (body().len(), Some(place)));
        }
        assert_eq!(number_of(&body()), None);
    }
}
