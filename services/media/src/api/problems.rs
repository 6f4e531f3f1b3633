//! Problems that several endpoints of this service have, each described once.

use std::collections::BTreeMap;

use kit::docs::{BodyProblems, CallerProblems, FaultProblems, ParameterProblems, problem};
use utoipa::{
    IntoResponses,
    openapi::{RefOr, Response},
};

type Responses = BTreeMap<String, RefOr<Response>>;

/// Of every endpoint that takes no body.
pub(super) struct QueryProblems;

/// Of every endpoint that takes a body.
pub(super) struct RequestProblems;

impl IntoResponses for QueryProblems {
    fn responses() -> Responses {
        [ParameterProblems::responses(), CallerProblems::responses(), FaultProblems::responses()]
            .into_iter()
            .flatten()
            .collect()
    }
}

impl IntoResponses for RequestProblems {
    fn responses() -> Responses {
        [BodyProblems::responses(), CallerProblems::responses(), FaultProblems::responses()]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Of one file.
pub(super) struct NoSuchFile;

impl IntoResponses for NoSuchFile {
    fn responses() -> Responses {
        let text = "not_found (it never was or is removed, or the caller may not read it)";
        BTreeMap::from([("404".to_owned(), problem(text))])
    }
}
