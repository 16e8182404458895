//! How many of what there is in the fleet, for metrics.

use std::{collections::HashMap, time::Duration};

use tenantry_catalog::{
    CatalogError, fleet_state,
    job_backlog::{self, JobBacklog},
    operation::{self, OperationKind},
    tenant,
};
use tenantry_core::TenantState;

use crate::Ops;

/// How many of what there is in the fleet. It names no tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FleetCounts {
    /// Tenants, for each state.
    pub tenants: Vec<(TenantState, i64)>,
    /// Operations, for each kind: under way or waiting, and failed within the last day.
    pub operations: Vec<(OperationKind, i64, i64)>,
    /// Schemas that lack the newest migration that any schema has.
    pub behind: i64,
    /// Schemas that could not be migrated at the last attempt.
    pub migration_failures: i64,
    /// Jobs that wait and are dead.
    pub jobs: JobBacklog,
    /// How old the oldest of the answers is that make up this figure.
    pub jobs_counted_ago: Duration,
}

impl Ops {
    /// Counts what there is, by the catalog alone.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn count_fleet(&self) -> Result<FleetCounts, CatalogError> {
        let client = self.catalog().client().await?;
        let tenants: HashMap<_, _> = tenant::count_by_state(&client).await?.into_iter().collect();
        let found = operation::count_by_kind(&client).await?;
        let (behind, migration_failures) = fleet_state::count_behind(&client).await?;
        let (jobs, jobs_counted_ago) = job_backlog::sum(&client).await?;
        // What there is none of is said too, or a metric would stay as it was.
        let operations = OperationKind::ALL.iter().map(|kind| {
            let found = found.iter().find(|(of, ..)| of == kind);
            found.copied().unwrap_or((*kind, 0, 0))
        });
        Ok(FleetCounts {
            tenants: TenantState::ALL
                .map(|state| (state, tenants.get(&state).copied().unwrap_or(0)))
                .into(),
            operations: operations.collect(),
            behind,
            migration_failures,
            jobs,
            jobs_counted_ago,
        })
    }
}
