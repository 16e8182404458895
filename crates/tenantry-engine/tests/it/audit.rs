//! The audit as a whole: what it costs, that it reads only, and what it says of databases of ours.

use std::time::Instant;

use tenantry_engine::{
    Roles,
    audit::{self, Finding, Identity, Report, Severity, Subject},
};
use tenantry_testing::{change_shared_rows, database, installation_id};

use crate::seal_support::{Fixture, in_each_tier, sealed};

const TABLES: usize = 1_000;

#[tokio::test]
async fn a_thousand_tables_are_audited_in_two_seconds() {
    let database = database().await;
    let mut client = database.connect().await;
    let app = format!("web_{}", installation_id());
    for statement in &many_tables(&app, TABLES) {
        client
            .batch_execute(statement)
            .await
            .unwrap_or_else(|error| panic!("{error:?}\n{statement}"));
    }
    let mut fastest = f64::MAX;
    let mut report = None;
    for _ in 0..3 {
        let begin = Instant::now();
        report = Some(audit::audit(&mut client, &Subject::of(app.as_str())).await.unwrap());
        fastest = fastest.min(begin.elapsed().as_secs_f64());
    }
    let report = report.unwrap();
    println!("{TABLES} tables in {fastest:.2} s");
    assert_eq!(report.tenant_tables, TABLES);
    assert_eq!(of(&report, "MT001").len(), TABLES / 10);
    assert_eq!(of(&report, "MT030").len(), TABLES - TABLES / 10);
    // Several times the promise: the machine is shared, and may be a slow one.
    assert!(fastest < 8.0, "{fastest:.2} s");
    client
        .batch_execute(&format!("drop owned by {app}; drop role {app}"))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_audit_of_more_tables_asks_no_more_often() {
    let (few, many) = (statements_of_an_audit(10).await, statements_of_an_audit(200).await);
    println!("{few} statements");
    assert!(few > 0);
    assert_eq!(few, many);
}

/// By the server's log, which here has a line for each.
async fn statements_of_an_audit(tables: usize) -> usize {
    let database = database().await;
    let app = format!("web_{}", installation_id());
    let maker = database.connect().await;
    for statement in &many_tables(&app, tables) {
        maker.batch_execute(statement).await.unwrap();
    }
    let name = database.name();
    maker
        .batch_execute(&format!("alter database {name} set log_min_duration_statement = 0"))
        .await
        .unwrap();
    let mut client = database.connect().await;
    let report = audit::audit(&mut client, &Subject::of(app.as_str())).await.unwrap();
    assert_eq!(report.tenant_tables, tables);
    let log = std::fs::read_to_string(database.cluster().log_file()).unwrap();
    let mark = format!("@{name} ");
    let count = log
        .lines()
        .filter(|line| line.contains(&mark) && line.contains("duration:"))
        .count();
    maker
        .batch_execute(&format!("drop owned by {app}; drop role {app}"))
        .await
        .unwrap();
    count
}

/// A tenth of them is not protected. `do` with commits can't stand in a message with other statements.
fn many_tables(app: &str, tables: usize) -> Vec<String> {
    vec![
        format!("create role {app} login"),
        format!("create schema app; grant usage on schema app to {app}"),
        format!(
            "do $$ begin
               for i in 1..{tables} loop
                 execute format('create table app.t%s (tenant_id uuid not null, id uuid not null, parent uuid, body text, made_at timestamptz, primary key (tenant_id, id))', i);
                 execute format('create index on app.t%s (tenant_id, made_at)', i);
                 if i > 1 then
                   execute format('alter table app.t%s add foreign key (tenant_id, parent) references app.t%s', i, i - 1);
                 end if;
                 if i % 10 <> 0 then
                   execute format('alter table app.t%s enable row level security', i);
                   execute format('alter table app.t%s force row level security', i);
                   execute format('create policy p on app.t%s using (tenant_id = (select nullif(current_setting(%L, true), %L)::uuid))', i, 'app.tenant', '');
                   execute format('create policy q on app.t%s as restrictive using (tenant_id = (select nullif(current_setting(%L, true), %L)::uuid))', i, 'app.tenant', '');
                 end if;
                 execute format('grant select, insert, delete on app.t%s to {app}', i);
                 if i % 100 = 0 then commit; end if;
               end loop;
             end $$"
        ),
    ]
}

fn of<'r>(report: &'r Report, id: &str) -> Vec<&'r Finding> {
    report.findings.iter().filter(|finding| finding.id == id).collect()
}

