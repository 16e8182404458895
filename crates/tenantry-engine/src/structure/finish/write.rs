//! The script: every fact of a structure as a statement, in an order in which each finds what it needs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokio_postgres::{Client, types::Type};

use super::{
    SCHEMA,
    census::Census,
    order::{Needs, Object},
};
use crate::{
    isolate::{Act, Grantee, ident, idents},
    migrate::{self, ApplyError, Patience, Target},
    structure::{
        difference::Remedy,
        fact::{Class, Fact, Key, Structure},
        statement::{self, Names, column, def, is, text, texts},
    },
};

/// A column as the facts do not tell it.
struct Placed {
    name: String,
    /// The name of the constraint that forbids nulls, from PostgreSQL 18 on.
    not_null: Option<String>,
    /// What fills an identity column.
    sequence: Option<String>,
    is_generated: bool,
}

/// Why there is no script, in words.
type Refused = String;

struct Writer<'a> {
    structure: &'a Structure,
    needs: &'a Needs,
    columns: BTreeMap<String, Vec<Placed>>,
    keys: Keys,
    names: Names<'a>,
    made: BTreeSet<Object>,
    acts: Vec<Act>,
    /// What follows when all objects are there.
    later: Vec<(Phase, Act)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Owned,
    Constraint,
    Index,
    Attached,
    ForeignKey,
    Beside,
    Trigger,
    RowSecurity,
    Policy,
    Grant,
    Comment,
}

/// Where foreign keys stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// In the table that they belong to, where the other one is there already.
    Inline,
    /// Behind all indexes: one may point to what an index alone keeps unique.
    Last,
}

/// What makes everything in the structure. `home` is the schema that it was read from.
pub(super) async fn write(
    client: &Client,
    home: &Target,
    structure: &Structure,
    census: &Census,
    keys: Keys,
) -> Result<Result<Vec<Act>, Refused>, ApplyError> {
    if !census.is_small() {
        return Ok(Err("its tables hold many rows".to_owned()));
    }
    let needs = Needs::read(client, home).await?;
    let mut writer = Writer {
        structure,
        needs: &needs,
        columns: columns(client, home).await?,
        keys,
        names: Names {
            target: home,
            tenant: None,
        },
        made: BTreeSet::new(),
        acts: Vec::new(),
        later: Vec::new(),
    };
    let tables = match writer.objects() {
        Ok(tables) => tables,
        Err(reason) => return Ok(Err(reason)),
    };
    for table in tables.iter().filter(|table| census.has_rows_in(table)) {
        let rows = rows(client, home, table, &writer.columns).await?;
        writer.acts.extend(rows.map(Act::Sql));
    }
    let beside = [
        (Phase::Attached, include_str!("attached.sql")),
        (Phase::Beside, include_str!("beside.sql")),
    ];
    for (phase, query) in beside {
        for statement in statements(client, home, query).await? {
            writer.later.push((phase, Act::Sql(statement)));
        }
    }
    writer.later.sort_by_key(|(phase, _)| *phase);
    writer.acts.extend(writer.later.into_iter().map(|(_, act)| act));
    writer.acts.extend(census.set_sequences().into_iter().map(Act::Sql));
    // A text that keeps where it was read from means another place in each home.
    let names_the_schema = writer
        .acts
        .iter()
        .any(|act| matches!(act, Act::Sql(text) if text.contains(SCHEMA)));
    Ok(if names_the_schema {
        Err("a definition holds the name of its schema".to_owned())
    } else {
        Ok(writer.acts)
    })
}

