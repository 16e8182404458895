//! Keeps spare schemas and databases ready, at the newest version.
//!
//! A spare schema is known to its database alone; a spare database is one of the catalog's that no tenant is placed in, made by
//! the same operation as a server's shared one.
//!
//! While the application is deployed, processes with its old and its new migrations keep the same spares. One that is beyond a
//! process's files is left to those who have them. Where it stays so for longer than a deployment takes, its newest migration was
//! withdrawn, and it is made anew.

mod databases;
mod pace;
mod schemas;

use std::time::Duration;

use pace::Pace;

use crate::{Ops, runner::chain};

/// How often a process looks whether spares are missing.
const POLL: Duration = Duration::from_secs(1);

/// For how long a spare may be beyond a process's files before its newest migration counts as withdrawn: deployments don't take longer.
const DEPLOYMENT: Duration = Duration::from_secs(30 * 60);

impl Ops {
    /// Keeps as many spare schemas and databases ready on each server as configured, until the future is dropped; nothing where
    /// none are wanted.
    ///
    /// Any number of processes may do so.
    ///
    /// # Cancel safety
    /// What was begun is rolled back, or gone on with by whoever is next.
    pub async fn keep_spares(&self) {
        let fleet = self.fleet();
        if fleet.spare_schemas == 0 && fleet.spare_databases == 0 {
            return;
        }
        let mut pace = Pace::default();
        loop {
            let schemas = self.make_missing_spare_schemas(&mut pace).await.err();
            let databases = self.order_spare_databases().await.err();
            for error in schemas.into_iter().chain(databases) {
                tracing::warn!(error = %chain(&error), "spares can't be made; trying again");
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
