//! Constraints and indexes of tables that hold rows and are in use: made in such steps that nobody waits while the rows are read.

use serde_json::Value;

use super::{
    desired::{Phase, Step, noted, plain_index, refused, step},
    fact::{Fact, Key, Structure},
    statement::{self, def, is, text},
};
use crate::isolate::ident;

/// PostgreSQL keeps so many bytes of a name.
const NAME_BYTES_MAX: usize = 63;

/// A new constraint.
pub(super) fn constraint(key: &Key, value: &Value, current: &Structure, wanted: &Structure) -> Vec<Step> {
    let def = def(value);
    let (table, name) = (ident(&key.object), ident(&key.name));
    let add = |what: &str| format!("alter table {table} add constraint {name} {what}");
    let validate = || format!("alter table {table} validate constraint {name}");
    let unchecked = def.ends_with(" NOT VALID") || def.ends_with(" NOT ENFORCED");
    if def.starts_with("CHECK ") {
        let mut steps = vec![match unchecked {
            true => step(Phase::Object, key, [add(def)]),
            false => step(Phase::Object, key, [add(&format!("{def} not valid"))]),
        }];
        steps.extend((!unchecked).then(|| step(Phase::Check, key, [validate()])));
        return steps;
    }
    if def.starts_with("FOREIGN KEY ") {
        if unchecked {
            return vec![step(Phase::Unchecked, key, [add(def)])];
        }
        if is_partitioned(key, wanted) {
            return vec![noted(
                step(Phase::ForeignKey, key, [add(def)]),
                "reads every row with both tables locked, since PostgreSQL adds no foreign key to a partitioned table in steps",
            )];
        }
        return vec![
            step(Phase::Unchecked, key, [add(&format!("{def} not valid"))]),
            noted(
                step(Phase::Key, key, [validate()]),
                "reads every row, and where the tables hold tenants' rows both are locked meanwhile: run this when that may be",
            ),
        ];
    }
    let Some(unique) = Unique::of(def).filter(|_| !is_partitioned(key, wanted)) else {
        return vec![noted(
            step(Phase::Object, key, [add(def)]),
            "builds its index while nobody reads or writes the table, since PostgreSQL can't do it otherwise here",
        )];
    };
    if unique.is_primary && unique.lets_nulls_in(key, current, wanted) {
        return vec![refused(
            key,
            vec![add(def)],
            "rows may have no value for it, and it would read them all under a lock: set its columns `not null` first",
        )];
    }
    let Unique { columns, nulls, .. } = unique;
    vec![
        step(
            Phase::Built,
            key,
            [format!(
                "create unique index concurrently {name} on {table} {columns}{nulls}"
            )],
        ),
        step(
            Phase::Bound,
            key,
            [add(&format!("{} using index {name}{}", unique.word(), unique.deferral))],
        ),
    ]
}

/// A new index, or another one in the place of one that is there.
pub(super) fn index(key: &Key, found: Option<&Value>, wanted: &Value) -> Vec<Step> {
    let name = ident(&key.name);
    let drop = format!("drop index {name}");
    if is(wanted, "partitioned") || found.is_some_and(|found| is(found, "partitioned")) {
        let sql = found.map(|_| drop).into_iter().chain([plain_index(wanted)]);
        return vec![noted(
            step(Phase::Index, key, sql),
            "is built while nobody writes the table, since PostgreSQL can't do it otherwise for a partitioned one",
        )];
    }
    if found.is_none() {
        return vec![step(Phase::Built, key, [statement::concurrently(&name, wanted)])];
    }
    // The old one serves until the new one is there.
    let meanwhile = ident(&meanwhile(&key.name));
    vec![
        step(Phase::Built, key, [statement::concurrently(&meanwhile, wanted)]),
        step(
            Phase::Bound,
            key,
            [drop, format!("alter index {meanwhile} rename to {name}")],
        ),
    ]
}

