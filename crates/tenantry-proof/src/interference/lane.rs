//! A backend of the application role and who is bound on it: tokens and expectations as the pool sends them, any SQL.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use tenantry_core::{
    Role, Tier,
    seal::{Key, SEAL_LEN, Signed, Token, sha256},
};
use uuid::Uuid;

use super::{
    site::{World, epoch, tenant},
    step::{Act, Leaked, Owner, PREPARED, Step, Travel},
    wire::Connection,
};

/// Steps that the driver leaves out or does wrong: defects in code's own steps.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Faults {
    /// A turn does not bind the session to its tenant.
    pub(super) skip_enter: bool,
    /// A turn goes on with the binding and the expectation of the one before.
    pub(super) stale_binding: bool,
    /// Calls do not say what they expect.
    pub(super) skip_expectation: bool,
    /// A's search path names C's schema.
    pub(super) wrong_path: bool,
    /// A turn keeps the search path of the one before.
    pub(super) stale_path: bool,
    /// What a turn on the raw lane forgets to discard.
    pub(super) kept: Option<Kept>,
}

/// A part of `discard all`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kept {
    Cursors,
    Statements,
    Listeners,
    Locks,
    Temporary,
    Everything,
}

/// Whose answer a ReadyForQuery ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    /// Of A's binding: compared too.
    Control(Owner),
    Step(Owner),
}

pub(super) struct Lane {
    connection: Connection,
    key: Key,
    tier: Tier,
    paths: [String; 3],
    travel: Travel,
    faults: Faults,
    bound: Option<Owner>,
    /// The carrier is empty: the next token is one for a fresh backend.
    fresh: bool,
    seal: String,
    /// Of the newest token, and of the newest that bound the session by itself.
    counter: u64,
    bound_counter: u64,
    turns_of_a: u64,
    /// Which statements the session holds: the expectation, and those of [`PREPARED`].
    expect_is_prepared: bool,
    prepared: [bool; PREPARED.len()],
    path_is_set: bool,
    units: Vec<Unit>,
}

const DISCARDS: [(Kept, &str); 5] = [
    (Kept::Cursors, "close all"),
    (Kept::Statements, "deallocate all"),
    (Kept::Listeners, "unlisten *"),
    (Kept::Locks, "select pg_advisory_unlock_all()"),
    (Kept::Temporary, "discard temp"),
];

impl Lane {
    pub(super) async fn open(world: &World, owner: Owner, faults: Faults) -> Result<Self> {
        let place = world.place(owner);
        let connection = Connection::open(world.cluster.host(), world.cluster.port(), place).await?;
        Ok(Self {
            connection,
            key: place.key.clone(),
            tier: world.tier,
            paths: [Owner::A, Owner::B, Owner::C].map(|owner| world.search_path(owner)),
            travel: Travel {
                shared_backend: false,
                raw: true,
                natural_counters: false,
            },
            faults,
            bound: None,
            fresh: true,
            seal: String::new(),
            counter: 0,
            bound_counter: 0,
            turns_of_a: 0,
            expect_is_prepared: false,
            prepared: [false; PREPARED.len()],
            path_is_set: false,
            units: Vec::new(),
        })
    }

    /// Begins a program from a clean session.
    pub(super) fn restart(&mut self, travel: Travel) -> Result<()> {
        self.travel = travel;
        self.turns_of_a = 0;
        self.counter = 0;
        self.wipe(Owner::B)?;
        self.path_is_set = false;
        Ok(())
    }

    fn wipe(&mut self, owner: Owner) -> Result<()> {
        self.put_control(owner, "rollback")?;
        self.put_control(owner, "discard all")?;
        self.forget();
        Ok(())
    }

    fn forget(&mut self) {
        self.bound = None;
        self.fresh = true;
        self.forget_statements();
    }

    fn forget_statements(&mut self) {
        self.expect_is_prepared = false;
        self.prepared = [false; PREPARED.len()];
    }

    /// The next acts begin a new turn, also where their tenant had the last one.
    pub(super) fn end_turn(&mut self) {
        if self.faults == Faults::default() || self.travel.raw {
            self.bound = None;
        }
    }

    fn put_control(&mut self, owner: Owner, sql: &str) -> Result<()> {
        self.units.push(Unit::Control(owner));
        self.connection.put_query(sql)
    }

