//! What stands in a schema, by oid and column number, so that a renamed thing is seen as the same thing.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The query that reads a [`Snapshot`]; its one parameter is the schema's name, quoted.
pub(super) const QUERY: &str = include_str!("snapshot.sql");

/// Identifies a catalog row.
pub(super) type Oid = u32;

/// One schema at one moment.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Snapshot {
    pub(super) tables: BTreeMap<Oid, Table>,
    pub(super) constraints: BTreeMap<Oid, Constraint>,
    pub(super) indexes: BTreeMap<Oid, Index>,
    pub(super) sequences: BTreeMap<Oid, Sequence>,
    pub(super) views: BTreeMap<Oid, View>,
    pub(super) types: BTreeMap<Oid, Type>,
    pub(super) functions: BTreeMap<Oid, Function>,
    pub(super) triggers: BTreeMap<Oid, Trigger>,
    pub(super) policies: BTreeMap<Oid, Policy>,
}

/// A table, partitioned table or partition; also what is refused in their place.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Table {
    pub(super) name: String,
    /// As the server quotes it in definitions.
    pub(super) quoted: String,
    /// `r` table, `p` partitioned, `f` foreign, `m` materialized view.
    pub(super) kind: char,
    pub(super) unlogged: bool,
    pub(super) is_partition: bool,
    pub(super) bound: Option<String>,
    pub(super) partition_key: Option<String>,
    pub(super) parents: Vec<Oid>,
    pub(super) options: Vec<String>,
    pub(super) comment: Option<String>,
    pub(super) typed: bool,
    pub(super) rules: i64,
    pub(super) columns: Vec<Column>,
}

impl Table {
    pub(super) fn column(&self, num: i16) -> Option<&Column> {
        self.columns.iter().find(|column| column.num == num)
    }

    /// Names of the columns with these numbers.
    pub(super) fn names(&self, nums: &[i16]) -> Vec<&str> {
        nums.iter()
            .filter_map(|num| self.column(*num))
            .map(|column| column.name.as_str())
            .collect()
    }
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Column {
    pub(super) num: i16,
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) ty: String,
    pub(super) not_null: bool,
    /// The default, or the expression of a generated column.
    pub(super) default: Option<String>,
    /// Changes when the default is set, not when something in it is renamed.
    pub(super) default_oid: Oid,
    /// Empty, `a` (always) or `d` (by default).
    pub(super) identity: String,
    /// Empty, `s` (stored) or `v` (virtual).
    pub(super) generated: String,
    pub(super) collation: Option<String>,
    /// Whether rows from before the column read its default.
    pub(super) missing: bool,
    pub(super) local: bool,
    pub(super) inherited: bool,
    pub(super) comment: Option<String>,
}

/// A constraint of a table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Constraint {
    pub(super) name: String,
    pub(super) table: Oid,
    /// `c` check, `f` foreign key, `p` primary key, `u` unique, `x` exclusion.
    pub(super) kind: char,
    pub(super) def: String,
    pub(super) index: Oid,
    pub(super) columns: Vec<i16>,
    pub(super) target: Oid,
    pub(super) target_columns: Vec<i16>,
    /// `a` no action, `r` restrict, `c` cascade, `n` set null, `d` set default.
    pub(super) on_update: char,
    pub(super) on_delete: char,
    pub(super) delete_columns: Vec<i16>,
    /// `s` simple, `f` full.
    #[serde(rename = "match")]
    pub(super) matching: char,
    pub(super) deferrable: bool,
    pub(super) deferred: bool,
    pub(super) validated: bool,
    /// Made by the parent's; comes and goes with it.
    pub(super) inherited: bool,
}

/// An index, those of constraints included.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Index {
    pub(super) name: String,
    pub(super) quoted: String,
    pub(super) table: Oid,
    pub(super) unique: bool,
    pub(super) method: String,
    pub(super) def: String,
    /// Column numbers, 0 for an expression.
    pub(super) keys: Vec<i16>,
    pub(super) partial: bool,
    pub(super) constraint: bool,
    pub(super) inherited: bool,
}

/// A sequence.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Sequence {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) ty: String,
    pub(super) start: i64,
    pub(super) increment: i64,
    pub(super) max: i64,
    pub(super) min: i64,
    pub(super) cache: i64,
    pub(super) cycle: bool,
    pub(super) owner: Option<SequenceOwner>,
}

/// The column that a sequence belongs to.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct SequenceOwner {
    pub(super) table: Oid,
    pub(super) column: i16,
    pub(super) identity: bool,
}

/// A view.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct View {
    pub(super) name: String,
    pub(super) def: String,
    pub(super) options: Vec<String>,
    /// Changes when the view is replaced, not when something in it is renamed.
    pub(super) stamp: String,
    pub(super) rules: i64,
    pub(super) comment: Option<String>,
    pub(super) columns: Vec<ViewColumn>,
}

/// A column of a view.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct ViewColumn {
    pub(super) num: i16,
    pub(super) name: String,
    pub(super) default: Option<String>,
}

/// An enum, domain, composite or range type.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Type {
    pub(super) name: String,
    /// `e` enum, `d` domain, `c` composite, `r` range.
    pub(super) kind: char,
    pub(super) labels: Vec<Label>,
    pub(super) base: Option<String>,
    pub(super) default: Option<String>,
    pub(super) not_null: bool,
    pub(super) checks: Vec<DomainCheck>,
    pub(super) attributes: Vec<Attribute>,
}

/// A label of an enum.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Label {
    pub(super) oid: Oid,
    pub(super) label: String,
}

/// A check of a domain.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct DomainCheck {
    pub(super) oid: Oid,
    pub(super) name: String,
    pub(super) def: String,
    pub(super) validated: bool,
}

/// A field of a composite type.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Attribute {
    pub(super) num: i16,
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) ty: String,
}

/// A function, procedure or aggregate.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) quoted: String,
    /// `f` function, `p` procedure, `a` aggregate, `w` window function.
    pub(super) kind: char,
    pub(super) identity: String,
    pub(super) definer: bool,
    pub(super) leakproof: bool,
    pub(super) settings: Vec<String>,
    pub(super) source: String,
    /// Changes whenever the function does.
    pub(super) stamp: String,
    pub(super) def: Option<String>,
}

/// A trigger of the application's.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Trigger {
    pub(super) name: String,
    pub(super) table: Oid,
    pub(super) def: String,
    pub(super) inherited: bool,
}

/// A policy of the application's.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) table: Oid,
    pub(super) permissive: bool,
}
