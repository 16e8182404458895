//! A roll-out as an operation: asked for by one process, run by any, resumed where one was killed.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tenantry_catalog::operation::{self, NewOperation, Operation, OperationKind, OperationState};
use tenantry_core::{OperationId, OperatorScope};
use tenantry_engine::migrate::LintFinding;
use uuid::Uuid;

use super::{
    DriftState, Ended, MigrationError, Rehearsal, Rollout, RolloutProgress, SiteDifference, SiteStatus, VerifiedSite,
    Verify, Went, rollout::waves, state, verify::wanted,
};
use crate::{
    Authority, Ops,
    audit::{self, Act},
};

/// How many schemas that stayed behind stand in an operation's progress; the status tells of all.
const LISTED_MAX: usize = 100;

/// A roll-out that is asked for, as it is stored with its operation.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutRequest {
    /// Only these tenants, by slug; all where it is empty.
    pub tenants: Vec<String>,
    /// Only schemas whose last attempt failed.
    pub only_failed: bool,
    /// Tenants that go first, by slug.
    pub canaries: Vec<String>,
    /// Labels whose tenants go next, `name=value`, a wave each.
    pub wave_of: Vec<String>,
    /// Up to how many percent each wave reaches.
    pub waves: Vec<u8>,
    /// How many seconds to wait between waves.
    pub pause_seconds: u32,
    /// How many failures are too many: a number or a share, `1%`.
    pub max_failures: Option<String>,
    /// Connections to one server; the usual number where nothing is said, which an older program understands too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_server: Option<NonZeroU16>,
    /// The same in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<NonZeroU16>,
}

/// A comparison that is asked for, as it is stored with its operation.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyRequest {
    /// Only these tenants, by slug; everything where it is empty.
    pub tenants: Vec<String>,
    /// Whether to run what is safe.
    pub repair: bool,
}

impl VerifyRequest {
    /// What is meant.
    #[must_use]
    pub fn verify(&self) -> Verify {
        Verify {
            only: self.tenants.clone(),
            repair: self.repair,
        }
    }
}

/// Which field of a request says what can't be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct RolloutFieldError {
    /// The field.
    pub field: &'static str,
    /// What it should be.
    pub reason: String,
}

impl RolloutRequest {
    /// The roll-out that is meant.
    ///
    /// # Errors
    /// The field that says nothing.
    pub fn rollout(&self) -> Result<Rollout, RolloutFieldError> {
        let mut rollout = Rollout {
            only: self.tenants.clone(),
            only_failed: self.only_failed,
            canaries: self.canaries.clone(),
            waves: self.waves.clone(),
            pause: std::time::Duration::from_secs(self.pause_seconds.into()),
            ..Rollout::default()
        };
        for label in &self.wave_of {
            rollout
                .labels
                .push(label.parse().map_err(|error| field("wave_of", error))?);
        }
        if let Some(text) = &self.max_failures {
            rollout.budget = text.parse().map_err(|error| field("max_failures", error))?;
        }
        if let Some(connections) = self.per_server {
            rollout.per_server = connections.get().into();
        }
        if let Some(connections) = self.connections {
            rollout.connections_max = connections.get().into();
        }
        Ok(rollout)
    }
}

fn field(field: &'static str, reason: impl std::fmt::Display) -> RolloutFieldError {
    RolloutFieldError {
        field,
        reason: reason.to_string(),
    }
}

impl Ops {
    /// Asks for a roll-out over the fleet; whichever process runs operations does it. What can't be is refused here.
    ///
    /// # Errors
    /// See [`MigrationError`]; [`MigrationError::Running`] or [`MigrationError::Paused`] while another one has not ended.
    pub async fn start_rollout(
        &self,
        authority: &Authority,
        request: &RolloutRequest,
    ) -> Result<Operation, MigrationError> {
        authority.require_operator(OperatorScope::Migrations)?;
        let rollout = request.rollout()?;
        let derived = self.derive_migrations().await?.ok_or(MigrationError::NoMigrations)?;
        let all = self.fleet_state(&derived).await?;
        waves(all, |state| !state::is_current(state, &derived), &rollout)?;
        let input = serde_json::to_value(request).map_err(|error| MigrationError::Server(error.to_string()))?;
        self.start(authority, OperationKind::Migrate, "migration.start", input)
            .await
    }

