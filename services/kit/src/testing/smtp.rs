//! A mail server for one test: it speaks SMTP (RFC 5321) with AUTH PLAIN, and keeps what it is sent.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    time::timeout,
};

pub const USERNAME: &str = "messenger";
pub const PASSWORD: &str = "of the mail server";
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// One mail as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub from: String,
    pub to: String,
    /// Headers and text, with the transfer encoding undone.
    pub content: String,
}

/// A mail server on a loopback port.
pub struct MailServer {
    /// `host:port`.
    pub address: String,
    mails: Arc<Mutex<VecDeque<Received>>>,
    has_come: Arc<tokio::sync::Notify>,
    refuses_sender: Arc<AtomicBool>,
}

impl MailServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let server = Self {
            address: listener.local_addr().expect("an address").to_string(),
            mails: Arc::default(),
            has_come: Arc::default(),
            refuses_sender: Arc::default(),
        };
        let (mails, has_come) = (server.mails.clone(), server.has_come.clone());
        let refuses_sender = server.refuses_sender.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mails, has_come) = (mails.clone(), has_come.clone());
                let refuses_sender = refuses_sender.clone();
                tokio::spawn(async move {
                    // Who is checked in the test leaves as they like.
                    drop(serve(stream, &mails, &has_come, &refuses_sender).await);
                });
            }
        });
        server
    }

    /// Takes no mail from now on, as a relay that does not know who sends, or takes them again.
    pub fn refuse_sender(&self, refuses: bool) {
        self.refuses_sender.store(refuses, Ordering::Relaxed);
    }

    /// Returns the next mail.
    pub async fn next(&self) -> Received {
        let next = async {
            loop {
                let come = self.has_come.notified();
                if let Some(mail) = self.mails.lock().await.pop_front() {
                    break mail;
                }
                come.await;
            }
        };
        timeout(PATIENCE, next).await.expect("a mail in time")
    }
}

impl Received {
    /// Returns the token of the link in it.
    pub fn token(&self, fragment: &str) -> String {
        let rest = self.content.split(&format!("/#{fragment}=")).nth(1);
        let token = rest.unwrap_or_else(|| panic!("no link: {}", self.content));
        token.chars().take_while(|c| !c.is_whitespace()).collect()
    }
}

async fn serve(
    stream: TcpStream,
    mails: &Mutex<VecDeque<Received>>,
    has_come: &tokio::sync::Notify,
    refuses_sender: &AtomicBool,
) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 mail.test ESMTP\r\n").await?;
    let (mut from, mut to, mut is_known) = (String::new(), String::new(), false);
    while let Some(line) = lines.next_line().await? {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let argument = |name: &str| {
            let rest = line.get(name.len()..).unwrap_or_default();
            rest.split(['<', '>']).nth(1).unwrap_or_default().to_owned()
        };
        let answer = match verb.as_str() {
            "EHLO" => "250-mail.test\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n",
            "AUTH" => {
                let given = line.rsplit(' ').next().and_then(|text| BASE64_STANDARD.decode(text).ok());
                is_known = given.as_deref() == Some(format!("\0{USERNAME}\0{PASSWORD}").as_bytes());
                if is_known { "235 welcome\r\n" } else { "535 who are you\r\n" }
            }
            "MAIL" if is_known && refuses_sender.load(Ordering::Relaxed) => "550 not from you\r\n",
            "MAIL" if is_known => {
                from = argument("MAIL FROM:");
                "250 yes\r\n"
            }
            "RCPT" if is_known => {
                to = argument("RCPT TO:");
                if to.starts_with("nobody@") { "550 5.1.1 nobody\r\n" } else { "250 yes\r\n" }
            }
            "DATA" if is_known => {
                write.write_all(b"354 go on\r\n").await?;
                let mut content = String::new();
                while let Some(line) = lines.next_line().await? {
                    if line == "." {
                        break;
                    }
                    content.push_str(line.strip_prefix('.').unwrap_or(&line));
                    content.push('\n');
                }
                let received = Received { from: from.clone(), to: to.clone(), content: readable(&content) };
                mails.lock().await.push_back(received);
                has_come.notify_waiters();
                has_come.notify_one();
                "250 kept\r\n"
            }
            "MAIL" | "RCPT" | "DATA" => "530 who are you\r\n",
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            "RSET" | "NOOP" => "250 yes\r\n",
            _ => "502 what\r\n",
        };
        write.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// Undoes quoted-printable.
fn readable(content: &str) -> String {
    if !content.contains("quoted-printable") {
        return content.to_owned();
    }
    let joined = content.replace("=\n", "");
    let mut text = String::new();
    let mut rest = joined.as_str();
    while let Some((before, after)) = rest.split_once('=') {
        text.push_str(before);
        match after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                rest = &after[2..];
            }
            None => {
                text.push('=');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}
