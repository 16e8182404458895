//! `tenantry adopt`: an existing database becomes a tenant in any isolation, by one command in an empty folder.

use serde_json::Value;
use tenantry_testing::TestDatabase;

use crate::support::Folder;

const SHOP: &str = "
    create table customer (id serial primary key, email text unique, name text);
    create table purchase (id serial primary key, customer_id int not null references customer, total numeric(10, 2));
    create view spent as select c.name, sum(p.total) as total from customer c join purchase p on p.customer_id = c.id group by c.name;
    insert into customer (email, name) values ('ann@x.example', 'Ann'), ('bob@x.example', 'Bob');
    insert into purchase (customer_id, total) values (1, 10), (1, 2.50), (2, 7);";

async fn shop(more: &str) -> TestDatabase {
    let database = tenantry_testing::database().await;
    let client = database.connect().await;
    client.batch_execute(&format!("{SHOP}{more}")).await.unwrap();
    database
}

fn rows_of(report: &Value, table: &str) -> Value {
    let tables = report["tables"].as_array().unwrap();
    tables.iter().find(|found| found["table"] == table).unwrap()["rows"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_database_becomes_a_tenant_of_each_isolation() {
    let folder = Folder::new();
    let original = shop("").await;
    let url = original.url();
    for (slug, isolation) in [("one", "shared"), ("two", "schema"), ("three", "database")] {
        let report = folder
            .run(["adopt", &url, "--slug", slug, "--isolation", isolation, "--json"])
            .json();
        assert_eq!(rows_of(&report, "customer"), 2, "{report:#}");
        assert_eq!(rows_of(&report, "purchase"), 3);
        assert_eq!(report["tenant"]["isolation"], isolation);
        assert_eq!(report["migration"]["mended"], false);
        assert_eq!(folder.servers(), 0, "the private PostgreSQL is stopped");
    }
    let migration = std::fs::read_to_string(folder.path().join("migrations/0001_adopted.sql")).unwrap();
    assert!(migration.contains("create table customer"), "{migration}");
    // What the tenant has not is not passed over.
    let other = folder.run([
        "adopt",
        &url,
        "--slug",
        "one",
        "--isolation",
        "schema",
        "--plan",
        "gold",
    ]);
    let said = other.fails(2);
    assert!(said.contains("--isolation schema, but it has shared"), "{said}");
    assert!(said.contains("--plan gold, but it has"), "{said}");
    // Once more into the same tenant: refused, and nothing is doubled.
    let again = folder.run(["adopt", &url, "--slug", "one", "--isolation", "shared"]);
    assert!(again.fails(1).contains("already has rows in customer"), "{again:?}");
    // A source of another application, and one that has changed: told before a tenant is made.
    let client = original.connect().await;
    client
        .batch_execute("create table album (id int primary key); alter table customer add phone text")
        .await
        .unwrap();
    let changed = folder.run(["adopt", &url, "--slug", "four"]);
    let said = changed.fails(1);
    assert!(said.contains("table album"), "{said}");
    assert!(said.contains("column phone of table customer"), "{said}");
    assert!(said.contains("is not the one that it was written from"), "{said}");
    assert!(said.contains("no tenant was made"), "{said}");
    client
        .batch_execute(
            "drop table album; alter table customer drop phone; alter table purchase alter total set default 0",
        )
        .await
        .unwrap();
    let report = folder
        .run(["adopt", &url, "--slug", "four", "--isolation", "schema", "--json"])
        .json();
    assert_eq!(
        report["tenant"]["isolation"], "schema",
        "it was not there yet: {report:#}"
    );
    assert_eq!(report["migration"]["source_changed"], true);
    assert_eq!(report["migration"]["mended"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_isolation_refuses_is_named_with_its_line_and_mend_and_no_tenant_is_made() {
    let folder = Folder::new();
    let original = shop("create materialized view totals as select sum(total) from purchase;").await;
    let refused = folder.run(["adopt", &original.url(), "--slug", "shop"]);
    let said = refused.fails(1);
    assert!(said.contains("1 statement is refused"), "{said}");
    assert!(!said.contains("operation"), "{said}");
    let line = refused.stdout.lines().find(|line| line.contains("0001_adopted.sql:"));
    assert!(
        line.is_some_and(|line| line.contains("materialized view")),
        "{refused:?}"
    );
    let refused = folder.run(["adopt", &original.url(), "--slug", "shop", "--json"]);
    refused.fails(1);
    let listed: Value = serde_json::from_str(&refused.stdout).unwrap();
    let refusal = &listed["refusals"][0];
    assert!(refusal["line"].as_u64().unwrap() > 1, "{listed:#}");
    for field in ["file", "reason", "mend"] {
        assert!(!refusal[field].as_str().unwrap().is_empty(), "{listed:#}");
    }
    // Mended by hand, it goes through.
    let file = folder.path().join("migrations/0001_adopted.sql");
    let text = std::fs::read_to_string(&file).unwrap();
    let start = text.find("create materialized view").unwrap();
    let end = start + text[start..].find(';').unwrap() + 1;
    std::fs::write(&file, format!("{}{}", &text[..start], &text[end..])).unwrap();
    let report = folder
        .run(["adopt", &original.url(), "--slug", "shop", "--json"])
        .json();
    assert_eq!(report["migration"]["mended"], true);
    assert_eq!(rows_of(&report, "purchase"), 3);
}

#[test]
fn a_wrong_call_says_what_to_write() {
    let folder = Folder::new();
    for (arguments, expected) in [
        (vec!["adopt", "shop"], "postgres://user:password@host:port/database"),
        (vec!["adopt", "postgres://localhost/postgres"], "--slug"),
    ] {
        let run = folder.run(&arguments);
        let said = run.fails(2);
        assert!(said.contains(expected), "{said}");
    }
    let away = folder.run(["adopt", "postgres://u:p@127.0.0.1:1/shop"]);
    assert!(away.fails(1).contains("can't be reached"), "{away:?}");
    assert!(!folder.path().join("migrations").exists());
}
