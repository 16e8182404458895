//! The library as A's and B's way: scoped calls over one pool, with calls of B that are dropped halfway.

use std::{
    collections::HashMap,
    fmt::Write as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Result;
use async_trait::async_trait;
use postgres_types::{FromSql, Type};
use tenantry::{
    Error, Home, Incarnation, LocateError, PlacementSource, PoolConfig, RawRows, Row, Scope, SystemAudit, Tenantry,
    Transaction,
};
use tenantry_core::{Placement, ServerId, TenantDatabaseId, TenantId};
use tenantry_wire::Endpoint;
use uuid::Uuid;

use super::{
    run::{Finding, Kind},
    site::{World, census, epoch, tenant},
    step::{Act, Must, Owner, PREPARED, Program, Round, Step},
};

/// Which of the library's calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Calls {
    /// Those for the application's own statements.
    Scoped,
    /// The raw lane's, each on a connection of its own.
    Outside,
}

/// One world through the library.
pub(super) struct Library {
    world: Arc<World>,
    index: usize,
    calls: Calls,
    a: Scope,
    b: Scope,
}

struct Source(HashMap<TenantId, Home>);

#[async_trait]
impl PlacementSource for Source {
    async fn locate(&self, tenant: TenantId) -> Result<Home, LocateError> {
        self.0.get(&tenant).cloned().ok_or(LocateError::NotFound)
    }
}

struct NoAudit;

#[async_trait]
impl SystemAudit for NoAudit {
    async fn system_context(&self, _tenant: TenantId, _reason: &str) -> Result<(), Error> {
        Ok(())
    }
}

/// Bounds that no call meets: on a busy machine a time-out in one of two worlds would be taken for a difference between them.
pub(super) fn patient() -> PoolConfig {
    const LONG: Duration = Duration::from_secs(300);
    PoolConfig {
        wait_timeout: LONG,
        connect_timeout: LONG,
        statement_timeout: LONG,
        transaction_timeout: LONG,
        raw_timeout: LONG,
        ..PoolConfig::default()
    }
}

impl Library {
    /// With so many connections for both tenants.
    pub(super) async fn new(world: Arc<World>, index: usize, calls: Calls, connections: usize) -> Result<Self> {
        let homes = [Owner::A, Owner::B].map(|owner| home(&world, owner));
        let homes = homes.into_iter().collect::<Result<HashMap<_, _>>>()?;
        let pool = PoolConfig {
            connections_max: connections,
            ..patient()
        };
        let tenantry = Tenantry::from_source(Arc::new(Source(homes)), Arc::new(NoAudit), pool);
        Ok(Self {
            a: tenantry.system_context(tenant(Owner::A), "proof").await?,
            b: tenantry.system_context(tenant(Owner::B), "proof").await?,
            world,
            index,
            calls,
        })
    }

    /// What A observes of each step, and what became of C's rows and of A's.
    async fn run(&self, program: &Program) -> Result<Seen> {
        let before = self.world.digest(Owner::C).await?;
        let mut seen = Vec::new();
        for (number, round) in program.rounds.iter().enumerate() {
            let theirs = self.play_b(round, number);
            let own = self.play_a(round, number);
            if round.concurrent {
                let ((), own) = tokio::join!(theirs, own);
                seen.extend(own);
            } else {
                theirs.await;
                seen.extend(own.await);
            }
        }
        let told = match self.a.query(&census(str::to_owned), &[]).await {
            Ok(told) => told[0].get(0)?,
            Err(error) => told_of(&error),
        };
        let schema = self.world.schema(Owner::A);
        let id = tenant(Owner::A);
        let sql = census(|table| format!("{schema}.{table} where tenant_id = '{id}'"));
        let held: String = self.world.place(Owner::A).admin.query_one(&sql, &[]).await?.get(0);
        Ok(Seen {
            steps: seen,
            integrity: [before, self.world.digest(Owner::C).await?],
            census: [held, told],
        })
    }

    async fn call(&self, scope: &Scope, step: &Step, way: usize) -> String {
        match self.calls {
            Calls::Scoped => call(scope, step, way).await,
            Calls::Outside => outside(scope, step, way).await,
        }
    }

