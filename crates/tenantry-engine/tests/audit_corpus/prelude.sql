-- A database whose tenants are kept apart as they should be. Each case breaks one thing in it, or makes something that only
-- looks broken. The context is a parameter that nobody but a superuser may set, so that it can't be forged.
create role corpus_keeper nologin;
create role corpus_web login connection limit 20;
do $$ begin execute format('revoke all on database %I from public', current_database()); end $$;
revoke all on schema public from public;
create schema corpus;
create function corpus.isolate(p_table regclass) returns void language plpgsql set search_path = pg_catalog, pg_temp as $f$
declare
  v_same constant text := '(tenant_id = (select ctx.tenant_id()))';
  v_columns text;
begin
  execute format('alter table %s enable row level security', p_table);
  execute format('alter table %s force row level security', p_table);
  execute format('create policy sel on %s for select to corpus_web using %s', p_table, v_same);
  execute format('create policy ins on %s for insert to corpus_web with check %s', p_table, v_same);
  execute format('create policy upd on %s for update to corpus_web using %s with check %s', p_table, v_same, v_same);
  execute format('create policy del on %s for delete to corpus_web using %s', p_table, v_same);
  execute format('create policy low on %s as restrictive to corpus_web using %s with check %s', p_table, v_same, v_same);
  execute format('grant select, insert, delete on %s to corpus_web', p_table);
  select string_agg(format('%I', attname), ', ') into v_columns from pg_attribute
   where attrelid = p_table and attnum > 0 and not attisdropped and attgenerated = '' and attname <> 'tenant_id';
  execute format('grant update (%s) on %s to corpus_web', v_columns, p_table);
end $f$;
revoke all on function corpus.isolate(regclass) from public;
grant usage on schema corpus to corpus_keeper;
grant execute on function corpus.isolate(regclass) to corpus_keeper;
create schema ctx authorization corpus_keeper;
create schema app authorization corpus_keeper;
set role corpus_keeper;
grant usage on schema ctx, app to corpus_web;
create function ctx.tenant_id() returns uuid language sql stable parallel safe
begin atomic
  select nullif(pg_catalog.current_setting('backtrace_functions'), '')::uuid;
end;
create table app.note (
  tenant_id uuid not null default ctx.tenant_id(), id uuid not null default gen_random_uuid(), body text, is_public boolean not null default false,
  primary key (tenant_id, id));
create table app.task (
  tenant_id uuid not null default ctx.tenant_id(), id uuid not null default gen_random_uuid(), note_id uuid, title text,
  primary key (tenant_id, id), foreign key (tenant_id, note_id) references app.note);
create index on app.task (tenant_id, note_id);
select corpus.isolate('app.note'), corpus.isolate('app.task');
