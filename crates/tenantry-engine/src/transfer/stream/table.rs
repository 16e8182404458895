//! A table of the source, and the target's table of the same name: what is written where.

use std::collections::HashMap;

use tenantry_sql::{Identifier, Qualified, TENANT_COLUMN};
use tenantry_wire::replication::{Identity, Relation};
use tokio_postgres::Client;

use super::StreamError;
use crate::{
    sql_error::{Doing, SqlError},
    transfer::key::{LastKey, compared, constant, row},
};

/// Oids below are the same on every server of a version, and mean the same on all: types that `initdb` did not number are told
/// apart by their names.
const FIXED_OIDS_END: u32 = 10_000;
/// `text` and `varchar`.
const TEXTS: [u32; 2] = [25, 1043];

/// The target's tables by their plain names.
pub(super) struct Targets {
    schema: String,
    tables: HashMap<String, Vec<TargetColumn>>,
}

/// A column of the target's.
#[derive(Clone, PartialEq, Eq, Debug)]
struct TargetColumn {
    name: String,
    type_oid: u32,
    /// A domain's is what it is made of: the stream says no more of the source's.
    type_name: String,
    modifier: i32,
    /// Its type as SQL, as the applier's search path finds it.
    kind: String,
    generated: bool,
    /// `generated always as identity`: an update can't set it.
    fixed: bool,
    key: bool,
}

/// Where the rows of a relation go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Table {
    /// Its plain name.
    pub(super) name: String,
    pub(super) quoted: Qualified,
    /// In the order of the relation's values.
    pub(super) columns: Vec<Column>,
    /// Which of them is the tenant.
    pub(super) tenant: usize,
    /// Up to which row the target has it, where its copy was begun and is not whole.
    pub(super) bound: Option<Bound>,
}

/// The last key of a table that is there in part. Whether a row is beyond it the target has to say, whose comparison it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bound {
    /// Which of the table's columns are compared, in the order of the key's index.
    pub(super) key: Vec<usize>,
    /// Which of those are text.
    pub(super) are_text: Vec<bool>,
    /// The last key as a row of SQL.
    pub(super) last: String,
    /// The types of all of the table's columns, as SQL.
    pub(super) kinds: Vec<String>,
}

impl Bound {
    /// Whether a row is there, as SQL; `value` says where a column's value stands.
    pub(super) fn holds(&self, value: impl Fn(usize) -> String) -> String {
        let columns = self.key.iter().zip(&self.are_text);
        let values = columns.map(|(&column, &is_text)| compared(&value(column), is_text));
        format!("{} <= {}", row(&values.collect::<Vec<_>>()), self.last)
    }

    /// What makes a parameter one of a column's type.
    pub(super) fn cast(&self, column: usize) -> String {
        format!("::{}", self.kinds[column])
    }
}

/// Where a value goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Column {
    pub(super) quoted: Identifier,
    /// It says, with the others of the kind, which row is meant.
    pub(super) key: bool,
    /// An update can't set it, here or at the source.
    pub(super) fixed: bool,
}

impl Targets {
    pub(super) async fn read(client: &Client, schema: &str) -> Result<Self, SqlError> {
        let rows = client
            .query(
                "select c.relname::text, a.attname::text, a.atttypid,
                        (with recursive base as (
                           select t.typname, t.typtype, t.typbasetype from pg_catalog.pg_type t where t.oid = a.atttypid
                           union all
                           select t.typname, t.typtype, t.typbasetype from base b join pg_catalog.pg_type t on t.oid = b.typbasetype
                            where b.typtype = 'd')
                         select typname::text from base where typtype <> 'd'),
                        a.atttypmod, a.attgenerated <> '', a.attidentity = 'a',
                        exists (select from pg_catalog.pg_index i
                                 where i.indrelid = c.oid and i.indisprimary and a.attnum = any (i.indkey)),
                        pg_catalog.format_type(a.atttypid, a.atttypmod)
                   from pg_catalog.pg_class c
                   join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                   join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                  where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition
                  order by c.oid, a.attnum",
                &[&schema],
            )
            .await
            .doing("read the target's tables")?;
        let mut tables: HashMap<String, Vec<TargetColumn>> = HashMap::new();
        for row in rows {
            tables.entry(row.get(0)).or_default().push(TargetColumn {
                name: row.get(1),
                type_oid: row.get(2),
                type_name: row.get(3),
                modifier: row.get(4),
                generated: row.get(5),
                fixed: row.get(6),
                key: row.get(7),
                kind: row.get(8),
            });
        }
        Ok(Self {
            schema: schema.to_owned(),
            tables,
        })
    }

