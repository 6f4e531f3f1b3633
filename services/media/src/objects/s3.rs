//! Objects in a bucket of S3.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use kit::{
    config::S3Args,
    tls::{Untrusted, trusting},
    traces::{Server, sent},
};
use reqwest::{Client, Method, Response, StatusCode, header};
use rusty_s3::{
    Bucket, Credentials, S3Action, UrlStyle,
    actions::{CreateMultipartUpload, ListParts},
};
use secrecy::ExposeSecret as _;
use tonic::async_trait;
use url::Url;

use super::{ObjectError, Objects, Pieces, SignedRequest, StoredPart, upload_headers};
use crate::domain::{ByteRange, Checksum, MediaType};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A request that moves no bytes of a file here.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A copy or the joining of parts: the store moves up to 5 GiB.
const MOVE_TIMEOUT: Duration = Duration::from_secs(300);
/// Between two pieces of an object that is read.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
/// For how long a request of this process is signed.
const OWN_VALIDITY: Duration = Duration::from_secs(60);
/// Largest response that is read into memory here: a page of parts has 1,000 of some 300 bytes.
const MAX_ANSWER_BYTES: usize = 2 << 20;
/// Parts on one page.
const PAGE: u16 = 1000;
const COPY_HEADER: &str = "x-amz-copy-source";

/// Keeps objects in the tenant's bucket, with the tenant's account.
pub struct S3Objects {
    client: Client,
    credentials: Credentials,
    /// The bucket at the address that this process reaches.
    own: Bucket,
    /// The bucket at the address that users reach.
    public: Bucket,
}

impl S3Objects {
    /// Returns the objects of a bucket, at a store whose certificate may be of an authority in `ca_bundle`. Nothing is connected before it is used.
    pub fn new(args: &S3Args, ca_bundle: Option<&str>) -> anyhow::Result<Self> {
        let bucket = |endpoint: &str| {
            let url: Url = endpoint.parse().with_context(|| format!("{endpoint} is not a URL"))?;
            Bucket::new(url, UrlStyle::Path, args.s3_bucket.clone(), args.s3_region.clone())
                .with_context(|| format!("{endpoint} is not the URL of an object store"))
        };
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // An address that was signed for one host is good for no proxy.
            .no_proxy();
        let client = trusting(client, ca_bundle).and_then(reqwest::ClientBuilder::build);
        Ok(Self {
            client: client.context("failed to prepare the client of the object store")?,
            credentials: Credentials::new(&args.s3_access_key, args.s3_secret_key.expose_secret()),
            own: bucket(&args.s3_endpoint)?,
            public: bucket(args.s3_public_endpoint.as_deref().unwrap_or(&args.s3_endpoint))?,
        })
    }

