//! Files: uploads that go straight to the object store, and downloads by links.

use std::{
    io::SeekFrom,
    path::Path,
    time::{Duration, Instant},
};

use contracts::{
    FileId, MessageKey,
    api::{
        CreateFileRequest, File, FileLinks, FilePurpose, FileState, FileUpload, PartsUpload, UploadPart,
        WholeUpload,
    },
};
use reqwest::{Method, Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWrite, AsyncWriteExt as _};
use url::Url;

use crate::{ClientError, Identity, Messenger, messenger::retry_after_seconds};

/// One request to the object store ends within this time: 16 MiB over a slow line.
const STORE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Requests to the store that fail one after the other before an upload is given up. What was uploaded stays there.
const MAX_FAILURES: u32 = 3;
/// A file is checked within this time, in which pictures are decoded and a scanner may look at it.
const CHECK_TIMEOUT: Duration = Duration::from_secs(120);
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_secs(2);
/// Bytes that are read at once for the checksum.
const READ_BYTES: usize = 64 * 1024;
/// Largest part of a file that is held in memory. The messenger's own are of 16 MiB.
const MAX_PART_BYTES: i64 = 256 * 1024 * 1024;

const UPLOAD: &str = "upload a file";
const DOWNLOAD: &str = "download a file";

impl Identity {
    /// Uploads a file from this machine, and returns it once it can be attached. It has the name of its path, and the type that this name
    /// says.
    ///
    /// Fails with [`ClientError::NotTaken`] when the messenger refuses what is in it. What was interrupted goes on with
    /// [`Self::resume_upload`].
    pub async fn upload(&self, purpose: FilePurpose, path: &Path) -> Result<File, ClientError> {
        let mut local = Local::open(path).await?;
        let request = CreateFileRequest {
            purpose,
            name: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            media_type: mime_guess::from_path(path).first_or_octet_stream().essence_str().to_owned(),
            size: local.size,
            sha256: Some(local.sha256().await?),
        };
        let file = self.messenger().create_file(&self.token().await?, &request).await?;
        self.complete(file, &mut local).await
    }

    /// Goes on with an upload of the same file.
    pub async fn resume_upload(&self, id: FileId, path: &Path) -> Result<File, ClientError> {
        let mut local = Local::open(path).await?;
        let file = self.file(id).await?;
        self.complete(file, &mut local).await
    }

    /// Returns what is known of a file that the user may read, or has uploaded.
    pub async fn file(&self, id: FileId) -> Result<File, ClientError> {
        self.messenger().file(&self.token().await?, id).await
    }

    /// Writes a file that the user may read, and returns how many bytes it has.
    pub async fn download<W: AsyncWrite + Unpin>(&self, id: FileId, to: &mut W) -> Result<u64, ClientError> {
        let file = self.file(id).await?;
        match &file.links {
            Some(FileLinks { content, .. }) => self.messenger().fetch(content, to).await,
            None => Err(not_taken(file)),
        }
    }

    /// Uploads what is missing of a file, and waits until it is checked.
    async fn complete(&self, mut file: File, local: &mut Local) -> Result<File, ClientError> {
        let mut failures = 0;
        while file.state == FileState::Pending {
            let sent = match &file.upload {
                Some(FileUpload::Whole(upload)) => self.messenger().put_whole(upload, local).await,
                Some(FileUpload::Parts(upload)) => self.messenger().put_parts(upload, local).await,
                None => Ok(true),
            };
            let token = self.token().await?;
            file = match sent {
                Ok(true) if failures < MAX_FAILURES => {
                    failures += 1;
                    self.messenger().complete_file(&token, file.id).await?
                }
                Ok(true) => return Err(not_taken(file)),
                Ok(false) => self.messenger().file(&token, file.id).await?,
                // Its address may have expired meanwhile, and there is a new one.
                Err(error) if failures + 1 < MAX_FAILURES && is_of_the_store(&error) => {
                    failures += 1;
                    tokio::time::sleep(FIRST_LOOK * failures).await;
                    self.messenger().file(&token, file.id).await?
                }
                Err(error) => return Err(error),
            };
        }
        let (began, mut wait) = (Instant::now(), FIRST_LOOK);
        while file.state == FileState::Processing {
            if began.elapsed() > CHECK_TIMEOUT {
                return Err(self.messenger().late("wait for a file to be checked", CHECK_TIMEOUT));
            }
            tokio::time::sleep(wait).await;
            wait = LAST_LOOK.min(wait * 2);
            file = self.file(file.id).await?;
        }
        if file.state == FileState::Ready { Ok(file) } else { Err(not_taken(file)) }
    }
}

impl Messenger {
    /// Creates a file, of which nothing is uploaded yet.
    pub async fn create_file(&self, token: &str, request: &CreateFileRequest) -> Result<File, ClientError> {
        // The answer to a repetition is the same file.
        let key = MessageKey::generate().to_string();
        let call = self.with_token(Method::POST, "/api/media/files", token).header("idempotency-key", key);
        self.json("create a file", call.json(request)).await
    }

    /// Returns what is known of a file, with what is left to upload of it, or the links by which it is fetched.
    pub async fn file(&self, token: &str, file: FileId) -> Result<File, ClientError> {
        self.json("read a file", self.get(&format!("/api/media/files/{file}"), token)).await
    }

    /// Says that a file is uploaded.
    pub async fn complete_file(&self, token: &str, file: FileId) -> Result<File, ClientError> {
        let path = format!("/api/media/files/{file}/complete");
        self.json("complete a file", self.with_token(Method::POST, &path, token)).await
    }

