//! One attempt at a job, from its claim to what becomes of it.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tenantry_core::{Actor, Context};
use tracing::{Instrument as _, Span};

use super::{
    Failure, Run,
    claim::{Claimed, Source},
    failure::Again,
    handler::Handlers,
    job_log,
    over::Over,
};
use crate::{ResolveError, Scope, Tenantry, Verified};

/// The first pause; each later one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest one.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// How long a job waits when the catalog can't say whether its account is still a member, or its API key still good.
const DIRECTORY_PAUSE: Duration = Duration::from_secs(5);

/// What became of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// The job is over.
    Done,
    /// It is tried again, or is a dead letter.
    Failed,
    /// It was given back, and the attempt does not count.
    GivenBack,
    /// It is another worker's.
    Lost,
}

/// What attempts need of their worker.
pub(super) struct Attempts {
    pub(super) tenantry: Tenantry,
    pub(super) handlers: Handlers,
    /// How long a handler may take.
    pub(super) timeout: Duration,
}

impl Attempts {
    /// One attempt, in a span of its own: each line that its handler logs says whose job it is.
    pub(super) async fn run(self: Arc<Self>, source: Arc<Source>, job: Arc<Claimed>, over: Over) -> Ended {
        let span = job_log::span(&job);
        self.run_in(&span, &source, &job, over).instrument(span.clone()).await
    }

    async fn run_in(&self, span: &Span, source: &Source, job: &Arc<Claimed>, over: Over) -> Ended {
        let attempt = self.attempt(span, job, over.clone());
        let outcome = match AssertUnwindSafe(attempt).catch_unwind().await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::retry("the handler panicked")),
        };
        match outcome {
            Ok(()) => Ended::Done,
            // What ended the job holds, and there is nothing left to try again.
            Err(failure) if over.is_done() => {
                tracing::warn!(error = %failure, "a handler failed after its job was over");
                Ended::Done
            }
            Err(failure) => settle(source, job, &failure).await,
        }
    }

    async fn attempt(&self, span: &Span, job: &Arc<Claimed>, over: Over) -> Result<(), Failure> {
        let Some(handler) = self.handlers.find(&job.kind) else {
            return Err(Failure::new(
                "no handler for this kind",
                Again::Uncounted(DIRECTORY_PAUSE),
            ));
        };
        let scope = self.scope(job).await?;
        let run = Run::new(scope, job.clone(), over);
        let handled = async {
            job_log::note_placement(span, run.scope()).await;
            handler(run.clone(), &job.payload).await
        };
        match tokio::time::timeout(self.timeout, handled).await {
            Ok(handled) => handled?,
            Err(_) => {
                return Err(Failure::retry(format!(
                    "the handler took longer than {} s and was stopped",
                    self.timeout.as_secs()
                )));
            }
        }
        Ok(run.end().await?)
    }

    /// The role of an account or an API key is the one it has now, and never more than it had when it enqueued the job.
    async fn scope(&self, job: &Claimed) -> Result<Scope, Failure> {
        let unknown = |error: ResolveError| Failure::new(error, Again::Uncounted(DIRECTORY_PAUSE));
        let (actor, role) = match (job.account, job.api_key) {
            (None, None) => {
                let reason = format!("job {}", job.kind);
                (Actor::System { reason }, job.role)
            }
            (Some(account), _) => {
                let resolver = self.tenantry.resolver().map_err(unknown)?;
                let role = resolver.role_of(job.tenant, account).await.map_err(unknown)?;
                let role = role.ok_or_else(|| Failure::never("who enqueued it is no member of the tenant any more"))?;
                (Actor::Account(account), role.min(job.role))
            }
            (None, Some(key)) => {
                let resolver = self.tenantry.resolver().map_err(unknown)?;
                let role = resolver.role_of_key(job.tenant, key).await.map_err(unknown)?;
                let role = role
                    .ok_or_else(|| Failure::never("the API key that enqueued it was revoked, or its time is over"))?;
                (Actor::ApiKey(key), role.min(job.role))
            }
        };
        if !role.may_write() {
            return Err(Failure::never("who enqueued it may not write any more"));
        }
        let context = Context {
            tenant: job.tenant,
            actor,
            role,
        };
        Ok(self.tenantry.scope(Verified::new(context)))
    }
}

async fn settle(source: &Source, job: &Arc<Claimed>, failure: &Failure) -> Ended {
    let told = match failure.again {
        Again::Lost => return Ended::Lost,
        Again::Uncounted(pause) => {
            let released = source.release(std::slice::from_ref(job), pause).await;
            released.map(|()| Ended::GivenBack)
        }
        Again::Never => failed(source, job, failure, None).await,
        Again::After(pause) => failed(source, job, failure, Some(pause)).await,
        Again::Usually => failed(source, job, failure, Some(pause(job))).await,
    };
    told.unwrap_or_else(|error| {
        // Its lease ends, and then it is another worker's.
        tracing::warn!(error = %error, "a job failed, and its database can't be told");
        Ended::Lost
    })
}

async fn failed(
    source: &Source,
    job: &Claimed,
    failure: &Failure,
    again: Option<Duration>,
) -> Result<Ended, crate::Error> {
    let dead = again.is_none() || job.attempt >= job.attempts_max;
    // The span says which job of which tenant.
    tracing::warn!(dead, "a job failed");
    let ours = source.failed(job, &failure.to_string(), again).await?;
    Ok(if ours { Ended::Failed } else { Ended::Lost })
}

/// Doubles with each attempt, give or take a quarter, so that what failed together is not tried again together.
fn pause(job: &Claimed) -> Duration {
    let doublings = u32::from(job.attempt.unsigned_abs().saturating_sub(1)).min(20);
    let pause = PAUSE.saturating_mul(1 << doublings).min(PAUSE_MAX);
    // The id's tail is random.
    let (_, tail) = job.id.as_uuid().as_u64_pair();
    let percent = 75 + u32::try_from((tail ^ u64::from(doublings)) % 51).unwrap_or(0);
    pause * percent / 100
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use tenantry_core::{Role, TenantDatabaseId, TenantId};
    use uuid::Uuid;

    use super::*;
    use crate::jobs::JobId;

    fn claimed(attempt: i16) -> Claimed {
        Claimed {
            database: TenantDatabaseId::from_uuid(Uuid::nil()),
            id: JobId::from_uuid(Uuid::now_v7()),
            tenant: TenantId::from_uuid(Uuid::nil()),
            kind: "k".to_owned(),
            payload: "{}".to_owned(),
            account: None,
            api_key: None,
            role: Role::Owner,
            attempt,
            attempts_max: 25,
            lease: 1,
            enqueued_at: Utc::now(),
            lane: 0,
        }
    }

    #[test]
    fn pauses_double_with_jitter_up_to_an_hour() {
        for (attempt, seconds) in [
            (1, 1.0),
            (2, 2.0),
            (5, 16.0),
            (12, 2048.0),
            (13, 3600.0),
            (i16::MAX, 3600.0),
        ] {
            let pause = pause(&claimed(attempt)).as_secs_f64();
            assert!(
                (seconds * 0.75..=seconds * 1.25).contains(&pause),
                "attempt {attempt}: {pause}"
            );
        }
        let different: std::collections::HashSet<_> = (0..64).map(|_| pause(&claimed(5))).collect();
        assert!(different.len() > 10, "jobs that failed together come back together");
    }
}
