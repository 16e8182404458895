-- Contacts, projects and their tasks, as for one customer: which tenant a row belongs to is Tenantry's business.

create table contacts (
    id uuid primary key default gen_random_uuid(),
    name text not null,
    email text unique,
    phone text,
    company text,
    notes text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index contacts_newest on contacts (created_at desc, id desc);

create table projects (
    id uuid primary key default gen_random_uuid(),
    name text not null,
    description text,
    status text not null default 'active' check (status in ('active', 'archived')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index projects_newest on projects (created_at desc, id desc);

create table tasks (
    id uuid primary key default gen_random_uuid(),
    project_id uuid not null references projects on delete cascade,
    title text not null,
    description text,
    status text not null default 'todo' check (status in ('todo', 'doing', 'done')),
    due_on date,
    -- An account of the installation, which lives in another database: checked when it is written, no foreign key.
    assignee_id uuid,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index tasks_newest on tasks (created_at desc, id desc);
create index tasks_of_project on tasks (project_id, created_at desc);
