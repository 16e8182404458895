//! What a structure is made of: one fact per thing that a migration can decide.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// What kind of object a fact belongs to; in the order in which one can need the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The schema itself.
    Schema,
    /// An enum, a domain, a composite or range type.
    Type,
    /// A sequence.
    Sequence,
    /// A function, procedure or aggregate.
    Function,
    /// A table.
    Table,
    /// A view.
    View,
}

/// Which of an object's properties it is; in the order in which they can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// That the object is there, and what defines it whole.
    Itself,
    /// Whose it is.
    Owner,
    /// A column of a table.
    Column,
    /// The default of a view's column.
    Default,
    /// A key, unique, check or exclusion.
    Constraint,
    /// An index that belongs to no constraint.
    Index,
    /// Extended statistics.
    Statistics,
    /// A trigger.
    Trigger,
    /// A rule.
    Rule,
    /// Storage parameters, `security_invoker` of a view.
    Options,
    /// A policy.
    Policy,
    /// Whether row security is enabled and forced.
    RowSecurity,
    /// What a role may do with the object.
    Grant,
    /// What a role may do with some columns.
    ColumnGrant,
    /// A comment.
    Comment,
}

/// Names a fact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind of the object.
    pub class: Class,
    /// The object's name; a function's with its arguments.
    pub object: String,
    /// Which property of it.
    pub fact: Fact,
    /// Of what: the column, the index, the role; nothing where the object has one.
    pub name: String,
}

impl Key {
    /// The fact that the object is there.
    pub(super) fn of_object(&self) -> Self {
        Self {
            fact: Fact::Itself,
            name: String::new(),
            ..self.clone()
        }
    }

    /// Whether it is a comment on a column, index, constraint or trigger that the one structure has and the other has not.
    pub(super) fn goes_with_its_owner(&self, one: &Structure, other: &Structure) -> bool {
        self.commented()
            .is_some_and(|owner| one.has(&owner) && !other.has(&owner))
    }

    /// On which part of the object it is a comment; nothing where it is on the object itself, or no comment.
    pub(super) fn commented(&self) -> Option<Self> {
        let (what, name) = self.name.split_once(' ').filter(|_| self.fact == Fact::Comment)?;
        let fact = match what {
            "column" => Fact::Column,
            "index" => Fact::Index,
            "constraint" => Fact::Constraint,
            "trigger" => Fact::Trigger,
            _ => return None,
        };
        Some(Self {
            fact,
            name: name.trim_matches('"').to_owned(),
            ..self.clone()
        })
    }
}

/// All facts of one schema.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Structure {
    pub(super) facts: BTreeMap<Key, Value>,
}

impl Structure {
    /// Equal for equal structures, in hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for (key, value) in &self.facts {
            // Names hold no zero byte, so that no two lists of facts read alike. JSON objects are sorted.
            let line = format!(
                "{:?}\0{}\0{:?}\0{}\0{value}\0",
                key.class, key.object, key.fact, key.name
            );
            hash.update(line);
        }
        hex::encode(hash.finalize())
    }

    /// How many facts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.facts.contains_key(key)
    }

    /// The facts of one object besides that it is there.
    pub(super) fn details(&self, object: &Key) -> impl Iterator<Item = (&Key, &Value)> {
        let (class, name) = (object.class, object.object.clone());
        self.facts
            .iter()
            .filter(move |(key, _)| key.class == class && key.object == name && key.fact != Fact::Itself)
    }
}
