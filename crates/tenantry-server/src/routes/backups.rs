//! Backups of single tenants, and exports.

use std::io::{Read as _, Seek as _, SeekFrom};

use axum::{
    Json,
    body::Body as AnswerBody,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use futures_util::stream;
use serde::Serialize;
use tenantry::axum::{Body, Fields, FromFields, Path, Problem};
use tenantry_core::{Isolation, Slug};
use tenantry_ops::{Backup, BackupAt, ExportOptions, RestoreRequest};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{named::named, tenants::TenantBody, words};
use crate::{Services, caller::Caller, refusal};

/// How much of an archive is sent at a time.
const PIECE: usize = 256 * 1024;

/// A backup that is kept.
#[derive(Serialize, ToSchema)]
#[schema(as = Backup)]
pub(crate) struct BackupBody {
    id: Uuid,
    tenant: Uuid,
    /// The moment of which it is.
    taken_at: DateTime<Utc>,
    bytes: i64,
    rows: i64,
    /// SHA-256 of what its signature covers, in hex.
    digest: String,
    /// When a drill last restored it.
    drilled_at: Option<DateTime<Utc>>,
}

impl From<Backup> for BackupBody {
    fn from(backup: Backup) -> Self {
        Self {
            id: backup.id,
            tenant: *backup.tenant.as_uuid(),
            taken_at: backup.taken_at,
            bytes: backup.bytes,
            rows: backup.rows,
            digest: backup.digest,
            drilled_at: backup.drilled_at,
        }
    }
}

/// All backups that are kept of a tenant: as many as the retention keeps.
#[derive(Serialize, ToSchema)]
#[schema(as = Backups)]
pub(crate) struct BackupsBody {
    items: Vec<BackupBody>,
    /// Always null: they are on one page.
    next_cursor: Option<String>,
}

/// Nothing.
#[derive(ToSchema)]
#[schema(as = NewBackup)]
pub(crate) struct NewBackupSchema {}

/// What is read of [`NewBackupSchema`].
pub(crate) struct NewBackupBody;

impl FromFields for NewBackupBody {
    fn from_fields(_: &mut Fields) -> Option<Self> {
        Some(Self)
    }
}

/// The tenant that shall be made of a backup.
#[derive(ToSchema)]
#[schema(as = Restore)]
#[expect(dead_code, reason = "describes what `RestoreBody` reads")]
pub(crate) struct RestoreSchema {
    slug: String,
    /// `shared`, `schema` or `database`; as it was where it is left out.
    #[schema(schema_with = words::isolation)]
    isolation: Option<String>,
    /// A server's name.
    server: Option<String>,
}

/// What is read of [`RestoreSchema`].
pub(crate) struct RestoreBody {
    slug: Slug,
    isolation: Option<Isolation>,
    server: Option<String>,
}

impl FromFields for RestoreBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let slug = fields.required::<Slug>("slug");
        let isolation = fields.optional::<Isolation>("isolation");
        let server = fields.text("server");
        Some(Self {
            slug: slug?,
            isolation,
            server,
        })
    }
}

/// The backup whose rows a tenant shall have again.
#[derive(ToSchema)]
#[schema(as = RestoreInPlace)]
#[expect(dead_code, reason = "describes what `RestoreInPlaceBody` reads")]
pub(crate) struct RestoreInPlaceSchema {
    /// `latest`, a time as `2026-11-29T10:00:00Z` for the newest as of it or before, or a backup's id.
    at: String,
}

/// What is read of [`RestoreInPlaceSchema`].
pub(crate) struct RestoreInPlaceBody {
    at: BackupAt,
}

impl FromFields for RestoreInPlaceBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let at: String = fields.required("at")?;
        match at.parse::<BackupAt>() {
            Ok(at) => Some(Self { at }),
            Err(error) => {
                fields.invalid("at", error.to_string());
                None
            }
        }
    }
}

/// List the backups that are kept of a tenant, the newest first.
#[utoipa::path(get, path = "/v1/tenants/{id}/backups", tag = "backups",
    params(("id" = String, Path, description = "Id or slug")), responses((status = 200, body = BackupsBody)))]
pub(crate) async fn list_backups(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
) -> Result<Json<BackupsBody>, Problem> {
    let listed = services.ops.list_backups(&authority, Some(&named(&tenant)?)).await;
    let listed = listed.map_err(refusal::of_backup)?;
    Ok(Json(BackupsBody {
        items: listed.into_iter().map(Into::into).collect(),
        next_cursor: None,
    }))
}

