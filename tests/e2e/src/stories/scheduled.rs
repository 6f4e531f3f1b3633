//! Messages that are sent at a time.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use contracts::{
    MessageKey,
    api::{RescheduleRequest, ScheduleRequest},
    event::EntryKind,
};
use posthouse_client::Messenger;

use super::MOMENT;
use crate::{
    eventually,
    users::{TestUser, refused},
};

#[expect(clippy::disallowed_methods, reason = "an edge: the time of the story")]
fn ahead_ms(ms: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(now).unwrap_or(i64::MAX).saturating_add(ms)
}

fn later(body: &str, ms: i64) -> ScheduleRequest {
    ScheduleRequest::text(MessageKey::generate(), body, ahead_ms(ms))
}

/// A scheduled message comes at its time to all members and to the devices of its sender; one that was cancelled never, and neither does that of
/// a member who was removed.
pub async fn scheduled(messenger: &Messenger) -> anyhow::Result<()> {
    let users = TestUser::crowd(messenger, "later", 3).await?;
    let [ann, ben, cid] = users.as_slice() else { unreachable!("three were registered") };
    let chat = ann.group("plans", &[ben.id(), cid.id()]).await?;
    let (phone, theirs) = (ann.online(&[chat]).await, ben.online(&[chat]).await);
    let (token, of_cid) = (ann.token().await?, cid.token().await?);
    let soon = later("good morning", 2_000);
    messenger.schedule(&token, chat, &soon).await?;
    messenger.schedule(&token, chat, &soon).await?;
    let cancelled = later("never mind", 3_600_000);
    messenger.schedule(&token, chat, &cancelled).await?;
    messenger.unschedule(&token, chat, cancelled.key).await?;
    let removed = later("i am gone", 2_000);
    messenger.schedule(&of_cid, chat, &removed).await?;
    messenger.remove_member(&token, chat, cid.id()).await?;
    let by_hand = later("at once", 3_600_000);
    messenger.schedule(&token, chat, &by_hand).await?;
    let changed = RescheduleRequest {
        body: "right away".to_owned(),
        reply_to: None,
        mentions: vec![ben.id()],
        mention_all: false,
        mention_roles: Vec::new(),
        mention_here: false,
        silent: false,
        send_at_ms: by_hand.send_at_ms + 1,
    };
    messenger.reschedule(&token, (chat, by_hand.key), &changed).await?;
    messenger.send_scheduled(&token, chat, by_hand.key).await?;
    for online in [&phone, &theirs] {
        eventually("both texts come", MOMENT, || async {
            let seen = online.seen();
            let texts = seen.entries.get(&chat).into_iter().flatten().filter(|of| of.sender == ann.id());
            let texts: Vec<_> = texts
                .filter(|of| of.kind == EntryKind::Text)
                .map(|of| (of.body.clone(), of.key, of.sent_at_ms))
                .collect();
            let [(first, one, _), (second, other, sent_at_ms)] = texts.as_slice() else {
                anyhow::bail!("{texts:?}")
            };
            ensure!((first.as_str(), second.as_str()) == ("right away", "good morning"), "{texts:?}");
            ensure!((*one, *other) == (by_hand.key, soon.key), "{texts:?}");
            // The clocks of one machine.
            ensure!(*sent_at_ms >= soon.send_at_ms, "it came {} ms early", soon.send_at_ms - sent_at_ms);
            Ok(())
        })
        .await?;
    }
    eventually("the devices know that nothing waits", MOMENT, || async {
        let seen = phone.seen();
        ensure!(seen.own_states.iter().any(|of| of.own.scheduled == 1), "what waits was not counted");
        ensure!(seen.own_states.last().is_some_and(|of| of.own.scheduled == 0), "{:?}", seen.own_states);
        Ok(())
    })
    .await?;
    let history = ann.history(chat).await?;
    ensure!(history.iter().all(|of| of.sender != cid.id() && of.body != "never mind"), "{history:?}");
    ensure!(messenger.scheduled(&token, chat).await?.is_empty(), "something is left");
    refused(messenger.schedule(&of_cid, chat, &removed).await, contracts::ErrorCode::NotAMember)?;
    Ok(())
}
