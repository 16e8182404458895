//! What a move would take, and what is in its way.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use tenantry_catalog::{
    Db, operation,
    placement::{self, Located},
    server::{self, Server, ServerState},
    tenant::{self, Tenant},
    tenant_database::{self, DatabaseState, TenantDatabase},
};
use tenantry_core::{Isolation, Placement, SHARED_SCHEMA, ServerId, TenantId, TenantState};
use tenantry_engine::{
    isolate::Derived,
    structure,
    transfer::{self, Obstacle, Sides, stream},
};
use tenantry_wire::Endpoint;

use super::{MoveError, MoveInput, MoveRequest, schema_of, target_server};
use crate::{
    Ops, TenantRef, replicas,
    runner::{Failure, administer, target},
    upgrade,
};

/// One of a move's two homes.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MoveHome {
    /// How the rows are kept apart there.
    pub isolation: Isolation,
    /// The server's name.
    pub server: String,
    /// The schema with the application's tables.
    pub schema: String,
}

/// What a move would take.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct MovePlan {
    /// Whose.
    pub tenant: TenantId,
    /// Where it lives.
    pub from: MoveHome,
    /// Where it would live.
    pub to: MoveHome,
    /// How many rows it has, estimated from statistics.
    pub rows: i64,
    /// How many bytes, estimated.
    pub bytes: i64,
    /// Whether the statistics say something of every table.
    pub complete: bool,
    /// What is in the way; nothing, where it can be moved.
    pub obstacles: Vec<Obstacle>,
    /// Why the tenant would wait while all of its rows are compared, as a sentence; `None` where it would work meanwhile. They are copied before,
    /// and what it has written since is found by the comparison.
    pub held_because: Option<String>,
    /// What is in nobody's way and somebody should know, as sentences: what it takes of disks, and text that is ordered otherwise.
    pub notes: Vec<String>,
}

/// What the two databases show.
#[derive(Default)]
struct Seen {
    obstacles: Vec<Obstacle>,
    notes: Vec<String>,
}

/// How long a replica may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why rows are compared behind the closed fence within one database.
pub(crate) const WITHIN: &str = "both homes are in one database, where a tenant's changes are not followed";

impl Ops {
    pub(super) async fn examine_move(&self, tenant: &TenantRef, request: &MoveRequest) -> Result<MovePlan, MoveError> {
        let client = self.catalog().client().await?;
        let found = find(&client, tenant).await?;
        require_state(found.state)?;
        require_idle(&client, found.id).await?;
        let located = placement::locate(self.catalog(), &client, found.id).await?;
        let located = located.filter(|located| located.ready).ok_or(MoveError::NotFound)?;
        let from = &located.placement;
        let server = target_server(&client, from, request).await?;
        let source_server = server::find(&client, from.server).await?.ok_or(MoveError::NotFound)?;
        let mut obstacles = room(from, &server);
        obstacles.extend(self.silent_replicas(&source_server).await.map_err(told)?);
        let shared = tenant_database::find_shared(&client, server.id).await?;
        drop(client);
        let shared = shared.filter(|shared| shared.state == DatabaseState::Ready);
        if shared.is_none() && request.to != Isolation::Database {
            obstacles.push(no_shared_database(&server));
        }
        let own_files = self.fleet().has_own_files(&found.slug);
        if own_files && request.to == Isolation::Shared {
            obstacles.push(overlay());
        }
        let within = request.to != Isolation::Database && shared.as_ref().is_some_and(|one| one.id == from.database);
        let target = shared.map(|shared| Target {
            server: &server,
            shared,
            isolation: request.to,
        });
        let seen = self.look_at_both(&located, target, own_files).await.map_err(told)?;
        obstacles.extend(seen.obstacles);
        if super::soak_s(request).is_some() {
            obstacles.extend(self.soak_obstacle(&located, server.id, within).await.map_err(told)?);
        }
        let size = self.measure_tenant(found.id).await;
        let size = size.map_err(|error| MoveError::Server(error.to_string()))?;
        let held_because = match within {
            true => Some(WITHIN.to_owned()),
            false => self.held_because(&located).await.map_err(told)?,
        };
        if let (Some(why), TenantState::Active) = (&held_because, found.state)
            && size.rows > self.fleet().move_held_rows
            && !request.wait
        {
            obstacles.push(Obstacle::new(
                "held",
                format!(
                    "the tenant would wait while about {} rows are compared: {why}",
                    size.rows
                ),
                "mend that, or move it at a time when it may wait, with --wait",
            ));
        }
        // They are asked for as whoever may close the fence.
        if !obstacles
            .iter()
            .any(|one| matches!(one.code, "administrator" | "database-version"))
        {
            let follows = held_because.is_none();
            let lingering = self.lingering(from, server.id, request, follows).await;
            obstacles.extend(lingering.map_err(told)?);
        }
        let mut notes = seen.notes;
        notes.push(self.note_of_room(&server, &size).await.map_err(told)?);
        if held_because.is_none() {
            notes.extend(self.note_of_log(&source_server).await.map_err(told)?);
        }
        Ok(MovePlan {
            notes,
            held_because,
            tenant: found.id,
            from: MoveHome {
                isolation: from.isolation,
                server: source_server.name,
                schema: from.schema.clone(),
            },
            to: MoveHome {
                isolation: request.to,
                server: server.name,
                schema: schema_of(request.to, found.id),
            },
            rows: size.rows,
            bytes: size.bytes,
            complete: size.complete,
            obstacles,
        })
    }