/// Back a tenant up now. It answers when the backup is kept; one that takes longer than a request may is given up: the command line takes as
/// long as it takes.
#[utoipa::path(post, path = "/v1/tenants/{id}/backups", tag = "backups", request_body = NewBackupSchema,
    params(("id" = String, Path, description = "Id or slug")),
    responses((status = 201, body = BackupBody), (status = 409)))]
pub(crate) async fn create_backup(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
    Body(NewBackupBody): Body<NewBackupBody>,
) -> Result<(StatusCode, Json<BackupBody>), Problem> {
    let made = services.ops.create_backup(&authority, &named(&tenant)?).await;
    Ok((StatusCode::CREATED, Json(made.map_err(refusal::of_backup)?.into())))
}

/// Make a tenant of a backup, beside the one that it is of.
#[utoipa::path(post, path = "/v1/backups/{backup}/restore", tag = "backups", request_body = RestoreSchema,
    params(("backup" = String, Path, description = "The backup's id")),
    responses((status = 201, body = TenantBody), (status = 404), (status = 409), (status = 422)))]
pub(crate) async fn restore_backup(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(backup): Path<String>,
    Body(RestoreBody {
        slug,
        isolation,
        server,
    }): Body<RestoreBody>,
) -> Result<(StatusCode, Json<TenantBody>), Problem> {
    let backup: Uuid = backup.parse().map_err(|_| Problem::not_found())?;
    let mut request = RestoreRequest::new(backup, slug);
    request.isolation = isolation;
    request.server = server;
    let restored = services.ops.restore_backup(&authority, &request).await;
    Ok((StatusCode::CREATED, Json(restored.map_err(refusal::of_backup)?.into())))
}

/// Replace all rows of a tenant by those of one of its backups. It is suspended meanwhile; what it wrote since the backup is lost. It answers
/// when that is done, and is done also where the answer comes too late for whoever asked: it is the tenant's operation `restore`, which any
/// process finishes.
#[utoipa::path(post, path = "/v1/tenants/{id}/restore", tag = "backups", request_body = RestoreInPlaceSchema,
    params(("id" = String, Path, description = "Id or slug")),
    responses((status = 200, body = TenantBody), (status = 404), (status = 409), (status = 422)))]
pub(crate) async fn restore_tenant(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
    Body(RestoreInPlaceBody { at }): Body<RestoreInPlaceBody>,
) -> Result<Json<TenantBody>, Problem> {
    let restored = services
        .ops
        .restore_tenant_in_place(&authority, &named(&tenant)?, at)
        .await;
    Ok(Json(restored.map_err(refusal::of_backup)?.into()))
}

/// Write all rows of a tenant, as of one moment, into a signed archive, and answer with it. It is written whole before the first byte is
/// sent, so that what arrives with its length is an archive.
#[utoipa::path(post, path = "/v1/tenants/{id}/exports", tag = "backups", request_body = NewBackupSchema,
    params(("id" = String, Path, description = "Id or slug")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = 409)))]
pub(crate) async fn export_tenant(
    State(services): State<Services>,
    Caller(authority): Caller,
    Path(tenant): Path<String>,
    Body(NewBackupBody): Body<NewBackupBody>,
) -> Result<Response, Problem> {
    let file = tempfile::tempfile().map_err(|error| refusal::internal(&error))?;
    let exported = services
        .ops
        .export_tenant(
            &authority,
            &named(&tenant)?,
            file,
            ExportOptions::default(),
            &mut |_, _, _| {},
        )
        .await;
    let (mut file, exported) = exported.map_err(refusal::of_port)?;
    file.seek(SeekFrom::Start(0))
        .map_err(|error| refusal::internal(&error))?;
    let pieces = stream::try_unfold(file, |file| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = Vec::with_capacity(PIECE);
            (&file)
                .take(PIECE as u64)
                .read_to_end(&mut piece)
                .map(|_| (file, piece))
        });
        let (file, piece) = read.await.map_err(std::io::Error::other)??;
        Ok::<_, std::io::Error>((!piece.is_empty()).then_some((piece, file)))
    });
    let name = format!("attachment; filename=\"{}.tenantry\"", exported.manifest.tenant.slug);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, exported.bytes.to_string()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, AnswerBody::from_stream(pieces)).into_response())
}
