//! A connection: what it is, and the one place where bytes leave and arrive.

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{BufMut, Bytes, BytesMut};
use postgres_protocol::message::frontend;
use postgres_types::Type;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::{
    CancelToken, Column, DbError, Endpoint, Error,
    inbox::{Frame, Inbox, MESSAGE_BYTES_MAX},
    lead::Prepared,
    socket::Socket,
    statement::{Statement, StatementCache},
};

/// What is read ahead while a large call is still being written.
const READ_AHEAD_BYTES: usize = 256 * 1024;
/// Above this, the buffer of a large call is given back.
const OUTBOX_KEPT_BYTES: usize = 256 * 1024;

/// How a connection is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The name the server shows for the session.
    pub application_name: String,
    /// How many prepared statements are kept.
    pub statements_max: usize,
    /// A pooler stands in between that lends a server's session for a transaction: nothing is left in the session, so statements
    /// have no names there and are parsed with each call, and their descriptions alone are kept.
    pub pooled: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            application_name: "tenantry".to_owned(),
            statements_max: 256,
            pooled: false,
        }
    }
}

/// Whether a transaction is open, as the server said after the last call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransactionStatus {
    /// None.
    Idle,
    /// One is open.
    Open,
    /// One is open and has failed: only its end is accepted.
    Failed,
}

/// A connection to PostgreSQL, used by one task at a time.
///
/// # Cancel safety
///
/// A call that is dropped halfway leaves the connection not [usable](Self::is_usable): every later call fails with
/// [`Error::Unusable`], and the holder closes it. It is never repaired, because what the server did is not known.
pub struct Connection {
    pub(crate) socket: Socket,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: BytesMut,
    pub(crate) call: Call,
    /// A call was begun and its end was not seen.
    pub(crate) in_call: bool,
    pub(crate) status: TransactionStatus,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) process_id: i32,
    pub(crate) secret_key: i32,
    pub(crate) version: u32,
    /// What the names of this connection's statements begin with: not to be guessed by SQL that wants to replace one.
    pub(crate) prefix: String,
    pub(crate) statement_count: u64,
    pub(crate) statements: StatementCache,
    /// Statements that lost their place in the cache, closed with the next call.
    pub(crate) closing: Vec<Arc<Statement>>,
    pub(crate) types: HashMap<u32, Type>,
    pub(crate) prepared: Prepared,
    /// Statements have no names; see [`Options::pooled`].
    pub(crate) pooled: bool,
    /// The search path that we set; another value reported means that SQL changed it.
    pub(crate) search_path: String,
}

/// Where the call in progress stands.
#[derive(Default)]
pub(crate) struct Call {
    /// Results to step over before the statement's own.
    pub(crate) skip: u8,
    /// The same after the first Sync, where a call has two.
    pub(crate) skip_after_sync: Option<u8>,
    /// The first error; the server skips to the Sync.
    pub(crate) error: Option<Box<DbError>>,
    /// Rows the statement touched, as its command tag says.
    pub(crate) affected: u64,
    /// The first of two Syncs took effect.
    pub(crate) first_sync_held: bool,
    /// The call expects a COPY.
    pub(crate) copy: bool,
    /// The types of the columns that the caller will read: a pooled statement was described in an earlier call.
    pub(crate) columns: Option<Arc<[Column]>>,
    /// Fixed statements whose Parse went out with this call, in the order of their answers.
    pub(crate) parsing: Prepared,
}

impl Connection {
    /// Whether the last call came to its end, so that another may begin.
    pub fn is_usable(&self) -> bool {
        !self.in_call
    }

    /// Whether it is usable and no transaction is open.
    pub fn is_idle(&self) -> bool {
        !self.in_call && self.status == TransactionStatus::Idle
    }

    /// Whether a transaction is open, as the server said after the last call.
    pub fn status(&self) -> TransactionStatus {
        self.status
    }

