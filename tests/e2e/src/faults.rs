//! What stories kill.

use std::time::Duration;

use anyhow::Context as _;

use crate::{
    World,
    stack::{Backend, Signal, Stack},
};

/// From a kill until the part is ready again.
pub const RECOVERY: Duration = Duration::from_secs(120);

/// A part on the path of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The pods of a service, or of all of them: `compact`.
    Pods(&'static str),
    Backend(Backend),
}

impl Part {
    /// What distributed services depend on.
    pub const PATH: [Self; 4] = [
        Self::Pods("message"),
        Self::Pods("gateway"),
        Self::Backend(Backend::Kafka),
        Self::Backend(Backend::Cassandra),
    ];

    /// What messages go on without and every stack has: the optional services, and the store of files.
    pub const BESIDE_PATH: [Self; 6] = [
        Self::Pods("media"),
        Self::Pods("search"),
        Self::Pods("notification"),
        Self::Pods("moderation"),
        Self::Pods("presence"),
        Self::Backend(Backend::S3),
    ];

    /// Returns it in words.
    pub fn name(self) -> String {
        match self {
            Self::Pods(service) => format!("{service} pods"),
            Self::Backend(backend) => format!("{backend:?}"),
        }
    }

    /// Kills it without a grace period, and waits until it is ready again.
    pub async fn kill(self, world: &World, tenant: &str) -> anyhow::Result<()> {
        let killed = async {
            match self {
                Self::Pods(service) => world.cluster.replace_pods(tenant, service, RECOVERY).await,
                Self::Backend(backend) => Killed::kill(&world.stack, backend).await?.start().await,
            }
        };
        killed.await.with_context(|| format!("killing the {}", self.name()))
    }
}

/// A backend that is gone.
#[must_use = "it does not come back by itself"]
pub struct Killed<'a>(&'a Stack);

impl<'a> Killed<'a> {
    /// Kills a backend without a grace period.
    pub async fn kill(stack: &'a Stack, backend: Backend) -> anyhow::Result<Self> {
        stack.signal(backend, Signal::Kill)?;
        stack.await_end(backend).await?;
        Ok(Self(stack))
    }

    /// Starts it, and waits until it responds.
    pub async fn start(self) -> anyhow::Result<()> {
        self.0.start_backends().await
    }
}

/// A backend that hangs until this is dropped, whatever becomes of the story.
pub struct Hung<'a> {
    stack: &'a Stack,
    backend: Backend,
}

impl<'a> Hung<'a> {
    /// Stops the process of a backend.
    pub fn stop(stack: &'a Stack, backend: Backend) -> anyhow::Result<Self> {
        let hung = Self { stack, backend };
        stack.signal(backend, Signal::Stop)?;
        Ok(hung)
    }
}

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        self.stack.signal(self.backend, Signal::Continue).expect("the stopped process is there");
    }
}
