//! Counts and times requests, and writes a line for each into the log.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    http::Method,
    response::Response,
};
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

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

/// The figures, each looked up in the recorder once and not with every request, which would write its labels out anew.
///
/// Labels come from our routes, a fixed list of methods and the statuses we answer with, never from what a client sent, so
/// their number is bounded.
#[derive(Clone)]
pub(super) struct Figures {
    in_flight: Gauge,
    /// By route, then by method and status.
    by_route: Arc<RwLock<HashMap<Box<str>, Vec<Series>>>>,
}

/// What is recorded of requests to one route with one method and one status.
#[derive(Clone)]
struct Series {
    method: &'static str,
    status: u16,
    duration: Histogram,
    requests: Counter,
}

impl Figures {
    /// Of the recorder that is installed by now.
    pub(super) fn new() -> Self {
        Self {
            in_flight: gauge!(IN_FLIGHT),
            by_route: Arc::default(),
        }
    }

    fn series(&self, route: &str, method: &'static str, status: u16) -> Series {
        // A panic while it is locked leaves at most a series out.
        let known = self.by_route.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let seen = known.get(route).and_then(|all| {
            all.iter()
                .find(|series| series.method == method && series.status == status)
        });
        if let Some(series) = seen {
            return series.clone();
        }
        drop(known);
        let series = Series {
            method,
            status,
            duration: histogram!(DURATION, "method" => method, "route" => route.to_owned()),
            requests: counter!(REQUESTS, "method" => method, "route" => route.to_owned(), "status" => status.to_string()),
        };
        let mut known = self.by_route.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        known.entry(route.into()).or_default().push(series.clone());
        series
    }
}

pub(super) async fn measure(
    figures: Figures,
    request: Request,
    next: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let begun = Instant::now();
    let in_flight = InFlight::begin(figures.in_flight.clone());
    let response = next(request).await;
    drop(in_flight);
    let duration = begun.elapsed();
    let status = response.status().as_u16();
    let series = figures.series(route.as_ref().map_or("unmatched", MatchedPath::as_str), method, status);
    series.duration.record(duration);
    series.requests.increment(1);
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
struct InFlight(Gauge);

impl InFlight {
    fn begin(gauge: Gauge) -> Self {
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}
