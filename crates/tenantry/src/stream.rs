//! Large results, read as they are asked for.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{
    Stream, StreamExt,
    stream::{BoxStream, unfold},
};

use crate::{Error, Row};

/// The rows of [`Scope::query_stream`](crate::Scope::query_stream), read from the socket when they are asked for.
///
/// It lasts for no longer than a transaction may, however slowly rows are asked for
/// ([`transaction_timeout`](crate::PoolConfig::transaction_timeout)). Dropping it before its end stops the statement and closes the
/// connection.
pub struct RowStream(BoxStream<'static, Result<Row, Error>>);

impl RowStream {
    pub(crate) fn new(rows: tenantry_pool::RowStream) -> Self {
        Self(
            unfold(rows, |mut rows| async {
                let next = rows.next().await.transpose()?;
                Some((next.map(Row).map_err(Error::from), rows))
            })
            .boxed(),
        )
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    ///
    /// As [`Scope::query`](crate::Scope::query); the time-out is for each row, and that of transactions for all.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when dropped: the next call goes on where this one was.
    pub async fn next(&mut self) -> Result<Option<Row>, Error> {
        self.0.next().await.transpose()
    }
}

impl Stream for RowStream {
    type Item = Result<Row, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

/// The data of [`Scope::copy_out`](crate::Scope::copy_out), a piece for each row, read when it is asked for.
///
/// It lasts for no longer than a transaction may, however slowly data is asked for
/// ([`transaction_timeout`](crate::PoolConfig::transaction_timeout)). Dropping it before its end stops the statement and closes the
/// connection.
pub struct CopyOut(BoxStream<'static, Result<Bytes, Error>>);

impl CopyOut {
    pub(crate) fn new(data: tenantry_pool::CopyOut) -> Self {
        Self(
            unfold(data, |mut data| async {
                let next = data.next().await.transpose()?;
                Some((next.map_err(Error::from), data))
            })
            .boxed(),
        )
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    ///
    /// As [`Scope::query`](crate::Scope::query); the time-out is for each piece, and that of transactions for all.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when dropped: the next call goes on where this one was.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.0.next().await.transpose()
    }
}

impl Stream for CopyOut {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}