    /// Asks for a plan: what is pending runs on copies without rows, and the operation's progress tells what it did there.
    ///
    /// # Errors
    /// See [`MigrationError`]; [`MigrationError::Running`] while another plan has not ended.
    pub async fn start_plan(&self, authority: &Authority) -> Result<Operation, MigrationError> {
        authority.require_operator(OperatorScope::Migrations)?;
        self.derive_migrations().await?.ok_or(MigrationError::NoMigrations)?;
        self.start(authority, OperationKind::PlanMigrations, "migration.plan", json!({}))
            .await
    }

    /// Asks for a comparison of every schema with what its migrations make, and for the repair of what is safe where that is
    /// wanted.
    ///
    /// # Errors
    /// See [`MigrationError`]; [`MigrationError::Running`] while another one has not ended.
    pub async fn start_verify(
        &self,
        authority: &Authority,
        request: &VerifyRequest,
    ) -> Result<Operation, MigrationError> {
        authority.require_operator(OperatorScope::Migrations)?;
        let derived = self.derive_migrations().await?.ok_or(MigrationError::NoMigrations)?;
        wanted(self.fleet_state(&derived).await?, &request.verify())?;
        let input = serde_json::to_value(request).map_err(|error| MigrationError::Server(error.to_string()))?;
        self.start(authority, OperationKind::VerifyMigrations, "migration.verify", input)
            .await
    }

    /// An operation over the whole fleet, one of its kind at a time.
    async fn start(
        &self,
        authority: &Authority,
        kind: OperationKind,
        action: &'static str,
        input: Value,
    ) -> Result<Operation, MigrationError> {
        let new = NewOperation {
            id: OperationId::from_uuid(Uuid::now_v7()),
            kind,
            tenant: None,
            database: None,
            input: &input,
            run_after: None,
        };
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        // The catalog decides: whoever looked first could see none that another process begins and pauses meanwhile.
        if !operation::insert(&transaction, &new).await? {
            let live = operation::find_live_of_fleet(&transaction, kind).await?;
            let has_ended = || MigrationError::Server("another one has just ended: ask again".to_owned());
            return Err(live.as_ref().map_or_else(has_ended, already));
        }
        let act = Act {
            action,
            tenant: None,
            target: new.id.to_string(),
            before: None,
            after: Some(input.clone()),
        };
        audit::record(&transaction, authority, act).await?;
        let made = operation::find(&transaction, new.id).await?;
        transaction.commit().await?;
        made.ok_or_else(|| MigrationError::Server("the operation is gone".to_owned()))
    }
}

/// Why there can't be another one.
fn already(live: &Operation) -> MigrationError {
    match live.state {
        OperationState::Paused => MigrationError::Paused(live.id),
        _ => MigrationError::Running(live.id),
    }
}

/// How far it is, for the operation's `progress`.
pub(crate) fn progress_of(progress: &RolloutProgress) -> Value {
    json!({
        "version": progress.version,
        "wave": progress.wave,
        "done": progress.done,
        "total": progress.total,
        "failed": progress.failed,
        "next_wave_at": progress.next_wave_at,
    })
}

/// What it did, for the same: all its runs together.
pub(crate) fn outcome_of(went: &Went) -> Value {
    let report = &went.report;
    let applied = went.applied_before + report.applied.len();
    let behind = report.failed.iter().take(LISTED_MAX).map(|site| {
        json!({
            "tenant": site.slug,
            "server": site.server,
            "schema": site.schema,
            "version": site.version,
            "error": site.error,
        })
    });
    json!({
        "version": report.target,
        "done": applied + report.failed.len(),
        "total": went.total,
        "applied": applied,
        "current": report.current,
        "failed": report.failed.len(),
        "left": report.left,
        "next_wave_at": went.next_wave_at.filter(|_| went.ended == Ended::Stopped),
        "behind": behind.collect::<Vec<_>>(),
    })
}

