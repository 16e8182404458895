//! What a tenant uses, and what it may use.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use chrono::NaiveDate;
use serde::Serialize;
use tenantry::axum::{Fields, FromFields, Path, Problem, Query};
use tenantry_core::{Measure, PlanLimits};
use tenantry_ops::{TenantUsage, Usage};
use utoipa::ToSchema;

use super::named::tenant_id;
use crate::{Services, caller::Caller, refusal};

/// How many days are shown where nothing is said.
const DAYS: i64 = 30;
/// As long as they are kept.
const DAYS_MAX: i64 = 400;

/// What a tenant uses, and what it may use.
#[derive(Serialize, ToSchema)]
#[schema(as = Usage)]
pub(crate) struct UsageBody {
    plan: String,
    limits: LimitsBody,
    /// What it has as much of as its plan gives, or more: it can't add anything.
    exceeded: Vec<ExceededBody>,
    members: i64,
    /// What it has at the moment, whether its plan limits that or not.
    measures: Vec<MeasureBody>,
    /// The last days with any use, the newest first; in UTC.
    days: Vec<DayBody>,
}

/// What a plan gives at most; what is null is not limited.
#[derive(Serialize, ToSchema)]
#[schema(as = Limits)]
pub(crate) struct LimitsBody {
    requests_per_s: Option<u32>,
    burst: Option<u32>,
    concurrent: Option<u32>,
    statement_ms: Option<u32>,
    members: Option<u32>,
    jobs: Option<u32>,
    storage_bytes: Option<u64>,
    /// Rows by table.
    rows: BTreeMap<String, u64>,
}

/// A limit that is reached.
#[derive(Serialize, ToSchema)]
#[schema(as = Exceeded)]
pub(crate) struct ExceededBody {
    /// `storage_bytes`, `jobs`, or `rows.` and the table.
    limit: String,
    quota: u64,
    used: u64,
}

/// How much of something a tenant has.
#[derive(Serialize, ToSchema)]
#[schema(as = Measure)]
pub(crate) struct MeasureBody {
    /// `members`, `jobs`, `storage_bytes`, `files_bytes` (which are part of those), or `rows.` and the table.
    name: String,
    /// Null where the tenant's server does not say.
    used: Option<u64>,
    /// Null where the plan limits nothing.
    limit: Option<u64>,
}

/// What was used on a day.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageOfDay)]
pub(crate) struct DayBody {
    day: NaiveDate,
    requests: i64,
    /// Refused because the tenant had used up what it has.
    limited: i64,
    /// Failed through no fault of the tenant's.
    failed: i64,
    /// How long the requests took, all together.
    busy_ms: i64,
    /// As last measured on that day, those of files included; null where the plan limits nothing that has to be measured.
    bytes: Option<i64>,
    /// By table, of the tables that the plan limits.
    rows: Option<BTreeMap<String, u64>>,
}

impl From<PlanLimits> for LimitsBody {
    fn from(limits: PlanLimits) -> Self {
        let limits = limits.in_effect();
        let number = |limit: Option<std::num::NonZeroU32>| limit.map(std::num::NonZeroU32::get);
        Self {
            requests_per_s: number(limits.requests_per_s),
            burst: number(limits.burst),
            concurrent: number(limits.concurrent),
            statement_ms: number(limits.statement_ms),
            members: number(limits.members),
            jobs: number(limits.jobs),
            storage_bytes: limits.storage_bytes.map(std::num::NonZeroU64::get),
            rows: limits.rows,
        }
    }
}

impl From<Usage> for DayBody {
    fn from(usage: Usage) -> Self {
        Self {
            day: usage.day,
            requests: usage.requests,
            limited: usage.limited,
            failed: usage.failed,
            busy_ms: usage.busy_ms,
            bytes: usage.bytes,
            rows: usage.rows,
        }
    }
}

impl From<Measure> for MeasureBody {
    fn from(measure: Measure) -> Self {
        Self {
            name: measure.name,
            used: measure.used,
            limit: measure.limit,
        }
    }
}

impl From<TenantUsage> for UsageBody {
    fn from(usage: TenantUsage) -> Self {
        let exceeded = usage.excess.into_iter().map(|excess| ExceededBody {
            limit: excess.limit,
            quota: excess.quota,
            used: excess.used,
        });
        Self {
            plan: usage.plan.to_string(),
            limits: usage.limits.into(),
            exceeded: exceeded.collect(),
            members: usage.members,
            measures: usage.measures.into_iter().map(Into::into).collect(),
            days: usage.days.into_iter().map(Into::into).collect(),
        }
    }
}

/// How many days to show.
pub(crate) struct UsageQuery {
    days: i64,
}

impl FromFields for UsageQuery {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let days = match fields.optional::<String>("days").map(|text| text.parse()) {
            None => Some(DAYS),
            Some(Ok(days)) if (1..=DAYS_MAX).contains(&days) => Some(days),
            Some(_) => {
                fields.invalid("days", format!("a whole number from 1 to {DAYS_MAX}"));
                None
            }
        };
        Some(Self { days: days? })
    }
}

/// Tell what a tenant has and uses by the day, and what its plan gives.
#[utoipa::path(get, path = "/v1/tenants/{id}/usage", tag = "tenants",
    params(("id" = String, Path, description = "Id or slug"),
        ("days" = Option<i64>, Query, description = "How many days, 1 to 400; 30 where it is left out.")),
    responses((status = 200, body = UsageBody)))]
pub(crate) async fn get_usage(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
    Query(query): Query<UsageQuery>,
) -> Result<Json<UsageBody>, Problem> {
    let tenant = tenant_id(&services, &authority, &tenant).await?;
    let usage = services.ops.tenant_usage(&authority, tenant, query.days).await;
    Ok(Json(usage.map_err(refusal::of_member)?.into()))
}
