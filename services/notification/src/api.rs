//! The REST surface.

mod confirming;
mod numbers;
mod preferences;
mod problems;
mod subscriptions;
mod tokens;

use std::sync::Arc;

use axum::extract::FromRef;
use kit::{
    docs::{self, OpenApiRouter, routes},
    mail::Mailer,
};
use tokio::sync::Notify;

pub use self::{confirming::Confirming, tokens::Tokens};
use crate::{
    channels::{Outside, SmsHook, VapidKey},
    store::NotificationStore,
};

/// What a request handler holds.
#[derive(Clone, FromRef)]
pub struct AppState {
    pub store: Arc<dyn NotificationStore>,
    pub channels: ChannelFacts,
    pub tokens: Tokens,
    pub confirming: Confirming,
    /// There is a user whose chats are to be listed.
    pub wake: Arc<Notify>,
}

/// What subscriptions are checked with. Cheap to clone.
#[derive(Clone)]
pub struct ChannelFacts {
    pub key: Arc<VapidKey>,
    pub outside: Outside,
    /// The mail server and the tenant's address, where there are mails.
    pub mail: Option<(Arc<Mailer>, String)>,
    /// Whether apps are reached by Firebase.
    pub has_fcm: bool,
    /// The hook of text messages and the tenant's address, where there are text messages.
    pub sms: Option<(SmsHook, String)>,
}

/// Returns the REST API with its state applied.
pub fn router(state: AppState) -> OpenApiRouter {
    docs::router()
        .routes(routes!(subscriptions::channels))
        .routes(routes!(subscriptions::create, subscriptions::list))
        .routes(routes!(subscriptions::remove))
        .routes(routes!(numbers::confirm))
        .routes(routes!(subscriptions::confirm))
        .routes(routes!(subscriptions::end, subscriptions::show_end))
        .routes(routes!(preferences::get, preferences::set))
        .with_state(state)
}
