//! A messenger with moderators: what breaks their rules is hidden, and who breaks them is out.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey,
    api::{Figures, ShadowRun, ShadowState},
    event::EntryKind,
    wire::{ClientFrame, CloseCode, Command, Connect},
};
use futures_util::{SinkExt, StreamExt, future::try_join_all, stream::FuturesUnordered};
use posthouse_client::{Event, Messenger, Post};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{MOMENT, Socket, all_closed, answer, closes, connect, pushed, send, text};
use crate::{
    checker,
    cluster::ample_limits,
    eventually,
    pairs::Pair,
    rest::{Answer, request},
    users::{Online, TestUser, refused},
};

/// Chats of two in which messages are judged.
const PAIRS: usize = 16;
/// Messages that one user may have under way.
const WINDOW: usize = 32;
/// How often a user tries again to write.
const PACE: Duration = Duration::from_millis(250);
/// Nothing comes for so long only when something is wrong.
const SILENCE: Duration = Duration::from_secs(60);
/// A banned user is out within this time.
pub const OUT_WITHIN: Duration = Duration::from_secs(5);
/// A shadow run of what a story has sent takes less.
const RUN_WITHIN: Duration = Duration::from_secs(120);

/// A messenger and one of its moderators.
pub struct Moderated {
    pub messenger: Messenger,
    pub moderator: TestUser,
}

/// How many messages are sent, and how many a second at most.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub messages: usize,
    pub per_second: usize,
}

/// What became of them.
#[derive(Clone, Debug)]
pub struct Judged {
    pub messages: usize,
    /// How many a second were to be sent.
    pub offered_per_second: usize,
    /// How many a second were stored and judged, until the last of them was hidden.
    pub per_second: f64,
    /// How long it took from the send of a message that breaks the rules until the other user saw that it is hidden, in milliseconds,
    /// sorted.
    pub hidden_after_ms: Vec<f64>,
}

impl Judged {
    /// Returns it in words.
    pub fn summary(&self) -> String {
        let at = |percent| checker::percentile(&self.hidden_after_ms, percent);
        format!(
            "{} of {} messages, at {:.0} a second of {} that were offered, broke the rules and are hidden, p50 {:.0} ms, p99 {:.0} ms after the \
             send; no other is",
            self.hidden_after_ms.len(),
            self.messages,
            self.per_second,
            self.offered_per_second,
            at(50),
            at(99)
        )
    }
}

/// Returns rules of each kind that the stories' messages can break.
pub fn rules() -> Value {
    json!([
        { "name": "words", "test": { "words": { "words": ["scam"] } }, "action": { "delete": true } },
        { "name": "pattern", "test": { "pattern": { "pattern": r"win\s+\d+" } }, "action": { "report": true } },
        {
            "name": "links", "test": { "links": { "domains": ["evil.example"] } },
            "action": { "delete": true, "sanction": { "kind": "warning" } },
        },
    ])
}

/// Returns rules with one that remembers what a sender wrote before.
pub fn rules_with_a_rate() -> Value {
    let mut rules = rules();
    rules.as_array_mut().expect("rules are a list").push(json!({
        "name": "rate", "test": { "rate": { "messages": 10, "seconds": 5 } },
        "action": { "sanction": { "kind": "warning" } },
    }));
    rules
}

/// Returns the message with this number, and whether the rules hide it.
fn message(number: usize) -> (String, bool) {
    const BANNED: [&str; 4] = ["scam", "s\u{441}am", "S C A M", "sc\u{200b}am"];
    if number % 10 == 3 {
        (format!("the {} for you", BANNED[number / 10 % BANNED.len()]), true)
    } else if number % 50 == 7 {
        ("win 100 at cards".to_owned(), false)
    } else if number % 50 == 21 {
        ("see https://shop.evil.example/now".to_owned(), true)
    } else {
        (format!("scampi for lunch, table {number}"), false)
    }
}

/// A message that was stored.
struct Sent {
    seq: i64,
    at: Instant,
    is_hidden: bool,
}

