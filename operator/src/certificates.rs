//! When certificates end.
//!
//! The operator makes none, and reads no Secret that has one. It sees those of the hosts of tenants when it proves that users reach them, and those that
//! a cell trusts in `spec.caBundle`.

use std::collections::HashMap;

use rustls::pki_types::{CertificateDer, pem::PemObject as _};

/// Returns when a certificate in DER ends, in seconds since the epoch; nothing where there is none.
pub(crate) fn expiry(der: &[u8]) -> Option<i64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// Returns when the first of some certificates in PEM ends.
pub(crate) fn first_expiry(pem: &str) -> Option<i64> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
    certificates.filter_map(|certificate| expiry(&certificate)).min()
}

/// When certificates end, in seconds since the epoch, as passes saw them last.
#[derive(Debug, Default)]
pub(crate) struct Expiries {
    /// Those of hosts, by the id of their tenant.
    pub hosts: HashMap<String, i64>,
    /// Those that are trusted, by the name of their cell.
    pub trusted: HashMap<String, i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate with its end.
    const EARLY: (&str, i64) = (
        "\
-----BEGIN CERTIFICATE-----
MIIBBjCBrQIBATAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARsb25nMB4XDTI2MDEw
MTAwMDAwMFoXDTMwMDEwMjAzMDQwNVowEDEOMAwGA1UEAwwFZWFybHkwWTATBgcq
hkjOPQIBBggqhkjOPQMBBwNCAATZz9nJYVYWpcyxLAWs/W6gKaEDUaeaQ6JlYSHo
OhSjJq2xVs49eaJDG/W0XhOPJW3jIdKcfOTtlksCu1PwufVvMAoGCCqGSM49BAMC
A0gAMEUCIEsbaizEMu7W6QROS8V47BG6kpSgBziiqZmBILYp+vYxAiEAoJpX91u/
BuxyB1ohYtxWuHccidyynV9LTrbRTRfNM4g=
-----END CERTIFICATE-----
",
        1_893_553_445,
    );
    /// Another one. Its end is beyond what two digits of a year can say.
    const LATE: (&str, i64) = (
        "\
-----BEGIN CERTIFICATE-----
MIIBBjCBrgIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARsb25nMCAXDTI2MDEw
MTAwMDAwMFoYDzIwNjAwMTAyMDMwNDA1WjAPMQ0wCwYDVQQDDARsYXRlMFkwEwYH
KoZIzj0CAQYIKoZIzj0DAQcDQgAE8hT1l7KA1o35mbkNxLyUlhAk5vMdIUhI2PNb
HVAOIyPSoSGHV8FtNxZUfL3Cpl0hx84sHKu/6YSiIk9G/YWb+jAKBggqhkjOPQQD
AgNHADBEAiBKTMvH9z5EuphGLU2O0v9meChUECT3i+sJ3pjUXRwRyAIgKOWC6jAt
um/aIfT+7XO8oJmzZMfasUT7I+jngctYfH0=
-----END CERTIFICATE-----
",
        2_840_238_245,
    );

    #[test]
    fn of_several_certificates_the_one_that_ends_first_counts() {
        for (pem, expected) in [EARLY, LATE] {
            assert_eq!(first_expiry(pem), Some(expected));
        }
        let both = format!("# A comment.\n{}\n{}", LATE.0, EARLY.0);
        assert_eq!(first_expiry(&both), Some(EARLY.1));
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        for pem in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(first_expiry(pem), None, "{pem}");
        }
        assert_eq!(expiry(&[0x30, 0x82]), None);
    }
}
