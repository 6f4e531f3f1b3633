//! The ACLs of a tenant's user, and the one that marks its owner.

use std::{collections::BTreeSet, fmt};

use crate::backend::marker::Marker;

/// An ACL of the tenant's user, in the protocol's codes so that none is lost in translation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    pub resource_type: i8,
    pub resource: String,
    pub pattern_type: i8,
    pub operation: i8,
    pub permission: i8,
    pub host: String,
}

pub(super) const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const TRANSACTIONAL_ID: i8 = 5;
const LITERAL: i8 = 3;
pub(super) const PREFIXED: i8 = 4;
pub(super) const READ: i8 = 3;
const WRITE: i8 = 4;
const DESCRIBE: i8 = 8;
const ALLOW: i8 = 3;
const MARKER: &str = "posthouse-owner:";

impl Acl {
    pub(super) fn allow(resource_type: i8, resource: String, pattern_type: i8, operation: i8) -> Self {
        Self { resource_type, resource, pattern_type, operation, permission: ALLOW, host: "*".into() }
    }

    /// Returns the ACL that stands for an owner and grants nothing of use.
    pub fn marker(marker: &Marker) -> Self {
        Self::allow(TRANSACTIONAL_ID, format!("{MARKER}{marker}"), LITERAL, DESCRIBE)
    }

    /// Returns the text of the marker when this ACL is one.
    pub(super) fn owner(&self) -> Option<&str> {
        if self.resource_type == TRANSACTIONAL_ID { self.resource.strip_prefix(MARKER) } else { None }
    }
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let permission = if self.permission == ALLOW { "allow" } else { "deny" };
        let star = if self.pattern_type == PREFIXED { "*" } else { "" };
        write!(f, "{permission} {} on ", operation_name(self.operation))?;
        write!(f, "{} {}{star}", resource_name(self.resource_type), self.resource)?;
        if self.host == "*" { Ok(()) } else { write!(f, " from {}", self.host) }
    }
}

fn operation_name(code: i8) -> String {
    let name = match code {
        2 => "All",
        READ => "Read",
        WRITE => "Write",
        5 => "Create",
        6 => "Delete",
        7 => "Alter",
        DESCRIBE => "Describe",
        9 => "ClusterAction",
        10 => "DescribeConfigs",
        11 => "AlterConfigs",
        12 => "IdempotentWrite",
        other => return format!("operation {other}"),
    };
    name.to_owned()
}

fn resource_name(code: i8) -> String {
    let name = match code {
        TOPIC => "topic",
        GROUP => "group",
        4 => "cluster",
        TRANSACTIONAL_ID => "transactional id",
        other => return format!("resource {other}"),
    };
    name.to_owned()
}

/// Returns the ACLs a tenant's user has: read and write on its own topics, membership in its own groups, nothing else.
/// The prefix ends with a dot, or `acme` would own the topics of `acme2`.
pub(super) fn tenant_acls(tenant: &str) -> BTreeSet<Acl> {
    let prefix = format!("{tenant}.");
    [(TOPIC, READ), (TOPIC, WRITE), (TOPIC, DESCRIBE), (GROUP, READ), (GROUP, DESCRIBE)]
        .map(|(resource_type, operation)| Acl::allow(resource_type, prefix.clone(), PREFIXED, operation))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ownership::testing::owner;

    #[test]
    fn only_a_marker_names_an_owner() {
        assert_eq!(Acl::marker(&owner().marker()).owner(), Some("uid-1:acme/acme"));
        assert_eq!(Acl::allow(TOPIC, "posthouse-owner:x".into(), LITERAL, READ).owner(), None);
    }
}
