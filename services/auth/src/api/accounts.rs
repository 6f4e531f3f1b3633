//! `/api/auth/register`: accounts.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::StatusCode};
use contracts::{
    UserId,
    api::{Problem, RegisterRequest, Registered},
    rpc::{EnsureUserRequest, user_service_client::UserServiceClient},
};
use kit::{
    docs::{BodyProblems, FaultProblems},
    error::ApiError,
    extract::Json,
    rpc::InternalChannel,
};
use tokio::time::timeout;
use tonic::Status;

use crate::{config::Registration, domain::NewAccount, error::Error, store::AccountStore};

/// The account is there already; its owner does not wait longer for the profile.
const PROFILE_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes an account and its profile.
///
/// The response has the username as it was registered: in lower case, without spaces around it.
#[utoipa::path(
    post,
    path = "/api/auth/register",
    tag = "accounts",
    request_body = RegisterRequest,
    responses(
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
    State(accounts): State<Arc<dyn AccountStore>>,
    State(registration): State<Registration>,
    State(users): State<UserServiceClient<InternalChannel>>,
    Json(request): Json<RegisterRequest>,
) -> Result<(StatusCode, Json<Registered>), ApiError> {
    match registration {
        Registration::Open => {}
        Registration::InviteOnly => return Err(Error::RegistrationClosed.into()),
    }
    let account = NewAccount::parse(request).map_err(Error::from)?;
    let user_id = accounts.register(&account).await.map_err(Error::from)?;
    tracing::info!(user = %user_id, "registered {user_id}");
    ensure_profile(users, user_id, &account).await;
    Ok((StatusCode::CREATED, Json(Registered { user_id, username: account.username.as_str().to_owned() })))
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
    let ensured = timeout(PROFILE_TIMEOUT, users.ensure_user(request)).await;
    let ensured = ensured.unwrap_or_else(|_| Err(Status::deadline_exceeded("no response in time")));
    if let Err(status) = ensured {
        tracing::warn!(user = %user_id, code = ?status.code(), "no profile yet for {user_id}: {}", status.message());
    }
}
