//! What a plan that is asked for as an operation tells, beside locks.

use tenantry_catalog::operation::OperationState;
use tenantry_core::Isolation;

use crate::{
    fleet::{Fleet, operator, ops_on},
    migrate_overlay::with,
    migrate_verify::ended,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_tells_what_isolation_makes_what_the_linter_says_and_what_was_not_run() {
    let fleet = Fleet::start().await;
    fleet.create("special", Isolation::Schema).await.unwrap();
    let more = [
        (
            "0003_more.sql",
            "alter table contacts add column phone text;\n\
             alter table contacts add constraint named check (name <> '');\n\
             create index contacts_phone on contacts (phone);",
        ),
        (
            "0004_rows.sql",
            "-- tenantry: all tenants\nupdate contacts set phone = null;",
        ),
    ];
    let own = (
        "0001_fax.sql",
        "create table faxes (id int primary key);\nalter table contacts add constraint short check (length(name) < 90);",
    );
    let ops = ops_on(&fleet.catalog.url(), with(&more, &[own])).await;
    let operation = ops.start_plan(&operator()).await.unwrap();
    let runner = tokio::spawn({
        let ops = ops.clone();
        async move { ops.run_operations().await }
    });
    let done = ended(&fleet, &ops, &operation).await;
    runner.abort();
    assert_eq!(done.state, OperationState::Done, "{done:?}");
    let found = &done.progress;
    assert_eq!(found["pending"], 2, "{found}");
    let lint: Vec<_> = found["lint"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["rule"] == "constraint-missing-not-valid")
        .map(|finding| (finding["file"].as_str().unwrap(), finding["line"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        lint,
        [("0003_more.sql", 2), ("tenants/special/0001_fax.sql", 2)],
        "{found}"
    );
    let notes = |slug: Option<&str>, file: &str| -> String {
        let copies = found["copies"].as_array().unwrap();
        let copy = copies.iter().find(|copy| copy["tenant"].as_str() == slug).unwrap();
        let files = copy["files"].as_array().unwrap();
        let file = files.iter().find(|found| found["name"] == file).unwrap();
        file["notes"].to_string()
    };
    assert!(
        notes(None, "0003_more.sql").contains("index `contacts_phone` led by `tenant_id`"),
        "{found}"
    );
    assert!(notes(None, "0004_rows.sql").contains("not run on the copy"), "{found}");
    let own = notes(Some("special"), "tenants/special/0001_fax.sql");
    assert!(own.contains("faxes"), "{found}");
}
