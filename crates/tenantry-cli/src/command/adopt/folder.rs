//! Where the adopted schema is written: the first migration of the application.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::Serialize;
use tenantry_core::seal::sha256;

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
    /// It was there already, and somebody mended it.
    pub(super) mended: bool,
    /// It was there already, and was written from another schema than the source's is now; unknown where the file does not
    /// say from which.
    pub(super) source_changed: Option<bool>,
}

impl Written {
    /// What a reader of a refusal has to know of the file, to go behind its name.
    pub(super) fn history(&self) -> &'static str {
        match self.source_changed {
            Some(true) => " (it was there already, and the source's schema is not the one that it was written from)",
            None => " (it was there already, and does not say from which schema it was written)",
            Some(false) if self.mended => " (it was there already, as you have mended it)",
            Some(false) => "",
        }
    }
}

/// Before the fingerprint of the schema that the file was written from, in its first line.
const FINGERPRINT: &str = "-- Written by `tenantry adopt` from the schema ";

fn fingerprint(sql: &str) -> String {
    sha256(sql.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The file's text: what the source is printed as, and which that was.
fn text_of(sql: &str) -> String {
    format!("{FINGERPRINT}{}.\n{sql}", fingerprint(sql))
}

/// What became of a file with this text, for a source that is printed as `sql` now.
fn found(file: String, text: &str, sql: &str) -> Written {
    let signed = text.strip_prefix(FINGERPRINT).and_then(|rest| rest.split_once(".\n"));
    match signed {
        Some((origin, body)) => Written {
            file,
            mended: fingerprint(body) != origin,
            source_changed: Some(fingerprint(sql) != origin),
        },
        // Written by an older release, or by hand.
        None => Written {
            file,
            mended: text != sql,
            source_changed: (text == sql).then_some(false),
        },
    }
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
            Ok(text) => return Ok(found(shown, &text, sql)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(anyhow::Error::new(error).context(format!("can't read {shown}")).into()),
        }
        self.refuse_another_application()?;
        fs::create_dir_all(&self.0).with_context(|| format!("can't make {}", self.0.display()))?;
        fs::write(&file, text_of(sql)).with_context(|| format!("can't write {shown}"))?;
        self.configure()?;
        Ok(Written {
            file: shown,
            mended: false,
            source_changed: Some(false),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_tells_whether_it_was_mended_and_whether_the_source_has_changed() {
        let of = |text: &str, sql: &str| {
            let written = found(String::new(), text, sql);
            (written.mended, written.source_changed)
        };
        let (was, is) = ("create table a ();\n", "create table b ();\n");
        assert_eq!(of(&text_of(was), was), (false, Some(false)));
        assert_eq!(of(&text_of(was), is), (false, Some(true)));
        let mended = text_of(was).replace("table a", "table c");
        assert_eq!(of(&mended, was), (true, Some(false)));
        assert_eq!(of(&mended, is), (true, Some(true)));
        assert_eq!(of(was, was), (false, Some(false)));
        assert_eq!(of(was, is), (true, None));
    }
}
