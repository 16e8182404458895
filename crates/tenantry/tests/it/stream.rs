//! Large results.

use futures_util::TryStreamExt;
use tenantry::ErrorKind;

use crate::world::World;

/// Resident memory of this process, from the kernel.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn a_large_result_is_read_in_bounded_memory() {
    let world = World::new().await;
    let scope = world.scope(2).await;
    let sql = "select n, repeat('x', 1000) from contact, generate_series(1, 300000) n";
    let mut rows = scope.query_stream(sql, &[]).await.unwrap();
    let (mut count, mut largest, before) = (0, 0, resident_bytes());
    while let Some(row) = rows.next().await.unwrap() {
        count += 1;
        assert_eq!(row.get::<i32>(0).unwrap(), count);
        if count % 10_000 == 0 {
            largest = largest.max(resident_bytes());
        }
    }
    assert_eq!(count, 300_000);
    // 300 MB went through.
    assert!(
        largest.saturating_sub(before) < 32 << 20,
        "grew by {} bytes",
        largest - before
    );
    assert_eq!(world.names(2).await, ["contact of 2"]);
}

#[tokio::test]
async fn a_stream_is_a_stream_and_fails_where_the_statement_fails() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let rows: Vec<_> = scope
        .query_stream("select n from generate_series(1, 10) n", &[])
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(rows.len(), 10);
    let sql = "select 1 / (5 - n) from generate_series(1, 10) n";
    let failed = scope
        .query_stream(sql, &[])
        .await
        .unwrap()
        .try_collect::<Vec<_>>()
        .await;
    assert_eq!(failed.unwrap_err().database().unwrap().code(), "22012");
    assert_eq!(world.names(0).await, ["contact of 0"]);
}

#[tokio::test]
async fn an_abandoned_stream_gives_its_place_back() {
    let world = World::with(tenantry::PoolConfig {
        connections_max: 1,
        ..Default::default()
    })
    .await;
    let scope = world.scope(1).await;
    for _ in 0..5 {
        let mut rows = scope
            .query_stream("select generate_series(1, 100000000)", &[])
            .await
            .unwrap();
        rows.next().await.unwrap();
    }
    assert_eq!(world.names(1).await, ["contact of 1"]);
}

#[tokio::test]
async fn copy_gives_the_tenants_rows_only() {
    let world = World::new().await;
    for n in 0..6 {
        let scope = world.scope(n).await;
        let mut text = Vec::new();
        let mut data = scope
            .copy_out("copy (select name from contact) to stdout (format csv)")
            .await
            .unwrap();
        while let Some(piece) = data.next().await.unwrap() {
            text.extend_from_slice(&piece);
        }
        assert_eq!(String::from_utf8(text).unwrap(), format!("contact of {n}\n"));
        // A whole table too, with its tenant's rows.
        let pieces: Vec<_> = scope
            .copy_out("copy contact to stdout")
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        assert_eq!(pieces.len(), 1);
    }
}

#[tokio::test]
async fn copy_takes_nothing_else() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    assert_eq!(
        scope.copy_out("select 1").await.err().unwrap().kind(),
        ErrorKind::Refused
    );
    for sql in [
        "copy contact from stdin",
        "copy contact to '/tmp/x'",
        "copy contact to program 'id'",
    ] {
        assert!(scope.copy_out(sql).await.is_err(), "{sql}");
    }
    assert_eq!(world.names(0).await, ["contact of 0"]);
}
