//! Rows to try things on: those that are there, or made up ones.

use serde::Deserialize;
use tokio_postgres::GenericClient;

use super::{
    super::{AuditError, catalog::Relation, family},
    Prover,
};
use crate::sql_error::Doing;

/// A column as far as a made up row needs it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Column {
    number: i32,
    name: String,
    data_type: String,
    category: char,
    kind: char,
    /// Not null, without a default, and not generated.
    required: bool,
    generated: bool,
    updatable: bool,
    /// Part of a key.
    keyed: bool,
}

impl Column {
    /// A value of its type.
    fn value(&self) -> String {
        let of = &self.data_type;
        match (self.kind, self.category) {
            ('e', _) => format!("(enum_range(null::{of}))[1]"),
            _ if of == "uuid" => "gen_random_uuid()".to_owned(),
            (_, 'B') => "false".to_owned(),
            (_, 'N') => format!("(random() * 30000)::{of}"),
            (_, 'D') => format!("now()::{of}"),
            (_, 'A' | 'R') if self.category == 'A' => format!("'{{}}'::{of}"),
            (_, 'R') => format!("'empty'::{of}"),
            _ if of == "json" || of == "jsonb" => format!("'{{}}'::{of}"),
            _ if of == "bytea" => "''::bytea".to_owned(),
            _ => format!("left('probe-' || md5(random()::text), 8)::{of}"),
        }
    }
}

/// What is known of a table for an attempt.
#[derive(Clone, Debug, Default)]
pub(super) struct Probe {
    table: String,
    tenant_number: Option<i32>,
    tenant_type: String,
    columns: Vec<Column>,
    /// A tenant without rows, for whom the attacker acts.
    pub(super) own: String,
    /// A tenant with a row.
    pub(super) other: String,
    /// Another tenant without rows.
    pub(super) third: String,
    /// Makes that row, where there is none.
    pub(super) setup: Vec<String>,
}

/// Tenants that nobody has.
fn made_up(data_type: &str) -> [String; 3] {
    match data_type {
        "uuid" => ["a", "b", "c"].map(|end| format!("7e4a4700-0000-4000-8000-00000000000{end}")),
        "smallint" => ["32701", "32702", "32703"].map(str::to_owned),
        "integer" | "bigint" | "numeric" => ["2000000001", "2000000002", "2000000003"].map(str::to_owned),
        _ => ["probe-a", "probe-b", "probe-c"].map(str::to_owned),
    }
}

pub(super) fn unquoted(text: &str) -> String {
    text.replace('\'', "")
}

impl Probe {
    pub(super) fn literal(&self, tenant: &str) -> String {
        let literal = tenantry_sql::Literal::new(tenant).expect("PostgreSQL's texts hold no zero byte");
        format!("{literal}::{}", self.tenant_type)
    }

    /// A row of a tenant, with these values by column number.
    pub(super) fn insert(&self, tenant: &str, values: &[(i32, String)]) -> String {
        let (mut names, mut row) = (Vec::new(), Vec::new());
        for column in self.columns.iter().filter(|column| !column.generated) {
            let value = if Some(column.number) == self.tenant_number {
                Some(self.literal(tenant))
            } else if let Some((_, value)) = values.iter().find(|(number, _)| *number == column.number) {
                Some(value.clone())
            } else {
                column.required.then(|| column.value())
            };
            if let Some(value) = value {
                names.push(family::name(&column.name));
                row.push(value);
            }
        }
        format!(
            "insert into {} ({}) values ({})",
            self.table,
            names.join(", "),
            row.join(", ")
        )
    }

    /// Values for every column, so that a policy's other conditions hold: flags are set, and what could name a tenant names
    /// this one.
    pub(super) fn filled(&self, tenant: &str) -> Vec<(i32, String)> {
        let keyed = |column: &&Column| !column.generated && Some(column.number) != self.tenant_number;
        self.columns
            .iter()
            .filter(keyed)
            .filter(|column| !column.keyed)
            .map(|column| {
                let value = if column.category == 'B' {
                    "true".to_owned()
                } else if column.data_type == self.tenant_type {
                    self.literal(tenant)
                } else {
                    column.value()
                };
                (column.number, value)
            })
            .collect()
    }

    /// Taking a row over.
    pub(super) fn stolen(&self) -> Option<(String, String)> {
        let tenant = self
            .columns
            .iter()
            .find(|column| Some(column.number) == self.tenant_number)?;
        tenant
            .updatable
            .then(|| (family::name(&tenant.name), self.literal(&self.own)))
    }

    /// A row of nobody.
    fn without_tenant(&self) -> String {
        let nobody = Self {
            tenant_number: None,
            ..self.clone()
        };
        nobody.insert("", &[])
    }

    fn columns_of<'p>(&'p self, numbers: &'p [i32]) -> impl Iterator<Item = &'p Column> {
        numbers
            .iter()
            .filter_map(|number| self.columns.iter().find(|column| column.number == *number))
    }

    /// Constants for the columns of a key.
    pub(super) fn key_values(&self, key: &[i32]) -> Vec<(i32, String)> {
        self.columns_of(key)
            .map(|column| {
                let [_, value, _] = made_up(&column.data_type);
                (column.number, format!("'{value}'::{}", column.data_type))
            })
            .collect()
    }

    /// Other values for the columns of a key.
    pub(super) fn changed(&self, key: &[i32]) -> String {
        let changes: Vec<String> = self
            .columns_of(key)
            .map(|column| {
                let [_, _, value] = made_up(&column.data_type);
                format!("{} = '{value}'::{}", family::name(&column.name), column.data_type)
            })
            .collect();
        changes.join(", ")
    }

