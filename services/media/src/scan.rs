//! Scans of files by a daemon that speaks the protocol of ClamAV.
//!
//! A file is sent as it is read, in the chunks of `INSTREAM` (clamd(8)), so a scan takes the memory of one chunk. Whether a file
//! that was not scanned is let through is decided by the caller: an error here says nothing of the file.

use std::{io, pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const COMMAND: &[u8] = b"zINSTREAM\0";
/// Of a chunk that is sent. The daemon takes any size up to its own limit for a whole stream.
const CHUNK_BYTES: usize = 256 * 1024;
/// The longest answer that is read. Names of signatures have some ten characters.
const ANSWER_BYTES: u64 = 1024;
/// Characters of a signature's name that are kept.
const NAME_CHARS: usize = 128;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Clean,
    /// The file matches this signature: `Eicar-Test-Signature`.
    Found(String),
}

/// Why a file was not scanned.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error("the scanner at {address} cannot be reached")]
    Connect { address: String, source: io::Error },
    #[error("the connection to the scanner ended before its verdict")]
    Connection(#[source] io::Error),
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    #[error(
        "the file is larger than the scanner takes: raise StreamMaxLength of clamd to the largest file of the tenant"
    )]
    TooLarge,
    #[error("the scanner did not answer in {} s", .within.as_secs())]
    TookTooLong { within: Duration },
    #[error("unexpected response of the scanner: {answer}")]
    Unexpected { answer: String },
}

/// A client of clamd. Each scan has a connection of its own. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Scanner {
    address: String,
    within: Duration,
}

impl Scanner {
    /// Returns a client of the daemon at `address` (`host:port`), which has this time for a whole file.
    pub fn new(address: impl Into<String>, within: Duration) -> Self {
        Self { address: address.into(), within }
    }

    /// Scans a file, which is sent as it comes.
    ///
    /// # Errors
    ///
    /// The file was not scanned, or not all of it. See [`ScanError`].
    pub async fn scan(&self, file: impl Stream<Item = io::Result<Bytes>>) -> Result<Verdict, ScanError> {
        let scan = async {
            let connection = timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address))
                .await
                .unwrap_or_else(|elapsed| Err(elapsed.into()))
                .map_err(|source| ScanError::Connect { address: self.address.clone(), source })?;
            let (reader, writer) = connection.into_split();
            exchange(reader, writer, file).await
        };
        let within = self.within;
        timeout(within, scan).await.unwrap_or(Err(ScanError::TookTooLong { within }))
    }
}

/// Sends a file and reads the verdict. The daemon answers early, and closes, when it takes no more.
async fn exchange(
    reader: impl AsyncRead,
    writer: impl AsyncWrite,
    file: impl Stream<Item = io::Result<Bytes>>,
) -> Result<Verdict, ScanError> {
    let mut reader = pin!(reader.take(ANSWER_BYTES));
    let mut writer = pin!(writer);
    let mut answered = pin!(async {
        let mut answer = Vec::new();
        reader.read_to_end(&mut answer).await.map(|_| answer).map_err(ScanError::Connection)
    });
    let sent = tokio::select! {
        biased;
        sent = send(&mut writer, file) => sent,
        answer = &mut answered => return match verdict(&answer?)? {
            // Of a part of the file, which says nothing of the rest.
            Verdict::Clean => Err(ScanError::Unexpected { answer: "OK before the end of the file".to_owned() }),
            found => Ok(found),
        },
    };
    match sent {
        Ok(()) => verdict(&answered.await?),
        // The daemon may have said why before it closed.
        Err(ScanError::Connection(error)) => match answered.await {
            Ok(answer) if !answer.is_empty() => verdict(&answer),
            _ => Err(ScanError::Connection(error)),
        },
        Err(error) => Err(error),
    }
}

async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    file: impl Stream<Item = io::Result<Bytes>>,
) -> Result<(), ScanError> {
    let mut file = pin!(file);
    writer.write_all(COMMAND).await.map_err(ScanError::Connection)?;
    while let Some(bytes) = file.next().await {
        for chunk in bytes.map_err(ScanError::Read)?.chunks(CHUNK_BYTES) {
            let length = u32::try_from(chunk.len()).expect("a chunk is shorter than 4 GiB");
            writer.write_all(&length.to_be_bytes()).await.map_err(ScanError::Connection)?;
            writer.write_all(chunk).await.map_err(ScanError::Connection)?;
        }
    }
    // A chunk of no bytes ends the file.
    writer.write_all(&0_u32.to_be_bytes()).await.map_err(ScanError::Connection)?;
    writer.flush().await.map_err(ScanError::Connection)
}

