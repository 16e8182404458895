//! A new migration from a desired schema, by the comparison that finds drift.

use std::collections::BTreeSet;

use tenantry_core::OperatorScope;
use tenantry_engine::{
    Roles,
    home::ScratchDatabase,
    isolate::{self, DeriveError, Derived},
    migrate::{Files, Target},
    structure::{self, Order, Stage, Structure, Written},
};
use tenantry_sql::Identifier;

use super::MigrationError;
use crate::{Authority, Ops};

/// Migrations that lead from the configured ones to a desired schema.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiffedMigration {
    /// In their order; none where the schemas differ in nothing. What has to see another one committed, or can't run in a transaction,
    /// has a file of its own.
    pub files: Vec<DiffedFile>,
    /// What is done, and what is not, in this order.
    pub statements: Vec<Written>,
    /// What still differs after it, beyond what was refused.
    pub remaining: Vec<String>,
}

/// One of the files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiffedFile {
    /// `0007_phone.sql`.
    pub name: String,
    /// Its text; statements that are not done stand there as comments with the reason.
    pub text: String,
}

impl DiffedMigration {
    /// All files as one text, for people; where there are several each has its name above.
    #[must_use]
    pub fn text(&self) -> String {
        match self.files.as_slice() {
            [only] => only.text.clone(),
            files => {
                let named = files.iter().map(|file| format!("-- {}\n{}", file.name, file.text));
                named.collect::<Vec<_>>().join("\n")
            }
        }
    }

    /// Whether the schemas differed in nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Whether it leads all the way.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.remaining.is_empty() && self.statements.iter().all(|statement| statement.refused.is_none())
    }
}

/// A plain schema, and which of its tables are reference tables.
struct Plain {
    structure: Structure,
    order: Order,
    derived: Derived,
}

impl Ops {
    /// Writes the migrations that make of the configured ones' schema the desired one: plain SQL, as for a single customer, and such
    /// that nobody waits where PostgreSQL has a way: see [`Stage`]. They are tried: they have to be isolated like any other, and what
    /// is then still different is told. Nothing of the fleet is touched.
    ///
    /// # Errors
    /// See [`MigrationError`]; [`MigrationError::Refused`] also where the desired schema can't be isolated.
    ///
    /// # Cancel safety
    /// The next run drops the scratch databases.
    pub async fn diff_migrations(
        &self,
        authority: &Authority,
        desired: &str,
        name: &str,
    ) -> Result<DiffedMigration, MigrationError> {
        authority.require_operator(OperatorScope::Migrations)?;
        let files = self.fleet().migrations.clone().ok_or(MigrationError::NoMigrations)?;
        let desired = Files::from_embedded([("0001_desired_schema.sql", desired)]).map_err(refused)?;
        let mut servers = self.scratch_servers().await?;
        loop {
            let scratch = self.next_scratch(&mut servers).await?;
            let diffed = self.diff_on(&scratch, &files, &desired, name).await;
            scratch.remove().await;
            match diffed {
                Err(MigrationError::Server(_)) if !servers.is_empty() => {}
                other => return other,
            }
        }
    }

    async fn diff_on(
        &self,
        scratch: &ScratchDatabase,
        files: &Files,
        desired: &Files,
        name: &str,
    ) -> Result<DiffedMigration, MigrationError> {
        let now = self.plain(scratch, files).await?;
        let wanted = self.plain(scratch, desired).await?;
        let target = self.twin();
        let statements = structure::write(&now.structure, &wanted.structure, &wanted.order, &target);
        let last = files.as_slice().last();
        let number = last.map_or(1, |file| file.version + 1);
        let written = written(&statements, &references(&now, &wanted), number, name);
        let mut remaining: Vec<String> = Vec::new();
        if statements.iter().any(|statement| statement.refused.is_none()) {
            let all = files
                .as_slice()
                .iter()
                .map(|file| (file.name.clone(), file.text.clone()));
            let new = written.iter().map(|file| (file.name.clone(), file.text.clone()));
            let all = Files::from_embedded(all.chain(new)).map_err(refused)?;
            let after = self.plain(scratch, &all).await?;
            let left: Vec<_> = statements
                .iter()
                .filter(|statement| statement.refused.is_some())
                .collect();
            remaining = structure::write(&after.structure, &wanted.structure, &wanted.order, &target)
                .into_iter()
                .map(|still| still.object)
                .filter(|still| !left.iter().any(|left| left.object == *still))
                .collect();
            // What takes several steps is one thing.
            let mut told = BTreeSet::new();
            remaining.retain(|object| told.insert(object.clone()));
        }
        Ok(DiffedMigration {
            files: written,
            statements,
            remaining,
        })
    }

