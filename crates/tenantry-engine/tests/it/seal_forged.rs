//! What SQL from outside may try with the application role's connection, in both tiers.

use tenantry_core::{Role, Tier};

use crate::seal_support::{Fixture, Session, connect, expect, in_each_tier, refusal};

in_each_tier! {
    the_context_cannot_be_set
    no_role_can_be_taken
    the_mechanism_is_out_of_reach
    a_connection_option_sets_no_context
    names_of_the_attackers_do_not_get_into_the_helpers
    odd_settings_do_not_open_anything
    a_rolled_back_binding_leaves_the_one_before
    parallel_workers_see_the_context
    a_prepared_statement_follows_the_context
    leaving_ends_the_context
}

/// The rows that the session sees now, whatever it takes for its context; none where it is refused.
async fn visible(session: &Session) -> Vec<String> {
    session.notes().await.unwrap_or_default()
}

async fn the_context_cannot_be_set(fixture: Fixture) {
    let mut session = fixture.session().await;
    session.enter(fixture.a).await;
    // The very seal that a session of the other tenant has.
    let mut victim = fixture.session().await;
    let of_b = victim.enter(fixture.b).await.seal();
    let carrier = tenantry_engine::seal::CARRIER;
    let carried = tenantry_engine::seal::carried(&of_b);
    let set_only_by_the_mechanism = [
        format!("select set_config('{carrier}', '{carried}', false)"),
        format!("select set_config('{carrier}', '{carried}', true)"),
        format!("set {carrier} = '{carried}'"),
        format!("set local {carrier} = '{carried}'"),
        format!("reset {carrier}"),
        format!("set {carrier} to default"),
        format!("alter role current_user set {carrier} = '{carried}'"),
        format!("alter role {} set {carrier} = '{carried}'", fixture.made.app_role),
        format!(
            "alter database \"{}\" set {carrier} = '{carried}'",
            fixture.database.name()
        ),
        format!("update pg_settings set setting = '{carried}' where name = '{carrier}'"),
        format!("do $$ begin perform set_config('{carrier}', '{carried}', true); end $$"),
    ];
    for attack in &set_only_by_the_mechanism {
        session.client.batch_execute("begin").await.unwrap();
        expect(&session.client, &of_b).await.unwrap();
        let refused = session.client.batch_execute(attack).await.unwrap_err();
        assert_eq!(refusal(&refused).0, "42501", "{attack}");
        session.client.batch_execute("rollback").await.unwrap();
    }
    let outside = format!("alter system set {carrier} = '{carried}'");
    assert_eq!(
        refusal(&session.client.batch_execute(&outside).await.unwrap_err()).0,
        "42501"
    );
    // Settings that anybody may make, in every form, in the hope that one of them is believed.
    for name in [
        "tenantry.expect",
        "tenantry.signed",
        "tenantry.last",
        "tenantry.account",
        "app.tenant_id",
    ] {
        for value in [of_b.clone(), fixture.b.to_string(), format!("{of_b}{}", "0".repeat(90))] {
            session.client.batch_execute("begin").await.unwrap();
            session.open(fixture.a).await.unwrap();
            session
                .client
                .execute("select set_config($1, $2, true)", &[&name, &value])
                .await
                .unwrap();
            let seen = visible(&session).await;
            assert!(!seen.contains(&format!("of {}", fixture.b)), "{name} = {value}");
            session.client.batch_execute("rollback").await.unwrap();
        }
    }
    assert_eq!(
        session.notes_as(fixture.a).await.unwrap(),
        [format!("of {}", fixture.a)]
    );
}