    /// Each of B's calls may be dropped after so many polls.
    async fn play_b(&self, round: &Round, number: usize) {
        for (position, step) in round.b[self.index].iter().enumerate() {
            let polls = match (number + position) % 4 {
                0 => 1 + position as u32 % 7,
                _ => u32::MAX,
            };
            let call = self.call(&self.b, step, number + position);
            DropAfter {
                call: Box::pin(call),
                polls,
            }
            .await;
        }
    }

    async fn play_a(&self, round: &Round, number: usize) -> Vec<String> {
        let mut seen = Vec::new();
        let mut transaction: Option<Transaction> = None;
        for (position, step) in round.a.iter().enumerate() {
            let word = first_words(step);
            let observed = match (word.as_str(), transaction.take()) {
                // SQL from outside has no transactions over several calls.
                ("begin", None) if self.calls == Calls::Scoped => match self.a.begin().await {
                    Ok(begun) => {
                        transaction = Some(begun);
                        "begun".to_owned()
                    }
                    Err(error) => told_of(&error),
                },
                ("commit", Some(open)) => outcome(open.commit().await),
                ("rollback", Some(open)) => outcome(open.rollback().await),
                (_, Some(mut open)) => {
                    let observed = inside(&mut open, step).await;
                    transaction = Some(open);
                    observed
                }
                (_, None) => self.call(&self.a, step, number + position).await,
            };
            seen.push(observed);
        }
        if let Some(open) = transaction {
            seen.push(outcome(open.rollback().await));
        }
        seen
    }
}

/// What one world answered to a program.
struct Seen {
    steps: Vec<String>,
    integrity: [String; 2],
    census: [String; 2],
}

fn home(world: &World, owner: Owner) -> Result<(TenantId, Home)> {
    let place = world.place(owner);
    let cluster = &world.cluster;
    let url = format!(
        "postgresql://{}:{}@{}:{}/{}",
        place.app_role,
        place.password(),
        cluster.host(),
        cluster.port(),
        place.name()
    );
    let mut endpoint = Endpoint::from_url(&url)?;
    endpoint.password = place.app_password.clone();
    let (system_identifier, database_oid) = place.incarnation;
    let home = Home {
        placement: Placement {
            tenant: tenant(owner),
            isolation: world.isolation,
            server: ServerId::from_uuid(Uuid::nil()),
            database: TenantDatabaseId::from_uuid(Uuid::from_u128(u128::from(database_oid))),
            database_name: place.name().to_owned(),
            schema: world.schema(owner),
            epoch: epoch(owner),
        },
        endpoint: Arc::new(endpoint),
        key: place.key.clone(),
        tier: world.tier,
        incarnation: Some(Incarnation {
            system_identifier,
            database_oid,
        }),
        pooled: false,
    };
    Ok((tenant(owner), home))
}

fn first_words(step: &Step) -> String {
    match &step.act {
        Act::Sql(sql) | Act::Simple(sql) if sql.starts_with("begin") => "begin".to_owned(),
        Act::Sql(sql) | Act::Simple(sql) => sql.clone(),
        Act::Prepared(..) | Act::Replay(_) => String::new(),
    }
}

/// One statement of the raw lane, or several with semicolons between them.
async fn outside(scope: &Scope, step: &Step, way: usize) -> String {
    let (sql, values) = statement(step);
    let values: Vec<Option<&str>> = values.iter().map(|value| Some(value.as_str())).collect();
    let raw = match way % 3 {
        0 if step.must == Must::BeEqual => scope.raw().read_only(),
        _ => scope.raw(),
    };
    let results = if values.is_empty() && way.is_multiple_of(2) && step.must == Must::BeEqual {
        raw.script(&format!("{sql}; select count(*) from task")).await
    } else {
        raw.query(&sql, &values).await.map(|rows| vec![rows])
    };
    match results {
        Ok(results) => results
            .iter()
            .map(|result| raw_rows(result, step.ordered))
            .collect::<Vec<_>>()
            .join("; "),
        Err(error) => told_of(&error),
    }
}

fn raw_rows(result: &RawRows, ordered: bool) -> String {
    let line = |row: &Vec<Option<String>>| {
        let cells = result.columns.iter().zip(row);
        cells.map(|(name, value)| format!("{name}={value:?} ")).collect()
    };
    let mut lines: Vec<String> = result.rows.iter().map(line).collect();
    if !ordered {
        lines.sort_unstable();
    }
    format!("{} {}", result.affected, lines.join("; "))
}

