//! Everywhere something of a tenant can be.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tenantry_catalog::{
    backup, erasure, operation,
    server::{self, Server},
    tenant_database::{self, DatabaseKind, TenantDatabase},
};
use tenantry_core::TenantId;
use tenantry_engine::{
    SqlError,
    erasure::{Clearing, Looked, Sought, clear, holders, look as look_at_database, look_at_server, read_files},
    fence,
    transfer::stream as changes,
};
use tokio_postgres::Client;

use super::{ErasureRequest, Place};
use crate::{
    Ops,
    runner::{administer, chain},
};

/// How many databases are looked at at once.
const AT_ONCE: usize = 8;
/// How long it is waited for transactions that still see what was deleted.
const PATIENCE: Duration = Duration::from_secs(5);
/// Why the name of a purged tenant's file of statistics, or of its fence, is in a database's files.
const STONE: &str =
    "the fence's gravestone: id and epoch, so that whoever still believes in the old placement is refused";

pub(super) async fn look(ops: &Ops, tenant: TenantId, request: &ErasureRequest) -> Vec<Place> {
    let mut places = vec![in_catalog(ops, tenant, request).await];
    match targets(ops).await {
        Ok((servers, databases)) => {
            let wanted: Vec<&TenantDatabase> = databases
                .iter()
                .filter(|database| request.all_databases || database.kind == DatabaseKind::Shared)
                .collect();
            // Boxed: else the compiler can't tell that it may go from thread to thread.
            let of_servers: Vec<_> = servers
                .iter()
                .map(|server| on_server(ops, tenant, server).boxed())
                .collect();
            places.extend(stream::iter(of_servers).buffered(AT_ONCE).collect::<Vec<_>>().await);
            let of_databases: Vec<_> = wanted
                .into_iter()
                .map(|database| {
                    let server = servers.iter().find(|server| server.id == database.server);
                    in_database(ops, tenant, request, server, database).boxed()
                })
                .collect();
            places.extend(stream::iter(of_databases).buffered(AT_ONCE).collect::<Vec<_>>().await);
        }
        Err(error) => {
            let mut place = Place::new("server", "all");
            place.not_looked(error);
            places.push(place);
        }
    }
    places.extend(beside(ops, tenant).await);
    places.push(in_backups(ops, tenant).await);
    places
}

async fn targets(ops: &Ops) -> Result<(Vec<Server>, Vec<TenantDatabase>), String> {
    let asked = async {
        let client = ops.catalog().client().await?;
        Ok::<_, tenantry_catalog::CatalogError>((
            server::list(&client).await?,
            tenant_database::list_ready(&client).await?,
        ))
    };
    asked.await.map_err(|error| chain(&error))
}

async fn in_catalog(ops: &Ops, tenant: TenantId, request: &ErasureRequest) -> Place {
    let mut place = Place::new("catalog", "catalog");
    let asked = async {
        let client = ops.catalog().client().await?;
        let mentions = erasure::mentions(&client, tenant, &request.texts).await?;
        Ok::<_, tenantry_catalog::CatalogError>((mentions, erasure::unscrubbed(&client, tenant).await?))
    };
    match asked.await {
        Ok((mentions, unscrubbed)) => {
            place.looked("every row", mentions.len() as u64);
            for one in mentions {
                // Of tenants' rows one is its own; in another's it has no business.
                let (own, foreign) = match one.table.as_str() {
                    "tenant" => (one.of_id.min(1), one.of_id - 1),
                    _ => (one.of_id, 0),
                };
                place.found(&one.table, own, one.record);
                place.found(format!("{}: of other tenants", one.table), foreign, None);
                place.found(format!("{}: texts", one.table), one.of_texts, None);
            }
            for (what, rows) in unscrubbed {
                place.found(what, rows, None);
            }
        }
        Err(error) => place.not_looked(chain(&error)),
    }
    place
}

async fn on_server(ops: &Ops, tenant: TenantId, server: &Server) -> Place {
    let mut place = Place::new("server", &server.name);
    let installation = ops.catalog().installation();
    let asked = async {
        let (admin, _) = administer(ops, server.id).await.map_err(|failure| failure.message())?;
        let client = admin.connect_maintenance().await.map_err(|error| error.to_string())?;
        let sought = Sought {
            installation,
            tenant,
            texts: &[],
            every_row: false,
        };
        let looked = look_at_server(&client, &sought).await.map_err(said)?;
        let slots = changes::list_slots(&client, installation).await;
        Ok::<_, String>((looked, slots.map_err(|error| error.to_string())?))
    };
    match asked.await {
        Ok((looked, slots)) => {
            note(&mut place, looked);
            place.looked("names", 1);
            for slot in slots {
                match of_tenant(ops, tenant, slot.operation).await {
                    Ok(true) => place.found(format!("replication slot of the move {}", slot.operation), 1, None),
                    Ok(false) => {}
                    Err(error) => place.not_looked(error),
                }
            }
        }
        Err(error) => place.not_looked(error),
    }
    place
}

async fn of_tenant(ops: &Ops, tenant: TenantId, id: tenantry_core::OperationId) -> Result<bool, String> {
    let asked = async {
        let client = ops.catalog().client().await?;
        operation::find(&client, id).await
    };
    let found = asked.await.map_err(|error| chain(&error))?;
    Ok(found.is_some_and(|operation| operation.tenant == Some(tenant)))
}

