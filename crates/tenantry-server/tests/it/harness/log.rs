//! What is logged in this process, at every level.

use std::sync::{Arc, Mutex, OnceLock};

use serde_json::Value;

/// Everything that was logged since the first call of [`Log::listen`], by whatever test runs in the process.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub(crate) fn listen() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        let log = LOG.get_or_init(|| {
            let log = Self::default();
            let writer = log.clone();
            tracing_subscriber::fmt()
                .json()
                .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
                .with_writer(move || writer.clone())
                .init();
            log
        });
        log.clone()
    }

    /// The lines of the request with this id, each with the fields of the request's span in place of its spans.
    pub(crate) fn of_request(&self, id: &str) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter_map(|mut line| {
                let spans = line["spans"].as_array()?;
                let span = spans.iter().find(|span| span["request.id"] == id)?.clone();
                line["span"] = span;
                Some(line)
            })
            .collect()
    }
}
