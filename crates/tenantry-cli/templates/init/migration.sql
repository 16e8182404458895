-- Notes, as for one customer: which tenant a row belongs to, and where it lives, is Tenantry's business.

create table notes (
    id uuid primary key default gen_random_uuid(),
    title text not null,
    body text not null default '',
    created_at timestamptz not null default now()
);

create index notes_newest on notes (created_at desc, id desc);
