//! `tenantry audit`: exit codes, forms of the answer, accepted findings.

use serde_json::Value;
use tenantry_testing::{TestDatabase, database, installation_id};

use crate::{fleet::Installation, support::Folder};

/// A database that has never heard of us, with a role that reads every tenant's rows.
struct Foreign {
    database: TestDatabase,
    role: String,
}

impl Foreign {
    async fn new() -> Self {
        let database = database().await;
        let role = format!("web_{}", installation_id());
        database
            .connect()
            .await
            .batch_execute(&format!(
                "create role {role} login connection limit 5; create schema shop; grant usage on schema shop to {role};
                 create table shop.orders (org int not null, id int, primary key (org, id)); grant select on shop.orders to {role};
                 insert into shop.orders values (1, 1), (2, 1)"
            ))
            .await
            .unwrap();
        Self { database, role }
    }

    fn arguments<'a>(&'a self, url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec![
            "audit",
            "--database",
            url,
            "--app-role",
            &self.role,
            "--tenant-column",
            "org",
        ];
        arguments.extend(more);
        arguments
    }

    async fn end(self) {
        let role = &self.role;
        let client = self.database.connect().await;
        client
            .batch_execute(&format!("drop owned by {role}; drop role {role}"))
            .await
            .unwrap();
    }
}

fn finding<'v>(answer: &'v Value, id: &str) -> &'v Value {
    let findings = answer["databases"][0]["findings"].as_array().unwrap();
    findings
        .iter()
        .find(|finding| finding["id"] == id)
        .unwrap_or_else(|| panic!("no {id}: {answer:#}"))
}

#[tokio::test]
async fn a_database_of_somebody_elses_is_audited_and_its_findings_proved() {
    let (folder, foreign) = (Folder::new(), Foreign::new().await);
    let url = foreign.database.url();
    let run = folder.run(foreign.arguments(&url, &["--prove", "--json"]));
    assert_eq!(run.code, 1, "{run:?}");
    let answer: Value = serde_json::from_str(&run.stdout).unwrap();
    let open = finding(&answer, "MT001");
    assert_eq!(open["severity"], "critical");
    assert_eq!(open["object"], "shop.orders");
    assert_eq!(open["proof"]["shown"], true);
    assert!(
        open["proof"]["script"]
            .as_str()
            .unwrap()
            .contains("session authorization")
    );
    let table = folder.run(foreign.arguments(&url, &["--prove"]));
    assert!(
        table.code == 1 && table.stdout.contains("MT001") && table.stdout.contains("proved"),
        "{table:?}"
    );
    foreign.end().await;
}

#[tokio::test]
async fn exit_codes_tell_findings_from_wrong_calls() {
    let (folder, foreign) = (Folder::new(), Foreign::new().await);
    let url = foreign.database.url();
    assert_eq!(folder.run(["audit", "--database", &url]).code, 2);
    assert_eq!(
        folder
            .run(["audit", "--database", &url, "--app-role", "nobody_here"])
            .code,
        2
    );
    assert_eq!(folder.run(foreign.arguments(&url, &["--fail-on", "often"])).code, 2);
    assert_eq!(
        folder
            .run(["audit", "--database", "postgres://", "--app-role", "x"])
            .code,
        2
    );
    assert_eq!(folder.run(foreign.arguments(&url, &["--fail-on", "critical"])).code, 1);
    foreign
        .database
        .connect()
        .await
        .batch_execute(&format!("revoke all on shop.orders from {}", foreign.role))
        .await
        .unwrap();
    let clean = folder.run(foreign.arguments(&url, &["--fail-on", "critical"]));
    assert_eq!(clean.code, 0, "{clean:?}");
    foreign.end().await;
}

