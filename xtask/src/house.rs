//! The import directions: who may depend on whom. `ARCHITECTURE.md` states them for people, this table for the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// What each crate of ours may import, and which outside crates it must not see.
struct Room {
    name: &'static str,
    may_import: &'static [&'static str],
    must_not_see: &'static [&'static str],
}

/// Sockets, drivers and HTTP: what a pure crate may not know.
const IO: &[&str] = &[
    "tokio",
    "tokio-postgres",
    "postgres-protocol",
    "axum",
    "http",
    "reqwest",
    "rand",
    "tokio-rustls",
];

const HOUSE: &[Room] = &[
    Room {
        name: "tenantry-core",
        may_import: &[],
        must_not_see: IO,
    },
    Room {
        name: "tenantry-sql",
        may_import: &["tenantry-core"],
        must_not_see: IO,
    },
    Room {
        name: "tenantry-bucket",
        may_import: &[],
        must_not_see: &["axum", "http"],
    },
    Room {
        name: "tenantry-wire",
        may_import: &["tenantry-core"],
        must_not_see: &["axum", "http", "tokio-postgres"],
    },
    Room {
        name: "tenantry-catalog",
        may_import: &["tenantry-core"],
        must_not_see: &["axum", "http"],
    },
    Room {
        name: "tenantry-engine",
        may_import: &["tenantry-core", "tenantry-sql", "tenantry-wire"],
        must_not_see: &["axum", "http"],
    },
    Room {
        name: "tenantry-pool",
        may_import: &["tenantry-core", "tenantry-wire"],
        must_not_see: &["axum", "http", "tokio-postgres"],
    },
    Room {
        name: "tenantry-ops",
        may_import: &[
            "tenantry-bucket",
            "tenantry-core",
            "tenantry-catalog",
            "tenantry-engine",
            "tenantry-pool",
            "tenantry-sql",
            "tenantry-wire",
        ],
        must_not_see: &["axum", "http"],
    },
    Room {
        name: "tenantry",
        may_import: &[
            "tenantry-bucket",
            "tenantry-core",
            "tenantry-catalog",
            "tenantry-pool",
            "tenantry-wire",
        ],
        must_not_see: &[],
    },
    Room {
        name: "tenantry-server",
        may_import: &["tenantry", "tenantry-core", "tenantry-ops"],
        must_not_see: &["tokio-postgres", "postgres-protocol"],
    },
    Room {
        name: "tenantry-postgres",
        may_import: &[],
        must_not_see: &["axum", "http"],
    },
    Room {
        name: "tenantry-crm",
        may_import: &["tenantry"],
        must_not_see: &["tokio-postgres"],
    },
    Room {
        name: "tenantry-cli",
        may_import: &[
            "tenantry",
            "tenantry-catalog",
            "tenantry-core",
            "tenantry-crm",
            "tenantry-engine",
            "tenantry-ops",
            "tenantry-pool",
            "tenantry-postgres",
            "tenantry-server",
            "tenantry-sql",
            "tenantry-wire",
        ],
        must_not_see: &[],
    },
    Room {
        name: "tenantry-testing",
        may_import: &["tenantry-core", "tenantry-postgres", "tenantry-engine", "tenantry-wire"],
        must_not_see: &[],
    },
    Room {
        name: "tenantry-proof",
        may_import: &[
            "tenantry",
            "tenantry-catalog",
            "tenantry-core",
            "tenantry-crm",
            "tenantry-engine",
            "tenantry-ops",
            "tenantry-pool",
            "tenantry-server",
            "tenantry-sql",
            "tenantry-testing",
            "tenantry-wire",
        ],
        must_not_see: &[],
    },
    Room {
        name: "xtask",
        may_import: &[],
        must_not_see: &[],
    },
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

impl Package {
    fn normal_dependencies(&self) -> BTreeSet<&str> {
        self.dependencies
            .iter()
            .filter(|dep| dep.kind.is_none())
            .map(|dep| dep.name.as_str())
            .collect()
    }
}

/// Fails with every breach of the house's rules.
pub(crate) fn run() -> Result<()> {
    let metadata = metadata()?;
    let mut breaches = dependency_breaches(&metadata);
    breaches.extend(source_breaches(&metadata)?);
    breaches.extend(tenant_breaches(&metadata)?);
    if breaches.is_empty() {
        return Ok(());
    }
    bail!("the house's rules are broken:\n{}", breaches.join("\n"))
}

fn metadata() -> Result<Metadata> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .output()
        .context("cargo metadata could not be started")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata is no JSON")
}

