//! Messages that are sent later.

use contracts::{MessageKey, api::ScheduleRequest};

use super::{Room, now_ms};
use crate::{failure::Failure, output};

impl Room {
    pub(super) async fn later(&mut self, minutes: u32, body: String) -> Result<(), Failure> {
        let chat = self.opened()?;
        let send_at_ms = now_ms() + i64::from(minutes) * 60_000;
        let request = ScheduleRequest::text(MessageKey::generate(), body, send_at_ms);
        self.messenger().schedule(&self.identity.token().await?, chat, &request).await?;
        self.note(&format!("it is sent in {minutes} minutes; /scheduled lists what waits"));
        Ok(())
    }

    pub(super) async fn list_scheduled(&mut self) -> Result<(), Failure> {
        let chat = self.opened()?;
        let scheduled = self.messenger().scheduled(&self.identity.token().await?, chat).await?;
        if scheduled.is_empty() {
            self.note("nothing is scheduled here");
        }
        for (number, of) in (1..).zip(&scheduled) {
            let when = match of.refused {
                Some(code) => format!("refused ({code})"),
                None => {
                    let at_ms = of.put_off_until_ms.unwrap_or(of.send_at_ms);
                    format!("in {} minutes", (at_ms - now_ms()).max(0) / 60_000)
                }
            };
            self.note(&format!("{number:>5}  {when}: {}", output::quoted(&of.body)));
        }
        Ok(())
    }

    /// Sends a scheduled message at once, or cancels it. It is named by its place in the list.
    pub(super) async fn unschedule(&mut self, number: usize, is_sent: bool) -> Result<(), Failure> {
        let chat = self.opened()?;
        let token = self.identity.token().await?;
        let scheduled = self.messenger().scheduled(&token, chat).await?;
        let Some(of) = number.checked_sub(1).and_then(|place| scheduled.get(place)) else {
            self.note(&format!("there is no scheduled message {number}; /scheduled lists them"));
            return Ok(());
        };
        if is_sent {
            self.messenger().send_scheduled(&token, chat, of.key).await?;
        } else {
            self.messenger().unschedule(&token, chat, of.key).await?;
            self.note("it is cancelled");
        }
        Ok(())
    }
}
