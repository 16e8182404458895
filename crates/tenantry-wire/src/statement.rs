//! Prepared statements, and the bounded cache of them.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use postgres_types::Type;

use crate::Column;

/// A statement that the server has prepared on this connection.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) name: String,
    pub(crate) params: Box<[Type]>,
    pub(crate) columns: Arc<[Column]>,
    /// It may leave something in the session.
    pub(crate) leaves_traces: bool,
    /// Sent with each call where the server keeps nothing: see [`Options::pooled`](crate::Options).
    pub(crate) text: Option<Box<str>>,
}

/// The statements of one connection, at most `max`, the least recently used one given up first.
///
/// A statement belongs to a *space*, the schema its names were resolved in: the same text means other tables, and other
/// enum types, in another tenant's own schema.
pub(crate) struct StatementCache {
    entries: HashMap<u64, Entry>,
    hasher: RandomState,
    max: usize,
    clock: u64,
}

struct Entry {
    space: Arc<str>,
    sql: Box<str>,
    statement: Arc<Statement>,
    used: u64,
}

impl StatementCache {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            hasher: RandomState::new(),
            max: max.max(1),
            clock: 0,
        }
    }

    /// How many statements are held.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&mut self, space: &str, sql: &str) -> Option<Arc<Statement>> {
        let key = self.hasher.hash_one((space, sql));
        let entry = self
            .entries
            .get_mut(&key)
            .filter(|entry| *entry.sql == *sql && *entry.space == *space)?;
        self.clock += 1;
        entry.used = self.clock;
        Some(entry.statement.clone())
    }

    /// Keeps a statement and gives back those that lost their place, to be closed on the server.
    pub(crate) fn insert(&mut self, space: &Arc<str>, sql: &str, statement: Arc<Statement>) -> Vec<Arc<Statement>> {
        let key = self.hasher.hash_one((&**space, sql));
        self.clock += 1;
        let entry = Entry {
            space: space.clone(),
            sql: sql.into(),
            statement,
            used: self.clock,
        };
        // Two texts with one 64-bit hash: the older one gives way.
        let mut out: Vec<_> = self
            .entries
            .insert(key, entry)
            .map(|old| old.statement)
            .into_iter()
            .collect();
        while self.entries.len() > self.max {
            // A scan of a few hundred, and only next to a Parse, which costs a hundred times as much.
            let oldest = self
                .entries
                .iter()
                .min_by_key(|(_, entry)| entry.used)
                .map(|(key, _)| *key);
            out.extend(
                oldest
                    .and_then(|key| self.entries.remove(&key))
                    .map(|entry| entry.statement),
            );
        }
        out
    }

    /// Gives up all statements.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = Arc<Statement>> {
        self.entries.drain().map(|(_, entry)| entry.statement)
    }

    /// Gives up a statement.
    pub(crate) fn remove(&mut self, space: &str, sql: &str) -> Option<Arc<Statement>> {
        let key = self.hasher.hash_one((space, sql));
        self.entries
            .get(&key)
            .filter(|entry| *entry.sql == *sql && *entry.space == *space)?;
        self.entries.remove(&key).map(|entry| entry.statement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(name: &str) -> Arc<Statement> {
        Arc::new(Statement {
            name: name.to_owned(),
            params: Box::default(),
            columns: Arc::default(),
            leaves_traces: false,
            text: None,
        })
    }

    #[test]
    fn the_least_recently_used_statement_goes_first() {
        let space: Arc<str> = "app".into();
        let mut cache = StatementCache::new(2);
        assert!(cache.insert(&space, "a", statement("1")).is_empty());
        assert!(cache.insert(&space, "b", statement("2")).is_empty());
        cache.get("app", "a").unwrap();
        let out = cache.insert(&space, "c", statement("3"));
        assert_eq!(out.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["2"]);
        assert_eq!(cache.len(), 2);
        assert!(cache.get("app", "b").is_none());
    }

    #[test]
    fn one_text_in_two_schemas_is_two_statements() {
        let mut cache = StatementCache::new(8);
        cache.insert(&"t_1".into(), "select", statement("1"));
        assert!(cache.get("t_2", "select").is_none());
        assert!(cache.remove("t_2", "select").is_none());
        assert_eq!(cache.remove("t_1", "select").unwrap().name, "1");
    }
}
