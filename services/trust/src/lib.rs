//! Servers with TLS: what they are verified against, and why one is not taken for the server that it should be. Certificate and host are always verified.

use std::{error::Error, io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, InvalidMessage, RootCertStore,
    pki_types::{
        CertificateDer,
        pem::{self, PemObject as _},
    },
};

/// A bundle of certificates that are to be trusted cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("a certificate in it cannot be read")]
    Pem(#[from] pem::Error),
    #[error("a certificate in it cannot be that of an authority")]
    Authority(#[from] rustls::Error),
}

/// Returns how servers are verified that are not called by HTTP: by the public authorities, and by certificates in PEM.
pub fn client(ca_bundle: Option<&str>) -> Result<ClientConfig, BundleError> {
    let mut authorities = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    for certificate in CertificateDer::pem_slice_iter(ca_bundle.unwrap_or_default().as_bytes()) {
        authorities.add(certificate?)?;
    }
    Ok(ClientConfig::builder().with_root_certificates(authorities).with_no_client_auth())
}

/// Why a server is not taken for the one that it should be, with the next step for who runs a client with `--oidc-ca-bundle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    #[error(
        "its certificate is of an authority that is not trusted here: add that authority to --oidc-ca-bundle (of a \
         tenant: to spec.caBundle of its cell)"
    )]
    UnknownAuthority,
    #[error(
        "its certificate is for another host: correct the address (of a tenant: in the spec of its cell), or give the \
         server a certificate for this host"
    )]
    OtherHost,
    #[error("its certificate has expired: give the server another one")]
    Expired,
    #[error(
        "it does not speak TLS there: correct the address (of a tenant: in the spec of its cell), or let the server have TLS"
    )]
    Plain,
}

impl Untrusted {
    /// Returns what an error of a connection says of it, or nothing of an error that is about something else.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        // The error inside of one of I/O is not its source, and one of Redis is shared.
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let shared = error.downcast_ref::<Arc<dyn Error + Send + Sync>>();
        error
            .downcast_ref()
            .and_then(Self::of_tls)
            .or_else(|| inside.and_then(|inside| Self::of(inside)))
            .or_else(|| shared.and_then(|shared| Self::of(&**shared)))
            .or_else(|| error.source().and_then(Self::of))
    }

    fn of_tls(error: &rustls::Error) -> Option<Self> {
        match error {
            // An authority that has another key under the same name is another one too: it was replaced.
            rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => Some(Self::UnknownAuthority),
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => Some(Self::OtherHost),
            rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => Some(Self::Expired),
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(Self::Plain),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_found_inside_of_other_errors() {
        let found = |error: rustls::Error| {
            Untrusted::of(&io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error)))
        };
        for (error, expected) in [
            (CertificateError::UnknownIssuer, Some(Untrusted::UnknownAuthority)),
            (CertificateError::BadSignature, Some(Untrusted::UnknownAuthority)),
            (CertificateError::NotValidForName, Some(Untrusted::OtherHost)),
            (CertificateError::Expired, Some(Untrusted::Expired)),
            (CertificateError::BadEncoding, None),
        ] {
            assert_eq!(found(rustls::Error::InvalidCertificate(error)), expected);
        }
        let shared: Arc<dyn Error + Send + Sync> =
            Arc::new(io::Error::other(rustls::Error::InvalidCertificate(CertificateError::Expired)));
        assert_eq!(Untrusted::of(&shared), Some(Untrusted::Expired));
        let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(found(plain), Some(Untrusted::Plain));
        assert_eq!(Untrusted::of(&io::Error::from(io::ErrorKind::ConnectionRefused)), None);
    }
}
