//! Calls while the schema changes under them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::world::{MIGRATION, World};

#[tokio::test]
async fn calls_go_on_while_migrations_run() {
    let mut world = World::new().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for n in [0, 2, 4, 1] {
        let (scope, stop) = (world.scope(n).await, stop.clone());
        tasks.push(tokio::spawn(async move {
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) || calls < 10 {
                let rows = scope.query("select * from contact where id = $1", &[&1]).await.unwrap();
                assert_eq!(rows[0].get::<&str>("name").unwrap(), format!("contact of {n}"));
                let name = format!("contact of {n}");
                scope
                    .execute("update contact set name = $1 where id = 1", &[&name])
                    .await
                    .unwrap();
                calls += 1;
            }
        }));
    }
    let mut files = vec![("0001_first.sql".to_owned(), MIGRATION.to_owned())];
    let later = [
        "alter table contact add note text",
        "alter table contact alter email type varchar(200)",
        "alter type mood add value 'new'",
        "alter table contact drop column note; alter table contact add note int",
        "create index on contact (email)",
    ];
    for (number, sql) in later.iter().enumerate() {
        files.push((format!("{:04}_later.sql", number + 2), (*sql).to_owned()));
        let files: Vec<_> = files.iter().map(|(name, sql)| (name.as_str(), sql.as_str())).collect();
        world.migrate_all(&files).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    let row = world
        .scope(2)
        .await
        .query_one("select * from contact", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<Option<i32>>("note").unwrap(), None);
}
