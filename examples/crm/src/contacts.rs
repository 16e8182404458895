//! Contacts: people at other companies.

use axum::{Json, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::Serialize;
use tenantry::{
    Scope,
    axum::{Body, Fields, FromFields, Path, Problem, Query},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    constraint::refusal,
    list::{Field, List, ListQuery, Listed, Page},
    text::{Email, Line, Prose},
};

/// A person at another company.
#[derive(Serialize, ToSchema)]
pub(crate) struct Contact {
    id: Uuid,
    name: String,
    email: Option<String>,
    phone: Option<String>,
    company: Option<String>,
    notes: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// A contact to be made.
#[derive(ToSchema)]
pub(crate) struct NewContact {
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// Unique among your contacts.
    #[schema(format = Email, max_length = 254)]
    email: Option<String>,
    #[schema(max_length = 50)]
    phone: Option<String>,
    #[schema(max_length = 200)]
    company: Option<String>,
    #[schema(max_length = 20_000)]
    notes: Option<String>,
}

/// What to change; a field that is left out stays as it is, null empties it.
#[derive(ToSchema)]
pub(crate) struct ContactChange {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    #[schema(value_type = Option<String>, format = Email, max_length = 254)]
    email: Option<Option<String>>,
    #[schema(value_type = Option<String>, max_length = 50)]
    phone: Option<Option<String>>,
    #[schema(value_type = Option<String>, max_length = 200)]
    company: Option<Option<String>>,
    #[schema(value_type = Option<String>, max_length = 20_000)]
    notes: Option<Option<String>>,
}

tenantry::from_row!(Contact {
    id,
    name,
    email,
    phone,
    company,
    notes,
    created_at,
    updated_at
});

impl FromFields for NewContact {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let name = fields.required::<Line<200>>("name");
        let email = fields.optional::<Email>("email");
        let phone = fields.optional::<Prose<50>>("phone");
        let company = fields.optional::<Prose<200>>("company");
        let notes = fields.optional::<Prose<20_000>>("notes");
        Some(Self {
            name: name?.into(),
            email: email.map(Into::into),
            phone: phone.map(Into::into),
            company: company.map(Into::into),
            notes: notes.map(Into::into),
        })
    }
}

impl FromFields for ContactChange {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            name: fields.change_required::<Line<200>>("name").map(Into::into),
            email: fields.change::<Email>("email").map(|email| email.map(Into::into)),
            phone: fields.change::<Prose<50>>("phone").map(|phone| phone.map(Into::into)),
            company: fields
                .change::<Prose<200>>("company")
                .map(|company| company.map(Into::into)),
            notes: fields
                .change::<Prose<20_000>>("notes")
                .map(|notes| notes.map(Into::into)),
        })
    }
}

impl Listed for Contact {
    const LIST: List = List {
        table: "contacts",
        columns: "id, name, email, phone, company, notes, created_at, updated_at",
        fields: &[
            ("id", Field::Uuid),
            ("name", Field::Text),
            ("email", Field::Text),
            ("phone", Field::Text),
            ("company", Field::Text),
            ("notes", Field::Text),
            ("created_at", Field::Time),
            ("updated_at", Field::Time),
        ],
        searched: &["name", "email", "phone", "company", "notes"],
        sorted: &["created_at", "updated_at", "name"],
    };
}

/// List contacts, the newest first.
#[utoipa::path(get, path = "/contacts", tag = "contacts", params(crate::list::ListParams),
    responses((status = 200, body = Page<Contact>)))]
pub(crate) async fn list_contacts(
    scope: Scope,
    Query(query): Query<ListQuery<Contact>>,
) -> Result<Json<Page<Contact>>, Problem> {
    query.page(&scope).await.map(Json)
}

/// Make a contact.
#[utoipa::path(post, path = "/contacts", tag = "contacts", request_body = NewContact,
    responses((status = 201, body = Contact)))]
pub(crate) async fn create_contact(
    scope: Scope,
    Body(new): Body<NewContact>,
) -> Result<(StatusCode, Json<Contact>), Problem> {
    let contact = scope
        .query_one_as::<Contact>(
            "insert into contacts (id, name, email, phone, company, notes)
             values ($1, $2, $3, $4, $5, $6)
             returning id, name, email, phone, company, notes, created_at, updated_at",
            &[
                &Uuid::now_v7(),
                &new.name,
                &new.email,
                &new.phone,
                &new.company,
                &new.notes,
            ],
        )
        .await
        .map_err(refusal)?;
    Ok((StatusCode::CREATED, Json(contact)))
}

/// Read a contact.
#[utoipa::path(get, path = "/contacts/{id}", tag = "contacts", params(("id" = Uuid, Path)),
    responses((status = 200, body = Contact)))]
pub(crate) async fn get_contact(scope: Scope, Path(id): Path<Uuid>) -> Result<Json<Contact>, Problem> {
    let contact = scope
        .query_opt_as::<Contact>(
            "select id, name, email, phone, company, notes, created_at, updated_at
             from contacts
             where id = $1",
            &[&id],
        )
        .await?;
    contact.map(Json).ok_or_else(Problem::not_found)
}

/// Change a contact.
#[utoipa::path(patch, path = "/contacts/{id}", tag = "contacts", params(("id" = Uuid, Path)),
    request_body = ContactChange, responses((status = 200, body = Contact)))]
pub(crate) async fn update_contact(
    scope: Scope,
    Path(id): Path<Uuid>,
    Body(change): Body<ContactChange>,
) -> Result<Json<Contact>, Problem> {
    let contact = scope
        .query_opt_as::<Contact>(
            "update contacts
             set name = coalesce($2, name),
                 email = case when $3 then $4 else email end,
                 phone = case when $5 then $6 else phone end,
                 company = case when $7 then $8 else company end,
                 notes = case when $9 then $10 else notes end,
                 updated_at = now()
             where id = $1
             returning id, name, email, phone, company, notes, created_at, updated_at",
            &[
                &id,
                &change.name,
                &change.email.is_some(),
                &change.email.flatten(),
                &change.phone.is_some(),
                &change.phone.flatten(),
                &change.company.is_some(),
                &change.company.flatten(),
                &change.notes.is_some(),
                &change.notes.flatten(),
            ],
        )
        .await
        .map_err(refusal)?;
    contact.map(Json).ok_or_else(Problem::not_found)
}

/// Delete a contact.
#[utoipa::path(delete, path = "/contacts/{id}", tag = "contacts", params(("id" = Uuid, Path)),
    responses((status = 204)))]
pub(crate) async fn delete_contact(scope: Scope, Path(id): Path<Uuid>) -> Result<StatusCode, Problem> {
    let deleted = scope
        .execute("delete from contacts where id = $1", &[&id])
        .await
        .map_err(refusal)?;
    if deleted == 1 {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found())
    }
}
