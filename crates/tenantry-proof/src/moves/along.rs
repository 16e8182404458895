//! Somebody who writes into tables that nobody has thought of while their tenant moves, and knows which rows have to be there.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Result, ensure};
use tenantry::{Error, Scope};
use tokio_postgres::Client;

use super::trip::Table;
use crate::{
    ledger::{is_unexpected, refused_for_good},
    rng::Rng,
};

/// The stamps of rows that are written here begin behind it.
pub(super) const WRITTEN: i32 = 1_000;
/// Between two acts.
const PAUSE: Duration = Duration::from_millis(10);

/// What is known of a row that was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    /// It is there, and was changed so often.
    There(i32),
    /// It is not.
    Gone,
    /// Nobody answered: it may be there or not, changed once more or not, but not twice.
    Unknown,
}

/// One session of the tenant's application. It leaves a row alone once it does not know of it.
pub(super) struct Along<'a> {
    scope: Scope,
    tables: &'a [Table],
    rng: Rng,
    last: i32,
    /// By table and stamp.
    rows: BTreeMap<(usize, i32), Known>,
    acknowledged: u64,
}

impl<'a> Along<'a> {
    pub(super) fn new(scope: Scope, tables: &'a [Table], rng: Rng) -> Self {
        Self {
            scope,
            tables,
            rng,
            last: WRITTEN,
            rows: BTreeMap::new(),
            acknowledged: 0,
        }
    }

    /// How many writes were acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Writes until it is told to stop.
    pub(super) async fn write(&mut self, stop: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let known: Vec<_> = self.rows.iter().filter_map(there).collect();
            match self.rng.below(10) {
                0..=1 if !known.is_empty() => {
                    let (key, _) = *self.rng.pick(&known);
                    self.change(key, "delete from", "", Known::Gone).await?;
                }
                2..=4 if !known.is_empty() => {
                    let (key, touched) = *self.rng.pick(&known);
                    let set = "set touched = touched + 1";
                    self.change(key, "update", set, Known::There(touched + 1)).await?;
                }
                _ => self.insert().await?,
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn insert(&mut self) -> Result<()> {
        self.last += 1;
        let table = usize::try_from(self.rng.below(self.tables.len() as u64))?;
        let done = self.scope.execute(&self.tables[table].write, &[&self.last]).await;
        self.told((table, self.last), Known::Gone, Known::There(0), done)
    }

    /// Does something to a row that is there.
    async fn change(&mut self, key: (usize, i32), verb: &str, set: &str, then: Known) -> Result<()> {
        let now = self.rows.get(&key).copied().unwrap_or(Known::Gone);
        let sql = format!("{verb} {} {set} where stamp = $1", self.tables[key.0].name);
        let done = self.scope.execute(&sql, &[&key.1]).await;
        self.told(key, now, then, done)
    }

    /// Takes down what the row is: `now` where nothing was done, `then` where it was.
    fn told(&mut self, key: (usize, i32), now: Known, then: Known, done: Result<u64, Error>) -> Result<()> {
        let known = match done {
            Ok(rows) => {
                ensure!(rows == 1, "a row that was acknowledged was not found: {key:?}, {now:?}");
                self.acknowledged += 1;
                then
            }
            Err(error) => {
                ensure!(!is_unexpected(&error), "{key:?} could not be written: {error}");
                match refused_for_good(&error) {
                    true => now,
                    false => Known::Unknown,
                }
            }
        };
        self.rows.insert(key, known);
        Ok(())
    }

    /// Compares what is there with what was told; nobody writes meanwhile.
    pub(super) async fn check(&self, admin: &Client, tenant: tenantry::TenantId) -> Result<()> {
        for (position, table) in self.tables.iter().enumerate() {
            let sql = format!(
                "select stamp, touched from {} where tenant_id = '{tenant}' and stamp > {WRITTEN}",
                table.name
            );
            let mut found: BTreeMap<i32, i32> = BTreeMap::new();
            for row in admin.query(&sql, &[]).await? {
                let (stamp, touched) = (row.get(0), row.get(1));
                ensure!(
                    found.insert(stamp, touched).is_none(),
                    "{}: row {stamp} is there twice",
                    table.name
                );
            }
            for (stamp, known) in self.of(position) {
                let there = found.remove(&stamp);
                let is_right = match known {
                    Known::There(touched) => there == Some(touched),
                    Known::Gone => there.is_none(),
                    Known::Unknown => true,
                };
                ensure!(
                    is_right,
                    "{}: row {stamp} should be {known:?} and is {there:?}",
                    table.name
                );
            }
            ensure!(found.is_empty(), "{}: nobody wrote {found:?}", table.name);
        }
        Ok(())
    }

    /// The rows of one table.
    fn of(&self, table: usize) -> impl Iterator<Item = (i32, Known)> {
        self.rows
            .range((table, i32::MIN)..=(table, i32::MAX))
            .map(|((_, stamp), known)| (*stamp, *known))
    }
}

/// A row that is known to be there, and how often it was changed.
fn there((key, known): (&(usize, i32), &Known)) -> Option<((usize, i32), i32)> {
    match known {
        Known::There(touched) => Some((*key, *touched)),
        Known::Gone | Known::Unknown => None,
    }
}
