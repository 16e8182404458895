//! The application of the worlds: plain migrations, which the engine isolates as it would anybody's.

/// A table of every kind of constraint that the engine scopes to a tenant, views, functions, triggers, partitions.
pub(super) const MIGRATIONS: &[(&str, &str)] = &[
    (
        "0001_reference.sql",
        "-- tenantry: reference
create table region (id int primary key, name text not null);
insert into region values (1, 'north'), (2, 'south'), (3, 'west');
",
    ),
    (
        "0002_application.sql",
        "-- tenantry: history person, slot
create extension if not exists btree_gist;
create type mood as enum ('calm', 'busy', 'gone');
create domain percent as int check (value between 0 and 100);
create table project (
    id int primary key,
    name text not null,
    code text unique,
    region_id int references region,
    budget numeric(10, 2) not null default 0 check (budget >= 0),
    mood mood not null default 'calm',
    tags text[] not null default '{}',
    meta jsonb not null default '{}',
    progress percent
);
create index project_name on project (name);
create table task (
    id int primary key,
    project_id int references project on update cascade on delete cascade,
    title text not null,
    done boolean not null default false
);
create table note (
    id serial primary key,
    task_id int references task on update cascade on delete set null,
    body text not null default 'empty',
    size int generated always as (length(body)) stored
);
create table booking (
    id int primary key,
    room int not null,
    during int4range not null,
    exclude using gist (room with =, during with &&)
);
create table person (
    id int primary key,
    boss_id int references person on delete restrict,
    email text,
    age int
);
create unique index person_email on person (lower(email)) where email is not null;
create table slot (id int primary key, place int not null unique deferrable initially deferred);
create table event (id int not null, day date not null, kind text not null, primary key (id, day)) partition by range (day);
create table event_early partition of event for values from ('2024-01-01') to ('2025-01-01');
create table event_late partition of event for values from ('2025-01-01') to ('2026-01-01');
create table trail (task_id int not null, tasks bigint not null, what text not null);
create function record_task() returns trigger language plpgsql as $$
begin
    insert into trail (task_id, tasks, what) values (new.id, (select count(*) from task), tg_op);
    return new;
end $$;
create trigger recorded after insert or update on task for each row execute function record_task();
create view open_task as
    select t.id, t.title, p.name as project from task t join project p on p.id = t.project_id where not t.done;
create view busy as select id, name, code from project where mood <> 'gone';
create function project_count() returns bigint language sql stable as 'select count(*) from project';
create function rename_project(p_id int, p_name text) returns int language plpgsql as $$
declare n int;
begin
    update project set name = p_name where id = p_id;
    get diagnostics n = row_count;
    return n;
end $$;
create function reveal(p text) returns boolean language plpgsql cost 100 as $$
begin
    raise notice 'saw %', p;
    return true;
end $$;
create procedure close_task(p_id int) language plpgsql as $$
begin
    update task set done = true where id = p_id;
end $$;
",
    ),
];

/// The isolated tables with the columns that the worlds are filled by.
pub(super) const TABLES: &[(&str, &str)] = &[
    (
        "project",
        "id, name, code, region_id, budget, mood, tags, meta, progress",
    ),
    ("task", "id, project_id, title, done"),
    ("note", "id, task_id, body"),
    ("booking", "id, room, during"),
    ("person", "id, boss_id, email, age"),
    ("slot", "id, place"),
    ("event", "id, day, kind"),
    ("trail", "task_id, tasks, what"),
];
