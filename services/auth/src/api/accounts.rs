//! `/api/auth/register`, `/change-password` and `/delete-account`: accounts.

use std::net::IpAddr;

use axum::{extract::State, http::StatusCode};
use contracts::{
    UserId,
    api::{
        AccountDeleted, ChangePasswordRequest, PasswordChanged, Problem, ReceiptToken, RegisterRequest,
        Registered, SignInRequest,
    },
    rpc::{EnsureUserRequest, IsNamedRequest, user_service_client::UserServiceClient},
};
use kit::{
    auth::Caller,
    docs::{BodyProblems, FaultProblems, RequestProblems},
    error::ApiError,
    extract::{ClientAddress, Json},
    idempotency::IdempotencyKey,
    rpc::{self, InternalChannel},
};
use secrecy::ExposeSecret as _;

use crate::{
    config::Registration,
    deletions::{Deletions, USER_SERVICE_WITHIN, called},
    domain::{Credentials, NewAccount, NewPassword, Session},
    error::Error,
    guard::Guard,
    recovery::Recovery,
    store::StoreError,
};

/// Makes an account and its profile.
///
/// The name of an account that was deleted is not given out again.
/// The response has the username as it was registered: in lower case, without spaces around it. With an `idempotency-key`, a
/// request that is repeated with the same password returns the account that the first one made.
#[utoipa::path(
    post,
    path = "/api/auth/register",
    tag = "accounts",
    params((
        "idempotency-key" = Option<String>, Header, min_length = 1, max_length = 128, pattern = "^[!-~]+$",
        description = "1 to 128 visible ASCII characters, chosen once for an account and repeated with every retry"
    )),
    request_body = RegisterRequest,
    responses(
        (status = OK, description = "The account that a request before this one made, with the same idempotency-key",
            body = Registered),
        (status = CREATED, description = "The new account; sign in with it", body = Registered),
        (status = FORBIDDEN, description = "permission_denied (registration is by invitation only)",
            body = Problem, content_type = "application/problem+json"),
        (status = CONFLICT, description = "conflict (the username is taken)", body = Problem,
            content_type = "application/problem+json"),
        BodyProblems,
        FaultProblems,
    )
)]
pub(super) async fn register(
    State(accounts): State<Guard>,
    ClientAddress(address): ClientAddress,
    State(registration): State<Registration>,
    State(users): State<UserServiceClient<InternalChannel>>,
    key: Option<IdempotencyKey>,
    Json(request): Json<RegisterRequest>,
) -> Result<(StatusCode, Json<Registered>), ApiError> {
    match registration {
        Registration::Open => {}
        Registration::InviteOnly => return Err(Error::RegistrationClosed.into()),
    }
    let account = NewAccount::parse(request).map_err(Error::from)?;
    // The name of a profile whose account is gone stands in old messages, and in what others remember.
    let made = if is_named(users.clone(), &account).await? {
        Err(StoreError::Taken(account.username.as_str().to_owned()).into())
    } else {
        accounts.register(address, &account).await
    };
    let (status, user_id) = match made {
        Ok(user_id) => {
            tracing::info!(user = %user_id, "registered {user_id}");
            (StatusCode::CREATED, user_id)
        }
        Err(Error::Store(StoreError::Taken(name))) if key.is_some() => {
            (StatusCode::OK, registered_before(&accounts, address, &account, name).await?)
        }
        Err(error) => return Err(error.into()),
    };
    ensure_profile(users, user_id, &account).await;
    Ok((status, Json(Registered { user_id, username: account.username.as_str().to_owned() })))
}

/// Deletes the caller's account.
///
/// The password is asked for again, so that a found device cannot do it; wrong ones count as at a sign-in. All sessions
/// end and their connections are closed with 3505 within 5 seconds. The user leaves all chats within seconds, as from a group;
/// the other user of a direct chat keeps it to read. The profile says `deleted` and holds no more than the username, which is
/// not given out again. What the user wrote stays with those it was written to. The
/// receipt in the answer shows without an account what is erased and when; that of an account that never had a profile, because its name
/// was that of a deleted one, is `not_found`, since there was nothing else to erase. After `unavailable` repeat the request, unless
/// it is `unauthenticated` then: the deletion had begun, and is finished without it.
#[utoipa::path(
    post,
    path = "/api/auth/delete-account",
    tag = "accounts",
    request_body = SignInRequest,
    responses(
        (status = OK, description = "The account is deleted", body = AccountDeleted),
        (status = UNAUTHORIZED, description = "unauthenticated (a wrong password, or there is no such account any more)",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
        FaultProblems,
    )
)]
pub(super) async fn delete(
    State(accounts): State<Guard>,
    State(deletions): State<Deletions>,
    ClientAddress(address): ClientAddress,
    Json(request): Json<SignInRequest>,
) -> Result<Json<AccountDeleted>, ApiError> {
    let credentials = Credentials::parse(request).map_err(Error::from)?;
    // The name of the account, and not what was typed: it is published, and not given out again.
    let account = accounts.account(address, &credentials).await?;
    let receipt = deletions.delete(account.user_id, &account.username).await?;
    Ok(Json(AccountDeleted { receipt: ReceiptToken(receipt.expose_secret().to_owned()) }))
}

