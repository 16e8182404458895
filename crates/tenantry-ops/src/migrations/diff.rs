//! A new migration from a desired schema, by the comparison that finds drift.

use tenantry_core::OperatorScope;
use tenantry_engine::{
    Roles,
    home::ScratchDatabase,
    isolate::{self, DeriveError, Derived},
    migrate::{Files, Target},
    structure::{self, Structure, Written},
};
use tenantry_sql::Identifier;

use super::MigrationError;
use crate::{Authority, Ops};

/// A migration that leads from the configured ones to a desired schema.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiffedMigration {
    /// `0007_phone.sql`.
    pub name: String,
    /// Its text; statements that are not done stand there as comments with the reason.
    pub text: String,
    /// What is done, and what is not, in this order.
    pub statements: Vec<Written>,
    /// What still differs after it, beyond what was refused.
    pub remaining: Vec<String>,
}

impl DiffedMigration {
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
    derived: Derived,
}

impl Ops {
    /// Writes the migration that makes of the configured migrations' schema the desired one: plain SQL, as for a single
    /// customer. It is tried: it has to be isolated like any other, and what is then still different is told. Nothing of
    /// the fleet is touched.
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
        let statements = structure::write(&now.structure, &wanted.structure, &target);
        let last = files.as_slice().last();
        let number = last.map_or(1, |file| file.version + 1);
        let file = format!("{number:04}_{name}.sql");
        let text = text(&statements, &references(&now, &wanted));
        let mut remaining = Vec::new();
        if statements.iter().any(|statement| statement.refused.is_none()) {
            let all = files
                .as_slice()
                .iter()
                .map(|file| (file.name.clone(), file.text.clone()));
            let all = Files::from_embedded(all.chain([(file.clone(), text.clone())])).map_err(refused)?;
            let after = self.plain(scratch, &all).await?;
            let left: Vec<_> = statements
                .iter()
                .filter(|statement| statement.refused.is_some())
                .collect();
            remaining = structure::write(&after.structure, &wanted.structure, &target)
                .into_iter()
                .map(|still| still.object)
                .filter(|still| !left.iter().any(|left| left.object == *still))
                .collect();
        }
        Ok(DiffedMigration {
            name: file,
            text,
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
        Ok(Plain { structure, derived })
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

fn text(statements: &[Written], references: &[String]) -> String {
    let mut text = String::new();
    if !references.is_empty() {
        text.push_str(&format!("-- tenantry: reference {}\n\n", references.join(", ")));
    }
    for statement in statements {
        let sql = statement
            .sql
            .iter()
            .map(|sql| format!("{};", sql.trim_end_matches(';')));
        let sql = sql.collect::<Vec<_>>().join("\n");
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
