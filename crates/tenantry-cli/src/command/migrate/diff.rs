//! `tenantry migrate diff`: new migrations from a desired schema.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tenantry_ops::{DiffedMigration, Ops};

use crate::{
    config::Config,
    connect::authority,
    failure::Failure,
    output::{Answer, Output},
    progress::Progress,
};

/// What is wanted.
///
/// Exit codes: 0 it leads all the way (or nothing differs), 1 some of it is left to you, 2 the call is wrong.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The desired schema, as for a single customer: all of its `create` statements
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// What the migrations are called after their number
    #[arg(long, default_value = "diff", value_name = "NAME")]
    name: String,
    /// Show them and write no file
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Report {
    /// The first file that was written.
    file: Option<PathBuf>,
    /// All files in their order.
    files: Vec<File>,
    /// All of them as one text.
    sql: String,
    statements: Vec<Statement>,
    /// What differs still, although nothing of it was refused.
    remaining: Vec<String>,
}

#[derive(Serialize)]
struct File {
    name: String,
    /// Where it was written.
    path: Option<PathBuf>,
    sql: String,
}

#[derive(Serialize)]
struct Statement {
    object: String,
    sql: Vec<String>,
    /// Why it is left to you.
    refused: Option<String>,
    /// What is to be known before it runs.
    note: Option<String>,
}

impl Report {
    fn new(diffed: &DiffedMigration, files: Vec<File>) -> Self {
        let statements = diffed.statements.iter().map(|statement| Statement {
            object: statement.object.clone(),
            sql: statement.sql.clone(),
            refused: statement.refused.clone(),
            note: statement.note.clone(),
        });
        Self {
            file: files.first().and_then(|file| file.path.clone()),
            files,
            sql: diffed.text(),
            statements: statements.collect(),
            remaining: diffed.remaining.clone(),
        }
    }
}

impl Answer for Report {
    fn text(&self) -> String {
        if self.statements.is_empty() {
            return "the migrations make this schema already".to_owned();
        }
        let paths = self.files.iter().filter_map(|file| file.path.as_ref());
        let paths: Vec<_> = paths.map(|path| path.display().to_string()).collect();
        match paths.as_slice() {
            [] => self.sql.clone(),
            paths => format!("{}\nwritten to {}", self.sql, paths.join(", ")),
        }
    }
}

pub(super) async fn run(
    ops: &Ops,
    config: &Config,
    options: &Options,
    output: Output,
    progress: &Progress,
) -> Result<(), Failure> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if options.name.is_empty() || !options.name.chars().all(fits) {
        return Err(Failure::usage(
            "--name takes lower-case letters, digits and underscores",
        ));
    }
    let desired = std::fs::read_to_string(&options.to)
        .map_err(|error| Failure::usage(format!("{} can't be read: {error}", options.to.display())))?;
    let diffed = ops.diff_migrations(&authority(), &desired, &options.name).await;
    progress.end();
    let diffed = diffed?;
    let folder = config.migrations.as_ref().filter(|_| !options.dry_run);
    let mut files = Vec::new();
    for file in &diffed.files {
        let path = folder.map(|folder| folder.join(&file.name));
        if let Some(path) = &path {
            std::fs::write(path, &file.text)?;
        }
        files.push(File {
            name: file.name.clone(),
            path,
            sql: file.text.clone(),
        });
    }
    output.answer(&Report::new(&diffed, files))?;
    if diffed.is_whole() {
        return Ok(());
    }
    let left = diffed
        .statements
        .iter()
        .filter(|statement| statement.refused.is_some())
        .count();
    Err(Failure::failed(format!(
        "{} of {} changes are left to you: the files have them as comments, with the reason",
        left + diffed.remaining.len(),
        diffed.statements.len() + diffed.remaining.len()
    )))
}
