//! Requests to the identity provider, whose certificate may be of an authority of its own.

use std::{error::Error, io};

use rustls::CertificateError;

/// Adds certificates in PEM to those that a client trusts.
pub fn trusting(
    client: reqwest::ClientBuilder,
    ca_bundle: Option<&str>,
) -> Result<reqwest::ClientBuilder, reqwest::Error> {
    let certificates = ca_bundle.map(|bundle| reqwest::Certificate::from_pem_bundle(bundle.as_bytes()));
    Ok(client.tls_certs_merge(certificates.transpose()?.into_iter().flatten()))
}

/// A request to the identity provider got no response, or none that could be read.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "the certificate of the identity provider is of an authority that is not trusted here: add that authority to \
         --oidc-ca-bundle (of a tenant: to spec.caBundle of its cell)"
    )]
    UnknownAuthority(#[source] reqwest::Error),
    #[error(transparent)]
    Other(reqwest::Error),
}

impl From<reqwest::Error> for IdentityError {
    fn from(error: reqwest::Error) -> Self {
        if is_of_unknown_authority(&error) { Self::UnknownAuthority(error) } else { Self::Other(error) }
    }
}

fn is_of_unknown_authority(error: &(dyn Error + 'static)) -> bool {
    // An authority that has another key under the same name is another one too: it was replaced.
    let is_one = matches!(
        error.downcast_ref(),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature
        ))
    );
    // The error inside of one of I/O is not its source.
    let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    is_one
        || inside.is_some_and(|inside| is_of_unknown_authority(inside))
        || error.source().is_some_and(is_of_unknown_authority)
}