#[tokio::test]
async fn an_audit_needs_no_right_to_write() {
    let database = database().await;
    let mut client = database.connect().await;
    let app = format!("web_{}", installation_id());
    client
        .batch_execute(&format!(
            "create role {app} login; set default_transaction_read_only = on"
        ))
        .await
        .unwrap();
    let report = audit::audit(&mut client, &Subject::of(app.as_str())).await.unwrap();
    assert_eq!(report.database, database.name());
    // By its owner, who is no superuser and reads no pg_hba.conf.
    client
        .batch_execute(&format!(
            "set transaction read write; set default_transaction_read_only = off; drop role {app}"
        ))
        .await
        .unwrap();
    let restricted = database.restricted_admin().await;
    let mut owner = crate::seal_support::connect(restricted.config()).await;
    let report = audit::audit(&mut owner, &Subject::of(restricted.name())).await.unwrap();
    assert!(!of(&report, "MT042").is_empty() && of(&report, "MT094").is_empty());
}

#[tokio::test]
async fn a_role_that_is_not_there_is_said() {
    let database = database().await;
    let mut client = database.connect().await;
    let error = audit::audit(&mut client, &Subject::of("nobody_here"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("nobody_here"), "{error}");
}

/// What a person repeats: the script alone, as the administrator, shows the foreign rows and leaves nothing.
#[tokio::test]
async fn an_exploit_can_be_repeated_by_hand() {
    let database = database().await;
    let mut client = database.connect().await;
    let app = format!("web_{}", installation_id());
    client
        .batch_execute(&format!(
            "create role {app} login; create schema app; grant usage on schema app to {app};
             create table app.x (tenant_id int not null, id int, primary key (tenant_id, id)); grant select on app.x to {app};
             create view app.v as select * from app.x; grant select on app.v to {app}"
        ))
        .await
        .unwrap();
    let subject = Subject::of(app.as_str());
    let mut report = audit::audit(&mut client, &subject).await.unwrap();
    audit::prove(&mut client, &subject, &mut report).await.unwrap();
    let critical: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Critical)
        .collect();
    assert!(critical.len() >= 2, "{:?}", report.findings);
    for finding in critical {
        let proof = finding.proof.as_ref().unwrap();
        assert!(proof.shown && proof.script.starts_with("begin;\n") && proof.script.ends_with("rollback;"));
        let messages = client
            .simple_query(&proof.script)
            .await
            .unwrap_or_else(|error| panic!("{error:?}\n{}", proof.script));
        let counted = messages.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).and_then(|count| count.parse::<i64>().ok()),
            _ => None,
        });
        assert!(counted.max().unwrap_or(0) > 0, "{}", proof.script);
    }
    let left: i64 = client
        .query_one("select count(*) from app.x", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(left, 0);
    client
        .batch_execute(&format!("drop owned by {app}; drop role {app}"))
        .await
        .unwrap();
}

#[tokio::test]
async fn rows_of_unknown_tenants_and_with_foreign_parents_are_found() {
    let database = database().await;
    let mut client = database.connect().await;
    let app = format!("web_{}", installation_id());
    client
        .batch_execute(&format!(
            "create role {app} login; create schema app;
             create table app.tenant (id int primary key); insert into app.tenant values (1), (2);
             create table app.a (tenant_id int not null references app.tenant, id int primary key);
             create table app.b (tenant_id int not null, id int primary key, a_id int references app.a);
             insert into app.a values (1, 1), (2, 2);
             insert into app.b values (1, 1, 1), (2, 2, 1), (7, 3, null), (8, 4, null)"
        ))
        .await
        .unwrap();
    let subject = Subject::of(app.as_str());
    let mut report = audit::audit(&mut client, &subject).await.unwrap();
    audit::look_at_data(&mut client, &subject, &mut report).await.unwrap();
    let orphans = of(&report, "MT100");
    assert!(
        orphans.len() == 1 && orphans[0].object == "app.b" && orphans[0].message.contains("2 tenants"),
        "{orphans:?}"
    );
    let mixed = of(&report, "MT101");
    assert!(mixed.len() == 1 && mixed[0].message.starts_with("1 rows"), "{mixed:?}");
    client.batch_execute(&format!("drop role {app}")).await.unwrap();
}

#[tokio::test]
async fn schemas_of_tenants_are_compared_and_roles_kept_to_their_own() {
    let database = database().await;
    let mut client = database.connect().await;
    let (one, two) = (
        format!("one_{}", installation_id()),
        format!("two_{}", installation_id()),
    );
    client
        .batch_execute(&format!(
            "create role {one} login; create role {two} login;
             create schema org_1; create schema org_2; create schema org_3;
             create table org_1.a (id int); create table org_2.a (id int); create table org_3.a (id int, more text);
             grant usage on schema org_1 to {one}; grant usage on schema org_1, org_2 to {two}"
        ))
        .await
        .unwrap();
    let subject = Subject {
        app_roles: vec![one.clone(), two.clone()],
        tenant_schemas: Some("org%".to_owned()),
        ..Subject::of("")
    };
    let report = audit::audit(&mut client, &subject).await.unwrap();
    let drift = of(&report, "MT103");
    assert!(
        drift.len() == 1 && drift[0].object == "org_3" && drift[0].message.contains(" a"),
        "{drift:?}"
    );
    let reaching = of(&report, "MT104");
    assert!(reaching.len() == 1 && reaching[0].object == two, "{reaching:?}");
    client
        .batch_execute(&format!("drop owned by {one}, {two}; drop role {one}, {two}"))
        .await
        .unwrap();
}