    pub(super) fn matches(&self, values: &[(i32, String)]) -> String {
        let conditions: Vec<String> = values
            .iter()
            .filter_map(|(number, value)| {
                let column = self.columns.iter().find(|column| column.number == *number)?;
                Some(format!("{} = {value}", family::name(&column.name)))
            })
            .collect();
        conditions.join(" and ")
    }

    /// Columns that the application role may update, with a value.
    pub(super) fn updatable(&self) -> Vec<(String, String)> {
        self.columns
            .iter()
            .filter(|column| column.updatable && !column.generated && Some(column.number) != self.tenant_number)
            .map(|column| (family::name(&column.name), column.value()))
            .collect()
    }
}

impl<C: GenericClient> Prover<'_, C> {
    /// Finds a tenant with rows, or makes a row up.
    pub(super) async fn probe(&self, table: &Relation) -> Result<Probe, AuditError> {
        let columns = self.columns(table).await?;
        let tenant = columns.iter().find(|column| Some(column.number) == table.tenant_number);
        let tenant_type = tenant.map_or_else(|| "text".to_owned(), |column| column.data_type.clone());
        let base = table.tenant_type.clone().unwrap_or_else(|| tenant_type.clone());
        let [own, other, third] = made_up(&base);
        let mut probe = Probe {
            table: family::quoted(table),
            tenant_number: table.tenant_number,
            tenant_type,
            columns,
            own,
            other,
            third,
            setup: Vec::new(),
        };
        if let Some(found) = self.a_tenant(table).await? {
            probe.other = found;
        } else {
            let mut rows = vec![
                probe.insert(&probe.other, &[]),
                probe.insert(&probe.other, &probe.filled(&probe.own)),
                probe.insert(&probe.other, &probe.filled(&probe.other)),
            ];
            if table.tenant_not_null == Some(false) {
                rows.push(probe.without_tenant());
            }
            rows.extend(self.memberships(table, &probe.own).await?);
            let tolerant = rows
                .iter()
                .map(|row| format!("begin {row}; exception when others then null; end;"));
            let block = format!(
                "do $tenantry$ begin {} end $tenantry$",
                tolerant.collect::<Vec<_>>().join(" ")
            );
            probe.setup = self.without_triggers(block);
        }
        Ok(probe)
    }

    /// What the table's policies ask about says yes to the attacker's own tenant.
    async fn memberships(&self, table: &Relation, own: &str) -> Result<Vec<String>, AuditError> {
        let mut rows = Vec::new();
        let asked = self
            .catalog
            .policies_of(table.oid)
            .iter()
            .flat_map(|policy| &policy.relations);
        for asked in asked
            .filter_map(|oid| self.catalog.relations.get(oid))
            .filter(|asked| asked.is_table())
        {
            let columns = self.columns(asked).await?;
            let tenant = columns.iter().find(|column| Some(column.number) == asked.tenant_number);
            let probe = Probe {
                table: family::quoted(asked),
                tenant_number: asked.tenant_number,
                tenant_type: tenant.map_or_else(|| "text".to_owned(), |column| column.data_type.clone()),
                columns,
                ..Probe::default()
            };
            rows.push(probe.insert(own, &probe.filled(own)));
        }
        Ok(rows)
    }

    async fn columns(&self, table: &Relation) -> Result<Vec<Column>, AuditError> {
        let row = self
            .client
            .query_one(
                "select coalesce(json_agg(x), '[]')::text from (
                   select a.attnum as number, a.attname as name, format_type(a.atttypid, a.atttypmod) as data_type,
                          t.typcategory as category, coalesce(b.typtype, t.typtype) as kind,
                          (a.attnotnull or t.typnotnull) and not a.atthasdef and a.attidentity = '' as required,
                          a.attgenerated <> '' or a.attidentity = 'a' as generated,
                          exists (select from pg_index i where i.indrelid = a.attrelid and i.indisunique and a.attnum = any (i.indkey::int2[])) as keyed,
                          exists (select from unnest($2::text[]) r where has_column_privilege(r, a.attrelid, a.attnum, 'update')) as updatable
                     from pg_attribute a join pg_type t on t.oid = a.atttypid left join pg_type b on b.oid = t.typbasetype
                    where a.attrelid = $1::int8::oid and a.attnum > 0 and not a.attisdropped order by a.attnum) x",
                &[&table.oid, &self.subject.app_roles],
            )
            .await
            .doing("read a table's columns")?;
        Ok(serde_json::from_str(row.get(0))?)
    }

    /// A tenant that has a row; whoever is held by row security sees none.
    async fn a_tenant(&self, table: &Relation) -> Result<Option<String>, AuditError> {
        let what = match &table.tenant_column {
            Some(column) => format!("{}::text", family::name(column)),
            None => "''".to_owned(),
        };
        self.client
            .batch_execute("savepoint tenantry_audit")
            .await
            .doing("set a savepoint")?;
        let found = self
            .client
            .query_opt(
                &format!(
                    "select {what} from {} where {what} is not null limit 1",
                    family::quoted(table)
                ),
                &[],
            )
            .await;
        let end = match &found {
            Ok(_) => "release savepoint tenantry_audit",
            Err(_) => "rollback to savepoint tenantry_audit; release savepoint tenantry_audit",
        };
        self.client.batch_execute(end).await.doing("end a savepoint")?;
        Ok(found.ok().flatten().map(|row| row.get(0)))
    }
}
