//! Where the adopted schema is written: the first migration of the application.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::Serialize;

use crate::{
    config::{Config, FILE_NAME},
    failure::Failure,
};

/// The adopted schema's file.
const MIGRATION: &str = "0001_adopted.sql";
/// The folder, where the configuration names none.
const FOLDER: &str = "migrations";

/// The folder with the application's migrations.
pub(super) struct MigrationsFolder(PathBuf);

/// What became of the file.
#[derive(Clone, Serialize)]
pub(super) struct Written {
    /// Where it is.
    pub(super) file: String,
    /// It was there already, and differs from what the database would be printed as: somebody mended it.
    pub(super) mended: bool,
}

impl MigrationsFolder {
    pub(super) fn of(config: &Config) -> Self {
        Self(config.migrations.clone().unwrap_or_else(|| PathBuf::from(FOLDER)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes the schema, unless the file is there: what somebody mended by hand is theirs. The copy of the rows finds out
    /// whether it still fits.
    pub(super) fn write(&self, sql: &str) -> Result<Written, Failure> {
        let file = self.0.join(MIGRATION);
        let shown = file.display().to_string();
        match fs::read_to_string(&file) {
            Ok(found) => {
                return Ok(Written {
                    file: shown,
                    mended: found != sql,
                });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(anyhow::Error::new(error).context(format!("can't read {shown}")).into()),
        }
        self.refuse_another_application()?;
        fs::create_dir_all(&self.0).with_context(|| format!("can't make {}", self.0.display()))?;
        fs::write(&file, sql).with_context(|| format!("can't write {shown}"))?;
        self.configure()?;
        Ok(Written {
            file: shown,
            mended: false,
        })
    }

    fn refuse_another_application(&self) -> Result<(), Failure> {
        let Ok(entries) = fs::read_dir(&self.0) else {
            return Ok(());
        };
        let other = entries
            .filter_map(Result::ok)
            .map(|entry| entry.file_name())
            .find(|name| Path::new(name).extension().is_some_and(|extension| extension == "sql"));
        match other {
            None => Ok(()),
            Some(name) => Err(Failure::usage(format!(
                "{} has the migrations of another application already ({}): an installation has one application, \
                 adopt in a folder of its own",
                self.0.display(),
                Path::new(&name).display()
            ))),
        }
    }

    /// So that later commands in this folder find the migrations. A configuration that is there is its owner's.
    fn configure(&self) -> Result<(), Failure> {
        let file = Path::new(FILE_NAME);
        if self.0 != Path::new(FOLDER) || file.exists() {
            return Ok(());
        }
        let text = format!("# The application's migrations.\nmigrations = \"{FOLDER}\"\n");
        fs::write(file, text).with_context(|| format!("can't write {FILE_NAME}"))?;
        Ok(())
    }
}
