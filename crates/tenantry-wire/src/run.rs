//! Running a prepared statement.

use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use postgres_types::{Format, IsNull, Kind, ToSql, Type, WrongType};

use crate::{
    Connection, Error, Row,
    lead::{Ahead, Lead, bind_error},
    statement::Statement,
};

/// Parameters of a statement.
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// What a statement gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its rows.
    pub rows: Vec<Row>,
    /// How many rows it touched, as its command tag says.
    pub affected: u64,
}

impl Connection {
    /// Sends lead, what goes ahead, statement and Sync. When encoding fails nothing is sent, and the connection stays usable.
    pub(crate) async fn start(
        &mut self,
        lead: &Lead<'_>,
        ahead: &[Ahead],
        statement: &Statement,
        params: Params<'_>,
    ) -> Result<(), Error> {
        self.begin_call()?;
        self.put_lead(lead)?;
        self.put_ahead(ahead)?;
        self.put_statement(statement, params)?;
        frontend::sync(&mut self.outbox);
        self.send().await
    }

    fn put_statement(&mut self, statement: &Statement, params: Params<'_>) -> Result<(), Error> {
        let types = &statement.params;
        if params.len() != types.len() {
            return Err(Error::ParameterCount {
                expected: types.len(),
                given: params.len(),
            });
        }
        let formats = params
            .iter()
            .zip(types)
            .map(|(param, type_)| match param.encode_format(type_) {
                Format::Binary => 1,
                Format::Text => 0,
            });
        if let Some(text) = &statement.text {
            frontend::parse("", text, types.iter().map(Type::oid), &mut self.outbox)?;
        }
        let mut number = 0;
        frontend::bind(
            "",
            &statement.name,
            formats,
            params.iter().zip(types),
            |(param, type_), buffer| {
                number += 1;
                Ok(match encode_value(*param, type_, buffer)? {
                    IsNull::Yes => postgres_protocol::IsNull::Yes,
                    IsNull::No => postgres_protocol::IsNull::No,
                })
            },
            [1],
            &mut self.outbox,
        )
        .map_err(|error| bind_error(error, number))?;
        if statement.text.is_some() {
            frontend::describe(b'P', "", &mut self.outbox)?;
            self.call.columns = Some(statement.columns.clone());
        }
        Ok(frontend::execute("", 0, &mut self.outbox)?)
    }

    /// Runs a statement that is prepared, to its end.
    pub(crate) async fn finish(&mut self, statement: &Statement) -> Result<Outcome, Error> {
        let mut rows = Vec::new();
        while let Some(body) = self.next().await? {
            rows.push(Row::new(statement.columns.clone(), body));
        }
        Ok(Outcome {
            rows,
            affected: self.call.affected,
        })
    }

    /// Runs a statement without any context: for the engine, for catalogs, and as the limit that benchmarks compare
    /// with.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] when PostgreSQL refuses it; others as their text says.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the connection is no longer usable.
    pub async fn query(&mut self, sql: &str, params: Params<'_>) -> Result<Outcome, Error> {
        let statement = self.unscoped_statement(sql).await?;
        self.start(&Lead::default(), &[], &statement, params).await?;
        self.finish(&statement).await
    }

    async fn unscoped_statement(&mut self, sql: &str) -> Result<Arc<Statement>, Error> {
        match self.statements.get("", sql) {
            Some(statement) => Ok(statement),
            None => self.prepare(&Lead::default(), &Arc::from(""), sql).await,
        }
    }
}

/// Writes a value in the binary format. A Rust type that knows nothing of a domain is sent as what the domain is made
/// of, and a text as an enum's label: the bytes are the same, and PostgreSQL checks them.
///
/// # Errors
///
/// What the Rust type says: usually that it does not fit.
pub fn encode_value(
    value: &(dyn ToSql + Sync),
    type_: &Type,
    buffer: &mut BytesMut,
) -> Result<IsNull, Box<dyn std::error::Error + Send + Sync>> {
    match value.to_sql_checked(type_, buffer) {
        Err(error) if error.is::<WrongType>() => match type_.kind() {
            Kind::Domain(base) => encode_value(value, base, buffer),
            Kind::Enum(_) => encode_value(value, &Type::TEXT, buffer),
            _ => Err(error),
        },
        result => result,
    }
}
