//! A project for an application of one's own.

use std::{
    path::Path,
    process::{Command, Output},
};

use crate::support::Folder;

/// The generated program, compiled with these tests.
#[expect(dead_code, reason = "it is only compiled here")]
#[path = "../../templates/init/main.rs"]
mod application;

/// Its routes, to be served by other tests.
#[path = "../../templates/init/notes.rs"]
pub(crate) mod notes;

#[test]
fn the_project_is_complete() {
    let folder = Folder::new();
    let answer = folder.run(["init", "my-app", "--json"]).json();
    assert_eq!(answer["name"], "my-app");
    let project = folder.path().join("my-app");
    for file in answer["files"].as_array().unwrap() {
        let text = std::fs::read_to_string(project.join(file.as_str().unwrap())).unwrap();
        assert!(!text.contains("{{"), "{file}: {text}");
    }
}

/// The same as the module above shows, for the whole project as a user has it. Once for each change of a dependency it checks all
/// of them, which takes a minute or two; after that it is quick.
#[test]
fn the_project_compiles() {
    let folder = Folder::new();
    folder.run(["init", "my-app"]);
    let check = cargo(&folder.path().join("my-app"), &["check"]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

fn cargo(project: &Path, arguments: &[&str]) -> Output {
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    // The versions that are here already, since a test does not go to the network.
    std::fs::copy(format!("{workspace}/Cargo.lock"), project.join("Cargo.lock")).unwrap();
    Command::new(env!("CARGO"))
        .args(arguments)
        .arg("--offline")
        // The workspace's own, with what it says of dependencies: what was checked for it need not be checked again, and the lints
        // find what was checked here.
        .args(["--config", "profile.dev.package.'*'.debug=false"])
        .env("CARGO_TARGET_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/.."))
        .current_dir(project)
        .output()
        .unwrap()
}

#[test]
fn nothing_is_overwritten() {
    let folder = Folder::new();
    folder.write("here/migrations/0001_notes.sql", "mine");
    let run = folder.run(["init", "here"]);
    let error = run.fails(1);
    assert!(
        error.contains("migrations/0001_notes.sql") && error.contains("nothing was written"),
        "{error}"
    );
    assert!(!folder.path().join("here/Cargo.toml").exists());
    assert_eq!(
        std::fs::read_to_string(folder.path().join("here/migrations/0001_notes.sql")).unwrap(),
        "mine"
    );
}

#[test]
fn a_folder_whose_name_is_no_packages_needs_one() {
    let folder = Folder::new();
    let run = folder.run(["init", "my app"]);
    assert!(run.fails(2).contains("--name"));
    let run = folder.run(["init", "my app", "--name", "my-app", "--json"]);
    assert_eq!(run.json()["name"], "my-app");
}
