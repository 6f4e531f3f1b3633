//! Conventions that every service's pods and processes share.

/// Public REST and WebSocket API of a pod. Services map it from 80.
pub const HTTP_PORT: u16 = 8080;
/// gRPC API of a pod, for the tenant's other pods.
pub const GRPC_PORT: u16 = 9090;
/// `/livez`, `/readyz` and `/metrics` of a pod.
pub const MANAGEMENT_PORT: u16 = 8081;

/// Seconds that a process still serves after SIGTERM, before it ends its work. Kubernetes takes a pod out of its Services when
/// it stops it, and a router notices later: Traefik gathers changes for two seconds. What it sends to a pod that is gone
/// is not refused but lost, and waits for the router's own timeout.
pub const UNREADY_SECONDS: u64 = 5;
/// Seconds that a process gets to end its work after SIGTERM.
pub const DRAIN_SECONDS: u64 = 20;

/// Path of the problem for a status, `/problems/503`: a router in front of a service answers with it where the service cannot.
pub const PROBLEMS_PATH: &str = "/problems";

/// Header of every HTTP response of a service; its value is the tenant id, so that a route to another tenant's service
/// is recognised.
pub const TENANT_HEADER: &str = "x-posthouse-tenant";

/// Where Keycloak sends a browser back after a sign-in with an external identity provider.
pub const SIGN_IN_CALLBACK_PATH: &str = "/api/auth/callback";

/// The `aud` of a tenant's access tokens.
pub const TOKEN_AUDIENCE: &str = APP_CLIENT;
/// Public client of the realm, for users' apps.
pub const APP_CLIENT: &str = "messenger";
/// Confidential client of the realm, for the auth service.
pub const AUTH_CLIENT: &str = "messenger-auth";
/// The rule for names of new accounts, however they come to be: they are plain, so that no two look the same.
pub const USERNAME_PATTERN: &str = "^[a-z][a-z0-9._-]{2,31}$";
/// The same in words.
pub const USERNAME_RULE: &str = "must be 3 to 32 of a-z 0-9 . _ - starting with a letter";
/// How often a realm gives tokens again for the refresh token that was used last, while none of those that it gave for it was used.
/// What it gave may have been lost on its way: with a process that was killed, or with a response that did not come in time.
pub const REFRESH_RETRIES: u8 = 3;
/// Wrong passwords of an account, from any address, after which a realm blocks it for a while, for the owner too. More than the auth
/// service lets one address try, so that a stranger does not lock an account.
pub const REALM_FAILURES: u8 = 50;
/// After this long without a wrong password a realm forgets those before. Less than between two that the auth service lets one address
/// try in the long run.
pub const REALM_FAILURES_SECONDS: u8 = 20;
/// The clients whose access tokens the services take.
pub const TOKEN_CLIENTS: [&str; 2] = [APP_CLIENT, AUTH_CLIENT];

/// What the names of variables begin with that a tenant may add to its pods. Libraries and what watches over pods read those of the first four; the last
/// is for the host's own images. No flag of a service is read from such a variable, so none is set by one, in this release or a later one.
pub const EXTRA_VARIABLES: [&str; 5] = ["RUST_", "TOKIO_", "MALLOC_", "OTEL_", "X_"];
