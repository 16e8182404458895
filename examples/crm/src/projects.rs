//! Projects: what tasks belong to.

use axum::{Json, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tenantry::{
    Scope,
    axum::{Body, Fields, FromFields, Path, Problem, Query},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    constraint::refusal,
    list::{Field, List, ListParams, ListQuery, Listed, Page},
    text::{Line, Prose},
};

/// What tasks belong to.
#[derive(Serialize, ToSchema)]
pub(crate) struct Project {
    id: Uuid,
    name: String,
    description: Option<String>,
    #[schema(value_type = ProjectStatus)]
    status: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

tenantry::from_row!(Project {
    id,
    name,
    description,
    status,
    created_at,
    updated_at
});

/// Whether a project is still worked on.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProjectStatus {
    #[default]
    Active,
    Archived,
}

impl ProjectStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Archived => "archived",
        }
    }
}

/// A project to be made.
#[derive(ToSchema)]
pub(crate) struct NewProject {
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    #[schema(max_length = 20_000)]
    description: Option<String>,
    /// `active` where nothing is said.
    status: Option<ProjectStatus>,
}

/// What to change; a field that is left out stays as it is, null empties it.
#[derive(ToSchema)]
pub(crate) struct ProjectChange {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    #[schema(value_type = Option<String>, max_length = 20_000)]
    description: Option<Option<String>>,
    status: Option<ProjectStatus>,
}

impl FromFields for NewProject {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let name = fields.required::<Line<200>>("name");
        let description = fields.optional::<Prose<20_000>>("description").map(Into::into);
        let status = fields.optional("status");
        Some(Self {
            name: name?.into(),
            description,
            status,
        })
    }
}

impl FromFields for ProjectChange {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            name: fields.change_required::<Line<200>>("name").map(Into::into),
            description: fields
                .change::<Prose<20_000>>("description")
                .map(|text| text.map(Into::into)),
            status: fields.change_required("status"),
        })
    }
}

impl Listed for Project {
    const LIST: List = List {
        table: "projects",
        columns: "id, name, description, status, created_at, updated_at",
        fields: &[
            ("id", Field::Uuid),
            ("name", Field::Text),
            ("description", Field::Text),
            ("status", Field::OneOf(&["active", "archived"])),
            ("created_at", Field::Time),
            ("updated_at", Field::Time),
        ],
        searched: &["name", "description"],
        sorted: &["created_at", "updated_at", "name"],
    };
}

/// List projects, the newest first.
#[utoipa::path(get, path = "/projects", tag = "projects", params(ListParams),
    responses((status = 200, body = Page<Project>)))]
pub(crate) async fn list_projects(
    scope: Scope,
    Query(query): Query<ListQuery<Project>>,
) -> Result<Json<Page<Project>>, Problem> {
    query.page(&scope).await.map(Json)
}

/// Make a project.
#[utoipa::path(post, path = "/projects", tag = "projects", request_body = NewProject,
    responses((status = 201, body = Project)))]
pub(crate) async fn create_project(
    scope: Scope,
    Body(new): Body<NewProject>,
) -> Result<(StatusCode, Json<Project>), Problem> {
    let project = scope
        .query_one_as::<Project>(
            "insert into projects (id, name, description, status)
             values ($1, $2, $3, $4)
             returning id, name, description, status, created_at, updated_at",
            &[
                &Uuid::now_v7(),
                &new.name,
                &new.description,
                &new.status.unwrap_or_default().as_str(),
            ],
        )
        .await
        .map_err(refusal)?;
    Ok((StatusCode::CREATED, Json(project)))
}

/// Read a project.
#[utoipa::path(get, path = "/projects/{id}", tag = "projects", params(("id" = Uuid, Path)),
    responses((status = 200, body = Project)))]
pub(crate) async fn get_project(scope: Scope, Path(id): Path<Uuid>) -> Result<Json<Project>, Problem> {
    let project = scope
        .query_opt_as::<Project>(
            "select id, name, description, status, created_at, updated_at
             from projects
             where id = $1",
            &[&id],
        )
        .await?;
    project.map(Json).ok_or_else(Problem::not_found)
}

/// Change a project.
#[utoipa::path(patch, path = "/projects/{id}", tag = "projects", params(("id" = Uuid, Path)),
    request_body = ProjectChange, responses((status = 200, body = Project)))]
pub(crate) async fn update_project(
    scope: Scope,
    Path(id): Path<Uuid>,
    Body(change): Body<ProjectChange>,
) -> Result<Json<Project>, Problem> {
    let project = scope
        .query_opt_as::<Project>(
            "update projects
             set name = coalesce($2, name),
                 description = case when $3 then $4 else description end,
                 status = coalesce($5, status),
                 updated_at = now()
             where id = $1
             returning id, name, description, status, created_at, updated_at",
            &[
                &id,
                &change.name,
                &change.description.is_some(),
                &change.description.flatten(),
                &change.status.map(ProjectStatus::as_str),
            ],
        )
        .await
        .map_err(refusal)?;
    project.map(Json).ok_or_else(Problem::not_found)
}

/// Delete a project and its tasks.
#[utoipa::path(delete, path = "/projects/{id}", tag = "projects", params(("id" = Uuid, Path)),
    responses((status = 204)))]
pub(crate) async fn delete_project(scope: Scope, Path(id): Path<Uuid>) -> Result<StatusCode, Problem> {
    let deleted = scope
        .execute("delete from projects where id = $1", &[&id])
        .await
        .map_err(refusal)?;
    if deleted == 1 {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found())
    }
}
