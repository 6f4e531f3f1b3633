//! A span of time as manifests write it: `300s`, `15m`, `168h`.

use std::{fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A whole number of seconds, minutes or hours: `300s`, `15m`, `168h`. The server checks the form, so that CEL's
/// `duration()` can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(Duration);

/// Why a text is no period.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no period: write a number and one of s, m, h, like 15m")]
pub struct PeriodError(String);

impl Period {
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub const fn hours(hours: u64) -> Self {
        Self::seconds(hours * 3600)
    }

    pub const fn as_secs(self) -> u64 {
        self.0.as_secs()
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || PeriodError(text.to_owned());
        let unit = text.chars().last().ok_or_else(error)?;
        let seconds_per_unit = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(error()),
        };
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || digits.len() > 7 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let count: u64 = digits.parse().map_err(|_| error())?;
        Ok(Self::seconds(count * seconds_per_unit))
    }
}

impl TryFrom<String> for Period {
    type Error = PeriodError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

impl fmt::Display for Period {
    /// Writes the largest unit that stays whole, so that `168h` reads back as `168h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_secs() {
            seconds if seconds % 3600 == 0 => write!(f, "{}h", seconds / 3600),
            seconds if seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

impl JsonSchema for Period {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]{1,7}[smh]$", "maxLength": 8 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_read_and_print_in_their_largest_whole_unit() {
        for (text, seconds, printed) in
            [("300s", 300, "5m"), ("90s", 90, "90s"), ("15m", 900, "15m"), ("168h", 604_800, "168h")]
        {
            let period: Period = text.parse().expect("a period");
            assert_eq!((period.as_secs(), period.to_string().as_str()), (seconds, printed));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "h", "5", "5d", "-5m", "1.5h", "12345678s", "5 m"] {
            assert!(text.parse::<Period>().is_err(), "{text} was taken");
        }
    }
}