    /// Deletes a file of the caller that no message has.
    pub async fn delete_file(&self, token: &str, file: FileId) -> Result<(), ClientError> {
        let path = format!("/api/media/files/{file}");
        self.done("delete a file", self.with_token(Method::DELETE, &path, token)).await
    }

    /// Writes what is behind a link, see [`FileLinks`], and returns how many bytes it has. Links need no token.
    pub async fn fetch<W: AsyncWrite + Unpin>(&self, link: &str, to: &mut W) -> Result<u64, ClientError> {
        let url =
            self.base().join(link).map_err(|_| ClientError::Address { url: "the link of a file".into() })?;
        let call = self.http().get(url);
        let mut response = self.answer(DOWNLOAD, call, StatusCode::OK).await?;
        let mut bytes = 0;
        loop {
            let chunk = tokio::time::timeout(STORE_TIMEOUT, response.chunk());
            let chunk = chunk.await.map_err(|_| self.late(DOWNLOAD, STORE_TIMEOUT))?;
            let Some(chunk) = chunk.map_err(|source| self.transport(DOWNLOAD, source))? else { break };
            to.write_all(&chunk).await.map_err(|source| local(DOWNLOAD, source))?;
            bytes += chunk.len() as u64;
        }
        to.flush().await.map_err(|source| local(DOWNLOAD, source))?;
        Ok(bytes)
    }

    /// Uploads a whole file. Returns that nothing is missing.
    async fn put_whole(&self, upload: &WholeUpload, local: &mut Local) -> Result<bool, ClientError> {
        let WholeUpload { method, url, headers, .. } = upload;
        let mut call = self.http().request(method.parse().unwrap_or(Method::PUT), store_url(url)?);
        for (name, value) in headers {
            call = call.header(name.as_str(), value.as_str());
        }
        let body = local.part(0, local.size).await?;
        self.put(url, call.body(body)).await.map(|()| true)
    }

    /// Uploads the missing parts that have an address. Returns whether none is missing.
    async fn put_parts(&self, upload: &PartsUpload, local: &mut Local) -> Result<bool, ClientError> {
        let mut sent = 0;
        for UploadPart { offset, size, url, .. } in upload.parts.iter().filter(|part| !part.uploaded) {
            if let Some(url) = url {
                let body = local.part(*offset, *size).await?;
                self.put(url, self.http().put(store_url(url)?).body(body)).await?;
                sent += 1;
            }
        }
        // Where no part has an address, the messenger says what is wrong.
        Ok(sent == 0 || upload.parts.iter().all(|part| part.uploaded || part.url.is_some()))
    }

    /// Sends a request to the object store. What its address signs is in no error.
    async fn put(&self, url: &str, call: reqwest::RequestBuilder) -> Result<(), ClientError> {
        let sent = tokio::time::timeout(STORE_TIMEOUT, call.send()).await;
        let sent = sent.map_err(|_| self.late(UPLOAD, STORE_TIMEOUT))?;
        let response: Response = sent.map_err(|source| self.transport(UPLOAD, source))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let url = store_url(url)?.origin().ascii_serialization();
        let (status, retry_after_seconds) = (status.as_u16(), retry_after_seconds(&response));
        Err(ClientError::Refused { action: UPLOAD, url, status, retry_after_seconds, problem: None })
    }
}

/// A file of this machine.
struct Local {
    file: tokio::fs::File,
    size: i64,
}

impl Local {
    async fn open(path: &Path) -> Result<Self, ClientError> {
        let open = async {
            let file = tokio::fs::File::open(path).await?;
            let size = file.metadata().await?.len();
            Ok((file, i64::try_from(size).unwrap_or(i64::MAX)))
        };
        let (file, size) = open.await.map_err(|source| local(UPLOAD, source))?;
        Ok(Self { file, size })
    }

    /// Returns the checksum of the file in hexadecimal.
    async fn sha256(&mut self) -> Result<String, ClientError> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = self.file.read(&mut buffer).await.map_err(|source| local(UPLOAD, source))?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Reads a part of the file.
    async fn part(&mut self, offset: i64, size: i64) -> Result<Vec<u8>, ClientError> {
        let read = async {
            let too_large = || std::io::Error::other("the messenger requests a part that is too large");
            if size > MAX_PART_BYTES {
                return Err(too_large());
            }
            let size = usize::try_from(size).map_err(|_| too_large())?;
            let mut part = vec![0; size];
            self.file.seek(SeekFrom::Start(u64::try_from(offset).unwrap_or(u64::MAX))).await?;
            self.file.read_exact(&mut part).await?;
            Ok(part)
        };
        read.await.map_err(|source| local(UPLOAD, source))
    }
}

fn local(action: &'static str, source: std::io::Error) -> ClientError {
    ClientError::Local { action, source }
}

fn not_taken(file: File) -> ClientError {
    let File { name, state, refused, .. } = file;
    ClientError::NotTaken { name, state, refused }
}

/// Returns an address of the object store, which it wrote itself.
fn store_url(url: &str) -> Result<Url, ClientError> {
    // It is in no error: it is as good as a password for some minutes.
    Url::parse(url).map_err(|_| ClientError::Address { url: "what the messenger gave for the upload".into() })
}

/// Returns whether a request failed that may go through with another address, or later.
fn is_of_the_store(error: &ClientError) -> bool {
    match error {
        ClientError::Transport { .. } | ClientError::Timeout { .. } => true,
        ClientError::Refused { action: UPLOAD, status, .. } => *status == 403 || *status >= 500,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