    /// Which replicas of the old home's server would not say that the fence is closed there. Only before a move begins: one that is away for a
    /// moment later is waited for.
    async fn silent_replicas(&self, server: &Server) -> Result<Vec<Obstacle>, Failure> {
        if server.replicas.is_empty() {
            return Ok(Vec::new());
        }
        let (admin, _) = administer(self, server.id).await?;
        let checked = replicas::check(&admin, server, PATIENCE).await;
        let silent = checked.into_iter().filter(|replica| !replica.reachable);
        let obstacles = silent.map(|replica| {
            Obstacle::new(
                "replica",
                format!(
                    "the replica {} of the server {} can't be asked whether it still shows the tenant: {}",
                    replica.address,
                    server.name,
                    replica.problem.unwrap_or_default()
                ),
                format!(
                    "start it, or take it off the list: {}",
                    replica.take_off.unwrap_or_default()
                ),
            )
        });
        Ok(obstacles.collect())
    }

    /// Why a move from one database to another does not follow the tenant's changes, and so compares all rows behind the closed fence.
    pub(crate) async fn held_because(&self, located: &Located) -> Result<Option<String>, Failure> {
        let from = &located.placement;
        if located.state == TenantState::Suspended {
            return Ok(Some("the tenant is suspended, so nobody waits".to_owned()));
        }
        let (admin, administration) = administer(self, from.server).await?;
        if let Err(error) = Endpoint::from_url(administration.admin_url.expose_secret()) {
            return Ok(Some(format!(
                "the server's address does not do for replication: {error}"
            )));
        }
        let client = admin.connect(&from.database_name).await?;
        let least = self.fleet().move_online_rows;
        let schema = target(self.catalog().installation(), &located.database, &from.schema)?.schema;
        if !transfer::has_rows(&client, &schema, from.tenant, least).await? {
            return Ok(Some(format!(
                "it has fewer than {least} rows, which are compared in less time than a stream of its changes takes to begin"
            )));
        }
        Ok(stream::hindrance(&client, &from.schema).await?)
    }

