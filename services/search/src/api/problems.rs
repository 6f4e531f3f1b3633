//! Problems that several endpoints of this service have, each described once.

use std::collections::BTreeMap;

use kit::docs::{QueryProblems, problem};
use utoipa::{
    IntoResponses,
    openapi::{RefOr, Response},
};

/// Of every search.
pub(super) struct SearchProblems;

impl IntoResponses for SearchProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut problems = QueryProblems::responses();
        let text = "rate_limited (requests of the client's address, or searches of the caller)";
        problems.insert("429".to_owned(), problem(text));
        problems
    }
}
