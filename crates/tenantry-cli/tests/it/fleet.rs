//! Tenants, members, servers, migrations and keys, end to end on a real server.

use std::process::Command;

use serde_json::Value;
use tenantry_testing::{FaultProxy, TestDatabase, cluster, database};

use crate::support::{Folder, Run};

/// An installation of its own: an empty catalog, a key, an application's migrations.
pub(crate) struct Installation {
    folder: Folder,
    catalog: TestDatabase,
}

pub(crate) const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

const NOTES: &str = "create table notes (id uuid primary key default gen_random_uuid(), title text not null);\n";

impl Installation {
    async fn empty() -> Self {
        Self {
            folder: Folder::new(),
            catalog: database().await,
        }
    }

    /// With a server, and the reference application.
    pub(crate) async fn crm() -> Self {
        let installation = Self::empty().await;
        installation.add_server().await;
        installation
    }

    pub(crate) async fn new() -> Self {
        let installation = Self::empty().await;
        installation
            .folder
            .write("tenantry.toml", "migrations = \"migrations\"\n");
        installation.folder.write("migrations/0001_notes.sql", NOTES);
        installation
    }

    pub(crate) async fn with_server() -> Self {
        let installation = Self::new().await;
        installation.add_server().await;
        installation
    }

    /// With a server and the reference application.
    pub(crate) async fn with_crm() -> Self {
        let installation = Self::new().await;
        installation.folder.write("tenantry.toml", "");
        installation.add_server().await;
        installation
    }

    async fn add_server(&self) {
        let url = cluster().await.admin_url("postgres");
        let added = self.run(&["server", "add", "first", "--url", &url, "--json"]);
        assert_eq!(added.json()["name"], "first");
    }

    /// A file in its folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        self.folder.write(name, text)
    }

    /// The address of its catalog.
    pub(crate) fn catalog_url(&self) -> String {
        self.catalog.url()
    }

    /// A connection to its catalog.
    pub(crate) async fn catalog(&self) -> tokio_postgres::Client {
        cluster().await.connect(self.catalog.name()).await
    }

    fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("TENANTRY_CATALOG_URL", self.catalog.url()),
            ("TENANTRY_MASTER_KEY", KEY.to_owned()),
        ]
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.folder.command();
        command.args(arguments).envs(self.environment());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let environment = self.environment();
        let environment: Vec<_> = environment
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        self.folder.run_with(arguments, &environment)
    }

    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--json"]].concat()).json()
    }
}

