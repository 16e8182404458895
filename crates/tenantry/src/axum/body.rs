//! Reading a request's body or query into a type.

use axum::{
    body::{Body as HttpBody, Bytes},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
};
use futures_util::StreamExt;
use serde_json::Value;

use super::{Code, Fields, FromFields, Problem};

/// How many bytes of a body are read where [`BodyLimit`] says nothing else: far above what a form of text fields needs.
const BODY_BYTES_DEFAULT: usize = 256 * 1024;

/// How much of a body that is too large is read and thrown away, so that a client that is still sending sees the answer
/// rather than a closed connection.
const DRAIN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many bytes of a body [`Body`] reads; put into the request's extensions by a layer.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit(pub usize);

/// The body, read as a `T`: JSON, no unknown fields, every wrong field told at once.
#[derive(Clone, Copy, Debug)]
pub struct Body<T>(pub T);

impl<T: FromFields, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let limit = request
            .extensions()
            .get()
            .copied()
            .unwrap_or(BodyLimit(BODY_BYTES_DEFAULT));
        let json = is_json(request.headers());
        // Read before the type is refused: an answer to a body that was not read can get lost.
        let bytes = read_up_to(request.into_body(), limit.0).await?;
        if !json {
            return Err(Problem::new(
                Code::MalformedBody,
                "Send JSON with the header `Content-Type: application/json`.",
            ));
        }
        Fields::from_json(&bytes)?.read().map(Self)
    }
}

/// The query string, read as a `T`; each value is a text.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<T: FromFields, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let mut values: Vec<(String, Value)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if values.iter().any(|(other, _)| *other == name) {
                return Err(Problem::field(Code::InvalidField, &name, "this parameter stands twice"));
            }
            values.push((name.into_owned(), Value::String(value.into_owned())));
        }
        Fields::new(values).read().map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn read_up_to(body: HttpBody, limit: usize) -> Result<Bytes, Problem> {
    let mut read = Vec::new();
    let mut seen = 0_usize;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::new(Code::MalformedBody, "The body broke off before its end."))?;
        seen += chunk.len();
        if seen <= limit {
            read.extend_from_slice(&chunk);
        } else if seen > limit.saturating_add(DRAIN_BYTES_MAX) {
            break;
        }
    }
    if seen > limit {
        return Err(Problem::new(
            Code::BodyTooLarge,
            format!("The body has more than the {limit} bytes that are read."),
        ));
    }
    Ok(read.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_and_not_kept() {
        let refused = read_up_to(HttpBody::from(vec![b'x'; 2_000]), 1_000).await.unwrap_err();
        assert_eq!(refused.code(), Code::BodyTooLarge);
        assert_eq!(
            read_up_to(HttpBody::from(vec![b'x'; 1_000]), 1_000)
                .await
                .unwrap()
                .len(),
            1_000
        );
    }

    #[test]
    fn only_json_is_json() {
        let with = |value: &str| HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]);
        assert!(is_json(&with("application/json; charset=utf-8")));
        assert!(is_json(&with("Application/merge-patch+JSON")));
        assert!(!is_json(&with("text/plain")));
        assert!(!is_json(&HeaderMap::new()));
    }
}
