//! `tenantry tenant move`: another isolation, another server.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use tenantry_core::{Isolation, OperationId};
use tenantry_ops::{MoveHome, MovePlan, MoveRequest, MoveStep, Operation, OperationState, Ops, TenantRef};

use crate::{
    connect::authority,
    failure::Failure,
    output::{Answer, Output, fields, table},
    progress::Progress,
};

/// Which tenant, and where to.
#[derive(Args, Debug)]
pub(crate) struct Move {
    /// The tenant's slug or id
    tenant: String,
    /// How its rows are kept apart then: shared, schema or database
    #[arg(long)]
    to: Isolation,
    /// The server to take it to, by name [default: the one where it is]
    #[arg(long)]
    server: Option<String>,
    /// Say what it would take and what is in the way, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// End transactions that do not end in time, instead of trying again later
    #[arg(long)]
    force: bool,
    /// Move it also where it waits while many rows are compared (`--dry-run` says why)
    #[arg(long)]
    wait: bool,
    /// Keep the old home in step for so long (30m, 12h, 7d), so that the tenant can be taken back with `operation rollback`
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    soak: Option<Duration>,
}

/// A whole number and its unit.
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write a number with s, m, h or d, as in 12h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// What a move would take, with the names that the HTTP interface uses.
#[derive(Serialize)]
struct Plan {
    from: Home,
    to: Home,
    rows: i64,
    bytes: i64,
    complete: bool,
    obstacles: Vec<InTheWay>,
    held_because: Option<String>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Home {
    isolation: Isolation,
    server: String,
    schema: String,
}

#[derive(Serialize)]
struct InTheWay {
    code: &'static str,
    what: String,
    mend: String,
}

impl From<MoveHome> for Home {
    fn from(home: MoveHome) -> Self {
        Self {
            isolation: home.isolation,
            server: home.server,
            schema: home.schema,
        }
    }
}

impl From<MovePlan> for Plan {
    fn from(plan: MovePlan) -> Self {
        let in_the_way = |one: tenantry_ops::Obstacle| InTheWay {
            code: one.code,
            what: one.what,
            mend: one.mend,
        };
        Self {
            from: plan.from.into(),
            to: plan.to.into(),
            rows: plan.rows,
            bytes: plan.bytes,
            complete: plan.complete,
            obstacles: plan.obstacles.into_iter().map(in_the_way).collect(),
            held_because: plan.held_because,
            notes: plan.notes,
        }
    }
}

impl Home {
    fn text(&self) -> String {
        format!("{} on {}, schema {}", self.isolation, self.server, self.schema)
    }
}

impl Answer for Plan {
    fn text(&self) -> String {
        let least = if self.complete { "about " } else { "at least " };
        let meanwhile = match &self.held_because {
            None => "the tenant works while its rows are copied".to_owned(),
            Some(why) => {
                format!("the tenant works while its rows are copied, and waits while all of them are compared: {why}")
            }
        };
        let mut shown = fields([
            ("from", self.from.text()),
            ("to", self.to.text()),
            ("rows", format!("{least}{}", self.rows)),
            ("bytes", format!("{least}{}", self.bytes)),
            ("meanwhile", meanwhile),
        ]);
        for note in &self.notes {
            shown.push_str("\n\nNote: ");
            shown.push_str(note);
        }
        if self.obstacles.is_empty() {
            return format!("{shown}\n\nNothing is in the way.");
        }
        let rows = self.obstacles.iter().map(|one| [one.what.clone(), one.mend.clone()]);
        format!("{shown}\n\n{}", table(["in the way", "what to do"], rows))
    }
}

/// How a move ended, with the names that the HTTP interface uses.
#[derive(Serialize)]
struct Ended {
    id: OperationId,
    kind: String,
    state: String,
    step: String,
    progress: Value,
}

impl Answer for Ended {
    fn text(&self) -> String {
        let rows = self.progress["rows"].as_i64().unwrap_or_default();
        let tables = self.progress["tables"].as_i64().unwrap_or_default();
        let id = self.id;
        let held = match self.progress["held_ms"].as_u64() {
            Some(held) => format!("; it waited {held} ms"),
            None => String::new(),
        };
        let moved = format!("Moved: {rows} rows of {tables} tables, compared on both sides{held} (operation {id}).");
        match self.progress["soak_until"].as_str() {
            Some(until) if self.state != "done" => format!(
                "{moved}\nIts old home is kept in step until {until}, by a `tenantry serve` that runs: `tenantry operation rollback {id}` takes \
                 it back, `tenantry operation finish {id}` removes the old home now."
            ),
            _ => moved,
        }
    }
}

pub(super) async fn run(ops: &Ops, wish: Move, output: Output) -> Result<(), Failure> {
    let tenant = TenantRef::parse(&wish.tenant);
    let request = MoveRequest {
        to: wish.to,
        server: wish.server,
        force: wish.force,
        wait: wish.wait,
        soak: wish.soak,
    };
    if wish.dry_run {
        let plan = Plan::from(ops.plan_move(&authority(), &tenant, &request).await?);
        let in_the_way = plan.obstacles.len();
        output.answer(&plan)?;
        return match in_the_way {
            0 => Ok(()),
            some => Err(Failure::failed(format!("{some} things are in the way of the move"))),
        };
    }
    let progress = Progress::start(output);
    progress.step(format!("moving {}", wish.tenant));
    let begun = ops.move_tenant(&authority(), &tenant, &request, None).await?;
    let told = |operation: &Operation| progress.step(now(&wish.tenant, operation));
    let ended = ops.finish_move(&authority(), begun.id, &told).await;
    progress.end();
    let ended = ended?;
    if ended.state == OperationState::Paused {
        return Err(Failure::failed(format!(
            "the move of {} was paused and the tenant is served where it was: `tenantry operation resume {}` goes on",
            wish.tenant, ended.id
        )));
    }
    let soaks = MoveStep::of(&ended.step) == Some(MoveStep::Soak) && !ended.state.is_final();
    if ended.state != OperationState::Done && !soaks {
        let reason = ended.error.unwrap_or_else(|| ended.state.to_string());
        return Err(Failure::failed(format!(
            "{} was not moved and is served where it was: {reason}",
            wish.tenant
        )));
    }
    Ok(output.answer(&Ended {
        id: ended.id,
        kind: ended.kind.to_string(),
        state: ended.state.to_string(),
        step: ended.step,
        progress: ended.progress,
    })?)
}

/// What is being done, for who watches.
pub(in crate::command) fn now(tenant: &str, operation: &Operation) -> String {
    let what = match MoveStep::of(&operation.step) {
        None => "begins".to_owned(),
        Some(MoveStep::Preflight) => "looking for what is in the way".to_owned(),
        Some(MoveStep::Prepare) => "making the new home".to_owned(),
        Some(MoveStep::WayBack) => "preparing the way back".to_owned(),
        Some(MoveStep::Close | MoveStep::BackClose) => "waiting for open transactions".to_owned(),
        Some(MoveStep::CatchUp | MoveStep::BackCatchUp) => "catching up with what the tenant writes".to_owned(),
        Some(MoveStep::Follow | MoveStep::Copy | MoveStep::BackCopy) => {
            let figure = |name: &str| operation.progress[name].as_i64().unwrap_or_default();
            let table = operation.progress["table"].as_str().unwrap_or_default();
            let of_about = match operation.progress["rows_about"].as_i64() {
                Some(about) if about > 0 => format!(" of about {about}"),
                _ => String::new(),
            };
            let left = match operation.progress["seconds_left"].as_i64() {
                Some(seconds) => format!(", about {seconds} s left"),
                None => String::new(),
            };
            format!(
                "copying {table}: {} of {} tables, {}{of_about} rows{left}",
                figure("tables_done"),
                figure("tables"),
                figure("rows")
            )
        }
        Some(MoveStep::Compare | MoveStep::Verify | MoveStep::BackCompare | MoveStep::BackVerify) => {
            "comparing both sides".to_owned()
        }
        Some(MoveStep::Switch | MoveStep::BackSwitch) => "switching".to_owned(),
        Some(MoveStep::Open) => "opening the new home".to_owned(),
        Some(MoveStep::Soak) => "keeping the old home in step".to_owned(),
        Some(MoveStep::Remove) => "removing the old home".to_owned(),
        Some(MoveStep::BackPrepare) => "preparing the old home".to_owned(),
        Some(MoveStep::BackOpen) => "opening the old home again".to_owned(),
        Some(MoveStep::BackRemove) => "removing the new home".to_owned(),
    };
    let again = match &operation.error {
        Some(error) if operation.attempts > 1 => format!(" (again, since {error})"),
        _ => String::new(),
    };
    format!("moving {tenant}: {what}{again}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "7", "h", "1 h", "-1h", "1é", "99999999999999999999d"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
