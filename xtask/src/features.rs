//! `docs/features.md`, `docs/mistakes.md` and other pages name tests; a name that is gone would claim what nothing shows.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// The lists that name tests.
const LISTS: [&str; 2] = ["docs/features.md", "docs/mistakes.md"];

/// Pages that name some beside their text and their examples.
const PAGES: [&str; 8] = [
    "docs/benchmarks.md",
    "docs/cache.md",
    "docs/erasure.md",
    "docs/events.md",
    "docs/exports.md",
    "docs/moves.md",
    "docs/replicas.md",
    "docs/search.md",
];

/// Fails with every test that a list or a page names and no crate has.
pub(crate) fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |page: &str| std::fs::read_to_string(root.join(page)).with_context(|| format!("{page} can't be read"));
    let mut gone = Vec::new();
    for list in LISTS {
        let text = read(list)?;
        for (number, line) in text.lines().enumerate() {
            if line.matches('`').count() % 2 == 1 {
                gone.push(format!(
                    "{list}:{}: a code mark is open, which hides the names behind it",
                    number + 1
                ));
            }
        }
        for name in named_tests(&text) {
            if !exists(&root, &name)? {
                gone.push(format!("{list}: {name}"));
            }
        }
    }
    for page in PAGES {
        // Others are names of somebody else's code.
        let ours = named_tests(&read(page)?)
            .into_iter()
            .filter(|name| name.starts_with("tenantry"));
        for name in ours {
            if !exists(&root, &name)? {
                gone.push(format!("{page}: {name}"));
            }
        }
    }
    if gone.is_empty() {
        return Ok(());
    }
    bail!(
        "these pages name tests that do not exist, or hide them:\n{}",
        gone.join("\n")
    )
}

/// Names of the form `crate::module::test` in code marks.
fn named_tests(text: &str) -> BTreeSet<String> {
    // Line by line: a code mark that is left open would turn all that follows inside out.
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|code| code.split("::").count() == 3 && !code.contains([' ', '<']))
        .map(str::to_owned)
        .collect()
}

fn exists(root: &Path, name: &str) -> Result<bool> {
    let parts: Vec<&str> = name.split("::").collect();
    let [package, module, test] = parts.as_slice() else {
        return Ok(false);
    };
    let folder = match *package {
        "tenantry-crm" => root.join("examples/crm"),
        package => root.join("crates").join(package),
    };
    let tests = folder.join("tests/it");
    let mut files = vec![tests.join(format!("{module}.rs")), tests.join(module).join("mod.rs")];
    // Units, with the module that they are tests of, at any depth.
    files.extend(sources(&folder.join("src"), module)?);
    for file in files {
        if let Ok(text) = std::fs::read_to_string(&file)
            && is_test(&text, test)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Files below `folder` that hold the module.
fn sources(folder: &Path, module: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(found);
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path, module)?);
        } else if path.file_stem().is_some_and(|stem| stem == module) && path.extension().is_some_and(|rs| rs == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Whether the text defines the function, and not only as a helper of tests: one that a macro makes tests of counts.
fn is_test(text: &str, test: &str) -> bool {
    let Some(position) = text.find(&format!("fn {test}(")) else {
        return false;
    };
    let attributed = text[..position]
        .rsplit("\n\n")
        .next()
        .is_some_and(|before| before.contains("#[test") || before.contains("#[tokio::test"));
    // Named again, in the list that a macro makes tests of.
    attributed || text.matches(test).count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_test_exists() {
        run().expect("the list is true");
    }

    #[test]
    fn a_name_that_is_gone_is_found() {
        let named = named_tests("| S1 | x | `tenantry-engine::seal::no_such_test`, `tenantry dev` |");
        assert_eq!(named.len(), 1);
        let behind_an_open_mark = named_tests("| `S1 |\n| S2 | `tenantry-engine::seal::no_such_test` |");
        assert_eq!(behind_an_open_mark.len(), 1);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert!(!exists(&root, "tenantry-engine::seal::no_such_test").expect("reads"));
        assert!(exists(&root, "tenantry-engine::adopt_schema::a_missing_schema_is_refused").expect("reads"));
        assert!(exists(&root, "tenantry-sql::identifier::names_are_quoted").expect("reads"));
        assert!(!exists(&root, "tenantry-engine::seal_support::sealed_world").expect("reads"));
    }

    #[test]
    fn a_helper_is_no_test() {
        assert!(is_test("#[tokio::test]\nasync fn a() {}", "a"));
        assert!(!is_test("#[test]\nfn a() {}\n\nfn b() {}", "b"));
        assert!(is_test("fn b(fixture: F) {}\n\nfor_both! { b }", "b"));
    }
}
