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
use tenantry_catalog::{
    CatalogError,
    server::{self, Server, ServerState},
};
use tenantry_core::ServerId;

use crate::{Ops, runner::chain};

/// How often a process looks whether spares are missing.
const POLL: Duration = Duration::from_secs(1);

/// How often it looks at the list of servers where none are wanted: by one query.
const REST: Duration = Duration::from_secs(5);

/// For how long a spare may be beyond a process's files before its newest migration counts as withdrawn: deployments don't take longer.
const DEPLOYMENT: Duration = Duration::from_secs(30 * 60);

impl Ops {
    /// Keeps as many spare schemas and databases ready on each server as configured or as the server's own numbers say, and removes those that
    /// are more, until the future is dropped. Where none are wanted it rests when those from before are gone, until a server is changed.
    ///
    /// Any number of processes may do so; with different configurations, some make what others remove.
    ///
    /// # Cancel safety
    /// What was begun is rolled back, or gone on with by whoever is next.
    pub async fn keep_spares(&self) {
        let mut pace = Pace::default();
        loop {
            // Before the look, so that no change during it is missed by the rest.
            match self.servers_of_spares().await {
                Ok(servers) => {
                    let is_any_left = self.look_after_spares(&servers, &mut pace).await;
                    if !is_any_left && !self.is_any_wanted(&servers) {
                        self.rest(&servers).await;
                        // What was seen is of before.
                        pace = Pace::default();
                        continue;
                    }
                }
                Err(error) => tell(&error),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Whether there were any, or it can't be told.
    async fn look_after_spares(&self, servers: &[Server], pace: &mut Pace) -> bool {
        let schemas = self.look_after_spare_schemas(pace).await;
        let databases = self.look_after_spare_databases(servers).await;
        let is_any_left = !matches!((&schemas, &databases), (Ok(0), Ok(looked)) if looked.there == 0);
        for error in schemas.err().into_iter().chain(databases.err()) {
            tell(&error);
        }
        is_any_left
    }

    /// Whether the configuration or a server wants some.
    fn is_any_wanted(&self, servers: &[Server]) -> bool {
        let fleet = self.fleet();
        let own = |server: &Server| server.spare_schemas > Some(0) || server.spare_databases > Some(0);
        fleet.spare_schemas > 0 || fleet.spare_databases > 0 || servers.iter().any(own)
    }

    /// Waits until a server is changed or another one is there, or the catalog can't be asked.
    async fn rest(&self, servers: &[Server]) {
        let before = versions(servers);
        loop {
            tokio::time::sleep(REST).await;
            match self.servers_of_spares().await {
                Ok(now) if versions(&now) == before => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    async fn servers_of_spares(&self) -> Result<Vec<Server>, CatalogError> {
        let client = self.catalog().client().await?;
        server::list(&client).await
    }
}

fn tell(error: &CatalogError) {
    tracing::warn!(error = %chain(error), "spares can't be looked after; trying again");
}

/// Grows with every change of a server that is made on purpose.
fn versions(servers: &[Server]) -> Vec<(ServerId, i64)> {
    servers.iter().map(|server| (server.id, server.version)).collect()
}

/// How many of so many are wanted on this server: one that drains takes no tenants, so nobody would use any there.
fn wanted_on(server: &Server, number: usize) -> usize {
    match server.state {
        ServerState::Active => number,
        _ => 0,
    }
}
