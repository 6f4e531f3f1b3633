//! Clients without a WebSocket.

use std::{
    collections::VecDeque,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use contracts::{
    DeviceId, Encoding, MessageKey, UserId,
    event::{DeliveredRecord, DeliveryOutcome, Ended, EntryKind, VERSION},
    wire::{CloseCode, Connected, MAX_BODY_BYTES, MAX_FRAME_BYTES, Outcome, ServerFrame},
};
use futures_util::future::join_all;
use gateway::Limits;
use kit::{clock::now_ms, testing::wait_for};
use reqwest::{RequestBuilder, Response, header};
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    client::{Client, check},
    stand::{PATIENCE, Running, Stand, UNLIMITED, chat, device, user, with_rates, with_settings, with_stand},
};

/// A client with an event stream.
struct Streaming {
    http: reqwest::Client,
    base: String,
    token: String,
    connected: Connected,
    response: Response,
    text: String,
    frames: VecDeque<ServerFrame>,
    closed: Option<u16>,
}

fn request(gateway: &Running, user: &str, path: &str) -> RequestBuilder {
    let http = reqwest::Client::new();
    http.get(format!("http://{}{path}", gateway.http)).bearer_auth(user)
}

impl Streaming {
    async fn open(stand: &Stand, user: UserId, device: DeviceId) -> Self {
        let token = stand.realm.token(user, "someone");
        Self::with_token(&stand.gateway, token, device).await
    }

    async fn with_token(gateway: &Running, token: String, device: DeviceId) -> Self {
        let http = reqwest::Client::new();
        let base = format!("http://{}", gateway.http);
        let request = http.get(format!("{base}/events?device={device}")).bearer_auth(&token);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        for (name, value) in [
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-store"),
            (header::HeaderName::from_static("x-accel-buffering"), "no"),
        ] {
            assert_eq!(response.headers()[&name], value);
        }
        let connected = Connected {
            session: String::new(),
            user: UserId(Uuid::nil()),
            ping_seconds: 0,
            pong_seconds: 0,
            max_inflight: 0,
            max_frame_bytes: 0,
            max_body_bytes: 0,
            token_expires_in_seconds: 0,
        };
        let (text, frames) = (String::new(), VecDeque::new());
        let mut stream = Self { http, base, token, connected, response, text, frames, closed: None };
        let first = stream.frame().await.expect("an event");
        match (first.id, first.result) {
            (None, Some(Outcome::Connected(connected))) => stream.connected = connected,
            other => panic!("the first event is {other:?}"),
        }
        stream
    }

    /// Returns the next frame that is no ping; `None` behind the last one.
    async fn frame(&mut self) -> Option<ServerFrame> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                assert_eq!(self.closed, None, "an event came behind the last one: {event}");
                match event.strip_prefix("event: close\ndata: ") {
                    Some(why) => {
                        let why: Value = serde_json::from_str(why).expect("JSON");
                        let of =
                            |code: &&CloseCode| json!({"code": code.code(), "reason": code.reason()}) == why;
                        self.closed = CloseCode::ALL.iter().find(of).map(|code| code.code());
                    }
                    None => {
                        let data = event.strip_prefix("data: ").expect("data alone");
                        check("send", data);
                        self.frames.push_back(serde_json::from_str(data).expect("a frame"));
                    }
                }
                self.text = rest.to_owned();
            }
            if let Some(frame) = self.frames.pop_front() {
                if frame.ping.is_none() {
                    return Some(frame);
                }
                continue;
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.expect("an event in time");
            let chunk = chunk.expect("a response that is whole")?;
            self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    async fn push<T>(&mut self, pick: impl Fn(ServerFrame) -> Option<T>) -> T {
        while let Some(frame) = self.frame().await {
            if let Some(picked) = pick(frame) {
                return picked;
            }
        }
        panic!("closed with {:?}", self.closed);
    }

    async fn closed(&mut self) -> Option<u16> {
        while self.frame().await.is_some() {}
        self.closed
    }

    fn post(&self, body: impl Into<String>) -> RequestBuilder {
        let session = &self.connected.session;
        post(&self.http, &self.base, &self.token, &format!("session={session}"), body)
    }
}

fn post(
    http: &reqwest::Client,
    base: &str,
    token: &str,
    query: &str,
    body: impl Into<String>,
) -> RequestBuilder {
    let request = http.post(format!("{base}/commands?{query}")).bearer_auth(token);
    request.header(header::CONTENT_TYPE, "application/json").body(body.into())
}

