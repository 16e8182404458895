//! Work for later: enqueued in the caller's own transaction, done with the whole context of who asked for it.
//!
//! A job belongs to the tenant of the scope it was enqueued in, stands in that tenant's own database, and appears only if the
//! transaction commits. A [`Worker`] takes jobs by turns among tenants and hands each to its handler with a [`Scope`] of its
//! tenant: the account or the API key that asked, with the role it has *now*, and never more rights than it had then.
//!
//! Delivery is at least once: a worker that dies is replaced when its lease ends. A handler that does its work in
//! [`Run::transaction`] has exactly one effect, because the job ends in that same transaction.
//!
//! What happens by the clock is a [`Schedule`]: a tenant's own, set in its scope, or one for every tenant, declared at the worker.
//!
//! ```no_run
//! use serde::{Deserialize, Serialize};
//! use tenantry::{Scope, Tenantry, jobs::{Failure, Job, Run, Worker}};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Greet {
//!     contact: i32,
//! }
//!
//! impl Job for Greet {
//!     const KIND: &'static str = "greet";
//! }
//!
//! async fn ask(scope: &Scope) -> Result<(), tenantry::Error> {
//!     scope
//!         .transaction(async |tx| {
//!             let row = tx.query_one("insert into contact (id, name) values (1, 'Ada') returning id", &[]).await?;
//!             tx.enqueue(&Greet { contact: row.get("id")? }).await?;
//!             Ok(())
//!         })
//!         .await
//! }
//!
//! async fn greet(run: Run, job: Greet) -> Result<(), Failure> {
//!     run.transaction(async |tx| {
//!         tx.execute("update contact set name = 'Dear ' || name where id = $1", &[&job.contact]).await?;
//!         Ok(())
//!     })
//!     .await
//! }
//!
//! async fn work(tenantry: &Tenantry) {
//!     let stopped = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
//!     Worker::new(tenantry).handle(greet).run(stopped).await;
//! }
//! ```

mod attempt;
mod claim;
mod clock;
mod counts;
mod enqueue;
mod failure;
#[cfg(any(feature = "sqlx", feature = "diesel"))]
pub(crate) mod foreign;
mod handler;
mod job_log;
mod list;
mod over;
mod run;
mod schedule;
mod shift;
mod times;
mod wakes;
mod worker;

pub use counts::{Durations, JobCounts, JobDurations};
pub use enqueue::{Enqueue, Job};
pub use failure::Failure;
pub use list::ListedJob;
pub use run::Run;
pub use schedule::{ListedSchedule, Missed, Schedule};
pub use tenantry_core::{JobId, JobState};
pub(crate) use wakes::JobWakes;
pub use worker::{Worker, WorkerReport};

#[cfg(doc)]
use crate::Scope;
