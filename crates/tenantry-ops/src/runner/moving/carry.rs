//! The copy, and the proof that it is one.

use parking_lot::Mutex;
use serde_json::{Value, json};
use tenantry_engine::{
    Roles,
    transfer::{self, Progress, Verified, stream::Applier},
};
use tokio_postgres::Client;

use super::{Failure, Hands, Moving};
use crate::runner::migrate::noting;

impl Moving<'_> {
    /// All that is not at the new home yet. With an applier, the rows are, but for the last changes.
    pub(super) async fn copy(&self, hands: &Hands, applier: Option<&mut Applier>) -> Result<(), Failure> {
        let seen = Mutex::new(None);
        let mut tell = |progress: Progress<'_>| *seen.lock() = Some(shown(progress));
        let work = self.carry(hands, applier, &mut tell);
        let news = || seen.lock().as_ref().map(|news| self.with_news(news));
        let verified = noting(self.journal, work, news).await??;
        let last = seen.lock().take();
        if let Some(last) = last {
            self.tell(last).await?;
        }
        if let Some(verified) = verified {
            self.note_verified(&verified).await?;
        }
        Ok(())
    }

    /// All that is the tenant's in its database. Within one, the rows are compared in the transaction that copies them.
    async fn carry(
        &self,
        hands: &Hands,
        applier: Option<&mut Applier>,
        tell: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Option<Vec<Verified>>, Failure> {
        let (source, target) = (hands.source(), hands.target());
        let tenant = self.input.from.tenant;
        let (from, to) = (self.source.end(source), self.target.end(target));
        let verified = if self.input.within_a_database() {
            Some(transfer::copy_within(from, to, tenant, tell).await?)
        } else {
            match applier {
                Some(applier) => self.bring_last(hands, applier).await?,
                None => drop(transfer::copy(from, to, tenant, None, tell).await?),
            }
            transfer::carry_jobs(source, target, tenant).await?;
            transfer::carry_history(source, target, tenant).await?;
            None
        };
        let schemas = (&*self.input.from.schema, &*self.input.to.schema);
        transfer::carry_ledger((source, schemas.0), (target, schemas.1), tenant).await?;
        sequences(self, source, target).await?;
        Ok(verified)
    }

    pub(super) async fn verify(&self, hands: &Hands) -> Result<(), Failure> {
        let tenant = self.input.from.tenant;
        let (from, to) = (self.source.end(hands.source()), self.target.end(hands.target()));
        if !self.input.within_a_database() {
            let verified = transfer::verify(from, to, tenant, None).await?;
            self.note_verified(&verified).await?;
        }
        Ok(transfer::foreign_rows(to, tenant).await?)
    }

    /// What the two homes have in common, for whoever asks later.
    async fn note_verified(&self, verified: &[Verified]) -> Result<(), Failure> {
        let tables: Vec<_> = verified
            .iter()
            .map(|one| json!({ "table": one.table, "rows": one.rows, "checksum": one.checksum }))
            .collect();
        let rows: i64 = verified.iter().map(|one| one.rows).sum();
        let done = json!({ "tables_done": tables.len(), "tables": tables.len(), "rows": rows, "verified": tables });
        self.tell(done).await
    }
}

/// Where the new home goes on counting.
pub(super) async fn sequences(moving: &Moving<'_>, source: &Client, target: &Client) -> Result<(), Failure> {
    let owner = Roles::of(moving.source.site.installation()).owner;
    let (from, to) = (moving.source.end(source), moving.target.end(target));
    let tenant = moving.input.from.tenant;
    Ok(transfer::carry_sequences(from, to, &owner, tenant, moving.shares_sequences()).await?)
}

pub(super) fn shown(progress: Progress<'_>) -> Value {
    json!({
        "table": progress.table, "tables_done": progress.tables_done, "tables": progress.tables,
        "rows": progress.rows, "bytes": progress.bytes,
    })
}
