//! Makes every refusal a problem with the request's id, and lets no cache keep an answer.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use tenantry::axum::{Code, Problem, RequestId};

pub(super) async fn finish(request: Request, next: impl AsyncFnOnce(Request) -> Response) -> Response {
    let id = request.extensions().get::<RequestId>().cloned();
    let response = next(request).await;
    let mut response = match problem_of(&response) {
        Some(problem) => rewrite(&response, &problem, id.as_ref()),
        None => response,
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // What one tenant may read must not be kept by a cache for another.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The problem of a handler, or one for a refusal of the framework's, whose text speaks of Rust types.
fn problem_of(response: &Response) -> Option<Problem> {
    if let Some(problem) = response.extensions().get::<Problem>() {
        return Some(problem.clone());
    }
    let status = response.status();
    let refused = status.is_client_error() || status.is_server_error();
    // An application that answers with JSON of its own knows what it says.
    if !refused || is_json(response) {
        return None;
    }
    Some(match status {
        StatusCode::UNAUTHORIZED => Problem::new(Code::Unauthenticated, "Send a credential."),
        StatusCode::FORBIDDEN => Problem::new(Code::Forbidden, "This is not allowed."),
        StatusCode::NOT_FOUND => Problem::new(Code::NotFound, "There is no such path."),
        StatusCode::METHOD_NOT_ALLOWED => {
            Problem::new(Code::MethodNotAllowed, "Use one of the methods in the header `Allow`.")
        }
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Code::BodyTooLarge, "Send a smaller body."),
        StatusCode::TOO_MANY_REQUESTS => Problem::new(Code::RateLimited, "Send fewer requests."),
        StatusCode::SERVICE_UNAVAILABLE => Problem::new(Code::Unavailable, "Try again later."),
        status if status.is_client_error() => Problem::new(Code::MalformedBody, "The request can't be read."),
        _ => Problem::new(Code::Internal, "The request could not be served."),
    })
}

/// What a refusal says beside its problem: which methods there are, and what is left of a rate.
const KEPT: [HeaderName; 3] = [
    header::ALLOW,
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
];

fn is_json(response: &Response) -> bool {
    let content_type = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| value.split(';').next().unwrap_or_default().ends_with("json"))
}

fn rewrite(response: &Response, problem: &Problem, id: Option<&RequestId>) -> Response {
    let mut rewritten = problem.response(id.map(RequestId::as_str));
    for kept in KEPT {
        if let Some(value) = response.headers().get(&kept) {
            rewritten.headers_mut().insert(kept, value.clone());
        }
    }
    rewritten
}