#[tokio::test]
async fn a_tenant_lives_from_create_to_purge() {
    let installation = Installation::with_server().await;
    for isolation in ["shared", "schema", "database"] {
        let slug = format!("a-{isolation}");
        let created = installation.json(&[
            "tenant",
            "create",
            &slug,
            "--isolation",
            isolation,
            "--name",
            "A Ltd.",
            "--admin",
            "ann@a.example",
            "--settings",
            r#"{"locale":"de"}"#,
        ]);
        assert_eq!(created["state"], "active");
        assert_eq!(created["isolation"], isolation);
        assert_eq!(created["placement"]["server"], "first");
        // Each field that `GET /v1/tenants/{id}` shows, under its name.
        for field in [
            "slug",
            "name",
            "plan",
            "settings",
            "address",
            "phone",
            "website",
            "version",
            "deleted_at",
        ] {
            assert!(created.get(field).is_some(), "{field}: {created:#}");
        }
        assert_eq!(created["placement"]["isolation"], isolation);
        assert_eq!(created["settings"]["locale"], "de");
        assert_eq!(created["admin"]["email"], "ann@a.example");
        assert_eq!(created["admin"]["password"].as_str().unwrap().len(), 20);
    }
    let size = installation.json(&["tenant", "size", "a-database"]);
    assert_eq!(
        (&size["isolation"], &size["rows"]),
        (&"database".into(), &0.into()),
        "{size}"
    );
    assert!(
        size["bytes"].as_i64().unwrap() > 1_000_000 && size["tables"][0]["table"] == "notes",
        "{size}"
    );
    assert!(
        installation
            .run(&["tenant", "size", "nobody"])
            .fails(1)
            .contains("no such tenant")
    );
    // There and back: what follows finds it where it was.
    for to in ["schema", "shared"] {
        let plan = installation.json(&["tenant", "move", "a-shared", "--to", to, "--dry-run"]);
        assert_eq!(
            (&plan["to"]["isolation"], plan["obstacles"].as_array().unwrap().len()),
            (&to.into(), 0),
            "{plan}"
        );
        let moved = installation.json(&["tenant", "move", "a-shared", "--to", to]);
        assert_eq!(
            (&moved["kind"], &moved["state"]),
            (&"move".into(), &"done".into()),
            "{moved}"
        );
        assert_eq!(installation.json(&["tenant", "show", "a-shared"])["isolation"], to);
        let id = moved["id"].as_str().unwrap();
        let certified = installation.run(&["operation", "certificate", id, "--json"]);
        assert_eq!(certified.json()["certificate"]["to"]["isolation"], to);
        let document = installation.write("move.json", &certified.stdout);
        let verify = ["operation", "certificate", "--verify", document.to_str().unwrap()];
        let verified = installation.json(&verify);
        assert_eq!(verified["certificate"], certified.json()["certificate"]);
        let changed = certified.stdout.replace("\"held_ms\"", "\"waited_ms\"");
        installation.write("move.json", &changed);
        assert!(installation.run(&verify).fails(1).contains("differs"));
        installation.write("move.json", &certified.stdout);
        let as_other = installation.run(&["tenant", "erasure", "--verify", document.to_str().unwrap()]);
        assert!(
            as_other.fails(1).contains("operation certificate --verify"),
            "{as_other:?}"
        );
    }
    let there = installation.run(&["tenant", "move", "a-shared", "--to", "shared"]);
    let there = there.fails(1);
    assert!(there.contains("lives there already"), "{there}");
    let listed = installation.json(&["tenant", "list"]);
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
    let only = installation.json(&["tenant", "list", "--isolation", "schema"]);
    assert_eq!(only["items"][0]["slug"], "a-schema");

    for slug in ["a-shared", "a-schema", "a-database"] {
        assert_eq!(installation.json(&["tenant", "suspend", slug])["state"], "suspended");
        assert_eq!(installation.json(&["tenant", "resume", slug])["state"], "active");
        let refused = installation.run(&["tenant", "purge", slug, "--yes"]);
        assert!(refused.fails(1).contains("delete it first"));
        assert_eq!(installation.json(&["tenant", "delete", slug])["state"], "deleted");
        assert!(installation.run(&["tenant", "purge", slug]).fails(2).contains("--yes"));
        assert_eq!(
            installation.json(&["tenant", "purge", slug, "--yes"])["state"],
            "purged"
        );
    }
    assert!(
        installation
            .run(&["tenant", "show", "a-shared"])
            .fails(1)
            .contains("no such tenant")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_told_as_that() {
    let installation = Installation::new().await;
    let cluster = cluster().await;
    let proxy = FaultProxy::start(cluster.host(), cluster.port()).await;
    let url = cluster
        .admin_url("postgres")
        .replace(&format!(":{}/", cluster.port()), &format!(":{}/", proxy.port()));
    installation.json(&["server", "add", "first", "--url", &url]);
    installation.json(&["tenant", "create", "acme", "--isolation", "schema"]);

    let listed = installation.json(&["operation", "list", "--tenant", "acme"]);
    let operation = &listed["items"][0];
    assert_eq!(
        (&operation["kind"], &operation["state"]),
        (&"provision".into(), &"done".into())
    );
    let id = operation["id"].as_str().unwrap();
    assert_eq!(installation.json(&["operation", "show", id])["id"], id);
    // Page by page.
    assert_eq!(listed["next_cursor"], Value::Null);
    let whole = installation.json(&["operation", "list"]);
    let whole = whole["items"].as_array().unwrap();
    let (mut pages, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut arguments = vec!["operation", "list", "--limit", "1"];
        if let Some(after) = &after {
            arguments.extend(["--after", after.as_str()]);
        }
        let page = installation.json(&arguments);
        pages.extend(page["items"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        let text = installation.run(&arguments).stdout;
        assert!(text.contains(&format!("there are more: --after {cursor}")), "{text}");
        after = Some(cursor.to_owned());
    }
    assert_eq!(&pages, whole);
    assert!(
        installation
            .run(&["operation", "show", id])
            .stdout
            .contains("provision")
    );
    let nowhere = installation.run(&["operation", "show", "01900000-0000-7000-8000-000000000000"]);
    assert!(nowhere.fails(1).contains("tenantry operation list"));

    proxy.cut();
    let verified = installation.run(&["migrate", "verify"]);
    assert_eq!(verified.code, 1);
    let error = verified.stderr.lines().last().unwrap();
    assert!(error.contains("2 of 2 schemas could not be read"), "{error}");
    assert!(!error.contains("differ from"), "{error}");
    let hardened = installation.run(&["server", "harden", "first"]);
    assert_eq!(hardened.code, 1);
    let error = hardened.stderr.lines().last().unwrap();
    assert!(
        error.contains("could not be worked on") && !error.contains("superuser's"),
        "{error}"
    );
    proxy.heal();
}

#[tokio::test]
async fn who_or_what_is_not_there_is_told_with_the_next_step() {
    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "acme"]);
    for (arguments, expected) in [
        (
            &["token", "access", "nobody@x.example"][..],
            "no active account with this e-mail",
        ),
        (
            &["member", "reset-password", "nobody@x.example"],
            "no active account with this e-mail",
        ),
        (&["tenant", "show", "nobody"], "tenantry tenant list"),
        (&["tenant", "create", "acme"], "choose another"),
        (
            &["tenant", "create", "other", "--server", "nowhere"],
            "tenantry server list",
        ),
        (&["server", "check", "nowhere"], "tenantry server list"),
    ] {
        let run = installation.run(arguments);
        let error = run.fails(1);
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("password is wrong"), "{error}");
    }
}

#[tokio::test]
async fn a_plan_chooses_the_isolation() {
    let installation = Installation::with_server().await;
    installation.folder.write(
        "tenantry.toml",
        "migrations = \"migrations\"\n[plans.gold]\nisolation = \"database\"\n",
    );
    let created = installation.json(&["tenant", "create", "rich", "--plan", "gold"]);
    assert_eq!(created["isolation"], "database");
    assert_eq!(installation.json(&["tenant", "create", "poor"])["isolation"], "shared");
    // One that nobody has spoken of is told, whichever way it was meant.
    let said = installation.run(&["tenant", "create", "typo", "--plan", "glod"]);
    assert!(said.code == 0 && said.stderr.contains("the plan glod"), "{said:?}");
    installation.json(&["plan", "set", "silver", "--members", "3"]);
    for (slug, plan) in [("fine", "silver"), ("also-fine", "gold"), ("usual", "free")] {
        let said = installation.run(&["tenant", "create", slug, "--plan", plan]);
        assert!(said.code == 0 && !said.stderr.contains("note"), "{said:?}");
    }
}

#[tokio::test]
async fn what_can_not_be_created_is_refused_in_one_line() {
    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "acme"]);
    assert!(
        installation
            .run(&["tenant", "create", "acme"])
            .fails(1)
            .contains("slug")
    );
    assert!(
        installation
            .run(&["tenant", "create", "acrne"])
            .fails(1)
            .contains("confused")
    );
    assert!(
        installation
            .run(&["tenant", "create", "other", "--server", "second"])
            .fails(1)
            .contains("server")
    );
    assert!(
        installation
            .run(&["tenant", "create", &"x".repeat(10_000)])
            .fails(2)
            .contains("2 to 48")
    );
}

