//! Tasks: what is to be done in a project, by whom and until when.

use axum::{Json, http::StatusCode};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use tenantry::{
    AccountId, Scope,
    axum::{Body, Code, Fields, FromFields, Path, Problem, Query},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    constraint::refusal,
    list::{Field, List, ListParams, ListQuery, Listed, Page},
    text::{Day, Line, Prose},
};

/// What is to be done.
#[derive(Serialize, ToSchema)]
pub(crate) struct Task {
    id: Uuid,
    project_id: Uuid,
    title: String,
    description: Option<String>,
    #[schema(value_type = TaskStatus)]
    status: String,
    due_on: Option<NaiveDate>,
    assignee_id: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

tenantry::from_row!(Task {
    id,
    project_id,
    title,
    description,
    status,
    due_on,
    assignee_id,
    created_at,
    updated_at
});

/// How far a task has come.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TaskStatus {
    #[default]
    Todo,
    Doing,
    Done,
}

impl TaskStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Todo => "todo",
            Self::Doing => "doing",
            Self::Done => "done",
        }
    }
}

/// A task to be made.
#[derive(ToSchema)]
pub(crate) struct NewTask {
    /// One of your projects.
    project_id: Uuid,
    #[schema(min_length = 1, max_length = 200)]
    title: String,
    #[schema(max_length = 20_000)]
    description: Option<String>,
    /// `todo` where nothing is said.
    status: Option<TaskStatus>,
    due_on: Option<NaiveDate>,
    /// The account of a member.
    assignee_id: Option<Uuid>,
}

/// What to change; a field that is left out stays as it is, null empties it.
#[derive(ToSchema)]
pub(crate) struct TaskChange {
    project_id: Option<Uuid>,
    #[schema(min_length = 1, max_length = 200)]
    title: Option<String>,
    #[schema(value_type = Option<String>, max_length = 20_000)]
    description: Option<Option<String>>,
    status: Option<TaskStatus>,
    #[schema(value_type = Option<NaiveDate>)]
    due_on: Option<Option<NaiveDate>>,
    #[schema(value_type = Option<Uuid>)]
    assignee_id: Option<Option<Uuid>>,
}

impl FromFields for NewTask {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let project_id = fields.required("project_id");
        let title = fields.required::<Line<200>>("title");
        let description = fields.optional::<Prose<20_000>>("description").map(Into::into);
        let status = fields.optional("status");
        let due_on = fields.optional::<Day>("due_on").map(|day| day.0);
        let assignee_id = fields.optional("assignee_id");
        Some(Self {
            project_id: project_id?,
            title: title?.into(),
            description,
            status,
            due_on,
            assignee_id,
        })
    }
}

impl FromFields for TaskChange {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            project_id: fields.change_required("project_id"),
            title: fields.change_required::<Line<200>>("title").map(Into::into),
            description: fields
                .change::<Prose<20_000>>("description")
                .map(|text| text.map(Into::into)),
            status: fields.change_required("status"),
            due_on: fields.change::<Day>("due_on").map(|day| day.map(|day| day.0)),
            assignee_id: fields.change("assignee_id"),
        })
    }
}

impl Listed for Task {
    const LIST: List = List {
        table: "tasks",
        columns: "id, project_id, title, description, status, due_on, assignee_id, created_at, updated_at",
        fields: &[
            ("id", Field::Uuid),
            ("project_id", Field::Uuid),
            ("title", Field::Text),
            ("description", Field::Text),
            ("status", Field::OneOf(&["todo", "doing", "done"])),
            ("due_on", Field::Date),
            ("assignee_id", Field::Uuid),
            ("created_at", Field::Time),
            ("updated_at", Field::Time),
        ],
        searched: &["title", "description"],
        sorted: &["created_at", "updated_at", "title"],
    };
}

/// List tasks, the newest first.
#[utoipa::path(get, path = "/tasks", tag = "tasks", params(ListParams),
    responses((status = 200, body = Page<Task>)))]
