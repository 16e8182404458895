//! The lines about large fleets can be measured: here with small ones, whose figures mean nothing.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::Folder;

#[tokio::test(flavor = "multi_thread")]
async fn every_line_about_large_fleets_is_measured_with_small_ones() {
    let folder = Folder::new();
    let lines = "noisy,million,schemas,skew,jobs,moves,list-16";
    let run = folder.run(["bench", "--json", "--small", "--rounds", "1", "--only", lines]);
    // A target that is missed is told by the code, and may be missed here.
    assert!(matches!(run.code, 0 | 1), "{run:?}");
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:?}"));
    let findings = report["findings"].as_array().unwrap();
    let names: BTreeSet<_> = findings.iter().map(|line| line["name"].as_str().unwrap()).collect();
    let expected = [
        "export",
        "export-memory",
        "jobs",
        "jobs-enqueue",
        "jobs-first",
        "list-16",
        "million-catalog",
        "million-cold",
        "million-read",
        "million-warm",
        "move-beside",
        "move-beside-writes",
        "move-copy",
        "move-pause",
        "move-pause-fast",
        "move-verify",
        "noisy",
        "restore-shared",
        "schemas-column",
        "schemas-create",
        "schemas-memory",
        "schemas-nothing",
        "schemas-planning",
        "skew",
        "skew-other",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    // What does not depend on the size.
    let median = |name: &str| {
        let line = findings.iter().find(|line| line["name"] == name).unwrap();
        line["figure"]["median"].as_f64().unwrap()
    };
    assert!(
        median("million-cold") <= 1.0,
        "one question for what was not seen before"
    );
    assert!(median("schemas-memory") > 1.0, "a backend remembers tables");
    let skew = findings.iter().find(|line| line["name"] == "skew").unwrap();
    assert!(
        skew["detail"].as_str().unwrap().contains(" 0 calls not served"),
        "{skew}"
    );
}
