//! Finds what this gateway did not push. A client sees a gap by the next entry of the chat; after the last one there is none.
//!
//! Now and then the heads that moved are compared with what was announced here. A head that is still ahead a round later is one
//! whose announcement was lost, and the connections of the chat's members receive `lagged`. A quiet chat costs nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use contracts::{
    ChatId, UserId,
    event::LogPlace,
    rpc::{MovedRequest, message_service_client::MessageServiceClient},
};
use kit::{backoff::Backoff, rounds, rpc::InternalChannel};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    membership::members::Members,
    metrics::Metrics,
    registry::{Connection, Registry},
};

/// Announcements are remembered for this long: some rounds. Those of entries that a sync may not have yet are remembered longer.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Chats remembered, some 50 bytes each; of more, all are forgotten, and the comparison begins again.
const MAX_REMEMBERED: usize = 100_000;
/// Waits after a round that failed.
const BACKOFF: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// What was announced lately.
#[derive(Default)]
pub(crate) struct Positions {
    state: Mutex<State>,
}

/// For each partition of the log, the first offset whose entries a sync may not have.
type Places = HashMap<i32, i64>;

#[derive(Default)]
struct State {
    announced: HashMap<ChatId, Announced>,
    /// As of the last round.
    places: Places,
    /// Heads that were ahead in the last round.
    suspects: HashMap<ChatId, i64>,
    /// Where the next round goes on; empty to begin.
    cursor: String,
}

/// The newest entry of a chat that was announced.
#[derive(Clone, Copy)]
struct Announced {
    seq: i64,
    /// Where its record is, as far as that is known.
    place: Option<LogPlace>,
    /// When the chat's last announcement came.
    at: Instant,
}

impl Announced {
    /// Returns whether a sync with these places has the entry.
    fn is_in(&self, places: &Places) -> bool {
        self.place.is_some_and(|LogPlace { partition, offset }| {
            places.get(&partition).is_some_and(|place| offset < *place)
        })
    }
}

impl Positions {
    /// Notes that an entry was announced to this gateway.
    pub(crate) fn announced(&self, chat: ChatId, seq: i64, place: Option<LogPlace>, now: Instant) {
        let mut state = self.lock();
        if state.announced.len() >= MAX_REMEMBERED {
            *state = State::default();
        }
        let announced = state.announced.entry(chat).or_insert(Announced { seq, place, at: now });
        announced.at = now;
        if seq >= announced.seq {
            (announced.seq, announced.place) = (seq, place);
        }
    }

    /// Sends a connection `lagged` for what was announced before it synced, and is behind the places of the sync: the head of a chat follows the
    /// announcement, after an outage of the store much later. `has` says how far a chat is on the page that the client receives.
    pub(crate) fn complete(
        &self,
        members: &Members,
        connection: &Connection,
        user: UserId,
        places: &Places,
        has: impl Fn(ChatId) -> Option<i64>,
    ) {
        // The user's chats, which are few beside all that were announced: every announcement waits for this lock.
        let chats = members.chats_of(user);
        let behind: Vec<(ChatId, i64)> = {
            let state = self.lock();
            let announced = chats.iter().filter_map(|chat| Some((*chat, state.announced.get(chat)?)));
            let missing = announced.filter(|(_, announced)| !announced.is_in(places));
            missing.map(|(chat, announced)| (chat, announced.seq)).collect()
        };
        for (chat, seq) in behind {
            if has(chat).is_none_or(|head| head < seq) && members.size_for(chat, user).is_some() {
                connection.queue.lag(chat, seq);
            }
        }
    }

    /// Sends `lagged` to a user who receives from here on what is delivered to a chat. Some of it may have been announced before, and when
    /// there is nothing yet, no entry tells the user's devices of the chat.
    pub(crate) fn catch_up(&self, registry: &Registry, chat: ChatId, user: UserId) {
        let announced = self.lock().announced.get(&chat).map_or(0, |announced| announced.seq);
        registry.for_user(user, |connection| connection.queue.lag(chat, announced));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the heads that moved, with where the next round goes on, and returns those whose announcement was lost.
    fn compare(
        &self,
        moved: Vec<(ChatId, i64)>,
        (cursor, places): (String, Places),
        now: Instant,
    ) -> Vec<(ChatId, i64)> {
        let mut state = self.lock();
        let is_another_log = state
            .places
            .iter()
            .any(|(partition, before)| places.get(partition).is_some_and(|place| place < before));
        if is_another_log {
            // Its offsets begin again: those from before compare with none of them.
            state.announced.clear();
        }
        let is_behind = |announced: &HashMap<ChatId, Announced>, chat: ChatId, head: i64| {
            announced.get(&chat).is_none_or(|announced| announced.seq < head)
        };
        let suspects = std::mem::take(&mut state.suspects);
        let lost: Vec<(ChatId, i64)> =
            suspects.into_iter().filter(|(chat, head)| is_behind(&state.announced, *chat, *head)).collect();
        for &(chat, head) in &lost {
            state.announced.insert(chat, Announced { seq: head, place: None, at: now });
        }
        for (chat, head) in moved {
            if is_behind(&state.announced, chat, head) {
                state.suspects.insert(chat, head);
            }
        }
        state.announced.retain(|_, announced| {
            let is_settled = announced.place.is_none() || places.is_empty() || announced.is_in(&places);
            !is_settled || now.saturating_duration_since(announced.at) < REMEMBERED
        });
        state.places = places;
        state.cursor = cursor;
        lost
    }

    fn begin_again(&self) {
        *self.lock() = State::default();
    }
}

/// Compares again and again, until stopped.
pub(crate) async fn keep(
    positions: Arc<Positions>,
    messages: MessageServiceClient<InternalChannel>,
    (registry, members): (Arc<Registry>, Arc<Members>),
    metrics: Metrics,
    every: Duration,
    stop: CancellationToken,
) {
    let round = || async {
        if registry.len() == 0 {
            // Nobody would receive it, and the services may rest.
            positions.begin_again();
            return Ok::<(), Status>(());
        }
        let cursor = positions.lock().cursor.clone();
        let answer = messages.clone().moved(MovedRequest { cursor }).await?.into_inner();
        let moved = answer.heads.iter().filter_map(|head| Some((head.chat_id.parse().ok()?, head.head_seq)));
        let next = (answer.cursor, answer.places);
        for (chat, seq) in positions.compare(moved.collect(), next, Instant::now()) {
            metrics.lost_announcements.inc();
            tracing::warn!(%chat, seq, "the announcement of entry {seq} of chat {chat} was lost");
            members.forget_slow_mode(chat);
            members.for_present(chat, |user| {
                registry.for_user(user, |connection| connection.queue.lag(chat, seq));
            });
        }
        Ok(())
    };
    rounds::repeat("comparing positions", every, Backoff::new(BACKOFF), &stop, round).await;
}

#[cfg(test)]
mod tests {
    use contracts::wire::ServerFrame;
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::{frame::payloads, send_queue::SendQueue},
        membership::members::Listing,
    };

