//! The copy.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tenantry_core::Isolation;
use tenantry_engine::{
    Roles,
    transfer::{
        self, HistoryAhead, JobsAhead, Levelled, Progress, RowsAhead, SequencesAhead, Shared,
        stream::{Applier, Touched},
    },
};
use tokio_postgres::Client;

use super::{Ahead, Failure, Hands, Moving, written_since};
use crate::runner::migrate::noting;

/// How long the history waits for the application's open transactions, while the tenant works.
const OLDER: Duration = Duration::from_secs(3);
/// So many jobs are left for the closed fence: they take it some 10 ms.
const JOBS_LEFT: usize = 100;
/// How often is looked whether there are more, before as many as change meanwhile are left.
const JOBS_LOOKS: u32 = 3;
/// So many rows that have changed since the copy are left for the closed fence: they take it some 10 ms.
const ROWS_LEFT: u64 = 200;
/// How often is looked whether there are more, before as many as change meanwhile are left.
const LEVELS: u32 = 3;

impl Moving<'_> {
    /// All that is not at the new home yet. With an applier, the rows are, but for the last changes; otherwise those that have changed since they
    /// were copied are brought, and all of them compared.
    pub(super) async fn copy(
        &self,
        hands: &Hands,
        mut applier: Option<&mut Applier>,
        ahead: &Ahead,
    ) -> Result<(), Failure> {
        let (source, target) = (hands.source(), hands.target());
        let tenant = self.input.from.tenant;
        let levelled = match (applier.as_deref_mut(), &ahead.rows) {
            (Some(applier), _) => {
                self.bring_last(hands, applier).await?;
                None
            }
            (None, Some(rows)) => Some(self.level(hands, rows).await?),
            (None, None) => return Err(Failure::retry("not_copied", "nothing was copied: beginning anew")),
        };
        self.held_for("rows");
        if !self.input.within_a_database() {
            transfer::carry_jobs(source, target, tenant, Some(&ahead.jobs)).await?;
            self.held_for("jobs");
            transfer::carry_history(source, target, tenant, ahead.history.as_ref()).await?;
            self.held_for("history");
        }
        let touched = applier.as_deref().and_then(written_since);
        sequences(self, source, target, ahead.sequences.as_ref().zip(touched)).await?;
        self.held_for("sequences");
        self.begin_way_back(hands).await?;
        self.held_for("way_back");
        if let Some(levelled) = levelled {
            self.note_verified(&levelled.tables).await?;
            self.tell(json!({ "brought_again": levelled.brought, "compared_at": null, "compared_again": null }))
                .await?;
        }
        Ok(())
    }

    /// Copies the rows while the tenant works, where its changes are not followed.
    pub(super) async fn bring_rows(&self, hands: &Hands) -> Result<RowsAhead, Failure> {
        let began = Instant::now();
        let seen = Mutex::new(None);
        let estimate = self.estimate();
        let mut tell = |progress: Progress<'_>| *seen.lock() = Some(estimate.shown(progress));
        let ends = (self.source.end(hands.reader()), self.target.end(hands.target()));
        let work = RowsAhead::bring(ends.0, ends.1, self.input.from.tenant, &mut tell);
        let news = || seen.lock().as_ref().map(|news| self.whole(&self.with_news(news)));
        let rows = noting(self.journal, work, news).await??;
        let mut last = seen.lock().take().unwrap_or_else(|| json!({}));
        last["seconds_left"] = Value::Null;
        last["copied_ms"] = (began.elapsed().as_millis() as u64).into();
        self.tell(last).await?;
        Ok(rows)
    }

    /// Brings what was written during the copy, and then during that, until little is left: the last time is behind the closed fence.
    pub(super) async fn level_ahead(&self, hands: &Hands, rows: &RowsAhead) -> Result<(), Failure> {
        if !self.target.is(Isolation::Shared) {
            // For its queries' plans and for those below: those of shared tables are of everybody's rows.
            let to = self.target.end(hands.target());
            for table in transfer::tables(to.client, to.schema).await? {
                transfer::renew_statistics(to.client, &table).await?;
            }
        }
        let mut before = u64::MAX;
        for _ in 0..LEVELS {
            let brought = self.level(hands, rows).await?.brought;
            // As many are written while it looks as it brings: another look leaves no less.
            if brought <= ROWS_LEFT || brought > before / 2 {
                break;
            }
            before = brought;
        }
        Ok(())
    }

    async fn level(&self, hands: &Hands, rows: &RowsAhead) -> Result<Levelled, Failure> {
        let ends = (self.source.end(hands.reader()), self.target.end(hands.target()));
        Ok(rows.level(ends.0, ends.1).await?)
    }

    /// Brings all but a few of the jobs while the tenant works, and its changes meanwhile where they are followed.
    pub(super) async fn bring_jobs(
        &self,
        hands: &Hands,
        mut applier: Option<&mut Applier>,
        jobs: &mut JobsAhead,
    ) -> Result<(), Failure> {
        let (source, target, tenant) = (hands.source(), hands.target(), self.input.from.tenant);
        for _ in 0..JOBS_LOOKS {
            let mut left = jobs.look(source, target, tenant).await?;
            if left.count() <= JOBS_LEFT {
                return Ok(());
            }
            while !left.is_empty() {
                jobs.bring(source, target, tenant, &mut left).await?;
                if let Some(applier) = &mut applier {
                    self.apply_now(hands, applier).await?;
                }
            }
        }
        Ok(())
    }

    /// Brings all but the last of the history while the tenant works, and its changes meanwhile where they are followed.
    pub(super) async fn bring_history(
        &self,
        hands: &Hands,
        mut applier: Option<&mut Applier>,
    ) -> Result<Option<HistoryAhead>, Failure> {
        let (source, target, tenant) = (hands.source(), hands.target(), self.input.from.tenant);
        let Some(mut ahead) = HistoryAhead::begin(source, target, tenant, OLDER).await? else {
            return Ok(None);
        };
        while ahead.bring(source, target, tenant).await? {
            if let Some(applier) = &mut applier {
                self.apply_now(hands, applier).await?;
            }
        }
        Ok(Some(ahead))
    }

    /// Looks for the greatest numbers in the rows while the tenant works and its changes are brought on, where other tenants draw from the
    /// same sequences: on a connection of its own, since it may read all of the rows.
    pub(super) async fn look_at_sequences(
        &self,
        hands: &Hands,
        applier: &mut Applier,
    ) -> Result<Option<SequencesAhead>, Failure> {
        if self.shares_sequences() == Shared::No || applier.touched().is_none() {
            return Ok(None);
        }
        let client = self.source.site.connect().await?;
        let look = async { Ok(SequencesAhead::look(self.source.end(&client), self.input.from.tenant).await?) };
        self.while_following(hands, applier, look).await.map(Some)
    }

    /// Writes down at the new home which migrations of data the tenant has had. While the tenant works: neither home is migrated meanwhile,
    /// and in shared tables it reads what is noted of everybody.
    pub(super) async fn carry_ledger(&self, hands: &Hands) -> Result<(), Failure> {
        let (from, to) = (&self.input.from, &self.input.to);
        let (source, target) = ((hands.source(), &*from.schema), (hands.target(), &*to.schema));
        Ok(transfer::carry_ledger(source, target, from.tenant).await?)
    }

    /// How long a copy that begins now takes, as far as that can be told.
    pub(super) fn estimate(&self) -> Estimate {
        let rows_about = self.progress.lock().get("rows_about").and_then(Value::as_u64);
        Estimate {
            began: Instant::now(),
            rows_about,
        }
    }
}

