//! The role in the tenant, enforced by PostgreSQL.

use tenantry::{ErrorKind, Role};

use crate::world::World;

#[tokio::test]
async fn a_viewer_reads_and_does_not_write() {
    let world = World::new().await;
    for n in 0..6 {
        let viewer = world.scope(n).await.at_most(Role::Viewer);
        assert_eq!(viewer.query("select * from contact", &[]).await.unwrap().len(), 1);
        for sql in [
            "insert into contact (id, name) values (9, 'x')",
            "update contact set name = 'x'",
            "delete from contact",
            "insert into contact (id, name) values (1, 'x') on conflict (tenant_id, id) do update set name = 'x'",
            "with x as (delete from contact returning *) select * from x",
        ] {
            let error = viewer.execute(sql, &[]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ReadOnlyRole, "{n} {sql}: {error}");
        }
        // Nothing that SQL can say gives the right back.
        for sql in [
            "select set_config('tenantry.expect', '', true)",
            "select set_config('backtrace_functions', repeat('3', 82), false)",
            "select set_config('transaction_read_only', 'off', true)",
        ] {
            let _ = viewer.query(sql, &[]).await;
            assert!(viewer.execute("delete from contact", &[]).await.is_err(), "{sql}");
        }
    }
    world.assert_untouched().await;
}

#[tokio::test]
async fn a_role_never_grows() {
    let world = World::new().await;
    let viewer = world.scope(0).await.at_most(Role::Viewer);
    assert_eq!(viewer.at_most(Role::Owner).context().role, Role::Viewer);
    let member = world.scope(0).await.at_most(Role::Member);
    member.execute("update contact set tags = '{seen}'", &[]).await.unwrap();
}