#[tokio::test]
async fn members_come_change_and_go_and_an_owner_stays() {
    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "acme", "--admin", "ann@acme.example"]);
    let added = installation.json(&[
        "member",
        "add",
        "acme",
        "Bob@acme.example",
        "--role",
        "viewer",
        "--name",
        "Bob",
    ]);
    assert_eq!(
        (&added["email"], &added["role"]),
        (&"bob@acme.example".into(), &"viewer".into())
    );
    assert_eq!(
        installation.json(&["member", "set-role", "acme", "bob@acme.example", "admin"])["role"],
        "admin"
    );
    let account = added["account_id"].as_str().unwrap();
    assert_eq!(
        installation.json(&["member", "set-role", "acme", account, "member"])["role"],
        "member"
    );
    let refused = installation.run(&["member", "remove", "acme", "ann@acme.example"]);
    assert!(refused.fails(1).contains("owner"));
    assert!(
        installation
            .run(&["member", "add", "acme", "bob@acme.example"])
            .fails(1)
            .contains("already")
    );
    installation.json(&["member", "remove", "acme", "bob@acme.example"]);
    let listed = installation.json(&["member", "list", "acme"]);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    let table = installation.run(&["member", "list", "acme"]).stdout;
    assert!(table.contains("ann@acme.example") && table.contains("owner"), "{table}");
    assert!(
        installation
            .run(&["member", "remove", "acme", "bob@acme.example"])
            .fails(1)
            .contains("no member")
    );
}

#[tokio::test]
async fn keys_are_shown_once_and_can_be_revoked() {
    let installation = Installation::new().await;
    let made = installation.json(&["token", "create", "ci", "--scope", "read", "--scope", "tenants"]);
    assert!(made["key"].as_str().unwrap().len() > 30);
    assert_eq!(made["scopes"], serde_json::json!(["read", "tenants"]));
    let listed = installation.json(&["token", "list"]);
    assert_eq!(listed["items"][0]["name"], "ci");
    assert!(listed["items"][0].get("key").is_none());
    let id = made["id"].as_str().unwrap();
    installation.json(&["token", "revoke", id]);
    assert!(installation.run(&["token", "revoke", id]).fails(1).contains("no such"));
}

