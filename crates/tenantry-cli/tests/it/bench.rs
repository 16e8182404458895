//! The lines about large fleets can be measured: here with small ones, whose figures mean nothing.

use std::{
    collections::BTreeSet,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::Folder;

#[tokio::test(flavor = "multi_thread")]
async fn every_line_about_large_fleets_is_measured_with_small_ones() {
    let folder = Folder::new();
    let lines = "noisy,million,schemas,skew,jobs,moves,servers,list-16";
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
        "servers",
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

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_told_to_stop_leaves_no_server_and_no_folder() {
    let folder = Folder::new();
    let mut bench = folder
        .command()
        .args(["bench", "--small", "--only", "list-16"])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(300);
    while folder.servers() == 0 {
        assert!(bench.try_wait().unwrap().is_none(), "it ended by itself");
        assert!(Instant::now() < end, "no server was started");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let pid = i32::try_from(bench.id()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let status = loop {
        if let Some(status) = bench.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < end, "it does not stop");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(status.code(), Some(1), "it says that it was stopped");
    assert_eq!(folder.servers(), 0);
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
