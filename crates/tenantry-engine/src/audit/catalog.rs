//! What the system catalogs say, read by a constant number of set-based queries, whatever the number of tables.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, de::DeserializeOwned};
use tokio_postgres::{GenericClient, types::ToSql};

use super::{AuditError, Subject};
use crate::sql_error::Doing;

const REACH: &str = include_str!("catalog/reach.sql");

/// A table, view, materialized view, foreign table or sequence.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Relation {
    pub(super) oid: i64,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) kind: char,
    pub(super) row_security: bool,
    pub(super) forced: bool,
    pub(super) owner: i64,
    pub(super) owner_name: String,
    pub(super) is_partition: bool,
    pub(super) security_invoker: bool,
    pub(super) parents: Vec<i64>,
    pub(super) of_extension: bool,
    pub(super) tenant_number: Option<i32>,
    pub(super) tenant_column: Option<String>,
    pub(super) tenant_not_null: Option<bool>,
    pub(super) tenant_has_default: Option<bool>,
    pub(super) tenant_type: Option<String>,
    pub(super) tenant_updatable: bool,
    pub(super) may_select: bool,
    pub(super) may_insert: bool,
    pub(super) may_update: bool,
    pub(super) may_delete: bool,
    pub(super) may_truncate: bool,
    pub(super) may_reference: bool,
    pub(super) may_trigger: bool,
    pub(super) of_public: Vec<String>,
    pub(super) counted: Vec<String>,
}

impl Relation {
    pub(super) fn is_table(&self) -> bool {
        matches!(self.kind, 'r' | 'p')
    }

    /// Reached through a parent too.
    pub(super) fn is_child(&self) -> bool {
        self.is_partition || !self.parents.is_empty()
    }

    pub(super) fn is_writable(&self) -> bool {
        self.may_insert || self.may_update || self.may_delete
    }

    /// Whether an application role may do anything with it.
    pub(super) fn is_reached(&self) -> bool {
        self.may_select || self.is_writable()
    }

