//! Preparing statements, and the types that only the database knows.

use std::sync::Arc;

use bytes::Buf;
use postgres_protocol::message::frontend;
use postgres_types::{Field, Kind, Oid, Type};

use crate::{Column, Connection, Error, admit::leaves_traces, lead::Lead, statement::Statement};

const TORN: Error = Error::Protocol("a description is shorter than it says");

impl Connection {
    /// Prepares a statement and keeps it.
    pub(crate) async fn prepare(
        &mut self,
        lead: &Lead<'_>,
        space: &Arc<str>,
        sql: &str,
    ) -> Result<Arc<Statement>, Error> {
        self.begin_call()?;
        self.statement_count += 1;
        let name = match self.pooled {
            true => String::new(),
            false => format!("{}{}", self.prefix, self.statement_count),
        };
        self.put_lead(lead)?;
        frontend::parse(&name, sql, [], &mut self.outbox)?;
        frontend::describe(b'S', &name, &mut self.outbox)?;
        frontend::sync(&mut self.outbox);
        self.send().await?;

        let described = self.description().await?;
        let statement = match self.resolve(described).await {
            Ok((params, columns)) => Arc::new(Statement {
                name,
                params,
                columns,
                leaves_traces: leaves_traces(sql),
                text: self.pooled.then(|| sql.into()),
            }),
            Err(error) => {
                let empty = Statement {
                    name,
                    params: Box::default(),
                    columns: Arc::default(),
                    leaves_traces: false,
                    text: None,
                };
                self.closing.push(Arc::new(empty));
                return Err(error);
            }
        };
        let out = self.statements.insert(space, sql, statement.clone());
        self.closing.extend(out);
        Ok(statement)
    }

    /// Reads the answer to Parse and Describe, to the end of the call.
    async fn description(&mut self) -> Result<Described, Error> {
        let mut described = Described::default();
        loop {
            let frame = self.answer().await?;
            match frame.tag {
                b't' => described.params = parameters(self.inbox.body(frame))?,
                b'T' => described.columns = columns(self.inbox.body(frame))?,
                b'Z' => return self.next().await.map(|_| described),
                _ => {
                    self.heed(frame)?;
                    continue;
                }
            }
            self.inbox.skip(frame);
        }
    }

    async fn resolve(&mut self, described: Described) -> Result<(Box<[Type]>, Arc<[Column]>), Error> {
        let mut params = Vec::with_capacity(described.params.len());
        for oid in described.params {
            params.push(self.type_of(oid).await?);
        }
        let mut columns = Vec::with_capacity(described.columns.len());
        for (name, oid) in described.columns {
            columns.push(Column {
                name,
                type_: self.type_of(oid).await?,
            });
        }
        Ok((params.into(), columns.into()))
    }

    /// The type with this oid: built in, seen before, or looked up.
    async fn type_of(&mut self, oid: Oid) -> Result<Type, Error> {
        if let Some(known) = Type::from_oid(oid).or_else(|| self.types.get(&oid).cloned()) {
            return Ok(known);
        }
        // Boxed because the look-up is a query itself, and arrays and domains lead to further types.
        let found = Box::pin(self.look_up_type(oid)).await?;
        self.types.insert(oid, found.clone());
        Ok(found)
    }

    async fn look_up_type(&mut self, oid: Oid) -> Result<Type, Error> {
        let outcome = self
            .query(
                "select t.typname::text, t.typtype, t.typelem, t.typbasetype, t.typrelid, n.nspname::text, \
                        coalesce(r.rngsubtype, 0::oid), t.typsubscript::oid = 'pg_catalog.array_subscript_handler'::regproc \
                 from pg_catalog.pg_type t \
                 join pg_catalog.pg_namespace n on n.oid = t.typnamespace \
                 left join pg_catalog.pg_range r on r.rngtypid = t.oid or r.rngmultitypid = t.oid \
                 where t.oid = $1",
                &[&oid],
            )
            .await?;
        let row = outcome
            .rows
            .first()
            .ok_or(Error::Protocol("a type that is not in pg_type"))?;
        let (name, schema): (String, String) = (row.get(0)?, row.get(5)?);
        let kind = match (row.get::<i8>(1)? as u8, row.get::<bool>(7)?) {
            (b'e', _) => Kind::Enum(self.enum_labels(oid).await?),
            (b'p', _) => Kind::Pseudo,
            (b'd', _) => Kind::Domain(self.type_of(row.get(3)?).await?),
            (b'c', _) => Kind::Composite(self.fields(row.get(4)?).await?),
            (b'r', _) => Kind::Range(self.type_of(row.get(6)?).await?),
            (b'm', _) => Kind::Multirange(self.type_of(row.get(6)?).await?),
            (_, true) => Kind::Array(self.type_of(row.get(2)?).await?),
            _ => Kind::Simple,
        };
        Ok(Type::new(name, oid, kind, schema))
    }

    async fn enum_labels(&mut self, oid: Oid) -> Result<Vec<String>, Error> {
        let outcome = self
            .query(
                "select enumlabel::text from pg_catalog.pg_enum where enumtypid = $1 order by enumsortorder",
                &[&oid],
            )
            .await?;
        outcome.rows.iter().map(|row| row.get(0)).collect()
    }

    async fn fields(&mut self, relation: Oid) -> Result<Vec<Field>, Error> {
        let outcome = self
            .query(
                "select attname::text, atttypid from pg_catalog.pg_attribute \
                 where attrelid = $1 and not attisdropped and attnum > 0 order by attnum",
                &[&relation],
            )
            .await?;
        let mut fields = Vec::with_capacity(outcome.rows.len());
        for row in &outcome.rows {
            fields.push(Field::new(row.get(0)?, self.type_of(row.get(1)?).await?));
        }
        Ok(fields)
    }
}

/// What Describe says of a statement, types by oid.
#[derive(Default)]
struct Described {
    params: Vec<Oid>,
    columns: Vec<(String, Oid)>,
}

fn parameters(mut body: &[u8]) -> Result<Vec<Oid>, Error> {
    let count = body.try_get_u16().map_err(|_| TORN)?;
    (0..count).map(|_| body.try_get_u32().map_err(|_| TORN)).collect()
}

pub(crate) fn columns(mut body: &[u8]) -> Result<Vec<(String, Oid)>, Error> {
    let count = body.try_get_u16().map_err(|_| TORN)?;
    (0..count).map(|_| column(&mut body)).collect()
}

/// A name that ends in zero, table and column number (6 bytes), the type, and its length, modifier and format (8 bytes).
fn column(body: &mut &[u8]) -> Result<(String, Oid), Error> {
    let end = body.iter().position(|&byte| byte == 0).ok_or(TORN)?;
    let name = String::from_utf8_lossy(&body[..end]).into_owned();
    *body = body.get(end + 7..).ok_or(TORN)?;
    let oid = body.try_get_u32().map_err(|_| TORN)?;
    *body = body.get(8..).ok_or(TORN)?;
    Ok((name, oid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_read() {
        assert_eq!(parameters(b"\0\x02\0\0\0\x17\0\0\0\x19").unwrap(), [23, 25]);
        let whole = b"\0\x01id\0\0\0\0\x01\0\x02\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
        assert_eq!(columns(whole).unwrap(), [("id".to_owned(), 23)]);
        for end in 0..whole.len() {
            assert!(columns(&whole[..end]).is_err(), "{end}");
        }
    }
}
