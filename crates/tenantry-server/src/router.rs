//! Every route, on one page.

use axum::{Router, middleware::from_fn_with_state};
use tenantry::axum::TenantLayer;
use utoipa::{OpenApi as _, openapi::OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Application, Config, Services,
    layer::{self, Cut},
    life::Life,
    routes::{
        api_keys, auth, backup_schedule, backups, balance, erasure, health, jobs, jwks, members, metrics, migrations,
        minimum_version, moves, openapi as document, operations, password_resets, plans, reconcile, schedules, servers,
        size, tenants, usage,
    },
};

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "Tenantry",
    description = "Tenants, their members, and the application's data in each. Errors are problem details (RFC 9457).",
    version = "1",
))]
struct Document;

fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(tenants::list_tenants, tenants::create_tenant))
        .routes(routes!(
            tenants::get_tenant,
            tenants::update_tenant,
            tenants::delete_tenant
        ))
        .routes(routes!(tenants::suspend_tenant))
        .routes(routes!(tenants::hold_tenant, tenants::release_tenant))
        .routes(routes!(tenants::resume_tenant))
        .routes(routes!(moves::move_tenant))
        .routes(routes!(erasure::get_erasure))
        .routes(routes!(backups::list_backups, backups::create_backup))
        .routes(routes!(
            backup_schedule::get_backup_schedule,
            backup_schedule::set_backup_schedule,
            backup_schedule::remove_backup_schedule
        ))
        .routes(routes!(backups::restore_backup))
        .routes(routes!(backups::restore_tenant))
        .routes(routes!(backups::export_tenant))
        .routes(routes!(servers::list_servers))
        .routes(routes!(servers::check_server))
        .routes(routes!(servers::set_replicas))
        .routes(routes!(servers::set_spares))
        .routes(routes!(balance::drain_server))
        .routes(routes!(balance::rebalance_servers))
        .routes(routes!(size::get_size))
        .routes(routes!(usage::get_usage))
        .routes(routes!(plans::list_plans))
        .routes(routes!(plans::set_plan, plans::remove_plan))
        .routes(routes!(operations::get_operation))
        .routes(routes!(operations::get_certificate))
        .routes(routes!(operations::pause_operation))
        .routes(routes!(operations::resume_operation))
        .routes(routes!(operations::abort_operation))
        .routes(routes!(operations::roll_operation_back))
        .routes(routes!(operations::finish_operation))
        .routes(routes!(migrations::get_migrations, migrations::start_rollout))
        .routes(routes!(migrations::retry_rollout))
        .routes(routes!(migrations::plan_migrations))
        .routes(routes!(migrations::verify_migrations))
        .routes(routes!(minimum_version::set_minimum_version))
        .routes(routes!(reconcile::reconcile_migrations))
        .routes(routes!(members::list_members, members::add_member))
        .routes(routes!(members::update_member, members::remove_member))
        .routes(routes!(api_keys::list_api_keys, api_keys::create_api_key))
        .routes(routes!(api_keys::revoke_api_key))
        .routes(routes!(jobs::list_jobs))
        .routes(routes!(jobs::retry_jobs))
        .routes(routes!(jobs::retry_job))
        .routes(routes!(jobs::remove_job))
        .routes(routes!(schedules::list_schedules))
        .routes(routes!(schedules::remove_schedule))
        .routes(routes!(jobs::list_all_jobs))
        .routes(routes!(jobs::retry_all_jobs))
        .routes(routes!(auth::log_in))
        .routes(routes!(auth::refresh_tokens))
        .routes(routes!(auth::switch_tenant))
        .routes(routes!(auth::accept_invitation))
        .routes(routes!(auth::change_password))
        .routes(routes!(password_resets::offer_password_reset))
        .routes(routes!(password_resets::reset_password))
        .routes(routes!(auth::log_out))
        .routes(routes!(auth::get_me))
        .routes(routes!(jwks::get_jwks))
        .routes(routes!(health::get_liveness))
        .routes(routes!(health::get_readiness))
        .routes(routes!(health::get_tenant_health))
        .routes(routes!(metrics::get_metrics))
        .routes(routes!(document::get_openapi))
}

/// Everything the server answers: the control plane, the application below `/app`, and the layers around both.
pub(crate) fn router(config: &Config, services: Services, application: Application, cut: Cut, life: &Life) -> Router {
    let (control, document) = routes().split_for_parts();
    let document = document::Document::new(document, application.openapi);
    let application_router = application.router.layer(TenantLayer::new(services.tenantry.clone()));
    let router = control
        .layer(from_fn_with_state(services.clone(), layer::settle))
        .with_state(services)
        .layer(axum::Extension(document))
        .layer(axum::Extension(life.clone()))
        .nest("/app", application_router);
    layer::around(router, config, cut, life.clone())
}

/// The control plane's description in OpenAPI 3.1.
pub fn openapi() -> OpenApi {
    routes().into_openapi()
}
