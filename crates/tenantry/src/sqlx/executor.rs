//! Scopes and transactions as executors.

use std::{
    future::ready,
    pin::Pin,
    task::{Context, Poll, ready as poll_ready},
};

use ::sqlx::{
    Describe, Either, Error as SqlxError, Execute, Executor, PgConnection, Postgres, SqlStr,
    postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use futures_util::{
    Stream, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tenantry_pool::foreign::Call;

use super::{
    Transaction,
    error::{carried, refusal},
};
use crate::{Error, Scope};

type Step = Result<Either<PgQueryResult, PgRow>, SqlxError>;

/// A statement that was looked at. It always has arguments: without, sqlx would send it by the simple protocol, in which
/// one text can hold several statements.
struct Looked {
    sql: SqlStr,
    arguments: Option<PgArguments>,
    persistent: bool,
}

impl Execute<'_, Postgres> for Looked {
    fn sql(self) -> SqlStr {
        self.sql
    }

    // What sqlx prepared on another connection may be another statement here: found again by its text.
    fn statement(&self) -> Option<&PgStatement> {
        None
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, ::sqlx::error::BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}

impl Looked {
    fn new<'q>(mut query: impl Execute<'q, Postgres>) -> Result<Self, SqlxError> {
        let arguments = query.take_arguments().map_err(SqlxError::Encode)?;
        Ok(Self {
            arguments: Some(arguments.unwrap_or_default()),
            persistent: query.persistent(),
            sql: query.sql(),
        })
    }
}

impl Transaction {
    fn call(&mut self, sql: &SqlStr) -> Result<(&mut PgConnection, &mut Call), SqlxError> {
        match self.inner.call(sql.as_str()) {
            Ok((driver, call)) => Ok((&mut driver.0, call)),
            Err(error) => Err(carried(error.into())),
        }
    }
}

fn ended<T>(call: &mut Call, result: &Result<T, SqlxError>) {
    match result {
        Ok(_) | Err(SqlxError::Encode(_)) => call.ends(),
        Err(error) => {
            // Of any other error it is not known where it left the connection.
            if let Some(refused) = refusal(error) {
                call.refused(&refused);
            }
        }
    }
}

/// How a statement ended; where its connection was closed under it because the transaction had lasted for too long, that is what is
/// told.
fn concluded<T>(call: &mut Call, result: Result<T, SqlxError>) -> Result<T, SqlxError> {
    ended(call, &result);
    match result {
        Err(error @ (SqlxError::Io(_) | SqlxError::Tls(_) | SqlxError::Protocol(_))) => {
            Err(call.ended_for_its_age().map_or(error, |by_age| carried(by_age.into())))
        }
        result => result,
    }
}

/// Rows on their way: the statement has ended when they have.
struct Rows<'e> {
    rows: BoxStream<'e, Step>,
    call: &'e mut Call,
}

impl Stream for Rows<'_> {
    type Item = Step;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Step>> {
        let Self { rows, call } = &mut *self;
        call.begins();
        let step = poll_ready!(rows.poll_next_unpin(cx));
        Poll::Ready(match step {
            None => {
                call.ends();
                None
            }
            Some(Err(error)) => Some(concluded(call, Err(error))),
            row => row,
        })
    }
}

impl<'c> Executor<'c> for &'c mut Transaction {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Step>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let started = Looked::new(query).and_then(|looked| {
            let (connection, call) = self.call(&looked.sql)?;
            Ok(Rows {
                rows: connection.fetch_many(looked),
                call,
            })
        });
        match started {
            Ok(rows) => rows.boxed(),
            Err(error) => stream::once(ready(Err(error))).boxed(),
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, SqlxError>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let looked = Looked::new(query);
        Box::pin(async move {
            let looked = looked?;
            let (connection, call) = self.call(&looked.sql)?;
            call.begins();
            let result = connection.fetch_optional(looked).await;
            concluded(call, result)
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, SqlxError>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let (connection, call) = self.call(&sql)?;
            call.begins();
            let result = connection.prepare_with(sql, parameters).await;
            concluded(call, result)
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, SqlxError>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let (connection, call) = self.call(&sql)?;
            call.begins();
            let result = connection.describe(sql).await;
            concluded(call, result)
        })
    }
}

/// Each query is a transaction of its own, kept when it came to its end.
impl<'c> Executor<'c> for &'c Scope {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Step>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let looked = Looked::new(query);
        Box::pin(async_stream::try_stream! {
            let mut transaction = self.begin_sqlx().await.map_err(carried)?;
            let mut failed = None;
            {
                let mut rows = transaction.fetch_many(looked?);
                while let Some(step) = rows.next().await {
                    match step {
                        Ok(step) => yield step,
                        Err(error) => failed = Some(error),
                    }
                }
            }
            end(transaction, failed).await?;
        })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, SqlxError>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let looked = Looked::new(query);
        Box::pin(async move {
            let mut transaction = self.begin_sqlx().await.map_err(carried)?;
            match transaction.fetch_optional(looked?).await {
                Ok(row) => {
                    end(transaction, None).await?;
                    Ok(row)
                }
                Err(error) => {
                    end(transaction, Some(error)).await?;
                    Ok(None)
                }
            }
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, SqlxError>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let mut transaction = self.begin_sqlx().await.map_err(carried)?;
            let statement = transaction.prepare_with(sql, parameters).await?;
            end(transaction, None).await?;
            Ok(statement)
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, SqlxError>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let mut transaction = self.begin_sqlx().await.map_err(carried)?;
            let described = transaction.describe(sql).await?;
            end(transaction, None).await?;
            Ok(described)
        })
    }
}

/// Keeps what a single query did, or gives its error.
async fn end(transaction: Transaction, failed: Option<SqlxError>) -> Result<(), SqlxError> {
    let Some(error) = failed else {
        return transaction.commit().await.map_err(carried);
    };
    // Its own error says more than a failure to undo it.
    let _: Result<(), Error> = transaction.rollback().await;
    Err(error)
}
