//! Trying what a critical finding says, as the application role, in a savepoint that is rolled back.
//!
//! The attacker acts for a tenant that has no rows at all, or for none. Whatever a statement then returns or changes
//! belongs to somebody else.

mod attack;
mod probe;

use serde::Serialize;
use tokio_postgres::GenericClient;

use self::{attack::Attack, probe::Probe};
use super::{
    AuditError, Finding, Subject,
    catalog::{Catalog, Relation},
    family,
};
use crate::sql_error::Doing;

/// What an exploit showed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Proof {
    /// Whether a foreign row was returned or changed.
    pub shown: bool,
    /// What happened, in a sentence.
    pub summary: String,
    /// The exploit as SQL that a person can repeat as the administrator; it ends by `rollback`.
    pub script: String,
}

/// How a finding could be used.
#[derive(Clone, Debug)]
pub(super) enum Weakness {
    /// The role is held by no policy.
    Reads {
        role: String,
    },
    /// The role can become another one, perhaps after it gave itself the membership.
    Becomes {
        role: String,
        target: Option<String>,
        grant_first: bool,
    },
    /// The role owns a tenant table.
    Owns {
        role: String,
    },
    /// The role sets the parameter that carries the context.
    SetsCarrier {
        parameter: String,
    },
    /// A table shows or changes foreign rows, whichever the role may.
    Table {
        relation: i64,
    },
    /// The role is the owner, whom the policies do not bind.
    Owner {
        relation: i64,
        owner: String,
    },
    Truncate {
        relation: i64,
    },
    /// An own row can be given to another tenant.
    Moves {
        relation: i64,
    },
    /// A row can be put into another tenant.
    Inserts {
        relation: i64,
    },
    Updates {
        relation: i64,
    },
    Deletes {
        relation: i64,
    },
    /// A cached plan keeps the tenant before.
    Folded {
        relations: Vec<i64>,
    },
    /// A function of the caller's own decides.
    Hijacked {
        relations: Vec<i64>,
        function: i64,
    },
    View {
        view: i64,
        table: i64,
    },
    Materialized {
        view: i64,
        table: i64,
    },
    Calls {
        function: i64,
        table: i64,
    },
    Cascades {
        child: i64,
        parent: i64,
        key: Vec<i32>,
        referenced_key: Vec<i32>,
        by_delete: bool,
    },
    Refers {
        child: i64,
        parent: i64,
        key: Vec<i32>,
        referenced_key: Vec<i32>,
    },
}

pub(super) struct Prover<'a, C> {
    client: &'a C,
    catalog: &'a Catalog,
    subject: &'a Subject,
}

impl<'a, C: GenericClient> Prover<'a, C> {
    pub(super) fn new(client: &'a C, catalog: &'a Catalog, subject: &'a Subject) -> Self {
        Self {
            client,
            catalog,
            subject,
        }
    }

    /// Tries the ways to use a finding until one shows something.
    pub(super) async fn prove(&self, finding: &Finding) -> Result<Proof, AuditError> {
        let Some(weakness) = &finding.weakness else {
            return Ok(Proof {
                shown: false,
                summary: "nothing is known that could be tried by itself".to_owned(),
                script: String::new(),
            });
        };
        let attacks = match self.attacks(weakness).await? {
            Ok(attacks) => attacks,
            Err(why) => {
                return Ok(Proof {
                    shown: false,
                    summary: why,
                    script: String::new(),
                });
            }
        };
        let mut last = None;
        for attack in attacks {
            let proof = self.run(&attack).await?;
            if proof.shown {
                return Ok(proof);
            }
            last.get_or_insert(proof);
        }
        Ok(last.unwrap_or(Proof {
            shown: false,
            summary: "there is no table to try it on".to_owned(),
            script: String::new(),
        }))
    }

    /// Runs an attack in a savepoint.
    async fn run(&self, attack: &Attack) -> Result<Proof, AuditError> {
        self.client
            .batch_execute(
                "savepoint tenantry_audit; set local lock_timeout = '2s'; set local statement_timeout = '20s'",
            )
            .await
            .doing("set a savepoint")?;
        let answer = self.answer(attack).await;
        self.client
            .batch_execute("rollback to savepoint tenantry_audit; release savepoint tenantry_audit")
            .await
            .doing("go back to the savepoint")?;
        let (shown, summary) = match answer {
            Ok(rows) if rows > 0 => (true, attack.says(rows)),
            Ok(_) => (false, "no row of another tenant was returned or changed".to_owned()),
            Err(error) => (false, format!("refused: {}", said(&error))),
        };
        Ok(Proof {
            shown,
            summary,
            script: attack.script(),
        })
    }

