//! Commits at the target that are not waited for, and the one that is.
//!
//! While a tenant waits each commit at the target would wait for its disk, and for its synchronous standbys. But nothing there counts before
//! the switch, so what is written behind the closed fence is committed without waiting, and once before the switch everything is waited for:
//! the log is one, and who waits for a place in it waits for all that stands before.
//!
//! **Where the target crashes in between** it forgets the last of these commits, in their order, so that what it has is what it had at some moment
//! before. The connections are gone with it, and the switch asks for the fence on one of them: there is none. The old home opens, and the next try
//! knows nothing of this one but what is written down: the position of the stream, which is committed with its rows and forgotten with them; the
//! source is not told of it and keeps the changes ([`Applier::lightly`](super::stream::Applier::lightly)). Jobs, history and rows that are brought
//! behind the fence are brought anew, sequences are set again.

use tokio_postgres::Client;

use crate::sql_error::{Doing, SqlError};

/// In a transaction: its commit is not waited for.
pub(super) const LIGHTLY: &str = "set local synchronous_commit = off";

/// Waits until everything that was committed in the server before is on its disk, and on its synchronous standbys where it has some: whatever
/// crashes, it is there from now on. Belongs before anything that relies on it, such as the switch.
///
/// # Errors
///
/// Where a statement fails; drop the connection then.
///
/// # Cancel safety
///
/// Drop the connection: nothing was waited for.
pub async fn make_lasting(client: &Client) -> Result<(), SqlError> {
    // A commit is waited for where something was written under a number of its own, which such a message is. Where the server's commits are
    // never waited for, this one is.
    client
        .batch_execute(
            "begin;
             select pg_catalog.set_config('synchronous_commit', 'local', true)
              where pg_catalog.current_setting('synchronous_commit') = 'off';
             select pg_catalog.pg_logical_emit_message(true, 'tenantry_lasting', ''::pg_catalog.text);
             commit",
        )
        .await
        .doing("wait until the new home is on its disk")
}