/// The statement and its parameters; each step goes through another of the library's calls.
async fn call(scope: &Scope, step: &Step, way: usize) -> String {
    let (sql, values) = statement(step);
    let values: Vec<&(dyn tenantry::ToSql + Sync)> = values.iter().map(|value| value as _).collect();
    if sql.starts_with("copy") {
        return copied(scope, &sql).await;
    }
    match way % 5 {
        0 => match scope.execute(&sql, &values).await {
            Ok(count) => format!("{count}"),
            Err(error) => told_of(&error),
        },
        1 => streamed(scope, &sql, &values, step.ordered).await,
        2 if step.shape == "insert several" => {
            let (first, name) = (way as i32 % 20, "many".to_owned());
            let (second, third) = (first + 1, first + 2);
            let rows: [&[&(dyn tenantry::ToSql + Sync)]; 3] = [&[&first, &name], &[&second, &name], &[&third, &name]];
            match scope.insert_many("project", &["id", "name"], &rows).await {
                Ok(count) => format!("{count}"),
                Err(error) => told_of(&error),
            }
        }
        3 if step.must == Must::BeEqual => {
            let done = scope
                .transaction(async |transaction| {
                    let first = transaction
                        .savepoint(async |part| part.query(&sql, &values).await)
                        .await;
                    let second = transaction.query("select count(*) from task", &[]).await;
                    Ok::<_, Error>((first, second))
                })
                .await;
            match done {
                Ok((first, second)) => format!("{}; {}", rows(first, step.ordered), rows(second, true)),
                Err(error) => told_of(&error),
            }
        }
        _ => rows(scope.query(&sql, &values).await, step.ordered),
    }
}

fn statement(step: &Step) -> (String, Vec<String>) {
    match &step.act {
        Act::Sql(sql) | Act::Simple(sql) => (sql.clone(), Vec::new()),
        Act::Prepared(number, values) => (PREPARED[*number].to_owned(), values.clone()),
        Act::Replay(_) => ("select tenantry.enter(null, null)".to_owned(), Vec::new()),
    }
}

async fn inside(transaction: &mut Transaction, step: &Step) -> String {
    let (sql, values) = statement(step);
    let values: Vec<&(dyn tenantry::ToSql + Sync)> = values.iter().map(|value| value as _).collect();
    rows(transaction.query(&sql, &values).await, step.ordered)
}

async fn streamed(scope: &Scope, sql: &str, values: tenantry::Params<'_>, ordered: bool) -> String {
    let mut all = Vec::new();
    match scope.query_stream(sql, values).await {
        Err(error) => return told_of(&error),
        Ok(mut stream) => loop {
            match stream.next().await {
                Ok(Some(row)) => all.push(row),
                Ok(None) => break,
                Err(error) => return told_of(&error),
            }
        },
    }
    rows(Ok(all), ordered)
}

async fn copied(scope: &Scope, sql: &str) -> String {
    let mut lines = Vec::new();
    match scope.copy_out(sql).await {
        Err(error) => return told_of(&error),
        Ok(mut data) => loop {
            match data.next().await {
                Ok(Some(piece)) => lines.push(String::from_utf8_lossy(&piece).into_owned()),
                Ok(None) => break,
                Err(error) => return told_of(&error),
            }
        },
    }
    lines.sort_unstable();
    lines.concat()
}

