//! Tenants out, in, copied, compared and backed up at the command line.

use serde_json::Value;
use tenantry_testing::{cluster, test_folder};

use crate::fleet::Installation;

/// Gives a tenant notes, as the administrator.
async fn note(tenant: &Value, title: &str) {
    let place = &tenant["placement"];
    let client = cluster().await.connect(place["database"].as_str().unwrap()).await;
    let insert = format!(
        "insert into \"{}\".notes (tenant_id, title) values ('{}', '{title}')",
        place["schema"].as_str().unwrap(),
        tenant["id"].as_str().unwrap()
    );
    client.batch_execute(&insert).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_goes_into_a_file_and_comes_back_and_is_cloned_and_compared() {
    let installation = Installation::with_server().await;
    let folder = test_folder();
    let acme = installation.json(&[
        "tenant",
        "create",
        "acme",
        "--plan",
        "gold",
        "--settings",
        r#"{"locale":"de"}"#,
    ]);
    note(&acme, "first").await;
    note(&acme, "second").await;
    let file = folder.path().join("acme.tenantry");
    let file = file.to_str().unwrap();
    let exported = installation.json(&["tenant", "export", "acme", "--to", file, "--csv"]);
    assert_eq!(exported["rows"], 2);
    assert_eq!(exported["tables"][0]["table"], "notes");
    assert_eq!(exported["signer"].as_str().unwrap().len(), 64);
    let mut there = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(
        !there.any(|name| name.to_string_lossy().ends_with(".part")),
        "nothing is left beside it"
    );
    let error = installation.run(&["tenant", "export", "acme", "--to", file]);
    assert!(error.fails(2).contains("there already"), "{error:?}");
    let nowhere = folder.path().join("absent/acme.tenantry");
    let error = installation.run(&["tenant", "export", "acme", "--to", nowhere.to_str().unwrap()]);
    error.fails(1);
    let piped = installation
        .command(&["tenant", "export", "acme", "--to", "-"])
        .output()
        .unwrap();
    assert!(piped.status.success() && piped.stdout.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    let imported = installation.json(&[
        "tenant",
        "import",
        file,
        "--slug",
        "acme-two",
        "--isolation",
        "database",
    ]);
    assert_eq!(imported["isolation"], "database");
    assert_eq!(
        (&imported["plan"], &imported["settings"]["locale"]),
        (&"gold".into(), &"de".into())
    );
    let same = installation.json(&["tenant", "diff", "acme", "acme-two"]);
    assert_eq!((&same["same"], &same["tables"][0]["same"]), (&true.into(), &2.into()));
    let renewed = installation.json(&["tenant", "import", file, "--slug", "renewed", "--new-ids"]);
    assert_eq!(renewed["new_ids"]["renewed"], serde_json::json!(["notes.id"]));
    let apart = installation.run(&["tenant", "diff", "acme", "renewed", "--json"]);
    let apart: Value = serde_json::from_str(&apart.stdout).unwrap();
    assert_eq!(
        (&apart["tables"][0]["only_in_a"], &apart["tables"][0]["only_in_b"]),
        (&2.into(), &2.into())
    );
    let wrong = [
        "tenant",
        "clone",
        "acme",
        "--slug",
        "wrong",
        "--new-ids",
        "--also-new",
        "notes.title",
    ];
    let wrong = installation.run(&wrong);
    assert!(wrong.fails(1).contains("notes.title is text"), "{wrong:?}");
    let taken = installation.run(&["tenant", "import", file]);
    assert!(taken.fails(1).contains("slug"), "{taken:?}");
    let broken = folder.path().join("broken");
    let mut bytes = std::fs::read(file).unwrap();
    bytes[30] ^= 1;
    std::fs::write(&broken, bytes).unwrap();
    let refused = installation.run(&["tenant", "import", broken.to_str().unwrap(), "--slug", "broken"]);
    assert!(
        refused.fails(1).contains("was changed after it had been signed"),
        "{refused:?}"
    );
    let rules = folder.path().join("rules.toml");
    std::fs::write(&rules, "[notes]\ntitle = { fixed = \"…\" }\n").unwrap();
    let rules = rules.to_str().unwrap();
    let cloned = installation.json(&[
        "tenant",
        "clone",
        "acme",
        "--slug",
        "masked",
        "--isolation",
        "schema",
        "--mask",
        rules,
    ]);
    assert_eq!(cloned["isolation"], "schema");
    let differ = installation.run(&["tenant", "diff", "acme", "masked", "--json"]);
    assert_eq!(differ.code, 1, "{differ:?}");
    let differ: Value = serde_json::from_str(&differ.stdout).unwrap();
    assert_eq!(
        (&differ["same"], &differ["tables"][0]["differing"]),
        (&false.into(), &2.into())
    );
    std::fs::write(rules, "[notes]\ntitel = \"hash\"\n").unwrap();
    let error = installation.run(&["tenant", "clone", "acme", "--slug", "bad", "--mask", rules]);
    assert!(error.fails(1).contains("notes.titel"), "{error:?}");
    let shown = installation.run(&["tenant", "show", "bad"]);
    shown.fails(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_backed_up_drilled_and_restored() {
    let installation = Installation::with_server().await;
    let folder = test_folder();
    let place = folder.path().to_str().unwrap();
    let with = |arguments: &[&str]| installation.json(&[arguments, &["--backups", place]].concat());
    let acme = installation.json(&["tenant", "create", "acme"]);
    note(&acme, "kept").await;
    let without = installation.run(&["backup", "create", "acme"]);
    assert!(without.fails(1).contains("TENANTRY_BACKUPS"), "{without:?}");
    let made = with(&["backup", "create", "acme"]);
    assert_eq!(made["rows"], 1);
    let id = made["id"].as_str().unwrap();
    note(&acme, "lost").await;
    assert_eq!(with(&["backup", "verify", id])["id"], id);
    let drilled = with(&["backup", "drill", "acme"]);
    assert_eq!((&drilled["backup"], &drilled["rows"]), (&id.into(), &1.into()));
    assert!(!with(&["backup", "list", "acme"])["items"][0]["drilled_at"].is_null());
    let beside = with(&[
        "backup",
        "restore",
        id,
        "--slug",
        "acme-before",
        "--isolation",
        "schema",
    ]);
    assert_eq!(
        (&beside["state"], &beside["isolation"]),
        (&"active".into(), &"schema".into())
    );
    let unasked = installation.run(&["backup", "restore", id, "--in-place", "--backups", place]);
    unasked.fails(2);
    let back = with(&["backup", "restore", id, "--in-place", "--yes"]);
    assert_eq!((&back["id"], &back["state"]), (&acme["id"], &"active".into()));
    let same = installation.json(&["tenant", "diff", "acme", "acme-before"]);
    assert_eq!(same["same"], true);
    assert_eq!(with(&["backup", "prune"])["removed"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_restored_as_of_a_time() {
    let installation = Installation::with_server().await;
    let folder = test_folder();
    let place = folder.path().to_str().unwrap();
    let restore = |arguments: &[&str]| {
        installation.run(&[&["tenant", "restore", "acme", "--backups", place], arguments].concat())
    };
    let with = |arguments: &[&str]| installation.json(&[arguments, &["--backups", place]].concat());
    let acme = installation.json(&["tenant", "create", "acme"]);
    let none = restore(&["--at", "latest", "--in-place", "--yes"]);
    assert!(none.fails(1).contains("has no backup yet"), "{none:?}");
    note(&acme, "first").await;
    let first = with(&["backup", "create", "acme"]);
    note(&acme, "second").await;
    let second = with(&["backup", "create", "acme"]);
    note(&acme, "lost").await;
    // Which one is meant, and where it goes, has to be said.
    restore(&["--in-place", "--yes"]).fails(2);
    restore(&["--at", "latest"]).fails(2);
    restore(&["--at", "yesterday", "--in-place", "--yes"]).fails(2);
    let unasked = restore(&["--at", "latest", "--in-place"]);
    assert!(unasked.fails(2).contains("nothing was restored"), "{unasked:?}");
    let early = restore(&["--at", "2001-01-01T00:00:00Z", "--in-place", "--yes"]);
    assert!(early.fails(1).contains("no backup as of 2001-01-01"), "{early:?}");
    let taken_at = first["taken_at"].as_str().unwrap();
    let beside = with(&[
        "tenant",
        "restore",
        "acme",
        "--at",
        taken_at,
        "--slug",
        "earlier",
        "--isolation",
        "schema",
    ]);
    assert_eq!(
        (&beside["backup"], &beside["isolation"]),
        (&first["id"], &"schema".into())
    );
    let rows = |tenant: &str| {
        let size = with(&["backup", "create", tenant]);
        size["rows"].as_u64().unwrap()
    };
    assert_eq!((rows("earlier"), rows("acme")), (1, 3));
    let id = second["id"].as_str().unwrap();
    let back = with(&["tenant", "restore", "acme", "--at", id, "--in-place", "--yes"]);
    assert_eq!(
        (&back["id"], &back["state"], &back["backup"]),
        (&acme["id"], &"active".into(), &second["id"])
    );
    assert_eq!(rows("acme"), 2);
    // Another tenant's is none of its own.
    let others = restore(&["--at", id, "--slug", "again"]).stdout;
    assert!(others.contains("again"), "{others}");
    let foreign = installation.run(&["tenant", "restore", "earlier", "--at", id, "--slug", "stolen"]);
    assert!(foreign.fails(1).contains("no such backup"), "{foreign:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_backup_schedule_is_shown_and_set() {
    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "acme"]);
    let schedule = |arguments: &[&str]| {
        let shown =
            installation.json(&[&["backup", "schedule", "acme", "--backup-interval-h", "24"], arguments].concat());
        (shown["interval_h"].as_f64().unwrap(), shown["own"].as_bool().unwrap())
    };
    assert_eq!(schedule(&[]), (24.0, false));
    assert_eq!(schedule(&["--interval-h", "0.5"]), (0.5, true));
    assert_eq!(schedule(&[]), (0.5, true));
    let text = installation.run(&["backup", "schedule", "acme"]).stdout;
    assert_eq!(text.trim(), "acme is backed up every 0.5 h (its own interval)");
    assert_eq!(schedule(&["--interval-h", "0"]), (0.0, true));
    assert_eq!(schedule(&["--as-fleet"]), (24.0, false));
    let seconds = installation.run(&["backup", "schedule", "acme", "--interval-h", "0.001"]);
    assert!(seconds.fails(1).contains("30 seconds to 10 years"), "{seconds:?}");
    installation
        .run(&["backup", "schedule", "acme", "--interval-h", "-1"])
        .fails(2);
    installation.run(&["backup", "schedule", "nobody"]).fails(1);
}

/// As an operator sets it up: the place in an option, what opens it in the environment.
#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread")]
async fn backups_stand_in_a_bucket_that_the_environment_opens() {
    let (installation, s3) = tokio::join!(Installation::with_server(), tenantry_testing::s3());
    let place = s3.place("backups");
    let run = |settings: Vec<(&'static str, String)>, arguments: &[&str]| {
        let mut command = installation.command(&[arguments, &["--backups", place.as_str(), "--json"]].concat());
        // Nothing of who runs the tests.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"AWS_") {
                command.env_remove(name);
            }
        }
        let output = command.envs(settings).output().unwrap();
        let said = if output.status.success() {
            output.stdout
        } else {
            output.stderr
        };
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    let acme = installation.json(&["tenant", "create", "acme"]);
    note(&acme, "kept").await;
    let (code, made) = run(s3.settings(), &["backup", "create", "acme"]);
    assert_eq!(code, 0, "{made}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let object = format!(
        "backups/b/{}/{}",
        acme["id"].as_str().unwrap(),
        made["id"].as_str().unwrap()
    );
    assert_eq!(s3.objects(), std::collections::BTreeSet::from([object]));
    let (code, drilled) = run(s3.settings(), &["backup", "drill", "acme"]);
    assert_eq!(code, 0, "{drilled}");

    let (code, refused) = run(s3.settings_of_a_stranger(), &["backup", "create", "acme"]);
    assert_eq!(code, 1, "{refused}");
    assert!(
        refused.contains("s3://tenantry") && refused.contains("AWS_SECRET_ACCESS_KEY"),
        "{refused}"
    );
    // Before anything is sent.
    let (code, plain) = run(vec![("AWS_ENDPOINT", s3.endpoint())], &["backup", "create", "acme"]);
    assert_eq!(code, 2, "{plain}");
    assert!(plain.contains("AWS_ALLOW_HTTP=true"), "{plain}");
}
