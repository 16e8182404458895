//! The reference application: contacts, projects and tasks.
//!
//! It is written as if there were one customer. Each handler gets a [`tenantry::Scope`] and queries through it; which
//! tenant's rows these are, and where they live, stands nowhere in this crate.

mod constraint;
mod contacts;
mod history;
mod list;
mod projects;
mod roles;
mod search;
mod tasks;
mod text;

pub use search::SEARCH;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The application's migrations: file names and texts, in order.
pub const MIGRATIONS: &[(&str, &str)] = &[
    ("0001_crm.sql", include_str!("../migrations/0001_crm.sql")),
    ("0002_search.sql", include_str!("../migrations/0002_search.sql")),
    (
        "0003_search_what_is_there.sql",
        include_str!("../migrations/0003_search_what_is_there.sql"),
    ),
    ("0004_history.sql", include_str!("../migrations/0004_history.sql")),
];

/// The routes, below whatever path they are mounted at. They need [`tenantry::axum::TenantLayer`] around them.
pub fn router() -> axum::Router {
    let (router, _) = routes().split_for_parts();
    router.route_layer(axum::middleware::from_fn(roles::viewers_read))
}

/// What the routes take and answer, as OpenAPI 3.1.
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes().into_openapi()
}

fn routes() -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(contacts::list_contacts, contacts::create_contact))
        .routes(routes!(
            contacts::get_contact,
            contacts::update_contact,
            contacts::delete_contact
        ))
        .routes(routes!(projects::list_projects, projects::create_project))
        .routes(routes!(
            projects::get_project,
            projects::update_project,
            projects::delete_project
        ))
        .routes(routes!(tasks::list_tasks, tasks::create_task))
        .routes(routes!(tasks::get_task, tasks::update_task, tasks::delete_task))
        .routes(routes!(history::task_history))
        .routes(routes!(search::search))
}
