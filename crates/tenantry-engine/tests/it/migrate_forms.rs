//! Many forms of statements, one migration each, over the rows of two tenants.

use crate::support::{World, derived, files, tenant};

pub(crate) const FORMS: &str = include_str!("migrate_forms.sql");

/// Everything of a schema that isolation promises.
fn shape(schema: &str) -> String {
    format!(
        "select string_agg(line, chr(10)) from (
           select format('%s.%s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull) as line
             from pg_class c join pg_attribute a on a.attrelid = c.oid
            where c.relnamespace = '{schema}'::regnamespace and a.attnum > 0 and not a.attisdropped
           union all select format('%s %s', conname, pg_get_constraintdef(oid)) from pg_constraint where connamespace = '{schema}'::regnamespace
           union all select indexdef from pg_indexes where schemaname = '{schema}'
           union all select format('%s %s', relname, relforcerowsecurity) from pg_class where relnamespace = '{schema}'::regnamespace
         ) x"
    )
}

#[tokio::test]
async fn every_form_reaches_filled_and_new_placements_alike() {
    let texts: Vec<(String, &str)> = (1..)
        .zip(FORMS.split("-- next\n").skip(1))
        .map(|(number, text)| (format!("{number:04}_form.sql"), text))
        .collect();
    let named: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let world = World::new().await;
    world.migrate(&named[..1]).await;
    for number in [1, 2] {
        let rows =
            "insert into t (id, n) select i, i from generate_series(1, 5) i; insert into u (t_id) select id from t";
        world.as_tenant(tenant(number), rows).await.expect("fills");
    }
    let all = derived(&files(&named)).await.unwrap_or_else(|error| panic!("{error}"));
    world.apply(&all).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(world.apply(&all).await.expect("nothing is left").versions.is_empty());
    for number in [1, 2] {
        assert_eq!(world.ask(tenant(number), "select count(*) from t").await, "5");
    }
    world.make_schema("t_new").await;
    world
        .apply_to("t_new", &all, &[])
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let lines = |text: String, schema: &str| {
        let mut lines: Vec<String> = text.replace(schema, "").lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let grown = lines(world.all(&shape("app")).await, "app.");
    assert!(grown.iter().all(|line| line != "t f" && line != "u f"), "{grown:?}");
    assert_eq!(grown, lines(world.all(&shape("t_new")).await, "t_new."));
}
