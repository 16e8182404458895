//! Statements, parameters and rows, without any context.

use tenantry_wire::Error;

use crate::support::connect;

#[tokio::test]
async fn values_come_back_as_they_went() {
    let database = tenantry_testing::database().await;
    let mut connection = connect(&database).await;
    let id = uuid::Uuid::from_u128(7);
    let now = chrono::Utc::now();
    let outcome = connection
        .query(
            "select $1::int8 as a, $2::text as b, $3::uuid as c, $4::jsonb as d, $5::timestamptz as e, $6::text[] as f, null::int4 as g",
            &[&7_i64, &"hü\u{1F600}", &id, &serde_json::json!({"a": [1, null]}), &now, &vec!["x", "y"]],
        )
        .await
        .unwrap();
    let row = &outcome.rows[0];
    assert_eq!(row.get::<i64>("a").unwrap(), 7);
    assert_eq!(row.get::<&str>("b").unwrap(), "hü\u{1F600}");
    assert_eq!(row.get::<uuid::Uuid>(2).unwrap(), id);
    assert_eq!(
        row.get::<serde_json::Value>("d").unwrap(),
        serde_json::json!({"a": [1, null]})
    );
    assert_eq!(
        row.get::<chrono::DateTime<chrono::Utc>>("e")
            .unwrap()
            .timestamp_micros(),
        now.timestamp_micros()
    );
    assert_eq!(row.get::<Vec<String>>("f").unwrap(), ["x", "y"]);
    assert_eq!(row.get::<Option<i32>>("g").unwrap(), None);
}

#[tokio::test]
async fn types_of_the_application_are_looked_up() {
    let database = tenantry_testing::database().await;
    let mut connection = connect(&database).await;
    let sql = "create type mood as enum ('fine', 'odd'); create domain email as text check (value like '%@%');
               create type pair as (a int4, m mood); create type span as range (subtype = int4);
               create table t (m mood, ms mood[], e email, p pair, s span)";
    connection.batch(sql).await.unwrap();
    connection
        .query(
            "insert into t values ('fine', $1, $2, row(1, 'odd'), '[1,5)')",
            &[&Vec::<Mood>::from([Mood("odd".into())]), &"a@b"],
        )
        .await
        .unwrap();
    let outcome = connection.query("select * from t", &[]).await.unwrap();
    let row = &outcome.rows[0];
    assert_eq!(row.get::<Mood>("m").unwrap().0, "fine");
    assert_eq!(row.get::<&str>("m").unwrap(), "fine");
    connection.query("update t set m = $1", &[&"odd"]).await.unwrap();
    assert_eq!(row.get::<Vec<Mood>>("ms").unwrap()[0].0, "odd");
    assert_eq!(row.get::<String>("e").unwrap(), "a@b");
    assert_eq!(row.columns()[3].type_().name(), "pair");
}

#[derive(Debug)]
struct Mood(String);

impl<'a> postgres_types::FromSql<'a> for Mood {
    fn from_sql(_: &postgres_types::Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(type_: &postgres_types::Type) -> bool {
        type_.name() == "mood"
    }
}

impl postgres_types::ToSql for Mood {
    fn to_sql(
        &self,
        _: &postgres_types::Type,
        out: &mut bytes::BytesMut,
    ) -> Result<postgres_types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(postgres_types::IsNull::No)
    }

    fn accepts(type_: &postgres_types::Type) -> bool {
        type_.name() == "mood"
    }

    postgres_types::to_sql_checked!();
}

#[tokio::test]
async fn a_refused_statement_leaves_the_connection_usable() {
    let database = tenantry_testing::database().await;
    let mut connection = connect(&database).await;
    let error = connection.query("selec 1", &[]).await.unwrap_err();
    assert_eq!(error.code(), Some("42601"));
    let error = connection.query("select 1 / $1::int4", &[&0]).await.unwrap_err();
    assert_eq!(error.code(), Some("22012"));
    assert_eq!(
        connection.query("select $1::int4", &[&4]).await.unwrap().rows[0]
            .get::<i32>(0)
            .unwrap(),
        4
    );
}

#[tokio::test]
async fn wrong_parameters_are_refused_before_anything_is_sent() {
    let database = tenantry_testing::database().await;
    let mut connection = connect(&database).await;
    let error = connection
        .query("select $1::int4 + $2::int4", &[&1, &"x"])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Parameter { number: 2, .. }), "{error}");
    let error = connection.query("select $1::int4", &[]).await.unwrap_err();
    assert!(
        matches!(error, Error::ParameterCount { expected: 1, given: 0 }),
        "{error}"
    );
    assert!(connection.is_idle());
    assert_eq!(
        connection.query("select $1::int4", &[&4]).await.unwrap().rows[0]
            .get::<i32>(0)
            .unwrap(),
        4
    );
}

#[tokio::test]
async fn the_statement_cache_is_bounded_and_closes_what_it_gives_up() {
    let database = tenantry_testing::database().await;
    let options = tenantry_wire::Options {
        statements_max: 8,
        ..Default::default()
    };
    let mut connection = tenantry_wire::Connection::connect(crate::support::endpoint(&database), &options)
        .await
        .unwrap();
    for n in 0..40 {
        let outcome = connection.query(&format!("select {n}::int4"), &[]).await.unwrap();
        assert_eq!(outcome.rows[0].get::<i32>(0).unwrap(), n);
    }
    assert_eq!(connection.statement_count(), 8);
    let sql = "select count(*) from pg_prepared_statements";
    connection.query(sql, &[]).await.unwrap();
    let on_server: i64 = connection.query(sql, &[]).await.unwrap().rows[0].get(0).unwrap();
    assert_eq!(on_server, 8);
}

#[tokio::test]
async fn a_large_call_and_a_large_answer_do_not_wait_for_each_other() {
    let database = tenantry_testing::database().await;
    let mut connection = connect(&database).await;
    let large = "x".repeat(20 * 1024 * 1024);
    let outcome = connection
        .query("select $1::text, n from generate_series(1, 3) n", &[&large])
        .await
        .unwrap();
    assert_eq!(outcome.rows.len(), 3);
    assert_eq!(outcome.rows[2].get::<&str>(0).unwrap().len(), large.len());
}

#[tokio::test]
async fn copy_in_ends_the_connection_instead_of_hanging() {
    let database = tenantry_testing::database().await;
    let mut connection = connect(&database).await;
    connection.batch("create table t (a int)").await.unwrap();
    let error = connection.query("copy t from stdin", &[]).await.unwrap_err();
    assert!(matches!(error, Error::UnexpectedCopy), "{error}");
    assert!(matches!(connection.query("select 1", &[]).await, Err(Error::Unusable)));
}

#[tokio::test]
async fn a_dropped_call_leaves_the_connection_unusable() {
    let database = tenantry_testing::database().await;
    let mut connection = connect(&database).await;
    let call = connection.query("select pg_sleep(60)", &[]);
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(30), call)
            .await
            .is_err()
    );
    assert!(!connection.is_usable());
    assert!(matches!(connection.query("select 1", &[]).await, Err(Error::Unusable)));
}
