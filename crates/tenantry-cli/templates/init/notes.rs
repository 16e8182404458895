//! Notes. Nothing here knows that there is more than one customer.

use axum::{Json, Router, http::StatusCode, routing::get};
use chrono::{DateTime, Utc};
use serde::Serialize;
use tenantry::{
    FromRow, Row, Scope,
    axum::{Body, Fields, FromFields, Path, Problem},
};
use uuid::Uuid;

/// A note.
#[derive(Serialize)]
struct Note {
    id: Uuid,
    title: String,
    body: String,
    created_at: DateTime<Utc>,
}

/// A note to be made.
struct NewNote {
    title: String,
    body: Option<String>,
}

impl FromRow for Note {
    fn from_row(row: &Row) -> Result<Self, tenantry::Error> {
        Ok(Self {
            id: row.get("id")?,
            title: row.get("title")?,
            body: row.get("body")?,
            created_at: row.get("created_at")?,
        })
    }
}

impl FromFields for NewNote {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let title = fields.required("title");
        let body = fields.optional("body");
        Some(Self { title: title?, body })
    }
}

/// The routes of notes.
pub(crate) fn router() -> Router {
    Router::new()
        .route("/notes", get(list_notes).post(create_note))
        .route("/notes/{id}", get(get_note).delete(delete_note))
}

async fn list_notes(scope: Scope) -> Result<Json<Vec<Note>>, Problem> {
    let notes = scope
        .query_as::<Note>(
            "select id, title, body, created_at from notes order by created_at desc, id desc limit 100",
            &[],
        )
        .await?;
    Ok(Json(notes))
}

async fn create_note(scope: Scope, Body(new): Body<NewNote>) -> Result<(StatusCode, Json<Note>), Problem> {
    let note = scope
        .query_one_as::<Note>(
            "insert into notes (id, title, body)
             values ($1, $2, coalesce($3, ''))
             returning id, title, body, created_at",
            &[&Uuid::now_v7(), &new.title, &new.body],
        )
        .await?;
    Ok((StatusCode::CREATED, Json(note)))
}

async fn get_note(scope: Scope, Path(id): Path<Uuid>) -> Result<Json<Note>, Problem> {
    let note = scope
        .query_opt_as::<Note>("select id, title, body, created_at from notes where id = $1", &[&id])
        .await?;
    note.map(Json).ok_or_else(Problem::not_found)
}

async fn delete_note(scope: Scope, Path(id): Path<Uuid>) -> Result<StatusCode, Problem> {
    match scope.execute("delete from notes where id = $1", &[&id]).await? {
        0 => Err(Problem::not_found()),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}
