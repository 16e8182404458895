//! What a tenant uses, beside what its plan gives.

use std::{collections::BTreeMap, time::Duration};

use tenantry_catalog::{
    membership, plan_excess, plan_limit, tenant,
    usage_day::{self, Usage},
};
use tenantry_core::{Excess, Measure, Plan, PlanLimits, TenantId};

use crate::{Authority, MemberError, Ops, SizeError, TenantSize, members};

/// How long the tenant's server has to say what it has; what it used is told without it.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a tenant uses, beside what its plan gives.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct TenantUsage {
    /// Its plan.
    pub plan: Plan,
    /// What that gives at most.
    pub limits: PlanLimits,
    /// What it has more of than that, or just as much, as it was measured last.
    pub excess: Vec<Excess>,
    /// Its members, those who are invited included.
    pub members: i64,
    /// What it has at the moment, limited or not.
    pub measures: Vec<Measure>,
    /// What it used on its last days with any use, the newest first.
    pub days: Vec<Usage>,
}

impl Ops {
    /// What a tenant uses and may use: for operators, and for owners and admins of the tenant. Where its server does not say soon what
    /// it has, that is not known, and the rest is told.
    ///
    /// # Errors
    /// See [`MemberError`].
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn tenant_usage(
        &self,
        authority: &Authority,
        tenant: TenantId,
        days: i64,
    ) -> Result<TenantUsage, MemberError> {
        members::may_read(authority, tenant)?;
        let client = self.catalog().client().await?;
        let found = tenant::find(&client, tenant).await?.ok_or(MemberError::NotFound)?;
        let mut usage = TenantUsage {
            plan: found.plan,
            limits: plan_limit::of_tenant(&client, tenant).await?,
            excess: plan_excess::list(&client, tenant).await?,
            members: membership::count(&client, tenant).await?,
            measures: Vec::new(),
            days: usage_day::list(&client, tenant, days).await?,
        };
        // Measuring takes a connection of its own.
        drop(client);
        let size = match tokio::time::timeout(PATIENCE, self.measure_tenant(tenant)).await {
            Ok(Ok(size)) => Some(size),
            Ok(Err(SizeError::Catalog(error))) => return Err(error.into()),
            Ok(Err(error)) => {
                tracing::debug!(tenant.id = %tenant, %error, "a tenant can't be measured");
                None
            }
            Err(_) => None,
        };
        usage.measures = measures(&usage.limits, usage.members, size.as_ref());
        Ok(usage)
    }
}

fn measures(limits: &PlanLimits, members: i64, size: Option<&TenantSize>) -> Vec<Measure> {
    let measure = |name: &str, used: Option<i64>, limit: Option<u64>| Measure {
        name: name.to_owned(),
        used: used.map(|used| u64::try_from(used).unwrap_or(0)),
        limit,
    };
    let mut measures = vec![
        measure("members", Some(members), limits.members.map(|limit| limit.get().into())),
        measure(
            Excess::JOBS,
            size.map(|size| size.jobs),
            limits.jobs.map(|limit| limit.get().into()),
        ),
        measure(
            Excess::STORAGE,
            size.map(TenantSize::storage_bytes),
            limits.storage_bytes.map(|limit| limit.get()),
        ),
        measure("files_bytes", size.and_then(|size| size.files_bytes), None),
    ];
    // Tables that are there, and those that the plan only speaks of.
    let mut rows: BTreeMap<&str, Option<i64>> = BTreeMap::new();
    for table in limits.rows.keys() {
        rows.insert(table, size.map(|_| 0));
    }
    for table in size.iter().flat_map(|size| &size.tables) {
        rows.insert(&table.table, table.rows);
    }
    for (table, used) in rows {
        measures.push(measure(&format!("rows.{table}"), used, limits.rows.get(table).copied()));
    }
    measures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_limited_is_shown_and_what_is_not_known_says_so() {
        let limits = PlanLimits {
            jobs: 7.try_into().ok(),
            rows: BTreeMap::from([("contacts".to_owned(), 5)]),
            ..PlanLimits::default()
        };
        let shown = |name: &str, used, limit| Measure {
            name: name.to_owned(),
            used,
            limit,
        };
        assert_eq!(
            measures(&limits, 2, None),
            [
                shown("members", Some(2), None),
                shown("jobs", None, Some(7)),
                shown("storage_bytes", None, None),
                shown("files_bytes", None, None),
                shown("rows.contacts", None, Some(5)),
            ]
        );
    }
}
