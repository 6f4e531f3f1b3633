//! Everything is lost at once and comes back: what was stored before has its place.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use contracts::{ChatId, MessageKey};
use e2e::{
    World,
    faults::RECOVERY,
    report,
    stack::{Backend, Signal},
    story,
    users::{Online, TestUser},
};
use posthouse_client::Post;
use tokio::time::timeout;

const TENANTS: [&str; 2] = ["acme", "globex"];
const LIMIT: Duration = Duration::from_secs(480);
/// From a send until it is stored, also while services still come back.
const BACK: Duration = Duration::from_secs(90);

/// What was sent, and the place of each entry.
struct Sent {
    user: TestUser,
    chat: ChatId,
    posts: Vec<(MessageKey, Post, i64)>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_its_seq_after_everything_was_restarted() {
    story(LIMIT, async |world: &World| {
        let mut sent = BTreeMap::new();
        for tenant in TENANTS {
            sent.insert(tenant, Sent::begin(world, tenant).await?);
        }

        let backends = [
            Backend::Kafka,
            Backend::Cassandra,
            Backend::Postgres,
            Backend::Redis,
            Backend::Keycloak,
            Backend::S3,
        ];
        for backend in backends {
            world.stack.signal(backend, Signal::Kill)?;
        }
        let mut killed = HashMap::new();
        for tenant in TENANTS {
            killed.insert(tenant, world.cluster.kill_all_pods(tenant).await?);
        }
        for backend in backends {
            world.stack.await_end(backend).await?;
        }
        world.stack.start_backends().await?;
        for tenant in TENANTS {
            world.cluster.await_ready(tenant, RECOVERY).await?;
        }
        report(format!("killed at once: {backends:?}, and pods: {killed:?}"));

        for (tenant, sent) in sent {
            sent.end().await.with_context(|| format!("tenant {tenant}"))?;
        }
        Ok(())
    })
    .await;
}

impl Sent {
    /// A user writes one entry of each kind that a client sends.
    async fn begin(world: &World, tenant: &str) -> anyhow::Result<Self> {
        let (user, _, chat) = TestUser::two(&world.stack.messenger(tenant)).await?;
        let online = user.online(&[chat]).await;
        let mut posts = Vec::new();
        let write = async |post: Post| {
            let key = MessageKey::generate();
            let seq = stored(&online, chat, key, post.clone()).await?;
            anyhow::Ok((key, post, seq))
        };
        for body in ["stays", "is edited", "is deleted"] {
            posts.push(write(body.into()).await?);
        }
        let [stays, edited, deleted] = [0, 1, 2].map(|number: usize| posts[number].2);
        let later = [
            Post::Edit { seq: edited, body: "was edited".to_owned() },
            Post::Delete { seq: deleted },
            Post::React { seq: stays, emoji: "\u{1f40e}".to_owned(), remove: false },
            Post::React { seq: stays, emoji: "\u{1f40e}".to_owned(), remove: true },
            Post::Pin { seq: stays, remove: false },
            Post::Forward { from_chat: chat, from_seq: stays },
        ];
        for post in later {
            posts.push(write(post).await?);
        }
        Ok(Self { user, chat, posts })
    }

    /// Their devices send all of it again, in a session that knows nothing of it.
    async fn end(self) -> anyhow::Result<()> {
        let Self { user, chat, posts } = self;
        let user = user.sign_in_again().await?;
        let before = user.history(chat).await?;
        let online = user.online(&[chat]).await;
        for (key, post, seq) in &posts {
            let again = stored(&online, chat, *key, post.clone()).await?;
            ensure!(again == *seq, "{post:?} was stored at {seq}, and now at {again}");
        }
        let next = online.send(chat, "goes on").await?;
        let last = before.last().map_or(0, |entry| entry.seq);
        ensure!(next == last + 1, "after {last} comes {next}");
        let after = user.history(chat).await?;
        ensure!(after[..before.len()] == before, "the history is otherwise:\n{before:#?}\n{after:#?}");
        Ok(())
    }
}

async fn stored(online: &Online, chat: ChatId, key: MessageKey, post: Post) -> anyhow::Result<i64> {
    let outcome = timeout(BACK, online.session.send_keyed(chat, key, post.clone())).await;
    let receipt = outcome.with_context(|| format!("{post:?} is not stored after {BACK:?}"))?;
    Ok(receipt.with_context(|| format!("{post:?}"))?.seq)
}
