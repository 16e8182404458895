-- case: a view of a superuser's
-- expect: MT060 critical app.v
reset role; create view app.v as select * from app.note; grant select on app.v to corpus_web;

-- case: a view of a superuser's over two of the invoker's
-- expect: nothing
reset role; create view app.v1 with (security_invoker = true) as select * from app.note;
create view app.v2 with (security_invoker = true) as select * from app.v1; create view app.v3 as select * from app.v2; grant select on app.v1, app.v2, app.v3 to corpus_web;

-- case: a view of a superuser's over two others of a superuser's
-- expect: MT060 critical app.v3
reset role; create view app.v1 as select * from app.note;
create view app.v2 as select * from app.v1; create view app.v3 as select * from app.v2; grant select on app.v3 to corpus_web;

-- case: an invoker's view over a view of a superuser's
-- expect: MT060 critical app.v1; MT060 critical app.v2
reset role; create view app.v1 as select * from app.note;
create view app.v2 with (security_invoker = true) as select * from app.v1; grant select on app.v1, app.v2 to corpus_web;

-- case: a view of a superuser's that can be written
-- expect: MT060 critical app.v
reset role; create view app.v as select * from app.note; grant delete on app.v to corpus_web;

-- case: a view of the owner's where the table is not forced
-- expect: MT060 critical app.v; MT003 error app.note
alter table app.note no force row level security; create view app.v as select * from app.note; grant select on app.v to corpus_web;

-- case: a view of the owner's where the table is forced
-- expect: nothing
create view app.v as select * from app.note; grant select on app.v to corpus_web;

-- case: an invoker's view
-- expect: nothing
reset role; create view app.v with (security_invoker = true) as select * from app.note; grant select on app.v to corpus_web;

-- case: an invoker's view that was made so later
-- expect: nothing
reset role; create view app.v as select * from app.note; alter view app.v set (security_invoker = on); grant select on app.v to corpus_web;

-- case: an invoker's view that was replaced
-- expect: MT060 critical app.v
reset role; create view app.v with (security_invoker = true) as select * from app.note; create or replace view app.v as select * from app.note; grant select on app.v to corpus_web;

-- case: a view of a superuser's that nobody may read
-- expect: nothing
reset role; create view app.v as select * from app.note;

-- case: a view of a superuser's over a shared table
-- expect: nothing
reset role; create table app.country (code text primary key); create view app.v as select * from app.country; grant select on app.v to corpus_web;

-- case: a view of a role that bypasses
-- expect: MT060 critical app.v
reset role; create role corpus_free nologin bypassrls; grant usage on schema app to corpus_free; grant select on app.note to corpus_free;
grant usage on schema ctx to corpus_free;
create view app.v as select * from app.note; alter view app.v owner to corpus_free; grant select on app.v to corpus_web;

-- case: a materialized view
-- expect: MT061 critical app.m
reset role; create materialized view app.m as select * from app.note; grant select on app.m to corpus_web;

-- case: a materialized view over a view
-- expect: MT061 critical app.m
reset role; create view app.v with (security_invoker = true) as select * from app.note; create materialized view app.m as select count(*) as n from app.v; grant select on app.m to corpus_web;

-- case: a materialized view that nobody may read
-- expect: nothing
reset role; create materialized view app.m as select * from app.note;

-- case: a materialized view of a shared table
-- expect: nothing
reset role; create table app.country (code text primary key); create materialized view app.m as select * from app.country; grant select on app.m to corpus_web;

-- case: a definer function of a superuser's that lists notes
-- expect: MT062 critical app.all_notes()
reset role; create function app.all_notes() returns setof text language sql security definer set search_path = pg_catalog, pg_temp as $$ select body from app.note $$;

-- case: a definer function of a superuser's with arguments
-- expect: MT062 error app.note_of(uuid)
reset role; create function app.note_of(p uuid) returns text language sql security definer set search_path = pg_catalog, pg_temp as $$ select body from app.note where id = p $$;

-- case: a definer function of a superuser's that nobody may call
-- expect: nothing
reset role; create function app.all_notes() returns setof text language sql security definer set search_path = pg_catalog, pg_temp as $$ select body from app.note $$;
revoke execute on function app.all_notes() from public;

-- case: a definer function in a schema that nobody may use
-- expect: nothing
reset role; create schema hidden; create function hidden.all_notes() returns setof text language sql security definer set search_path = pg_catalog, pg_temp as $$ select body from app.note $$;

-- case: a definer function of the owner's where tables are forced
-- expect: nothing
create function app.all_notes() returns setof text language sql security definer set search_path = pg_catalog, pg_temp as $$ select body from app.note $$;

-- case: a definer function of the owner's where a table is not forced
-- expect: MT062 critical app.all_notes(); MT003 error app.note
alter table app.note no force row level security;
create function app.all_notes() returns setof text language sql security definer set search_path = pg_catalog, pg_temp as $$ select body from app.note $$;

-- case: an invoker function
-- expect: nothing
reset role; create function app.all_notes() returns setof text language sql as $$ select body from app.note $$;

-- case: a definer function without a search path
-- expect: MT063 error app.one()
create function app.one() returns int language sql security definer as $$ select 1 $$;

