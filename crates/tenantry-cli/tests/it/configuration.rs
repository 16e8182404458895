//! Wrong calls and wrong configurations: exit code 2 and one line that says what to do.

use std::{fs::Permissions, os::unix::fs::PermissionsExt};

use crate::support::Folder;

#[test]
fn an_unknown_key_is_refused_with_its_file() {
    let folder = Folder::new();
    folder.write("tenantry.toml", "catalog_ulr = \"postgres://\"\n");
    let run = folder.run(["tenant", "list"]);
    let error = run.fails(2);
    assert!(
        error.contains("tenantry.toml") && error.contains("catalog_ulr") && error.contains("catalog_url"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_its_line() {
    let folder = Folder::new();
    folder.write("other.toml", "listen = \"127.0.0.1:1\"\nlisten\n");
    let run = folder.run(["--config", "other.toml", "tenant", "list"]);
    let error = run.fails(2);
    assert!(error.contains("other.toml") && error.contains("line 2"), "{error}");
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let folder = Folder::new();
    let run = folder.run(["--config", "absent.toml", "tenant", "list"]);
    assert!(run.fails(2).contains("absent.toml"));
}

#[test]
fn without_a_catalog_a_command_says_how_to_name_one() {
    let folder = Folder::new();
    let run = folder.run(["tenant", "list"]);
    let error = run.fails(2);
    assert!(
        error.contains("TENANTRY_CATALOG_URL") && error.contains("tenantry dev"),
        "{error}"
    );
}

#[test]
fn a_wrong_call_names_its_help() {
    let folder = Folder::new();
    for (arguments, said) in [
        (&["tenant", "create", "Acme!"][..], "a-z, 0-9"),
        (
            &["tenant", "create", "acme", "--isolation", "moon"],
            "shared, schema, database",
        ),
        (&["tenant", "create", "www"], "reserved"),
        (&["tenant", "create", "acme", "--settings", "[]"], "JSON object"),
        (&["member", "add", "acme", "no-address"], "name@domain"),
        (&["token", "revoke", "7"], "id"),
        (&["tenant", "crate", "acme"], "unrecognized subcommand"),
        (&["dev", "--port", "65536"], "65536"),
    ] {
        let run = folder.run(arguments);
        let error = run.fails(2);
        assert!(
            error.contains(said) && error.contains("--help"),
            "{arguments:?}: {error}"
        );
    }
}

#[test]
fn with_json_an_error_is_json() {
    let folder = Folder::new();
    let run = folder.run(["tenant", "list", "--json"]);
    let error: serde_json::Value = serde_json::from_str(run.fails(2)).unwrap();
    assert_eq!(error["error"]["kind"], "usage");
    let run = folder.run(["tenant", "--json", "create"]);
    let error: serde_json::Value = serde_json::from_str(run.fails(2)).unwrap();
    assert!(error["error"]["message"].as_str().unwrap().contains("SLUG"));
}

#[test]
fn a_catalog_that_is_not_there_is_a_failure_that_names_no_password() {
    let folder = Folder::new();
    let environment = [
        ("TENANTRY_CATALOG_URL", "postgres://someone:hunter2@127.0.0.1:1/none"),
        (
            "TENANTRY_MASTER_KEY",
            "0000000000000000000000000000000000000000000000000000000000000000",
        ),
    ];
    let run = folder.run_with(["tenant", "list"], &environment);
    let error = run.fails(1);
    assert!(error.contains("catalog") && !error.contains("hunter2"), "{error}");
    let run = folder.run_with(["tenant", "list"], &[environment[0], ("TENANTRY_MASTER_KEY", "short")]);
    assert!(run.fails(2).contains("master key"));
}

#[test]
fn a_value_that_cannot_be_says_what_to_write() {
    let folder = Folder::new();
    for (arguments, expected) in [
        (&["token", "revoke", "nope"][..], "an id is a uuid"),
        (&["operation", "show", "nope"], "an id is a uuid"),
        (&["server", "set", "one", "--connections", "0"], "write 1 or more"),
        (&["server", "set", "one", "--own-spare-schemas", "many"], "0 keeps none"),
        (
            &["server", "add", "one", "--url", "-", "--capacity", "-1"],
            "see `tenantry server add --help`",
        ),
        (&["server", "add", "one", "--url", "-", "--capacity=-1"], "0 or more"),
        (&["operation", "list", "--state", "dead"], "pending, running, undoing"),
        (
            &["tenant", "list", "--stat", "active"],
            "found; a similar argument exists: '--state'",
        ),
    ] {
        let run = folder.run(arguments);
        let error = run.fails(2);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_key_file_that_others_may_read_is_warned_of_once() {
    let folder = Folder::new();
    let file = folder.write(
        "master.key",
        "0000000000000000000000000000000000000000000000000000000000000000",
    );
    let environment = [
        ("TENANTRY_CATALOG_URL", "postgres://someone@127.0.0.1:1/none"),
        ("TENANTRY_MASTER_KEY_FILE", file.to_str().unwrap()),
    ];
    for (mode, warnings) in [(0o644, 1), (0o640, 1), (0o600, 0)] {
        std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let run = folder.run_with(["tenant", "list"], &environment);
        let warned = run.stderr.lines().filter(|line| line.contains("chmod 600")).count();
        assert_eq!((run.code, warned), (1, warnings), "{mode:o}: {run:?}");
        assert_eq!(run.stderr.lines().count(), warnings + 1, "{run:?}");
    }
}
