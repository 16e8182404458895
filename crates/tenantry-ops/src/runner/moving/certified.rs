//! What the move proves, written down and signed once the tenant is served again.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tenantry_catalog::server;
use tenantry_core::Placement;
use tenantry_engine::transfer::stream::Direction;

use super::{Failure, Held, Moving, moves};
use crate::{
    Authority,
    audit::{self, Act},
};

impl Moving<'_> {
    /// Notes how long the tenant waited and for what, and signs what was proved. `held` is that of the process which closed the old home;
    /// otherwise the time that was recorded then counts.
    pub(super) async fn certify(&self, held: Option<Held>) -> Result<(), Failure> {
        if self.progress.lock().contains_key("certificate") {
            return Ok(());
        }
        let opened_at = Utc::now();
        let closed_at = self
            .told("closed_at")
            .and_then(|text| text.parse::<DateTime<Utc>>().ok());
        let held = held.map(|mut held| {
            held.was_for("open");
            held
        });
        let held_ms = match (&held, closed_at) {
            (Some(held), _) => Some(held.so_far().as_millis() as u64),
            (None, Some(closed_at)) => (opened_at - closed_at).num_milliseconds().try_into().ok(),
            (None, None) => None,
        };
        let (from, to) = (self.shown(&self.input.from).await?, self.shown(&self.input.to).await?);
        let told = |key: &str| self.progress.lock().get(key).cloned().unwrap_or_default();
        let certificate = json!({
            "format": "tenantry-move/1",
            "installation": self.source.site.installation().as_str(),
            "operation": self.journal.operation.id,
            "tenant": self.input.from.tenant,
            "back": self.direction == Direction::Back,
            "from": from, "to": to,
            "rows": told("rows"), "tables": told("verified"),
            "compared": if told("compared_at").is_null() { "behind the closed fence" } else { "while the tenant worked" },
            "compared_again": told("compared_again"),
            "positions": {
                "copied": told("copied_at"), "compared": told("compared_at"), "switched": told("switched_at"),
                "way_back": told("way_back_at"),
            },
            "closed_at": told("closed_at"), "opened_at": opened_at, "held_ms": held_ms,
        });
        let certificate = moves::certify(self.ops, certificate);
        let progress = self.with_news(&json!({
            "held_ms": held_ms, "held_for_ms": held.as_ref().map(Held::shown), "certificate": certificate,
        }));
        let mut client = self.ops.catalog().client().await?;
        let transaction = client.transaction().await?;
        self.journal.hold(&transaction).await?;
        self.journal
            .note_progress_in(&transaction, &self.whole(&progress))
            .await?;
        let act = Act {
            action: "tenant.move_certified",
            tenant: Some(self.input.from.tenant),
            target: self.input.from.tenant.to_string(),
            before: None,
            after: Some(certificate),
        };
        audit::record(&transaction, &Authority::system("operation"), act).await?;
        transaction.commit().await?;
        *self.progress.lock() = progress.as_object().cloned().unwrap_or_default();
        Ok(())
    }

    /// A home as the audit log shows it, with its server's name.
    async fn shown(&self, placement: &Placement) -> Result<Value, Failure> {
        let client = self.ops.catalog().client().await?;
        let server = server::find(&client, placement.server).await?;
        let mut shown = moves::shown(placement);
        shown["server_name"] = server.map(|server| server.name).into();
        Ok(shown)
    }
}
