//! What differs, in words and as SQL.

use serde::Serialize;

/// How something differs from what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It should be there.
    Missing,
    /// It should not be there.
    Extra,
    /// It is there, in another form.
    Changed,
}

/// What can be done about a difference without anybody looking at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Its statements run in a transaction; no row can be lost and no table is read whole under a lock that others wait for.
    Safe,
    /// The same outside of a transaction: an index that is built while the table is written.
    SafeAlone,
    /// Nothing: the sentence says why, and what to do.
    Refused(String),
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `index contacts_phone_idx on contacts`.
    pub object: String,
    /// How it differs.
    pub change: Change,
    /// What to run to get back, in this order, as the owner and with the schema first on the search path.
    pub sql: Vec<String>,
    /// Whether a repair runs it.
    pub remedy: Remedy,
}

impl Difference {
    /// Whether a repair runs it.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        !matches!(self.remedy, Remedy::Refused(_))
    }
}
