//! Log lines as JSON objects, one a line, with the fields of every span around them at the same level.
//!
//! `tracing-subscriber` has such lines too, but keeps a span's fields as text, which it reads and writes again when a field becomes
//! known later: too dear for something that each request does and few lines show.

use std::{
    fmt::{self, Debug},
    io::Write as _,
};

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    fmt::MakeWriter,
    layer::{Context, Layer},
    registry::LookupSpan,
};

/// Writes each event as a line.
///
/// `timestamp`, `level`, `target` and `message` stand beside the fields; a field of the event wins over one of a span, and one of
/// an inner span over one of an outer.
pub(super) struct Lines<W> {
    writer: W,
}

impl<W> Lines<W> {
    pub(super) const fn new(writer: W) -> Self {
        Self { writer }
    }
}

/// The fields of a span, in the order in which they became known.
#[derive(Default)]
pub(super) struct Known(Vec<(&'static str, Value)>);

impl Known {
    /// A field that is known.
    #[cfg(feature = "otlp")]
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Each of them.
    #[cfg(feature = "otlp")]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    fn set(&mut self, field: &Field, value: Value) {
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, known)) => *known = value,
            None => self.0.push((field.name(), value)),
        }
    }
}

impl Visit for Known {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // Not a number is null in JSON.
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.set(field, value.to_string().into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field, format!("{value:?}").into());
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut known = Known(Vec::with_capacity(attributes.fields().len()));
        attributes.record(&mut known);
        span.extensions_mut().insert(known);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(known) = span.extensions_mut().get_mut::<Known>() {
            record.record(known);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Map::new();
        let spans = context.event_scope(event).into_iter().flatten();
        // From the inside out: what is there already stays.
        let mut fields = Known::default();
        event.record(&mut fields);
        line.extend(fields.0.into_iter().map(|(name, value)| (name.to_owned(), value)));
        for span in spans {
            if let Some(known) = span.extensions().get::<Known>() {
                for (name, value) in &known.0 {
                    line.entry(*name).or_insert_with(|| value.clone());
                }
            }
        }
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        line.insert("timestamp".to_owned(), at.into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        line.insert("target".to_owned(), event.metadata().target().into());
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        // In one piece, so that lines of several threads don't mix. Whoever read it may have gone.
        let _ = self.writer.make_writer_for(event.metadata()).write_all(text.as_bytes());
    }
}

impl<W> Debug for Lines<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines(log: impl FnOnce()) -> Vec<Value> {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::registry().with(Lines::new(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_has_its_fields_and_those_of_the_spans_around_it() {
        let lines = lines(|| {
            let outer = tracing::info_span!("request", request.id = "r\"1", tenant.id = tracing::field::Empty, n = 1);
            let _outer = outer.enter();
            tracing::info!("before");
            outer.record("tenant.id", "t");
            outer.record("tenant.id", "u");
            let _inner = tracing::info_span!("inner", n = 2, ok = true).entered();
            tracing::warn!(ms = 1.5, n = 3, error = ?"line\nbreak", "after {}", 1);
        });
        assert_eq!(lines[0]["message"], "before");
        assert_eq!(lines[0]["request.id"], "r\"1");
        assert_eq!(lines[0].get("tenant.id"), None);
        assert_eq!(lines[1]["tenant.id"], "u");
        assert_eq!(
            (&lines[1]["n"], &lines[1]["ok"], &lines[1]["ms"]),
            (&3.into(), &true.into(), &1.5.into())
        );
        assert_eq!(
            (&lines[1]["level"], &lines[1]["message"]),
            (&"WARN".into(), &"after 1".into())
        );
        assert!(lines[1]["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(lines.len(), 2);
    }
}
