//! A worker's clock: makes the jobs of schedules that are due.
//!
//! Every worker has one, and all of them look at the same schedules. A due time is whose who moves the schedule on first, in
//! the database's transaction that makes the job; the others find it moved on. So nobody has to be elected, and it does not
//! matter who dies when.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tenantry_core::{Role, TenantDatabaseId};
use tokio::{
    sync::watch,
    time::{sleep_until, timeout},
};
use uuid::Uuid;

use super::{Schedule, claim::Source, schedule::missed, times::Times, wakes::JobWakes};
use crate::{Error, Row};

/// How often schedules are looked for that were set elsewhere.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// How often tenants are looked for that lack a row of what is declared for every tenant.
const DECLARE: Duration = Duration::from_secs(30);
/// Schedules per call, and rows: each is one short transaction.
const BATCH: i32 = 200;
const ROWS: i32 = 1000;
/// No longer than this: what has not come to its end by then begins anew, with another connection.
const PATIENCE: Duration = Duration::from_secs(20);

/// A schedule that a program declares for every tenant.
pub(super) struct Everyone {
    pub(super) name: String,
    pub(super) schedule: Schedule,
    pub(super) kind: &'static str,
    pub(super) payload: String,
    pub(super) role: Role,
}

/// What a clock looks for.
pub(super) struct Clock {
    pub(super) everyone: Arc<[Everyone]>,
    pub(super) kinds: Vec<&'static str>,
    pub(super) wakes: JobWakes,
}

/// When a database is looked at.
#[derive(Clone)]
struct Face {
    source: Arc<Source>,
    look: Instant,
    declare: Instant,
    /// It is being looked at.
    busy: bool,
    /// A schedule was set meanwhile.
    again: bool,
}

impl Clock {
    /// Goes on until whoever names the databases is gone.
    pub(super) async fn run(self, mut sources: watch::Receiver<Vec<Arc<Source>>>) {
        let mut faces: HashMap<TenantDatabaseId, Face> = HashMap::new();
        let mut schedules = self.wakes.schedules();
        // Each database by itself: one that hangs does not keep the others' schedules.
        let mut looks = FuturesUnordered::new();
        loop {
            follow(&mut faces, &sources.borrow_and_update());
            let now = Instant::now();
            for face in faces.values_mut().filter(|face| !face.busy && face.look <= now) {
                (face.busy, face.again) = (true, false);
                looks.push(self.look(face.clone()));
            }
            let next = faces.values().filter(|face| !face.busy).map(|face| face.look).min();
            let next = next.unwrap_or_else(|| Instant::now() + LOOK_MAX);
            tokio::select! {
                changed = sources.changed() => if changed.is_err() { return },
                Some(looked) = looks.next() => looked_at(&mut faces, &looked),
                Ok(()) = schedules.changed() => faces.values_mut().for_each(Face::look_again),
                () = sleep_until(next.into()) => {}
            }
        }
    }

    async fn look(&self, mut face: Face) -> Face {
        let wait = match timeout(PATIENCE, self.turn(&mut face)).await {
            Ok(Ok(wait)) => wait,
            Ok(Err(error)) => {
                tracing::warn!(error = %error, database = %face.source.database, "the schedules of a database can't be looked at");
                LOOK_MAX
            }
            Err(_) => {
                tracing::warn!(database = %face.source.database, "the schedules of a database can't be looked at in time");
                LOOK_MAX
            }
        };
        face.look = Instant::now() + wait;
        face
    }

    /// Makes what is due, a batch at most; tells how long there is nothing to do.
    async fn turn(&self, face: &mut Face) -> Result<Duration, Error> {
        let source = &face.source;
        if face.declare <= Instant::now() {
            for everyone in self.everyone.iter() {
                while source.declare(everyone).await? == ROWS {}
            }
            face.declare = Instant::now() + DECLARE;
        }
        let names: Vec<&str> = self.everyone.iter().map(|everyone| everyone.name.as_str()).collect();
        let found = source.due(&names, &self.kinds).await?;
        let moves: Vec<Move> = found.due.iter().map(|due| due.move_on(found.now)).collect();
        let mut next = found.next_at;
        if !moves.is_empty() {
            if source.move_on(&moves).await? > 0 {
                self.wakes.wake(source.database);
            }
            next = moves.iter().filter_map(|step| step.next).chain(next).min();
        }
        if found.due.len() == BATCH as usize {
            return Ok(Duration::ZERO);
        }
        let wait = next.and_then(|next| (next - found.now).to_std().ok());
        // Not everybody at once: who comes first does it, and the others have nothing to do.
        let (_, random) = Uuid::now_v7().as_u64_pair();
        let spread = Duration::from_millis(random % 100);
        Ok(wait.unwrap_or(LOOK_MAX).min(LOOK_MAX) + spread)
    }
}

impl Face {
    fn look_again(&mut self) {
        self.look = Instant::now();
        self.again = true;
    }
}

