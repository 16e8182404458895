-- case: the prelude alone
-- expect: nothing

-- case: a tenant table without row security
-- expect: MT001 critical app.x
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
grant select on app.x to corpus_web;

-- case: a tenant table without row security, for writing only
-- expect: MT001 critical app.x
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
grant insert on app.x to corpus_web;

-- case: a tenant table without row security, one column granted
-- expect: MT001 critical app.x
create table app.x (tenant_id uuid not null, id uuid, secret text, primary key (tenant_id, id));
grant select (secret) on app.x to corpus_web;

-- case: a tenant table without row security, granted to a role that the application role is in
-- expect: MT001 critical app.x
reset role;
create role corpus_group nologin; grant corpus_group to corpus_web;
set role corpus_keeper;
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
grant select on app.x to corpus_group;

-- case: a tenant table without row security, granted to a role that the application role can become only
-- expect: MT001 critical app.x
reset role;
create role corpus_group nologin; grant corpus_group to corpus_web; alter role corpus_web noinherit;
grant usage on schema app to corpus_group;
set role corpus_keeper;
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
grant select on app.x to corpus_group;

-- case: a tenant table that the application role can't touch
-- expect: nothing
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));

-- case: a tenant table in a schema that the application role can't use
-- expect: nothing
reset role;
create schema hidden;
create table hidden.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
grant select on hidden.x to corpus_web;

-- case: a tenant table granted to another role only
-- expect: nothing
reset role;
create role corpus_other nologin; grant usage on schema app to corpus_other;
set role corpus_keeper;
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
grant select on app.x to corpus_other;

-- case: policies without row security
-- expect: MT002 critical app.note
alter table app.note disable row level security;

-- case: policies without row security on a table without the tenant column
-- expect: MT002 critical app.x
create table app.x (id uuid primary key);
grant select on app.x to corpus_web;
create policy p on app.x using (id = ctx.tenant_id());
-- also: MT027 warn app.x

-- case: policies without row security that nobody reaches
-- expect: nothing
alter table app.note disable row level security; revoke all on app.note from corpus_web;

-- case: not forced
-- expect: MT003 error app.note
alter table app.note no force row level security;

-- case: not forced, and the application role is the owner
-- expect: MT003 critical app.x; MT043 critical corpus_web
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
select corpus.isolate('app.x'); alter table app.x no force row level security;
reset role; alter table app.x owner to corpus_web;

-- case: no policy at all
-- expect: MT004 warn app.x
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security;
grant select on app.x to corpus_web;

-- case: restrictive policies only
-- expect: MT005 warn app.x
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security;
create policy p on app.x as restrictive using (tenant_id = (select ctx.tenant_id()));
grant select on app.x to corpus_web;

-- case: a partition that can be read directly
-- expect: MT006 critical app.x_1
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id)) partition by hash (tenant_id);
create table app.x_1 partition of app.x for values with (modulus 1, remainder 0);
select corpus.isolate('app.x'); grant select on app.x_1 to corpus_web;

-- case: a partition that can be written directly
-- expect: MT006 critical app.x_1
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id)) partition by hash (tenant_id);
create table app.x_1 partition of app.x for values with (modulus 1, remainder 0);
select corpus.isolate('app.x'); grant delete on app.x_1 to corpus_web;

-- case: partitions without any grant
-- expect: nothing
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id)) partition by hash (tenant_id);
create table app.x_1 partition of app.x for values with (modulus 2, remainder 0);
create table app.x_2 partition of app.x for values with (modulus 2, remainder 1);
select corpus.isolate('app.x');

-- case: partitions with row security and no policy, granted
-- expect: nothing
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id)) partition by hash (tenant_id);
create table app.x_1 partition of app.x for values with (modulus 1, remainder 0);
select corpus.isolate('app.x'); grant select on app.x_1 to corpus_web;
alter table app.x_1 enable row level security; alter table app.x_1 force row level security;

