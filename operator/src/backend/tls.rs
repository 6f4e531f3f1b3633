//! Servers with TLS: what they are verified against, and why one is not taken for the server that it should be.

use std::error::Error;

use rustls::ClientConfig;
use trust::Untrusted;

use crate::{tenant::Cell, text::root_cause};

/// How a server without a scheme in its address is verified: its certificate is of an authority in `ca_bundle`, or of a public one, and names its
/// host. Where there is none of these, connections have no TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Certificates in PEM.
    pub ca_bundle: Option<String>,
}

impl Trust {
    /// Returns that of a backend for which the cell says this, or nothing where it has no TLS.
    pub(super) fn of(cell: &Cell, tls: Option<crds::Tls>) -> Option<Self> {
        match tls.unwrap_or_default() {
            crds::Tls::Disabled => None,
            crds::Tls::VerifyFull => Some(Self { ca_bundle: cell.spec.ca_bundle.clone() }),
        }
    }

    /// Returns how a client verifies the server.
    pub(super) fn client(&self) -> Result<ClientConfig, String> {
        trust::client(self.ca_bundle.as_deref())
            .map_err(|error| format!("spec.caBundle of the cell cannot be used: {}", root_cause(&error)))
    }
}

/// Returns a short text that changes with what [`Trust::of`] returns.
pub(super) fn fingerprint(cell: &Cell, tls: Option<crds::Tls>) -> String {
    match tls.unwrap_or_default() {
        crds::Tls::Disabled => "without TLS".to_owned(),
        crds::Tls::VerifyFull => cell.trust(),
    }
}

/// Returns why there is no connection. Where it is about the certificate of the server, the next step comes first.
pub(super) fn why(backend: catalog::Backend, error: &(dyn Error + 'static)) -> String {
    let cause = root_cause(error);
    match Untrusted::of(error) {
        Some(why) => format!("{} ({cause})", next_step(backend, why)),
        None => cause.to_string(),
    }
}

/// Returns the next step where a server speaks something else than TLS.
pub(super) fn no_tls(backend: catalog::Backend) -> String {
    let field = backend.field;
    format!(
        "it does not speak TLS there: correct the address in spec.{field} of the cell, or let the server have TLS"
    )
}

fn next_step(backend: catalog::Backend, why: Untrusted) -> String {
    let field = backend.field;
    match why {
        Untrusted::UnknownAuthority => {
            "its certificate is of an authority that is not trusted: add that authority to spec.caBundle of the cell"
                .to_owned()
        }
        Untrusted::OtherHost => format!(
            "its certificate is for another host: correct the address in spec.{field} of the cell, or give the server a \
             certificate for this host"
        ),
        Untrusted::Expired => "its certificate has expired: give the server another one".to_owned(),
        Untrusted::Plain => no_tls(backend),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::{CertificateError, InvalidMessage, pki_types::ServerName};

    use super::*;
    use crate::rendered::testing::cell;

    #[test]
    fn a_connection_is_made_again_when_what_is_trusted_changes() {
        let fingerprints = [
            (None, None),
            (None, Some("-----BEGIN CERTIFICATE-----")),
            (Some(crds::Tls::VerifyFull), None),
            (Some(crds::Tls::VerifyFull), Some("-----BEGIN CERTIFICATE-----")),
        ]
        .map(|(tls, ca_bundle)| {
            let mut cell = cell(|_| {});
            cell.spec.ca_bundle = ca_bundle.map(str::to_owned);
            assert_eq!(Trust::of(&cell, tls).is_some(), tls.is_some());
            fingerprint(&cell, tls)
        });
        assert_eq!(fingerprints[0], fingerprints[1], "nothing is trusted without TLS");
        assert_ne!(fingerprints[1], fingerprints[2]);
        assert_ne!(fingerprints[2], fingerprints[3]);
    }

    /// As an HTTP client has it: inside of an error of I/O inside of another one.
    fn text(error: rustls::Error) -> String {
        let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
        why(catalog::Backend::RabbitMq, &error)
    }

    #[test]
    fn what_is_wrong_with_a_certificate_comes_with_the_next_step() {
        let expected = ServerName::try_from("rabbitmq.rabbitmq.svc").expect("a name");
        let presented = vec!["DnsName(\"queues.example\")".to_owned()];
        let other_host = CertificateError::NotValidForNameContext { expected, presented };
        for (error, expected) in [
            (
                CertificateError::UnknownIssuer,
                "of an authority that is not trusted: add that authority to spec.caBundle of the cell (",
            ),
            (CertificateError::BadSignature, "add that authority to spec.caBundle of the cell ("),
            (other_host, "for another host: correct the address in spec.rabbitmq of the cell, or "),
            (CertificateError::Expired, "has expired: give the server another one ("),
        ] {
            let text = text(rustls::Error::InvalidCertificate(error));
            assert!(text.starts_with("its certificate ") && text.contains(expected), "{text}");
        }
        let plain = text(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType));
        assert!(plain.starts_with(
            "it does not speak TLS there: correct the address in spec.rabbitmq of the cell, or "
        ));
    }

    #[test]
    fn any_other_failure_is_its_last_cause() {
        assert_eq!(text(rustls::Error::HandshakeNotComplete), "handshake not complete");
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(why(catalog::Backend::Keycloak, &refused), "connection refused");
    }
}
