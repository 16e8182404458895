create table project (
    id int primary key,
    name text not null,
    note text
);
create table contact (
    id int primary key,
    name text not null,
    email text unique,
    phone text,
    secret text,
    tags text[] not null default '{}',
    doc jsonb,
    project_id int references project on delete cascade,
    created_at timestamptz not null default now()
);
create index on contact (phone);
create index on contact (project_id);
create table event (
    id int,
    at date not null,
    note text,
    primary key (id, at)
) partition by range (at);
create table event_2026 partition of event for values from ('2026-01-01') to ('2027-01-01');
create table event_2027 partition of event for values from ('2027-01-01') to ('2028-01-01');
create table ticket (
    id serial primary key,
    title text not null
);
create view contact_list as select id, name, email, secret from contact;
