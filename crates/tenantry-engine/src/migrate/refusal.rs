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

impl Refusal {
    /// Reads refusals again from the text in which they were listed, a line each. A line that is none goes on with the sentence of
    /// the one before it, or else is left out.
    #[must_use]
    pub fn parse_list(text: &str) -> Vec<Self> {
        let mut refusals: Vec<Self> = Vec::new();
        for line in text.lines() {
            match (Self::parse(line), refusals.last_mut()) {
                (Some(refusal), _) => refusals.push(refusal),
                (None, Some(before)) => before.mend = format!("{} {}", before.mend, line.trim()).trim().to_owned(),
                (None, None) => {}
            }
        }
        refusals
    }

    fn parse(line: &str) -> Option<Self> {
        let (place, said) = line.split_once(": ")?;
        let (file, line) = place.rsplit_once(':')?;
        // What PostgreSQL refuses comes without a mend of ours.
        let (reason, mend) = said.split_once("; ").unwrap_or((said, ""));
        Some(Self {
            file: file.to_owned(),
            line: line.parse().ok()?,
            reason: reason.to_owned(),
            mend: mend.to_owned(),
        })
    }
}

/// Writes each refusal on a line of its own.
pub(crate) fn list(refusals: &[Refusal]) -> String {
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_refusals_is_read_again() {
        let refusal = |line: u32, mend: &str| Refusal {
            file: "0001_adopted.sql".to_owned(),
            line,
            reason: "a rule can't be isolated".to_owned(),
            mend: mend.to_owned(),
        };
        let all = [refusal(3, "write a trigger; or a view"), refusal(14, "leave it out")];
        assert_eq!(Refusal::parse_list(&list(&all)), all);
        let plain = Refusal::parse_list("0001_adopted.sql:7: type \"x\" does not exist\nLINE 1");
        assert_eq!((plain[0].line, plain[0].mend.as_str()), (7, "LINE 1"));
        assert_eq!(Refusal::parse_list("the server is away: try again"), []);
    }
}