async fn no_role_can_be_taken(fixture: Fixture) {
    let session = fixture.session().await;
    let roles = tenantry_engine::Roles::of(&fixture.installation);
    let superuser = fixture.database.cluster().superuser().to_owned();
    for role in [
        roles.seal.as_str(),
        roles.owner.as_str(),
        roles.home.as_str(),
        roles.mover.as_str(),
        &superuser,
    ] {
        for attack in [
            format!("set role \"{role}\""),
            format!("set session authorization \"{role}\""),
            format!("grant \"{role}\" to current_user"),
            format!("select set_config('role', '{role}', false)"),
            format!("alter role \"{role}\" login superuser password 'x'"),
        ] {
            let refused = session.client.batch_execute(&attack).await.unwrap_err();
            assert_eq!(refusal(&refused).0, "42501", "{attack}");
        }
    }
    for attack in [
        "alter role current_user superuser",
        "alter role current_user bypassrls",
        "create role accomplice",
        "create schema mine",
        "create table public.mine (id int)",
        "create table app.mine (id int)",
        "create table tenantry.mine (id int)",
        "create temp table note (tenant_id uuid, id int, body text)",
        "alter table app.note disable row level security",
        "alter table app.note no force row level security",
        "drop policy tenantry_floor on app.note",
        "create policy mine on app.note using (true)",
        "truncate app.note",
        "create or replace function tenantry.tenant_id() returns uuid language sql as 'select null::uuid'",
        "drop function tenantry.tenant_id() cascade",
        "set session_replication_role = replica",
    ] {
        let refused = session.client.batch_execute(attack).await.unwrap_err();
        let code = refusal(&refused).0;
        assert!(matches!(code.as_str(), "42501" | "2BP01"), "{attack}: {code}");
    }
    // Without row security a query is refused instead of answered.
    let refused = session
        .client
        .batch_execute("set row_security = off; select * from app.note")
        .await
        .unwrap_err();
    assert_eq!(refusal(&refused).0, "42501");
}

async fn the_mechanism_is_out_of_reach(fixture: Fixture) {
    let session = fixture.session().await;
    let tenant = fixture.b;
    for attack in [
        "select * from tenantry_private.mac_key".to_owned(),
        "select * from tenantry_private.fence".to_owned(),
        "select * from tenantry_private.tenant_database".to_owned(),
        "select * from tenantry_private.migration".to_owned(),
        "insert into tenantry_private.mac_key values (9, '', '')".to_owned(),
        "select tenantry_private.key_ids()".to_owned(),
        "select tenantry_private.key_add(9, '', '')".to_owned(),
        "select tenantry_private.key_retire(0)".to_owned(),
        "select tenantry_private.allow_pooled(true)".to_owned(),
        "select tenantry_private.compile_fence()".to_owned(),
        format!("select tenantry_private.act_for('{tenant}')"),
        format!("select tenantry_private.act_done('{tenant}')"),
        format!("select tenantry_private.carry('{}')", "0".repeat(50)),
        "select tenantry_private.current_seal()".to_owned(),
        "select tenantry_private.sign_signed('x', 0)".to_owned(),
        format!("select tenantry.fence_register('{tenant}', 9, 0::int2)"),
        format!("select tenantry.fence_close('{tenant}', 1, 3::int2)"),
        format!("select tenantry.fence_open('{tenant}', 9)"),
        format!("select tenantry.fence_settle('{tenant}')"),
        format!("select tenantry.fence_state('{tenant}')"),
        "select tenantry.fence_forget()".to_owned(),
        "select tenantry.fence_transactions()".to_owned(),
        "select tenantry.fence_terminate('{}')".to_owned(),
    ] {
        let refused = session.client.batch_execute(&attack).await.unwrap_err();
        let code = refusal(&refused).0;
        // 42883: a function that only the other tier has.
        assert!(matches!(code.as_str(), "42501" | "42883"), "{attack}: {code}");
    }
}

async fn a_connection_option_sets_no_context(fixture: Fixture) {
    let mut victim = fixture.session().await;
    let of_b = victim.enter(fixture.b).await.seal();
    let mut config = fixture.app_config();
    config.options(format!(
        "-c {}={}",
        tenantry_engine::seal::CARRIER,
        tenantry_engine::seal::carried(&of_b)
    ));
    let refused = config.connect(tokio_postgres::NoTls).await.map(drop).unwrap_err();
    assert_eq!(refusal(&refused).0, "42501");
    let mut config = fixture.app_config();
    config.options(format!(
        "-c tenantry.expect={of_b} -c tenantry.signed={of_b} -c tenantry.last={of_b}"
    ));
    let client = connect(&config).await;
    assert!(client.query("select * from app.note", &[]).await.is_err());
}

