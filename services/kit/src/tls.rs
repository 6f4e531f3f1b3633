//! Servers whose certificates may be of an authority of the cell's own.

use std::error::Error;

pub use trust::Untrusted;

use crate::error::chain;

/// Adds certificates in PEM to those that a client trusts.
pub fn trusting(
    client: reqwest::ClientBuilder,
    ca_bundle: Option<&str>,
) -> Result<reqwest::ClientBuilder, reqwest::Error> {
    let certificates = ca_bundle.map(|bundle| reqwest::Certificate::from_pem_bundle(bundle.as_bytes()));
    Ok(client.tls_certs_merge(certificates.transpose()?.into_iter().flatten()))
}

/// Returns an error and its causes on one line, with the next step before it where a server is not trusted.
pub fn explained(error: &(dyn Error + 'static)) -> String {
    let text = chain(error);
    match Untrusted::of(error).map(|why| why.to_string()) {
        Some(why) if !text.contains(&why) => format!("{why}: {text}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use rustls::CertificateError;

    use super::*;

    #[test]
    fn the_next_step_is_said_once() {
        let shared: Arc<dyn Error + Send + Sync> =
            Arc::new(io::Error::other(rustls::Error::InvalidCertificate(CertificateError::Expired)));
        assert_eq!(explained(&shared).matches("has expired").count(), 1, "{}", explained(&shared));
    }
}
