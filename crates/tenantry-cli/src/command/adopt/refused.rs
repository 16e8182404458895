//! Why a schema is not taken as it is: each refusal on a line of its own.

use serde::Serialize;
use tenantry_engine::migrate::Refusal;
use tenantry_ops::{MigrationError, ServerError};

use super::folder::Written;
use crate::{
    failure::Failure,
    output::{Answer, table},
};

/// How many names a sentence holds before it only counts.
const NAMED_MAX: usize = 8;

/// What isolation refuses in the migrations.
#[derive(Serialize)]
pub(super) struct Refused {
    migration: Written,
    refusals: Vec<Refusal>,
}

impl Refused {
    /// What the command failed with, if that were refusals.
    pub(super) fn of(failure: &Failure, written: &Written) -> Option<Self> {
        let Failure::Failed(error) = failure else {
            return None;
        };
        let text = match (error.downcast_ref(), error.downcast_ref()) {
            (Some(ServerError::Refused { refusals }), _) => refusals,
            (_, Some(MigrationError::Refused(refusals))) => refusals,
            _ => return None,
        };
        let refusals = Refusal::parse_list(text);
        if refusals.is_empty() {
            return None;
        }
        Some(Self {
            migration: written.clone(),
            refusals,
        })
    }

    /// The one line that ends the command.
    pub(super) fn failure(&self) -> Failure {
        let count = match self.refusals.len() {
            1 => "1 statement is".to_owned(),
            count => format!("{count} statements are"),
        };
        Failure::failed(format!(
            "{count} refused, and nothing was made: change them in {} as the list says{}, and run this again",
            self.migration.file,
            self.migration.history()
        ))
    }
}

impl Answer for Refused {
    fn text(&self) -> String {
        let rows = self.refusals.iter().map(|refusal| {
            let place = format!("{}:{}", refusal.file, refusal.line);
            [place, refusal.reason.clone(), refusal.mend.clone()]
        });
        table(["where", "why it is refused", "what to write"], rows)
    }
}

/// The migrations are not those of this source's application, or no longer.
pub(super) fn another_schema(missing: &[String], written: &Written) -> Failure {
    let mut named = missing.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if missing.len() > NAMED_MAX {
        named.push_str(&format!(" and {} more", missing.len() - NAMED_MAX));
    }
    Failure::failed(format!(
        "the migrations beside {} don't make what the source has: {named}{}; no tenant was made. An installation has one \
         application: adopt another application in a folder of its own (delete the migrations and .tenantry here to begin \
         anew), and add what is new in this one by a further migration",
        written.file,
        written.history()
    ))
}