    /// Binds the session to the tenant, as the pool does when a connection changes hands.
    fn take_turn(&mut self, owner: Owner) -> Result<()> {
        if self.bound == Some(owner) {
            return Ok(());
        }
        let was_bound = !self.fresh;
        if owner == Owner::A && was_bound && (self.faults.stale_binding || self.faults.skip_enter) {
            if self.faults.skip_enter {
                self.counter = self.next_counter(owner);
                self.seal = self.key.sign(&self.token(owner, self.counter)).seal();
            }
            self.bound = Some(owner);
            return Ok(());
        }
        if self.travel.raw && was_bound {
            self.discard(owner)?;
        }
        let signed = self.next_token(owner);
        self.seal = signed.seal();
        self.bound_counter = self.counter;
        // All of it under one Sync, as the pool sends it.
        self.put_enter(&signed)?;
        self.put_path(owner)?;
        if !self.expect_is_prepared {
            self.connection.put_parse(
                "expect",
                // No row: what is observed is the step's.
                match self.tier {
                    Tier::Sealed => "select where pg_catalog.set_config('tenantry.expect', $1, true) is null",
                    Tier::Signed => "select where tenantry.enter($1, $2) is null",
                },
            )?;
            self.expect_is_prepared = true;
        }
        self.connection.put_sync();
        self.units.push(Unit::Control(owner));
        self.bound = Some(owner);
        self.fresh = false;
        Ok(())
    }

    fn discard(&mut self, owner: Owner) -> Result<()> {
        match self.faults.kept {
            None => return self.wipe(owner),
            Some(Kept::Everything) => {}
            Some(kept) => {
                self.put_control(owner, "rollback")?;
                for (part, sql) in DISCARDS {
                    if part != kept {
                        self.put_control(owner, sql)?;
                    }
                }
                // Last, since it clears the carrier.
                self.put_control(owner, "reset all")?;
                self.fresh = true;
                if kept != Kept::Statements {
                    self.forget_statements();
                }
            }
        }
        Ok(())
    }

    /// A's counters do not tell how often others were bound, unless that is what is looked at.
    fn next_counter(&mut self, owner: Owner) -> u64 {
        if self.travel.natural_counters || owner != Owner::A {
            return self.counter + 1;
        }
        self.turns_of_a += 1;
        self.turns_of_a * 100_000
    }

    fn next_token(&mut self, owner: Owner) -> Signed {
        self.counter = self.next_counter(owner);
        self.key.sign(&self.token(owner, self.counter))
    }

    fn token(&self, owner: Owner, counter: u64) -> Token {
        Token {
            tenant: tenant(owner),
            counter,
            // So does whether A was the first to be bound here; such a token is good on a bound backend too.
            fresh: self.fresh || (owner == Owner::A && !self.travel.natural_counters),
            // A token of the raw lane serves one transaction there, so it would in the signed tier serve one statement.
            raw: self.travel.raw && self.tier == Tier::Sealed,
            role: Role::Owner,
            now_us: now_us(),
            backend_pid: self.connection.pid,
            account: None,
            epoch: epoch(owner),
        }
    }

    fn put_enter(&mut self, signed: &Signed) -> Result<()> {
        self.connection.put_parse("", "select tenantry.enter($1, $2)")?;
        self.connection
            .put_run("", [signed.message.as_slice(), &signed.mac], true, false)
    }

    fn put_path(&mut self, owner: Owner) -> Result<()> {
        if self.faults.stale_path && self.path_is_set {
            return Ok(());
        }
        let path = match owner {
            Owner::A if self.faults.wrong_path => &self.paths[2],
            Owner::A => &self.paths[0],
            _ => &self.paths[1],
        };
        self.path_is_set = true;
        self.connection.put_parse(
            "",
            "select pg_catalog.set_config('search_path', $1, false), pg_catalog.set_config('lock_timeout', '200ms', false)",
        )?;
        self.connection.put_run("", [path.as_bytes()], false, false)
    }

    /// The application's statement, prepared with its first use on a session: B may have been the first in one world only,
    /// so that is not part of what A observes.
    fn prepare(&mut self, owner: Owner, number: usize) -> Result<()> {
        if self.prepared[number] {
            return Ok(());
        }
        self.connection.put_parse(&format!("app{number}"), PREPARED[number])?;
        self.connection.put_sync();
        self.units.push(Unit::Control(owner));
        self.prepared[number] = true;
        Ok(())
    }

