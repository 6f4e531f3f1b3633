//! The auth service: registration and sign-in over the tenant's realm.
//!
//! # Owns
//! Nothing: accounts and sessions are the realm's. This service has a service account in that one realm, which
//! manages users and nothing else. For a few seconds Redis has what refresh tokens gave, so that all replicas give the same, and for
//! 15 minutes what links in mails stand for.
//!
//! # Endpoints
//! - `POST /api/auth/register`, `POST /api/auth/change-password`, `POST /api/auth/delete-account`: accounts.
//! - `GET /api/auth/providers`, `GET` and `POST /api/auth/login`, `GET /api/auth/callback`: sign-in with external identity providers.
//! - `POST /api/auth/password/forgot`, `POST /api/auth/password/reset`, `/api/auth/email`: recovery of an account by mail.
//! - `POST /api/auth/sign-in`, `POST /api/auth/refresh`, `POST /api/auth/sign-out`: sessions.
//! - `GET` and `DELETE /api/auth/sessions`, `DELETE /api/auth/sessions/{session}`: sessions of a user on all devices.
//!
//! - gRPC `posthouse.v1.AccountService`: `SetAccountClosed` and `GetAccountClosed`, for bans; `ListSessions` and `EndSession`, for moderators
//!   and for pushes to devices.
//!
//! It reports registrations and deletions to the user service over gRPC, which keeps the deletions that are not finished.
//!
//! # Publishes
//! `session.events`, key = user id: a [`contracts::event::SessionEndRecord`] for every session that ends before its time,
//! and for every account that is deleted. The request that ended it is answered once the log has the record.

pub mod api;
pub mod config;
pub mod deletions;
pub mod domain;
pub mod error;
pub mod events;
pub mod external;
pub mod guard;
pub mod metrics;
pub mod recovery;
mod sealed;
pub mod store;

use std::sync::Arc;

use anyhow::Context as _;
use contracts::rpc::{account_service_server::AccountServiceServer, user_service_client::UserServiceClient};
use kit::{Memory, Scope, Service, Surface, catalog, log::Log, mail::Mailer};
use tonic::service::Routes;

use crate::{
    api::{AppState, grpc::AccountRpc},
    config::{Registration, Settings},
    deletions::Deletions,
    domain::attempts::AttemptRates,
    events::SessionEvents,
    external::External,
    guard::{Guard, Refreshes},
    metrics::Metrics,
    recovery::Recovery,
    store::{AccountStore, Keycloak, MemoryStore, SharedRefreshes, Tickets},
};

/// The auth service.
pub struct Auth;

impl Service for Auth {
    const ENTRY: catalog::Service = catalog::Service::Auth;
    type Settings = Settings;

    async fn build(settings: Settings, scope: &Scope) -> anyhow::Result<Surface> {
        let Settings { realm, external, mail, kafka, redis, registration } = settings;
        let mailer = Mailer::new(mail, realm.trust.oidc_ca_bundle.as_deref());
        let mail = match mailer.context("failed to prepare mail")? {
            None => None,
            Some(mailer) => {
                let origin =
                    external.public_origins.first().context("links in mails need --public-origins")?;
                Some((mailer, origin.clone()))
            }
        };
        let external =
            External::new(external, &realm).context("failed to prepare external identity providers")?;
        let redis =
            kit::redis::connection(&redis).context("failed to prepare what replicas share of refreshes")?;
        let tickets = Tickets::shared(redis.clone(), scope.tenant());
        let refreshes = Refreshes::shared(SharedRefreshes::new(redis, scope.tenant()));
        let parts = Parts { refreshes, registration, external, mail, tickets };
        surface(Arc::new(Keycloak::new(&realm)?), &Log::kafka(kafka), parts, scope)
    }

    fn in_memory(memory: &Memory, scope: &Scope) -> anyhow::Result<Surface> {
        let accounts = Arc::new(MemoryStore::new(memory.issuer.clone()));
        let parts = Parts {
            refreshes: Refreshes::in_process(),
            registration: Registration::Open,
            external: External::none(),
            mail: None,
            tickets: Tickets::in_process(),
        };
        surface(accounts, &memory.log, parts, scope)
    }
}

/// What the service has beside its accounts and its log.
struct Parts {
    refreshes: Refreshes,
    registration: Registration,
    external: External,
    mail: Option<(Mailer, String)>,
    tickets: Tickets,
}

fn surface(
    accounts: Arc<dyn AccountStore>,
    log: &Log,
    parts: Parts,
    scope: &Scope,
) -> anyhow::Result<Surface> {
    let Parts { refreshes, registration, external, mail, tickets } = parts;
    let users = UserServiceClient::new(scope.peer(catalog::Service::User)?);
    let events = SessionEvents::new(log, scope.tenant()).context("failed to prepare the producer")?;
    scope.spawn(events.clone().flush_at_the_end(scope.shutdown().clone()));
    let accounts = Guard::new(accounts, events, refreshes, AttemptRates::default(), scope.tasks().clone());
    let grpc = Routes::new(AccountServiceServer::new(AccountRpc::new(accounts.clone())));
    let deletions = Deletions::new(accounts.clone(), users.clone());
    scope.spawn(deletions.clone().keep_finishing(scope.shutdown().clone()));
    let recovery = Recovery::new(accounts.clone(), mail, tickets, scope.tasks().clone());
    let metrics = Metrics::default();
    scope.metrics(|registry| metrics.register(registry));
    let state = AppState { accounts, deletions, external, metrics, recovery, registration, users };
    Ok(Surface { api: api::router(state), grpc })
}
