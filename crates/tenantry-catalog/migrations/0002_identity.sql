-- Identity: accounts, memberships, log-ins, and the keys of operators, tenants and tokens.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

-- A person. Global: one row however many tenants the person is in.
create table account (
    -- Random, not ordered by time: a time in it would tell an inviter whether the account existed before.
    id uuid primary key,
    email text not null constraint account_email_taken unique check (octet_length(email) between 3 and 254),
    name text not null default '' check (char_length(name) <= 200),
    -- Argon2id in PHC form.
    password_hash text not null check (password_hash like '$argon2id$%'),
    active boolean not null default true,
    last_login_at timestamptz,
    created_at timestamptz not null default now()
);

-- A person's place in a tenant. What ended has no row.
create table membership (
    tenant uuid not null references tenant (id),
    account uuid not null references account (id),
    role text not null check (role in ('owner', 'admin', 'member', 'viewer')),
    status text not null check (status in ('invited', 'active')),
    -- True until the person shows up: accepts, or logs in to an account made with the membership. Shown as `invited`
    -- until then in both cases, so that nobody learns from an invitation which e-mails have accounts.
    awaited boolean not null,
    -- What the inviter calls the person, shown while awaited instead of the account's own name, for the same reason.
    invited_name text not null default '' check (char_length(invited_name) <= 200),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint membership_already_member primary key (tenant, account)
);
create index membership_by_account on membership (account);
create index membership_by_time on membership (tenant, created_at desc, account desc);

-- A key that signs access tokens (EdDSA); its id is the `kid`.
create table signing_key (
    id uuid primary key,
    -- next: published, signs nothing yet. current: signs. retired: verifies what it signed until that has expired.
    state text not null check (state in ('next', 'current', 'retired')),
    public_key bytea not null check (octet_length(public_key) = 32),
    -- Gone once retired: nothing is signed with it again.
    private_key_sealed bytea check ((private_key_sealed is null) = (state = 'retired')),
    created_at timestamptz not null default now(),
    retired_at timestamptz check ((retired_at is not null) = (state = 'retired'))
);
create unique index signing_key_one_current_one_next on signing_key (state) where state <> 'retired';

-- A log-in. Access tokens name it; ending it ends them.
create table session (
    id uuid primary key,
    account uuid not null references account (id) on delete cascade,
    -- The tenant that new access tokens name; null if the account has several and chose none.
    tenant uuid references tenant (id),
    origin text not null default '' check (char_length(origin) <= 100),
    created_at timestamptz not null default now(),
    -- However often it is refreshed.
    expires_at timestamptz not null,
    ended_at timestamptz,
    ended_because text check (ended_because in ('logout', 'refresh-reused', 'too-many', 'account-changed')),
    constraint session_end_has_a_reason check ((ended_at is null) = (ended_because is null))
);
create index session_live on session (account, created_at) where ended_at is null;
create index session_by_expiry on session (expires_at);

-- The refresh tokens of a log-in, each used once; using one again ends the log-in.
create table refresh_token (
    -- SHA-256; the token is random, so no salt is needed.
    hash bytea primary key check (octet_length(hash) = 32),
    session uuid not null references session (id) on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz
);
create index refresh_token_by_session on refresh_token (session);

-- A key of an operator.
create table operator_key (
    id uuid primary key,
    name text not null check (char_length(name) between 1 and 100),
    hash bytea not null constraint operator_key_taken unique check (octet_length(hash) = 32),
    scopes text[] not null check (cardinality(scopes) > 0),
    created_by text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
-- A name is free again when its key is revoked.
create unique index operator_key_name_taken on operator_key (name) where revoked_at is null;

-- A key with which a program acts in one tenant.
create table api_key (
    id uuid primary key,
    tenant uuid not null references tenant (id),
    name text not null check (char_length(name) between 1 and 100),
    role text not null check (role in ('owner', 'admin', 'member', 'viewer')),
    hash bytea not null constraint api_key_taken unique check (octet_length(hash) = 32),
    created_by text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz
);
create unique index api_key_name_taken on api_key (tenant, name);
create index api_key_by_time on api_key (tenant, created_at desc, id desc);

-- How many log-ins failed lately, per e-mail, per address and per both. Losing it in a crash only forgets failures.
create unlogged table login_budget (
    -- SHA-256 of what is counted: no e-mails of strangers are kept.
    bucket bytea primary key check (octet_length(bucket) = 32),
    spent integer not null,
    window_ends timestamptz not null
);
create index login_budget_by_end on login_budget (window_ends);
