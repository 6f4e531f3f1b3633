//! Two users by whom it shows whether the optional services of a tenant work, and have everything that is in the log.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{bail, ensure};
use catalog::Topic;
use contracts::{
    ChatId, FileId,
    api::FilePurpose,
    wire::{PresenceState, Watch},
};
use posthouse_client::{Messenger, Post};

use crate::{
    World, eventually,
    faults::Part,
    stack::{Backend, root},
    stories::seen_as,
    users::{Online, TestUser},
};

/// Until a service that came back has everything.
const CATCHING_UP: Duration = Duration::from_secs(60);

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
}

impl Witnesses {
    /// Registers them. The tenant has the media service.
    pub async fn begin(messenger: &Messenger) -> anyhow::Result<Self> {
        let (ann, ben, chat) = TestUser::two(messenger).await?;
        let (phone, other) = (ann.online(&[chat]).await, ben.online(&[chat]).await);
        let photo = ann.identity.upload(FilePurpose::Chat(chat), &photo()).await?.id;
        phone.post(chat, Post::files("look", vec![photo])).await?;
        Ok(Self { ann, ben, chat, phone, other, photo })
    }

    /// Waits until a part that was killed has everything that it missed, as users see it, or as its position in the log says.
    pub async fn see(&self, world: &World, tenant: &str, part: Part) -> anyhow::Result<()> {
        match part {
            Part::Pods("media") | Part::Backend(Backend::S3) => self.see_files().await,
            Part::Pods("search") => self.see_words().await,
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

    /// Waits until what was said last is found.
    pub async fn see_words(&self) -> anyhow::Result<()> {
        let last = self.phone.send(self.chat, "the porridge is ready").await?;
        eventually("the last words are found", CATCHING_UP, || async {
            let found = self.ben.search("porridge").await?;
            ensure!(found.items.iter().any(|of| of.seq == last) && found.complete, "{found:?}");
            Ok(())
        })
        .await
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
