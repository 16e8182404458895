//! What is committed without waiting, and waited for once.

use tenantry_engine::transfer::make_lasting;

use crate::support::World;

#[tokio::test]
async fn what_was_committed_before_is_on_the_disk() {
    let world = World::new().await;
    world
        .run("create schema lasting; create table lasting.numbers (n int)")
        .await;
    // Also where the server's commits are never waited for.
    for commits in ["on", "off"] {
        world.run(&format!("set synchronous_commit = {commits}")).await;
        let write = "begin; set local synchronous_commit = off;
                     insert into lasting.numbers select generate_series(1, 10); commit";
        world.run(write).await;
        let before = world.all("select pg_current_wal_insert_lsn()").await;
        make_lasting(&world.admin).await.unwrap();
        let is_flushed = format!("select pg_current_wal_flush_lsn() >= '{before}'::pg_lsn");
        assert_eq!(world.all(&is_flushed).await, "true", "{commits}");
        let setting = "select current_setting('synchronous_commit')";
        assert_eq!(world.all(setting).await, commits, "it is the session's again");
    }
}
