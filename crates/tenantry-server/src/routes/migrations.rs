//! The application's migrations over the fleet: what they would do, how far they are, rolling out, and drift.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use tenantry::axum::{Body, Fields, FromFields, Problem, Query, decode_cursor, encode_cursor};
use tenantry_ops::{MigrationError, Operation, RolloutRequest, SiteStatus, VerifyRequest};
use utoipa::ToSchema;

use super::{
    durations::{self, TimedBody},
    operations::OperationBody,
};
use crate::{Services, caller::Caller, refusal};

/// A roll-out; what is left out is not wanted.
#[derive(ToSchema)]
#[schema(as = NewRollout)]
#[expect(dead_code, reason = "describes what `NewRolloutBody` reads")]
pub(crate) struct NewRolloutSchema {
    /// Only these tenants, by slug, which have a schema or a database of their own; everything where it is left out.
    tenants: Option<Vec<String>>,
    /// Only schemas whose last attempt failed.
    only_failed: Option<bool>,
    /// Tenants that go first, by slug.
    canaries: Option<Vec<String>>,
    /// A wave for each label, `name=value`: `plan`, `server`, or one of the `labels` in a tenant's settings.
    wave_of: Option<Vec<String>>,
    /// Up to how many percent of the tenants with a schema or database of their own each wave reaches, growing.
    waves: Option<Vec<u8>>,
    /// How many seconds to wait between waves.
    #[schema(maximum = 86400)]
    pause_seconds: Option<u32>,
    /// Stop when more fail: a number, or a share like `1%`.
    max_failures: Option<String>,
    /// Connections to one server; 2 where it is left out.
    #[schema(minimum = 1)]
    per_server: Option<u16>,
    /// Connections in all; 16 where it is left out.
    #[schema(minimum = 1)]
    connections: Option<u16>,
}

/// What is read of [`NewRolloutSchema`].
pub(crate) struct NewRolloutBody(RolloutRequest);

/// The lease of an operation does not outlive a day.
const PAUSE_SECONDS_MAX: u32 = 86_400;

impl FromFields for NewRolloutBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let request = RolloutRequest {
            tenants: fields.optional("tenants").unwrap_or_default(),
            only_failed: fields.optional("only_failed").unwrap_or_default(),
            canaries: fields.optional("canaries").unwrap_or_default(),
            wave_of: fields.optional("wave_of").unwrap_or_default(),
            waves: fields.optional("waves").unwrap_or_default(),
            pause_seconds: fields.optional("pause_seconds").unwrap_or_default(),
            max_failures: fields.text("max_failures"),
            per_server: fields.optional("per_server"),
            connections: fields.optional("connections"),
        };
        if request.pause_seconds > PAUSE_SECONDS_MAX {
            fields.invalid("pause_seconds", format!("at most {PAUSE_SECONDS_MAX} seconds"));
            return None;
        }
        Some(Self(request))
    }
}

/// Bring the fleet to the newest migration, as the operation that is answered: read it for how far it is.
#[utoipa::path(post, path = "/v1/migrations", tag = "migrations", request_body = NewRolloutSchema,
    responses((status = 202, body = OperationBody), (status = 409), (status = 422)))]
pub(crate) async fn start_rollout(
    State(services): State<Services>,
    Caller(authority): Caller,
    Body(NewRolloutBody(request)): Body<NewRolloutBody>,
) -> Result<(StatusCode, Json<OperationBody>), Problem> {
    started(services.ops.start_rollout(&authority, &request).await)
}

/// Try again where the last attempt failed; otherwise as the roll-out itself.
#[utoipa::path(post, path = "/v1/migrations/retry", tag = "migrations", request_body = NewRolloutSchema,
    responses((status = 202, body = OperationBody), (status = 409), (status = 422)))]
pub(crate) async fn retry_rollout(
    State(services): State<Services>,
    Caller(authority): Caller,
    Body(NewRolloutBody(mut request)): Body<NewRolloutBody>,
) -> Result<(StatusCode, Json<OperationBody>), Problem> {
    request.only_failed = true;
    started(services.ops.start_rollout(&authority, &request).await)
}

/// Run what is pending on copies without rows, as the operation that is answered: its progress tells the locks that each file
/// takes, what it writes anew, what it reads whole, what isolation makes of it and what the linter says. It fails where a file does.
#[utoipa::path(post, path = "/v1/migrations/plan", tag = "migrations", request_body = NewPlanSchema,
    responses((status = 202, body = OperationBody), (status = 409)))]
