//! What a request is called in the log, in the answer and in the audit log.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Response,
};
use uuid::Uuid;

use super::Problem;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// A request's id: in its extensions, and in the answer's header `X-Request-Id`.
#[derive(Clone, Debug)]
pub struct RequestId(String);

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The client's id if it can do no harm in a log line, else a new one.
    pub fn of(headers: &HeaderMap) -> Self {
        let plain = |text: &&str| {
            let alphabet = text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.');
            (1..=64).contains(&text.len()) && alphabet
        };
        let sent = headers.get(HEADER).and_then(|value| value.to_str().ok()).filter(plain);
        Self(sent.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned))
    }

    /// The span of everything that is logged while the request is served. Without the query: it can hold what people search
    /// for.
    pub fn span(&self, request: &Request) -> tracing::Span {
        tracing::info_span!(
            "request",
            request.id = self.as_str(),
            http.method = %request.method(),
            http.path = request.uri().path()
        )
    }

    /// Puts the id into the answer's header.
    pub fn mark(&self, response: &mut Response) {
        if let Ok(value) = HeaderValue::from_str(&self.0) {
            response.headers_mut().insert(HEADER, value);
        }
    }

    /// Puts the id into the answer's header and, where it is a [`Problem`], into its body.
    pub(super) fn sign(&self, response: &mut Response) {
        self.mark(response);
        if let Some(problem) = response.extensions().get::<Problem>() {
            let body = problem.response(Some(self.as_str())).into_body();
            *response.body_mut() = body;
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
    }
}