impl Moderated {
    /// Returns the spec of a tenant with the service, whose moderator has this name. Its limits hold up none of what the stories send.
    pub fn spec(moderator: &str) -> Value {
        json!({
            "deletionPolicy": "Delete",
            "services": { "moderation": { "enabled": true } },
            "moderation": { "moderators": [moderator] },
            "limits": ample_limits(),
        })
    }

    /// Sends a request of the moderator: `line` is its method and the path below `/api/moderation/`.
    pub async fn request(&self, line: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        let (method, path) = line.split_once(' ').context("a line has a method and a path")?;
        let line = format!("{method} /api/moderation/{path}");
        request(&self.messenger, &line, Some(&self.moderator.token().await?), body).await
    }

    /// Creates a rule set, as a draft, and returns its id.
    pub async fn draft(&self, rules: &Value) -> anyhow::Result<String> {
        let body = json!({ "name": "rules of the house", "rules": rules });
        let set = self.request("POST rule-sets", Some(&body)).await?.ok()?;
        Ok(set["id"].as_str().context("a rule set has an id")?.to_owned())
    }

    /// Enforces rules, and returns the id of their set once they are in force.
    pub async fn enforce(&self, rules: &Value) -> anyhow::Result<String> {
        let id = self.draft(rules).await?;
        let set = self.request(&format!("POST rule-sets/{id}/enforce"), None).await?.ok()?;
        let from_ms = set["enforced_from_ms"].as_i64().context("it is in force from some time on")?;
        eventually("the rules are in force", MOMENT, || async {
            ensure!(kit::clock::now_ms() > from_ms, "not before {from_ms}");
            Ok(())
        })
        .await?;
        Ok(id)
    }

    /// Returns what a rule set did.
    pub async fn figures(&self, id: &str) -> anyhow::Result<Figures> {
        let figures = self.request(&format!("GET rule-sets/{id}/figures"), None).await?.ok()?;
        Ok(serde_json::from_value(figures)?)
    }

    /// Returns what a rule set would have done with all that the log has.
    pub async fn shadow(&self, id: &str) -> anyhow::Result<ShadowRun> {
        let (path, body) = (format!("rule-sets/{id}/shadow"), json!({ "days": 1 }));
        self.request(&format!("POST {path}"), Some(&body)).await?.ok()?;
        let run = eventually("the shadow run ends", RUN_WITHIN, || async {
            let run = self.request(&format!("GET {path}"), None).await?.ok()?;
            let run: ShadowRun = serde_json::from_value(run)?;
            ensure!(run.state != ShadowState::Running, "{} are judged", run.judged);
            Ok(run)
        })
        .await?;
        ensure!(run.state == ShadowState::Done, "{run:?}");
        Ok(run)
    }

    /// Registers and connects the pairs of users in whose chats messages are judged.
    pub async fn pairs(&self) -> anyhow::Result<Vec<Pair>> {
        Pair::some(&self.messenger, "judged", PAIRS).await
    }

    /// A user is muted in a group, and then everywhere: of what they write on a connection that is open, nothing is stored from the first refusal on.
    /// Others write on, and so does the user when the mute is lifted.
    pub async fn mute(&self) -> anyhow::Result<()> {
        let messenger = &self.messenger;
        let ann = TestUser::register(messenger, "ann").await?;
        let [ben, cleo] =
            [TestUser::register(messenger, "ben").await?, TestUser::register(messenger, "cleo").await?];
        let crew = ann.group("crew", &[ben.id(), cleo.id()]).await?;
        let (mut muted, mut other) = (connect(&ben).await?, connect(&ann).await?);
        ensure!(attempt(&mut muted, crew, "before").await?.is_none(), "a member writes");
        for chat in [Some(crew), None] {
            let body = json!({ "user": ben.id(), "kind": "mute", "note": "calm down", "chat": chat });
            let sanction = self.request("POST sanctions", Some(&body)).await?.ok()?;
            // What is on its way when a gateway reads of it is stored.
            until(&mut muted, crew, "on its way", Some(ErrorCode::PermissionDenied)).await?;
            for _ in 0..5 {
                let refusal = attempt(&mut muted, crew, "muted").await?;
                ensure!(refusal == Some(ErrorCode::PermissionDenied), "{refusal:?}");
            }
            ensure!(attempt(&mut other, crew, "others write on").await?.is_none(), "another member writes");
            let id = sanction["id"].as_str().context("a sanction has an id")?;
            let body = json!({ "note": "it was a joke" });
            self.request(&format!("POST sanctions/{id}/lift"), Some(&body)).await?.ok()?;
            until(&mut muted, crew, "after", None).await?;
        }
        let history = ann.history(crew).await?;
        ensure!(history.iter().all(|message| message.body != "muted"), "{history:?}");
        Ok(())
    }