/// A database was looked at, if it is one of them still.
fn looked_at(faces: &mut HashMap<TenantDatabaseId, Face>, looked: &Face) {
    let Some(face) = faces.get_mut(&looked.source.database) else {
        return;
    };
    face.busy = false;
    face.declare = looked.declare;
    if !face.again {
        face.look = looked.look;
    }
}

fn follow(faces: &mut HashMap<TenantDatabaseId, Face>, sources: &[Arc<Source>]) {
    faces.retain(|database, _| sources.iter().any(|source| source.database == *database));
    for source in sources {
        let now = Instant::now();
        let face = faces.entry(source.database).or_insert_with(|| Face {
            source: source.clone(),
            look: now,
            declare: now,
            busy: false,
            again: false,
        });
        // Another one where nobody was served there meanwhile.
        face.source = source.clone();
    }
}

/// A schedule that is due, or has no next time yet.
struct Due {
    tenant: Uuid,
    everyone: bool,
    name: String,
    cron: String,
    zone: String,
    missed: i16,
    dealt_at: DateTime<Utc>,
    next_at: Option<DateTime<Utc>>,
}

struct Found {
    due: Vec<Due>,
    /// When another one is due.
    next_at: Option<DateTime<Utc>>,
    /// By the database's clock, by which all times are told.
    now: DateTime<Utc>,
}

/// How one goes on.
struct Move {
    tenant: Uuid,
    everyone: bool,
    name: String,
    seen: Option<DateTime<Utc>>,
    dealt: Option<DateTime<Utc>>,
    next: Option<DateTime<Utc>>,
    broken: Option<String>,
    job: Option<Uuid>,
}

impl Due {
    fn move_on(&self, now: DateTime<Utc>) -> Move {
        let times = Times::new(&self.cron, &self.zone);
        let moved = times.and_then(|times| {
            times
                .move_on(self.dealt_at, self.next_at, now, missed(self.missed))
                .ok_or_else(|| "it is never due again".to_owned())
        });
        let (moved, broken) = match moved {
            Ok(moved) => (Some(moved), None),
            Err(why) => (None, Some(why)),
        };
        Move {
            tenant: self.tenant,
            everyone: self.everyone,
            name: self.name.clone(),
            seen: self.next_at,
            dealt: moved.and_then(|moved| moved.dealt),
            next: moved.map(|moved| moved.next),
            broken,
            job: moved.filter(|moved| moved.makes_job).map(|_| Uuid::now_v7()),
        }
    }
}

const DECLARE_SQL: &str = "select tenantry.schedule_everyone($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
const DUE_SQL: &str = "select tenant, everyone, name, cron, zone, missed, dealt_at, next_at, now \
    from tenantry.schedule_due($1, $2, $3, $4, $5)";
const MOVE_SQL: &str = "select tenantry.schedule_move($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

impl Source {
    /// Gives tenants rows that lack one; tells how many.
    async fn declare(&self, everyone: &Everyone) -> Result<i32, Error> {
        let schedule = &everyone.schedule;
        self.number(
            DECLARE_SQL,
            &[
                &everyone.name,
                &schedule.cron,
                &schedule.zone,
                &(schedule.missed as i16),
                &everyone.kind,
                &everyone.payload,
                &i16::from(everyone.role as u8),
                &schedule.priority,
                &schedule.attempts_max,
                &ROWS,
            ],
        )
        .await
    }

    async fn due(&self, names: &[&str], kinds: &[&str]) -> Result<Found, Error> {
        let outcome = self.call(DUE_SQL, &[&names, &kinds, &BATCH]).await?;
        let mut found = Found {
            due: Vec::new(),
            next_at: None,
            now: Utc::now(),
        };
        for row in outcome.rows.into_iter().map(Row) {
            let Some(tenant) = row.get::<Option<Uuid>>(0)? else {
                (found.next_at, found.now) = (row.get(7)?, row.get(8)?);
                continue;
            };
            found.due.push(Due {
                tenant,
                everyone: row.get(1)?,
                name: row.get(2)?,
                cron: row.get(3)?,
                zone: row.get(4)?,
                missed: row.get(5)?,
                dealt_at: row.get(6)?,
                next_at: row.get(7)?,
            });
        }
        Ok(found)
    }

    /// Tells how many jobs were made.
    async fn move_on(&self, moves: &[Move]) -> Result<i32, Error> {
        self.number(
            MOVE_SQL,
            &[
                &column(moves, |step| step.tenant),
                &column(moves, |step| step.everyone),
                &column(moves, |step| step.name.as_str()),
                &column(moves, |step| step.seen),
                &column(moves, |step| step.dealt),
                &column(moves, |step| step.next),
                &column(moves, |step| step.broken.as_deref()),
                &column(moves, |step| step.job),
            ],
        )
        .await
    }
}

fn column<'a, T>(moves: &'a [Move], value: impl Fn(&'a Move) -> T) -> Vec<T> {
    moves.iter().map(value).collect()
}
