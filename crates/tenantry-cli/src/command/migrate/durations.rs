//! `tenantry migrate status --durations`: how long each migration took, by schema and over the fleet.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use tenantry_ops::{DatabaseLedgers, TimedVersion};

use super::Site;
use crate::output::table;

/// A migration that a schema has.
#[derive(Serialize)]
pub(super) struct TimedMigration {
    version: i64,
    name: String,
    /// None where the schema was made with it, all migrations at once.
    duration_ms: Option<i64>,
    applied_at: String,
}

impl From<TimedVersion> for TimedMigration {
    fn from(row: TimedVersion) -> Self {
        Self {
            version: row.version,
            name: row.name,
            duration_ms: row.duration_ms,
            applied_at: row.applied_at.to_rfc3339(),
        }
    }
}

/// A database that could not be asked, and why.
pub(super) struct Silent {
    pub(super) database: String,
    pub(super) reason: String,
}

/// Gives each schema what its ledger says.
pub(super) fn tell(sites: &mut [Site], ledgers: Vec<DatabaseLedgers>) -> Vec<Silent> {
    let mut silent = Vec::new();
    let mut found: HashMap<(String, String, String), Vec<TimedMigration>> = HashMap::new();
    for ledger in ledgers {
        match ledger.found {
            Err(reason) => silent.push(Silent {
                database: ledger.database,
                reason,
            }),
            Ok(rows) => {
                for row in rows {
                    let key = (ledger.server.clone(), ledger.database.clone(), row.schema.clone());
                    found.entry(key).or_default().push(row.into());
                }
            }
        }
    }
    for site in sites {
        let key = (site.server.clone(), site.database.clone(), site.schema.clone());
        site.migrations = found.remove(&key);
    }
    silent
}

/// A line for each migration that took its time somewhere.
pub(super) fn text(sites: &[Site]) -> String {
    let mut taken: BTreeMap<(i64, &str), Vec<(i64, String)>> = BTreeMap::new();
    for site in sites {
        for migration in site.migrations.iter().flatten() {
            if let Some(ms) = migration.duration_ms {
                let of = taken.entry((migration.version, migration.name.as_str())).or_default();
                of.push((ms, site.tenant()));
            }
        }
    }
    let rows = taken.into_iter().filter_map(|((_, name), mut taken)| {
        taken.sort_unstable();
        let (median, _) = taken.get(taken.len() / 2)?;
        let (longest, at) = taken.last()?;
        Some([
            name.to_owned(),
            taken.len().to_string(),
            format!("{median} ms"),
            format!("{longest} ms"),
            at.clone(),
        ])
    });
    table(["migration", "timed in", "median", "longest", "at"], rows)
}
