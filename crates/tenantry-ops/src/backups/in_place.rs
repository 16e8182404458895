//! A backup in the place of the rows that the tenant has.

use std::time::{Duration, Instant};

use serde_json::json;
use tenantry_catalog::{
    CatalogError, backup,
    operation::{self, OperationKind},
};
use tenantry_core::{OperationId, OperatorScope, TenantId, TenantState};
use tenantry_engine::{
    archive::{self, ArchiveError, Unpacker},
    fence::{self, Behind, Closed, Wait},
    migrate, turn,
};
use uuid::Uuid;

use super::{BackupError, BackupStoreError};
use crate::{
    Authority, Ops, PortError, Tenant, TenantError,
    audit::{self, Act},
    runner::{self, Failure, Reached, chain, reach_home},
};

/// How long another runner's work on the tenant may take before its session counts as left behind.
const TURN: Duration = Duration::from_secs(3);

/// How long it is tried to let a tenant in again whose suspension is still under way.
const LET_IN: Duration = Duration::from_secs(10);
/// How often.
const LET_IN_LOOK: Duration = Duration::from_millis(100);

impl Ops {
    /// Puts a backup's rows in the place of the tenant's own, in one transaction; nobody writes there meanwhile. Other tenants, in the
    /// same tables too, notice nothing.
    ///
    /// The tenant is suspended, and its transactions that are open are waited for
    /// ([`FleetConfig::restore_drain`](crate::FleetConfig::restore_drain)): one that ended later would leave what it wrote among the backup's
    /// rows. A tenant that somebody else has suspended stays so, and one that is deleted meanwhile stays deleted.
    ///
    /// A process that is killed in between leaves the tenant suspended, with all of its old rows or all of its new ones: do it again,
    /// or resume it.
    ///
    /// # Errors
    /// See [`BackupError`]; the rows are then as they were, and the tenant is served as before. Only where the catalog fails at the very
    /// end the rows may have been replaced without a word in the audit log; then this process logs it.
    ///
    /// # Cancel safety
    /// Once begun it goes on by itself.
    pub async fn restore_backup_in_place(&self, authority: &Authority, id: Uuid) -> Result<Tenant, BackupError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let (ops, authority) = (self.clone(), authority.clone());
        // Whoever asked may not wait for the end, and the tenant has to be let in again all the same.
        let restoring = tokio::spawn(async move { ops.restore_in_place(&authority, id).await });
        match restoring.await {
            Ok(outcome) => outcome,
            Err(error) => Err(BackupStoreError::Folder(std::io::Error::other(error)).into()),
        }
    }

    async fn restore_in_place(&self, authority: &Authority, id: Uuid) -> Result<Tenant, BackupError> {
        let found = self.find_backup(id).await?;
        let before = self.get_tenant(authority, &found.tenant.into()).await?;
        // Before the tenant is stopped: reading a large one takes a while, and it may not open.
        let archive = self.open_backup(id).await?;
        self.require_same_version(before.id, &archive).await?;
        let suspension = match before.state {
            TenantState::Active => self.begin_suspension(authority, before.id).await?,
            _ => None,
        };
        let replaced = self
            .replace_rows(authority, before.id, suspension, &found, &archive)
            .await;
        let resumed = match suspension {
            Some(_) => self.let_in_again(authority, before.id).await,
            None => Ok(()),
        };
        if let (Err(_), Err(error)) = (&replaced, &resumed) {
            // Why its rows could not be replaced is what the caller is told.
            tracing::error!(tenant.id = %before.id, %error, "a tenant stays suspended after a restore in its place failed");
        }
        replaced?;
        resumed?;
        Ok(self.get_tenant(authority, &before.id.into()).await?)
    }

    /// A suspension that could not be finished in time is waited for: nothing else can be done with the tenant until then.
    async fn let_in_again(&self, authority: &Authority, tenant: TenantId) -> Result<(), TenantError> {
        let deadline = Instant::now() + LET_IN;
        loop {
            match self.end_suspension(authority, tenant).await {
                Err(TenantError::Busy {
                    kind: OperationKind::Suspend,
                    ..
                }) if Instant::now() < deadline => tokio::time::sleep(LET_IN_LOOK).await,
                outcome => return outcome,
            }
        }
    }

    async fn require_same_version(&self, tenant: TenantId, archive: &Unpacker) -> Result<(), BackupError> {
        let home = reach_home(self, tenant).await.map_err(PortError::from)?;
        let installation = self.catalog().installation();
        let now = archive::Snapshot::begin(&home.client, installation, &home.place).await?;
        let had = archive.manifest();
        let same = (&now.migrations, &now.own_migrations) == (&had.migrations, &had.own_migrations);
        now.end().await?;
        if same { Ok(()) } else { Err(BackupError::OtherVersion) }
    }

    async fn replace_rows(
        &self,
        authority: &Authority,
        tenant: TenantId,
        suspension: Option<OperationId>,
        found: &backup::Backup,
        archive: &Unpacker,
    ) -> Result<(), BackupError> {
        if let Some(suspension) = suspension {
            self.finish_operation(suspension).await?;
        }
        let home = self.hold_still(authority, tenant).await?;
        self.keep_version(&home, archive).await?;
        let installation = self.catalog().installation();
        let (client, place) = (&home.client, &home.place);
        archive::load(client, installation, place, archive, None, &mut |_, _, _| {}).await?;
        self.outdate_besides(tenant).await;
        let noted = self.note_restore(authority, tenant, found).await;
        if let Err(error) = &noted {
            tracing::error!(
                tenant.id = %tenant, backup.id = %found.id, error = %chain(error),
                "a tenant's rows were replaced by those of a backup, and the audit log does not say so"
            );
        }
        noted
    }

    /// Before anybody is let in again: nobody else knows that what was made of the rows of before is too old by now.
    async fn outdate_besides(&self, tenant: TenantId) {
        for beside in &self.fleet().besides {
            if let Err(error) = beside.outdate(tenant).await {
                tracing::error!(
                    tenant.id = %tenant, beside = beside.name(), error = %chain(&*error),
                    "what a tenant has beside its rows may be older than those that were restored"
                );
            }
        }
    }

    async fn note_restore(
        &self,
        authority: &Authority,
        tenant: TenantId,
        found: &backup::Backup,
    ) -> Result<(), BackupError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await.map_err(CatalogError::from)?;
        let act = Act {
            action: "tenant.restore",
            tenant: Some(tenant),
            target: tenant.to_string(),
            before: None,
            after: Some(json!({ "backup": found.id, "taken_at": found.taken_at, "rows": found.rows })),
        };
        audit::record(&transaction, authority, act).await?;
        Ok(transaction.commit().await.map_err(CatalogError::from)?)
    }

    /// Lets nobody migrate the tenant's tables for as long as the connection lives, and looks whether somebody did since they were looked
    /// at first: rows of an older version would stand in tables whose ledger says that they are of a newer one.
    async fn keep_version(&self, home: &Reached, archive: &Unpacker) -> Result<(), BackupError> {
        let target = runner::target(self.catalog().installation(), &home.database, &home.place.schema);
        let (target, patience) = (target.map_err(PortError::from)?, self.fleet().patience.turn_timeout);
        let held = migrate::hold_still(&home.client, &[&target], patience).await;
        held.map_err(|error| PortError::from(Failure::from(error)))?;
        self.require_same_version(home.place.tenant, archive).await
    }

    /// The tenant's home, where nobody reads or writes it for as long as the connection lives: whoever resumes, moves or purges the
    /// tenant meanwhile takes the same turn, and ends this session, which rolls back what it did.
    async fn hold_still(&self, authority: &Authority, tenant: TenantId) -> Result<Reached, BackupError> {
        // Before the turn is taken, which would end the session of a move that is lawfully at it.
        self.require_rest(authority, tenant).await?;
        let home = reach_home(self, tenant).await.map_err(PortError::from)?;
        let turned = turn::take(&home.client, runner::lock_key(tenant), TURN).await;
        turned.map_err(ArchiveError::from)?;
        // And once more: one that began before may have ended since, and the tenant lives elsewhere.
        self.require_rest(authority, tenant).await?;
        let now = reach_home(self, tenant).await.map_err(PortError::from)?;
        if now.place.epoch != home.place.epoch {
            return Err(ArchiveError::Moved.into());
        }
        let closed = fence::close(&home.client, tenant, home.place.epoch, Closed::Suspended).await;
        closed.map_err(ArchiveError::from)?;
        let wait = Wait {
            deadline: self.fleet().restore_drain,
            force: false,
        };
        let behind = fence::wait_behind(&home.client, wait).await;
        match behind.map_err(ArchiveError::from)? {
            Behind::Nobody { .. } => Ok(home),
            Behind::Transactions(transactions) => Err(BackupError::InUse { transactions }),
        }
    }

    /// It has to be suspended, and nothing may be under way with it.
    async fn require_rest(&self, authority: &Authority, tenant: TenantId) -> Result<(), BackupError> {
        let now = self.get_tenant(authority, &tenant.into()).await?;
        if now.state != TenantState::Suspended {
            return Err(BackupError::Tenant(TenantError::State {
                state: now.state,
                needs: "it has to be suspended while its rows are replaced",
            }));
        }
        let client = self.catalog().client().await?;
        match operation::find_live(&client, tenant).await? {
            None => Ok(()),
            Some(live) => Err(BackupError::Tenant(TenantError::Busy {
                operation: live.id,
                kind: live.kind,
            })),
        }
    }
}
