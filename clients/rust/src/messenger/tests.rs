use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// Answers one request after another, each on a connection of its own, and closes it without a word where there is no answer.
async fn server(answers: &[Option<String>]) -> (Messenger, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let messenger =
        Messenger::new(&format!("http://{address}").parse().expect("a URL")).expect("a messenger");
    let answers = answers.to_vec();
    let requests = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let mut socket = listener.accept().await.expect("a connection").0;
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                assert_ne!(socket.read_buf(&mut request).await.expect("a request"), 0);
            }
            requests.push(String::from_utf8(request).expect("text"));
            if let Some(answer) = answer {
                socket.write_all(answer.as_bytes()).await.expect("an answer");
            }
        }
        requests
    });
    (messenger, requests)
}

fn answer(status: &str, body: &str) -> Option<String> {
    let length = body.len();
    let head = "content-type: application/json\r\nconnection: close";
    Some(format!("HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}"))
}

#[tokio::test]
async fn a_refresh_without_an_answer_is_tried_three_times_with_the_same_token() {
    let tokens = r#"{"access_token": "new", "refresh_token": "next", "expires_in_seconds": 300, "refresh_expires_in_seconds": 900}"#;
    let (messenger, requests) = server(&[None, None, answer("200 OK", tokens)]).await;
    assert_eq!(messenger.refresh("old").await.expect("the third is answered").access_token, "new");
    for request in requests.await.expect("the server ran") {
        assert!(request.contains(r#"{"refresh_token":"old"}"#), "{request}");
    }
    let (messenger, requests) = server(&[None, None, None]).await;
    messenger.refresh("old").await.expect_err("no answer");
    assert_eq!(requests.await.expect("the server ran").len(), 3);
}

#[tokio::test]
async fn a_refresh_that_is_refused_is_not_tried_again() {
    let problem = r#"{"type": "about:blank", "title": "no", "status": 401, "code": "unauthenticated"}"#;
    let (messenger, requests) = server(&[answer("401 Unauthorized", problem)]).await;
    let error = messenger.refresh("old").await.expect_err("it is refused");
    assert_eq!(error.code(), Some(contracts::ErrorCode::Unauthenticated));
    assert_eq!(requests.await.expect("the server ran").len(), 1);
}

#[test]
fn all_attempts_of_a_refresh_end_while_its_answer_is_repeated() {
    let messenger = Messenger::new(&"http://127.0.0.1:1".parse().expect("a URL")).expect("a messenger");
    let call = messenger.refresh_call("old").build().expect("a request");
    assert_eq!(call.timeout(), Some(&REFRESH_TIMEOUT));
    let repeated = Duration::from_secs(10);
    assert!(REFRESH_TIMEOUT * REFRESH_ATTEMPTS < repeated);
}

#[tokio::test]
async fn a_refusal_has_the_time_of_the_next_attempt() {
    for (said, expected) in [
        ("\r\nretry-after: 60", 60),
        ("\r\nretry-after: 0", 0),
        ("\r\nretry-after: Fri, 31 Dec 2027 23:59:59 GMT", 0),
        ("", 0),
    ] {
        let refusal = answer(&format!("503 Service Unavailable{said}"), "{}");
        let (messenger, _requests) = server(&[refusal]).await;
        let error = messenger.sign_in("ann", "a password").await.expect_err("it is refused");
        let ClientError::Refused { status: 503, retry_after_seconds, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(retry_after_seconds, NonZeroU16::new(expected), "{said:?}");
    }
}
