//! Frames that are not of the protocol.

use contracts::{
    Encoding, ErrorCode, MessageKey,
    wire::{CloseCode, MAX_BODY_BYTES, MAX_FRAME_BYTES},
};
use futures_util::SinkExt as _;
use gateway::Limits;
use kit::testing::wait_for;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::{
    client::Client,
    stand::{PATIENCE, chat, device, user, with_stand},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_frame_gets_a_code_and_the_connection_lives() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1)]).await;
        let mut client = stand.connect(user(1), device(1)).await;
        client.text("not json").await;
        assert_eq!(client.error().await, (None, ErrorCode::Malformed));
        client.text(r#"{"id":7,"shout":{}}"#).await;
        assert_eq!(client.error().await, (Some(7.into()), ErrorCode::Malformed));
        client.text(format!(r#"{{"id":8,"send":{{"chat":"{}","key":"no uuid","body":"x"}}}}"#, chat())).await;
        assert_eq!(client.error().await, (Some(8.into()), ErrorCode::Malformed));
        // Fields without their names.
        let key = Uuid::new_v4();
        client.text(format!(r#"{{"id":8,"send":["{}","{key}","x"]}}"#, chat())).await;
        assert_eq!(client.error().await, (Some(8.into()), ErrorCode::Malformed));
        client.text(r#"[8,null,{}]"#).await;
        assert_eq!(client.error().await, (None, ErrorCode::Malformed));
        // Half of an emoji, as a program leaves it that cuts texts: as often as it likes.
        for _ in 0..40 {
            let key = Uuid::new_v4();
            let frame = format!(r#"{{"id":9,"send":{{"chat":"{}","key":"{key}","body":"\ud83d"}}}}"#, chat());
            client.text(frame).await;
            assert_eq!(client.error().await, (Some(9.into()), ErrorCode::Malformed));
        }
        client.text("[".repeat(1000)).await;
        assert_eq!(client.error().await, (None, ErrorCode::Malformed));
        client.text(format!(r#"{{"id":9,"pad":"{}"}}"#, "x".repeat(MAX_FRAME_BYTES))).await;
        assert_eq!(client.error().await, (Some(9.into()), ErrorCode::TooLarge));
        let id = client.send(chat(), MessageKey(Uuid::new_v4()), &"x".repeat(MAX_BODY_BYTES + 1)).await;
        assert_eq!(client.error().await, (Some(id.into()), ErrorCode::TooLarge));
        let id = client.send(chat(), MessageKey(Uuid::new_v4()), "").await;
        assert_eq!(client.error().await, (Some(id.into()), ErrorCode::InvalidArgument));
        assert_eq!(stand.sent().await, []);

        // The largest body is taken however it is escaped.
        for (seq, escaped) in (1..).zip(["x", "\u{1}", "\"", "\n", "\\u0061", "\\ud83d\\ude00"]) {
            let character: String =
                serde_json::from_str(&format!("\"{escaped}\"")).unwrap_or(escaped.to_owned());
            let body = character.repeat(MAX_BODY_BYTES / character.len());
            let written = if escaped.starts_with('\\') {
                format!("\"{}\"", escaped.repeat(MAX_BODY_BYTES / character.len()))
            } else {
                serde_json::to_string(&body).expect("json")
            };
            let key = Uuid::new_v4();
            client
                .text(format!(r#"{{"id":10,"send":{{"chat":"{}","key":"{key}","body":{written}}}}}"#, chat()))
                .await;
            let stored = client.push("stored", |frame| frame.stored.clone()).await;
            assert_eq!(stored.seq, seq, "{escaped}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_has_the_encoding_that_its_client_asked_for() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut text = stand.connect(user(1), device(1)).await;
        let mut binary = Client::open_in(stand.gateway.http, Encoding::Cbor).await;
        binary.connect(&stand.realm.token(user(2), "someone"), device(1)).await;

        // One push, in the encoding of each.
        text.send_text(chat(), "hi \u{202e}\u{0}\"").await;
        let read = binary.message().await;
        binary.send_text(chat(), "likewise").await;
        assert_eq!((read.seq, read.body.as_str()), (1, "hi \u{202e}\u{0}\""));
        assert_eq!(text.message().await.body, "likewise");
        assert_eq!(binary.history(chat(), 0).await, text.history(chat(), 0).await);

        // A bad frame is refused in the encoding of the connection, which lives.
        binary.raw(Message::binary(b"\xa2\x00\x09\x65shout\xa0".to_vec())).await;
        assert_eq!(binary.error().await, (Some(9.into()), ErrorCode::Malformed));
        binary.raw(Message::binary(vec![0x81; 1000])).await;
        assert_eq!(binary.error().await, (None, ErrorCode::Malformed));
        let id = binary.send(chat(), MessageKey(Uuid::new_v4()), &"x".repeat(MAX_FRAME_BYTES)).await;
        assert_eq!(binary.error().await, (Some(id.into()), ErrorCode::TooLarge));

        // Frames of the other encoding are a fault of the client.
        text.raw(Message::binary(b"\xa1\x08\xa0".to_vec())).await;
        binary.text(r#"{"pong":{}}"#).await;
        for client in [&mut text, &mut binary] {
            assert_eq!(client.error().await, (None, ErrorCode::Malformed));
            assert_eq!(client.closed().await, Some(CloseCode::Malformed.code()));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_bad_closes_its_own_connection_only() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1)]).await;
        let mut good = stand.connect(user(1), device(1)).await;

        // A frame that is not even read.
        let mut client = stand.connect(user(2), device(1)).await;
        drop(client.ws.send(Message::text("x".repeat(4 * 1024 * 1024))).await);
        assert_eq!(client.closed().await, Some(CloseCode::TooLarge.code()));

        // A stranger's first mistake.
        let mut client = Client::open(stand.gateway.http).await;
        client.send(chat(), MessageKey(Uuid::new_v4()), "who, me?").await;
        assert_eq!(client.error().await.1, ErrorCode::Unauthenticated);
        assert_eq!(client.closed().await, Some(CloseCode::Malformed.code()));

        // A stranger who sends more than a token needs, in one frame or in many that are right.
        let mut client = Client::open(stand.gateway.http).await;
        drop(client.ws.send(Message::text("x".repeat(16 * 1024))).await);
        assert_eq!(client.closed().await, Some(CloseCode::TooLarge.code()));
        let mut client = Client::open(stand.gateway.http).await;
        for _ in 0..1_000 {
            drop(client.ws.send(Message::text(r#"{"pong":{}}"#)).await);
        }
        assert_eq!(client.closed().await, Some(CloseCode::TooLarge.code()));

        // Bytes that are no frame: text that is not UTF-8, an unmasked frame, a control frame that is too long.
        let long_ping = [&[0x89, 0xfe, 0x00, 0x7e, 0, 0, 0, 0], &[0; 126][..]].concat();
        let frames: [(&[u8], u16); 3] = [
            (&[0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28], 1007),
            (&[0x81, 0x02, b'{', b'}'], 1002),
            (&long_ping, 1002),
        ];
        for (bytes, code) in frames {
            let mut client = stand.connect(user(2), device(1)).await;
            client.ws.get_mut().write_all(bytes).await.expect("an open socket");
            assert_eq!(client.closed().await, Some(code), "{bytes:x?}");
        }

        assert_eq!(good.send_text(chat(), "unharmed").await.seq, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_tiny_fragments_cost_a_message() {
    with_stand(Limits::default(), async |stand| {
        let mut client = stand.connect(user(1), device(1)).await;
        let mut bytes = vec![0x01, 0x81, 0, 0, 0, 0, b'x'];
        for _ in 0..1_000_000 {
            bytes.extend_from_slice(&[0x00, 0x81, 0, 0, 0, 0, b'x']);
        }
        drop(client.ws.get_mut().write_all(&bytes).await);
        assert_eq!(client.closed().await, Some(CloseCode::TooLarge.code()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fragments_without_a_byte_close_their_connection() {
    with_stand(Limits::default(), async |stand| {
        let mut client = stand.connect(user(1), device(1)).await;
        let mut bytes = vec![0x01, 0x80, 0, 0, 0, 0];
        bytes.extend([0x00, 0x80, 0, 0, 0, 0].repeat(100_000));
        drop(client.ws.get_mut().write_all(&bytes).await);
        assert_eq!(client.closed().await, Some(1008));
    })
    .await;
}

/// Clients that send all of a large message but its last byte, one after another, and stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_never_whole_use_up_no_more_memory_than_they_may() {
    const EACH: usize = 255 * 1024;
    const ALL: u64 = 16 * 1024 * 1024;
    // None of them answers a ping.
    let limits = Limits { ping_every: PATIENCE * 10, ..Limits::default() };
    with_stand(limits, async |stand| {
        stand.peers.join(chat(), &[user(1)]).await;
        let mut good = stand.connect(user(1), device(1)).await;
        let length = (EACH as u64 + 1).to_be_bytes();
        let header = [&[0x01, 0xff][..], &length, &[0; 4]].concat();
        let begun = [header, vec![b'x'; EACH]].concat();
        let gateway = &stand.gateway;
        let closes = || gateway.metric("closes_total{reason=\"no room\"}");
        let mut clients = Vec::new();
        let mut refused = loop {
            let n = clients.len();
            let mut client = stand.connect(user(2 + n as u128 / 30), device(n as u128)).await;
            drop(client.ws.get_mut().write_all(&begun).await);
            let expected = (n + 1) * EACH;
            let is_read = || async {
                let is_kept = gateway.metric("inbound_bytes").await >= expected as u64;
                (is_kept || closes().await > 0).then_some(is_kept)
            };
            if !wait_for("the message to be read", PATIENCE, is_read).await {
                break client;
            }
            clients.push(client);
        };
        assert_eq!(refused.closed().await, Some(CloseCode::Slow.code()));
        let inbound = gateway.metric("inbound_bytes").await;
        assert!(clients.len() > 20 && inbound <= ALL, "{inbound} bytes of {} clients", clients.len());
        assert_eq!(gateway.metric("send_queue_bytes").await, 0);
        assert_eq!(good.send_text(chat(), "unharmed").await.seq, 1);
        drop(clients);
        let is_free = || async { (gateway.metric("inbound_bytes").await == 0).then_some(()) };
        wait_for("its memory to be free again", PATIENCE, is_free).await;
    })
    .await;
}
