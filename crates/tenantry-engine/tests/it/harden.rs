//! Hardening: what it takes, from whom, what goes on, and that it can be undone.

use tenantry_core::Epoch;
use tenantry_engine::{
    bootstrap::{self, BootstrapError, GROUPS, Hardening},
    fence::{self, Closed},
};
use tokio_postgres::Client;

use crate::seal_support::{Fixture, Session, in_each_tier, refusal};

in_each_tier! {
    what_sql_from_outside_needs_is_gone_and_the_rest_goes_on
    it_can_be_undone_and_nothing_is_different_then
    what_is_granted_by_name_stays
}

/// As the superuser: nobody else may take from PUBLIC what belongs to PostgreSQL.
async fn harden(fixture: &Fixture, except: &[&str]) -> Hardening {
    let admin = tenantry_engine::admin::ServerAdmin::new(fixture.database.config()).unwrap();
    bootstrap::harden(&admin, &fixture.installation, fixture.database.name(), except)
        .await
        .unwrap()
}

async fn unharden(fixture: &Fixture) -> Hardening {
    let admin = tenantry_engine::admin::ServerAdmin::new(fixture.database.config()).unwrap();
    bootstrap::unharden(&admin, &fixture.installation, fixture.database.name())
        .await
        .unwrap()
}

/// What SQL from outside does with what PostgreSQL gives everybody, at least one of each group.
const ATTACKS: &[&str] = &[
    "select query from pg_stat_activity",
    "select * from pg_stat_get_activity(null)",
    "select n_live_tup from pg_stat_all_tables",
    "select pg_stat_get_live_tuples('app.note'::regclass)",
    "select * from pg_statio_user_tables",
    "select * from pg_locks",
    "select * from pg_lock_status()",
    "select * from pg_stats",
    "select * from pg_prepared_xacts",
    "select pg_terminate_backend(pg_backend_pid() + 1)",
    "select pg_cancel_backend(pg_backend_pid() + 1)",
    "select pg_notify('x', 'y')",
    "select pg_try_advisory_lock(1)",
    "select pg_advisory_xact_lock(1, 2)",
    "select lo_create(0)",
    "select lo_from_bytea(0, 'x')",
    "select lo_get(1)",
    "select * from pg_largeobject_metadata",
    "select pg_sleep(0)",
    "select pg_sleep_for('0 s')",
    "select txid_current()",
    "select pg_current_xact_id()",
    "select pg_current_snapshot()",
    "select pg_current_wal_lsn()",
    "select pg_logical_emit_message(false, 'x', 'y')",
    "select pg_export_snapshot()",
    "select pg_relation_size('app.note')",
    "select pg_total_relation_size('app.note')",
    "select pg_database_size(current_database())",
    "select query_to_xml('select 1', true, true, '')",
    "select table_to_xml('app.note', true, true, '')",
    "select ts_stat('select null::tsvector')",
    "select * from pg_prepared_statements",
    "select * from pg_cursors",
    "select setseed(0.5)",
    "do $$ begin perform 1; end $$",
    "do $$ begin execute 'notify x'; end $$",
    "create function app.f() returns int language sql begin atomic select 1; end",
    "create function pg_temp.f() returns int language plpgsql as 'begin return 1; end'",
    "create temporary table note (id int)",
];

/// What ordinary SQL of an application uses.
const ORDINARY: &[&str] = &[
    "select count(*), max(body), string_agg(body, ',' order by id), array_agg(id) from app.note",
    "select n.id, row_number() over (order by n.id) from app.note n join app.note m using (id)",
    "with new as (insert into app.note (id, body) values (77, 'x') returning id) select * from new",
    "insert into app.note (id, body) values (77, 'x') on conflict (tenant_id, id) do update set body = excluded.body",
    "update app.note set body = lower(body) || now()::text || gen_random_uuid()::text where id = 77",
    "delete from app.note where id = 77",
    "select to_tsvector('a b') @@ to_tsquery('a'), jsonb_build_object('a', 1) ->> 'a', regexp_replace('a', 'a', 'b')",
    "select current_setting('search_path'), set_config('work_mem', '8MB', true), version(), pg_typeof(1), format('%I', 'a b')",
    "select relname from pg_class where oid = 'app.note'::regclass",
    "select column_name from information_schema.columns where table_name = 'note'",
    "select xmlelement(name a), xmlagg(xmlelement(name b)) from app.note",
    "select random(), clock_timestamp(), md5('x'), sha256('x'), encode('x', 'hex'), age(now())",
    "explain select * from app.note",
    "select * from app.note for update",
];