in_each_tier! { a_database_of_ours_has_nothing_above_a_warning }

/// Server settings and rights that hardening takes away are left.
async fn a_database_of_ours_has_nothing_above_a_warning(fixture: Fixture) {
    let report = mechanism(&fixture).await;
    let bad: Vec<&Finding> = report
        .findings
        .iter()
        .filter(|finding| finding.severity > Severity::Warn && !["MT092", "MT094"].contains(&finding.id))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let is_signed = !of(&report, "MT112").is_empty();
    assert_eq!(is_signed, fixture.made.tier == tenantry_core::Tier::Signed);
}

async fn mechanism(fixture: &Fixture) -> Report {
    let mut client = fixture.admin.connect(fixture.database.name()).await.unwrap();
    let identity = Identity {
        installation: fixture.installation.clone(),
        app_role: fixture.made.app_role.clone(),
    };
    let subject = Subject::of(fixture.made.app_role.as_str());
    let mut report = audit::audit(&mut client, &subject).await.unwrap();
    audit::look_at_mechanism(&mut client, &identity, &subject, &mut report)
        .await
        .unwrap();
    let mut app = fixture.app_client().await;
    audit::look_as_application(&mut app, &identity, Some(*fixture.a.as_uuid()), &mut report)
        .await
        .unwrap();
    report
}

