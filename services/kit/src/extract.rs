//! axum extractors whose refusals are problem bodies.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use axum::{
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, Request,
        rejection::{BytesRejection, FailedToBufferBody, JsonRejection, PathRejection, QueryRejection},
    },
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{CONTENT_ENCODING, CONTENT_TYPE},
        request::Parts,
    },
};
use contracts::ErrorCode;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;

use crate::{error::ApiError, json::Strict};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A body that is a JSON object, none of whose texts has the character U+0000.
pub struct Json<T>(pub T);

/// A body of JSON that was not read yet. It is UTF-8, and may be anything else.
pub struct JsonText(pub String);

/// Whom to count the requests of a client by: the address that a request came from, as Traefik saw it. That is the last one of
/// `x-forwarded-for`; those before it are what the client says. Requests that did not pass Traefik have the unspecified address.
///
/// Of an IPv6 address it is the network, the first 64 bits: a client that has one address there has all 2^64 of them.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let values = parts.headers.get_all(FORWARDED_FOR).iter().next_back();
        let last = values.and_then(|value| value.to_str().ok()?.rsplit(',').next());
        let address = last.and_then(|text| text.trim().parse().ok());
        Ok(Self(address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), network)))
    }
}

/// Returns the network that one client has for itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Path parameters.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub struct Path<T>(pub T);

/// The query string.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        refuse_encoding(request.headers())?;
        let (parts, body) = request.into_parts();
        let bytes = Bytes::from_request(Request::from_parts(parts.clone(), body), state)
            .await
            .map_err(JsonRejection::from)?;
        let request = Request::from_parts(parts, bytes.clone().into());
        let read = axum::Json::from_request(request, state).await;
        let axum::Json(Object(body)) = read.map_err(|rejection| unreadable(&rejection, &bytes))?;
        refuse_nul(&bytes)?;
        Ok(Self(body))
    }
}

impl<S: Send + Sync> FromRequest<S> for JsonText {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        refuse_encoding(request.headers())?;
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.and_then(|value| value.split(';').next()).map(str::trim);
        if !media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json")) {
            let detail = "the body must have the content-type application/json";
            return Err(ApiError::new(ErrorCode::UnsupportedMediaType, detail));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(JsonRejection::from)?;
        let text = String::from_utf8(bytes.into());
        text.map(Self).map_err(|_| ApiError::new(ErrorCode::Malformed, "the body is not UTF-8"))
    }
}

fn refuse_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let encoding = headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
        let detail = "the body must have no content-encoding";
        return Err(ApiError::new(ErrorCode::UnsupportedMediaType, detail));
    }
    Ok(())
}

/// Returns the refusal of a body that is not of its type. serde_json stops at the first fault, and calls some values of the
/// wrong kind a fault of the syntax, such as `null` for one of several words: whether a body is JSON shows in the whole of it.
fn unreadable(rejection: &JsonRejection, body: &[u8]) -> ApiError {
    let fault = match rejection {
        JsonRejection::JsonDataError(error) => innermost(error),
        JsonRejection::JsonSyntaxError(error) => innermost(error),
        other => return ApiError::new(code(other), other.body_text()),
    };
    if is_json(body) {
        return ApiError::new(ErrorCode::InvalidArgument, format!("the body is not as described: {fault}"));
    }
    ApiError::new(ErrorCode::Malformed, format!("the body is not JSON: {fault}"))
}

/// Returns the text of the last cause that has the path of the field.
fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Returns whether a text is JSON, whatever it describes.
fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// A value whose fields have their names, at any depth: the order of them is no part of the API.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(Strict(deserializer)).map(Object)
    }
}

/// Refuses U+0000 in any text of a body: no store keeps it, and each would fail in its own way.
fn refuse_nul(json: &[u8]) -> Result<(), ApiError> {
    // JSON allows it as an escape only, so that nearly every body is done with here.
    const ESCAPE: &[u8] = b"\\u0000";
    if !json.windows(ESCAPE.len()).any(|bytes| bytes == ESCAPE) {
        return Ok(());
    }
    // A backslash before the escape makes it six characters of text: only a parser knows.
    match serde_json::from_slice(json) {
        Ok(body) if has_nul(&body) => {
            Err(ApiError::new(ErrorCode::InvalidArgument, "a text has the character U+0000"))
        }
        _ => Ok(()),
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(code(&rejection), rejection.body_text())
    }
}

