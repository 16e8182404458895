//! What an audit finds.

use serde::Serialize;

use super::{
    check::{Check, Severity},
    prove::{Proof, Weakness},
    registry,
};

/// One thing that is wrong with one object.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The check's id.
    pub id: &'static str,
    /// The check's short name.
    pub name: &'static str,
    /// How bad it is here; never worse than the check's.
    pub severity: Severity,
    /// What it is about: `schema.table`, `schema.table.policy`, a role.
    pub object: String,
    /// What is wrong.
    pub message: String,
    /// Why it matters, in a sentence.
    pub why: &'static str,
    /// The mend as SQL, where SQL can mend it.
    pub mend: String,
    /// What the exploit showed, where one was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// Accepted by the configuration, with this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
    /// How it could be used.
    #[serde(skip)]
    pub(super) weakness: Option<Weakness>,
}

impl Finding {
    /// The check that made it.
    pub fn check(&self) -> &'static Check {
        registry::check(self.id).expect("a finding is made of a check of the registry")
    }

    /// A finding of a check of the registry.
    ///
    /// # Panics
    ///
    /// Where there is no such check.
    pub fn new(id: &str, object: impl Into<String>, message: impl Into<String>, mend: impl Into<String>) -> Self {
        let check = registry::check(id).unwrap_or_else(|| panic!("the check {id} is in the registry"));
        Self {
            id: check.id,
            name: check.name,
            severity: check.severity,
            object: object.into(),
            message: message.into(),
            why: check.why,
            mend: mend.into(),
            proof: None,
            accepted: None,
            weakness: None,
        }
    }

    /// The same, less bad.
    #[must_use]
    pub fn at(mut self, severity: Severity) -> Self {
        self.severity = severity.min(self.severity);
        self
    }

    pub(super) fn usable_by(mut self, weakness: Weakness) -> Self {
        self.weakness = Some(weakness);
        self
    }
}
