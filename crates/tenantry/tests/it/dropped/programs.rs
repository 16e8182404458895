//! What is dropped: each public future of the library at least once.

use std::pin::Pin;

use chrono::DateTime;
use tenantry::{
    Error, Params, Scope, Transaction,
    history::EntryFilter,
    jobs::{Enqueue, Job, JobState, Schedule},
};

/// A piece of work; its id is one that no other has.
type Start = fn(Scope, i32) -> Pin<Box<dyn Future<Output = ()>>>;

/// A piece of work and the public futures that it goes through.
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) covers: &'static [&'static str],
    pub(super) start: Start,
}

macro_rules! programs {
    ($($name:ident covers [$($covers:literal),* $(,)?];)*) => {
        pub(super) const PROGRAMS: &[$crate::dropped::programs::Program] = &[$($crate::dropped::programs::Program {
            name: stringify!($name),
            covers: &[$($covers),*],
            start: |scope, id| Box::pin($name(scope, id)),
        }),*];
    };
}
pub(super) use programs;

programs! {
    query covers ["Scope::query"];
    query_new_text covers ["Scope::query"];
    query_single covers ["Scope::query_one", "Scope::query_opt"];
    query_typed covers ["Scope::query_as", "Scope::query_one_as", "Scope::query_opt_as"];
    execute covers ["Scope::execute"];
    fail covers ["Scope::execute"];
    stream covers ["Scope::query_stream", "RowStream::next"];
    copy covers ["Scope::copy_out", "CopyOut::next"];
    insert_many covers ["Scope::insert_many"];
    insert_very_many covers ["Scope::insert_many"];
    transaction covers [
        "Scope::transaction", "Transaction::query", "Transaction::query_one", "Transaction::query_opt",
        "Transaction::query_as", "Transaction::query_one_as", "Transaction::query_opt_as", "Transaction::execute",
        "Transaction::savepoint"
    ];
    commit covers ["Scope::begin", "Transaction::commit"];
    rollback covers ["Scope::begin", "Transaction::rollback"];
    look_up_again covers ["Tenantry::forget_placement", "Scope::schema_version", "Scope::query"];
    two_at_once covers ["Scope::query", "Scope::begin"];
    system_context covers ["Tenantry::system_context"];
    raw_query covers ["Raw::query"];
    raw_script covers ["Raw::script"];
    enqueue covers ["Scope::enqueue", "Scope::enqueue_with", "Scope::jobs", "Scope::retry_job", "Scope::remove_job"];
    enqueue_together covers ["Transaction::enqueue", "Transaction::enqueue_with", "Transaction::commit"];
    history covers ["Scope::history", "Scope::forget_history"];
    read_only covers [
        "ReadOnly::query", "ReadOnly::query_one", "ReadOnly::query_opt", "ReadOnly::query_as", "ReadOnly::query_one_as",
        "ReadOnly::query_opt_as", "ReadOnly::query_stream", "ReadOnly::copy_out", "Scope::bookmark"
    ];
    schedule covers ["Scope::set_schedule", "Transaction::set_schedule", "Scope::schedules", "Scope::remove_schedule"];
}

/// Nobody works on it.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Nothing {}

impl Job for Nothing {
    const KIND: &'static str = "nothing";
}

async fn enqueue(scope: Scope, _: i32) {
    let id = scope.enqueue(&Nothing {}).await.unwrap();
    let unique = Enqueue::new().unique_key("one");
    scope.enqueue_with(&Nothing {}, unique).await.unwrap();
    scope.jobs(&[JobState::Waiting], None, 1).await.unwrap();
    scope.retry_job(id).await.unwrap();
    scope.remove_job(id).await.unwrap();
}

async fn enqueue_together(scope: Scope, _: i32) {
    let done: Result<(), Error> = scope
        .transaction(async |tx| {
            tx.enqueue(&Nothing {}).await?;
            tx.enqueue_with(&Nothing {}, Enqueue::new().unique_key("one")).await?;
            Ok(())
        })
        .await;
    done.unwrap();
}

