//! Problems that several endpoints of this service have, each described once.

use std::collections::BTreeMap;

use kit::docs::problem;
pub(super) use kit::docs::{QueryProblems, RequestProblems};
use utoipa::{
    IntoResponses,
    openapi::{RefOr, Response},
};

/// Defines what describes one problem, with its status.
macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident($status:literal, $description:literal);)+) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                BTreeMap::from([($status.to_owned(), problem($description))])
            }
        }
    )+};
}

problems! {
    /// Of what every member may.
    NotAMember("403", "not_a_member");
    /// Of what owners and admins of a group may.
    NotAManager("403", "not_a_member, permission_denied (role too low, or a direct chat)");
    /// Of one scheduled message.
    NotScheduled("404", "not_found (it was sent or cancelled, or never was)");
    /// Of what an invite link leads to.
    NoSuchInvite("404", "not_found (there is no such link for the caller: it never was, is expired, used up or revoked, or is by a user \
        with whom the caller has a block)");
}