    /// The name as findings say it.
    pub(super) fn object(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Policy {
    pub(super) relation: i64,
    pub(super) name: String,
    pub(super) command: char,
    pub(super) permissive: bool,
    pub(super) roles: Vec<i64>,
    pub(super) applies: bool,
    pub(super) using_text: Option<String>,
    pub(super) check_text: Option<String>,
    pub(super) columns: Vec<String>,
    pub(super) functions: Vec<i64>,
    pub(super) relations: Vec<i64>,
    pub(super) bypassing_roles: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Function {
    pub(super) oid: i64,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) signature: String,
    pub(super) owner: i64,
    pub(super) owner_name: String,
    pub(super) definer: bool,
    pub(super) language: String,
    pub(super) atomic: bool,
    pub(super) config: Vec<String>,
    pub(super) volatility: char,
    pub(super) leakproof: bool,
    pub(super) source: String,
    pub(super) arguments: i32,
    pub(super) defaults: i32,
    pub(super) returns: String,
    pub(super) of_extension: bool,
    pub(super) callable: bool,
}

impl Function {
    pub(super) fn is_trigger(&self) -> bool {
        matches!(self.returns.as_str(), "trigger" | "event_trigger")
    }

    /// The search path that it sets for itself.
    pub(super) fn search_path(&self) -> Option<&str> {
        self.config
            .iter()
            .find_map(|setting| setting.strip_prefix("search_path="))
    }

    /// Whether its names mean the same for every caller.
    pub(super) fn is_bound(&self) -> bool {
        self.atomic || self.search_path().is_some() || !matches!(self.language.as_str(), "sql" | "plpgsql")
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Dependency {
    pub(super) view: i64,
    pub(super) relation: i64,
}

/// A trigger or a rule.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Trigger {
    pub(super) relation: i64,
    pub(super) name: String,
    pub(super) function: i64,
    pub(super) rule: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Constraint {
    pub(super) name: String,
    pub(super) kind: char,
    pub(super) relation: i64,
    pub(super) referenced: i64,
    pub(super) key: Vec<i32>,
    pub(super) referenced_key: Vec<i32>,
    pub(super) on_delete: char,
    pub(super) on_update: char,
    pub(super) validated: bool,
    pub(super) definition: String,
    pub(super) inherited: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Index {
    pub(super) name: String,
    pub(super) relation: i64,
    pub(super) is_unique: bool,
    pub(super) is_primary: bool,
    pub(super) is_exclusion: bool,
    pub(super) key: Vec<i32>,
    pub(super) method: String,
    pub(super) expressions: Option<String>,
    pub(super) all_uuid: bool,
    pub(super) constraint_name: Option<String>,
    pub(super) leakproof: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Facts {
    pub(super) version: i32,
    pub(super) database: String,
    pub(super) superuser: bool,
    pub(super) missing_roles: Vec<String>,
    pub(super) creatable_schemas: Vec<String>,
    pub(super) creates_schemas: bool,
    pub(super) creates_temporary: bool,
    pub(super) acts: Vec<i64>,
    pub(super) act_names: Vec<String>,
    pub(super) bypassing: BTreeSet<i64>,
    pub(super) rights: BTreeSet<(i64, i64)>,
    pub(super) reads_hba: bool,
}

impl Facts {
    /// Whether an application role can make a function that is found before the real one.
    pub(super) fn creates_functions(&self) -> bool {
        self.creates_schemas || !self.creatable_schemas.is_empty()
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Columns {
    relation: i64,
    columns: Vec<String>,
}

/// A finding that a query makes by itself.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) severity: Option<super::Severity>,
    pub(super) object: String,
    pub(super) message: String,
    pub(super) mend: String,
    pub(super) target: Option<String>,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Catalog {
    pub(super) facts: Facts,
    pub(super) relations: BTreeMap<i64, Relation>,
    pub(super) policies: BTreeMap<i64, Vec<Policy>>,
    pub(super) functions: BTreeMap<i64, Function>,
    pub(super) dependencies: Vec<Dependency>,
    pub(super) triggers: Vec<Trigger>,
    pub(super) constraints: Vec<Constraint>,
    pub(super) indexes: Vec<Index>,
    /// Of tables in schemas of one tenant each.
    pub(super) columns: BTreeMap<i64, Vec<String>>,
    /// Parameters that policies and their functions take the context from.
    pub(super) carriers: BTreeSet<String>,
    pub(super) rows: Vec<Row>,
}

/// Reads rows as JSON: one shape for every family, and one value to send.
struct Reader<'a, C> {
    client: &'a C,
    settable: &'static str,
    subject: &'a Subject,
}

impl<C: GenericClient> Reader<'_, C> {
    async fn read<T: DeserializeOwned>(&self, body: &str) -> Result<Vec<T>, AuditError> {
        self.read_with(body, &[]).await
    }

    async fn read_with<T: DeserializeOwned>(
        &self,
        body: &str,
        more: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<T>, AuditError> {
        let sql = format!(
            "{}, result as (\n{body}\n) select coalesce(json_agg(result), '[]')::text from result",
            REACH.trim_end()
        )
        .replace("{settable}", self.settable);
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&self.subject.app_roles, &self.subject.tenant_columns];
        parameters.extend(more);
        let row = self
            .client
            .query_one(&sql, &parameters)
            .await
            .doing("read the system catalogs")?;
        Ok(serde_json::from_str(row.get(0))?)
    }
}

impl Catalog {
    pub(super) async fn read(client: &impl GenericClient, subject: &Subject) -> Result<Self, AuditError> {
        client
            // Compiling a query takes longer than any of these runs.
            .batch_execute("set local search_path = pg_catalog, pg_temp; set local jit = off")
            .await
            .doing("set the search path")?;
        let row = client
            .query_one("select current_setting('server_version_num')::int4", &[])
            .await
            .doing("read the server's version")?;
        let version: i32 = row.get(0);
        if version < crate::bootstrap::OLDEST_SERVER_VERSION {
            return Err(AuditError::TooOld(version / 10_000));
        }
        let reader = Reader {
            client,
            // From 16 on a membership may be without the right to become the role.
            settable: if version >= 160_000 { "set" } else { "member" },
            subject,
        };
        let facts = reader.read::<Facts>(include_str!("catalog/facts.sql")).await?;
        let facts = facts.into_iter().next().ok_or(AuditError::Empty)?;
        let relations = reader.read::<Relation>(include_str!("catalog/relations.sql")).await?;
        let relations: BTreeMap<i64, Relation> =
            relations.into_iter().map(|relation| (relation.oid, relation)).collect();
        let mut policies: BTreeMap<i64, Vec<Policy>> = BTreeMap::new();
        for policy in reader.read::<Policy>(include_str!("catalog/policies.sql")).await? {
            policies.entry(policy.relation).or_default().push(policy);
        }
        let functions = reader.read::<Function>(include_str!("catalog/functions.sql")).await?;
        let functions: BTreeMap<i64, Function> =
            functions.into_iter().map(|function| (function.oid, function)).collect();
        let carriers = carriers(&policies, &functions);
        let named: Vec<String> = carriers.iter().cloned().collect();
        let mut rows: Vec<Row> = reader.read_with(include_str!("family/role.sql"), &[&named]).await?;
        rows.extend(
            reader
                .read_with::<Row>(include_str!("family/grant.sql"), &[&subject.raw_sql])
                .await?,
        );
        rows.extend(reader.read::<Row>(include_str!("family/server.sql")).await?);
        if facts.reads_hba {
            rows.extend(reader.read::<Row>(include_str!("family/hba.sql")).await?);
        }
        let pattern = subject.tenant_schemas.clone().unwrap_or_default();
        rows.extend(
            reader
                .read_with::<Row>(include_str!("family/tenant_role.sql"), &[&pattern])
                .await?,
        );
        let columns = reader
            .read_with::<Columns>(include_str!("catalog/columns.sql"), &[&pattern])
            .await?;
        Ok(Self {
            columns: columns.into_iter().map(|of| (of.relation, of.columns)).collect(),
            dependencies: reader.read(include_str!("catalog/dependencies.sql")).await?,
            triggers: reader.read(include_str!("catalog/triggers.sql")).await?,
            constraints: reader.read(include_str!("catalog/constraints.sql")).await?,
            indexes: reader.read(include_str!("catalog/indexes.sql")).await?,
            facts,
            relations,
            policies,
            functions,
            carriers,
            rows,
        })
    }

    pub(super) fn policies_of(&self, relation: i64) -> &[Policy] {
        self.policies.get(&relation).map_or(&[], Vec::as_slice)
    }

    /// Tables with the tenant column.
    pub(super) fn tenant_tables(&self) -> impl Iterator<Item = &Relation> {
        self.relations
            .values()
            .filter(|relation| relation.is_table() && relation.tenant_column.is_some() && !relation.of_extension)
    }

    /// Whether a role has the rights of another.
    pub(super) fn has_rights_of(&self, role: i64, owner: i64) -> bool {
        role == owner || self.facts.rights.contains(&(role, owner))
    }

    /// Whether the policies of a table bind a role that reads it.
    pub(super) fn binds(&self, relation: &Relation, role: i64) -> bool {
        relation.row_security
            && !self.facts.bypassing.contains(&role)
            && (relation.forced || !self.has_rights_of(role, relation.owner))
    }

    /// Whether what a role reads is held to the tenant in every tenant table: no superuser, no BYPASSRLS, and no table of
    /// its own that does not bind it.
    pub(super) fn is_bound_everywhere(&self, role: i64) -> bool {
        !self.facts.bypassing.contains(&role)
            && self
                .tenant_tables()
                .filter(|table| self.has_rights_of(role, table.owner))
                .all(|table| table.forced && table.row_security)
    }
}

/// The parameters that policies and the functions they call read.
fn carriers(policies: &BTreeMap<i64, Vec<Policy>>, functions: &BTreeMap<i64, Function>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for policy in policies.values().flatten() {
        for text in [&policy.using_text, &policy.check_text].into_iter().flatten() {
            found.extend(settings_read(text));
        }
        for function in policy.functions.iter().filter_map(|oid| functions.get(oid)) {
            found.extend(settings_read(&function.source));
        }
    }
    found
}

/// The names in `current_setting('…')`.
pub(super) fn settings_read(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.to_ascii_lowercase().find("current_setting(") {
        rest = &rest[at + "current_setting(".len()..];
        let argument = rest.trim_start();
        if let Some(name) = argument.strip_prefix('\'').and_then(|text| text.split('\'').next()) {
            found.push(name.to_ascii_lowercase());
        }
    }
    found
}
