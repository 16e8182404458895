//! A change stream: read one message at a time, answered with how far we are.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Feed, Lsn,
    feed::{self, Status},
};
use crate::{Connection, DbError, Error};

/// PostgreSQL counts time from 2000-01-01.
const EPOCH_US: i64 = 946_684_800_000_000;

/// A replication connection that streams. Memory holds one message and what one read brought: what is not asked for stays
/// at the server.
///
/// The server closes it when it hears nothing for its `wal_sender_timeout` (60 seconds by default): whoever works on a
/// message for longer calls [`Self::report`] meanwhile.
#[derive(Debug)]
pub struct ChangeStream {
    connection: Connection,
    /// Answers that the server has not taken yet.
    answers: BytesMut,
    received: Lsn,
    confirmed: Lsn,
}

impl ChangeStream {
    pub(super) async fn begin(mut connection: Connection, from: Lsn) -> Result<Self, Error> {
        loop {
            let frame = connection.frame().await?;
            match frame.tag {
                b'W' => {
                    connection.inbox.skip(frame);
                    return Ok(Self {
                        connection,
                        answers: BytesMut::new(),
                        received: from,
                        confirmed: from,
                    });
                }
                b'E' => {
                    let error = DbError::parse(connection.inbox.body(frame));
                    return Err(Error::Database(Box::new(error)));
                }
                _ => connection.heed(frame)?,
            }
        }
    }

    /// The next message; the server's question whether we live is answered on the way.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] when the server ends the stream with a reason, others when the connection failed. The stream is
    /// over then: start again from what was confirmed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when it is dropped.
    pub async fn next(&mut self) -> Result<Feed, Error> {
        loop {
            self.answer().await?;
            // Reading into the inbox can be dropped: what arrived stays in it.
            let frame = self.connection.frame().await?;
            match frame.tag {
                b'd' => {
                    let (feed, wants_reply) = feed::read(self.connection.inbox.take(frame))?;
                    let position = match &feed {
                        Feed::Data { position, .. } => *position,
                        Feed::KeepAlive { end } => *end,
                    };
                    self.received = self.received.max(position);
                    if wants_reply {
                        self.put_status(false);
                        // What the socket does not take at once goes out with the next call.
                        self.try_answer();
                    }
                    return Ok(feed);
                }
                b'E' => {
                    let error = DbError::parse(self.connection.inbox.body(frame));
                    return Err(Error::Database(Box::new(error)));
                }
                b'c' => return Err(Error::Closed),
                _ => self.connection.heed(frame)?,
            }
        }
    }

    /// Notes that what was committed before this position need never be sent again; the server hears of it with the next
    /// [`Self::report`]. It never goes back.
    pub fn confirm(&mut self, position: Lsn) {
        self.confirmed = self.confirmed.max(position);
        self.received = self.received.max(position);
    }

    /// Tells the server how far we are, and asks for a [`Feed::KeepAlive`] at once where `ask` says so.
    ///
    /// # Errors
    ///
    /// Where the connection failed.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the rest goes out with the next call.
    pub async fn report(&mut self, ask: bool) -> Result<(), Error> {
        self.put_status(ask);
        self.answer().await
    }

    /// What was confirmed.
    pub fn confirmed(&self) -> Lsn {
        self.confirmed
    }

    /// Tells the server how far we are, says good-bye and waits until it has ended its side, so that the slot is free.
    /// What it still had under way is dropped; it comes again to who starts next.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the connection is closed; the server frees the slot a little later.
    pub async fn end(mut self) {
        self.put_status(false);
        // CopyDone, and the message that ends a session.
        self.answers.extend_from_slice(b"c\0\0\0\x04X\0\0\0\x04");
        if self.answer().await.is_err() {
            return;
        }
        let mut scratch = [0; 4096];
        while matches!(self.connection.socket.read(&mut scratch).await, Ok(1..)) {}
    }

    fn put_status(&mut self, ask: bool) {
        let now_us = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        let status = Status {
            received: self.received,
            confirmed: self.confirmed,
            clock_us: now_us.saturating_sub(EPOCH_US),
            ask,
        };
        status.put(&mut self.answers);
    }

    /// Writes what is to go out. What was written is gone from the buffer, also where this is dropped.
    async fn answer(&mut self) -> Result<(), Error> {
        while self.answers.has_remaining() {
            if self.connection.socket.write_buf(&mut self.answers).await? == 0 {
                return Err(Error::Closed);
            }
        }
        Ok(self.connection.socket.flush().await?)
    }

    /// The same as far as the socket takes it; an error shows with the next read.
    fn try_answer(&mut self) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let answer = std::pin::pin!(self.answer());
        let _ = answer.poll(&mut context);
    }
}
