//! Phone numbers, and the codes by which their users confirm them.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{SubscriptionId, UserId};
use kit::error::InvalidField;

/// Digits of a code.
pub const CODE_DIGITS: usize = 6;
/// A code is good for so long.
pub const CODE_FOR: TimeDelta = TimeDelta::minutes(10);
/// A code ends after so many attempts at it. With [`MAX_CODES`] that is 25 guesses a day, of a million codes.
pub const MAX_TRIES: i32 = 5;
/// Codes that are sent to one number, and for one user, in [`CODES_COUNT_FOR`]. Each of them costs the tenant a text message.
pub const MAX_CODES: i64 = 5;
/// A code counts for so long, whatever becomes of its subscription.
pub const CODES_COUNT_FOR: TimeDelta = TimeDelta::hours(24);

/// Digits of a number in E.164, of which the first is not 0. The shortest ones are those of small countries.
const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// A phone number in E.164. It is personal, so it shows itself nowhere.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PhoneNumber(String);

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhoneNumber(hidden)")
    }
}

impl PhoneNumber {
    /// Reads a number: `+`, the code of a country, and the rest, without blanks.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, InvalidField> {
        let is_one = text.strip_prefix('+').is_some_and(|digits| {
            DIGITS.contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && !digits.starts_with('0')
        });
        if is_one {
            return Ok(Self(text.to_owned()));
        }
        let problem = "must be a number in E.164 such as +4915112345678".to_owned();
        Err(InvalidField { field, problem })
    }

    /// Returns the text, for the store and for the tenant's hook.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// A code that is about to be sent. The store has no number and no code, but what both are compared by.
#[derive(Clone, Debug)]
pub struct NewCode {
    pub subscription: SubscriptionId,
    pub user_id: UserId,
    /// A digest of the number.
    pub number: Vec<u8>,
    /// A digest of the code.
    pub code: Vec<u8>,
    pub sent_at: DateTime<Utc>,
}

/// What became of an attempt to confirm a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeOutcome {
    /// The number is confirmed, by this code or before.
    Confirmed,
    /// It is another code. So many attempts are left.
    Wrong { left: i32 },
    /// There is no code that is good: it has ended, or was tried too often.
    NoCode,
    /// The user has no such subscription.
    NoSubscription,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_of_e_164_and_shows_itself_nowhere() {
        let parse = |text: &str| PhoneNumber::parse("sms.number", text);
        for good in ["+4915112345678", "+2904123", "+123456789012345"] {
            assert_eq!(parse(good).unwrap().expose(), good);
        }
        let (short, long) = ("+123456", "+1234567890123456");
        for bad in ["", "+", "4915112345678", "004915112345678", "+0123456789", "+49 151 1234", short, long] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for bad in ["+4915112345678\n", "+49151123٤5678", "+49(151)12345", "tel:+4915112345678"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(!format!("{:?}", parse("+4915112345678")).contains("151"));
    }
}