    /// What the files make for a single customer.
    async fn plain(&self, scratch: &ScratchDatabase, files: &Files) -> Result<Plain, MigrationError> {
        let failed = |error: &dyn std::fmt::Display| MigrationError::Server(error.to_string());
        let client = scratch.connect().await.map_err(|error| failed(&error))?;
        let target = self.twin();
        let derived = isolate::derive(&client, target.owner.as_str(), files)
            .await
            .map_err(|error| match error {
                DeriveError::Scratch(cause) => failed(&cause),
                other => MigrationError::Refused(other.to_string()),
            })?;
        let structure = structure::read(&client, &target, None)
            .await
            .map_err(|error| failed(&error))?;
        let order = Order::read(&client, &target).await.map_err(|error| failed(&error))?;
        Ok(Plain {
            structure,
            order,
            derived,
        })
    }

    fn twin(&self) -> Target {
        let roles = Roles::of(self.catalog().installation());
        Target {
            schema: Identifier::new(isolate::TWIN).expect("a name of ours is one"),
            owner: roles.owner,
            application: roles.home,
            mover: roles.mover,
        }
    }
}

fn refused(error: tenantry_engine::migrate::FilesError) -> MigrationError {
    MigrationError::Refused(error.to_string())
}

/// New tables that hold the same for all tenants: the file has to declare them.
fn references(now: &Plain, wanted: &Plain) -> Vec<String> {
    let is_new = |name: &str| !now.derived.tables.iter().any(|table| table.name == name);
    let tables = wanted.derived.tables.iter();
    tables
        .filter(|table| table.reference && is_new(&table.name))
        .map(|table| table.name.clone())
        .collect()
}

/// The files of these statements, with the numbers from this one on.
fn written(statements: &[Written], references: &[String], number: i64, name: &str) -> Vec<DiffedFile> {
    let files = statements.chunk_by(|a, b| a.stage == b.stage && a.stage != Stage::Keys);
    let mut keys = 0;
    files
        .zip(number..)
        .map(|(statements, number)| {
            let stage = statements.first().map_or(Stage::Definitions, |first| first.stage);
            let suffix = match stage {
                Stage::Labels => "_labels".to_owned(),
                Stage::Definitions => String::new(),
                Stage::Concurrently => "_concurrently".to_owned(),
                Stage::Checks => "_checks".to_owned(),
                Stage::Keys => {
                    keys += 1;
                    format!("_key{keys}")
                }
            };
            let header = match stage {
                Stage::Definitions if !references.is_empty() => {
                    format!("-- tenantry: reference {}\n\n", references.join(", "))
                }
                Stage::Concurrently => "-- tenantry: no transaction\n\n".to_owned(),
                _ => String::new(),
            };
            DiffedFile {
                name: format!("{number:04}_{name}{suffix}.sql"),
                text: header + &text(statements),
            }
        })
        .collect()
}

fn text(statements: &[Written]) -> String {
    let mut text = String::new();
    for statement in statements {
        let sql = statement
            .sql
            .iter()
            .map(|sql| format!("{};", sql.trim_end_matches(';')));
        let sql = sql.collect::<Vec<_>>().join("\n");
        if let Some(note) = &statement.note {
            text.push_str(&format!("-- {}: {note}\n", statement.object));
        }
        match &statement.refused {
            None => text.push_str(&format!("{sql}\n")),
            Some(reason) => {
                text.push_str(&format!("\n-- not done: {}: {reason}\n", statement.object));
                text.push_str(&format!("-- {}\n", sql.replace('\n', "\n-- ")));
            }
        }
    }
    text
}
