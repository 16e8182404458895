//! Runs what is safe to get a placement back to what it should be.

use tenantry_core::TenantId;
use tokio_postgres::Client;

use super::{
    compare::compare,
    difference::{Difference, Remedy},
    fact::Structure,
    read::{Ledger, read, read_ledger},
};
use crate::migrate::{self, ApplyError, Patience, Target};

/// What became of one difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// The difference as it was.
    pub difference: Difference,
    /// Why it is still there; nothing where it is gone.
    pub left: Option<String>,
}

/// What became of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// It ran; each difference, and what became of it.
    Ran(Vec<Repaired>),
    /// The placement has other migrations by now than the expected structure was made for. Nothing was run: it would have undone
    /// what they did.
    OtherLedger,
}

/// Compares again in the placement's turn, so that no roll-out changes it meanwhile, and runs what is safe: each difference
/// in a transaction of its own, indexes while the table is written.
///
/// `expected` is what the migrations in `ledger` make. The turn may be long in coming, behind a roll-out: what the placement has is
/// looked at once more when it has come.
///
/// `client` is an administrator's connection that nobody else uses meanwhile.
///
/// # Errors
///
/// Where the turn can't be had or the connection fails; that a statement fails stands with its difference.
///
/// # Cancel safety
///
/// Dropping the future leaves the open statement to be rolled back with the connection; close it and ask again.
pub async fn repair(
    client: &Client,
    target: &Target,
    tenant: Option<TenantId>,
    expected: &Structure,
    ledger: &Ledger,
    patience: &Patience,
) -> Result<Repair, ApplyError> {
    migrate::take_turn(client, target, patience).await?;
    let repaired = match read_ledger(client, target).await {
        Ok(found) if found == *ledger => in_turn(client, target, tenant, expected, patience)
            .await
            .map(Repair::Ran),
        Ok(_) => Ok(Repair::OtherLedger),
        Err(error) => Err(error.source.into()),
    };
    // Where this fails the connection is gone, and the lock with it.
    let _ = client
        .batch_execute(&format!("select pg_advisory_unlock({})", migrate::turn_key(target)))
        .await;
    repaired
}

async fn in_turn(
    client: &Client,
    target: &Target,
    tenant: Option<TenantId>,
    expected: &Structure,
    patience: &Patience,
) -> Result<Vec<Repaired>, ApplyError> {
    let before = read(client, target, tenant).await.map_err(|error| error.source)?;
    let mut repaired = Vec::new();
    for difference in compare(&before, expected, target, tenant) {
        let left = match &difference.remedy {
            Remedy::Refused(sentence) => Some(sentence.clone()),
            Remedy::Safe => together(client, target, &difference, patience).await?,
            Remedy::SafeAlone => alone(client, target, &difference, patience).await?,
        };
        repaired.push(Repaired { difference, left });
    }
    // What the statements did is looked at, not believed.
    let after = read(client, target, tenant).await.map_err(|error| error.source)?;
    for still in compare(&after, expected, target, tenant) {
        let known = repaired
            .iter_mut()
            .find(|repaired| repaired.difference.object == still.object);
        match known {
            Some(repaired) if repaired.left.is_none() => {
                repaired.left = Some("it was run, and the difference is still there".to_owned());
            }
            Some(_) => {}
            None => repaired.push(Repaired {
                difference: still,
                left: Some("it came with the repair: run it again".to_owned()),
            }),
        }
    }
    Ok(repaired)
}

/// In a transaction. Why it failed, where PostgreSQL refused it.
async fn together(
    client: &Client,
    target: &Target,
    difference: &Difference,
    patience: &Patience,
) -> Result<Option<String>, ApplyError> {
    let mut text = migrate::begin(target, patience);
    // Only the administrator can give an object to another owner.
    if !difference.object.starts_with("owner of ") {
        text.push_str(&migrate::act_as(&target.owner));
    }
    for statement in &difference.sql {
        text.push_str(statement);
        text.push_str(";\n");
    }
    text.push_str("commit");
    for attempt in 1.. {
        let Err(error) = client.batch_execute(&text).await else {
            break;
        };
        migrate::roll_back(client).await?;
        let message = said(error)?;
        if message.locked && attempt < patience.lock_attempts {
            migrate::ask_vacuum_to_leave(client, target).await?;
            tokio::time::sleep(std::time::Duration::from_millis(50) * attempt).await;
            continue;
        }
        return Ok(Some(message.text));
    }
    Ok(None)
}

/// Statement by statement outside of a transaction.
async fn alone(
    client: &Client,
    target: &Target,
    difference: &Difference,
    patience: &Patience,
) -> Result<Option<String>, ApplyError> {
    // It waits for transactions to end and nobody waits for it.
    let enter = format!(
        "set role {}; set search_path = {}, tenantry_ext; set lock_timeout = {}",
        target.owner,
        target.schema,
        patience.turn_timeout.as_millis()
    );
    client.batch_execute(&enter).await?;
    let mut left = None;
    for statement in &difference.sql {
        if let Err(error) = client.batch_execute(statement).await {
            left = Some(said(error)?.text);
            clear_invalid(client, difference).await?;
            break;
        }
    }
    client
        .batch_execute("reset role; reset search_path; reset lock_timeout")
        .await?;
    Ok(left)
}

/// An index that could not be built stays behind, invalid.
async fn clear_invalid(client: &Client, difference: &Difference) -> Result<(), tokio_postgres::Error> {
    let name = difference
        .object
        .strip_prefix("index ")
        .and_then(|rest| rest.split(" on ").next())
        .unwrap_or_default();
    let rows = client
        .query(
            "select format('drop index concurrently %I', c.relname)
               from pg_index i join pg_class c on c.oid = i.indexrelid
              where c.relnamespace = current_schema()::regnamespace and not i.indisvalid and c.relname = any($1)",
            &[&vec![name, "tenantry_repair"]],
        )
        .await?;
    for row in rows {
        client.batch_execute(row.get(0)).await?;
    }
    Ok(())
}

struct Said {
    text: String,
    locked: bool,
}

/// What PostgreSQL says, or that there is no connection any more.
fn said(error: tokio_postgres::Error) -> Result<Said, tokio_postgres::Error> {
    let locked = error.code() == Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE);
    match error.as_db_error() {
        Some(database) => Ok(Said {
            text: database.message().to_owned(),
            locked,
        }),
        None => Err(error),
    }
}
