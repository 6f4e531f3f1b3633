//! Sends mail through the cell's mail server.

use std::{error::Error as _, fmt, time::Duration};

use anyhow::Context as _;
use aws_lc_rs::rand;
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        Mailbox,
        header::{ContentType, HeaderName, HeaderValue, MIME_VERSION_1_0},
    },
    transport::smtp::{
        Error as SmtpError,
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};
use secrecy::ExposeSecret as _;

use crate::{config::MailArgs, error::InvalidField};

/// A request waits no longer for the mail server.
const TIMEOUT: Duration = Duration::from_secs(8);

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
    /// Where a mail client posts that its user wants no more of them (RFC 8058). Such a mail is one that nobody asked for at that moment.
    pub unsubscribe: Option<String>,
}

/// The mail server of the cell.
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// A mail was not sent. Says nothing of its address.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    #[error("the mail server did not answer within {} s", TIMEOUT.as_secs())]
    Late,
    #[error("the mail server refused a mail: {}", code(.0))]
    Server(SmtpError),
    /// With this reply, and a code that says that it is the recipient.
    #[error("the mail server takes no mail for an address: {0}")]
    NoSuchAddress(u16),
    /// With this reply, which may be of the recipient, of the sender or of what is written.
    #[error("the mail server refused a mail for good: {0}")]
    Refused(u16),
    #[error("a mail cannot be written")]
    Unwritable,
}

/// Replies to a recipient that is not there, not here, or no address (RFC 5321, section 4.2.3).
const NO_SUCH_ADDRESS: [u16; 4] = [550, 551, 553, 556];

/// What such a reply begins with when it is of the recipient, and of nothing else (RFC 3463, section 3.2). The reply itself may be to any command.
const OF_RECIPIENT: [&str; 5] = ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"];

/// Returns what a failure means: lettre tells the status of the reply, and its text as the source.
fn failure(error: SmtpError) -> MailError {
    let status = error.status().map(u16::from).filter(|status| NO_SUCH_ADDRESS.contains(status));
    let Some(status) = status else { return MailError::Server(error) };
    let text = error.source().map(ToString::to_string).unwrap_or_default();
    match text.split_whitespace().next() {
        Some(code) if OF_RECIPIENT.contains(&code) => MailError::NoSuchAddress(status),
        _ => MailError::Refused(status),
    }
}

/// The server's words may repeat an address.
fn code(error: &SmtpError) -> String {
    error.status().map_or_else(|| "no usable answer".to_owned(), |code| code.to_string())
}

impl Mailer {
    /// Returns the mail server, `None` where the cell has none. It is not called yet.
    pub fn new(args: MailArgs, ca_bundle: Option<&str>) -> anyhow::Result<Option<Self>> {
        let MailArgs { smtp_url, smtp_from, smtp_username, smtp_password } = args;
        let (Some(url), Some(from)) = (smtp_url, smtp_from) else { return Ok(None) };
        let host = url.host_str().context("--smtp-url has no host")?.to_owned();
        let port = url.port().context("--smtp-url has no port")?;
        let tls = || -> anyhow::Result<TlsParameters> {
            let mut tls = TlsParameters::builder(host.clone());
            if let Some(bundle) = ca_bundle {
                tls = tls.add_root_certificate(Certificate::from_pem(bundle.as_bytes())?);
            }
            Ok(tls.build_rustls()?)
        };
        let is_upgraded = url.query() == Some("tls=required");
        let tls = match url.scheme() {
            "smtps" => Tls::Wrapper(tls()?),
            "smtp" if is_upgraded => Tls::Required(tls()?),
            "smtp" => Tls::None,
            other => anyhow::bail!("--smtp-url has the scheme {other}, and not smtp or smtps"),
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(port)
            .tls(tls)
            .timeout(Some(TIMEOUT));
        if let (Some(username), Some(password)) = (smtp_username, smtp_password) {
            transport =
                transport.credentials(Credentials::new(username, password.expose_secret().to_owned()));
        }
        let address: Address = from.parse().context("--smtp-from is no e-mail address")?;
        Ok(Some(Self { transport: transport.build(), from: Mailbox::new(None, address) }))
    }

    /// Sends a mail, and returns once the server has it.
    pub async fn send(&self, to: &Email, mail: Mail) -> Result<(), MailError> {
        let to: Address = to.expose().parse().map_err(|_| MailError::Unwritable)?;
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(mail.subject)
            .message_id(Some(format!("<{}@{}>", random_name(), self.from.email.domain())))
            // Without it the encoding of the text means nothing (RFC 2045, section 4).
            .header(MIME_VERSION_1_0)
            .header(ContentType::TEXT_PLAIN)
            .body(mail.text)
            .map_err(|_| MailError::Unwritable)?;
        if let Some(url) = mail.unsubscribe {
            let headers = message.headers_mut();
            let mut add = |name, value: String| {
                headers.insert_raw(HeaderValue::new(HeaderName::new_from_ascii_str(name), value));
            };
            add("List-Unsubscribe", format!("<{url}>"));
            add("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".to_owned());
            // Nothing answers it by itself (RFC 3834).
            add("Auto-Submitted", "auto-generated".to_owned());
        }
        let sent = tokio::time::timeout(TIMEOUT, self.transport.send(message)).await;
        sent.map_err(|_| MailError::Late)?.map(drop).map_err(failure)
    }
}

/// Returns a name that no other mail has.
fn random_name() -> String {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).expect("the system has random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
}
