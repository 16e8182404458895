//! Puts a backup in the place of the rows that a tenant has. Nobody reads or writes there meanwhile, and nobody is let in who was not served
//! before.
//!
//! The rows and what the fence says of them are one commit: suspended, they are those of before; waiting, they are the backup's. So whoever
//! takes the operation over knows which, whenever its runner was killed; until that commit it can be called off, and from it on it only goes on.

use serde_json::json;
use tenantry_catalog::{
    Db, change,
    operation::{self, Operation, OperationState},
    placement::Located,
    tenant::{self, Changed},
};
use tenantry_core::{Change, TenantId, TenantState};
use tenantry_engine::{
    archive::{self, Unpacker},
    fence::{self, Behind, Closed, State, Wait},
    migrate,
};
use tokio_postgres::Client;

use super::{
    Failure, Journal, chain, fence as suspension,
    load::{Told, place, tell_meanwhile},
    site::{Site, target},
    steered::stop_is_wanted,
};
use crate::{
    Authority, BackupError, Ops,
    audit::{self, Act},
    backups::{RestoreInput, has_same_version},
    failpoint,
};

/// The steps in order; failpoints stand before and after each.
pub(super) const STEPS: &[&str] = &["fence", "drain", "load", "beside", "open", "activate"];

/// Somebody writes there, and does not end.
pub(crate) const IN_USE: &str = "tenant_in_use";
/// The tables have other migrations than the backup.
pub(crate) const OTHER_VERSION: &str = "other_version";
/// An operator called it off.
const ABORTED: &str = "aborted";

/// Whether the rows may still be those of before: the step in which they become others may have been broken off.
pub(crate) fn may_be_called_off(step: &str) -> bool {
    matches!(step, "" | "fence" | "drain" | "load")
}

pub(super) async fn forward(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    let restore = Restore::reach(ops, journal).await?;
    if may_be_called_off(&journal.operation.step) {
        tokio::select! {
            outcome = restore.replace() => outcome?,
            // The connection goes with what is dropped here. Whether it was committed before, whoever undoes it finds out.
            _ = stop_is_wanted(ops, journal) => {
                return Err(Failure::permanent(ABORTED, "an operator called the restore off"));
            }
        }
    }
    restore.go_on().await
}

/// Until the rows are the backup's. Looked up, since this runner may have come further than where it began.
pub(super) async fn may_be_undone(ops: &Ops, journal: &Journal) -> bool {
    let Ok(client) = ops.catalog().client().await else {
        return false;
    };
    let found = operation::find(&client, journal.operation.id).await;
    matches!(found, Ok(Some(found)) if may_be_called_off(&found.step))
}

/// Lets the tenant in again as it was, unless the rows are the backup's all the same: then there is nothing to go back to.
pub(super) async fn undo(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    let restore = Restore::reach(ops, journal).await?;
    failpoint::pass("restore.undo").await?;
    let now = restore.now().await?;
    // An undoing may have found the backup's rows before this one, and gone on. Before it was closed for this, its fence says nothing of them.
    let is_past = !may_be_called_off(&now.step);
    if is_past || now.step == "load" && restore.has_the_backups_rows().await? {
        return restore.go_on().await;
    }
    let let_in = RestoreInput::of(&now)?.let_in;
    restore.set_fence(let_in).await?;
    failpoint::pass("restore.undone").await?;
    let ended = match now.error_code.as_deref() {
        Some(ABORTED) => OperationState::Cancelled,
        _ => OperationState::Failed,
    };
    restore.end(let_in, ended).await
}

/// A tenant's home with the operation's turn taken, for as long as this is there: whoever takes over takes the same turn, and ends this
/// session, which rolls back what it did.
struct Restore<'a> {
    site: Site<'a>,
    located: Located,
    client: Client,
}

impl<'a> Restore<'a> {
    async fn reach(ops: &'a Ops, journal: &'a Journal) -> Result<Self, Failure> {
        let (site, located) = Site::of_tenant(ops, journal).await?;
        let client = site.connect().await?;
        site.take_turn(&client).await?;
        Ok(Self { site, located, client })
    }

    fn tenant(&self) -> TenantId {
        self.located.placement.tenant
    }

