//! Refusals as problem details (RFC 9457).

use std::{borrow::Cow, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tenantry_core::Excess;

use super::Code;

/// A refused request, as the client sees it: `{type, title, status, code, detail, request_id, errors}`.
///
/// Whatever stands in it is shown to the caller, so nothing internal may be put there; log that beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
    // Few have one, and a refusal is part of every result.
    limit: Option<Box<LimitHit>>,
}

/// Which limit a request met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitHit {
    /// `requests`, `members`, `jobs`, `storage_bytes`, or `rows.` and a table.
    pub name: String,
    /// How much the plan gives.
    pub quota: u64,
    /// How much is used, where that is a number of things.
    pub used: Option<u64>,
    /// In how many seconds all of it can be used again, where it comes back by itself.
    pub reset_s: Option<u64>,
}

/// What is wrong with one field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldError {
    /// A JSON pointer (RFC 6901) into the body, or `/` and the name of the query parameter.
    pub pointer: String,
    /// `invalid-field`, `unknown-field`, `invalid-reference` or `already-exists`.
    pub code: Code,
    /// What the field should be.
    pub detail: String,
}

impl Problem {
    /// A refusal with what the caller can do about it.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            limit: None,
        }
    }

    /// A refusal because of these fields; all of them at once, so that a form can mark each.
    ///
    /// The code is `unknown-field` where there is an unknown one, else that of the first error.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let unknown = errors.iter().find(|error| error.code == Code::UnknownField);
        let code = unknown
            .or(errors.first())
            .map_or(Code::InvalidField, |error| error.code);
        let names: Vec<_> = errors
            .iter()
            .map(|error| error.pointer.trim_start_matches('/'))
            .collect();
        let detail = format!("Correct these fields: {}.", names.join(", "));
        Self {
            errors,
            ..Self::new(code, detail)
        }
    }

    /// A refusal because of the one field `name`.
    pub fn field(code: Code, name: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let error = FieldError {
            pointer: format!("/{name}"),
            code,
            detail: detail.clone(),
        };
        Self {
            errors: vec![error],
            ..Self::new(code, detail)
        }
    }

    /// The tenant has as much of something as its plan gives.
    pub fn plan_limit(excess: &Excess) -> Self {
        let hit = LimitHit {
            name: excess.limit.clone(),
            quota: excess.quota,
            used: Some(excess.used),
            reset_s: None,
        };
        let detail = "The tenant has more than its plan gives; remove something, or ask for a larger plan.";
        Self::new(Code::PlanLimitReached, detail).limit(hit)
    }

    /// There is nothing here that the caller may know of.
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "There is no such thing, or it is not yours.")
    }

    /// Tells the client when to come again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Names the limit that the request met.
    #[must_use]
    pub fn limit(mut self, hit: LimitHit) -> Self {
        self.limit = Some(Box::new(hit));
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The response, with the id under which the log knows the request.
    pub fn response(&self, request_id: Option<&str>) -> Response {
        let mut body = json!({
            "type": format!("urn:tenantry:problem:{}", self.code.as_str()),
            "title": self.code.title(),
            "status": self.code.status().as_u16(),
            "code": self.code.as_str(),
            "detail": self.detail,
            "request_id": request_id,
        });
        if !self.errors.is_empty() {
            body["errors"] = self.errors.iter().map(FieldError::to_json).collect();
        }
        if let Some(limit) = &self.limit {
            body["limit"] =
                json!({ "name": limit.name, "quota": limit.quota, "used": limit.used, "reset_s": limit.reset_s });
        }
        let mut response = (self.code.status(), body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.retry_after {
            // Rounded up: a client that comes a little early is refused a second time.
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            headers.insert(
                header::RETRY_AFTER,
                seconds.to_string().parse().expect("digits are a header value"),
            );
        }
        if self.code.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl FieldError {
    fn to_json(&self) -> serde_json::Value {
        json!({ "pointer": self.pointer, "code": self.code.as_str(), "detail": self.detail })
    }
}

/// The response carries the problem as an extension, so that a layer around it can write it again with the request's id, as
/// [`TenantLayer`](super::TenantLayer) does.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.response(None);
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_gives_the_problem_its_code() {
        let error = |name: &str, code| FieldError {
            pointer: format!("/{name}"),
            code,
            detail: String::new(),
        };
        let problem = Problem::fields(vec![error("a", Code::InvalidField), error("b", Code::UnknownField)]);
        assert_eq!(problem.code(), Code::UnknownField);
        assert_eq!(problem.detail, "Correct these fields: a, b.");
    }

    #[test]
    fn the_wait_is_rounded_up() {
        let problem = Problem::new(Code::Unavailable, "busy").retry_after(Duration::from_millis(1001));
        assert_eq!(problem.into_response().headers()[header::RETRY_AFTER], "2");
    }
}