async fn history(scope: Scope, _: i32) {
    scope.history(EntryFilter::default(), 10).await.unwrap();
    scope.forget_history(DateTime::UNIX_EPOCH).await.unwrap();
}

async fn schedule(scope: Scope, _: i32) {
    let never = Schedule::new("0 0 1 1 *").unwrap();
    scope.set_schedule("one", &never, &Nothing {}).await.unwrap();
    let done: Result<(), Error> = scope
        .transaction(async |tx| tx.set_schedule("two", &never, &Nothing {}).await)
        .await;
    done.unwrap();
    scope.schedules().await.unwrap();
    scope.remove_schedule("one").await.unwrap();
}

const INSERT: &str = "insert into contact (id, name) values ($1, 'dropped')";

async fn query(scope: Scope, _: i32) {
    scope
        .query("select name from contact where id = $1", &[&1])
        .await
        .unwrap();
}

/// Preparing is dropped too.
async fn query_new_text(scope: Scope, id: i32) {
    let sql = format!("select name, mood, {id} from contact where id = $1");
    scope.query(&sql, &[&1]).await.unwrap();
}

async fn query_single(scope: Scope, _: i32) {
    scope
        .query_one("select name from contact where id = 1", &[])
        .await
        .unwrap();
    scope
        .query_opt("select name from contact where id = 0", &[])
        .await
        .unwrap();
}

async fn query_typed(scope: Scope, _: i32) {
    let sql = "select id, name from contact where id = 1";
    scope.query_as::<(i32, String)>(sql, &[]).await.unwrap();
    scope.query_one_as::<(i32, String)>(sql, &[]).await.unwrap();
    scope.query_opt_as::<(i32, String)>(sql, &[]).await.unwrap();
}

async fn execute(scope: Scope, id: i32) {
    scope.execute(INSERT, &[&id]).await.unwrap();
}

/// An error is on its way when it is dropped.
async fn fail(scope: Scope, _: i32) {
    scope.execute(INSERT, &[&1]).await.unwrap_err();
    scope
        .execute("select 1 / (id - id) from contact", &[])
        .await
        .unwrap_err();
}

pub(crate) async fn read_only(scope: Scope, _: i32) {
    let bookmark = scope.bookmark().await.unwrap();
    let reads = scope.read_only().after(&bookmark);
    let sql = "select id, name from contact where id = 1";
    reads.query(sql, &[]).await.unwrap();
    reads.query_one(sql, &[]).await.unwrap();
    reads.query_opt(sql, &[]).await.unwrap();
    reads.query_as::<(i32, String)>(sql, &[]).await.unwrap();
    reads.query_one_as::<(i32, String)>(sql, &[]).await.unwrap();
    reads.query_opt_as::<(i32, String)>(sql, &[]).await.unwrap();
    let mut rows = reads.query_stream("select name from contact", &[]).await.unwrap();
    while rows.next().await.unwrap().is_some() {}
    let mut data = reads
        .copy_out("copy (select name from contact) to stdout")
        .await
        .unwrap();
    while data.next().await.unwrap().is_some() {}
}

async fn stream(scope: Scope, _: i32) {
    let sql = "select n, name from contact, generate_series(1, 2000) n where id = 1";
    let mut rows = scope.query_stream(sql, &[]).await.unwrap();
    while rows.next().await.unwrap().is_some() {
        // Ready rows need no poll of their own: without this, most would be read in one.
        tokio::task::consume_budget().await;
    }
}

async fn copy(scope: Scope, _: i32) {
    let sql = "copy (select n, name from contact, generate_series(1, 2000) n where id = 1) to stdout";
    let mut data = scope.copy_out(sql).await.unwrap();
    while data.next().await.unwrap().is_some() {
        tokio::task::consume_budget().await;
    }
}