    /// Whether a later step was begun when this runner took the operation.
    fn has_passed(&self, step: &str) -> bool {
        let position = |step: &str| STEPS.iter().position(|known| *known == step);
        position(&self.site.journal.operation.step) > position(step)
    }

    async fn replace(&self) -> Result<(), Failure> {
        let journal = self.site.journal;
        if self.has_passed("drain") && self.has_the_backups_rows().await? {
            return Ok(());
        }
        if !self.has_passed("fence") {
            journal.begin("fence").await?;
            suspension::close_in_turn(&self.site, &self.located, &self.client).await?;
            journal.end("fence").await?;
        }
        if !self.has_passed("drain") {
            journal.begin("drain").await?;
            self.drain().await?;
            journal.end("drain").await?;
        }
        journal.arrive("load").await?;
        self.note_load().await?;
        self.load().await?;
        journal.end("load").await
    }

    /// Notes the step, and waits for the disk as other notes do not: the rows are committed in another server's log, perhaps, and must not
    /// outlive what says that they may be there.
    async fn note_load(&self) -> Result<(), Failure> {
        let mut client = self.site.ops.catalog().client().await?;
        let transaction = client.transaction().await?;
        self.site.journal.hold_step(&transaction, "load").await?;
        Ok(transaction.commit().await?)
    }

    /// Since the fence is closed, what its commit stands for.
    async fn has_the_backups_rows(&self) -> Result<bool, Failure> {
        let found = fence::read(&self.client, self.tenant()).await?;
        let epoch = self.located.placement.epoch;
        Ok(found.is_some_and(|found| found.epoch == epoch && found.state == State::Moving))
    }

    /// Whoever ended later would leave what they wrote among the backup's rows.
    async fn drain(&self) -> Result<(), Failure> {
        let wait = Wait {
            deadline: self.site.ops.fleet().restore_drain,
            force: false,
        };
        let transactions = match fence::wait_behind(&self.client, wait).await? {
            Behind::Nobody { .. } => return Ok(()),
            Behind::Transactions(transactions) => transactions,
        };
        let progress = json!({ "transactions": transactions });
        self.site.journal.note_progress(&progress).await?;
        let refused = BackupError::InUse { transactions };
        Err(Failure::permanent(IN_USE, refused.to_string()))
    }

    /// Loads the rows, in one transaction, while nobody migrates the tables: rows of an older version would stand in tables whose ledger says
    /// that they are of a newer one.
    async fn load(&self) -> Result<(), Failure> {
        let (site, place) = (&self.site, place(&self.located));
        let input = RestoreInput::of(&site.journal.operation)?;
        let archive = match site.journal.take_archive() {
            Some(archive) => archive,
            None => self.read_again(&input).await?,
        };
        let target = target(site.installation(), &site.database, &place.schema)?;
        migrate::hold_still(&self.client, &[&target], site.ops.fleet().patience.turn_timeout).await?;
        if !has_same_version(&self.client, site.installation(), &place, &archive).await? {
            return Err(Failure::permanent(OTHER_VERSION, BackupError::OtherVersion.to_string()));
        }
        let (told, of) = (Told::default(), archive.manifest().rows());
        let mut rows_in_all = 0;
        let mut progress = |number: usize, table: &str, rows: u64| {
            rows_in_all += rows;
            let news = json!({ "tables": number + 1, "table": table, "rows": rows_in_all, "rows_of": of });
            told.lock().news = Some(news);
        };
        let loading = async {
            let loading = archive::replace(&self.client, site.installation(), &place, &archive, &mut progress);
            loading.await.map_err(Failure::from)
        };
        tell_meanwhile(site, &told, loading).await
    }

    /// The process that read it before has ended. Where the backup stands in a folder of that one's machine, only a process there can go on.
    async fn read_again(&self, input: &RestoreInput) -> Result<Unpacker, Failure> {
        let opened = self.site.ops.open_backup(input.backup).await;
        opened.map_err(|error| match error {
            BackupError::NoStore | BackupError::Store(_) => Failure::retry(
                "backup_unreachable",
                format!(
                    "this process can't read the backup {}, and one that can goes on: {}",
                    input.backup,
                    chain(&error)
                ),
            ),
            error => error.into(),
        })
    }

