//! Where a new tenant goes: what the request names, else what its plan gives, else the default.

use tenantry_catalog::{
    CatalogError, Transaction, plan_rule,
    plan_rule::PlanRule,
    server::{self, Server, Wish},
    tenant_database::{self, DatabaseKind, NewTenantDatabase, TenantDatabase},
};
use tenantry_core::{Isolation, Plan, ServerId, TenantDatabaseId, TenantId, own_database_name};
use tenantry_engine::migrate;

use crate::{Ops, TenantRequest, secret};

/// A place that is taken for a tenant until the transaction is rolled back.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) isolation: Isolation,
    pub(crate) server: Server,
    /// The database that is there: the server's shared one, or a spare one; else the tenant's is made.
    pub(crate) database: Option<TenantDatabase>,
}

/// Why there is no place.
#[derive(Debug)]
pub(crate) enum PlaceError {
    UnknownServer,
    UnknownRegion,
    NoRoom,
    Catalog(CatalogError),
}

impl From<CatalogError> for PlaceError {
    fn from(error: CatalogError) -> Self {
        Self::Catalog(error)
    }
}

/// Takes a place on the emptiest server that fits; a spare database only where the tenant begins at the newest version.
pub(crate) async fn take(
    ops: &Ops,
    transaction: &Transaction<'_>,
    request: &TenantRequest,
    plan: &Plan,
    may_be_spare: bool,
) -> Result<Place, PlaceError> {
    let rule = rule(ops, transaction, plan).await?;
    let rule = rule.as_ref();
    let isolation = request
        .isolation
        .or(rule.map(|rule| rule.isolation))
        .unwrap_or(ops.fleet().default_isolation);
    // A named server outweighs the plan's region, and the other way round: only one of the two sources counts.
    let named = request.server.is_some() || request.region.is_some();
    let (server, region) = if named {
        (request.server.as_deref(), request.region.as_deref())
    } else {
        (
            rule.and_then(|rule| rule.server.as_deref()),
            rule.and_then(|rule| rule.region.as_deref()),
        )
    };
    let wish = Wish {
        server,
        region,
        with_shared_database: isolation != Isolation::Database,
    };
    let Some(server) = server::take_place(transaction, wish).await? else {
        return Err(why_none(transaction, wish).await?);
    };
    let database = match isolation {
        // Files of its own may have been written on top of an older version than a spare has.
        Isolation::Database
            if may_be_spare
                && ops.fleet().spare_databases_on(server.spare_databases) > 0
                && !ops.fleet().has_own_files(&request.slug) =>
        {
            match newest_ledger(ops) {
                Some(ledger) => tenant_database::take_spare(transaction, server.id, &ledger).await?,
                None => None,
            }
        }
        Isolation::Database => None,
        Isolation::Shared | Isolation::Schema => {
            let shared = tenant_database::find_shared(transaction, server.id).await?;
            Some(shared.ok_or(PlaceError::NoRoom)?)
        }
    };
    Ok(Place {
        isolation,
        server,
        database,
    })
}

/// The migrations that a spare has to have; `None` where this process has not worked them out yet. Nothing waits for that while a
/// transaction is open: the tenant's database is made then.
fn newest_ledger(ops: &Ops) -> Option<String> {
    match &ops.fleet().migrations {
        None => Some(String::new()),
        Some(_) => ops.derived_cell().get().map(|derived| migrate::ledger_text(derived)),
    }
}

async fn rule(ops: &Ops, transaction: &Transaction<'_>, plan: &Plan) -> Result<Option<PlanRule>, CatalogError> {
    match ops.fleet().plans.iter().find(|rule| rule.plan == *plan) {
        Some(rule) => Ok(Some(rule.clone())),
        None => plan_rule::find(transaction, plan).await,
    }
}

async fn why_none(transaction: &Transaction<'_>, wish: Wish<'_>) -> Result<PlaceError, CatalogError> {
    let servers = server::list(transaction).await?;
    let named = |server: &&Server| wish.server.is_none_or(|name| server.name == name);
    let there = |server: &&Server| wish.region.is_none_or(|region| server.region == region);
    Ok(
        if !servers.iter().any(|server| named(&server)) && wish.server.is_some() {
            PlaceError::UnknownServer
        } else if !servers.iter().any(|server| named(&server) && there(&server)) && wish.region.is_some() {
            PlaceError::UnknownRegion
        } else {
            PlaceError::NoRoom
        },
    )
}

/// Records the database that the tenant gets to itself, and its name; its operation makes it.
pub(crate) async fn record_own_database(
    ops: &Ops,
    transaction: &Transaction<'_>,
    server: ServerId,
    tenant: TenantId,
) -> Result<(TenantDatabaseId, String), CatalogError> {
    let id = secret::tenant_database_id();
    let name = own_database_name(ops.catalog().installation(), tenant);
    record_database(ops, transaction, server, id, &name, DatabaseKind::Own).await?;
    Ok((id, name))
}

/// Records a tenant database with a password and a key of its own, before any of it exists.
pub(crate) async fn record_database(
    ops: &Ops,
    transaction: &Transaction<'_>,
    server: ServerId,
    id: TenantDatabaseId,
    name: &str,
    kind: DatabaseKind,
) -> Result<(), CatalogError> {
    let app_role = format!("tn_{}_{}_app", ops.catalog().installation(), id.as_uuid().simple());
    let app_password = secret::random_text().into();
    let key = secret::seal_key();
    let new = NewTenantDatabase {
        id,
        server,
        name,
        kind,
        app_role: &app_role,
        app_password: &app_password,
        key: &key,
    };
    tenant_database::insert(ops.catalog(), transaction, &new).await
}
