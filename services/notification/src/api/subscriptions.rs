//! `/api/notifications/subscriptions`: where users are notified.

use std::sync::Arc;

use aws_lc_rs::rand;
use axum::{
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use contracts::{
    SubscriptionId, UserId,
    api::{
        ConfirmSubscriptionRequest, CreateSubscriptionRequest, NotificationChannels, Page, Problem,
        Subscription,
    },
};
use kit::{
    auth::Caller,
    docs::{BodyProblems, FaultProblems, ParameterProblems},
    error::{ApiError, InvalidField},
    extract::{Json, Path},
    mail::MailError,
};
use secrecy::SecretString;
use tokio::sync::Notify;

use super::{
    ChannelFacts, Confirming, Tokens, numbers,
    problems::{NoLinkProblems, QueryProblems, RequestProblems},
};
use crate::{
    domain::{self, NewSubscription, Target, confirmation_mail},
    error::Error,
    store::NotificationStore,
};

/// Returns what the messenger can tell users by.
#[utoipa::path(
    get,
    path = "/api/notifications/channels",
    operation_id = "get_notification_channels",
    tag = "notifications",
    security(("access_token" = [])),
    responses((status = OK, description = "The channels", body = NotificationChannels), QueryProblems)
)]
pub(super) async fn channels(
    _caller: Caller,
    State(facts): State<ChannelFacts>,
) -> Result<Json<NotificationChannels>, ApiError> {
    let web_push_key = facts.key.public().to_owned();
    Ok(Json(NotificationChannels {
        web_push_key,
        email: facts.mail.is_some(),
        fcm: facts.has_fcm,
        sms: facts.sms.is_some(),
    }))
}

