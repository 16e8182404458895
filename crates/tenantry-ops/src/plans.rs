//! What plans give, and which tenants have more than that.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tenantry_catalog::{
    CatalogError, change,
    plan_excess::{self, Whose},
    plan_limit, plan_rule, usage_day,
};
use tenantry_core::{Change, Excess, OperatorScope, Plan, PlanLimits, TenantId};

use crate::{
    Authority, Forbidden, Ops, TenantSize,
    audit::{self, Act},
    runner::chain,
};

/// How often tenants are measured whose plan limits what they have.
const EVERY: Duration = Duration::from_secs(60);
/// Tenants that were used within this time are measured.
const USED_WITHIN: Duration = Duration::from_secs(180);
/// How many are measured at once.
const AT_ONCE: usize = 4;

/// Why a plan's limits were not shown or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanLimitError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// Nothing is said of such a plan.
    #[error("this plan has no limits")]
    NotFound,
    /// A burst without a rate.
    #[error("a burst says how many requests may come at once beside a rate: set requests_per_s too")]
    BurstWithoutRate,
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<tokio_postgres::Error> for PlanLimitError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl Ops {
    /// Every plan with limits.
    ///
    /// # Errors
    /// See [`PlanLimitError`].
    pub async fn list_plan_limits(&self, authority: &Authority) -> Result<Vec<(Plan, PlanLimits)>, PlanLimitError> {
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        Ok(plan_limit::list(&client).await?)
    }

    /// Whether anything is said of this plan: what it gives at most, or where its tenants go. The default plan always counts as said.
    ///
    /// A tenant may be of any plan; one of which nothing is said may be a misspelt one.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn knows_plan(&self, plan: &Plan) -> Result<bool, CatalogError> {
        if *plan == Plan::default() || self.fleet().plans.iter().any(|rule| rule.plan == *plan) {
            return Ok(true);
        }
        let client = self.catalog().client().await?;
        Ok(plan_rule::find(&client, plan).await?.is_some() || plan_limit::find(&client, plan).await?.is_some())
    }

    /// Sets or replaces a plan's limits. Every process keeps to them within a second.
    ///
    /// # Errors
    /// See [`PlanLimitError`].
    pub async fn set_plan_limits(
        &self,
        authority: &Authority,
        plan: &Plan,
        limits: &PlanLimits,
    ) -> Result<(), PlanLimitError> {
        authority.require_operator(OperatorScope::Tenants)?;
        if limits.burst.is_some() && limits.requests_per_s.is_none() {
            return Err(PlanLimitError::BurstWithoutRate);
        }
        self.change_plan(authority, plan, Some(limits)).await
    }

    /// Removes a plan's limits: its tenants have none.
    ///
    /// # Errors
    /// See [`PlanLimitError`].
    pub async fn remove_plan_limits(&self, authority: &Authority, plan: &Plan) -> Result<(), PlanLimitError> {
        authority.require_operator(OperatorScope::Tenants)?;
        self.change_plan(authority, plan, None).await
    }

    async fn change_plan(
        &self,
        authority: &Authority,
        plan: &Plan,
        limits: Option<&PlanLimits>,
    ) -> Result<(), PlanLimitError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let before = plan_limit::find(&transaction, plan).await?;
        match limits {
            Some(limits) => plan_limit::set(&transaction, plan, limits).await?,
            None if !plan_limit::remove(&transaction, plan).await? => return Err(PlanLimitError::NotFound),
            None => {}
        }
        // What is too much no more is known without measuring again.
        plan_excess::settle(&transaction, Whose::Plan(plan)).await?;
        change::announce(&transaction, Change::Plans).await?;
        let act = Act {
            action: "plan.limits",
            tenant: None,
            target: plan.to_string(),
            before: before.map(|limits| json!(limits)),
            after: limits.map(|limits| json!(limits)),
        };
        audit::record(&transaction, authority, act).await?;
        Ok(transaction.commit().await?)
    }

    /// Measures, each minute, the tenants whose plan limits what they have and who were used lately, until the future is dropped.
    /// Of any number of processes that do so one does it at a time.
    pub async fn keep_measuring(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            if let Err(error) = self.measure_limited().await {
                tracing::warn!(error = %chain(&error), "what tenants have can't be compared with what their plans give");
            }
        }
    }

    /// Measures them now, unless another process does; says how many tenants were measured.
    ///
    /// # Errors
    /// When the catalog fails. A tenant whose server can't be asked keeps what was known of it.
    pub async fn measure_limited(&self) -> Result<usize, CatalogError> {
        let mut client = self.catalog().client().await?;
        // Held as long as it takes, and given up when this is dropped.
        let turn = client.transaction().await?;
        if !usage_day::take_turn(&turn).await? {
            return Ok(0);
        }
        self.settle_excess().await?;
        let tenants = usage_day::list_to_measure(&turn, USED_WITHIN.as_secs_f64()).await?;
        let mut measuring = Vec::with_capacity(tenants.len());
        for tenant in tenants {
            measuring.push(self.compare(tenant));
        }
        let measured: Vec<_> = stream::iter(measuring).buffer_unordered(AT_ONCE).collect().await;
        turn.commit().await?;
        let measured = measured.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(measured.into_iter().filter(|measured| *measured).count())
    }

    /// What a change of plans left over: one that an older program made, or that was made while a tenant was being measured.
    async fn settle_excess(&self) -> Result<(), CatalogError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        if plan_excess::settle(&transaction, Whose::Everybody).await? > 0 {
            change::announce(&transaction, Change::Plans).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Compares what a tenant has with what its plan gives; `false` where its server can't be asked.
    async fn compare(&self, tenant: TenantId) -> Result<bool, CatalogError> {
        match self.measure_tenant(tenant).await {
            Ok(size) => self.note_size(tenant, &size).await.map(|()| true),
            Err(error) => {
                tracing::warn!(tenant.id = %tenant, %error, "a tenant can't be measured");
                Ok(false)
            }
        }
    }

    async fn note_size(&self, tenant: TenantId, size: &TenantSize) -> Result<(), CatalogError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        // As they are now: measuring took a while.
        let limits = plan_limit::of_tenant(&transaction, tenant).await?;
        let number = |figure: i64| u64::try_from(figure).unwrap_or(0);
        let mut rows = BTreeMap::new();
        for table in limits.rows.keys() {
            let found = size.tables.iter().find(|size| size.table == *table);
            // A table that is not there, or of which nothing is known yet, has no rows to speak of.
            rows.insert(table.clone(), number(found.and_then(|size| size.rows).unwrap_or(0)));
        }
        let storage = limits.storage_bytes.map(|quota| Excess {
            limit: Excess::STORAGE.to_owned(),
            quota: quota.get(),
            used: number(size.storage_bytes()),
        });
        let jobs = limits.jobs.map(|quota| Excess {
            limit: Excess::JOBS.to_owned(),
            quota: quota.get().into(),
            used: number(size.jobs),
        });
        let of_tables = limits.rows.iter().map(|(table, quota)| Excess {
            limit: format!("rows.{table}"),
            quota: *quota,
            used: rows.get(table).copied().unwrap_or(0),
        });
        // Who has as much as it may have can add nothing.
        let excess: Vec<_> = storage
            .into_iter()
            .chain(jobs)
            .chain(of_tables)
            .filter(|found| found.used >= found.quota)
            .collect();
        usage_day::set_size(&transaction, tenant, size.storage_bytes(), &rows).await?;
        if plan_excess::replace(&transaction, tenant, &excess).await? {
            tracing::info!(tenant.id = %tenant, ?excess, "what a tenant has more of than its plan gives has changed");
            change::announce(&transaction, Change::Tenant(tenant)).await?;
        }
        Ok(transaction.commit().await?)
    }
}
