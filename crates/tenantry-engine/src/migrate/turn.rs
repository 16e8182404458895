//! Who may change a placement: one applier at a time, and none while somebody needs it to stay as it is.

use std::time::Duration;

use tokio_postgres::{Client, error::SqlState};

use super::{
    apply::ApplyError,
    target::{Patience, Target},
};
use tenantry_sql::Literal;

/// What the appliers' turn is called.
const MIGRATE: &str = "migrate";

/// What the appliers of a placement take turns by: a number, as SQL.
pub(crate) fn turn_key(target: &Target) -> String {
    key(target, MIGRATE)
}

/// The same of a schema whose name is an expression.
pub(crate) fn turn_key_of(schema: &str) -> String {
    format!("pg_catalog.hashtextextended('tenantry {MIGRATE} ' || {schema}, 0)")
}

/// A number of the placement for this purpose, as SQL.
pub(super) fn key(target: &Target, purpose: &str) -> String {
    let name = Literal::new(format!("tenantry {purpose} {}", target.schema.as_str()))
        .expect("an identifier holds no zero byte");
    format!("hashtextextended({name}, 0)")
}

/// One applier per placement; the others wait here and then find nothing pending.
pub(crate) async fn take_turn(client: &Client, target: &Target, patience: &Patience) -> Result<(), ApplyError> {
    let lock = format!("pg_advisory_lock({})", turn_key(target));
    take(client, target, &lock, patience.turn_timeout).await
}

/// Lets nobody migrate these schemas of the connected database for as long as the session lives, by taking the appliers' turn together
/// with whoever else wants them to stay as they are.
///
/// # Errors
///
/// [`ApplyError::Busy`] where somebody migrates one of them for longer than `patience`.
///
/// # Cancel safety
///
/// Dropping the future may leave the session with some of them; close the connection.
pub async fn hold_still(client: &Client, targets: &[&Target], patience: Duration) -> Result<(), ApplyError> {
    for target in targets {
        let lock = format!("pg_advisory_lock_shared({})", turn_key(target));
        take(client, target, &lock, patience).await?;
    }
    Ok(())
}

/// Takes an advisory lock of the session, which is waited for so long, whatever the administrator's role says of time-outs.
pub(super) async fn take(client: &Client, target: &Target, lock: &str, patience: Duration) -> Result<(), ApplyError> {
    // One message, which a failure undoes whole: the settings do not stay.
    let taken = client
        .batch_execute(&format!(
            "set statement_timeout = 0; set lock_timeout = {}; select {lock}; reset lock_timeout; reset statement_timeout",
            patience.as_millis(),
        ))
        .await;
    taken.map_err(|error| match error.code() {
        // An index that is built concurrently waits for whoever waits here.
        Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED) => {
            ApplyError::Busy(target.schema.as_str().to_owned())
        }
        _ => error.into(),
    })
}
