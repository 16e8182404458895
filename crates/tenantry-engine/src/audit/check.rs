//! What a check is. Its id, name, severity, title, reason and mend stand in the registry once; findings, SARIF rules and
//! the pages in `docs/audit/` are made from there.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Weakens the isolation, or will when something else changes.
    Warn,
    /// A barrier is missing; others still stand, or the way through can't be shown by itself.
    Error,
    /// The application role can read or change rows of another tenant.
    Critical,
}

impl Severity {
    /// As it is written in options, configuration and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no severity.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a severity is critical, error, warn or info")]
pub struct UnknownSeverity;

impl std::str::FromStr for Severity {
    type Err = UnknownSeverity;

    fn from_str(text: &str) -> Result<Self, UnknownSeverity> {
        [Self::Info, Self::Warn, Self::Error, Self::Critical]
            .into_iter()
            .find(|severity| severity.as_str() == text)
            .ok_or(UnknownSeverity)
    }
}

/// A check of the registry.
#[derive(Debug)]
pub struct Check {
    /// `MT` and three digits; never given to another check.
    pub id: &'static str,
    /// A short name for people who know it.
    pub name: &'static str,
    /// The worst that a finding of it can be.
    pub severity: Severity,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// Why it matters, in one sentence.
    pub why: &'static str,
    /// How to mend it in general; a finding has the statement for its object.
    pub mend: &'static str,
    /// When it fires and when not, where that is not obvious.
    pub notes: &'static str,
}

impl PartialEq for Check {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Check {}
