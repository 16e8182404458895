//! A backup in the place of the rows that a tenant has: what is looked at before, the operation's record, and waiting for it.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tenantry_catalog::{
    CatalogError, Transaction,
    backup::Backup,
    change,
    operation::{self, NewOperation, Operation, OperationKind, OperationState},
    tenant::{self, Changed},
};
use tenantry_core::{Change, InstallationId, OperationId, OperatorScope, TenantId, TenantState};
use tenantry_engine::archive::{ArchiveError, Place, Snapshot, Unpacker};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{BackupError, BackupStoreError};
use crate::{
    Authority, Ops, PortError, Tenant, TenantError,
    audit::{self, Act},
    runner::{
        Failure, Journal, reach_home,
        restore::{IN_USE, OTHER_VERSION},
    },
    secret,
};

/// What a restore's operation was asked to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct RestoreInput {
    /// Which backup.
    pub(crate) backup: Uuid,
    /// Whether the tenant is served at the end: it was before, and nobody has suspended it since.
    pub(crate) let_in: bool,
}

impl RestoreInput {
    /// What the operation remembers.
    pub(crate) fn of(operation: &Operation) -> Result<Self, Failure> {
        serde_json::from_value(operation.input.clone()).map_err(|error| {
            let message = format!("what the operation was asked to restore is not understood: {error}");
            Failure::permanent("input_unknown", message)
        })
    }
}

impl Ops {
    /// Puts a backup's rows in the place of the tenant's own, in one transaction; nobody writes there meanwhile. Other tenants, in the
    /// same tables too, notice nothing.
    ///
    /// The tenant is suspended, and its transactions that are open are waited for
    /// ([`FleetConfig::restore_drain`](crate::FleetConfig::restore_drain)): one that ended later would leave what it wrote among the backup's
    /// rows. A tenant that somebody has suspended, before or meanwhile, stays so. One that is deleted meanwhile keeps the rows of before.
    ///
    /// It is an operation: should this process be killed, another one that runs operations goes on.
    ///
    /// # Errors
    /// See [`BackupError`]; the rows are then as they were, and the tenant is served as before.
    ///
    /// # Cancel safety
    /// Once begun it goes on by itself.
    pub async fn restore_backup_in_place(&self, authority: &Authority, id: Uuid) -> Result<Tenant, BackupError> {
        self.restore_backup_in_place_told(authority, id, &|_| {}).await
    }

    /// The same; `told` is called with the operation whenever it has been looked at.
    ///
    /// # Errors
    /// See [`BackupError`]; the rows are then as they were, and the tenant is served as before.
    ///
    /// # Cancel safety
    /// Once begun it goes on by itself.
    pub async fn restore_backup_in_place_told(
        &self,
        authority: &Authority,
        id: Uuid,
        told: &(dyn Fn(&Operation) + Send + Sync),
    ) -> Result<Tenant, BackupError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let found = self.find_backup(id).await?;
        let tenant = self.get_tenant(authority, &found.tenant.into()).await?;
        require_rows(tenant.state)?;
        // Before the tenant is stopped: reading a large one takes a while, and it may not open.
        let archive = self.open_backup(id).await?;
        self.require_same_version(tenant.id, &archive).await?;
        let (ops, by) = (self.clone(), authority.clone());
        // Whoever asked may go away at any moment, and what is recorded is to be worked on at once.
        let begun = tokio::spawn(async move { ops.begin_restore(&by, &found, archive).await });
        let operation = match begun.await {
            Ok(begun) => begun?,
            Err(error) => return Err(BackupStoreError::Folder(io::Error::other(error)).into()),
        };
        let ended = self.work_on(operation, told).await?.ok_or(TenantError::NotFound)?;
        require_done(ended)?;
        Ok(self.get_tenant(authority, &tenant.id.into()).await?)
    }

    async fn require_same_version(&self, tenant: TenantId, archive: &Unpacker) -> Result<(), BackupError> {
        let home = reach_home(self, tenant).await.map_err(PortError::from)?;
        let installation = self.catalog().installation();
        match has_same_version(&home.client, installation, &home.place, archive).await? {
            true => Ok(()),
            false => Err(BackupError::OtherVersion),
        }
    }

    /// Records the restore and that the tenant is suspended, and takes the operation in the same transaction: it goes on here, with the
    /// archive that was read.
    async fn begin_restore(
        &self,
        authority: &Authority,
        found: &Backup,
        archive: Unpacker,
    ) -> Result<OperationId, BackupError> {
        let (id, tenant) = (secret::operation_id(), found.tenant);
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await.map_err(CatalogError::from)?;
        let before = tenant::lock(&transaction, tenant).await?;
        let before = before.ok_or(TenantError::NotFound)?;
        require_rows(before.state)?;
        let input = RestoreInput {
            backup: found.id,
            let_in: before.state == TenantState::Active,
        };
        let new = NewOperation {
            id,
            kind: OperationKind::Restore,
            tenant: Some(tenant),
            database: None,
            input: &json!(input),
            run_after: None,
        };
        if !operation::insert(&transaction, &new).await? {
            return Err(busy(&transaction, tenant).await?.into());
        }
        if input.let_in {
            suspend(&transaction, tenant).await?;
        }
        let taken = Journal::take_with(self, &transaction, id, archive).await?;
        record(&transaction, authority, found, &input, id).await?;
        transaction.commit().await.map_err(CatalogError::from)?;
        if let Some(taken) = taken {
            let ops = self.clone();
            tokio::spawn(async move { ops.run_taken(taken).await });
        }
        Ok(id)
    }
}

