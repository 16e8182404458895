//! `docs/features.md` names tests; a name that is gone would claim what nothing shows.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, bail};

/// Fails with every test that the list names and no crate has.
pub(crate) fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let list = std::fs::read_to_string(root.join("docs/features.md")).context("docs/features.md can't be read")?;
    let mut gone = Vec::new();
    for name in named_tests(&list) {
        if !exists(&root, &name)? {
            gone.push(name);
        }
    }
    if gone.is_empty() {
        return Ok(());
    }
    bail!("docs/features.md names tests that do not exist:\n{}", gone.join("\n"))
}

/// Names of the form `crate::module::test` in code marks.
fn named_tests(text: &str) -> BTreeSet<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.split("::").count() == 3 && !code.contains([' ', '\n', '<']))
        .map(str::to_owned)
        .collect()
}

fn exists(root: &Path, name: &str) -> Result<bool> {
    let parts: Vec<&str> = name.split("::").collect();
    let [package, module, test] = parts.as_slice() else {
        return Ok(false);
    };
    let tests = match *package {
        "tenantry-crm" => root.join("examples/crm/tests/it"),
        package => root.join("crates").join(package).join("tests/it"),
    };
    let files = [tests.join(format!("{module}.rs")), tests.join(module).join("mod.rs")];
    for file in files {
        if let Ok(text) = std::fs::read_to_string(&file) {
            return Ok(text.contains(&format!("fn {test}(")));
        }
    }
    Ok(false)
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
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert!(!exists(&root, "tenantry-engine::seal::no_such_test").expect("reads"));
        assert!(exists(&root, "tenantry-engine::adopt_schema::a_missing_schema_is_refused").expect("reads"));
    }
}
