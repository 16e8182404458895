//! Brings one placement up to date.

use tokio_postgres::Client;

use super::{
    Mode, data, ledger,
    locks::with_locks,
    progress,
    run::{self, Failure, OneGo},
    target::{Patience, Target, TenantContext},
    tenants::{ListError, ListTenants, Tenants},
    turn::{take_turn, turn_key},
};
use crate::isolate::{Derived, Finished, Version, in_order};
use tenantry_core::TenantId;

/// Why a placement is not up to date. What was applied before stays.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A file was changed after it had been applied here.
    #[error(
        "`{name}` was changed after it had been applied to schema `{schema}`: undo the change and write a new migration"
    )]
    Edited {
        /// The file.
        name: String,
        /// Where.
        schema: String,
    },
    /// A file was changed after some of it had been applied here, and some not.
    #[error(
        "`{name}` was changed after some of it had been applied to schema `{schema}`: undo the change and apply it again, or, where it \
         can't end as it was, take back by hand what it did and delete its rows in tenantry_private.migration_step and migration_tenant"
    )]
    EditedHalfway {
        /// The file.
        name: String,
        /// Where.
        schema: String,
    },
    /// Some of a file was applied here by a program that made other steps of it, and how far it came says nothing of these.
    #[error(
        "`{name}` is half applied to schema `{schema}`, by a program that made other steps of it: end it with that one, or take back by hand \
         what it did and delete its rows in tenantry_private.migration_step and migration_tenant"
    )]
    OtherSteps {
        /// The file.
        name: String,
        /// Where.
        schema: String,
    },
    /// The placement has a migration that these files lack.
    #[error(
        "schema `{schema}` has migration `{name}`, which is not among these files: deploy the version of the application that has it"
    )]
    Unknown {
        /// The file, as the ledger names it.
        name: String,
        /// Where.
        schema: String,
    },
    /// A migration was added below one that is applied.
    #[error("`{name}` is older than `{applied}`, which schema `{schema}` already has: give it the next free number")]
    OutOfOrder {
        /// The new file.
        name: String,
        /// The newest applied one.
        applied: String,
        /// Where.
        schema: String,
    },
    /// A step failed; its version left nothing behind.
    #[error("{file}:{line}: {message}")]
    Step {
        /// The file.
        file: String,
        /// The line in it.
        line: u32,
        /// PostgreSQL's words.
        message: String,
    },
    /// The locks could not be had.
    #[error("`{file}` did not get its locks (attempts: {attempts}): try again when long transactions have ended")]
    Locked {
        /// The file.
        file: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// Another applier works on this placement and did not end in time.
    #[error("another process is migrating schema `{0}`: wait for it, or look for its connection in pg_stat_activity")]
    Busy(String),
    /// Tenants that were being made in the placement did not get done in time.
    #[error(
        "tenants are being made in schema `{0}` and do not get done: wait for them, or look for their connections in pg_stat_activity"
    )]
    Arriving(String),
    /// Whose data there is to migrate could not be found out.
    #[error("the tenants could not be listed")]
    Tenants(#[source] ListError),
    /// The connection failed.
    #[error("the tenant database failed")]
    Database(#[from] tokio_postgres::Error),
}

/// What [`apply`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// The versions that were pending and are applied now.
    pub versions: Vec<i64>,
}

/// Applies what is pending in one placement, each version in a transaction of its own, with its ledger row.
///
/// `client` is an administrator's connection that nobody else uses meanwhile. `tenants` are those that live in the placement;
/// `context` opens their contexts for files that declare data. Running it again changes nothing.
///
/// # Errors
///
/// An edited, missing or out-of-order file; a step that fails, with its file and line, and nothing of its version left behind.
///
/// # Cancel safety
///
/// Dropping the future leaves the open version to be rolled back with the connection; close it and apply again.
pub async fn apply(
    client: &Client,
    target: &Target,
    derived: &Derived,
    tenants: &[TenantId],
    context: &dyn TenantContext,
    patience: &Patience,
) -> Result<Applied, ApplyError> {
    apply_with_own(client, target, derived, None, tenants, context, patience).await
}

