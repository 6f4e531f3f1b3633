//! Requests every service through Traefik. Its routes have no status: only a response proves one.

use std::time::{Duration, Instant};

use catalog::{Service, TENANT_HEADER};
use crds::{Host, Scheme};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use reqwest::tls::TlsInfo;

use crate::{
    certificates::expiry,
    tenant::{Cell, Tenant},
    text::root_cause,
};

/// A service that responds later is no good to users either.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Requests that the tenant's own rate limit refused are repeated for at most this long. One that is refused still shows that its
/// route exists: nothing else limits it.
const LIMITED_TIMEOUT: Duration = Duration::from_secs(4);

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

/// What requests of all routes of a tenant came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Probed {
    pub wrong: Vec<ProbeError>,
    /// When the first of the certificates ends that the hosts showed, in seconds since the epoch.
    pub expires_at: Option<i64>,
}

/// Proves that users reach a tenant.
pub(crate) trait Probe: Send + Sync {
    /// Requests every service at the main host, and the first one at the others.
    fn probe<'a>(&'a self, tenant: &'a Tenant) -> BoxFuture<'a, Probed>;
}

/// Probes routes through Traefik. Keeps its connections to entry points without TLS.
pub(crate) struct Prober {
    plain: reqwest::Client,
}

impl Prober {
    pub fn new() -> Result<Self, reqwest::Error> {
        Ok(Self { plain: builder().build()? })
    }

    /// Users' requests and these share a rate limit where they come from one address, so no more of these are sent at once than it
    /// lets through.
    async fn request_all(&self, tenant: &Tenant) -> Probed {
        let Some((main, others)) = tenant.hosts.routed.split_first() else { return Probed::default() };
        let all = tenant.services().map(|service| (main, service));
        let all = all.chain(
            others.iter().flat_map(|host| tenant.services().take(1).map(move |service| (host, service))),
        );
        let at_once = usize::try_from(tenant.rate_limit.burst).unwrap_or(1).max(1);
        let until = Instant::now() + LIMITED_TIMEOUT;
        let requests: Vec<_> =
            all.map(|(host, service)| self.patient_request(tenant, host, service, until)).collect();
        let answers: Vec<_> = stream::iter(requests).buffered(at_once).collect().await;
        let mut probed = Probed::default();
        for answer in answers {
            match answer {
                Ok(expires_at) => probed.expires_at = probed.expires_at.into_iter().chain(expires_at).min(),
                Err(error) => probed.wrong.push(error),
            }
        }
        probed
    }

    /// Requests a service, again when the tenant's rate limit refuses it.
    async fn patient_request(
        &self,
        tenant: &Tenant,
        host: &Host,
        service: Service,
        until: Instant,
    ) -> Result<Option<i64>, ProbeError> {
        let average = u32::try_from(tenant.rate_limit.average).unwrap_or(1).max(1);
        let next_token = Duration::from_secs(1) / average;
        loop {
            match self.request(tenant, host, service).await {
                Err(ProbeError::Status { status: 429, .. }) if Instant::now() + next_token < until => {
                    tokio::time::sleep(next_token).await;
                }
                Err(ProbeError::Status { status: 429, .. }) => return Ok(None),
                result => return result,
            }
        }
    }

    /// Requests a service, and returns when the certificate ends that the host showed.
    async fn request(
        &self,
        tenant: &Tenant,
        host: &Host,
        service: Service,
    ) -> Result<Option<i64>, ProbeError> {
        let path = service.probe_path();
        let url = format!("{}{path}", tenant.origin(host));
        let no_answer = |detail: String| ProbeError::NoAnswer { service, url: url.clone(), detail };
        let origin = tenant.origin(host);
        let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
        let request = match tenant.cell.scheme {
            Scheme::Http => {
                let address = &tenant.cell.probe_address;
                self.plain.get(format!("http://{address}{path}")).header(http::header::HOST, authority)
            }
            Scheme::Https => {
                // An explicit port of the URL is connected to, whatever the address says: it is the one users use.
                let (_, port) = tenant.cell.probe_address.rsplit_once(':').unwrap_or_default();
                let client = secure(&tenant.cell, host).await.map_err(&no_answer)?;
                client.get(format!("https://{host}:{port}{path}")).header(http::header::HOST, authority)
            }
        };
        let answer = request.send().await.map_err(|error| no_answer(root_cause(&error).to_string()))?;
        if answer.status() != http::StatusCode::OK {
            return Err(ProbeError::Status { service, url, status: answer.status().as_u16() });
        }
        let named =
            answer.headers().get(TENANT_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if named == tenant.id.as_str() {
            let shown = answer.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate);
            Ok(shown.and_then(expiry))
        } else {
            Err(ProbeError::WrongTenant { service, url, tenant: named.to_owned() })
        }
    }
}

impl Probe for Prober {
    fn probe<'a>(&'a self, tenant: &'a Tenant) -> BoxFuture<'a, Probed> {
        self.request_all(tenant).boxed()
    }
}

