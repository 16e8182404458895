//! What a driver has to be able to do.

use async_trait::async_trait;
use tenantry_wire::{Endpoint, Error};

use crate::PoolConfig;

/// A connection of another driver. Dropping it closes its socket, whatever it is doing.
#[async_trait]
pub trait Driver: Sized + Send + 'static {
    /// Opens a connection. The endpoint is a socket of this process, behind which the pool speaks to the server: what is sent there is
    /// encrypted as the home says, and the pool can end the connection whatever the driver does.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or verified, or refuses the role.
    ///
    /// # Cancel safety
    ///
    /// When dropped, its socket has to be closed.
    async fn connect(endpoint: &Endpoint, config: &PoolConfig) -> Result<Self, Error>;

    /// Runs a statement of the call protocol that has neither parameters nor rows.
    ///
    /// # Errors
    ///
    /// What PostgreSQL says.
    ///
    /// # Cancel safety
    ///
    /// It need not be: whoever drops the future drops the connection too.
    async fn run(&mut self, sql: &str) -> Result<(), Error>;

    /// Runs a statement of the call protocol with parameters that are texts and one row of one text, named `answer`.
    ///
    /// # Errors
    ///
    /// What PostgreSQL says.
    ///
    /// # Cancel safety
    ///
    /// It need not be: whoever drops the future drops the connection too.
    async fn ask(&mut self, sql: &'static str, params: &[&str]) -> Result<Option<String>, Error>;

    /// Says good-bye to the server, which is idle.
    ///
    /// # Cancel safety
    ///
    /// When dropped, its socket has to be closed.
    async fn close(self);
}
