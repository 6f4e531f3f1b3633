//! Takes from the chat service what `chat.events` did not bring.
//!
//! A record that is lost shows by the number of the next one of its chat, and the last one has none behind it: the topic may have been created
//! again, or cut off before this gateway read it. So every gateway reads now and then what was published lately, which is nothing in a
//! quiet tenant, and compares it with what it knows of its own users.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::{
    ChatId, UserId,
    rpc::{
        ListPublishedRequest, ListPublishedResponse, PublishedRecord, chat_service_client::ChatServiceClient,
    },
};
use kit::{
    backoff::Backoff,
    rounds,
    rpc::{self, InternalChannel},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::Membership;
use crate::{
    domain::record::{self, News, Place},
    metrics::Metrics,
    positions::Positions,
    registry::Registry,
};

/// A call that takes longer has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Waits after a round that failed.
const BACKOFF: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);
/// The chat service lists what was published in ten minutes. Who has not read it for half of that may have missed some.
const MISSED_AFTER: Duration = Duration::from_secs(300);

/// How far this gateway has read.
#[derive(Default)]
struct Reading {
    /// Where the next call goes on; 0 to begin.
    after: i64,
    /// When all was read that was listed.
    read_at: Option<Instant>,
}

/// What was published last of each user in a chat.
type Places = BTreeMap<(ChatId, UserId), Place>;

/// Reads again and again, until stopped.
pub(crate) async fn keep(
    membership: Arc<Membership>,
    (positions, registry): (Arc<Positions>, Arc<Registry>),
    metrics: Metrics,
    every: Duration,
    stop: CancellationToken,
) {
    let reading = tokio::sync::Mutex::new(Reading::default());
    let round = || async {
        let mut reading = reading.lock().await;
        if registry.len() == 0 {
            // Who connects is loaded, and the chat service may rest.
            *reading = Reading::default();
            return Ok::<(), Status>(());
        }
        let has_missed = reading.read_at.is_some_and(|at| at.elapsed() >= MISSED_AFTER);
        let places = read(&membership, &mut reading).await?;
        if has_missed {
            tracing::warn!(
                "what was published of chats was not read for too long; loading the chats of all users"
            );
            membership.members.users().into_iter().for_each(|user| membership.load(user));
        }
        for ((chat, user), place) in places {
            if membership.take_published(chat, user, place) {
                metrics.lost_memberships.inc();
                tracing::warn!(%chat, version = place.version, "record {} of the members of chat {chat} was lost", place.version);
                if place.role.is_some() {
                    positions.catch_up(&registry, chat, user);
                }
            }
        }
        Ok(())
    };
    rounds::repeat("reading what was published of chats", every, Backoff::new(BACKOFF), &stop, round).await;
}

/// Reads what is listed, to its end: of two records of one user the later one counts.
async fn read(membership: &Membership, reading: &mut Reading) -> Result<Places, Status> {
    let mut places = Places::new();
    let mut after = reading.after;
    loop {
        let page = match page(membership.chat.clone(), after).await {
            Ok(page) => page,
            // A chat service of before, during an update.
            Err(status) if status.code() == Code::Unimplemented => return Ok(places),
            Err(status) => return Err(status),
        };
        let ListPublishedResponse { records, last, more } = page;
        for PublishedRecord { key, payload } in records {
            match record::news(Some(key.as_bytes()), Some(payload.as_bytes())) {
                Ok(News::Place(chat, user, place)) => {
                    places.insert((chat, user), place);
                }
                Ok(News::Own(..) | News::Forgotten) => {}
                Err(why) => tracing::warn!(%why, "skipped a record that was published: {why}"),
            }
        }
        after = last;
        if !more {
            *reading = Reading { after, read_at: Some(Instant::now()) };
            return Ok(places);
        }
    }
}

async fn page(
    mut chat: ChatServiceClient<InternalChannel>,
    after: i64,
) -> Result<ListPublishedResponse, Status> {
    rpc::within(CALL_TIMEOUT, chat.list_published(ListPublishedRequest { after })).await
}