    /// Why nothing could keep the old home in step with the new one.
    async fn soak_obstacle(
        &self,
        located: &Located,
        server: ServerId,
        within: bool,
    ) -> Result<Option<Obstacle>, Failure> {
        if within {
            return Ok(Some(Obstacle::new(
                "soak",
                "both homes are in one database, where nothing can keep the old one in step with the new one",
                "move without a soak, or to another server or into a database of its own",
            )));
        }
        let (admin, administration) = administer(self, server).await?;
        let why = match Endpoint::from_url(administration.admin_url.expose_secret()) {
            Err(error) => Some(format!("the server's address does not do for replication: {error}")),
            Ok(_) => {
                let client = admin.connect_maintenance().await?;
                match stream::hindrance_of_server(&client).await? {
                    Some(why) => Some(why),
                    None => {
                        let from = &located.placement;
                        let (admin, _) = administer(self, from.server).await?;
                        let source = admin.connect(&from.database_name).await?;
                        stream::hindrance_of_tables(&source, &from.schema).await?
                    }
                }
            }
        };
        Ok(why.map(|why| {
            Obstacle::new(
                "soak",
                format!("the new home's changes could not be brought to the old one while it soaks: {why}"),
                "mend that, or move without a soak",
            )
        }))
    }

    /// The same for the operation's own step, which has its place.
    pub(crate) async fn obstacles_of_move(
        &self,
        located: &Located,
        input: &MoveInput,
    ) -> Result<Vec<Obstacle>, Failure> {
        let to = &input.to;
        let client = self.catalog().client().await?;
        let server = server::find(&client, to.server).await?;
        let server = server.ok_or_else(|| Failure::permanent("no_server", "the server is not known any more"))?;
        let shared = tenant_database::find_shared(&client, to.server).await?;
        let found = tenant::find(&client, to.tenant).await?;
        drop(client);
        let own_files = found.is_some_and(|tenant| self.fleet().has_own_files(&tenant.slug));
        let shared = shared.filter(|shared| shared.state == DatabaseState::Ready);
        let target = shared.map(|shared| Target {
            server: &server,
            shared,
            isolation: to.isolation,
        });
        let mut obstacles = self.look_at_both(located, target, own_files).await?.obstacles;
        if input.soak_s.is_some() {
            obstacles.extend(
                self.soak_obstacle(located, to.server, input.within_a_database())
                    .await?,
            );
        }
        Ok(obstacles)
    }

    /// What the two databases show. A home of the tenant's own is not there yet: the shared tables of its server look the same.
    async fn look_at_both(
        &self,
        located: &Located,
        target_home: Option<Target<'_>>,
        own_files: bool,
    ) -> Result<Seen, Failure> {
        let from = &located.placement;
        let (admin, _) = administer(self, from.server).await?;
        let source = admin.connect(&from.database_name).await?;
        let Some(Target {
            server,
            shared,
            isolation,
        }) = target_home
        else {
            return Ok(Seen::default());
        };
        let mut seen = Seen::default();
        for database in [&located.database, &shared] {
            if let Err(failure) = upgrade::require_current(database) {
                seen.obstacles.push(outdated(failure));
            }
        }
        if !seen.obstacles.is_empty() {
            return Ok(seen);
        }
        let obstacles = &mut seen.obstacles;
        let (admin, _) = administer(self, server.id).await?;
        let destination = admin.connect(&shared.name).await?;
        let installation = self.catalog().installation();
        let source_schema = target(installation, &located.database, &from.schema)?;
        let target_schema = target(installation, &shared, SHARED_SCHEMA)?;
        let sides = Sides {
            source: &source,
            source_schema: &source_schema,
            source_tenant: (from.isolation != Isolation::Shared).then_some(from.tenant),
            target: &destination,
            target_schema: &target_schema,
            same_database: located.database.id == shared.id && isolation != Isolation::Database,
            has_overlay: own_files || has_overlay(&source, &source_schema).await?,
        };
        obstacles.extend(transfer::obstacles(sides, installation).await?);
        if isolation == Isolation::Shared && sides.has_overlay && !own_files {
            obstacles.push(overlay());
        }
        if isolation != Isolation::Shared {
            let derived = self.derived().await?;
            obstacles.extend(unknown_migrations(&source, &source_schema, derived.as_deref()).await?);
        }
        if !sides.same_database {
            let ends = ((&source, &source_schema.schema), (&destination, &target_schema.schema));
            let collations = transfer::collations(ends.0, ends.1).await?;
            obstacles.extend(collations.obstacles);
            seen.notes.extend(collations.notes);
        }
        Ok(seen)
    }
}

