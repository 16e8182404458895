-- case: a superuser
-- expect: MT040 critical corpus_web
reset role; alter role corpus_web superuser;

-- case: bypasses row security
-- expect: MT041 critical corpus_web
reset role; alter role corpus_web bypassrls;

-- case: makes databases
-- expect: MT042 error corpus_web
reset role; alter role corpus_web createdb;

-- case: replicates
-- expect: MT042 error corpus_web
reset role; alter role corpus_web replication;

-- case: makes roles
-- expect: MT042 critical corpus_web
-- until: 16
reset role; alter role corpus_web createrole;

-- case: another role that makes roles
-- expect: nothing
reset role; create role corpus_other nologin createrole createdb bypassrls;

-- case: owns a tenant table
-- expect: MT043 critical corpus_web
reset role; alter table app.task owner to corpus_web;

-- case: owns another table
-- expect: MT043 error corpus_web; MT008 error app.queue
reset role; create table app.queue (id int); alter table app.queue owner to corpus_web;

-- case: owns a function
-- expect: MT043 error corpus_web
reset role; create function app.f() returns int language sql begin atomic select 1; end; alter function app.f() owner to corpus_web;

-- case: owns a schema
-- expect: MT043 error corpus_web; MT053 error theirs
reset role; create schema theirs authorization corpus_web;

-- case: is in the owner's role
-- expect: MT044 critical corpus_web; MT053 error app; MT053 error ctx
reset role; grant corpus_keeper to corpus_web;

-- case: is in the owner's role without inheriting
-- expect: MT044 critical corpus_web; MT053 error app; MT053 error ctx
reset role; alter role corpus_web noinherit; grant corpus_keeper to corpus_web;

-- case: is in a role that bypasses
-- expect: MT044 critical corpus_web
-- unproved: MT044
reset role; create role corpus_free nologin bypassrls; grant corpus_free to corpus_web;

-- case: is in a role that bypasses and may read
-- expect: MT044 critical corpus_web
reset role; create role corpus_free nologin bypassrls; grant corpus_free to corpus_web; grant usage on schema app to corpus_free; grant select on app.note to corpus_free;

-- case: is in a role that is in a role that bypasses
-- expect: MT044 critical corpus_web
-- unproved: MT044
reset role; create role corpus_free nologin bypassrls; create role corpus_group nologin; grant corpus_free to corpus_group; grant corpus_group to corpus_web;

-- case: is in a role that has nothing
-- expect: nothing
reset role; create role corpus_group nologin; grant corpus_group to corpus_web;

-- case: has a member that bypasses
-- expect: nothing
reset role; create role corpus_free nologin bypassrls; grant corpus_web to corpus_free;

-- case: reads all data
-- expect: MT045 error corpus_web
reset role; grant pg_read_all_data to corpus_web;

-- case: reads files, through another role
-- expect: MT045 error corpus_web
reset role; create role corpus_group nologin; grant corpus_group to corpus_web; grant pg_read_server_files to corpus_group;

-- case: may set the carrier
-- expect: MT046 critical backtrace_functions
reset role; grant set on parameter backtrace_functions to corpus_web;

-- case: everybody may set the carrier
-- expect: MT046 critical backtrace_functions
reset role; grant set on parameter backtrace_functions to public;

-- case: may set the replication role
-- expect: MT046 error session_replication_role
reset role; grant set on parameter session_replication_role to corpus_web;

-- case: another role may set the carrier
-- expect: nothing
reset role; grant set on parameter backtrace_functions to corpus_keeper;

-- case: may set another parameter
-- expect: nothing
reset role; grant set on parameter log_min_messages to corpus_web;

-- case: a stored context
-- expect: MT047 error corpus_web
reset role; alter role corpus_web set backtrace_functions = '00000000000000000000000000000001';

-- case: a stored context that anybody can set
-- expect: MT047 error corpus_web; MT030 error app.note
alter policy sel on app.note using (tenant_id = (select nullif(current_setting('app.tenant', true), '')::uuid));
reset role; alter role corpus_web set app.tenant = '00000000-0000-0000-0000-000000000001';

-- case: row security is off for the role
-- expect: MT047 error corpus_web
reset role; alter role corpus_web set row_security = off;

-- case: a stored search path
-- expect: nothing
reset role; alter role corpus_web set search_path = app; alter role corpus_web set statement_timeout = '5s';

-- case: a stored setting of another role
-- expect: nothing
reset role; alter role corpus_keeper set row_security = off;

-- case: no limit of connections
-- expect: nothing
reset role; alter role corpus_web connection limit -1;
