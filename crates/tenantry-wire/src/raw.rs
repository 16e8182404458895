//! The raw lane: a connection for SQL from outside the application's own code.
//!
//! Such SQL may leave anything in its session: a prepared statement under a name that is used later, a cursor with hold, a
//! setting, a seed of `random()`. So nothing on this connection is prepared under a name, each statement is sent in a
//! message that takes one statement only, and the connection serves one transaction and is closed. The token says that it
//! is of the raw lane: should it ever reach the code lane by a fault of ours, `tenantry.enter` refuses to bind it again.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use postgres_protocol::{IsNull, message::frontend};
use postgres_types::Oid;
use tenantry_core::seal;

use crate::{
    Binding, Connection, Error, TransactionStatus,
    admit::admit_raw,
    lead::{Fixed, bind_error},
    prepare::columns,
};

/// Parameters of a statement of the raw lane: as text, which PostgreSQL reads as what the statement wants there.
pub type RawParams<'a> = &'a [Option<&'a str>];

/// Messages that tell what went wrong need some room, too, however small the result may be.
const MESSAGE_BYTES_MIN: usize = 64 * 1024;
/// What a row takes beside its bytes.
const ROW_OVERHEAD_BYTES: usize = 64;

/// A connection of the raw lane. It serves one transaction; whoever holds it closes it then.
#[derive(Debug)]
pub struct RawSession {
    connection: Connection,
    result_bytes_max: usize,
    result_bytes_left: usize,
}

/// What a statement gave, as text.
#[derive(Clone, Default, Debug)]
pub struct RawOutcome {
    /// The names of the columns and the oids of their types; none where the statement gives no rows.
    pub columns: Vec<(String, Oid)>,
    /// The rows.
    pub rows: Vec<RawRow>,
    /// How many rows it touched, as its command tag says.
    pub affected: u64,
}

/// A row whose values are text.
#[derive(Clone, Debug)]
pub struct RawRow(pub(crate) Bytes);

impl RawRow {
    /// The values in the order of the columns; `None` for null.
    ///
    /// # Errors
    ///
    /// [`Error::Protocol`] when the row is shorter than it says, or no UTF-8.
    pub fn values(&self) -> Result<Vec<Option<&str>>, Error> {
        const TORN: Error = Error::Protocol("a row is shorter than it says");
        let (count, mut rest) = self.0.split_first_chunk().ok_or(TORN)?;
        let count = u16::from_be_bytes(*count);
        let mut values = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let (length, after) = rest.split_first_chunk().ok_or(TORN)?;
            // A negative length stands for null.
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                values.push(None);
                rest = after;
                continue;
            };
            let (value, after) = after.split_at_checked(length).ok_or(TORN)?;
            let text = std::str::from_utf8(value).map_err(|_| Error::Protocol("a text that is no UTF-8"))?;
            values.push(Some(text));
            rest = after;
        }
        Ok(values)
    }
}

impl RawSession {
    /// A session on a new connection that has run nothing yet, for results of at most so many bytes together.
    pub fn new(mut connection: Connection, result_bytes_max: usize) -> Self {
        // A single row larger than the whole result may be is not even read.
        connection.inbox.message_bytes_max = result_bytes_max.max(MESSAGE_BYTES_MIN);
        // What was asked about the database when it was opened: closed with the next call.
        let asked = connection.statements.clear();
        connection.closing.extend(asked);
        Self {
            connection,
            result_bytes_max,
            result_bytes_left: result_bytes_max,
        }
    }

    /// The connection, to cancel and to close.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Says good-bye to the server, without waiting, and closes the socket.
    pub fn terminate(self) {
        self.connection.terminate();
    }

    /// Says good-bye, and waits until the server has ended its side; see [`Connection::end`].
    pub async fn end(self) {
        self.connection.end().await;
    }