fn meanwhile(name: &str) -> String {
    const END: &str = "_new";
    let mut kept = name.len().min(NAME_BYTES_MAX - END.len());
    while !name.is_char_boundary(kept) {
        kept -= 1;
    }
    format!("{}{END}", &name[..kept])
}

fn is_partitioned(key: &Key, wanted: &Structure) -> bool {
    let table = wanted.facts.get(&key.of_object());
    table.is_some_and(|table| text(table, "kind") == Some("p"))
}

/// A primary key or unique as PostgreSQL writes it, taken apart.
struct Unique<'d> {
    is_primary: bool,
    /// `(a, b) INCLUDE (c)`.
    columns: &'d str,
    nulls: &'static str,
    deferral: &'static str,
}

impl<'d> Unique<'d> {
    /// `None` for what an index alone does not make.
    fn of(def: &'d str) -> Option<Self> {
        let (is_primary, rest) = match def.strip_prefix("PRIMARY KEY ") {
            Some(rest) => (true, rest),
            None => (false, def.strip_prefix("UNIQUE ")?),
        };
        let (nulls, rest) = match rest.strip_prefix("NULLS NOT DISTINCT ") {
            Some(rest) => (" nulls not distinct", rest),
            None => ("", rest),
        };
        let (deferral, columns) = [
            (" DEFERRABLE INITIALLY DEFERRED", " deferrable initially deferred"),
            (" DEFERRABLE", " deferrable"),
        ]
        .into_iter()
        .find_map(|(end, deferral)| Some((deferral, rest.strip_suffix(end)?)))
        .unwrap_or(("", rest));
        let is_known = columns.starts_with('(') && columns.ends_with(')') && !columns.contains("WITHOUT OVERLAPS");
        is_known.then_some(Self {
            is_primary,
            columns,
            nulls,
            deferral,
        })
    }

    fn word(&self) -> &'static str {
        if self.is_primary { "primary key" } else { "unique" }
    }

    /// Whether one of its columns, as they are before its index is built, may be null: the key would make it `not null` itself, and
    /// read every row for that.
    fn lets_nulls_in(&self, key: &Key, current: &Structure, wanted: &Structure) -> bool {
        let (columns, _) = self.columns.split_once(" INCLUDE (").unwrap_or((self.columns, ""));
        let table = key.of_object();
        let nulls_of = |structure: &Structure, column: &str| {
            let mut columns = structure
                .details(&table)
                .filter(|(detail, _)| detail.fact == Fact::Column);
            let found = columns.find(|(detail, _)| detail.name == column || ident(&detail.name) == column);
            found.map(|(_, value)| !is(value, "not_null"))
        };
        let mut named = columns.trim_start_matches('(').trim_end_matches(')').split(", ");
        // One that comes with this migration is added with its values.
        named.any(|column| {
            let now = nulls_of(current, column);
            now.or_else(|| nulls_of(wanted, column)) == Some(true)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_apart_as_postgresql_writes_them() {
        let parts = |def| Unique::of(def).map(|of| (of.word(), of.columns, of.nulls, of.deferral));
        assert_eq!(
            parts("UNIQUE NULLS NOT DISTINCT (a, \"B c\") INCLUDE (d) DEFERRABLE"),
            Some((
                "unique",
                "(a, \"B c\") INCLUDE (d)",
                " nulls not distinct",
                " deferrable"
            ))
        );
        assert_eq!(
            parts("PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED"),
            Some(("primary key", "(id)", "", " deferrable initially deferred"))
        );
        assert_eq!(parts("UNIQUE (a, during WITHOUT OVERLAPS)"), None);
        assert_eq!(parts("EXCLUDE USING gist (a WITH =)"), None);
    }

    #[test]
    fn names_meanwhile_stay_within_what_postgresql_keeps() {
        assert_eq!(meanwhile("contacts_name"), "contacts_name_new");
        assert!(meanwhile(&"ä".repeat(31)).len() <= NAME_BYTES_MAX);
    }
}
