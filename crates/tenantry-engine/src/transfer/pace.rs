//! How hard a copy or a comparison works a server on which others work, too.
//!
//! A backend that reads a million rows without a pause has a processor for itself, and whoever's call comes there waits its turn behind it. So it
//! rests for a millisecond about every [`ROWS`] rows, which PostgreSQL does for us: in a condition that is always true. Calls of others come
//! between, and the copy's target, which takes longer for a row than its source, hardly waits for it.

use tenantry_sql::Identifier;
use tokio_postgres::Client;

use crate::sql_error::{Doing, SqlError};

/// About how many rows are read between two rests: a fifth to a third of a millisecond's work.
const ROWS: u32 = 150;

/// How fast rows are read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Pace {
    /// As fast as the server can.
    #[default]
    Full,
    /// With rests.
    Gentle,
}

impl Pace {
    /// Gentle where anybody but the connected administrator and the mover has used the server within the last second. Outside of a transaction: within
    /// one, PostgreSQL goes on telling what it told first.
    ///
    /// # Errors
    ///
    /// Where the server can't be asked.
    ///
    /// # Cancel safety
    ///
    /// It only reads.
    pub async fn beside_others(client: &Client, mover: &Identifier) -> Result<Self, SqlError> {
        let row = client
            .query_one(
                "select exists (select from pg_catalog.pg_stat_activity a
                                 where a.backend_type = 'client backend' and a.usename not in (session_user, $1)
                                   and a.state_change > pg_catalog.clock_timestamp() - interval '1 second')",
                &[&mover.as_str()],
            )
            .await
            .doing("look whether others work on the server")?;
        Ok(match row.get(0) {
            true => Self::Gentle,
            false => Self::Full,
        })
    }

    /// What a condition on the rows that are read goes on with, as SQL. By chance and not by count: a count would need a state.
    pub(super) fn condition(self) -> String {
        match self {
            Self::Full => String::new(),
            Self::Gentle => format!(
                " and case when pg_catalog.random() * {ROWS} < 1 then pg_catalog.pg_sleep(0.001) is not null else true end"
            ),
        }
    }
}
