//! What isolation makes of migrations: steps that run unchanged in every placement.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::migrate::Mode;

/// Isolated migrations, to keep and to replay.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Derived {
    /// The engine that derived them.
    pub engine_version: String,
    /// One per file, lowest first.
    pub versions: Vec<Version>,
    /// What the tables have become, after the last version.
    pub tables: Vec<IsolatedTable>,
    /// All of it as one script for an empty schema, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Finished>,
}

/// What all versions together make of an empty schema, without the way there; see [`finish`](crate::structure::finish()).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// The version of PostgreSQL whose words it is in; on another one the versions are replayed.
    pub server_major: i32,
    /// What runs, in this order, in one transaction.
    pub steps: Vec<Step>,
}

impl Derived {
    /// What a new tenant starts with: the seeds that no later one replaces.
    pub fn seeds(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().filter(|version| {
            version.mode == Mode::Seed
                && !self
                    .versions
                    .iter()
                    .any(|later| later.instead_of == Some(version.version))
        })
    }
}

/// One migration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Version {
    /// Its number.
    pub version: i64,
    /// The file's name.
    pub name: String,
    /// SHA-256 of its text, in hex.
    pub checksum: String,
    /// What it holds.
    pub mode: Mode,
    /// Whether all steps run in one transaction.
    pub transaction: bool,
    /// How long its statements wait for a lock, where its file declares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_timeout: Option<Duration>,
    /// How long one of its statements may run, where its file declares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement_timeout: Option<Duration>,
    /// The seed that this one replaces for tenants to come, by version.
    pub instead_of: Option<i64>,
    /// Whether what comes later needs its commit: a label added to an enum can't be used in the transaction that adds it.
    pub ends_transaction: bool,
    /// Of one tenant's overlay, which is tracked apart: the fleet's migration that it was written on top of.
    pub on_top_of: Option<i64>,
    /// Extensions that the administrator installs before it runs.
    pub extensions: Vec<String>,
    /// What runs, in this order.
    pub steps: Vec<Step>,
    /// What isolation changed, for people to read.
    pub notes: Vec<Note>,
}

impl Version {
    /// Whether it belongs to one tenant's overlay.
    #[must_use]
    pub fn is_overlay(&self) -> bool {
        self.on_top_of.is_some()
    }
}

/// The fleet's versions and one tenant's own among them, in the order in which a placement gets them that has none yet:
/// each of its own behind the one that it was written on top of.
pub fn in_order<'a>(
    fleet: impl IntoIterator<Item = &'a Version>,
    own: impl IntoIterator<Item = &'a Version>,
) -> Vec<&'a Version> {
    let mut fleet = fleet.into_iter().peekable();
    let mut all = Vec::new();
    for version in own {
        while let Some(before) = fleet.next_if(|before| Some(before.version) <= version.on_top_of) {
            all.push(before);
        }
        all.push(version);
    }
    all.extend(fleet);
    all
}

/// One statement for a placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Line of the source statement.
    pub line: u32,
    /// Whether it can be left out where no table holds a row yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_filled: bool,
    /// The statement.
    #[serde(flatten)]
    pub act: Act,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Runs this text as the owner, with the placement's schema first on the search path.
    Sql(String),
    /// Makes an index outside a transaction; what a failed attempt left behind is dropped first.
    Concurrent {
        /// The index.
        index: String,
        /// The statement without `concurrently`, as it runs where no table holds a row.
        sql: String,
    },
    /// Grants to a role whose name differs from database to database.
    Grant {
        /// `select, insert`.
        privileges: String,
        /// `contacts`, `sequence contacts_id_seq`.
        on: String,
        /// To whom.
        to: Grantee,
    },
}

/// Roles by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grantee {
    /// The application's role of the tenant database.
    Application,
    /// The role that moves tenants and runs data migrations over all of them.
    Mover,
}

/// A sentence about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Line of the source statement.
    pub line: u32,
    /// The table, view or function.
    pub object: String,
    /// What happened to it.
    pub text: String,
}

/// A table as it stands in every placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsolatedTable {
    /// Its name.
    pub name: String,
    /// Whether it is a reference table: one content for all tenants.
    pub reference: bool,
    /// Its columns in their order, `tenant_id` not among them.
    pub columns: Vec<String>,
    /// Columns that are never written: generated ones.
    pub generated: Vec<String>,
    /// The table of which it is a partition.
    pub partition_of: Option<String>,
    /// Tables that its foreign keys point to.
    pub references: Vec<String>,
    /// Sequences and the columns they fill.
    pub sequences: Vec<FilledColumn>,
}

/// A column that a sequence fills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilledColumn {
    /// The column.
    pub column: String,
    /// The sequence.
    pub sequence: String,
}
