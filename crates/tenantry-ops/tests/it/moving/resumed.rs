//! A copy that is broken off goes on with what is left of it.

use tenantry_core::{Isolation, TenantId};
use tenantry_ops::{Operation, OperationState};
use tenantry_testing::second_logical_cluster;
use tokio_postgres::Client;

use super::online::{PIECE_ROWS, following, logical};
use crate::{
    child::Process,
    fleet::{Fleet, operator},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_killed_keeps_its_tables_and_what_was_changed_in_them_since() {
    let fleet: Fleet = logical(following()).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await.id;
    let there = fleet.shared_tables_of_two().await;
    // Notes come after the contacts that they refer to, and find no place as long as this is open.
    let holder = fleet.shared_tables_of_two().await;
    let lock = "begin; lock table app.notes in exclusive mode";
    holder.batch_execute(lock).await.unwrap();
    let child = Process::start(&fleet.catalog.url(), "follow-shared@two", "acme", "");
    fleet
        .poll("the contacts to be copied", async || {
            let copied = there.query_one("select count(*) from tenantry_move.copied", &[]).await;
            copied.is_ok_and(|row| row.get::<_, i64>(0) == 1)
        })
        .await;
    drop(child);
    let client = fleet.enter(tenant).await.unwrap();
    for sql in [
        "update contacts set name = 'changed'",
        "insert into contacts (email, name) values ('late@example.com', 'late')",
        "insert into contacts (email, name) values ('brief@example.com', 'brief')",
        "delete from contacts where email = 'brief@example.com'",
        "insert into notes (contact, text) select id, 'late' from contacts limit 1",
        "delete from notes where text = '3'",
        "update notes set text = 'changed' where text = '4'",
    ] {
        client
            .execute(sql, &[])
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    drop(client);
    let rows = fleet.rows(tenant).await;
    holder.batch_execute("rollback").await.unwrap();
    let ended = fleet.gone_on_with(tenant).await;
    assert_eq!(ended.progress["tables_kept"], 1, "it was copied anew: {ended:?}");
    assert_eq!(fleet.rows(tenant).await, rows);
    fleet.lives_once(tenant, "resumed").await;
    assert_eq!(fleet.streams().await, [""; 0]);
    assert_eq!(notes_of_copies(&there).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_killed_within_a_table_goes_on_behind_the_last_piece() {
    let fleet: Fleet = logical(following()).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await.id;
    let client = fleet.enter(tenant).await.unwrap();
    let ids: Vec<i64> = {
        let rows = client.query("select id from notes order by id", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let contacts: i64 = client
        .query_one("select count(*) from contacts", &[])
        .await
        .unwrap()
        .get(0);
    let pieces = PIECE_ROWS as usize;
    assert!(ids.len() > 3 * pieces, "{} notes", ids.len());
    let there = fleet.shared_tables_of_two().await;
    // The second piece waits for a row with a key of its own, which is neither there nor not there as long as this is open.
    let holder = fleet.shared_tables_of_two().await;
    let hold = format!(
        "begin; set local session_replication_role = replica;
         insert into app.notes (tenant_id, id, contact, text) overriding system value
           values ('{}', {}, gen_random_uuid(), 'held')",
        tenant.as_uuid(),
        ids[pieces + 3]
    );
    holder.batch_execute(&hold).await.unwrap();
    let child = Process::start(&fleet.catalog.url(), "follow-shared@two", "acme", "");
    fleet
        .poll("the first piece of the notes to be copied", async || {
            let begun = there.query_one("select count(*) from tenantry_move.begun", &[]).await;
            begun.is_ok_and(|row| row.get::<_, i64>(0) == 1)
        })
        .await;
    drop(child);
    let came = async || -> String {
        let sql = "select xmin::text from app.notes where tenant_id = $1 and id = $2";
        let row = there.query_one(sql, &[tenant.as_uuid(), &ids[0]]).await;
        row.unwrap().get(0)
    };
    let first = came().await;
    // On both sides of the last key that is there, and from one to the other.
    for (sql, id) in [
        ("update notes set text = 'changed' where id = $1", ids[1]),
        ("update notes set text = 'changed' where id = $1", ids[pieces + 1]),
        ("delete from notes where id = $1", ids[2]),
        ("delete from notes where id = $1", ids[pieces + 2]),
        ("update notes set id = default where id = $1", ids[pieces - 1]),
        ("update notes set id = default where id = $1", ids[2 * pieces]),
        (
            "insert into notes (contact, text) select contact, 'late' from notes where id = $1",
            ids[3],
        ),
    ] {
        let changed = client.execute(sql, &[&id]).await;
        assert_eq!(changed.unwrap_or_else(|error| panic!("{sql}: {error:?}")), 1, "{sql}");
    }
    drop(client);
    let rows = fleet.rows(tenant).await;
    holder.batch_execute("rollback").await.unwrap();
    let ended = fleet.gone_on_with(tenant).await;
    assert_eq!(ended.progress["tables_kept"], 1, "it was copied anew: {ended:?}");
    let kept = contacts.cast_unsigned() + PIECE_ROWS;
    assert_eq!(ended.progress["rows_kept"], kept, "{ended:?}");
    assert_eq!(came().await, first, "a row that was there was copied again");
    assert_eq!(fleet.rows(tenant).await, rows);
    fleet.lives_once(tenant, "resumed within a table").await;
    assert_eq!(fleet.streams().await, [""; 0]);
    assert_eq!(notes_of_copies(&there).await, 0);
}

impl Fleet {
    /// Where a tenant comes to by a move to `shared@two`, as administrator.
    async fn shared_tables_of_two(&self) -> Client {
        let catalog = self.ops.catalog().client().await.unwrap();
        let sql = "select d.name from tenant_database as d join server as s on s.id = d.server
                    where s.name = 'two' and d.kind = 'shared'";
        let database: String = catalog.query_one(sql, &[]).await.unwrap().get(0);
        second_logical_cluster().await.connect(&database).await
    }

    /// What became of a move of `acme` to `shared@two` whose process was killed.
    async fn gone_on_with(&self, tenant: TenantId) -> Operation {
        let runner = tokio::spawn({
            let ops = self.ops.clone();
            async move { ops.run_operations().await }
        });
        self.settled("acme").await;
        runner.abort();
        let newest = self.ops.list_operations(&operator(), Some(tenant), None, 1).await;
        let ended = newest.unwrap().remove(0);
        assert_eq!(ended.state, OperationState::Done, "{ended:?}");
        assert_eq!(self.place(tenant).await, "shared@two");
        ended
    }
}

/// What is noted of copies that are under way.
async fn notes_of_copies(there: &Client) -> i64 {
    let sql = "select (select count(*) from tenantry_move.copied) + (select count(*) from tenantry_move.begun)";
    there.query_one(sql, &[]).await.unwrap().get(0)
}