    /// The server's process for this connection.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// The server's version as a number, for example 150018.
    pub fn server_version(&self) -> u32 {
        self.version
    }

    /// How many prepared statements are kept.
    pub fn statement_count(&self) -> usize {
        self.statements.len()
    }

    /// Asks the server to stop what this connection runs, from another connection.
    pub fn cancel_token(&self) -> CancelToken {
        CancelToken::new(self.endpoint.clone(), self.process_id, self.secret_key)
    }

    /// Whether the server has closed an idle connection, or has said something that ends it. No system call in the
    /// usual case: it looks only when the runtime knows of something to read.
    pub fn is_closed(&mut self) -> bool {
        if self.in_call {
            return true;
        }
        self.inbox.make_room();
        let mut context = Context::from_waker(Waker::noop());
        match poll_read::<256>(&mut self.socket, &mut self.inbox, &mut context) {
            Poll::Pending => false,
            Poll::Ready(Ok(0) | Err(_)) => true,
            Poll::Ready(Ok(_)) => self.heed_idle_messages().is_err(),
        }
    }

    /// Says good-bye to the server, without waiting, and closes the socket.
    pub fn terminate(mut self) {
        if self.in_call {
            return;
        }
        self.outbox.clear();
        frontend::terminate(&mut self.outbox);
        let mut context = Context::from_waker(Waker::noop());
        // Courtesy only: a server that hears nothing sees the socket closed.
        let _ = Pin::new(&mut self.socket).poll_write(&mut context, &self.outbox);
    }

    /// What the server says between calls: settings and notices; an error means that it closes the connection.
    fn heed_idle_messages(&mut self) -> Result<(), Error> {
        while let Some(frame) = self.inbox.frame()? {
            if frame.tag == b'E' {
                return Err(Error::Database(Box::new(DbError::parse(self.inbox.body(frame)))));
            }
            self.heed(frame)?;
        }
        Ok(())
    }

    /// Begins a call: from here until its end the connection is not usable.
    pub(crate) fn begin_call(&mut self) -> Result<(), Error> {
        if self.in_call {
            return Err(Error::Unusable);
        }
        self.outbox.clear();
        self.call = Call::default();
        if self.pooled {
            // They have no names, so there is nothing to close.
            self.closing.clear();
        }
        for statement in &self.closing {
            frontend::close(b'S', &statement.name, &mut self.outbox)?;
        }
        Ok(())
    }

    /// Sends what the call has put into the outbox. While the server does not take it, its answers are read, or two
    /// full buffers could wait for each other.
    pub(crate) async fn send(&mut self) -> Result<(), Error> {
        if self.outbox.len() > MESSAGE_BYTES_MAX {
            let bytes = self.outbox.len();
            self.outbox = BytesMut::new();
            return Err(Error::TooLarge {
                bytes,
                bytes_max: MESSAGE_BYTES_MAX,
            });
        }
        self.in_call = true;
        self.closing.clear();
        let mut written = 0;
        let sent = poll_fn(|cx| {
            while written < self.outbox.len() {
                match Pin::new(&mut self.socket).poll_write(cx, &self.outbox[written..])? {
                    Poll::Ready(0) => return Poll::Ready(Err(Error::Closed)),
                    Poll::Ready(count) => written += count,
                    Poll::Pending => {
                        while self.inbox.buffer.len() < READ_AHEAD_BYTES {
                            self.inbox.make_room();
                            if ready!(poll_read::<4096>(&mut self.socket, &mut self.inbox, cx))? == 0 {
                                return Poll::Ready(Err(Error::Closed));
                            }
                        }
                        return Poll::Pending;
                    }
                }
            }
            Pin::new(&mut self.socket).poll_flush(cx).map_err(Error::from)
        })
        .await;
        sent.map_err(|error| self.last_words(error))?;
        if self.outbox.capacity() > OUTBOX_KEPT_BYTES {
            self.outbox = BytesMut::new();
        }
        Ok(())
    }

