//! The catalog's own migrations: numbered files, each in a transaction with its ledger row, one process at a time.

use sha2::{Digest as _, Sha256};
use tokio_postgres::Client;

use crate::CatalogError;

/// Every process that migrates this catalog takes this advisory lock; the number is arbitrary and never changes.
const LOCK: i64 = 0x7465_6e61_6e74_7279;

struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

/// Applied in this order. A released file is never edited: its checksum stands in every catalog.
const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "fleet",
        sql: include_str!("../migrations/0001_fleet.sql"),
    },
    Migration {
        version: 2,
        name: "identity",
        sql: include_str!("../migrations/0002_identity.sql"),
    },
    Migration {
        version: 3,
        name: "rollouts",
        sql: include_str!("../migrations/0003_rollouts.sql"),
    },
    Migration {
        version: 4,
        name: "password reset",
        sql: include_str!("../migrations/0004_password_reset.sql"),
    },
    Migration {
        version: 5,
        name: "connections",
        sql: include_str!("../migrations/0005_connections.sql"),
    },
    Migration {
        version: 6,
        name: "overlays",
        sql: include_str!("../migrations/0006_overlays.sql"),
    },
    Migration {
        version: 7,
        name: "limits",
        sql: include_str!("../migrations/0007_limits.sql"),
    },
    Migration {
        version: 8,
        name: "events",
        sql: include_str!("../migrations/0008_events.sql"),
    },
    Migration {
        version: 9,
        name: "job limit",
        sql: include_str!("../migrations/0009_job_limit.sql"),
    },
    Migration {
        version: 10,
        name: "backups",
        sql: include_str!("../migrations/0010_backups.sql"),
    },
    Migration {
        version: 11,
        name: "moves",
        sql: include_str!("../migrations/0011_moves.sql"),
    },
    Migration {
        version: 12,
        name: "legal hold",
        sql: include_str!("../migrations/0012_legal_hold.sql"),
    },
    Migration {
        version: 13,
        name: "streams",
        sql: include_str!("../migrations/0013_streams.sql"),
    },
    Migration {
        version: 14,
        name: "steered moves",
        sql: include_str!("../migrations/0014_steered_moves.sql"),
    },
    Migration {
        version: 15,
        name: "erasure",
        sql: include_str!("../migrations/0015_erasure.sql"),
    },
    Migration {
        version: 16,
        name: "replicas",
        sql: include_str!("../migrations/0016_replicas.sql"),
    },
    Migration {
        version: 17,
        name: "backup schedules",
        sql: include_str!("../migrations/0017_backup_schedules.sql"),
    },
    Migration {
        version: 18,
        name: "serving and jobs",
        sql: include_str!("../migrations/0018_serving_and_jobs.sql"),
    },
    Migration {
        version: 19,
        name: "overlays of tenants",
        sql: include_str!("../migrations/0019_overlays_of_tenants.sql"),
    },
    Migration {
        version: 20,
        name: "migration texts",
        sql: include_str!("../migrations/0020_migration_texts.sql"),
    },
    Migration {
        version: 21,
        name: "one rollout",
        sql: include_str!("../migrations/0021_one_rollout.sql"),
    },
    Migration {
        version: 22,
        name: "spares of servers",
        sql: include_str!("../migrations/0022_spares_of_servers.sql"),
    },
    Migration {
        version: 23,
        name: "restores",
        sql: include_str!("../migrations/0023_restores.sql"),
    },
];

/// Brings the catalog to this program's version.
///
/// Takes a connection of its own since the lock belongs to the session; dropping the future closes the connection, which
/// frees the lock and rolls back what was not committed.
pub(crate) async fn migrate(client: &mut Client) -> Result<(), CatalogError> {
    client.execute("select pg_advisory_lock($1)", &[&LOCK]).await?;
    let outcome = apply_pending(client).await;
    client.execute("select pg_advisory_unlock($1)", &[&LOCK]).await?;
    outcome
}

async fn apply_pending(client: &mut Client) -> Result<(), CatalogError> {
    client
        .batch_execute(
            "create schema if not exists tenantry_catalog;
             create table if not exists tenantry_catalog.migration (
                 version integer primary key,
                 name text not null,
                 checksum bytea not null,
                 applied_at timestamptz not null default now()
             )",
        )
        .await?;
    let applied = client
        .query("select version, checksum from migration order by version", &[])
        .await?;
    let known = MIGRATIONS.last().map_or(0, |migration| migration.version);
    if let Some(found) = applied.last().map(|row| row.get(0)).filter(|found| *found > known) {
        return Err(CatalogError::TooNew { found, known });
    }
    for migration in MIGRATIONS {
        let checksum = Sha256::digest(migration.sql).to_vec();
        let ledger = applied.iter().find(|row| row.get::<_, i32>(0) == migration.version);
        match ledger {
            Some(row) if row.get::<_, &[u8]>(1) == checksum => {}
            Some(_) => {
                return Err(CatalogError::Changed {
                    version: migration.version,
                });
            }
            None => apply(client, migration, &checksum)
                .await
                .map_err(|source| CatalogError::Migration {
                    version: migration.version,
                    source,
                })?,
        }
    }
    close_to_strangers(client).await
}

async fn apply(client: &mut Client, migration: &Migration, checksum: &[u8]) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(migration.sql).await?;
    transaction
        .execute(
            "insert into migration (version, name, checksum) values ($1, $2, $3)",
            &[&migration.version, &migration.name, &checksum],
        )
        .await?;
    transaction.commit().await?;
    tracing::info!(version = migration.version, name = migration.name, "catalog migrated");
    Ok(())
}

/// Every role of the cluster may connect to a new database; an application's role has no business in the catalog.
async fn close_to_strangers(client: &Client) -> Result<(), CatalogError> {
    let row = client
        .query_one(
            "select format('revoke connect, temporary on database %I from public', d.datname),
                    pg_has_role(d.datdba, 'usage') and exists (
                        select from aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) as acl
                        where acl.grantee = 0 and acl.privilege_type = 'CONNECT')
             from pg_database as d where d.datname = current_database()",
            &[],
        )
        .await?;
    if row.get::<_, bool>(1) {
        client.batch_execute(row.get(0)).await?;
    }
    Ok(())
}
