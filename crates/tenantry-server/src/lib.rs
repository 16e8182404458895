//! The HTTP control plane: tenants, members, log-in, operations, health, metrics; and the application below `/app`.
//!
//! Only this crate knows HTTP. It reads requests, asks the use cases of `tenantry-ops`, and writes answers; the rules
//! are theirs. It has no SQL and knows nothing of the application but its router.

mod accept;
mod caller;
mod config;
mod layer;
mod life;
mod metrics;
mod refusal;
mod router;
mod routes;
mod run;
mod services;

pub use config::Config;
pub use router::openapi;
pub use run::{Drained, Server, StartError, run, start};
pub use services::{Application, Services};
