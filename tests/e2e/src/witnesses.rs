//! Two users by whom it shows whether the optional services of a tenant work, and have everything that is in the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{bail, ensure};
use catalog::Topic;
use contracts::{
    ChatId, FileId,
    api::{FilePurpose, FoundMessages},
    wire::{PresenceState, Watch},
};
use posthouse_client::{Messenger, Post};
use reqwest::StatusCode;
use tokio::time::sleep;

use crate::{
    World, eventually,
    faults::Part,
    rest::request,
    stack::{Backend, root},
    stories::seen_as,
    users::{Online, TestUser, unused},
};

/// Until a service that came back has everything.
const CATCHING_UP: Duration = Duration::from_secs(60);
/// Most messages of a page of a search.
const PAGE: usize = 50;
/// After a search that was one too many: a user has two a second in the long run.
const PAUSE: Duration = Duration::from_secs(1);

/// Returns a picture of 48 x 32 pixels in whose metadata `SECRET` stands several times.
pub fn photo() -> PathBuf {
    root().join("services/media/tests/fixtures/metadata.png")
}

/// The users, connected, with a chat in which a photo was sent.
pub struct Witnesses {
    pub ann: TestUser,
    pub ben: TestUser,
    pub chat: ChatId,
    pub phone: Online,
    pub other: Online,
    pub photo: FileId,
    said: Mutex<Said>,
}

/// Entries of the chat that have a word in common which no other entry has.
#[derive(Clone)]
struct Said {
    word: String,
    seqs: BTreeSet<i64>,
}

impl Said {
    fn nothing() -> Self {
        Self { word: unused("porridge").replace('-', ""), seqs: BTreeSet::new() }
    }
}

impl Witnesses {
    /// Registers them. The tenant has the media service.
    pub async fn begin(messenger: &Messenger) -> anyhow::Result<Self> {
        let (ann, ben, chat) = TestUser::two(messenger).await?;
        let (phone, other) = (ann.online(&[chat]).await, ben.online(&[chat]).await);
        let photo = ann.identity.upload(FilePurpose::Chat(chat), &photo()).await?.id;
        phone.post(chat, Post::files("look", vec![photo])).await?;
        Ok(Self { ann, ben, chat, phone, other, photo, said: Mutex::new(Said::nothing()) })
    }

    /// Waits until a part that was killed has everything that it missed, as users see it, or as its position in the log says.
    pub async fn see(&self, world: &World, tenant: &str, part: Part) -> anyhow::Result<()> {
        match part {
            Part::Pods("media") | Part::Backend(Backend::S3) => self.see_files().await,
            Part::Pods("search") | Part::Backend(Backend::OpenSearch) => self.see_words().await,
            Part::Pods("presence") => self.see_presence().await,
            Part::Pods("notification") => {
                let query = "SELECT partition, next_offset FROM notification_service.positions
                    WHERE topic = 'message.delivered'";
                caught_up(world, tenant, query).await
            }
            Part::Pods("moderation") => {
                caught_up(world, tenant, "SELECT partition, next_offset FROM moderation_service.positions")
                    .await
            }
            other => bail!("the {} have nothing to catch up with", other.name()),
        }
    }

    /// Waits until files come and go.
    pub async fn see_files(&self) -> anyhow::Result<()> {
        eventually("files come and go", CATCHING_UP, || async {
            self.ben.content(self.photo).await?;
            self.ann.identity.upload(FilePurpose::Chat(self.chat), &photo()).await?;
            Ok(())
        })
        .await
    }

    /// Says something that is to be found.
    pub async fn say(&self) -> anyhow::Result<()> {
        let word = self.said().word.clone();
        let seq = self.phone.send(self.chat, &format!("the {word} is ready")).await?;
        self.said().seqs.insert(seq);
        Ok(())
    }

    /// Waits until everything is found that was said, also while what finds it was gone, and each entry once.
    pub async fn see_words(&self) -> anyhow::Result<()> {
        self.see_words_within(CATCHING_UP).await
    }

    /// Waits as [`Self::see_words`], for an index that is built from the beginning.
    pub async fn see_words_within(&self, limit: Duration) -> anyhow::Result<()> {
        self.say().await?;
        let Said { word, seqs } = self.said().clone();
        eventually("all that was said is found", limit, || async {
            let (found, is_complete) = self.found(&word).await?;
            let once: BTreeSet<i64> = found.iter().copied().collect();
            ensure!(once.len() == found.len(), "of {found:?} some are found twice");
            let missing: Vec<&i64> = seqs.difference(&once).collect();
            ensure!(missing.is_empty(), "of {} entries these are not found: {missing:?}", seqs.len());
            ensure!(is_complete, "the index is not complete");
            Ok(())
        })
        .await?;
        *self.said() = Said::nothing();
        Ok(())
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the entries that are found by a word, and whether everything was searched.
    async fn found(&self, word: &str) -> anyhow::Result<(Vec<i64>, bool)> {
        let (mut seqs, mut is_complete, mut cursor) = (Vec::new(), true, String::new());
        loop {
            let line = format!("GET /api/search/messages?q={word}&limit={PAGE}{cursor}");
            let answer = request(self.ben.messenger(), &line, Some(&self.ben.token().await?), None).await?;
            if answer.status == StatusCode::TOO_MANY_REQUESTS {
                sleep(PAUSE).await;
                continue;
            }
            let page: FoundMessages = serde_json::from_value(answer.ok()?)?;
            seqs.extend(page.items.iter().map(|of| of.seq));
            is_complete &= page.complete;
            let Some(next) = page.next_cursor else { return Ok((seqs, is_complete)) };
            cursor = format!("&cursor={next}");
        }
    }

    /// Waits until one sees that the other is there.
    pub async fn see_presence(&self) -> anyhow::Result<()> {
        // What was seen before says nothing of now.
        self.phone.seen().presence.clear();
        self.phone.session.watch(Watch { users: vec![self.ben.id()], chats: vec![self.chat] }).await;
        seen_as(&self.phone, &self.ben, PresenceState::Online).await?;
        Ok(())
    }
}

/// Waits until a service has noted that it read `message.delivered` of a tenant as far as it is written now. `positions` selects its partitions
/// and the next offset of each.
async fn caught_up(world: &World, tenant: &str, positions: &'static str) -> anyhow::Result<()> {
    let ends = world.stack.topic_ends(&Topic::MessageDelivered.of(tenant)).await?;
    let account = world.cluster.account(tenant, "postgres").await?;
    eventually("the log is read to its end", CATCHING_UP, || async {
        let mut database = world.stack.postgres(&account, &format!("mt_{tenant}")).await?;
        let rows: Vec<(i32, Option<i64>)> = sqlx::query_as(positions).fetch_all(&mut database).await?;
        let read: BTreeMap<i32, Option<i64>> = rows.into_iter().collect();
        for (partition, end) in &ends {
            let next = read.get(partition).copied().flatten().unwrap_or_default();
            ensure!(next >= *end, "partition {partition} is read up to {next} of {end}");
        }
        Ok(())
    })
    .await
}
