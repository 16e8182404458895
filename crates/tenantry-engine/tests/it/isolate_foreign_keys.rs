//! Foreign keys keep what they mean.

use crate::support::{World, refused, tenant};

#[tokio::test]
async fn actions_and_deferrability_are_kept() {
    let world = World::new().await;
    world
        .migrate(&[(
            "0001_a.sql",
            "create table p (id int primary key, code text unique);
             create table cascades (p_id int references p on delete cascade on update cascade);
             create table restricts (p_id int references p on delete restrict);
             create table nulls (id int primary key, p_id int, q_id int, constraint nulls_fk foreign key (p_id) references p on delete set null);
             create table defaults (p_id int default 1 references p on delete set default);
             create table deferred (p_code text references p (code) deferrable initially deferred);
             create table some_nulls (a int, b int);
             create table pairs (a int, b int, primary key (a, b));
             alter table some_nulls add constraint some_fk foreign key (a, b) references pairs on delete set null (b);
             create table tree (id int primary key, parent_id int references tree);",
        )])
        .await;
    for (name, def) in [
        (
            "cascades_p_id_fkey",
            "FOREIGN KEY (tenant_id, p_id) REFERENCES app.p(tenant_id, id) ON UPDATE CASCADE ON DELETE CASCADE",
        ),
        (
            "restricts_p_id_fkey",
            "FOREIGN KEY (tenant_id, p_id) REFERENCES app.p(tenant_id, id) ON DELETE RESTRICT",
        ),
        (
            "nulls_fk",
            "FOREIGN KEY (tenant_id, p_id) REFERENCES app.p(tenant_id, id) ON DELETE SET NULL (p_id)",
        ),
        (
            "defaults_p_id_fkey",
            "FOREIGN KEY (tenant_id, p_id) REFERENCES app.p(tenant_id, id) ON DELETE SET DEFAULT (p_id)",
        ),
        (
            "deferred_p_code_fkey",
            "FOREIGN KEY (tenant_id, p_code) REFERENCES app.p(tenant_id, code) DEFERRABLE INITIALLY DEFERRED",
        ),
        (
            "some_fk",
            "FOREIGN KEY (tenant_id, a, b) REFERENCES app.pairs(tenant_id, a, b) ON DELETE SET NULL (b)",
        ),
        (
            "tree_parent_id_fkey",
            "FOREIGN KEY (tenant_id, parent_id) REFERENCES app.tree(tenant_id, id)",
        ),
    ] {
        assert_eq!(world.constraint(name).await, def);
    }
    let a = tenant(1);
    world
        .as_tenant(
            a,
            "insert into p values (1, 'x'); insert into nulls values (1, 1); delete from p",
        )
        .await
        .expect("set null leaves the tenant alone");
    assert_eq!(world.ask(a, "select p_id is null from nulls").await, "true");
}

#[tokio::test]
async fn match_full_over_several_columns_refuses_half_a_key_and_takes_none() {
    let world = World::new().await;
    world
        .migrate(&[(
            "0001_a.sql",
            "create table p (a int, b int, primary key (a, b));
             create table c (id int primary key, a int, b int, constraint c_fk foreign key (a, b) references p match full);
             create table one (id int primary key, p_id int references c match full);",
        )])
        .await;
    assert_eq!(
        world.constraint("c_fk").await,
        "FOREIGN KEY (tenant_id, a, b) REFERENCES app.p(tenant_id, a, b)"
    );
    let a = tenant(1);
    world
        .as_tenant(a, "insert into c values (1, null, null)")
        .await
        .expect("no key");
    let refused = world
        .as_tenant(a, "insert into c values (2, 1, null)")
        .await
        .unwrap_err();
    assert!(refused.starts_with("23514"), "{refused}");
    world
        .as_tenant(a, "insert into one values (1, null)")
        .await
        .expect("one column may be null");
}

#[tokio::test]
async fn a_dropped_match_full_key_takes_its_check_along() {
    let world = World::new().await;
    world
        .migrate(&[
            (
                "0001_a.sql",
                "create table p (a int, b int, primary key (a, b));
                 create table c (id int primary key, a int, b int, constraint c_fk foreign key (a, b) references p match full);",
            ),
            ("0002_b.sql", "alter table c rename constraint c_fk to c_key;"),
            ("0003_c.sql", "alter table c drop constraint c_key;"),
        ])
        .await;
    world
        .as_tenant(tenant(1), "insert into c values (2, 1, null)")
        .await
        .expect("nothing checks any more");
    assert_eq!(
        world
            .all("select count(*) from pg_class where relname like 'tenantry%' and relnamespace = 'app'::regnamespace")
            .await,
        "0",
        "the index below it went too"
    );
}

#[tokio::test]
async fn a_dropped_parent_takes_what_isolation_added_along() {
    let world = World::new().await;
    world
        .migrate(&[
            (
                "0001_a.sql",
                "create table p (a int, b int, primary key (a, b));
                 create table c (id int primary key, a int, b int, foreign key (a, b) references p match full);
                 create view v as select a from p;",
            ),
            ("0002_b.sql", "drop table if exists nothing, p cascade;"),
        ])
        .await;
    world
        .as_tenant(tenant(1), "insert into c values (2, 1, null)")
        .await
        .expect("nothing checks any more");
    let left =
        "select string_agg(relname, ',' order by relname) from pg_class where relnamespace = 'app'::regnamespace";
    assert_eq!(world.all(left).await, "c,c_pkey");
}

#[tokio::test]
async fn a_reference_table_is_readable_referenced_and_not_writable() {
    let world = World::new().await;
    world
        .migrate(&[
            (
                "0001_countries.sql",
                "-- tenantry: reference
                 create table countries (code text primary key, name text not null unique);
                 insert into countries values ('de', 'Germany'), ('fr', 'France');",
            ),
            (
                "0002_customers.sql",
                "create table customers (id int primary key, country text references countries on update cascade);",
            ),
        ])
        .await;
    assert_eq!(
        world.constraint("customers_country_fkey").await,
        "FOREIGN KEY (country) REFERENCES app.countries(code) ON UPDATE CASCADE"
    );
    assert_eq!(world.constraint("countries_pkey").await, "PRIMARY KEY (code)");
    let (a, b) = (tenant(1), tenant(2));
    for tenant in [a, b] {
        assert_eq!(world.ask(tenant, "select count(*) from countries").await, "2");
        world
            .as_tenant(tenant, "insert into customers values (1, 'de')")
            .await
            .expect("references it");
        let refused = world
            .as_tenant(tenant, "insert into countries values ('xx', 'x')")
            .await
            .unwrap_err();
        assert!(refused.starts_with("42501"), "{refused}");
    }
}

#[tokio::test]
async fn a_reference_table_may_not_point_to_tenants_rows() {
    let refusals = refused(
        "-- tenantry: reference countries
         create table capitals (id int primary key);
         create table countries (code text primary key, capital int references capitals);",
    )
    .await;
    assert_eq!(refusals[0].line, 3);
    assert!(refusals[0].reason.contains("holds tenants' rows"), "{refusals:?}");
}

#[tokio::test]
async fn a_reference_file_does_not_write_tenants_tables() {
    let refusals = refused(
        "-- tenantry: reference countries
         create table countries (code text primary key);
         create table capitals (id int primary key);
         insert into capitals values (1);",
    )
    .await;
    assert_eq!(refusals[0].line, 4);
    assert!(refusals[0].reason.contains("no reference table"), "{refusals:?}");
}