    /// What proves the context of a step: in the sealed tier what it expects, in the signed one a token of its own.
    fn put_lead(&mut self, owner: Owner, step: &Step) -> Result<()> {
        if !step.lead || self.faults.skip_expectation {
            return Ok(());
        }
        match self.tier {
            Tier::Sealed => {
                let seal = std::mem::take(&mut self.seal);
                self.connection.put_run("expect", [seal.as_bytes()], false, false)?;
                self.seal = seal;
                Ok(())
            }
            Tier::Signed => {
                let signed = self.next_token(owner);
                let values = [signed.message.as_slice(), &signed.mac];
                self.connection.put_run("expect", values, true, false)
            }
        }
    }

    /// The same as text, for the simple protocol.
    fn lead_text(&mut self, owner: Owner) -> String {
        match self.tier {
            Tier::Sealed => format!(
                "select where pg_catalog.set_config('tenantry.expect', '{}', true) is null",
                self.seal
            ),
            Tier::Signed => {
                let signed = self.next_token(owner);
                let [message, mac] = [signed.message.as_slice(), &signed.mac].map(hex);
                format!(
                    "select where tenantry.enter(pg_catalog.decode('{message}', 'hex'), pg_catalog.decode('{mac}', 'hex')) is null"
                )
            }
        }
    }

    /// Puts one act of a tenant into the outbox.
    pub(super) fn put(&mut self, owner: Owner, step: &Step) -> Result<()> {
        self.take_turn(owner)?;
        match &step.act {
            Act::Sql(sql) => {
                self.put_lead(owner, step)?;
                self.connection.put_parse("", sql)?;
                self.connection.put_run("", [], false, true)?;
                if sql.contains("from stdin") {
                    self.connection.put_copy_end()?;
                }
                self.connection.put_sync();
            }
            Act::Prepared(number, values) => {
                self.prepare(owner, *number)?;
                self.put_lead(owner, step)?;
                let values = values.iter().map(String::as_bytes);
                self.connection.put_run(&format!("app{number}"), values, false, true)?;
                self.connection.put_sync();
            }
            Act::Simple(sql) if step.lead && !self.faults.skip_expectation => {
                let lead = self.lead_text(owner);
                self.connection.put_query(&format!("{lead}; {sql}"))?;
            }
            Act::Simple(sql) => self.connection.put_query(sql)?,
            Act::Replay(leaked) => self.put_replay(owner, *leaked)?,
        }
        self.units.push(Unit::Step(owner));
        match &step.act {
            Act::Replay(leaked) => self.unbind_after(*leaked),
            act if unbinds(act) => self.wipe(owner)?,
            _ => {}
        }
        Ok(())
    }

    /// A token that was refused leaves the binding as it was; what went before it may have taken the binding away.
    fn unbind_after(&mut self, leaked: Leaked) {
        match leaked {
            Leaked::AfterReset | Leaked::Pooled => {
                self.bound = None;
                self.fresh = true;
            }
            Leaked::AfterLeave => self.bound = None,
            _ => {}
        }
    }

    fn put_replay(&mut self, owner: Owner, leaked: Leaked) -> Result<()> {
        if leaked == Leaked::Statement {
            return self.put_statement();
        }
        let high = self.counter + 50_000;
        let theirs = |fresh, raw, counter| Token {
            fresh,
            raw,
            ..self.token(Owner::B, counter)
        };
        let mut token = theirs(false, false, high);
        match leaked {
            Leaked::Used => token.counter = self.bound_counter - 1,
            Leaked::OnRawLane if self.tier == Tier::Signed => token.counter = self.bound_counter - 1,
            Leaked::OtherBackend => token.backend_pid += 1,
            Leaked::Expired => token.now_us -= 31_000_000,
            Leaked::StaleEpoch => token.epoch = tenantry_core::Epoch::FIRST,
            Leaked::Gone => {
                token.tenant = tenant(Owner::D);
                token.epoch = epoch(Owner::D);
            }
            Leaked::AfterReset => self.put_control(owner, "reset all")?,
            Leaked::Pooled => {
                self.put_control(owner, "reset all")?;
                token.backend_pid = 0;
            }
            Leaked::AfterLeave => {
                self.put_control(owner, "select tenantry.leave()")?;
                token.fresh = true;
                token.counter = self.bound_counter - 1;
            }
            Leaked::Tampered | Leaked::OnRawLane | Leaked::Statement => {}
        }
        let mut signed = self.key.sign(&token);
        if leaked == Leaked::Tampered {
            let own = Token {
                fresh: false,
                raw: false,
                ..self.token(owner, high)
            };
            signed = self.key.sign(&own);
            // One of the same epoch.
            signed.message[..16].copy_from_slice(tenant(Owner::C).as_uuid().as_bytes());
        }
        let function = if leaked == Leaked::Pooled {
            "enter_pooled"
        } else {
            "enter"
        };
        self.connection
            .put_parse("", &format!("select tenantry.{function}($1, $2)"))?;
        self.connection
            .put_run("", [signed.message.as_slice(), &signed.mac], true, false)?;
        self.put_look()
    }