    /// Where a relation's rows go. `types` are the names of the source's types that are not built in.
    pub(super) fn table(&self, relation: &Relation, types: &HashMap<u32, String>) -> Result<Table, StreamError> {
        let differs = |what: String| StreamError::Structure {
            table: relation.name.clone(),
            what,
        };
        let Some(targets) = self.tables.get(&relation.name) else {
            return Err(differs("is not at the target".to_owned()));
        };
        let mut columns = Vec::with_capacity(relation.columns.len());
        for column in &relation.columns {
            let target = targets.iter().find(|target| target.name == column.name);
            let Some(target) = target.filter(|target| !target.generated) else {
                return Err(differs(format!(
                    "has a column `{}` that the target has not",
                    column.name
                )));
            };
            let same_type = match column.type_oid < FIXED_OIDS_END {
                true => column.type_oid == target.type_oid,
                false => types.get(&column.type_oid) == Some(&target.type_name),
            };
            if !same_type || column.modifier != target.modifier {
                return Err(differs(format!("has another type for its column `{}`", column.name)));
            }
            let key = match relation.identity {
                Identity::Full => target.key,
                Identity::Default | Identity::Index | Identity::Nothing => column.key,
            };
            if relation.identity == Identity::Default && column.key != target.key {
                return Err(differs("has another primary key".to_owned()));
            }
            columns.push(Column {
                quoted: Identifier::new(column.name.as_str())?,
                key,
                fixed: target.fixed,
            });
        }
        let missing = targets
            .iter()
            .find(|target| !target.generated && !relation.columns.iter().any(|column| column.name == target.name));
        if let Some(missing) = missing {
            return Err(differs(format!(
                "has no column `{}`, which the target has",
                missing.name
            )));
        }
        let tenant = relation.columns.iter().position(|column| column.name == TENANT_COLUMN);
        match tenant {
            Some(tenant) if columns[tenant].key => Ok(Table {
                name: relation.name.clone(),
                quoted: Qualified::new(self.schema.as_str(), relation.name.as_str())?,
                columns,
                tenant,
                bound: None,
            }),
            _ => Err(StreamError::NoKey {
                table: relation.name.clone(),
            }),
        }
    }

    /// The bound of a table whose copy was begun. Its rows have to be told by the key that the copy went along.
    pub(super) fn bound(&self, table: &Table, identity: Identity, last: &LastKey) -> Result<Bound, StreamError> {
        let differs = || StreamError::Structure {
            table: table.name.clone(),
            what: "has another primary key than its copy was begun with".to_owned(),
        };
        let targets: Option<Vec<_>> = table
            .columns
            .iter()
            .map(|column| self.target(&table.name, column.quoted.as_str()))
            .collect();
        let targets = targets.ok_or_else(differs)?;
        let place = |name: &String| {
            table
                .columns
                .iter()
                .position(|column| column.key && column.quoted.as_str() == name)
        };
        let key: Option<Vec<_>> = last.columns.iter().map(place).collect();
        let key = key.ok_or_else(differs)?;
        let keys = table.columns.iter().filter(|column| column.key).count();
        if identity != Identity::Default || key.len() + 1 != keys || key.len() != last.values.len() {
            return Err(differs());
        }
        let are_text: Vec<_> = key
            .iter()
            .map(|&place| TEXTS.contains(&targets[place].type_oid))
            .collect();
        let constants = key.iter().zip(&last.values).zip(&are_text);
        let constants = constants.map(|((&place, value), &is_text)| constant(value, &targets[place].kind, is_text));
        Ok(Bound {
            last: row(&constants.collect::<Vec<_>>()),
            kinds: targets.iter().map(|target| target.kind.clone()).collect(),
            key,
            are_text,
        })
    }

    fn target(&self, table: &str, column: &str) -> Option<&TargetColumn> {
        self.tables.get(table)?.iter().find(|target| target.name == column)
    }
}

#[cfg(test)]
mod tests {
    use tenantry_wire::replication::RelationColumn;

    use super::*;