/// Returns status, type and body of a response.
async fn answer(request: RequestBuilder) -> (u16, String, Value) {
    let response = timeout(PATIENCE, request.send()).await.expect("an answer in time").expect("an answer");
    let kind =
        response.headers().get(header::CONTENT_TYPE).map(|kind| kind.to_str().expect("text").to_owned());
    let status = response.status().as_u16();
    assert_eq!(response.headers().contains_key(header::RETRY_AFTER), matches!(status, 429 | 500 | 503));
    let body = response.text().await.expect("a body");
    let kind = kind.unwrap_or_default();
    if kind == "application/json" {
        check("send", &body);
    }
    (status, kind, serde_json::from_str(&body).unwrap_or(Value::Null))
}

fn send(id: u32, body: &str) -> String {
    json!({"id": id, "send": {"chat": chat(), "key": Uuid::new_v4(), "body": body}}).to_string()
}

/// Entries that are there together come in runs, in whichever form a connection has them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_at_once_reaches_every_kind_of_connection_whole_and_in_order() {
    const MESSAGES: i64 = 300;
    /// Frames of all lengths; together they fit into a send queue, however slowly they are read.
    const LENGTHS: [usize; 5] = [1, 40, 200, 3_000, 6_000];
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2), user(3)]).await;
        let mut text = stand.connect(user(1), device(1)).await;
        let mut binary = Client::open_in(stand.gateway.http, Encoding::Cbor).await;
        binary.connect(&stand.realm.token(user(2), "someone"), device(1)).await;
        let mut stream = Streaming::open(&stand, user(3), device(1)).await;

        let body = |seq: i64| "x".repeat(LENGTHS[usize::try_from(seq).expect("a seq") % LENGTHS.len()]);
        let record = |seq: i64| {
            let outcome = DeliveryOutcome::stored(seq, EntryKind::Text, body(seq), seq);
            let (sender, device, key) = (user(9), device(9), MessageKey(Uuid::new_v4()));
            DeliveredRecord { v: VERSION, chat: chat(), sender, device, key, outcome }
        };
        let records: Vec<_> = (1..=MESSAGES).map(record).collect();
        let announcing = async {
            for part in records.chunks(30) {
                join_all(part.iter().map(|record| stand.peers.announce(record))).await;
            }
        };
        let reading = async {
            for seq in 1..=MESSAGES {
                for message in [text.message().await, binary.message().await] {
                    assert_eq!((message.seq, message.body), (seq, body(seq)));
                }
                let message = stream.push(|frame| frame.message).await;
                assert_eq!((message.seq, message.body), (seq, body(seq)));
            }
        };
        tokio::join!(announcing, reading);
        assert_eq!(stand.gateway.metric("send_queue_bytes").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_has_the_frames_of_a_socket() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut socket = stand.connect(user(1), device(1)).await;
        let mut stream = Streaming::open(&stand, user(2), device(2)).await;
        assert_eq!(stream.connected.user, user(2));
        assert!((290..=300).contains(&stream.connected.token_expires_in_seconds));

        let stored = socket.send_text(chat(), "one\ntwo\r\n\r\ndata: three \u{2028}").await;
        let message = stream.push(|frame| frame.message).await;
        assert_eq!(
            (message.seq, message.body.as_str()),
            (stored.seq, "one\ntwo\r\n\r\ndata: three \u{2028}")
        );

        let (status, kind, body) = answer(stream.post(send(7, "hello"))).await;
        assert_eq!((status, kind.as_str()), (200, "application/json"));
        assert_eq!(body, json!({"id": 7, "result": {"accepted": {}}}));
        assert_eq!(stream.push(|frame| frame.stored).await.seq, 2);
        assert_eq!(socket.message().await.body, "hello");

        // Many at once: each has its own answer, whatever their ids, and they are stored once each.
        let all = join_all((0..50).map(|n| answer(stream.post(send(n % 3, &n.to_string()))))).await;
        let accepted = all.iter().filter(|(status, ..)| *status == 200).count();
        for (n, (status, _, body)) in (0..).zip(&all) {
            assert!(matches!(status, 200 | 429), "{status}: {body}");
            assert!(*status == 429 || body["id"] == json!(n % 3), "{body}");
        }
        for _ in 0..accepted {
            stream.push(|frame| frame.stored).await;
        }
        assert_eq!(stand.sent().await.len(), 2 + accepted);
    })
    .await;
}