    async fn answer(&self, attack: &Attack) -> Result<i64, tokio_postgres::Error> {
        for statement in attack.before() {
            self.client.batch_execute(&statement).await?;
        }
        match attack.question() {
            attack::Question::Rows(question) => Ok(self.client.query_one(question, &[]).await?.get(0)),
            attack::Question::Affected(statement) => {
                let rows = self.client.execute(statement, &[]).await?;
                Ok(i64::try_from(rows).unwrap_or(i64::MAX))
            }
            attack::Question::Gone { statement, count } => {
                self.client.batch_execute(statement).await?;
                self.client.batch_execute(attack.back()).await?;
                let left: i64 = self.client.query_one(count, &[]).await?.get(0);
                Ok(i64::from(left == 0))
            }
            attack::Question::Differs { ask, change } => {
                let before: Option<String> = self.client.query_one(ask, &[]).await?.get(0);
                self.client.batch_execute(attack.back()).await?;
                self.client.batch_execute(change).await?;
                self.client.batch_execute(&attack.act()).await?;
                let after: Option<String> = self.client.query_one(ask, &[]).await?.get(0);
                Ok(i64::from(before != after))
            }
            attack::Question::Accepted(statement) => {
                self.client.execute(statement, &[]).await?;
                // A reference shows no row and changes none.
                Ok(0)
            }
        }
    }

