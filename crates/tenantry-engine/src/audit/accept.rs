//! Findings that somebody looked at and accepts, each with a reason and a day on which it is looked at again.

use chrono::NaiveDate;
use serde::Deserialize;

use super::{Report, registry};

/// One accepted finding.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// The check's id.
    pub id: String,
    /// The object as the finding says it; a `*` at the end stands for any rest.
    pub object: String,
    /// Why it is fine.
    pub reason: String,
    /// From this day on it is a finding again.
    pub expires: NaiveDate,
    /// Only in this database.
    #[serde(default)]
    pub database: Option<String>,
}

impl Accepted {
    fn covers(&self, database: &str, id: &str, object: &str) -> bool {
        let object_matches = match self.object.strip_suffix('*') {
            Some(beginning) => object.starts_with(beginning),
            None => object == self.object,
        };
        self.id == id && object_matches && self.database.as_deref().is_none_or(|only| only == database)
    }
}

/// What is wrong with an acceptance.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptedError {
    /// No such check.
    #[error("accepted finding of {0}: there is no such check")]
    UnknownCheck(String),
    /// Without a reason nobody can look at it again.
    #[error("accepted finding of {id} on {object}: say the reason")]
    NoReason {
        /// The check.
        id: String,
        /// The object.
        object: String,
    },
}

/// An acceptance that no longer serves.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "why")]
pub enum Leftover {
    /// Its day has come: the finding counts again.
    Expired {
        /// The check.
        id: String,
        /// The object.
        object: String,
        /// The day.
        expires: NaiveDate,
    },
    /// Nothing is found that it would cover.
    Unused {
        /// The check.
        id: String,
        /// The object.
        object: String,
    },
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Expired { id, object, expires } => {
                write!(
                    f,
                    "the acceptance of {id} on {object} ended on {expires}: mend it, or look at it again"
                )
            }
            Self::Unused { id, object } => write!(
                f,
                "nothing is found that the acceptance of {id} on {object} covers: remove it"
            ),
        }
    }
}

/// All of them, and which were used so far.
#[derive(Clone, Debug, Default)]
pub struct Acceptances {
    all: Vec<(Accepted, bool)>,
}

impl Acceptances {
    /// Checks them.
    ///
    /// # Errors
    ///
    /// Where one names no check or gives no reason.
    pub fn new(all: Vec<Accepted>) -> Result<Self, AcceptedError> {
        for accepted in &all {
            if registry::check(&accepted.id).is_none() {
                return Err(AcceptedError::UnknownCheck(accepted.id.clone()));
            }
            if accepted.reason.trim().is_empty() {
                return Err(AcceptedError::NoReason {
                    id: accepted.id.clone(),
                    object: accepted.object.clone(),
                });
            }
        }
        Ok(Self {
            all: all.into_iter().map(|accepted| (accepted, false)).collect(),
        })
    }

    /// Marks what they cover.
    pub fn apply(&mut self, report: &mut Report, today: NaiveDate) {
        for finding in &mut report.findings {
            for (accepted, used) in &mut self.all {
                if accepted.covers(&report.database, finding.id, &finding.object) {
                    *used = true;
                    if today < accepted.expires {
                        finding.accepted = Some(accepted.reason.clone());
                    }
                }
            }
        }
    }

    /// Those that expired, and those that covered nothing in any report.
    pub fn leftovers(&self, today: NaiveDate) -> Vec<Leftover> {
        let leftover = |(accepted, used): &(Accepted, bool)| {
            let (id, object) = (accepted.id.clone(), accepted.object.clone());
            if today >= accepted.expires {
                Some(Leftover::Expired {
                    id,
                    object,
                    expires: accepted.expires,
                })
            } else {
                (!used).then_some(Leftover::Unused { id, object })
            }
        };
        self.all.iter().filter_map(leftover).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Finding;
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().expect("is a day")
    }

    fn accepted(id: &str, object: &str, expires: &str) -> Accepted {
        Accepted {
            id: id.to_owned(),
            object: object.to_owned(),
            reason: "looked at".to_owned(),
            expires: day(expires),
            database: None,
        }
    }

    #[test]
    fn an_acceptance_covers_its_object_until_its_day() {
        let mut report = Report {
            database: "crm".to_owned(),
            server_version: 150_000,
            tenant_tables: 1,
            findings: vec![
                Finding::new("MT001", "app.note", "m", "s"),
                Finding::new("MT001", "app.notes", "m", "s"),
                Finding::new("MT003", "old.task", "m", "s"),
            ],
        };
        let mut all = Acceptances::new(vec![
            accepted("MT001", "app.note", "2027-01-01"),
            accepted("MT003", "old.*", "2026-01-01"),
            accepted("MT010", "app.*", "2027-01-01"),
        ])
        .expect("are right");
        let today = day("2026-06-01");
        all.apply(&mut report, today);
        let covered: Vec<bool> = report
            .findings
            .iter()
            .map(|finding| finding.accepted.is_some())
            .collect();
        assert_eq!(covered, [true, false, false]);
        let left = all.leftovers(today);
        assert!(
            matches!(&left[0], Leftover::Expired { id, .. } if id == "MT003"),
            "{left:?}"
        );
        assert!(
            matches!(&left[1], Leftover::Unused { id, .. } if id == "MT010"),
            "{left:?}"
        );
        assert_eq!(left.len(), 2);
    }

    #[test]
    fn an_acceptance_without_a_check_or_a_reason_is_refused() {
        assert!(Acceptances::new(vec![accepted("MT999", "x", "2027-01-01")]).is_err());
        let mut silent = accepted("MT001", "x", "2027-01-01");
        silent.reason = " ".to_owned();
        assert!(Acceptances::new(vec![silent]).is_err());
    }
}
