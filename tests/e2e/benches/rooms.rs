//! What a room of 10,000 members and a list of 5,000 chats cost, through all services of a tenant on the cluster.
//!
//! Members who are not connected, and the chats of the list, are written to the tenant's database as rows: what is measured reads
//! them as any others, and 10,000 registrations would take longer than all of it. Clients, services and backends share the machine.

#![allow(clippy::disallowed_methods, reason = "a measurement makes names of its own, and reads the clock")]

use std::{
    env,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use contracts::{
    ChatId, MessageKey, UserId,
    wire::{ClientFrame, Command, Outcome, Sync, SyncPage},
};
use e2e::{
    Cluster, Stack, checker,
    cluster::ample_limits,
    processes::Usage,
    report,
    stack::builds,
    stories::{self, pushed},
    users::TestUser,
};
use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use posthouse_client::Socket;
use serde_json::json;
use sqlx::PgConnection;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use uuid::Uuid;

const TENANT: &str = "e2erooms";
/// A tenant is ready, or gone, within this time.
const CONVERGENCE: Duration = Duration::from_secs(150);
/// Until something comes that is waited for.
const LIMIT: Duration = Duration::from_secs(60);
/// Until nothing counts as changed any more.
const SETTLING: Duration = Duration::from_secs(600);
/// Messages whose way to all connections is timed.
const MESSAGES: usize = 20;
/// Returns to the list of chats that are timed.
const RETURNS: usize = 20;
/// Chats with something new at each return.
const CHANGED: usize = 30;
/// Connections that are opened at a time.
const OPENING: usize = 16;

/// The sizes of what is measured.
struct Sizes {
    members: usize,
    users: usize,
    /// Of each user.
    devices: usize,
    chats: usize,
}

impl Sizes {
    fn from_environment() -> Self {
        let number =
            |name: &str, usual| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
        Self {
            members: number("PH_ROOM_MEMBERS", 10_000),
            users: number("PH_ROOM_USERS", 100),
            devices: number("PH_ROOM_DEVICES", 30),
            chats: number("PH_LIST_CHATS", 5_000),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (stack, cluster, sizes) =
        (Stack::from_environment(), Cluster::connect().await?, Sizes::from_environment());
    report(builds());
    cluster.delete_tenant(TENANT, CONVERGENCE).await?;
    let routing = json!({ "rateLimit": { "average": 10_000, "burst": 20_000 } });
    let spec = json!({ "deletionPolicy": "Delete", "limits": ample_limits(), "routing": routing });
    cluster.apply_tenant(TENANT, spec).await?;
    cluster.await_ready(TENANT, CONVERGENCE).await?;
    let account = cluster.account(TENANT, "postgres").await?;
    let mut database = stack.postgres(&account, &format!("mt_{TENANT}")).await?;
    sqlx::query("SET search_path TO chat_service").execute(&mut database).await?;

    let users = TestUser::crowd(&stack.messenger(TENANT), "guest", sizes.users).await?;
    room(&cluster, &mut database, &users, &sizes).await?;
    list(&mut database, &users, sizes.chats).await?;
    cluster.delete_tenant(TENANT, CONVERGENCE).await?;
    Ok(())
}

/// Times messages to everyone who is connected in a large room.
async fn room(
    cluster: &Cluster,
    database: &mut PgConnection,
    users: &[TestUser],
    sizes: &Sizes,
) -> anyhow::Result<()> {
    let others: Vec<UserId> = users[1..].iter().map(TestUser::id).collect();
    let room = users[0].group("room", &others).await?;
    let devices: Vec<&TestUser> =
        users.iter().flat_map(|user| std::iter::repeat_n(user, sizes.devices)).collect();
    let sockets: Vec<Socket> =
        stream::iter(devices).map(stories::connect).buffer_unordered(OPENING).try_collect().await?;
    let mut sender = stories::connect(&users[0]).await?;
    let connections = sockets.len();
    let alone = gateway(cluster).await?;

    let absent = sizes.members.saturating_sub(users.len());
    sqlx::query(
        "INSERT INTO members (chat_id, user_id, role, joined_at)
         SELECT $1, gen_random_uuid(), 'member', now() FROM generate_series(1, $2)",
    )
    .bind(room.0)
    .bind(i32::try_from(absent)?)
    .execute(&mut *database)
    .await?;
    sqlx::query("UPDATE chats SET member_count = member_count + $2 WHERE chat_id = $1")
        .bind(room.0)
        .bind(i32::try_from(absent)?)
        .execute(&mut *database)
        .await?;

    let mut readers = JoinSet::new();
    let (arrivals, mut arrived) = mpsc::channel(1_024);
    for mut socket in sockets {
        let arrivals = arrivals.clone();
        readers.spawn(async move {
            while let Some(Ok(raw)) = socket.next().await {
                // Not read as JSON: thousands of clients share the cores with what is measured.
                let Ok(text) = raw.to_text() else { return };
                let Some(at) = text.find("room message ") else { continue };
                let number: String = text[at + 13..].chars().take_while(char::is_ascii_digit).collect();
                if arrivals.send((number.parse::<usize>().unwrap_or_default(), Instant::now())).await.is_err()
                {
                    return;
                }
            }
        });
    }
    let (mut firsts, mut lasts) = (Vec::new(), Vec::new());
    for number in 0..=MESSAGES {
        let began = Instant::now();
        let frame = stories::send(9, room, MessageKey::generate(), &format!("room message {number}!"));
        sender.send(stories::text(&frame)).await?;
        let mut times = Vec::with_capacity(connections);
        while times.len() < connections {
            let (of, at) = timeout(LIMIT, arrived.recv()).await?.context("the readers ended")?;
            ensure!(of == number, "message {of} came again");
            times.push(at.duration_since(began).as_secs_f64() * 1_000.0);
        }
        // The first one warms up.
        if number > 0 {
            firsts.push(times.iter().copied().fold(f64::INFINITY, f64::min));
            lasts.push(times.iter().copied().fold(0.0, f64::max));
        }
    }
    readers.shutdown().await;
    let full = gateway(cluster).await?;
    lasts.sort_by(f64::total_cmp);
    firsts.sort_by(f64::total_cmp);
    report(format!(
        "room of {} members, {connections} connections of {} of them: send to the first p50 {:.1} ms; to all p50 {:.1} ms, most {:.1} ms\n\
         gateway: {} MiB before the other {absent} were members, {} MiB after",
        sizes.members,
        users.len(),
        checker::percentile(&firsts, 50),
        checker::percentile(&lasts, 50),
        lasts.last().copied().unwrap_or_default(),
        alone.resident_mebibytes,
        full.resident_mebibytes,
    ));
    Ok(())
}

/// Times the return of a user to a long list of chats.
async fn list(database: &mut PgConnection, users: &[TestUser], chats: usize) -> anyhow::Result<()> {
    let (writer, reader) = (&users[0], &users[1]);
    let ids: Vec<ChatId> = (0..chats).map(|_| ChatId::generate()).collect();
    let rows: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    sqlx::query(
        "INSERT INTO chats (chat_id, kind, title, member_count, created_at, founder_id)
         SELECT id, 'group', 'one of many', 2, now(), $2 FROM unnest($1::uuid[]) AS id",
    )
    .bind(&rows)
    .bind(writer.id().0)
    .execute(&mut *database)
    .await?;
    // A chat that a user joined in the last minutes counts as changed.
    for (user, role) in [(writer, "owner"), (reader, "member")] {
        sqlx::query(
            "INSERT INTO members (chat_id, user_id, role, joined_at)
             SELECT id, $2, $3, now() - interval '1 day' FROM unnest($1::uuid[]) AS id",
        )
        .bind(&rows)
        .bind(user.id().0)
        .bind(role)
        .execute(&mut *database)
        .await?;
    }
    write(writer, &ids).await?;

    let mut socket = stories::connect(reader).await?;
    let began = Instant::now();
    let mut page = sync(&mut socket, None).await?;
    let first = began.elapsed();
    let mut pages = 1;
    while page.more {
        page = sync(&mut socket, Some(page.cursor)).await?;
        pages += 1;
    }
    let all = began.elapsed();
    // What was written a moment ago comes again until the places of the cursor are behind it, and a chat that was joined a moment
    // ago, such as the room, for some minutes.
    let until = Instant::now() + SETTLING;
    while !page.chats.is_empty() {
        ensure!(Instant::now() < until, "{} chats still come with every sync", page.chats.len());
        page = sync(&mut socket, Some(page.cursor)).await?;
    }
    drop(socket);

    let (mut connects, mut syncs) = (Vec::new(), Vec::new());
    for number in 0..=RETURNS {
        let changed: Vec<ChatId> = ids.iter().copied().skip(number * CHANGED).take(CHANGED).collect();
        write(writer, &changed).await?;
        let began = Instant::now();
        let mut socket = stories::connect(reader).await?;
        let connected = began.elapsed();
        let found = sync(&mut socket, Some(page.cursor)).await?;
        let synced = began.elapsed() - connected;
        ensure!(!found.more, "there is another page");
        // It may name a chat that has not changed, too; and the gateway says `lagged` of one whose head is not stored yet.
        ensure!(!found.chats.is_empty(), "none of {CHANGED} chats came");
        page = found;
        // Or these come again with the next ones, and all do not fit into a page.
        while !page.chats.is_empty() {
            page = sync(&mut socket, Some(page.cursor)).await?;
        }
        if number > 0 {
            connects.push(connected.as_secs_f64() * 1_000.0);
            syncs.push(synced.as_secs_f64() * 1_000.0);
        }
    }
    for times in [&mut connects, &mut syncs] {
        times.sort_by(f64::total_cmp);
    }
    report(format!(
        "list of {chats} chats: a new device has its first page in {:.0} ms and all {pages} pages in {:.1} s\n\
         return of a device for which {CHANGED} chats have something new: connected p50 {:.1} ms, most {:.1} ms; \
         its one sync p50 {:.1} ms, most {:.1} ms",
        first.as_secs_f64() * 1_000.0,
        all.as_secs_f64(),
        checker::percentile(&connects, 50),
        connects.last().copied().unwrap_or_default(),
        checker::percentile(&syncs, 50),
        syncs.last().copied().unwrap_or_default(),
    ));
    Ok(())
}

/// Writes a message into each of the chats, and waits until all are stored.
async fn write(writer: &TestUser, chats: &[ChatId]) -> anyhow::Result<()> {
    let online = writer.online(&[]).await;
    stream::iter(chats)
        .map(|&chat| online.send(chat, "hello"))
        .buffer_unordered(64)
        .try_for_each(|_| async { Ok(()) })
        .await
}

async fn sync(socket: &mut Socket, cursor: Option<String>) -> anyhow::Result<SyncPage> {
    let command = Command::Sync(Sync { cursor, limit: None, entries: None });
    socket.send(stories::text(&ClientFrame { id: Some(7.into()), command })).await?;
    pushed(socket, |frame| match frame.result {
        Some(Outcome::Synced(page)) => Some(page),
        _ => None,
    })
    .await
}

/// Returns what the gateway uses.
async fn gateway(cluster: &Cluster) -> anyhow::Result<Usage> {
    let usage = cluster.usage().await?;
    let found = usage.into_iter().find(|((service, tenant), _)| service == "gateway" && tenant == TENANT);
    Ok(found.context("there is no gateway")?.1)
}
