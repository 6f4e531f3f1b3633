//! Requests every service through Traefik. Its routes have no status: only a response proves one.

use std::time::Duration;

use catalog::{Service, TENANT_HEADER};
use crds::{Host, Scheme};
use futures_util::future::join_all;

use crate::tenant::{Cell, Tenant};

/// A service that responds later is no good to users either.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// What is wrong with a route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("{service} at {url} did not answer: {detail}")]
    NoAnswer { service: Service, url: String, detail: String },
    #[error("{service} at {url} answered {status}")]
    Status { service: Service, url: String, status: u16 },
    #[error("{service} at {url} was answered by {tenant:?} instead of this tenant")]
    WrongTenant { service: Service, url: String, tenant: String },
}

/// Probes routes. Keeps its connections to entry points without TLS.
pub(crate) struct Prober {
    plain: reqwest::Client,
}

impl Prober {
    pub fn new() -> Result<Self, reqwest::Error> {
        Ok(Self { plain: builder().build()? })
    }

    /// Requests every service at the main host, and the first one at the others. Returns what is wrong.
    pub async fn probe(&self, tenant: &Tenant) -> Vec<ProbeError> {
        let Some((main, others)) = tenant.hosts.routed.split_first() else { return Vec::new() };
        let all = tenant.services().map(|service| (main, service));
        let all = all.chain(
            others.iter().flat_map(|host| tenant.services().take(1).map(move |service| (host, service))),
        );
        let answers = join_all(all.map(|(host, service)| self.request(tenant, host, service))).await;
        answers.into_iter().filter_map(Result::err).collect()
    }

    async fn request(&self, tenant: &Tenant, host: &Host, service: Service) -> Result<(), ProbeError> {
        let path = service.probe_path();
        let url = format!("{}{path}", tenant.origin(host));
        let no_answer = |detail: String| ProbeError::NoAnswer { service, url: url.clone(), detail };
        let request = match tenant.cell.scheme {
            Scheme::Http => {
                let address = &tenant.cell.probe_address;
                let host = tenant
                    .origin(host)
                    .split_once("://")
                    .map_or_else(String::new, |(_, rest)| rest.to_owned());
                self.plain.get(format!("http://{address}{path}")).header(http::header::HOST, host)
            }
            Scheme::Https => secure(&tenant.cell, host).await.map_err(&no_answer)?.get(&url),
        };
        let answer = request.send().await.map_err(|error| no_answer(root_cause(&error)))?;
        if answer.status() != http::StatusCode::OK {
            return Err(ProbeError::Status { service, url, status: answer.status().as_u16() });
        }
        let named =
            answer.headers().get(TENANT_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if named == tenant.id.as_str() {
            Ok(())
        } else {
            Err(ProbeError::WrongTenant { service, url, tenant: named.to_owned() })
        }
    }
}

/// Returns a client that finds `host` at the cell's probe address, so that name and certificate are checked as browsers do.
async fn secure(cell: &Cell, host: &Host) -> Result<reqwest::Client, String> {
    let addresses = tokio::net::lookup_host(&cell.probe_address).await.map_err(|error| error.to_string())?;
    let addresses: Vec<_> = addresses.collect();
    builder().resolve_to_addrs(host.as_str(), &addresses).build().map_err(|error| error.to_string())
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .timeout(PROBE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_idle_timeout(Duration::from_secs(15))
}

/// Returns the last cause, which is the one that helps: "connection refused".
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