impl Writer<'_> {
    /// Everything but rows; the tables in the order in which they are made.
    fn objects(&mut self) -> Result<Vec<String>, Refused> {
        let structure = self.structure;
        let all = structure
            .facts
            .keys()
            .filter(|key| key.fact == Fact::Itself && key.class != Class::Schema)
            .map(|key| (key.class, key.object.clone()));
        let sorted = self.needs.sorted(all).ok_or("its objects need each other")?;
        for object in &sorted {
            let key = itself(object);
            let Some(value) = structure.facts.get(&key) else {
                continue;
            };
            self.object(&key, value)?;
            self.made.insert(object.clone());
            for (detail, value) in structure.details(&key) {
                self.detail(detail, value)?;
            }
            self.grants(&key)?;
        }
        let tables = sorted.into_iter().filter(|(class, _)| *class == Class::Table);
        Ok(tables.map(|(_, name)| name).collect())
    }

    fn object(&mut self, key: &Key, value: &Value) -> Result<(), Refused> {
        let sql = match key.class {
            Class::Table => self.table(key, value)?,
            // Comes with its column.
            Class::Sequence if is(value, "identity") => return Ok(()),
            Class::Sequence => {
                if let Some(column) = text(value, "owned_by") {
                    let owned = format!("alter sequence {} owned by {column}", ident(&key.object));
                    self.follow(Phase::Owned, owned);
                }
                statement::sequence("create", key, value, false)
            }
            _ => match statement::make(key, value, self.structure, &self.names) {
                (sql, Remedy::Safe) => sql.join(";\n"),
                (_, _) => return Err(format!("{} can't be written", statement::describe(key))),
            },
        };
        self.acts.push(Act::Sql(sql));
        Ok(())
    }

    fn table(&mut self, key: &Key, value: &Value) -> Result<String, Refused> {
        let name = ident(&key.object);
        let unlogged = if is(value, "unlogged") { "unlogged " } else { "" };
        let parents = value.get("parents").map(texts).unwrap_or_default();
        let partition_by = text(value, "partition_key").map_or(String::new(), |by| format!(" partition by {by}"));
        if let (Some(bound), [parent, ..]) = (text(value, "bound"), parents.as_slice()) {
            return Ok(format!(
                "create {unlogged}table {name} partition of {parent} {bound}{partition_by}"
            ));
        }
        if text(value, "kind") != Some("r") && text(value, "kind") != Some("p") {
            return Err(format!("{} can't be written", statement::describe(key)));
        }
        let mut parts = Vec::new();
        for placed in self.columns.get(&key.object).into_iter().flatten() {
            let detail = Key {
                fact: Fact::Column,
                name: placed.name.clone(),
                ..key.clone()
            };
            let Some(column) = self.structure.facts.get(&detail) else {
                continue;
            };
            if parents.is_empty() || is(column, "local") {
                parts.push(self.column(placed, column));
            }
        }
        for (detail, constraint) in self.structure.details(key) {
            if detail.fact == Fact::Constraint && self.stands_inline(detail, constraint) {
                parts.push(format!("constraint {} {}", ident(&detail.name), def(constraint)));
            }
        }
        let inherits = if parents.is_empty() {
            String::new()
        } else {
            format!(" inherits ({})", parents.join(", "))
        };
        Ok(format!(
            "create {unlogged}table {name} (\n  {}\n){inherits}{partition_by}",
            parts.join(",\n  ")
        ))
    }

    fn column(&self, placed: &Placed, column: &Value) -> String {
        let mut sql = column::definition(&placed.name, column, &self.names);
        if let Some(sequence) = &placed.sequence {
            let key = itself(&(Class::Sequence, sequence.clone()));
            if let Some(value) = self.structure.facts.get(&key) {
                let options = statement::sequence("create", &key, value, false);
                // `create sequence "x" as int increment …`: the type is that of the column.
                let options = options.split_once(" increment ").map_or("", |(_, options)| options);
                sql = sql.replacen(
                    " as identity",
                    &format!(" as identity (sequence name {} increment {options})", ident(sequence)),
                    1,
                );
            }
        }
        match &placed.not_null {
            Some(name) if sql.ends_with(" not null") => {
                let plain = sql.trim_end_matches(" not null").to_owned();
                format!("{plain} constraint {} not null", ident(name))
            }
            _ => sql,
        }
    }

    /// A key to a table that is not there yet, and what is not valid, are added later.
    fn stands_inline(&self, key: &Key, constraint: &Value) -> bool {
        let is_partition = self
            .structure
            .facts
            .get(&key.of_object())
            .is_some_and(|table| text(table, "bound").is_some());
        let target = self.needs.target(&key.object, &key.name);
        let is_there = target.is_none_or(|target| {
            let is_made = target == key.object || self.made.contains(&(Class::Table, target.to_owned()));
            is_made && self.keys == Keys::Inline
        });
        !is_partition && is_there && !def(constraint).contains(" NOT VALID")
    }

    fn detail(&mut self, key: &Key, value: &Value) -> Result<(), Refused> {
        match key.fact {
            // Came with the object. All that is there belongs to the owner, or the comparison says so.
            Fact::Itself | Fact::Column | Fact::Owner => {}
            Fact::Constraint if self.stands_inline(key, value) => {}
            Fact::Constraint => {
                let table = ident(&key.object);
                let sql = format!("alter table {table} add constraint {} {}", ident(&key.name), def(value));
                let phase = match self.needs.target(&key.object, &key.name) {
                    Some(_) => Phase::ForeignKey,
                    None => Phase::Constraint,
                };
                self.follow(phase, sql);
            }
            // Of the parent only: those of the partitions have names of their own.
            Fact::Index => self.follow(Phase::Index, def(value)),
            Fact::Statistics => self.follow(Phase::Index, def(value)),
            Fact::Trigger => {
                self.follow(Phase::Trigger, def(value));
                if text(value, "enabled") != Some("O") {
                    let (sql, _) = statement::make(key, value, self.structure, &self.names);
                    for state in sql.into_iter().skip(1) {
                        self.follow(Phase::RowSecurity, state);
                    }
                }
            }
            Fact::RowSecurity if is(value, "enabled") || is(value, "forced") => {
                let actions: Vec<_> = [("enabled", "enable"), ("forced", "force")]
                    .into_iter()
                    .filter(|(field, _)| is(value, field))
                    .map(|(_, word)| format!("{word} row level security"))
                    .collect();
                let sql = format!("alter table {} {}", ident(&key.object), actions.join(", "));
                self.follow(Phase::RowSecurity, sql);
            }
            Fact::RowSecurity => {}
            // That of the view came with it.
            Fact::Options if texts(value) == ["security_invoker=true"] => {}
            Fact::Options => {
                let sql = statement::options(key, &Value::Null, value);
                self.follow(Phase::Owned, sql);
            }
            Fact::Policy => {
                let roles = value.get("roles").map(texts).unwrap_or_default();
                if roles != ["public"] {
                    return Err(format!("{} is for single roles", statement::describe(key)));
                }
                let (sql, _) = statement::make(key, value, self.structure, &self.names);
                for sql in sql {
                    self.follow(Phase::Policy, sql);
                }
            }
            Fact::Default | Fact::Comment => {
                let (sql, _) = statement::make(key, value, self.structure, &self.names);
                for sql in sql {
                    self.follow(Phase::Comment, sql);
                }
            }
            // Those of functions and types are the usual ones of the schema, or the comparison says so.
            Fact::Grant | Fact::ColumnGrant => {}
            Fact::Rule => return Err(format!("{} can't be written", statement::describe(key))),
        }
        Ok(())
    }

    /// One statement for each role: what it may do with the table, and with which columns.
    fn grants(&mut self, key: &Key) -> Result<(), Refused> {
        if !matches!(key.class, Class::Table | Class::View | Class::Sequence) {
            return Ok(());
        }
        let mut of_roles: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (detail, value) in self.structure.details(key) {
            match detail.fact {
                Fact::Grant => {
                    let privileges = texts(value).into_iter().map(str::to_lowercase);
                    of_roles.entry(&detail.name).or_default().extend(privileges);
                }
                Fact::ColumnGrant => {
                    let Some((role, privilege)) = detail.name.rsplit_once(' ') else {
                        continue;
                    };
                    let columns = idents(texts(value));
                    let privilege = format!("{} ({columns})", privilege.to_lowercase());
                    of_roles.entry(role).or_default().push(privilege);
                }
                _ => {}
            }
        }
        for (role, privileges) in of_roles {
            let privileges = privileges.join(", ");
            let to = match role {
                "@application" => Grantee::Application,
                "@mover" => Grantee::Mover,
                other => return Err(format!("{other} has rights to {}", statement::describe(key))),
            };
            if privileges.contains("with grant option") {
                return Err(format!("rights to {} can be passed on", statement::describe(key)));
            }
            let on = match key.class {
                Class::Sequence => format!("sequence {}", ident(&key.object)),
                _ => ident(&key.object),
            };
            self.later.push((Phase::Grant, Act::Grant { privileges, on, to }));
        }
        Ok(())
    }

    fn follow(&mut self, phase: Phase, sql: impl Into<String>) {
        self.later.push((phase, Act::Sql(sql.into())));
    }
}

