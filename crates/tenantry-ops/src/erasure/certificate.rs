//! What a certificate says.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tenantry_catalog::{erasure::Verdict, operation::Operation, tenant::Tenant};
use tenantry_core::{InstallationId, OperationId, TenantId};
use tenantry_engine::home::JobCount;
use uuid::Uuid;

use super::ErasureRequest;

/// The first version of the form.
const FORMAT: &str = "tenantry-erasure/1";

/// What was looked for of a purged tenant, where, and what was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Certificate {
    /// Which form this has.
    pub format: String,
    /// Its own id.
    pub id: Uuid,
    /// Whose installation.
    pub installation: String,
    /// The tenant.
    pub tenant: TenantId,
    /// As it was called when it was purged.
    pub slug: String,
    /// When it was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
    /// Until when it could be recovered.
    pub retained_until: Option<DateTime<Utc>>,
    /// The operation that purged it.
    pub purge: Option<OperationId>,
    /// What that dropped beside the rows; `None` where nobody counted it, as in certificates of before it was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub removed: Option<Removed>,
    /// Who had it looked for, as the audit log writes it.
    pub asked_by: String,
    /// When the look began.
    pub begun_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// How many other texts than the id were looked for; not which, for they are the tenant's.
    pub texts: usize,
    /// What was found.
    pub verdict: Verdict,
    /// Each place.
    pub places: Vec<Place>,
    /// What this does not show, as sentences.
    pub not_shown: Vec<String>,
}

/// What a purge dropped beside the rows, as it was counted before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Removed {
    /// Jobs, whatever their state: those that waited were never done.
    pub jobs: u64,
    /// Schedules.
    pub schedules: u64,
    /// Entries of the history of its rows; `None` where the administrator may not count them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub history: Option<u64>,
}

impl Removed {
    pub(crate) fn new(jobs: JobCount, history: Option<u64>) -> Self {
        Self {
            jobs: u64::try_from(jobs.jobs).unwrap_or(0),
            schedules: u64::try_from(jobs.schedules).unwrap_or(0),
            history,
        }
    }

    /// What a purge noted.
    pub(crate) fn noted(purge: &Operation) -> Option<Self> {
        serde_json::from_value(purge.progress.get("removed")?.clone()).ok()
    }

    /// The more of each: a purge that was killed in between, and counts again, finds less.
    pub(crate) fn or_more(self, other: Self) -> Self {
        Self {
            jobs: self.jobs.max(other.jobs),
            schedules: self.schedules.max(other.schedules),
            history: self.history.max(other.history),
        }
    }
}

/// A place where something of a tenant can be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Place {
    /// What kind of place: `catalog`, `server`, `tenant database`, `beside` or `backups`.
    pub kind: String,
    /// Which: the server and the database, or what it is.
    pub name: String,
    /// The database's id, if it is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub database: Option<Uuid>,
    /// How it was looked, each way with what it covered.
    pub looked_at: Vec<LookedAt>,
    /// What names the tenant.
    pub found: Vec<FoundTrace>,
    /// What could not be looked at, as sentences.
    pub not_looked_at: Vec<String>,
}

/// One way of looking.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LookedAt {
    /// `tenant columns`, `every row`, `cleared`, `files`, `objects` or `names`.
    pub how: String,
    /// How many tables, files or objects that covered.
    pub count: u64,
}

/// Something that names the tenant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FoundTrace {
    /// Where: a table, a file, a name.
    pub what: String,
    /// How often.
    pub count: i64,
    /// Why it stays, where it is the record of the purge; what has none is left over.
    pub record: Option<String>,
}

