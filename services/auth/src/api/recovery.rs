//! `/api/auth/password` and `/api/auth/email`: a forgotten password, and the address that a link for a new one is sent to.

use axum::{extract::State, http::StatusCode};
use contracts::api::{
    ConfirmEmailRequest, ForgotPasswordRequest, OwnEmailAddress, Problem, ResetPasswordRequest,
    SetEmailRequest,
};
use kit::{
    auth::Caller,
    docs::{BodyProblems, CallerProblems, FaultProblems, RequestProblems},
    error::ApiError,
    extract::{ClientAddress, Json},
};

use crate::{
    domain::{self, Credentials, OwnEmail, Session, email::Email},
    error::Error,
    recovery::Recovery,
    store::link_token,
};

/// Sends a link for a new password to an e-mail address.
///
/// The answer is the same, and takes the same time, whether an account has confirmed this address or not. The link leads to the
/// tenant's start page with the fragment `#password_reset=TOKEN`, is good once, for 15 minutes, and takes the place of the one before.
/// Three mails go to one address at once, and one in ten minutes after that.
#[utoipa::path(
    post,
    path = "/api/auth/password/forgot",
    operation_id = "forgot_password",
    tag = "accounts",
    request_body = ForgotPasswordRequest,
    responses(
        (status = ACCEPTED, description = "A mail is sent, if an account has this address"),
        (status = NOT_FOUND, description = "not_configured (the messenger sends no mail: ask an administrator)", body = Problem,
            content_type = "application/problem+json"),
        BodyProblems,
    )
)]
pub(super) async fn forgot(
    State(recovery): State<Recovery>,
    ClientAddress(address): ClientAddress,
    Json(request): Json<ForgotPasswordRequest>,
) -> Result<StatusCode, ApiError> {
    let email = Email::parse("email", &request.email).map_err(Error::from)?;
    recovery.forgot(address, email)?;
    Ok(StatusCode::ACCEPTED)
}

/// Replaces a password by the token of a link.
///
/// All sessions of the user end, and their connections are closed with 3505 within 5 seconds; sign in with the new password. Who had
/// the account before keeps no way in: its links to identity providers, second factors, passkeys and offline tokens go, too. The next
/// sign-in with an identity provider that gives the username of the account asks for the new password, and links the two again. A
/// password that is refused leaves the link good. After `unavailable` repeat the request; `conflict` then says that it was done.
#[utoipa::path(
    post,
    path = "/api/auth/password/reset",
    operation_id = "reset_password",
    tag = "accounts",
    request_body = ResetPasswordRequest,
    responses(
        (status = NO_CONTENT, description = "The password is replaced, and all sessions have ended"),
        (status = NOT_FOUND, description = "not_found (the link has expired, another one was sent after it, or the account was \
            deleted), not_configured", body = Problem, content_type = "application/problem+json"),
        (status = CONFLICT, description = "conflict (the link was used before)", body = Problem,
            content_type = "application/problem+json"),
        BodyProblems,
        FaultProblems,
    )
)]
pub(super) async fn reset(
    State(recovery): State<Recovery>,
    ClientAddress(address): ClientAddress,
    Json(request): Json<ResetPasswordRequest>,
) -> Result<StatusCode, ApiError> {
    let password = domain::new_password("password", &request.password).map_err(Error::from)?;
    let token = link_token(request.token).ok_or(Error::NoLink)?;
    recovery.reset(address, &token, &password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns the e-mail address of the caller's account.
#[utoipa::path(
    get,
    path = "/api/auth/email",
    operation_id = "get_email",
    tag = "accounts",
    security(("access_token" = [])),
    responses(
        (status = OK, description = "The address, if there is one", body = OwnEmailAddress),
        CallerProblems,
        FaultProblems,
    )
)]
pub(super) async fn get(
    caller: Caller,
    State(recovery): State<Recovery>,
) -> Result<Json<OwnEmailAddress>, ApiError> {
    let OwnEmail { email, is_confirmed } = recovery.email(&Session::from(&caller)).await?;
    Ok(Json(OwnEmailAddress { email: email.map(|email| email.expose().to_owned()), is_confirmed }))
}

/// Sends a link to an e-mail address that is to be that of the caller's account.
///
/// The current password is asked for again, so that a found device cannot have the account recovered elsewhere; wrong ones count as at
/// a change of the password. The link leads to the start page with the fragment `#email_confirmation=TOKEN`, and is good for 15
/// minutes. Until it is used the account keeps the address it has.
#[utoipa::path(
    put,
    path = "/api/auth/email",
    operation_id = "set_email",
    tag = "accounts",
    security(("access_token" = [])),
    request_body = SetEmailRequest,
    responses(
        (status = ACCEPTED, description = "The mail is sent"),
        (status = FORBIDDEN, description = "permission_denied (the current password is wrong, or the account has none)",
            body = Problem, content_type = "application/problem+json"),
        (status = NOT_FOUND, description = "not_configured (the messenger sends no mail)", body = Problem,
            content_type = "application/problem+json"),
        (status = CONFLICT, description = "conflict (the mail server takes no mail for this address)", body = Problem,
            content_type = "application/problem+json"),
        RequestProblems,
    )
)]
pub(super) async fn set(
    caller: Caller,
    State(recovery): State<Recovery>,
    ClientAddress(address): ClientAddress,
    Json(request): Json<SetEmailRequest>,
) -> Result<StatusCode, ApiError> {
    let email = Email::parse("email", &request.email).map_err(Error::from)?;
    let credentials = Credentials::of("current_password", &caller.username, &request.current_password);
    let credentials = credentials.map_err(Error::from)?;
    recovery.send_confirmation(address, &Session::from(&caller), credentials, email).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Confirms an e-mail address by the token of a link.
///
/// A mail to the confirmed address of before says that another one took its place.
#[utoipa::path(
    post,
    path = "/api/auth/email/confirm",
    operation_id = "confirm_email",
    tag = "accounts",
    request_body = ConfirmEmailRequest,
    responses(
        (status = NO_CONTENT, description = "The account has this address"),
        (status = NOT_FOUND, description = "not_found (the link has expired, or another one was sent after it), not_configured",
            body = Problem, content_type = "application/problem+json"),
        (status = CONFLICT, description = "conflict (the link was used before, or another account has confirmed this address)",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
        FaultProblems,
    )
)]
pub(super) async fn confirm(
    State(recovery): State<Recovery>,
    ClientAddress(address): ClientAddress,
    Json(request): Json<ConfirmEmailRequest>,
) -> Result<StatusCode, ApiError> {
    let token = link_token(request.token).ok_or(Error::NoLink)?;
    recovery.confirm(address, &token).await?;
    Ok(StatusCode::NO_CONTENT)
}
