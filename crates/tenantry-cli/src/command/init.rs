//! `tenantry init`: a project for an application of one's own, that runs as it is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Answer, Output},
};

/// Where, and under which name.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The folder to write into; it is made if it does not exist
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The name of the package [default: the folder's name]
    #[arg(long)]
    name: Option<String>,
    /// The folder of Tenantry's sources, or the address of its repository [default: the sources this program was built of]
    #[arg(long, value_name = "FOLDER OR URL")]
    tenantry: Option<String>,
}

/// The files: where they go, and their text with `{{name}}` and `{{tenantry}}` to be filled in.
const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../../templates/init/Cargo.toml")),
    ("src/main.rs", include_str!("../../templates/init/main.rs")),
    ("src/notes.rs", include_str!("../../templates/init/notes.rs")),
    (
        "migrations/0001_notes.sql",
        include_str!("../../templates/init/migration.sql"),
    ),
    ("tenantry.toml", include_str!("../../templates/init/tenantry.toml")),
    ("README.md", include_str!("../../templates/init/README.md")),
    (".gitignore", include_str!("../../templates/init/gitignore")),
];

/// The sources this program was built of, two folders above this crate's.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

#[derive(Serialize)]
struct Initialised {
    name: String,
    folder: PathBuf,
    files: Vec<&'static str>,
}

impl Answer for Initialised {
    fn text(&self) -> String {
        format!(
            "Made {} in {}. Next:\n\n  cd {}\n  tenantry dev\n\nand what README.md says.",
            self.name,
            self.folder.display(),
            shell_word(&self.folder)
        )
    }
}

/// Writes the project; nothing is written where anything stands already.
pub(super) fn run(arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let folder = std::path::absolute(&arguments.folder)?;
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => folder
            .file_name()
            .map(|name| name.to_string_lossy().to_lowercase())
            .unwrap_or_default(),
    };
    check_name(&name)?;
    let dependency = dependency(arguments.tenantry.as_deref())?;
    check_free(&folder)?;
    for (path, text) in FILES {
        let path = folder.join(path);
        let text = text.replace("{{name}}", &name).replace("{{tenantry}}", &dependency);
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            fs::write(&path, text)
        };
        write().with_context(|| format!("can't write {}", path.display()))?;
    }
    output.answer(&Initialised {
        name,
        folder,
        files: FILES.iter().map(|(path, _)| *path).collect(),
    })?;
    Ok(())
}

fn check_name(name: &str) -> Result<(), Failure> {
    let begins = name.chars().next().is_some_and(|first| first.is_ascii_alphabetic());
    let legal = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    // A package that is called like one of its dependencies can't be built.
    let taken = ["tenantry", "test", "core", "std", "axum", "tokio", "serde"].contains(&name);
    if begins && legal && !taken && name.len() <= 64 {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "`{name}` can't be a package's name: give one of letters, digits, - and _ with --name"
    )))
}

fn check_free(folder: &Path) -> Result<(), Failure> {
    let taken: Vec<&str> = FILES
        .iter()
        .map(|(path, _)| *path)
        .filter(|path| folder.join(path).symlink_metadata().is_ok())
        .collect();
    if taken.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{} already has {}: nothing was written; choose an empty folder, or move these away",
        folder.display(),
        taken.join(", ")
    )))
}

/// What stands behind `tenantry =` in Cargo.toml.
fn dependency(said: Option<&str>) -> Result<String, Failure> {
    let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
    match said {
        Some(url) if url.contains("://") || url.starts_with("git@") => Ok(format!("{{ git = {} }}", text(url))),
        Some(folder) => library_in(Path::new(folder))
            .map(|path| format!("{{ path = {} }}", text(&path)))
            .ok_or_else(|| {
                Failure::usage(format!(
                    "{folder} is not a folder with Tenantry's sources (crates/tenantry)"
                ))
            }),
        None => library_in(Path::new(SOURCES))
            .map(|path| format!("{{ path = {} }}", text(&path)))
            .ok_or_else(|| {
                Failure::usage("the sources this program was built of are gone: say with --tenantry where they are")
            }),
    }
}

fn library_in(sources: &Path) -> Option<String> {
    let library = sources.join("crates/tenantry").canonicalize().ok()?;
    library
        .join("Cargo.toml")
        .is_file()
        .then(|| library.to_string_lossy().into_owned())
}

fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = text.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c));
    if plain {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_cargo_takes() {
        assert!(check_name("my-app").is_ok());
        for bad in ["", "1app", "my app", "tenantry", "über", "a\"b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_dependency_is_a_folder_or_a_repository() {
        let dependency = |said| dependency(said).ok();
        assert_eq!(
            dependency(Some("https://example.com/tenantry.git")).as_deref(),
            Some("{ git = \"https://example.com/tenantry.git\" }")
        );
        assert_eq!(dependency(Some("/nowhere/at/all")), None);
        assert!(dependency(Some(SOURCES)).is_some_and(|text| text.ends_with("crates/tenantry\" }")));
    }
}