pub(crate) async fn plan_migrations(
    State(services): State<Services>,
    Caller(authority): Caller,
    Body(NewPlanBody): Body<NewPlanBody>,
) -> Result<(StatusCode, Json<OperationBody>), Problem> {
    started(services.ops.start_plan(&authority).await)
}

/// Compare every schema with what its migrations make, as the operation that is answered: its progress tells the differences
/// as SQL, and what became of each. It fails where something differs that was not repaired.
#[utoipa::path(post, path = "/v1/migrations/verify", tag = "migrations", request_body = NewVerifySchema,
    responses((status = 202, body = OperationBody), (status = 409), (status = 422)))]
pub(crate) async fn verify_migrations(
    State(services): State<Services>,
    Caller(authority): Caller,
    Body(NewVerifyBody(request)): Body<NewVerifyBody>,
) -> Result<(StatusCode, Json<OperationBody>), Problem> {
    started(services.ops.start_verify(&authority, &request).await)
}

fn started(operation: Result<Operation, MigrationError>) -> Result<(StatusCode, Json<OperationBody>), Problem> {
    let operation = operation.map_err(refusal::of_migration)?;
    Ok((StatusCode::ACCEPTED, Json(operation.into())))
}

/// How far every schema of the fleet is, by one query over the catalog; with `durations` also how long each migration took, for which the
/// databases of the page are asked.
#[utoipa::path(get, path = "/v1/migrations", tag = "migrations",
    params(("limit" = Option<usize>, Query, minimum = 1, maximum = 1000), ("cursor" = Option<String>, Query),
        ("state" = Option<String>, Query, description = "`behind`: those that lack a migration; `failed`: those whose last attempt failed"),
        ("durations" = Option<bool>, Query, description = "Whether to ask the databases how long each migration took")),
    responses((status = 200, body = FleetBody)))]
pub(crate) async fn get_migrations(
    State(services): State<Services>,
    Caller(authority): Caller,
    Query(query): Query<SiteQuery>,
) -> Result<Json<FleetBody>, Problem> {
    let after = query.cursor.as_deref().map(|cursor| decode_cursor(&(), LIST, cursor));
    let after: Option<SitePlace> = after.transpose()?;
    let mut sites = services
        .ops
        .migration_status(&authority)
        .await
        .map_err(refusal::of_migration)?;
    let minimum_version = services
        .ops
        .required_schema_version(&authority)
        .await
        .map_err(refusal::of_migration)?;
    let derived = services.ops.derive_migrations().await.map_err(refusal::of_migration)?;
    let newest = derived.iter().flat_map(|derived| derived.versions.last()).next();
    let (schemas, behind, failed) = (
        sites.len(),
        sites.iter().filter(|site| is_behind(site)).count(),
        sites.iter().filter(|site| site.error.is_some()).count(),
    );
    sites.retain(|site| match query.state {
        None => true,
        Some(Wanted::Behind) => is_behind(site),
        Some(Wanted::Failed) => site.error.is_some(),
    });
    sites.sort_by_cached_key(place);
    let begin = after.map_or(0, |after| sites.partition_point(|site| place(site) <= after));
    let mut items: Vec<_> = sites.into_iter().skip(begin).take(query.limit + 1).collect();
    let follows = items.len() > query.limit;
    items.truncate(query.limit);
    let last = items.last().filter(|_| follows);
    let next_cursor = last.map(|site| encode_cursor(&(), LIST, &place(site)));
    let ledgers = match query.durations {
        true => Some(services.ops.migration_durations_of(&authority, &items).await),
        false => None,
    };
    let ledgers = ledgers.transpose().map_err(refusal::of_migration)?;
    let mut items: Vec<_> = items.into_iter().map(SiteBody::from).collect();
    let unreachable = ledgers.map(|ledgers| durations::tell(&mut items, ledgers));
    Ok(Json(FleetBody {
        version: newest.map_or(0, |version| version.version),
        minimum_version,
        schemas,
        behind,
        failed,
        items,
        next_cursor,
        unreachable,
    }))
}

const LIST: &str = "migrations";

/// Where a schema stands in the list.
type SitePlace = (String, String, String);

fn place(site: &SiteStatus) -> SitePlace {
    (site.server.clone(), site.database.clone(), site.schema.clone())
}

