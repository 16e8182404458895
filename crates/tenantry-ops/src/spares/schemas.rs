//! Spare schemas, in each server's shared tenant database.

use std::time::Instant;

use tenantry_catalog::{
    CatalogError, Client, placement, server,
    tenant_database::{self, DatabaseKind, TenantDatabase},
};
use tenantry_engine::{
    home::{self, Spare},
    isolate::Derived,
    migrate::{self, ByAdministrator},
};

use super::{DEPLOYMENT, pace::Pace, wanted_on};
use crate::{
    Ops, failpoint,
    runner::{Failure, administer, target},
    upgrade::require_current,
};

/// So many are dropped in one look at a database: each takes a lock on every table of the schema, and whoever makes spares there waits.
const DROPPED_AT_ONCE: usize = 8;

/// A shared tenant database, and how many spare schemas are wanted there.
struct Place {
    database: TenantDatabase,
    wanted: usize,
}

/// What a look at a database did.
#[derive(Clone, Copy)]
enum Looked {
    /// It made so many, and left so many that are not wanted.
    Done { made: usize, surplus: usize },
    /// Nothing: another process is at it.
    Elsewhere,
}

impl Ops {
    /// Makes the spare schemas that are missing in each server's shared tenant database, brings those that are behind to the newest
    /// version, and drops those that are too many, some at a time. How many it made. In each database one process does so at a time. A
    /// server that drains should have none.
    ///
    /// A server that can't be reached is told in the log and passed over, and so is a database of an older Tenantry, silently: it
    /// has to be brought up to date first.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn make_spare_schemas(&self) -> Result<usize, CatalogError> {
        let client = self.catalog().client().await?;
        let places = self.places_of_spares(&client).await?;
        drop(client);
        let mut made_in_all = 0;
        for place in &places {
            if let Some(Looked::Done { made, .. }) = self.look_at(place).await {
                made_in_all += made;
            }
        }
        Ok(made_in_all)
    }

    /// The same where some may be missing, or too many. In how many databases there is something to look after.
    pub(super) async fn look_after_spare_schemas(&self, pace: &mut Pace) -> Result<usize, CatalogError> {
        let client = self.catalog().client().await?;
        // Before the databases are looked at: a tenant that comes in between is seen the next time.
        let tenants = placement::newest_own_schemas(&client).await?;
        let places = self.places_of_spares(&client).await?;
        drop(client);
        let mut looked_after = 0;
        for place in &places {
            let database = place.database.id;
            if place.wanted > 0 {
                pace.unsettle(database);
            } else if pace.is_settled(database) {
                continue;
            }
            looked_after += 1;
            let last = tenants.get(&database).and_then(|schema| schema.as_deref());
            if !pace.is_due(database, last, Instant::now()) {
                continue;
            }
            match self.look_at(place).await {
                Some(Looked::Done { surplus: 0, .. }) if place.wanted == 0 => pace.settle(database),
                Some(Looked::Done { surplus: 1.., .. }) => pace.go_on(database, Instant::now()),
                Some(Looked::Done { .. } | Looked::Elsewhere) | None => {}
            }
        }
        Ok(looked_after)
    }

    /// The databases in which there may be spare schemas.
    async fn places_of_spares(&self, client: &Client) -> Result<Vec<Place>, CatalogError> {
        let servers = server::list(client).await?;
        let mut databases = tenant_database::list_ready(client).await?;
        databases.retain(|database| database.kind == DatabaseKind::Shared && require_current(database).is_ok());
        let places = databases.into_iter().filter_map(|database| {
            let server = servers.iter().find(|server| server.id == database.server)?;
            Some(Place {
                wanted: wanted_on(server, self.fleet().spare_schemas_on(server.spare_schemas)),
                database,
            })
        });
        Ok(places.collect())
    }

    /// `None` where it came to nothing, which the log says.
    async fn look_at(&self, place: &Place) -> Option<Looked> {
        let database = &place.database.name;
        match self.keep_spares_in(place).await {
            Ok(looked) => Some(looked),
            Err(failure) if place.wanted == 0 => {
                // Most likely there are none, and whoever uses the server has said that it is away.
                tracing::debug!(
                    database,
                    error = failure.message(),
                    "spare schemas of before can't be looked for"
                );
                None
            }
            Err(failure) => {
                tracing::warn!(database, error = failure.message(), "no spare schemas here");
                None
            }
        }
    }

    async fn keep_spares_in(&self, place: &Place) -> Result<Looked, Failure> {
        let Place { database, wanted } = place;
        let (admin, _) = administer(self, database.server).await?;
        let mut client = admin.connect(&database.name).await?;
        if !home::may_make_spares(&client).await? {
            return Ok(Looked::Elsewhere);
        }
        let installation = self.catalog().installation();
        let spares = home::list_spares(&client, installation).await?;
        let (kept, too_many) = spares.split_at(spares.len().min(*wanted));
        let mut surplus = too_many.len();
        for spare in too_many.iter().rev().take(DROPPED_AT_ONCE) {
            // Not one that a tenant gets at this moment: the next look counts anew.
            if home::drop_spare(&mut client, installation, &spare.schema).await? {
                surplus -= 1;
                tracing::info!(
                    database = database.name,
                    schema = spare.schema,
                    "a spare schema too many is dropped"
                );
                failpoint::pass("spares.dropped_schema").await?;
            }
        }
        let made = match wanted {
            0 => 0,
            _ => self.make_missing(&mut client, place, kept).await?,
        };
        Ok(Looked::Done { made, surplus })
    }

    /// Brings those that are there to the newest version, and makes the others. How many it made.
    async fn make_missing(
        &self,
        client: &mut tokio_postgres::Client,
        place: &Place,
        spares: &[Spare],
    ) -> Result<usize, Failure> {
        let Place { database, wanted } = place;
        let Some(derived) = self.derived().await? else {
            return Ok(0);
        };
        let newest = migrate::ledger_text(&derived);
        let mut missing = wanted.saturating_sub(spares.len());
        for spare in spares {
            let is_fine = spare.ledger == newest || is_of_newer_files(spare, &derived);
            if !is_fine && !self.bring_up(client, database, spare, &derived).await? {
                missing += 1;
            }
        }
        for _ in 0..missing {
            let name = home::create_spare(&*client, self.catalog().installation(), database.id).await?;
            self.migrate_spare(client, database, name.as_str(), &derived).await?;
        }
        Ok(missing)
    }

    /// One that migrations can't bring to the newest version is of no use: it is dropped, and another is to be made. Whether it stays.
    async fn bring_up(
        &self,
        client: &mut tokio_postgres::Client,
        database: &TenantDatabase,
        spare: &Spare,
        derived: &Derived,
    ) -> Result<bool, Failure> {
        let Err(failure) = self.migrate_spare(client, database, &spare.schema, derived).await else {
            return Ok(true);
        };
        tracing::warn!(
            schema = spare.schema,
            error = failure.message(),
            "a spare schema is made anew"
        );
        let is_gone = home::drop_spare(client, self.catalog().installation(), &spare.schema).await?;
        Ok(!is_gone)
    }

    async fn migrate_spare(
        &self,
        client: &tokio_postgres::Client,
        database: &TenantDatabase,
        schema: &str,
        derived: &Derived,
    ) -> Result<(), Failure> {
        let target = target(self.catalog().installation(), database, schema)?;
        migrate::apply(client, &target, derived, &[], &ByAdministrator, &self.fleet().patience).await?;
        Ok(())
    }
}

/// Whether a process with newer migrations than these has brought the spare to them. Long after, its newest one was withdrawn: nobody
/// would take the spare.
fn is_of_newer_files(spare: &Spare, derived: &Derived) -> bool {
    let newest = derived.versions.last().map_or(0, |version| version.version);
    spare.version() > newest && spare.unchanged < DEPLOYMENT
}
