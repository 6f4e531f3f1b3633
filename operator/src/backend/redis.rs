//! Redis for one tenant: an ACL user limited to the keys and channels `mt:<tenant>:*`, and to the commands that
//! its services send.
//!
//! Owner marker: an ACL user holds no free text, so the marker stands in a selector (Redis 7) that allows no command
//! on a key that is never used. User, rights and marker are set by one command, so that no half of them is ever there.
//!
//! Redis returns command rules of its own making, in words and order that differ between versions and restarts. So
//! the operator keeps one more user that has the same rules, nothing else, and cannot log in: what Redis returns about
//! it is what it should return about a tenant.

use std::collections::BTreeSet;
use std::fmt;

use secrecy::SecretString;

use super::{
    change::ChangeKind,
    ownership::{Former, Owner, Ownership},
};
use crate::tenant::Tenant;

mod admin;

pub use admin::RedisAdmin;

/// Returns the rules of a tenant's commands: nothing but what its services send.
fn commands() -> Vec<String> {
    let allowed = catalog::REDIS_COMMANDS.iter().map(|command| format!("+{command}"));
    ["-@all".to_owned()].into_iter().chain(allowed).collect()
}

const MARKER: &str = "~posthouse-owner:";

/// What a tenant should have in Redis.
#[derive(Clone, Debug)]
pub struct RedisDesired {
    /// ACL user; keys that start with `mt:<tenant>:` are the tenant's.
    pub tenant: String,
    pub owner: Owner,
    pub password: SecretString,
}

impl RedisDesired {
    pub(super) fn of(tenant: &Tenant, password: &SecretString) -> Self {
        Self {
            tenant: tenant.id.cache_user().to_string(),
            owner: Owner::of(tenant),
            password: password.clone(),
        }
    }

    fn keys(&self) -> BTreeSet<String> {
        BTreeSet::from([format!("~mt:{}:*", self.tenant)])
    }

    fn channels(&self) -> BTreeSet<String> {
        BTreeSet::from([format!("&mt:{}:*", self.tenant)])
    }
}

/// What a tenant has in Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisObserved {
    pub ownership: Ownership,
    pub user: Option<UserObserved>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserObserved {
    pub enabled: bool,
    /// It has the desired password and no other; compared by hash.
    pub password_matches: bool,
    /// It may run the commands of a tenant, no more and no less.
    pub commands_match: bool,
    pub keys: BTreeSet<String>,
    pub channels: BTreeSet<String>,
    /// Further sets of rights beside the owner marker; a tenant has none.
    pub selectors: usize,
}

/// One difference between what a tenant has in Redis and what it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisChange {
    CreateUser {
        user: String,
    },
    TakeOver {
        user: String,
        from: Former,
    },
    /// `what` names the parts that differ.
    RepairUser {
        user: String,
        what: Vec<&'static str>,
    },
}

impl RedisChange {
    /// Returns why this change is in the plan: what is missing is created, what differs is repaired.
    pub fn kind(&self) -> ChangeKind {
        match self {
            Self::CreateUser { .. } => ChangeKind::Create,
            Self::TakeOver { from, .. } => from.kind(),
            Self::RepairUser { .. } => ChangeKind::Repair,
        }
    }
}

impl fmt::Display for RedisChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateUser { user } => write!(f, "create user {user}"),
            Self::TakeOver { user, from } => f.write_str(&from.takeover(&format!("user {user}"))),
            Self::RepairUser { user, what } => write!(f, "set {} of user {user}", what.join(", ")),
        }
    }
}

/// Returns what leads from `observed` to `desired`: at most one change, because one command sets all. Empty means steady.
fn plan(desired: &RedisDesired, observed: &RedisObserved) -> Vec<RedisChange> {
    let user = desired.tenant.clone();
    let Some(found) = &observed.user else { return vec![RedisChange::CreateUser { user }] };
    if let Some(from) = observed.ownership.former() {
        return vec![RedisChange::TakeOver { user, from: from.clone() }];
    }
    let differences = [
        (!found.enabled, "state"),
        (!found.password_matches, "password"),
        (!found.commands_match, "commands"),
        (found.keys != desired.keys(), "keys"),
        (found.channels != desired.channels(), "channels"),
        (found.selectors > 0, "selectors"),
    ];
    let what: Vec<_> =
        differences.into_iter().filter_map(|(differs, name)| differs.then_some(name)).collect();
    if what.is_empty() { Vec::new() } else { vec![RedisChange::RepairUser { user, what }] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ownership::testing::{inherited, owner};

    fn check(edit: impl FnOnce(&mut RedisObserved), expected: &[&str]) {
        let desired = RedisDesired { tenant: "acme".into(), owner: owner(), password: "secret-word".into() };
        let user = UserObserved {
            enabled: true,
            password_matches: true,
            commands_match: true,
            keys: desired.keys(),
            channels: desired.channels(),
            selectors: 0,
        };
        let mut observed = RedisObserved { ownership: Ownership::Ours, user: Some(user) };
        edit(&mut observed);
        let changes: Vec<_> = plan(&desired, &observed).iter().map(ToString::to_string).collect();
        assert_eq!(changes, expected);
        assert!(!format!("{changes:?}{desired:?}").contains("secret-word"));
    }

    #[test]
    fn one_change_says_all_that_differs() {
        check(|_| {}, &[]);
        check(|observed| *observed = RedisObserved::default(), &["create user acme"]);
        for (ownership, line, _) in inherited("user acme") {
            check(|observed| observed.ownership = ownership, &[&line]);
        }
        check(
            |observed| {
                let user = observed.user.as_mut().unwrap();
                user.enabled = false;
                user.password_matches = false;
                user.commands_match = false;
                user.keys.insert("~*".into());
                user.channels.insert("&*".into());
                user.selectors = 1;
            },
            &["set state, password, commands, keys, channels, selectors of user acme"],
        );
    }
}