    fn table(&self, oid: i64) -> Option<&'a Relation> {
        self.catalog.relations.get(&oid)
    }

    /// The application role that tries it.
    fn app(&self) -> String {
        self.subject.app_roles.first().cloned().unwrap_or_default()
    }

    /// The statements that put the session into a tenant's context, run by the administrator.
    fn enter(&self, tenant: &str) -> Vec<String> {
        let literal = |text: &str| {
            tenantry_sql::Literal::new(text)
                .expect("PostgreSQL's texts hold no zero byte")
                .to_string()
        };
        if let Some(enter) = &self.subject.enter {
            return vec![enter.replace("{tenant}", tenant)];
        }
        self.catalog
            .carriers
            .iter()
            .map(|carrier| {
                // Parameters of the server's own take letters and digits only.
                let value = if carrier.contains('.') {
                    tenant.to_owned()
                } else {
                    tenant.replace('-', "")
                };
                format!("select set_config({}, {}, true)", literal(carrier), literal(&value))
            })
            .collect()
    }

    fn attack(&self, probe: &Probe, role: &str) -> Attack {
        Attack::new(role, self.catalog.facts.superuser).setup(probe.setup.iter().cloned())
    }

    /// Without a context, and in that of a tenant that has no rows; then the same as each role that the role can become.
    fn in_both_contexts(&self, probe: &Probe, role: &str, finish: impl Fn(Attack) -> Attack) -> Vec<Attack> {
        let others = self
            .catalog
            .facts
            .act_names
            .iter()
            .filter(|other| *other != role)
            .map(Some);
        let mut attacks = Vec::new();
        for acting in std::iter::once(None).chain(others) {
            let begin = |setup: Vec<String>| {
                let attack = self.attack(probe, role).setup(setup);
                match acting {
                    Some(other) => attack.act_by(format!("set local role {}", family::name(other))),
                    None => attack,
                }
            };
            attacks.push(finish(begin(self.leave())));
            let enter = self.enter(&probe.own);
            if !enter.is_empty() {
                attacks.push(finish(begin(enter)));
            }
        }
        attacks
    }

    /// As a session is after a context has ended: its settings are '' and not null.
    fn leave(&self) -> Vec<String> {
        self.catalog
            .carriers
            .iter()
            .filter(|carrier| carrier.contains('.'))
            .map(|carrier| format!("select set_config('{carrier}', '', true)"))
            .collect()
    }

    fn tenant_table(&self, wanted: impl Fn(&Relation) -> bool) -> Option<&'a Relation> {
        self.catalog
            .tenant_tables()
            .find(|table| !table.is_child() && wanted(table))
    }

    #[expect(clippy::too_many_lines, reason = "a list: one way to use each weakness")]
    async fn attacks(&self, weakness: &Weakness) -> Result<Result<Vec<Attack>, String>, AuditError> {
        const GONE: &str = "the table is gone";
        let app = self.app();
        let count = |relation: &str| format!("select count(*) from (select 1 from {relation} limit 1000) x");
        let no_table = || Ok(Err("there is no tenant table to try it on".to_owned()));
        Ok(Ok(match weakness {
            Weakness::Reads { role } => {
                let Some(table) = self.tenant_table(|_| true) else {
                    return no_table();
                };
                let probe = self.probe(table).await?;
                self.in_both_contexts(&probe, role, |attack| attack.rows(count(&family::quoted(table))))
            }
            Weakness::Becomes {
                role,
                target,
                grant_first,
            } => {
                let Some(target) = target else { return no_table() };
                let Some(table) = self
                    .tenant_table(|table| table.owner_name == *target)
                    .or_else(|| self.tenant_table(|_| true))
                else {
                    return no_table();
                };
                let (probe, quoted, becomes) = (self.probe(table).await?, family::quoted(table), family::name(target));
                let granted = |attack: Attack| match grant_first {
                    true => attack.act_by(format!("grant {becomes} to {}", family::name(role))),
                    false => attack,
                };
                let plain = granted(self.attack(&probe, role))
                    .act_by(format!("set local role {becomes}"))
                    .rows(count(&quoted));
                let by_owner = granted(self.attack(&probe, role))
                    .act_by(format!("set local role {becomes}"))
                    .act_by(format!("alter table {quoted} disable row level security"))
                    .rows(count(&quoted));
                // Rights that are inherited need no `set role`.
                let inherited = granted(self.attack(&probe, role))
                    .act_by(format!("alter table {quoted} disable row level security"))
                    .rows(count(&quoted));
                vec![plain, by_owner, inherited]
            }
            Weakness::Owns { role } => {
                let Some(table) = self.tenant_table(|table| table.owner_name == *role) else {
                    return no_table();
                };
                let (probe, quoted) = (self.probe(table).await?, family::quoted(table));
                vec![
                    self.attack(&probe, role)
                        .act_by(format!("alter table {quoted} disable row level security"))
                        .rows(count(&quoted)),
                ]
            }
            Weakness::Owner { relation, owner } => {
                let Some(table) = self.table(*relation) else {
                    return Ok(Err(GONE.to_owned()));
                };
                let probe = self.probe(table).await?;
                let mut attack = self.attack(&probe, &app);
                if *owner != app {
                    attack = attack.act_by(format!("set local role {}", family::name(owner)));
                }
                vec![attack.rows(count(&family::quoted(table)))]
            }
            Weakness::SetsCarrier { parameter } => {
                let readable = |table: &Relation| table.may_select && table.row_security;
                let Some(table) = self.tenant_table(readable) else {
                    return no_table();
                };
                let (probe, plain) = (
                    self.probe(table).await?,
                    probe::unquoted(&self.probe(table).await?.other),
                );
                let bare = plain.replace('-', "");
                let values = [plain.clone(), bare.clone(), format!("{bare}000000000000000030")];
                let carriers = self.catalog.carriers.iter().chain([parameter]);
                let carriers: Vec<&String> = carriers.collect();
                values
                    .iter()
                    .map(|value| {
                        let mut attack = self.attack(&probe, &app);
                        for carrier in &carriers {
                            attack = attack.act_by(format!("select set_config('{carrier}', '{value}', true)"));
                        }
                        attack.rows(count(&family::quoted(table)))
                    })
                    .collect()
            }
            Weakness::Table { relation } => {
                let Some(table) = self.table(*relation) else {
                    return Ok(Err(GONE.to_owned()));
                };
                let probe = self.probe(table).await?;
                let quoted = family::quoted(table);
                if table.may_select {
                    self.in_both_contexts(&probe, &app, |attack| attack.rows(count(&quoted)))
                } else if table.may_delete {
                    self.in_both_contexts(&probe, &app, |attack| attack.affected(format!("delete from {quoted}")))
                } else if table.may_update {
                    self.updates(&probe, &quoted, &app)
                } else {
                    self.inserts(&probe, &quoted, &app)
                }
            }
            Weakness::Truncate { relation } => {
                let Some(table) = self.table(*relation) else {
                    return Ok(Err(GONE.to_owned()));
                };
                let (probe, quoted) = (self.probe(table).await?, family::quoted(table));
                let left = format!("select count(*) from {quoted}");
                ["", " cascade"]
                    .map(|more| {
                        self.attack(&probe, &app)
                            .gone(format!("truncate {quoted}{more}"), left.clone())
                    })
                    .into()
            }
            Weakness::Deletes { relation } => {
                let Some(table) = self.table(*relation) else {
                    return Ok(Err(GONE.to_owned()));
                };
                let (probe, quoted) = (self.probe(table).await?, family::quoted(table));
                self.in_both_contexts(&probe, &app, |attack| attack.affected(format!("delete from {quoted}")))
            }
            Weakness::Updates { relation } => {
                let Some(table) = self.table(*relation) else {
                    return Ok(Err(GONE.to_owned()));
                };
                let probe = self.probe(table).await?;
                self.updates(&probe, &family::quoted(table), &app)
            }
            Weakness::Moves { relation } => {
                let Some(table) = self.table(*relation) else {
                    return Ok(Err(GONE.to_owned()));
                };
                let (probe, quoted) = (self.probe(table).await?, family::quoted(table));
                let column = family::name(table.tenant_column.as_deref().unwrap_or_default());
                let own_row = probe.insert(&probe.own, &[]);
                vec![
                    self.attack(&probe, &app)
                        .setup(self.without_triggers(own_row))
                        .setup(self.enter(&probe.own))
                        .affected(format!(
                            "update {quoted} set {column} = {}",
                            probe.literal(&probe.other)
                        )),
                ]
            }
            Weakness::Inserts { relation } => {
                let Some(table) = self.table(*relation) else {
                    return Ok(Err(GONE.to_owned()));
                };
                let probe = self.probe(table).await?;
                self.inserts(&probe, &family::quoted(table), &app)
            }
            Weakness::Folded { relations } => {
                let Some(table) = relations
                    .iter()
                    .filter_map(|oid| self.table(*oid))
                    .find(|table| table.may_select)
                else {
                    return no_table();
                };
                let (probe, quoted) = (self.probe(table).await?, family::quoted(table));
                let attack = self.attack(&probe, &app).setup(self.enter(&probe.other));
                let attack = attack
                    .act_by(format!("prepare tenantry_audit as select count(*) from {quoted}"))
                    .act_by("execute tenantry_audit".to_owned())
                    .setup(self.enter(&probe.own));
                vec![
                    attack
                        .rows("execute tenantry_audit".to_owned())
                        .then("deallocate tenantry_audit"),
                ]
            }
            Weakness::Hijacked { relations, function } => {
                let table = relations
                    .iter()
                    .filter_map(|oid| self.table(*oid))
                    .find(|table| table.may_select);
                let (Some(table), Some(_)) = (table, self.catalog.functions.get(function)) else {
                    return no_table();
                };
                let probe = self.probe(table).await?;
                let (schema, make) = match self.catalog.facts.creatable_schemas.first() {
                    Some(schema) => (family::name(schema), None),
                    None => (
                        "tenantry_audit".to_owned(),
                        Some("create schema tenantry_audit".to_owned()),
                    ),
                };
                let value = probe::unquoted(&probe.other);
                let mut attacks = Vec::new();
                for value in [value.clone(), value.replace('-', "")] {
                    let mut attack = self.attack(&probe, &app);
                    if let Some(make) = &make {
                        attack = attack.act_by(make.clone());
                    }
                    for arguments in ["text", "text, boolean"] {
                        attack = attack.act_by(format!(
                            "create function {schema}.current_setting({arguments}) returns text language sql immutable as $$ select '{value}'::text $$"
                        ));
                    }
                    let attack = attack.act_by(format!("set local search_path = {schema}, pg_catalog"));
                    attacks.push(attack.rows(count(&family::quoted(table))));
                }
                attacks
            }
            Weakness::View { view, table } => {
                let (Some(view), Some(table)) = (self.table(*view), self.table(*table)) else {
                    return Ok(Err(GONE.to_owned()));
                };
                let (probe, quoted) = (self.probe(table).await?, family::quoted(view));
                if view.may_select {
                    self.in_both_contexts(&probe, &app, |attack| attack.rows(count(&quoted)))
                } else {
                    self.in_both_contexts(&probe, &app, |attack| attack.affected(format!("delete from {quoted}")))
                }
            }
            Weakness::Materialized { view, table } => {
                let (Some(view), Some(table)) = (self.table(*view), self.table(*table)) else {
                    return Ok(Err(GONE.to_owned()));
                };
                let (probe, quoted) = (self.probe(table).await?, family::quoted(view));
                let as_it_is = self.attack(&Probe::default(), &app).rows(count(&quoted));
                let refreshed = self
                    .attack(&probe, &app)
                    .setup([format!("refresh materialized view {quoted}")])
                    .rows(count(&quoted));
                vec![as_it_is, refreshed]
            }
            Weakness::Calls { function, table } => {
                let (Some(function), Some(table)) = (self.catalog.functions.get(function), self.table(*table)) else {
                    return no_table();
                };
                let probe = self.probe(table).await?;
                let called = format!("{}.{}", family::name(&function.schema), family::name(&function.name));
                let ask = format!(
                    "select count(*)::text || coalesce(string_agg(x::text, ',' order by x::text), '') from {called}() x"
                );
                let change = self.without_triggers(probe.insert(&probe.third, &[])).join("; ");
                let mut attack = self.attack(&probe, &app);
                let enter = self.enter(&probe.own);
                attack = attack.setup(enter);
                vec![attack.differs(ask, change)]
            }
            Weakness::Cascades {
                child,
                parent,
                key,
                referenced_key,
                by_delete,
            } => {
                let (Some(child), Some(parent)) = (self.table(*child), self.table(*parent)) else {
                    return Ok(Err(GONE.to_owned()));
                };
                let (of_child, of_parent) = (self.probe(child).await?, self.probe(parent).await?);
                let values = of_parent.key_values(referenced_key);
                let parent_row = of_parent.insert(&of_parent.own, &values);
                let child_values: Vec<(i32, String)> = key
                    .iter()
                    .copied()
                    .zip(values.iter().map(|(_, value)| value.clone()))
                    .collect();
                let child_row = of_child.insert(&of_child.other, &child_values);
                let quoted = family::quoted(parent);
                let statement = if *by_delete {
                    format!("delete from {quoted}")
                } else {
                    format!("update {quoted} set {}", of_parent.changed(referenced_key))
                };
                let column = family::name(child.tenant_column.as_deref().unwrap_or_default());
                let left = format!(
                    "select count(*) from {} where {column} = {} and {}",
                    family::quoted(child),
                    of_child.literal(&of_child.other),
                    of_child.matches(&child_values)
                );
                vec![
                    Attack::new(&app, self.catalog.facts.superuser)
                        .setup(self.without_triggers(format!("{parent_row}; {child_row}")))
                        .setup(self.enter(&of_parent.own))
                        .gone(statement, left),
                ]
            }
            Weakness::Refers {
                child,
                parent,
                key,
                referenced_key,
            } => {
                let (Some(child), Some(parent)) = (self.table(*child), self.table(*parent)) else {
                    return Ok(Err(GONE.to_owned()));
                };
                let (of_child, of_parent) = (self.probe(child).await?, self.probe(parent).await?);
                let values = of_parent.key_values(referenced_key);
                let parent_row = of_parent.insert(&of_parent.other, &values);
                let child_values: Vec<(i32, String)> = key
                    .iter()
                    .copied()
                    .zip(values.iter().map(|(_, value)| value.clone()))
                    .collect();
                vec![
                    Attack::new(&app, self.catalog.facts.superuser)
                        .setup(self.without_triggers(parent_row))
                        .setup(self.enter(&of_child.own))
                        .accepted(of_child.insert(&of_child.own, &child_values)),
                ]
            }
        }))
    }

    /// Blind: a statement that reads no column is not held by the policies for reading.
    fn updates(&self, probe: &Probe, quoted: &str, app: &str) -> Vec<Attack> {
        probe
            .stolen()
            .into_iter()
            .chain(probe.updatable().into_iter().take(3))
            .flat_map(|(column, value)| {
                self.in_both_contexts(probe, app, |attack| {
                    attack.affected(format!("update {quoted} set {column} = {value}"))
                })
            })
            .collect()
    }

    fn inserts(&self, probe: &Probe, _quoted: &str, app: &str) -> Vec<Attack> {
        let mut attacks = Vec::new();
        for plants in [
            probe.insert(&probe.other, &[]),
            probe.insert(&probe.other, &probe.filled(&probe.own)),
        ] {
            let attack = self.attack(probe, app).setup(self.enter(&probe.own));
            attacks.push(attack.clone().affected(plants.clone()));
            // Foreign keys are not what is tried.
            let unreferenced = attack.setup(["set local session_replication_role = replica".to_owned()]);
            attacks.push(unreferenced.affected(plants));
        }
        attacks
    }

    /// Rows for the attempt are made without foreign keys and triggers, where the administrator may.
    fn without_triggers(&self, statement: String) -> Vec<String> {
        if self.catalog.facts.superuser {
            vec![
                "set local session_replication_role = replica".to_owned(),
                statement,
                "set local session_replication_role = origin".to_owned(),
            ]
        } else {
            vec![statement]
        }
    }
}

fn said(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |db| db.message().to_owned())
}
