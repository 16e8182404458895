//! The new home, empty, with a fence that lets nobody in.

use tenantry_core::Isolation;
use tenantry_engine::{
    fence::{self, Ended},
    home, transfer,
};
use tokio_postgres::Client;

use super::{Failure, Moving, carry, close};
use crate::runner::provision::first_object;

impl Moving<'_> {
    /// Makes it, or what is missing of it.
    pub(super) async fn prepare(&mut self) -> Result<(), Failure> {
        let to = &self.input.to;
        let object = first_object(to.isolation, to.server, &to.database_name, &to.schema);
        self.journal.will_make(&object).await?;
        if to.isolation == Isolation::Database {
            self.target.site.make_database().await?;
            if self.target.site.database.bootstrap_version.is_none() {
                self.target.site.bootstrap().await?;
            }
        }
        let client = self.target.connect().await?;
        if !self.input.within_a_database() {
            self.register(&client).await?;
        }
        if to.isolation == Isolation::Schema {
            let (installation, database) = (self.target.site.installation(), to.database);
            home::create_schema(&client, installation, database, to.tenant).await?;
        }
        if to.isolation != Isolation::Shared {
            let located = self.target.located().await?;
            self.target.site.make_tables(&client, &located).await?;
        }
        if to.isolation == Isolation::Shared {
            self.advance_sequences(client).await?;
        }
        Ok(())
    }

    /// Lets the home that the tenant comes back to wait for it.
    pub(super) async fn prepare_back(&mut self) -> Result<(), Failure> {
        // It was nobody's while the program may have been replaced.
        self.target.site.bring_up_to_date().await?;
        let client = self.target.connect().await?;
        self.register(&client).await?;
        match self.target.is(Isolation::Shared) {
            true => self.advance_sequences(client).await,
            false => Ok(()),
        }
    }

    /// Registers the tenant where it goes, closed. Where it lived before, connections may still be bound to it from then.
    async fn register(&self, client: &Client) -> Result<(), Failure> {
        let to = &self.input.to;
        fence::register(client, to.tenant, to.epoch, false).await?;
        let found = fence::read(client, to.tenant).await?;
        if !found.is_some_and(|found| found.compiled) {
            return Ok(());
        }
        match fence::end_older(client, to.tenant, self.wait()).await? {
            Ended::All { .. } => Ok(()),
            Ended::Left { pids } => Err(close::in_use(&pids)),
        }
    }

    /// While the tenant still works: what is left to do when it waits is little then.
    async fn advance_sequences(&self, client: Client) -> Result<(), Failure> {
        match self.input.within_a_database() {
            true => carry::sequences(self, &client, &client, None).await,
            false => {
                let source = self.source.site.connect().await?;
                carry::sequences(self, &source, &client, None).await
            }
        }
    }

    /// The new home's rows, which are the tenant's only once it lives there.
    pub(super) fn shares_sequences(&self) -> transfer::Shared {
        match self.target.is(Isolation::Shared) {
            true => transfer::Shared::Yes,
            false => transfer::Shared::No,
        }
    }
}
