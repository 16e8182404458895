//! What must not compile, told by the compiler that compiled this test, against the library that this test is linked with.
//!
//! Each case in `tests/compile_fail` has the compiler's words beside it: a case that fails for another reason than it should is found. With
//! `TENANTRY_BLESS=1` they are written anew. Nothing is built for it, which would be every dependency once more.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

/// The crates that cases name beside ours.
const NAMED: [&str; 3] = ["sqlx", "diesel", "diesel_async"];

#[test]
fn unscoped_access_does_not_compile() {
    // Were a crate not found, nothing would compile, and this would say so. `cargo run` may have built a later one, with other features.
    let passes = |library: &PathBuf| {
        cases("tests/compile_pass")
            .iter()
            .all(|case| compiled(case, library).is_empty())
    };
    let library = built("tenantry").into_iter().find(passes);
    let library = library.expect("with some build of the library what should compile does");
    let cases = cases("tests/compile_fail");
    assert!(cases.len() >= 10, "cases are missing: {cases:?}");
    let wrong: Vec<String> = cases.iter().filter_map(|case| wrong(case, &library)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn cases(folder: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    cases.sort();
    cases
}

/// What is wrong with a case that must not compile.
fn wrong(case: &Path, library: &Path) -> Option<String> {
    let said = compiled(case, library);
    let wanted = case.with_extension("stderr");
    if said.is_empty() {
        return Some(format!("{} compiles", case.display()));
    }
    if std::env::var_os("TENANTRY_BLESS").is_some() {
        fs::write(wanted, said).unwrap();
        return None;
    }
    let expected = fs::read_to_string(wanted).unwrap_or_default();
    (said != expected).then(|| format!("{}: the compiler says\n{said}\ninstead of\n{expected}", case.display()))
}

/// The compiler's errors, a line each; none where it compiles.
fn compiled(case: &Path, library: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc
        .args([
            "--edition=2024",
            "--crate-type=bin",
            "--emit=metadata",
            "--error-format=short",
            "--cap-lints=allow",
        ])
        .arg("--out-dir")
        .arg(folder.path())
        .arg("-L")
        .arg(format!("dependency={}", library.parent().unwrap().display()))
        .arg("--extern")
        .arg(format!("tenantry={}", library.display()))
        .arg(case);
    for name in NAMED {
        rustc
            .arg("--extern")
            .arg(format!("{name}={}", built(name)[0].display()));
    }
    let output = rustc.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.success(), !said.contains("error"), "{said}");
    said.lines()
        .filter(|line| line.contains(": error"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The builds of a library, the last one first.
fn built(name: &str) -> Vec<PathBuf> {
    let program = std::env::current_exe().unwrap();
    let begins = format!("lib{name}-");
    let files = fs::read_dir(program.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap());
    let mut libraries: Vec<_> = files
        .filter(|entry| {
            let file = entry.file_name();
            let file = file.to_string_lossy();
            file.starts_with(&begins) && file.ends_with(".rlib")
        })
        .collect();
    let age = |entry: &fs::DirEntry| entry.metadata().unwrap().modified().unwrap_or(SystemTime::UNIX_EPOCH);
    libraries.sort_by_key(|entry| std::cmp::Reverse(age(entry)));
    libraries.iter().map(fs::DirEntry::path).collect()
}
