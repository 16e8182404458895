//! How large a tenant is.

use axum::{Json, extract::State};
use serde::Serialize;
use tenantry::axum::{Path, Problem};
use tenantry_ops::{TableSize, TenantSize};
use utoipa::ToSchema;

use super::named::tenant_id;
use crate::{Services, caller::Caller, refusal};

/// How large a tenant is, by its server's statistics: its tables are not read.
#[derive(Serialize, ToSchema)]
#[schema(as = Size)]
pub(crate) struct SizeBody {
    /// How its rows are kept apart.
    isolation: &'static str,
    /// Its rows in all tables, estimated.
    rows: i64,
    /// The bytes of its tables and indexes; with a database of its own, of all of that.
    bytes: i64,
    /// The bytes of its files, which stand outside of PostgreSQL; null where the server's administrator may not read their count.
    files_bytes: Option<i64>,
    /// Whether the bytes are estimated too: in shared tables they are the part that its rows make up.
    bytes_estimated: bool,
    /// Whether the server has statistics about every table; the sums leave out the others.
    complete: bool,
    /// Each table, the largest first.
    tables: Vec<TableSizeBody>,
}

/// How large a table of a tenant is.
#[derive(Serialize, ToSchema)]
#[schema(as = TableSize)]
pub(crate) struct TableSizeBody {
    table: String,
    rows: Option<i64>,
    bytes: Option<i64>,
}

impl From<TableSize> for TableSizeBody {
    fn from(size: TableSize) -> Self {
        Self {
            table: size.table,
            rows: size.rows,
            bytes: size.bytes,
        }
    }
}

impl From<TenantSize> for SizeBody {
    fn from(size: TenantSize) -> Self {
        Self {
            isolation: size.isolation.as_str(),
            rows: size.rows,
            bytes: size.bytes,
            files_bytes: size.files_bytes,
            bytes_estimated: size.bytes_estimated,
            complete: size.complete,
            tables: size.tables.into_iter().map(Into::into).collect(),
        }
    }
}

/// Tell how large a tenant is: rows and bytes, by its server's statistics.
#[utoipa::path(get, path = "/v1/tenants/{id}/size", tag = "tenants",
    params(("id" = String, Path, description = "Id or slug")), responses((status = 200, body = SizeBody)))]
pub(crate) async fn get_size(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
) -> Result<Json<SizeBody>, Problem> {
    let tenant = tenant_id(&services, &authority, &tenant).await?;
    let size = services.ops.tenant_size(&authority, tenant).await;
    Ok(Json(size.map_err(refusal::of_size)?.into()))
}