/// Where a tenant would go.
struct Target<'a> {
    server: &'a Server,
    /// The server's shared tenant database.
    shared: TenantDatabase,
    isolation: Isolation,
}

pub(super) async fn find(db: &impl Db, tenant: &TenantRef) -> Result<Tenant, MoveError> {
    let found = match tenant {
        TenantRef::Id(id) => tenant::find(db, *id).await?,
        TenantRef::Slug(slug) => tenant::find_by_slug(db, slug).await?,
    };
    found.ok_or(MoveError::NotFound)
}

pub(super) fn require_state(state: TenantState) -> Result<(), MoveError> {
    match state {
        TenantState::Active | TenantState::Suspended => Ok(()),
        state => Err(MoveError::State { state }),
    }
}

pub(super) async fn require_idle(db: &impl Db, tenant: TenantId) -> Result<(), MoveError> {
    match operation::find_live(db, tenant).await? {
        None => Ok(()),
        Some(live) => Err(MoveError::Busy {
            operation: live.id,
            kind: live.kind,
        }),
    }
}

fn room(from: &Placement, server: &Server) -> Vec<Obstacle> {
    if server.id == from.server {
        return Vec::new();
    }
    let mut found = Vec::new();
    if server.capacity.is_some_and(|capacity| server.tenants >= capacity) {
        found.push(no_room(server));
    }
    if server.state != ServerState::Active {
        found.push(Obstacle::new(
            "draining",
            format!("the server {} is being drained", server.name),
            "choose another server, or let it take tenants again",
        ));
    }
    found
}

pub(super) fn no_room(server: &Server) -> Obstacle {
    Obstacle::new(
        "capacity",
        format!(
            "the server {} takes no other tenant ({} are there)",
            server.name, server.tenants
        ),
        "raise its capacity, or choose another server",
    )
}

pub(super) fn no_shared_database(server: &Server) -> Obstacle {
    Obstacle::new(
        "no-shared-database",
        format!("the server {} has no shared tenant database that is ready", server.name),
        "wait until it is made: tenantry server check",
    )
}

fn overlay() -> Obstacle {
    Obstacle::new(
        "overlay",
        "the tenant has migrations of its own, and shared tables are the same for all",
        "choose a schema or a database of its own, or take its migrations back",
    )
}

fn outdated(failure: Failure) -> Obstacle {
    Obstacle::new("database-version", failure.message(), "tenantry migrate apply")
}

fn told(failure: Failure) -> MoveError {
    MoveError::Server(failure.message())
}

async fn has_overlay(
    client: &tokio_postgres::Client,
    schema: &tenantry_engine::migrate::Target,
) -> Result<bool, Failure> {
    Ok(!structure::read_ledger(client, schema).await?.overlay.is_empty())
}

/// A home of the tenant's own is made from files, which this program must have.
async fn unknown_migrations(
    client: &tokio_postgres::Client,
    schema: &tenantry_engine::migrate::Target,
    derived: Option<&Derived>,
) -> Result<Option<Obstacle>, Failure> {
    let ledger = structure::read_ledger(client, schema).await?;
    let known: Vec<_> = derived.iter().flat_map(|derived| &derived.versions).collect();
    let same = ledger.versions.len() == known.len()
        && ledger
            .versions
            .iter()
            .zip(&known)
            .all(|((version, checksum), known)| (*version, checksum) == (known.version, &known.checksum));
    Ok((!same).then(|| {
        Obstacle::new(
            "migrations",
            format!(
                "the tenant's tables have {} migrations, and the files that this program was given are others or more",
                ledger.versions.len()
            ),
            "run it with the application's migrations, and apply what is pending: tenantry migrate apply",
        )
    }))
}
