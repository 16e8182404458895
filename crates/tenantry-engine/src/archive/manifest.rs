//! What an archive says of itself.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenantry_core::{Isolation, TenantId};

use super::Tally;

/// The format that this program writes, and the newest that it reads.
pub const FORMAT: u16 = 1;

/// What an archive says of itself: `manifest.json`, the last of its files.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The archive's format.
    pub format: u16,
    /// The program that wrote it.
    pub program: String,
    /// The installation that wrote it.
    pub installation: String,
    /// Whose rows it holds.
    pub tenant: TenantHead,
    /// The moment of which it is: the start of the transaction that read it.
    pub taken_at: DateTime<Utc>,
    /// PostgreSQL's version where it was read, as in `server_version_num`.
    pub server_version: i32,
    /// The migrations that the tables had, lowest first.
    pub migrations: Vec<Migrated>,
    /// The tenant's own migrations among them, lowest first.
    pub own_migrations: Vec<Migrated>,
    /// Migrations of data that the rows have and the tables had not, since others were still to get them, lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<i64>,
    /// The tables, parents before those that refer to them.
    pub tables: Vec<PackedTable>,
    /// Whether the rows are there as CSV too, below `csv/`.
    pub csv: bool,
    /// What the tenant has beside, which is not in the archive.
    pub left_out: LeftOut,
}

/// The tenant that an archive is of.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TenantHead {
    /// Its id.
    pub id: TenantId,
    /// Its label.
    pub slug: String,
    /// What people call it.
    pub name: String,
    /// The plan it paid for.
    pub plan: String,
    /// Its settings.
    pub settings: Value,
    /// How its rows were kept apart.
    pub isolation: Isolation,
}

/// A migration that tables had.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Migrated {
    /// Its number.
    pub version: i64,
    /// The file's name.
    pub name: String,
    /// SHA-256 of its text, in hex.
    pub checksum: String,
}

/// A table and its columns as they stand in the archive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableHead {
    /// Its name.
    pub name: String,
    /// The columns of its rows, in their order: all that store values, `tenant_id` not among them.
    pub columns: Vec<Column>,
    /// The columns of its primary key, `tenant_id` not among them; empty where it has none.
    pub key: Vec<String>,
    /// How far the sequences are that fill its columns.
    pub sequences: Vec<SequenceValue>,
    /// Which of its columns refer to which, as its foreign keys say; `None` in an archive of before they were written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<Vec<Reference>>,
}

/// A column that refers to another one. That each is of the same tenant goes without saying.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Reference {
    /// The column.
    pub column: String,
    /// The table that it refers to; `None` where that is no tenant's, but the same for all.
    pub table: Option<String>,
    /// The column there.
    pub to: String,
}

/// A column.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as PostgreSQL writes it.
    pub r#type: String,
    /// Whether it is never null.
    pub required: bool,
}

/// How far a sequence is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SequenceValue {
    /// The column that it fills.
    pub column: String,
    /// The largest value of the tenant's, or the sequence's own where it belongs to the tenant alone; `None` where there is none yet.
    pub value: Option<i64>,
}

/// A table in an archive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PackedTable {
    /// What it is.
    #[serde(flatten)]
    pub head: TableHead,
    /// The folder with its rows: `data/<folder>/<number>.copy`, one after the other COPY's text format.
    pub folder: String,
    /// How many rows.
    pub rows: u64,
    /// How many bytes in COPY's text format.
    pub bytes: u64,
    /// SHA-256 of these bytes, in hex.
    pub sha256: String,
    /// The checksum that does not depend on the order of rows: the sum, modulo 2^128, of the first 16 bytes of each line's SHA-256.
    pub checksum: String,
}

impl PackedTable {
    pub(super) fn new(head: TableHead, folder: String, tally: &Tally) -> Self {
        Self {
            head,
            folder,
            rows: tally.rows,
            bytes: tally.bytes,
            sha256: tally.sha256(),
            checksum: tally.checksum(),
        }
    }

    /// Whether these rows were counted.
    pub fn is(&self, tally: &Tally) -> bool {
        (self.rows, self.bytes, &self.checksum) == (tally.rows, tally.bytes, &tally.checksum())
    }
}

/// What a tenant has beside its rows, and is not in the archive.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LeftOut {
    /// Jobs: a copy that ran them would send the same mails again.
    pub jobs: u64,
    /// Schedules: as jobs.
    pub schedules: u64,
    /// Entries of the history of its rows, which is of these rows where they stand: a copy begins its own. `None` where the administrator may
    /// not count them, and in an archive of before they were counted.
    #[serde(default)]
    pub history: Option<u64>,
    /// Tables with rows that stand for something outside of the database, as the library's list of files does.
    pub lists_of_files: Vec<String>,
}

impl Manifest {
    /// How many rows it has in all.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// How many bytes they are in COPY's text format.
    pub fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes).sum()
    }
}
