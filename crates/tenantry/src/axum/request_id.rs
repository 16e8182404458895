//! What a request is called in the log, in the answer and in the audit log.

use axum::http::{HeaderMap, HeaderName};
use uuid::Uuid;

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// A request's id: in its extensions, and in the answer's header `X-Request-Id`.
#[derive(Clone, Debug)]
pub struct RequestId {
    text: String,
    /// Ours, also where the client has an id of its own.
    uuid: Uuid,
}

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.text
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
        let uuid = Uuid::now_v7();
        Self {
            text: sent.map_or_else(|| uuid.to_string(), str::to_owned),
            uuid,
        }
    }

    pub(super) const fn uuid(&self) -> Uuid {
        self.uuid
    }
}
