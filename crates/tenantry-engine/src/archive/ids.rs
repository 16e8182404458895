//! Which columns get new ids, where rows shall not keep the ones that they have: told from keys and foreign keys alone.
//!
//! A key of one column gets new values, and so does every column that a foreign key ties to it, over however many tables. All columns
//! that are tied together are one group: they change by the same rule, so that what was equal stays so, in rows that refer to themselves
//! and in circles too.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    TableHead,
    tied::{Columns, Known, may_hold_ids},
};

/// What becomes of the ids of a tenant's rows where they get new ones.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct IdPlan {
    /// The columns with new values, as `table.column`.
    pub renewed: Vec<String>,
    /// The columns of keys that stay as they are.
    pub kept: Vec<KeptKey>,
    /// Columns that may hold an id without a foreign key that says so, and are not looked into: texts, JSON, uuids, arrays.
    pub not_followed: Vec<String>,
    #[serde(skip)]
    pub(super) groups: Vec<Group>,
}

/// A column of a key that stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct KeptKey {
    /// As `table.column`.
    pub column: String,
    /// Why.
    pub reason: String,
}

/// Why rows can't get new ids. Nothing was made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The archive is older than this.
    #[error(
        "new ids: the archive does not say which columns refer to which, since an older program wrote it: export the tenant again, \
         or import it with the ids that it has"
    )]
    NoReferences,
    /// There is no such column to be followed.
    #[error("new ids: there is no column {0}: name it as table.column")]
    Unknown(String),
    /// Its new value can't be told from the old one.
    #[error(
        "new ids: {column} is {kind}: only a uuid can be followed without a foreign key, since its new value is told by the old one"
    )]
    NotUuid {
        /// Which.
        column: String,
        /// Its type.
        kind: String,
    },
    /// What it refers to stays as it is.
    #[error("new ids: {0} belongs to a foreign key, which says what it refers to, and that keeps its ids")]
    Kept(String),
    /// Where the rows go, other columns refer to each other.
    #[error("new ids: keys or foreign keys are others where the rows go than where they come from")]
    OtherKeys,
    /// There is no room.
    #[error(
        "new ids: {column} would have to hold {wanted}, and its type ends at {most}: take the ids that the rows have, or a wider type"
    )]
    Exhausted {
        /// Which.
        column: String,
        /// The largest of the new ids.
        wanted: i128,
        /// The largest that the type has.
        most: i64,
    },
}

/// Columns with the same new values for the same old ones.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Group {
    /// Each with its table, by name; never empty.
    pub(super) columns: Vec<(String, String)>,
    pub(super) kind: IdKind,
}

/// How new values are made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum IdKind {
    Uuid,
    /// None of the columns can hold more than this.
    Integer {
        most: i64,
    },
}

impl Group {
    /// What it is called: by its first column.
    pub(super) fn name(&self) -> String {
        let (table, column) = &self.columns[0];
        format!("{table}.{column}")
    }
}

