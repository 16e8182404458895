//! Runs pending versions for real where nobody is: which locks they take, which tables they rewrite, and which they read whole.
//!
//! The tables are empty there, and what PostgreSQL does with them is the same: a lock is a lock, a rewrite makes a new file,
//! and a scan is counted also where it finds nothing.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use crate::{
    isolate::{Act, Note, Step, Version},
    migrate::{self, ApplyError, Building, Mode, Patience, Target},
};

/// A lock on a table that stood before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lock {
    /// The table, view or sequence.
    pub table: String,
    /// `AccessExclusiveLock`.
    pub mode: String,
    /// Whether queries of the application wait for it: reads, or writes only.
    pub blocks: Option<&'static str>,
}

/// What one version did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rehearsed {
    /// Its number.
    pub version: i64,
    /// The file's name.
    pub name: String,
    /// Whether it holds rows, not definitions; such a file was not run.
    pub data: bool,
    /// The strongest lock on each table that stood before.
    pub locks: Vec<Lock>,
    /// Tables and indexes that it writes anew.
    pub rewrites: Vec<String>,
    /// Tables whose rows it reads, all of them: validations, building indexes.
    pub scans: Vec<String>,
    /// What isolation made of it, for people to read.
    pub notes: Vec<Note>,
}

/// Lock modes, weakest first.
const MODES: [&str; 8] = [
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
];

/// What stands before a version.
const BEFORE: &str = "
select c.oid, c.relname::text, c.relkind::text, pg_relation_filenode(c.oid), pg_stat_get_xact_numscans(c.oid)
  from pg_class c
 where c.relnamespace = $1::text::regnamespace and c.relkind in ('r', 'p', 'm', 'i', 'v', 'S')";

/// The locks of this transaction.
const LOCKS: &str = "
select relation, mode from pg_locks where pid = pg_backend_pid() and locktype = 'relation' and granted";

struct Relation {
    name: String,
    kind: String,
    file: Option<u32>,
    scans: i64,
}

type Relations = BTreeMap<u32, Relation>;

/// Runs the versions one after the other in a schema that has what comes before them.
///
/// # Errors
///
/// The step that fails, with its file and line.
///
/// # Cancel safety
///
/// Dropping the future leaves the schema half done; throw it away.
pub async fn rehearse<'a>(
    client: &Client,
    target: &Target,
    versions: impl IntoIterator<Item = &'a Version>,
) -> Result<Vec<Rehearsed>, ApplyError> {
    let mut rehearsed = Vec::new();
    for version in versions {
        migrate::install(client, &[version]).await?;
        let mut seen = Seen::default();
        if version.mode == Mode::Schema {
            for steps in version
                .steps
                .chunk_by(|a, b| version.transaction && !stands_alone(a) && !stands_alone(b))
            {
                seen.run(client, target, version, steps).await?;
            }
        }
        rehearsed.push(seen.told(version));
    }
    Ok(rehearsed)
}

fn stands_alone(step: &Step) -> bool {
    matches!(step.act, Act::Concurrent { .. }) || migrate::is_alone(step)
}

/// What was seen so far, by name.
#[derive(Default)]
struct Seen {
    locks: BTreeMap<String, usize>,
    rewrites: Vec<String>,
    scans: Vec<String>,
}

impl Seen {
    async fn run(
        &mut self,
        client: &Client,
        target: &Target,
        version: &Version,
        steps: &[Step],
    ) -> Result<(), ApplyError> {
        let alone = steps.iter().any(stands_alone);
        if alone {
            return self.run_alone(client, target, version, steps).await;
        }
        let head = migrate::begin(target, &Patience::default());
        client.batch_execute(&head).await?;
        let before = relations(client, target).await?;
        client.batch_execute(&migrate::act_as(&target.owner)).await?;
        for step in steps {
            let ran = client
                .batch_execute(&migrate::statement(target, step, Building::Plainly))
                .await;
            if let Err(error) = ran {
                migrate::roll_back(client).await?;
                return Err(failed(version, step, error));
            }
        }
        let locks = client.query(LOCKS, &[]).await?;
        for row in locks {
            let (oid, mode): (u32, String) = (row.get(0), row.get(1));
            if let (Some(relation), Some(mode)) = (before.get(&oid), MODES.iter().position(|known| *known == mode)) {
                self.lock(relation, mode);
            }
        }
        self.compare(client, target, &before).await?;
        Ok(client.batch_execute("commit").await?)
    }

