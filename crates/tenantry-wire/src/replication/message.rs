//! What `pgoutput` says, in version 1 of its protocol.

use bytes::Bytes;

use super::Lsn;

/// A message of the plugin. Transactions come whole and in the order of their commits; a [`Relation`](Self::Relation) comes
/// before the first change of its table, and again after its table was altered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// A transaction that was committed begins.
    Begin {
        /// Where its commit stands: the order of transactions.
        commit: Lsn,
        /// When it was committed, in microseconds since 2000-01-01.
        time_us: i64,
        /// Its number at the source.
        xid: u32,
    },
    /// The transaction's end.
    Commit {
        /// Where its commit stands.
        commit: Lsn,
        /// Where its commit ends: from here on nothing of it is left.
        end: Lsn,
        /// When it was committed, in microseconds since 2000-01-01.
        time_us: i64,
    },
    /// The transaction was itself applied from elsewhere.
    Origin {
        /// Its commit there.
        commit: Lsn,
        /// The origin's name.
        name: String,
    },
    /// What a table is, as of the changes that follow.
    Relation(Relation),
    /// A type that is not built in, and that a column of the next relation has.
    Type {
        /// Its oid at the source.
        oid: u32,
        /// Its schema; empty stands for `pg_catalog`.
        schema: String,
        /// Its name; a domain's is that of what it is made of.
        name: String,
    },
    /// A row came.
    Insert {
        /// The table.
        relation: u32,
        /// The row.
        new: Tuple,
    },
    /// A row changed.
    Update {
        /// The table.
        relation: u32,
        /// What it was, where its key changed or the table tells more.
        old: Option<Old>,
        /// What it is.
        new: Tuple,
    },
    /// A row went.
    Delete {
        /// The table.
        relation: u32,
        /// What it was.
        old: Old,
    },
    /// Tables were emptied, whatever a row filter says.
    Truncate {
        /// The tables.
        relations: Vec<u32>,
        /// With those that refer to them.
        cascade: bool,
        /// Their sequences began anew.
        restart_identity: bool,
    },
    /// What `pg_logical_emit_message` wrote.
    Logical {
        /// It is part of a transaction. If not, it comes after every transaction that was committed before it.
        transactional: bool,
        /// Where it stands.
        position: Lsn,
        /// Whom it is for.
        prefix: String,
        /// What it says.
        content: Bytes,
    },
}

/// A table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relation {
    /// Its oid at the source.
    pub id: u32,
    /// Its schema; empty stands for `pg_catalog`.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What is told of a row that changes or goes.
    pub identity: Identity,
    /// Its columns in the order of the values; generated ones are not among them.
    pub columns: Vec<RelationColumn>,
}

/// What is told of a row that changes or goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identity {
    /// The primary key.
    Default,
    /// Nothing.
    Nothing,
    /// All columns.
    Full,
    /// The columns of an index.
    Index,
}

/// A column of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelationColumn {
    /// It is part of the identity.
    pub key: bool,
    /// Its name.
    pub name: String,
    /// Its type's oid at the source.
    pub type_oid: u32,
    /// Its type's modifier, as the length of a `varchar`.
    pub modifier: i32,
}

/// What a row was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Old {
    /// The columns of its identity; the others are null.
    Key(Tuple),
    /// All columns.
    Row(Tuple),
}

impl Old {
    /// The values.
    pub fn tuple(&self) -> &Tuple {
        match self {
            Self::Key(tuple) | Self::Row(tuple) => tuple,
        }
    }
}

/// The values of a row, in the order of its relation's columns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tuple(pub Vec<Value>);

/// The value of a column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// Null.
    Null,
    /// A large value, stored beside the row, that the change left as it was; it is not told.
    Unchanged,
    /// As text.
    Text(Bytes),
    /// In the binary format.
    Binary(Bytes),
}
