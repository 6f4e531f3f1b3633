//! Problems that several endpoints of this service have, each described once.

use std::collections::BTreeMap;

use kit::docs::problem;
pub(super) use kit::docs::{QueryProblems, RequestProblems};
use utoipa::{
    IntoResponses,
    openapi::{RefOr, Response},
};

type Responses = BTreeMap<String, RefOr<Response>>;

/// Of what moderators do.
pub(super) struct NotAModerator;

impl IntoResponses for NotAModerator {
    fn responses() -> Responses {
        BTreeMap::from([("403".to_owned(), problem("permission_denied (the caller is no moderator)"))])
    }
}

/// Of one thing that may not be there.
pub(super) struct NotThere;

impl IntoResponses for NotThere {
    fn responses() -> Responses {
        BTreeMap::from([("404".to_owned(), problem("not_found"))])
    }
}

/// Of what is done once.
pub(super) struct DoneBefore;

impl IntoResponses for DoneBefore {
    fn responses() -> Responses {
        let text = "conflict (it is not as it would have to be; `detail` says what it is), limit_reached";
        BTreeMap::from([("409".to_owned(), problem(text))])
    }
}
