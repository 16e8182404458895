//! What a tenant's plan lets through, and what the answer says of it.
//!
//! The headers are those of draft-ietf-httpapi-ratelimit-headers-10: `RateLimit-Policy` with the quota and its window, `RateLimit`
//! with what is left and in how many seconds all of it is there again.

use std::time::{Duration, Instant};

use axum::{
    http::{HeaderName, HeaderValue, Method},
    response::Response,
};
use tenantry_core::{Decision, Rate};

use super::{Code, LimitHit, Problem};
use crate::{Scope, Tenantry};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// The name of the policy in the headers, and of the limit in a problem.
const REQUESTS: &str = "requests";

/// What was decided about a request, to be said with its answer.
pub(super) struct Paced {
    rate: Rate,
    decision: Decision,
}

/// Decides whether the request may go on.
pub(super) async fn admit(
    tenantry: &Tenantry,
    scope: &Scope,
    method: &Method,
    now: Instant,
) -> (Option<Paced>, Result<(), Problem>) {
    // What is wrong with the home, the handler's own call says.
    let Ok(grant) = scope.pools().grant(scope.caller()).await else {
        return (None, Ok(()));
    };
    let mut paced = None;
    if let Some(rate) = grant.limits.rate() {
        let pace = rate.part_of(tenantry.processes());
        let decision = tenantry.limiter().decide(scope.context().tenant, pace, now);
        paced = Some(Paced { rate, decision });
        if !decision.allowed {
            return (paced, Err(too_many(rate, decision)));
        }
    }
    // Who has too much may look at it, and make it less.
    let adds = !method.is_safe() && method != Method::DELETE;
    match grant.excess.iter().find(|excess| excess.refuses_rows()) {
        Some(excess) if adds => (paced, Err(Problem::plan_limit(excess))),
        _ => (paced, Ok(())),
    }
}

fn too_many(rate: Rate, decision: Decision) -> Problem {
    let hit = LimitHit {
        name: REQUESTS.to_owned(),
        quota: rate.burst.get().into(),
        used: None,
        reset_s: Some(seconds(decision.reset_ns)),
    };
    Problem::new(Code::RateLimited, "The tenant's plan gives fewer requests; slow down.")
        .retry_after(Duration::from_nanos(decision.retry_ns))
        .limit(hit)
}

impl Paced {
    /// Says in the answer's headers what the tenant may still ask.
    pub(super) fn mark(&self, response: &mut Response) {
        let (quota, per_s) = (self.rate.burst.get(), self.rate.per_s.get());
        let window = quota.div_ceil(per_s);
        let Decision {
            remaining, reset_ns, ..
        } = self.decision;
        let texts = [
            (POLICY, format!("\"{REQUESTS}\";q={quota};w={window}")),
            (LEFT, format!("\"{REQUESTS}\";r={remaining};t={}", seconds(reset_ns))),
        ];
        for (name, text) in texts {
            if let Ok(value) = HeaderValue::from_str(&text) {
                response.headers_mut().insert(name, value);
            }
        }
    }
}

/// Rounded up: who comes a little early is refused a second time.
fn seconds(nanoseconds: u64) -> u64 {
    nanoseconds.div_ceil(1_000_000_000)
}
