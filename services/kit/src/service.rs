//! What a service is to the process that runs it.

use std::{fmt::Debug, pin::Pin};

use clap::{Arg, ArgMatches, Args, FromArgMatches as _};
use tonic::service::Routes;
use utoipa_axum::router::OpenApiRouter;

use crate::Scope;

/// A service of a tenant: its catalog entry, its settings, and how it is built.
///
/// A process may run any set of services. Each gets a [`Scope`] of its own; what they share (the listeners, the token
/// verifier, signals and the drain) belongs to the [`Process`](crate::Process).
pub trait Service: 'static {
    /// Entry of the service in the catalog.
    const ENTRY: catalog::Service;
    /// Settings that the service reads beside those of its process and the addresses of its peers.
    type Settings: Args + Clone + Debug + Send + Sync + 'static;

    /// Starts the service's tasks and returns its APIs.
    fn build(settings: Self::Settings, scope: &Scope)
    -> impl Future<Output = anyhow::Result<Surface>> + Send;

    /// Creates or updates the service's tables. Repeating it changes nothing.
    fn migrate(_settings: Self::Settings) -> impl Future<Output = anyhow::Result<()>> + Send {
        async { Ok(()) }
    }

    /// Starts the service without backends: what it keeps is gone with the process.
    fn in_memory(memory: &Memory, scope: &Scope) -> anyhow::Result<Surface>;
}

/// What stands for the backends in a process without any, shared by its services.
pub struct Memory {
    /// Stands for Kafka.
    #[cfg(feature = "kafka")]
    pub log: crate::log::Log,
    /// Stands for the cache in Redis.
    pub shelf: crate::cache::Shelf,
    /// Stands for the keys of the tenant's realm.
    #[cfg(feature = "signing")]
    pub issuer: std::sync::Arc<crate::signing::Issuer>,
}

/// The APIs of a service.
pub struct Surface {
    /// The REST API with its state applied. Its description is served at `/docs/<service>`.
    pub api: OpenApiRouter,
    /// The gRPC API, for the tenant's other services.
    pub grpc: Routes,
}

/// A [`Service`] as an element of a list.
#[derive(Clone, Copy)]
pub struct Hosted {
    pub(crate) service: catalog::Service,
    pub(crate) arguments: fn() -> Vec<Arg>,
    pub(crate) settings: fn(&ArgMatches) -> Result<Box<dyn Debug>, clap::Error>,
    pub(crate) build: for<'a> fn(&'a ArgMatches, &'a Scope) -> Pending<'a, Surface>,
    pub(crate) migrate: for<'a> fn(&'a ArgMatches) -> Pending<'a, ()>,
    in_memory: fn(&Memory, &Scope) -> anyhow::Result<Surface>,
}

/// A step of a service of any type.
type Pending<'a, T> = Pin<Box<dyn Future<Output = anyhow::Result<T>> + Send + 'a>>;

impl Hosted {
    /// Returns the element for a service.
    pub const fn of<S: Service>() -> Self {
        Self {
            service: S::ENTRY,
            arguments: arguments::<S::Settings>,
            settings: settings::<S::Settings>,
            build: build::<S>,
            migrate: migrate::<S>,
            in_memory: S::in_memory,
        }
    }

    /// Returns the entry in the catalog.
    pub fn service(&self) -> catalog::Service {
        self.service
    }

    /// Starts the service without backends, as [`Service::in_memory`] does.
    pub fn in_memory(&self, memory: &Memory, scope: &Scope) -> anyhow::Result<Surface> {
        (self.in_memory)(memory, scope)
    }
}

fn arguments<A: Args>() -> Vec<Arg> {
    A::augment_args(clap::Command::new("settings")).get_arguments().cloned().collect()
}

fn settings<A: Args + Debug + 'static>(matches: &ArgMatches) -> Result<Box<dyn Debug>, clap::Error> {
    Ok(Box::new(A::from_arg_matches(matches)?))
}

fn build<'a, S: Service>(matches: &'a ArgMatches, scope: &'a Scope) -> Pending<'a, Surface> {
    Box::pin(async move { S::build(S::Settings::from_arg_matches(matches)?, scope).await })
}

fn migrate<S: Service>(matches: &ArgMatches) -> Pending<'_, ()> {
    Box::pin(async move { S::migrate(S::Settings::from_arg_matches(matches)?).await })
}
