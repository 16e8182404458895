//! What is run: steps of a tenant, rounds of steps, and the program that they make in two worlds.

use serde::{Deserialize, Serialize};

/// What a step has to come to, whatever the worlds hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Must {
    /// Anything, as long as it is the same in both worlds.
    BeEqual,
    /// An error, in both.
    BeRefused,
    /// No row; an error is fine.
    ShowNothing,
}

/// A token that came into the wrong hands, each to be refused for one reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Leaked {
    /// It was used before on this backend.
    Used,
    /// It is another backend's.
    OtherBackend,
    /// It is half a minute old.
    Expired,
    /// Our own, with the tenant changed.
    Tampered,
    /// It names an earlier placement.
    StaleEpoch,
    /// Its tenant has moved away.
    Gone,
    /// Not made for a fresh backend, shown after `reset all`.
    AfterReset,
    /// Made for a foreign pooler, which this database does not allow.
    Pooled,
    /// Unused, shown on a backend of the raw lane.
    OnRawLane,
    /// Made for a fresh backend, shown after `leave`.
    AfterLeave,
    /// No token: what the signed tier left in a setting of an earlier transaction.
    Statement,
}

/// How a step is sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Act {
    /// One statement by the extended protocol.
    Sql(String),
    /// A statement of the application's, prepared once on each backend, with its parameters.
    Prepared(usize, Vec<String>),
    /// Any text by the simple protocol.
    Simple(String),
    /// A token that somebody else should have had, and a look at what it opens.
    Replay(Leaked),
}

/// One act of a tenant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Step {
    /// The name of the grammar's shape.
    pub(super) shape: String,
    pub(super) act: Act,
    /// The expectation goes before it; not inside of a transaction.
    pub(super) lead: bool,
    /// The order of its rows is part of what is observed.
    pub(super) ordered: bool,
    pub(super) must: Must,
}

impl Step {
    pub(super) fn sql(shape: &str, sql: impl Into<String>) -> Self {
        Self {
            shape: shape.to_owned(),
            act: Act::Sql(sql.into()),
            lead: true,
            ordered: false,
            must: Must::BeEqual,
        }
    }

    pub(super) fn ordered(mut self) -> Self {
        self.ordered = true;
        self
    }

    pub(super) fn inside(mut self) -> Self {
        self.lead = false;
        self
    }

    pub(super) fn must(mut self, must: Must) -> Self {
        self.must = must;
        self
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        match &self.act {
            Act::Sql(sql) => sql.clone(),
            Act::Simple(sql) => format!("{sql}  -- in one message"),
            Act::Prepared(number, values) => format!("execute app{number} ({})", values.join(", ")),
            Act::Replay(leaked) => format!("-- replays a token: {leaked:?}"),
        }
    }
}

/// One row that a world is filled with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct FillRow {
    pub(super) owner: Owner,
    /// A position in [`super::schema::TABLES`].
    pub(super) table: usize,
    pub(super) values: String,
}

/// Whose rows: A observes, B differs, C does nothing and has to keep its rows, D has moved away.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) enum Owner {
    A,
    B,
    C,
    D,
}

/// Acts of B in each world, then acts of A.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Round {
    /// B's acts do not end before A's begin.
    pub(super) concurrent: bool,
    /// The operator closes A before A's acts, and opens it after them.
    pub(super) fenced: bool,
    /// Each world's operator acts, as superuser.
    pub(super) operator: [Vec<String>; 2],
    pub(super) b: [Vec<Step>; 2],
    pub(super) a: Vec<Step>,
}

/// How the tenants' statements travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Travel {
    /// A and B on one backend, in turn.
    pub(super) shared_backend: bool,
    /// `discard all` and a token of the raw lane at each turn; otherwise only a newer token, as the pool does.
    pub(super) raw: bool,
    /// The counters of tokens grow by one, as the pool's do; otherwise A's do not depend on how often B was bound.
    pub(super) natural_counters: bool,
}

/// What is run in both worlds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Program {
    pub(super) travel: Travel,
    /// The same in both.
    pub(super) fill: Vec<FillRow>,
    pub(super) fill_b: [Vec<FillRow>; 2],
    pub(super) rounds: Vec<Round>,
}

impl Program {
    /// How many statements are compared.
    pub(super) fn statements(&self) -> usize {
        self.rounds.iter().map(|round| round.a.len()).sum()
    }
}

/// The application's own statements, which both tenants use prepared.
pub(super) const PREPARED: &[&str] = &[
    "select id, name, budget from project where id = $1::text::int",
    "select id, title, done from task order by id",
    "select count(*), coalesce(sum(budget), 0) from project",
    "update project set budget = budget + 1 where id = $1::text::int returning id, budget",
    "select t.id, t.title, p.name from task t join project p on p.id = t.project_id order by t.id",
    "insert into event (id, day, kind) values ($1::text::int, '2024-06-01', $2::text) on conflict (tenant_id, id, day) do update set kind = excluded.kind returning kind",
    "select kind from event where id = $1::text::int order by day",
    "delete from note where id = $1::text::int returning body",
];
