//! What happened in the fleet, told to handlers: a tenant was made, suspended, deleted, a member was added.
//!
//! An [`Event`] is written in the very transaction that does what it tells, so there is none for what did not happen and none is
//! missing. A consumer has a name, under which the catalog keeps how far it has come; of the processes that run a consumer
//! of one name, one delivers at a time, and another takes over when it is gone.
//!
//! Delivery is at least once, in order per tenant: a handler has to stand being told twice, as after a crash between its work and
//! the note of it. [`Event::id`] is the same each time and grows in the order in which things took effect. When a handler fails,
//! panics or does not end, its tenant's events wait, others' go on.
//!
//! ```no_run
//! use tenantry::{Tenantry, events::{Event, EventKind}};
//!
//! async fn bill(event: Event) -> Result<(), std::io::Error> {
//!     if event.kind == EventKind::TenantActivated {
//!         println!("a new customer: {:?}", event.tenant);
//!     }
//!     Ok(())
//! }
//!
//! # async fn example(tenantry: &Tenantry) -> Result<(), tenantry::Error> {
//! let stopped = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
//! tenantry.events("billing")?.run(bill, stopped).await?;
//! # Ok(())
//! # }
//! ```

mod consumer;
mod event;

pub use consumer::{Consumer, ConsumerReport, ParkedEvents};
pub use event::{Event, EventKind};

use crate::{Error, ErrorKind, Tenantry};

impl Tenantry {
    /// Who is told of events under this name: 1 to 100 characters.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] for a name that is empty or longer, and for a handle that was made without a catalog.
    pub fn events(&self, name: &str) -> Result<Consumer, Error> {
        let refused = |message: &str| Error::new(ErrorKind::Refused, message);
        if name.is_empty() || name.chars().count() > 100 || name.contains('\0') {
            return Err(refused("a consumer of events has a name of 1 to 100 characters"));
        }
        let resolver = self
            .resolver()
            .map_err(|_| refused("events stand in the catalog: make the handle by `Tenantry::connect`"))?;
        Ok(Consumer::new(resolver.catalog().clone(), name))
    }
}
