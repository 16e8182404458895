//! `tenantry migrate status --reconcile`: what the catalog believed of the ledgers, and was corrected.

use serde::Serialize;
use tenantry_ops::{Correction, Mistake, Reconciled};

use super::durations::Silent;
use crate::output::table;

/// What became of the catalog's copy.
#[derive(Serialize)]
pub(super) struct Reconciliation {
    /// How many databases there are.
    databases: usize,
    /// How many migrations the catalog was wrong about.
    corrected: u64,
    /// Those about which it was wrong, and those that did not answer.
    items: Vec<Database>,
}

#[derive(Serialize)]
struct Database {
    server: String,
    database: String,
    corrected: u64,
    /// A hundred at most.
    corrections: Vec<Line>,
    error: Option<String>,
}

#[derive(Serialize)]
struct Line {
    schema: String,
    version: i64,
    name: String,
    /// `missing`, `extra` or `changed`.
    mistake: Mistake,
}

impl From<Correction> for Line {
    fn from(correction: Correction) -> Self {
        Self {
            schema: correction.schema,
            version: correction.version,
            name: correction.name,
            mistake: correction.mistake,
        }
    }
}

impl From<Reconciled> for Database {
    fn from(reconciled: Reconciled) -> Self {
        Self {
            server: reconciled.server,
            database: reconciled.database,
            corrected: reconciled.corrected,
            corrections: reconciled.corrections.into_iter().map(Line::from).collect(),
            error: reconciled.error,
        }
    }
}

impl Reconciliation {
    pub(super) fn new(reconciled: Vec<Reconciled>) -> Self {
        Self {
            databases: reconciled.len(),
            corrected: reconciled.iter().map(|database| database.corrected).sum(),
            items: reconciled
                .into_iter()
                .filter(Reconciled::is_news)
                .map(Database::from)
                .collect(),
        }
    }

    /// The databases that did not answer.
    pub(super) fn silent(&self) -> Vec<Silent> {
        let told = self.items.iter().filter_map(|item| {
            Some(Silent {
                database: item.database.clone(),
                reason: item.error.clone()?,
            })
        });
        told.collect()
    }

    /// A line for each migration that the catalog was wrong about; nothing where it was right.
    pub(super) fn text(&self) -> Option<String> {
        if self.corrected == 0 {
            return None;
        }
        let rows = self.items.iter().flat_map(|item| {
            item.corrections.iter().map(move |line| {
                let was = match line.mistake {
                    Mistake::Missing => "not there",
                    Mistake::Extra => "there",
                    _ => "another one",
                };
                [
                    item.server.clone(),
                    item.database.clone(),
                    line.schema.clone(),
                    line.name.clone(),
                    was.to_owned(),
                ]
            })
        });
        let rows = table(["server", "database", "schema", "migration", "believed to be"], rows);
        let told: usize = self.items.iter().map(|item| item.corrections.len()).sum();
        let more = match self.corrected - told as u64 {
            0 => String::new(),
            more => format!("\nand {more} more"),
        };
        Some(format!(
            "the catalog was wrong about {} migrations:\n{rows}{more}",
            self.corrected
        ))
    }
}
