//! Which database this is: whose, and whether it is a copy.

use tenantry_core::TenantDatabaseId;
use tenantry_sql::Identifier;
use tokio_postgres::{GenericClient, Transaction};
use uuid::Uuid;

use super::Work;
use crate::{
    bootstrap::{BootstrapError, VERSION},
    sql_error::{Doing, SqlError},
};

/// One very database: a restored or cloned one differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Incarnation {
    /// The cluster's system identifier.
    pub system_identifier: i64,
    /// The database's oid.
    pub database_oid: u32,
}

impl Incarnation {
    /// That of the connected database.
    ///
    /// # Errors
    /// When the server can't be asked.
    pub async fn read(client: &impl GenericClient) -> Result<Self, SqlError> {
        let row = client
            .query_one(
                "select (select system_identifier from pg_control_system()),
                        (select oid from pg_database where datname = current_database())",
                &[],
            )
            .await
            .doing("read which database this is")?;
        Ok(Self {
            system_identifier: row.get(0),
            database_oid: row.get(1),
        })
    }
}

/// What an earlier bootstrap wrote.
pub(super) struct Before {
    pub(super) version: i32,
    pub(super) database: TenantDatabaseId,
    pub(super) app: Identifier,
    pub(super) incarnation: Incarnation,
}

/// Reads what an earlier bootstrap wrote, and refuses what is not ours to change.
pub(super) async fn read(work: &Work<'_>, transaction: &Transaction<'_>) -> Result<Option<Before>, BootstrapError> {
    let row = transaction
        .query_one(
            "select to_regclass('tenantry_private.tenant_database') is not null",
            &[],
        )
        .await
        .doing("look for an earlier bootstrap")?;
    if !row.get::<_, bool>(0) {
        return Ok(None);
    }
    let row = transaction
        .query_opt(
            "select installation, version, database_id, app_role::text, system_identifier, database_oid
               from tenantry_private.tenant_database",
            &[],
        )
        .await
        .doing("read the earlier bootstrap")?;
    let Some(row) = row else { return Ok(None) };
    let (installation, version): (String, i32) = (row.get(0), row.get(1));
    if installation != work.request.installation.as_str() {
        return Err(BootstrapError::AnotherInstallation {
            database: work.request.name.to_owned(),
            owner: installation,
        });
    }
    if version > VERSION {
        return Err(BootstrapError::Newer {
            database: work.request.name.to_owned(),
            found: version,
            known: VERSION,
        });
    }
    Ok(Some(Before {
        version,
        database: TenantDatabaseId::from_uuid(row.get::<_, Uuid>(2)),
        app: Identifier::new(row.get::<_, String>(3))?,
        incarnation: Incarnation {
            system_identifier: row.get(4),
            database_oid: row.get(5),
        },
    }))
}

/// Writes which database this is, and up to which version it is made ready.
pub(super) async fn write(
    work: &Work<'_>,
    transaction: &Transaction<'_>,
    here: Incarnation,
    version: i32,
) -> Result<(), SqlError> {
    transaction
        .execute(
            "insert into tenantry_private.tenant_database
               (installation, database_id, app_role, tier, version, system_identifier, database_oid)
             values ($1, $2, $3::text::name, $4, $5, $6, $7)
             on conflict (one) do update set
               database_id = excluded.database_id, app_role = excluded.app_role, tier = excluded.tier,
               version = excluded.version, system_identifier = excluded.system_identifier,
               database_oid = excluded.database_oid, bootstrapped_at = now()",
            &[
                &work.request.installation.as_str(),
                work.request.database.as_uuid(),
                &work.app.as_str(),
                &work.tier.as_str(),
                &version,
                &here.system_identifier,
                &here.database_oid,
            ],
        )
        .await
        .doing("write which database this is")?;
    Ok(())
}