/// The same where tenants come and go meanwhile: those that the list tells have everything when it is recorded.
///
/// Whoever makes a tenant there has to see to it that it [arrives](super::arrive).
///
/// # Errors
///
/// As [`apply()`]; also where the list can't be had.
///
/// # Cancel safety
///
/// As [`apply()`].
pub async fn apply_where_tenants_come(
    client: &Client,
    target: &Target,
    derived: &Derived,
    tenants: &dyn ListTenants,
    context: &dyn TenantContext,
    patience: &Patience,
) -> Result<Applied, ApplyError> {
    taking_turn(
        client,
        target,
        derived,
        None,
        Tenants::Listed(tenants),
        context,
        patience,
    )
    .await
}

/// The same with files of one tenant's own: each behind the fleet's migration that it was written on top of, as long as the
/// placement is not beyond that.
///
/// # Errors
///
/// As [`apply()`].
///
/// # Cancel safety
///
/// As [`apply()`].
pub async fn apply_with_own(
    client: &Client,
    target: &Target,
    derived: &Derived,
    own: Option<&Derived>,
    tenants: &[TenantId],
    context: &dyn TenantContext,
    patience: &Patience,
) -> Result<Applied, ApplyError> {
    taking_turn(client, target, derived, own, Tenants::These(tenants), context, patience).await
}

async fn taking_turn(
    client: &Client,
    target: &Target,
    derived: &Derived,
    own: Option<&Derived>,
    tenants: Tenants<'_>,
    context: &dyn TenantContext,
    patience: &Patience,
) -> Result<Applied, ApplyError> {
    take_turn(client, target, patience).await?;
    let outcome = apply_in_turn(client, target, derived, own, tenants, context, patience).await;
    // Where this fails the connection is gone, and the lock with it.
    let _ = client
        .batch_execute(&format!("select pg_advisory_unlock({})", turn_key(target)))
        .await;
    outcome
}

async fn apply_in_turn(
    client: &Client,
    target: &Target,
    derived: &Derived,
    own: Option<&Derived>,
    tenants: Tenants<'_>,
    context: &dyn TenantContext,
    patience: &Patience,
) -> Result<Applied, ApplyError> {
    let fleet = pending(client, target, derived).await?;
    let mut theirs = Vec::new();
    if let Some(own) = own {
        theirs = pending(client, target, own).await?;
    }
    let mut pending = in_order(fleet.iter().copied(), theirs);
    let applied = Applied {
        versions: pending.iter().map(|version| version.version).collect(),
    };
    let is_new = fleet.len() == derived.versions.len() && !is_overlay(derived);
    if is_new {
        let at_once = pending.iter().take_while(|version| !version.is_overlay()).count();
        // What all of the fleet's files make together does where none of the tenant's own comes in between.
        let finished = derived.finished.as_ref().filter(|_| at_once == derived.versions.len());
        if provision(client, target, finished, &pending[..at_once], patience).await? == OneGo::Applied {
            pending.drain(..at_once);
        } else {
            let left = self::pending(client, target, derived).await?;
            pending.retain(|version| version.is_overlay() || left.iter().any(|left| left.version == version.version));
        }
    }
    for version in pending {
        // What is the fleet's has no tenant's rows to change in a placement made just now.
        let whose = match is_new && !version.is_overlay() {
            true => Tenants::These(&[]),
            false => tenants,
        };
        one(client, target, version, whose, context, patience).await?;
    }
    // A placement made just now skipped the seeds.
    if is_new && derived.seeds().next().is_some() {
        for tenant in tenants.settled(client, target, patience).await.map_err(explain)? {
            data::seed(client, target, derived, tenant, context, patience).await?;
        }
    }
    Ok(applied)
}

/// Everything in one message, where no table holds a row: nothing to look at, nobody to wait for.
async fn provision(
    client: &Client,
    target: &Target,
    finished: Option<&Finished>,
    versions: &[&Version],
    patience: &Patience,
) -> Result<OneGo, ApplyError> {
    install(client, versions).await?;
    // The finished form first; where that does not go, on another version of PostgreSQL, what it was made from.
    for finished in finished.map(Some).into_iter().chain([None]) {
        let made = with_locks(client, target, patience, || {
            run::fresh(client, target, versions, finished, patience)
        });
        if made.await.map_err(explain)? == OneGo::Applied {
            return Ok(OneGo::Applied);
        }
        if finished.is_some() {
            tracing::debug!(schema = target.schema.as_str(), "its migrations are replayed");
        }
    }
    Ok(OneGo::NotThisWay)
}

