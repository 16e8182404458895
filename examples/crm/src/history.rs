//! History: who changed a task, when, and what stood there.

use axum::Json;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use tenantry::{
    Role, Scope,
    axum::{Code, Fields, FromFields, Path, Problem, Query},
    history::{Entry, EntryFilter, EntryId},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::list::read_limit;

/// A change of a task.
#[derive(Serialize, ToSchema)]
pub(crate) struct TaskEntry {
    id: Uuid,
    at: DateTime<Utc>,
    /// `insert`, `update` or `delete`.
    act: &'static str,
    /// Who did it; null where no person did.
    account_id: Option<Uuid>,
    /// What was there: of a change, the fields that changed.
    old: Option<Value>,
    /// What is there since.
    new: Option<Value>,
}

impl From<Entry> for TaskEntry {
    fn from(entry: Entry) -> Self {
        Self {
            id: *entry.id.as_uuid(),
            at: entry.at,
            act: entry.act.as_str(),
            account_id: entry.account.map(|account| *account.as_uuid()),
            old: entry.old.and_then(object),
            new: entry.new.and_then(object),
        }
    }
}

/// What the database wrote is an object.
fn object(text: String) -> Option<Value> {
    serde_json::from_str(&text).ok()
}

/// Changes, the latest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct TaskHistory {
    items: Vec<TaskEntry>,
    /// To be sent as `cursor`; null on the last page.
    next_cursor: Option<Uuid>,
}

/// Which page.
pub(crate) struct HistoryPage {
    limit: u32,
    before: Option<EntryId>,
}

impl FromFields for HistoryPage {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let limit = read_limit(fields);
        let before = fields.optional::<Uuid>("cursor").map(EntryId::from_uuid);
        Some(Self {
            limit: u32::try_from(limit?).ok()?,
            before,
        })
    }
}

/// Read who changed a task, the latest first; also of one that is deleted. For owners and admins.
#[utoipa::path(get, path = "/tasks/{id}/history", tag = "tasks",
    params(
        ("id" = Uuid, Path),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 200, description = "1 to 200 entries, 50 by default."),
        ("cursor" = Option<Uuid>, Query, description = "The `next_cursor` of the page before.")),
    responses((status = 200, body = TaskHistory)))]
pub(crate) async fn task_history(
    scope: Scope,
    Path(id): Path<Uuid>,
    Query(page): Query<HistoryPage>,
) -> Result<Json<TaskHistory>, Problem> {
    // PostgreSQL refuses it too, with an error that does not say so as kindly.
    if scope.context().role < Role::Admin {
        return Err(Problem::new(
            Code::Forbidden,
            "Only owners and admins read the history.",
        ));
    }
    let key = json!({ "id": id });
    let filter = EntryFilter {
        table: Some("tasks"),
        key: Some(&key),
        before: page.before,
        ..EntryFilter::default()
    };
    let mut entries = scope.history(filter, page.limit + 1).await?;
    if entries.is_empty() && page.before.is_none() {
        return Err(Problem::not_found());
    }
    let more = entries.len() > page.limit as usize;
    entries.truncate(page.limit as usize);
    let last = entries.last().map(|entry| *entry.id.as_uuid());
    Ok(Json(TaskHistory {
        items: entries.into_iter().map(TaskEntry::from).collect(),
        next_cursor: last.filter(|_| more),
    }))
}