async fn insert_many(scope: Scope, id: i32) {
    let ids = [id * 10, id * 10 + 1];
    let rows: [Params<'_>; 2] = [&[&ids[0], &"dropped"], &[&ids[1], &"dropped"]];
    scope.insert_many("contact", &["id", "name"], &rows).await.unwrap();
}

/// More rows than one statement takes: a transaction inside. Undone by its last row, which is there already.
async fn insert_very_many(scope: Scope, _: i32) {
    let ids: Vec<i32> = (2..10_002).map(|n| -n).chain([1]).collect();
    let values: Vec<[&(dyn tenantry::ToSql + Sync); 2]> = ids.iter().map(|id| [id as _, &"dropped" as _]).collect();
    let rows: Vec<Params<'_>> = values.iter().map(|value| value.as_slice()).collect();
    scope.insert_many("contact", &["id", "name"], &rows).await.unwrap_err();
}

async fn transaction(scope: Scope, id: i32) {
    let work = async |tx: &mut Transaction| -> Result<(), Error> {
        let sql = "select id, name from contact where id = 1";
        tx.query(sql, &[]).await?;
        tx.execute(INSERT, &[&id]).await?;
        tx.savepoint(async |tx| tx.execute(INSERT, &[&(-id)]).await).await?;
        let twice = tx.savepoint(async |tx| tx.execute(INSERT, &[&id]).await).await;
        assert!(twice.is_err());
        tx.query_one(sql, &[]).await?;
        tx.query_opt(sql, &[]).await?;
        tx.query_as::<(i32, String)>(sql, &[]).await?;
        tx.query_one_as::<(i32, String)>(sql, &[]).await?;
        tx.query_opt_as::<(i32, String)>(sql, &[]).await?;
        Ok(())
    };
    scope.transaction(work).await.unwrap();
}

async fn commit(scope: Scope, id: i32) {
    let mut transaction = scope.begin().await.unwrap();
    transaction.execute(INSERT, &[&id]).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn rollback(scope: Scope, id: i32) {
    let mut transaction = scope.begin().await.unwrap();
    transaction.execute(INSERT, &[&id]).await.unwrap();
    transaction.rollback().await.unwrap();
}

async fn look_up_again(scope: Scope, _: i32) {
    scope.tenantry().forget_placement(scope.context().tenant).await;
    scope.schema_version().await.unwrap();
    scope.query("select name from contact where id = 1", &[]).await.unwrap();
}

/// Both connections are taken, and a third caller waits.
async fn two_at_once(scope: Scope, id: i32) {
    let mut one = scope.begin().await.unwrap();
    one.execute(INSERT, &[&id]).await.unwrap();
    let other = async {
        let mut other = scope.begin().await.unwrap();
        other
            .query("select count(*) from generate_series(1, 3000)", &[])
            .await
            .unwrap();
        other.rollback().await.unwrap();
    };
    let waiting = scope.query("select name from contact where id = 1", &[]);
    let ((), waited) = tokio::join!(other, waiting);
    waited.unwrap();
    one.commit().await.unwrap();
}

async fn system_context(scope: Scope, _: i32) {
    let tenant = scope.context().tenant;
    let again = scope.tenantry().system_context(tenant, "dropped").await.unwrap();
    again.query("select name from contact where id = 1", &[]).await.unwrap();
}

async fn raw_query(scope: Scope, id: i32) {
    let sql = "insert into contact (id, name) values ($1, 'dropped')";
    let inserted = scope.raw().query(sql, &[Some(&id.to_string())]).await.unwrap();
    assert_eq!(inserted.affected, 1);
}

/// What it leaves in its session must not outlive it either.
async fn raw_script(scope: Scope, id: i32) {
    let script = format!(
        "set row_security = off; prepare a as select 1; reset row_security; insert into contact (id, name) values ({id}, 'dropped');
         select name from contact; set search_path = pg_catalog"
    );
    scope.raw().script(&script).await.unwrap();
    scope.raw().script("select 1; select 1 / 0").await.unwrap_err();
}
