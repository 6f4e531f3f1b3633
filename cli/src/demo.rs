//! `posthouse demo`: two users register and exchange messages in a chat, and every message is verified.

use std::time::Instant;

use contracts::{
    ChatId,
    event::EntryKind,
    wire::{MAX_HISTORY_LIMIT, Message},
};
use serde::Serialize;
use tokio::time::timeout;
use url::Url;

use posthouse_client::{Identity, Messenger};

use crate::{
    args::DemoArgs,
    failure::{Exit, Failure},
    output::{self, Output},
    sides::{self, PATIENCE, Side},
    tenants::{self, Scope},
};

const LINES: [&str; 12] = [
    "Hello! Is this thing on?",
    "Loud and clear. Where are you writing from?",
    "From a pod, by the look of it. You?",
    "The next desk. Our own log, our own store, I am told.",
    "And no one from the tenant next door reads along?",
    "They have their own realm, their own topics, their own keyspace.",
    "Every message has a number, did you notice?",
    "One, two, three, gapless. Even when a horse falls.",
    "Then the courier just changes horses.",
    "That is what a posthouse is for.",
    "See you on the road.",
    "Safe travels.",
];

/// The result of the demo in one tenant.
#[derive(Debug, Serialize)]
struct Report {
    url: Url,
    users: [String; 2],
    chat: ChatId,
    transcript: Vec<Exchanged>,
    /// Every problem found; empty when there is none.
    faults: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Exchanged {
    seq: i64,
    sender: String,
    body: String,
    /// From the sender's call until the recipient has the message.
    delivered_ms: f64,
}

pub(crate) async fn run(args: DemoArgs, output: Output) -> Result<(), Failure> {
    let urls = if args.urls.is_empty() { addresses().await? } else { args.urls };
    let mut reports = Vec::new();
    for url in urls {
        reports.push(conversation(&url, args.messages, output).await?);
    }
    if output == Output::Json {
        output::document(&reports);
    }
    let faulty: Vec<&Report> = reports.iter().filter(|report| !report.faults.is_empty()).collect();
    if faulty.is_empty() {
        return Ok(());
    }
    let what: Vec<String> = faulty
        .iter()
        .flat_map(|report| report.faults.iter().map(|fault| format!("{}: {fault}", report.url)))
        .collect();
    let next = "see `kubectl logs` of the tenant's gateway and message pods";
    Err(Failure::new(Exit::Fault, what.join("\n       "), next))
}

async fn addresses() -> Result<Vec<Url>, Failure> {
    let tenants = tenants::list(Scope::Everywhere).await?;
    let ready: Vec<Url> =
        tenants.iter().filter(|tenant| tenant.is_ready()).filter_map(tenants::Tenant::address).collect();
    if ready.is_empty() {
        let what = format!("none of the {} tenants of the cluster is ready", tenants.len());
        return Err(Failure::new(Exit::Fault, what, "`posthouse status -A` shows what they wait for"));
    }
    Ok(ready)
}

async fn conversation(url: &Url, messages: u32, output: Output) -> Result<Report, Failure> {
    let messenger = Messenger::new(url)?;
    let ([first, second], chat) = sides::two_users(&messenger).await?;
    let print = |text: String| {
        if output == Output::Text {
            output::line(text);
        }
    };
    print(format!("{url}\n{} and {} registered and opened chat {chat}", first.username(), second.username()));

    let mut sides = [Side::open(&first, chat, 0).await?, Side::open(&second, chat, 0).await?];
    let mut report = Report {
        url: url.clone(),
        users: [first.username().to_owned(), second.username().to_owned()],
        chat,
        transcript: Vec::new(),
        faults: Vec::new(),
    };
    print(format!("  {:>4}  {:<14} {:<66} {:>10}", "SEQ", "SENDER", "MESSAGE", "DELIVERED"));
    for (turn, body) in LINES.iter().cycle().take(messages as usize).enumerate() {
        let sending = turn % 2;
        match exchange(&mut sides, sending, chat, body).await {
            Ok(exchanged) => {
                print(format!(
                    "  {:>4}  {:<14} {:<66} {:>7.1} ms",
                    exchanged.seq, exchanged.sender, exchanged.body, exchanged.delivered_ms
                ));
                report.transcript.push(exchanged);
            }
            Err(fault) => {
                report.faults.push(fault);
                break;
            }
        }
    }
    let stored = history(&messenger, &first, chat).await?;
    for side in &sides {
        report.faults.extend(faults(&side.name, &report.transcript, &side.seen, &stored));
    }
    print(verdict(&report));
    Ok(report)
}

async fn exchange(
    sides: &mut [Side; 2],
    sending: usize,
    chat: ChatId,
    body: &str,
) -> Result<Exchanged, String> {
    let began = Instant::now();
    let sender = sides[sending].name.clone();
    let missing =
        |what: &str| format!("\"{body}\" by {sender} was not {what} within {} s", PATIENCE.as_secs());
    let receipt = timeout(PATIENCE, sides[sending].session.send(chat, body.to_owned()))
        .await
        .map_err(|_| missing("stored"))?
        .map_err(|failure| format!("\"{body}\" by {sender}: {failure}"))?;
    let receiving = 1 - sending;
    timeout(PATIENCE, sides[receiving].sees(receipt.seq)).await.map_err(|_| missing("delivered"))??;
    let delivered_ms = began.elapsed().as_secs_f64() * 1_000.0;
    timeout(PATIENCE, sides[sending].sees(receipt.seq))
        .await
        .map_err(|_| missing("shown to its sender"))??;
    let seen = sides[receiving].seen.last().expect("an entry was seen");
    if seen.sender != sides[sending].user || seen.body != body {
        return Err(format!("entry {} is \"{}\" instead of \"{body}\" by {sender}", receipt.seq, seen.body));
    }
    Ok(Exchanged { seq: receipt.seq, sender, body: body.to_owned(), delivered_ms })
}

async fn history(messenger: &Messenger, reader: &Identity, chat: ChatId) -> Result<Vec<Message>, Failure> {
    let mut stored: Vec<Message> = Vec::new();
    loop {
        let after = stored.last().map_or(0, |message| message.seq);
        let page = messenger.history(&reader.token().await?, chat, after, MAX_HISTORY_LIMIT).await?;
        let last_page = page.messages.is_empty();
        stored.extend(page.messages);
        if last_page || stored.last().is_some_and(|message| message.seq >= page.head_seq) {
            return Ok(stored);
        }
    }
}

/// Returns the differences between what one user received, what was sent and what is stored.
fn faults(name: &str, transcript: &[Exchanged], seen: &[Message], stored: &[Message]) -> Vec<String> {
    let mut faults = Vec::new();
    for (expected, message) in (1..).zip(stored) {
        if message.seq != expected {
            faults.push(format!("the history has seq {} instead of {expected}", message.seq));
            break;
        }
    }
    let texts: Vec<(i64, &str)> = stored
        .iter()
        .filter(|message| message.kind == EntryKind::Text)
        .map(|message| (message.seq, message.body.as_str()))
        .collect();
    let expected: Vec<(i64, &str)> =
        transcript.iter().map(|exchanged| (exchanged.seq, exchanged.body.as_str())).collect();
    if texts != expected {
        faults.push(if texts.len() == expected.len() {
            format!("the history differs from the {} messages that were sent", expected.len())
        } else {
            format!("the history has {} messages, but {} were sent", texts.len(), expected.len())
        });
    }
    if seen != stored {
        faults.push(format!("{name} received {} entries, but the history has {}", seen.len(), stored.len()));
    }
    faults
}

fn verdict(report: &Report) -> String {
    if !report.faults.is_empty() {
        return report.faults.iter().map(|fault| format!("  FAILED: {fault}\n")).collect();
    }
    let mut times: Vec<f64> = report.transcript.iter().map(|exchanged| exchanged.delivered_ms).collect();
    times.sort_by(f64::total_cmp);
    format!(
        "  {} messages, each stored and delivered once and in order; end-to-end latency: median {:.1} ms, maximum {:.1} ms\n",
        times.len(),
        times[times.len() / 2],
        times[times.len() - 1],
    )
}

#[cfg(test)]
mod tests {
    use contracts::{MessageKey, UserId};
    use uuid::Uuid;

