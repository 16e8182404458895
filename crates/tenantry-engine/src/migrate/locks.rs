//! Tries again what does not get its locks, and is out of the application's way in between.

use std::time::Instant;

use tokio_postgres::{Client, Error};

use super::{
    run::{self, Failure},
    target::{Patience, Target},
};

/// Tables of the schema that somebody holds as a vacuum does.
const VACUUMED: &str = "
    select distinct format('%I.%I', n.nspname, c.relname)
      from pg_locks l
      join pg_class c on c.oid = l.relation
      join pg_namespace n on n.oid = c.relnamespace
     where l.locktype = 'relation' and l.granted and l.mode = 'ShareUpdateExclusiveLock' and l.pid <> pg_backend_pid()
       and l.database = (select oid from pg_database where datname = current_database())
       and n.nspname = $1 and c.relkind in ('r', 'p', 'm')";

/// Tries again while it does not get its locks, a little later each time.
///
/// What has waited as long as for a turn is not begun again: a statement that may wait so long stands in nobody's way, and whatever
/// kept it from its locks will not be gone in a moment.
pub(super) async fn with_locks<F, T>(
    client: &Client,
    target: &Target,
    patience: &Patience,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let begun = Instant::now();
    let mut number = 0;
    loop {
        number += 1;
        let tried = Instant::now();
        let file = match attempt().await {
            Err(Failure::Locked { file, .. }) => file,
            outcome => return outcome,
        };
        if number >= patience.lock_attempts || tried.elapsed() >= patience.turn_timeout {
            return Err(Failure::Locked { file, attempts: number });
        }
        tracing::info!(
            attempt = number,
            waited_ms = begun.elapsed().as_millis(),
            "migration waits for locks"
        );
        ask_vacuum_to_leave(client, target).await?;
        tokio::time::sleep(Patience::pause(number)).await;
    }
}

/// PostgreSQL ends an autovacuum for whoever has waited longer than `deadlock_timeout`, and a migration never waits so long with a lock
/// that the application queues behind. So it waits with one that only vacuums and other migrations are in the way of.
pub(crate) async fn ask_vacuum_to_leave(client: &Client, target: &Target) -> Result<(), Error> {
    let rows = client.query(VACUUMED, &[&target.schema.as_str()]).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let tables: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let wait = format!(
        "begin; set local statement_timeout = 0; \
         select set_config('lock_timeout', \
                           (extract(epoch from current_setting('deadlock_timeout')::interval) * 1000 + 1000)::int::text, true); \
         set local role {}; lock table {} in share update exclusive mode; rollback",
        target.owner,
        tables.join(", ")
    );
    match client.batch_execute(&wait).await {
        // It did not leave: a vacuum that somebody began by hand, or one that PostgreSQL can't do without.
        Err(error) if error.as_db_error().is_some() => run::roll_back(client).await,
        other => other,
    }
}
