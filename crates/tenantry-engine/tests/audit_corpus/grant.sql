-- case: may truncate
-- expect: MT050 critical app.task
grant truncate on app.task to corpus_web;

-- case: may truncate a table that others refer to
-- expect: MT050 critical app.note
-- unproved: MT050
grant truncate on app.note to corpus_web;

-- case: may reference
-- expect: MT050 error app.note
grant references on app.note to corpus_web;

-- case: may reference one column
-- expect: MT050 error app.note
grant references (id) on app.note to corpus_web;

-- case: may put triggers
-- expect: MT050 error app.note
grant trigger on app.note to corpus_web;

-- case: may truncate a shared table
-- expect: MT050 error app.country
create table app.country (code text primary key); grant truncate on app.country to corpus_web;

-- case: all rights
-- expect: MT050 critical app.note
-- unproved: MT050
grant all on app.note to corpus_web;

-- case: another role may truncate
-- expect: nothing
reset role; create role corpus_other nologin; set role corpus_keeper; grant truncate on app.note to corpus_other;

-- case: granted to PUBLIC
-- expect: MT051 error app.note
grant select on app.note to public;

-- case: a shared table granted to PUBLIC
-- expect: nothing
create table app.country (code text primary key); grant select on app.country to public;

-- case: new tables are granted to PUBLIC
-- expect: MT052 warn app
alter default privileges in schema app grant select on tables to public;

-- case: new tables of every schema are granted to PUBLIC
-- expect: MT052 warn {database}
alter default privileges grant select on tables to public;

-- case: new tables are granted to the application role
-- expect: nothing
alter default privileges in schema app grant select on tables to corpus_web;

-- case: new functions are not granted to PUBLIC
-- expect: nothing
alter default privileges revoke execute on functions from public;

-- case: may make objects
-- expect: MT053 error app
grant create on schema app to corpus_web;

-- case: everybody may make objects in public
-- expect: MT053 error public
reset role; grant create, usage on schema public to public;

-- case: may use public
-- expect: nothing
reset role; grant usage on schema public to public;

-- case: may make temporary tables
-- expect: MT054 warn {database}
reset role; do $$ begin execute format('grant temporary on database %I to corpus_web', current_database()); end $$;

-- case: may make schemas
-- expect: MT054 warn {database}
reset role; do $$ begin execute format('grant create on database %I to corpus_web', current_database()); end $$;

-- case: may read a sequence
-- expect: MT057 warn app.numbers
create sequence app.numbers; grant select on sequence app.numbers to corpus_web;

-- case: may set a sequence
-- expect: MT057 warn app.numbers
create sequence app.numbers; grant all on sequence app.numbers to corpus_web;

-- case: may use a sequence
-- expect: nothing
create sequence app.numbers; grant usage on sequence app.numbers to corpus_web;

-- case: an identity column
-- expect: nothing
create table app.x (tenant_id uuid not null, id bigint generated always as identity, primary key (tenant_id, id)); select corpus.isolate('app.x');

-- case: PUBLIC may connect
-- expect: MT058 error {database}
reset role; do $$ begin execute format('grant connect on database %I to public', current_database()); end $$;

-- case: the application role may connect
-- expect: nothing
reset role; do $$ begin execute format('grant connect on database %I to corpus_web', current_database()); end $$;

-- case: may read files by a function
-- expect: MT056 error functions beyond the default
reset role; grant execute on function pg_read_file(text) to corpus_web;

-- case: may import files by a function
-- expect: MT056 error functions beyond the default
reset role; grant execute on function lo_import(text) to public;