fn itself((class, name): &Object) -> Key {
    Key {
        class: *class,
        object: name.clone(),
        fact: Fact::Itself,
        name: String::new(),
    }
}

/// Statements that a query writes, as the owner, for whom no name needs its schema.
async fn statements(client: &Client, home: &Target, query: &str) -> Result<Vec<String>, ApplyError> {
    let head = migrate::begin(home, &Patience::default()) + &migrate::act_as(&home.owner);
    client.batch_execute(&head).await?;
    let rows = client
        .query_typed(query, &[(&home.schema.to_string(), Type::TEXT)])
        .await?;
    client.batch_execute("commit").await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn columns(client: &Client, home: &Target) -> Result<BTreeMap<String, Vec<Placed>>, ApplyError> {
    let rows = client
        .query_typed(include_str!("columns.sql"), &[(&home.schema.to_string(), Type::TEXT)])
        .await?;
    let mut columns: BTreeMap<String, Vec<Placed>> = BTreeMap::new();
    for row in rows {
        let placed = Placed {
            name: row.get(1),
            not_null: row.get(2),
            sequence: row.get(3),
            is_generated: !row.get::<_, String>(4).is_empty(),
        };
        columns.entry(row.get(0)).or_default().push(placed);
    }
    Ok(columns)
}

/// The rows of a table as one insert, in the order in which they were written.
async fn rows(
    client: &Client,
    home: &Target,
    table: &str,
    columns: &BTreeMap<String, Vec<Placed>>,
) -> Result<Option<String>, ApplyError> {
    let names: Vec<&str> = columns
        .get(table)
        .into_iter()
        .flatten()
        .filter(|column| !column.is_generated)
        .map(|column| column.name.as_str())
        .collect();
    let values: Vec<String> = names
        .iter()
        .map(|name| format!("quote_nullable(t.{}::text)", ident(name)))
        .collect();
    let row = client
        .query_one(
            &format!(
                "select string_agg('(' || concat_ws(', ', {}) || ')', e',\\n' order by t.ctid) from only {}.{} t",
                values.join(", "),
                home.schema,
                ident(table)
            ),
            &[],
        )
        .await?;
    let rows: Option<String> = row.get(0);
    Ok(rows.map(|rows| {
        format!(
            "insert into {} ({}) overriding system value values\n{rows}",
            ident(table),
            idents(names)
        )
    }))
}