#[tokio::test]
async fn accepted_findings_count_no_longer_and_leftovers_are_said() {
    let (folder, foreign) = (Folder::new(), Foreign::new().await);
    let url = foreign.database.url();
    let accepted = |expires: &str| {
        format!(
            "[[accepted]]\nid = \"MT001\"\nobject = \"shop.orders\"\nreason = \"the reports read all\"\nexpires = \"{expires}\"\n\
             [[accepted]]\nid = \"MT069\"\nobject = \"*\"\nreason = \"none left\"\nexpires = \"2999-01-01\"\n"
        )
    };
    folder.write("tenantry-audit.toml", &accepted("2999-01-01"));
    let run = folder.run(foreign.arguments(&url, &["--fail-on", "critical", "--json"]));
    let answer = run.json();
    assert_eq!(finding(&answer, "MT001")["accepted"], "the reports read all");
    assert_eq!(answer["leftovers"][0]["why"], "unused");
    folder.write("tenantry-audit.toml", &accepted("2020-01-01"));
    let run = folder.run(foreign.arguments(&url, &["--fail-on", "critical"]));
    assert!(run.code == 1 && run.stdout.contains("ended on 2020-01-01"), "{run:?}");
    folder.write(
        "tenantry-audit.toml",
        "[[accepted]]\nid = \"MT001\"\nobject = \"x\"\nreason = \"y\"\n",
    );
    assert!(folder.run(foreign.arguments(&url, &[])).fails(2).contains("expires"));
    foreign.end().await;
}

#[tokio::test]
async fn code_scanning_gets_sarif() {
    let (folder, foreign) = (Folder::new(), Foreign::new().await);
    let url = foreign.database.url();
    let run = folder.run(foreign.arguments(&url, &["--format", "sarif"]));
    assert_eq!(run.code, 1);
    let log: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().contains("sarif-2.1.0"));
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert!(
        rules
            .iter()
            .all(|rule| rule["id"].is_string() && rule["shortDescription"]["text"].is_string())
    );
    let results = run["results"].as_array().unwrap();
    assert!(!results.is_empty());
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(result["message"]["text"].is_string());
        let uri = &result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
        assert!(!uri.as_str().unwrap().contains([' ', ':']), "{uri}");
    }
    foreign.end().await;
}

#[tokio::test]
async fn the_configuration_of_a_pooler_is_looked_at() {
    let (folder, foreign) = (Folder::new(), Foreign::new().await);
    let url = foreign.database.url();
    folder.write("pgbouncer.ini", "[pgbouncer]\npool_mode = statement\n");
    let run = folder.run(foreign.arguments(&url, &["--pooler", "pgbouncer.ini"]));
    assert!(
        run.code == 1 && run.stdout.contains("MT109") && run.stdout.contains("pgbouncer.ini:2"),
        "{run:?}"
    );
    foreign.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenant_databases_are_audited_with_their_placements() {
    let installation = Installation::with_server().await;
    for isolation in ["shared", "schema", "database"] {
        installation.json(&["tenant", "create", &format!("a-{isolation}"), "--isolation", isolation]);
    }
    let answer = installation.json(&["audit", "--fail-on", "critical", "--prove", "--data"]);
    let databases = answer["databases"].as_array().unwrap();
    assert!(databases.len() >= 2, "{answer:#}");
    for database in databases {
        let worse: Vec<&Value> = database["findings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|finding| ["critical", "error"].contains(&finding["severity"].as_str().unwrap()))
            .filter(|finding| !["MT092", "MT094"].contains(&finding["id"].as_str().unwrap()))
            .collect();
        assert!(worse.is_empty(), "{worse:#?}");
    }
    let tenant = installation.json(&["tenant", "show", "a-schema"]);
    let (database, schema) = (
        tenant["placement"]["database"].as_str().unwrap(),
        tenant["placement"]["schema"].as_str().unwrap(),
    );
    let client = tenantry_testing::cluster().await.connect(database).await;
    client
        .batch_execute(&format!("alter schema {schema} rename to elsewhere"))
        .await
        .unwrap();
    let run = installation.run(&["audit", "--tenant", "a-schema", "--json"]);
    assert_eq!(run.code, 1, "{run:?}");
    let answer: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(answer["databases"].as_array().unwrap().len(), 1);
    assert!(finding(&answer, "MT102")["message"].as_str().unwrap().contains(schema));
}
