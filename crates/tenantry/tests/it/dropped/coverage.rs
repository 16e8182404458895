//! A public future that nobody drops fails the suite.

use std::{collections::BTreeSet, path::Path};

use super::programs::PROGRAMS;

/// Futures dropped by the resolver's own tests, which need a catalog.
const ELSEWHERE: &[&str] = &[
    "Resolver::authenticate",
    "Resolver::catch_up",
    "Resolver::is_member",
    "Resolver::jwks",
    "Resolver::measure",
    "Resolver::public_tenant",
    "Resolver::resolve",
    "Scope::is_member",
    "Tenantry::connect",
    "Tenantry::resolve",
];

/// `Type::function` for each public async function in a file.
fn public_futures(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut type_ = "";
    for line in source.lines() {
        if let Some(rest) = line.strip_prefix("impl ") {
            type_ = rest.split(['<', ' ', '{']).next().unwrap_or_default();
        } else if let Some(rest) = line.trim_start().strip_prefix("pub async fn ") {
            let name = rest.split(['<', '(']).next().unwrap_or_default();
            found.push(format!("{type_}::{name}"));
        }
    }
    found
}

#[test]
fn every_public_future_is_dropped_by_some_program() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut there: BTreeSet<String> = BTreeSet::new();
    for folder in [source.clone(), source.join("resolve")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                there.extend(public_futures(&std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    let dropped: BTreeSet<String> = PROGRAMS
        .iter()
        .flat_map(|program| program.covers)
        .chain(ELSEWHERE)
        .map(|name| (*name).to_owned())
        .collect();
    assert_eq!(there, dropped, "left: public futures; right: those that programs drop");
}
