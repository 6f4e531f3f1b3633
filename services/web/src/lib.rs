//! The web service: the messenger that users open in a browser, `clients/app`, at the tenant's address.
//!
//! # Owns
//! Nothing. The files of the client are part of the binary, as the client's build compressed them.
//!
//! # Endpoints
//! `/`, the page; `/app/`, its files; `/app/config.json`, what the page has to know of the tenant. No gRPC API.
//!
//! # Consumes
//! Nothing.
//!
//! # Publishes
//! Nothing.

mod api;
mod assets;
mod config;
mod policy;

use anyhow::Context as _;
use axum::http::HeaderValue;
use kit::{Memory, Scope, Service, Surface, catalog};
use tonic::service::Routes;
use url::Url;

use crate::{
    api::{PageConfig, WebState},
    policy::policy,
};

pub use config::{Logo, Settings, UploadOrigin};

/// Where a messenger in memory takes files.
const LOCAL_STORE: &str = "http://127.0.0.1:*";

/// The web service.
pub struct Web;

impl Service for Web {
    const ENTRY: catalog::Service = catalog::Service::Web;
    type Settings = Settings;

    async fn build(settings: Settings, scope: &Scope) -> anyhow::Result<Surface> {
        let Settings { oidc_issuer, upload_origin, brand_name, brand_color, brand_logo } = settings;
        let realm: Url =
            oidc_issuer.parse().with_context(|| format!("--oidc-issuer {oidc_issuer} is not a URL"))?;
        let elsewhere = [Some(realm), upload_origin.0];
        let elsewhere: Vec<_> = elsewhere.iter().flatten().map(policy::source).collect();
        let mut config = config(scope, Some(oidc_issuer));
        if !brand_name.is_empty() {
            config.name = brand_name;
        }
        surface(
            PageConfig { color: brand_color, logo: brand_logo.map(|logo| logo.0), ..config },
            policy(&elsewhere)?,
        )
    }

    /// There is no realm with a page: users sign in by name and password. The store of the media service in memory has a port of the
    /// system's choice.
    fn in_memory(_: &Memory, scope: &Scope) -> anyhow::Result<Surface> {
        surface(config(scope, None), policy(&[LOCAL_STORE.to_owned()])?)
    }
}

fn config(scope: &Scope, realm: Option<String>) -> PageConfig {
    PageConfig {
        name: scope.tenant().to_owned(),
        color: None,
        logo: None,
        realm,
        services: scope.tenant_services().iter().map(|service| service.as_str().to_owned()).collect(),
    }
}

fn surface(config: PageConfig, policy: HeaderValue) -> anyhow::Result<Surface> {
    let state = WebState::new(assets::embedded(), config, policy)?;
    Ok(Surface { api: api::router(state), grpc: Routes::default() })
}