#[tokio::test]
async fn an_access_token_of_a_person_is_printed_alone() {
    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "acme", "--admin", "ann@acme.example"]);
    let printed = installation.run(&["token", "access", "ann@acme.example"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    assert_eq!(printed.stdout.trim().split('.').count(), 3);
    assert!(
        installation
            .run(&["token", "access", "eve@acme.example"])
            .fails(1)
            .contains("no active account")
    );
}

#[tokio::test]
async fn servers_are_listed_and_checked() {
    let installation = Installation::with_server().await;
    let listed = installation.json(&["server", "list"]);
    assert_eq!(listed["items"][0]["name"], "first");
    assert!(
        !listed.to_string().contains(cluster().await.password()),
        "no password is shown"
    );
    installation.json(&["tenant", "create", "own", "--isolation", "database"]);
    let checked = installation.json(&["server", "check"]);
    assert_eq!(checked["items"][0]["ok"], true);
    assert_eq!(checked["items"][0]["tier"], "sealed");
    let mut protections: Vec<&str> = checked["items"][0]["databases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|database| database["protection"].as_str().unwrap())
        .collect();
    protections.sort_unstable();
    assert_eq!(protections, ["T2, sealed", "T4, own and hardened, sealed"]);
    let shown = installation.run(&["server", "check"]).stdout;
    assert!(
        shown.contains("1 × T4, own and hardened, sealed") && shown.contains("1 × T2, sealed"),
        "{shown}"
    );
    let url = cluster().await.admin_url("postgres");
    assert!(
        installation
            .run(&["server", "add", "again", "--url", &url])
            .fails(1)
            .contains("already")
    );
    let nowhere = "postgres://someone:hunter2@127.0.0.1:1/postgres";
    let refused = installation.run(&["server", "add", "gone", "--url", nowhere]);
    assert!(
        refused.fails(1).contains("reached") && !refused.stderr.contains("hunter2"),
        "{refused:?}"
    );
    assert!(
        installation
            .run(&["server", "check", "absent"])
            .fails(1)
            .contains("no server")
    );
}

#[tokio::test]
async fn a_migration_reaches_every_tenant_and_one_that_fails_is_told() {
    let installation = Installation::with_server().await;
    for (slug, isolation) in [
        ("a-shared", "shared"),
        ("a-schema", "schema"),
        ("a-database", "database"),
    ] {
        installation.json(&["tenant", "create", slug, "--isolation", isolation]);
    }
    installation
        .folder
        .write("migrations/0002_body.sql", "alter table notes add column body text;\n");
    let plan = installation.run(&["migrate", "plan"]);
    assert!(plan.code == 0 && plan.stdout.contains("0002_body"), "{plan:?}");
    let applied = installation.json(&["migrate", "apply"]);
    assert_eq!(applied["target"], 2);
    assert_eq!(applied["applied"].as_array().unwrap().len(), 3);
    let status = installation.json(&["migrate", "status"]);
    assert!(
        status["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|site| site["version"] == 2),
        "{status}"
    );

    // How long it took is told where it is asked for; what a home was made with took no time of its own.
    assert!(status["items"][0]["migrations"].is_null(), "{status}");
    let timed = installation.json(&["migrate", "status", "--durations"]);
    for site in timed["items"].as_array().unwrap() {
        let migrations = site["migrations"].as_array().unwrap();
        let names: Vec<_> = migrations.iter().map(|of| of["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["0001_notes.sql", "0002_body.sql"], "{timed}");
        assert!(migrations[1]["duration_ms"].as_i64().is_none_or(|ms| ms > 0), "{timed}");
        assert!(migrations[1]["applied_at"].is_string(), "{timed}");
    }
    as_if_it_took_long(&installation, "0002_body.sql").await;

    // Something stands in one tenant's way only.
    let schema = installation.json(&["tenant", "show", "a-schema"])["placement"].clone();
    let client = cluster().await.connect(schema["database"].as_str().unwrap()).await;
    let in_the_way = format!("create table {}.labels (id int)", schema["schema"].as_str().unwrap());
    client.batch_execute(&in_the_way).await.unwrap();
    installation.folder.write(
        "migrations/0003_labels.sql",
        "create table labels (id uuid primary key);\n",
    );
    // It goes first, and one failure is one too many.
    let first = "migrate apply --json --canary a-schema --max-failures 0";
    let stopped = installation.run(&first.split(' ').collect::<Vec<_>>());
    assert_eq!(stopped.code, 1, "{stopped:?}");
    let report: Value = serde_json::from_str(&stopped.stdout).unwrap();
    let counts = ["applied", "failed"].map(|of| report[of].as_array().unwrap().len());
    assert_eq!((counts, &report["left"]), ([0, 1], &2.into()), "{report}");
    let failed = installation.run(&["migrate", "apply", "--json"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    let report: Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!(report["applied"].as_array().unwrap().len(), 2, "{report}");
    assert_eq!(report["failed"][0]["tenant"], "a-schema");
    assert!(
        report["failed"][0]["error"].as_str().unwrap().contains("labels"),
        "{report}"
    );
    assert!(failed.stderr.contains("1 of 3"), "{failed:?}");

    client
        .batch_execute(&format!("drop table {}.labels", schema["schema"].as_str().unwrap()))
        .await
        .unwrap();
    let report = installation.json(&["migrate", "retry"]);
    assert_eq!(
        (report["applied"].as_array().unwrap().len(), &report["current"]),
        (1, &2.into())
    );
    let status = installation.json(&["migrate", "status", "--reconcile"]);
    assert!(
        status["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|site| site["version"] == 3 && site["error"].is_null()),
        "{status}"
    );
}

/// As if it had taken more than a second in every schema.
async fn as_if_it_took_long(installation: &Installation, name: &str) {
    let catalog = installation.catalog().await;
    let databases = catalog
        .query("select name from tenantry_catalog.tenant_database", &[])
        .await
        .unwrap();
    for row in databases {
        let client = cluster().await.connect(row.get(0)).await;
        let longer = "update tenantry_private.migration set duration_ms = 1234 where name = $1";
        client.execute(longer, &[&name]).await.unwrap();
    }
    let run = installation.run(&["migrate", "status", "--durations"]);
    let mut lines = run.stdout.lines();
    assert!(
        lines.any(|line| line.contains(name) && line.contains("1234 ms")),
        "{run:?}"
    );
}

#[tokio::test]
async fn a_rollout_that_can_not_be_is_a_usage_error() {
    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "a-shared", "--isolation", "shared"]);
    for (options, sentence) in [
        (["--max-failures", "few"], "--max-failures takes a number like 3"),
        (["--waves", "50,10"], "don't grow"),
        (["--per-server", "0"], "at least one connection"),
        (["--canary", "a-shared"], "shared tables are migrated together"),
    ] {
        let run = installation.run(&["migrate", "apply", options[0], options[1]]);
        let error = run.fails(2);
        assert!(error.contains(sentence), "{error}");
    }
}

#[tokio::test]
async fn a_migration_that_can_not_be_isolated_is_refused_with_its_line() {
    let installation = Installation::with_server().await;
    installation.folder.write(
        "migrations/0002_view.sql",
        "-- seen often\ncreate materialized view v as select 1 as a;\n",
    );
    let refused = installation.run(&["migrate", "apply"]);
    let error = refused.fails(1);
    assert!(
        error.contains("0002_view.sql") && error.contains('2') && error.contains("materialized"),
        "{error}"
    );
}

#[tokio::test]
async fn the_doctor_finds_nothing_wrong_where_nothing_is() {
    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "acme"]);
    let findings = installation.json(&["doctor"]);
    let wrong: Vec<_> = findings["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["verdict"] == "wrong")
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test]
async fn the_doctor_tells_what_is_wrong_with_its_mend() {
    let installation = Installation::new().await;
    let run = installation.run(&["doctor"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stdout.contains("tenantry server add"), "{run:?}");
    let wrong_key = [
        ("TENANTRY_CATALOG_URL", installation.catalog.url()),
        ("TENANTRY_MASTER_KEY", "f".repeat(64)),
    ];
    let wrong_key: Vec<_> = wrong_key.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let run = installation.folder.run_with(["doctor"], &wrong_key);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.stdout.contains("the key that this catalog was made with"),
        "{run:?}"
    );
}

/// PostgreSQL lets PUBLIC connect to every new database, so to those that are made after the tenants'.
#[tokio::test]
async fn the_doctor_names_other_databases_that_the_application_roles_reach() {
    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "acme"]);
    let other = database().await;
    let sql = format!("grant connect on database {} to public", other.name());
    other.connect().await.batch_execute(&sql).await.unwrap();
    let finding = |found: Value| {
        let all = found["items"].as_array().unwrap().clone();
        all.into_iter()
            .find(|finding| finding["check"] == "other databases")
            .unwrap()
    };
    let told = format!("the application roles may connect to {} on first", other.name());
    let open = finding(installation.json(&["doctor"]));
    assert_eq!(open["verdict"], "warning");
    assert!(open["found"].as_str().unwrap().contains(&told), "{open}");
    let sql = format!("revoke connect on database {} from public", other.name());
    other.connect().await.batch_execute(&sql).await.unwrap();
    let closed = finding(installation.json(&["doctor"]));
    assert!(!closed["found"].as_str().unwrap().contains(&told), "{closed}");
}

#[tokio::test]
async fn databases_are_hardened_and_the_doctor_names_what_protects() {
    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "own", "--isolation", "database", "--name", "Own"]);
    let hardening = |found: Value| {
        let all = found["items"].as_array().unwrap().clone();
        let finding = all.iter().find(|finding| finding["check"] == "hardening").unwrap();
        (
            finding["verdict"].as_str().unwrap().to_owned(),
            finding["found"].as_str().unwrap().to_owned(),
        )
    };
    let (verdict, found) = hardening(installation.json(&["doctor"]));
    assert_eq!(verdict, "well");
    assert!(
        found.contains("1 × T4, own and hardened, sealed; 1 × T2, sealed"),
        "{found}"
    );

    let undone = installation.json(&["server", "harden", "first", "--undo"]);
    let items = undone["items"].as_array().unwrap();
    assert!(items.iter().all(|item| item["protection"] == "T2, sealed"), "{undone}");
    let (verdict, found) = hardening(installation.json(&["doctor"]));
    assert_eq!(verdict, "warning");
    assert!(found.contains("leaves to PUBLIC: activity, signals"), "{found}");

    let hardened = installation.json(&["server", "harden", "first", "--except", "sleep,notify"]);
    let items = hardened["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert!(
        items
            .iter()
            .all(|item| item["left"] == serde_json::json!(["notify", "sleep"])),
        "{hardened}"
    );
    installation
        .run(&["server", "harden", "first", "--except", "slep"])
        .fails(1);
    installation
        .run(&["server", "harden", "first", "--database", "nobody"])
        .fails(1);
}

#[tokio::test]
async fn drift_is_shown_as_sql_fails_the_command_and_is_repaired() {
    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "acme", "--isolation", "schema"]);
    let clean = installation.json(&["migrate", "verify"]);
    assert_eq!((&clean["schemas"], &clean["right"]), (&2.into(), &2.into()), "{clean}");

    let home = installation.json(&["tenant", "show", "acme"])["placement"].clone();
    let client = cluster().await.connect(home["database"].as_str().unwrap()).await;
    let schema = home["schema"].as_str().unwrap();
    client
        .batch_execute(&format!(
            "drop policy tenantry_floor on {schema}.notes; create table {schema}.mine (id int)"
        ))
        .await
        .unwrap();
    let found = installation.run(&["migrate", "verify", "--json"]);
    assert_eq!(found.code, 1, "{found:?}");
    assert!(found.stderr.contains("--repair"), "{found:?}");
    let report: Value = serde_json::from_str(&found.stdout).unwrap();
    let site = report["sites"]
        .as_array()
        .unwrap()
        .iter()
        .find(|site| site["tenant"] == "acme")
        .unwrap();
    let line = |at: usize, field: &str| site["differences"][at][field].as_str().unwrap_or_default().to_owned();
    assert_eq!(line(0, "object"), "policy tenantry_floor on table notes", "{report}");
    assert_eq!(
        (line(0, "change"), line(0, "state")),
        ("missing".to_owned(), "repairable".to_owned())
    );
    assert_eq!(
        (line(1, "object"), line(1, "state")),
        ("table mine".to_owned(), "left".to_owned())
    );
    let shown = installation.run(&["migrate", "verify", "--tenant", "acme"]);
    assert_eq!(shown.code, 1);
    assert!(
        shown
            .stdout
            .contains("create policy \"tenantry_floor\" on \"notes\" as restrictive for all")
            && shown.stdout.contains("drop table \"mine\""),
        "{}",
        shown.stdout
    );

    let repaired = installation.run(&["migrate", "verify", "--repair"]);
    assert_eq!(repaired.code, 1, "the table stays: {repaired:?}");
    assert!(
        repaired.stdout.contains("repaired") && repaired.stdout.contains("may hold rows"),
        "{repaired:?}"
    );
    client
        .batch_execute(&format!("drop table {schema}.mine"))
        .await
        .unwrap();
    assert_eq!(installation.json(&["migrate", "verify"])["right"], 2);
    installation.run(&["migrate", "verify", "--tenant", "nobody"]).fails(2);
}