    /// Such a statement ends its transactions itself, and its locks with them: they are those of PostgreSQL's manual.
    async fn run_alone(
        &mut self,
        client: &Client,
        target: &Target,
        version: &Version,
        steps: &[Step],
    ) -> Result<(), ApplyError> {
        let before = relations(client, target).await?;
        client
            .batch_execute(&format!(
                "set role {}; set search_path = {}, tenantry_ext",
                target.owner, target.schema
            ))
            .await?;
        let mut failure = None;
        for step in steps {
            let ran = client
                .batch_execute(&migrate::statement(target, step, Building::Concurrently))
                .await;
            if let Err(error) = ran {
                failure = Some(failed(version, step, error));
                break;
            }
            if let Act::Concurrent { index, .. } = &step.act {
                let table = client
                    .query_opt(
                        "select i.indrelid from pg_index i join pg_class c on c.oid = i.indexrelid
                          where c.relname = $1 and c.relnamespace = $2::text::regnamespace",
                        &[index, &target.schema.to_string()],
                    )
                    .await?;
                if let Some(relation) = table.and_then(|row| before.get(&row.get::<_, u32>(0))) {
                    self.lock(relation, 3);
                    push(&mut self.scans, &relation.name);
                }
            }
        }
        client.batch_execute("reset role; reset search_path").await?;
        match failure {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn lock(&mut self, relation: &Relation, mode: usize) {
        if relation.kind != "i" {
            let strongest = self.locks.entry(relation.name.clone()).or_default();
            *strongest = mode.max(*strongest);
        }
    }

    /// What has another file now is written anew, and what was read is counted.
    async fn compare(&mut self, client: &Client, target: &Target, before: &Relations) -> Result<(), ApplyError> {
        for (oid, now) in relations(client, target).await? {
            let Some(then) = before.get(&oid) else { continue };
            if then.file.is_some() && now.file != then.file {
                push(&mut self.rewrites, &then.name);
            }
            if matches!(then.kind.as_str(), "r" | "m") && now.scans > then.scans {
                push(&mut self.scans, &then.name);
            }
        }
        Ok(())
    }

    fn told(self, version: &Version) -> Rehearsed {
        let data = version.mode != Mode::Schema;
        let mut notes = version.notes.clone();
        // Without tenants and rows it would do nothing there; that PostgreSQL takes it was found out when it was derived.
        notes.extend(data.then(|| Note {
            line: 1,
            object: version.name.clone(),
            text: "not run on the copy: it works on rows, and how long that takes depends on them".to_owned(),
        }));
        Rehearsed {
            version: version.version,
            name: version.name.clone(),
            data,
            locks: self
                .locks
                .into_iter()
                .map(|(table, mode)| Lock {
                    table,
                    mode: MODES[mode].to_owned(),
                    blocks: match mode {
                        7 => Some("reads and writes"),
                        4..=6 => Some("writes"),
                        _ => None,
                    },
                })
                .collect(),
            rewrites: self.rewrites,
            scans: self.scans,
            notes,
        }
    }
}

async fn relations(client: &Client, target: &Target) -> Result<Relations, ApplyError> {
    let rows = client.query(BEFORE, &[&target.schema.to_string()]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let relation = Relation {
                name: row.get(1),
                kind: row.get(2),
                file: row.get(3),
                scans: row.get(4),
            };
            (row.get(0), relation)
        })
        .collect())
}

fn push(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

fn failed(version: &Version, step: &Step, error: tokio_postgres::Error) -> ApplyError {
    match error.as_db_error() {
        Some(database) => ApplyError::Step {
            file: version.name.clone(),
            line: step.line,
            message: database.message().to_owned(),
        },
        None => ApplyError::Database(error),
    }
}
