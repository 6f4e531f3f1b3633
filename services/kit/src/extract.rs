//! axum extractors whose refusals are problem bodies.

use std::{
    convert::Infallible,
    fmt,
    marker::PhantomData,
    net::{IpAddr, Ipv4Addr},
};

use axum::{
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, Request,
        rejection::{BytesRejection, FailedToBufferBody, JsonRejection, PathRejection, QueryRejection},
    },
    http::{HeaderName, header::CONTENT_ENCODING, request::Parts},
};
use contracts::ErrorCode;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value;

use crate::error::ApiError;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A body that is a JSON object, none of whose texts has the character U+0000.
pub struct Json<T>(pub T);

/// The address that a request came from, as Traefik saw it: the last one of `x-forwarded-for`. Those before it are what the
/// client says. Requests that did not pass Traefik have the unspecified address.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let values = parts.headers.get_all(FORWARDED_FOR).iter().next_back();
        let last = values.and_then(|value| value.to_str().ok()?.rsplit(',').next());
        let address = last.and_then(|text| text.trim().parse().ok());
        Ok(Self(address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))))
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
        let is_encoded = request
            .headers()
            .get(CONTENT_ENCODING)
            .is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
        if is_encoded {
            let detail = "the body must have no content-encoding";
            return Err(ApiError::new(ErrorCode::UnsupportedMediaType, detail));
        }
        let (parts, body) = request.into_parts();
        let bytes = Bytes::from_request(Request::from_parts(parts.clone(), body), state)
            .await
            .map_err(JsonRejection::from)?;
        let request = Request::from_parts(parts, bytes.clone().into());
        let axum::Json(Object(body)) = axum::Json::from_request(request, state).await?;
        refuse_nul(&bytes)?;
        Ok(Self(body))
    }
}

/// A value that is read from a JSON object only. serde reads a struct from an array too, and the order of its fields
/// would become part of the API.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Object)
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
        let code = match &rejection {
            JsonRejection::JsonDataError(_) => ErrorCode::InvalidArgument,
            JsonRejection::MissingJsonContentType(_) => ErrorCode::UnsupportedMediaType,
            JsonRejection::BytesRejection(BytesRejection::FailedToBufferBody(
                FailedToBufferBody::LengthLimitError(_),
            )) => ErrorCode::TooLarge,
            _ => ErrorCode::Malformed,
        };
        Self::new(code, rejection.body_text())
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
    use axum::{body::Body, http::header::CONTENT_TYPE};

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
        for body in [r#"{"first":"a","third":1}"#, r#"{"first":"a","first":"b"}"#, r#"{"first":"a\u0000b"}"#]
        {
            assert_eq!(read(body).await, Err(ErrorCode::InvalidArgument), "{body}");
        }
        for body in ["", "{", r#"{"first":"a"}}"#, "{\"first\":\"a\0b\"}", r#"{"first":"\ud83d"}"#] {
            assert_eq!(read(body).await, Err(ErrorCode::Malformed), "{body}");
        }
        let escaped = read(r#"{"first":"a\\u0000b"}"#).await.expect("a backslash and a word");
        assert_eq!(escaped.first, r"a\u0000b");
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
