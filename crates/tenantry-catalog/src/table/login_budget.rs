//! How many log-ins may fail.

use std::time::Duration;

use crate::{CatalogError, Db};

/// One thing that is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// SHA-256 of what is counted.
    pub key: [u8; 32],
    /// How much may be spent in a window.
    pub limit: i32,
}

/// Spends one of each bucket; if one was empty, says how long until it is filled again.
///
/// Spending comes before the password is checked, so that a thousand tries at once are counted too.
///
/// # Errors
/// When the catalog fails.
pub async fn spend(db: &impl Db, buckets: &[Bucket], window: Duration) -> Result<Option<Duration>, CatalogError> {
    let keys: Vec<&[u8]> = buckets.iter().map(|bucket| bucket.key.as_slice()).collect();
    let limits: Vec<i32> = buckets.iter().map(|bucket| bucket.limit).collect();
    // In the order of their keys, so that two log-ins that share buckets can't wait for each other in a ring.
    let statement = "with asked as (
                 select key, max_spent from unnest($1::bytea[], $2::integer[]) as asked (key, max_spent) order by key
             ), spent as (
                 insert into login_budget as b (bucket, spent, window_ends)
                 select key, 1, now() + make_interval(secs => $3) from asked
                 on conflict (bucket) do update
                 set spent = case when b.window_ends <= now() then 1 else least(b.spent, 1000000) + 1 end,
                     window_ends = case when b.window_ends <= now() then excluded.window_ends else b.window_ends end
                 returning bucket, spent, window_ends
             )
             select extract(epoch from max(s.window_ends) - now())::float8
             from spent as s
             join asked as a on a.key = s.bucket
             where s.spent > a.max_spent";
    let row = db
        .query_one(statement, &[&keys, &limits, &window.as_secs_f64()])
        .await?;
    Ok(row
        .get::<_, Option<f64>>(0)
        .map(|seconds| Duration::from_secs_f64(seconds.max(1.0))))
}

/// Gives back what a log-in spent that succeeded.
///
/// # Errors
/// When the catalog fails.
pub async fn refund(db: &impl Db, buckets: &[Bucket]) -> Result<(), CatalogError> {
    let keys: Vec<&[u8]> = buckets.iter().map(|bucket| bucket.key.as_slice()).collect();
    db.execute(
        "update login_budget
         set spent = greatest(spent - 1, 0)
         where bucket in (select bucket from login_budget where bucket = any ($1) order by bucket for update)",
        &[&keys],
    )
    .await?;
    Ok(())
}

/// Forgets windows that have ended.
///
/// # Errors
/// When the catalog fails.
pub async fn prune(db: &impl Db) -> Result<u64, CatalogError> {
    Ok(db
        .execute("delete from login_budget where window_ends < now()", &[])
        .await?)
}