    /// What the signed tier leaves in a setting, genuine and B's, of a transaction of this backend that is over.
    fn put_statement(&mut self) -> Result<()> {
        let counter = self.counter + 50_000;
        let message = self.key.sign(&self.token(Owner::B, counter)).message;
        let mut payload = message[..SEAL_LEN].to_vec();
        payload.push(self.key.id());
        payload.extend(self.connection.pid.to_be_bytes());
        payload.extend((now_us() - 5_000_000 - SINCE_2000_US).to_be_bytes());
        let (inner, outer) = self.key.blocks();
        let mac = sha256(&[&outer[..], &sha256(&[&inner[..], &payload].concat())].concat());
        self.connection.put_parse(
            "",
            // No row.
            "select where pg_catalog.set_config('tenantry.signed', $1, true) is null or pg_catalog.set_config('tenantry.expect', $2, true) is null",
        )?;
        let [statement, seal] = [hex(&[&payload[..], &mac].concat()), hex(&message[..SEAL_LEN])];
        self.connection
            .put_run("", [statement.as_bytes(), seal.as_bytes()], false, false)?;
        self.put_look()
    }

    /// A look at what is open now.
    fn put_look(&mut self) -> Result<()> {
        // Named in full: a reset took the search path with it.
        let schema = self.paths[0].split(',').next().unwrap_or("app").to_owned();
        self.connection
            .put_parse("", &format!("select id, name from {schema}.project order by id"))?;
        self.connection.put_run("", [], false, true)?;
        self.connection.put_sync();
        Ok(())
    }

    /// Sends what was put; gives what A observes of its steps, and of its bindings.
    pub(super) async fn flush(&mut self) -> Result<Flushed> {
        let units = std::mem::take(&mut self.units);
        let answers = self.connection.exchange(units.len()).await?;
        let mut flushed = Flushed::default();
        for (unit, answer) in units.into_iter().zip(answers) {
            match unit {
                Unit::Step(Owner::A) => flushed.steps.push(answer),
                Unit::Control(Owner::A) if super::observe::is_refused(&answer) => flushed.controls.push(answer),
                Unit::Step(_) | Unit::Control(_) => {}
            }
        }
        Ok(flushed)
    }

    /// Sends what was put, and a cancel request while it runs.
    pub(super) async fn flush_cancelled(&mut self) -> Result<()> {
        let units = std::mem::take(&mut self.units).len();
        let canceller = self.connection.canceller();
        let (answers, cancelled) = tokio::join!(self.connection.exchange(units), canceller);
        answers?;
        cancelled
    }
}

/// What A observed, in the order of its steps.
#[derive(Default, Debug)]
pub(super) struct Flushed {
    pub(super) steps: Vec<Vec<u8>>,
    /// Bindings that were refused.
    pub(super) controls: Vec<Vec<u8>>,
}

/// After these the driver binds the session anew, as the pool would open another.
fn unbinds(act: &Act) -> bool {
    let (Act::Sql(text) | Act::Simple(text)) = act else {
        return false;
    };
    ["reset all", "discard all", "tenantry.leave"]
        .iter()
        .any(|word| text.contains(word))
}

/// From the Unix epoch to PostgreSQL's.
const SINCE_2000_US: i64 = 946_684_800_000_000;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The seal of another tenant, as A would forge it: right in form, never signed.
pub(super) fn forged_seal(owner: Owner) -> String {
    forged_seal_of(tenant(owner).as_uuid())
}

fn forged_seal_of(id: &Uuid) -> String {
    format!("{}{:016x}12", id.simple(), 7)
}
