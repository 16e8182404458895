//! What the seal of a database of ours relies on.

mod live;
mod mechanism;
mod policies;

use tenantry_core::{InstallationId, Tier};
use tokio_postgres::{Client, GenericClient, Transaction};

pub(in crate::audit) use self::live::find as find_live;
use super::{AuditError, Finding, Report, Severity, Subject, catalog::Catalog, family};
use crate::{
    check,
    roles::Roles,
    sql_error::{Doing, SqlError},
};

/// Which database of ours it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Whose.
    pub installation: InstallationId,
    /// The role that applications log in as.
    pub app_role: String,
}

pub(super) async fn identity(client: &Client) -> Result<Option<Identity>, SqlError> {
    let readable = client
        .query_one(
            "select coalesce(has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'), false)
               from (values (1)) one left join pg_catalog.pg_namespace n on n.nspname = 'tenantry_private'
               left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = 'tenant_database'",
            &[],
        )
        .await
        .doing("look whether the database is one of ours")?;
    if !readable.get::<_, bool>(0) {
        return Ok(None);
    }
    let row = client
        .query_opt(
            "select installation, app_role::text from tenantry_private.tenant_database",
            &[],
        )
        .await
        .doing("read which database it is")?;
    Ok(row.and_then(|row| {
        Some(Identity {
            installation: row.get::<_, String>(0).parse().ok()?,
            app_role: row.get(1),
        })
    }))
}

/// What [`check`] says of the role under a name of its own, and which check of the registry says the same.
const SAID_ELSEWHERE: &[(&str, &str)] = &[
    ("superuser", "MT040"),
    ("bypassrls", "MT041"),
    ("attributes", "MT042"),
    ("owns", "MT043"),
    ("creates-in-schema", "MT053"),
    ("creates-in-database", "MT054"),
    ("public-connect", "MT058"),
    ("table-rights", "MT050"),
    ("definer-bypasses", "MT062"),
    ("view-bypasses", "MT060"),
];

pub(super) async fn find(
    transaction: &Transaction<'_>,
    identity: &Identity,
    subject: &Subject,
    report: &mut Report,
) -> Result<(), AuditError> {
    transaction
        .batch_execute("set local search_path = pg_catalog, pg_temp; set local lock_timeout = '5s'")
        .await
        .doing("set the search path")?;
    refusals(transaction, identity, report).await?;
    report.findings.extend(keys_in_dumps(transaction).await?);
    report.findings.extend(other_readers(transaction).await?);
    let catalog = Catalog::read(transaction, subject).await?;
    report.findings.extend(family::drift(&catalog, is_own_schema));
    let roles = Roles::of(&identity.installation);
    mechanism::act_as(transaction, &roles.seal).await?;
    report.findings.extend(standing(transaction).await?);
    report.findings.extend(mechanism::find(transaction, &roles).await?);
    transaction
        .batch_execute("reset role")
        .await
        .doing("act as the administrator again")?;
    report
        .findings
        .extend(policies::find(transaction, &roles, &catalog).await?);
    if catalog.facts.superuser {
        let tenant = a_tenant(transaction).await?;
        let app = family::name(&identity.app_role);
        transaction
            .batch_execute(&format!(
                "savepoint tenantry_audit_live; set local session authorization {app}"
            ))
            .await
            .doing("act as the application role")?;
        let found = live::find(transaction, &roles, tenant).await;
        transaction
            .batch_execute("rollback to savepoint tenantry_audit_live")
            .await
            .doing("act as the administrator again")?;
        report.findings.extend(found?);
    }
    Ok(())
}

async fn a_tenant(transaction: &Transaction<'_>) -> Result<Option<uuid::Uuid>, SqlError> {
    let row = transaction
        .query_opt(
            "select tenant from tenantry_private.fence where state = 0 order by tenant limit 1",
            &[],
        )
        .await
        .doing("read the tenants of the database")?;
    Ok(row.map(|row| row.get(0)))
}

