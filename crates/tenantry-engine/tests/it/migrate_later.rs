//! Later migrations over tenants that have rows.

use tenantry_engine::isolate::Act;

use crate::support::{World, derived, files, tenant};

const FIRST: (&str, &str) = (
    "0001_first.sql",
    "create table projects (id int primary key, name text);
     create table tasks (id int primary key, project_id int, title text, amount text);",
);

/// Two tenants with the same ids, ten rows each.
async fn filled() -> World {
    let world = World::new().await;
    world.migrate(&[FIRST]).await;
    for number in [1, 2] {
        world
            .as_tenant(
                tenant(number),
                "insert into projects select i, 'p' || i from generate_series(1, 10) i;
                 insert into tasks select i, i, 't', '12' from generate_series(1, 10) i",
            )
            .await
            .expect("fills");
    }
    world
}

async fn then(world: &World, sql: &str) -> Result<(), String> {
    let derived = derived(&files(&[FIRST, ("0002_then.sql", sql)]))
        .await
        .map_err(|error| error.to_string())?;
    world.apply(&derived).await.map(drop).map_err(|error| error.to_string())
}

async fn forced(world: &World) -> String {
    world
        .all("select count(*) from pg_class where relnamespace = 'app'::regnamespace and relkind = 'r' and not (relrowsecurity and relforcerowsecurity)")
        .await
}

#[tokio::test]
async fn a_foreign_key_by_alter_checks_every_tenants_rows() {
    let world = filled().await;
    then(
        &world,
        "alter table tasks add foreign key (project_id) references projects;",
    )
    .await
    .expect("applies");
    assert_eq!(
        world.constraint("tasks_project_id_fkey").await,
        "FOREIGN KEY (tenant_id, project_id) REFERENCES app.projects(tenant_id, id)"
    );
    assert_eq!(forced(&world).await, "0");
}

#[tokio::test]
async fn a_foreign_key_over_orphans_fails_and_leaves_nothing() {
    let world = filled().await;
    world
        .as_tenant(tenant(2), "delete from projects where id = 3")
        .await
        .expect("orphans");
    let error = then(
        &world,
        "create table other (id int);\nalter table tasks add foreign key (project_id) references projects;",
    )
    .await
    .unwrap_err();
    assert!(error.starts_with("0002_then.sql:2: "), "{error}");
    assert!(
        error.contains("violates foreign key") || error.contains("break"),
        "{error}"
    );
    assert_eq!(forced(&world).await, "0");
    assert_eq!(world.all("select to_regclass('app.other') is null").await, "true");
    assert_eq!(world.all("select count(*) from tenantry_private.migration").await, "1");
}

#[tokio::test]
async fn a_foreign_key_not_valid_is_checked_when_it_is_validated() {
    let world = filled().await;
    world
        .as_tenant(tenant(2), "delete from projects where id = 3")
        .await
        .expect("orphans");
    let add = (
        "0002_add.sql",
        "alter table tasks add constraint fk foreign key (project_id) references projects not valid;",
    );
    let validate = ("0003_validate.sql", "alter table tasks validate constraint fk;");
    world.migrate(&[FIRST, add]).await;
    let all = derived(&files(&[FIRST, add, validate])).await.expect("derives");
    let error = world.apply(&all).await.unwrap_err().to_string();
    assert!(error.starts_with("0003_validate.sql:1: "), "{error}");
    world
        .as_tenant(tenant(2), "delete from tasks where id = 3")
        .await
        .expect("mends");
    world.apply(&all).await.expect("validates");
    assert_eq!(
        world
            .all("select convalidated from pg_constraint where conname = 'fk'")
            .await,
        "true"
    );
    assert_eq!(forced(&world).await, "0");
}

/// Each step of such a file is committed by itself.
#[tokio::test]
async fn without_a_transaction_no_table_stays_unforced_between_two_steps() {
    let world = filled().await;
    let add = (
        "0002_add.sql",
        "-- tenantry: no transaction\nalter table tasks add constraint fk foreign key (project_id) references projects;",
    );
    let all = derived(&files(&[FIRST, add])).await.expect("derives");
    let texts = all.versions[1].steps.iter().filter_map(|step| match &step.act {
        Act::Sql(text) => Some(text.as_str()),
        _ => None,
    });
    let texts: Vec<_> = texts
        .filter(|text| text.contains("no force row level security"))
        .collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(
        texts[0].contains("add constraint") && texts[0].ends_with("\" force row level security"),
        "{texts:?}"
    );
    // The index below the key is built while the table is written.
    let built = all.versions[1].steps.iter();
    let built = built.filter(|step| matches!(step.act, Act::Concurrent { .. }));
    assert_eq!(built.count(), 1);
    world.apply(&all).await.expect("applies");
    assert_eq!(forced(&world).await, "0");
    assert_eq!(world.index("tenantry_fk_child").await.matches("tenant_id").count(), 1);
}

