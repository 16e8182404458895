//! Tried as the application role: rows without a token, and contexts without one.

use tokio_postgres::GenericClient;
use uuid::Uuid;

use super::super::{AuditError, Finding};
use crate::{
    roles::Roles,
    seal::{CARRIER, carried},
    sql_error::{Doing, SqlError},
};

/// Tables asked in one statement: few statements, and each of a size that is planned quickly. Their locks and those of their
/// indexes are held together, for as long as the statement runs.
const AT_ONCE: usize = 200;

pub(in crate::audit) async fn find(
    client: &impl GenericClient,
    roles: &Roles,
    tenant: Option<Uuid>,
) -> Result<Vec<Finding>, AuditError> {
    let questions = questions(client).await?;
    let mut found: Vec<Finding> = with_rows(client, &questions)
        .await?
        .into_iter()
        .map(|table| {
            Finding::new(
                "MT106",
                table,
                "the application role gets its rows without a token",
                "bootstrap the database again",
            )
        })
        .collect();
    for (name, program) in programs(roles, tenant.unwrap_or_default()) {
        client
            .batch_execute("savepoint tenantry_audit_probe")
            .await
            .doing("set a savepoint")?;
        let ran = client.batch_execute(&program).await.is_ok();
        let mut shown = None;
        if ran {
            // A program may leave a state in which every read is an error: that is a refusal.
            if let Ok(tables) = with_rows(client, &questions).await {
                shown = tables.into_iter().next();
            }
        }
        client
            .batch_execute("rollback to savepoint tenantry_audit_probe; release savepoint tenantry_audit_probe")
            .await
            .doing("go back to the savepoint")?;
        if let Some(table) = shown.filter(|table| found.iter().all(|finding| finding.object != *table)) {
            found.push(Finding::new(
                "MT107",
                table,
                format!("the application role gets its rows by: {name}"),
                "bootstrap the database again",
            ));
        }
    }
    Ok(found)
}

/// A statement for every so many tables, which gives the names of those with rows.
async fn questions(client: &impl GenericClient) -> Result<Vec<String>, SqlError> {
    let rows = client
        .query(
            "select pg_catalog.format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where c.relkind in ('r', 'p')
                and exists (select from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
                and pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_any_column_privilege(c.oid, 'select')
              order by 1",
            &[],
        )
        .await
        .doing("list the tables that the application role may read")?;
    let tables: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok(tables
        .chunks(AT_ONCE)
        .map(|tables| {
            let each: Vec<String> = tables
                .iter()
                .map(|table| {
                    let literal = tenantry_sql::Literal::new(table.replace('"', ""))
                        .expect("PostgreSQL's names hold no zero byte");
                    format!("select {literal}::text where exists (select from {table})")
                })
                .collect();
            each.join(" union all ")
        })
        .collect())
}

async fn with_rows(client: &impl GenericClient, questions: &[String]) -> Result<Vec<String>, SqlError> {
    let mut found = Vec::new();
    for question in questions {
        // Going back gives the locks back: a fleet has more tables than a transaction can hold locks.
        client
            .batch_execute("savepoint tenantry_audit_question")
            .await
            .doing("set a savepoint")?;
        let asked = client
            .query(question.as_str(), &[])
            .await
            .doing("read tables without a token");
        client
            .batch_execute("rollback to savepoint tenantry_audit_question; release savepoint tenantry_audit_question")
            .await
            .doing("go back to the savepoint")?;
        found.extend(asked?.iter().map(|row| row.get::<_, String>(0)));
    }
    Ok(found)
}

/// Ways to a context that need no token. The seal that they claim is that of a tenant that is there.
fn programs(roles: &Roles, tenant: Uuid) -> Vec<(&'static str, String)> {
    let seal = format!("{}000000000000000030", tenant.simple());
    let Roles {
        seal: seal_role,
        owner,
        mover,
        ..
    } = roles;
    let expect = format!("select pg_catalog.set_config('tenantry.expect', '{seal}', true)");
    let carried = carried(&seal);
    let zeros = |bytes: usize| "00".repeat(bytes);
    vec![
        ("an expectation alone", expect.clone()),
        (
            "set_config of the carrier",
            format!("select pg_catalog.set_config('{CARRIER}', '{carried}', false); {expect}"),
        ),
        (
            "set local of the carrier",
            format!("set local {CARRIER} = '{carried}'; {expect}"),
        ),
        (
            "an update of pg_settings",
            format!("update pg_catalog.pg_settings set setting = '{carried}' where name = '{CARRIER}'; {expect}"),
        ),
        ("a reset of everything", format!("reset all; {expect}")),
        (
            "a made up signed statement",
            format!(
                "select pg_catalog.set_config('tenantry.signed', '{seal}{}', true); {expect}",
                zeros(32)
            ),
        ),
        (
            "enter with a token of zeros",
            format!("select tenantry.enter('\\x{}', '\\x{}')", zeros(58), zeros(32)),
        ),
        (
            "enter_pooled with a token of zeros",
            format!("select tenantry.enter_pooled('\\x{}', '\\x{}')", zeros(58), zeros(32)),
        ),
        (
            "the mechanism's own carrier",
            format!("select tenantry_private.carry('{seal}')"),
        ),
        ("act_for", format!("select tenantry_private.act_for('{tenant}')")),
        ("the mechanism's owner", format!("set local role {seal_role}")),
        ("the tables' owner", format!("set local role {owner}")),
        ("the mover", format!("set local role {mover}")),
        ("row security off", "set local row_security = off".to_owned()),
        ("the log-in role", "set local role none; reset role".to_owned()),
    ]
}
