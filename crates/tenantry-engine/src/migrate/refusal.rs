//! What a migration may not do, said with the place, the reason and the mend.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing in a migration that would break isolation, or that cannot be carried to every placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The file's name, `NNNN_name.sql`.
    pub file: String,
    /// Line of the statement or name, counted from 1.
    pub line: u32,
    /// Why it is refused.
    pub reason: String,
    /// What to write instead.
    pub mend: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.file, self.line, self.reason, self.mend)
    }
}

/// Writes each refusal on a line of its own.
pub(crate) fn list(refusals: &[Refusal]) -> String {
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
