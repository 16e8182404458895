-- Standbys of servers, from which the application may read.
-- Every statement runs with search_path = tenantry_catalog, in one transaction with its ledger row.

create table server_replica (
    id uuid primary key,
    server uuid not null references server (id) on delete cascade,
    -- Roles, passwords and databases are its server's, so where it is, is all there is to know.
    address text not null check (octet_length(address) between 3 and 300),
    added_at timestamptz not null default now(),
    unique (server, address)
);

-- A replica's connections are shared among processes like a server's, under the replica's id.
alter table connection_share drop constraint connection_share_server_fkey;
