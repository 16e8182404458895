//! The proof that the new home holds what the old one does: of everything while the tenant works, and behind the closed fence of what was
//! written since. Where nothing could be compared before, of everything behind the fence.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use serde_json::json;
use tenantry_engine::transfer::{
    self, Recheck, Verified,
    stream::{self, Applier, Compared, Difference, StreamError, Touched, Way},
};

use super::{Failure, Hands, Moving};

/// How many rows may have been written since the comparison: what is looked at again while the tenant waits.
const TOUCHED_MAX: usize = 10_000;
/// How often everything is compared before what is left is taken to be too much: then it is compared behind the fence.
const TIMES: u32 = 3;
/// How many rows that differ are named.
const NAMED: usize = 10;
/// How long the comparison's snapshot may wait for transactions that write anywhere on the source's server. The source hears nothing of us
/// meanwhile, and gives up who is silent for a minute.
const SNAPSHOT: Duration = Duration::from_secs(30);
/// How long is waited where the source has no slot left for it.
const FULL: Duration = Duration::from_secs(2);
/// Between two looks at what the tenant writes while both sides are compared.
const PAUSE: Duration = Duration::from_millis(100);

impl Moving<'_> {
    /// Compares every table on both sides as of one position, while the tenant works and its changes are brought on. From there on
    /// the applier keeps which rows it writes.
    pub(super) async fn compare_online(&self, hands: &Hands, applier: &mut Applier) -> Result<(), Failure> {
        for _ in 0..TIMES {
            applier.untrack();
            self.compare_once(hands, applier).boxed().await?;
            self.catch_up(hands, applier).await?;
            let touched = applier.touched().and_then(Touched::keys);
            if touched.is_some_and(|touched| touched <= TOUCHED_MAX) {
                return Ok(());
            }
        }
        tracing::warn!(
            operation.id = %self.journal.operation.id, tenant.id = %self.input.from.tenant,
            "a tenant that writes much, or long transactions on its server, keep its rows from being compared while it works: it waits for that"
        );
        applier.untrack();
        Ok(())
    }

    async fn compare_once(&self, hands: &Hands, applier: &mut Applier) -> Result<(), Failure> {
        let began = Instant::now();
        let endpoint = self.source.endpoint()?;
        let (source, target) = tokio::try_join!(self.source.connect_as_mover(), self.target.connect_as_mover())?;
        let pair = match stream::pair(endpoint, source, target, applier, SNAPSHOT).await {
            Ok(pair) => pair,
            // It waits for whoever writes anywhere on the server; the applier was not asked yet.
            Err(StreamError::Impatient { .. }) => return Ok(()),
            // Others took what was left since the plan: what was copied is not thrown away for that.
            Err(error) if error.is_full() => {
                tracing::warn!(operation.id = %self.journal.operation.id, %error, "a move can't compare while its tenant works");
                tokio::time::sleep(FULL).await;
                return Ok(());
            }
            Err(error) => return Err(self.broken(hands, error).await),
        };
        let compare = async { Ok(stream::compare(&pair, NAMED).await?) };
        let compared = self.while_following(hands, applier, compare).await?;
        let position = pair.position();
        drop(pair);
        if !compared.is_same() {
            return Err(Failure::permanent("copy_differs", differing(&compared)));
        }
        let (to, tenant) = (self.target.end(hands.target()), self.input.from.tenant);
        transfer::foreign_rows(to, tenant).await?;
        let tables: Vec<_> = compared
            .tables
            .iter()
            .map(|one| json!({ "table": one.table, "rows": one.source_rows, "checksum": one.checksum }))
            .collect();
        let rows: i64 = compared.tables.iter().map(|one| one.source_rows).sum();
        self.tell(json!({
            "compared_at": position.to_string(), "compared_ms": began.elapsed().as_millis() as u64,
            "tables": tables.len(), "tables_done": tables.len(), "rows": rows, "verified": tables,
        }))
        .await
    }

    /// Lets the planner know what the tables hold before rows are looked up while the tenant waits, and before its own queries come to the new
    /// home. At the old one that is known, but for what it wrote of late.
    pub(super) async fn renew_statistics(&self, hands: &Hands, applier: &mut Applier) -> Result<(), Failure> {
        let (from, to) = (self.source.end(hands.source()), self.target.end(hands.target()));
        for table in transfer::tables(to.client, to.schema).await? {
            transfer::renew_statistics(to.client, &table).await?;
            self.apply_now(hands, applier).await?;
        }
        for table in transfer::tables(from.client, from.schema).await? {
            let is_written = |touched: &Touched| touched.tables().contains_key(&table.name);
            if applier.touched().is_some_and(is_written) {
                transfer::renew_statistics(from.client, &table).await?;
                self.apply_now(hands, applier).await?;
            }
        }
        Ok(())
    }

    /// Does something else while the tenant's changes are brought on, so that they don't pile up and the source hears of us.
    pub(super) async fn while_following<T>(
        &self,
        hands: &Hands,
        applier: &mut Applier,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let is_over = AtomicBool::new(false);
        let work = async {
            let done = work.await;
            is_over.store(true, Ordering::Relaxed);
            done
        };
        // An applier that is dropped at work is of no use any more, so it is let finish.
        let follow = async {
            while !is_over.load(Ordering::Relaxed) {
                self.apply_now(hands, applier).await?;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(())
        };
        let (done, ()) = tokio::try_join!(work, follow)?;
        Ok(done)
    }

    /// While the tenant works: what has to be known for the comparison behind the fence.
    pub(super) async fn prepare_recheck(&self, hands: &Hands) -> Result<Recheck, Failure> {
        let (from, to) = (self.source.end(hands.source()), self.target.end(hands.target()));
        Ok(Recheck::prepare(from, to, self.input.from.tenant).await?)
    }

    /// Behind the closed fence: the rows that were written since the comparison, or all where there was none. Those that were levelled were
    /// compared with that.
    pub(super) async fn verify(
        &self,
        hands: &Hands,
        written: Option<(&Touched, &Recheck)>,
        are_levelled: bool,
    ) -> Result<(), Failure> {
        let tenant = self.input.from.tenant;
        let (from, to) = (self.source.end(hands.source()), self.target.end(hands.target()));
        if let Some((touched, recheck)) = written {
            let again = recheck.run(from, to, touched).await?;
            let compared: usize = again.iter().map(|one| one.rows).sum();
            let tables = self.with_changes(&again);
            return self
                .tell(json!({ "verified": tables, "compared_again": compared }))
                .await;
        }
        if !are_levelled {
            let verified = transfer::verify(from, to, tenant, None).await?;
            self.note_verified(&verified).await?;
            self.tell(json!({ "compared_at": null, "compared_again": null }))
                .await?;
        }
        Ok(transfer::foreign_rows(to, tenant).await?)
    }

    /// What was compared, with how many rows were written and compared again, and how many there are now.
    fn with_changes(&self, again: &[transfer::Rechecked]) -> Vec<serde_json::Value> {
        let verified = self.progress.lock().get("verified").cloned();
        let mut tables = verified
            .and_then(|tables| tables.as_array().cloned())
            .unwrap_or_default();
        for table in &mut tables {
            let one = again.iter().find(|one| table["table"] == one.table);
            let rows = table["rows"].as_i64().unwrap_or_default();
            table["compared_again"] = one.map_or(0, |one| one.rows).into();
            table["rows_now"] = one.map_or(rows, |one| rows + one.gained).into();
        }
        tables
    }

    /// What the two homes have in common, for whoever asks later.
    pub(super) async fn note_verified(&self, verified: &[Verified]) -> Result<(), Failure> {
        let tables: Vec<_> = verified
            .iter()
            .map(|one| json!({ "table": one.table, "rows": one.rows, "checksum": one.checksum }))
            .collect();
        let rows: i64 = verified.iter().map(|one| one.rows).sum();
        let done = json!({ "tables_done": tables.len(), "tables": tables.len(), "rows": rows, "verified": tables });
        self.tell(done).await
    }
}

/// The tables that differ, with some of their rows.
fn differing(compared: &Compared) -> String {
    let each: Vec<_> = compared
        .tables
        .iter()
        .filter(|table| !table.same)
        .map(|table| {
            let of_table = compared.differences.iter().filter(|one| one.table == table.table);
            let rows: Vec<_> = of_table.map(named).collect();
            let (there, here) = (table.source_rows, table.target_rows);
            let among = if rows.is_empty() {
                String::new()
            } else {
                format!("; among them {}", rows.join(", "))
            };
            format!("{} ({there} rows there, {here} here{among})", table.table)
        })
        .collect();
    format!("the copy differs from its source: {}", each.join("; "))
}

fn named(difference: &Difference) -> String {
    let way = match difference.way {
        Way::Missing => "is missing",
        Way::Extra => "is too many",
        Way::Changed => "differs",
    };
    format!("{} {way}", difference.key)
}