async fn in_context(session: &mut Session, fixture: &Fixture, sql: &str) -> Result<(), String> {
    session.client.batch_execute("begin").await.unwrap();
    session.open(fixture.a).await.unwrap();
    let done = session.client.batch_execute(sql).await;
    session.client.batch_execute("rollback").await.unwrap();
    done.map_err(|error| refusal(&error).0)
}

async fn what_sql_from_outside_needs_is_gone_and_the_rest_goes_on(fixture: Fixture) {
    let mut session = fixture.session().await;
    session.enter(fixture.a).await;
    unharden(&fixture).await;
    // Each is known to work before, but for what bootstrap has taken already.
    for attack in ATTACKS {
        let taken_already = attack.starts_with("create");
        let before = in_context(&mut session, &fixture, attack).await;
        let refused = before.as_ref().is_err_and(|code| code == "42501");
        assert_eq!(refused, taken_already, "{attack}: {before:?}");
    }
    let hardened = harden(&fixture, &[]).await;
    assert!(hardened.is_whole(), "{hardened:?}");
    assert_eq!(hardened.taken.len(), GROUPS.len());
    // On the connection that was there, and on a new one.
    let mut young = fixture.session().await;
    young.enter(fixture.a).await;
    for session in [&mut session, &mut young] {
        for attack in ATTACKS {
            let after = in_context(session, &fixture, attack).await;
            assert_eq!(after, Err("42501".to_owned()), "{attack}");
        }
        for sql in ORDINARY {
            assert_eq!(in_context(session, &fixture, sql).await, Ok(()), "{sql}");
        }
        assert_eq!(
            session.notes_as(fixture.a).await.unwrap(),
            [format!("of {}", fixture.a)]
        );
    }
    // The application role may serve still, and the fence closes, waits and opens.
    let findings = tenantry_engine::check::application_role(&fixture.client, &fixture.made.app_role).await;
    findings.unwrap().accept().unwrap();
    fence::close(&fixture.client, fixture.a, Epoch::FIRST, Closed::Suspended)
        .await
        .unwrap();
    assert!(young.notes_as(fixture.a).await.is_err());
    fence::open(&fixture.client, fixture.a, Epoch::FIRST).await.unwrap();
    assert_eq!(young.notes_as(fixture.a).await.unwrap().len(), 1);
    // The same administrator bootstraps again, and it stays hardened.
    let request = bootstrap::DatabaseRequest {
        installation: &fixture.installation,
        database: fixture.id,
        name: fixture.database.name(),
        credentials: None,
        force_signed: false,
    };
    bootstrap::database(&fixture.admin, &request).await.unwrap();
    assert!(bootstrap::hardening(&fixture.client).await.unwrap().is_whole());
    assert_eq!(harden(&fixture, &[]).await, hardened);
}