fn code(rejection: &JsonRejection) -> ErrorCode {
    match rejection {
        JsonRejection::MissingJsonContentType(_) => ErrorCode::UnsupportedMediaType,
        JsonRejection::BytesRejection(BytesRejection::FailedToBufferBody(
            FailedToBufferBody::LengthLimitError(_),
        )) => ErrorCode::TooLarge,
        _ => ErrorCode::Malformed,
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::new(ErrorCode::InvalidArgument, rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(ErrorCode::InvalidArgument, rejection.body_text())
    }
}

impl<T: serde::Serialize> axum::response::IntoResponse for Json<T> {
    fn into_response(self) -> axum::response::Response {
        axum::Json(self.0).into_response()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use contracts::api::{
        ChangePasswordRequest, CreateChatRequest, PutContactRequest, PutMemberRequest, RefreshRequest,
        RegisterRequest, RescheduleRequest, Settings, SignInRequest, UpdateChatRequest,
        UpdateOwnChatStateRequest, UpdateProfileRequest,
    };
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        first: String,
        second: Option<u8>,
    }

    async fn read(headers: &[(&str, &str)], body: &str) -> Result<Pair, ErrorCode> {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        Json::from_request(request, &()).await.map(|Json(pair)| pair).map_err(|error| error.code())
    }

    #[tokio::test]
    async fn a_body_is_an_object_of_its_type_without_nul() {
        let json = [(CONTENT_TYPE.as_str(), "application/json; charset=utf-8")];
        let read = async |body| read(&json, body).await;
        assert_eq!(read(r#"{"first":"a"}"#).await, Ok(Pair { first: "a".to_owned(), second: None }));
        for body in
            [r#"["a"]"#, r#"["a",1]"#, "[]", "null", r#""a""#, "7", r#"{"first":1}"#, r#"{"second":1}"#]
        {
            assert_eq!(read(body).await, Err(ErrorCode::InvalidArgument), "{body}");
        }
        for body in [
            r#"{"first":"a","third":1}"#,
            r#"{"first":"a","first":"b"}"#,
            r#"{"first":"a\u0000b"}"#,
            r#"{"first":"\ud83d"}"#,
        ] {
            assert_eq!(read(body).await, Err(ErrorCode::InvalidArgument), "{body}");
        }
        for body in ["", "{", r#"{"first":"a"}}"#, "{\"first\":\"a\0b\"}", r#"{"first":t}"#, r#"{"first":1"#]
        {
            assert_eq!(read(body).await, Err(ErrorCode::Malformed), "{body}");
        }
        let escaped = read(r#"{"first":"a\\u0000b"}"#).await.expect("a backslash and a word");
        assert_eq!(escaped.first, r"a\u0000b");
    }

    /// Replaces each field of a good body by a value of each kind, at most some of which are taken for it.
    async fn check_kinds<T: DeserializeOwned>(good: Value, taken: &[(&str, &[Value])]) {
        let read = async |body: &Value| {
            let request = Request::builder().header(CONTENT_TYPE, "application/json");
            let request = request.body(Body::from(body.to_string())).expect("a request");
            Json::<T>::from_request(request, &())
                .await
                .map(drop)
                .map_err(|error| (error.code(), error.detail()))
        };
        assert_eq!(read(&good).await, Ok(()), "{good}");
        let name = "unknown".to_owned();
        let fields = good.as_object().expect("an object").keys().chain([&name]);
        for field in fields {
            let taken = taken.iter().find(|(name, _)| name == field).map_or(&[] as &[_], |(_, taken)| taken);
            for value in [
                json!(null),
                json!(true),
                json!(7),
                json!(-7.5),
                json!(1e300),
                json!("no such word"),
                json!([]),
                json!([null]),
                json!(["direct"]),
                json!([[[]]]),
                json!({}),
                json!({"direct": null}),
                json!({"kind": "direct"}),
            ] {
                let mut body = good.clone();
                body[field] = value.clone();
                let expected = taken.contains(&value);
                match read(&body).await {
                    Ok(()) => assert!(expected, "{body} is taken"),
                    Err((code, detail)) => {
                        assert!(!expected, "{body}: {detail}");
                        assert_eq!(code, ErrorCode::InvalidArgument, "{body}: {detail}");
                        assert!(detail.contains(field.as_str()), "{detail} names no {field}");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn a_value_of_the_wrong_kind_is_an_invalid_argument_whatever_is_expected() {
        let text = json!("no such word");
        let texts = std::slice::from_ref(&text);
        let optional = [json!(null), text.clone()];
        let null = [json!(null)];
        let id = "00000000-0000-0000-0000-000000000001";
        check_kinds::<RegisterRequest>(
            json!({"username": "ann", "password": "a password", "display_name": "Ann"}),
            &[("username", texts), ("password", texts), ("display_name", &optional)],
        )
        .await;
        check_kinds::<SignInRequest>(
            json!({"username": "ann", "password": "a password"}),
            &[("username", texts), ("password", texts)],
        )
        .await;
        check_kinds::<RefreshRequest>(json!({"refresh_token": "a.b.c"}), &[("refresh_token", texts)]).await;
        check_kinds::<UpdateProfileRequest>(
            json!({
                "display_name": "Ann", "about": "", "contactable_by": "nobody", "presence_visible_to": "nobody",
                "read_receipts": false, "status": {"text": "away"},
            }),
            &[
                ("display_name", &optional),
                ("about", &optional),
                ("contactable_by", &null),
                ("presence_visible_to", &null),
                ("read_receipts", &[json!(null), json!(true)]),
                ("status", &[json!(null), json!({})]),
            ],
        )
        .await;
        check_kinds::<CreateChatRequest>(
            json!({"kind": "group", "title": "Crew", "history": "all", "members": [id]}),
            &[("title", &optional), ("history", &null), ("members", &[json!([])])],
        )
        .await;
        check_kinds::<UpdateChatRequest>(
            json!({"title": "Crew", "topic": "", "history": "all"}),
            &[("title", &optional), ("topic", &optional), ("history", &null)],
        )
        .await;
        check_kinds::<UpdateOwnChatStateRequest>(
            json!({"muted_until_ms": 7, "archived": true, "favourite": false, "draft": {"body": "I wi"}}),
            &[
                ("muted_until_ms", &[json!(null), json!(7)]),
                ("archived", &[json!(null), json!(true)]),
                ("favourite", &[json!(null), json!(true)]),
                ("draft", &[json!(null)]),
            ],
        )
        .await;
        check_kinds::<RescheduleRequest>(
            json!({"body": "later", "reply_to": 7, "mentions": [id], "mention_all": true, "send_at_ms": 7}),
            &[
                ("body", texts),
                ("reply_to", &[json!(null), json!(7)]),
                ("mentions", &[json!([])]),
                ("mention_all", &[json!(true)]),
                ("send_at_ms", &[json!(7)]),
            ],
        )
        .await;
        check_kinds::<PutMemberRequest>(json!({"role": "admin"}), &[]).await;
        check_kinds::<PutContactRequest>(json!({"name": "Ann"}), &[("name", &optional)]).await;
        check_kinds::<ChangePasswordRequest>(
            json!({"current_password": "a password", "new_password": "another one"}),
            &[("current_password", texts), ("new_password", texts)],
        )
        .await;
        let objects = [json!({}), json!({"direct": null}), json!({"kind": "direct"})];
        check_kinds::<Settings>(
            json!({"version": 0, "settings": {"theme": "dark"}}),
            &[("version", &[json!(7)]), ("settings", &objects)],
        )
        .await;
    }

    #[tokio::test]
    async fn a_client_is_counted_by_the_network_that_traefik_saw() {
        for (forwarded, expected) in [
            (None, "0.0.0.0"),
            (Some("192.0.2.1"), "192.0.2.1"),
            (Some("10.0.0.1, 192.0.2.1"), "192.0.2.1"),
            (Some("::ffff:192.0.2.1"), "192.0.2.1"),
            (Some("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::"),
            (Some("2001:db8:1:2:ffff::1"), "2001:db8:1:2::"),
            (Some("nobody"), "0.0.0.0"),
        ] {
            let request = Request::builder();
            let request =
                forwarded.into_iter().fold(request, |request, value| request.header(FORWARDED_FOR, value));
            let (mut parts, ()) = request.body(()).expect("a request").into_parts();
            let Ok(ClientAddress(address)) = ClientAddress::from_request_parts(&mut parts, &()).await;
            assert_eq!(address.to_string(), expected, "{forwarded:?}");
        }
    }

    #[tokio::test]
    async fn a_body_of_another_type_is_named_so() {
        let body = r#"{"first":"a"}"#;
        let json = (CONTENT_TYPE.as_str(), "application/json");
        for headers in [
            vec![],
            vec![(CONTENT_TYPE.as_str(), "text/plain")],
            vec![(CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded")],
            vec![json, (CONTENT_ENCODING.as_str(), "gzip")],
        ] {
            assert_eq!(read(&headers, body).await, Err(ErrorCode::UnsupportedMediaType), "{headers:?}");
        }
        assert!(read(&[json, (CONTENT_ENCODING.as_str(), "identity")], body).await.is_ok());
    }
}
