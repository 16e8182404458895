//! Gives each request an id, under which the log, the answer and the audit log know it.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
    response::Response,
};
use tracing::Instrument;
use uuid::Uuid;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// A request's id.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(String);

impl RequestId {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The client's id if it can do no harm in a log line, else a new one.
    fn of(request: &Request) -> Self {
        let plain = |text: &&str| {
            let alphabet = text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.');
            (1..=64).contains(&text.len()) && alphabet
        };
        let sent = request
            .headers()
            .get(HEADER)
            .and_then(|value| value.to_str().ok())
            .filter(plain);
        Self(sent.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned))
    }
}

/// The id in the request's extensions, in the span of everything logged meanwhile, and in the answer's header.
pub(super) async fn identify(mut request: Request, next: impl AsyncFnOnce(Request) -> Response) -> Response {
    let id = RequestId::of(&request);
    // Without the query: it can hold what people search for.
    let span = tracing::info_span!(
        "request",
        request.id = id.as_str(),
        http.method = %request.method(),
        http.path = request.uri().path()
    );
    request.extensions_mut().insert(id.clone());
    let mut response = next(request).instrument(span).await;
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}
