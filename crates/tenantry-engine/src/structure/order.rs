//! In which order the objects of a schema can be made again.

use std::collections::BTreeMap;

use tokio_postgres::{Client, types::Type};

use super::{
    fact::Class,
    finish::order::{Needs, Object},
};
use crate::migrate::{ApplyError, Target};

/// The objects of one schema in an order in which each finds what it needs, and where its foreign keys point.
#[derive(Debug, Default)]
pub struct Order {
    needs: Needs,
    places: BTreeMap<Object, usize>,
}

impl Order {
    /// Reads it from the schema. Where two objects need nothing of each other that PostgreSQL knows of, the one that was made first
    /// comes first: a function's body is a text to it.
    ///
    /// # Errors
    ///
    /// The database's.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a transaction open that has only read; close the connection.
    pub async fn read(client: &Client, target: &Target) -> Result<Self, ApplyError> {
        // As the facts are read, so that a function's arguments are named alike.
        let head = format!(
            "begin read only; set local role {}; set local search_path = {}, tenantry_ext",
            target.owner, target.schema
        );
        client.batch_execute(&head).await?;
        let needs = Needs::read(client, target).await;
        let made = match &needs {
            Ok(_) => made(client, target).await,
            Err(_) => Ok(Vec::new()),
        };
        client.batch_execute("rollback").await?;
        let (needs, made) = (needs?, made?);
        // Where two need each other, they came in the order in which they were written.
        let sorted = needs.sorted(made.iter().cloned()).unwrap_or(made);
        Ok(Self {
            places: sorted.into_iter().zip(0..).collect(),
            needs,
        })
    }

    /// Which of all objects it is; what is not known comes last.
    pub(super) fn place(&self, class: Class, object: &str) -> usize {
        let place = self.places.get(&(class, object.to_owned()));
        place.copied().unwrap_or(usize::MAX)
    }

    /// The table that a foreign key points to.
    pub(super) fn target(&self, table: &str, key: &str) -> Option<&str> {
        self.needs.target(table, key)
    }
}

async fn made(client: &Client, target: &Target) -> Result<Vec<Object>, ApplyError> {
    let rows = client
        .query_typed(include_str!("order.sql"), &[(&target.schema.to_string(), Type::TEXT)])
        .await?;
    let objects = rows.iter().filter_map(|row| {
        let class: Class = serde_json::from_value(serde_json::Value::String(row.get(0))).ok()?;
        Some((class, row.get::<_, String>(1)))
    });
    Ok(objects.collect())
}