-- case: partitions with the same policies, granted
-- expect: nothing
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id)) partition by hash (tenant_id);
create table app.x_1 partition of app.x for values with (modulus 1, remainder 0);
select corpus.isolate('app.x'), corpus.isolate('app.x_1');

-- case: a partition of a partition that can be read directly
-- expect: MT006 critical app.x_11
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id)) partition by hash (tenant_id);
create table app.x_1 partition of app.x for values with (modulus 1, remainder 0) partition by hash (id);
create table app.x_11 partition of app.x_1 for values with (modulus 1, remainder 0);
select corpus.isolate('app.x'); grant select on app.x_11 to corpus_web;

-- case: an inheritance child that can be read directly
-- expect: MT006 critical app.x
create table app.x () inherits (app.note); grant select on app.x to corpus_web;

-- case: an inheritance child without any grant
-- expect: nothing
create table app.x () inherits (app.note);

-- case: a reference table that is only read
-- expect: nothing
create table app.country (code text primary key, name text); grant select on app.country to corpus_web;

-- case: a shared table that can be written
-- expect: MT008 error app.country
create table app.country (code text primary key, name text); grant select, insert on app.country to corpus_web;

-- case: a shared table of which one column can be written
-- expect: MT008 error app.country
create table app.country (code text primary key, name text); grant select, update (name) on app.country to corpus_web;

-- case: a shared table from which rows can be deleted
-- expect: MT008 error app.country
create table app.country (code text primary key, name text); grant delete on app.country to corpus_web;

-- case: a shared table with row security by account
-- expect: nothing
create table app.setting (account uuid primary key, value text); grant select, insert, update on app.setting to corpus_web;
alter table app.setting enable row level security; alter table app.setting force row level security;
create policy p on app.setting using (account = (select ctx.tenant_id()));

-- case: a shared table that only the owner writes
-- expect: nothing
create table app.job (id uuid primary key, what text);

-- case: lines of an isolated table without the tenant column
-- expect: MT013 critical app.line
create table app.line (id uuid primary key, tenant uuid, note_id uuid, foreign key (tenant, note_id) references app.note);
grant select on app.line to corpus_web;

-- case: lines of an isolated table without the tenant column, held through their parent
-- expect: nothing
create table app.line (id uuid primary key, owner uuid, note_id uuid, foreign key (owner, note_id) references app.note);
grant select on app.line to corpus_web;
alter table app.line enable row level security; alter table app.line force row level security;
create policy p on app.line using (exists (select from app.note n where n.id = line.note_id and n.tenant_id = line.owner));

-- case: the tenant column may be null
-- expect: MT009 error app.x
create table app.x (tenant_id uuid default ctx.tenant_id(), id uuid primary key); create index on app.x (tenant_id);
select corpus.isolate('app.x');

-- case: the tenant column may not be null, by a constraint
-- expect: nothing
create table app.x (tenant_id uuid default ctx.tenant_id() check (tenant_id is not null), id uuid primary key); create index on app.x (tenant_id);
select corpus.isolate('app.x');

-- case: the tenant column may not be null, by a constraint that is not validated
-- expect: MT009 error app.x
create table app.x (tenant_id uuid default ctx.tenant_id(), id uuid primary key); create index on app.x (tenant_id);
alter table app.x add check (tenant_id is not null) not valid;
select corpus.isolate('app.x');

-- case: the tenant column may not be null, by its domain
-- expect: nothing
create domain app.tenant_key as uuid not null;
create table app.x (tenant_id app.tenant_key default ctx.tenant_id(), id uuid not null, primary key (tenant_id, id)); select corpus.isolate('app.x');

-- case: the tenant column has another type
-- expect: MT010 error app.x
create table app.x (tenant_id text not null, id uuid not null, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (tenant_id = (select ctx.tenant_id()::text));

-- case: the tenant column is a domain over the same type
-- expect: nothing
create domain app.tenant_key as uuid;
create table app.x (tenant_id app.tenant_key not null, id uuid not null, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (tenant_id = (select ctx.tenant_id()));

-- case: the tenant column can be updated and the policy checks
-- expect: nothing
grant update on app.note to corpus_web;