#[tokio::test]
async fn a_plan_tells_what_pending_files_do_and_the_linter_what_stops_the_application() {
    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "acme", "--isolation", "schema"]);
    installation.folder.write(
        "migrations/0002_body.sql",
        "alter table notes add column body text;\nalter table notes add constraint body_is check (body <> '');\n",
    );
    let plan = installation.json(&["migrate", "plan"]);
    let file = &plan["rehearsals"][0]["files"][0];
    assert_eq!(file["locks"][0]["table"], "notes", "{plan}");
    assert_eq!(file["locks"][0]["mode"], "AccessExclusiveLock", "{plan}");
    assert_eq!(file["scans"][0], "notes", "{plan}");
    assert!(plan["lint"].is_null(), "{plan}");
    let text = installation.run(&["migrate", "plan"]).stdout;
    assert!(
        text.contains("locks notes: AccessExclusiveLock (reads and writes wait)")
            && text.contains("reads every row of notes"),
        "{text}"
    );
    let linted = installation.run(&["migrate", "plan", "--lint", "--json"]);
    assert_eq!(linted.code, 1, "{linted:?}");
    let plan: Value = serde_json::from_str(&linted.stdout).unwrap();
    assert_eq!(plan["lint"][0]["rule"], "constraint-missing-not-valid", "{plan}");
    assert_eq!(plan["lint"][0]["line"], 2, "{plan}");
}

