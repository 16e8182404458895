//! Sends the span of each request to an OpenTelemetry collector, by OTLP over HTTP in JSON.
//!
//! The protocol is small where a program has one kind of span and no metrics to send; the crates for all of it are some twenty. A
//! collector that is away or slow costs spans and nothing else: they wait in a bounded queue, and what does not fit is dropped and
//! counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::{
    Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::LookupSpan,
};

use super::json::Known;

/// Spans that wait to be sent, at most.
const QUEUE: usize = 4096;
/// Spans that are sent together, at most.
const TOGETHER: usize = 512;
/// How long one waits for others.
const EVERY: Duration = Duration::from_secs(2);
/// How long a collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Collects the spans.
pub(super) struct Spans {
    queue: mpsc::Sender<Value>,
    dropped: Arc<AtomicU64>,
}

/// A span that is under way.
struct Begun {
    at: SystemTime,
    known: Known,
}

impl Spans {
    /// Sends them to the collector at this address, such as `http://localhost:4318`.
    pub(super) fn to(endpoint: &str) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let dropped = Arc::<AtomicU64>::default();
        let address = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        tokio::spawn(send(address, waiting, dropped.clone()));
        tenantry::axum::TraceContext::begin_sampled();
        Self { queue, dropped }
    }
}

impl<S> Layer<S> for Spans
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let is_request =
            attributes.metadata().name() == "request" && attributes.metadata().target().starts_with("tenantry::");
        let Some(span) = context.span(id).filter(|_| is_request) else {
            return;
        };
        let mut known = Known::default();
        attributes.record(&mut known);
        span.extensions_mut().insert(Begun {
            at: SystemTime::now(),
            known,
        });
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(begun) = span.extensions_mut().get_mut::<Begun>() {
            record.record(&mut begun.known);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(begun) = context
            .span(&id)
            .and_then(|span| span.extensions_mut().remove::<Begun>())
        else {
            return;
        };
        if self.queue.try_send(shown(&begun)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The span as the protocol has it.
fn shown(begun: &Begun) -> Value {
    let field = |name: &str| begun.known.get(name).cloned().unwrap_or_default();
    let nanoseconds = |at: SystemTime| {
        at.duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos())
            .to_string()
    };
    // OpenTelemetry's words where it has some.
    let name = |ours: &str| match ours {
        "http.method" => "http.request.method".to_owned(),
        "http.path" => "url.path".to_owned(),
        "http.status" => "http.response.status_code".to_owned(),
        ours => format!("tenantry.{ours}"),
    };
    let attributes: Vec<Value> = begun
        .known
        .iter()
        .filter(|(ours, _)| !["trace.id", "span.id", "trace.parent"].contains(ours))
        .map(|(ours, value)| {
            let value = match value {
                Value::Number(number) => json!({ "intValue": number.to_string() }),
                Value::String(text) => json!({ "stringValue": text }),
                other => json!({ "stringValue": other.to_string() }),
            };
            json!({ "key": name(ours), "value": value })
        })
        .collect();
    let failed = field("http.status").as_u64().is_some_and(|status| status >= 500);
    json!({
        "traceId": field("trace.id"), "spanId": field("span.id"), "parentSpanId": begun.known.get("trace.parent").cloned().unwrap_or_else(|| "".into()),
        "name": field("http.method"), "kind": 2,
        "startTimeUnixNano": nanoseconds(begun.at), "endTimeUnixNano": nanoseconds(SystemTime::now()),
        "attributes": attributes, "status": { "code": if failed { 2 } else { 0 } },
    })
}

/// Sends what waits, until nobody collects any more.
async fn send(address: String, mut waiting: mpsc::Receiver<Value>, dropped: Arc<AtomicU64>) {
    let client = reqwest::Client::new();
    let mut spans = Vec::with_capacity(TOGETHER);
    let mut told = 0;
    loop {
        // All that wait, or none for a while.
        if waiting.recv_many(&mut spans, TOGETHER).await == 0 {
            return;
        }
        if spans.len() < TOGETHER {
            tokio::time::sleep(EVERY).await;
            while spans.len() < TOGETHER
                && let Ok(span) = waiting.try_recv()
            {
                spans.push(span);
            }
        }
        let number = spans.len() as u64;
        let resource = json!({ "attributes": [
            { "key": "service.name", "value": { "stringValue": "tenantry" } },
            { "key": "service.version", "value": { "stringValue": env!("CARGO_PKG_VERSION") } },
        ]});
        let body = json!({ "resourceSpans": [{
            "resource": resource,
            "scopeSpans": [{ "scope": { "name": "tenantry" }, "spans": std::mem::take(&mut spans) }],
        }]});
        let sent = client.post(&address).timeout(PATIENCE).json(&body).send().await;
        let sent = sent.and_then(reqwest::Response::error_for_status);
        if let Err(error) = sent {
            dropped.fetch_add(number, Ordering::Relaxed);
            // The address is shown by the configuration; it may hold a credential.
            tracing::debug!(error = %error.without_url(), "the collector did not take spans");
        }
        let lost = dropped.load(Ordering::Relaxed);
        if lost > told {
            tracing::warn!(lost, "spans were not sent to the collector");
            told = lost;
        }
    }
}