    /// Why the server ended a session that takes nothing more: it says so before it closes the socket, and that can still be read.
    fn last_words(&mut self, error: Error) -> Error {
        let mut context = Context::from_waker(Waker::noop());
        while self.inbox.buffer.len() < READ_AHEAD_BYTES {
            self.inbox.make_room();
            match poll_read::<4096>(&mut self.socket, &mut self.inbox, &mut context) {
                Poll::Ready(Ok(1..)) => {}
                _ => break,
            }
        }
        while let Ok(Some(frame)) = self.inbox.frame() {
            if self.heed(frame).is_err() {
                break;
            }
        }
        self.call.error.take().map_or(error, Error::Database)
    }

    /// The next message of a call, or why there is none.
    pub(crate) async fn answer(&mut self) -> Result<Frame, Error> {
        match self.frame().await {
            Ok(frame) => Ok(frame),
            // A server that shuts down says why before it closes the socket.
            Err(error) => Err(self.call.error.take().map_or(error, Error::Database)),
        }
    }

    /// Waits for the next message; it stays in the inbox until it is skipped or taken.
    pub(crate) async fn frame(&mut self) -> Result<Frame, Error> {
        loop {
            if let Some(frame) = self.inbox.frame()? {
                return Ok(frame);
            }
            self.inbox.make_room();
            if self.socket.read_buf(&mut self.inbox.buffer).await? == 0 {
                return Err(Error::Closed);
            }
        }
    }

