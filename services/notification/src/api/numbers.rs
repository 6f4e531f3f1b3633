//! Phone numbers, which their users confirm by codes.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::rand;
use axum::{extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use contracts::{
    SubscriptionId,
    api::{ConfirmNumberRequest, Problem},
};
use kit::{
    auth::Caller,
    error::{ApiError, InvalidField},
    extract::{Json, Path},
};

use super::{ChannelFacts, Tokens, problems::RequestProblems};
use crate::{
    channels::SendError,
    domain::{CODE_DIGITS, CodeOutcome, NewCode, Subscription, Target, code_text},
    error::Error,
    store::NotificationStore,
};

/// So many codes of [`CODE_DIGITS`] there are.
const CODES: u64 = 1_000_000;

/// Confirms a number of the caller with the code of the text message that was sent there.
///
/// A code is good for ten minutes, for five attempts, and until another one is sent. A number that another user confirmed before is the caller's then.
#[utoipa::path(
    post,
    path = "/api/notifications/subscriptions/{subscription}/confirmation",
    operation_id = "confirm_number",
    tag = "notifications",
    security(("access_token" = [])),
    params(("subscription" = SubscriptionId, Path, description = "Subscription id")),
    request_body = ConfirmNumberRequest,
    responses(
        (status = NO_CONTENT, description = "Text messages are sent to the number from now on"),
        (status = FORBIDDEN, description = "permission_denied (it is not the code that was sent; `detail` says how many attempts are left)",
            body = Problem, content_type = "application/problem+json"),
        (status = NOT_FOUND, description = "not_found (the caller has no subscription with this id)", body = Problem,
            content_type = "application/problem+json"),
        (status = CONFLICT, description = "conflict (there is no code that is good: subscribe the number again; or it is not a number)", body = Problem,
            content_type = "application/problem+json"),
        RequestProblems,
    )
)]
pub(super) async fn confirm(
    caller: Caller,
    State(store): State<Arc<dyn NotificationStore>>,
    State(tokens): State<Tokens>,
    Path(id): Path<SubscriptionId>,
    Json(request): Json<ConfirmNumberRequest>,
) -> Result<StatusCode, ApiError> {
    let code = request.code;
    if code.len() != CODE_DIGITS || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        let problem = format!("must be the {CODE_DIGITS} digits of the text message");
        return Err(InvalidField { field: "code", problem }.into());
    }
    let outcome = store.try_code(id, caller.user_id, &tokens.code(id, &code), now()).await;
    match outcome.map_err(Error::from)? {
        CodeOutcome::Confirmed => Ok(StatusCode::NO_CONTENT),
        CodeOutcome::Wrong { left } => Err(Error::WrongCode { left }.into()),
        CodeOutcome::NoCode => Err(Error::NoCode.into()),
        CodeOutcome::NoSubscription => Err(Error::NotFound(id).into()),
    }
}

/// Sends a code to the number of a subscription. It counts whatever becomes of it: the hook may have sent it although no answer came.
pub(super) async fn send_code(
    facts: &ChannelFacts,
    tokens: &Tokens,
    store: &dyn NotificationStore,
    subscription: &Subscription,
    sent_at: DateTime<Utc>,
) -> Result<(), Error> {
    let (Some((hook, origin)), Target::Sms { number }) = (&facts.sms, &subscription.target) else {
        return Ok(());
    };
    let code = random_code();
    let new = NewCode {
        subscription: subscription.id,
        user_id: subscription.user_id,
        number: tokens.number(number),
        code: tokens.code(subscription.id, &code),
        sent_at,
    };
    if let Some(wait) = store.note_code(&new).await? {
        return Err(Error::TooManyCodes { wait: wait.to_std().unwrap_or(Duration::ZERO) });
    }
    let id = format!("{}.code.{}", subscription.id, sent_at.timestamp_millis());
    hook.send(&id, number, &code_text(&code, origin)).await.map_err(|error| match error {
        SendError::Refused(_) => Error::NumberRefused,
        error => Error::TextMessage(error),
    })
}

fn random_code() -> String {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).expect("the system has random numbers");
    // Of 2^64 numbers, none is likelier than another by more than one part in 10^13.
    format!("{:0width$}", u64::from_le_bytes(bytes) % CODES, width = CODE_DIGITS)
}

#[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_its_digits_whatever_it_begins_with() {
        let codes: Vec<String> = (0..200).map(|_| random_code()).collect();
        let is_code =
            |code: &String| code.len() == CODE_DIGITS && code.bytes().all(|byte| byte.is_ascii_digit());
        assert!(codes.iter().all(is_code));
        assert!(codes.iter().collect::<std::collections::BTreeSet<_>>().len() > 190, "they differ");
    }
}