fn dependency_breaches(metadata: &Metadata) -> Vec<String> {
    let rooms: BTreeMap<&str, &Room> = HOUSE.iter().map(|room| (room.name, room)).collect();
    let ours: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let mut breaches = Vec::new();
    for package in &metadata.packages {
        let Some(room) = rooms.get(package.name.as_str()) else {
            breaches.push(format!("{} has no room in xtask/src/house.rs", package.name));
            continue;
        };
        for name in package.normal_dependencies() {
            if ours.contains(name) && !room.may_import.contains(&name) {
                breaches.push(format!("{} may not import {name}", package.name));
            }
            if room.must_not_see.contains(&name) {
                breaches.push(format!("{} must not see {name}", package.name));
            }
            // The proofs are tests, of a size that `cargo test` can't have.
            if name == "tenantry-testing" && package.name != "tenantry-proof" {
                breaches.push(format!("{} imports tenantry-testing outside of tests", package.name));
            }
        }
    }
    breaches
}

/// SQL text stands in few crates only: a statement in the server would be one nobody scopes.
fn source_breaches(metadata: &Metadata) -> Result<Vec<String>> {
    const NO_SQL: &[&str] = &["tenantry-core", "tenantry-server"];
    let mut breaches = Vec::new();
    for package in metadata
        .packages
        .iter()
        .filter(|package| NO_SQL.contains(&package.name.as_str()))
    {
        let source = package.manifest_path.with_file_name("src");
        for file in rust_files(&source)? {
            let text = std::fs::read_to_string(&file)?;
            for (number, line) in text.lines().enumerate() {
                if holds_sql(line) {
                    breaches.push(format!(
                        "{}:{}: SQL text in {}",
                        file.display(),
                        number + 1,
                        package.name
                    ));
                }
            }
        }
    }
    Ok(breaches)
}

/// The reference application is what users copy from: none of its handlers says whose rows it wants.
fn tenant_breaches(metadata: &Metadata) -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    for package in metadata
        .packages
        .iter()
        .filter(|package| package.name == "tenantry-crm")
    {
        for file in rust_files(&package.manifest_path.with_file_name("src"))? {
            let lines = lines_with_tenant_id(&std::fs::read_to_string(&file)?);
            let breach = |line| format!("{}:{line}: a handler names tenant_id", file.display());
            breaches.extend(lines.into_iter().map(breach));
        }
    }
    Ok(breaches)
}

/// The numbers of the lines that name the tenant's column, tests and comments aside.
fn lines_with_tenant_id(text: &str) -> Vec<usize> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.contains("#[cfg(test)]"))
        .filter(|(_, line)| line.to_lowercase().contains("tenant_id") && !line.trim_start().starts_with("//"))
        .map(|(number, _)| number + 1)
        .collect()
}

/// A string literal that begins like a statement on tables.
fn holds_sql(line: &str) -> bool {
    const BEGINNINGS: &[&str] = &[
        "\"select ",
        "\"insert into ",
        "\"update ",
        "\"delete from ",
        "\"create ",
    ];
    let line = line.trim_start();
    !line.starts_with("//")
        && BEGINNINGS
            .iter()
            .any(|beginning| line.to_lowercase().contains(beginning))
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_import_directions_hold() {
        run().expect("ARCHITECTURE.md's rules");
    }

    #[test]
    fn a_breach_is_found() {
        let package = |name: &str, dependency: &str| Package {
            name: name.into(),
            manifest_path: PathBuf::new(),
            dependencies: vec![Dependency {
                name: dependency.into(),
                kind: None,
            }],
        };
        let metadata = Metadata {
            packages: vec![package("tenantry-core", "tokio"), package("stranger", "serde")],
        };
        assert_eq!(
            dependency_breaches(&metadata),
            [
                "tenantry-core must not see tokio",
                "stranger has no room in xtask/src/house.rs"
            ]
        );
        assert!(holds_sql(r#"    client.query("select id from tenant", &[])"#));
        assert!(!holds_sql("// \"select 1\""));
    }

    #[test]
    fn a_handler_that_names_the_tenants_column_is_found() {
        let handler = "//! No tenant_id.\nlet row = scope\n    .query(\"select 1 from tasks where tenant_id = $1\")\n";
        let tests = "#[cfg(test)]\nmod tests { const REFUSED: &str = \"tenant_id\"; }\n";
        assert_eq!(lines_with_tenant_id(&format!("{handler}{tests}")), [3]);
    }
}
