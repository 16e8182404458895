//! A spare becomes a tenant's schema and the tenant is activated, by two transactions beside each other.
//!
//! Each is made ready on its server before either is committed. The catalog's holds the operation's row from before the spare is the tenant's,
//! so that nobody takes over in between and there is no step to note.
//!
//! **The spare's is committed first.** Where both write to one log that is not waited for: the activation stands behind it, so that no crash
//! leaves the one without the other; and both sessions were there before, so that no crash came between. Servers that are apart forget each by
//! itself: there it is waited for.
//!
//! **Killed in between**, the schema is the tenant's and the operation as it was: whoever takes it finds the schema whole, and activates it.

use tenantry_catalog::{Transaction, fleet_state, log, operation, placement::Located};
use tenantry_engine::{home, isolate::Derived, migrate, turn};
use tokio_postgres::Client;

use super::{
    Failure, activate, provision,
    site::{Site, TURN, declares_seeds, of_each_tenant, require_whole},
};
use crate::{at_hand::Connected, failpoint, migrations::ledger_rows};

/// Does so; `false` where there is no spare, or where a tenant needs more than that, and nothing is changed. A connection that has the
/// operation's turn by then is left in `in_turn`.
pub(super) async fn hand_out(
    site: &Site<'_>,
    located: &Located,
    in_turn: &mut Option<Connected>,
) -> Result<bool, Failure> {
    let (ops, journal) = (site.ops, site.journal);
    if ops.fleet().spare_schemas_on(located.spare_schemas) == 0 {
        return Ok(false);
    }
    // Seeds are the application's own statements, in the tenant's context.
    let Some(derived) = ops.derived().await?.filter(|derived| !declares_seeds(derived)) else {
        return Ok(false);
    };
    // Files of its own may have been written on top of an older version than a spare has.
    if site.own_files(located).await?.is_some() {
        return Ok(false);
    }
    journal.arrive("schema").await?;
    provision::will_make_first(site, located).await?;
    let client = site.connect_again().await?;
    let mut catalog = ops.catalog().client().await?;
    let (taken, here, there) = tokio::join!(
        turn::take(&client, journal.lock_key(), TURN),
        client.log(),
        log::name(&catalog)
    );
    taken?;
    let is_one_log = here.is_some() && here == there.ok().as_deref();
    failpoint::pass("provision.in_turn").await?;
    let (spare, activation) = tokio::join!(
        take_spare(site, located, &client, &derived),
        prepare(site, located, &mut catalog, &derived)
    );
    let (spare, activation) = (spare?, activation?);
    let Some(whole) = spare else {
        activation.rollback().await?;
        *in_turn = Some(client);
        return Ok(false);
    };
    if let Err(failure) = whole {
        // It becomes this tenant's all the same, and goes with it: else the next tenant would get it.
        activation.rollback().await?;
        turn::commit(&client).await?;
        return Err(failure);
    }
    failpoint::pass("provision.prepared").await?;
    if is_one_log {
        turn::commit_lightly(&client).await?;
    } else {
        turn::commit(&client).await?;
    }
    failpoint::pass("provision.handed_out").await?;
    // Others will be made in the same database.
    ops.at_hand().keep(client);
    activate::commit(site, located, activation).await?;
    journal.end("activate").await?;
    Ok(true)
}

/// Takes a spare in a transaction that is left open, and looks whether it is whole; nothing where there is none.
async fn take_spare(
    site: &Site<'_>,
    located: &Located,
    client: &Client,
    derived: &Derived,
) -> Result<Option<Result<(), Failure>>, Failure> {
    let placement = &located.placement;
    let (ledger, caught_up) = (migrate::ledger_text(derived), of_each_tenant(derived));
    let is_handed_out = home::hand_out_spare(
        client,
        site.installation(),
        placement.tenant,
        placement.epoch,
        &ledger,
        &caught_up,
    )
    .await?;
    if !is_handed_out {
        return Ok(None);
    }
    Ok(Some(require_whole(client, &placement.schema, derived).await))
}

/// Makes the activation ready, with the catalog's copy of the ledger in it.
async fn prepare<'c>(
    site: &Site<'_>,
    located: &Located,
    catalog: &'c mut tenantry_catalog::Client,
    derived: &Derived,
) -> Result<Transaction<'c>, Failure> {
    let transaction = catalog.transaction().await?;
    let schemas = [(site.database.id, located.placement.schema.clone())];
    let versions = ledger_rows(derived);
    // Who is stopped here must not keep the operation from everybody for ever.
    let bounded = async { Ok(operation::let_go_when_idle(&transaction, site.ops.fleet().lease).await?) };
    let recorded = async { Ok(fleet_state::record_within(&transaction, &schemas, &versions).await?) };
    tokio::try_join!(bounded, recorded, activate::prepare(site, located, &transaction))?;
    Ok(transaction)
}