/// It has rows, and nobody has decided that they go.
fn require_rows(state: TenantState) -> Result<(), TenantError> {
    match state {
        TenantState::Active | TenantState::Suspended => Ok(()),
        state => Err(TenantError::State {
            state,
            needs: "only an active or suspended tenant's rows can be replaced",
        }),
    }
}

async fn busy(transaction: &Transaction<'_>, tenant: TenantId) -> Result<TenantError, CatalogError> {
    let live = operation::find_live(transaction, tenant).await?;
    // The tenant's row is held, so that none begins meanwhile; one may have ended.
    Ok(live.map_or(TenantError::NotFound, |live| TenantError::Busy {
        operation: live.id,
        kind: live.kind,
    }))
}

async fn suspend(transaction: &Transaction<'_>, tenant: TenantId) -> Result<(), BackupError> {
    match tenant::set_state(transaction, tenant, TenantState::Active, TenantState::Suspended).await? {
        Changed::Yes => Ok(change::announce(transaction, Change::Tenant(tenant)).await?),
        // The row is locked and its state was read under the lock.
        Changed::No | Changed::Clash(_) => Err(TenantError::NotFound.into()),
    }
}

async fn record(
    transaction: &Transaction<'_>,
    authority: &Authority,
    found: &Backup,
    input: &RestoreInput,
    operation: OperationId,
) -> Result<(), CatalogError> {
    let target = found.tenant.to_string();
    if input.let_in {
        let act = Act {
            action: "tenant.suspend",
            tenant: Some(found.tenant),
            target: target.clone(),
            before: Some(json!({ "state": TenantState::Active })),
            after: Some(json!({ "state": TenantState::Suspended })),
        };
        audit::record(transaction, authority, act).await?;
    }
    let after = json!({
        "backup": found.id, "taken_at": found.taken_at, "rows": found.rows, "operation": operation.to_string()
    });
    let act = Act {
        action: "tenant.restore",
        tenant: Some(found.tenant),
        target,
        before: None,
        after: Some(after),
    };
    audit::record(transaction, authority, act).await
}

/// Why it did nothing, in the words in which it was refused.
fn require_done(ended: Operation) -> Result<(), BackupError> {
    if ended.state == OperationState::Done {
        return Ok(());
    }
    let message = ended.error.unwrap_or_else(|| ended.state.to_string());
    Err(match ended.error_code.as_deref() {
        Some(OTHER_VERSION) => BackupError::OtherVersion,
        Some(IN_USE) => BackupError::InUse {
            transactions: serde_json::from_value(ended.progress["transactions"].clone()).unwrap_or_default(),
        },
        code => BackupError::Tenant(TenantError::Failed {
            operation: ended.id,
            code: code.map_or_else(|| ended.state.to_string(), str::to_owned),
            message,
        }),
    })
}

/// Whether the tenant's tables have the archive's migrations.
pub(crate) async fn has_same_version(
    client: &Client,
    installation: &InstallationId,
    place: &Place,
    archive: &Unpacker,
) -> Result<bool, ArchiveError> {
    let now = Snapshot::begin(client, installation, place).await?;
    let had = archive.manifest();
    let same = (&now.migrations, &now.own_migrations) == (&had.migrations, &had.own_migrations);
    now.end().await?;
    Ok(same)
}
