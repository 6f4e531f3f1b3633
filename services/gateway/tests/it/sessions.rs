//! Sessions and accounts that end while their tokens are good.

use std::time::{Duration, Instant};

use contracts::{
    ErrorCode,
    event::Ended,
    wire::{CloseCode, Command, Connect, Refresh},
};
use gateway::Limits;
use kit::catalog::Topic;
use serde_json::json;

use crate::{
    client::Client,
    stand::{Running, Stand, chat, device, user, with_stand},
};

/// What is promised.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);

/// Returns a token of a session of user 1.
fn token(stand: &Stand, session: &str) -> String {
    stand.realm.token_with(user(1), "one", json!({ "sid": session }))
}

fn session(name: &str) -> Ended {
    Ended::Session(name.parse().expect("an id"))
}

async fn connected(stand: &Stand, gateway: &Running, of: &str, n: u128) -> Client {
    let mut client = Client::open(gateway.http).await;
    client.connect(&token(stand, of), device(n)).await;
    client
}

async fn is_refused(gateway: &Running, token: String) {
    let mut client = Client::open(gateway.http).await;
    let id = client.command(Command::Connect(Connect { token, device: device(9) })).await;
    assert_eq!(client.answer(id).await.expect_err("an ended session"), ErrorCode::Unauthenticated);
    assert_eq!(client.closed().await, Some(CloseCode::SessionEnded.code()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_session_is_closed_on_every_gateway_and_no_other() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let second = stand.another_gateway().await;
        let gateways = [&stand.gateway, &second];
        let (mut phones, mut desks) = (Vec::new(), Vec::new());
        for gateway in gateways {
            phones.push(connected(&stand, gateway, "phone", 1).await);
            desks.push(connected(&stand, gateway, "desk", 2).await);
        }
        let mut another = stand.connect(user(2), device(3)).await;

        // What cannot be read ends nothing, and holds up nothing behind it.
        stand.peers.produce(Topic::SessionEvents, &user(1).to_string(), Some(b"not a record")).await;
        stand.peers.end_sessions(user(1), session("phone")).await;
        let began = Instant::now();
        for phone in &mut phones {
            assert_eq!(phone.closed().await, Some(CloseCode::SessionEnded.code()));
        }
        assert!(began.elapsed() < CLOSED_WITHIN, "{:?}", began.elapsed());

        for desk in &mut desks {
            desk.send_text(chat(), "still here").await;
            let id = desk.command(Command::Refresh(Refresh { token: token(&stand, "phone") })).await;
            assert_eq!(desk.answer(id).await.expect_err("an ended session"), ErrorCode::Unauthenticated);
            desk.send_text(chat(), "with the token of before").await;
        }
        let third = stand.another_gateway().await;
        for gateway in [&stand.gateway, &second, &third] {
            is_refused(gateway, token(&stand, "phone")).await;
        }

        stand.peers.end_sessions(user(1), Ended::Account).await;
        let began = Instant::now();
        for desk in &mut desks {
            assert_eq!(desk.closed().await, Some(CloseCode::SessionEnded.code()));
        }
        assert!(began.elapsed() < CLOSED_WITHIN, "{:?}", began.elapsed());
        is_refused(&second, token(&stand, "later")).await;
        another.send_text(chat(), "and I am another user").await;
        third.end().await;
        second.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_ends_with_the_session_of_its_last_token() {
    with_stand(Limits::default(), async |stand| {
        let mut client = connected(&stand, &stand.gateway, "before", 1).await;
        let id = client.command(Command::Refresh(Refresh { token: token(&stand, "after") })).await;
        client.answer(id).await.expect("a refresh");
        stand.peers.end_sessions(user(1), session("before")).await;
        // Closed by the time of this refusal, if at all.
        let mut probe = connected(&stand, &stand.gateway, "probe", 2).await;
        stand.peers.end_sessions(user(1), session("probe")).await;
        assert_eq!(probe.closed().await, Some(CloseCode::SessionEnded.code()));
        assert!(client.receives_nothing(Duration::from_millis(300)).await, "it goes on with another session");
        stand.peers.end_sessions(user(1), session("after")).await;
        assert_eq!(client.closed().await, Some(CloseCode::SessionEnded.code()));
    })
    .await;
}