/// What a plan found, for the same.
pub(crate) fn plan_of(rehearsals: &[Rehearsal], sites: &[SiteStatus], lint: &[LintFinding]) -> Value {
    let copies = rehearsals.iter().take(LISTED_MAX).map(|rehearsal| {
        let files = rehearsal.files.iter().map(|file| {
            let locks = file
                .locks
                .iter()
                .map(|lock| json!({ "table": lock.table, "mode": lock.mode, "blocks": lock.blocks }));
            let notes = file
                .notes
                .iter()
                .take(LISTED_MAX)
                .map(|note| json!({ "line": note.line, "object": note.object, "text": note.text }));
            json!({
                "name": file.name,
                "data": file.data,
                "notes": notes.collect::<Vec<_>>(),
                "locks": locks.collect::<Vec<_>>(),
                "rewrites": file.rewrites,
                "scans": file.scans,
            })
        });
        json!({
            "server": rehearsal.server,
            "tenant": rehearsal.tenant,
            "from": rehearsal.from,
            "schemas": rehearsal.sites,
            "files": files.collect::<Vec<_>>(),
            "error": rehearsal.error,
        })
    });
    let lint = lint.iter().take(LISTED_MAX).map(|found| {
        json!({
            "file": found.file,
            "line": found.line,
            "rule": found.rule,
            "message": found.message,
            "help": found.help,
        })
    });
    json!({
        "pending": sites.iter().filter(|site| !site.pending.is_empty()).count(),
        "copies": copies.collect::<Vec<_>>(),
        "lint": lint.collect::<Vec<_>>(),
    })
}

/// What a comparison found, for the same.
pub(crate) fn drift_of(verified: &[VerifiedSite]) -> Value {
    let wrong = verified.iter().filter(|site| !site.is_right());
    let repaired = verified.iter().flat_map(|site| &site.differences);
    let repaired = repaired.filter(|difference| difference.state == DriftState::Repaired);
    let listed = verified
        .iter()
        .filter(|site| !site.differences.is_empty() || site.error.is_some())
        .take(LISTED_MAX)
        .map(|site| {
            json!({
                "tenant": site.slug,
                "server": site.server,
                "database": site.database,
                "schema": site.schema,
                "version": site.version,
                "differences": site.differences.iter().map(difference_of).collect::<Vec<_>>(),
                "error": site.error,
            })
        });
    json!({
        "schemas": verified.len(),
        "wrong": wrong.count(),
        "repaired": repaired.count(),
        "sites": listed.collect::<Vec<_>>(),
    })
}

fn difference_of(difference: &SiteDifference) -> Value {
    let (state, reason) = match &difference.state {
        DriftState::Repairable => ("repairable", None),
        DriftState::Repaired => ("repaired", None),
        DriftState::Left(reason) => ("left", Some(reason)),
    };
    json!({
        "object": difference.object,
        "change": difference.change,
        "sql": difference.sql,
        "state": state,
        "reason": reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FailureBudget;

    #[test]
    fn a_request_says_all_that_the_command_line_can_say() {
        let request: RolloutRequest = serde_json::from_value(json!({
            "tenants": ["a", "b"],
            "only_failed": true,
            "canaries": ["a"],
            "wave_of": ["plan=free"],
            "waves": [5, 25],
            "pause_seconds": 600,
            "max_failures": "1%",
            "per_server": 3,
            "connections": 5,
        }))
        .unwrap();
        let expected = Rollout {
            only: vec!["a".to_owned(), "b".to_owned()],
            only_failed: true,
            canaries: vec!["a".to_owned()],
            labels: vec!["plan=free".parse().unwrap()],
            waves: vec![5, 25],
            pause: std::time::Duration::from_secs(600),
            budget: FailureBudget::Percent(1.0),
            per_server: 3,
            connections_max: 5,
        };
        assert_eq!(request.rollout(), Ok(expected));
        assert_eq!(RolloutRequest::default().rollout(), Ok(Rollout::default()));
    }

    /// While a deployment goes on, a process with the release before may run it.
    #[test]
    fn what_is_left_out_is_not_written_down() {
        let written = serde_json::to_value(RolloutRequest::default()).unwrap();
        assert!(
            written.get("per_server").is_none() && written.get("connections").is_none(),
            "{written}"
        );
    }
}