/// Who may do what with every function, table and language of the system.
async fn rights(client: &Client) -> Vec<String> {
    let sql = "
        select p.oid::regprocedure || ' ' || coalesce(r.rolname, 'public') from pg_proc p
         cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x left join pg_roles r on r.oid = x.grantee
         where p.pronamespace = 'pg_catalog'::regnamespace and x.grantee <> p.proowner
        union all
        select c.oid::regclass || ' ' || x.privilege_type || ' ' || coalesce(r.rolname, 'public') from pg_class c
         cross join lateral aclexplode(c.relacl) x left join pg_roles r on r.oid = x.grantee
         where c.relnamespace = 'pg_catalog'::regnamespace and x.grantee <> c.relowner
        union all
        select l.lanname || ' ' || coalesce(r.rolname, 'public') from pg_language l
         cross join lateral aclexplode(coalesce(l.lanacl, acldefault('l', l.lanowner))) x left join pg_roles r on r.oid = x.grantee
         where x.grantee <> l.lanowner
        order by 1";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn it_can_be_undone_and_nothing_is_different_then(fixture: Fixture) {
    unharden(&fixture).await;
    let superuser = fixture.superuser().await;
    let before = rights(&superuser).await;
    harden(&fixture, &[]).await;
    let hardened = rights(&superuser).await;
    assert_ne!(hardened, before);
    harden(&fixture, &[]).await;
    assert_eq!(rights(&superuser).await, hardened, "a second time changes nothing");
    let undone = unharden(&fixture).await;
    assert!(undone.is_none(), "{undone:?}");
    assert_eq!(rights(&superuser).await, before);
}

async fn what_is_granted_by_name_stays(fixture: Fixture) {
    let superuser = fixture.superuser().await;
    harden(&fixture, &[]).await;
    let grant = format!(
        "grant execute on function pg_notify(text, text) to {}",
        fixture.made.app_role
    );
    superuser.batch_execute(&grant).await.unwrap();
    assert!(harden(&fixture, &[]).await.is_whole());
    let mut session = fixture.session().await;
    session.enter(fixture.a).await;
    assert_eq!(
        in_context(&mut session, &fixture, "select pg_notify('x', 'y')").await,
        Ok(())
    );
    // A whole group is left to PUBLIC only where it was left from the beginning, or given back.
    unharden(&fixture).await;
    let but = harden(&fixture, &["sleep"]).await;
    assert_eq!(but.left_names(), "sleep");
    assert_eq!(in_context(&mut session, &fixture, "select pg_sleep(0)").await, Ok(()));
}

#[tokio::test]
async fn an_administrator_who_may_not_is_told_what_is_left() {
    let fixture = Fixture::signed_on(tenantry_testing::cluster().await).await;
    unharden(&fixture).await;
    let left = bootstrap::harden(&fixture.admin, &fixture.installation, fixture.database.name(), &[])
        .await
        .unwrap();
    assert!(left.is_none() && !left.is_whole(), "{left:?}");
    let signals = left.left.iter().find(|left| left.group == "signals").unwrap();
    assert!(
        signals
            .objects
            .iter()
            .any(|object| object.contains("pg_terminate_backend"))
    );
    // Nothing is broken by the attempt.
    let mut session = fixture.session().await;
    session.enter(fixture.a).await;
    assert_eq!(session.notes_as(fixture.a).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_group_that_nobody_knows_is_refused() {
    let fixture = crate::seal_support::sealed().await;
    let admin = &fixture.admin;
    let refused = bootstrap::harden(admin, &fixture.installation, fixture.database.name(), &["slep"]).await;
    assert!(matches!(refused, Err(BootstrapError::UnknownGroup(name)) if name == "slep"));
}

/// `dblink` is on this list by its extension, where it is installed.
#[tokio::test]
async fn functions_of_an_extension_that_comes_later_are_found_and_taken() {
    let fixture = crate::seal_support::sealed().await;
    assert!(harden(&fixture, &[]).await.is_whole());
    let superuser = fixture.superuser().await;
    superuser
        .batch_execute("create extension dblink schema tenantry_ext")
        .await
        .unwrap();
    let found = bootstrap::hardening(&fixture.client).await.unwrap();
    assert_eq!(found.left_names(), "dblink");
    assert!(harden(&fixture, &[]).await.is_whole());
    let mut session = fixture.session().await;
    session.enter(fixture.a).await;
    let connect = "select tenantry_ext.dblink_connect('host=127.0.0.1')";
    assert_eq!(
        in_context(&mut session, &fixture, connect).await,
        Err("42501".to_owned())
    );
}
