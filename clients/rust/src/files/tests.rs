use std::{net::Ipv4Addr, path::PathBuf};

use contracts::{ChatId, UserId};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use uuid::Uuid;

use super::*;

const CHAT: ChatId = ChatId(Uuid::from_u128(1));
const FILE: FileId = FileId(Uuid::from_u128(2));

/// A request as the server saw it: its first line, and its body.
type Seen = (String, Vec<u8>);

/// A messenger and an object store at one address, which answers one request after another.
struct Stand {
    messenger: Messenger,
    address: String,
    listener: TcpListener,
}

impl Stand {
    async fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let messenger = Messenger::new(&address.parse().expect("a URL")).expect("a messenger");
        Self { messenger, address, listener }
    }

    fn answering(self, answers: Vec<(u16, Vec<u8>)>) -> JoinHandle<Vec<Seen>> {
        tokio::spawn(async move {
            let mut seen = Vec::new();
            for (status, body) in answers {
                let mut socket = self.listener.accept().await.expect("a connection").0;
                seen.push(request(&mut socket).await);
                let head = format!(
                    "HTTP/1.1 {status} answer\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                socket.write_all(head.as_bytes()).await.expect("a head");
                socket.write_all(&body).await.expect("a body");
            }
            seen
        })
    }
}

async fn request(socket: &mut TcpStream) -> Seen {
    let mut read = Vec::new();
    loop {
        assert_ne!(socket.read_buf(&mut read).await.expect("a request"), 0);
        let Some(end) = read.windows(4).position(|at| at == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
        let body = read[end + 4..].to_vec();
        if body.len() == length {
            let first = String::from_utf8_lossy(&read[..end]).lines().next().expect("a line").to_owned();
            return (first.trim_end_matches(" HTTP/1.1").to_owned(), body);
        }
    }
}

fn file(state: &str, more: Value) -> Vec<u8> {
    let mut file = json!({
        "id": FILE, "for": {"chat": CHAT}, "owner": Uuid::from_u128(3), "name": "a.txt", "type": "text/plain",
        "size": 5, "state": state, "created_at_ms": 5,
    });
    file.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    file.to_string().into_bytes()
}

async fn on_disk(content: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("posthouse-{}.txt", MessageKey::generate()));
    tokio::fs::write(&path, content).await.expect("a file");
    path
}

#[tokio::test]
async fn a_file_is_uploaded_whole_and_attached_once_it_is_checked() {
    let stand = Stand::new().await;
    let path = on_disk(b"hello").await;
    let (messenger, upload) = (stand.messenger.clone(), format!("{}/bucket/2?X-Sig=secret", stand.address));
    let whole = json!({"method": "PUT", "url": upload, "headers": {"x-sum": "5"}, "expires_at_ms": 9});
    let local = &mut Local::open(&path).await.expect("a file");
    let pending: File = serde_json::from_slice(&file("pending", json!({"upload": whole}))).expect("a file");
    let seen = stand.answering(vec![(200, Vec::new()), (200, file("processing", json!({})))]);
    let FileUpload::Whole(upload) = pending.upload.expect("an upload") else { panic!("not whole") };
    assert!(messenger.put_whole(&upload, local).await.expect("it is uploaded"));
    let state = messenger.complete_file("token", FILE).await.expect("it is completed").state;
    assert_eq!(state, FileState::Processing);
    let seen = seen.await.expect("the server ran");
    assert_eq!(seen[0], ("PUT /bucket/2?X-Sig=secret".to_owned(), b"hello".to_vec()));
    assert_eq!(seen[1].0, format!("POST /api/media/files/{FILE}/complete"));
    let sum = Local::open(&path).await.expect("a file").sha256().await.expect("a sum");
    assert_eq!(sum, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    tokio::fs::remove_file(path).await.expect("it is removed");
}

#[tokio::test]
async fn of_parts_only_those_are_uploaded_that_are_missing() {
    let stand = Stand::new().await;
    let path = on_disk(b"hello world").await;
    let at = |number| format!("{}/bucket/2?part={number}", stand.address);
    let part = |number, offset, size, uploaded| {
        json!({
            "number": number, "offset": offset, "size": size, "uploaded": uploaded, "url": at(number),
        })
    };
    let last = json!({"number": 4, "offset": 9, "size": 2});
    let parts = json!({"parts": [part(1, 0, 3, true), part(2, 3, 3, false), part(3, 6, 3, false), last], "expires_at_ms": 9});
    let messenger = stand.messenger.clone();
    let seen = stand.answering(vec![(200, Vec::new()), (200, Vec::new())]);
    let upload = serde_json::from_value(parts).expect("parts");
    let local = &mut Local::open(&path).await.expect("a file");
    assert!(!messenger.put_parts(&upload, local).await.expect("they are uploaded"), "one has no address yet");
    let seen = seen.await.expect("the server ran");
    assert_eq!(seen[0], ("PUT /bucket/2?part=2".to_owned(), b"lo ".to_vec()));
    assert_eq!(seen[1], ("PUT /bucket/2?part=3".to_owned(), b"wor".to_vec()));
    tokio::fs::remove_file(path).await.expect("it is removed");
}

#[tokio::test]
async fn what_an_address_signs_is_in_no_error() {
    let stand = Stand::new().await;
    let (messenger, url) = (stand.messenger.clone(), format!("{}/bucket/2?X-Sig=secret", stand.address));
    let seen = stand.answering(vec![(403, b"<Error/>".to_vec())]);
    let refused = messenger.put(&url, messenger.http().put(url.as_str())).await.expect_err("it is refused");
    assert!(is_of_the_store(&refused), "there may be another address");
    assert_eq!(seen.await.expect("the server ran").len(), 1);
    // Nothing listens there any more.
    let silent = messenger.put(&url, messenger.http().put(url.as_str())).await.expect_err("no answer");
    for error in [refused, silent, store_url("X-Sig=secret").expect_err("it is none")] {
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}

#[tokio::test]
async fn what_is_not_taken_says_why() {
    let refused: File =
        serde_json::from_slice(&file("refused", json!({"refused": "type_mismatch"}))).expect("a file");
    assert_eq!(refused.owner, UserId(Uuid::from_u128(3)));
    let error = not_taken(refused);
    assert_eq!(error.to_string(), "the messenger did not take the file a.txt: it is refused (type_mismatch)");
    assert!(!error.is_temporary());
}

#[tokio::test]
async fn a_file_is_fetched_by_its_link_without_a_token() {
    let stand = Stand::new().await;
    let messenger = stand.messenger.clone();
    let seen = stand.answering(vec![(200, b"hello".to_vec()), (404, Vec::new())]);
    let mut fetched = Vec::new();
    assert_eq!(messenger.fetch("/content/abc", &mut fetched).await.expect("a file"), 5);
    assert_eq!(fetched, b"hello");
    assert_eq!(
        messenger.fetch("/content/abc", &mut fetched).await.expect_err("it is gone").status(),
        Some(404)
    );
    assert_eq!(seen.await.expect("the server ran")[0].0, "GET /content/abc");
}
