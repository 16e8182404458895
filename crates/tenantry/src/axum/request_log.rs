//! Under which names the log knows a request, and everything that is logged while it is served.

use std::{fmt, sync::Arc};

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
use tenantry_core::{Actor, Context, Placement};
use tracing::{Span, field::Empty};

use super::{Problem, RequestId, TraceContext, request_id};
use crate::Scope;

/// Of the draft for answers that belongs to W3C's Trace Context: in which trace the log knows the request.
const TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// The span of a request: each line that is logged while it is served has its fields.
///
/// `request.id`, `trace.id`, `span.id`, `http.method` and `http.path` from the beginning; `tenant.id`, `account.id` or `api_key.id`, `isolation`
/// and `placement` from when they are known. No field holds what a client sent beyond its path and the id that it gave the
/// request: neither queries, in which people search, nor credentials.
///
/// A handler that asks another program takes the trace along:
///
/// ```
/// use axum::Extension;
/// use tenantry::axum::RequestLog;
///
/// async fn handler(Extension(log): Extension<RequestLog>) -> String {
///     // In the request's header `traceparent`, and what `log.tracestate()` gives in `tracestate`.
///     log.trace().traceparent()
/// }
/// # let _ = axum::Router::<()>::new().route("/", axum::routing::get(handler));
/// ```
#[derive(Clone, Debug)]
pub struct RequestLog {
    id: RequestId,
    trace: TraceContext,
    state: Option<Arc<str>>,
    span: Span,
}

impl RequestLog {
    /// Gives the request its names, which its extensions then hold: this, and a [`RequestId`].
    pub fn begin(request: &mut Request) -> Self {
        let id = RequestId::of(request.headers());
        let trace = TraceContext::of(request.headers(), &id);
        // Whatever is logged at all, its fields are: a span of a lower level would be missing where only errors are logged.
        let span = tracing::error_span!(
            "request",
            request.id = id.as_str(),
            trace.id = %trace.trace_id(),
            span.id = %trace.span_id(),
            trace.parent = Empty,
            http.method = %request.method(),
            http.path = request.uri().path(),
            tenant.id = Empty,
            account.id = Empty,
            api_key.id = Empty,
            operator.id = Empty,
            isolation = Empty,
            placement = Empty,
            http.status = Empty,
        );
        if let Some(parent) = trace.parent_id() {
            span.record("trace.parent", tracing::field::display(parent));
        }
        let state = trace.state(request.headers());
        let log = Self { id, trace, state, span };
        let extensions = request.extensions_mut();
        extensions.insert(log.id.clone());
        extensions.insert(log.clone());
        log
    }

    /// The request's id.
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// The trace that the request belongs to.
    pub fn trace(&self) -> &TraceContext {
        &self.trace
    }

    /// The caller's `tracestate`: who sends the trace's `traceparent` on sends this with it. `None` where the trace begins here, or the caller
    /// noted nothing.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The span to serve the request in.
    pub fn span(&self) -> Span {
        self.span.clone()
    }

    /// Notes for whom the request is, and where they live as far as that is known without asking.
    pub fn note_scope(&self, scope: &Scope) {
        if self.span.is_disabled() {
            return;
        }
        let context = scope.context();
        let noted = scope.pools().with_placement(scope.caller(), |placement| {
            let place = place(placement);
            let isolation = placement.isolation.as_str();
            // In one go: each call may write all fields anew.
            match &context.actor {
                Actor::Account(id) => {
                    tracing::record_all!(self.span, tenant.id = %context.tenant, account.id = %id, isolation = isolation, placement = %place);
                }
                Actor::ApiKey(id) => {
                    tracing::record_all!(self.span, tenant.id = %context.tenant, api_key.id = %id, isolation = isolation, placement = %place);
                }
                _ => {
                    tracing::record_all!(self.span, tenant.id = %context.tenant, isolation = isolation, placement = %place);
                }
            }
        });
        if noted.is_none() {
            self.note_context(context);
        }
    }

    /// Notes for whom the request is, where nobody goes to the tenant's rows.
    pub fn note_context(&self, context: &Context) {
        match &context.actor {
            Actor::Account(id) => {
                tracing::record_all!(self.span, tenant.id = %context.tenant, account.id = %id);
            }
            Actor::ApiKey(id) => {
                tracing::record_all!(self.span, tenant.id = %context.tenant, api_key.id = %id);
            }
            _ => {
                tracing::record_all!(self.span, tenant.id = %context.tenant);
            }
        }
    }

    /// Notes a single name: `operator.id`, `account.id` or `tenant.id`.
    pub fn note(&self, field: &'static str, id: impl fmt::Display) {
        self.span.record(field, tracing::field::display(id));
    }

    /// Puts the id and the trace into the answer's headers.
    pub fn mark(&self, response: &mut Response) {
        // Of those that went well it would cost each request something, and say nothing.
        if response.status().is_client_error() || response.status().is_server_error() {
            self.span.record("http.status", response.status().as_u16());
        }
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(self.id.as_str()) {
            headers.insert(request_id::HEADER, value);
        }
        if let Ok(value) = HeaderValue::from_str(&self.trace.traceparent()) {
            headers.insert(TRACE_RESPONSE, value);
        }
    }

    /// Puts them into the answer's headers and, where it is a [`Problem`], the id into its body.
    pub(super) fn sign(&self, response: &mut Response) {
        self.mark(response);
        if let Some(problem) = response.extensions().get::<Problem>() {
            let body = problem.response(Some(self.id.as_str())).into_body();
            *response.body_mut() = body;
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
    }
}

/// `database/schema@epoch`: none of it is secret, and together they say where to look.
fn place(placement: &Placement) -> impl fmt::Display + use<'_> {
    fmt::from_fn(move |f| {
        let Placement {
            database_name,
            schema,
            epoch,
            ..
        } = placement;
        write!(f, "{database_name}/{schema}@{}", epoch.0)
    })
}
