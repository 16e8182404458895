//! Many moves at once at the command line: the plan first, then the moves, on servers that are real.

use serde_json::Value;
use tenantry_testing::second_cluster;

use crate::fleet::Installation;

impl Installation {
    /// Two servers of one region, `first` and `second`.
    async fn of_one_region() -> Self {
        let installation = Self::with_server().await;
        let listed = installation.json(&["server", "list"]);
        let region = listed["items"][0]["region"].as_str().unwrap();
        let url = second_cluster().await.admin_url("postgres");
        installation.json(&["server", "add", "second", "--url", &url, "--region", region]);
        installation
    }

    fn create_on_first(&self, slug: &str, isolation: &str) -> Value {
        self.json(&["tenant", "create", slug, "--isolation", isolation, "--server", "first"])
    }

    /// `schema@second`.
    fn place(&self, slug: &str) -> String {
        let placement = self.json(&["tenant", "show", slug])["placement"].clone();
        let part = |name: &str| placement[name].as_str().unwrap().to_owned();
        format!("{}@{}", part("isolation"), part("server"))
    }
}

fn slugs(shown: &Value) -> Vec<&str> {
    let moves = shown["moves"].as_array().unwrap();
    let mut slugs: Vec<_> = moves.iter().map(|one| one["slug"].as_str().unwrap()).collect();
    slugs.sort_unstable();
    slugs
}

fn states(shown: &Value) -> Vec<&str> {
    let moves = shown["moves"].as_array().unwrap();
    moves.iter().map(|one| one["state"].as_str().unwrap()).collect()
}

/// A server's tenants before and after.
fn tenants(shown: &Value, server: &str) -> (i64, i64) {
    let servers = shown["servers"].as_array().unwrap();
    let found = servers.iter().find(|one| one["server"] == server).unwrap();
    (
        found["tenants"].as_i64().unwrap(),
        found["tenants_after"].as_i64().unwrap(),
    )
}

const ISOLATIONS: [&str; 3] = ["database", "schema", "shared"];

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_drained_as_its_plan_says() {
    let installation = Installation::of_one_region().await;
    let all = ISOLATIONS.map(|isolation| {
        let slug = format!("as-{isolation}");
        installation.create_on_first(&slug, isolation);
        slug
    });
    let unasked = installation.run(&["server", "drain", "first"]);
    assert!(unasked.fails(2).contains("--dry-run"), "{unasked:?}");
    let plan = installation.json(&["server", "drain", "first", "--dry-run"]);
    assert_eq!((&plan["dry_run"], slugs(&plan).len()), (&true.into(), 3), "{plan}");
    assert_eq!(slugs(&plan), all, "{plan}");
    assert_eq!(states(&plan), ["planned"; 3], "{plan}");
    assert_eq!(plan["stays"], serde_json::json!([]), "{plan}");
    assert_eq!(tenants(&plan, "first"), (3, 0), "{plan}");
    assert_eq!(tenants(&plan, "second"), (0, 3), "{plan}");
    let text = installation.run(&["server", "drain", "first", "--dry-run"]);
    assert_eq!(text.code, 0, "{text:?}");
    for told in ["as-shared", "planned", "3 → 0", "0 → 3", "calls, 7 days"] {
        assert!(text.stdout.contains(told), "{told}: {}", text.stdout);
    }
    // A plan changes nothing: it takes new ones still.
    assert_eq!(installation.place("as-shared"), "shared@first");
    let drained = installation.json(&[
        "server",
        "drain",
        "first",
        "--to",
        "second",
        "--concurrency",
        "1",
        "--yes",
    ]);
    assert_eq!(drained["dry_run"], false, "{drained}");
    assert_eq!(slugs(&drained), all, "{drained}");
    assert_eq!(states(&drained), ["moved"; 3], "{drained}");
    for one in drained["moves"].as_array().unwrap() {
        let operation = installation.json(&["operation", "show", one["operation"].as_str().unwrap()]);
        assert_eq!(operation["state"], "done", "{operation}");
    }
    for isolation in ISOLATIONS {
        let place = installation.place(&format!("as-{isolation}"));
        assert_eq!(place, format!("{isolation}@second"));
    }
    let new = ["tenant", "create", "new", "--server", "first"];
    installation.run(&new).fails(1);
    let again = installation.run(&["server", "drain", "first", "--yes"]);
    assert_eq!(again.code, 0, "{again:?}");
    let undone = installation.run(&["server", "drain", "first", "--undo"]);
    assert_eq!(undone.stdout.trim(), "new tenants may come onto first");
    installation.json(&new);
    assert_eq!(installation.place("new"), "shared@first");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_balanced_as_their_plan_says() {
    let installation = Installation::of_one_region().await;
    let catalog = installation.catalog().await;
    for letter in ["a", "b", "c", "d"] {
        let slug = format!("same-{letter}");
        let made = installation.create_on_first(&slug, "schema");
        let calls = format!(
            "insert into tenantry_catalog.usage_day (tenant, day, requests)
             values ('{}', (now() at time zone 'UTC')::date, 1000)",
            made["id"].as_str().unwrap()
        );
        catalog.batch_execute(&calls).await.unwrap();
    }
    let unasked = installation.run(&["server", "rebalance"]);
    assert!(unasked.fails(2).contains("--yes"), "{unasked:?}");
    let plan = installation.json(&["server", "rebalance", "--dry-run"]);
    let planned: Vec<String> = slugs(&plan).into_iter().map(str::to_owned).collect();
    assert!((1..=2).contains(&planned.len()), "{plan}");
    let (before, after) = tenants(&plan, "first");
    assert_eq!((before, before - after), (4, planned.len() as i64), "{plan}");
    let text = installation.run(&["server", "rebalance", "--dry-run"]);
    assert!(
        text.code == 0 && text.stdout.contains(&format!("4 → {after}")),
        "{text:?}"
    );
    assert_eq!(
        installation.place(&planned[0]),
        "schema@first",
        "a plan changes nothing"
    );
    let balanced = installation.run(&["server", "rebalance", "--yes"]);
    assert_eq!(balanced.code, 0, "{balanced:?}");
    assert_eq!(balanced.stdout.matches("moved").count(), planned.len(), "{balanced:?}");
    for slug in &planned {
        assert_eq!(installation.place(slug), "schema@second");
    }
    let listed = installation.json(&["operation", "list"]);
    let moves = listed["items"].as_array().unwrap().iter();
    assert_eq!(
        moves.filter(|one| one["kind"] == "move").count(),
        planned.len(),
        "{listed}"
    );
    let rest = installation.json(&["server", "rebalance", "--dry-run"]);
    assert!(slugs(&rest).len() < planned.len() || slugs(&rest).is_empty(), "{rest}");
}
