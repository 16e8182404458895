//! The header that makes a repeated request the same request.

use axum::{extract::FromRequestParts, http::request::Parts};
use tenantry::axum::{Code, Problem};

/// The value of `Idempotency-Key`, if it was sent.
pub(crate) struct IdempotencyKey(Option<String>);

impl IdempotencyKey {
    pub(super) fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let malformed = || {
            Problem::new(
                Code::InvalidField,
                "Send one header Idempotency-Key of 1 to 255 visible ASCII characters.",
            )
        };
        let mut values = parts.headers.get_all("idempotency-key").iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(Self(None)),
            (Some(value), None) => value
                .to_str()
                .map(|key| Self(Some(key.to_owned())))
                .map_err(|_| malformed()),
            (Some(_), Some(_)) => Err(malformed()),
        }
    }
}