pub(crate) async fn list_tasks(
    scope: Scope,
    Query(query): Query<ListQuery<Task>>,
) -> Result<Json<Page<Task>>, Problem> {
    query.page(&scope).await.map(Json)
}

/// Make a task.
#[utoipa::path(post, path = "/tasks", tag = "tasks", request_body = NewTask,
    responses((status = 201, body = Task)))]
pub(crate) async fn create_task(scope: Scope, Body(new): Body<NewTask>) -> Result<(StatusCode, Json<Task>), Problem> {
    check_assignee(&scope, new.assignee_id).await?;
    let task = scope
        .query_one_as::<Task>(
            "insert into tasks (id, project_id, title, description, status, due_on, assignee_id)
             values ($1, $2, $3, $4, $5, $6, $7)
             returning id, project_id, title, description, status, due_on, assignee_id, created_at, updated_at",
            &[
                &Uuid::now_v7(),
                &new.project_id,
                &new.title,
                &new.description,
                &new.status.unwrap_or_default().as_str(),
                &new.due_on,
                &new.assignee_id,
            ],
        )
        .await
        .map_err(refusal)?;
    Ok((StatusCode::CREATED, Json(task)))
}

/// Read a task.
#[utoipa::path(get, path = "/tasks/{id}", tag = "tasks", params(("id" = Uuid, Path)),
    responses((status = 200, body = Task)))]
pub(crate) async fn get_task(scope: Scope, Path(id): Path<Uuid>) -> Result<Json<Task>, Problem> {
    let task = scope
        .query_opt_as::<Task>(
            "select id, project_id, title, description, status, due_on, assignee_id, created_at, updated_at
             from tasks
             where id = $1",
            &[&id],
        )
        .await?;
    task.map(Json).ok_or_else(Problem::not_found)
}

/// Change a task.
#[utoipa::path(patch, path = "/tasks/{id}", tag = "tasks", params(("id" = Uuid, Path)),
    request_body = TaskChange, responses((status = 200, body = Task)))]
pub(crate) async fn update_task(
    scope: Scope,
    Path(id): Path<Uuid>,
    Body(change): Body<TaskChange>,
) -> Result<Json<Task>, Problem> {
    check_assignee(&scope, change.assignee_id.flatten()).await?;
    let task = scope
        .query_opt_as::<Task>(
            "update tasks
             set project_id = coalesce($2, project_id),
                 title = coalesce($3, title),
                 description = case when $4 then $5 else description end,
                 status = coalesce($6, status),
                 due_on = case when $7 then $8 else due_on end,
                 assignee_id = case when $9 then $10 else assignee_id end,
                 updated_at = now()
             where id = $1
             returning id, project_id, title, description, status, due_on, assignee_id, created_at, updated_at",
            &[
                &id,
                &change.project_id,
                &change.title,
                &change.description.is_some(),
                &change.description.flatten(),
                &change.status.map(TaskStatus::as_str),
                &change.due_on.is_some(),
                &change.due_on.flatten(),
                &change.assignee_id.is_some(),
                &change.assignee_id.flatten(),
            ],
        )
        .await
        .map_err(refusal)?;
    task.map(Json).ok_or_else(Problem::not_found)
}

/// Delete a task.
#[utoipa::path(delete, path = "/tasks/{id}", tag = "tasks", params(("id" = Uuid, Path)),
    responses((status = 204)))]
pub(crate) async fn delete_task(scope: Scope, Path(id): Path<Uuid>) -> Result<StatusCode, Problem> {
    let deleted = scope
        .execute("delete from tasks where id = $1", &[&id])
        .await
        .map_err(refusal)?;
    if deleted == 1 {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found())
    }
}

/// Accounts live outside the application's database, so no foreign key can check them.
async fn check_assignee(scope: &Scope, assignee: Option<Uuid>) -> Result<(), Problem> {
    let Some(assignee) = assignee else { return Ok(()) };
    if scope.is_member(AccountId::from_uuid(assignee)).await? {
        return Ok(());
    }
    Err(Problem::field(
        Code::InvalidReference,
        "assignee_id",
        "no member has this account",
    ))
}
