//! Hours of the day in which a user is not notified.

use chrono::TimeDelta;
use contracts::api::QuietHours;
use kit::error::InvalidField;

const DAY_MINUTES: u16 = 24 * 60;
/// The longest name of the IANA database has 32 characters.
const MAX_ZONE_CHARS: usize = 64;

/// Hours of every day, in minutes of the day, by the clocks of a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiet {
    pub from: u16,
    pub to: u16,
    /// A name that the store knows.
    pub time_zone: String,
}

impl Quiet {
    /// Reads quiet hours. Whether there is such a time zone, the store knows.
    pub fn parse(hours: &QuietHours) -> Result<Self, InvalidField> {
        let (from, to) = (minute("quiet.from", &hours.from)?, minute("quiet.to", &hours.to)?);
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-/".contains(&byte);
        let zone = &hours.time_zone;
        if !(1..=MAX_ZONE_CHARS).contains(&zone.len()) || !zone.bytes().all(is_of_name) {
            return Err(Self::no_such_zone());
        }
        Ok(Self { from, to, time_zone: zone.clone() })
    }

    /// Returns the refusal of a time zone that there is not.
    pub fn no_such_zone() -> InvalidField {
        let problem = "must be a time zone such as Europe/Moscow".to_owned();
        InvalidField { field: "quiet.time_zone", problem }
    }

    /// Returns how long it is quiet from this minute of the day on; `None` when it is not quiet then. On the days on which clocks are put
    /// forward or back it may be an hour more or less: who waits looks again.
    pub fn left(&self, minute: u16) -> Option<TimeDelta> {
        let since = |from: u16, to: u16| (to + DAY_MINUTES - from) % DAY_MINUTES;
        let is_quiet = since(self.from, minute) < since(self.from, self.to);
        is_quiet.then(|| TimeDelta::minutes(since(minute, self.to).into()))
    }

    /// Returns them as they are shown.
    pub fn shown(&self) -> QuietHours {
        QuietHours {
            from: time_of_day(self.from),
            to: time_of_day(self.to),
            time_zone: self.time_zone.clone(),
        }
    }
}

/// Returns a minute of the day as `22:00`.
pub fn time_of_day(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

fn minute(field: &'static str, text: &str) -> Result<u16, InvalidField> {
    let number = |text: &str, below: u16| {
        let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|number| is_plain && *number < below)
    };
    let read =
        text.split_once(':').and_then(|(hour, minute)| Some(number(hour, 24)? * 60 + number(minute, 60)?));
    read.ok_or_else(|| InvalidField { field, problem: "must be a time of the day such as 22:00".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(from: &str, to: &str) -> Result<Quiet, InvalidField> {
        let hours =
            QuietHours { from: from.to_owned(), to: to.to_owned(), time_zone: "Europe/Moscow".to_owned() };
        Quiet::parse(&hours)
    }

    #[test]
    fn quiet_hours_may_last_over_midnight() {
        let left = |quiet: &Quiet, hour: u16, minute: u16| {
            quiet.left(hour * 60 + minute).map(|left| left.num_minutes())
        };
        let night = quiet("22:00", "07:30").unwrap();
        assert_eq!(left(&night, 21, 59), None);
        assert_eq!(left(&night, 22, 0), Some(570));
        assert_eq!(left(&night, 0, 0), Some(450));
        assert_eq!(left(&night, 7, 29), Some(1));
        assert_eq!(left(&night, 7, 30), None);
        let noon = quiet("12:00", "13:00").unwrap();
        assert_eq!((left(&noon, 11, 59), left(&noon, 12, 1), left(&noon, 13, 0)), (None, Some(59), None));
        assert_eq!(night.shown().to, "07:30");
    }

    #[test]
    fn a_time_of_the_day_is_written_in_one_way() {
        for bad in ["", "7:00", "24:00", "07:60", "07:0", "+7:00", "07-00", "07:00:00", "٠٧:٠٠"] {
            assert!(quiet(bad, "08:00").is_err(), "{bad}");
        }
        let never = quiet("08:00", "08:00").unwrap();
        assert!((0..DAY_MINUTES).all(|minute| never.left(minute).is_none()));
    }
}