/// A frame is answered alike on a socket, beside a stream, and without any connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_answers_a_frame_alike() {
    with_rates(Limits::default(), UNLIMITED, async |stand| {
        stand.peers.join(chat(), &[user(1)]).await;
        let mut socket = stand.connect(user(1), device(1)).await;
        let stream = Streaming::open(&stand, user(1), device(2)).await;
        let long = |bytes| "x".repeat(bytes);
        let outside = Uuid::new_v4();
        let key = Uuid::new_v4();
        let frames = [
            (200, send(1, "hello")),
            (200, json!({"id": "a", "send": {"chat": chat(), "key": key, "body": "once"}}).to_string()),
            (200, json!({"id": "a", "send": {"chat": chat(), "key": key, "body": "once"}}).to_string()),
            (200, json!({"id": 2, "history": {"chat": chat(), "limit": 1}}).to_string()),
            (400, json!({"id": 2, "history": {"chat": chat(), "limit": 0}}).to_string()),
            (400, send(3, "")),
            (413, send(4, &long(MAX_BODY_BYTES + 1))),
            (413, format!(r#"{{"id":5,"pad":"{}"}}"#, long(MAX_FRAME_BYTES))),
            (403, json!({"id": 6, "send": {"chat": outside, "key": key, "body": "x"}}).to_string()),
            (400, "not json".to_owned()),
            (400, "[".repeat(1_000)),
            (400, r#"{"id":7,"shout":{}}"#.to_owned()),
            (400, r#"{"id":7,"send":{},"history":{}}"#.to_owned()),
            (400, format!(r#"{{"send":{{"chat":"{}","key":"{key}","body":"x"}}}}"#, chat())),
            (400, json!({"id": 8, "connect": {"token": "x", "device": device(1)}}).to_string()),
        ];
        for (status, frame) in frames {
            socket.text(frame.clone()).await;
            let by_socket = loop {
                let frame = socket.frame().await.expect("an open connection");
                if frame.result.is_some() || frame.error.is_some() {
                    break serde_json::to_value(frame).expect("json");
                }
            };
            let is_connect = frame.contains("\"connect\"");
            let beside = answer(stream.post(frame.clone())).await;
            let query = format!("device={}", device(3));
            let alone = answer(post(&stream.http, &stream.base, &stream.token, &query, frame)).await;
            for (answered, kind, mut body) in [beside, alone] {
                let mut expected = by_socket.clone();
                // What is stored of the chat at that moment, and how a refusal is put where there is no connection.
                for answer in [&mut expected, &mut body] {
                    if let Some(page) = answer.pointer_mut("/result/history") {
                        page["head_seq"].take();
                        page["messages"].take();
                    }
                    if is_connect {
                        answer["error"]["detail"].take();
                    }
                }
                assert_eq!((answered, kind.as_str()), (status, "application/json"), "{body}");
                assert_eq!(body, expected);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_stream_or_command_is_a_problem() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let gateway = &stand.gateway;
        let (token, other) = (stand.realm.token(user(1), "one"), stand.realm.token(user(2), "two"));
        let stream = Streaming::open(&stand, user(1), device(1)).await;
        let check = async |request: RequestBuilder, status: u16, code: &str| {
            let (answered, kind, body) = answer(request).await;
            assert_eq!((answered, kind.as_str()), (status, "application/problem+json"), "{body}");
            assert_eq!(body["code"], code);
        };
        let open = |token: &str, query: &str| request(gateway, token, &format!("/events{query}"));
        let to = |token: &str, query: &str| post(&stream.http, &stream.base, token, query, send(1, "x"));
        let own = format!("session={}", stream.connected.session);
        let of_device = format!("device={}", device(1));
        check(open("forged", &format!("?{of_device}")), 401, "unauthenticated").await;
        for query in ["", "?device=7", "?device=00000000-0000-0000-0000-000000000000", "?token=a"] {
            check(open(&token, query), 400, "invalid_argument").await;
        }
        check(to("forged", &own), 401, "unauthenticated").await;
        check(to(&other, &own), 404, "not_found").await;
        check(to(&token, &format!("session={}", Uuid::new_v4())), 404, "not_found").await;
        for query in ["", &format!("{own}&{of_device}"), "device=00000000-0000-0000-0000-000000000000"] {
            check(to(&token, query), 400, "invalid_argument").await;
        }
        let form = stream.http.post(format!("{}/commands?{own}", stream.base)).bearer_auth(&token);
        check(form.form(&[("a", "b")]), 415, "unsupported_media_type").await;
        let evil = |request: RequestBuilder| request.header(header::ORIGIN, "https://evil.test");
        check(evil(open(&token, &format!("?{of_device}"))), 403, "permission_denied").await;
        check(evil(to(&token, &own)), 403, "permission_denied").await;
        assert_eq!(stand.sent().await, []);

        // A page of the same host may, and learns that it may before it sends its token.
        let page = format!("http://{}", gateway.http);
        let ask = stream.http.request(reqwest::Method::OPTIONS, format!("{}/commands?{own}", stream.base));
        let ask = ask.header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST");
        for (origin, expected) in [(page.as_str(), Some(page.as_str())), ("https://evil.test", None)] {
            let request = ask.try_clone().expect("no body").header(header::ORIGIN, origin);
            let response = request.send().await.expect("an answer");
            let allowed = response.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(allowed.map(|value| value.to_str().expect("text")), expected);
        }
        assert_eq!(answer(to(&token, &own).header(header::ORIGIN, &page)).await.0, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_a_reason() {
    with_settings(
        |settings| settings.connections.connections_per_user = 2,
        async |stand| {
            stand.peers.join(chat(), &[user(1), user(2), user(3)]).await;
            let token = |session: &str| stand.realm.token_with(user(1), "one", json!({ "sid": session }));
            let open = |session, n| Streaming::with_token(&stand.gateway, token(session), device(n));
            // One connection too many, of whatever kind, closes the oldest.
            let mut oldest = open("phone", 1).await;
            let mut phone = open("phone", 2).await;
            let mut socket = stand.connect(user(1), device(3)).await;
            assert_eq!(oldest.closed().await, Some(CloseCode::Superseded.code()));
            assert_eq!(answer(oldest.post(send(1, "too late"))).await.0, 404);

            // The end of its session, and no other's.
            stand.peers.end_sessions(user(1), Ended::Session("phone".parse().expect("an id"))).await;
            let began = Instant::now();
            assert_eq!(phone.closed().await, Some(CloseCode::SessionEnded.code()));
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            let (status, _, body) = answer(phone.post(send(1, "with a token of it"))).await;
            assert_eq!((status, &body["code"]), (401, &json!("unauthenticated")));
            assert_eq!(socket.send_text(chat(), "still here").await.seq, 1);

            // The end of its token, unless another was sent.
            let short = |n| stand.realm.token_with(user(n), "short", json!({ "exp": now() + 3 }));
            let mut expiring = Streaming::with_token(&stand.gateway, short(2), device(1)).await;
            let mut renewed = Streaming::with_token(&stand.gateway, short(3), device(1)).await;
            let refresh = json!({"id": 1, "refresh": {"token": stand.realm.token(user(3), "three")}});
            let (status, _, body) = answer(renewed.post(refresh.to_string())).await;
            assert_eq!(status, 200, "{body}");
            assert_eq!(expiring.closed().await, Some(CloseCode::TokenExpired.code()));
            socket.send_text(chat(), "you with the new token").await;
            renewed.token = stand.realm.token(user(3), "three");
            assert_eq!(renewed.push(|frame| frame.message).await.body, "you with the new token");

            // The end of the gateway, once what was sent is answered.
            let last = tokio::spawn(answer(renewed.post(send(9, "the last"))));
            renewed.push(|frame| frame.stored).await;
            stand.gateway.shutdown.cancel();
            assert_eq!(last.await.expect("no panic").0, 200);
            assert_eq!(renewed.closed().await, Some(CloseCode::Drain.code()));
            wait_for("the end", PATIENCE, || async { stand.gateway.task.is_finished().then_some(()) }).await;
        },
    )
    .await;
}

#[expect(clippy::disallowed_methods, reason = "a token has a time of its own")]
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A client that answers no ping lives, since it cannot; one that has gone is off the list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_pinged_and_a_client_that_has_gone_is_noticed() {
    let limits = Limits {
        ping_every: Duration::from_millis(200),
        pong_within: Duration::from_millis(100),
        ..Limits::default()
    };
    with_stand(limits, async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut stream = Streaming::open(&stand, user(1), device(1)).await;
        let pings = async {
            let mut seen = 0;
            while seen < 5 {
                let chunk = stream.response.chunk().await.expect("a whole response").expect("a ping");
                seen += String::from_utf8_lossy(&chunk).matches("data: {\"ping\":{}}\n\n").count();
            }
        };
        timeout(PATIENCE, pings).await.expect("five pings in time");
        assert_eq!(stand.gateway.metric("connections").await, 1);
        drop(stream);
        wait_for("its end", PATIENCE, || async {
            (stand.gateway.metric("connections").await == 0).then_some(())
        })
        .await;
    })
    .await;
}

/// What a user sends without a connection has the rates of a user, however many requests there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_without_a_connection_are_held_to_a_rate() {
    let limits = Limits { frames_per_second: 1, frames_burst: 10, ..Limits::default() };
    with_stand(limits, async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let (http, base) = (reqwest::Client::new(), format!("http://{}", stand.gateway.http));
        let query = format!("device={}", device(1));
        let post = |n: u128, body| post(&http, &base, &stand.realm.token(user(n), "someone"), &query, body);
        let mut answers = Vec::new();
        for n in 0..12 {
            answers.push(answer(post(1, send(n, "again"))).await);
        }
        assert!(answers[..10].iter().all(|(status, ..)| *status == 200), "{answers:?}");
        let (status, kind, body) = answers.last().expect("twelve");
        assert_eq!((*status, kind.as_str()), (429, "application/problem+json"), "{answers:?}");
        assert_eq!(body["code"], "rate_limited");
        assert_eq!(answer(post(2, send(1, "another user"))).await.0, 200);
        // A fault costs as much as on a connection.
        let (status, ..) = answer(post(2, "not json".to_owned())).await;
        assert_eq!(status, 400);
        assert_eq!(answer(post(2, send(2, "again"))).await.0, 429);
    })
    .await;
}

/// Slow mode is of members, and not of connections: of one who never had any, this gateway has nothing but the answer to the check.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_mode_holds_without_a_connection() {
    with_rates(Limits::default(), UNLIMITED, async |stand| {
        stand.peers.clock_ms.store(now_ms(), Ordering::SeqCst);
        stand.peers.slow_mode_seconds.store(3_600, Ordering::SeqCst);
        for n in 1..=3 {
            stand.peers.join_silently(chat(), user(n));
        }
        let query = format!("device={}", device(1));
        let post = |gateway: &Running, n: u128, frame: String| {
            let base = format!("http://{}", gateway.http);
            answer(post(
                &reqwest::Client::new(),
                &base,
                &stand.realm.token(user(n), "someone"),
                &query,
                frame,
            ))
        };
        let of_key = |key: Uuid| {
            json!({"id": 1, "send": {"chat": chat(), "key": key, "body": "the last for an hour"}}).to_string()
        };
        let key = Uuid::new_v4();
        assert_eq!(post(&stand.gateway, 1, of_key(key)).await.0, 200);
        let (status, _, body) = post(&stand.gateway, 1, send(1, "too soon")).await;
        assert_eq!((status, &body["error"]["code"]), (429, &json!("slow_mode")), "{body}");
        assert!(body["error"]["retry_after_ms"].as_u64().is_some_and(|wait| wait > 3_000_000), "{body}");
        assert_eq!(post(&stand.gateway, 1, of_key(key)).await.0, 200, "it is the same message");
        assert_eq!(post(&stand.gateway, 2, send(1, "each for themselves")).await.0, 200);
        // Many at once are no way past it.
        let all = join_all((0..8).map(|n| post(&stand.gateway, 3, send(n, "me, me")))).await;
        assert_eq!(all.iter().filter(|(status, ..)| *status == 200).count(), 1, "{all:?}");
        // Nor is another gateway, of which the member knows, and this one knows nothing.
        let other = stand.another_gateway().await;
        wait_for("what was sent, in the log of the chat", PATIENCE, || async {
            (stand.peers.stored(chat()) == 3).then_some(())
        })
        .await;
        let (status, _, body) = post(&other, 1, send(1, "too soon here")).await;
        assert_eq!((status, &body["error"]["code"]), (429, &json!("slow_mode")), "{body}");
        // An owner does not wait, and the check says so.
        stand.peers.slow_mode_seconds.store(0, Ordering::SeqCst);
        assert_eq!(post(&other, 1, send(1, "I own it now")).await.0, 200);
        other.end().await;
    })
    .await;
}