-- case: a definer function without a search path, where temporary tables can be made
-- expect: MT063 critical app.one(); MT054 warn {database}
-- unproved: MT063
create function app.one() returns int language sql security definer as $$ select 1 $$;
reset role; do $$ begin execute format('grant temporary on database %I to corpus_web', current_database()); end $$;

-- case: a definer function with an atomic body
-- expect: nothing
create function app.one() returns int language sql security definer begin atomic select 1; end;

-- case: a definer function that looks into pg_temp first
-- expect: MT064 error app.one(); MT054 warn {database}
create function app.one() returns int language sql security definer set search_path = app, pg_catalog as $$ select 1 $$;
reset role; do $$ begin execute format('grant temporary on database %I to corpus_web', current_database()); end $$;

-- case: a definer function that would look into pg_temp first where nobody can make temporary tables
-- expect: nothing
create function app.one() returns int language sql security definer set search_path = app, pg_catalog as $$ select 1 $$;

-- case: a definer function with an empty search path
-- expect: MT054 warn {database}
create function app.one() returns int language sql security definer set search_path = '' as $$ select 1 $$;
reset role; do $$ begin execute format('grant temporary on database %I to corpus_web', current_database()); end $$;

-- case: a leakproof function
-- expect: MT065 error app.peek(text)
reset role; create function app.peek(t text) returns boolean language plpgsql leakproof cost 0.0001 as $$ begin raise notice '%', t; return true; end $$;

-- case: a definer function of a superuser's that switches row security off
-- expect: MT066 error app.count_all(integer); MT062 error app.count_all(integer)
reset role; create function app.count_all(p int) returns bigint language sql security definer set search_path = pg_catalog, pg_temp set row_security = off as $$ select count(*) from app.note $$;

-- case: an invoker function that switches row security off
-- expect: MT066 warn app.count_all()
create function app.count_all() returns bigint language plpgsql set row_security = off as $$ begin return (select count(*) from app.note); end $$;

-- case: a trigger of a superuser's
-- expect: MT067 warn app.note.t
reset role; create function app.stamp() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin return new; end $$;
create trigger t before insert on app.note for each row execute function app.stamp();

-- case: a trigger of the owner's where tables are forced
-- expect: nothing
create function app.stamp() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin return new; end $$;
create trigger t before insert on app.note for each row execute function app.stamp();

-- case: an invoker trigger
-- expect: nothing
reset role; create function app.stamp() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger t before insert on app.note for each row execute function app.stamp();

-- case: a rule
-- expect: MT068 warn app.note.r
create rule r as on delete to app.note do instead nothing;

-- case: a foreign table
-- expect: MT069 error app.remote
reset role; create foreign data wrapper corpus_wrapper; create server corpus_server foreign data wrapper corpus_wrapper;
create foreign table app.remote (tenant_id uuid, id uuid) server corpus_server; grant select on app.remote to corpus_web;

-- case: a foreign table that nobody may read
-- expect: nothing
reset role; create foreign data wrapper corpus_wrapper; create server corpus_server foreign data wrapper corpus_wrapper;
create foreign table app.remote (tenant_id uuid, id uuid) server corpus_server;

-- case: an extension that reaches other servers
-- expect: MT070 warn dblink
-- needs: dblink
reset role; create extension dblink schema public;

-- case: an extension that reaches nothing
-- expect: nothing
-- needs: pg_trgm
reset role; create extension pg_trgm schema public;

-- case: a definer function that runs text
-- expect: MT108 error app.run(text)
create function app.run(p text) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin execute 'select ' || p; end $$;

-- case: a definer function that runs its argument
-- expect: MT108 error app.run(text)
create function app.run(p text) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin execute p; end $$;

-- case: a definer function that sets any setting
-- expect: MT108 error app.put(text,text)
create function app.put(n text, v text) returns text language sql security definer set search_path = pg_catalog, pg_temp as $$ select set_config(n, v, true) $$;

-- case: a definer function that sets one setting
-- expect: nothing
create function app.put(v text) returns text language sql security definer set search_path = pg_catalog, pg_temp as $$ select set_config('app.note', v, true) $$;

-- case: a definer function that binds values
-- expect: nothing
create function app.run(p text) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin execute 'select $1' using p; end $$;

-- case: an invoker function that runs text
-- expect: nothing
create function app.run(p text) returns void language plpgsql as $$ begin execute 'select ' || p; end $$;

-- case: a view over a materialized view of tenants' rows
-- expect: MT060 critical app.all_notes
-- unproved: MT060
create materialized view app.kept as select * from app.note;
create view app.all_notes as select * from app.kept; grant select on app.all_notes to corpus_web;

-- case: a materialized view that only its owner reads
-- expect: nothing
create materialized view app.kept as select * from app.note;

-- case: an aggregate over a definer function that may not be called by itself
-- expect: MT062 error app.noted(bigint,integer)
reset role;
create function app.noted(total bigint, n integer) returns bigint language sql security definer set search_path = pg_catalog, pg_temp as $$ select count(*) from app.note $$;
revoke execute on function app.noted(bigint, integer) from public;
create aggregate app.notes(integer) (sfunc = app.noted, stype = bigint, initcond = '0');
