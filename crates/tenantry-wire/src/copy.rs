//! COPY out, and statements without parameters in the simple protocol.

use postgres_protocol::message::frontend;

use crate::{Connection, Error, lead::Lead};

impl Connection {
    /// Sends lead and `copy … to stdout`, unnamed: it is not prepared for one use.
    pub(crate) async fn start_copy(&mut self, lead: &Lead<'_>, sql: &str) -> Result<(), Error> {
        self.begin_call()?;
        self.put_lead(lead)?;
        frontend::parse("", sql, [], &mut self.outbox)?;
        let none = |_: (), _: &mut bytes::BytesMut| unreachable_parameter();
        frontend::bind("", "", [], [(); 0], none, [1], &mut self.outbox)
            .map_err(|error| crate::lead::bind_error(error, 0))?;
        frontend::execute("", 0, &mut self.outbox)?;
        frontend::sync(&mut self.outbox);
        self.call.copy = true;
        self.send().await
    }

    /// Runs statements as one text, for administration: several are one transaction, rows are dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] when PostgreSQL refuses one: none took effect then.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the connection is no longer usable.
    pub async fn batch(&mut self, sql: &str) -> Result<(), Error> {
        self.begin_call()?;
        frontend::query(sql, &mut self.outbox)?;
        self.send().await?;
        while self.next().await?.is_some() {}
        Ok(())
    }
}

type Encoded = Result<postgres_protocol::IsNull, Box<dyn std::error::Error + Send + Sync>>;

/// COPY takes no parameters.
fn unreachable_parameter() -> Encoded {
    Ok(postgres_protocol::IsNull::Yes)
}