fn is_behind(site: &SiteStatus) -> bool {
    !site.pending.is_empty()
}

/// How far the fleet is.
#[derive(Serialize, ToSchema)]
#[schema(as = Migrations)]
pub(crate) struct FleetBody {
    /// The newest migration.
    version: i64,
    /// Only tenants that have this one are served; 0 for all.
    minimum_version: i64,
    /// How many schemas with the application's tables there are; shared tables are one for each server.
    schemas: usize,
    /// How many lack a migration.
    behind: usize,
    /// At how many the last attempt failed.
    failed: usize,
    items: Vec<SiteBody>,
    /// To be sent as `cursor` with the same filters; null on the last page.
    next_cursor: Option<String>,
    /// With `durations`: the databases that did not answer, with the reason. Their schemas have no `migrations`.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreachable: Option<Vec<String>>,
}

/// A schema with the application's tables.
#[derive(Serialize, ToSchema)]
#[schema(as = MigratedSchema)]
pub(crate) struct SiteBody {
    /// The slug of the tenant it belongs to; null where its tables are shared.
    tenant: Option<String>,
    server: String,
    database: String,
    schema: String,
    /// The newest migration that it has; 0 for none.
    version: i64,
    /// The names of those that it lacks.
    pending: Vec<String>,
    /// Why it stayed behind.
    error: Option<String>,
    /// With `durations`: which migrations it has, its tenant's own behind the fleet's, and how long each took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) migrations: Option<Vec<TimedBody>>,
}

impl SiteBody {
    /// Server, database and schema.
    pub(super) fn key(&self) -> (String, String, String) {
        (self.server.clone(), self.database.clone(), self.schema.clone())
    }
}

impl From<SiteStatus> for SiteBody {
    fn from(site: SiteStatus) -> Self {
        Self {
            tenant: site.slug,
            server: site.server,
            database: site.database,
            schema: site.schema,
            version: site.version,
            pending: site.pending,
            error: site.error,
            migrations: None,
        }
    }
}

/// Which schemas are listed.
pub(crate) struct SiteQuery {
    limit: usize,
    cursor: Option<String>,
    state: Option<Wanted>,
    durations: bool,
}

enum Wanted {
    Behind,
    Failed,
}

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

impl FromFields for SiteQuery {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let limit = match fields.optional::<String>("limit").map(|text| text.parse()) {
            None => Some(LIMIT_DEFAULT),
            Some(Ok(limit)) if (1..=LIMIT_MAX).contains(&limit) => Some(limit),
            Some(_) => {
                fields.invalid("limit", format!("a whole number from 1 to {LIMIT_MAX}"));
                None
            }
        };
        let state = match fields.optional::<String>("state").as_deref() {
            None => None,
            Some("behind") => Some(Wanted::Behind),
            Some("failed") => Some(Wanted::Failed),
            Some(_) => {
                fields.invalid("state", "behind or failed");
                None
            }
        };
        let durations = match fields.optional::<String>("durations").as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                fields.invalid("durations", "true or false");
                false
            }
        };
        Some(Self {
            limit: limit?,
            cursor: fields.optional("cursor"),
            state,
            durations,
        })
    }
}

/// A plan; nothing is to be said about it.
#[derive(ToSchema)]
#[schema(as = NewPlan)]
pub(crate) struct NewPlanSchema {}

/// What is read of [`NewPlanSchema`].
pub(crate) struct NewPlanBody;

impl FromFields for NewPlanBody {
    fn from_fields(_: &mut Fields) -> Option<Self> {
        Some(Self)
    }
}

/// A comparison; what is left out is not wanted.
#[derive(ToSchema)]
#[schema(as = NewVerify)]
#[expect(dead_code, reason = "describes what `NewVerifyBody` reads")]
pub(crate) struct NewVerifySchema {
    /// Only these tenants, by slug, which have a schema or a database of their own; everything where it is left out.
    tenants: Option<Vec<String>>,
    /// Run what is safe: policies, rights, defaults, indexes, views, functions, comments.
    repair: Option<bool>,
}

/// What is read of [`NewVerifySchema`].
pub(crate) struct NewVerifyBody(VerifyRequest);

impl FromFields for NewVerifyBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self(VerifyRequest {
            tenants: fields.optional("tenants").unwrap_or_default(),
            repair: fields.optional("repair").unwrap_or_default(),
        }))
    }
}
