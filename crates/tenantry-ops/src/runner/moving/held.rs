//! How long a tenant waits behind the closed fence, and for what.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

/// The time since the fence began to close, part by part.
#[derive(Clone, Debug)]
pub(super) struct Held {
    began: Instant,
    /// What was done, and when it had been.
    parts: Vec<(&'static str, Instant)>,
}

impl Held {
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            parts: Vec::new(),
        }
    }

    /// What the time since the part before was for.
    pub(super) fn was_for(&mut self, part: &'static str) {
        self.parts.push((part, Instant::now()));
    }

    /// The whole of it until now.
    pub(super) fn so_far(&self) -> Duration {
        self.began.elapsed()
    }

    /// Milliseconds of each part.
    pub(super) fn shown(&self) -> Value {
        let mut before = self.began;
        let mut shown = Map::new();
        for (part, ended) in &self.parts {
            let took = ended.saturating_duration_since(before).as_millis() as u64;
            shown.insert((*part).to_owned(), took.into());
            before = *ended;
        }
        Value::Object(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_the_time_since_the_one_before() {
        let began = Instant::now();
        let after = |ms| began + Duration::from_millis(ms);
        let held = Held {
            began,
            parts: vec![("close", after(3)), ("changes", after(40))],
        };
        assert_eq!(held.shown(), serde_json::json!({ "close": 3, "changes": 37 }));
    }
}
