//! Makes a tenant's home. Every step can run twice; the last one activates the tenant, and nobody is routed there before.

use tenantry_catalog::{
    operation_cleanup::{Object, ObjectKind},
    placement::Located,
    tenant_database::DatabaseState,
};
use tenantry_core::{Isolation, SHARED_SCHEMA, ServerId};
use tenantry_engine::{fence, home, migrate, turn};
use tokio_postgres::Client;

use super::{
    Failure, Journal, activate, hand_out, load,
    site::{Site, TURN, of_each_tenant},
};
use crate::{Ops, archive::Birth, at_hand::Connected};

/// The steps of each isolation, in order; failpoints stand before and after each.
pub(super) const fn steps(isolation: Isolation) -> &'static [&'static str] {
    match isolation {
        Isolation::Shared => &["rows", "activate"],
        Isolation::Schema => &["schema", "tables", "activate"],
        Isolation::Database => &["database", "bootstrap", "tables", "activate"],
    }
}

/// The same for a tenant that begins with another's rows.
const fn steps_with_rows(isolation: Isolation) -> &'static [&'static str] {
    match isolation {
        Isolation::Shared => &["rows", "load", "activate"],
        Isolation::Schema => &["schema", "tables", "load", "activate"],
        Isolation::Database => &["database", "bootstrap", "tables", "load", "activate"],
    }
}

pub(super) async fn forward(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    let (mut site, located) = Site::of_tenant(ops, journal).await?;
    site.bring_up_to_date().await?;
    // A connection with the operation's turn taken, kept for the steps that follow each other in one database.
    let mut at_work = None;
    // The one that a tenant in shared tables was seeded on.
    let mut seeding = None;
    let isolation = located.placement.isolation;
    let birth = Birth::of(&journal.operation)?;
    let steps = match birth {
        None => steps(isolation),
        Some(_) => steps_with_rows(isolation),
    };
    let birth = birth.as_ref();
    let begun = steps
        .iter()
        .position(|step| *step == journal.operation.step)
        .unwrap_or(0);
    // A spare one, which is made and bootstrapped.
    let is_there = isolation == Isolation::Database && located.database.state == DatabaseState::Ready;
    // A connection with the turn taken, where there was no spare.
    let mut in_turn = None;
    let is_untouched = isolation == Isolation::Schema && birth.is_none() && journal.operation.step.is_empty();
    if is_untouched && hand_out::hand_out(&site, &located, &mut in_turn).await? {
        return Ok(());
    }
    for step in &steps[begun..] {
        if is_there && matches!(*step, "database" | "bootstrap") {
            continue;
        }
        // Each notes that it begins where that costs it least: under its turn, which takes the same look at the lease.
        journal.arrive(step).await?;
        match *step {
            "rows" => seeding = Some(rows(&site, &located, birth).await?),
            "schema" => at_work = Some(schema(&site, &located, birth, in_turn.take()).await?),
            "database" => database(&site, &located).await?,
            "bootstrap" => bootstrap(&mut site).await?,
            "tables" => tables(&site, &located, birth, at_work.take()).await?,
            "load" => load::load(&site, &located, birth).await?,
            _ => let_in(&site, &located, seeding.take()).await?,
        }
        journal.end(step).await?;
    }
    Ok(())
}

/// What a tenant's operation makes first.
pub(crate) fn first_object(isolation: Isolation, server: ServerId, database: &str, schema: &str) -> Object {
    let (kind, database_name, name) = match isolation {
        Isolation::Shared => (ObjectKind::Rows, database, schema),
        Isolation::Schema => (ObjectKind::Schema, database, schema),
        // Belongs to the cluster.
        Isolation::Database => (ObjectKind::Database, "", database),
    };
    Object {
        kind,
        server,
        database_name: database_name.to_owned(),
        name: name.to_owned(),
    }
}

/// Records it, where that was not done with the operation itself.
pub(super) async fn will_make_first(site: &Site<'_>, located: &Located) -> Result<(), Failure> {
    let placement = &located.placement;
    let database = &site.database;
    let object = first_object(placement.isolation, database.server, &database.name, &placement.schema);
    site.journal.will_make(&object).await
}

/// A tenant in shared tables: one transaction, in which its fence opens.
async fn rows(site: &Site<'_>, located: &Located, birth: Option<&Birth>) -> Result<Client, Failure> {
    // Refuses files of one tenant's own.
    site.own_files(located).await?;
    will_make_first(site, located).await?;
    let client = site.connect().await?;
    turn::begin(&client, site.journal.lock_key(), TURN).await?;
    site.journal.note("rows").await?;
    fence::register(&client, located.placement.tenant, located.placement.epoch, true).await?;
    turn::commit(&client).await?;
    // Whoever begins with another's rows has what that one started with among them.
    if birth.is_none() {
        site.seed(&client, located).await?;
    }
    Ok(client)
}

/// A connection that has the operation's turn, and what it has found or made there.
type AtWork = (Connected, Tables);

/// What a schema or database has of the application's tables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tables {
    /// Those of the newest version: it was a spare one.
    Newest,
    /// None, or nobody knows.
    ToBeMade,
}

