//! `/api/auth/providers`, `/login` and `/callback`: sign-in with external identity providers.
#![expect(unused_qualifications, reason = "in what utoipa::path makes of `params`")]

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{AppendHeaders, IntoResponse},
};
use contracts::{
    api::{AuthProvider, LoginCodeRequest, Page, Problem, Tokens},
    rpc::{EnsureUserRequest, GetUsersRequest, IsNamedRequest, user_service_client::UserServiceClient},
};
use kit::{
    docs::{BodyProblems, FaultProblems, ParameterProblems},
    error::{ApiError, InvalidField},
    extract::{ClientAddress, Json, Path, Query},
    rpc::InternalChannel,
    text::DisplayName,
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    deletions::called,
    domain::{
        AccountName, Grant,
        external::{self, ReturnPath},
        is_new_username,
    },
    error::Error,
    external::{External, callback as callback_url},
    guard::Guard,
    metrics::{Metrics, Way},
    store::StoreError,
};

/// Lists the external identity providers that users may sign in with.
///
/// A page shows a button for each, a link to `/api/auth/login/{alias}`. There is never a `next_cursor`.
#[utoipa::path(
    get,
    path = "/api/auth/providers",
    operation_id = "list_providers",
    tag = "external",
    responses((status = OK, description = "The providers", body = Page<AuthProvider>))
)]
pub(super) async fn providers(State(external): State<External>) -> Json<Page<AuthProvider>> {
    let provider = |provider: &external::Provider| AuthProvider {
        alias: provider.alias.clone(),
        display_name: provider.display_name.clone(),
    };
    Json(Page { items: external.providers().iter().map(provider).collect(), next_cursor: None })
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LoginParameters {
    /// The page of this address that the browser comes back to; the start page when absent.
    #[param(min_length = 1, max_length = 512, pattern = "^/([!\"$-.0-\\[\\]-~][!\"$-\\[\\]-~]*)?$")]
    return_to: Option<String>,
}

/// Begins a sign-in with an external identity provider. A page opens it in the browser; it is no request of a script.
///
/// The browser goes to the realm, from there to the provider, and comes back within ten minutes to `return_to` with one of two
/// fragments: `#login_code=CODE`, to be sent with `POST /api/auth/login` within a minute, or `#login_error=REASON` with `cancelled`
/// (by the user, or refused by the provider) or `failed`. Where the realm shows a page of its own instead, as Keycloak does to who
/// cancels at the provider, the user goes back to where the sign-in began. A cookie binds the sign-in to this browser; one that is begun later
/// replaces it. The first sign-in makes an account. Where an account has the same username already, the realm asks for its password
/// before it joins the two. What a provider says of an e-mail address opens no account, and finds none.
#[utoipa::path(
    get,
    path = "/api/auth/login/{alias}",
    operation_id = "begin_login",
    tag = "external",
    params(
        ("alias" = String, Path, description = "Of the provider", min_length = 1, max_length = 32,
            pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$"),
        LoginParameters
    ),
    responses(
        (status = SEE_OTHER, description = "To the realm", headers(
            ("location" = String, description = "Where the browser goes"),
            ("set-cookie" = String, description = "The sign-in, for this service alone to read"),
        )),
        (status = NOT_FOUND, description = "not_found (there is no such provider)", body = Problem,
            content_type = "application/problem+json"),
        ParameterProblems,
    )
)]
pub(super) async fn begin(
    State(external): State<External>,
    headers: HeaderMap,
    Path(alias): Path<String>,
    Query(parameters): Query<LoginParameters>,
) -> Result<impl IntoResponse, ApiError> {
    let return_to = ReturnPath::parse(parameters.return_to).map_err(Error::from)?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let redirect = external.begin(&alias, host, return_to)?;
    let headers =
        AppendHeaders([(header::LOCATION, redirect.location), (header::SET_COOKIE, redirect.cookie)]);
    Ok((StatusCode::SEE_OTHER, headers))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the realm sends more than is needed, and what is not described is refused")]
pub(super) struct CallbackParameters {
    /// What `POST /api/auth/login` takes.
    #[param(max_length = 1024, pattern = "^[^\\u0000]*$")]
    code: Option<String>,
    /// What the sign-in began with.
    #[param(max_length = 64, pattern = "^[^\\u0000]*$")]
    state: Option<String>,
    /// Why there is no code.
    #[param(max_length = 256, pattern = "^[^\\u0000]*$")]
    error: Option<String>,
    /// Not used.
    #[param(max_length = 1024, pattern = "^[^\\u0000]*$")]
    error_description: Option<String>,
    /// Not used.
    #[param(max_length = 256, pattern = "^[^\\u0000]*$")]
    session_state: Option<String>,
    /// Not used.
    #[param(max_length = 512, pattern = "^[^\\u0000]*$")]
    iss: Option<String>,
}

/// Takes a browser back from the realm, and sends it to where its sign-in began. Only the realm leads here.
#[utoipa::path(
    get,
    path = "/api/auth/callback",
    operation_id = "end_login",
    tag = "external",
    params(CallbackParameters),
    responses(
        (status = SEE_OTHER, description = "To the page that the sign-in returns to", headers(
            ("location" = String, description = "Where the browser goes"),
        )),
        (status = UNAUTHORIZED, description = "unauthenticated (this browser has begun no such sign-in, or too long ago: begin again)",
            body = Problem, content_type = "application/problem+json"),
        ParameterProblems,
    )
)]
pub(super) async fn callback(
    State(external): State<External>,
    headers: HeaderMap,
    Query(parameters): Query<CallbackParameters>,
) -> Result<impl IntoResponse, ApiError> {
    let begun = external.begun(cookies(&headers))?;
    if parameters.state.as_deref() != Some(&begun.state) {
        return Err(Error::NotBegun.into());
    }
    let location = match (parameters.error.as_deref(), parameters.code.as_deref().and_then(external::code)) {
        (None, Some(code)) => begun.returned("login_code", &external.login_code(&begun, code)),
        (Some("access_denied"), _) => begun.returned("login_error", "cancelled"),
        _ => begun.returned("login_error", "failed"),
    };
    Ok((StatusCode::SEE_OTHER, AppendHeaders([(header::LOCATION, location)])))
}

