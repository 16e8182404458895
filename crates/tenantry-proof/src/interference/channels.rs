//! The declared channels: by what one tenant may learn something of another, and what closes each.
//!
//! Data, so that the documentation, `prove --channels` and the gate say the same: [`gate`](super::gate) runs each probe
//! where its channel is open and has to find it, and where it is closed and has to find nothing.

use tenantry_core::Isolation::{self, Database, Schema};

/// Something that the noninterference of a mode does not cover.
pub(super) struct Channel {
    pub(super) id: &'static str,
    /// What shows.
    pub(super) what: &'static str,
    /// The isolations in which nothing of it is left.
    pub(super) closed_in: &'static [Isolation],
    /// What else closes it: as superuser, in the tenant database. The hardening of SQL from outside holds these.
    pub(super) hardening: Option<&'static str>,
    /// In words, what closes it.
    pub(super) closed_by: &'static str,
    /// B's acts, in one world only: the seeded defect. `operator:` is the superuser's.
    pub(super) acts: &'static [&'static str],
    /// What A asks afterwards; `operator:` is the superuser of that one world again.
    pub(super) probe: &'static [&'static str],
    /// How A and B travel.
    pub(super) way: Way,
}

/// Where B acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// On a backend of its own, on which its session stays.
    Apart,
    /// On A's backend before A.
    InTurn,
    /// Not probed: differs by itself, or by the time of day.
    Unprobed,
}

const REST: Channel = Channel {
    id: "",
    what: "",
    closed_in: &[],
    hardening: None,
    closed_by: "",
    acts: &[],
    probe: &[],
    way: Way::Apart,
};

