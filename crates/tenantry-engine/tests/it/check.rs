//! A database whose application role could bypass row security does not serve.

use tenantry_engine::{
    Roles,
    bootstrap::{self, BootstrapError, DatabaseRequest},
    check,
};
use tenantry_testing::change_shared_rows;

use crate::seal_support::{Fixture, in_each_tier, sealed};

in_each_tier! { a_database_that_was_just_made_may_serve }

async fn a_database_that_was_just_made_may_serve(fixture: Fixture) {
    // asked as the administrator, as the application, and as nobody special
    for client in [&fixture.client, &fixture.app_client().await] {
        let findings = check::application_role(client, &fixture.made.app_role).await.unwrap();
        assert!(findings.found.is_empty(), "{findings}");
    }
}

/// Breaks one thing, sees it found, and mends it.
#[tokio::test]
async fn each_way_around_row_security_is_found() {
    let fixture = sealed().await;
    let superuser = fixture.superuser().await;
    let app = format!("\"{}\"", fixture.made.app_role);
    let database = format!("\"{}\"", fixture.database.name());
    let Roles { seal, owner, .. } = Roles::of(&fixture.installation);
    let carrier = tenantry_engine::seal::CARRIER;
    let private = "tenantry_private";
    for (code, breaks, mends) in [
        ("superuser", format!("alter role {app} superuser"), format!("alter role {app} nosuperuser")),
        ("bypassrls", format!("alter role {app} bypassrls"), format!("alter role {app} nobypassrls")),
        ("attributes", format!("alter role {app} createrole"), format!("alter role {app} nocreaterole")),
        ("attributes", format!("alter role {app} createdb"), format!("alter role {app} nocreatedb")),
        ("attributes", format!("alter role {app} replication"), format!("alter role {app} noreplication")),
        ("member-of", format!("grant {owner} to {app}"), format!("revoke {owner} from {app}")),
        ("member-of", format!("grant pg_read_all_data to {app}"), format!("revoke pg_read_all_data from {app}")),
        (
            "owns",
            format!("create table app.theirs (id int); alter table app.theirs owner to {app}"),
            "drop table app.theirs".to_owned(),
        ),
        ("owns", format!("create schema theirs authorization {app}"), "drop schema theirs".to_owned()),
        ("creates-in-schema", format!("grant create on schema app to {app}"), format!("revoke create on schema app from {app}")),
        ("creates-in-schema", "grant create on schema public to public".to_owned(), "revoke create on schema public from public".to_owned()),
        ("creates-in-database", format!("grant temporary on database {database} to {app}"), format!("revoke temporary on database {database} from {app}")),
        ("creates-in-database", format!("grant create on database {database} to public"), format!("revoke create on database {database} from public")),
        ("public-connect", format!("grant connect on database {database} to public"), format!("revoke connect on database {database} from public")),
        ("sets-parameter", format!("grant set on parameter {carrier} to {app}"), format!("revoke set on parameter {carrier} from {app}")),
        ("sets-parameter", format!("grant alter system on parameter {carrier} to {app}"), format!("revoke alter system on parameter {carrier} from {app}")),
        ("sets-parameter", format!("grant set on parameter session_replication_role to {app}"), format!("revoke set on parameter session_replication_role from {app}")),
        ("reaches-keys", format!("grant usage on schema {private} to {app}"), format!("revoke usage on schema {private} from {app}")),
        ("reaches-keys", format!("grant select (kid) on {private}.mac_key to {app}"), format!("revoke select (kid) on {private}.mac_key from {app}")),
        ("calls-fence", format!("grant execute on function tenantry.fence_open(uuid, int8) to {app}"), format!("revoke execute on function tenantry.fence_open(uuid, int8) from {app}")),
        ("calls-fence", format!("grant execute on function {private}.key_ids() to public"), format!("revoke execute on function {private}.key_ids() from public")),
        ("mechanism-owner", format!("alter role {seal} login"), format!("alter role {seal} nologin")),
        ("mechanism-owner", format!("alter role {seal} bypassrls"), format!("alter role {seal} nobypassrls")),
        ("function-not-ours", "create function tenantry.other() returns int language sql return 1".to_owned(), "drop function tenantry.other()".to_owned()),
        ("row-security-off", "alter table app.note no force row level security".to_owned(), "alter table app.note force row level security".to_owned()),
        ("row-security-off", "alter table app.note disable row level security".to_owned(), "alter table app.note enable row level security".to_owned()),
        ("table-rights", format!("grant truncate on app.note to {app}"), format!("revoke truncate on app.note from {app}")),
        ("table-rights", format!("grant references on app.note to {app}"), format!("revoke references on app.note from {app}")),
        ("definer-bypasses", "create function app.peek() returns bigint language sql security definer return (select count(*) from app.note)".to_owned(), "drop function app.peek()".to_owned()),
        ("view-bypasses", format!("create view app.peek as select * from app.note; grant select on app.peek to {app}"), "drop view app.peek".to_owned()),
        ("role-setting", format!("alter role {app} set row_security = off"), format!("alter role {app} reset row_security")),
    ] {
        change_shared_rows(&superuser, &breaks).await.unwrap();
        let findings = check::application_role(&fixture.client, &fixture.made.app_role).await.unwrap();
        let codes: Vec<&str> = findings.found.iter().map(|finding| finding.code.as_str()).collect();
        assert!(codes.contains(&code), "{breaks}: {codes:?}");
        let refused = findings.accept().unwrap_err().to_string();
        assert!(refused.contains(&fixture.made.app_role), "{refused}");
        change_shared_rows(&superuser, &mends).await.unwrap();
        let findings = check::application_role(&fixture.client, &fixture.made.app_role).await.unwrap();
        assert!(findings.found.is_empty(), "{mends}: {findings}");
    }
    let findings = check::application_role(&fixture.client, "nobody").await.unwrap();
    assert_eq!(findings.found[0].code, "role-missing");
}

#[tokio::test]
async fn bootstrap_refuses_what_it_cannot_mend_and_changes_nothing() {
    let fixture = sealed().await;
    let superuser = fixture.superuser().await;
    let app = &fixture.made.app_role;
    superuser
        .batch_execute(&format!("alter role \"{app}\" bypassrls"))
        .await
        .unwrap();
    let request = DatabaseRequest {
        installation: &fixture.installation,
        database: fixture.id,
        name: fixture.database.name(),
        credentials: None,
        force_signed: false,
    };
    let refused = bootstrap::database(&fixture.admin, &request).await.unwrap_err();
    assert!(matches!(refused, BootstrapError::Refused(_)), "{refused}");
    assert!(refused.to_string().contains("BYPASSRLS"), "{refused}");
    superuser
        .batch_execute(&format!("alter role \"{app}\" nobypassrls"))
        .await
        .unwrap();
    // the key and the password are the ones from before
    let mut session = fixture.session().await;
    session.enter(fixture.a).await;
}
