//! E-mail addresses, and what is sent to them.

use std::fmt;

use kit::error::InvalidField;

/// Longest address in bytes (RFC 5321, with its brackets).
const MAX_BYTES: usize = 254;
/// Longest part before the `@`, and longest label behind it.
const MAX_LOCAL_BYTES: usize = 64;
const MAX_LABEL_BYTES: usize = 63;

/// An e-mail address in lower case. It is personal, so it shows itself nowhere.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(hidden)")
    }
}

impl Email {
    /// Reads an address, in any case and with spaces around it. A domain in another script is written in ASCII.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, InvalidField> {
        let address = text.trim().to_ascii_lowercase();
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(&byte);
        let is_label = |label: &str| {
            (1..=MAX_LABEL_BYTES).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_one = address.split_once('@').is_some_and(|(local, domain)| {
            local.len() <= MAX_LOCAL_BYTES
                && local.split('.').all(|word| !word.is_empty() && word.bytes().all(is_word))
                && domain.contains('.')
                && domain.split('.').all(is_label)
        });
        if is_one && address.len() <= MAX_BYTES {
            return Ok(Self(address));
        }
        Err(InvalidField { field, problem: "is no e-mail address such as ann@acme.example".to_owned() })
    }

    /// Returns the text, for the realm and for the mail server.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// A mail without its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub subject: String,
    pub text: String,
}

/// Returns the mail with a link that replaces a password. `origin` is the tenant's address.
pub fn password_mail(origin: &str, token: &str) -> Mail {
    let host = host(origin);
    Mail {
        subject: format!("Your password at {host}"),
        text: format!(
            "You, or someone else, asked to replace the password of your account at {host}. To choose a new one, open this link \
             within 15 minutes:\n\n{origin}/#password_reset={token}\n\nAll devices are signed out then. If it was not you, do \
             nothing: your password stays as it is.\n"
        ),
    }
}

/// Returns the mail with a link that confirms an address.
pub fn confirmation_mail(origin: &str, token: &str) -> Mail {
    let host = host(origin);
    Mail {
        subject: format!("Your e-mail address at {host}"),
        text: format!(
            "This address was entered for an account at {host}. To confirm that it is yours, open this link within 15 \
             minutes:\n\n{origin}/#email_confirmation={token}\n\nIf it was not you, do nothing.\n"
        ),
    }
}

/// Returns the mail to an address that is no longer that of an account.
pub fn farewell_mail(origin: &str) -> Mail {
    let host = host(origin);
    Mail {
        subject: format!("Your e-mail address at {host}"),
        text: format!(
            "Another address took the place of this one for your account at {host}. Links for a new password go there from now on.\n\nIf it \
             was not you, sign in at {origin}/, choose another password, and enter your address again. If you cannot sign in, ask an \
             administrator.\n"
        ),
    }
}

fn host(origin: &str) -> &str {
    origin.split_once("://").map_or(origin, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_line_of_plain_characters() {
        let parse = |text: &str| Email::parse("email", text).map(|email| email.expose().to_owned());
        for (typed, expected) in [
            ("ann@acme.example", "ann@acme.example"),
            (" Ann.B+c@Acme.Example\n", "ann.b+c@acme.example"),
            ("o'neil@xn--bcher-kva.example", "o'neil@xn--bcher-kva.example"),
        ] {
            assert_eq!(parse(typed).as_deref(), Ok(expected));
        }
        let long = format!("{}@acme.example", "a".repeat(65));
        let longer = format!("a@{}example", "label.".repeat(50));
        for bad in [
            "",
            "ann",
            "@acme.example",
            "ann@",
            "ann@acme",
            "ann@@acme.example",
            "a b@acme.example",
            "ann@acme..example",
            ".ann@acme.example",
            "ann@-acme.example",
            "ann@acme.example\nBcc: all@acme.example",
            "ann,bob@acme.example",
            "<ann@acme.example>",
            "\"ann\"@acme.example",
            "änn@acme.example",
            &long,
            &longer,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let shown = format!("{:?}", Email::parse("email", "ann@acme.example"));
        assert!(!shown.contains("ann"), "{shown}");
    }

    #[test]
    fn a_link_has_its_token_where_no_server_reads_it() {
        let mail = password_mail("https://acme.example:8443", "TOKEN");
        assert!(
            mail.text.contains("\n\nhttps://acme.example:8443/#password_reset=TOKEN\n\n"),
            "{}",
            mail.text
        );
        assert_eq!(mail.subject, "Your password at acme.example:8443");
        assert!(confirmation_mail("https://acme.example", "T").text.contains("/#email_confirmation=T\n"));
    }
}
