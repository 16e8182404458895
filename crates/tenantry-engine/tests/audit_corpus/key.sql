-- case: a unique key over all tenants
-- expect: MT080 error app.x.x_email_key
create table app.x (tenant_id uuid not null, id uuid, email text unique, primary key (tenant_id, id)); select corpus.isolate('app.x');

-- case: a unique key of each tenant
-- expect: nothing
create table app.x (tenant_id uuid not null, id uuid, email text, primary key (tenant_id, id), unique (tenant_id, email)); select corpus.isolate('app.x');

-- case: a unique key of each tenant that ends by the tenant
-- expect: nothing
create table app.x (tenant_id uuid not null, id uuid, email text, primary key (tenant_id, id), unique (email, tenant_id)); select corpus.isolate('app.x');

-- case: a unique key that only includes the tenant
-- expect: MT080 error app.x.x_email_key
create table app.x (tenant_id uuid not null, id uuid, email text, primary key (tenant_id, id), constraint x_email_key unique (email) include (tenant_id)); select corpus.isolate('app.x');

-- case: a unique index over all tenants
-- expect: MT080 error app.x.x_email
create table app.x (tenant_id uuid not null, id uuid, email text, primary key (tenant_id, id)); create unique index x_email on app.x (email); select corpus.isolate('app.x');

-- case: a unique index on an expression over all tenants
-- expect: MT080 error app.x.x_email
create table app.x (tenant_id uuid not null, id uuid, email text, primary key (tenant_id, id)); create unique index x_email on app.x (lower(email)); select corpus.isolate('app.x');

-- case: a unique index on an expression of each tenant
-- expect: nothing
create table app.x (tenant_id uuid not null, id uuid, email text, primary key (tenant_id, id)); create unique index x_email on app.x (tenant_id, lower(email)); select corpus.isolate('app.x');

-- case: a partial unique index over all tenants
-- expect: MT080 error app.x.x_email
create table app.x (tenant_id uuid not null, id uuid, email text, live boolean, primary key (tenant_id, id)); create unique index x_email on app.x (email) where live; select corpus.isolate('app.x');

-- case: a unique key over uuids
-- expect: nothing
create table app.x (tenant_id uuid not null, id uuid, token uuid unique, primary key (tenant_id, id)); select corpus.isolate('app.x');

-- case: a unique key of a table that is only read
-- expect: nothing
create table app.x (tenant_id uuid not null, id uuid, email text unique, primary key (tenant_id, id)); select corpus.isolate('app.x'); revoke insert, update, delete on app.x from corpus_web;

-- case: a primary key that counts over all tenants
-- expect: MT081 warn app.x.x_pkey
create table app.x (tenant_id uuid not null, id bigint primary key); create index on app.x (tenant_id); select corpus.isolate('app.x');

-- case: a primary key of uuids
-- expect: nothing
create table app.x (tenant_id uuid not null, id uuid primary key); create index on app.x (tenant_id); select corpus.isolate('app.x');

-- case: an exclusion over all tenants
-- expect: MT082 error app.x.x_during_excl
create table app.x (tenant_id uuid not null, id uuid, during tsrange, primary key (tenant_id, id), constraint x_during_excl exclude using gist (during with &&)); select corpus.isolate('app.x');

-- case: an exclusion of each tenant
-- expect: nothing
-- needs: btree_gist
reset role; create extension btree_gist schema public; set role corpus_keeper;
create table app.x (tenant_id uuid not null, id uuid, during tsrange, primary key (tenant_id, id), exclude using gist (tenant_id with =, during with &&)); select corpus.isolate('app.x');

-- case: a foreign key without the tenant
-- expect: MT083 critical app.y.y_x_fkey
-- unproved: MT083
create table app.x (tenant_id uuid not null, id uuid primary key); create index on app.x (tenant_id); select corpus.isolate('app.x');
create table app.y (tenant_id uuid not null, id uuid, x uuid, primary key (tenant_id, id), constraint y_x_fkey foreign key (x) references app.x); select corpus.isolate('app.y');

-- case: a foreign key without the tenant that cascades
-- expect: MT083 critical app.y.y_x_fkey; MT084 critical app.y.y_x_fkey
-- unproved: MT083
create table app.x (tenant_id uuid not null, id uuid primary key); create index on app.x (tenant_id); select corpus.isolate('app.x');
create table app.y (tenant_id uuid not null, id uuid, x uuid, primary key (tenant_id, id), constraint y_x_fkey foreign key (x) references app.x on delete cascade); select corpus.isolate('app.y');