/// A schema where the application role may create, which the check refuses to serve, and even so.
async fn names_of_the_attackers_do_not_get_into_the_helpers(fixture: Fixture) {
    let app = &fixture.made.app_role;
    let database = fixture.database.name();
    let b = fixture.b.as_uuid().simple().to_string();
    fixture
        .superuser()
        .await
        .batch_execute(&format!(
            "create schema evil authorization \"{app}\"; grant temporary on database \"{database}\" to \"{app}\";
             -- taken from PUBLIC on a hardened database
             grant usage on language sql to \"{app}\""
        ))
        .await
        .unwrap();
    let mut session = fixture.session().await;
    session.enter(fixture.a).await;
    session
        .client
        .batch_execute(&format!(
            "create function evil.current_setting(text) returns text language sql as $$ select '{b}000000000000000130' $$;
             create function evil.current_setting(text, boolean) returns text language sql as $$ select '{b}000000000000000130' $$;
             create function evil.substr(text, int, int) returns text language sql as $$ select '{b}' $$;
             create function evil.substr(bytea, int, int) returns bytea language sql as $$ select null::bytea $$;
             create function evil.sha256(bytea) returns bytea language sql as $$ select ''::bytea $$;
             create function evil.encode(bytea, text) returns text language sql as $$ select '{b}' $$;
             create function evil.get_byte(bytea, int) returns int language sql as $$ select 0 $$;
             create function evil.octet_length(bytea) returns int language sql as $$ select 58 $$;
             create function evil.pg_backend_pid() returns int language sql as $$ select 0 $$;
             create function evil.set_config(text, text, boolean) returns text language sql as $$ select $2 $$;
             create function evil.yes(text, text) returns boolean language sql as $$ select true $$;
             create function evil.yes(bytea, bytea) returns boolean language sql as $$ select true $$;
             create function evil.yes(uuid, uuid) returns boolean language sql as $$ select true $$;
             create operator evil.= (leftarg = text, rightarg = text, function = evil.yes);
             create operator evil.= (leftarg = bytea, rightarg = bytea, function = evil.yes);
             create operator evil.= (leftarg = uuid, rightarg = uuid, function = evil.yes);
             create temp table mac_key (kid int, ik bytea, ok bytea, database_name name);
             create temp table fence (tenant uuid, epoch int8, state int2);
             set search_path = evil, pg_temp, pg_catalog, app"
        ))
        .await
        .unwrap();
    let rows = |rows: Vec<tokio_postgres::Row>| rows.iter().map(|row| row.get(0)).collect::<Vec<String>>();
    session.client.batch_execute("begin").await.unwrap();
    session.open(fixture.a).await.unwrap();
    let seen = rows(session.client.query("select body from app.note", &[]).await.unwrap());
    assert_eq!(seen, [format!("of {}", fixture.a)]);
    session.client.batch_execute("commit").await.unwrap();
    // A token that nobody signed is not accepted because the attacker's sha256 says so.
    let mut forged = session.key.sign(&session.token(fixture.b));
    forged.mac = [0; 32];
    assert_eq!(refusal(&session.try_enter(&forged).await.unwrap_err()).0, "28000");
    assert_eq!(
        session.notes_as(fixture.a).await.unwrap(),
        [format!("of {}", fixture.a)]
    );
}

