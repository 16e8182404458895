//! What pending migrations do where nobody is: run for real on a scratch copy of each version that the fleet has.

use std::collections::BTreeMap;

use tenantry_core::OperatorScope;
use tenantry_engine::{
    home::ScratchDatabase,
    isolate::Derived,
    structure::{self, Rehearsed, ScratchSite},
};

use super::{MigrationError, state};
use crate::{Authority, Ops};

/// The pending files from one version on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rehearsal {
    /// The version that the schemas have; 0 for none.
    pub from: i64,
    /// How many schemas have it.
    pub sites: usize,
    /// What each file did.
    pub files: Vec<Rehearsed>,
    /// Why they did not run to the end.
    pub error: Option<String>,
}

impl Ops {
    /// Runs what is pending on a scratch copy, without rows, of each distinct version in the fleet, and says which locks each
    /// file took on tables that stood before, which it wrote anew, and which it read whole. The copies are gone afterwards;
    /// after a crash the next run drops them.
    ///
    /// # Errors
    /// See [`MigrationError`]; that a file fails stands with its version.
    ///
    /// # Cancel safety
    /// The next run drops what was made.
    pub async fn rehearse_migrations(&self, authority: &Authority) -> Result<Vec<Rehearsal>, MigrationError> {
        authority.require_operator(OperatorScope::Migrations)?;
        let derived = self.derive_migrations().await?.ok_or(MigrationError::NoMigrations)?;
        let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
        for site in self.fleet_state(&derived).await? {
            // A ledger of another kind is told by the status; nothing can be tried on a copy of it.
            if let Some(length) = state::prefix(&site, &derived).filter(|length| *length < derived.versions.len()) {
                *lengths.entry(length).or_default() += 1;
            }
        }
        if lengths.is_empty() {
            return Ok(Vec::new());
        }
        let mut servers = self.scratch_servers().await?;
        loop {
            let scratch = self.next_scratch(&mut servers).await?;
            let rehearsed = self.rehearse_on(&scratch, &derived, &lengths).await;
            scratch.remove().await;
            match rehearsed {
                Err(MigrationError::Server(_)) if !servers.is_empty() => {}
                other => return other,
            }
        }
    }

    async fn rehearse_on(
        &self,
        scratch: &ScratchDatabase,
        derived: &Derived,
        lengths: &BTreeMap<usize, usize>,
    ) -> Result<Vec<Rehearsal>, MigrationError> {
        let failed = |error: &dyn std::fmt::Display| MigrationError::Server(error.to_string());
        let client = scratch.connect().await.map_err(|error| failed(&error))?;
        let mut rehearsals = Vec::new();
        for (length, sites) in lengths {
            let (had, pending) = derived.versions.split_at(*length);
            let name = format!("version_{length}");
            let target = ScratchSite::make(&client, self.catalog().installation(), &name)
                .await
                .map_err(|error| failed(&error))?;
            structure::lay_out(&client, &target, had)
                .await
                .map_err(|error| failed(&error))?;
            let (files, error) = match structure::rehearse(&client, &target, pending).await {
                Ok(files) => (files, None),
                Err(error) => (Vec::new(), Some(error.to_string())),
            };
            rehearsals.push(Rehearsal {
                from: had.last().map_or(0, |version| version.version),
                sites: *sites,
                files,
                error,
            });
        }
        Ok(rehearsals)
    }
}
