//! How long migrations took, as each schema's ledger tells.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tenantry_ops::{DatabaseLedgers, TimedVersion};
use utoipa::ToSchema;

use super::migrations::SiteBody;

/// A migration that a schema has.
#[derive(Serialize, ToSchema)]
#[schema(as = TimedMigration)]
pub(crate) struct TimedBody {
    version: i64,
    /// The file's name when it was applied.
    name: String,
    /// Null where the schema was made with it, all migrations at once.
    duration_ms: Option<i64>,
    applied_at: DateTime<Utc>,
}

impl From<TimedVersion> for TimedBody {
    fn from(row: TimedVersion) -> Self {
        Self {
            version: row.version,
            name: row.name,
            duration_ms: row.duration_ms,
            applied_at: row.applied_at,
        }
    }
}

/// Gives each schema what its ledger says; the databases that did not answer, with the reason.
pub(super) fn tell(sites: &mut [SiteBody], ledgers: Vec<DatabaseLedgers>) -> Vec<String> {
    let mut unreachable = Vec::new();
    let mut found: HashMap<(String, String, String), Vec<TimedBody>> = HashMap::new();
    for ledger in ledgers {
        match ledger.found {
            Err(reason) => unreachable.push(format!("{} {}: {reason}", ledger.server, ledger.database)),
            Ok(rows) => {
                for row in rows {
                    let key = (ledger.server.clone(), ledger.database.clone(), row.schema.clone());
                    found.entry(key).or_default().push(row.into());
                }
            }
        }
    }
    for site in sites {
        site.migrations = found.remove(&site.key());
    }
    unreachable
}
