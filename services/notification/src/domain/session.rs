//! Sessions, to which browsers and apps are bound.

use chrono::TimeDelta;
use contracts::{SessionId, SubscriptionId, UserId};
use kit::catalog::{MAX_ACCESS_TOKEN_SECONDS, SESSION_EVENTS_SECONDS};

/// It is asked again after so long whether the session of a device goes on. The log says of no session that it ran out, and of one that an administrator
/// ended in the realm neither. A realm lets a session rest for 14 days.
pub const SEEN_FOR: TimeDelta = TimeDelta::hours(24);
/// A device that a release without this knowledge subscribed is forgotten when no page has bound it for so long.
pub const BOUND_WITHIN: TimeDelta = TimeDelta::days(30);
/// Access tokens of a session that has ended are good for so long at most, whatever the differences of clocks: what they subscribe is refused.
pub const ENDS_COUNT_FOR: TimeDelta = TimeDelta::seconds(MAX_ACCESS_TOKEN_SECONDS.cast_signed() + 60);
/// `session.events` has what ended in this time. Who has not read it for longer may have missed some.
pub const ENDS_ARE_KEPT_FOR: TimeDelta = TimeDelta::seconds(SESSION_EVENTS_SECONDS.cast_signed() - 600);

/// A device whose session was not seen for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    pub id: SubscriptionId,
    pub user_id: UserId,
    /// `None` for a device that a release without this knowledge subscribed.
    pub session: Option<SessionId>,
}
