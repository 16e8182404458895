//! A connection of diesel-async.

use async_trait::async_trait;
use diesel::{
    QueryResult,
    deserialize::{self, QueryableByName},
    pg::Pg,
    row::NamedRow,
    sql_types::{Nullable, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use secrecy::ExposeSecret;
use tenantry_pool::{PoolConfig, foreign::Driver};
use tenantry_wire::{Endpoint, Error, open_socket};
use tokio_postgres::{Config, NoTls, config::SslMode};

use super::error::wire;
use crate::tenantry::AbortOnDrop;

/// A connection of diesel-async, and the task that reads its socket.
pub(crate) struct DieselDriver {
    pub(super) connection: AsyncPgConnection,
    // The task would first wait for what still runs: whoever drops a connection wants its socket closed.
    _task: AbortOnDrop,
}

#[async_trait]
impl Driver for DieselDriver {
    async fn connect(endpoint: &Endpoint, _: &PoolConfig) -> Result<Self, Error> {
        // Encrypted and verified by our own client; the driver speaks inside.
        let socket = open_socket(endpoint).await?;
        let mut config = Config::new();
        config
            .user(&endpoint.user)
            .password(endpoint.password.expose_secret())
            .dbname(&endpoint.database)
            .application_name("tenantry")
            .ssl_mode(SslMode::Disable);
        let (client, connection) = config.connect_raw(socket, NoTls).await.map_err(connecting)?;
        let task = AbortOnDrop(tokio::spawn(async move {
            // Its end is seen by whoever runs a statement.
            let _ = connection.await;
        }));
        let connection = AsyncPgConnection::try_from(client)
            .await
            .map_err(|error| Error::Io(std::io::Error::other(error)))?;
        Ok(Self {
            connection,
            _task: task,
        })
    }

    async fn run(&mut self, sql: &str) -> Result<(), Error> {
        self.connection.batch_execute(sql).await.map_err(wire)
    }

    async fn ask(&mut self, sql: &'static str, params: &[&str]) -> Result<Option<String>, Error> {
        let mut query = diesel::sql_query(sql).into_boxed::<Pg>();
        for param in params {
            query = query.bind::<Text, _>((*param).to_owned());
        }
        let answers: QueryResult<Vec<Answer>> = query.load(&mut self.connection).await;
        Ok(answers.map_err(wire)?.pop().and_then(|answer| answer.0))
    }

    async fn close(self) {
        // The task sends the good-bye once the client is gone.
        let Self { connection, mut _task } = self;
        drop(connection);
        let _ = (&mut _task.0).await;
    }
}

/// The one text of a statement of the call protocol, or of Tenantry's own.
pub(super) struct Answer(pub(super) Option<String>);

impl QueryableByName<Pg> for Answer {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        Ok(Self(NamedRow::get::<Nullable<Text>, _>(row, "answer")?))
    }
}

/// Why the server did not let us in.
fn connecting(error: tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(refusal) => Error::Database(Box::new(
            tenantry_wire::DbError::new(refusal.code().code(), refusal.message())
                .with_advice(refusal.detail(), refusal.hint()),
        )),
        None => Error::Io(std::io::Error::other(error)),
    }
}
