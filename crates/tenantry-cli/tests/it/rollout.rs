//! Roll-outs that are stopped, as operations and as commands.

use crate::fleet::Installation;

/// A tenant with a schema of its own, and a migration that it lacks.
async fn behind() -> Installation {
    let installation = Installation::with_server().await;
    installation.json(&["tenant", "create", "acme", "--isolation", "schema"]);
    installation.write("migrations/0002_body.sql", "alter table notes add column body text;\n");
    installation
}

/// As `POST /v1/migrations` makes it, where no `tenantry serve` runs.
async fn start(installation: &Installation) -> String {
    let sql = "insert into tenantry_catalog.operation (id, kind) values (gen_random_uuid(), 'migrate')
               returning id::text";
    let catalog = installation.catalog().await;
    catalog.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_rollout_by_the_control_plane_is_paused_resumed_and_called_off() {
    let installation = behind().await;
    let id = start(&installation).await;
    let paused = installation.json(&["operation", "pause", &id]);
    assert_eq!(
        (&paused["kind"], &paused["state"]),
        (&"migrate".into(), &"paused".into())
    );
    let refused = installation.run(&["operation", "finish", &id]);
    let error = refused.fails(1);
    assert!(error.contains("a roll-out of migrations has no finish"), "{error}");
    let done = installation.json(&["operation", "resume", &id]);
    assert_eq!(
        (&done["state"], &done["progress"]["applied"]),
        (&"done".into(), &2.into()),
        "{done}"
    );

    let id = start(&installation).await;
    let cancelled = installation.json(&["operation", "abort", &id]);
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    assert_eq!(cancelled["error"]["code"], "aborted", "{cancelled}");
    let again = installation.run(&["operation", "abort", &id]);
    let error = again.fails(1);
    assert!(error.contains("the operation has ended (cancelled)"), "{error}");
}
