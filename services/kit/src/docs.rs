//! What the OpenAPI descriptions of all services share: `docs::router()`, and on an
//! endpoint `security(("access_token" = [])), responses((status = OK, body = Chat), CallerProblems, FaultProblems)`.

use std::collections::BTreeMap;

use contracts::{ErrorCode, api::Problem};
use utoipa::{
    IntoResponses, PartialSchema, ToSchema,
    openapi::{
        ComponentsBuilder, ContentBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response, ResponseBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
pub use utoipa_axum::{router::OpenApiRouter, routes};

/// Returns an empty API whose description has what [`openapi`] has.
pub fn router<S: Clone + Send + Sync + 'static>() -> OpenApiRouter<S> {
    OpenApiRouter::with_openapi(openapi())
}

/// Returns a description with the problem body and the `access_token` that endpoints refer to.
pub fn openapi() -> OpenApi {
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme("access_token", SecurityScheme::Http(token))
        .build();
    OpenApiBuilder::new().components(Some(components)).build()
}

/// Of every endpoint that needs an access token.
pub struct CallerProblems;

/// Of every endpoint that takes a body.
pub struct BodyProblems;

/// Of every endpoint with parameters in its path or query.
pub struct ParameterProblems;

/// Of every endpoint that depends on a store or another service.
pub struct FaultProblems;

impl IntoResponses for CallerProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[ErrorCode::Unauthenticated, ErrorCode::TokenExpired])
    }
}

impl IntoResponses for BodyProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[
            ErrorCode::Malformed,
            ErrorCode::InvalidArgument,
            ErrorCode::TooLarge,
            ErrorCode::UnsupportedMediaType,
        ])
    }
}

impl IntoResponses for ParameterProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[ErrorCode::InvalidArgument])
    }
}

impl IntoResponses for FaultProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[ErrorCode::Internal, ErrorCode::Unavailable])
    }
}

/// Returns one response for each status; its description lists the codes that come with it.
pub fn problems(codes: &[ErrorCode]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.http_status().to_string()).or_default().push(code.as_str());
    }
    let response = |codes: Vec<&str>| {
        let schema = Ref::from_schema_name(Problem::name());
        ResponseBuilder::new()
            .description(codes.join(", "))
            .content("application/problem+json", ContentBuilder::new().schema(Some(schema)).build())
            .build()
    };
    by_status.into_iter().map(|(status, codes)| (status, RefOr::T(response(codes)))).collect()
}
