//! A replication connection before it streams: who is there, and slots.

use std::sync::Arc;

use super::{ChangeStream, Lsn};
use crate::{CancelToken, Connection, Endpoint, Error, Options, raw::RawRow};

/// Values are written so that another server reads the same ones back, whatever the role's or the database's settings are.
const SETTINGS: [(&str, &str); 6] = [
    ("replication", "database"),
    ("datestyle", "ISO, YMD"),
    ("intervalstyle", "postgres"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("timezone", "UTC"),
];

/// A replication connection to a database, of a role that may replicate. It logs in and is encrypted as any [`Connection`].
#[derive(Debug)]
pub struct Replication {
    connection: Connection,
}

/// Who answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identified {
    /// The cluster's identifier: a copy has the same.
    pub system_identifier: u64,
    /// The timeline: it grows when a replica takes over.
    pub timeline: u32,
    /// How far its log is written out.
    pub position: Lsn,
    /// The connected database.
    pub database: String,
}

/// A slot that is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotRequest<'a> {
    /// Its name: lower-case letters, digits and underscores.
    pub name: &'a str,
    /// It goes with the connection.
    pub temporary: bool,
    /// It is kept on replicas too, where the server can (PostgreSQL 17). Not for a temporary one.
    pub failover: bool,
}

/// A slot that was made, and the rows as they were at that moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewSlot {
    /// The snapshot holds what was committed before this position, the slot gives what was committed from it on.
    pub position: Lsn,
    /// For `set transaction snapshot`: it can be taken until this connection does anything else.
    pub snapshot: String,
}

impl Replication {
    /// Opens a replication connection.
    ///
    /// # Errors
    ///
    /// As [`Connection::connect`]; 42501 where the role may not replicate.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing is left.
    pub async fn connect(endpoint: Arc<Endpoint>, application_name: &str) -> Result<Self, Error> {
        let options = Options {
            application_name: application_name.to_owned(),
            ..Options::default()
        };
        let connection = Connection::open(endpoint, &options, &SETTINGS).await?;
        Ok(Self { connection })
    }

    /// Asks who is there.
    ///
    /// # Errors
    ///
    /// Where the connection failed.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the connection is no longer usable.
    pub async fn identify(&mut self) -> Result<Identified, Error> {
        const STRANGE: Error = Error::Protocol("IDENTIFY_SYSTEM with a strange answer");
        let row = self.row("IDENTIFY_SYSTEM").await?;
        let values = row.values()?;
        let [Some(system), Some(timeline), Some(position), Some(database)] = values[..] else {
            return Err(STRANGE);
        };
        Ok(Identified {
            system_identifier: system.parse().map_err(|_| STRANGE)?,
            timeline: timeline.parse().map_err(|_| STRANGE)?,
            position: position.parse().map_err(|_| STRANGE)?,
            database: database.to_owned(),
        })
    }

    /// Makes a slot of the plugin `pgoutput` and exports the snapshot that goes with it. Waits for every older transaction
    /// of the server that writes: see [`Self::cancel_token`].
    ///
    /// # Errors
    ///
    /// 42710 where there is one of this name, 53400 where the server has no place for one more, 55000 where its
    /// `wal_level` is not `logical`.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the connection is no longer usable, and a slot that was being made may be there.
    pub async fn create_slot(&mut self, request: &SlotRequest<'_>) -> Result<NewSlot, Error> {
        const STRANGE: Error = Error::Protocol("CREATE_REPLICATION_SLOT with a strange answer");
        let temporary = if request.temporary { " TEMPORARY" } else { "" };
        let failover = match request.failover && !request.temporary && self.connection.server_version() >= 170_000 {
            true => ", FAILOVER true",
            false => "",
        };
        let command = format!(
            "CREATE_REPLICATION_SLOT {}{temporary} LOGICAL pgoutput (SNAPSHOT 'export'{failover})",
            identifier(request.name)
        );
        let row = self.row(&command).await?;
        let values = row.values()?;
        let [_, Some(position), Some(snapshot), _] = values[..] else {
            return Err(STRANGE);
        };
        Ok(NewSlot {
            position: position.parse().map_err(|_| STRANGE)?,
            snapshot: snapshot.to_owned(),
        })
    }

    /// Drops a slot; `wait` waits while another connection uses it.
    ///
    /// # Errors
    ///
    /// 42704 where there is none, 55006 where it is in use.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the connection is no longer usable.
    pub async fn drop_slot(&mut self, name: &str, wait: bool) -> Result<(), Error> {
        let wait = if wait { " WAIT" } else { "" };
        let command = format!("DROP_REPLICATION_SLOT {}{wait}", identifier(name));
        self.connection.batch(&command).await
    }

    /// Begins to stream what a publication lets through, from a position on. The server begins later where the slot was
    /// confirmed further; a transaction comes whole or not at all.
    ///
    /// # Errors
    ///
    /// 42704 where there is no such slot, 55006 where it is in use, 55000 where the server gave up what it held for it.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the connection is closed.
    pub async fn start(mut self, slot: &str, publication: &str, from: Lsn) -> Result<ChangeStream, Error> {
        // The plugin reads its option as a list of names.
        let publication = identifier(publication).replace('\'', "''");
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {from} (proto_version '1', publication_names '{publication}', messages 'true')",
            identifier(slot)
        );
        self.connection.begin_call()?;
        postgres_protocol::message::frontend::query(&command, &mut self.connection.outbox)?;
        self.connection.send().await?;
        ChangeStream::begin(self.connection, from).await
    }

    /// Asks the server to stop what this connection waits for.
    pub fn cancel_token(&self) -> CancelToken {
        self.connection.cancel_token()
    }

    /// The one row that a command gives.
    async fn row(&mut self, command: &str) -> Result<RawRow, Error> {
        self.connection.begin_call()?;
        postgres_protocol::message::frontend::query(command, &mut self.connection.outbox)?;
        self.connection.send().await?;
        let mut row = None;
        while let Some(body) = self.connection.next().await? {
            row = Some(RawRow(body));
        }
        row.ok_or(Error::Protocol("a command of the replication protocol gave no row"))
    }
}

/// A name in a command of the replication protocol.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
