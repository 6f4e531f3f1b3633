//! Problems that several endpoints of this service have, each described once.

use std::collections::BTreeMap;

use kit::docs::problem;
pub(super) use kit::docs::{QueryProblems, RequestProblems};
use utoipa::{
    IntoResponses,
    openapi::{RefOr, Response},
};

/// Of every endpoint with the token of a mail, which needs no other.
pub(super) struct NoLinkProblems;

impl IntoResponses for NoLinkProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        BTreeMap::from([("404".to_owned(), problem("not_found (the link is not good, or not any more)"))])
    }
}
