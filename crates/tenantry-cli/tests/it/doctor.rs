//! What `doctor` says of how full servers are.

use serde_json::Value;
use tenantry_testing::{OwnClusterOptions, own_cluster};

use crate::fleet::Installation;

/// Its lines about load, each with what is to be done about it.
fn loads(installation: &Installation) -> Vec<(String, String, String)> {
    let run = installation.run(&["doctor", "--json"]);
    let told: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    let findings = told["items"].as_array().unwrap().iter();
    let word = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    findings
        .filter(|finding| finding["check"] == "load")
        .map(|finding| (word(finding, "verdict"), word(finding, "found"), word(finding, "mend")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_tells_how_full_a_server_is_and_warns_before_its_connections_are_used_up() {
    let own = own_cluster(OwnClusterOptions {
        settings: vec![("max_connections".to_owned(), "24".to_owned())],
        ..OwnClusterOptions::default()
    })
    .await;
    let installation = Installation::new().await;
    let url = own.cluster().admin_url("postgres");
    installation.json(&["server", "add", "small", "--url", &url, "--connections", "4"]);
    installation.json(&["tenant", "create", "acme", "--isolation", "schema"]);
    let well = loads(&installation);
    assert!(
        well.len() == 1
            && well[0].0 == "well"
            && well[0].1.starts_with("small: ")
            && well[0].1.contains(" of 21 connections, ")
            && well[0].1.ends_with(" tables in shared ones"),
        "{well:?}"
    );

    let mut open = Vec::new();
    for _ in 0..17 {
        open.push(own.connect("postgres").await);
    }
    let strained = loads(&installation);
    assert!(
        strained.len() == 1
            && strained[0].0 == "warning"
            && strained[0].1.starts_with("small: ")
            && strained[0].1.ends_with(" of 21 connections are in use")
            && strained[0].2.contains("pg_stat_activity"),
        "{strained:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_warns_of_rows_that_are_not_frozen_in_time() {
    let own = own_cluster(OwnClusterOptions {
        settings: vec![("autovacuum_freeze_max_age".to_owned(), "100000".to_owned())],
        ..OwnClusterOptions::default()
    })
    .await;
    let installation = Installation::new().await;
    let url = own.cluster().admin_url("postgres");
    installation.json(&["server", "add", "old", "--url", &url, "--connections", "4"]);
    // What a transaction may still see is not frozen, however often autovacuum comes.
    let (holder, busy) = (own.connect("postgres").await, own.connect("postgres").await);
    let hold = "begin isolation level repeatable read; select 1";
    holder.batch_execute(hold).await.unwrap();
    let transactions = "do $$ begin for n in 1..210000 loop perform pg_current_xact_id(); commit; end loop; end $$";
    busy.batch_execute(transactions).await.unwrap();
    let strained = loads(&installation);
    assert!(
        strained.len() == 1
            && strained[0].0 == "warning"
            && strained[0].1.starts_with("old: the oldest row of ")
            && strained[0].1.contains(" transactions old: ")
            && strained[0].2.contains("`vacuum (freeze)` there"),
        "{strained:?}"
    );
}
