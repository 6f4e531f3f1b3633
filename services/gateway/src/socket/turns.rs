//! When a member of a slow chat sent last, of whom this process does not know it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::{ChatId, MessageKey, UserId, event::EntryKind, rpc};
use kit::clock::now_ms;

use crate::{error::GatewayError, state::GatewayState};

/// Entries of a page, and pages that are looked through. With more entries than that in the time of a wait, one message goes through.
const PAGE: i32 = 500;
const PAGES: usize = 4;

/// Looks up in the chat's log when a member sent last in the time of a wait, and under which key. Only what is behind the last change of slow
/// mode counts; what they sent before they left and came back does.
pub(super) async fn last_sent(
    gateway: &GatewayState,
    chat: ChatId,
    user: UserId,
    wait: Duration,
) -> Result<Option<(Instant, MessageKey)>, GatewayError> {
    let now_ms = now_ms();
    let longest_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    let mut before_seq = i64::MAX;
    for _ in 0..PAGES {
        let request = rpc::HistoryRequest {
            chat_id: chat.to_string(),
            user_id: user.to_string(),
            // No user reads it: where the history of the member begins does not matter.
            known_from_seq: Some(1),
            before_seq: Some(before_seq),
            limit: PAGE,
            ..rpc::HistoryRequest::default()
        };
        let response = gateway.history.clone().history(request).await;
        let response = response.map_err(|status| GatewayError::History { chat, source: Arc::new(status) })?;
        gateway.outages.history.worked("querying the message service");
        let rpc::HistoryResponse { messages, .. } = response.into_inner();
        for entry in messages.iter().rev() {
            let age_ms = now_ms.saturating_sub(entry.sent_at_ms).max(0);
            if age_ms >= longest_ms || entry.kind == EntryKind::SlowModeChanged.as_str() {
                return Ok(None);
            }
            if entry.kind == EntryKind::Text.as_str()
                && entry.sender_id.parse().is_ok_and(|sender: UserId| sender == user)
                && let Ok(key) = entry.key.parse::<MessageKey>()
            {
                let age = Duration::from_millis(age_ms.unsigned_abs());
                return Ok(Instant::now().checked_sub(age).map(|at| (at, key)));
            }
        }
        match messages.first() {
            Some(first) if first.seq > 1 => before_seq = first.seq,
            _ => break,
        }
    }
    Ok(None)
}