/// Returns a client that finds `host` at the cell's probe address, so that name and certificate are checked as browsers do.
async fn secure(cell: &Cell, host: &Host) -> Result<reqwest::Client, String> {
    let addresses = tokio::net::lookup_host(&cell.probe_address).await.map_err(|error| error.to_string())?;
    let addresses: Vec<_> = addresses.collect();
    let client = builder()
        .resolve_to_addrs(host.as_str(), &addresses)
        .tls_certs_merge(cell.certificates.iter().cloned())
        .tls_info(true);
    client.build().map_err(|error| error.to_string())
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .timeout(PROBE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_idle_timeout(Duration::from_secs(15))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::{Router, http::StatusCode, response::IntoResponse};

    use super::*;
    use crate::{certificates::first_expiry, rendered::testing::example};

    /// Answers as Traefik does for a tenant: one token at the start, and one more every 50 ms.
    async fn limited_traefik() -> String {
        let tokens = std::sync::Arc::new(Mutex::new((1.0_f64, Instant::now())));
        let answer = move || {
            let mut bucket = tokens.lock().expect("a lock");
            bucket.0 = (bucket.0 + bucket.1.elapsed().as_secs_f64() * 20.0).min(1.0);
            bucket.1 = Instant::now();
            let is_let_through = bucket.0 >= 1.0;
            bucket.0 -= f64::from(u8::from(is_let_through));
            let answer = if is_let_through { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS };
            std::future::ready((answer, [(TENANT_HEADER, "acme")]).into_response())
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        tokio::spawn(axum::serve(listener, Router::new().fallback(answer)).into_future());
        address
    }

    /// Serves the first service of a tenant over TLS, with a certificate of a CA that is not public. Returns the process, its port,
    /// and the certificate of the CA.
    fn private_traefik(
        folder: &std::path::Path,
        host: &str,
        path: &str,
    ) -> (std::process::Child, u16, String) {
        let openssl = |arguments: &str| {
            let status = std::process::Command::new("openssl")
                .args(arguments.split(' '))
                .current_dir(folder)
                .stderr(std::process::Stdio::null())
                .status();
            assert!(status.expect("openssl").success(), "openssl {arguments}");
        };
        openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=ca -keyout ca.key -out ca.pem",
        );
        openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN={host} -addext subjectAltName=DNS:{host} \
             -addext basicConstraints=critical,CA:FALSE -CA ca.pem -CAkey ca.key -keyout key.pem -out cert.pem"
        ));
        let file = folder.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        let answer = format!("HTTP/1.0 200 OK\r\n{TENANT_HEADER}: acme\r\ncontent-length: 0\r\n\r\n");
        std::fs::write(file, answer).expect("a file");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let server = std::process::Command::new("openssl")
            .args([
                "s_server",
                "-HTTP",
                "-quiet",
                "-cert",
                "cert.pem",
                "-key",
                "key.pem",
                "-port",
                &port.to_string(),
            ])
            .current_dir(folder)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("openssl");
        (server, port, std::fs::read_to_string(folder.join("ca.pem")).expect("a certificate"))
    }

    #[tokio::test]
    async fn a_private_ca_is_trusted_where_the_cell_names_it_and_the_probe_address_has_its_own_port() {
        _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = std::env::temp_dir().join(format!("posthouse-probe-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut tenant = example("acme.yaml", |_| {});
        let host = tenant.hosts.routed[0].clone();
        let service = tenant.services().next().expect("a service");
        let (mut server, port, ca) = private_traefik(&folder, host.as_str(), &service.probe_path());
        tenant.cell.scheme = Scheme::Https;
        // Users come in by another port.
        tenant.cell.port = Some(8443);
        tenant.cell.probe_address = format!("127.0.0.1:{port}");
        let prober = Prober::new().expect("a client");
        let trusted = reqwest::Certificate::from_pem_bundle(ca.as_bytes()).expect("certificates");
        let mut results = Vec::new();
        for certificates in [trusted, Vec::new()] {
            tenant.cell.certificates = certificates;
            let began = Instant::now();
            let result = loop {
                match prober.request(&tenant, &host, service).await {
                    // It is starting.
                    Err(ProbeError::NoAnswer { detail, .. })
                        if detail.contains("refused") && began.elapsed() < Duration::from_secs(20) =>
                    {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    result => break result,
                }
            };
            results.push(result);
        }
        let shown = std::fs::read_to_string(folder.join("cert.pem")).expect("a certificate");
        // It is a test's server without data: nothing is lost.
        _ = server.kill();
        _ = server.wait();
        _ = std::fs::remove_dir_all(&folder);
        let expires_at = first_expiry(&shown);
        assert!(expires_at.is_some(), "{shown}");
        assert_eq!(results[0], Ok(expires_at));
        assert!(
            results[1].as_ref().is_err_and(|error| error.to_string().contains("did not answer")),
            "{results:?}"
        );
    }

    #[tokio::test]
    async fn a_low_rate_limit_is_no_failure_of_the_probe() {
        let mut tenant = example("acme.yaml", |_| {});
        tenant.cell.probe_address = limited_traefik().await;
        tenant.rate_limit = crds::RateLimit { average: 20, burst: 1 };
        let prober = Prober::new().expect("a client");
        // Twice in a row: the second one begins with an empty bucket.
        for _ in 0..2 {
            assert_eq!(prober.probe(&tenant).await, Probed::default());
        }
    }
}
