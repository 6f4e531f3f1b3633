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

/// Of every endpoint with the token of a mail, which needs no other.
pub(super) struct NoLinkProblems;

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

impl IntoResponses for NoLinkProblems {
    fn responses() -> Responses {
        BTreeMap::from([("404".to_owned(), problem("not_found (the link is not good, or not any more)"))])
    }
}