-- case: a foreign key without the tenant that sets null
-- expect: MT083 critical app.y.y_x_fkey; MT084 critical app.y.y_x_fkey
-- unproved: MT083
create table app.x (tenant_id uuid not null, id uuid primary key); create index on app.x (tenant_id); select corpus.isolate('app.x');
create table app.y (tenant_id uuid not null, id uuid, x uuid, primary key (tenant_id, id), constraint y_x_fkey foreign key (x) references app.x on delete set null); select corpus.isolate('app.y');

-- case: a foreign key without the tenant that cascades updates
-- expect: MT083 critical app.y.y_x_fkey; MT084 critical app.y.y_x_fkey
-- unproved: MT083
create table app.x (tenant_id uuid not null, id uuid primary key); create index on app.x (tenant_id); select corpus.isolate('app.x');
create table app.y (tenant_id uuid not null, id uuid, x uuid, primary key (tenant_id, id), constraint y_x_fkey foreign key (x) references app.x on update cascade); select corpus.isolate('app.y');

-- case: a foreign key that cascades where nobody may delete
-- expect: MT083 critical app.y.y_x_fkey
-- unproved: MT083
create table app.x (tenant_id uuid not null, id uuid primary key); create index on app.x (tenant_id); select corpus.isolate('app.x');
create table app.y (tenant_id uuid not null, id uuid, x uuid, primary key (tenant_id, id), constraint y_x_fkey foreign key (x) references app.x on delete cascade); select corpus.isolate('app.y');
revoke delete on app.x from corpus_web;

-- case: a foreign key with the tenant that cascades
-- expect: nothing
create table app.y (tenant_id uuid not null, id uuid, x uuid, primary key (tenant_id, id), foreign key (tenant_id, x) references app.note on delete cascade); select corpus.isolate('app.y');

-- case: a foreign key with the tenant in the wrong place
-- expect: MT083 critical app.y.y_fkey
-- unproved: MT083
create table app.y (tenant_id uuid not null, id uuid, x uuid, primary key (tenant_id, id), constraint y_fkey foreign key (x, tenant_id) references app.note (tenant_id, id)); select corpus.isolate('app.y');

-- case: a foreign key to a shared table
-- expect: nothing
create table app.country (code text primary key); grant select on app.country to corpus_web;
create table app.y (tenant_id uuid not null, id uuid, country text references app.country on update cascade, primary key (tenant_id, id)); select corpus.isolate('app.y');

-- case: a foreign key of the tenant column to the list of tenants
-- expect: nothing
create table app.tenant (id uuid primary key);
create table app.y (tenant_id uuid not null references app.tenant on delete cascade, id uuid, primary key (tenant_id, id)); select corpus.isolate('app.y');

-- case: a foreign key to itself without the tenant
-- expect: MT083 critical app.y.y_parent_fkey
-- unproved: MT083
create table app.y (tenant_id uuid not null, id uuid primary key, parent uuid, constraint y_parent_fkey foreign key (parent) references app.y); create index on app.y (tenant_id); select corpus.isolate('app.y');

-- case: a foreign key to itself with the tenant
-- expect: nothing
create table app.y (tenant_id uuid not null, id uuid, parent uuid, primary key (tenant_id, id), foreign key (tenant_id, parent) references app.y); select corpus.isolate('app.y');

-- case: no index begins with the tenant
-- expect: MT085 warn app.x
create table app.x (tenant_id uuid not null, id uuid primary key); select corpus.isolate('app.x');

-- case: an index that does not begin with the tenant
-- expect: MT086 warn app.note.note_body
create index note_body on app.note (body);

-- case: an index that begins with the tenant
-- expect: nothing
create index note_body on app.note (tenant_id, body);

-- case: an index on an expression that does not begin with the tenant
-- expect: MT086 warn app.note.note_body
create index note_body on app.note (lower(body));

-- case: an index of uuids
-- expect: nothing
create index task_note on app.task (note_id);

-- case: an index for full text
-- expect: nothing
create index note_words on app.note using gin (to_tsvector('simple', body));

-- case: an index on a table that nobody reaches
-- expect: nothing
create table app.x (tenant_id uuid not null, id uuid primary key, body text unique); create index on app.x (body);