async fn one(
    client: &Client,
    target: &Target,
    version: &Version,
    tenants: Tenants<'_>,
    context: &dyn TenantContext,
    patience: &Patience,
) -> Result<(), ApplyError> {
    install(client, &[version]).await?;
    let outcome = match version.mode {
        Mode::Schema | Mode::AllTenants if version.transaction => {
            // It may have been one of steps before it was edited.
            progress::done(client, target, version).await.map_err(explain)?;
            with_locks(client, target, patience, || {
                run::in_transaction(client, target, version, patience)
            })
            .await
        }
        Mode::Schema | Mode::AllTenants => run::step_by_step(client, target, version, patience).await,
        Mode::EachTenant | Mode::Seed => data::each(client, target, version, tenants, context, patience).await,
    };
    outcome.map_err(explain)
}

/// One tenant's own files come on top of tables that may hold rows.
fn is_overlay(derived: &Derived) -> bool {
    derived.versions.iter().any(|version| version.is_overlay())
}

/// The versions that the ledger lacks.
pub(super) async fn pending<'a>(
    client: &Client,
    target: &Target,
    derived: &'a Derived,
) -> Result<Vec<&'a Version>, ApplyError> {
    let schema = target.schema.as_str();
    let ledger = ledger::read(client, &ledger::name(schema, is_overlay(derived))).await?;
    for row in ledger.values() {
        let version = derived.versions.iter().find(|version| version.version == row.version);
        let Some(version) = version else {
            return Err(ApplyError::Unknown {
                name: row.name.clone(),
                schema: schema.to_owned(),
            });
        };
        if version.checksum != row.checksum {
            return Err(ApplyError::Edited {
                name: version.name.clone(),
                schema: schema.to_owned(),
            });
        }
    }
    let pending: Vec<_> = derived
        .versions
        .iter()
        .filter(|version| !ledger.contains_key(&version.version))
        .collect();
    if let (Some(first), Some((newest, row))) = (pending.first(), ledger.last_key_value())
        && first.version < *newest
    {
        return Err(ApplyError::OutOfOrder {
            name: first.name.clone(),
            applied: row.name.clone(),
            schema: schema.to_owned(),
        });
    }
    Ok(pending)
}

/// Extensions stand once per database, installed by the administrator before a version needs them.
pub(crate) async fn install(client: &Client, versions: &[&Version]) -> Result<(), ApplyError> {
    for version in versions {
        for name in &version.extensions {
            // PostgreSQL took it as a name when it was derived.
            let Ok(extension) = tenantry_sql::Identifier::new(name) else {
                continue;
            };
            let text = format!(
                "set client_min_messages = warning; create extension if not exists {extension} schema tenantry_ext cascade"
            );
            client.batch_execute(&text).await.map_err(|error| match error.as_db_error() {
                Some(said) => ApplyError::Step {
                    file: version.name.clone(),
                    line: 1,
                    message: format!(
                        "the extension `{name}` can't be installed: {}; install it in `tenantry_ext` once as superuser",
                        said.message()
                    ),
                },
                None => error.into(),
            })?;
        }
    }
    Ok(())
}

pub(super) fn explain(failure: Failure) -> ApplyError {
    match failure {
        Failure::Locked { file, attempts } => ApplyError::Locked { file, attempts },
        Failure::Step { file, line, message } => ApplyError::Step { file, line, message },
        Failure::EditedHalfway { file, schema } => ApplyError::EditedHalfway { name: file, schema },
        Failure::OtherSteps { file, schema } => ApplyError::OtherSteps { name: file, schema },
        Failure::Tenants(error) => ApplyError::Tenants(error),
        Failure::Arriving(schema) => ApplyError::Arriving(schema),
        Failure::Database(error) => ApplyError::Database(error),
    }
}
