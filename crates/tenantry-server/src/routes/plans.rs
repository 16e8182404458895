//! Plans: what each gives its tenants at most.

use std::{collections::BTreeMap, num::NonZeroU32};

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use serde_json::Value;
use tenantry::axum::{Body, Code, Fields, FromFields, Path, Problem};
use tenantry_core::{Plan, PlanLimits};
use utoipa::ToSchema;

use super::usage::LimitsBody;
use crate::{Services, caller::Caller, refusal};

/// PostgreSQL has no longer names.
const TABLE_BYTES_MAX: usize = 63;

/// A plan, and what it gives at most.
#[derive(Serialize, ToSchema)]
#[schema(as = Plan)]
pub(crate) struct PlanBody {
    plan: String,
    limits: LimitsBody,
}

impl PlanBody {
    fn new(plan: &Plan, limits: PlanLimits) -> Self {
        Self {
            plan: plan.to_string(),
            limits: limits.into(),
        }
    }
}

/// The plans of which anything is said.
#[derive(Serialize, ToSchema)]
#[schema(as = Plans)]
pub(crate) struct PlansBody {
    items: Vec<PlanBody>,
}

/// All of a plan's limits; what is left out is not limited.
#[derive(ToSchema)]
#[schema(as = NewLimits)]
#[expect(dead_code, reason = "describes what `NewLimitsBody` reads")]
pub(crate) struct NewLimitsSchema {
    /// In the long run, over all processes.
    #[schema(minimum = 1)]
    requests_per_s: Option<u32>,
    /// Requests at once after a pause; as many as in a second where it is left out.
    #[schema(minimum = 1)]
    burst: Option<u32>,
    /// Statements and transactions at a time, over all processes.
    #[schema(minimum = 1)]
    concurrent: Option<u32>,
    #[schema(minimum = 1)]
    statement_ms: Option<u32>,
    /// Those who are invited included.
    #[schema(minimum = 1)]
    members: Option<u32>,
    /// Waiting, running, for later and dead.
    #[schema(minimum = 1)]
    jobs: Option<u32>,
    /// Of tables, indexes and files.
    #[schema(minimum = 1)]
    storage_bytes: Option<u64>,
    /// Rows by table.
    rows: Option<BTreeMap<String, u64>>,
}

/// What is read of [`NewLimitsSchema`].
pub(crate) struct NewLimitsBody(PlanLimits);

impl FromFields for NewLimitsBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let mut number = |name| fields.optional::<NonZeroU32>(name);
        let limits = PlanLimits {
            requests_per_s: number("requests_per_s"),
            burst: number("burst"),
            concurrent: number("concurrent"),
            statement_ms: number("statement_ms"),
            members: number("members"),
            jobs: number("jobs"),
            storage_bytes: fields.optional("storage_bytes"),
            rows: fields.object::<Rows>("rows").map(|rows| rows.0).unwrap_or_default(),
        };
        Some(Self(limits))
    }
}

/// Tables, and how many rows each may have.
struct Rows(BTreeMap<String, u64>);

impl FromFields for Rows {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let mut rows = BTreeMap::new();
        for (table, number) in fields.take_rest() {
            let is_name = (1..=TABLE_BYTES_MAX).contains(&table.len()) && !table.contains('\0');
            match number {
                _ if !is_name => fields.invalid(&table, format!("a table's name of 1 to {TABLE_BYTES_MAX} bytes")),
                Value::Number(number) if number.is_u64() => {
                    rows.extend(number.as_u64().map(|number| (table, number)));
                }
                _ => fields.invalid(&table, "a whole number, 0 or more"),
            }
        }
        Some(Self(rows))
    }
}

/// What no plan is called names nothing.
fn plan(text: &str) -> Result<Plan, Problem> {
    text.parse().map_err(|_| Problem::not_found())
}

/// Every plan with limits, by name.
#[utoipa::path(get, path = "/v1/plans", tag = "plans", responses((status = 200, body = PlansBody)))]
pub(crate) async fn list_plans(
    State(services): State<Services>,
    Caller(authority): Caller,
) -> Result<Json<PlansBody>, Problem> {
    let plans = services.ops.list_plan_limits(&authority).await;
    let plans = plans.map_err(refusal::of_plan)?;
    Ok(Json(PlansBody {
        items: plans
            .into_iter()
            .map(|(plan, limits)| PlanBody::new(&plan, limits))
            .collect(),
    }))
}

/// Set what a plan gives at most; what is left out is not limited any more. Every process keeps to it within a second.
#[utoipa::path(put, path = "/v1/plans/{plan}", tag = "plans", request_body = NewLimitsSchema,
    params(("plan" = String, Path, description = "The plan's name; one that there was not is made")),
    responses((status = 200, body = PlanBody), (status = 422)))]
pub(crate) async fn set_plan(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(name): Path<String>,
    Body(NewLimitsBody(limits)): Body<NewLimitsBody>,
) -> Result<Json<PlanBody>, Problem> {
    let plan: Plan = name
        .parse()
        .map_err(|error| Problem::field(Code::InvalidField, "plan", format!("{error}")))?;
    let set = services.ops.set_plan_limits(&authority, &plan, &limits).await;
    set.map_err(refusal::of_plan)?;
    Ok(Json(PlanBody::new(&plan, limits)))
}

/// Remove a plan's limits: its tenants have none.
#[utoipa::path(delete, path = "/v1/plans/{plan}", tag = "plans", params(("plan" = String, Path)),
    responses((status = 204), (status = 404)))]
pub(crate) async fn remove_plan(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let removed = services.ops.remove_plan_limits(&authority, &plan(&name)?).await;
    removed.map_err(refusal::of_plan)?;
    Ok(StatusCode::NO_CONTENT)
}
