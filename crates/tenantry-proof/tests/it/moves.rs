//! Moves under faults. Five hundred runs are `cargo xtask moves --runs 500`; here is one batch of each kind of fault that differs most.

use std::process::Command;

/// Runs the program, and gives what it printed.
fn proof(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tenantry-proof"))
        .arg("moves")
        .args(arguments)
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    said
}

#[test]
fn nothing_is_lost_doubled_or_foreign_whatever_breaks_while_tenants_move() {
    let faults = "kill-mover,kill-catalog,two-movers";
    let said = proof(&["--runs", "12", "--seed", "7", "--lanes", "2", "--faults", faults]);
    assert!(said.contains("12 runs, 0 findings"), "{said}");
}

#[test]
fn what_a_broken_move_would_leave_is_found() {
    let said = proof(&["--damage", "--seed", "7", "--faults", "slow"]);
    assert!(said.contains("4 damages found"), "{said}");
}

#[test]
fn random_tables_and_rows_are_the_same_in_every_home() {
    let said = proof(&["--trips", "1", "--seed", "7"]);
    assert_eq!(said.matches("the same in 8 homes").count(), 1, "{said}");
}
