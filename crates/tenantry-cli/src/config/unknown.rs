//! Keys and variables that nobody knows: a misspelt one that is silently ignored is a wrong configuration.

use std::path::Path;

use super::{ConfigError, KEYS, layers::variable};

/// Variables that are no keys.
const OTHERS: &[&str] = &[
    "TENANTRY_CONFIG",
    "TENANTRY_MASTER_KEY",
    "TENANTRY_PG_BIN",
    "TENANTRY_FAILPOINT",
];

/// A key of the file that nobody knows.
pub(super) fn key(key: &str, path: &Path) -> ConfigError {
    let file = path.display();
    if key == "master_key" {
        return ConfigError::new(format!(
            "{file}: `master_key` may not stand in a file that others read: \
             name a file of mode 0600 as `master_key_file`, or set TENANTRY_MASTER_KEY"
        ));
    }
    let names = KEYS.iter().map(|(name, _)| *name);
    let nearest = nearest(key, names.clone(), 3);
    let mend = nearest.map_or_else(
        || format!("known keys: {}", names.collect::<Vec<_>>().join(", ")),
        |name| format!("did you mean `{name}`?"),
    );
    ConfigError::new(format!("{file}: unknown key `{key}`; {mend}"))
}

/// A variable that is almost one of ours is a misspelt one. What is quite different may be somebody else's.
///
/// # Errors
///
/// Names the variable that was probably meant.
pub(super) fn check_variable(name: &str) -> Result<(), ConfigError> {
    let names: Vec<String> = KEYS
        .iter()
        .map(|(key, _)| variable(key))
        .chain(OTHERS.iter().map(|name| (*name).to_owned()))
        .collect();
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    match nearest(name, names.iter().map(String::as_str), 2) {
        Some(meant) => Err(ConfigError::new(format!(
            "environment: unknown variable {name}; did you mean {meant}?"
        ))),
        None => Ok(()),
    }
}

fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>, distance_max: usize) -> Option<&'a str> {
    known
        .map(|name| (distance(word, name), name))
        .filter(|(far, _)| *far <= distance_max)
        .min()
        .map(|(_, name)| name)
}

/// How many single-character changes lie between two words (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}