/// Lets the caller be notified of messages that no device takes: in a browser or an app, at a server of the caller, by mail or by text message.
///
/// A user has at most 20 subscriptions. One with the same endpoint keeps its id and has the new keys. A browser or an app belongs to the user who
/// subscribed it last. An endpoint that answers 404 or 410 is forgotten, and so is an app that Firebase does not know any more,
/// and a browser that subscribed with another `web_push_key` than the messenger has now.
///
/// A browser or an app is bound to the session of the request, and is forgotten when that ends: by a sign-out, by its user on another device, by a moderator, by a
/// new password, or because it was not refreshed for as long as a session may rest, as far as a day later. The same request in another session binds it to that
/// one, so a client repeats it each time it starts. Servers, addresses and numbers are the account's, whichever session named them. A session that has ended
/// subscribes nothing more, while its access token is good: that is `unauthenticated`.
///
/// A webhook is a POST with a JSON object: `chat`, `kind`, `title` of a group, `seq`, `message` (`sender`, `name`, `text`, `sent_at_ms`) unless it is gone or
/// texts are not wanted, `unread` and `mentions` of the chat, and `badge`, what is unread in all chats. A push has the same. The header
/// `posthouse-signature: t=<seconds>,v1=<hex>` has the HMAC-SHA256 of `<seconds>.<body>` with the `secret` of the response; `posthouse-id` is the same for all
/// attempts at one notice. Any status of the 2xx family is success; what fails otherwise is repeated for half a day, unless it is refused.
///
/// An app receives a data message whose values are text: `chat`, `seq`, `badge`, and where texts are wanted `title` and `body`. Of what waits for one
/// chat, the last one is kept, for a day.
///
/// To an address a mail is sent first, whose link confirms it. Mails sum up what was missed, half an hour after it was, and every four hours at most.
///
/// To a number a text message is sent first, whose code confirms it with `POST /api/notifications/subscriptions/{subscription}/confirmation`. The same
/// request again sends another code: at most 5 a day to a number and 5 a day for a user. Text messages say how many messages in how many chats were
/// missed, half an hour after they were, and as often as the tenant lets them.
#[utoipa::path(
    post,
    path = "/api/notifications/subscriptions",
    operation_id = "create_subscription",
    tag = "notifications",
    security(("access_token" = [])),
    request_body = CreateSubscriptionRequest,
    responses(
        (status = OK, description = "The subscription, of this request or of before; a webhook with its new secret", body = Subscription),
        (status = CONFLICT, description = "limit_reached (the caller has 20), conflict (the mail server takes no mail for the address, or the tenant's hook no text message for the number)", body = Problem,
            content_type = "application/problem+json"),
        (status = NOT_FOUND, description = "not_configured (the messenger sends no mails, no text messages, or nothing to apps)", body = Problem,
            content_type = "application/problem+json"),
        (status = TOO_MANY_REQUESTS, description = "rate_limited (an address or a number was to be confirmed too often; retry-after says how long to wait)",
            body = Problem, content_type = "application/problem+json"),
        RequestProblems,
    )
)]
pub(super) async fn create(
    caller: Caller,
    State(store): State<Arc<dyn NotificationStore>>,
    State(facts): State<ChannelFacts>,
    State(tokens): State<Tokens>,
    State(confirming): State<Confirming>,
    State(wake): State<Arc<Notify>>,
    Json(request): Json<CreateSubscriptionRequest>,
) -> Result<Json<Subscription>, ApiError> {
    let target = Target::parse(&request, facts.key.public(), random_secret).map_err(Error::from)?;
    if target.url().is_some_and(|url| !facts.outside.allows(url)) {
        return Err(not_public(&target).into());
    }
    let new = NewSubscription {
        id: SubscriptionId::generate(),
        user_id: caller.user_id,
        session: caller.session,
        target,
        created_at: now(),
    };
    let lacking = match new.target {
        Target::Email { .. } if facts.mail.is_none() => Some("mails"),
        Target::Sms { .. } if facts.sms.is_none() => Some("text messages"),
        Target::Fcm { .. } if !facts.has_fcm => Some("pushes by Firebase Cloud Messaging"),
        _ => None,
    };
    if let Some(what) = lacking {
        return Err(Error::NoChannel(what).into());
    }
    let subscription = store.subscribe(&new).await.map_err(Error::from)?;
    wake.notify_one();
    if !subscription.is_confirmed {
        request_confirmation(&facts, &tokens, &confirming, caller.user_id, &subscription).await?;
        numbers::send_code(&facts, &tokens, &*store, &subscription, new.created_at).await?;
    }
    Ok(Json(subscription.shown_with_secret()))
}

fn not_public(target: &Target) -> InvalidField {
    let field = match target {
        Target::WebPush { .. } => "web_push.endpoint",
        _ => "webhook.url",
    };
    InvalidField { field, problem: "must be an https URL on port 443 of a public address".to_owned() }
}

/// Sends the mail whose link confirms an address. Without it the subscription stays as it is, and the request may be repeated.
async fn request_confirmation(
    facts: &ChannelFacts,
    tokens: &Tokens,
    confirming: &Confirming,
    user_id: UserId,
    subscription: &domain::Subscription,
) -> Result<(), Error> {
    let (Some((mailer, origin)), Target::Email { address }) = (&facts.mail, &subscription.target) else {
        return Ok(());
    };
    confirming.count(user_id, address)?;
    let mail = confirmation_mail(origin, &tokens.confirming(subscription.id));
    mailer.send(address, mail).await.map_err(|error| match error {
        MailError::NoSuchAddress(status) | MailError::Refused(status) => Error::AddressRefused(status),
        error => Error::Mail(error),
    })
}

/// Lists where the caller is notified, the oldest first.
#[utoipa::path(
    get,
    path = "/api/notifications/subscriptions",
    operation_id = "list_subscriptions",
    tag = "notifications",
    security(("access_token" = [])),
    responses((status = OK, description = "All subscriptions of the caller", body = Page<Subscription>), QueryProblems)
)]
pub(super) async fn list(
    caller: Caller,
    State(store): State<Arc<dyn NotificationStore>>,
) -> Result<Json<Page<Subscription>>, ApiError> {
    let found = store.subscriptions(caller.user_id).await.map_err(Error::from)?;
    let items = found.iter().map(domain::Subscription::shown).collect();
    Ok(Json(Page { items, next_cursor: None }))
}