    /// A user is banned: connections are closed, and neither a token nor a password opens another one. Other users do not notice, and the user comes
    /// back when the ban is lifted. Returns how long it took until the user was out.
    pub async fn ban(&self) -> anyhow::Result<Duration> {
        let messenger = &self.messenger;
        let (ann, ben, chat) = TestUser::two(messenger).await?;
        let desk = ben.on_another_device().await?;
        let (access, refresh) = (ben.token().await?, ben.identity.refresh_token().await);
        let mut sockets = vec![connect(&ben).await?, connect(&desk).await?];
        let mut other = connect(&ann).await?;

        let began = Instant::now();
        let body = json!({ "user": ben.id(), "kind": "ban", "note": "spam" });
        let sanction = self.request("POST sanctions", Some(&body)).await?.ok()?;
        all_closed(&mut sockets).await?;
        eventually("no token and no password is good", MOMENT, || async {
            refused(messenger.refresh(&refresh).await, ErrorCode::Unauthenticated)?;
            refused(
                messenger.sign_in(ben.identity.username(), &ben.password).await,
                ErrorCode::Unauthenticated,
            )
        })
        .await?;
        let took = began.elapsed();
        let connect = Connect { token: access, device: DeviceId::generate() };
        let frame = ClientFrame { id: Some(1.into()), command: Command::Connect(connect) };
        closes(messenger.upgrade().await?, text(&frame), CloseCode::SessionEnded).await?;
        let key = MessageKey::generate();
        other.send(text(&send(2, chat, key, "are you there?"))).await?;
        pushed(&mut other, |frame| frame.stored.filter(|stored| stored.key == key)).await?;

        let id = sanction["id"].as_str().context("a sanction has an id")?;
        let body = json!({ "note": "it was a joke" });
        self.request(&format!("POST sanctions/{id}/lift"), Some(&body)).await?.ok()?;
        let back = eventually("the user is back", MOMENT, || ben.on_another_device()).await?;
        ensure!(
            back.history(chat).await?.iter().any(|entry| entry.body == "are you there?"),
            "nothing is read"
        );
        Ok(took)
    }
}

/// Users write, some of it against rules that are in force: all of that is hidden, and nothing else. The last message of every chat is against them, so
/// that what is before it is judged when this returns.
pub async fn judged(pairs: &mut [Pair], load: Load) -> anyhow::Result<Judged> {
    let each = load.messages.div_ceil(pairs.len());
    let pace = Duration::from_secs_f64(pairs.len() as f64 / load.per_second as f64);
    let banned = (0..each - 1).filter(|number| message(*number).1).count() + 1;
    let began = Instant::now();
    let talks = pairs.iter_mut().map(async |Pair { chat, sender, events, .. }| {
        let writes = async {
            let mut sent = write(sender, *chat, each - 1, pace).await?;
            let at = Instant::now();
            let seq = sender.send(*chat, "the last scam").await?;
            sent.push(Sent { seq, at, is_hidden: true });
            anyhow::Ok(sent)
        };
        tokio::try_join!(writes, hidden(events, banned))
    });
    let outcomes = try_join_all(talks).await?;
    let took = began.elapsed();

    let mut hidden_after_ms = Vec::with_capacity(banned * pairs.len());
    for (Pair { chat, user, .. }, (sent, hidden)) in pairs.iter().zip(outcomes) {
        let history = user.history(*chat).await?;
        for Sent { seq, at, is_hidden } in &sent {
            let when = hidden.get(seq);
            ensure!(when.is_some() == *is_hidden, "entry {seq} of chat {chat} is hidden: {}", when.is_some());
            hidden_after_ms.extend(when.map(|when| (*when - *at).as_secs_f64() * 1_000.0));
            let stored = history.iter().find(|entry| entry.seq == *seq).context("a message is lost")?;
            let is_gone = stored.changes.deleted_seq.is_some() && stored.body.is_empty();
            ensure!(is_gone == *is_hidden, "{stored:?}");
        }
    }
    hidden_after_ms.sort_by(f64::total_cmp);
    let messages = each * pairs.len();
    Ok(Judged {
        messages,
        offered_per_second: load.per_second,
        per_second: messages as f64 / took.as_secs_f64(),
        hidden_after_ms,
    })
}

