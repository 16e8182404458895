//! The soak: the tenant works in its new home, and the old one, closed for everybody, is kept in step, so that the tenant can be taken
//! back with all that it has written.
//!
//! The operation looks again and again and rests in between, so that a soak of days takes no runner's place, and who dies is missed by
//! nobody. What the tenant writes between two looks waits in the slot at the new home.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use serde_json::json;
use tenantry_catalog::operation::{self, Wish};
use tenantry_engine::{
    fence::{self, Closed, State},
    transfer::stream::{self, Direction},
};

use super::{Failure, Hands, MoveStep, Moving};
use crate::runner::failure::Reason;

/// How a look ended that does not rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Soaked {
    /// The old home goes.
    Over,
    /// The tenant goes back there.
    Back,
}

impl Moving<'_> {
    /// One look, and what follows from it. Where there is no soak, it is over.
    pub(super) async fn soak(&self) -> Result<Soaked, Failure> {
        let Some(seconds) = self.input.soak_s else {
            return Ok(Soaked::Over);
        };
        if self.recorded == Some(MoveStep::Remove) {
            return Ok(Soaked::Over);
        }
        self.begin(MoveStep::Soak).await?;
        let until = match self
            .told("soak_until")
            .and_then(|text| text.parse::<DateTime<Utc>>().ok())
        {
            Some(until) => until,
            None => self.begin_soak(seconds).await?,
        };
        let wish = {
            let client = self.ops.catalog().client().await?;
            operation::wish_of(&client, self.journal.operation.id).await?
        };
        match wish {
            Some(Wish::Rollback) => Ok(Soaked::Back),
            Some(Wish::Finish) => self.end_soak().await,
            _ if Utc::now() >= until => self.end_soak().await,
            _ => {
                self.keep_in_step().boxed().await?;
                self.rest(until).await
            }
        }
    }

    /// The old home lets nobody in any more, whatever epoch he knows, and nothing is brought to the new one.
    async fn begin_soak(&self, seconds: u64) -> Result<DateTime<Utc>, Failure> {
        self.close_for_good().await?;
        self.end_stream(Direction::There).await?;
        let until = Utc::now() + Duration::from_secs(seconds);
        self.tell(json!({ "soak_until": until })).await?;
        Ok(until)
    }

    /// Closes the fence of the home that the tenant has left.
    pub(super) async fn close_for_good(&self) -> Result<(), Failure> {
        let from = &self.input.from;
        let client = self.source.connect().await?;
        let found = fence::read(&client, from.tenant).await?;
        // At a later epoch it is not this one any more.
        if found.is_some_and(|found| found.epoch == from.epoch && found.state != State::Gone) {
            fence::close(&client, from.tenant, from.epoch, Closed::Gone).await?;
        }
        Ok(())
    }

    /// Brings what the tenant has written to the old home.
    async fn keep_in_step(&self) -> Result<(), Failure> {
        if self.told("way_back_lost").is_some() {
            return Ok(());
        }
        let back = Moving::new(self.ops, self.journal, Direction::Back).await?;
        let hands = match Hands::take(&back).await {
            Err(Failure::Retry(reason)) if reason.code == "versions_differ" => return self.lose(&migrated()).await,
            taken => taken?,
        };
        let structure = back.structure(&hands).await?;
        match self.told("soak_structure") {
            None => self.tell(json!({ "soak_structure": structure })).await?,
            Some(before) if before != structure => {
                drop(hands);
                return self.lose(&migrated()).await;
            }
            Some(_) => {}
        }
        match back.bring(&hands).boxed().await {
            Ok(()) => {}
            Err(failure) => {
                drop(hands);
                return match back.is_lost().await? {
                    true => self.lose(&failure.message()).await,
                    false => Err(failure),
                };
            }
        }
        self.tell(json!({ "in_step_at": Utc::now() })).await
    }

    async fn bring(&self, hands: &Hands) -> Result<(), Failure> {
        let mut applier = self.start_applier(hands).await?;
        self.apply_now(hands, &mut applier).await?;
        applier.stop().await;
        Ok(())
    }

    /// Whether the old home can't be brought in step any more: a stream that broke for good has no position.
    async fn is_lost(&self) -> Result<bool, Failure> {
        let client = self.target.connect().await?;
        Ok(stream::read_position(&client, &self.stream()).await?.is_none())
    }

    /// The old home stays as it is until the soak ends: nothing is removed because of a surprise.
    async fn lose(&self, reason: &str) -> Result<(), Failure> {
        tracing::warn!(
            operation.id = %self.journal.operation.id, tenant.id = %self.input.from.tenant, reason,
            "a tenant can't be taken back to its old home any more"
        );
        self.tell(json!({ "way_back_lost": reason })).await?;
        self.end_stream(Direction::Back).await
    }

    async fn rest(&self, until: DateTime<Utc>) -> Result<Soaked, Failure> {
        let look = Utc::now() + self.ops.fleet().soak_look;
        let mut client = self.ops.catalog().client().await?;
        let transaction = client.transaction().await?;
        self.journal.hold(&transaction).await?;
        self.journal.park(&transaction, look.min(until)).await?;
        transaction.commit().await?;
        Err(Failure::Parked)
    }

    /// Under the tenant's row: who wants the tenant back comes before, or hears that it is too late.
    async fn end_soak(&self) -> Result<Soaked, Failure> {
        let mut client = self.ops.catalog().client().await?;
        let transaction = client.transaction().await?;
        self.journal.hold_step(&transaction, MoveStep::Remove.as_str()).await?;
        if operation::wish_of(&transaction, self.journal.operation.id).await? == Some(Wish::Rollback) {
            return Ok(Soaked::Back);
        }
        transaction.commit().await?;
        self.end(MoveStep::Soak).await?;
        Ok(Soaked::Over)
    }

    /// What follows where the tenant could not be taken back. What can pass is tried again; otherwise the tenant stays, and the soak goes on.
    pub(super) async fn stays(&self, failure: Failure) -> Failure {
        let reason = match &failure {
            Failure::Permanent(reason) => reason.clone(),
            Failure::Retry(reason) if reason.code == "versions_differ" => Reason {
                code: reason.code,
                message: migrated(),
            },
            Failure::Retry(reason) => match self.has_lost_its_way_back().await {
                true => reason.clone(),
                false => return failure,
            },
            Failure::LeaseLost | Failure::Parked => return failure,
        };
        match self.give_up_going_back(&reason).await {
            Ok(()) => Failure::retry("way_back_lost", reason.message),
            Err(failure) => failure,
        }
    }

    async fn has_lost_its_way_back(&self) -> bool {
        match Moving::new(self.ops, self.journal, Direction::Back).await {
            Ok(back) => back.is_lost().await.unwrap_or_default(),
            Err(_) => false,
        }
    }

    async fn give_up_going_back(&self, reason: &Reason) -> Result<(), Failure> {
        self.lose(&reason.message).await?;
        let mut client = self.ops.catalog().client().await?;
        let transaction = client.transaction().await?;
        self.journal.hold_step(&transaction, MoveStep::Soak.as_str()).await?;
        operation::wish(&transaction, self.journal.operation.id, None).await?;
        Ok(transaction.commit().await?)
    }
}

fn migrated() -> String {
    "the tenant's tables were migrated since it moved, and the home that it left was not".to_owned()
}