/// Settings that change how a text is read or a query is run.
async fn odd_settings_do_not_open_anything(fixture: Fixture) {
    let mut session = fixture.session().await;
    session
        .client
        .batch_execute(
            "set standard_conforming_strings = off; set backslash_quote = on; set escape_string_warning = off;
             set transform_null_equals = on; set bytea_output = 'escape'; set datestyle = 'german'; set timezone = 'Asia/Kathmandu';
             set intervalstyle = 'sql_standard'; set array_nulls = off; set quote_all_identifiers = on; set plan_cache_mode = force_generic_plan",
        )
        .await
        .unwrap();
    let mut token = session.token(fixture.a);
    token.account = Some(Session::account());
    session.enter_with(token).await;
    assert_eq!(
        session.notes_as(fixture.a).await.unwrap(),
        [format!("of {}", fixture.a)]
    );
    let mut late = session.token(fixture.b);
    late.now_us -= 31_000_000;
    let late = session.key.sign(&late);
    assert_eq!(refusal(&session.try_enter(&late).await.unwrap_err()).0, "28000");
    session.enter(fixture.b).await;
    assert_eq!(
        session.notes_as(fixture.b).await.unwrap(),
        [format!("of {}", fixture.b)]
    );
}

async fn a_rolled_back_binding_leaves_the_one_before(fixture: Fixture) {
    let mut session = fixture.session().await;
    let of_a = session.enter(fixture.a).await;
    session.client.batch_execute("begin").await.unwrap();
    session.open(fixture.a).await.unwrap();
    session.client.batch_execute("savepoint s").await.unwrap();
    session.enter(fixture.b).await;
    assert_eq!(session.notes().await.unwrap(), [format!("of {}", fixture.b)]);
    session.client.batch_execute("rollback to savepoint s").await.unwrap();
    assert_eq!(session.notes().await.unwrap(), [format!("of {}", fixture.a)]);
    session.client.batch_execute("rollback").await.unwrap();
    if fixture.made.tier == Tier::Sealed {
        session.client.batch_execute("begin").await.unwrap();
        expect(&session.client, &of_a.seal()).await.unwrap();
        assert_eq!(session.notes().await.unwrap(), [format!("of {}", fixture.a)]);
        session.client.batch_execute("rollback").await.unwrap();
    }
}

async fn parallel_workers_see_the_context(fixture: Fixture) {
    let mut session = fixture.session().await;
    session.enter(fixture.a).await;
    let force = match fixture.database.cluster().major() {
        15 => "force_parallel_mode",
        _ => "debug_parallel_query",
    };
    session
        .client
        .batch_execute(&format!(
            "set {force} = on; set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0"
        ))
        .await
        .unwrap();
    assert_eq!(
        session.notes_as(fixture.a).await.unwrap(),
        [format!("of {}", fixture.a)]
    );
}

async fn a_prepared_statement_follows_the_context(fixture: Fixture) {
    let mut session = fixture.session().await;
    let select = session.client.prepare("select body from app.note").await.unwrap();
    for _ in 0..8 {
        for tenant in [fixture.a, fixture.b] {
            session.client.batch_execute("begin").await.unwrap();
            session.enter(tenant).await;
            let rows = session.client.query(&select, &[]).await.unwrap();
            assert_eq!(
                rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(),
                [format!("of {tenant}")]
            );
            session.client.batch_execute("commit").await.unwrap();
        }
    }
}

async fn leaving_ends_the_context(fixture: Fixture) {
    let mut session = fixture.session().await;
    let mut token = session.token(fixture.a);
    token.role = Role::Owner;
    let signed = session.enter_with(token).await;
    session.client.batch_execute("begin").await.unwrap();
    session.open(fixture.a).await.unwrap();
    session.client.batch_execute("select tenantry.leave()").await.unwrap();
    assert!(session.notes().await.unwrap().is_empty());
    expect(&session.client, &signed.seal()).await.unwrap();
    assert!(visible(&session).await.is_empty());
    session
        .client
        .batch_execute("rollback; select tenantry.leave()")
        .await
        .unwrap();
    session.client.batch_execute("begin").await.unwrap();
    expect(&session.client, &signed.seal()).await.unwrap();
    assert!(visible(&session).await.is_empty());
    session.client.batch_execute("rollback").await.unwrap();
    assert_eq!(refusal(&session.try_enter(&signed).await.unwrap_err()).0, "28000");
    session.enter(fixture.b).await;
    assert_eq!(
        session.notes_as(fixture.b).await.unwrap(),
        [format!("of {}", fixture.b)]
    );
}
