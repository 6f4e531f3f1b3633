//! Signed requests to one address.

use std::time::SystemTime;

use aws_credential_types::Credentials as Identity;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4::SigningParams,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use traces::Server;
use url::Url;

use super::document::{self, Problem};
use crate::{
    backend::{
        error::BackendError,
        http::{is_away, read},
        login::Credentials,
        tls::why,
    },
    text::one_line,
};

const ENTRY: catalog::Backend = catalog::Backend::S3;

/// One address, with the account that requests to it are signed by.
pub(super) struct Store {
    endpoint: Url,
    region: String,
    credentials: Credentials,
    http: reqwest::Client,
}

/// One request. Its body may hold a secret key, so it is never shown.
#[derive(Clone)]
pub(super) struct Request {
    pub method: Method,
    /// Names of buckets and keys are plain, so that nothing has to be encoded.
    pub path: String,
    pub query: Vec<(&'static str, String)>,
    pub body: String,
}

impl Request {
    /// Returns a request about a part of what the path names: `?policy`, for example.
    pub fn about(method: Method, path: impl Into<String>, part: &'static str) -> Self {
        Self { query: vec![(part, String::new())], ..Self::new(method, path) }
    }

    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Vec::new(), body: String::new() }
    }

    #[must_use]
    pub fn with(self, body: String) -> Self {
        Self { body, ..self }
    }
}

impl Store {
    /// # Panics
    ///
    /// When `endpoint` is no URL of a host: those of a cell were checked.
    pub fn new(endpoint: &str, region: &str, credentials: Credentials, http: reqwest::Client) -> Self {
        let endpoint = Url::parse(endpoint).expect("the addresses of a cell were checked");
        Self { endpoint, region: region.to_owned(), credentials, http }
    }

    /// Sends a request and returns the text of the response. `action` is for an error.
    pub async fn send(&self, action: &str, request: Request) -> Result<String, BackendError> {
        match self.try_send(action, request, &[]).await? {
            Ok(text) => Ok(text),
            Err(problem) => Err(Self::refused(action, StatusCode::BAD_REQUEST, &problem)),
        }
    }

    /// Sends a request, and returns nothing where the response has one of these codes: its object does not exist.
    pub async fn find(
        &self,
        action: &str,
        request: Request,
        missing: &[&str],
    ) -> Result<Option<String>, BackendError> {
        Ok(self.try_send(action, request, missing).await?.ok())
    }

    /// Sends a request. A response with one of the `expected` codes is no error of the call.
    async fn try_send(
        &self,
        action: &str,
        request: Request,
        expected: &[&str],
    ) -> Result<Result<String, Problem>, BackendError> {
        let signed = self.signed(&request);
        let answer = read(Server::S3, &request.method, self.http.execute(signed)).await;
        let (status, text) = answer.map_err(|error| self.unavailable(why(ENTRY, &error)))?;
        if status.is_success() {
            return Ok(Ok(text));
        }
        let problem: Problem = document::read(&text).unwrap_or_default();
        if expected.contains(&problem.code.as_str()) {
            return Ok(Err(problem));
        }
        match problem.code.as_str() {
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AccessDenied" | "XAdminAccessDenied" => {
                Err(BackendError::CredentialsRejected { backend: ENTRY, endpoint: self.endpoint() })
            }
            _ if is_away(status) => Err(self.unavailable(format!("it answers {status}"))),
            _ => Err(Self::refused(action, status, &problem)),
        }
    }

    fn signed(&self, request: &Request) -> reqwest::Request {
        let mut url = self.endpoint.clone();
        url.set_path(&request.path);
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        let mut built = http::Request::builder().method(request.method.clone()).uri(url.as_str());
        if !request.body.is_empty() {
            // Some documents are taken with a checksum only.
            let checksum = BASE64_STANDARD.encode(Sha256::digest(&request.body));
            built = built.header("x-amz-checksum-sha256", checksum);
        }
        let mut built =
            built.body(request.body.clone()).expect("an address and plain headers make a request");
        let Credentials { username, password } = &self.credentials;
        let identity = Identity::new(username, password.expose_secret(), None, None, "posthouse").into();
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(now())
            .settings(settings)
            .build()
            .expect("every parameter is set")
            .into();
        let headers =
            built.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable = SignableRequest::new(
            request.method.as_str(),
            url.as_str(),
            headers,
            SignableBody::Bytes(request.body.as_bytes()),
        );
        let signed = signable.and_then(|signable| sign(signable, &parameters));
        let (instructions, _) = signed.expect("a request with plain headers can be signed").into_parts();
        instructions.apply_to_request_http1x(&mut built);
        reqwest::Request::try_from(built).expect("the address is that of an HTTP server")
    }

    fn endpoint(&self) -> String {
        self.endpoint.as_str().trim_end_matches('/').to_owned()
    }

    fn unavailable(&self, why: impl std::fmt::Display) -> BackendError {
        BackendError::unavailable(ENTRY, &self.endpoint(), why)
    }

    fn refused(action: &str, status: StatusCode, problem: &Problem) -> BackendError {
        let Problem { code, message } = problem;
        let detail = match code.as_str() {
            "" => format!("it answers {status}"),
            code => one_line(format!("{code}: {message}")),
        };
        let retryable = status.is_server_error();
        BackendError::Refused { backend: ENTRY, action: action.to_owned(), detail, retryable }
    }
}

#[expect(clippy::disallowed_methods, reason = "an edge: a signature holds when it was made")]
fn now() -> SystemTime {
    SystemTime::now()
}