async fn schema(
    site: &Site<'_>,
    located: &Located,
    birth: Option<&Birth>,
    in_turn: Option<Connected>,
) -> Result<AtWork, Failure> {
    let client = match in_turn {
        Some(client) => {
            site.journal.note("schema").await?;
            client
        }
        None => {
            will_make_first(site, located).await?;
            let client = site.connect_again().await?;
            site.take_turn_for(&client, "schema").await?;
            client
        }
    };
    let tables = make_schema(site, located, birth, &client).await?;
    Ok((client, tables))
}

/// Takes a spare or makes the schema, and opens the tenant's fence.
///
/// The commit of an empty one does not wait for the disk: that of the tables does, which follows on the same connection. A server
/// that crashes in between has neither, so whoever goes on at the tables makes the schema first, which may be there.
async fn make_schema(
    site: &Site<'_>,
    located: &Located,
    birth: Option<&Birth>,
    client: &Client,
) -> Result<Tables, Failure> {
    let (tenant, epoch) = (located.placement.tenant, located.placement.epoch);
    let (ops, installation, database) = (site.ops, site.installation(), site.database.id);
    let derived = ops.derived().await?;
    // One has the newest version, which what is to be loaded may not have.
    let wanted = ops.fleet().spare_schemas_on(located.spare_schemas);
    let spares = wanted > 0 && birth.is_none_or(|birth| birth.version.is_none());
    if let Some(derived) = &derived
        && spares
        // Files of its own may have been written on top of an older version than a spare has.
        && site.own_files(located).await?.is_none()
    {
        // What a tenant brings with it tells itself what its rows have had.
        let caught_up = if birth.is_none() {
            of_each_tenant(derived)
        } else {
            Vec::new()
        };
        let ledger = migrate::ledger_text(derived);
        if home::hand_out_spare(client, installation, tenant, epoch, &ledger, &caught_up).await? {
            turn::commit(client).await?;
            return Ok(Tables::Newest);
        }
    }
    let tables_follow = derived.as_ref().is_some_and(|derived| !derived.versions.is_empty());
    let made = home::create_schema_and_open(client, installation, database, tenant, epoch, tables_follow).await?;
    if made == home::Outcome::AlreadySo {
        // Ours, or it is refused.
        client.batch_execute("begin").await?;
        home::create_schema(client, installation, database, tenant).await?;
        fence::register(client, tenant, epoch, true).await?;
        client.batch_execute("commit").await?;
    }
    Ok(Tables::ToBeMade)
}

async fn database(site: &Site<'_>, located: &Located) -> Result<(), Failure> {
    site.journal.note("database").await?;
    will_make_first(site, located).await?;
    site.make_database().await
}

async fn bootstrap(site: &mut Site<'_>) -> Result<(), Failure> {
    site.journal.note("bootstrap").await?;
    site.bootstrap().await
}

/// The application's tables in a schema or database of the tenant's own, and what it starts with.
///
/// On the connection of the step before, which has the turn: another one would have to log in and to read the system catalogs.
async fn tables(
    site: &Site<'_>,
    located: &Located,
    birth: Option<&Birth>,
    at_work: Option<AtWork>,
) -> Result<(), Failure> {
    let (client, tables) = match at_work {
        // Whoever goes on at the schema finds one that is whole: there is nothing to note.
        Some(at_work @ (_, Tables::Newest)) => at_work,
        Some(at_work) => {
            site.journal.note("tables").await?;
            at_work
        }
        None => {
            let client = site.connect_again().await?;
            site.take_turn_for(&client, "tables").await?;
            let mut tables = Tables::ToBeMade;
            if located.placement.isolation == Isolation::Schema {
                tables = make_schema(site, located, birth, &client).await?;
            }
            (client, tables)
        }
    };
    if located.placement.isolation == Isolation::Database {
        fence::register(&*client, located.placement.tenant, located.placement.epoch, true).await?;
    }
    match birth {
        None | Some(Birth { version: None, .. }) => {
            match tables {
                Tables::Newest => site.keep_whole(&client, &located.placement.schema).await?,
                Tables::ToBeMade => site.make_tables(&client, located).await?,
            }
            // Of what a spare's migrations gave to tenants, all but seeds was noted when it was handed out.
            let has_all = tables == Tables::Newest && !site.has_seeds().await?;
            if birth.is_none() && !has_all {
                site.seed(&client, located).await?;
            }
        }
        Some(Birth {
            version: Some(version), ..
        }) => site.make_tables_until(&client, located, *version).await?,
    }
    // Others will be made in the same database.
    if located.placement.isolation == Isolation::Schema {
        site.ops.at_hand().keep(client);
    }
    Ok(())
}

/// From this transaction on the tenant is served.
async fn let_in(site: &Site<'_>, located: &Located, seeding: Option<Client>) -> Result<(), Failure> {
    let arrival = match located.placement.isolation {
        Isolation::Shared => site.arrive(located, seeding).await?,
        // Its tables are its own: no roll-out reaches them before it is activated.
        Isolation::Schema | Isolation::Database => None,
    };
    let mut client = site.ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    activate::prepare(site, located, &transaction).await?;
    activate::commit(site, located, transaction).await?;
    // From here on roll-outs list it.
    drop(arrival);
    debug_assert!(located.placement.schema == SHARED_SCHEMA || located.placement.isolation == Isolation::Schema);
    Ok(())
}