/// Reads an answer: `stream: OK`, `stream: <name> FOUND` or `<reason> ERROR`, with a zero byte behind it.
fn verdict(answer: &[u8]) -> Result<Verdict, ScanError> {
    let text = String::from_utf8_lossy(answer);
    let text = text.trim_end_matches(['\0', '\n', '\r']);
    let shown = || text.chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect::<String>();
    let said = text.strip_prefix("stream: ").unwrap_or(text);
    if said == "OK" {
        return Ok(Verdict::Clean);
    }
    if let Some(name) = said.strip_suffix(" FOUND") {
        // It goes into logs and states; the daemon's databases are written by others.
        return Ok(Verdict::Found(name.chars().filter(char::is_ascii_graphic).take(NAME_CHARS).collect()));
    }
    if said.contains("size limit exceeded") {
        return Err(ScanError::TooLarge);
    }
    if text.is_empty() {
        return Err(ScanError::Connection(io::ErrorKind::UnexpectedEof.into()));
    }
    Err(ScanError::Unexpected { answer: shown() })
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);
    /// Not the test file itself, which scanners of this machine would take from its source.
    const EICAR: &[u8] = b"what is known to be bad";

    /// How a daemon behaves that takes one connection.
    #[derive(Clone, Copy)]
    enum Daemon {
        /// Reads all, and finds what is bad.
        Scans,
        /// Refuses files of more bytes.
        Takes(usize),
        /// Answers with these bytes when it has read all.
        Says(&'static [u8]),
        /// Closes before it has read anything.
        Leaves,
        /// Reads, and never answers.
        Hangs,
    }

    impl Daemon {
        async fn start(self) -> Scanner {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            tokio::spawn(async move {
                let (connection, _) = listener.accept().await.unwrap();
                // A client that leaves is checked where it does.
                drop(self.serve(connection).await);
            });
            Scanner::new(address, PATIENCE)
        }

        async fn serve(self, mut connection: TcpStream) -> io::Result<()> {
            if matches!(self, Self::Leaves) {
                return Ok(());
            }
            let mut command = [0; COMMAND.len()];
            connection.read_exact(&mut command).await?;
            assert_eq!(command, COMMAND);
            let mut file = Vec::new();
            loop {
                let length = connection.read_u32().await? as usize;
                if length == 0 {
                    break;
                }
                let mut chunk = vec![0; length];
                connection.read_exact(&mut chunk).await?;
                file.extend(chunk);
                if matches!(self, Self::Takes(most) if file.len() > most) {
                    return connection.write_all(b"INSTREAM size limit exceeded. ERROR\0").await;
                }
            }
            let is_bad = file.windows(EICAR.len()).any(|window| window == EICAR);
            let answer: &[u8] = match self {
                Self::Hangs => {
                    connection.read_u8().await?;
                    return Ok(());
                }
                Self::Says(answer) => answer,
                _ if is_bad => b"stream: Eicar-Test-Signature FOUND\0",
                _ => b"stream: OK\0",
            };
            connection.write_all(answer).await
        }
    }

    fn file(parts: Vec<&'static [u8]>) -> impl Stream<Item = io::Result<Bytes>> {
        stream::iter(parts.into_iter().map(|part| Ok(Bytes::from_static(part))))
    }

    #[tokio::test]
    async fn a_file_is_clean_or_has_what_was_found_in_it() {
        let verdict = Daemon::Scans.start().await.scan(file(vec![b"a", b"", b"letter"])).await;
        assert_eq!(verdict.unwrap(), Verdict::Clean);
        let verdict = Daemon::Scans.start().await.scan(file(vec![])).await;
        assert_eq!(verdict.unwrap(), Verdict::Clean);
        // Across the bounds of chunks.
        let (first, second) = EICAR.split_at(7);
        let verdict = Daemon::Scans.start().await.scan(file(vec![b"xx", first, second, b"xx"])).await;
        assert_eq!(verdict.unwrap(), Verdict::Found("Eicar-Test-Signature".to_owned()));
    }

    #[tokio::test]
    async fn a_large_file_is_sent_in_chunks() {
        let large = Bytes::from(vec![7; 3 * CHUNK_BYTES + 1]);
        let verdict = Daemon::Scans.start().await.scan(stream::iter([Ok(large)])).await;
        assert_eq!(verdict.unwrap(), Verdict::Clean);
    }

    #[tokio::test]
    async fn a_file_that_the_scanner_does_not_take_is_not_clean() {
        let scanner = Daemon::Takes(1_000).start().await;
        let endless = stream::repeat_with(|| Ok(Bytes::from_static(&[0; 4_096])));
        let error = scanner.scan(endless).await.unwrap_err();
        // The answer, or the broken connection where the system dropped the answer with it.
        assert!(matches!(error, ScanError::TooLarge | ScanError::Connection(_)), "{error:?}");
    }

    #[tokio::test]
    async fn no_answer_but_ok_is_clean() {
        let cases: [(&'static [u8], &str); 5] = [
            (b"", "Connection"),
            (b"stream: OKAY\0", "Unexpected"),
            (b"stream: not OK", "Unexpected"),
            (b"UNKNOWN COMMAND\0", "Unexpected"),
            (b"INSTREAM size limit exceeded. ERROR\0", "TooLarge"),
        ];
        for (answer, expected) in cases {
            let error = Daemon::Says(answer).start().await.scan(file(vec![b"a"])).await.unwrap_err();
            assert!(format!("{error:?}").starts_with(expected), "{error:?} for {}", answer.escape_ascii());
        }
        let error = Daemon::Leaves.start().await.scan(file(vec![b"a"])).await.unwrap_err();
        assert!(matches!(error, ScanError::Connection(_)), "{error:?}");
    }

    #[tokio::test]
    async fn the_name_of_a_signature_is_one_short_word() {
        let answer = b"stream: Bad\x1b[31m\r\nline two\xff FOUND\0";
        let verdict = Daemon::Says(answer).start().await.scan(file(vec![b"a"])).await;
        assert_eq!(verdict.unwrap(), Verdict::Found("Bad[31mlinetwo".to_owned()));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_not_clean() {
        let broken = stream::iter([Ok(Bytes::from_static(b"a")), Err(io::Error::other("it is gone"))]);
        let error = Daemon::Scans.start().await.scan(broken).await.unwrap_err();
        assert!(matches!(error, ScanError::Read(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_scanner_that_is_away_or_hangs_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = Scanner::new(address, PATIENCE).scan(file(vec![])).await.unwrap_err();
        assert!(matches!(error, ScanError::Connect { .. }), "{error:?}");

        let hanging = Daemon::Hangs.start().await;
        let scanner = Scanner::new(hanging.address, Duration::from_millis(20));
        let error = scanner.scan(file(vec![b"a"])).await.unwrap_err();
        assert!(matches!(error, ScanError::TookTooLong { .. }), "{error:?}");
    }
}