    /// The next row of the call, or `None` when the call came to its end and the connection is usable again.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = self.answer().await?;
            match frame.tag {
                b'D' if self.call.skip == 0 && self.call.skip_after_sync.is_none() => {
                    return Ok(Some(self.inbox.take(frame)));
                }
                b'd' if self.call.copy => return Ok(Some(self.inbox.take(frame))),
                b'Z' => {
                    if self.ready_for_query(frame)? {
                        return match self.call.error.take() {
                            Some(error) => Err(Error::Database(error)),
                            None => Ok(None),
                        };
                    }
                }
                _ => self.heed(frame)?,
            }
        }
    }

    /// The end of a Sync: whether it was the call's last.
    fn ready_for_query(&mut self, frame: Frame) -> Result<bool, Error> {
        self.status = match self.inbox.body(frame) {
            b"I" => TransactionStatus::Idle,
            b"T" => TransactionStatus::Open,
            b"E" => TransactionStatus::Failed,
            _ => return Err(Error::Protocol("ReadyForQuery with an unknown status")),
        };
        self.inbox.skip(frame);
        match self.call.skip_after_sync.take() {
            Some(skip) => {
                self.call.skip = skip;
                self.call.first_sync_held = self.call.error.is_none();
                Ok(false)
            }
            None => {
                self.in_call = false;
                Ok(true)
            }
        }
    }

    /// Any message that is neither a row of the statement nor the end of a Sync.
    pub(crate) fn heed(&mut self, frame: Frame) -> Result<(), Error> {
        let body = self.inbox.body(frame);
        match frame.tag {
            b'C' => match self.call.skip.checked_sub(1) {
                Some(skip) => self.call.skip = skip,
                None => self.call.affected = affected(body),
            },
            b'I' => self.call.skip = self.call.skip.saturating_sub(1),
            b'1' => self.prepared.confirm(&mut self.call.parsing),
            b'E' => {
                let error = Box::new(DbError::parse(body));
                // The first error is the cause; those of a second Sync follow from it.
                self.call.error.get_or_insert(error);
            }
            b'S' => self.heed_parameter(frame)?,
            b'T' => self.heed_columns(frame)?,
            b'N' => tracing::debug!(notice = %DbError::parse(body), "notice from PostgreSQL"),
            b'H' if self.call.copy => {}
            b'G' | b'H' => return Err(Error::UnexpectedCopy),
            // Bind, Close and Describe done, rows of the lead, COPY done, a portal at its limit, a notification.
            b'2' | b'3' | b'n' | b't' | b'D' | b'c' | b's' | b'A' => {}
            _ => return Err(Error::Protocol("a message that does not belong here")),
        }
        self.inbox.skip(frame);
        Ok(())
    }

    /// What the rows that follow hold, as the server has it now. Where that is not what was described in an earlier call, a
    /// migration came in between: nobody may read the rows by the old description.
    fn heed_columns(&mut self, frame: Frame) -> Result<(), Error> {
        let Some(expected) = &self.call.columns else {
            return Ok(());
        };
        let now = crate::prepare::columns(self.inbox.body(frame))?;
        let same = now.len() == expected.len()
            && now
                .iter()
                .zip(expected.iter())
                .all(|((name, oid), column)| *name == column.name && *oid == column.type_.oid());
        match same {
            true => Ok(()),
            false => Err(Error::Drift("the columns of a statement's result".to_owned())),
        }
    }

    /// A setting was reported: those that the connection relies on may not change.
    fn heed_parameter(&mut self, frame: Frame) -> Result<(), Error> {
        let mut parts = self.inbox.body(frame).split(|&byte| byte == 0);
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let holds = match name {
            b"client_encoding" => value == b"UTF8",
            b"standard_conforming_strings" => value == b"on",
            b"search_path" => self.search_path.is_empty() || value == self.search_path.as_bytes(),
            b"session_authorization" => value == self.endpoint.user.as_bytes(),
            b"server_version" => {
                self.version = version_number(value);
                true
            }
            _ => true,
        };
        if holds {
            Ok(())
        } else {
            Err(Error::Drift(String::from_utf8_lossy(name).into_owned()))
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("process_id", &self.process_id)
            .field("in_call", &self.in_call)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Reads once into the room that the inbox has.
fn poll_read<const LENGTH: usize>(
    socket: &mut Socket,
    inbox: &mut Inbox,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, Error>> {
    let room = inbox.buffer.capacity() - inbox.buffer.len();
    // Reading into a filled slice instead of spare capacity needs no `unsafe`; it happens only beside large writes, and to look.
    let mut chunk = [0; LENGTH];
    let length = room.min(chunk.len());
    let mut read = ReadBuf::new(&mut chunk[..length]);
    ready!(Pin::new(socket).poll_read(cx, &mut read))?;
    inbox.buffer.put_slice(read.filled());
    Poll::Ready(Ok(read.filled().len()))
}

/// The number at the end of a command tag: `INSERT 0 5`, `UPDATE 3`, `SELECT 100`.
fn affected(tag: &[u8]) -> u64 {
    let tag = tag.strip_suffix(b"\0").unwrap_or(tag);
    let digits = tag.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let mut number = 0_u64;
    for digit in &tag[tag.len() - digits..] {
        number = number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    }
    number
}

/// `15.18 (Debian …)` as 150018, `18beta1` as 180000.
fn version_number(text: &[u8]) -> u32 {
    let number = |part: &[u8]| {
        part.iter()
            .take_while(|b| b.is_ascii_digit())
            .fold(0, |n, b| n * 10 + u32::from(b - b'0'))
    };
    let mut parts = text.splitn(2, |&byte| byte == b'.');
    let major = number(parts.next().unwrap_or_default().get(..3).unwrap_or(text));
    major * 10_000 + parts.next().map_or(0, |minor| number(&minor[..minor.len().min(4)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_tags_are_read() {
        assert_eq!(affected(b"INSERT 0 5\0"), 5);
        assert_eq!(affected(b"SELECT 100\0"), 100);
        assert_eq!(affected(b"BEGIN\0"), 0);
        assert_eq!(affected(b""), 0);
        assert_eq!(affected(b"X 99999999999999999999999\0"), u64::MAX);
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(version_number(b"15.18 (Debian 15.18-0)"), 150_018);
        assert_eq!(version_number(b"18beta1"), 180_000);
        assert_eq!(version_number(b""), 0);
    }
}