    use super::*;

    fn entry(seq: i64, kind: EntryKind, body: &str) -> Message {
        Message {
            chat: ChatId(Uuid::from_u128(1)),
            seq,
            sender: UserId(Uuid::from_u128(2)),
            key: MessageKey(Uuid::from_u128(3)),
            kind,
            body: body.into(),
            subject: None,
            target_seq: None,
            mentions: Vec::new(),
            mention_roles: Vec::new(),
            mentions_all: false,
            mentions_here: false,
            silent: false,
            attachments: Vec::new(),
            forwarded: None,
            range: None,
            changes: contracts::wire::Changes::default(),
            sent_at_ms: 0,
            expires_at_ms: None,
            expired: false,
        }
    }

    fn log() -> Vec<Message> {
        vec![
            entry(1, EntryKind::MemberAdded, ""),
            entry(2, EntryKind::Text, "a"),
            entry(3, EntryKind::Text, "b"),
        ]
    }

    fn transcript() -> Vec<Exchanged> {
        [(2, "a"), (3, "b")]
            .map(|(seq, body)| Exchanged { seq, sender: "ann".into(), body: body.into(), delivered_ms: 1.0 })
            .into()
    }

    fn check(seen: &[Message], stored: &[Message], expected: &[&str]) {
        assert_eq!(faults("ben", &transcript(), seen, stored), expected);
    }

    #[test]
    fn what_was_seen_and_stored_is_what_was_sent() {
        check(&log(), &log(), &[]);
    }

    #[test]
    fn a_missing_doubled_or_moved_message_is_a_fault() {
        check(&log()[..2], &log(), &["ben received 2 entries, but the history has 3"]);
        let mut duplicated = log();
        duplicated.push(entry(4, EntryKind::Text, "b"));
        check(&duplicated, &duplicated, &["the history has 3 messages, but 2 were sent"]);
        let mut with_gap = log();
        with_gap[2].seq = 4;
        check(
            &with_gap,
            &with_gap,
            &["the history has seq 4 instead of 3", "the history differs from the 2 messages that were sent"],
        );
    }
}