async fn in_database(
    ops: &Ops,
    tenant: TenantId,
    request: &ErasureRequest,
    server: Option<&Server>,
    database: &TenantDatabase,
) -> Place {
    let on = server.map_or("?", |server| server.name.as_str());
    let mut place = Place::new("tenant database", format!("{on}/{}", database.name));
    place.database = Some(*database.id.as_uuid());
    if let Err(error) = try_database(ops, tenant, request, database, &mut place).await {
        place.not_looked(error);
    }
    place
}

async fn try_database(
    ops: &Ops,
    tenant: TenantId,
    request: &ErasureRequest,
    database: &TenantDatabase,
    place: &mut Place,
) -> Result<(), String> {
    let (admin, _) = administer(ops, database.server)
        .await
        .map_err(|failure| failure.message())?;
    let client = admin.connect(&database.name).await.map_err(|error| error.to_string())?;
    let sought = Sought {
        installation: ops.catalog().installation(),
        tenant,
        texts: &request.texts,
        every_row: request.every_row || !request.texts.is_empty(),
    };
    // Where it never lived nothing of it was deleted.
    let lived = fence::read(&client, tenant).await.map_err(said)?.is_some();
    if database.kind == DatabaseKind::Shared && lived {
        let how = match request.rewrite {
            true => Clearing::Rewrite,
            false => Clearing::Vacuum,
        };
        for holder in holders(&client, PATIENCE).await.map_err(said)? {
            place.not_looked(format!(
                "dead rows: {holder} still sees what was deleted, so that they can't be cleared away"
            ));
        }
        let cleared = clear(&client, how).await.map_err(said)?;
        let done = cleared.iter().filter(|one| one.skipped.is_none()).count();
        place.looked(if request.rewrite { "written anew" } else { "vacuumed" }, done as u64);
        for one in cleared {
            if let Some(why) = one.skipped {
                place.not_looked(format!("dead rows of {}: {why}", one.table));
            }
        }
    }
    let looked = look_at_database(&client, &sought).await.map_err(said)?;
    place.looked(
        if sought.every_row {
            "every row"
        } else {
            "tenant columns"
        },
        looked.tables as u64,
    );
    note(place, looked);
    streams(ops, tenant, &client, place).await?;
    if request.read_files {
        let (files, traces) = read_files(&client, &sought).await.map_err(said)?;
        place.looked("files", files as u64);
        for trace in traces {
            let record = (trace.table == "tenantry_private.fence").then_some(STONE);
            place.found(format!("file of {}", trace.relation), trace.pieces, record);
        }
    }
    Ok(())
}

/// What carried the tenant's changes in a move is named by the move and not by the tenant.
async fn streams(ops: &Ops, tenant: TenantId, client: &Client, place: &mut Place) -> Result<(), String> {
    let installation = ops.catalog().installation();
    let published = changes::list_publications(client, installation)
        .await
        .map_err(|error| error.to_string())?;
    let positions = changes::list_positions(client, installation)
        .await
        .map_err(|error| error.to_string())?;
    let published = published.into_iter().map(|one| ("publication", one.operation));
    let positions = positions.into_iter().map(|operation| ("position", operation));
    for (what, operation) in published.chain(positions) {
        if of_tenant(ops, tenant, operation).await? {
            place.found(format!("{what} of the move {operation}"), 1, None);
        }
    }
    Ok(())
}

fn note(place: &mut Place, looked: Looked) {
    for trace in looked.traces {
        place.found(trace.what, trace.count, trace.record);
    }
    place.not_looked_at.extend(looked.unseen);
}

fn said(error: SqlError) -> String {
    error.to_string()
}

async fn beside(ops: &Ops, tenant: TenantId) -> Vec<Place> {
    let mut places = Vec::new();
    for beside in &ops.fleet().besides {
        let mut place = Place::new("beside", beside.name());
        match beside.count(tenant).await {
            Ok(Some(count)) => {
                place.looked("objects", count);
                place.found("objects of the tenant", i64::try_from(count).unwrap_or(i64::MAX), None);
            }
            Ok(None) => place.not_looked("it can't tell what it holds of a tenant"),
            Err(error) => place.not_looked(chain(&*error)),
        }
        places.push(place);
    }
    places
}

async fn in_backups(ops: &Ops, tenant: TenantId) -> Place {
    let mut place = Place::new("backups", "backups");
    let known = async {
        let client = ops.catalog().client().await?;
        let key = backup::find_key(ops.catalog(), &client, tenant).await;
        Ok::<_, tenantry_catalog::CatalogError>((backup::list_all(&client, tenant).await?, key))
    };
    match known.await {
        Ok((ids, key)) => {
            place.found("backups that the catalog lists", ids.len() as i64, None);
            // One that does not open is there all the same.
            place.found(
                "the key of the tenant's backups",
                i64::from(!matches!(key, Ok(None))),
                None,
            );
        }
        Err(error) => place.not_looked(chain(&error)),
    }
    match &ops.fleet().backups {
        Some(store) => match store.count(tenant).await {
            Ok(count) => {
                place.looked("objects", count);
                place.found("objects of the tenant", i64::try_from(count).unwrap_or(i64::MAX), None);
            }
            Err(error) => place.not_looked(chain(&error)),
        },
        // Without a store there are none, and what an earlier one holds opens no more.
        None => place.looked("key", 1),
    }
    place
}
