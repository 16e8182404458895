//! The source's schema as plain SQL: what its authors could have written as one migration.
//!
//! PostgreSQL prints its own definitions (`pg_get_constraintdef` and relatives); what is ours is their order.

mod foreign_key;
mod function;
mod index;
mod order;
mod sequence;
mod table;
mod trigger;
mod types;
mod view;

use self::order::Piece;
use super::{AdoptError, Source};

/// The schema of an existing database as the application's first migration.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// The migration's text: plain, unqualified SQL.
    pub sql: String,
    /// What the migration does not carry, and why.
    pub left_out: Vec<LeftOut>,
}

/// Something of the source that is not taken over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftOut {
    /// What it is, with its name.
    pub object: String,
    /// Why, and what to do.
    pub reason: String,
}

impl Source {
    /// Reads the schema.
    ///
    /// # Errors
    ///
    /// [`AdoptError::Read`] when the source refuses a catalog query.
    pub async fn schema(&self) -> Result<Adopted, AdoptError> {
        let mut pieces = self.extensions().await?;
        pieces.extend(types::read(self).await?);
        pieces.extend(sequence::read(self).await?);
        pieces.extend(table::read(self).await?);
        pieces.extend(function::read(self).await?);
        pieces.extend(view::read(self).await?);
        let dependencies = order::dependencies(self).await?;
        let mut statements = order::sort(pieces, &dependencies);
        statements.extend(sequence::owners(self).await?);
        statements.extend(index::read(self).await?);
        statements.extend(foreign_key::read(self).await?);
        statements.extend(trigger::read(self).await?);
        statements.extend(self.comments().await?);
        let mut sql = String::from("-- The schema of the adopted database, as plain single-tenant SQL.\n");
        for statement in statements {
            sql.push('\n');
            sql.push_str(statement.trim_end_matches(['\n', ';']));
            sql.push_str(";\n");
        }
        Ok(Adopted {
            sql,
            left_out: self.left_out().await?,
        })
    }

    async fn extensions(&self) -> Result<Vec<Piece>, AdoptError> {
        const EXTENSIONS: &str = "
            select 'pg_extension'::regclass::oid, e.oid, format('create extension if not exists %I', extname)
            from pg_extension e
            where extname <> 'plpgsql'
            order by e.oid";
        Piece::read(self, "extensions", order::Rank::Extension, EXTENSIONS).await
    }

    async fn comments(&self) -> Result<Vec<String>, AdoptError> {
        const COMMENTS: &str = "
            select format('comment on %s %I is %L', case c.relkind when 'v' then 'view' else 'table' end, c.relname, d.description)
            from pg_description d
            join pg_class c on c.oid = d.objoid and d.classoid = 'pg_class'::regclass
            where d.objsubid = 0 and c.relnamespace = quote_ident($1)::regnamespace and c.relkind in ('r', 'p', 'v')
            union all
            select format('comment on column %I.%I is %L', c.relname, a.attname, d.description)
            from pg_description d
            join pg_class c on c.oid = d.objoid and d.classoid = 'pg_class'::regclass
            join pg_attribute a on a.attrelid = c.oid and a.attnum = d.objsubid
            where d.objsubid > 0 and c.relnamespace = quote_ident($1)::regnamespace and c.relkind in ('r', 'p', 'v')";
        self.statements("comments", COMMENTS).await
    }

    /// One statement a row, from a query whose only parameter is the schema.
    async fn statements(&self, part: &'static str, query: &str) -> Result<Vec<String>, AdoptError> {
        let rows = self
            .client
            .query(query, &[&self.schema])
            .await
            .map_err(AdoptError::read(part))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn left_out(&self) -> Result<Vec<LeftOut>, AdoptError> {
        const LEFT_OUT: &str = "
            select 'policy ' || polname || ' on ' || polrelid::regclass,
                   'row security is made anew by isolation; write what holds inside a tenant as a migration'
            from pg_policy
            join pg_class c on c.oid = polrelid
            where c.relnamespace = quote_ident($1)::regnamespace
            union all
            select 'aggregate ' || p.oid::regprocedure, 'PostgreSQL does not print aggregates: add it to the migration by hand'
            from pg_proc p
            where p.prokind = 'a' and p.pronamespace = quote_ident($1)::regnamespace
              and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
            union all
            select case n.nspname when 'pg_catalog' then 'large objects' else 'schema ' || n.nspname end,
                   case n.nspname when 'pg_catalog' then 'large objects belong to no table: move them into a bytea column first'
                        else 'one schema is adopted at a time: move its tables to ' || $1 || ' first' end
            from pg_namespace n
            where case n.nspname
                    when 'pg_catalog' then exists (select from pg_largeobject_metadata)
                    else n.nspname <> $1 and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
                     and exists (select from pg_class c where c.relnamespace = n.oid and c.relkind in ('r', 'p')
                                   and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e'))
                  end";
        let rows = self
            .client
            .query(LEFT_OUT, &[&self.schema])
            .await
            .map_err(AdoptError::read("other objects"))?;
        Ok(rows
            .iter()
            .map(|row| LeftOut {
                object: row.get(0),
                reason: row.get(1),
            })
            .collect())
    }
}
