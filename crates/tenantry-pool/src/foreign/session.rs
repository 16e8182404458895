//! A connection of another driver with its binding.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tenantry_core::{Epoch, Role, TenantId, Tier, seal};
use tenantry_wire::{Binding, DbError, Error};
use tokio::time::timeout;

use super::{Driver, relay::Relay, silence::Silence};
use crate::{place::Leaving, seat::Seat};

// The fixed statements of the call protocol, in a form that any driver can send: parameters and result are texts. In the
// sealed tier the seal may be read by anybody; messages and codes go as parameters, so that nobody sees them in
// `pg_stat_activity`.
// The path each time: SQL that hides its `set_config` could have pointed it at a third tenant's schema.
const ENTER: &str = "select pg_catalog.set_config('search_path', $3, false) as answer \
    from tenantry.enter(pg_catalog.decode($1, 'hex'), pg_catalog.decode($2, 'hex'))";
const EXPECT: &str = "select case when pg_catalog.set_config('tenantry.expect', $1, true) is not null \
    and pg_catalog.set_config('tenantry.account', $2, true) is not null \
    then tenantry.tenant_id()::pg_catalog.text end as answer";
const WHO: &str = "select tenantry.tenant_id()::pg_catalog.text as answer";

/// How long a server may take to hear a good-bye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection with its binding. Dropping it closes it, whatever it is doing; what it held on the server is free when that has ended.
pub(super) struct Session<D> {
    pub(super) driver: D,
    pid: i32,
    counter: u64,
    fresh: bool,
    bound: Option<Bound>,
    /// What names are resolved in: set once, for the driver keeps statements and types by name.
    schema: Option<Arc<str>>,
    pub(super) opened: Instant,
    /// Closed from here on, as soon as nobody uses it.
    pub(super) dies: Instant,
    pub(super) idle_since: Instant,
    /// What ends it from outside.
    pub(super) seat: Arc<Seat>,
    /// Between the driver and the server. It has the connection's place among the server's, and is dropped after the driver.
    relay: Relay,
}

/// A connection that was opened just now.
pub(super) struct Opening<D> {
    pub(super) driver: D,
    pub(super) pid: i32,
    pub(super) relay: Relay,
}

struct Bound {
    tenant: TenantId,
    role: Role,
    epoch: Epoch,
    seal: String,
}

impl<D: Driver> Session<D> {
    pub(super) fn new(opening: Opening<D>, seat: Arc<Seat>, opened: Instant, dies: Instant) -> Self {
        let Opening { driver, pid, relay } = opening;
        Self {
            driver,
            pid,
            counter: 0,
            fresh: true,
            bound: None,
            schema: None,
            opened,
            dies,
            idle_since: opened,
            seat,
            relay,
        }
    }

    /// Says good-bye to the server, and waits until it has ended its side.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the connection is closed all the same.
    pub(super) async fn close(self) {
        let Self { driver, relay, .. } = self;
        let _ = timeout(CLOSE_TIMEOUT, driver.close()).await;
        relay.ended().await;
    }

    /// Lets go of a connection that is in the middle of something, and gives what tells when the server has ended its side.
    pub(super) fn abandon(self) -> Relay {
        let Self { driver, relay, .. } = self;
        drop(driver);
        // A relay that can't pass on what the driver said last would not notice that it has gone.
        relay.end();
        relay
    }

    /// Whether the server has ended it, or it was ended from outside.
    pub(super) fn is_over(&self) -> bool {
        self.relay.is_over()
    }

    /// What tells that it is being closed.
    pub(super) fn leaving(&self) -> Option<&Leaving> {
        self.relay.leaving()
    }

    /// What is told of a server that has fallen silent.
    pub(super) fn silence(&self) -> &Silence {
        self.relay.silence()
    }

    /// Whether it is bound as the call needs it.
    pub(super) fn serves(&self, binding: &Binding<'_>) -> bool {
        self.may_serve(binding)
            && self.bound.as_ref().is_some_and(|bound| {
                bound.tenant == binding.tenant && bound.role == binding.role && bound.epoch == binding.epoch
            })
    }

    /// Whether it can be bound as the call needs it.
    pub(super) fn may_serve(&self, binding: &Binding<'_>) -> bool {
        self.fits(binding.schema)
    }

    /// Whether it may resolve names in this schema.
    pub(super) fn fits(&self, schema: &Arc<str>) -> bool {
        self.schema.as_ref().is_none_or(|own| own == schema)
    }

    /// Opens a transaction in the tenant, and makes sure of it: the database itself says whose rows it will show.
    pub(super) async fn begin(&mut self, binding: &Binding<'_>) -> Result<(), Error> {
        let tenant = match binding.tier {
            Tier::Sealed => {
                if !self.serves(binding) {
                    self.enter(binding).await?;
                }
                self.driver.run("begin").await?;
                self.expect(binding).await?
            }
            Tier::Signed => {
                // A binding holds for its transaction only; undoing that must not undo what the session has to keep,
                // the search path and the last counter.
                if self.fresh || self.schema.is_none() {
                    self.enter(binding).await?;
                }
                self.driver.run("begin").await?;
                self.enter(binding).await?;
                self.driver.ask(WHO, &[]).await?
            }
        };
        if tenant.as_deref() == Some(binding.tenant.to_string().as_str()) {
            return Ok(());
        }
        Err(Error::Database(Box::new(DbError::new(
            "22P02",
            "tenantry: the session is not bound as this call expects",
        ))))
    }

    async fn enter(&mut self, binding: &Binding<'_>) -> Result<(), Error> {
        self.counter += 1;
        let now_us = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros() as i64);
        let signed = binding.key.sign(&seal::Token {
            tenant: binding.tenant,
            counter: self.counter,
            fresh: self.fresh,
            raw: false,
            role: binding.role,
            now_us,
            backend_pid: self.pid,
            account: binding.account,
            epoch: binding.epoch,
        });
        let (message, mac) = (hex::encode(signed.message), hex::encode(signed.mac));
        self.driver.ask(ENTER, &[&message, &mac, binding.search_path]).await?;
        self.schema = Some(binding.schema.clone());
        self.fresh = false;
        self.bound = Some(Bound {
            tenant: binding.tenant,
            role: binding.role,
            epoch: binding.epoch,
            seal: signed.seal(),
        });
        Ok(())
    }

    async fn expect(&mut self, binding: &Binding<'_>) -> Result<Option<String>, Error> {
        let seal = self.bound.as_ref().map_or("", |bound| bound.seal.as_str());
        self.driver.ask(EXPECT, &[seal, binding.account_text]).await
    }

    /// After a failure to begin: nothing is open, and the next call binds anew.
    pub(super) async fn begin_again(&mut self) -> Result<(), Error> {
        self.bound = None;
        self.driver.run("rollback").await
    }
}
