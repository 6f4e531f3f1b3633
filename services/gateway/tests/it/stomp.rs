//! What a gateway does for clients of STOMP while it is slow, or others are. What users say by it is a story of the whole messenger.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use gateway::{Limits, RateLimits};
use kit::catalog::Rate;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _, http::HeaderValue},
};

use crate::{
    presence::watching,
    stand::{PATIENCE, Stand, UNLIMITED, chat, device, user, with_rates, with_stand},
};

/// Connects a client that has these heart-beats, and returns the answer.
async fn connect(stand: &Stand, beats: &str) -> (WebSocketStream<TcpStream>, String) {
    let addr = stand.gateway.http;
    let stream = TcpStream::connect(addr).await.expect("a connection");
    let mut request = format!("ws://{addr}/ws").into_client_request().expect("a request");
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("v12.stomp"));
    let (mut socket, _) = client_async(request, stream).await.expect("an upgrade");
    let token = stand.realm.token(user(1), "someone");
    let connect = format!("CONNECT\naccept-version:1.2\nheart-beat:{beats}\npasscode:{token}\n\n\0");
    socket.send(Message::text(connect)).await.expect("an open socket");
    let connected = timeout(PATIENCE, socket.next()).await.expect("an answer in time");
    let Some(Ok(Message::Text(connected))) = connected else { panic!("{connected:?}") };
    (socket, connected.as_str().to_owned())
}

/// Sends frames, of which the last one asks for a receipt, and waits for that. Nothing else is an answer to them.
async fn carried_out(socket: &mut WebSocketStream<TcpStream>, frames: &[String], receipt: &str) {
    for frame in frames {
        socket.send(Message::text(frame.clone())).await.expect("an open socket");
    }
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("a receipt in time") {
            Some(Ok(Message::Text(text))) if text.as_str().starts_with("RECEIPT\n") => {
                assert_eq!(text.as_str(), format!("RECEIPT\nreceipt-id:{receipt}\n\n\0"));
                return;
            }
            Some(Ok(Message::Text(text))) if text.as_str().starts_with("MESSAGE\n") => {}
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("{receipt}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_stomp_receives_a_heart_beat_with_each_ping_if_it_wants_any() {
    let limits = Limits { ping_every: Duration::from_millis(100), ..Limits::default() };
    with_stand(limits, async |stand| {
        for (beats, expected) in [("0,1000", 2), ("1000,1000", 2), ("1000,0", 0), ("0,0", 0)] {
            let (mut socket, connected) = connect(&stand, beats).await;
            // The time between two pings in whole seconds, in both directions.
            assert!(connected.contains("\nheart-beat:1000,1000\n"), "{connected}");
            let (mut pings, mut received) = (0, 0);
            // The third ping is behind what came with the first two.
            while pings < 3 {
                match timeout(PATIENCE, socket.next()).await.expect("a ping in time") {
                    Some(Ok(Message::Ping(_))) => pings += 1,
                    Some(Ok(Message::Text(text))) if text.as_str() == "\n" => received += 1,
                    other => panic!("{beats}: {other:?}"),
                }
            }
            assert_eq!(received, expected, "{beats}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_that_come_to_nothing_do_not_hold_a_client_back() {
    let rates = RateLimits { user_queries: Rate::every(Duration::from_secs(3_600), 1), ..UNLIMITED };
    // After a few mistakes a client would not be read for minutes.
    let limits =
        Limits { frames_per_second: 1, frames_burst: 1_000, fault_frames: 1_000, ..Limits::default() };
    with_rates(limits, rates, async |stand| {
        let (mut socket, _) = connect(&stand, "0,0").await;
        let subscribe = "SUBSCRIBE\nid:0\ndestination:/chats\nack:client-individual\n\n\0".to_owned();
        // The first one is of a chat that the user is not in, and the others are beyond the rate.
        let acks = (1..=10).map(|seq| format!("ACK\nid:{}.{seq}\nsubscription:0\n\n\0", chat()));
        let last = "UNSUBSCRIBE\nid:0\nreceipt:done\n\n\0".to_owned();
        let frames: Vec<_> = [subscribe].into_iter().chain(acks).chain([last]).collect();
        carried_out(&mut socket, &frames, "done").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_stomp_unsubscribes_from_presence_while_there_is_none() {
    with_stand(Limits::default(), async |stand| {
        let mut other = stand.connect(user(2), device(2)).await;
        // The gateway has found the presence service.
        watching(&mut other, &[user(1)], &[]).await;
        let (mut socket, _) = connect(&stand, "0,0").await;
        let subscribe =
            format!("SUBSCRIBE\nid:p\ndestination:/presence\nusers:{}\nreceipt:there\n\n\0", user(2));
        carried_out(&mut socket, &[subscribe], "there").await;
        stand.peers.presence.set_down(true);
        let unsubscribe = "UNSUBSCRIBE\nid:p\nreceipt:gone\n\n\0".to_owned();
        carried_out(&mut socket, &[unsubscribe], "gone").await;
    })
    .await;
}
