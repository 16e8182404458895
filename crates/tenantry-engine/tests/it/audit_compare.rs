//! The corpus under other linters of row security, where they are installed: measured, not quoted.
//!
//! A linter *tells* of a case where it reports something at or above a warning that it does not report of the prelude.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::PathBuf,
};

use serde_json::Value;
use tenantry_engine::audit::{self, Severity};
use tenantry_testing::{OwnCluster, OwnClusterOptions, own_cluster};
use tokio_postgres::Client;

use crate::audit_corpus::{Case, PRELUDE, cases, subject};

/// What the API of Supabase has; its linter asks for these.
const STUBS: &str = "create schema auth; create schema extensions; create schema storage; create role anon;
    create table auth.users (id uuid primary key); revoke all on schema auth, extensions, storage from public;";

/// Splinter looks at the roles of Supabase's API.
const ROLE: &str = "authenticated";

struct Tools {
    pgrls: Option<PathBuf>,
    splinter: Option<String>,
}

/// `TENANTRY_PGRLS` is the program of pgrls, `TENANTRY_SPLINTER` the file splinter.sql; `TENANTRY_COMPARISON` is where the
/// table is written.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs other tools: see docs/audit/comparison.md"]
async fn the_corpus_under_other_linters() {
    let tools = Tools {
        pgrls: std::env::var_os("TENANTRY_PGRLS").map(PathBuf::from),
        splinter: std::env::var("TENANTRY_SPLINTER")
            .ok()
            .map(|file| std::fs::read_to_string(file).unwrap()),
    };
    if tools.pgrls.is_none() && tools.splinter.is_none() {
        eprintln!("SKIPPED: name pgrls by TENANTRY_PGRLS or splinter.sql by TENANTRY_SPLINTER");
        return;
    }
    let cluster = own_cluster(OwnClusterOptions::default()).await;
    let baseline = look(&cluster, &tools, None).await;
    let mut tally: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    let (mut broken, mut correct) = (0, 0);
    let mut skipped = Vec::new();
    for case in cases("audited", "corpus_") {
        let Some(said) = try_look(&cluster, &tools, &case).await else {
            skipped.push(case.name);
            continue;
        };
        let is_broken = !case.expected.is_empty();
        broken += usize::from(is_broken);
        correct += usize::from(!is_broken);
        for (tool, reports) in said {
            if reports.difference(&baseline[tool]).next().is_some() {
                tally
                    .entry((tool, if is_broken { "broken" } else { "correct" }))
                    .or_default()
                    .push(case.name);
            }
        }
    }
    let count = |tool, kind| tally.get(&(tool, kind)).map_or(0, Vec::len);
    let mut table = format!(
        "{broken} broken and {correct} correct cases\n\n| Linter | tells of broken ones | tells of correct ones |\n|---|---|---|\n"
    );
    for tool in baseline.keys() {
        writeln!(
            table,
            "| {tool} | {} of {broken} | {} of {correct} |",
            count(tool, "broken"),
            count(tool, "correct")
        )
        .unwrap();
    }
    for ((tool, kind), names) in &tally {
        if *kind == "correct" {
            writeln!(table, "\nCorrect, and told of by {tool}: {}.", names.join("; ")).unwrap();
        }
    }
    writeln!(table, "\nNot run: {}", skipped.join("; ")).unwrap();
    println!("{table}");
    if let Some(file) = std::env::var_os("TENANTRY_COMPARISON") {
        std::fs::write(file, &table).unwrap();
    }
    // The corpus is ours: that we find what we labelled is tested elsewhere, and here as the others are.
    assert_eq!(
        (count("tenantry", "broken"), count("tenantry", "correct")),
        (broken, 0),
        "{table}"
    );
}

type Said = BTreeMap<&'static str, BTreeSet<String>>;

async fn try_look(cluster: &OwnCluster, tools: &Tools, case: &Case) -> Option<Said> {
    // What stands in no transaction here would hold for the cases after it.
    if case.until.is_some() || case.sql.contains("parameter backtrace_functions to public") {
        return None;
    }
    Some(look(cluster, tools, Some(case)).await)
}

async fn look(cluster: &OwnCluster, tools: &Tools, case: Option<&Case>) -> Said {
    let maintenance = cluster.connect("postgres").await;
    maintenance.batch_execute("create database audited").await.unwrap();
    let client = cluster.connect("audited").await;
    let sql =
        format!("{STUBS} {PRELUDE}\n{}\n; reset role", case.map_or("", |case| &case.sql)).replace("corpus_web", ROLE);
    if let Err(error) = client.batch_execute(&sql).await {
        panic!("{:?} {:?}", case.map(|case| case.name), error.as_db_error());
    }
    let mut said = Said::new();
    said.insert("tenantry", by_us(&client).await);
    if let Some(splinter) = &tools.splinter {
        said.insert("splinter", by_splinter(&client, splinter).await);
    }
    if let Some(pgrls) = &tools.pgrls {
        said.insert("pgrls", by_pgrls(pgrls, &cluster.cluster().admin_url("audited")));
    }
    drop(client);
    clear(&maintenance).await;
    said
}

async fn clear(maintenance: &Client) {
    maintenance
        .batch_execute("drop database audited with (force)")
        .await
        .unwrap();
    let roles = maintenance
        .query(
            "select rolname::text from pg_roles where rolname like 'corpus%' or rolname in ('anon', $1)",
            &[&ROLE],
        )
        .await
        .unwrap();
    let names: Vec<String> = roles.iter().map(|row| row.get(0)).collect();
    maintenance
        .batch_execute(&format!("drop owned by {0} cascade; drop role {0}", names.join(", ")))
        .await
        .unwrap();
}

async fn by_us(client: &Client) -> BTreeSet<String> {
    client.batch_execute("begin").await.unwrap();
    let report = audit::inspect(client, &subject(ROLE)).await.unwrap();
    client.batch_execute("rollback; reset all").await.unwrap();
    let above = report
        .findings
        .iter()
        .filter(|finding| finding.severity > Severity::Info);
    above
        .map(|finding| format!("{} {}", finding.id, finding.object))
        .collect()
}

async fn by_splinter(client: &Client, sql: &str) -> BTreeSet<String> {
    let query = sql.split_once(';').unwrap().1;
    client
        .batch_execute("begin; set local search_path = ''; set local pgrst.db_schemas = 'app, public'")
        .await
        .unwrap();
    let rows = client
        .query(
            &format!(
                "select level, name, detail from ({}) x",
                query.trim().trim_end_matches(';')
            ),
            &[],
        )
        .await;
    let rows = rows.unwrap_or_else(|error| panic!("{error:?}"));
    client.batch_execute("rollback").await.unwrap();
    rows.iter()
        .filter(|row| row.get::<_, &str>(0) != "INFO")
        .map(|row| format!("{} {}", row.get::<_, String>(1), row.get::<_, String>(2)))
        .collect()
}

fn by_pgrls(program: &std::path::Path, url: &str) -> BTreeSet<String> {
    let output = std::process::Command::new(program)
        .args([
            "lint",
            "--database-url",
            url,
            "--schemas",
            "app,ctx,public",
            "--format",
            "json",
            "--min-severity",
            "warning",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let answer: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr)));
    let list = ["violations", "findings", "results"]
        .iter()
        .find_map(|key| answer[*key].as_array());
    let list = list
        .or_else(|| answer.as_array())
        .unwrap_or_else(|| panic!("no list of violations: {text}"));
    list.iter().map(Value::to_string).collect()
}