    #[test]
    fn a_head_that_stays_ahead_was_lost() {
        let positions = Positions::default();
        let [told, late, lost] = [1, 2, 3].map(|n| ChatId(Uuid::from_u128(n)));
        let now = Instant::now();
        let compare = |moved: &[(ChatId, i64)]| {
            positions.compare(moved.to_vec(), ("next".to_owned(), Places::new()), now)
        };
        positions.announced(told, 5, None, now);
        assert_eq!(compare(&[(told, 5), (late, 3), (lost, 7)]), []);
        positions.announced(late, 3, None, now);
        assert_eq!(compare(&[]), [(lost, 7)], "the announcement of the other one was under way");
        assert_eq!(compare(&[(lost, 7)]), [], "once is enough");
        assert_eq!(compare(&[(lost, 8)]), []);
        assert_eq!(compare(&[]), [(lost, 8)]);
    }

    #[test]
    fn a_sync_is_completed_with_what_was_announced_in_the_chats_of_its_user() {
        let (positions, members) = (Positions::default(), Members::default());
        let (user, now) = (UserId(Uuid::from_u128(9)), Instant::now());
        let chats = [1, 2, 3].map(|n| ChatId(Uuid::from_u128(n)));
        let [theirs, known, _] = chats;
        members.opened(user);
        members.load(user, &[theirs, known].map(|chat| Listing::of_group(chat, 1, 2)));
        for chat in chats {
            positions.announced(chat, 5, None, now);
        }
        let connection = Connection::new(Uuid::nil(), SendQueue::new(1_000, Arc::default()));
        let has = |chat| (chat == known).then_some(5);
        positions.complete(&members, &connection, user, &Places::new(), has);
        let frames: Vec<_> = std::iter::from_fn(|| connection.queue.pop()).collect();
        let [frame] = frames.as_slice() else { panic!("{} frames", frames.len()) };
        let payload = payloads(frame.as_bytes()).concat();
        let frame: ServerFrame = serde_json::from_slice(&payload).expect("a frame");
        let lagged = frame.lagged.expect("what was announced");
        assert_eq!((lagged.chat, lagged.head_seq), (theirs, 5));
    }

    #[test]
    fn an_announcement_is_remembered_until_every_sync_has_its_entry() {
        let positions = Positions::default();
        let [quick, slow] = [1, 2].map(|n| ChatId(Uuid::from_u128(n)));
        let start = Instant::now();
        let at = |offset| Some(LogPlace { partition: 3, offset });
        positions.announced(quick, 7, at(40), start);
        positions.announced(slow, 5, at(41), start);
        // Announced again, it is the same.
        positions.announced(slow, 4, at(20), start);
        let remembered = |places: &[(i32, i64)], now: Instant| {
            positions.compare(Vec::new(), ("next".to_owned(), places.iter().copied().collect()), now);
            let state = positions.lock();
            [quick, slow].map(|chat| state.announced.contains_key(&chat))
        };
        let is_missing = |place: i64| {
            let state = positions.lock();
            !state.announced[&slow].is_in(&Places::from([(3, place)]))
        };
        assert_eq!([41, 42].map(is_missing), [true, false]);
        // The store was away for an hour: the head of one of them is not written yet.
        let later = start + Duration::from_secs(3_600);
        assert_eq!(remembered(&[(3, 41)], start), [true, true]);
        assert_eq!(remembered(&[(3, 41)], later), [false, true]);
        assert_eq!(remembered(&[(3, 42)], later), [false, false]);
        positions.announced(slow, 6, at(42), later);
        assert_eq!(remembered(&[(3, 2)], later), [false, false], "another log");
    }
}