/// Removes a subscription of the caller, with what was to be sent there.
#[utoipa::path(
    delete,
    path = "/api/notifications/subscriptions/{subscription}",
    operation_id = "remove_subscription",
    tag = "notifications",
    security(("access_token" = [])),
    params(("subscription" = SubscriptionId, Path, description = "Subscription id")),
    responses(
        (status = NO_CONTENT, description = "Nothing is sent there any more"),
        (status = NOT_FOUND, description = "not_found (the caller has none with this id)", body = Problem,
            content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn remove(
    caller: Caller,
    State(store): State<Arc<dyn NotificationStore>>,
    Path(id): Path<SubscriptionId>,
) -> Result<StatusCode, ApiError> {
    match store.unsubscribe(id, Some(caller.user_id)).await.map_err(Error::from)? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Error::NotFound(id).into()),
    }
}

/// Confirms an address with the token of the mail that was sent there. Its user need not be signed in where the mail is read.
#[utoipa::path(
    post,
    path = "/api/notifications/confirmations",
    operation_id = "confirm_subscription",
    tag = "notifications",
    request_body = ConfirmSubscriptionRequest,
    responses(
        (status = NO_CONTENT, description = "Mails are sent to the address from now on"),
        NoLinkProblems,
        BodyProblems,
        FaultProblems,
    )
)]
pub(super) async fn confirm(
    State(store): State<Arc<dyn NotificationStore>>,
    State(tokens): State<Tokens>,
    Json(request): Json<ConfirmSubscriptionRequest>,
) -> Result<StatusCode, ApiError> {
    let id = tokens.read_confirming(&request.token).ok_or(Error::NoLink)?;
    match store.confirm(id).await.map_err(Error::from)? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Error::NoLink.into()),
    }
}

/// Ends mails with the token that each of them has. Mail clients post here when their user wants no more of them (RFC 8058); what they post is not
/// read. A subscription that is gone already is no error.
#[utoipa::path(
    post,
    path = "/api/notifications/unsubscriptions/{token}",
    operation_id = "end_subscription",
    tag = "notifications",
    params(("token" = String, Path, description = "The token of the mail")),
    responses(
        (status = NO_CONTENT, description = "No mail is sent any more"),
        NoLinkProblems,
        ParameterProblems,
        FaultProblems,
    )
)]
pub(super) async fn end(
    State(store): State<Arc<dyn NotificationStore>>,
    State(tokens): State<Tokens>,
    Path(token): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = tokens.read_ending(&token).ok_or(Error::NoLink)?;
    store.unsubscribe(id, None).await.map_err(Error::from)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Leads a browser to the page that ends mails: a mail client without RFC 8058 opens this address, and so does what only looks at links, by which
/// nothing ends.
#[utoipa::path(
    get,
    path = "/api/notifications/unsubscriptions/{token}",
    operation_id = "show_end_of_subscription",
    tag = "notifications",
    params(("token" = String, Path, description = "The token of the mail")),
    responses(
        (status = SEE_OTHER, description = "To the page", headers(
            ("location" = String, description = "Where the browser goes"),
        )),
        NoLinkProblems,
        ParameterProblems,
    )
)]
pub(super) async fn show_end(
    State(tokens): State<Tokens>,
    Path(token): Path<String>,
) -> Result<(StatusCode, [(HeaderName, String); 1]), ApiError> {
    // What is a token has no character that does anything in a header.
    tokens.read_ending(&token).ok_or(Error::NoLink)?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, format!("/#notifications_end={token}"))]))
}

/// Returns what the requests of a webhook are signed with.
fn random_secret() -> SecretString {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).expect("the system has random numbers");
    BASE64_URL_SAFE_NO_PAD.encode(bytes).into()
}

#[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
fn now() -> DateTime<Utc> {
    Utc::now()
}