/// Where the new home goes on counting.
pub(super) async fn sequences(
    moving: &Moving<'_>,
    source: &Client,
    target: &Client,
    known: Option<(&SequencesAhead, &Touched)>,
) -> Result<(), Failure> {
    let owner = Roles::of(moving.source.site.installation()).owner;
    let (from, to) = (moving.source.end(source), moving.target.end(target));
    let tenant = moving.input.from.tenant;
    Ok(transfer::carry_sequences(from, to, &owner, tenant, moving.shares_sequences(), known).await?)
}

/// How far a copy is, and how much is left.
pub(super) struct Estimate {
    began: Instant,
    /// As the server's statistics say it.
    rows_about: Option<u64>,
}

impl Estimate {
    pub(super) fn shown(&self, progress: Progress<'_>) -> Value {
        let about = self.rows_about.map(|about| about.max(progress.rows));
        json!({
            "table": progress.table, "tables_done": progress.tables_done, "tables": progress.tables,
            "rows": progress.rows, "bytes": progress.bytes,
            "rows_about": about, "seconds_left": about.and_then(|about| self.seconds_left(progress.rows, about)),
        })
    }

    /// At the speed so far.
    fn seconds_left(&self, rows: u64, about: u64) -> Option<u64> {
        let left = about.saturating_sub(rows);
        let per_row = (rows > 0).then(|| self.began.elapsed().as_secs_f64() / rows as f64)?;
        Some((per_row * left as f64).ceil() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_at_the_speed_so_far() {
        let estimate = Estimate {
            began: Instant::now().checked_sub(Duration::from_secs(10)).unwrap(),
            rows_about: Some(3000),
        };
        let progress = |rows| Progress {
            table: "notes",
            tables_done: 0,
            tables: 2,
            rows,
            bytes: 1,
        };
        let shown = estimate.shown(progress(1000));
        assert_eq!(shown["rows_about"], 3000);
        assert!((20..=21).contains(&shown["seconds_left"].as_u64().unwrap()), "{shown}");
        // The statistics were behind.
        assert_eq!(estimate.shown(progress(4000))["rows_about"], 4000);
        assert_eq!(estimate.shown(progress(4000))["seconds_left"], 0);
        assert_eq!(estimate.shown(progress(0))["seconds_left"], Value::Null);
    }
}