#[tokio::test]
async fn a_new_table_may_reference_an_old_one_without_naming_the_column() {
    let world = filled().await;
    then(
        &world,
        "create table comments (id int primary key, project_id int not null references projects on delete cascade);
         alter table tasks add column parent_id int references tasks;
         alter table projects add column lead_task int references tasks;",
    )
    .await
    .expect("applies");
    let a = tenant(1);
    world
        .as_tenant(
            a,
            "insert into comments values (1, 1); update tasks set parent_id = 1; delete from projects where id = 1",
        )
        .await
        .expect("works");
    assert_eq!(world.ask(a, "select count(*) from comments").await, "0");
}

#[tokio::test]
async fn a_unique_over_values_that_tenants_share_is_added() {
    let world = filled().await;
    then(
        &world,
        "alter table projects add constraint projects_name_key unique (name);
         create unique index tasks_title_key on tasks (title, id);
         create index concurrent_idx on tasks (title);
         alter table tasks add constraint tasks_title_key unique using index tasks_title_key;",
    )
    .await
    .expect("applies");
    assert_eq!(world.constraint("projects_name_key").await, "UNIQUE (tenant_id, name)");
    assert_eq!(
        world.constraint("tasks_title_key").await,
        "UNIQUE (tenant_id, title, id)"
    );
    let refused = world
        .as_tenant(tenant(1), "update projects set name = 'p1'")
        .await
        .unwrap_err();
    assert!(refused.starts_with("23505"), "{refused}");
}

#[tokio::test]
async fn a_key_is_dropped_and_made_again() {
    let world = filled().await;
    then(
        &world,
        "alter table tasks add foreign key (project_id) references projects;
         alter table projects drop constraint projects_pkey cascade;
         alter table projects add column uid uuid not null default gen_random_uuid();
         alter table projects add primary key (uid);
         alter table projects add unique (id);
         alter table tasks add foreign key (project_id) references projects (id);
         alter table tasks drop constraint tasks_pkey, add constraint tasks_pkey primary key (id, project_id);",
    )
    .await
    .expect("applies");
    assert_eq!(world.constraint("projects_pkey").await, "PRIMARY KEY (tenant_id, uid)");
    assert_eq!(
        world.constraint("tasks_pkey").await,
        "PRIMARY KEY (tenant_id, id, project_id)"
    );
    assert_eq!(
        world.constraint("tasks_project_id_fkey").await,
        "FOREIGN KEY (tenant_id, project_id) REFERENCES app.projects(tenant_id, id)"
    );
    assert_eq!(forced(&world).await, "0");
}

#[tokio::test]
async fn tables_and_columns_are_renamed_with_their_rows() {
    let world = filled().await;
    then(
        &world,
        "alter table projects rename to campaigns;
         alter table campaigns rename column name to label;
         alter index projects_pkey rename to campaigns_pkey;
         alter table tasks rename column project_id to campaign_id;
         alter table tasks add foreign key (campaign_id) references campaigns;",
    )
    .await
    .expect("applies");
    assert_eq!(world.ask(tenant(2), "select count(label) from campaigns").await, "10");
    assert_eq!(world.constraint("campaigns_pkey").await, "PRIMARY KEY (tenant_id, id)");
    world
        .as_tenant(tenant(2), "update campaigns set label = 'x'")
        .await
        .expect("grants follow");
}

#[tokio::test]
async fn a_type_is_changed_with_using_over_every_tenants_rows() {
    let world = filled().await;
    then(
        &world,
        "alter table tasks alter column amount type int using (amount::int * 2), alter column title set default 'new', add column done boolean not null default false;
         alter table tasks add constraint positive check (amount > 0);
         alter table tasks alter column amount type numeric(10, 2);
         create index tasks_amount on tasks (amount);
         alter table tasks alter column amount type bigint;",
    )
    .await
    .expect("applies");
    for number in [1, 2] {
        assert_eq!(world.ask(tenant(number), "select sum(amount) from tasks").await, "240");
    }
    assert_eq!(world.all("select format_type(atttypid, -1) from pg_attribute where attrelid = 'app.tasks'::regclass and attname = 'amount'").await, "bigint");
    assert!(world.index("tasks_amount").await.contains("(tenant_id, amount)"));
}

#[tokio::test]
async fn columns_come_and_go_and_are_writable() {
    let world = filled().await;
    then(
        &world,
        "alter table tasks add column note text default 'n', add column stamp timestamptz not null default now();
         alter table tasks drop column amount;
         alter table tasks alter column title set not null;
         alter table tasks alter column title drop not null;
         alter table tasks alter column title set storage external, set (fillfactor = 80);",
    )
    .await
    .expect("applies");
    let a = tenant(1);
    world
        .as_tenant(a, "update tasks set note = 'x', stamp = now()")
        .await
        .expect("writes new columns");
    let refused = world
        .as_tenant(a, "update tasks set tenant_id = tenant_id")
        .await
        .unwrap_err();
    assert!(refused.starts_with("42501"), "{refused}");
    assert_eq!(
        world
            .all("select reloptions from pg_class where oid = 'app.tasks'::regclass")
            .await,
        "{fillfactor=80}"
    );
}

