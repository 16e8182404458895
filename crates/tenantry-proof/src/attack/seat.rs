//! A tenant's session, bound as the pool binds one.

use anyhow::Result;
use std::time::{SystemTime, UNIX_EPOCH};
use tenantry_core::{TenantId, Tier};

use super::{
    ground::{Ground, Mechanism},
    line::{Heard, Line},
    token::{Making, Offer, Spec},
};

/// By which part of the protocol something is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    Simple,
    /// The commit in the same message, so that the statement's text stays to be seen in pg_stat_activity.
    OneMessage,
    Extended,
    Copy,
}

/// A connection with what the pool keeps beside one.
pub(super) struct Seat {
    pub(super) line: Line,
    /// Of the next token.
    pub(super) counter: u64,
    fresh: bool,
    /// The lane of SQL from outside the application's own code.
    pub(super) raw: bool,
    bound: Option<(TenantId, String)>,
    /// In the victim's database, whose key is another one where it is another database.
    at_the_victims: bool,
}

impl Seat {
    pub(super) fn new(line: Line, raw: bool) -> Self {
        Self {
            line,
            counter: 1,
            fresh: true,
            raw,
            bound: None,
            at_the_victims: false,
        }
    }

    /// The victim's own connection.
    pub(super) fn of_the_victim(line: Line) -> Self {
        Self {
            at_the_victims: true,
            ..Self::new(line, false)
        }
    }

    /// Runs something in a tenant's context and commits it. Where the context is refused, the attacker goes on without one.
    pub(super) async fn within(&mut self, ground: &Ground, tenant: TenantId, by: By, sql: &str) -> Result<Heard> {
        // Whatever the step before left open; a careless pool does not look.
        if ground.mechanism != Mechanism::Naive || !self.raw {
            self.line.say("rollback").await;
        }
        let opened = self.open(ground, tenant).await?;
        if opened.failure.is_some() {
            self.line.say("rollback").await;
            self.line.say("begin").await;
        }
        let mut heard = match by {
            By::Simple => self.line.say(sql).await,
            By::OneMessage => return Ok(self.line.say(&format!("{sql}; commit")).await),
            By::Extended => self.line.ask(sql).await,
            By::Copy => self.line.copy(sql).await,
        };
        let end = self.line.say("commit").await;
        heard.text.push_str(&end.text);
        heard.failure = heard.failure.or(end.failure);
        Ok(heard)
    }

    /// Opens a transaction in a tenant's context.
    pub(super) async fn open(&mut self, ground: &Ground, tenant: TenantId) -> Result<Heard> {
        let Mechanism::Ours(tier) = ground.mechanism else {
            return Ok(self
                .line
                .say(&format!("begin; select set_config('app.tenant_id', '{tenant}', true)"))
                .await);
        };
        let refused = match tier {
            Tier::Sealed => {
                let mut refused = None;
                if self.bound.as_ref().is_none_or(|(bound, _)| *bound != tenant) {
                    refused = self.bind(ground, tenant).await?;
                }
                self.line.say("begin").await;
                refused
            }
            Tier::Signed => {
                if self.raw {
                    self.discard().await;
                }
                // By itself first: a transaction that is undone would take the counter along.
                if self.fresh && !self.raw {
                    self.bind(ground, tenant).await?;
                }
                self.line.say("begin").await;
                self.bind(ground, tenant).await?
            }
        };
        if let Some(refused) = refused {
            return Ok(refused);
        }
        let seal = self.bound.as_ref().map_or("", |(_, seal)| seal);
        Ok(match tier {
            Tier::Sealed => {
                self.line
                    .say(&format!(
                        "select pg_catalog.set_config('tenantry.expect', '{seal}', true)"
                    ))
                    .await
            }
            Tier::Signed => Heard::default(),
        })
    }

    /// As the pool hands over a connection of the raw lane.
    pub(super) async fn discard(&mut self) {
        self.line.say("rollback").await;
        self.line.say("discard all").await;
        self.fresh = true;
        self.bound = None;
    }

    /// Binds the session with a token that the pool makes; tells how it was refused.
    pub(super) async fn bind(&mut self, ground: &Ground, tenant: TenantId) -> Result<Option<Heard>> {
        let tenant_word = if tenant == ground.a { "A" } else { "B" };
        // Both may do in their own tenant whatever anybody may.
        let spec = Spec::parse(&format!("tenant={tenant_word} role=owner"))?;
        let offer = self.make(ground, &spec, 0)?;
        let heard = self.offer(&offer, "enter").await;
        if heard.failure.is_some() {
            return Ok(Some(heard));
        }
        self.fresh = false;
        self.bound = Some((tenant, offer.seal));
        let schema = if tenant == ground.a {
            &ground.own
        } else {
            &ground.target
        };
        let path = format!("{schema}, tenantry_ext, pg_temp").replace('\'', "''");
        let heard = self
            .line
            .say(&format!("select pg_catalog.set_config('search_path', '{path}', false)"))
            .await;
        Ok(heard.failure.is_some().then_some(heard))
    }

    /// Makes a token; its counter is used up.
    pub(super) fn make(&mut self, ground: &Ground, spec: &Spec, other_pid: i32) -> Result<Offer> {
        let making = Making {
            a: ground.a,
            b: ground.b,
            key: if self.at_the_victims {
                &ground.victims_key
            } else {
                &ground.key
            },
            foreign_key: &ground.foreign_key,
            old_key: ground.old_key.as_ref(),
            pid: self.line.pid,
            other_pid,
            counter: self.counter,
            fresh: self.fresh,
            raw: self.raw,
            now_us: now_us(),
        };
        let offer = spec.make(&making)?;
        self.counter += 1;
        Ok(offer)
    }

    /// The pool's own token was taken, and committed.
    pub(super) fn was_bound(&mut self) {
        self.fresh = false;
    }

    /// Offers a token to the database.
    pub(super) async fn offer(&self, offer: &Offer, function: &str) -> Heard {
        // Bound values, as the pool sends them: a statement's text can be read by other sessions of the role.
        self.line
            .call(
                &format!("select tenantry.{function}($1, $2)"),
                &[&offer.message, &offer.mac],
            )
            .await
    }
}

fn now_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
