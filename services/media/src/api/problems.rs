//! Problems that several endpoints of this service have, each described once.

use std::collections::BTreeMap;

use kit::docs::problem;
pub(super) use kit::docs::{QueryProblems, RequestProblems};
use utoipa::{
    IntoResponses,
    openapi::{RefOr, Response},
};

/// Of one file.
pub(super) struct NoSuchFile;

impl IntoResponses for NoSuchFile {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let text = "not_found (it never was or is removed, or the caller may not read it)";
        BTreeMap::from([("404".to_owned(), problem(text))])
    }
}
