//! A transaction as the connection that diesel's queries take.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use diesel::{
    QueryResult,
    pg::{Pg, PgQueryBuilder},
    query_builder::{AsQuery, QueryBuilder, QueryFragment, QueryId},
    result::{DatabaseErrorKind, Error as DieselError},
};
use diesel_async::{AsyncConnectionCore, AsyncPgConnection, SimpleAsyncConnection};
use futures_util::{
    Stream, StreamExt,
    future::{self, BoxFuture},
};
use tenantry_pool::foreign::Call;

use super::{
    Transaction,
    error::{carried, refusal},
};
use crate::{Error, ErrorKind};

type Inner<'conn, 'query> = <AsyncPgConnection as AsyncConnectionCore>::Stream<'conn, 'query>;
type PgRow = <AsyncPgConnection as AsyncConnectionCore>::Row<'static, 'static>;

/// Rows of a query on their way. What is not read is stepped over, as diesel's own `first` and `get_result` do.
pub struct Rows<'conn> {
    rows: Inner<'conn, 'conn>,
    call: &'conn mut Call,
}

impl Stream for Rows<'_> {
    type Item = QueryResult<PgRow>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { rows, call } = &mut *self;
        Poll::Ready(match ready!(rows.poll_next_unpin(cx)) {
            None => {
                call.ends();
                None
            }
            Some(Err(error)) => Some(Err(concluded(call, error))),
            row => row,
        })
    }
}

fn ended(call: &mut Call, error: &DieselError) {
    match refusal(error) {
        Some(refused) => call.refused(&refused),
        // Values are written before anything is sent. Of any other error it is not known where it left the connection.
        None if matches!(
            error,
            DieselError::SerializationError(_) | DieselError::QueryBuilderError(_)
        ) =>
        {
            call.ends();
        }
        None => {}
    }
}

/// How a statement failed; where its connection was closed under it because the transaction had lasted for too long, that is what is
/// told.
fn concluded(call: &mut Call, error: DieselError) -> DieselError {
    ended(call, &error);
    let is_closed = matches!(
        error,
        DieselError::DatabaseError(
            DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection,
            _
        )
    );
    match call.ended_for_its_age() {
        Some(by_age) if is_closed => carried(by_age.into()),
        _ => error,
    }
}

fn text<T: QueryFragment<Pg>>(query: &T) -> QueryResult<String> {
    let mut builder = PgQueryBuilder::default();
    query.to_sql(&mut builder, &Pg)?;
    Ok(builder.finish())
}

impl Transaction {
    fn call(&mut self, query: &impl QueryFragment<Pg>) -> QueryResult<(&mut AsyncPgConnection, &mut Call)> {
        match self.inner.call(&text(query)?) {
            Ok((driver, call)) => Ok((&mut driver.connection, call)),
            Err(error) => Err(carried(error.into())),
        }
    }
}

impl SimpleAsyncConnection for Transaction {
    /// Refused: one text could hold several statements, an end of the transaction among them.
    async fn batch_execute(&mut self, _: &str) -> QueryResult<()> {
        Err(carried(Error::new(
            ErrorKind::Refused,
            "`batch_execute` does not belong here: run statements one by one, and changes of the schema as migrations",
        )))
    }
}

impl AsyncConnectionCore for Transaction {
    type ExecuteFuture<'conn, 'query> = BoxFuture<'conn, QueryResult<usize>>;
    type LoadFuture<'conn, 'query> = BoxFuture<'conn, QueryResult<Rows<'conn>>>;
    type Stream<'conn, 'query> = Rows<'conn>;
    type Row<'conn, 'query> = PgRow;
    type Backend = Pg;

    fn load<'conn, 'query, T>(&'conn mut self, source: T) -> Self::LoadFuture<'conn, 'query>
    where
        T: AsQuery + 'query,
        T::Query: QueryFragment<Pg> + QueryId + 'query,
    {
        let query = source.as_query();
        let (connection, call) = match self.call(&query) {
            Ok(parts) => parts,
            Err(error) => return Box::pin(future::ready(Err(error))),
        };
        let loading = connection.load(query);
        Box::pin(async move {
            call.begins();
            match loading.await {
                Ok(rows) => {
                    call.gives_rows();
                    Ok(Rows { rows, call })
                }
                Err(error) => Err(concluded(call, error)),
            }
        })
    }

    fn execute_returning_count<'conn, 'query, T>(&'conn mut self, source: T) -> Self::ExecuteFuture<'conn, 'query>
    where
        T: QueryFragment<Pg> + QueryId + 'query,
    {
        let (connection, call) = match self.call(&source) {
            Ok(parts) => parts,
            Err(error) => return Box::pin(future::ready(Err(error))),
        };
        let executing = connection.execute_returning_count(source);
        Box::pin(async move {
            call.begins();
            match executing.await {
                Ok(count) => {
                    call.ends();
                    Ok(count)
                }
                Err(error) => Err(concluded(call, error)),
            }
        })
    }
}