/// A column's bytes, whatever its type.
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn rows(result: Result<Vec<Row>, Error>, ordered: bool) -> String {
    let rows = match result {
        Ok(rows) => rows,
        Err(error) => return told_of(&error),
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    if !ordered {
        lines.sort_unstable();
    }
    lines.join("; ")
}

fn line(row: &Row) -> String {
    let mut line = String::new();
    for (position, name) in row.column_names().enumerate() {
        let value = match row.get::<Option<Raw>>(position) {
            Ok(Some(raw)) => String::from_utf8_lossy(&raw.0).into_owned(),
            Ok(None) => "null".to_owned(),
            Err(error) => error.to_string(),
        };
        let _ = write!(line, "{name}={value:?} ");
    }
    line
}

fn outcome(result: Result<(), Error>) -> String {
    match result {
        Ok(()) => "done".to_owned(),
        Err(error) => told_of(&error),
    }
}

/// All that an error says.
fn told_of(error: &Error) -> String {
    let database = error.database().map(|db| {
        format!(
            "{} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            db.code(),
            db.message(),
            db.detail(),
            db.hint(),
            db.position(),
            db.schema(),
            db.table(),
            db.column(),
            db.constraint()
        )
    });
    format!("ERROR {:?} {error} {database:?}", error.kind())
}

/// Drops a call after so many polls.
struct DropAfter<F> {
    call: Pin<Box<F>>,
    polls: u32,
}

impl<F: Future> Future for DropAfter<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.polls == 0 {
            return Poll::Ready(());
        }
        self.polls -= 1;
        let polled = self.call.as_mut().poll(context).map(|_| ());
        if polled.is_pending() && self.polls == 0 {
            // The next poll, which comes at once, ends it.
            context.waker().wake_by_ref();
        }
        polled
    }
}

/// Whether the channel of the binding's counter, which is the pool's here, shows in the step.
fn is_declared(step: &Step) -> bool {
    let text = step.text();
    step.shape == "what a session shows"
        && ["backtrace_functions", "tenantry.expect"]
            .iter()
            .any(|word| text.contains(word))
}

/// Runs the program in both worlds, which have been filled; what A could tell them apart by.
pub(super) async fn compare(worlds: &mut [Library; 2], program: &Program) -> Option<Finding> {
    let mut program = program.clone();
    // The operator's acts are the raw driver's.
    program.rounds.retain(|round| !round.fenced);
    for round in &mut program.rounds {
        round.a.retain(|step| !is_declared(step));
    }
    let (first, second) = tokio::join!(worlds[0].run(&program), worlds[1].run(&program));
    let whole = |kind, answers| Finding {
        kind,
        statements: program.statements(),
        step: "the whole program".to_owned(),
        shape: "-".to_owned(),
        answers,
    };
    let (first, second) = match (first, second) {
        (Ok(first), Ok(second)) => (first, second),
        (first, second) => {
            let told = |seen: Result<Seen>| seen.map_or_else(|error| format!("{error:#}"), |_| "done".to_owned());
            return Some(whole(Kind::Broken, [told(first), told(second)]));
        }
    };
    let steps = program.rounds.iter().flat_map(|round| &round.a);
    for (position, step) in steps.enumerate() {
        let (first, second) = (first.steps.get(position)?, second.steps.get(position)?);
        let is_quiet = shows_nothing(step, worlds[0].calls);
        let refused_by_us = |told: &str| told.starts_with("ERROR") && told.contains("tenantry: ");
        let kind = if is_quiet && (shows_a_value(first) || shows_a_value(second)) {
            Kind::Shown
        } else if is_quiet && (refused_by_us(first) || refused_by_us(second)) {
            // As on the wire: neither showed a row; whether a scan met one to refuse on is the plan's affair.
            continue;
        } else if first != second {
            Kind::Difference
        } else if step.must == Must::BeRefused && !first.starts_with("ERROR") {
            Kind::NotRefused
        } else {
            continue;
        };
        return Some(Finding {
            kind,
            statements: position + 1,
            step: step.text(),
            shape: step.shape.clone(),
            answers: [first.clone(), second.clone()],
        });
    }
    for seen in [&first, &second] {
        if seen.integrity[0] != seen.integrity[1] {
            return Some(whole(Kind::Integrity, seen.integrity.clone()));
        }
        if seen.census[0] != seen.census[1] {
            return Some(whole(Kind::Incomplete, seen.census.clone()));
        }
    }
    None
}

/// On the raw lane each call has a context of its own, whatever a call before it took away.
fn shows_nothing(step: &Step, calls: Calls) -> bool {
    step.must == Must::ShowNothing && (step.lead || calls == Calls::Scoped)
}

/// Whether a line of a row is in the observation.
fn shows_a_value(observed: &str) -> bool {
    !observed.starts_with("ERROR") && ["=\"", "=Some(\"", "=null"].iter().any(|mark| observed.contains(mark))
}