/// Ends a sign-in with an external identity provider: exchanges its code for tokens of a new session.
///
/// The code is good once, for a minute, in the browser that began the sign-in: the request has its cookie. Requests that repeat it
/// within ten seconds receive the same tokens. From here on the session is like any other. After `conflict` there is no session, and the
/// account opens nothing until an administrator has renamed it.
#[utoipa::path(
    post,
    path = "/api/auth/login",
    operation_id = "login",
    tag = "external",
    request_body = LoginCodeRequest,
    responses(
        (status = OK, description = "Tokens of a new session", body = Tokens, headers(
            ("set-cookie" = String, description = "Ends the sign-in in the browser"),
        )),
        (status = UNAUTHORIZED, description = "unauthenticated (begin again)", body = Problem,
            content_type = "application/problem+json"),
        (status = CONFLICT, description = "conflict (the provider gave a username that was an account's which is deleted, or that no new \
            account may have)", body = Problem, content_type = "application/problem+json"),
        BodyProblems,
        FaultProblems,
    )
)]
pub(super) async fn finish(
    State(external): State<External>,
    State(accounts): State<Guard>,
    State(users): State<UserServiceClient<InternalChannel>>,
    State(metrics): State<Metrics>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Json(request): Json<LoginCodeRequest>,
) -> Result<impl IntoResponse, ApiError> {
    let invalid = || InvalidField { field: "code", problem: "is no code of a sign-in".to_owned() };
    let code = external::login_code(&request.code).ok_or_else(invalid).map_err(Error::from)?;
    let begun = external.begun(cookies(&headers))?;
    let sign_in = async {
        let Some(code) = external.realm_code(&begun, code) else {
            accounts.count_code(address)?;
            return Err(Error::from(StoreError::InvalidCode));
        };
        let grant = accounts.redeem(address, &code, &begun.verifier, &callback_url(&begun)).await?;
        welcome(users, &grant).await?;
        Ok(grant)
    };
    let grant = metrics.sign_in(Way::Provider, sign_in).await?;
    Ok((AppendHeaders([(header::SET_COOKIE, External::ended(&begun))]), Json(Tokens::from(grant))))
}

/// Makes the profile of an account that the realm has just made. The username of a deleted account is not given out again: such an account
/// has no profile and opens nothing. It is not deleted, since it may be one that an administrator made, or that has just got its profile.
async fn welcome(mut users: UserServiceClient<InternalChannel>, grant: &Grant) -> Result<(), Error> {
    let user_id = grant.session.user_id;
    let known = GetUsersRequest { user_ids: vec![user_id.to_string()] };
    if !called(users.get_users(known.clone())).await?.users.is_empty() {
        return Ok(());
    }
    let Some(AccountName { username, display_name }) = grant.account_name() else { return Ok(()) };
    // The realm refuses such a name where it makes an account; one that is older has it.
    if !is_new_username(&username) {
        return Err(Error::UnusableName(username));
    }
    if called(users.is_named(IsNamedRequest { username: username.clone() })).await?.is_named {
        // Or it is the profile that the same code has made at this moment.
        let is_own = !called(users.get_users(known)).await?.users.is_empty();
        return if is_own { Ok(()) } else { Err(Error::NameOfDeleted) };
    }
    let request = EnsureUserRequest {
        user_id: user_id.to_string(),
        username,
        // One that is no name here is none: the account has its username then.
        display_name: display_name
            .filter(|name| DisplayName::parse("display_name", name).is_ok())
            .unwrap_or_default(),
    };
    called(users.ensure_user(request)).await?;
    tracing::info!(user = %user_id, "registered {user_id} by an external identity provider");
    Ok(())
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok())
}