#[tokio::test]
async fn only_a_version_that_there_is_can_be_required() {
    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "acme"]);
    let required = installation.json(&["migrate", "require", "1"]);
    assert_eq!(
        (&required["schema_version_min"], &required["behind"]),
        (&1.into(), &0.into())
    );
    let error = installation.run(&["migrate", "require", "7"]);
    assert!(error.fails(2).contains("no migration has the number 7"), "{error:?}");
    installation.json(&["migrate", "require", "0"]);
}

#[tokio::test]
async fn a_desired_schema_is_written_as_the_next_migration() {
    let installation = Installation::with_server().await;
    let wanted = NOTES.replace("title text not null", "title text not null, body text");
    installation.folder.write("schema.sql", &wanted);
    let shown = installation.json(&["migrate", "diff", "--to", "schema.sql", "--dry-run"]);
    assert!(shown["file"].is_null(), "{shown}");
    let written = installation.json(&["migrate", "diff", "--to", "schema.sql", "--name", "body"]);
    let file = written["file"].as_str().unwrap();
    assert!(file.ends_with("migrations/0002_body.sql"), "{written}");
    let text = std::fs::read_to_string(installation.folder.path().join("migrations/0002_body.sql")).unwrap();
    assert_eq!(text, "alter table \"notes\" add column \"body\" text;\n");
    let again = installation.run(&["migrate", "diff", "--to", "schema.sql"]);
    assert_eq!(
        (again.code, again.stdout.trim_end()),
        (0, "the migrations make this schema already")
    );
    installation.folder.write("schema.sql", NOTES);
    let run = installation.run(&["migrate", "diff", "--to", "schema.sql"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.stdout
            .contains("-- not done: column body of table notes: its values go with it"),
        "{run:?}"
    );
    installation.run(&["migrate", "diff", "--to", "none.sql"]).fails(2);
    installation
        .run(&["migrate", "diff", "--to", "schema.sql", "--name", "../x"])
        .fails(2);
}

/// A folder of a tenant's own beside the fleet's files.
#[tokio::test]
async fn a_tenants_own_folder_reaches_that_tenant_only() {
    let installation = Installation::with_server().await;
    for slug in ["plain", "special"] {
        installation.json(&["tenant", "create", slug, "--isolation", "schema"]);
    }
    installation.folder.write(
        "migrations/tenants/special/0001_extra.sql",
        "alter table notes add column extra text;\n",
    );
    let applied = installation.json(&["migrate", "apply"]);
    assert_eq!(applied["applied"].as_array().unwrap().len(), 1, "{applied}");
    assert_eq!(applied["applied"][0]["tenant"], "special", "{applied}");
    assert_eq!(installation.json(&["migrate", "verify"])["right"], 3);
    // Edited since, it is an error of that tenant's and no pending file.
    installation.folder.write(
        "migrations/tenants/special/0001_extra.sql",
        "alter table notes add column extra varchar;\n",
    );
    let status = installation.json(&["migrate", "status"]);
    for site in status["items"].as_array().unwrap() {
        let error = site["error"].as_str().unwrap_or_default();
        let is_told = error.contains("was changed after it had been applied") && error.contains("+alter table");
        assert_eq!(is_told, site["tenant"] == "special", "{status}");
        assert_eq!(site["pending"], serde_json::json!([]), "{status}");
    }
}

#[tokio::test]
async fn what_the_catalog_believed_wrongly_is_told_when_it_is_corrected() {
    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "acme", "--isolation", "schema"]);
    let reconcile = ["migrate", "status", "--reconcile"];
    let told = installation.json(&reconcile);
    assert_eq!(
        told["reconciled"],
        serde_json::json!({ "databases": 1, "corrected": 0, "items": [] }),
        "{told}"
    );
    assert!(installation.json(&["migrate", "status"]).get("reconciled").is_none());
    let schema = installation.json(&["tenant", "show", "acme"])["placement"]["schema"].clone();
    let schema = schema.as_str().unwrap();
    let catalog = installation.catalog().await;
    let spoil = format!(
        "delete from tenantry_catalog.app_migration where schema_name = '{schema}';
         insert into tenantry_catalog.app_migration (tenant_database, schema_name, version, name, checksum)
         select id, 'app', 7, '0007_gone.sql', 'x' from tenantry_catalog.tenant_database"
    );
    catalog.batch_execute(&spoil).await.unwrap();
    let told = installation.json(&reconcile);
    let reconciled = &told["reconciled"];
    assert_eq!(
        (&reconciled["corrected"], &reconciled["items"][0]["server"]),
        (&2.into(), &"first".into()),
        "{told}"
    );
    assert_eq!(
        reconciled["items"][0]["corrections"],
        serde_json::json!([
            { "schema": "app", "version": 7, "name": "0007_gone.sql", "mistake": "extra" },
            { "schema": schema, "version": 1, "name": "0001_notes.sql", "mistake": "missing" },
        ]),
        "{told}"
    );
    assert!(
        told["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|site| site["version"] == 1),
        "{told}"
    );
    catalog.batch_execute(&spoil).await.unwrap();
    let shown = installation.run(&reconcile).stdout;
    assert!(
        shown.contains("the catalog was wrong about 2 migrations") && shown.contains("0007_gone.sql"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_forgotten_password_is_reset() {
    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "acme", "--admin", "ann@acme.example"]);
    let reset = installation.json(&["member", "reset-password", "ann@acme.example"]);
    assert!(reset["token"].as_str().unwrap().starts_with("tnp_"), "{reset}");
    assert_eq!(reset["email"], "ann@acme.example");
    let shown = installation.run(&["member", "reset-password", "ann@acme.example"]);
    assert!(
        shown.code == 0 && shown.stdout.contains("tnp_") && shown.stdout.contains("/v1/auth/reset-password"),
        "{shown:?}"
    );
    let nobody = installation.run(&["member", "reset-password", "nobody@acme.example"]);
    assert!(nobody.fails(1).contains("no active account"), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_budget_and_passwords_are_changed_by_name() {
    let installation = Installation::with_server().await;
    let listed = installation.json(&["server", "list"]);
    assert_eq!(listed["items"][0]["connections"], 64);
    let changed = installation.json(&["server", "set", "first", "--connections", "7", "--new-passwords"]);
    assert_eq!(changed["connections"], 7);
    let changed = installation.json(&["server", "set", "first", "--pooler", "127.0.0.1:6432"]);
    assert_eq!(changed["pooler"], "127.0.0.1:6432");
    let changed = installation.json(&["server", "set", "first", "--no-pooler"]);
    assert!(changed["pooler"].is_null());
    let set = ["server", "set", "first"];
    let numbers = |changed: &Value| (changed["spare_schemas"].clone(), changed["spare_databases"].clone());
    assert_eq!(numbers(&changed), (Value::Null, Value::Null));
    let changed = installation.json(&[&set[..], &["--own-spare-schemas", "3"]].concat());
    assert_eq!(numbers(&changed), (3.into(), Value::Null));
    let changed = installation.json(&[&set[..], &["--own-spare-databases", "0"]].concat());
    assert_eq!(numbers(&changed), (3.into(), 0.into()));
    let listed = installation.json(&["server", "list"]);
    assert_eq!(numbers(&listed["items"][0]), (3.into(), 0.into()));
    let shown = installation.run(&[&set[..], &["--connections", "7"]].concat()).stdout;
    assert!(shown.contains("schemas 3, databases 0"), "{shown}");
    let changed = installation.json(&[&set[..], &["--no-own-spares"]].concat());
    assert_eq!(numbers(&changed), (Value::Null, Value::Null));
    let shown = installation.run(&["server", "list"]).stdout;
    assert!(shown.contains("as configured"), "{shown}");
    // What has its password from the catalog gets in.
    assert_eq!(installation.json(&["server", "check"])["items"][0]["ok"], true);
    for wrong in [
        &["server", "set", "first"][..],
        &["server", "set", "first", "--connections", "0"],
        &["server", "set", "first", "--pooler", "x:1", "--no-pooler"],
        &["server", "set", "first", "--replica", "x:1", "--no-replicas"],
        &["server", "set", "first", "--own-spare-schemas", "65536"],
        &[
            "server",
            "set",
            "first",
            "--own-spare-databases",
            "1",
            "--no-own-spares",
        ],
    ] {
        assert_eq!(installation.run(wrong).code, 2, "{wrong:?}");
    }
    installation
        .run(&["server", "set", "first", "--pooler", "nowhere"])
        .fails(1);
    // What is listed has to be a standby of the server.
    let nowhere = installation.run(&["server", "set", "first", "--replica", "nowhere"]);
    assert!(nowhere.fails(1).contains("a host and a port"), "{nowhere:?}");
    let away = installation.run(&["server", "set", "first", "--replica", "127.0.0.1:1"]);
    assert!(away.fails(1).contains("replica 127.0.0.1:1"), "{away:?}");
    // One that has gone away since: named with the command that takes it off, which works as it is.
    let listed = "insert into tenantry_catalog.server_replica (id, server, address)
                  select gen_random_uuid(), id, '127.0.0.1:1' from tenantry_catalog.server";
    installation
        .catalog
        .connect()
        .await
        .batch_execute(listed)
        .await
        .unwrap();
    installation.json(&["tenant", "create", "acme"]);
    let command = "tenantry server set first --no-replicas";
    let doctor = installation.run(&["doctor", "--json"]);
    let found: Value = serde_json::from_str(&doctor.stdout).unwrap();
    let servers = found["items"].as_array().unwrap().iter();
    let told: Vec<_> = servers.filter(|finding| finding["check"] == "server").collect();
    assert_eq!(
        (doctor.code, told.len(), &told[0]["verdict"]),
        (1, 1, &"wrong".into()),
        "{found}"
    );
    assert!(
        told[0]["found"]
            .as_str()
            .unwrap()
            .contains("moves from its server wait"),
        "{found}"
    );
    assert!(told[0]["mend"].as_str().unwrap().contains(command), "{found}");
    let plan = installation.run(&["tenant", "move", "acme", "--to", "schema", "--dry-run"]);
    assert!(plan.code == 1 && plan.stdout.contains(command), "{plan:?}");
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let changed = installation.json(&words);
    assert!(changed["replicas"].is_null(), "{changed}");
    installation.json(&["tenant", "move", "acme", "--to", "schema", "--dry-run"]);
    installation
        .run(&["server", "set", "second", "--connections", "7"])
        .fails(1);
}

#[tokio::test]
async fn plans_are_set_listed_and_removed_and_usage_is_shown() {
    let installation = Installation::with_server().await;
    let set = installation.json(&[
        "plan",
        "set",
        "free",
        "--requests-per-s",
        "10",
        "--burst",
        "30",
        "--members",
        "2",
        "--rows",
        "notes=100",
    ]);
    assert_eq!(
        (&set["requests_per_s"], &set["rows"]["notes"], &set["concurrent"]),
        (&10.into(), &100.into(), &Value::Null)
    );
    let listed = installation.json(&["plan", "list"]);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert!(
        installation
            .run(&["plan", "list"])
            .stdout
            .contains("requests/s: 10; burst: 30; members: 2; rows: notes 100")
    );
    // As much as in a second where none is said, as over HTTP.
    let set = installation.json(&["plan", "set", "basic", "--requests-per-s", "7"]);
    assert_eq!((&set["requests_per_s"], &set["burst"]), (&7.into(), &7.into()));
    installation.json(&["plan", "remove", "basic"]);
    for wrong in [&["--burst", "3"][..], &["--rows", "notes"], &["--members", "0"]] {
        installation.run(&[&["plan", "set", "free"], wrong].concat()).fails(2);
    }
    installation.json(&["tenant", "create", "acme", "--admin", "ann@a.example"]);
    let usage = installation.json(&["tenant", "usage", "acme"]);
    assert_eq!(usage["limits"]["burst"], 30, "{usage}");
    assert_eq!(
        (&usage["members"], &usage["limits"]["members"]),
        (&1.into(), &2.into()),
        "{usage}"
    );
    // What the plan does not limit is shown too.
    let measures = usage["measures"].as_array().unwrap();
    let of = |name: &str| measures.iter().find(|measure| measure["name"] == name).unwrap();
    assert_eq!((&of("jobs")["used"], &of("jobs")["limit"]), (&0.into(), &Value::Null));
    assert!(of("storage_bytes")["used"].is_u64(), "{usage}");
    let shown = installation.run(&["tenant", "usage", "acme"]).stdout;
    assert!(shown.contains("storage_bytes") && shown.contains("none"), "{shown}");
    for (name, limit) in [("requests/s", "10"), ("burst", "30")] {
        let told = |line: &str| line.starts_with(name) && line.ends_with(limit);
        assert!(shown.lines().any(told), "{name}: {shown}");
    }
    installation.json(&["member", "add", "acme", "bob@a.example", "--role", "member"]);
    let third = installation.run(&["member", "add", "acme", "cy@a.example", "--role", "member"]);
    assert!(third.fails(1).contains("gives 2 members"), "{third:?}");
    installation.json(&["plan", "remove", "free"]);
    installation.json(&["member", "add", "acme", "cy@a.example", "--role", "member"]);
    assert!(
        installation
            .run(&["plan", "remove", "free"])
            .fails(1)
            .contains("no limits")
    );
}
