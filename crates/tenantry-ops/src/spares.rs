//! Keeps spare schemas and databases ready, at the newest version, and no more of them than are wanted.
//!
//! A spare schema is known to its database alone; a spare database is one of the catalog's that no tenant is placed in, made by
//! the same operation as a server's shared one.
//!
//! While the application is deployed, processes with its old and its new migrations keep the same spares. One that is beyond a
//! process's files is left to those who have them. Where it stays so for longer than a deployment takes, its newest migration was
//! withdrawn, and it is made anew.
//!
//! What is too many goes some at a time, the youngest first, since tenants get the oldest. A schema is dropped in the transaction that
//! holds it against whoever hands it out. A database is taken away from those that wait, under its row's lock, together with an operation
//! that drops it.

mod databases;
mod pace;
mod schemas;

use std::time::Duration;

use pace::Pace;
use tenantry_catalog::server::{Server, ServerState};

use crate::{Ops, runner::chain};

/// How often a process looks whether spares are missing.
const POLL: Duration = Duration::from_secs(1);

/// For how long a spare may be beyond a process's files before its newest migration counts as withdrawn: deployments don't take longer.
const DEPLOYMENT: Duration = Duration::from_secs(30 * 60);

impl Ops {
    /// Keeps as many spare schemas and databases ready on each server as configured, and removes those that are more, until the future
    /// is dropped. Where none are wanted it ends when those from before are gone, so that they are looked for no longer.
    ///
    /// Any number of processes may do so; with different numbers, some make what others remove.
    ///
    /// # Cancel safety
    /// What was begun is rolled back, or gone on with by whoever is next.
    pub async fn keep_spares(&self) {
        let fleet = self.fleet();
        let is_any_wanted = fleet.spare_schemas > 0 || fleet.spare_databases > 0;
        let mut pace = Pace::default();
        loop {
            let schemas = self.look_after_spare_schemas(&mut pace).await;
            let databases = self.look_after_spare_databases().await;
            let is_any_left = !matches!((&schemas, &databases), (Ok(0), Ok(looked)) if looked.there == 0);
            if !is_any_wanted && !is_any_left {
                return;
            }
            for error in schemas.err().into_iter().chain(databases.err()) {
                tracing::warn!(error = %chain(&error), "spares can't be looked after; trying again");
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// How many of so many are wanted on this server: one that drains takes no tenants, so nobody would use any there.
fn wanted_on(server: &Server, number: usize) -> usize {
    match server.state {
        ServerState::Active => number,
        _ => 0,
    }
}