impl Place {
    pub(super) fn new(kind: &str, name: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            name: name.into(),
            database: None,
            looked_at: Vec::new(),
            found: Vec::new(),
            not_looked_at: Vec::new(),
        }
    }

    pub(super) fn looked(&mut self, how: &str, count: u64) {
        let how = how.to_owned();
        self.looked_at.push(LookedAt { how, count });
    }

    pub(super) fn found(&mut self, what: impl Into<String>, count: i64, record: Option<&str>) {
        if count > 0 {
            self.found.push(FoundTrace {
                what: what.into(),
                count,
                record: record.map(str::to_owned),
            });
        }
    }

    pub(super) fn not_looked(&mut self, why: impl Into<String>) {
        self.not_looked_at.push(why.into());
    }

    /// What is there and is no record.
    pub fn left(&self) -> impl Iterator<Item = &FoundTrace> {
        self.found.iter().filter(|trace| trace.record.is_none())
    }
}

impl Certificate {
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a line of the certificate, written down once"
    )]
    pub(super) fn new(
        id: Uuid,
        installation: &InstallationId,
        tenant: &Tenant,
        purge: Option<&Operation>,
        asked_by: String,
        (begun_at, ended_at): (DateTime<Utc>, DateTime<Utc>),
        request: &ErasureRequest,
        places: Vec<Place>,
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            id,
            installation: installation.to_string(),
            tenant: tenant.id,
            slug: tenant.slug.to_string(),
            deleted_at: tenant.deleted_at,
            retained_until: tenant.purge_after,
            purge: purge.map(|purge| purge.id),
            removed: purge.and_then(Removed::noted),
            asked_by,
            begun_at,
            ended_at,
            texts: request.texts.len(),
            verdict: verdict(&places),
            places,
            not_shown: not_shown(request),
        }
    }
}

fn verdict(places: &[Place]) -> Verdict {
    if places.iter().any(|place| place.left().next().is_some()) {
        Verdict::Left
    } else if places.iter().any(|place| !place.not_looked_at.is_empty()) {
        Verdict::NotShown
    } else {
        Verdict::Erased
    }
}

/// What nobody should read into it.
fn not_shown(request: &ErasureRequest) -> Vec<String> {
    let mut not_shown = vec![
        "the audit log names the tenant and what was changed in it: it is the record, and can't be cut without showing",
        "PostgreSQL's log of changes (WAL), standbys and physical backups of the servers keep what they had until they age out or are \
         replaced",
        "backups of the catalog keep the keys of the tenant's backups for as long as they are kept",
        "logs, metrics and consumers of events outside of this installation are not looked at",
        "disks may hold blocks of files that were removed",
    ];
    if !request.every_row && request.texts.is_empty() {
        not_shown.push(
            "in tenant databases rows were told by the column that says whose they are: what other tenants wrote about this one is theirs",
        );
    }
    if !request.all_databases {
        not_shown.push("databases that other tenants have to themselves were not looked into");
    }
    if !request.rewrite {
        not_shown.push(
            "bytes of dead rows can stay within the files of shared tables and indexes, where no query reaches them, until other rows are \
             written over them",
        );
    }
    if !request.read_files {
        not_shown.push("files of the databases were not read");
    }
    not_shown.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leftover_outweighs_what_was_not_seen_and_the_record_is_none() {
        let mut place = Place::new("catalog", "catalog");
        place.found("audit_log", 3, Some("the record"));
        place.found("session", 0, None);
        assert_eq!(verdict(std::slice::from_ref(&place)), Verdict::Erased);
        place.not_looked("one table");
        assert_eq!(verdict(std::slice::from_ref(&place)), Verdict::NotShown);
        place.found("session", 1, None);
        assert_eq!(verdict(&[place]), Verdict::Left);
    }

    #[test]
    fn what_was_done_is_not_among_what_is_not_shown() {
        let said = |request: &ErasureRequest| not_shown(request).join("\n");
        let least = said(&ErasureRequest::default());
        let most = said(&ErasureRequest {
            texts: vec!["canary".to_owned()],
            all_databases: true,
            every_row: true,
            rewrite: true,
            read_files: true,
        });
        for word in ["dead rows", "files of the databases", "to themselves"] {
            assert!(least.contains(word) && !most.contains(word), "{word}");
        }
        assert!(most.contains("WAL"));
    }
}