    /// From here on there is no way back.
    async fn go_on(&self) -> Result<(), Failure> {
        let journal = self.site.journal;
        if !self.has_passed("beside") {
            journal.begin("beside").await?;
            self.outdate_besides().await;
            journal.end("beside").await?;
            journal.arrive("open").await?;
            self.note_restored().await?;
        }
        journal.note("open").await?;
        let let_in = RestoreInput::of(&self.now().await?)?.let_in;
        self.set_fence(let_in).await?;
        journal.end("open").await?;
        journal.begin("activate").await?;
        self.end(let_in, OperationState::Done).await
    }

    /// Before anybody is let in again: nobody else knows that what was made of the rows of before is too old by now.
    async fn outdate_besides(&self) {
        let tenant = self.tenant();
        for beside in &self.site.ops.fleet().besides {
            if let Err(error) = beside.outdate(tenant).await {
                tracing::error!(
                    tenant.id = %tenant, beside = beside.name(), error = %chain(&*error),
                    "what a tenant has beside its rows may be older than those that were restored"
                );
            }
        }
    }

    /// Said once: in the transaction that is the next step.
    async fn note_restored(&self) -> Result<(), Failure> {
        let (ops, journal, tenant) = (self.site.ops, self.site.journal, self.tenant());
        let mut client = ops.catalog().client().await?;
        let transaction = client.transaction().await?;
        journal.hold_step(&transaction, "open").await?;
        let act = Act {
            action: "tenant.restored",
            tenant: Some(tenant),
            target: tenant.to_string(),
            before: None,
            after: Some(
                json!({ "backup": journal.operation.input["backup"], "operation": journal.operation.id.to_string() }),
            ),
        };
        audit::record(&transaction, &Authority::system("operation"), act).await?;
        Ok(transaction.commit().await?)
    }

    async fn set_fence(&self, let_in: bool) -> Result<(), Failure> {
        let (tenant, epoch) = (self.tenant(), self.located.placement.epoch);
        match let_in {
            true => fence::open(&self.client, tenant, epoch).await?,
            false => fence::close(&self.client, tenant, epoch, Closed::Suspended).await?,
        }
        Ok(())
    }

    /// The operation as the catalog has it now: an operator may have suspended the tenant since.
    async fn now(&self) -> Result<Operation, Failure> {
        let client = self.site.ops.catalog().client().await?;
        self.read(&client).await
    }

    async fn read(&self, db: &impl Db) -> Result<Operation, Failure> {
        let found = operation::find(db, self.site.journal.operation.id).await?;
        found.ok_or(Failure::LeaseLost)
    }

    /// Ends the operation; the tenant is served from then on, if its fence is open.
    async fn end(&self, let_in: bool, ended: OperationState) -> Result<(), Failure> {
        let (ops, journal, tenant) = (self.site.ops, self.site.journal, self.tenant());
        let mut client = ops.catalog().client().await?;
        let transaction = client.transaction().await?;
        journal.hold(&transaction).await?;
        // Under the tenant's row, as whoever suspends it says so.
        if RestoreInput::of(&self.read(&transaction).await?)?.let_in != let_in {
            let message = "an operator suspended the tenant meanwhile: its fence is closed again";
            return Err(Failure::retry("suspended", message));
        }
        if !let_in {
            journal.finish(&transaction, ended).await?;
            return Ok(transaction.commit().await?);
        }
        match tenant::set_state(&transaction, tenant, TenantState::Suspended, TenantState::Active).await? {
            Changed::Yes => {}
            Changed::No | Changed::Clash(_) => {
                return Err(Failure::retry("tenant_gone", "the tenant is not suspended any more"));
            }
        }
        change::announce(&transaction, Change::Tenant(tenant)).await?;
        journal.finish(&transaction, ended).await?;
        let act = Act {
            action: "tenant.resume",
            tenant: Some(tenant),
            target: tenant.to_string(),
            before: Some(json!({ "state": TenantState::Suspended })),
            after: Some(json!({ "state": TenantState::Active })),
        };
        audit::record(&transaction, &Authority::system("operation"), act).await?;
        Ok(transaction.commit().await?)
    }
}