    /// Sends a request and returns its response, whatever the status. The limit is for the response's head.
    async fn send(&self, call: Call<'_>, url: Url) -> Result<Response, ObjectError> {
        let Call { action, key, method, headers, body, limit } = call;
        let mut request = self.client.request(method, url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        // The address has the signature: it is left out of what is logged.
        let reach = |source: reqwest::Error| {
            let (key, why) = (key.to_owned(), Untrusted::of(&source));
            let source = source.without_url();
            match why {
                Some(why) => ObjectError::Untrusted { action, key, why, source },
                None => ObjectError::Reach { action, key, source },
            }
        };
        let late = |_| ObjectError::Late { action, key: key.to_owned(), limit };
        let sent = sent(Server::S3, action, request.send());
        tokio::time::timeout(limit, sent).await.map_err(late)?.map_err(reach)
    }

    /// Sends a request like [`Self::send`], and returns the body of its success; `None` for an object or upload that is not there.
    async fn call(&self, call: Call<'_>, url: Url) -> Result<Option<String>, ObjectError> {
        let (action, key, limit) = (call.action, call.key.to_owned(), call.limit);
        let response = self.send(call, url).await?;
        let late = |_| ObjectError::Late { action, key: key.clone(), limit };
        let (status, body) =
            tokio::time::timeout(limit, text(response, action, &key)).await.map_err(late)??;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        // The joining of parts may fail behind a success, which was sent to keep the connection.
        if !status.is_success() || body.contains("<Error>") {
            let code = code(&body);
            return Err(ObjectError::Refused { action, key, status: status.as_u16(), code });
        }
        Ok(Some(body))
    }
}

/// A request of this process.
struct Call<'a> {
    /// A verb, for errors: "read".
    action: &'static str,
    key: &'a str,
    method: Method,
    headers: Vec<(&'static str, String)>,
    body: Option<Bytes>,
    limit: Duration,
}

impl<'a> Call<'a> {
    fn new(action: &'static str, key: &'a str, method: Method) -> Self {
        Self { action, key, method, headers: Vec::new(), body: None, limit: CALL_TIMEOUT }
    }
}

/// Reads a response that fits into memory.
async fn text(
    mut response: Response,
    action: &'static str,
    key: &str,
) -> Result<(StatusCode, String), ObjectError> {
    let status = response.status();
    let mut body = Vec::new();
    loop {
        let piece = response.chunk().await.map_err(|source| ObjectError::Reach {
            action,
            key: key.to_owned(),
            source: source.without_url(),
        })?;
        let Some(piece) = piece else { break };
        if body.len() + piece.len() > MAX_ANSWER_BYTES {
            let problem = format!("it has more than {MAX_ANSWER_BYTES} bytes");
            return Err(ObjectError::Response { action, key: key.to_owned(), problem });
        }
        body.extend_from_slice(&piece);
    }
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Returns the code in an error of S3. The rest of it may name accounts.
fn code(body: &str) -> String {
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map_or_else(|| "no code".to_owned(), |(code, _)| code.chars().take(64).collect())
}

#[async_trait]
impl Objects for S3Objects {
    fn upload(
        &self,
        key: &str,
        media_type: &MediaType,
        bytes: i64,
        checksum: Option<&Checksum>,
        valid_for: Duration,
    ) -> SignedRequest {
        let mut action = self.public.put_object(Some(&self.credentials), key);
        let headers = upload_headers(media_type, checksum);
        for (name, value) in &headers {
            action.headers_mut().insert(name.clone(), value.clone());
        }
        action.headers_mut().insert("content-length", bytes.to_string());
        SignedRequest { url: action.sign(valid_for).into(), headers }
    }

    fn upload_part(&self, key: &str, upload: &str, number: u16, bytes: i64, valid_for: Duration) -> String {
        let mut action = self.public.upload_part(Some(&self.credentials), key, number, upload);
        action.headers_mut().insert("content-length", bytes.to_string());
        action.sign(valid_for).into()
    }

    async fn begin_parts(&self, key: &str, media_type: &MediaType) -> Result<String, ObjectError> {
        let action = "begin the upload of";
        let mut begin = self.own.create_multipart_upload(Some(&self.credentials), key);
        begin.headers_mut().insert("content-type", media_type.as_str());
        let mut call = Call::new(action, key, Method::POST);
        call.headers = vec![("content-type", media_type.as_str().to_owned())];
        let body = self.call(call, begin.sign(OWN_VALIDITY)).await?;
        let invalid = |problem: String| ObjectError::Response { action, key: key.to_owned(), problem };
        let body = body.ok_or_else(|| invalid("there is no such bucket".to_owned()))?;
        let begun =
            CreateMultipartUpload::parse_response(&body).map_err(|error| invalid(error.to_string()))?;
        Ok(begun.upload_id().to_owned())
    }

    async fn parts(&self, key: &str, upload: &str) -> Result<Option<Vec<StoredPart>>, ObjectError> {
        let action = "list the parts of";
        let mut parts = Vec::new();
        let mut after = None;
        loop {
            let mut list = self.own.list_parts(Some(&self.credentials), key, upload);
            list.set_max_parts(PAGE);
            if let Some(after) = after {
                list.set_part_number_marker(after);
            }
            let call = Call::new(action, key, Method::GET);
            let Some(body) = self.call(call, list.sign(OWN_VALIDITY)).await? else { return Ok(None) };
            let invalid = |problem: String| ObjectError::Response { action, key: key.to_owned(), problem };
            let page = ListParts::parse_response(&body).map_err(|error| invalid(error.to_string()))?;
            for part in page.parts {
                let bytes = i64::try_from(part.size).map_err(|error| invalid(error.to_string()))?;
                parts.push(StoredPart { number: part.number, bytes, etag: part.etag });
            }
            match page.next_part_number_marker {
                // A store that names a place it has named before would be asked without end.
                Some(next) if after.is_none_or(|after| after < next) => after = Some(next),
                _ => return Ok(Some(parts)),
            }
        }
    }

    async fn complete_parts(&self, key: &str, upload: &str, parts: &[StoredPart]) -> Result<(), ObjectError> {
        let action = "join the parts of";
        let etags = parts.iter().map(|part| part.etag.as_str());
        let complete = self.own.complete_multipart_upload(Some(&self.credentials), key, upload, etags);
        let url = complete.sign(OWN_VALIDITY);
        let call = Call {
            body: Some(complete.body().into()),
            limit: MOVE_TIMEOUT,
            ..Call::new(action, key, Method::POST)
        };
        let problem = || "there is no such upload".to_owned();
        let missing = || ObjectError::Response { action, key: key.to_owned(), problem: problem() };
        self.call(call, url).await?.map(drop).ok_or_else(missing)
    }

    async fn abort_parts(&self, key: &str, upload: &str) -> Result<(), ObjectError> {
        let abort = self.own.abort_multipart_upload(Some(&self.credentials), key, upload);
        let call = Call::new("abort the upload of", key, Method::DELETE);
        self.call(call, abort.sign(OWN_VALIDITY)).await.map(drop)
    }

    async fn size(&self, key: &str) -> Result<Option<i64>, ObjectError> {
        let action = "find";
        let head = self.own.head_object(Some(&self.credentials), key);
        let response = self.send(Call::new(action, key, Method::HEAD), head.sign(OWN_VALIDITY)).await?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let key = key.to_owned();
        if !status.is_success() {
            let code = "a response to HEAD has no code".to_owned();
            return Err(ObjectError::Refused { action, key, status: status.as_u16(), code });
        }
        // The length of the response to HEAD is not that of its body, which has none.
        let length = response.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let problem = || "it has no content-length".to_owned();
        length.map(Some).ok_or_else(|| ObjectError::Response { action, key, problem: problem() })
    }

    async fn read(&self, key: &str, range: Option<ByteRange>) -> Result<Option<Pieces>, ObjectError> {
        let action = "read";
        let get = self.own.get_object(Some(&self.credentials), key);
        let mut call = Call::new(action, key, Method::GET);
        if let Some(ByteRange { first, last }) = range {
            call.headers = vec![("range", format!("bytes={first}-{last}"))];
        }
        let response = self.send(call, get.sign(OWN_VALIDITY)).await?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let expected = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        if status != expected {
            let (status, body) = text(response, action, key).await?;
            let (status, code) = (status.as_u16(), code(&body));
            return Err(ObjectError::Refused { action, key: key.to_owned(), status, code });
        }
        let key = key.to_owned();
        let pieces = stream::try_unfold((response, key), move |(mut response, key)| async move {
            let late = |_| ObjectError::Late { action, key: key.clone(), limit: PIECE_TIMEOUT };
            let piece = tokio::time::timeout(PIECE_TIMEOUT, response.chunk()).await.map_err(late)?;
            let reach = |source: reqwest::Error| ObjectError::Reach {
                action,
                key: key.clone(),
                source: source.without_url(),
            };
            Ok::<_, ObjectError>(piece.map_err(reach)?.map(|piece| (piece, (response, key))))
        });
        Ok(Some(pieces.boxed()))
    }

    async fn write(&self, key: &str, media_type: &MediaType, bytes: Bytes) -> Result<(), ObjectError> {
        let action = "write";
        let mut put = self.own.put_object(Some(&self.credentials), key);
        put.headers_mut().insert("content-type", media_type.as_str());
        let call = Call {
            headers: vec![("content-type", media_type.as_str().to_owned())],
            body: Some(bytes),
            limit: MOVE_TIMEOUT,
            ..Call::new(action, key, Method::PUT)
        };
        let problem = || "there is no such bucket".to_owned();
        let missing = || ObjectError::Response { action, key: key.to_owned(), problem: problem() };
        self.call(call, put.sign(OWN_VALIDITY)).await?.map(drop).ok_or_else(missing)
    }

    async fn copy(&self, from: &str, to: &str) -> Result<bool, ObjectError> {
        // Keys have no character that would have to be encoded.
        let source = format!("/{}/{from}", self.own.name());
        let mut put = self.own.put_object(Some(&self.credentials), to);
        put.headers_mut().insert(COPY_HEADER, source.clone());
        let call = Call {
            headers: vec![(COPY_HEADER, source)],
            limit: MOVE_TIMEOUT,
            ..Call::new("copy", to, Method::PUT)
        };
        Ok(self.call(call, put.sign(OWN_VALIDITY)).await?.is_some())
    }

    async fn remove(&self, key: &str) -> Result<(), ObjectError> {
        let delete = self.own.delete_object(Some(&self.credentials), key);
        let call = Call::new("remove", key, Method::DELETE);
        self.call(call, delete.sign(OWN_VALIDITY)).await.map(drop)
    }

    async fn check(&self) -> Result<(), ObjectError> {
        let (action, key) = ("reach", self.own.name());
        let head = self.own.head_bucket(Some(&self.credentials));
        let response = self.send(Call::new(action, key, Method::HEAD), head.sign(OWN_VALIDITY)).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let code = "is the bucket there, and the account good for it?".to_owned();
        Err(ObjectError::Refused { action, key: key.to_owned(), status: status.as_u16(), code })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects() -> S3Objects {
        let args = S3Args {
            s3_endpoint: "http://10.0.0.1:7070".to_owned(),
            s3_public_endpoint: Some("https://files.example.com".to_owned()),
            s3_region: "us-east-1".to_owned(),
            s3_bucket: "mt-acme".to_owned(),
            s3_access_key: "mt-acme".to_owned(),
            s3_secret_key: "secret".to_owned().into(),
        };
        S3Objects::new(&args, None).expect("objects")
    }

    #[test]
    fn an_upload_is_signed_for_the_public_address_with_size_type_and_checksum() {
        let media_type = MediaType::of("image/jpeg");
        let request = objects().upload("uploads/1", &media_type, 7, Some(&[1; 32]), Duration::from_secs(900));
        let url: Url = request.url.parse().expect("a URL");
        assert_eq!((url.host_str(), url.path()), (Some("files.example.com"), "/mt-acme/uploads/1"));
        let parameter =
            |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let signed = "content-length;content-type;host;x-amz-checksum-sha256";
        assert_eq!(parameter("X-Amz-SignedHeaders").as_deref(), Some(signed));
        assert_eq!(parameter("X-Amz-Expires").as_deref(), Some("900"));
        let expected = [
            ("content-type", "image/jpeg"),
            ("x-amz-checksum-sha256", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="),
        ];
        assert!(request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected));
    }

    #[test]
    fn an_error_shows_its_code_and_nothing_else() {
        let body = "<Error><Code>AccessDenied</Code><Message>mt-acme may not</Message></Error>";
        assert_eq!(code(body), "AccessDenied");
        assert_eq!(code("<html>bad gateway</html>"), "no code");
    }
}