    fn target(name: &str, type_oid: u32, key: bool) -> TargetColumn {
        TargetColumn {
            name: name.to_owned(),
            type_oid,
            type_name: "mood".to_owned(),
            modifier: -1,
            kind: if type_oid == 25 { "text" } else { "integer" }.to_owned(),
            generated: false,
            fixed: false,
            key,
        }
    }

    fn targets() -> Targets {
        let mut generated = target("twice", 23, false);
        generated.generated = true;
        let columns = vec![
            target("tenant_id", 2950, true),
            target("id", 23, true),
            target("mood", 70_001, false),
            generated,
        ];
        Targets {
            schema: "t_1".to_owned(),
            tables: HashMap::from([("note".to_owned(), columns)]),
        }
    }

    fn column(name: &str, type_oid: u32, key: bool) -> RelationColumn {
        RelationColumn {
            key,
            name: name.to_owned(),
            type_oid,
            modifier: -1,
        }
    }

    fn relation() -> Relation {
        Relation {
            id: 1,
            schema: "app".to_owned(),
            name: "note".to_owned(),
            identity: Identity::Default,
            columns: vec![
                column("mood", 16_500, false),
                column("tenant_id", 2950, true),
                column("id", 23, true),
            ],
        }
    }

    fn refusal(change: impl FnOnce(&mut Relation)) -> String {
        let mut relation = relation();
        change(&mut relation);
        let types = HashMap::from([(16_500, "mood".to_owned()), (16_600, "colour".to_owned())]);
        targets().table(&relation, &types).unwrap_err().to_string()
    }

    #[test]
    fn columns_find_each_other_by_name() {
        let types = HashMap::from([(16_500, "mood".to_owned())]);
        let table = targets().table(&relation(), &types).unwrap();
        assert_eq!(table.quoted.to_string(), "\"t_1\".\"note\"");
        assert_eq!(table.tenant, 1);
        let keys: Vec<_> = table
            .columns
            .iter()
            .map(|column| (column.quoted.as_str(), column.key))
            .collect();
        assert_eq!(keys, [("mood", false), ("tenant_id", true), ("id", true)]);
    }

    #[test]
    fn a_table_is_bounded_by_the_key_that_its_copy_went_along() {
        let types = HashMap::from([(16_500, "mood".to_owned())]);
        let targets = targets();
        let table = targets.table(&relation(), &types).unwrap();
        let last = |name: &str| LastKey {
            columns: vec![name.to_owned()],
            values: vec!["7".to_owned()],
        };
        let bound = targets.bound(&table, Identity::Default, &last("id")).unwrap();
        assert_eq!(bound.key, [2]);
        assert_eq!(bound.holds(|column| format!("${column}")), "($2) <= ('7'::integer)");
        let other = targets.bound(&table, Identity::Default, &last("mood"));
        assert!(other.unwrap_err().to_string().contains("another primary key"));
        let full = targets.bound(&table, Identity::Full, &last("id"));
        assert!(full.unwrap_err().to_string().contains("another primary key"));
    }

    #[test]
    fn each_difference_is_named() {
        let said = refusal(|relation| relation.name = "nota".to_owned());
        assert!(said.starts_with("the table `nota` is not at the target: "), "{said}");
        let said = refusal(|relation| relation.columns[0].name = "humour".to_owned());
        assert!(said.contains("a column `humour` that the target has not"), "{said}");
        let said = refusal(|relation| relation.columns.push(column("twice", 23, false)));
        assert!(said.contains("a column `twice` that the target has not"), "{said}");
        let said = refusal(|relation| drop(relation.columns.remove(0)));
        assert!(said.contains("has no column `mood`"), "{said}");
        for wrong in [20, 16_600, 16_700] {
            let said = refusal(|relation| relation.columns[0].type_oid = wrong);
            assert!(said.contains("another type for its column `mood`"), "{said}");
        }
        let said = refusal(|relation| relation.columns[2].modifier = 8);
        assert!(said.contains("another type for its column `id`"), "{said}");
        let said = refusal(|relation| relation.columns[0].key = true);
        assert!(said.contains("another primary key"), "{said}");
        let said = refusal(|relation| {
            relation.identity = Identity::Nothing;
            relation.columns[1].key = false;
        });
        assert!(said.contains("no primary key with `tenant_id`"), "{said}");
    }
}