#[tokio::test]
async fn a_not_null_that_rows_break_fails_with_its_line() {
    let world = filled().await;
    world
        .as_tenant(tenant(2), "update tasks set title = null where id = 1")
        .await
        .expect("breaks it");
    let error = then(
        &world,
        "create table x (id int);\n\nalter table tasks alter column title set not null;",
    )
    .await
    .unwrap_err();
    assert!(error.starts_with("0002_then.sql:3: "), "{error}");
}

#[tokio::test]
async fn a_placement_that_grew_has_the_shape_of_one_made_at_once() {
    let grown = filled().await;
    let later = [
        FIRST,
        (
            "0002_then.sql",
            "alter table tasks add foreign key (project_id) references projects on delete cascade, alter column amount type int using amount::int;
             create type mood as enum ('a'); alter table projects add column mood mood, add unique (name, mood);
             create view named as select p.name, t.title from tasks t join projects p on p.id = t.project_id;",
        ),
        (
            "0003_then.sql",
            "alter type mood add value 'b'; alter table projects rename to campaigns; drop view named;
             create index on tasks (lower(title)); alter table tasks drop column amount;",
        ),
    ];
    let all = derived(&files(&later)).await.expect("derives");
    grown.apply(&all).await.expect("applies");
    grown.make_schema("t_1").await;
    grown.apply_to("t_1", &all, &[]).await.expect("applies");
    let own = World::new().await;
    own.apply(&all).await.expect("applies");
    let shape = |schema: &str| {
        format!(
            "select string_agg(line, chr(10)) from (
               select format('%s.%s %s %s %s', c.relname, a.attname, row_number() over (partition by c.oid order by a.attnum),
                             format_type(a.atttypid, a.atttypmod), a.attnotnull) as line
                 from pg_class c join pg_attribute a on a.attrelid = c.oid where c.relnamespace = '{schema}'::regnamespace and not a.attisdropped
               union all select format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) from pg_constraint where connamespace = '{schema}'::regnamespace
               union all select indexdef from pg_indexes where schemaname = '{schema}'
               union all select format('%s %s %s %s %s', tablename, policyname, cmd, qual, with_check) from pg_policies where schemaname = '{schema}'
               union all select format('%s %s %s', relname, relrowsecurity, relforcerowsecurity) from pg_class where relnamespace = '{schema}'::regnamespace
               union all select format('%s %s %s', table_name, column_name, privilege_type) from information_schema.column_privileges
                          where table_schema = '{schema}' and grantee like '%_app'
             ) x"
        )
    };
    let lines = |text: String, schema: &str| {
        let mut lines: Vec<String> = text.replace(schema, "").lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let shared = lines(grown.all(&shape("app")).await, "app.");
    assert!(shared.len() > 60, "{shared:?}");
    assert_eq!(shared, lines(grown.all(&shape("t_1")).await, "t_1."));
    assert_eq!(shared, lines(own.all(&shape("app")).await, "app."));
}

#[tokio::test]
async fn what_is_built_on_a_renamed_column_stays() {
    let world = World::new().await;
    let first = (
        "0001_first.sql",
        "create type role as enum ('a', 'b');
         create table t (id int primary key, n int check (n > 0), twice int generated always as (n * 2) stored, role role default 'a',
           p_id int constraint first_fk references t);
         create index on t ((n + 1)) where n > 1;
         create view v as select id, n from t;
         create function f() returns trigger language plpgsql as $$ begin return new; end $$;
         create trigger tr before update of n on t for each row when (new.n > 1) execute function f();",
    );
    world.migrate(&[first]).await;
    let (a, b) = (tenant(1), tenant(2));
    for tenant in [a, b] {
        world
            .as_tenant(tenant, "insert into t (id, n) values (1, 1)")
            .await
            .expect("fills");
    }
    let all = derived(&files(&[
        first,
        (
            "0002_then.sql",
            r#"alter table t rename column n to amount;
               create type role_new as enum ('b', 'c', 'a');
               alter table t alter column role drop default;
               alter table t alter column role type role_new using (role::text::role_new);
               alter type role rename to role_old; alter type role_new rename to role; drop type role_old;
               alter table t alter column role set default 'c';
               alter table t rename constraint first_fk to second_fk;
               alter table t add column q_id int constraint first_fk references t;"#,
        ),
    ]))
    .await
    .unwrap_or_else(|error| panic!("{error}"));
    world.apply(&all).await.unwrap_or_else(|error| panic!("{error}"));
    world.as_tenant(a, "update t set amount = 5").await.expect("updates");
    assert_eq!(
        world.ask(a, "select array[twice, (select n from v)] from t").await,
        "{10,5}"
    );
    assert_eq!(world.ask(b, "select role from t").await, "a");
    world
        .as_tenant(b, "insert into t (id, amount) values (2, 1)")
        .await
        .expect("inserts");
    assert_eq!(world.ask(b, "select role from t where id = 2").await, "c");
    assert_eq!(forced(&world).await, "0");
}