pub(in crate::audit) fn is_own_schema(schema: &str) -> bool {
    schema
        .strip_prefix("t_")
        .is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// What bootstrap refuses: where a check says the same it is as bad as that, else it stands by itself.
async fn refusals(transaction: &Transaction<'_>, identity: &Identity, report: &mut Report) -> Result<(), AuditError> {
    let refused = check::application_role(transaction, &identity.app_role).await?;
    for refusal in refused.found {
        let same = SAID_ELSEWHERE
            .iter()
            .find(|(code, _)| *code == refusal.code)
            .map(|(_, id)| *id);
        let mut said = false;
        for finding in report.findings.iter_mut().filter(|finding| Some(finding.id) == same) {
            finding.severity = Severity::Critical;
            said = true;
        }
        if !said {
            report.findings.push(Finding::new(
                "MT116",
                identity.app_role.as_str(),
                format!("{}: {}", refusal.code, refusal.sentence),
                "bootstrap the database again",
            ));
        }
    }
    Ok(())
}

async fn keys_in_dumps(transaction: &Transaction<'_>) -> Result<Vec<Finding>, SqlError> {
    let rows = transaction
        .query(
            "select r.rolname::text from pg_roles r, pg_class c join pg_namespace n on n.oid = c.relnamespace
              where n.nspname = 'tenantry_private' and c.relname = 'mac_key' and r.rolcanlogin and not r.rolsuper
                and has_schema_privilege(r.oid, n.oid, 'usage') and has_any_column_privilege(r.oid, c.oid, 'select')
              order by 1",
            &[],
        )
        .await
        .doing("read who may read the keys")?;
    let finding = |role: String| {
        let mend = format!("revoke all on tenantry_private.mac_key from {}", family::name(&role));
        Finding::new("MT105", role, "it may read tenantry_private.mac_key", mend)
    };
    Ok(rows.iter().map(|row| finding(row.get(0))).collect())
}

async fn other_readers(transaction: &Transaction<'_>) -> Result<Vec<Finding>, SqlError> {
    let carrier = crate::seal::CARRIER;
    let rows = transaction
        .query(
            "select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
              where n.nspname not in ('pg_catalog', 'information_schema', 'tenantry', 'tenantry_private')
                and strpos(lower(coalesce(pg_get_function_sqlbody(p.oid), p.prosrc)), $1) > 0
              order by 1",
            &[&carrier],
        )
        .await
        .doing("look for readers of the carrier")?;
    let finding = |signature: String| {
        Finding::new(
            "MT111",
            signature,
            format!("it reads {carrier}"),
            "call tenantry.tenant_id() instead",
        )
    };
    Ok(rows.iter().map(|row| finding(row.get(0))).collect())
}

/// The tier, the very database, and fences that were lifted; as the mechanism's owner.
async fn standing(transaction: &Transaction<'_>) -> Result<Vec<Finding>, AuditError> {
    let row = transaction
        .query_opt(
            "select d.tier, d.system_identifier = (select system_identifier from pg_control_system())
                and d.database_oid = (select oid from pg_database where datname = current_database())
                and not exists (select from tenantry_private.mac_key m where m.database_name <> current_database()),
                array(select f.tenant::text from tenantry_private.fence f where f.fenced_at is null and f.settled_at is not null)
               from tenantry_private.tenant_database d",
            &[],
        )
        .await
        .doing("read which database it is")?;
    let Some(row) = row else {
        return Ok(vec![Finding::new(
            "MT110",
            "tenantry_private.tenant_database",
            "it is empty: bootstrap did not end",
            "bootstrap the database again",
        )]);
    };
    let (tier, same, lifted): (String, bool, Vec<String>) = (row.get(0), row.get(1), row.get(2));
    let mut found = Vec::new();
    if tier != Tier::Sealed.as_str() {
        found.push(Finding::new(
            "MT112",
            "seal",
            format!("the tier is {tier}"),
            "bootstrap the database again as a superuser",
        ));
    }
    if !same {
        found.push(Finding::new(
            "MT113",
            "tenantry_private.tenant_database",
            "system identifier, oid or name are another database's",
            "bootstrap the database again",
        ));
    }
    for tenant in lifted {
        let mend = format!("select tenantry.fence_close('{tenant}', <epoch>, <state>)");
        found.push(Finding::new(
            "MT115",
            tenant,
            "its fence was lifted and not put back",
            mend,
        ));
    }
    Ok(found)
}

/// As whoever the connection is.
pub(in crate::audit) async fn live(
    client: &impl GenericClient,
    installation: &InstallationId,
    tenant: Option<uuid::Uuid>,
) -> Result<Vec<Finding>, AuditError> {
    find_live(client, &Roles::of(installation), tenant).await
}