impl IdPlan {
    /// Works it out for these tables. `also` names uuid columns, as `table.column`, that hold ids of rows without a foreign key.
    ///
    /// # Errors
    ///
    /// See [`IdError`].
    pub fn new<'a>(heads: impl IntoIterator<Item = &'a TableHead>, also: &[String]) -> Result<Self, IdError> {
        let heads: Vec<&TableHead> = heads.into_iter().collect();
        let mut columns = Columns::of(&heads)?;
        columns.tie(&heads);
        let mut plan = Self::default();
        let mut reasons: BTreeMap<usize, String> = BTreeMap::new();
        for (root, members) in columns.groups() {
            if !members.iter().any(|member| columns.all[*member].is_key) {
                continue;
            }
            match columns.kind_of(&members) {
                Ok(kind) => plan.groups.push(columns.group(&members, kind)),
                Err(reason) => drop(reasons.insert(root, reason)),
            }
        }
        for name in also {
            let at = columns.find(name).ok_or_else(|| IdError::Unknown(name.clone()))?;
            let column = &columns.all[at];
            if plan.renews(column.table, column.name) {
                continue;
            }
            match column.kind {
                Some("uuid") if column.is_tied || column.is_key => return Err(IdError::Kept(name.clone())),
                Some("uuid") => plan.groups.push(columns.group(&[at], IdKind::Uuid)),
                kind => {
                    return Err(IdError::NotUuid {
                        column: name.clone(),
                        kind: kind.unwrap_or("generated").to_owned(),
                    });
                }
            }
        }
        // The same wherever the same tables are, whatever order they are listed in.
        plan.groups.sort();
        for head in heads {
            for name in &head.key {
                if plan.renews(&head.name, name) {
                    continue;
                }
                let found = columns.by_name.get(&(head.name.as_str(), name.as_str()));
                let reason = found.and_then(|at| reasons.get(&columns.root(*at)).cloned());
                plan.kept.push(KeptKey {
                    column: format!("{}.{name}", head.name),
                    reason: reason.unwrap_or_else(|| "it is part of a key of several columns".to_owned()),
                });
            }
        }
        plan.not_followed = columns
            .all
            .iter()
            .filter(|column| !column.is_tied && !column.in_key && column.kind.is_some_and(may_hold_ids))
            .filter(|column| !plan.renews(column.table, column.name))
            .map(Known::shown)
            .collect();
        let renewed = plan.groups.iter().flat_map(|group| &group.columns);
        plan.renewed = renewed.map(|(table, column)| format!("{table}.{column}")).collect();
        plan.renewed.sort();
        Ok(plan)
    }

    /// The groups that the columns of a row belong to, each with the column's number.
    pub(super) fn of_table(&self, head: &TableHead) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (number, column) in head.columns.iter().enumerate() {
            if let Some(group) = self.group_of(&head.name, &column.name) {
                found.push((number, group));
            }
        }
        found
    }

    /// The group that a column belongs to, by its number.
    pub(super) fn group_of(&self, table: &str, column: &str) -> Option<usize> {
        let is_it = |(of, name): &(String, String)| of == table && name == column;
        self.groups.iter().position(|group| group.columns.iter().any(is_it))
    }

    fn renews(&self, table: &str, column: &str) -> bool {
        self.group_of(table, column).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Column, Reference},
        *,
    };

    fn head(
        name: &str,
        columns: &[(&str, &str)],
        key: &[&str],
        references: &[(&str, Option<&str>, &str)],
    ) -> TableHead {
        let column = |(name, kind): &(&str, &str)| Column {
            name: (*name).to_owned(),
            r#type: (*kind).to_owned(),
            required: true,
        };
        let reference = |(column, table, to): &(&str, Option<&str>, &str)| Reference {
            column: (*column).to_owned(),
            table: table.map(str::to_owned),
            to: (*to).to_owned(),
        };
        TableHead {
            name: name.to_owned(),
            columns: columns.iter().map(column).collect(),
            key: key.iter().map(|name| (*name).to_owned()).collect(),
            sequences: Vec::new(),
            references: Some(references.iter().map(reference).collect()),
        }
    }

    #[test]
    fn what_foreign_keys_tie_together_is_renewed_together() {
        let heads = [
            head(
                "a",
                &[("id", "uuid"), ("b", "uuid"), ("note", "text")],
                &["id"],
                &[("b", Some("b"), "id")],
            ),
            // A circle, a row's own parent, and a key that is another's.
            head(
                "b",
                &[("id", "uuid"), ("up", "uuid")],
                &["id"],
                &[("id", Some("a"), "id"), ("up", Some("b"), "id")],
            ),
            head("n", &[("id", "bigint"), ("small", "smallint")], &["id"], &[]),
            head(
                "of_n",
                &[("n", "integer"), ("a", "uuid"), ("at", "date")],
                &["n", "a"],
                &[("n", Some("n"), "id"), ("a", Some("a"), "id")],
            ),
        ];
        let plan = IdPlan::new(&heads, &[]).unwrap();
        assert_eq!(
            plan.renewed,
            ["a.b", "a.id", "b.id", "b.up", "n.id", "of_n.a", "of_n.n"]
        );
        assert_eq!(plan.kept, []);
        assert_eq!(plan.not_followed, ["a.note"]);
        let kinds: Vec<IdKind> = plan.groups.iter().map(|group| group.kind).collect();
        // The narrowest of what is tied together says how far they go.
        assert_eq!(
            kinds,
            [
                IdKind::Uuid,
                IdKind::Integer {
                    most: i64::from(i32::MAX)
                }
            ]
        );
        // In another order of the tables it is the same.
        let turned = IdPlan::new(heads.iter().rev(), &[]).unwrap();
        assert_eq!(turned.groups, plan.groups);
    }

    #[test]
    fn what_can_not_be_renewed_is_kept_with_all_that_refers_to_it() {
        let heads = [
            head(
                "land",
                &[("code", "uuid"), ("name", "text")],
                &["code"],
                &[("code", None, "code")],
            ),
            head(
                "town",
                &[("id", "uuid"), ("land", "uuid")],
                &["id"],
                &[("land", Some("land"), "code")],
            ),
            head("split", &[("id", "uuid"), ("day", "date")], &["id", "day"], &[]),
            head(
                "word",
                &[
                    ("id", "text"),
                    ("ids", "uuid[]"),
                    ("numbers", "bigint[]"),
                    ("at", "date"),
                ],
                &["id"],
                &[],
            ),
            head("odd", &[("id", "bigint")], &["id"], &[]),
            head("of_odd", &[("odd", "numeric")], &[], &[("odd", Some("odd"), "id")]),
            head("made", &[("id", "uuid")], &["id"], &[("twin", Some("made"), "id")]),
        ];
        let plan = IdPlan::new(&heads, &[]).unwrap();
        assert_eq!(plan.renewed, ["town.id"]);
        let kept: Vec<(&str, &str)> = plan
            .kept
            .iter()
            .map(|kept| (kept.column.as_str(), kept.reason.as_str()))
            .collect();
        assert_eq!(
            kept,
            [
                ("land.code", "it refers to a table that is the same for all tenants"),
                ("split.id", "it is part of a key of several columns"),
                ("split.day", "it is part of a key of several columns"),
                ("word.id", "word.id is text, and only uuids and integers are made anew"),
                (
                    "odd.id",
                    "of_odd.odd is numeric, and only uuids and integers are made anew"
                ),
                ("made.id", "a column that PostgreSQL generates has the same ids"),
            ]
        );
        assert_eq!(plan.not_followed, ["land.name", "word.ids", "word.numbers"]);
    }

    #[test]
    fn a_uuid_without_a_foreign_key_is_followed_where_it_is_named() {
        let mut heads = vec![
            head("items", &[("id", "uuid"), ("by", "uuid")], &["id"], &[]),
            head(
                "words",
                &[("word", "text"), ("item", "uuid"), ("weight", "integer")],
                &["word", "item"],
                &[],
            ),
            head("days", &[("id", "uuid"), ("day", "date")], &["id", "day"], &[]),
            head("of_days", &[("day", "uuid")], &[], &[("day", Some("days"), "id")]),
        ];
        let with = |heads: &[TableHead], also: &str| IdPlan::new(heads, &[also.to_owned()]);
        assert_eq!(with(&heads, "words.item").unwrap().renewed, ["items.id", "words.item"]);
        assert_eq!(with(&heads, "items.id").unwrap().renewed, ["items.id"]);
        assert_eq!(
            with(&heads, "words.itme"),
            Err(IdError::Unknown("words.itme".to_owned()))
        );
        assert_eq!(
            with(&heads, "of_days.day"),
            Err(IdError::Kept("of_days.day".to_owned()))
        );
        let refused = with(&heads, "words.weight").unwrap_err().to_string();
        assert!(refused.contains("words.weight is integer"), "{refused}");
        heads[0].references = None;
        assert_eq!(with(&heads, "words.item"), Err(IdError::NoReferences));
    }
}