/// A fleet has more tables than the server has places for locks.
#[tokio::test]
async fn looking_as_the_application_never_locks_all_tables_at_once() {
    let fixture = sealed().await;
    let superuser = fixture.superuser().await;
    let app = &fixture.made.app_role;
    superuser
        .batch_execute(&format!(
            "do $$ begin for n in 1..450 loop
               execute format('create table app.t%s (tenant_id uuid)', n);
               execute format('grant select on app.t%s to {app}', n);
             end loop; end $$"
        ))
        .await
        .unwrap();
    let watch = tokio::spawn(async move {
        let sql = "select coalesce(max(held), 0) from
                     (select count(*) as held from pg_locks
                       where locktype = 'relation' and pid <> pg_backend_pid()
                         and database = (select oid from pg_database where datname = current_database())
                       group by pid) as session";
        let mut most: i64 = 0;
        while most < 450 {
            most = most.max(superuser.query_one(sql, &[]).await.unwrap().get(0));
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    let report = mechanism(&fixture).await;
    assert!(
        of(&report, "MT106").is_empty(),
        "the tables are empty: {:#?}",
        report.findings
    );
    assert!(!watch.is_finished(), "all tables were locked at once");
    watch.abort();
}

#[tokio::test]
async fn a_database_knows_that_it_is_ours() {
    let fixture = sealed().await;
    let identity = audit::identity(&fixture.superuser().await).await.unwrap().unwrap();
    assert_eq!(identity.installation, fixture.installation);
    assert_eq!(identity.app_role, fixture.made.app_role);
    let other = database().await;
    assert_eq!(audit::identity(&other.connect().await).await.unwrap(), None);
}

/// Breaks one thing that the seal relies on, sees it found, and mends it.
#[tokio::test]
async fn what_the_seal_relies_on_is_compared_and_tried() {
    let fixture = sealed().await;
    let superuser = fixture.superuser().await;
    let app = format!("\"{}\"", fixture.made.app_role);
    let Roles { seal, owner, mover, .. } = Roles::of(&fixture.installation);
    let own = |number: u8| format!("t_{number:032x}");
    let (one, two, three) = (own(1), own(2), own(3));
    let reset = "tenantry_private.tenant_database";
    for (id, breaks, mends) in [
        (
            "MT110",
            "alter function tenantry.tenant_id() volatile".to_owned(),
            "alter function tenantry.tenant_id() stable".to_owned(),
        ),
        (
            "MT110",
            "create or replace function tenantry.has_role(p_role text) returns boolean language sql stable parallel safe begin atomic select true; end".to_owned(),
            String::new(),
        ),
        (
            "MT110",
            "alter function tenantry.enter(bytea, bytea) reset all".to_owned(),
            "alter function tenantry.enter(bytea, bytea) set search_path = pg_catalog, pg_temp".to_owned(),
        ),
        (
            "MT110",
            format!("create function tenantry.other() returns int language sql return 1; alter function tenantry.other() owner to {seal}"),
            "drop function tenantry.other()".to_owned(),
        ),
        (
            "MT116",
            format!("grant usage on schema tenantry_private to {app}"),
            format!("revoke usage on schema tenantry_private from {app}"),
        ),
        (
            "MT105",
            format!("grant usage on schema tenantry_private to {mover}; grant select on tenantry_private.mac_key to {mover}"),
            format!("revoke usage on schema tenantry_private from {mover}; revoke select on tenantry_private.mac_key from {mover}"),
        ),
        (
            "MT111",
            "create function app.reads() returns text language sql return current_setting('backtrace_functions')".to_owned(),
            "drop function app.reads()".to_owned(),
        ),
        (
            "MT113",
            format!("update {reset} set database_oid = database_oid::int8 + 1"),
            format!("update {reset} set database_oid = database_oid::int8 - 1"),
        ),
        (
            "MT114",
            "drop policy tenantry_floor on app.note".to_owned(),
            "create policy tenantry_floor on app.note as restrictive for all using (tenant_id = (select tenantry.tenant_id())) with check (tenant_id = (select tenantry.tenant_id()))".to_owned(),
        ),
        (
            "MT114",
            "create policy more on app.note for select using (tenant_id = (select tenantry.tenant_id()))".to_owned(),
            "drop policy more on app.note".to_owned(),
        ),
        (
            "MT106",
            "alter table app.note disable row level security".to_owned(),
            "alter table app.note enable row level security".to_owned(),
        ),
        (
            "MT107",
            format!("grant set on parameter backtrace_functions to {app}"),
            format!("revoke set on parameter backtrace_functions from {app}"),
        ),
        (
            "MT106",
            format!("grant {owner} to {app}; alter table app.note no force row level security"),
            format!("revoke {owner} from {app}; alter table app.note force row level security"),
        ),
        (
            "MT103",
            format!("create schema {one}; create schema {two}; create schema {three};
                     create table {one}.a (id int); create table {two}.a (id int); create table {three}.a (id bigint)"),
            format!("drop schema {one}, {two}, {three} cascade"),
        ),
    ] {
        change_shared_rows(&superuser, &breaks).await.unwrap_or_else(|error| panic!("{error:?}\n{breaks}"));
        let report = mechanism(&fixture).await;
        assert!(!of(&report, id).is_empty(), "{breaks}\n{:#?}", report.findings);
        change_shared_rows(&superuser, &mends).await.unwrap_or_else(|error| panic!("{error:?}\n{mends}"));
        if mends.is_empty() {
            let role = tenantry_engine::bootstrap::DatabaseRequest {
                installation: &fixture.installation,
                database: fixture.id,
                name: fixture.database.name(),
                credentials: Some(tenantry_engine::bootstrap::Credentials {
                    app_password: fixture.made.app_password.clone(),
                    key: fixture.made.key.clone(),
                }),
                force_signed: false,
            };
            tenantry_engine::bootstrap::database(&fixture.admin, &role).await.unwrap();
        }
        let mended = mechanism(&fixture).await;
        assert!(of(&mended, id).is_empty(), "{mends}\n{:#?}", of(&mended, id));
    }
}

/// What the audit tries on the mechanism leaves it as it is.
#[tokio::test]
async fn an_audit_of_a_database_of_ours_changes_nothing() {
    let fixture = sealed().await;
    let superuser = fixture.superuser().await;
    let state =
        "select md5(string_agg(p.oid::text || p.xmin::text, ',' order by p.oid)) || (select count(*) from pg_class)
                   from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname like 'tenantry%'";
    let before: String = superuser.query_one(state, &[]).await.unwrap().get(0);
    let _ = mechanism(&fixture).await;
    let after: String = superuser.query_one(state, &[]).await.unwrap().get(0);
    assert_eq!(before, after);
}

/// `cargo xtask audit-docs` writes them.
#[test]
fn the_pages_are_those_of_the_registry() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/audit");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    assert_eq!(read("README.md"), audit::index_page(), "run cargo xtask audit-docs");
    for check in audit::checks() {
        assert_eq!(
            read(&format!("{}.md", check.id)),
            audit::page(check),
            "run cargo xtask audit-docs"
        );
    }
    let pages = std::fs::read_dir(&folder).unwrap().filter_map(Result::ok);
    let of_checks = pages
        .filter(|page| page.file_name().to_string_lossy().starts_with("MT"))
        .count();
    assert_eq!(of_checks, audit::checks().count(), "a page of a check that is gone");
}
