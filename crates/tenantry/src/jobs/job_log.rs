//! Under which names the log knows an attempt at a job, and everything that is logged while it is made: those that a request's lines
//! have.

use tenantry_core::Placement;
use tracing::{
    Span,
    field::{Empty, display},
};

use super::claim::Claimed;
use crate::Scope;

/// The span of an attempt. No field holds what the job is about: its payload is the tenant's own.
pub(super) fn span(job: &Claimed) -> Span {
    // Whatever is logged at all, its fields are: a span of a lower level would be missing where only errors are logged.
    let span = tracing::error_span!(
        "job",
        job.id = %job.id,
        job.kind = job.kind.as_str(),
        job.attempt = job.attempt,
        tenant.id = %job.tenant,
        account.id = Empty,
        api_key.id = Empty,
        isolation = Empty,
        placement = Empty,
    );
    if let Some(account) = job.account {
        span.record("account.id", display(account));
    }
    if let Some(key) = job.api_key {
        span.record("api_key.id", display(key));
    }
    span
}

/// Notes where the tenant lives. The handler's first statement would look that up; why it can't be found out is told there.
pub(super) async fn note_placement(span: &Span, scope: &Scope) {
    if span.is_disabled() || scope.pools().grant(scope.caller()).await.is_err() {
        return;
    }
    scope.pools().with_placement(scope.caller(), |placement| {
        let Placement {
            isolation,
            database_name,
            schema,
            epoch,
            ..
        } = placement;
        let (isolation, place) = (isolation.as_str(), format!("{database_name}/{schema}@{}", epoch.0));
        tracing::record_all!(span, isolation = isolation, placement = %place);
    });
}
