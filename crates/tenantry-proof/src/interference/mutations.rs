//! Seeded defects: each breaks one thing that keeps tenants apart, and the tester has to find every one of them.
//!
//! Defects of the DDL and of the mechanism are SQL, run as superuser in both worlds; defects of code's own steps are
//! left to the driver ([`Faults`]). What one layer alone holds is broken together with the layers under it: the floor is
//! a second lock on each policy, and a defect in front of a lock that holds is none ([`HELD`] has those).

use tenantry_core::{
    Isolation::{self, Schema, Shared},
    Tier,
};

use super::{
    lane::{Faults, Kept},
    ways::{Mode, Way},
};

/// A seeded defect.
pub(super) struct Mutation {
    pub(super) id: &'static str,
    pub(super) isolation: Isolation,
    /// `{schema}`, `{c_schema}`, `{app}` and `{owner}` are filled in. Run after the edit.
    pub(super) sql: &'static str,
    /// What takes it back where it is the server's and not the database's.
    pub(super) undo: &'static str,
    /// A condition taken out of a function of the mechanism: its signature, the text, what stands there instead.
    pub(super) edit: Option<(&'static str, &'static str, &'static str)>,
    pub(super) faults: Faults,
}

const NO_FAULTS: Faults = Faults {
    skip_enter: false,
    stale_binding: false,
    skip_expectation: false,
    wrong_path: false,
    stale_path: false,
    kept: None,
};

const fn ddl(id: &'static str, sql: &'static str) -> Mutation {
    Mutation {
        id,
        isolation: Shared,
        sql,
        undo: "",
        edit: None,
        faults: NO_FAULTS,
    }
}

const fn edit(id: &'static str, function: &'static str, text: &'static str, instead: &'static str) -> Mutation {
    Mutation {
        edit: Some((function, text, instead)),
        ..ddl(id, "")
    }
}

/// In `tenant_id()`, by the function that writes it: each fence that closes or opens writes it anew.
const fn compiled(id: &'static str, text: &'static str, instead: &'static str) -> Mutation {
    Mutation {
        edit: Some(("tenantry_private.compile_fence()", text, instead)),
        ..ddl(id, "select tenantry_private.compile_fence()")
    }
}

const fn fault(id: &'static str, isolation: Isolation, faults: Faults) -> Mutation {
    Mutation {
        isolation,
        faults,
        ..ddl(id, "")
    }
}

const fn undone(id: &'static str, sql: &'static str, undo: &'static str) -> Mutation {
    Mutation { undo, ..ddl(id, sql) }
}

const fn in_schemas(id: &'static str, sql: &'static str) -> Mutation {
    Mutation {
        isolation: Schema,
        ..ddl(id, sql)
    }
}

const ENTER: &str = "tenantry.enter(bytea, bytea)";

pub(super) const MUTATIONS: &[Mutation] = &[
    // Row security.
    ddl(
        "row security disabled",
        "alter table {schema}.project disable row level security",
    ),
    ddl(
        "row security disabled on a child",
        "alter table {schema}.task disable row level security",
    ),
    ddl(
        "not forced, owned by the application",
        "alter table {schema}.project no force row level security; alter table {schema}.project owner to {app}",
    ),
    ddl(
        "a second permissive policy, no floor",
        "drop policy tenantry_floor on {schema}.project; create policy open on {schema}.project using (true)",
    ),
    ddl(
        "select policy true, no floor",
        "drop policy tenantry_floor on {schema}.person; alter policy tenantry_select on {schema}.person using (true)",
    ),
    ddl(
        "insert policy true, no floor",
        "drop policy tenantry_floor on {schema}.project; alter policy tenantry_insert on {schema}.project with check (true)",
    ),
    ddl(
        "update policy true, no floor",
        "drop policy tenantry_floor on {schema}.event; alter policy tenantry_update on {schema}.event using (true) with check (true)",
    ),
    ddl(
        "update check true and the tenant column granted",
        "drop policy tenantry_floor on {schema}.note; alter policy tenantry_update on {schema}.note with check (true); grant update on {schema}.note to {app}",
    ),
    ddl(
        "delete policy true, no floor",
        "drop policy tenantry_floor on {schema}.note; alter policy tenantry_delete on {schema}.note using (true)",
    ),
    ddl(
        "policy open without a context",
        "drop policy tenantry_floor on {schema}.task; alter policy tenantry_select on {schema}.task using (tenant_id = (select tenantry.tenant_id()) or (select tenantry.tenant_id()) is null)",
    ),
    ddl(
        "policy by a plain setting",
        "drop policy tenantry_floor on {schema}.project; alter policy tenantry_select on {schema}.project using (tenant_id = left(current_setting('tenantry.expect', true), 32)::uuid)",
    ),
    ddl(
        "row security disabled on a partition",
        "alter table {schema}.event_early disable row level security",
    ),
    in_schemas(
        "row security disabled in an own schema",
        "alter table {c_schema}.project disable row level security; grant usage on schema {c_schema} to {app}; grant select on {c_schema}.project to {app}",
    ),
    // The role.
    undone(
        "role bypasses row security",
        "alter role {app} bypassrls",
        "alter role {app} nobypassrls; alter role {app} reset all",
    ),
    undone(
        "role is superuser",
        "alter role {app} superuser",
        "alter role {app} nosuperuser; alter role {app} reset all",
    ),
    undone(
        "role is a member of the owner",
        "grant {owner} to {app}",
        "revoke {owner} from {app}",
    ),
    undone(
        "role may set the carrier",
        "grant set on parameter backtrace_functions to {app}",
        "revoke set on parameter backtrace_functions from {app}; alter role {app} reset all",
    ),
    ddl(
        "truncate granted",
        "grant truncate on all tables in schema {schema} to {app}",
    ),
    ddl(
        "sequence readable",
        "grant select, update on {schema}.note_id_seq to {app}",
    ),
    ddl(
        "temporary tables granted",
        "do $$ begin execute format('grant temporary on database %I to %I', current_database(), '{app}'); end $$",
    ),
    ddl(
        "create granted on the schema",
        "grant create on schema {schema} to {app}",
    ),
    ddl(
        "keys readable",
        "grant usage on schema tenantry_private to {app}; grant select on tenantry_private.mac_key to {app}",
    ),
    ddl(
        "act_for callable",
        "grant usage on schema tenantry_private to {app}; grant execute on function tenantry_private.act_for(uuid) to {app}",
    ),
    ddl(
        "fence callable",
        "grant execute on function tenantry.fence_close(uuid, int8, int2), tenantry.fence_open(uuid, int8) to {app}",
    ),
    // Functions and views.
    ddl(
        "definer function",
        "alter function {schema}.project_count() owner to current_user; alter function {schema}.project_count() security definer",
    ),
    ddl(
        "definer trigger",
        "alter function {schema}.record_task() owner to current_user; alter function {schema}.record_task() security definer; alter function {schema}.record_task() set search_path = {schema}",
    ),
    ddl(
        "definer function that changes",
        "alter function {schema}.rename_project(int, text) owner to current_user; alter function {schema}.rename_project(int, text) security definer",
    ),
    ddl(
        "view of a superuser without invoker",
        "alter view {schema}.busy owner to current_user; alter view {schema}.busy reset (security_invoker); grant select on {schema}.busy to {app}",
    ),
    ddl(
        "materialized view",
        "create materialized view {schema}.totals as select tenant_id, id, name from {schema}.project; grant select on {schema}.totals to {app}; create function {schema}.refresh_totals() returns trigger language plpgsql security definer as $$ begin refresh materialized view {schema}.totals; return null; end $$; create trigger refreshed after insert on {schema}.project for each statement execute function {schema}.refresh_totals(); alter table {schema}.project enable always trigger refreshed",
    ),
    ddl(
        "leakproof function",
        "alter function {schema}.reveal(text) leakproof cost 0.00001",
    ),
    ddl(
        "helper with a string body",
        "create or replace function tenantry.tenant_id() returns uuid language sql stable as $$ select case when substr(current_setting('backtrace_functions'), 33) = current_setting('tenantry.expect', true) then nullif(substr(current_setting('backtrace_functions'), 1, 32), '')::uuid end $$; grant create on schema {schema} to {app}",
    ),
    compiled(
        "helper immutable",
        "language sql stable parallel safe begin atomic",
        "language sql immutable parallel safe begin atomic",
    ),
    // Constraints.
    ddl("unscoped unique", "create unique index on {schema}.project (code)"),
    ddl("unscoped key", "create unique index on {schema}.project (id)"),
    ddl("unscoped key of a child", "create unique index on {schema}.note (id)"),
    ddl(
        "unscoped unique on an expression",
        "create unique index on {schema}.person (lower(email))",
    ),
    ddl(
        "unscoped exclusion",
        "alter table {schema}.booking add exclude using gist (room with =, during with &&)",
    ),
    ddl(
        "unscoped foreign key",
        "create table {schema}.every_project (id int primary key); create function {schema}.note_project() returns trigger language plpgsql security definer as $$ begin insert into {schema}.every_project values (new.id) on conflict do nothing; return new; end $$; create trigger known before insert on {schema}.project for each row execute function {schema}.note_project(); alter table {schema}.project enable always trigger known; create function {schema}.forget_projects() returns trigger language plpgsql security definer as $$ begin if tg_op = 'TRUNCATE' or current_setting('session_replication_role') = 'replica' then delete from {schema}.every_project; end if; return null; end $$; create trigger gone after truncate on {schema}.project for each statement execute function {schema}.forget_projects(); alter table {schema}.project enable always trigger gone; create trigger deleted after delete on {schema}.project for each statement execute function {schema}.forget_projects(); alter table {schema}.project enable always trigger deleted; alter table {schema}.task drop constraint task_project_id_fkey; alter table {schema}.task add foreign key (project_id) references {schema}.every_project (id)",
    ),
    ddl(
        "unscoped cascade",
        "create function {schema}.cascade() returns trigger language plpgsql security definer as $$ begin delete from {schema}.task where project_id = old.id; return null; end $$; create trigger cascades after delete on {schema}.project for each row execute function {schema}.cascade()",
    ),
    ddl(
        "rewrite rule",
        "create table {schema}.copied (id int, name text); grant select on {schema}.copied to {app}; grant insert, select on {schema}.copied to {owner}; create view {schema}.totals as select count(*) from {schema}.copied; grant select on {schema}.totals to {app}; create rule copies as on insert to {schema}.slot do also insert into {schema}.copied values (new.id, new.place); alter table {schema}.slot enable always rule copies",
    ),
    // The mechanism.
    compiled(
        "expectation not checked",
        "nullif(current_setting('tenantry.expect', true), '')",
        "nullif(substr(current_setting('backtrace_functions'), 33), '')",
    ),
    compiled(
        "carrier not checked",
        "$t$current_setting('backtrace_functions') || ",
        "$t$substr(current_setting('tenantry.expect', true), 1, 32) || current_setting('tenantry.expect', true) || ",
    ),
    ddl(
        "fence not compiled",
        "create or replace function tenantry_private.compile_fence() returns void language sql begin atomic select; end",
    ),
    edit(
        "counter not checked",
        ENTER,
        "substr(current_setting('backtrace_functions'), 65, 16) collate \"C\" < encode(substr(p_msg, 17, 8), 'hex')",
        "true",
    ),
    edit(
        "raw lane's mark not checked",
        ENTER,
        "substr(current_setting('backtrace_functions'), 82, 1) in ('0', '1')",
        "true",
    ),
    edit("reset tolerated", ENTER, "get_byte(p_msg, 24) & 1 = 1", "true"),
    edit(
        "backend not checked",
        ENTER,
        "substr(p_msg, 34, 4) = int4send(pg_backend_pid())",
        "true",
    ),
    edit(
        "expiry not checked",
        ENTER,
        "substr(p_msg, 26, 8) > timestamptz_send(clock_timestamp())",
        "true",
    ),
    edit(
        "signature not checked",
        ENTER,
        "sha256(m.ok || sha256(m.ik || p_msg || tenantry_private.place())) = p_mac",
        "true",
    ),
    edit(
        "epoch not checked",
        ENTER,
        "substr(p_msg, 55, 4) = substr(int8send(f.epoch), 5, 4)",
        "true",
    ),
    edit("fence not checked", ENTER, "f.state = 0", "true"),
    edit(
        "pooled tokens taken unasked",
        "tenantry.enter_pooled(bytea, bytea)",
        "and d.pooled",
        "",
    ),
    // The history of rows.
    ddl(
        "history readable",
        "grant usage on schema tenantry_private to {app}; grant select on tenantry_private.history to {app}",
    ),
    edit(
        "history of every tenant listed",
        "tenantry.history_list(text, jsonb, uuid, uuid, int4)",
        "h.tenant = v_tenant and (p_table is null",
        "(p_table is null",
    ),
    edit(
        "history of every tenant forgotten",
        "tenantry.history_forget(timestamptz, int4)",
        "h.tenant = v_tenant
     and h.id in (select o.id from tenantry_private.history o
                   where o.tenant = v_tenant and o.id",
        "h.id in (select o.id from tenantry_private.history o
                   where o.id",
    ),
    edit(
        "history noted under the first tenant's name",
        "tenantry.note_history()",
        "(v_row ->> 'tenant_id')::uuid, tenantry_private.history_id",
        "coalesce((select h.tenant from tenantry_private.history h limit 1), (v_row ->> 'tenant_id')::uuid), tenantry_private.history_id",
    ),
    edit(
        "leaving forgets the counter",
        "tenantry.leave()",
        "where current_setting('backtrace_functions') <> ''",
        "where set_config('backtrace_functions', '', false) is null",
    ),
    // Code's own steps.
    fault(
        "session not bound anew",
        Shared,
        Faults {
            skip_enter: true,
            ..NO_FAULTS
        },
    ),
    fault(
        "binding of the tenant before",
        Shared,
        Faults {
            stale_binding: true,
            ..NO_FAULTS
        },
    ),
    fault(
        "context not sent",
        Shared,
        Faults {
            skip_expectation: true,
            ..NO_FAULTS
        },
    ),
    fault(
        "another tenant's search path",
        Schema,
        Faults {
            wrong_path: true,
            ..NO_FAULTS
        },
    ),
    fault(
        "search path of the tenant before",
        Schema,
        Faults {
            stale_path: true,
            ..NO_FAULTS
        },
    ),
    fault(
        "nothing discarded",
        Shared,
        Faults {
            kept: Some(Kept::Everything),
            ..NO_FAULTS
        },
    ),
    fault(
        "prepared statements kept",
        Shared,
        Faults {
            kept: Some(Kept::Statements),
            ..NO_FAULTS
        },
    ),
    fault(
        "cursors kept",
        Shared,
        Faults {
            kept: Some(Kept::Cursors),
            ..NO_FAULTS
        },
    ),
    fault(
        "listeners kept",
        Shared,
        Faults {
            kept: Some(Kept::Listeners),
            ..NO_FAULTS
        },
    ),
    fault(
        "session locks kept",
        Shared,
        Faults {
            kept: Some(Kept::Locks),
            ..NO_FAULTS
        },
    ),
    Mutation {
        faults: Faults {
            kept: Some(Kept::Temporary),
            ..NO_FAULTS
        },
        ..ddl(
            "temporary tables kept and granted",
            "do $$ begin execute format('grant temporary on database %I to %I', current_database(), '{app}'); end $$",
        )
    },
];

/// Defects that another layer holds: the tester has to find nothing.
pub(super) const HELD: &[Mutation] = &[
    ddl(
        "a second permissive policy over the floor",
        "create policy open on {schema}.project using (true)",
    ),
    ddl("no floor", "drop policy tenantry_floor on {schema}.project"),
    ddl(
        "view without invoker, its owner bound by row security",
        "alter view {schema}.busy reset (security_invoker)",
    ),
];

/// A defect of another server, tier or way.
pub(super) struct Further {
    pub(super) mutation: Mutation,
    pub(super) tier: Tier,
    pub(super) way: Way,
    pub(super) second: bool,
}

impl Further {
    pub(super) fn mode(&self) -> Mode {
        Mode {
            isolation: self.mutation.isolation,
            tier: self.tier,
            way: self.way,
            second: self.second,
        }
    }
}

const fn on_second(mutation: Mutation) -> Further {
    Further {
        mutation,
        tier: Tier::Sealed,
        way: Way::Wire,
        second: true,
    }
}

const fn signed(mutation: Mutation) -> Further {
    Further {
        mutation,
        tier: Tier::Signed,
        way: Way::Wire,
        second: false,
    }
}

const fn by(way: Way, mutation: Mutation) -> Further {
    Further {
        mutation,
        tier: Tier::Sealed,
        way,
        second: false,
    }
}

const CURRENT_SEAL: &str = "tenantry_private.current_seal()";

/// What the other server, the signed tier, the library, its raw lane and HTTP have to find.
pub(super) const FURTHER: &[Further] = &[
    on_second(ddl(
        "PostgreSQL 18: row security disabled",
        "alter table {schema}.project disable row level security",
    )),
    on_second(ddl(
        "PostgreSQL 18: unscoped unique",
        "create unique index on {schema}.project (code)",
    )),
    on_second(edit(
        "PostgreSQL 18: signature not checked",
        ENTER,
        "sha256(m.ok || sha256(m.ik || p_msg || tenantry_private.place())) = p_mac",
        "true",
    )),
    signed(ddl(
        "signed: row security disabled",
        "alter table {schema}.project disable row level security",
    )),
    signed(edit(
        "signed: statement's signature not checked",
        "tenantry_private.verify_signed(text, int4)",
        "tenantry_private.sign_signed(v_payload, get_byte(v_payload, p_kid_at)) = p_signed",
        "true",
    )),
    signed(edit(
        "signed: statement of another transaction taken",
        CURRENT_SEAL,
        "substr(v_payload, 31, 8) = timestamptz_send(transaction_timestamp())",
        "true",
    )),
    signed(edit(
        "signed: expectation not compared",
        CURRENT_SEAL,
        "encode(substr(v_payload, 1, 25), 'hex') = current_setting('tenantry.expect', true)",
        "true",
    )),
    signed(edit(
        "signed: counter not checked",
        ENTER,
        "substr(v_payload, 1, 8) < substr(p_msg, 17, 8)",
        "true",
    )),
    by(
        Way::Library,
        ddl(
            "library: row security disabled",
            "alter table {schema}.project disable row level security",
        ),
    ),
    by(
        Way::Library,
        ddl(
            "library: unscoped unique on an expression",
            "create unique index on {schema}.person (lower(email))",
        ),
    ),
    by(
        Way::Library,
        ddl(
            "library: definer function that changes",
            "alter function {schema}.rename_project(int, text) owner to current_user; alter function {schema}.rename_project(int, text) security definer",
        ),
    ),
    by(
        Way::Outside,
        ddl(
            "raw lane: row security disabled",
            "alter table {schema}.task disable row level security",
        ),
    ),
    by(
        Way::Outside,
        ddl(
            "raw lane: view of a superuser without invoker",
            "alter view {schema}.busy owner to current_user; alter view {schema}.busy reset (security_invoker); grant select on {schema}.busy to {app}",
        ),
    ),
    by(
        Way::Http,
        ddl(
            "HTTP: row security disabled",
            "alter table {schema}.contacts disable row level security",
        ),
    ),
    by(
        Way::Http,
        ddl(
            "HTTP: unscoped unique",
            "create unique index on {schema}.contacts (email)",
        ),
    ),
];
