//! One connection to one broker: TLS where the cell has it, frames, version choice, SASL/SCRAM-SHA-512 login.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    ApiVersionsRequest, RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{
    Decodable, HeaderVersion, Request, StrBytes, VersionRange, encode_request_header_into_buffer,
};
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::scram::Exchange;
use crate::backend::login::Credentials;

const MECHANISM: &str = "SCRAM-SHA-512";
/// Longest response taken, 16 MiB: the metadata of 4,000 topics with 12 partitions is about 4 MB.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Log in again this long before the broker ends the session (`connections.max.reauth.ms`).
const SESSION_MARGIN: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("login refused")]
    LoginRefused,
    #[error("broken protocol: {0}")]
    Protocol(String),
}

/// TCP, or TLS over it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(super) struct Connection {
    stream: Box<dyn Stream>,
    offered: HashMap<i16, VersionRange>,
    correlation_id: i32,
    ends_at: Option<Instant>,
}

impl Connection {
    /// Connects, with TLS where there is a connector, and logs in. The caller sets the time limit.
    pub(super) async fn open(
        address: &str,
        tls: Option<&TlsConnector>,
        credentials: &Credentials,
    ) -> Result<Self, WireError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(stream),
            Some(tls) => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                let host = ServerName::try_from(host.to_owned()).map_err(broken)?;
                Box::new(tls.connect(host, stream).await?)
            }
        };
        let mut connection = Self { stream, offered: HashMap::new(), correlation_id: 0, ends_at: None };
        connection.agree_on_versions().await?;
        connection.log_in(credentials).await?;
        Ok(connection)
    }

    /// Reports whether the session outlives another call.
    pub(super) fn is_usable(&self) -> bool {
        self.ends_at.is_none_or(|ends_at| Instant::now() < ends_at)
    }

    /// Sends one request in the newest version both sides know. After an error, or when the returned future was
    /// dropped half way, the connection must not be used again.
    pub(super) async fn call<R: Request>(&mut self, request: &R) -> Result<R::Response, WireError> {
        let ours = R::VERSIONS;
        let theirs = self.offered.get(&R::KEY);
        let theirs = theirs.ok_or_else(|| WireError::Protocol(format!("the broker lacks API {}", R::KEY)))?;
        let both = theirs.intersect(&ours);
        if both.is_empty() {
            return Err(WireError::Protocol(format!("no common version of API {}", R::KEY)));
        }
        self.exchange(request, both.max).await
    }

    async fn exchange<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, WireError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("posthouse-operator")));
        let mut frame = BytesMut::zeroed(4);
        encode_request_header_into_buffer(&mut frame, &header).map_err(broken)?;
        request.encode(&mut frame, version).map_err(broken)?;
        let length = i32::try_from(frame.len() - 4).map_err(broken)?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame).await?;
        self.stream.flush().await?;

        let length = usize::try_from(self.stream.read_i32().await?).map_err(broken)?;
        if length > MAX_ANSWER_BYTES {
            return Err(WireError::Protocol(format!("an answer of {length} bytes")));
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).await?;
        let mut answer = Bytes::from(answer);
        let header =
            ResponseHeader::decode(&mut answer, R::Response::header_version(version)).map_err(broken)?;
        if header.correlation_id != self.correlation_id {
            return Err(WireError::Protocol("an answer to another request".into()));
        }
        let response = R::Response::decode(&mut answer, version).map_err(broken)?;
        // Bytes left over mean that a version or a field was misread.
        if answer.has_remaining() {
            return Err(WireError::Protocol(format!(
                "{} unread bytes in answer to API {}",
                answer.len(),
                R::KEY
            )));
        }
        Ok(response)
    }

    async fn agree_on_versions(&mut self) -> Result<(), WireError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("posthouse-operator"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        // Version 3 is known to every broker since 2.4.
        let answer = self.exchange(&request, 3).await?;
        if let Some(error) = ResponseError::try_from_code(answer.error_code) {
            return Err(WireError::Protocol(format!("version negotiation: {error}")));
        }
        let ranges = answer.api_keys.iter();
        self.offered = ranges
            .map(|key| (key.api_key, VersionRange { min: key.min_version, max: key.max_version }))
            .collect();
        Ok(())
    }

    async fn log_in(&mut self, credentials: &Credentials) -> Result<(), WireError> {
        let handshake = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(MECHANISM));
        // Version 0 would be followed by raw SASL bytes.
        let answer = self.exchange(&handshake, 1).await?;
        if let Some(error) = ResponseError::try_from_code(answer.error_code) {
            return Err(WireError::Protocol(format!("{MECHANISM}: {error}")));
        }
        let exchange = Exchange::new(&credentials.username, credentials.password.expose_secret());
        let (challenge, _) = self.authenticate(exchange.client_first()).await?;
        let (proof, signature) =
            exchange.client_final(&challenge).map_err(|why| WireError::Protocol(why.into()))?;
        let (verdict, lifetime) = self.authenticate(proof).await?;
        if !signature.matches(&verdict) {
            return Err(WireError::Protocol("the broker does not know the password it accepted".into()));
        }
        self.ends_at = lifetime.map(|lifetime| Instant::now() + lifetime.saturating_sub(SESSION_MARGIN));
        Ok(())
    }

    async fn authenticate(&mut self, message: String) -> Result<(String, Option<Duration>), WireError> {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
        let answer = self.call(&request).await?;
        match ResponseError::try_from_code(answer.error_code) {
            None => {}
            Some(ResponseError::SaslAuthenticationFailed) => return Err(WireError::LoginRefused),
            Some(error) => return Err(WireError::Protocol(format!("login: {error}"))),
        }
        let lifetime = u64::try_from(answer.session_lifetime_ms).ok().filter(|ms| *ms > 0);
        let text = String::from_utf8(answer.auth_bytes.to_vec()).map_err(broken)?;
        Ok((text, lifetime.map(Duration::from_millis)))
    }
}

fn broken(error: impl std::fmt::Display) -> WireError {
    WireError::Protocol(error.to_string())
}
