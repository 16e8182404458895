//! The columns of all tables, and which of them hold the same ids, as foreign keys say.

use std::collections::BTreeMap;

use super::{
    TableHead,
    ids::{Group, IdError, IdKind},
};

/// Whether an id may stand in a column of this type beside what it is for.
pub(super) fn may_hold_ids(kind: &str) -> bool {
    match kind.strip_suffix("[]") {
        Some(element) => may_hold_ids(element) || most_of(element).is_some(),
        None => matches!(kind, "uuid" | "text" | "json" | "jsonb" | "xml" | "citext") || kind.starts_with("character"),
    }
}

/// The largest number that a type has, where it is one of integers.
fn most_of(kind: &str) -> Option<i64> {
    match kind {
        "smallint" => Some(i64::from(i16::MAX)),
        "integer" => Some(i64::from(i32::MAX)),
        "bigint" => Some(i64::MAX),
        _ => None,
    }
}

/// A column, and with which others it shares its values.
pub(super) struct Known<'a> {
    pub(super) table: &'a str,
    pub(super) name: &'a str,
    /// Its type; `None` where it is made of other columns.
    pub(super) kind: Option<&'a str>,
    /// Whether it alone is its table's key.
    pub(super) is_key: bool,
    pub(super) in_key: bool,
    /// Whether a foreign key refers from or to it.
    pub(super) is_tied: bool,
    /// Why it can't change.
    fixed: Option<&'static str>,
    /// One that it shares its values with; itself where it stands for all of these.
    like: usize,
}

impl Known<'_> {
    pub(super) fn shown(&self) -> String {
        format!("{}.{}", self.table, self.name)
    }
}

pub(super) struct Columns<'a> {
    pub(super) all: Vec<Known<'a>>,
    pub(super) by_name: BTreeMap<(&'a str, &'a str), usize>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(heads: &[&'a TableHead]) -> Result<Self, IdError> {
        let mut columns = Self {
            all: Vec::new(),
            by_name: BTreeMap::new(),
        };
        for head in heads {
            if head.references.is_none() {
                return Err(IdError::NoReferences);
            }
            for column in &head.columns {
                let at = columns.place(&head.name, &column.name);
                let known = &mut columns.all[at];
                known.kind = Some(column.r#type.as_str());
                known.fixed = None;
                known.in_key = head.key.contains(&column.name);
                known.is_key = known.in_key && head.key.len() == 1;
            }
        }
        Ok(columns)
    }

    /// The column of this name; one that no row has is made of others.
    fn place(&mut self, table: &'a str, name: &'a str) -> usize {
        let next = self.all.len();
        let at = *self.by_name.entry((table, name)).or_insert(next);
        if at == next {
            self.all.push(Known {
                table,
                name,
                kind: None,
                is_key: false,
                in_key: false,
                is_tied: false,
                fixed: Some("a column that PostgreSQL generates has the same ids"),
                like: next,
            });
        }
        at
    }

    pub(super) fn tie(&mut self, heads: &[&'a TableHead]) {
        for head in heads {
            for reference in head.references.iter().flatten() {
                let child = self.place(&head.name, &reference.column);
                self.all[child].is_tied = true;
                let Some(table) = &reference.table else {
                    self.all[child].fixed = Some("it refers to a table that is the same for all tenants");
                    continue;
                };
                let parent = self.place(table, &reference.to);
                self.all[parent].is_tied = true;
                let (child, parent) = (self.root(child), self.root(parent));
                self.all[child].like = parent;
            }
        }
    }

    pub(super) fn root(&self, mut at: usize) -> usize {
        while self.all[at].like != at {
            at = self.all[at].like;
        }
        at
    }

    pub(super) fn groups(&self) -> BTreeMap<usize, Vec<usize>> {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for at in 0..self.all.len() {
            groups.entry(self.root(at)).or_default().push(at);
        }
        groups
    }

    /// How new values of columns are made that have the same ones; why they can't be.
    pub(super) fn kind_of(&self, members: &[usize]) -> Result<IdKind, String> {
        let members: Vec<&Known<'_>> = members.iter().map(|member| &self.all[*member]).collect();
        if let Some(reason) = members.iter().find_map(|member| member.fixed) {
            return Err(reason.to_owned());
        }
        if members.iter().all(|member| member.kind == Some("uuid")) {
            return Ok(IdKind::Uuid);
        }
        let mut most = i64::MAX;
        for member in &members {
            match member.kind.and_then(most_of) {
                Some(of_it) => most = most.min(of_it),
                None => {
                    let kind = member.kind.unwrap_or("generated");
                    return Err(format!(
                        "{} is {kind}, and only uuids and integers are made anew",
                        member.shown()
                    ));
                }
            }
        }
        Ok(IdKind::Integer { most })
    }

    pub(super) fn group(&self, members: &[usize], kind: IdKind) -> Group {
        let named = members.iter().map(|member| &self.all[*member]);
        let mut columns: Vec<(String, String)> = named
            .map(|column| (column.table.to_owned(), column.name.to_owned()))
            .collect();
        columns.sort();
        Group { columns, kind }
    }

    pub(super) fn find(&self, shown: &str) -> Option<usize> {
        self.all.iter().position(|column| column.shown() == shown)
    }
}