pub(super) const CHANNELS: &[Channel] = &[
    Channel {
        id: "row-order",
        what: "the order of rows without ORDER BY shows where another tenant's rows left room in the table",
        closed_in: &[Schema, Database],
        closed_by: "own schema or database; ORDER BY",
        acts: &[
            "insert into trail (task_id, tasks, what) select i, i, repeat('x', 200) from generate_series(1000, 1300) i",
        ],
        probe: &[
            "insert into trail (task_id, tasks, what) values (100, 1, 'first')",
            "operator: delete from {schema}.trail where tenant_id = '{b}'",
            "operator: vacuum {schema}.trail",
            "insert into trail (task_id, tasks, what) select i, i, repeat('x', 200) from generate_series(101, 300) i",
            "select task_id from trail",
        ],
        ..REST
    },
    Channel {
        id: "sequences",
        what: "a sequence counts all rows of its table: its gaps show how many others wrote",
        closed_in: &[Database],
        closed_by: "own database; own schema, unless SQL from outside names another one's; uuid keys",
        acts: &["insert into note (body) values ('1'), ('2'), ('3')"],
        probe: &["select nextval('{schema}.note_id_seq')"],
        ..REST
    },
    Channel {
        id: "plans",
        what: "EXPLAIN shows estimates from statistics over all rows of a table, and rows removed by filters",
        closed_in: &[Database],
        closed_by: "own database; own schema, unless SQL from outside names another one's",
        acts: &[
            "insert into event (id, day, kind) select i, '2024-05-05', 'x' from generate_series(1000, 4000) i",
            "operator: analyze {schema}.event",
        ],
        probe: &["explain select * from {schema}.event where kind = 'x'"],
        ..REST
    },
    Channel {
        id: "sizes",
        what: "sizes of relations, and what pg_class and the statistics views count, hold all tenants' rows",
        closed_in: &[Database],
        hardening: Some(
            "revoke execute on function pg_relation_size(regclass, text), pg_table_size(regclass), pg_total_relation_size(regclass), pg_indexes_size(regclass) from public",
        ),
        closed_by: "own database; own schema, unless SQL from outside names another one's; hardening",
        acts: &[
            "insert into event (id, day, kind) select i, '2024-05-05', repeat('x', 100) from generate_series(1000, 4000) i",
        ],
        probe: &["select pg_relation_size('{schema}.event_early'::regclass)"],
        ..REST
    },
    Channel {
        id: "reltuples",
        what: "pg_class.reltuples and relpages count all tenants' rows of a shared table",
        closed_in: &[Database],
        closed_by: "own database; in an own schema the others' tables can still be looked up by their names",
        acts: &[
            "insert into event (id, day, kind) select i, '2024-05-05', 'x' from generate_series(1000, 4000) i",
            "operator: analyze {schema}.event_early",
        ],
        probe: &["select sum(reltuples) from pg_class where relname = 'event_early'"],
        ..REST
    },
    Channel {
        id: "row-places",
        what: "ctid shows where a row stands among all tenants' rows",
        closed_in: &[Schema, Database],
        closed_by: "own schema or database",
        acts: &["insert into slot (id, place) values (100, 100), (101, 101), (102, 102)"],
        probe: &["insert into slot (id, place) values (200, 200) returning ctid"],
        ..REST
    },
    Channel {
        id: "transaction-ids",
        what: "xmin, xmax, pg_current_xact_id() and WAL positions count what the whole server does",
        closed_by: "a server of one's own",
        way: Way::Unprobed,
        ..REST
    },
    Channel {
        id: "advisory-locks",
        what: "advisory locks are one space for a database",
        closed_in: &[Database],
        hardening: Some(
            "revoke execute on function pg_try_advisory_lock(bigint), pg_advisory_lock(bigint), pg_try_advisory_xact_lock(bigint), pg_advisory_xact_lock(bigint) from public",
        ),
        closed_by: "own database; hardening",
        acts: &["select pg_advisory_lock(815)"],
        probe: &["select pg_try_advisory_lock(815)"],
        ..REST
    },
    Channel {
        id: "notifications",
        what: "LISTEN and NOTIFY have one space of channels for a database",
        closed_in: &[Database],
        closed_by: "own database (NOTIFY can't be revoked; the scoped connections of the library refuse both)",
        acts: &["notify between, 'from b'"],
        probe: &["select 1"],
        ..REST
    },
    Channel {
        id: "large-objects",
        what: "large objects have no tenant and one space of ids",
        closed_in: &[Database],
        hardening: Some(
            "revoke execute on function lo_create(oid), lo_from_bytea(oid, bytea), lo_get(oid), lo_unlink(oid) from public",
        ),
        closed_by: "own database; hardening",
        acts: &["select lo_create(4711)"],
        probe: &["select lo_create(4711)"],
        ..REST
    },
    Channel {
        id: "catalog-names",
        what: "the system catalogs list every schema of the database, every database and role of the server",
        closed_in: &[Database],
        closed_by: "own database (schemas; names of databases and roles stay visible and are made from opaque ids)",
        acts: &["operator: create schema t_probe"],
        probe: &["select nspname from pg_namespace where nspname like 't\\_probe%'"],
        ..REST
    },
    Channel {
        id: "sessions",
        what: "pg_stat_activity shows the statements of every session of the same role",
        closed_in: &[Database],
        hardening: Some(
            "revoke select on pg_stat_activity from public; revoke execute on function pg_stat_get_activity(int) from public",
        ),
        closed_by: "own database, whose role is its own; hardening",
        acts: &["select 'statement of b'"],
        probe: &[
            "select count(*) from pg_stat_activity where query like 'select ''statement of b%' and pid <> pg_backend_pid() and datname = current_database()",
        ],
        ..REST
    },
    Channel {
        id: "locks",
        what: "LOCK TABLE, and CREATE RULE and CREATE TRIGGER before they are refused, wait for other tenants' writes to the table, and make them wait; pg_locks shows who holds what",
        closed_in: &[Database],
        closed_by: "own database; own schema, unless SQL from outside names another one's; the scoped connections of the library refuse all three",
        acts: &[
            "begin",
            "select 1 from project",
            "insert into slot (id, place) values (500, 500)",
        ],
        probe: &["create rule r as on insert to {schema}.slot do also select 1"],
        ..REST
    },
    Channel {
        id: "refusals",
        what: "a statement with a wrong expectation is refused only where a scan meets a row, be it another tenant's: else it shows nothing",
        closed_in: &[Schema, Database],
        closed_by: "own schema or database",
        acts: &["operator: delete from {schema}.trail where tenant_id <> '{a}'"],
        probe: &[
            "delete from trail",
            "begin",
            "select 1",
            "select set_config('tenantry.expect', repeat('0', 50), true)",
            "select * from trail",
            "rollback",
        ],
        ..REST
    },
    Channel {
        id: "serialization",
        what: "serializable transactions may be aborted for another tenant's reads and writes of the same pages",
        closed_in: &[Schema, Database],
        closed_by: "own schema or database; repeatable read",
        way: Way::Unprobed,
        ..REST
    },
    Channel {
        id: "bindings",
        what: "the seal holds a counter and a flag: how often a shared backend was bound, by whomever; the carrier shows it, and so does the error of a wrong expectation",
        closed_in: &[Database],
        closed_by: "own database, whose connections are its own",
        acts: &["select 1", "operator: select 1"],
        probe: &["select substr(current_setting('backtrace_functions'), 65, 16)"],
        way: Way::InTurn,
        ..REST
    },
    Channel {
        id: "prepared-transactions",
        what: "the names of prepared transactions are one space for the server",
        closed_by: "max_prepared_transactions = 0, which is PostgreSQL's default; the scoped connections of the library refuse them",
        way: Way::Unprobed,
        ..REST
    },
    Channel {
        id: "backend",
        what: "backend pids, ports, start times and the clock belong to the server",
        closed_by: "nothing",
        way: Way::Unprobed,
        ..REST
    },
    Channel {
        id: "time",
        what: "how long a statement takes depends on what others do, and on how much of a shared table is theirs",
        closed_by: "a server of one's own; indexes led by tenant_id, which the engine makes, keep others' rows out of index scans",
        way: Way::Unprobed,
        ..REST
    },
    Channel {
        id: "availability",
        what: "one tenant may fill disks, hold connections, take locks, or end sessions of the same role",
        closed_by: "bounds of the pool; hardening; own database or server",
        way: Way::Unprobed,
        ..REST
    },
];

pub(super) fn print() {
    for channel in CHANNELS {
        println!(
            "{:<22} {}\n{:22} closed by: {}",
            channel.id, channel.what, "", channel.closed_by
        );
    }
}
