//! What a server and its tenant databases still hold of a tenant that was purged.
//!
//! Three depths, each saying what it shows: rows that a query can see ([`look`]), which misses what PostgreSQL has only marked as
//! deleted; [`clear`], after which dead rows can be overwritten, or, where tables are rewritten, are gone; and the bytes of the
//! relations' files ([`read_files`]), which shows that.

mod clear;
mod files;
mod look;
mod server;

pub use clear::{Clearing, HowCleared, clear, holders};
pub use files::{FileTrace, read_files};
pub use look::{Looked, Trace, look};
pub use server::look_at_server;

use tenantry_core::{InstallationId, TenantId};

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Sought<'a> {
    /// Whose installation.
    pub installation: &'a InstallationId,
    /// The tenant.
    pub tenant: TenantId,
    /// Other texts that nothing but the tenant's own data held.
    pub texts: &'a [String],
    /// Whether every column of every row is read, and not only those that say whose a row is.
    pub every_row: bool,
}

impl Sought<'_> {
    /// The id as it is printed, and as names hold it.
    fn id_texts(&self) -> [String; 2] {
        [self.tenant.to_string(), self.tenant.as_uuid().simple().to_string()]
    }
}
