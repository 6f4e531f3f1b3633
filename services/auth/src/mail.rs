//! Sends mail through the cell's mail server.

use std::time::Duration;

use anyhow::Context as _;
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        Mailbox,
        header::{ContentType, MIME_VERSION_1_0},
    },
    transport::smtp::{
        Error as SmtpError,
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};
use secrecy::ExposeSecret as _;

use crate::{
    config::MailArgs,
    domain::email::{Email, Mail},
    sealed::random_word,
};

/// A request waits no longer for the mail server.
const TIMEOUT: Duration = Duration::from_secs(8);

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
    /// With this reply.
    #[error("the mail server takes no mail for an address: {0}")]
    NoSuchAddress(u16),
    #[error("a mail cannot be written")]
    Unwritable,
}

/// Replies to a recipient that is not there, not here, or no address (RFC 5321, section 4.2.3).
const NO_SUCH_ADDRESS: [u16; 4] = [550, 551, 553, 556];

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
    pub(crate) async fn send(&self, to: &Email, mail: Mail) -> Result<(), MailError> {
        let to: Address = to.expose().parse().map_err(|_| MailError::Unwritable)?;
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(mail.subject)
            .message_id(Some(format!("<{}@{}>", random_word().expose_secret(), self.from.email.domain())))
            // Without it the encoding of the text means nothing (RFC 2045, section 4).
            .header(MIME_VERSION_1_0)
            .header(ContentType::TEXT_PLAIN)
            .body(mail.text)
            .map_err(|_| MailError::Unwritable)?;
        let sent = tokio::time::timeout(TIMEOUT, self.transport.send(message)).await;
        sent.map_err(|_| MailError::Late)?.map(drop).map_err(|error| {
            match error.status().map(u16::from).filter(|status| NO_SUCH_ADDRESS.contains(status)) {
                Some(status) => MailError::NoSuchAddress(status),
                None => MailError::Server(error),
            }
        })
    }
}
