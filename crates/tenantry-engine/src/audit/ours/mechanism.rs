//! The functions of the mechanism, compared with what bootstrap makes.

use std::collections::{BTreeMap, BTreeSet};

use tenantry_core::Tier;
use tenantry_sql::Identifier;
use tokio_postgres::{GenericClient, Transaction};

use super::super::{AuditError, Finding};
use crate::{
    roles::Roles,
    seal,
    sql_error::{Doing, SqlError},
};

/// Acts as the mechanism's owner; an administrator who is no superuser joins it for this transaction, as bootstrap does.
pub(super) async fn act_as(transaction: &Transaction<'_>, seal: &Identifier) -> Result<(), SqlError> {
    let row = transaction
        .query_one(
            "select rolsuper, current_setting('server_version_num')::int4 from pg_roles where rolname = current_user",
            &[],
        )
        .await
        .doing("read the administrator's rights")?;
    let options = if row.get::<_, i32>(1) >= 160_000 {
        " with inherit true, set true"
    } else {
        ""
    };
    if !row.get::<_, bool>(0) {
        transaction
            .batch_execute(&format!("grant {seal} to current_user{options}"))
            .await
            .doing("act as the mechanism's owner")?;
    }
    transaction
        .batch_execute(&format!("set local role {seal}"))
        .await
        .doing("act as the mechanism's owner")
}

/// What each function is, and of what it is made.
async fn functions(transaction: &impl GenericClient) -> Result<BTreeMap<String, Vec<Option<String>>>, SqlError> {
    let rows = transaction
        .query(
            "select p.oid::regprocedure::text, pg_get_userbyid(p.proowner)::text, p.prosecdef::text, p.provolatile::text, p.proparallel::text,
                    l.lanname::text, p.proconfig::text, p.prosrc || coalesce(pg_get_function_sqlbody(p.oid), ''), p.proleakproof::text,
                    p.proisstrict::text
               from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
              where n.nspname in ('tenantry', 'tenantry_private')",
            &[],
        )
        .await
        .doing("read the mechanism's functions")?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), (1..10).map(|at| row.get(at)).collect()))
        .collect())
}

const PARTS: [&str; 9] = [
    "owner",
    "security",
    "volatility",
    "parallel safety",
    "language",
    "settings",
    "body",
    "leakproof",
    "strictness",
];

pub(super) async fn find(transaction: &Transaction<'_>, roles: &Roles) -> Result<Vec<Finding>, AuditError> {
    let tier = transaction
        .query_opt("select tier from tenantry_private.tenant_database", &[])
        .await
        .doing("read the tier")?
        .map(|row| row.get::<_, String>(0));
    let Some(tier) = tier else { return Ok(Vec::new()) };
    let statements = seal::statements(if tier == Tier::Signed.as_str() {
        Tier::Signed
    } else {
        Tier::Sealed
    });
    let before = functions(transaction).await?;
    transaction
        .batch_execute("savepoint tenantry_audit_mechanism")
        .await
        .doing("set a savepoint")?;
    // As whoever changes the fence: the compiled functions are not replaced meanwhile.
    let remade = format!(
        "select from tenantry_private.tenant_database for update; {statements}; select tenantry_private.compile_fence()"
    );
    let made = transaction.batch_execute(&remade).await;
    let after = match &made {
        Ok(()) => functions(transaction).await?,
        Err(_) => before.clone(),
    };
    transaction
        .batch_execute("rollback to savepoint tenantry_audit_mechanism")
        .await
        .doing("go back to the savepoint")?;
    let changed =
        |object: &str, message: String| Finding::new("MT110", object, message, "bootstrap the database again");
    let mut found = Vec::new();
    if let Err(error) = made.doing("make the mechanism anew") {
        found.push(changed("tenantry", format!("it can't be compared: {error}")));
    }
    for (signature, parts) in &after {
        match before.get(signature) {
            None => found.push(changed(signature, "it is missing".to_owned())),
            Some(old) if old != parts => {
                let differ: Vec<&str> = PARTS
                    .iter()
                    .zip(old.iter().zip(parts))
                    .filter_map(|(part, (old, new))| (old != new).then_some(*part))
                    .collect();
                found.push(changed(signature, format!("it differs in {}", differ.join(", "))));
            }
            Some(_) => {}
        }
    }
    let known = known(&statements);
    for (signature, parts) in &before {
        let name = signature.split('(').next().unwrap_or_default();
        if !after.contains_key(signature) || !known.contains(name) {
            found.push(changed(signature, "bootstrap makes no such function".to_owned()));
        } else if parts[0].as_deref() != Some(roles.seal.as_str()) {
            found.push(changed(signature, "it is not the mechanism's owner's".to_owned()));
        }
    }
    Ok(found)
}

/// The names of the functions that the statements make.
fn known(statements: &str) -> BTreeSet<&str> {
    statements
        .match_indices("create or replace function ")
        .filter_map(|(at, begin)| statements[at + begin.len()..].split('(').next())
        .collect()
}
