//! Counts and times requests, and writes a line for each into the log.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request},
    http::Method,
    response::Response,
};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const REQUESTS: &str = "tenantry_http_requests_total";
const DURATION: &str = "tenantry_http_request_duration_seconds";
const IN_FLIGHT: &str = "tenantry_http_requests_in_flight";

pub(crate) fn describe_metrics() {
    describe_counter!(REQUESTS, "Requests by method, route and status.");
    describe_histogram!(
        DURATION,
        metrics::Unit::Seconds,
        "How long requests took, by method and route."
    );
    describe_gauge!(IN_FLIGHT, "Requests that are being worked on.");
}

/// Labels come from our routes and a fixed list of methods, never from what a client sent, so their number is bounded.
pub(super) async fn measure(request: Request, next: impl AsyncFnOnce(Request) -> Response) -> Response {
    let method = method_label(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unmatched".into(), |path| path.as_str().to_owned());
    let begun = Instant::now();
    let in_flight = InFlight::begin();
    let response = next(request).await;
    drop(in_flight);
    let duration = begun.elapsed();
    let status = response.status().as_u16();
    histogram!(DURATION, "method" => method, "route" => route.clone()).record(duration);
    counter!(REQUESTS, "method" => method, "route" => route, "status" => status.to_string()).increment(1);
    let duration_ms = duration.as_secs_f64() * 1000.0;
    // A line for each request that went well would cost more than many of them; the figures above count those.
    if response.status().is_server_error() {
        tracing::warn!(http.status = status, duration_ms, "request failed");
    } else {
        tracing::debug!(http.status = status, duration_ms, "request answered");
    }
    response
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Counts down also when the client goes away and the request's future is dropped.
struct InFlight;

impl InFlight {
    fn begin() -> Self {
        gauge!(IN_FLIGHT).increment(1);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        gauge!(IN_FLIGHT).decrement(1);
    }
}
