-- case: a policy for reading that is always true
-- expect: MT021 critical app.x.sel
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy sel on app.x for select using (true);

-- case: a policy that is true in another way
-- expect: MT021 critical app.x.sel
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy sel on app.x for select using (1 = 1);

-- case: a policy that is true over a floor
-- expect: nothing
drop policy sel on app.note; create policy sel on app.note for select using (true);

-- case: a policy that is true over a floor for another command
-- expect: MT021 critical app.x.sel
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy sel on app.x for select using (true);
create policy low on app.x as restrictive for update using (tenant_id = (select ctx.tenant_id()));

-- case: a policy that is true over a floor that does not name the tenant
-- expect: MT021 critical app.x.sel
create table app.x (tenant_id uuid not null, id uuid, live boolean, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy sel on app.x for select using (true);
create policy low on app.x as restrictive using (live);

-- case: a policy that is true for another role
-- expect: nothing
reset role; create role corpus_other nologin; set role corpus_keeper;
create policy other on app.note to corpus_other using (true); drop policy low on app.note;

-- case: a policy that is true for a role that the application role is in
-- expect: MT021 critical app.note.other; MT023 error app.note
reset role; create role corpus_group nologin; grant corpus_group to corpus_web; set role corpus_keeper;
drop policy low on app.note; create policy other on app.note for select to corpus_group using (true);

-- case: a policy for a command that the application role may not run
-- expect: nothing
drop policy low on app.note; drop policy del on app.note; create policy del on app.note for delete using (true); revoke delete on app.note from corpus_web;

-- case: an insert policy that is always true
-- expect: MT021 critical app.note.ins
drop policy low on app.note; drop policy ins on app.note; create policy ins on app.note for insert with check (true);

-- case: an insert policy that is always true where nobody may insert
-- expect: nothing
drop policy low on app.note; drop policy ins on app.note; create policy ins on app.note for insert with check (true); revoke insert on app.note from corpus_web;

-- case: a delete policy that is always true
-- expect: MT021 critical app.note.del
drop policy low on app.note; drop policy del on app.note; create policy del on app.note for delete using (true);

-- case: an update policy that is always true where the tenant column can't be updated and is checked
-- expect: nothing
drop policy low on app.note; drop policy upd on app.note; create policy upd on app.note for update using (true) with check (tenant_id = (select ctx.tenant_id()));

-- case: an update policy that is always true and checks nothing
-- expect: MT021 critical app.note.upd
drop policy low on app.note; drop policy upd on app.note; create policy upd on app.note for update using (true);

-- case: an update policy that is always true where the tenant column can be updated
-- expect: MT021 critical app.note.upd
grant update on app.note to corpus_web;
drop policy low on app.note; drop policy upd on app.note; create policy upd on app.note for update using (true) with check (tenant_id = (select ctx.tenant_id()));

-- case: an update policy that checks nothing
-- expect: MT025 critical app.note.upd
drop policy low on app.note; alter policy upd on app.note with check (true); grant update on app.note to corpus_web;

-- case: an update policy that checks nothing where the tenant column can't be updated
-- expect: nothing
drop policy low on app.note; alter policy upd on app.note with check (true);

-- case: a policy for all that checks nothing
-- expect: MT025 critical app.x.p
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select, insert on app.x to corpus_web;
create policy p on app.x using (tenant_id = (select ctx.tenant_id())) with check (true);

-- case: a policy for all that checks something else
-- expect: MT025 critical app.x.p
create table app.x (tenant_id uuid not null, id uuid, body text, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select, insert on app.x to corpus_web;
create policy p on app.x using (tenant_id = (select ctx.tenant_id())) with check (body is not null);

-- case: a policy for all with using only
-- expect: nothing
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select, insert, update, delete on app.x to corpus_web;
create policy p on app.x using (tenant_id = (select ctx.tenant_id()));

-- case: an update policy with using only
-- expect: nothing
drop policy low on app.note; drop policy upd on app.note; create policy upd on app.note for update using (tenant_id = (select ctx.tenant_id())); grant update on app.note to corpus_web;

-- case: a restrictive policy for all with using only under a policy that is true
-- expect: nothing
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select, insert, update, delete on app.x to corpus_web;
create policy p on app.x using (true) with check (true);
create policy low on app.x as restrictive using (tenant_id = (select ctx.tenant_id()));

-- case: a policy that looks at another column
-- expect: MT022 critical app.x.p
create table app.x (tenant_id uuid not null, id uuid, account uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (account = (select ctx.tenant_id()));

-- case: a policy that asks for a membership and not for the row's tenant
-- expect: MT022 critical app.x.p
create table app.member (tenant_id uuid not null, account uuid not null, primary key (tenant_id, account)); select corpus.isolate('app.member');
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (exists (select from app.member m where m.tenant_id = (select ctx.tenant_id())));

-- case: a policy that asks for a membership in the row's tenant
-- expect: nothing
create table app.member (tenant_id uuid not null, account uuid not null, primary key (tenant_id, account)); select corpus.isolate('app.member');
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (exists (select from app.member m where m.tenant_id = x.tenant_id));

-- case: a policy by a list of tenants
-- expect: nothing
create table app.member (tenant_id uuid not null, account uuid not null, primary key (tenant_id, account)); select corpus.isolate('app.member');
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (tenant_id in (select m.tenant_id from app.member m));

-- case: a policy by an array of tenants
-- expect: nothing
create function ctx.tenants() returns uuid[] language sql stable begin atomic select array[ctx.tenant_id()]; end;
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (tenant_id = any ((select ctx.tenants())::uuid[]));

-- case: a second permissive policy that is open
-- expect: MT021 critical app.note.more; MT023 error app.note
drop policy low on app.note; create policy more on app.note for select using (true);

-- case: a second permissive policy that opens what is public
-- expect: MT022 critical app.note.more; MT023 error app.note
drop policy low on app.note; create policy more on app.note for select using (is_public);

-- case: a second permissive policy that names the tenant too
-- expect: nothing
drop policy low on app.note; create policy more on app.note for select using (tenant_id = (select ctx.tenant_id()) and is_public);

-- case: a second policy that is restrictive
-- expect: nothing
create policy more on app.note as restrictive for select using (not is_public);

-- case: a branch for public rows
-- expect: MT038 critical app.note.sel
drop policy low on app.note; alter policy sel on app.note using (tenant_id = (select ctx.tenant_id()) or is_public);

-- case: a branch for public rows within an AND
-- expect: nothing
drop policy low on app.note; alter policy sel on app.note using (tenant_id = (select ctx.tenant_id()) and (is_public or body is not null));

-- case: a branch that is true
-- expect: MT021 critical app.note.sel
drop policy low on app.note; alter policy sel on app.note using (tenant_id = (select ctx.tenant_id()) or true);

-- case: another comparison than equality
-- expect: MT038 critical app.note.sel
drop policy low on app.note; alter policy sel on app.note using (tenant_id >= (select ctx.tenant_id()));

-- case: the opposite
-- expect: MT038 critical app.note.sel
drop policy low on app.note; alter policy sel on app.note using (tenant_id <> (select ctx.tenant_id()));

-- case: a comparison of the row with itself
-- expect: MT038 critical app.x.p
create table app.x (tenant_id uuid not null, id uuid, made_by uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (tenant_id = made_by);

-- case: a comparison the other way around
-- expect: nothing
drop policy low on app.note; alter policy sel on app.note using ((select ctx.tenant_id()) = tenant_id);

-- case: a comparison as text
-- expect: nothing
drop policy low on app.note; alter policy sel on app.note using (tenant_id::text = (select ctx.tenant_id())::text);

-- case: a case expression with an open end
-- expect: MT038 critical app.note.sel
drop policy low on app.note; alter policy sel on app.note using (case when tenant_id = (select ctx.tenant_id()) then true else is_public end);

-- case: a branch for null tenants
-- expect: MT026 critical app.x.p; MT009 error app.x
create table app.x (tenant_id uuid, id uuid primary key); create index on app.x (tenant_id);
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (tenant_id is null or tenant_id = (select ctx.tenant_id()));

-- case: a branch for null tenants in a column that can't be null
-- expect: nothing
drop policy low on app.note; alter policy sel on app.note using (tenant_id is null or tenant_id = (select ctx.tenant_id()));

-- case: is not distinct from
-- expect: MT026 critical app.x.p; MT009 error app.x
create table app.x (tenant_id uuid, id uuid primary key); create index on app.x (tenant_id);
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (tenant_id is not distinct from (select ctx.tenant_id()));

-- case: is not distinct from, in a column that can't be null
-- expect: nothing
drop policy low on app.note; alter policy sel on app.note using (tenant_id is not distinct from (select ctx.tenant_id()));

-- case: coalesce of the tenant
-- expect: MT026 critical app.x.p; MT009 error app.x
create table app.x (tenant_id uuid, id uuid primary key); create index on app.x (tenant_id);
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (coalesce(tenant_id, (select ctx.tenant_id())) = (select ctx.tenant_id()));

-- case: is not null beside the comparison
-- expect: nothing
drop policy low on app.note; alter policy sel on app.note using (tenant_id is not null and tenant_id = (select ctx.tenant_id()));

-- case: open where there is no context
-- expect: MT037 critical app.note.sel
drop policy low on app.note; alter policy sel on app.note using ((select ctx.tenant_id()) is null or tenant_id = (select ctx.tenant_id()));

-- case: open where the setting is empty
-- expect: MT037 critical app.x.p; MT030 error app.x
create table app.x (tenant_id text not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using ((select current_setting('app.tenant', true)) = '' or tenant_id = (select current_setting('app.tenant', true)));
-- also: MT010 error app.x

-- case: the context for each row
-- expect: MT027 warn app.note
alter policy sel on app.note using (tenant_id = ctx.tenant_id());

-- case: the context for each row in a check only
-- expect: nothing
alter policy ins on app.note with check (tenant_id = ctx.tenant_id());

-- case: a volatile function
-- expect: MT028 warn ctx.tenant_now()
create function ctx.tenant_now() returns uuid language sql volatile begin atomic select ctx.tenant_id(); end;
alter policy sel on app.note using (tenant_id = (select ctx.tenant_now()));

-- case: an immutable function that reads a setting, over a floor that does without it
-- expect: MT029 error ctx.tenant_fixed()
create function ctx.tenant_fixed() returns uuid language sql immutable begin atomic
  select nullif(pg_catalog.current_setting('backtrace_functions'), '')::uuid; end;
alter policy sel on app.note using (tenant_id = (select ctx.tenant_fixed()));

-- case: an immutable function that reads a setting
-- expect: MT029 critical ctx.tenant_fixed()
drop policy low on app.note;
create function ctx.tenant_fixed() returns uuid language sql immutable begin atomic
  select nullif(pg_catalog.current_setting('backtrace_functions'), '')::uuid; end;
alter policy sel on app.note using (tenant_id = (select ctx.tenant_fixed()));

-- case: an immutable function that reads nothing
-- expect: nothing
create function ctx.same(p uuid) returns uuid language sql immutable begin atomic select p; end;
alter policy sel on app.note using (tenant_id = (select ctx.same(ctx.tenant_id())));

-- case: a setting that anybody can set
-- expect: MT030 error app.note
alter policy sel on app.note using (tenant_id = (select nullif(current_setting('app.tenant', true), '')::uuid));

-- case: a function that reads a setting that anybody can set
-- expect: MT030 error app.note
create function ctx.tenant_plain() returns uuid language sql stable begin atomic select nullif(pg_catalog.current_setting('app.tenant', true), '')::uuid; end;
alter policy sel on app.note using (tenant_id = (select ctx.tenant_plain()));

-- case: a setting that is cast as it is
-- expect: MT030 error app.note; MT033 warn app.note
alter policy sel on app.note using (tenant_id = (select current_setting('app.tenant', true)::uuid));

-- case: a helper whose names the caller resolves, where the caller can make functions
-- expect: MT031 critical ctx.tenant_text(); MT053 error app
create function ctx.tenant_text() returns uuid language sql stable as $$ select nullif(current_setting('backtrace_functions'), '')::uuid $$;
alter policy sel on app.note using (tenant_id = (select ctx.tenant_text())); drop policy low on app.note;
grant create on schema app to corpus_web;

-- case: a helper whose names the caller resolves
-- expect: MT031 warn ctx.tenant_text()
create function ctx.tenant_text() returns uuid language sql stable as $$ select nullif(current_setting('backtrace_functions'), '')::uuid $$;
alter policy sel on app.note using (tenant_id = (select ctx.tenant_text()));

-- case: a helper in plpgsql whose names the caller resolves
-- expect: MT031 warn ctx.tenant_text()
create function ctx.tenant_text() returns uuid language plpgsql stable as $$ begin return nullif(current_setting('backtrace_functions'), '')::uuid; end $$;
alter policy sel on app.note using (tenant_id = (select ctx.tenant_text()));

-- case: a helper with a search path of its own
-- expect: nothing
create function ctx.tenant_text() returns uuid language sql stable set search_path = pg_catalog, pg_temp as $$ select nullif(current_setting('backtrace_functions'), '')::uuid $$;
alter policy sel on app.note using (tenant_id = (select ctx.tenant_text()));

-- case: the database's role decides
-- expect: MT032 warn app.x
create table app.x (tenant_id uuid not null, id uuid, login name, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (tenant_id = (select n.id from app.note n where n.body = current_user));

-- case: the database's role is noted beside the tenant
-- expect: nothing
drop policy low on app.note; alter policy sel on app.note using (tenant_id = (select ctx.tenant_id()) and body <> current_user);

-- case: a policy asks a table that can be written
-- expect: MT034 error app.x.p; MT008 error app.seat
create table app.seat (account uuid primary key); grant select, insert on app.seat to corpus_web;
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (tenant_id in (select s.account from app.seat s where s.account = (select ctx.tenant_id())));

-- case: a policy asks a table that can only be read
-- expect: nothing
create table app.seat (account uuid primary key); grant select on app.seat to corpus_web;
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (tenant_id in (select s.account from app.seat s where s.account = (select ctx.tenant_id())));

-- case: a pattern
-- expect: MT035 error app.note.sel
drop policy low on app.note; alter policy sel on app.note using (tenant_id::text like (select ctx.tenant_id())::text || '%');

-- case: a pattern on another column
-- expect: nothing
drop policy low on app.note; alter policy sel on app.note using (tenant_id = (select ctx.tenant_id()) and body like 'a%');

-- case: a policy for a role that bypasses
-- expect: MT036 warn app.note.free
reset role; create role corpus_free nologin bypassrls; set role corpus_keeper;
create policy free on app.note to corpus_free using (true);

-- case: policies for everybody
-- expect: nothing
alter policy sel on app.note to public; alter policy ins on app.note to public; alter policy low on app.note to public;

-- case: a negation
-- expect: MT038 critical app.note.sel
drop policy low on app.note; alter policy sel on app.note using (not (tenant_id = (select ctx.tenant_id())));

-- case: never
-- expect: nothing
drop policy low on app.note; alter policy sel on app.note using (false);

-- case: a policy of our names that is open
-- expect: MT021 critical app.note.tenantry_select
drop policy low on app.note; drop policy sel on app.note; create policy tenantry_select on app.note for select using (true);

-- case: a policy that asks a table which says the same to everybody
-- expect: MT038 critical app.x.p
-- unproved: MT038
create table app.known (id uuid primary key); grant select on app.known to corpus_web;
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (tenant_id in (select k.id from app.known k));

-- case: a policy that is true where its comparison is null
-- expect: MT037 critical app.x.p
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (coalesce(tenant_id = (select ctx.tenant_id()), true));

-- case: a policy with a dead branch for null rows and a live one for no context
-- expect: MT037 critical app.x.p
create table app.x (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
alter table app.x enable row level security; alter table app.x force row level security; grant select on app.x to corpus_web;
create policy p on app.x using (tenant_id is null or tenant_id = (select ctx.tenant_id()) or (select ctx.tenant_id()) is null);

-- case: a policy that is false where its comparison is null
-- expect: nothing
drop policy sel on app.note; create policy sel on app.note for select using (coalesce(tenant_id = (select ctx.tenant_id()), false));

-- case: a policy that is false without a context and holds the row to it otherwise
-- expect: nothing
drop policy low on app.note; drop policy sel on app.note;
create policy sel on app.note for select using (case when (select ctx.tenant_id()) is null then false else tenant_id = (select ctx.tenant_id()) end);
