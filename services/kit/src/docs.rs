//! What the OpenAPI descriptions of all services share: `docs::router()`, and on an
//! endpoint `security(("access_token" = [])), responses((status = OK, body = Chat), CallerProblems, FaultProblems)`.

use std::collections::BTreeMap;

use contracts::{ErrorCode, api::Problem};
use utoipa::{
    IntoResponses, PartialSchema, ToSchema,
    openapi::{
        ComponentsBuilder, ContentBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response, ResponseBuilder,
        ServerBuilder,
        header::HeaderBuilder,
        path::{Operation, PathItem},
        schema::{AdditionalProperties, ObjectBuilder, Schema, Type},
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

/// Of every operation: what the layers around it answer.
const EVERYWHERE: [ErrorCode; 7] = [
    ErrorCode::Malformed,
    ErrorCode::InvalidArgument,
    ErrorCode::NotFound,
    ErrorCode::MethodNotAllowed,
    ErrorCode::RateLimited,
    ErrorCode::Internal,
    ErrorCode::Unavailable,
];

/// The headers that come with the responses of a status.
const HEADERS: [(&str, &str, &str); 7] = [
    ("401", "www-authenticate", "`Bearer`"),
    ("405", "allow", "The methods of this path"),
    ("426", "sec-websocket-version", "The version that is spoken here"),
    ("426", "upgrade", "`websocket`"),
    ("429", "retry-after", RETRY_AFTER),
    ("500", "retry-after", RETRY_AFTER),
    ("503", "retry-after", RETRY_AFTER),
];
const RETRY_AFTER: &str = "Seconds to wait before the request is repeated";

/// Completes the description of an API with what holds for all operations: where they are, the problems that any request
/// may meet, and the headers that come with a status.
pub(crate) fn complete(openapi: &mut OpenApi) {
    let server = ServerBuilder::new().url("/").description(Some("The tenant's own address")).build();
    openapi.servers = Some(vec![server]);
    close_variants(openapi);
    let everywhere = problems(&EVERYWHERE);
    for operation in openapi.paths.paths.values_mut().flat_map(operations) {
        let responses = &mut operation.responses.responses;
        for (status, problem) in &everywhere {
            responses.entry(status.clone()).or_insert_with(|| problem.clone());
        }
        for (status, name, description) in HEADERS {
            if let Some(RefOr::T(response)) = responses.get_mut(status) {
                let text = ObjectBuilder::new().schema_type(Type::String);
                let header = HeaderBuilder::new().schema(Some(text)).description(Some(description)).build();
                response.headers.insert(name.to_owned(), header.into());
            }
        }
    }
}

/// An enum is an object with the key of its variant. serde refuses a second key, and the derived description does not say so.
fn close_variants(openapi: &mut OpenApi) {
    let schemas = openapi.components.iter_mut().flat_map(|components| components.schemas.values_mut());
    for schema in schemas {
        let RefOr::T(Schema::OneOf(variants)) = schema else { continue };
        for variant in &mut variants.items {
            if let RefOr::T(Schema::Object(variant)) = variant
                && variant.properties.len() == 1
                && variant.required.len() == 1
            {
                let closed = AdditionalProperties::FreeForm(false);
                variant.additional_properties.get_or_insert_with(|| Box::new(closed));
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
    [get, put, post, delete, options, head, patch, trace].into_iter().flatten()
}

/// Of every endpoint that needs an access token.
pub struct CallerProblems;

/// Of every endpoint that takes a body.
pub struct BodyProblems;

/// Of every endpoint with parameters in its path or query.
pub struct ParameterProblems;

/// Of every endpoint that depends on a store or another service.
pub struct FaultProblems;

/// Of every endpoint that needs an access token and a store, and takes no body.
pub struct QueryProblems;

/// Of every endpoint that needs an access token and a store, and takes a body.
pub struct RequestProblems;

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

impl IntoResponses for QueryProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        [ParameterProblems::responses(), CallerProblems::responses(), FaultProblems::responses()]
            .into_iter()
            .flatten()
            .collect()
    }
}

impl IntoResponses for RequestProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        [BodyProblems::responses(), CallerProblems::responses(), FaultProblems::responses()]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Returns one response for each status; its description lists the codes that come with it.
pub fn problems(codes: &[ErrorCode]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.http_status().to_string()).or_default().push(code.as_str());
    }
    by_status.into_iter().map(|(status, codes)| (status, problem(&codes.join(", ")))).collect()
}

/// Returns a response that is a problem; the description lists its codes.
pub fn problem(description: &str) -> RefOr<Response> {
    let schema = Ref::from_schema_name(Problem::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response =
        ResponseBuilder::new().description(description).content("application/problem+json", content);
    RefOr::T(response.build())
}