/// Waits until a message that breaks the rules is hidden from a user.
pub async fn is_hidden(user: &TestUser, chat: ChatId, seq: i64, within: Duration) -> anyhow::Result<()> {
    eventually(&format!("message {seq} is hidden"), within, || async {
        let stored = user.history(chat).await?.into_iter().find(|entry| entry.seq == seq);
        let stored = stored.context("the message is lost")?;
        ensure!(stored.changes.deleted_seq.is_some() && stored.body.is_empty(), "{stored:?}");
        Ok(())
    })
    .await
}

/// Sends a text with a key of its own. Returns why it is refused.
async fn attempt(socket: &mut Socket, chat: ChatId, body: &str) -> anyhow::Result<Option<ErrorCode>> {
    let key = MessageKey::generate();
    // Behind the id of the connect; answers come one by one.
    let id = u32::from(key.0.as_bytes()[15]) + 2;
    let reply = answer(socket, &send(id, chat, key, body)).await?;
    Ok(reply.error.map(|error| error.code))
}

/// Sends texts until one is refused so, or none is.
async fn until(
    socket: &mut Socket,
    chat: ChatId,
    body: &str,
    expected: Option<ErrorCode>,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut clock = interval(PACE);
    loop {
        // Less than a user may send.
        clock.tick().await;
        let refusal = attempt(socket, chat, body).await?;
        if refusal == expected {
            return Ok(());
        }
        ensure!(began.elapsed() < MOMENT, "{refusal:?} after {:?}", began.elapsed());
    }
}

/// Writes so many messages of one user at a pace, some of them still under way when the next one is written.
async fn write(sender: &Online, chat: ChatId, number: usize, pace: Duration) -> anyhow::Result<Vec<Sent>> {
    let mut clock = interval(pace);
    // The rate stays what it was after a pause, rather than making up for it.
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut under_way, mut written, mut sent) = (FuturesUnordered::new(), 0, Vec::with_capacity(number + 1));
    while written < number || !under_way.is_empty() {
        tokio::select! {
            _ = clock.tick(), if written < number && under_way.len() < WINDOW => {
                let (body, is_hidden) = message(written);
                written += 1;
                let at = Instant::now();
                let outcome = sender.session.send(chat, Post::text(body));
                under_way.push(async move { (at, is_hidden, outcome.await) });
            }
            Some((at, is_hidden, outcome)) = under_way.next() => {
                let receipt = outcome.map_err(|failure| anyhow::anyhow!("a message is not stored: {failure}"))?;
                sent.push(Sent { seq: receipt.seq, at, is_hidden });
            }
        }
    }
    Ok(sent)
}

/// Waits until a user saw of so many messages that they are hidden; returns when, by their seq.
async fn hidden(events: &mut mpsc::Receiver<Event>, number: usize) -> anyhow::Result<HashMap<i64, Instant>> {
    let mut hidden = HashMap::new();
    while hidden.len() < number {
        let waited = timeout(SILENCE, events.recv()).await;
        let event = waited.with_context(|| format!("{} of {number} messages are hidden", hidden.len()))?;
        match event.context("the session is closed")? {
            Event::Entry { message, .. } if message.kind == EntryKind::Delete => {
                let target = message.target_seq.context("a deletion names its message")?;
                ensure!(hidden.insert(target, Instant::now()).is_none(), "entry {target} was hidden twice");
            }
            Event::Ended { why } => bail!("the session ended: {why}"),
            _ => {}
        }
    }
    Ok(hidden)
}
