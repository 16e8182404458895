//! An answer, and what a test expects of it.

use reqwest::header::HeaderMap;
use serde_json::Value;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) request: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body, of an answer with this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.request, self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// The problem, of a refusal with this status and code, which says nothing internal.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        let what = format!("{}: {}", self.request, self.text);
        let problem = self.json();
        assert_eq!((self.status, problem["code"].as_str()), (status, Some(code)), "{what}");
        assert_eq!(self.headers["content-type"], "application/problem+json", "{what}");
        assert_eq!(problem["status"], status, "{what}");
        assert!(
            problem["title"].is_string() && problem["detail"].is_string() && problem["type"].is_string(),
            "{what}"
        );
        assert_eq!(
            problem["request_id"].as_str(),
            self.headers["x-request-id"].to_str().ok(),
            "{what}"
        );
        if [429, 503].contains(&status) {
            assert!(self.headers.contains_key("retry-after"), "{what}");
        }
        for word in [
            "tenantry_private",
            "tenant_id =",
            "row-level",
            "SQLSTATE",
            "constraint",
            "panicked",
            "src/",
            "tn_",
        ] {
            assert!(!self.text.contains(word), "{word} is internal: {what}");
        }
        problem
    }

    /// The pointers of a refusal's field errors, sorted.
    #[track_caller]
    pub(crate) fn refused_fields(self, status: u16, code: &str) -> Vec<String> {
        let problem = self.refused(status, code);
        let errors = problem["errors"].as_array().expect("errors");
        let mut pointers: Vec<_> = errors
            .iter()
            .map(|error| error["pointer"].as_str().unwrap().to_owned())
            .collect();
        pointers.sort();
        pointers
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{}: {error}: {}", self.request, self.text))
    }
}
