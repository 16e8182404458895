//! Which isolation, server and region a plan gives where a request names none.

use tenantry_core::{Isolation, Plan};
use tokio_postgres::Row;

use crate::{CatalogError, Db, text::parsed};

/// What a plan gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlanRule {
    /// The plan.
    pub plan: Plan,
    /// How rows of its tenants are kept apart.
    pub isolation: Isolation,
    /// On the server of this name.
    pub server: Option<String>,
    /// In this region.
    pub region: Option<String>,
}

impl PlanRule {
    fn from_row(row: &Row) -> Result<Self, CatalogError> {
        Ok(Self {
            plan: parsed(row, 0, "plan_rule.plan")?,
            isolation: parsed(row, 1, "plan_rule.isolation")?,
            server: row.get(2),
            region: row.get(3),
        })
    }
}

/// The plan's rule, if it has one.
///
/// # Errors
/// When the catalog fails.
pub async fn find(db: &impl Db, plan: &Plan) -> Result<Option<PlanRule>, CatalogError> {
    let row = db
        .query_opt(
            "select plan, isolation, server, region from plan_rule where plan = $1",
            &[&plan.as_str()],
        )
        .await?;
    row.as_ref().map(PlanRule::from_row).transpose()
}

/// Every rule, by plan.
///
/// # Errors
/// When the catalog fails.
pub async fn list(db: &impl Db) -> Result<Vec<PlanRule>, CatalogError> {
    let rows = db
        .query(
            "select plan, isolation, server, region from plan_rule order by plan",
            &[],
        )
        .await?;
    rows.iter().map(PlanRule::from_row).collect()
}

/// Sets or replaces a plan's rule.
///
/// # Errors
/// When the catalog fails.
pub async fn set(db: &impl Db, rule: &PlanRule) -> Result<(), CatalogError> {
    db.execute(
        "insert into plan_rule (plan, isolation, server, region) values ($1, $2, $3, $4)
         on conflict (plan) do update
         set isolation = excluded.isolation, server = excluded.server, region = excluded.region",
        &[
            &rule.plan.as_str(),
            &rule.isolation.as_str(),
            &rule.server,
            &rule.region,
        ],
    )
    .await?;
    Ok(())
}
