//! The catalog's copy of the ledgers, made equal to them.

use axum::{Json, extract::State};
use serde::Serialize;
use tenantry::axum::{Body, Fields, FromFields, Problem};
use tenantry_ops::{Correction, Reconciled};
use utoipa::ToSchema;

use crate::{Services, caller::Caller, refusal};

/// What became of the catalog's copy.
#[derive(Serialize, ToSchema)]
#[schema(as = Reconciliation)]
pub(crate) struct ReconciliationBody {
    /// How many tenant databases there are.
    databases: usize,
    /// How many migrations the catalog was wrong about.
    corrected: u64,
    /// Those about which it was wrong, and those that did not answer.
    items: Vec<ReconciledBody>,
}

/// A tenant database about which the catalog was wrong, or which did not answer.
#[derive(Serialize, ToSchema)]
#[schema(as = ReconciledDatabase)]
pub(crate) struct ReconciledBody {
    server: String,
    database: String,
    /// How many migrations the catalog was wrong about.
    corrected: u64,
    /// Which these were; a hundred at most.
    corrections: Vec<CorrectionBody>,
    /// Why it could not be asked.
    error: Option<String>,
}

/// A migration about which the catalog was wrong.
#[derive(Serialize, ToSchema)]
#[schema(as = Correction)]
pub(crate) struct CorrectionBody {
    /// With `/overlay` behind it where it is one of a tenant's own files.
    schema: String,
    version: i64,
    name: String,
    /// `missing` in the catalog, `extra` there, or `changed`: another name or text.
    mistake: &'static str,
}

impl From<Correction> for CorrectionBody {
    fn from(correction: Correction) -> Self {
        Self {
            schema: correction.schema,
            version: correction.version,
            name: correction.name,
            mistake: correction.mistake.as_str(),
        }
    }
}

impl From<Reconciled> for ReconciledBody {
    fn from(reconciled: Reconciled) -> Self {
        Self {
            server: reconciled.server,
            database: reconciled.database,
            corrected: reconciled.corrected,
            corrections: reconciled.corrections.into_iter().map(Into::into).collect(),
            error: reconciled.error,
        }
    }
}

impl From<Vec<Reconciled>> for ReconciliationBody {
    fn from(reconciled: Vec<Reconciled>) -> Self {
        Self {
            databases: reconciled.len(),
            corrected: reconciled.iter().map(|database| database.corrected).sum(),
            items: reconciled
                .into_iter()
                .filter(Reconciled::is_news)
                .map(Into::into)
                .collect(),
        }
    }
}

/// Nothing is to be said about it.
#[derive(ToSchema)]
#[schema(as = NewReconciliation)]
pub(crate) struct NewReconciliationSchema {}

/// What is read of [`NewReconciliationSchema`].
pub(crate) struct NewReconciliationBody;

impl FromFields for NewReconciliationBody {
    fn from_fields(_: &mut Fields) -> Option<Self> {
        Some(Self)
    }
}

/// Ask every tenant database which migrations its schemas have, and correct what the catalog believes of them: after a restore, or work by hand.
/// That one does not answer is no error but a part of the answer.
#[utoipa::path(post, path = "/v1/migrations/reconcile", tag = "migrations", request_body = NewReconciliationSchema,
    responses((status = 200, body = ReconciliationBody)))]
pub(crate) async fn reconcile_migrations(
    State(services): State<Services>,
    Caller(authority): Caller,
    Body(NewReconciliationBody): Body<NewReconciliationBody>,
) -> Result<Json<ReconciliationBody>, Problem> {
    let reconciled = services.ops.reconcile_migrations(&authority).await;
    Ok(Json(reconciled.map_err(refusal::of_migration)?.into()))
}