/// Changes the caller's password.
///
/// The current one is asked for again, so that a found device cannot do it. After five wrong ones a change is `rate_limited` for as
/// long as `retry-after` says, and sign-ins are not. All other sessions of the user end as at a sign-out, and the one of this
/// request goes on. Who had the account before keeps no way in: its links to identity providers, second factors, passkeys and offline
/// tokens go, as at a reset, and so do links in mails that were not used. The next sign-in with an identity provider that gives the
/// username of the account asks for the new password, and links the two again. The e-mail address stays, and links for a new password
/// go there: the response names it, so that the user sees whether it is their own. One that is not is replaced with `PUT
/// /api/auth/email`. After `unavailable` the password may have been changed, and
/// `permission_denied` to the repeated request says that it was: change it once more then, from the new one, so that the rest is done.
#[utoipa::path(
    post,
    path = "/api/auth/change-password",
    operation_id = "change_password",
    tag = "accounts",
    security(("access_token" = [])),
    request_body = ChangePasswordRequest,
    responses(
        (status = OK, description = "The password is changed, and all other sessions have ended", body = PasswordChanged),
        (status = FORBIDDEN, description = "permission_denied (the current password is wrong, or the account has none)",
            body = Problem, content_type = "application/problem+json"),
        RequestProblems,
    )
)]
pub(super) async fn change_password(
    caller: Caller,
    State(accounts): State<Guard>,
    State(recovery): State<Recovery>,
    Json(request): Json<ChangePasswordRequest>,
) -> Result<Json<PasswordChanged>, ApiError> {
    let password = NewPassword::parse(&caller.username, request).map_err(Error::from)?;
    let caller = Session::from(&caller);
    // One that was sent before would replace it again. Before the change, or a change without it would stand.
    recovery.revoke(caller.user_id).await?;
    accounts.change_password(&caller, password).await?;
    // Who knew the old one may have requested another meanwhile, for an address of their own.
    recovery.revoke(caller.user_id).await?;
    tracing::info!(user = %caller.user_id, "{} has a new password", caller.user_id);
    // Or had one confirmed before, which none of this has taken away.
    let email = recovery.reachable_at(caller.user_id).await?;
    Ok(Json(PasswordChanged { email: email.map(|email| email.expose().to_owned()) }))
}

/// Returns the account that a request with the same name and password made before: its response was lost. The key says that
/// it is a retry; that the account is the caller's is shown by the password, as at a sign-in.
async fn registered_before(
    accounts: &Guard,
    address: IpAddr,
    account: &NewAccount,
    name: String,
) -> Result<UserId, Error> {
    let opened = accounts.account(address, &account.credentials()).await.map_err(|error| match error {
        Error::Store(StoreError::Rejected) => StoreError::Taken(name).into(),
        error => error,
    });
    Ok(opened?.user_id)
}

/// Returns whether a profile has the name of the account that is to be made.
async fn is_named(
    mut users: UserServiceClient<InternalChannel>,
    account: &NewAccount,
) -> Result<bool, Error> {
    let request = IsNamedRequest { username: account.username.as_str().to_owned() };
    Ok(called(users.is_named(request)).await?.is_named)
}

/// Creates the profile in the user service. A failure does not fail the registration: the first token that comes
/// there creates the profile too, then without the display name.
async fn ensure_profile(
    mut users: UserServiceClient<InternalChannel>,
    user_id: UserId,
    account: &NewAccount,
) {
    let request = EnsureUserRequest {
        user_id: user_id.to_string(),
        username: account.username.as_str().to_owned(),
        display_name: account.display_name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default(),
    };
    if let Err(status) = rpc::within(USER_SERVICE_WITHIN, users.ensure_user(request)).await {
        tracing::warn!(user = %user_id, code = ?status.code(), "no profile yet for {user_id}: {}", status.message());
    }
}