    /// Opens the transaction in the binding's context, in one round trip. Once it has read the fence, PostgreSQL lets
    /// nobody make a read-only transaction write again.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] when the fence or the token is refused: nothing has happened then.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the connection is no longer usable.
    pub async fn begin(&mut self, binding: &Binding<'_>, read_only: bool) -> Result<(), Error> {
        let now_us = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros() as i64);
        let signed = binding.key.sign(&seal::Token {
            tenant: binding.tenant,
            counter: 1,
            fresh: true,
            raw: true,
            role: binding.role,
            now_us,
            backend_pid: self.connection.process_id(),
            account: binding.account,
            epoch: binding.epoch,
        });
        let begin = if read_only {
            "begin isolation level read committed, read only"
        } else {
            "begin isolation level read committed, read write"
        };
        let connection = &mut self.connection;
        connection.begin_call()?;
        connection.put_once(begin, &[], &[])?;
        // In both tiers inside of the transaction: the session is bound for no longer.
        let enter = [&signed.message[..], &signed.mac[..], binding.search_path.as_bytes()];
        connection.put_once(Fixed::EnterWithPath.sql(), Fixed::EnterWithPath.types(), &enter)?;
        connection.finish_once().await
    }

    /// Runs one statement in the transaction.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for one that does not belong here, [`Error::ResultTooLarge`], and what PostgreSQL says. After any of
    /// them the transaction can only be undone.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the connection is no longer usable.
    pub async fn run(&mut self, sql: &str, params: RawParams<'_>) -> Result<RawOutcome, Error> {
        admit_raw(sql)?;
        let connection = &mut self.connection;
        connection.begin_call()?;
        frontend::parse("", sql, [], &mut connection.outbox)?;
        let serialize = |value: &Option<&str>, buffer: &mut bytes::BytesMut| {
            Ok(match value {
                Some(text) => {
                    buffer.extend_from_slice(text.as_bytes());
                    IsNull::No
                }
                None => IsNull::Yes,
            })
        };
        frontend::bind("", "", [0], params, serialize, [0], &mut connection.outbox)
            .map_err(|error| bind_error(error, 0))?;
        frontend::describe(b'P', "", &mut connection.outbox)?;
        frontend::execute("", 0, &mut connection.outbox)?;
        frontend::sync(&mut connection.outbox);
        connection.send().await?;
        let outcome = self.outcome().await?;
        // Refused by its first word before, so this is a fault of ours: nothing more is sent.
        match self.connection.status() {
            TransactionStatus::Open => Ok(outcome),
            _ => Err(Error::TransactionEnded),
        }
    }

    async fn outcome(&mut self) -> Result<RawOutcome, Error> {
        let mut outcome = RawOutcome::default();
        let connection = &mut self.connection;
        loop {
            let frame = match connection.answer().await {
                Ok(frame) => frame,
                Err(Error::TooLarge { .. }) => return Err(self.too_large()),
                Err(error) => return Err(error),
            };
            match frame.tag {
                b'T' => {
                    outcome.columns = columns(connection.inbox.body(frame))?;
                    connection.inbox.skip(frame);
                }
                b'D' => {
                    let row = connection.inbox.take(frame);
                    match self.result_bytes_left.checked_sub(row.len() + ROW_OVERHEAD_BYTES) {
                        Some(left) => self.result_bytes_left = left,
                        None => return Err(self.too_large()),
                    }
                    outcome.rows.push(RawRow(row));
                }
                b'Z' => {
                    connection.next().await?;
                    outcome.affected = connection.call.affected;
                    return Ok(outcome);
                }
                _ => connection.heed(frame)?,
            }
        }
    }

    fn too_large(&self) -> Error {
        Error::ResultTooLarge {
            bytes_max: self.result_bytes_max,
        }
    }

    /// Keeps what the transaction did.
    ///
    /// # Errors
    ///
    /// When PostgreSQL refuses (a deferred constraint), or a statement had failed: nothing is kept then.
    ///
    /// # Cancel safety
    ///
    /// When dropped, it is not known whether the transaction was kept.
    pub async fn commit(&mut self) -> Result<(), Error> {
        if self.connection.status() != TransactionStatus::Open {
            return Err(Error::TransactionFailed);
        }
        self.connection.begin_call()?;
        self.connection.put_once(Fixed::Commit.sql(), &[], &[])?;
        self.connection.finish_once().await
    }
}

impl Connection {
    /// Puts a statement of ours into the outbox, unnamed: a name could have been taken by what ran before.
    pub(crate) fn put_once(&mut self, sql: &str, types: &[Oid], values: &[&[u8]]) -> Result<(), Error> {
        frontend::parse("", sql, types.iter().copied(), &mut self.outbox)?;
        let serialize = |value: &&[u8], buffer: &mut bytes::BytesMut| {
            buffer.extend_from_slice(value);
            Ok(IsNull::No)
        };
        frontend::bind("", "", [1], values, serialize, [1], &mut self.outbox).map_err(|error| bind_error(error, 0))?;
        frontend::execute("", 0, &mut self.outbox)?;
        match &mut self.call.skip_after_sync {
            Some(skip) => *skip += 1,
            None => self.call.skip += 1,
        }
        Ok(())
    }

    async fn finish_once(&mut self) -> Result<(), Error> {
        frontend::sync(&mut self.outbox);
        self.send().await?;
        while self.next().await?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_a_torn_row_is_an_error() {
        let whole = b"\0\x03\0\0\0\x02hi\xff\xff\xff\xff\0\0\0\0";
        let row = RawRow(Bytes::from_static(whole));
        assert_eq!(row.values().unwrap(), [Some("hi"), None, Some("")]);
        for end in 0..whole.len() {
            assert!(RawRow(Bytes::from_static(&whole[..end])).values().is_err(), "{end}");
        }
        assert!(RawRow(Bytes::from_static(b"\0\x01\0\0\0\x01\xff")).values().is_err());
    }
}
