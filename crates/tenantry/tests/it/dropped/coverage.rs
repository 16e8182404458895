//! A public future that nobody drops fails the suite.

use std::{collections::BTreeSet, path::Path};

use super::programs;

/// Futures dropped by the tests of the resolver and of shares, which need a catalog, by those of jobs, which need a worker, by those
/// of the cache and of files, which look at what is left in Redis and in the store, and by the server's (`limits`), which need
/// requests.
const ELSEWHERE: &[&str] = &[
    "Consumer::parked",
    "Consumer::run",
    "Cache::count_tenant",
    "Cache::purge_tenant",
    "Download::next",
    "Files::count_tenant",
    "Files::purge_tenant",
    "Resolver::authenticate",
    "Resolver::catch_up",
    "Resolver::is_member",
    "Resolver::jwks",
    "Resolver::measure",
    "Resolver::public_tenant",
    "Resolver::resolve",
    "Resolver::role_of",
    "Run::execute",
    "Run::transaction",
    "Scope::is_member",
    "ScopedCache::delete",
    "ScopedCache::get",
    "ScopedCache::get_or_compute",
    "ScopedCache::get_or_compute_for",
    "ScopedCache::purge",
    "ScopedCache::set",
    "ScopedCache::set_for",
    "ScopedFiles::delete",
    "ScopedFiles::download",
    "ScopedFiles::list",
    "ScopedFiles::recount",
    "ScopedFiles::stat",
    "ScopedFiles::upload",
    "ScopedFiles::used",
    "Tenantry::close",
    "Tenantry::connect",
    "Tenantry::flush_usage",
    "Tenantry::open_file_link",
    "Tenantry::resolve",
    "Worker::run",
];

/// Modules whose types share their names with others: the name begins with the module's.
const ADAPTERS: &[&str] = &["sqlx", "diesel"];

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

/// The public futures in all files of a folder and those below it.
fn public_futures_below(folder: &Path, module: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(public_futures_below(&path, path.file_name().unwrap().to_str().unwrap()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let futures = public_futures(&std::fs::read_to_string(path).unwrap());
            if ADAPTERS.contains(&module) {
                found.extend(futures.into_iter().map(|future| format!("{module}::{future}")));
            } else {
                found.extend(futures);
            }
        }
    }
    found
}

#[test]
#[cfg(all(feature = "sqlx", feature = "diesel"))]
fn every_public_future_is_dropped_by_some_program() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let there: BTreeSet<String> = public_futures_below(&source, "").into_iter().collect();
    let dropped: BTreeSet<String> = programs()
        .flat_map(|program| program.covers)
        .chain(ELSEWHERE)
        .map(|name| (*name).to_owned())
        .collect();
    assert_eq!(there, dropped, "left: public futures; right: those that programs drop");
}
